"""Which samples a checkpoint was, or may have been, trained on: a score on these proves little."""

from __future__ import annotations

from collections.abc import Mapping

from pgbench.types import Profile

# What the released transfers were trained on beyond train: val too, by Beyer et al. 2024 (arXiv:2407.07726),
# Sec. 4; DOCCI's winners on test too, by Steiner et al. 2024 (arXiv:2412.03555), App. B.5.
_PALIGEMMA, _PALIGEMMA2 = "arXiv:2407.07726, Sec. 4", "arXiv:2412.03555, App. B.5"
_TRAINED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "vqav2": (("train", "val", "minival"), _PALIGEMMA),
    "textvqa": (("train", "val"), _PALIGEMMA),
    "gqa": (("val", "val_all"), _PALIGEMMA),
    "scienceqa": (("train", "val", "train_full", "val_full"), _PALIGEMMA),
    "docci": (("train", "test"), _PALIGEMMA2),
}
_COCO = "COCO val2014 (arXiv:2305.10355)"
# The wording of their model cards: "a mixture of downstream academic datasets".
_MIXTURE = "mix checkpoints were tuned on downstream data sets whose splits are not published (model card)"
_CHAT = "the chat checkpoint was tuned from a mix one (model card BUAADreamer/PaliGemma-3B-Chat-v0.2); "
_IN_MIXTURES = ("vqav2", "textvqa", "gqa", "scienceqa")


def contamination(profile: Profile, task: str, split: str) -> str | None:
    """Why a checkpoint of this kind may have seen the samples of a split, with the source; None: no reason.

    A checkpoint whose tuning is not known gets None as well: that says nothing of it.
    """
    if profile.kind == "ft":
        return _seen_by_transfer(profile.tuned_on, task, split)
    if profile.kind not in ("mix", "chat"):
        return None
    mixture = f"{_CHAT if profile.kind == 'chat' else ''}{_MIXTURE}"
    if task in _IN_MIXTURES and split in _TRAINED[task][0]:
        return f"suspect: {mixture}; the {task} transfers used {split} ({_PALIGEMMA})"
    if task == "pope":
        return f"suspect: {mixture}; the vqav2 transfers used POPE's pictures, {_COCO} ({_PALIGEMMA})"
    return None


def _seen_by_transfer(tuned_on: str | None, task: str, split: str) -> str | None:
    if (tuned_on, task) == ("vqav2", "pope"):
        seen = "were in the training data of the released vqav2 transfers"
        return f"POPE's pictures, {_COCO}, {seen} ({_PALIGEMMA})"
    splits, source = _TRAINED.get(task, ((), ""))
    if tuned_on != task or split not in splits:
        return None
    return f"{split} was in the training data of the released {task} transfers ({source})"

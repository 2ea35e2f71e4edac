"""The judge of NES-proxy: any natural-language-inference checkpoint of transformers.

Safetensors only and no remote code, as for every checkpoint. Float32 and full windows: what a judge says
depends on its weights and on the two texts, not on a batch's neighbours beyond rounding.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pgbench.errors import CheckpointError, UsageError, told

Label: TypeAlias = Literal["entailment", "neutral", "contradiction", "not_entailment"]
Splitter: TypeAlias = Callable[[str], Sequence[str]]  # a text -> its sentences

_CONTENT = ("*.json", "*.safetensors", "*.model", "*.txt")  # what is loaded: weights, vocabularies, merges
_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "pysbd")
_LABELS: Mapping[str, Label] = {
    "entailment": "entailment",
    "neutral": "neutral",
    "contradiction": "contradiction",
    "not_entailment": "not_entailment",
    "non_entailment": "not_entailment",
}
_ENOUGH = ({"entailment", "neutral", "contradiction"}, {"entailment", "not_entailment"})
_DEFAULT_LONGEST = 512  # tokens, of a model that states none
_LARGEST = 1 << 20  # a tokenizer without a limit states 10 ** 30
# Their position table starts after the padding token (transformers, create_position_ids_from_input_ids).
_SHIFTED = {
    "camembert",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and the texts that it should follow from: every one of them is asked."""

    premises: tuple[str, ...]
    hypothesis: str


@dataclass(frozen=True, slots=True)
class Verdict:
    label: Label
    windows: int  # texts that the sentence was held against
    cut: bool  # part of a text was longer than the model's maximum even alone


@dataclass(frozen=True, slots=True)
class Judge:
    """A loaded checkpoint and all that names it."""

    name: str
    revision: str  # hub commit, or sha256 of a folder's content
    digest: str  # sha256 of the content, wherever it came from
    labels: tuple[Label, ...]  # by output index
    longest: int  # tokens of both texts with their marks
    device: str
    versions: Mapping[str, str]
    model: Any
    tokenizer: Any

    def judge(
        self, pairs: Sequence[Pair], split: Splitter, batch: int, watch: Callable[[int], object]
    ) -> list[Verdict]:
        """One verdict a pair, in their order; `watch` gets the number of pairs done.

        A premise that does not fit is cut into windows of whole sentences that do. A sentence is entailed
        if any window says so; otherwise the window with the highest probability of entailment decides.
        Raises CheckpointError for a model that fails or answers with nan.
        """
        asked = [(n, text) for n, pair in enumerate(pairs) for text in self._windows(pair, split)]
        lengths = [self._length(text, pairs[n].hypothesis) for n, text in asked]
        order = sorted(
            range(len(asked)), key=lambda place: (lengths[place], place)
        )  # alike lengths: no padding
        left = _counts([n for n, _ in asked], len(pairs))
        windows = list(left)
        best: dict[int, tuple[bool, float, Label]] = {}
        cut = {asked[place][0] for place in order if lengths[place] > self.longest}
        for start in range(0, len(order), batch):
            rows = [asked[place] for place in order[start : start + batch]]
            for (n, _), row in zip(rows, self._ask([(t, pairs[n].hypothesis) for n, t in rows]), strict=True):
                label = self.labels[max(range(len(row)), key=row.__getitem__)]
                said = (label == "entailment", row[self.labels.index("entailment")], label)
                best[n] = max(best.get(n, said), said, key=lambda one: one[:2])
                left[n] -= 1
                watch(left[n] == 0)
        return [Verdict(best[n][2], windows[n], n in cut) for n in range(len(pairs))]

    def _windows(self, pair: Pair, split: Splitter) -> Iterator[str]:
        for premise in pair.premises:
            if self._length(premise, pair.hypothesis) <= self.longest:
                yield premise
            else:
                yield from self._packed(split(premise) or (premise,), pair.hypothesis)

    def _packed(self, sentences: Sequence[str], hypothesis: str) -> Iterator[str]:
        """Neighbouring sentences as long as they fit; one that never fits stands alone, to be cut."""
        window = ""
        for sentence in sentences:
            longer = f"{window} {sentence}" if window else sentence
            if window and self._length(longer, hypothesis) > self.longest:
                yield window
                longer = sentence
            window = longer
        yield window

    def _length(self, premise: str, hypothesis: str) -> int:
        return len(self.tokenizer(premise, hypothesis)["input_ids"])

    def _ask(self, texts: Sequence[tuple[str, str]]) -> list[list[float]]:
        """Probabilities, one row a pair, in the order of `labels`."""
        import torch

        try:
            inputs = self.tokenizer(
                [premise for premise, _ in texts],
                [hypothesis for _, hypothesis in texts],
                padding=True,
                truncation="longest_first",
                max_length=self.longest,
                return_tensors="pt",
            ).to(self.device)
            with torch.inference_mode():
                rows = self.model(**inputs).logits.float().softmax(-1).cpu()
        except Exception as error:  # a checkpoint that loads and does not run
            raise CheckpointError(f"the judge {self.name} failed: {told(error)}") from error
        if not torch.isfinite(rows).all():
            raise CheckpointError(f"the judge {self.name} answers with nan; it cannot judge")
        found: list[list[float]] = rows.tolist()
        return found


def load(model: str, revision: str | None = None, device: str = "auto") -> Judge:
    """A judge by folder or hub id (`org/name`, `org/name@revision`).

    Raises UsageError, HubError, and CheckpointError for what is no NLI classifier in safetensors.
    """
    from pgbench.backends import versions
    from pgbench.backends.paligemma.checkpoint import content_key, require_weights

    name, folder, commit = _located(model, revision)
    labels = _labels(folder, name)
    require_weights(folder, name)
    digest = content_key(folder, _CONTENT)
    network, tokenizer, place = _loaded(folder, name, device)
    return Judge(
        name=name,
        revision=commit or digest,
        digest=digest,
        labels=labels,
        longest=_longest(network.config, tokenizer),
        device=place,
        versions=versions(*_PACKAGES),
        model=network,
        tokenizer=tokenizer,
    )


def _counts(owners: Sequence[int], size: int) -> list[int]:
    counts = [0] * size
    for owner in owners:
        counts[owner] += 1
    return counts


def _located(model: str, revision: str | None) -> tuple[str, Path, str | None]:
    """Name, folder and, for a hub id, the commit; the config is read before weights are fetched."""
    from pgbench.backends.paligemma.checkpoint import HUB_ID, folder_at
    from pgbench.sources.hub import fetch

    if model.strip() and (folder := folder_at(model)) is not None:
        if revision:
            raise UsageError(f"--revision goes with a hub id; {model} is a folder and has none")
        return Path(os.path.abspath(folder)).name, folder, None  # noqa: PTH100 - Path.absolute keeps ".."
    name, _, at = model.partition("@")
    if not HUB_ID.fullmatch(name):
        raise UsageError(
            f"no judge {model!r}; expected a folder, or a hub id (org/name) of an NLI checkpoint"
        )
    if revision and at and revision != at:
        raise UsageError(f"--judge {model} and --revision {revision} name two revisions; give one of them")
    folder, commit = fetch(name, revision or at or None, repo_type="model", patterns=("config.json",))
    _labels(folder, name)
    folder, _ = fetch(name, commit, repo_type="model", patterns=_CONTENT)
    return name, folder, commit


def _labels(folder: Path, name: str) -> tuple[Label, ...]:
    """What the outputs mean, by config.json. Raises CheckpointError where it does not say."""
    from pgbench.backends.paligemma.checkpoint import read_object

    given = read_object(folder / "config.json", name).get("id2label")
    said = {str(key): value for key, value in given.items()} if isinstance(given, dict) else {}
    ordered = [said.get(str(place)) for place in range(len(said))]
    words = [re.sub(r"[\s_-]+", "_", str(word).strip().casefold()) for word in ordered]
    labels = tuple(_LABELS[word] for word in words if word in _LABELS)
    if len(labels) != len(words) or len(set(labels)) != len(labels) or set(labels) not in _ENOUGH:
        raise CheckpointError(
            f"{name} is no judge: its config.json labels its outputs {', '.join(map(repr, ordered)) or '-'}; "
            "expected entailment, neutral and contradiction, or entailment and not_entailment"
        )
    return labels


def _loaded(folder: Path, name: str, device: str) -> tuple[Any, Any, str]:
    """Model, tokenizer and device. Raises CheckpointError."""
    from pgbench.backends.paligemma import hush

    hush()
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from pgbench.backends.paligemma.load import device_of, quiet, reason, require_all_weights

    quiet()
    place = device_of(device)
    torch.set_float32_matmul_precision("highest")
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported below, by name
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = model.to(place).eval()
    except torch.OutOfMemoryError as error:
        raise CheckpointError(f"{name} does not fit into the memory of {place}; try --device cpu") from error
    except Exception as error:  # safetensors, json and transformers raise a dozen kinds for a broken folder
        raise CheckpointError(f"cannot load the judge {name}: {reason(error, folder)}") from error
    require_all_weights(name, report)  # a bare encoder would judge with a random head
    if tokenizer.pad_token is None:
        raise CheckpointError(f"{name} has no padding token, so pairs cannot be batched")
    return model, tokenizer, str(place)


def _longest(config: Any, tokenizer: Any) -> int:
    """Tokens that fit: the least of what the tokenizer and the position table say."""
    table = getattr(config, "max_position_embeddings", None)
    if type(table) is int and config.model_type in _SHIFTED:
        table -= (config.pad_token_id or 0) + 1
    stated = [limit for limit in (table, tokenizer.model_max_length) if type(limit) is int]
    fitting = [limit for limit in stated if 0 < limit < _LARGEST]
    return min(fitting, default=_DEFAULT_LONGEST)

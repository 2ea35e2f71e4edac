"""Probes of what a token sees: the whole prefix, in every layer, and no padding."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from pgbench.backends.paligemma.probes_caps import wanted_caps
from pgbench.backends.paligemma.probes_layers import ASTRAY, astray, layers, row_of
from pgbench.backends.paligemma.probes_patient import (
    Patient,
    Seen,
    apart,
    is_prefix,
    of_all_tokens,
    question,
    text_span,
    watch,
    with_ids,
)
from pgbench.records import Finding
from pgbench.types import Prepared

_ABOVE = 3.0  # times the distance of two rows that are the same
_LEAST = 1e-7  # of a hidden state's length
_LEAK = {"float32": 1e-6, "bfloat16": 1e-6, "float16": 1e-6, "8bit": 0.1}  # 8bit: outliers of all rows count
# Distance of logits in a batch from those of the row alone; measured at most 3e-7, 0.01, 0.0008, 0.03.
ALONE = {"float32": 1e-4, "bfloat16": 0.15, "float16": 0.05, "8bit": 0.25}
_WORDS_SHORT, _WORDS_LONG = 12, 40


@of_all_tokens
def attention(patient: Patient) -> Finding:
    """Tokens of the prefix see later ones: images see text, text sees text that follows.

    Every row stands twice in the batch, and the later words of one of the two are changed: what is quantized
    over all rows together (LLM.int8's outliers) is the same for both, so that only attention sets them apart.
    """
    long = question(patient, 3, words=_WORDS_LONG, new=1)
    short = question(patient, 4, words=_WORDS_SHORT, new=1)
    same = watch(patient.backend, (long, long, short, short))
    changed = watch(patient.backend, (long, _later(patient, long), short, _later(patient, short)))
    pads = _pads(same)
    figures: dict[str, float] = {}
    wrong = []
    for row, (name, prepared) in enumerate((("unpadded", long), ("padded", short))):
        for part, places, sees in _parts(patient, prepared, pads[2 * row]):
            moved, still = (_twins(seen.hidden[0], 2 * row, places) for seen in (changed, same))
            figures |= {f"{part}_{name}": moved, f"{part}_{name}_control": still}
            if (moved > max(_ABOVE * still, _LEAST)) != sees:
                what = "do not see" if sees else "see"
                wrong.append(
                    f"{part} tokens of a row that is {name} {what} text that comes later ({moved:.2g})"
                )
    if wrong:
        return Finding("attention", False, wrong[0], figures)
    least = min(value for name, value in figures.items() if not name.endswith("control"))
    return Finding(
        "attention", True, f"a later word moves every earlier part by {least:.2g} or more", figures
    )


def _twins(hidden: torch.Tensor, row: int, places: slice) -> float:
    """How far a row is from the next one, over its length, as a mean over some places."""
    one, other = hidden[row, places], hidden[row + 1, places]
    return float(((one - other).norm(dim=-1) / one.norm(dim=-1)).mean())


def _pads(seen: Seen) -> list[int]:
    """Places of padding before each row, by the mask that reached the model; wherever they belong."""
    mask = _there(seen.inputs[0].get("attention_mask"), seen.hidden[0].shape[1])
    return [0] * len(seen.hidden[0]) if mask is None else [int(one) for one in mask.argmax(1)]


def _there(mask: Any, length: int) -> torch.Tensor | None:
    """[rows, length]: 1 where a token is, 0 where there is padding. For a static cache transformers makes the
    mask of scores beforehand, [rows, 1, queries, keys]: padding is what no query sees."""
    if not isinstance(mask, torch.Tensor):
        return None
    if mask.ndim == 4:
        seen = mask if mask.dtype == torch.bool else mask == 0
        mask = seen[:, 0, :, :length].any(dim=1)
    return mask.long()


def _parts(patient: Patient, prepared: Prepared, pads: int) -> Iterator[tuple[str, slice, bool]]:
    """Image tokens and the first half of the words, and whether they are to see the second half."""
    start, end = text_span(patient, prepared)
    images, middle = _images(patient, prepared), (start + end) // 2
    yield (
        "image",
        slice(pads, pads + images),
        is_prefix(patient, prepared, 0) and is_prefix(patient, prepared, end - 1),
    )
    yield (
        "text",
        slice(pads + start, pads + middle),
        is_prefix(patient, prepared, start) and is_prefix(patient, prepared, end - 1),
    )


def _images(patient: Patient, prepared: Prepared) -> int:
    inputs: Any = prepared.inputs
    return int((inputs.ids == patient.model.config.image_token_id).sum())


def _later(patient: Patient, prepared: Prepared) -> Prepared:
    """Another second half of the words, of the same length."""
    start, end = text_span(patient, prepared)
    middle = (start + end) // 2
    inputs: Any = prepared.inputs
    ids = inputs.ids.clone()
    ids[middle:end] = ids[start : start + end - middle]
    return with_ids(prepared, ids)


@of_all_tokens
def each_layer(patient: Patient) -> Finding:
    """Every layer attends from the first, middle and last tokens to the whole prefix, and to nothing else."""
    batch = [
        question(patient, seed, words=words, new=1) for seed, words in ((5, _WORDS_LONG), (6, _WORDS_SHORT))
    ]
    limit, worst, cap = patient.limit(ASTRAY), 0.0, wanted_caps(patient)[0]
    for number in range(2):
        row, places = row_of(patient, batch, number), _places(patient, batch[number])
        with layers(patient, places) as looked:
            watch(patient.backend, batch)
        for depth, layer in enumerate(looked):
            far = astray(layer, row, places, cap=cap)
            worst = max(worst, far)
            if not far <= limit:
                said = f"layer {depth} is {far:.2g} from attention over the whole prefix, limit {limit:g}"
                return Finding("layers", False, said, {"layer": depth, "distance": far, "limit": limit})
    figures = {"layers": len(looked), "distance": worst, "limit": limit}
    return Finding("layers", True, f"{len(looked)} layers within {worst:.2g} of full attention", figures)


def _places(patient: Patient, prepared: Prepared) -> list[int]:
    """First and middle image token, bos, first word and the last token, counted from the end."""
    start, _ = text_span(patient, prepared)
    images = _images(patient, prepared)
    return [prepared.length - place for place in (0, images // 2, images, start, prepared.length - 1)]


@of_all_tokens
def padding(patient: Patient) -> Finding:
    """What stands in the padding changes nothing, and a padded row answers as it does alone."""
    batch = [question(patient, seed, words=words, new=1) for seed, words in ((7, _WORDS_LONG), (8, 1))]
    padded = watch(patient.backend, batch).logits[0][1]
    with _other_padding(patient, int(padded.argmax())):
        other = watch(patient.backend, batch).logits[0][1]
    alone = watch(patient.backend, batch[1:]).logits[0][0]
    leak, shift = apart(padded, other), apart(alone, padded)
    figures = {"leak": leak, "padded_or_alone": shift, "limit": patient.limit(ALONE)}
    if not leak <= patient.limit(_LEAK):
        said = f"other tokens in the padding move the logits by {leak:.2g} of their spread"
        return Finding("padding", False, said, figures)
    if not shift <= patient.limit(ALONE):
        said = f"a padded row is {shift:.2g} from the same row alone, limit {patient.limit(ALONE):g}"
        return Finding("padding", False, said, figures)
    return Finding("padding", True, f"padding adds nothing; padded or alone {shift:.2g} apart", figures)


@contextlib.contextmanager
def _other_padding(patient: Patient, token: int) -> Iterator[None]:
    """Another token stands wherever the mask says that nothing does."""

    def change(_module: object, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        ids = kwargs.get("input_ids")
        mask = None if ids is None else _there(kwargs.get("attention_mask"), ids.shape[1])
        if ids is None or mask is None or ids.shape != mask.shape:
            return args, kwargs
        return args, {**kwargs, "input_ids": ids.masked_fill(mask == 0, token)}

    handle = patient.model.register_forward_pre_hook(change, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()

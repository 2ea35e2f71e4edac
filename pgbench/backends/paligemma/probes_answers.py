"""Probes of answers: finite, the same in a batch and alone, with and without cache, after a reload."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from pgbench.backends.paligemma.generate import PaliGemma
from pgbench.backends.paligemma.probes_attention import ALONE
from pgbench.backends.paligemma.probes_patient import (
    EQUAL,
    Patient,
    Seen,
    apart,
    never_stopping,
    passing,
    question,
    unstopped,
    watch,
    with_ids,
)
from pgbench.records import Finding
from pgbench.types import Prepared

_FEW = 8  # questions, where not all are needed
_STEPS = 4  # tokens of an answer that are looked at one by one
# Distance of logits with a cache from those of one pass without; measured at most 4e-6, 0.02, 0.003, 0.05.
CACHE = {"float32": 1e-4, "bfloat16": 0.15, "float16": 0.05, "8bit": 0.25}

# The same after a reload: the same sums in the same order; measured 0 in every level.
_RELOAD = {"float32": 1e-4, "bfloat16": 0.02, "float16": 0.005}
_MERGED_FIRST = ((None, None), ("merge", None), ("merge", "before"))  # how an adapter went in, and when
_WITHOUT = {
    "revision": None,
    "adapter": None,
    "adapter_mode": None,
    "adapter_order": None,
}  # of a saved folder


def finite(patient: Patient) -> Finding:
    """No nan or inf in any layer's output or in the logits; how near the largest comes to the dtype's end."""
    largest: list[float] = []
    broken: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(_module: object, _args: object, output: Any) -> None:
            top = float((output[0] if isinstance(output, tuple) else output).detach().abs().max())
            if not top < float("inf"):  # nan too
                broken.append(name)
            largest.append(top)

        return hook

    hooks = [(module, look(name)) for name, module in _watched(patient)]
    seen = watch(patient.backend, [question(patient, seed) for seed in range(20, 20 + _FEW)], hooks=hooks)
    top, most = max(largest, default=0.0), float(torch.finfo(patient.backend._loaded.dtype).max)
    figures = {"n": float(len(seen.replies)), "largest": top, "dtype_largest": most}
    rows = sum(not reply.finite for reply in seen.replies)
    if broken or rows:
        where = f"first in {broken[0]}" if broken else "in the logits"
        said = f"nan or inf {where}, {rows} of {len(seen.replies)} answers ({patient.checkpoint.dtype})"
        return Finding("finite", False, said, figures)
    return Finding("finite", True, f"largest value {top:.3g} of {most:.3g}", figures)


def _watched(patient: Patient) -> Iterator[tuple[str, Any]]:
    """Layers of both towers, the projector and the output layer, in the order of a pass."""
    for name, module in patient.model.named_modules():
        parts = name.split(".")
        if parts[-1] in ("multi_modal_projector", "lm_head") or (len(parts) > 1 and parts[-2] == "layers"):
            yield name, module


def batch(patient: Patient) -> Finding:
    """Answers of a batch and of the same questions alone: the noise that two equal runs can differ by."""
    equal, shift, far = 0, 0.0, 0.0
    answers = set()
    for seeds in _chunked(patient.samples, patient.batch):
        asked = [question(patient, 100 + seed) for seed in seeds]
        together = watch(patient.backend, asked)
        for number, prepared in enumerate(asked):
            alone = watch(patient.backend, [prepared])
            answers.add(alone.replies[0].token_ids)
            equal += alone.replies[0].token_ids == together.replies[number].token_ids
            shift = max(shift, float((alone.logits[0][0] - together.logits[0][number]).abs().max()))
            far = max(far, apart(alone.logits[0][0], together.logits[0][number]))
    found = _shared("batch", patient, equal, shift, f"batch {patient.batch} and alone")
    found = _near(found, far, patient.limit(ALONE), "logits of a row in a batch")
    more = {"batch": float(patient.batch), "answers": float(len(answers))}
    return replace(found, figures={**found.figures, **more})


def _near(found: Finding, far: float, limit: float, what: str) -> Finding:
    """The same, unless the distance of logits, over their spread, is beyond the limit."""
    found = replace(found, figures={**found.figures, "distance": far, "limit": limit})
    if found.passed and not far <= limit:
        return replace(
            found, passed=False, said=f"{what} are {far:.2g} of their spread away, limit {limit:g}"
        )
    return found


def _chunked(count: int, size: int) -> Iterator[list[int]]:
    seeds = iter(range(count))
    while chunk := list(islice(seeds, size)):
        yield chunk


def _shared(
    name: str, patient: Patient, equal: int, shift: float, what: str, n: int | None = None
) -> Finding:
    """Equal answers held against the share that is asked for."""
    count = n or patient.samples
    least = 1.0 if exact(patient) else patient.equal if name == "batch" else EQUAL
    figures = {"equal": equal / count, "n": float(count), "least": least, "largest_logit_difference": shift}
    said = f"{what}: {equal} of {count} answers equal, logits at most {shift:.3g} apart"
    return Finding(
        name, equal >= least * count, said if equal >= least * count else _short(said, least), figures
    )


def _short(said: str, least: float) -> str:
    return f"{said}; expected {'all' if least == 1 else f'{least:.0%}'} to be equal"


def exact(patient: Patient) -> bool:
    """Whether nothing is rounded to fewer than 32 bits."""
    return patient.checkpoint.dtype == "float32" and patient.checkpoint.quant == "none"


def cache(patient: Patient) -> Finding:
    """Step by step with the cache in a batch, and in one pass of a row alone without: the same logits."""
    limit, worst, steps = patient.limit(CACHE), 0.0, 0
    stop = never_stopping(patient.backend)
    asked = [question(patient, seed, new=_STEPS) for seed in range(40, 40 + _FEW // 2)]
    with_cache = watch(patient.backend, asked, steps=_STEPS, hooks=[stop])  # rows could be mixed in it
    for row, prepared in enumerate(asked):
        without = in_one(patient, prepared, with_cache.replies[row].token_ids)
        for one, other in zip(with_cache.logits, without, strict=True):
            steps += 1
            far = apart(*(unstopped(patient.backend, logits) for logits in (other, one[row])))
            worst = max(worst, far) if worst == worst else worst
    figures = {"steps": float(steps), "distance": worst, "limit": limit}
    said = f"{steps} steps with the cache within {worst:.2g} of one pass without"
    return Finding("cache", worst <= limit, said if worst <= limit else f"{said}; limit {limit:g}", figures)


def in_one(
    patient: Patient, asked: Prepared, answer: Sequence[int], *, stopping: bool = False
) -> list[torch.Tensor]:
    """[vocabulary] for each step of an answer, its prompt and all but its last token given; the answer is
    causal, hence of type 1. `stopping`: stop tokens are as likely as the model says."""
    backend = patient.backend
    inputs: Any = asked.inputs
    given = torch.tensor(answer[:-1], dtype=inputs.ids.dtype)
    longer: Any = with_ids(asked, torch.cat([inputs.ids, given])).inputs
    types = torch.cat([inputs.types, torch.ones_like(given)])
    rows = backend._collate([replace(longer, types=types)])
    module, hook = never_stopping(backend)
    handle = None if stopping else module.register_forward_hook(hook)
    try:
        with torch.inference_mode():
            logits = patient.model(**rows, use_cache=False).logits[0].float().cpu()
    finally:
        if handle is not None:
            handle.remove()
    return [logits[place] for place in range(len(inputs.ids) - 1, len(longer.ids))]


def reload(patient: Patient) -> Finding:
    """Weights that are saved and loaded again give the same answers.

    A quantized model is never saved (bitsandbytes 0.50.2 packs weights at the first pass on some processors,
    and what is saved then is broken): its weights are saved as they were before, and quantized again.
    """
    if not patient.second:
        return Finding("reload", None, "left out by --one-load: it loads the weights a second time")
    if (patient.checkpoint.adapter_mode, patient.checkpoint.adapter_order) not in _MERGED_FIRST:
        return Finding("reload", None, "the adapter is not merged into weights that could be saved")
    quantized = patient.checkpoint.quant != "none"
    with tempfile.TemporaryDirectory(prefix="pgbench-doctor-") as top:
        folder = Path(top) / _called(patient)
        _save(patient.plain() if quantized else patient.backend, folder)
        patient.close()
        again = patient.again(model=str(folder), kind=patient.checkpoint.profile.kind, **_WITHOUT)
        try:
            if wrong := _changed(patient, again):
                return Finding("reload", False, f"{wrong} another after saving and loading")
            equal, shift, far = _compared(patient, again)
        finally:
            again.close()
    what = "unquantized weights saved, loaded, quantized again" if quantized else "saved and loaded again"
    found = _shared("reload", patient, equal, shift, what, _FEW)
    return _near(found, far, patient.limit(_RELOAD), "logits after it")


def _called(patient: Patient) -> str:
    """The checkpoint's own name, which says what kind it is."""
    return patient.checkpoint.id.rpartition("/")[2]


def _save(backend: PaliGemma, folder: Path) -> None:
    model, processor = backend._loaded.model, backend._loaded.processor
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _changed(patient: Patient, again: PaliGemma) -> str:
    """What is not as it was: an input, or the first of the weights that are not quantized; "" if nothing."""
    one, other = (_asked(replace(patient, backend=backend))[0].inputs for backend in (patient.backend, again))
    for part in ("ids", "pixels"):
        if not torch.equal(getattr(one, part), getattr(other, part)):
            return f"{part} of a question are"
    if patient.checkpoint.quant != "none":  # bitsandbytes packs some layers at their first pass
        return ""
    known = dict(again._loaded.model.named_parameters())
    for name, weight in patient.model.named_parameters():
        if not weight.is_meta and not (name in known and torch.equal(weight, known[name].to(weight.device))):
            return f"weight {name} is"
    return ""


def _asked(patient: Patient) -> list[Prepared]:
    return [question(patient, seed) for seed in range(60, 60 + _FEW)]


def _compared(patient: Patient, again: PaliGemma) -> tuple[int, float, float]:
    """Equal answers among a few, the largest difference and the distance of their first logits."""
    one, other = (watch(found, _asked(replace(patient, backend=found))) for found in (patient.backend, again))
    equal = sum(a.token_ids == b.token_ids for a, b in zip(one.replies, other.replies, strict=True))
    far = apart(one.logits[0], other.logits[0])
    return equal, float((one.logits[0] - other.logits[0]).abs().max()), far


def first_logits(backend: PaliGemma, asked: Sequence[Prepared]) -> torch.Tensor:
    """[questions, vocabulary] of the first token of each answer."""
    seen = Seen()
    with passing(backend, seen):
        backend.generate(asked)
    return seen.logits[0]

"""Probes of what is done for speed: features used again, kernels chosen, rows that leave, batches halved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from pgbench.backends.paligemma import agreement
from pgbench.backends.paligemma.probes_answers import CACHE, in_one
from pgbench.backends.paligemma.probes_attention import ALONE
from pgbench.backends.paligemma.probes_patient import (
    Patient,
    apart,
    ask,
    never_stopping,
    of_all_tokens,
    picture,
    question,
    unstopped,
    watch,
)
from pgbench.errors import CheckpointError, OutOfMemory, UsageError
from pgbench.records import Finding
from pgbench.types import Prepared

_QUESTIONS = ("answer en what colour is the sign?", "answer en how many signs?")
_LONG = 6  # tokens of the answers that stay
_CONTINUATIONS = ("red", "red car on a street", "what does it say")
# Distance of log-likelihoods, root mean square over their own; measured at most 4e-7, 0.002, 0.0003, 0.008.
_LIKELY = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.02, "8bit": 0.1}


@of_all_tokens
def features(patient: Patient) -> Finding:
    """A picture gives the same beside other pictures, in another order, for its second question, when it is
    kept for a later batch, and when each row brings its pixels."""
    one, two, three = (_about(patient, seed) for seed in (41, 42, 43))
    limit, figures = patient.limit(ALONE), dict[str, float]()
    asked = [one[0], two[0], one[1], two[1]]
    base = watch(patient.backend, asked).logits[0]
    for name, batch, rows in (
        ("order", asked[::-1], base.flip(0)),
        ("neighbours", [three[0], *asked], torch.cat([base[:1], base])),
        ("pixels", asked, base),
    ):
        found = _with_pixels(patient, batch) if name == "pixels" else watch(patient.backend, batch).logits[0]
        start = len(found) - len(base)  # a row before them is a neighbour
        figures[name] = max(apart(a, b) for a, b in zip(rows[start:], found[start:], strict=True))
    figures["alone"], kept = _kept(patient, (one, two), base)
    figures["limit"] = limit
    if not kept:
        said = "a picture that is kept for a later batch gives something else than at first"
        return Finding("features", False, said, figures)
    for name, far in figures.items():
        if name != "limit" and not far <= limit:
            said = f"features are not the picture's own ({name}): logits {far:.2g} of their spread away"
            return Finding("features", False, f"{said}, limit {limit:g}", figures)
    worst = max(far for name, far in figures.items() if name != "limit")
    return Finding("features", True, f"{_way(patient)}, logits within {worst:.2g}", figures)


def _about(patient: Patient, seed: int) -> tuple[Prepared, Prepared]:
    """Two questions about one picture."""
    first, second = (ask(patient.backend, prompt, (picture(patient, seed),), new=1) for prompt in _QUESTIONS)
    return first, second


def _way(patient: Patient) -> str:
    return "once for each picture" if patient.backend._features.reused else "pixels with every row"


def _with_pixels(patient: Patient, batch: Sequence[Prepared]) -> torch.Tensor:
    """[rows, vocabulary]: as with a transformers that takes no features."""
    known = patient.backend._features
    before, known.reused = known.reused, False
    try:
        return watch(patient.backend, batch).logits[0]
    finally:
        known.reused = before


def _kept(
    patient: Patient, pictures: Sequence[tuple[Prepared, Prepared]], base: torch.Tensor
) -> tuple[float, bool]:
    """Distance of pictures that are looked at alone, and whether these are the same to the bit when they are
    asked about again."""
    patient.backend._features.forget()
    worst, same = 0.0, True
    seen: dict[int, torch.Tensor] = {}
    for turn in range(2):
        for row, (first, _) in enumerate(pictures):
            inputs: Any = first.inputs
            alone = replace(first, inputs=replace(inputs, alone=True))
            found = watch(patient.backend, [alone])
            worst = max(worst, apart(base[row], found.logits[0][0]))
            if turn:
                same &= torch.equal(seen[row], found.embeds[0])
            seen[row] = found.embeds[0]
    return worst, same


def kernels(patient: Patient) -> Finding:
    """The model uses the attention and the cache that its stack names, and the attention is what eager
    attention is, driven to its cap, padded and in a short window."""
    stack, config = patient.backend.describe(), patient.model.config
    used = {
        "text": config.text_config._attn_implementation,
        "vision": config.vision_config._attn_implementation,
    }
    for part, name in used.items():
        if stack.attention.get(part) != name:
            said = f"the {part} model uses {name} attention, the stack says {stack.attention.get(part)}"
            return Finding("kernels", False, said)
    if stack.numerics.get("cache") != patient.backend._loaded.cache:
        return Finding(
            "kernels", False, f"the stack names another cache than {patient.backend._loaded.cache}"
        )
    wrong = agreement.disagreement(
        patient.model, used["text"], agreement.reference(patient.model, patient.backend._loaded.device)
    )
    said = f"{used['text']} attention, {patient.backend._loaded.cache} cache"
    return Finding("kernels", not wrong, f"{said}: {wrong}" if wrong else said)


def leaving(patient: Patient) -> Finding:
    """Two rows go on while others end beside them: each of their steps is as in one pass of the row alone."""
    limit, limits = patient.limit(CACHE), (2, _LONG, _LONG, 1)
    asked = [question(patient, 50 + row, new=new) for row, new in enumerate(limits)]
    stop = never_stopping(patient.backend)
    seen = watch(patient.backend, asked, steps=_LONG, hooks=[stop])
    lengths = [len(reply.token_ids) for reply in seen.replies]
    if lengths != [*limits]:
        return Finding("leaving", False, f"answers of {lengths} tokens, expected {[*limits]}")
    alone = {row: in_one(patient, asked[row], seen.replies[row].token_ids) for row in (1, 2)}
    worst, left = 0.0, 0
    for step, logits in enumerate(seen.logits):
        present = [row for row in range(4) if len(logits) == 4 or limits[row] > step]
        left += len(logits) < 4
        if len(present) != len(logits):
            return Finding("leaving", False, f"{len(logits)} rows at step {step}, expected {len(present)}")
        for row, expected in alone.items():
            found = unstopped(patient.backend, logits[present.index(row)])
            far = apart(unstopped(patient.backend, expected[step]), found)
            worst = far if far != far else max(worst, far)
    figures = {"steps": float(_LONG), "without_all_rows": float(left), "distance": worst, "limit": limit}
    said = f"{left} of {_LONG} steps without rows that have ended, within {worst:.2g} of the row alone"
    return Finding("leaving", worst <= limit, said if worst <= limit else f"{said}; limit {limit:g}", figures)


def likelihood(patient: Patient) -> Finding:
    """Log-likelihoods of continuations of a batch equal those of one pass of prompt and continuation."""
    limit, asked = patient.limit(_LIKELY), [question(patient, seed, new=1) for seed in (55, 56)]
    try:
        replies = patient.backend.score(asked, [_CONTINUATIONS] * len(asked))
    except UsageError as error:
        return Finding("likelihood", None, str(error))
    worst = 0.0
    for prepared, reply in zip(asked, replies, strict=True):
        if reply.error is not None:
            return Finding("likelihood", False, reply.error)
        for found in reply.likelihoods:
            far = _far(found.logprobs, _expected(patient, prepared, found.text))
            worst = far if far != far else max(worst, far)
    figures = {"continuations": float(len(asked) * len(_CONTINUATIONS)), "distance": worst, "limit": limit}
    said = f"log-likelihoods within {worst:.2g} of one pass of prompt and continuation"
    return Finding(
        "likelihood", worst <= limit, said if worst <= limit else f"{said}; limit {limit:g}", figures
    )


def _expected(patient: Patient, prepared: Prepared, text: str) -> list[float]:
    ids = patient.backend._words.ids(text)
    logits = in_one(patient, prepared, ids, stopping=True)
    return [float(one.log_softmax(-1)[token]) for one, token in zip(logits, ids, strict=True)]


def _far(found: Sequence[float], expected: Sequence[float]) -> float:
    apart = math.sqrt(sum((a - b) ** 2 for a, b in zip(found, expected, strict=True)))
    return apart / math.sqrt(sum(b * b for b in expected))


def halves(patient: Patient) -> Finding:
    """A batch that does not fit is refused as such, and its halves answer as the whole did."""
    asked = [question(patient, 90 + row, new=2) for row in range(max(2, min(patient.batch, 8)))]
    whole = watch(patient.backend, asked)
    said = _refusal(patient, asked)
    if said:
        return Finding("halves", False, said)
    middle, limit = len(asked) // 2, patient.limit(ALONE)
    found = torch.cat([watch(patient.backend, part).logits[0] for part in (asked[:middle], asked[middle:])])
    worst = max(apart(a, b) for a, b in zip(whole.logits[0], found, strict=True))
    again = apart(whole.logits[0], watch(patient.backend, asked).logits[0])
    figures = {"distance": worst, "whole": again, "limit": limit}
    passed = worst <= limit and again <= limit
    said = f"out of memory is told; halves within {worst:.2g} of the whole batch"
    return Finding(
        "halves", passed, said if passed else f"{said}, the whole {again:.2g}; limit {limit:g}", figures
    )


def _refusal(patient: Patient, asked: Sequence[Prepared]) -> str:
    """What is wrong with how a batch that does not fit is told of; "" where nothing is."""
    before = len(patient.model.lm_head._forward_hooks)
    try:
        watch(patient.backend, asked, hooks=[(module, _full) for module in _last_layers(patient)])
    except OutOfMemory:
        left = len(patient.model.lm_head._forward_hooks) - before
        return f"{left} hooks are left behind" if left else ""
    except (CheckpointError, torch.OutOfMemoryError) as error:
        return f"a batch that does not fit ends the run: {type(error).__name__}"
    return "a batch that does not fit is answered"


def _full(_module: object, _args: object, _output: object) -> None:
    raise torch.OutOfMemoryError("for the doctor")


def _last_layers(patient: Patient) -> Iterator[Any]:
    yield patient.text.layers[-1]

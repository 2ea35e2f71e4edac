"""Probes of soft-caps and window: scores, logits and generated tokens meet what the protocol wants."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from pgbench.backends.paligemma.checkpoint import read_object
from pgbench.backends.paligemma.paper import capless
from pgbench.backends.paligemma.probes_layers import (
    ASTRAY,
    Layer,
    Row,
    astray,
    boosted,
    layers,
    row_of,
    scores,
)
from pgbench.backends.paligemma.probes_patient import (
    Patient,
    apart,
    never_stopping,
    of_all_tokens,
    question,
    watch,
)
from pgbench.records import Finding

# Distance of capped logits from the cap of the protocol; measured at most 0 and 0.007, 0.05 at 33 for 30.
_FINAL = {"float32": 1e-3, "bfloat16": 0.03, "float16": 0.01}
_CAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}  # Gemma2Config, where unsaid
_WINDOW = 4096  # likewise
_SHORT = 8  # tokens: a window that the doctor's prompts are longer than
# Times the cap that scores and logits are driven to: capped scores are then alike, others leave one key.
_BEYOND, _BEYOND_FINAL = 5.0, 1.5
_WORDS = 12


def wanted_caps(patient: Patient) -> tuple[float | None, float | None]:
    """Caps of attention and output as the protocol has them, from the checkpoint's own file."""
    point = patient.checkpoint
    if point.profile.family == "paligemma" or (point.protocol == "paper" and capless(point)):
        return None, None
    said = _text_config(patient)
    attention, final = (said.get(name, value) for name, value in _CAPS.items())
    return attention, final


def _text_config(patient: Patient) -> dict[str, Any]:
    found = read_object(patient.folder / "config.json", patient.checkpoint.id).get("text_config")
    return found if isinstance(found, dict) else {}


@of_all_tokens
def caps(patient: Patient) -> Finding:
    """Soft-caps by numbers: scores and logits are driven beyond where a cap would bend them."""
    attention, final = wanted_caps(patient)
    wanted = f"{_cap(attention)} on attention, {_cap(final)} on the output"
    figures: dict[str, float] = {"attention_cap": attention or 0.0, "final_cap": final or 0.0}
    for depth, (right, wrong) in enumerate(_attention_caps(patient, attention)):
        figures["attention_distance"] = max(figures.get("attention_distance", 0.0), right)
        if not (right < wrong and right <= patient.limit(ASTRAY)):
            what = _instead(attention, right < wrong)
            said = f"layer {depth} has {what} soft-cap ({right:.2g} away); the protocol wants {wanted}"
            return Finding("soft-caps", False, said, {**figures, "layer": depth, "without": wrong})
    right, wrong = _final_cap(patient, final)
    figures["final_distance"] = right
    if not (right < wrong and right <= patient.limit(_FINAL)):
        what = _instead(final, right < wrong)
        said = f"the output has {what} soft-cap ({right:.2g} away); the protocol wants {wanted}"
        return Finding("soft-caps", False, said, figures)
    return Finding("soft-caps", True, wanted, figures)


def _cap(value: float | None) -> str:
    return "no cap" if value is None else f"a cap of {value:g}"


def _instead(wanted: float | None, nearer: bool) -> str:
    """What there is where the cap is not as wanted; `nearer` to that than to the opposite all the same."""
    if nearer:
        return "another"
    return "no" if wanted else "a"


def _attention_caps(patient: Patient, cap: float | None) -> Iterator[tuple[float, float]]:
    """Of each layer: how far it is from attention as wanted, and from the opposite."""
    asked = question(patient, 9, words=_WORDS, new=1)
    row, places = row_of(patient, [asked], 0), [1]  # the last token, which sees all whatever the mask
    with layers(patient, places, passes=1) as looked:
        watch(patient.backend, [asked])
    drive = _BEYOND * (cap or _CAPS["attn_logit_softcapping"])
    largest = [float(scores(layer, row, places).abs().max()) for layer in looked]
    factors = [max(1.0, drive / one) for one in largest]
    # hooks in the order of their registration: queries are driven up before they are looked at
    handles = [module.register_forward_hook(hook) for module, hook in boosted(patient, factors)]
    try:
        with layers(patient, places, passes=1) as driven:
            watch(patient.backend, [asked])
    finally:
        for handle in handles:
            handle.remove()
    opposite = None if cap else _CAPS["attn_logit_softcapping"]
    for layer in driven:
        yield astray(layer, row, places, cap=cap), astray(layer, row, places, cap=opposite)


def _final_cap(patient: Patient, cap: float | None) -> tuple[float, float]:
    """How far the logits are from the output layer's with the cap as wanted, and with the opposite."""
    asked = question(patient, 10, new=1)
    drive = _BEYOND_FINAL * (cap or _CAPS["final_logit_softcapping"])
    factor = max(1.0, drive / float(watch(patient.backend, [asked]).raw[0].abs().max()))
    up = (patient.model.lm_head, lambda _module, _args, output: output * factor)
    seen = watch(patient.backend, [asked], hooks=[up])
    opposite = None if cap else _CAPS["final_logit_softcapping"]
    right, wrong = (
        apart(seen.raw[0] if one is None else one * torch.tanh(seen.raw[0] / one), seen.logits[0])
        for one in (cap, opposite)
    )
    return right, wrong


@of_all_tokens
def window(patient: Patient) -> Finding:
    """Which tokens a generated one sees in each layer, by numbers, with the window shortened.

    Of two rows of unlike length, so that keys and values of another row show as well.
    """
    wanted = _windowed(patient)
    length = int(_text_config(patient).get("sliding_window") or _WINDOW) if any(wanted) else 0
    if wrong := [found for _, found in _windows(patient) if length and found != length]:
        said = f"the window is {wrong[0]:,} tokens, the protocol wants {length:,}"
        return Finding("window", False, said, {"window_tokens": wrong[0]})
    asked = [question(patient, seed, words=words, new=2) for seed, words in ((11, _WORDS), (12, 2 * _WORDS))]
    stop = never_stopping(patient.backend)
    with _shortened(patient), layers(patient, [1]) as looked:
        watch(patient.backend, asked, hooks=[stop])
    rows, cap = [row_of(patient, asked, number) for number in range(2)], wanted_caps(patient)[0]
    limit, worst = patient.limit(ASTRAY), 0.0
    for depth, (layer, short) in enumerate(zip(looked, wanted, strict=True)):
        for row in rows:
            far, opposite = (_sees(layer, row, cap, one) for one in (short, not short))
            worst = max(worst, far)
            if not (far <= limit and far < opposite):
                what = "the window" if short else "every token"
                said = f"a generated token does not see {what} in layer {depth} ({far:.2g} away)"
                return Finding("window", False, said, {"layer": depth, "distance": far, "limit": limit})
    count = sum(wanted)
    figures = {"layers": len(wanted), "windowed": count, "window_tokens": length, "distance": worst}
    said = f"{count} of {len(wanted)} layers have a window of {length:,} tokens" if count else "no window"
    return Finding("window", True, said, figures)


def _sees(layer: Layer, row: Row, cap: float | None, short: bool) -> float:
    return astray(layer, row, [1], cap=cap, step=1, sees=_SHORT if short else None)


def _windowed(patient: Patient) -> Sequence[bool]:
    """Of each layer: whether the protocol has a window there. Gemma 2 has one in every other layer."""
    count = int(patient.model.config.text_config.num_hidden_layers)
    if patient.checkpoint.profile.family == "paligemma" or patient.checkpoint.protocol == "paper":
        return [False] * count
    types = _text_config(patient).get("layer_types")
    every = ["sliding_attention" if depth % 2 == 0 else "full_attention" for depth in range(count)]
    return [one == "sliding_attention" for one in types or every]


def _windows(patient: Patient) -> Iterator[tuple[Any, int]]:
    """What has a window, and its length: the config, of which masks are made, and each layer."""
    modules = patient.text.named_modules()
    attending = [module for path, module in modules if path.rpartition(".")[2] == "self_attn"]
    for one in (patient.model.config.text_config, *attending):
        if (length := getattr(one, "sliding_window", None)) is not None:
            yield one, int(length)


@contextlib.contextmanager
def _shortened(patient: Patient) -> Iterator[None]:
    """Where the model has a window, it is shorter than the doctor's prompts for a while."""
    found = list(_windows(patient))
    for one, _ in found:
        one.sliding_window = _SHORT
    try:
        yield
    finally:
        for one, length in found:
            one.sliding_window = length

"""Which attention the text model uses: one that agrees with eager attention on this device and is faster.

Gemma 2 has soft-caps on attention, which sdpa cannot compute; transformers 5.23 therefore takes eager
attention, which is slow, and versions 4.57 to 5.20 took sdpa all the same. Here each candidate is asked
whether it agrees (agreement.py), then timed. One that raises, disagrees or is clearly slower is left, and
the stack says why.

Two loads on one machine have to end with the same attention, since cells are compared whose answers come of
two loads, while times scatter. So candidates stand in an order that measurements gave, and one that agrees is
taken unless it is slower by a factor that noise does not reach, in every one of several rounds.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch

from pgbench.backends.paligemma import agreement, grouped
from pgbench.backends.paligemma.agreement import EAGER, Watch, dtype_of, pair
from pgbench.backends.paligemma.cut import attentions
from pgbench.errors import UsageError
from pgbench.types import Attention

_PADDING = 5  # tokens of one of the rows that are timed
_ROWS, _WORDS, _STEPS = 2, 32, 4  # of the timing: rows, tokens behind the picture, steps of decoding
_MOST = {"cpu": 512, "cuda": 1024}  # image tokens in it
# Lengths by which prompts differ in it, unmeasured ones first: what is compiled anew for every length shows.
_UNMEASURED = {"cpu": (0,), "cuda": (0, 3)}
_MEASURED = (5, 9, 14)
_ROUNDS = 5  # of the timing, before a candidate counts as slower
_SAID = 16  # words of an exception


@dataclass(frozen=True, slots=True)
class Candidate:
    """What may be taken unasked."""

    name: str
    capless: bool = False  # it has no soft-cap


# Each faster than the one before wherever it was measured, and `grouped` of a third of eager's memory.
# flex_attention is none: to compile it takes tens of seconds at every load, which few cells get back.
CANDIDATES = (Candidate("grouped"), Candidate("sdpa", capless=True))
_SLOWER = 2.0  # times the seconds of the one before it, up to which a candidate is taken


def choose(model: Any, device: torch.device, asked: Attention | None = None) -> str:
    """Give the text model its attention; returns what was tried, with figures, in one line.

    Raises UsageError where the one asked for does not run here, or disagrees.
    """
    text = model.config.text_config
    grouped.register()
    cap = getattr(text, "attn_logit_softcapping", None)
    usual: str = EAGER if cap else str(text._attn_implementation)
    text._attn_implementation = usual
    if asked is not None:
        _require(model, device, asked, usual)
        text._attn_implementation = asked
        return f"{asked}, as asked"
    if usual != EAGER:
        return f"{usual}, as transformers has it"
    best: str = usual
    reference, times = agreement.reference(model, device), {best: _seconds(model, usual, device)}
    said = []
    for candidate in CANDIDATES:
        if candidate.capless and cap:
            continue
        taken, wrong = _tried(model, device, candidate, reference, best, times)
        best = candidate.name if taken else best
        said += [wrong] if wrong else []
    text._attn_implementation = best
    figures = [f"{name} {seconds * 1e3:.3g} ms" for name, seconds in times.items()]
    return f"{best} of {', '.join((*figures, *said))}"


def _require(model: Any, device: torch.device, asked: str, usual: str) -> None:
    if asked in (EAGER, usual):
        return
    wrong, reference = _never(asked, device), agreement.reference(model, device)
    try:
        if not wrong and not (wrong := agreement.disagreement(model, asked, reference)):
            _seconds(model, asked, device)
    except Exception as error:  # noqa: BLE001 - compilers and kernels raise anything
        wrong = why(error)
    if wrong:
        raise UsageError(
            f"--attention {asked} cannot be used here ({wrong}); leave it out for the fastest that can"
        )


def _tried(
    model: Any,
    device: torch.device,
    candidate: Candidate,
    reference: Watch,
    best: str,
    times: dict[str, float],
) -> tuple[bool, str]:
    """Whether it is to be taken, and why it could not be timed; leaves its seconds in `times`."""
    name = candidate.name
    try:
        if wrong := agreement.disagreement(model, name, reference):
            return False, f"{name} not taken: {wrong}"
        for _ in range(_ROUNDS):  # in turn, and the least of each: what else runs here only slows
            for one in (name, best):
                times[one] = min(_seconds(model, one, device), times.get(one, math.inf))
            if times[name] <= _SLOWER * times[best]:
                return True, ""
    except Exception as error:  # noqa: BLE001 - as above
        times.pop(name, None)
        return False, f"{name} not taken: {why(error)}"
    return False, ""


def _never(name: str, device: torch.device) -> str:
    """Why it is not worth a try; "" where it is. Compiling it for a CPU takes a minute, where it works."""
    compiled = name == "flex_attention" and device.type != "cuda"
    return "it is compiled for CUDA alone" if compiled else ""


def why(error: Exception) -> str:
    """An exception in a few words, for a record: compilers name files of this machine, hence no paths."""
    kept = " ".join(word for word in str(error).split()[:_SAID] if "/" not in word and "\\" not in word)
    return f"{type(error).__name__}: {kept}" if kept else type(error).__name__


# Time


def _seconds(model: Any, name: str, device: torch.device) -> float:
    """Of all masks and attentions of a prompt and a few steps of decoding: the least of a few lengths."""
    kind = "cuda" if device.type == "cuda" else "cpu"
    for longer in _UNMEASURED[kind]:
        _once(model, name, device, longer)
    return min(_once(model, name, device, longer) for longer in _MEASURED)


def _once(model: Any, name: str, device: torch.device, longer: int) -> float:
    vision = model.config.vision_config
    seen = min(
        (vision.image_size // vision.patch_size) ** 2, _MOST["cuda" if device.type == "cuda" else "cpu"]
    )
    length = seen + _WORDS + longer
    first = _layer(model, name, device, length, length)
    return first + _STEPS * _layer(model, name, device, 1, length + 1)


def _layer(model: Any, name: str, device: torch.device, queries: int, keys: int) -> float:
    """Seconds of all layers, of one that was timed."""
    text, module = model.config.text_config, attentions(model)[0]
    attend, mask = pair(module, name)
    heads, shared, width = text.num_attention_heads, text.num_key_value_heads, module.head_dim
    drawn = [
        torch.ones(_ROWS, length, count, width, device=device, dtype=dtype_of(model)).transpose(1, 2)
        for length, count in ((queries, heads), (keys, shared), (keys, shared))
    ]
    there = torch.ones(_ROWS, keys, dtype=torch.bool, device=device)
    there[0, :_PADDING] = False
    cap = getattr(text, "attn_logit_softcapping", None)
    with torch.inference_mode():
        start = _now(device)
        made = mask(
            batch_size=_ROWS,
            q_length=queries,
            kv_length=keys,
            q_offset=keys - queries,
            kv_offset=0,
            mask_function=_all_seen,
            attention_mask=there,
            allow_is_causal_skip=False,
            dtype=dtype_of(model),
            config=text,
            use_vmap=False,
            device=device,
        )
        masked = _now(device)
        attend(module, *drawn, made, dropout=0.0, scaling=module.scaling, softcap=cap)
        end = _now(device)
    kinds = len({*(getattr(text, "layer_types", None) or ["all"])})
    return kinds * (masked - start) + int(text.num_hidden_layers) * (end - masked)


def _all_seen(_batch: Any, _head: Any, _query: Any, key: Any) -> Any:
    return key >= 0


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()

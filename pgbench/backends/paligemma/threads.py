"""How many CPU threads compute: as asked, else all, or fewer where these are clearly faster.

More threads are not always faster: two hardware threads share a core, and a tiny model's sums are shorter
than handing them over takes. The order in which a CPU adds depends on the count, hence it is in the stack,
and hence noise must not decide it: two loads on one machine have to end with the same count.
"""

from __future__ import annotations

import math
import os
import time
from typing import Any

import torch

from pgbench.backends.paligemma.cut import short

_SMALL = 512  # hidden size below which more than one thread only costs
_TOKENS = 64
_ROUNDS = 3
_WORTH = 0.7  # of the seconds of the next larger count, up to which a smaller one is taken


def usable() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pin(model: Any, device: torch.device, asked: int | None) -> tuple[int, str, bool]:
    """Set torch's threads; returns their count, why it is that in one line, and whether it was measured."""
    there = usable()
    inherited = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # "4,2": nested levels
    named = int(inherited) if inherited.isdecimal() else 0
    small = model.config.text_config.hidden_size < _SMALL
    measured = not (asked or named or small or there == 1 or device.type != "cpu")
    if measured:
        count, said = _fastest(model, there)
    elif asked or named:
        count, said = asked or named, "as asked" if asked else "OMP_NUM_THREADS"
    else:
        count, said = (1, "the model is small") if small else (there, "all that there are")
    torch.set_num_threads(count)
    found = int(torch.get_num_threads())
    return found, f"{found}, {said}", measured


def counts(usable: int) -> list[int]:
    """All, a half and a quarter of them."""
    return sorted({usable, max(1, usable // 2), max(1, usable // 4)}, reverse=True)


def _fastest(model: Any, usable: int) -> tuple[int, str]:
    figures = dict.fromkeys(counts(usable), math.inf)
    for _ in range(_ROUNDS):  # in turn, and the least of each: what else runs here only slows
        for count in figures:
            torch.set_num_threads(count)
            figures[count] = min(figures[count], seconds(model))
    best = usable
    for count in counts(usable):
        if figures[count] <= _WORTH * figures[best]:
            best = count
    return best, "of " + ", ".join(f"{count}: {one * 1e3:.3g} ms" for count, one in figures.items())


def seconds(model: Any) -> float:
    """Of one short prompt through the first layers, after one that wakes the threads."""
    ids = (torch.arange(_TOKENS, device=model.device) + 10)[None]
    kinds, found = torch.zeros_like(ids), []
    with short(model), torch.inference_mode():
        for _ in range(2):
            start = time.perf_counter()
            model(input_ids=ids, token_type_ids=kinds, use_cache=False, logits_to_keep=1)
            found.append(time.perf_counter() - start)
    return found[1]

"""What `pgbench bench` needs of a loaded model and its device beside the Backend protocol."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch

from pgbench.backends.paligemma.generate import PaliGemma
from pgbench.errors import OutOfMemory
from pgbench.types import Quant

_CPU_SIDES, _GPU_SIDES = (1024, 2048), (4096, 8192)
_LEAST_SECONDS, _LEAST_TIMES = 0.25, 5


class Instruments:
    """Of one loaded backend."""

    def __init__(self, backend: PaliGemma) -> None:
        self._backend = backend
        self._loaded = backend._loaded

    @contextlib.contextmanager
    def unending(self) -> Iterator[None]:
        """Within, no answer ends before its limit: the output layer cannot choose a stop token.

        Not minus infinity, which would be taken for an overflow.
        """
        stops = list(self._backend._stop)
        hook = self._loaded.model.lm_head.register_forward_hook(
            lambda _module, _inputs, logits: _without(logits, stops)
        )
        try:
            yield
        finally:
            hook.remove()

    def matmul_rate(self) -> tuple[float, str]:
        """FLOP/s of square matrix products at the model's dtype on its device, and what was multiplied.

        The median of the faster side; what a share of the device is a share of. Raises OutOfMemory where the
        weights leave no room for a product of either side.
        """
        device, dtype = self._loaded.device, self._loaded.dtype
        sides = _GPU_SIDES if device.type == "cuda" else _CPU_SIDES
        rates = {side: rate for side in sides if (rate := _product_rate(side, device, dtype))}
        if not rates:
            raise OutOfMemory(
                f"the weights leave {device} no room for a product of {sides[0]:,} x {sides[0]:,}"
            )
        best = max(rates, key=lambda side: rates[side])
        return rates[best], f"{str(dtype).removeprefix('torch.')}, {best:,} x {best:,}"


def warm(quant: Quant) -> None:
    """Imports the library of a bitsandbytes level and opens the GPU: seconds, at a process's first load."""
    if quant in ("8bit", "4bit", "fp4"):
        import bitsandbytes  # noqa: F401
    if torch.cuda.is_available():
        torch.cuda.init()


def _without(logits: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    changed = logits.clone()
    changed[..., tokens] = torch.finfo(logits.dtype).min / 2
    return changed


def _product_rate(side: int, device: torch.device, dtype: torch.dtype) -> float | None:
    """FLOP/s; None where memory is not enough."""
    try:
        return 2.0 * side**3 / _product_seconds(side, device, dtype)
    except torch.OutOfMemoryError:
        return None


def _product_seconds(side: int, device: torch.device, dtype: torch.dtype) -> float:
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one, two = (torch.randn(side, side).to(device, dtype) for _ in range(2))
        _timed(one, two, device)  # picks its kernel
        times: list[float] = []
        while len(times) < _LEAST_TIMES or sum(times) < _LEAST_SECONDS:
            times.append(_timed(one, two, device))
    return median(times)


def _timed(one: Any, two: Any, device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    one @ two
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

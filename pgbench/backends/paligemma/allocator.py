"""Memory that one pass gives back is there for the next one, while a model on the CPU answers.

glibc hands large blocks back to the system as soon as they are free, and a pass that wants them again pays
for every page anew. With a tiny checkpoint at 448 px and glibc's limits raised by environment variables, one
pair of runs on a noisy machine took 15 % less time in the model and a quarter less outside it; at 56 px there
was no difference. Elsewhere than in glibc nothing is done.
"""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any

import torch

_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_KEPT = 1 << 30  # bytes that may lie free at the end of the heap
_LARGE = 32 << 20  # bytes from which on a block is the system's own in any case: the most that glibc takes
_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep(device: torch.device) -> bool:
    """For this process, unless its environment says how memory is to be had; whether it was done."""
    library = _glibc()
    if device.type != "cpu" or library is None or any(name in os.environ for name in _OWN):
        return False
    return bool(library.mallopt(_MMAP, _LARGE) and library.mallopt(_TRIM, _KEPT))


def give_back() -> None:
    """All that is free goes to the system: what comes is measured, or nothing comes."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@functools.cache
def _glibc() -> Any:
    """None where the process runs on another C library."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return library if hasattr(library, "gnu_get_libc_version") else None

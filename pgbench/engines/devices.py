"""The devices of this machine, counted without loading an engine, and what a process of one of them sees."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from pgbench.errors import UsageError

VISIBLE, THREADS = "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"
_PATIENCE = 60.0  # seconds: a driver without a persistence daemon wakes every device first

# In a process of its own: CUDA cannot be used in a process that is forked after it was started here.
_COUNT = """\
import ctypes
try:
    driver = ctypes.CDLL("libcuda.so.1")
except OSError:
    raise SystemExit(0)
found = ctypes.c_int(0)
if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(found)) == 0:
    print(found.value)
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one process at a time."""

    name: str  # for messages
    settings: Mapping[str, str] = field(default_factory=dict)  # environment variables of its processes


def slots(workers: int | None = None, *, cpu: bool = False) -> tuple[Slot, ...]:
    """One slot a GPU, or one on a machine without; `workers` says how many there are to be instead.

    More workers than GPUs share them; `cpu`: no GPU is wanted. Processes that compute on the CPU share its
    cores, unless OMP_NUM_THREADS says how many threads each has; the number of threads is in the record of a
    run, which goes on only with as many as it began with. Raises UsageError for less than one worker.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers; expected 1 or more")
    found = () if cpu else gpus(os.environ)
    count = workers or len(found) or 1
    if found:
        chosen = [found[number % len(found)] for number in range(count)]
        return tuple(Slot(f"GPU {device}", {VISIBLE: device}) for device in chosen)
    settings = {}
    if count > 1 and not os.environ.get(THREADS):  # alone, a process chooses as it does without an engine
        settings = {THREADS: str(max(1, usable_cores() // count))}
    return tuple(Slot(f"process {number + 1}", settings) for number in range(count))


def gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """What to set CUDA_VISIBLE_DEVICES to for each GPU that may be used: a number, or the UUID of a GPU or
    of a part of one (MIG)."""
    given = environment.get(VISIBLE)
    if given is not None and not named(given):
        return ()
    count = _said([sys.executable, "-I", "-c", _COUNT])
    if not count.strip().isdecimal() or int(count) == 0:
        return ()
    if given is not None:  # of several parts of GPUs the driver counts one: no process can use more
        return named(given)
    listed = uuids(_said(["nvidia-smi", "-L"]))  # by UUID: its order need not be the driver's
    return listed or tuple(map(str, range(int(count))))


def named(given: str) -> tuple[str, ...]:
    """The devices that a value of CUDA_VISIBLE_DEVICES names; the driver stops at the first that is none."""
    found: list[str] = []
    for word in (part.strip() for part in given.split(",")):
        if not re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", word):
            break
        if word not in found:
            found.append(word)
    return tuple(found)


def uuids(listed: str) -> tuple[str, ...]:
    """What `nvidia-smi -L` lists: a GPU that is split counts as its parts."""
    found: list[str] = []
    for line in listed.splitlines():
        match = re.search(r"\(UUID: ((?:GPU|MIG)-[\w/-]+)\)", line)
        if match is None:
            continue
        if match[1].startswith("MIG") and found and found[-1].startswith("GPU"):
            found.pop()  # its whole
        found.append(match[1])
    return tuple(found)


def usable_cores() -> int:
    """Of this process: a batch system may have given it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _said(command: list[str]) -> str:
    """What a short program printed; "" where it is not there or failed."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""

"""What a pass gives back stays with the process beside a model on the CPU, and goes when that is closed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, torch
from pgbench.backends.paligemma import allocator

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 >> 20

def used():
    found = [torch.ones(4 << 20, dtype=torch.uint8) for _ in range(30)]  # 4 MB each
    del found

torch.set_num_threads(1)
print(allocator.keep(torch.device(DEVICE)))
used()
before = resident()
used()
print(resident() - before)
kept = resident()
allocator.give_back()
print(kept - resident())
"""
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def said(device: str = "cpu", **environment: str) -> tuple[bool, int]:
    """Whether it was done, and how many MB `give_back` gave back."""
    script = SCRIPT.replace("DEVICE", repr(device))
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )
    kept, grown, given_back = done.stdout.split()
    assert int(grown) < 8, "what was given back is used again"
    return kept == "True", int(given_back)


def test_free_memory_is_kept_and_given_back_when_asked() -> None:
    from pgbench.backends.paligemma.allocator import _glibc

    if _glibc() is None:
        pytest.skip("not on glibc")
    kept, given_back = said()
    assert kept
    assert given_back > 80


@pytest.mark.parametrize(
    ("device", "environment"), [("cuda", {}), ("cpu", {"MALLOC_TRIM_THRESHOLD_": "131072"})]
)
def test_it_is_left_to_a_gpu_and_to_who_set_it(device: str, environment: dict[str, str]) -> None:
    kept, given_back = said(device, **environment)
    assert not kept
    assert given_back < 40, "glibc gives back by itself"


def test_a_library_that_is_not_glibc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    import torch

    from pgbench.backends.paligemma import allocator

    def none(_name: object) -> object:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", none)
    allocator._glibc.cache_clear()
    try:
        assert not allocator.keep(torch.device("cpu"))
        allocator.give_back()
    finally:
        allocator._glibc.cache_clear()

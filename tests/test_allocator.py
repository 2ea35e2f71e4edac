"""What a pass gives back stays with the process beside a model on the CPU, and goes when that is closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
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
print(allocator.keep(torch.device("cpu")))
used()
before = resident()
used()
print(resident() - before)
kept = resident()
allocator.give_back()
print(kept - resident())
"""
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def said() -> tuple[bool, int, int]:
    """Whether it was done, how many MB more are in use after the second time, how many were given back."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name not in OWN} | {"OMP_NUM_THREADS": "1"},
    )
    kept, grown, given_back = done.stdout.split()
    return kept == "True", int(grown), int(given_back)


def test_free_memory_is_kept_and_given_back_when_asked() -> None:
    from pgbench.backends.paligemma.allocator import _glibc

    if _glibc() is None:
        pytest.skip("not on glibc")
    kept, grown, given_back = said()
    assert kept
    assert grown < 8, "what was given back is used again"
    assert given_back > 80


class Library:
    """A C library that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def mallopt(self, what: int, value: int) -> int:
        self.told.append((what, value))
        return 1


@pytest.mark.parametrize(
    ("device", "environment", "done"),
    [("cpu", {}, True), ("cuda", {}, False), *(("cpu", {name: "1"}, False) for name in OWN)],
)
def test_it_is_left_to_a_gpu_and_to_who_set_it(
    device: str, environment: dict[str, str], done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What glibc would do by itself depends on what else lies at the end of its heap."""
    import torch

    from pgbench.backends.paligemma import allocator

    library = Library()
    monkeypatch.setattr(allocator, "_glibc", lambda: library)
    for name in OWN:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert allocator.keep(torch.device(device)) is done
    assert bool(library.told) is done


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


def test_a_model_on_the_cpu_keeps_it_and_gives_it_back_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pgbench.backends.paligemma import allocator

    told: list[str] = []
    monkeypatch.setattr(allocator, "keep", lambda device: told.append(device.type))
    monkeypatch.setattr(allocator, "give_back", lambda: told.append("back"))
    model = tiny.load(tiny.checkpoint(tmp_path / "paligemma-mix-28", "paligemma"))
    assert told == ["cpu"]
    model.close()
    assert told == ["cpu", "back"]

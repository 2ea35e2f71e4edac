"""Runs in processes of their own, killed at random moments and started again by the same command.

The tests use it with a few kills, `make prove` (benchmarks/prove.py) with many.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pgbench import store
from pgbench.records import essence

PATIENCE = 120.0  # seconds for one session, also on a busy machine

# The oracle on the demo's drawings, slow enough to be hit, sometimes wrong, and with failures in it.
SLOW_TASK = """\
import dataclasses, time
from pgbench_tasks.textvqa import TASK as REAL

def slowed(metric):
    def stat(unit):
        time.sleep({seconds})
        return metric.stat(unit)
    return dataclasses.replace(metric, stat=stat)

def source(request):
    found = REAL.sources["demo"](request)
    return dataclasses.replace(found, missing=tuple(sample.id for sample in found.samples[5::40]))

def gold(sample):
    return sample.target[len(sample.question) % 10]

TASK = dataclasses.replace(
    REAL, name="slow", gold=gold, sources={{"demo": source}}, metrics=tuple(map(slowed, REAL.metrics))
)
"""
SLOW_FAILURES = 5


@dataclass(frozen=True, slots=True)
class Command:
    """`pgbench run` with these flags, below one --out."""

    flags: tuple[str, ...]
    out: Path

    def start(self) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "pgbench", "run", *self.flags, "--out", str(self.out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def finish(self) -> float:
        """Run to the end; returns its seconds. Raises RuntimeError where it does not end well."""
        before = time.perf_counter()
        process = self.start()
        _, said = process.communicate(timeout=PATIENCE)
        if process.returncode:
            raise RuntimeError(f"pgbench exited with {process.returncode}: {said.strip()[-500:]}")
        return time.perf_counter() - before

    def folder(self) -> Path | None:
        """The run's folder, None before there is one."""
        return next((path.parent for path in self.out.rglob(store.SAMPLES)), None)

    def kept(self) -> int:
        """Answers on disk, as the number of lines."""
        folder = self.folder()
        return (folder / store.SAMPLES).read_bytes().count(b"\n") if folder else 0

    def result(self) -> dict[str, object]:
        """What has to be equal in two runs of one cell. Raises RuntimeError while there is no record."""
        folder = self.folder()
        record = store.read_record(folder) if folder else None
        if folder is None or record is None:
            raise RuntimeError("the run left no record")
        return essence(record, store.read_lines(folder))

    def ids(self) -> list[str]:
        """The sample ids of all lines on disk, read without pgbench."""
        folder = self.folder()
        lines = (folder / store.SAMPLES).read_bytes().splitlines() if folder else []
        return [str(json.loads(line)["id"]) for line in lines]


@dataclass(slots=True)
class Killed:
    """What happened to a run that was killed again and again."""

    kills: int = 0  # that hit a living process
    kept: list[int] = field(default_factory=list)  # answers on disk after each kill


def slow_task(folder: Path, seconds: float = 0.002) -> tuple[str, ...]:
    """Writes the slow task; returns the flags that run it."""
    path = folder / "slow.py"
    path.write_text(SLOW_TASK.format(seconds=seconds))
    return ("--task", str(path), "--backend", "oracle", "--max-failures", str(SLOW_FAILURES))


def wait_for(command: Command, process: subprocess.Popen[str], answers: int) -> bool:
    """Waits until so many answers are on disk; False where the process ended before."""
    limit = time.monotonic() + PATIENCE
    while command.kept() < answers:
        if process.poll() is not None:
            return False
        if time.monotonic() > limit:
            process.kill()
            raise RuntimeError(f"no {answers} answers after {PATIENCE:g} s")
        time.sleep(0.001)
    return process.poll() is None


def kill_repeatedly(
    command: Command,
    kills: int,
    total: int,
    generator: random.Random,
    *,
    jitter: float = 0.02,
    session: float = 1.0,
) -> Killed:
    """SIGKILL at `kills` moments, each time after the same command was started again; then lets it finish.

    A moment: when a random number of answers is on disk, rising from kill to kill, and up to `jitter`
    seconds later, wherever that is in a batch. Every third falls anywhere into the first `session` seconds
    instead, loading included.
    """
    found = Killed()
    for answers in _moments(kills, total, generator):
        process = command.start()
        try:
            if answers is None:
                time.sleep(generator.random() * session)
            else:
                wait_for(command, process, max(answers, command.kept() + 1))
                time.sleep(generator.random() * jitter)
        finally:
            process.kill()
            process.communicate()
        found.kills += process.returncode == -signal.SIGKILL
        found.kept.append(command.kept())
    command.finish()
    return found


def _moments(kills: int, total: int, generator: random.Random) -> Iterator[int | None]:
    rising = sorted(generator.randrange(total * 9 // 10) for _ in range(kills))
    for number, answers in enumerate(rising):
        yield None if number % 3 == 2 else answers


def differing(left: dict[str, object], right: dict[str, object]) -> Sequence[str]:
    """The parts in which two results differ."""
    return [name for name in left if left[name] != right[name]]

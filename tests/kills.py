"""Runs in processes of their own, killed at random moments and started again by the same command.

The tests use it with a few kills, `make prove` (benchmarks/prove.py) with many.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pgbench import store
from pgbench.records import essence
from pgbench.samples import SAMPLES, read_lines

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
        return started("run", *self.flags, "--out", str(self.out))

    def finish(self) -> float:
        """Run to the end; returns its seconds. Raises RuntimeError where it does not end well."""
        return ended(self.start())

    def folder(self) -> Path | None:
        """The run's folder, None before there is one."""
        return next((path.parent for path in self.out.rglob(SAMPLES)), None)

    def kept(self) -> int:
        """Answers on disk, as the number of lines."""
        folder = self.folder()
        return (folder / SAMPLES).read_bytes().count(b"\n") if folder else 0

    def result(self) -> dict[str, object]:
        """What has to be equal in two runs of one cell. Raises RuntimeError while there is no record."""
        folder = self.folder()
        record = store.read_record(folder) if folder else None
        if folder is None or record is None:
            raise RuntimeError("the run left no record")
        return essence(record, read_lines(folder))

    def ids(self) -> list[str]:
        """The sample ids of all lines on disk, read without pgbench."""
        folder = self.folder()
        lines = (folder / SAMPLES).read_bytes().splitlines() if folder else []
        return [str(json.loads(line)["id"]) for line in lines]


def started(*words: str, **environment: str) -> subprocess.Popen[str]:
    """A pgbench command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pgbench", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def ended(process: subprocess.Popen[str], patience: float = PATIENCE) -> float:
    """Seconds until a command ended well. Raises RuntimeError where it does not."""
    before = time.perf_counter()
    try:
        _, said = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
        raise RuntimeError(f"not at its end after {patience:g} s: {said.strip()[-500:]}") from None
    if process.returncode:
        raise RuntimeError(f"pgbench exited with {process.returncode}: {said.strip()[-500:]}")
    return time.perf_counter() - before


@dataclass(frozen=True, slots=True)
class Sweep:
    """`pgbench sweep` of a file, below one --out."""

    file: Path
    out: Path
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> subprocess.Popen[str]:
        return started("sweep", str(self.file), *self.flags, "--out", str(self.out), **self.environment)

    def finish(self, patience: float = 5 * PATIENCE) -> float:
        """Run to the end; returns its seconds. Raises RuntimeError where it does not end well."""
        return ended(self.start(), patience)

    def files(self) -> list[Path]:
        """Of answers."""
        return sorted(self.out.glob("*/*/samples-*.jsonl"))

    def kept(self) -> int:
        """Answers on disk, as the number of lines."""
        return sum(path.read_bytes().count(b"\n") for path in self.files())

    def unfinished(self) -> list[Path]:
        """Files of answers of cells that have some, and no record."""
        open_cells = (path for path in self.files() if not (path.parent / "record.json").exists())
        return [path for path in open_cells if path.stat().st_size]

    def result(self) -> dict[str, object]:
        """For each cell what has to be equal. Raises RuntimeError for one without a record."""
        found: dict[str, object] = {}
        for folder in sorted({path.parent for path in self.out.glob("*/*/spec.json")}):
            record = store.read_record(folder)
            if record is None:
                raise RuntimeError(f"{folder.name} has no record")
            found[folder.relative_to(self.out).as_posix()] = essence(record, read_lines(folder))
        return found

    def ids(self) -> list[str]:
        """Cell and sample of all lines on disk, read without pgbench."""
        lines = ((path, line) for path in self.files() for line in path.read_bytes().splitlines())
        return [f"{path.parent.name} {json.loads(line)['id']}" for path, line in lines]


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


TINY_TASK = """\
import dataclasses
from pgbench_tasks.textvqa import TASK as REAL

def source(request):
    found = REAL.sources["demo"](request)
    return dataclasses.replace(found, samples=found.samples[{part}])

TASK = dataclasses.replace(REAL, name="{name}", sources={{"demo": source}})
"""


def tiny_sweep(folder: Path, **options: str) -> Path:
    """Writes a sweep file: 2 checkpoints x 3 levels x 2 tasks in float32, unless `options` say otherwise."""
    for name, part in (("early", ":100"), ("late", "100:")):
        (folder / f"{name}.py").write_text(TINY_TASK.format(name=name, part=part))
    said = {
        "defaults": "{source: demo, limit: 40, batch_size: 4}",
        "checkpoints": "[tiny-gemma, tiny-gemma2]",
        "quant": "[none, 8bit, 4bit]",
        "dtypes": "[float32]",
        "tasks": "[./early.py, ./late.py]",
    }
    return _written(folder / "tiny.yaml", said | options)


def oracle_sweep(folder: Path, cells: int, limit: int, seconds: float = 0.004) -> Path:
    """Writes a sweep file: the oracle on the slow task, in so many orders."""
    slow_task(folder, seconds)
    orders = ", ".join(f"{{task: ./slow.py, backend: oracle, seed: {seed}}}" for seed in range(cells))
    said = {
        "defaults": f"{{limit: {limit}, batch_size: 2, max_failures: {SLOW_FAILURES}}}",
        "include": f"[{orders}]",
    }
    return _written(folder / "oracle.yaml", said)


def _written(path: Path, said: Mapping[str, str]) -> Path:
    path.write_text("".join(f"{key}: {value}\n" for key, value in said.items()))
    return path


def descendants(pid: int) -> list[tuple[int, str]]:
    """Number and command line of every process below this one; Linux alone tells."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(stat.parent.name))
    found, left = [], [pid]
    while left:
        for child in parents.get(left.pop(), []):
            left.append(child)
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ")
                found.append((child, words.decode(errors="replace").strip()))
    return found


def tear(path: Path, generator: random.Random) -> int:
    """Cuts a file somewhere in its last line, as a power cut can; the bytes that are gone."""
    data = path.read_bytes()
    last = data.rfind(b"\n", 0, len(data) - 1) + 1
    kept = generator.randrange(last + 1, len(data))
    os.truncate(path, kept)
    return len(data) - kept


# Loaded by every Python below it: from so many bytes on, nothing below --out can be written any more. The
# write that meets the limit gets half-way, as on a real disk.
FULL_DISK = """\
import errno, io, os
OUT, LEFT = os.environ["FULL_OUT"], [int(os.environ["FULL_BYTES"])]
_write, _open, _io_open = os.write, os.open, io.open

def _full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

def _inside(file):
    try:
        return os.readlink(f"/proc/self/fd/{file}").startswith(OUT)
    except OSError:
        return False

def write(file, data):
    if not _inside(file):
        return _write(file, data)
    LEFT[0] -= len(data)
    if LEFT[0] <= 0:
        _write(file, data[: len(data) // 2])
        _full()
    return _write(file, data)

def opened(path, flags, *more, **named):
    if LEFT[0] <= 0 and flags & os.O_CREAT and str(path).startswith(OUT) and not os.path.exists(path):
        _full()
    return _open(path, flags, *more, **named)

def io_opened(path, mode="r", *more, **named):
    if LEFT[0] <= 0 and set(mode) & set("wax") and str(path).startswith(OUT):
        _full()
    return _io_open(path, mode, *more, **named)

os.write, os.open, io.open = write, opened, io_opened
"""


def full_disk(folder: Path, out: Path, room: int) -> dict[str, str]:
    """The environment of a process below which the disk of `out` is full after `room` bytes."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(FULL_DISK)
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    return {"PYTHONPATH": paths, "FULL_OUT": str(out), "FULL_BYTES": str(room)}


def wait_for(command: Command | Sweep, process: subprocess.Popen[str], answers: int) -> bool:
    """Waits until so many answers are on disk; False where the process ended before."""
    limit = time.monotonic() + PATIENCE
    while command.kept() < answers:
        if process.poll() is not None:
            return False
        if time.monotonic() > limit:
            process.kill()
            raise RuntimeError(f"no {answers} answers after {PATIENCE:g} s")
        time.sleep(0.002)
    return process.poll() is None


def kill_repeatedly(
    command: Command | Sweep,
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
    return [name for name in sorted({*left, *right}) if left.get(name) != right.get(name)]

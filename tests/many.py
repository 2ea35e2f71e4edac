"""A task whose samples are computed when they are asked for, and what a process that runs it takes.

The tests use it with thousands of samples, `make prove` (benchmarks/million.py) with a million.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kills import Command

from pgbench.samples import SAMPLES

BATCH = 8  # the default of --batch-size
PATIENCE = 3600.0  # seconds for one session

# Images with four questions each, which is one breakdown. One answer in ten is wrong.
TASK = """\
import hashlib
from collections.abc import Sequence

from pgbench.metrics import mean
from pgbench.types import Dataset, Metric, Pixels, Sample, Task

COUNT = {count}
KINDS = ("colour", "number", "place", "yes or no")

class Computed(Sequence):
    def __len__(self):
        return COUNT

    def __getitem__(self, number):
        if not 0 <= number < COUNT:
            raise IndexError(number)
        image, question = divmod(number, 4)
        return Sample(
            id=f"q{{number:07}}",
            images=(),
            question=f"what is the {{KINDS[question]}} in image {{image}}?",
            target=str(number % 7),
            groups={{"kind": KINDS[question]}},
            cluster=f"image {{image:06}}",
        )

def source(request):
    return Dataset(Computed(), hashlib.sha256(b"computed %d" % COUNT).hexdigest(), "computed")

def exact(unit):
    ((sample, text),) = unit
    return {{"sum": float(text == sample.target), "n": 1.0, "invalid": float(not text)}}

TASK = Task(
    name="million",
    version=1,
    title="Samples that are computed when they are asked for",
    sources={{"computed": source}},
    splits={{"val": COUNT}},
    prompt=lambda sample, profile, variant: f"answer en {{sample.question}}",
    gold=lambda sample: "no" if sample.id.endswith("3") else sample.target,
    metrics=(Metric("accuracy", exact, mean, "tests/many.py", primary=True),),
    pixels=Pixels(antialias=True, text_len=32),
    max_new_tokens=4,
    cite="",
    licence="",
)
"""


@dataclass(frozen=True, slots=True)
class Session:
    """One process."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def command(work: Path, samples: int, name: str) -> Command:
    """`pgbench run` of so many samples, a multiple of 40."""
    task = work / f"of_{samples}.py"
    task.write_text(TASK.format(count=samples))
    return Command(("--task", str(task), "--backend", "oracle"), work / name)


def watched(command: Command, enough: Callable[[], bool] = lambda: False, pause: float = 0.02) -> Session:
    """One session, killed as soon as it did `enough`. Raises RuntimeError where it does not end well.

    A run sets its own high-water mark of memory back when it has read its data, and the mark is what the
    system reports at the end: so it is read all along.
    """
    before, process, peak, seconds = time.perf_counter(), command.start(), 0, 0.0
    while True:
        peak = max(peak, high_water(process.pid))
        if not seconds and enough():
            seconds = time.perf_counter() - before
            process.kill()
        if time.perf_counter() - before > PATIENCE:
            process.kill()
        time.sleep(pause)
        ended, code, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
    killed, seconds = seconds > 0, seconds or time.perf_counter() - before
    process.returncode = os.waitstatus_to_exitcode(code)
    _, said = process.communicate()
    if process.returncode and not (killed and process.returncode == -signal.SIGKILL):
        raise RuntimeError(f"pgbench exited with {process.returncode}: {said.strip()[-500:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Session(seconds, usage.ru_utime + usage.ru_stime, max(peak, usage.ru_maxrss * unit))


def high_water(pid: int) -> int:
    """VmHWM of a process in bytes; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def resumed(run: Command, samples: int) -> Session:
    """From its start until a run goes on of which all but the last batch is there; it is killed then."""
    if (folder := run.folder()) is None:
        raise RuntimeError("the run left no answers")
    (folder / "record.json").unlink(missing_ok=True)
    kept = _cut(folder / SAMPLES, samples - BATCH)
    return watched(run, lambda: (folder / SAMPLES).stat().st_size > kept, pause=0.001)


def _cut(path: Path, lines: int) -> int:
    """Leave so many lines of a file; returns its size in bytes."""
    with path.open("r+b") as file:
        for _ in range(lines):
            file.readline()
        file.truncate(file.tell())
        return file.tell()

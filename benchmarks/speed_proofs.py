"""The proofs of prove.py on speed: flat memory, batches that do not fit, and the ratios of engine.py.

Each returns its figures, "passed" among them, and raises RuntimeError where a run does not end well.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from engine_cells import Asked, cell_of, folder_of, samples_of
from kills import Command  # tests/kills.py
from many import watched  # tests/many.py
from provenance import ROOT

from pgbench.records import RunRecord, SampleLine
from pgbench.runner import run
from pgbench.samples import read_lines
from pgbench.types import Sample

Figures: TypeAlias = dict[str, object]

FEW, MANY = 500, 20_000
MOST_MORE_BYTES = 50 * 10**6
FAILING = 0.05  # of the passes over more than one row
RUNS = 4
SEED = 7
SCOPE = ("--levels", "float32", "bfloat16", "4bit")

# Pictures of noise, two questions each, computed when they are asked for, so that only pgbench can keep them.
TASK = """\
import dataclasses, functools, hashlib, random
from collections.abc import Sequence

from pgbench.types import Dataset, Image, Sample
from pgbench_tasks.textvqa import TASK as REAL

COUNT, SIDE = {count}, 64
QUESTIONS = ("what color is the sign?", "which character is on the sign?")

def picture(number):
    return b"P6 %d %d 255 " % (SIDE, SIDE) + random.Random(number).randbytes(3 * SIDE * SIDE)

class Computed(Sequence):
    def __len__(self):
        return COUNT

    def __getitem__(self, number):
        if not 0 <= number < COUNT:
            raise IndexError(number)
        image, question = divmod(number, 2)
        return Sample(
            id=f"q{{number:06}}",
            images=(Image(f"{{image}}.ppm", functools.partial(picture, image)),),
            question=QUESTIONS[question],
            target=("red",) * 10,
            cluster=f"image {{image:06}}",
        )

def source(request):
    return Dataset(Computed(), hashlib.sha256(b"noise %d" % COUNT).hexdigest(), "noise", demo=True)

TASK = dataclasses.replace(REAL, name="noise", sources={{"demo": source}}, splits={{"val": COUNT}})
"""


def flat_memory(work: Path, model: str, few: int = FEW, many: int = MANY) -> Figures:
    """What a process that runs a checkpoint holds at most, with few samples and with many."""
    peaks, seconds = [], []
    for count in (few, many):
        session = watched(_noise(work, model, count))
        peaks.append(session.peak_bytes)
        seconds.append(round(session.seconds, 1))
    less, more = peaks
    return {
        "samples": [few, many],
        "peak_bytes": peaks,
        "seconds": seconds,
        "more_bytes": more - less,
        "passed": less > 10**8 and more - less <= MOST_MORE_BYTES,
    }


def _noise(work: Path, model: str, count: int) -> Command:
    task = work / f"noise_{count}.py"
    task.write_text(TASK.format(count=count))
    flags = ("--task", str(task), "--source", "demo", "--model", model, "--dtype", "float32")
    return Command((*flags, "--batch-size", "32", "--device", "cpu"), work / str(count))


@dataclass(slots=True)
class Cramped:
    """A device that at random has no room for a pass over more than one row."""

    drawn: random.Random
    share: float
    failed: int = 0

    def put_in(self, model: Any) -> None:
        """In front of the text model and of the vision tower."""
        for part in (model.model.language_model, model.model.vision_tower):
            part.register_forward_pre_hook(self._look, with_kwargs=True)

    def _look(self, _module: object, given: Sequence[Any], named: dict[str, Any]) -> None:
        import torch

        rows = max(len(value) for value in (*given, *named.values()) if isinstance(value, torch.Tensor))
        if rows > 1 and self.drawn.random() < self.share:
            self.failed += 1
            raise torch.OutOfMemoryError("simulated")


def out_of_memory(work: Path, model: str, runs: int = RUNS, samples: int = 200) -> Figures:
    """Runs in float32 that meet simulated lack of memory at random, against one that does not."""
    asked = Asked(model, "float32", 4, samples, batch=16)
    drawn = samples_of(asked)
    whole, answers = _run(asked, drawn, work / "whole", lambda model: None)
    equal, told, failed, halved = 0, True, 0, 0
    for number in range(runs):
        cramped = Cramped(random.Random(f"{SEED} {number}"), FAILING)
        record, lines = _run(asked, drawn, work / f"cramped {number}", cramped.put_in)
        equal += sum(lines[name].output == line.output for name, line in answers.items())
        batches = {line.batch for line in lines.values() if line.halved}
        told &= record.scores == whole.scores and record.cost.halved == len(batches)
        failed, halved = failed + cramped.failed, halved + len(batches)
    return {
        "runs": runs,
        "samples": samples,
        "failed_passes": failed,
        "batches_halved": halved,
        "batches": runs * len({line.batch for line in answers.values()}),
        "equal_share": equal / (runs * samples),
        "records_agree": told,
        "passed": equal == runs * samples and told and failed >= runs <= halved and not whole.cost.halved,
    }


def _run(
    asked: Asked, samples: Sequence[Sample], out: Path, prepared: Callable[[Any], None]
) -> tuple[RunRecord, dict[str, SampleLine]]:
    """The record and the lines by sample; `prepared` gets the model as soon as it is loaded."""
    cell = cell_of(asked, folder_of(asked.checkpoint, out.parent), samples)

    def load() -> Any:
        backend: Any = cell.engine.load()
        prepared(backend._loaded.model)  # noqa: SLF001
        return backend

    outcome = run(replace(cell, engine=replace(cell.engine, load=load), reuse=False), out)
    return outcome.record, {line.id: line for line in read_lines(outcome.folder)}


def ratios(work: Path, checkpoint: str) -> Figures:
    """The rows of engine.py for one checkpoint, in a process of their own, held against its thresholds."""
    words = [str(ROOT / "benchmarks" / "engine.py"), "--json", "--checkpoints", checkpoint, *SCOPE]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, cwd=work)
    if done.returncode not in (0, 1) or not done.stdout.startswith("{"):
        raise RuntimeError(f"engine.py exited with {done.returncode}: {done.stderr.strip()[-300:]}")
    found = json.loads(done.stdout)
    return {"rows": found["rows"], "passed": found["passed"]}

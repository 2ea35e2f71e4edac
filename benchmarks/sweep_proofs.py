"""The proofs of prove.py on sweeps: whatever dies, and however many processes work, the records are the same.

Each returns its figures, "passed" among them, and raises RuntimeError where a sweep does not end well.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

# tests/kills.py
from kills import (
    Sweep,
    descendants,
    differing,
    ended,
    full_disk,
    kill_repeatedly,
    started,
    tear,
    tiny_sweep,
    wait_for,
)

from pgbench.errors import INCOMPLETE
from pgbench.profiles import SIGNS
from pgbench.samples import read_lines

Figures: TypeAlias = dict[str, object]

CELLS = 12
KILLS_A_SWEEP = 10
CUTS = 6  # power cuts, and full disks
WORKER_KILLS = 4
SEED = 4
LEAST_EQUAL = 0.98  # share of answers, where rounding is no longer exact
LEVELS = {  # what is compared between engines: dtype and level
    "float32": ("[float32]", "[none]"),
    "bfloat16": ("[bfloat16]", "[none]"),
    "4bit": ("[bfloat16]", "[4bit]"),
}
ENGINES = {"local": ("--engine", "local", "--workers", "2"), "ray": ("--engine", "ray", "--workers", "2")}
# The command line of a worker process. Ray's agents are "ray::" too, and take their node down with them.
WORKER = {"local": re.compile(".* -m pgbench worker "), "ray": re.compile("ray::Worker")}


def killed_sweep(work: Path, kills: int) -> Figures:
    """SIGKILL at random moments of a sweep of both shipped checkpoints at three levels on two tasks."""
    generator, whole, session = _undisturbed(work)
    total, landed, faults = len(whole.ids()), 0, Faults(whole)
    kept: list[list[int]] = []
    while landed < kills and len(kept) < kills:
        sweep = Sweep(whole.file, work / f"round-{len(kept)}")
        count = min(KILLS_A_SWEEP, kills - landed)
        found = kill_repeatedly(sweep, count, total, generator, session=session / 2)
        landed += found.kills
        kept.append(found.kept)
        faults.look(sweep)
    monotone = all(numbers == sorted(numbers) for numbers in kept)
    return faults.figures(
        landed >= kills and monotone, kills=landed, sweeps=len(kept), answers_kept_after_each=kept
    )


def torn_lines(work: Path) -> Figures:
    """Killed, and the last line of every unfinished file cut somewhere, as by a power cut, six times."""
    generator, whole, _ = _undisturbed(work)
    sweep, bytes_lost = Sweep(whole.file, work / "torn"), []
    for cut in range(CUTS):
        process = sweep.start()
        wait_for(sweep, process, len(whole.ids()) * (cut + 1) // (CUTS + 1))
        process.kill()
        process.communicate()
        bytes_lost += [tear(path, generator) for path in sweep.unfinished()]
    sweep.finish()
    faults = Faults(whole).look(sweep)
    return faults.figures(len(bytes_lost) >= CUTS // 2, torn=len(bytes_lost), bytes_lost=bytes_lost)


def full_disks(work: Path) -> Figures:
    """The disk is full after so many bytes, the write that meets it half done; each time a little later."""
    generator, whole, _ = _undisturbed(work)
    size = sum(path.stat().st_size for path in whole.files())
    out, kept, codes = work / "full", [], []
    for _ in range(CUTS):
        room = generator.randrange(size // 20, size // CUTS)
        cramped = Sweep(whole.file, out, environment=full_disk(work / "disk", out, room))
        process = cramped.start()
        said = "".join(process.communicate(timeout=300))
        if "No space left on device" not in said or "Traceback" in said:
            raise RuntimeError(f"a full disk was not told: {said[-500:]}")
        codes.append(process.returncode)
        kept.append(cramped.kept())
    sweep = Sweep(whole.file, out)
    sweep.finish()
    good = codes == [INCOMPLETE] * CUTS and kept == sorted(kept)
    return Faults(whole).look(sweep).figures(good, full=CUTS, exit_codes=codes, answers_kept_after_each=kept)


def killed_worker(work: Path, engine: str) -> Figures:
    """SIGKILL of worker processes of a running sweep, which goes on by itself, or is started once more."""
    generator, whole, _ = _undisturbed(work)
    sweep = Sweep(whole.file, work / engine, ENGINES[engine])
    process, killed, restarts = sweep.start(), [], 0
    for turn in range(WORKER_KILLS):
        if not _wait_for(sweep, process, len(whole.ids()) * (turn + 1) // (WORKER_KILLS + 2)):
            break
        workers = [pid for pid, words in descendants(process.pid) if WORKER[engine].match(words)]
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(generator.choice(workers), signal.SIGKILL)
                killed.append(sweep.kept())
    said = "".join(process.communicate(timeout=600))
    if process.returncode not in (0, INCOMPLETE) or "Traceback" in said:
        raise RuntimeError(f"the sweep exited with {process.returncode}: {said[-500:]}")
    if process.returncode:
        restarts += 1
        sweep.finish()
    return (
        Faults(whole)
        .look(sweep)
        .figures(bool(killed), workers_killed=len(killed), answers_kept_then=killed, started_again=restarts)
    )


def _wait_for(sweep: Sweep, process: subprocess.Popen[str], answers: int) -> bool:
    """As `wait_for`, with the patience that starting Ray takes."""
    limit = time.monotonic() + 300
    while sweep.kept() < answers and time.monotonic() < limit:
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return process.poll() is None


def engines_agree(work: Path, level: str) -> Figures:
    """One process, two local workers, two Ray workers, and two shards merged: the same cells four times."""
    dtypes, quant = LEVELS[level]
    file = tiny_sweep(work, dtypes=dtypes, quant=quant, defaults="{source: demo, limit: 100, batch_size: 4}")
    whole = Sweep(file, work / "serial")
    whole.finish()
    sweeps = {name: Sweep(file, work / name, flags) for name, flags in ENGINES.items()}
    for sweep in sweeps.values():
        sweep.finish()
    sweeps["shards merged"] = _sharded(work, file, dtypes.strip("[]"), quant.strip("[]"))
    shares = {name: _equal_share(whole, sweep) for name, sweep in sweeps.items()}
    faults = Faults(whole)
    for sweep in sweeps.values():
        faults.look(sweep)
    figures = faults.figures(True, equal_share=shares)
    exact = level == "float32"
    good = all(share >= (1.0 if exact else LEAST_EQUAL) for share in shares.values()) and not faults.twice
    return {**figures, "passed": good and (not faults.different or not exact)}


def _sharded(work: Path, file: Path, dtype: str, quant: str) -> Sweep:
    """The same cells by `pgbench run --shard` and `pgbench merge`."""
    sweep = Sweep(file, work / "shards")
    tasks = [str(work / f"{name}.py") for name in ("early", "late")]
    for model in SIGNS:
        for task in tasks:
            flags = ("--task", task, "--model", model, "--dtype", dtype, "--quant", quant, "--source", "demo")
            more = ("--limit", "100", "--batch-size", "4", "--out", str(sweep.out))
            for shard in ("1/2", "0/2"):
                ended(started("run", *flags, *more, "--shard", shard))
    ended(started("merge", str(sweep.out), *(word for task in tasks for word in ("--task", task))))
    return sweep


def _equal_share(left: Sweep, right: Sweep) -> float:
    """Of the answers of one sweep, those that the other gave as well."""
    answers = [dict(_answers(sweep)) for sweep in (left, right)]
    if answers[0].keys() != answers[1].keys():
        return 0.0
    return sum(answers[1][name] == text for name, text in answers[0].items()) / len(answers[0])


def _answers(sweep: Sweep) -> Iterator[tuple[str, str]]:
    for folder in sorted({path.parent for path in sweep.files()}):
        yield from ((f"{folder.name} {line.id}", line.output) for line in read_lines(folder))


class Faults:
    """What is wrong with sweeps, against one that was left alone."""

    def __init__(self, whole: Sweep) -> None:
        self._whole = whole.result()
        self._samples = len(whole.ids())
        self.different: set[str] = set()
        self.twice = self._lost = 0

    def look(self, sweep: Sweep) -> Faults:
        ids = sweep.ids()
        self.different.update(differing(self._whole, sweep.result()))
        self.twice += len(ids) - len(set(ids))
        self._lost += self._samples - len(set(ids))
        return self

    def figures(self, good: bool, **more: object) -> Figures:
        """`good`: what else has to hold."""
        found: Mapping[str, object] = {
            "cells": len(self._whole),
            "samples": self._samples,
            "samples_twice": self.twice,
            "samples_lost": self._lost,
            "cells_that_differ": sorted(self.different),
        }
        passed = good and bool(self._samples) and not self.different and not self.twice and not self._lost
        return {**more, **found, "passed": passed}


def _undisturbed(work: Path) -> tuple[random.Random, Sweep, float]:
    """A generator, the sweep that was left alone, and its seconds."""
    whole = Sweep(tiny_sweep(work), work / "whole")
    seconds = whole.finish()
    if len(whole.result()) != CELLS:
        raise RuntimeError(f"{len(whole.result())} cells instead of {CELLS}")
    return random.Random(SEED), whole, seconds

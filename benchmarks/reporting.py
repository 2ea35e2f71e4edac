"""How long the tables take: a report over a thousand records, and the comparison of two runs.

The runs are planted (tests/planted.py): TextVQA's 5,000 questions, answered without a model. A thousand cells
are made of one, each with a record of its own; their samples are links to the same files, which an unpaired
report does not open. The two runs that are compared disagree on 8 % of the questions.
Measured are whole processes of `pgbench report` and `pgbench compare`, median of three. CPU seconds are held
against the bounds: they are what an idle core would take.
Prints the figures as JSON. Exits 1 where they are not within the bounds below.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from provenance import ROOT

from pgbench import store
from pgbench.durable import write_json
from pgbench.samples import files_of
from pgbench.types import Quant

Figures: TypeAlias = dict[str, object]

RECORDS = 1_000
SAMPLES = 5_000  # of TextVQA's val split
FLIPS = 0.08
RUNS = 3
MOST_REPORT_SECONDS = 10.0
MOST_COMPARE_SECONDS = 2.0
LEVELS: tuple[Quant, ...] = ("none", "8bit", "4bit", "fp4")


def report_of_many(work: Path, records: int = RECORDS, samples: int = SAMPLES) -> Figures:
    """`pgbench report` over so many cells. Raises RuntimeError where it does not end well."""
    before, _ = _two_runs(work / "seed", samples)
    _multiply(before, work / "runs", records)
    table = work / "table.tex"
    times = [
        _timed("report", str(work / "runs"), "--format", "latex", "--out", str(table)) for _ in range(RUNS)
    ]
    if (found := table.read_text(encoding="utf-8").count(r"\scriptsize")) < records:
        raise RuntimeError(f"the table has {found} intervals of {records} cells")
    return _figures(times, MOST_REPORT_SECONDS) | {"records": records, "samples": samples}


def compare_two(work: Path, samples: int = SAMPLES) -> Figures:
    """`pgbench compare` of two runs. Raises RuntimeError where it does not end well."""
    runs = _two_runs(work, samples)
    times = [_timed("compare", *map(str, runs)) for _ in range(RUNS)]
    return _figures(times, MOST_COMPARE_SECONDS) | {"samples": samples, "flips": int(FLIPS * samples)}


def _two_runs(work: Path, samples: int) -> tuple[Path, Path]:
    import planted  # tests/planted.py

    asked = planted.textvqa(samples)
    both = planted.flipped(planted.gold("textvqa", asked), int(FLIPS * samples), samples // 100)
    points = planted.checkpoint(), planted.checkpoint(quant="4bit")
    before, after = (
        planted.plant(work, asked, answers, point).folder for answers, point in zip(both, points, strict=True)
    )
    return before, after


def _multiply(seed: Path, runs: Path, records: int) -> None:
    """The same run as so many cells: checkpoints at every level of quantization."""
    record = store.read_record(seed)
    if record is None:
        raise RuntimeError("the planted run left no record")
    for number in range(records):
        level = LEVELS[number % len(LEVELS)]
        point = replace(
            record.spec.checkpoint, id=f"org/paligemma-3b-mix-224-{number // len(LEVELS)}", quant=level
        )
        spec = replace(record.spec, checkpoint=point)
        folder = store.folder_of(runs, spec)
        write_json(folder / "record.json", store.plain(replace(record, spec=spec, key=spec.key)))
        for path in (*files_of(seed), seed / "units.jsonl"):
            if path.is_file():
                os.link(path, folder / path.name)


def _timed(*arguments: str) -> tuple[float, float]:
    """Wall and CPU seconds of a process of pgbench."""
    command = [sys.executable, "-m", "pgbench", *arguments]
    before = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read() if process.stderr else b""
    _, code, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise RuntimeError(f"pgbench {arguments[0]} exited with {process.returncode}: {said[-500:].decode()}")
    return time.perf_counter() - before, usage.ru_utime + usage.ru_stime


def _figures(times: Sequence[tuple[float, float]], most: float) -> Figures:
    wall, cpu = (statistics.median(values) for values in zip(*times, strict=True))
    return {
        "seconds": wall,
        "cpu_seconds": cpu,
        "most_seconds": most,
        "runs": len(times),
        "passed": cpu <= most,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))  # for planted.py
    with tempfile.TemporaryDirectory(prefix="pgbench-reporting-") as work:
        found = {
            "report": report_of_many(Path(work, "many"), asked.records, asked.samples),
            "compare": compare_two(Path(work, "two"), asked.samples),
        }
    print(json.dumps(found, indent=1))
    return 0 if all(figures["passed"] for figures in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

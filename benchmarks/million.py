"""A cell of a million oracle samples: what pgbench itself takes, a sample, beside the model.

The samples are computed when they are asked for: 250,000 images with four questions each, one breakdown.
Measured are whole processes of `pgbench run`, with batches of eight: seconds and the largest resident set,
and how long a run of which all but the last batch is there takes from its start until it goes on. CPU
seconds are held against the bounds: they are what an idle core would take.
Prints the figures as JSON. Exits 1 where they are not within the bounds below.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from provenance import ROOT

from pgbench import store
from pgbench.records import RunRecord, essence

if TYPE_CHECKING:
    from many import Session

Figures: TypeAlias = dict[str, object]

SAMPLES = 1_000_000
RUNS = 3
MOST_BYTES = 400 * 10**6
MOST_MICROSECONDS = 150.0  # a sample, of the whole process
MOST_RESUME_MICROSECONDS = 15.0  # a finished sample


def million(work: Path, samples: int = SAMPLES, runs: int = RUNS) -> Figures:
    """The figures, and whether all are within bounds. Raises RuntimeError where a run does not end well."""
    from many import BATCH, command, resumed, watched  # tests/many.py

    small = watched(command(work, samples // 10, "small"))
    whole = [command(work, samples, f"whole-{number}") for number in range(runs)]
    sessions = [watched(one) for one in whole]
    record = _record(whole[-1].folder())
    ways_back = [resumed(whole[-1], samples) for _ in range(runs)]
    last = watched(whole[-1])  # goes on to the end
    equal = essence(_record(whole[-1].folder()), ()) == essence(record, ())
    score = record.scores["accuracy"]
    peak = max(one.peak_bytes for one in (*sessions, *ways_back, last))
    overhead, resume = _figures(sessions, samples), _figures(ways_back, samples - BATCH)
    return {
        "samples": samples,
        "batch": BATCH,
        "runs": runs,
        "overhead": overhead,
        "resume": resume,
        "peak_bytes": peak,
        "peak_bytes_of_a_tenth": small.peak_bytes,
        "accuracy": score.value,
        "clusters": score.clusters,
        "record_equal_after_resume": equal,
        "passed": overhead["cpu_microseconds_a_sample"] <= MOST_MICROSECONDS
        and resume["cpu_microseconds_a_sample"] <= MOST_RESUME_MICROSECONDS
        and peak < MOST_BYTES
        and (score.n, score.clusters, score.value) == (samples, samples // 4, 0.9)
        and equal,
    }


def _figures(sessions: Sequence[Session], samples: int) -> dict[str, float]:
    """Medians; CPU seconds are what an idle core would take."""
    return {
        "cpu_microseconds_a_sample": statistics.median(one.cpu_seconds for one in sessions) / samples * 1e6,
        "microseconds_a_sample": statistics.median(one.seconds for one in sessions) / samples * 1e6,
    }


def _record(folder: Path | None) -> RunRecord:
    record = store.read_record(folder) if folder else None
    if record is None:
        raise RuntimeError("the run left no record")
    return record


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="a multiple of 40")
    parser.add_argument("--runs", type=int, default=RUNS)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))  # for many.py and kills.py
    with tempfile.TemporaryDirectory(prefix="pgbench-million-") as work:
        found = million(Path(work), asked.samples, asked.runs)
    print(json.dumps(found, indent=1))
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())

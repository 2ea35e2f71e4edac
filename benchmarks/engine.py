"""pgbench against the loop of the model card, on the same checkpoint and the same samples.

    python benchmarks/engine.py                               all rows of the acceptance, half an hour
    python benchmarks/engine.py --checkpoints tiny-gemma --levels float32 --questions 30 --json

The loop: processor and `generate` for one sample after another, batch 1, pictures decoded before the clock
starts. pgbench: the real runner on a cell, from plan to record, every answer stored; pictures are PPM files
in memory, which need no decoding. Samples, max_new_tokens, dtype and threads are the same. They take turns:
each round is a whole run by pgbench, loaded afresh so that nothing is known of the round before, and a share
of the loop's samples. Loading, warming up and letting go are not counted on either side.

Inside the model is what passes in calls of the model from outside (`generate`, image features, a forward);
what remains of the wall time is outside. CPU seconds say what it is on a machine that others use.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from engine_cells import CHECKPOINTS, LEVELS, Asked, folder_of, samples_of
from engine_sides import Card, Clock, Pass, by_pgbench
from provenance import ROOT, provenance

from pgbench.durable import write_json

Figures: TypeAlias = dict[str, object]

ROUNDS = 3
QUESTIONS = (1, 30)
SAMPLES = 4800  # about TextVQA's validation split; below float32, where answers alone count, a quarter
BATCH = 128  # on a CPU larger ones are hardly faster
LEAST_RATIO = {(False, 1): 5.0, (False, 30): 10.0, (True, 30): 2.5}  # wide, questions an image
LEAST_INSIDE = 0.9  # of the wall time, at 448 px and 30 questions an image
MOST_MICROSECONDS = 150.0  # a sample, outside the model
LEAST_EQUAL = 0.98  # of the answers below float32
WRITTEN = "results/bench/engine.json"


def measured(asked: Asked, work: Path, rounds: int = ROUNDS, folder: Path | None = None) -> Figures:
    """Figures of one row; `folder`: of a checkpoint that is not one of CHECKPOINTS.

    Raises PgbenchError where a run does not end well.
    """
    folder, samples = folder or folder_of(asked.checkpoint, work), samples_of(asked)
    few = samples[: 2 * asked.batch]
    by_pgbench(asked, folder, few, work / f"{asked.name} first")  # what is imported late is imported
    card = Card(asked, folder, samples)
    passes, shares = [], []
    for number in range(rounds):
        if number % 2:
            passes.append(by_pgbench(asked, folder, samples, work / f"{asked.name} {number}"))
        done = len(card.answers)
        spent = card.go_on(len(samples) * (number + 1) // rounds - done)
        shares.append((spent, len(card.answers) - done))
        if not number % 2:
            passes.append(by_pgbench(asked, folder, samples, work / f"{asked.name} {number}"))
    return figures(asked, passes, shares, card.answers)


def figures(
    asked: Asked, passes: Sequence[Pass], shares: Sequence[tuple[Clock, int]], card: Mapping[str, str]
) -> Figures:
    """Medians over the rounds. `shares`: what the loop took for so many samples in each."""
    count = len(card)
    ratios = [
        (spent.wall / loop) / (one.spent.wall / count)
        for one, (spent, loop) in zip(passes, shares, strict=True)
    ]
    equal = min(sum(one.answers.get(name) == text for name, text in card.items()) for one in passes)

    def median(of: Callable[[Pass], float]) -> float:
        return statistics.median(map(of, passes))

    found: Figures = {
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
        "ratio_cpu": round(
            sum(spent.cpu for spent, _ in shares) / count / median(lambda one: one.spent.cpu / count), 2
        ),
        "equal_share": equal / count,
        "inside_share": round(median(lambda one: one.inside.wall / one.spent.wall), 4),
        "outside_microseconds": round(
            median(lambda one: (one.spent.wall - one.inside.wall) / count * 1e6), 1
        ),
        "outside_cpu_microseconds": round(
            median(lambda one: (one.spent.cpu - one.inside.cpu) / count * 1e6), 1
        ),
        "inside_microseconds": round(median(lambda one: one.inside.wall / count * 1e6), 1),
        "inside_cpu_microseconds": round(median(lambda one: one.inside.cpu / count * 1e6), 1),
        "loop_cpu_microseconds": round(sum(spent.cpu for spent, _ in shares) / count * 1e6, 1),
        "loop_microseconds": round(sum(spent.wall for spent, _ in shares) / count * 1e6, 1),
        "samples": count,
        "different_answers": len(set(card.values())),
        "batch": asked.batch,
        "max_new_tokens": asked.max_new_tokens,
        "load_of_machine": round(os.getloadavg()[0], 2),
    }
    missed = list(_missed(asked, found))
    return {**found, "missed": missed, "passed": not missed}


def _missed(asked: Asked, found: Mapping[str, Any]) -> Iterator[str]:
    """The thresholds that a row does not reach."""
    exact = asked.level == "float32"
    if found["equal_share"] < (1.0 if exact else LEAST_EQUAL):
        yield f"equal answers {found['equal_share']:.4f}"
    if not exact:  # the ratios are those of float32
        return
    least = LEAST_RATIO.get((asked.wide, asked.questions), 0.0)
    if found["ratio"] < least:
        yield f"ratio {found['ratio']}, expected {least:g}"
    if found["outside_microseconds"] > MOST_MICROSECONDS:
        yield f"{found['outside_microseconds']} microseconds outside, expected {MOST_MICROSECONDS:g}"
    if asked.wide and asked.questions == max(QUESTIONS) and found["inside_share"] < LEAST_INSIDE:
        yield f"inside {found['inside_share']}, expected {LEAST_INSIDE:g}"


def rows(given: argparse.Namespace) -> Iterator[Asked]:
    for checkpoint, level, questions in itertools.product(given.checkpoints, given.levels, given.questions):
        asked = Asked(checkpoint, level, questions, 0, 1, given.max_new_tokens)
        if given.only and not any(text in asked.name for text in given.only):
            continue
        samples = given.samples or SAMPLES // (1 if level == "float32" else 4)
        yield replace(asked, samples=samples, batch=given.batch)


def main(argv: Sequence[str]) -> int:
    given = arguments().parse_args(argv)
    document: dict[str, object] = provenance("benchmarks/engine.py", WRITTEN)
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="pgbench-engine-") as top:
        for asked in rows(given):
            found[asked.name] = row = measured(asked, Path(top), given.rounds)
            if not given.json:
                print(told(asked, row), flush=True)
    passed = all(row["passed"] for row in found.values())
    whole = {**document, "cpu": processor(), "passed": passed, "rows": found}
    if given.json:
        print(json.dumps(whole, indent=1))
    if given.write:
        write_json(ROOT / WRITTEN, whole)
    return 0 if passed else 1


def told(asked: Asked, row: Mapping[str, Any]) -> str:
    return (
        f"{asked.name}: {row['ratio']} x the loop (CPU {row['ratio_cpu']}), {row['equal_share']:.2%} equal, "
        f"{row['inside_share']:.1%} inside, {row['outside_microseconds']} us a sample outside "
        f"(CPU {row['outside_cpu_microseconds']}), inside {row['inside_microseconds']} "
        f"(CPU {row['inside_cpu_microseconds']}), loop {row['loop_microseconds']} "
        f"(CPU {row['loop_cpu_microseconds']}), load {row['load_of_machine']}"
        + "".join(f"; MISSED {what}" for what in row["missed"])
    )


def processor() -> str:
    """The model's name of the CPU, and how many cores this process may use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    name = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoints", nargs="+", choices=CHECKPOINTS, default=list(CHECKPOINTS))
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=["float32", "bfloat16", "4bit"])
    parser.add_argument("--questions", nargs="+", type=int, default=list(QUESTIONS), help="an image")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="rows whose names hold one of these texts")
    parser.add_argument("--samples", type=int, help=f"instead of {SAMPLES}, and a quarter below float32")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"to {WRITTEN}")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

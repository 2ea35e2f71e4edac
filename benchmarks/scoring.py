"""How fast VQAv2 is scored: a validation split of drawn answers, by pgbench and by a plain transcription.

Both give the official script's table. The transcription (tests/vqav2_rules.py) keeps no text that it has
normalised once. Prints the ratios of the times, of the table and of the score with its interval; writes
results/bench/scoring.json. Exits 1 where the two tables differ, or where pgbench takes more than a tenth of
the time for either, or more than 500 MB.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time

from provenance import ROOT, provenance

from pgbench.durable import write_json
from pgbench.metrics.scoring import score
from pgbench.metrics.vqav2 import VQAV2_ACCURACY, official_table
from pgbench.types import Sample

WRITTEN = "results/bench/scoring.json"
QUESTIONS = 214_354
MOST_RATIO = 0.1
MOST_BYTES = 500_000_000

Rows = list[tuple[Sample, str]]


def drawn_rows(count: int, seed: int) -> Rows:
    """Questions with ten answers and a prediction: mostly one of the ten, as often another likely answer."""
    sys.path.insert(0, str(ROOT / "tests"))
    from vqav2_layout import LEADS, TYPES, Vocabulary

    generator = random.Random(seed)
    vocabulary = Vocabulary(generator)
    groups = [{"answer_type": TYPES.get(lead.split()[0], "other"), "question_type": lead} for lead in LEADS]
    rows: Rows = []
    for number in range(count):
        group = generator.choice(groups)
        answers = tuple(vocabulary.ten(group["answer_type"]))
        right = generator.random() < 0.7
        said = generator.choice(answers) if right else vocabulary.draw(group["answer_type"])
        said = generator.choices([said, said.capitalize(), f"{said}."], [94, 3, 3])[0]
        rows.append((Sample(str(number), (), "", answers, groups=group, cluster=str(number // 5)), said))
    return rows


def peak_bytes() -> int:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measured(rows: Rows) -> dict[str, object]:
    from vqav2_rules import evaluate  # tests/vqav2_rules.py

    start = time.process_time()
    ours = official_table(rows)
    took = time.process_time() - start
    import scipy.special  # noqa: F401  # the interval's quantile; 0.2 s once a process, and no scoring

    start = time.process_time()
    interval = score(VQAV2_ACCURACY, rows)
    took_interval = time.process_time() - start
    peak = peak_bytes()
    plain = ((said, one.target or (), *one.groups.values()) for one, said in rows)
    start = time.process_time()
    theirs = evaluate(plain)  # type: ignore[arg-type]
    took_plain = time.process_time() - start
    return {
        "questions": len(rows),
        "pgbench_seconds": took,
        "pgbench_interval_seconds": took_interval,
        "transcription_seconds": took_plain,
        "ratio": took / took_plain,
        "interval_ratio": took_interval / took_plain,
        "peak_bytes": peak,
        "overall": ours["overall"],
        "value": interval.value,
        "equal": ours == theirs,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    asked = parser.parse_args()
    document = provenance("benchmarks/scoring.py", WRITTEN)
    found = measured(drawn_rows(asked.questions, seed=7))
    for name, value in found.items():
        print(f"{name}: {round(value, 4) if isinstance(value, float) else value}")
    fast = all(_at_most(found[name], MOST_RATIO) for name in ("ratio", "interval_ratio"))
    passed = found["equal"] is True and fast and _at_most(found["peak_bytes"], MOST_BYTES)
    write_json(ROOT / WRITTEN, {**document, "passed": passed, **found})
    print(f"{'passed' if passed else 'FAILED'}; written to {WRITTEN}")
    return 0 if passed else 1


def _at_most(value: object, limit: float) -> bool:
    return isinstance(value, int | float) and value <= limit


if __name__ == "__main__":
    sys.exit(main())

"""MMMU's golden cases, judged by pgbench's public functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pgbench.metrics.mmmu import ACCURACY
from pgbench.metrics.scoring import score
from pgbench.types import Sample

Case = Mapping[str, Any]


def sample(case: Case) -> Sample:
    """The sample of a case. Ids may recur within a file; each case is scored by itself."""
    reference = case["reference"]
    given = reference["answer"]
    choice = reference["question_type"] == "multiple-choice"
    options = tuple(reference["index2ans"][letter] for letter in reference["all_choices"]) if choice else ()
    return Sample(case["id"], (), "", tuple(given) if isinstance(given, list) else given, options)


def verdict(case: Case) -> dict[str, float | None]:
    return {"score": score(ACCURACY, [(sample(case), case["prediction"])]).value}


def aggregate(cases: Sequence[Case]) -> dict[str, float | None]:
    groups: dict[str, list[tuple[Sample, str | None]]] = {}
    for case in cases:
        row = (sample(case), case["prediction"])
        for name in ("overall", "_".join(case["id"].split("_")[1:-1])):
            groups.setdefault(name, []).append(row)
    return {name: score(ACCURACY, rows).value for name, rows in groups.items()}

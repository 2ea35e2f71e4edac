"""CMMMU's golden cases, judged by pgbench's public functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pgbench_tasks.cmmmu import DISCIPLINES

from pgbench.metrics.cmmmu import ACCURACY, CHOICE, answer_accuracy
from pgbench.metrics.scoring import score
from pgbench.types import Sample

Case = Mapping[str, Any]


def sample(case: Case) -> Sample:
    reference = case["reference"]
    named = ("option1", "option2", "option3", "option4") if reference["type"] == CHOICE else ()
    options = tuple(reference.get(key) or "" for key in named)
    return Sample(case["id"], (), "", reference["answer"], options, fields={"type": reference["type"]})


def verdict(case: Case) -> dict[str, float | None]:
    if case["mode"] == "answer":
        reference = case["reference"]
        said = answer_accuracy(
            prediction=case["prediction"] or "", question_type=reference["type"], gold=reference["answer"]
        )
        return {"score": said}
    return {"score": score(ACCURACY, [(sample(case), case["prediction"])]).value}


def aggregate(cases: Sequence[Case]) -> dict[str, float | None]:
    groups: dict[str, list[tuple[Sample, str | None]]] = {}
    for case in cases:
        row = (sample(case), case["prediction"])
        category = case["reference"]["category"]
        for name in ("Overall", DISCIPLINES.get(category, category)):
            groups.setdefault(name, []).append(row)
    return {name: score(ACCURACY, rows).value for name, rows in groups.items()}

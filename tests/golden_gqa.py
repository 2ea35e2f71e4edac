"""GQA's golden cases, judged by pgbench's public functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pgbench_tasks.gqa import read_sample

from pgbench.metrics.gqa import ACCURACY, CONSISTENCY, METRICS, correct
from pgbench.metrics.scoring import score
from pgbench.types import Image, Sample

Case = Mapping[str, Any]
GROUPS = {
    "accuracyPerStructuralType": "structural",
    "accuracyPerSemanticType": "semantic",
    "accuracyPerSteps": "steps",
    "accuracyPerLength": "words",
}


def sample(case: Case) -> Sample:
    record = case["reference"]
    found = read_sample(record["questionId"], record, case["id"], Image("", bytes))
    choices = {key: tuple(record[key]) for key in ("valid", "plausible") if key in record}
    return replace(found, fields={**found.fields, **choices})


def verdict(case: Case) -> dict[str, bool]:
    if not case["reference"]["isBalanced"]:
        return {}
    return {"correct": correct(case["prediction"], case["reference"]["answer"])}


def aggregate(cases: Sequence[Case]) -> dict[str, Any]:
    rows = [(sample(case), case["prediction"]) for case in cases]
    # The cases entail each other across images, which no published question does.
    together = replace(CONSISTENCY, unit_of=lambda _: "")
    values = {one.name: score(one, rows).value for one in (*METRICS, together)}
    found: dict[str, Any] = {
        name: value if value is None or name == "distribution" else 100 * value
        for name, value in values.items()
    }
    for name, group in GROUPS.items():
        kinds = {one.groups[group] for one, _ in rows if group in one.groups}
        found[name] = {kind: of_group(rows, group, kind) for kind in sorted(kinds)}
    return found


def of_group(rows: Sequence[tuple[Sample, str]], group: str, kind: str) -> float | None:
    value = score(ACCURACY, [row for row in rows if row[0].groups.get(group) == kind]).value
    return None if value is None else 100 * value

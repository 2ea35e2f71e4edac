"""ScienceQA for `evaluate`."""

from __future__ import annotations

from typing import Any

import datasets

from pgbench.evaluate_modules import adapter
from pgbench.metrics.scienceqa import LETTERS
from pgbench.types import Sample


class ScienceQA(adapter.BenchmarkMetric):
    """A reference has the `choices` and the `answer`, which is the position of the right one, from 0."""

    task = "scienceqa"
    required = ("answer", "choices")
    reference = {  # noqa: RUF012 - evaluate reads it, nobody changes it
        "answer": datasets.Value("int64"),
        "choices": datasets.Sequence(datasets.Value("string")),
    }

    def sample(self, number: str, reference: dict[str, Any]) -> Sample:
        right = reference["answer"]
        letter = LETTERS[right : right + 1]  # "" beyond them, which the metric refuses with a reason
        return Sample(number, (), "", letter, tuple(reference["choices"]))

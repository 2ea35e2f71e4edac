"""MMMU for `evaluate`."""

from __future__ import annotations

from typing import Any

import datasets

from pgbench.evaluate_modules import adapter
from pgbench.types import Sample


class MMMU(adapter.BenchmarkMetric):
    """A reference has `answers` (right letters, or texts) and `options`; an open question has no options."""

    task = "mmmu"
    required = ("answers",)
    reference = {  # noqa: RUF012 - evaluate reads it, nobody changes it
        "answers": datasets.Sequence(datasets.Value("string")),
        "options": datasets.Sequence(datasets.Value("string")),
    }

    def sample(self, number: str, reference: dict[str, Any]) -> Sample:
        return Sample(number, (), "", tuple(reference["answers"]), tuple(reference["options"] or ()))

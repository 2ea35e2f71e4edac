"""MMVP for `evaluate`."""

from __future__ import annotations

from typing import Any

import datasets

from pgbench.evaluate_modules import adapter
from pgbench.types import Sample


class MMVP(adapter.BenchmarkMetric):
    """A reference has the `options`, the `answer` (a letter) and a `pair`, which two references share."""

    task = "mmvp"
    required = ("answer", "options")
    reference = {  # noqa: RUF012 - evaluate reads it, nobody changes it
        "answer": datasets.Value("string"),
        "options": datasets.Sequence(datasets.Value("string")),
        "pair": datasets.Value("string"),
    }

    def sample(self, number: str, reference: dict[str, Any]) -> Sample:
        options, pair = tuple(reference["options"]), reference["pair"] or ""
        return Sample(number, (), "", reference["answer"], options, cluster=pair)

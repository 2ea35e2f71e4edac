"""CMMMU for `evaluate`."""

from __future__ import annotations

from typing import Any

import datasets

from pgbench.evaluate_modules import adapter
from pgbench.types import Sample


class CMMMU(adapter.BenchmarkMetric):
    """A reference has the `answer`, the `type` (选择, 判断 or 填空) and, for a choice, the `options`."""

    task = "cmmmu"
    required = ("answer", "type")
    reference = {  # noqa: RUF012 - evaluate reads it, nobody changes it
        "answer": datasets.Value("string"),
        "type": datasets.Value("string"),
        "options": datasets.Sequence(datasets.Value("string")),
    }

    def sample(self, number: str, reference: dict[str, Any]) -> Sample:
        options = tuple(reference["options"] or ())
        return Sample(number, (), "", reference["answer"], options, fields={"type": reference["type"]})

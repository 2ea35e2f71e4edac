"""POPE for `evaluate`."""

from __future__ import annotations

from typing import Any

import datasets

from pgbench.evaluate_modules import adapter
from pgbench.types import Sample


class POPE(adapter.BenchmarkMetric):
    """A reference has the `label` (yes or no) and the `setting`: random, popular or adversarial.

    Scores are of the one setting there is, or the mean over all three.
    """

    task = "pope"
    reference = {  # noqa: RUF012 - evaluate reads it, nobody changes it
        "label": datasets.Value("string"),
        "setting": datasets.Value("string"),
    }

    def sample(self, number: str, reference: dict[str, Any]) -> Sample:
        return Sample(number, (), "", reference["label"], groups={"setting": reference["setting"]})

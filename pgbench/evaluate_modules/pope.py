"""POPE for `evaluate`."""

from __future__ import annotations

from typing import Any

import datasets

from pgbench.errors import DataError
from pgbench.evaluate_modules import adapter
from pgbench.types import Sample


class POPE(adapter.BenchmarkMetric):
    """A reference has the `label` (yes or no) and the `setting`: random, popular or adversarial.

    Scores are of the one setting there is, or the mean over all three.
    """

    task = "pope"
    required = ("label", "setting")
    reference = {  # noqa: RUF012 - evaluate reads it, nobody changes it
        "label": datasets.Value("string"),
        "setting": datasets.Value("string"),
    }

    def sample(self, number: str, reference: dict[str, Any]) -> Sample:
        if reference["label"] not in ("yes", "no"):  # the script would take No, or a typing error, for a yes
            raise DataError(f"sample {number}: the label should be 'yes' or 'no', got {reference['label']!r}")
        return Sample(number, (), "", reference["label"], groups={"setting": reference["setting"]})

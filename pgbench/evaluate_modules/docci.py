"""DOCCI for `evaluate`."""

from __future__ import annotations

import datasets

from pgbench.evaluate_modules import adapter
from pgbench.types import Sample


class DOCCI(adapter.BenchmarkMetric):
    """A reference is the annotator's caption. The numbers of characters, words and sentences are means."""

    task = "docci"
    reference = datasets.Value("string")

    def sample(self, number: str, reference: str) -> Sample:
        return Sample(number, (), "", reference)

"""TextVQA for `evaluate`."""

from __future__ import annotations

import datasets

from pgbench.evaluate_modules import adapter
from pgbench.types import Sample


class TextVQA(adapter.BenchmarkMetric):
    """A reference is the list of the annotators' answers."""

    task = "textvqa"
    reference = datasets.Sequence(datasets.Value("string"))

    def sample(self, number: str, reference: list[str]) -> Sample:
        return Sample(number, (), "", tuple(reference))

"""VQAv2 for `evaluate`."""

from __future__ import annotations

import datasets

from pgbench.evaluate_modules import adapter
from pgbench.types import Sample


class VQAv2(adapter.BenchmarkMetric):
    """A reference is the list of the annotators' answers."""

    task = "vqav2"
    reference = datasets.Sequence(datasets.Value("string"))

    def sample(self, number: str, reference: list[str]) -> Sample:
        return Sample(number, (), "", tuple(reference))

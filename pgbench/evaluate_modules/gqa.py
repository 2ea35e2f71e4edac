"""GQA for `evaluate`."""

from __future__ import annotations

from typing import Any

import datasets

from pgbench.evaluate_modules import adapter
from pgbench.types import Sample


class GQA(adapter.BenchmarkMetric):
    """A reference has the `answer`; the rest may be left out, and scores that need it are None then.

    `id` and `image` name the question and its picture; `balanced` (true if left out): it is scored;
    `structural`: types.structural; `common`: Common is part of types.detailed; `global`: groups.global;
    `entailed`: ids of questions; `valid`, `plausible`: answers, from the choices files.
    """

    task = "gqa"
    required = ("answer",)
    reference = {  # noqa: RUF012 - evaluate reads it, nobody changes it
        **dict.fromkeys(("answer", "id", "image", "structural", "global"), datasets.Value("string")),
        **dict.fromkeys(("balanced", "common"), datasets.Value("bool")),
        **dict.fromkeys(("entailed", "valid", "plausible"), datasets.Sequence(datasets.Value("string"))),
    }

    def sample(self, number: str, reference: dict[str, Any]) -> Sample:
        names = ("balanced", "structural", "common", "global", "entailed", "valid", "plausible")
        fields = {"balanced": True, **adapter.known(reference, *names)}
        name, image = reference["id"] or number, reference["image"] or ""
        return Sample(name, (), "", reference["answer"], fields=fields, cluster=image)

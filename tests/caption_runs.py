"""Finished runs whose answers are captions, made by the runner from a backend in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fakes import POINT, SPEC, TASK, Fake, make_cell, make_samples

from pgbench.runner import run
from pgbench.types import Sample

REFERENCE = "A cat sits on a mat. The mat is red."


def caption_run(
    out: Path,
    captions: Sequence[str | None],
    *,
    model: str = "fake",
    references: Mapping[int, str | tuple[str, ...] | None] | None = None,
) -> Path:
    """One sample a caption, each with a picture of its own; None: the sample failed. The run's folder."""
    given = references or {}
    samples: tuple[Sample, ...] = tuple(
        replace(sample, target=given.get(number, REFERENCE))
        for number, sample in enumerate(make_samples(len(captions)))
    )
    said = dict(zip((sample.id for sample in samples), captions, strict=True))
    backend = Fake(
        answer=lambda name: said[name] or "",
        broken={name: "no answer" for name, text in said.items() if text is None},
    )
    spec = replace(SPEC, checkpoint=replace(POINT, id=model))
    task = replace(TASK, splits={"val": len(captions)})
    return run(make_cell(samples, backend, task=task, spec=spec), out).folder

"""Which published numbers may stand beside a cell of pgbench.

A number joins on equal keys only: task, split, metric and group, and the model that both speak of; never on
a benchmark's name alone. An exact match is the same split under the same definition of the metric; a likely
one lacks a fact that its source does not state, which its footnote says. Two sources for one cell are two
matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pgbench.published.table import Published, rows
from pgbench.types import Family, Kind, Quant, RunSpec


@dataclass(frozen=True, slots=True)
class Key:
    """A cell of pgbench: what was measured, and of which model.

    PaliGemma's mix and ft checkpoints are told by family, size, resolution and what they were tuned on;
    every other model by its name as published.
    """

    task: str
    split: str
    metric: str
    group: str = ""  # "setting=random"
    variant: str | None = None  # None: any
    family: Family | None = None
    kind: Kind | None = None
    tuned_on: str | None = None  # None: not known
    params: str | None = None  # "3B"; None: not known
    resolution: int | None = None  # px
    quant: Quant = "none"
    model: str = ""
    official: bool = False  # asked in the words of the benchmark's authors


@dataclass(frozen=True, slots=True)
class Match:
    """A published number beside a cell, and what has to be said with it."""

    row: Published
    agreement: Literal["exact", "likely"]
    footnote: str


def column(
    task: str, split: str, metric: str, group: str = "", variant: str | None = None
) -> tuple[Match, ...]:
    """What is published of one metric on one split, of whatever model; exact matches first."""
    found = [
        row
        for row in rows(task)
        if row.match != "none"
        and (row.split, row.metric, row.group) == (split, metric, group)
        and (variant is None or row.variant in (None, variant))
    ]
    return _sorted([_matched(row, ()) for row in found])


def find(key: Key) -> tuple[Match, ...]:
    """What is published of one cell: every source, exact matches first."""
    found = column(key.task, key.split, key.metric, key.group, key.variant)
    return _sorted(
        [_matched(row, tuple(_doubts(row, key))) for row in (m.row for m in found) if _same(row, key)]
    )


def key_of(spec: RunSpec, metric: str, group: str = "") -> Key:
    """The key of one score of a run. A demo, an adapter, a likelihood run or one with a part of its layers
    quantized is nobody's published model.

    That a run was limited, or of another edition of its split, is for the caller to see.
    """
    point = spec.checkpoint
    partly = point.quant != "none" and point.quant_scope != "all"  # bitsandbytes' default is all layers
    own = point.demo or point.adapter or point.pixels_from or partly or spec.mode != "generate"
    published = not own
    name = point.id.rstrip("/").rsplit("/", 1)[-1]
    return Key(
        task=spec.task,
        split=spec.split,
        metric=metric,
        group=group,
        variant=spec.variant,
        family=point.profile.family,
        kind=point.profile.kind,
        tuned_on=point.profile.tuned_on,
        params=_size(name, point.profile.family) if published else None,
        resolution=point.resolution,
        quant=point.quant,
        model=name if published else "",
        official=point.profile.style == "official",
    )


def _size(name: str, family: Family) -> str | None:
    """The size that a checkpoint's name says. All of PaliGemma 1 is 3B."""
    if found := re.search(r"(?:^|[-_])(3|10|28)b(?:[-_]|$)", name.lower()):
        return f"{found[1]}B"
    return "3B" if family == "paligemma" else None


def _same(row: Published, key: Key) -> bool:
    """Whether a row speaks of the key's model, at its level of quantization."""
    if key.quant != row.quant and not (key.quant == "none" and row.quant == "unstated"):
        return False
    if row.kind in ("mix", "ft"):
        told = (key.kind, key.family, key.params, key.resolution)
        return told == (row.kind, row.family, row.params, row.resolution) and _same_tuning(row, key)
    if row.family and row.kind is None:  # an ablation called PaliGemma, like any folder with weights of one
        return False
    named = key.model.casefold() == row.model.casefold()
    return named and key.params in (None, row.params) and key.resolution in (None, row.resolution)


def _same_tuning(row: Published, key: Key) -> bool:
    """An unnamed tuning, of either side, is taken as tuning on the benchmark itself."""
    return row.kind != "ft" or (row.tuned_on or row.task) == (key.tuned_on or key.task)


def _doubts(row: Published, key: Key) -> Iterator[str]:
    """What this key adds to a row's own doubts."""
    if row.kind == "ft" and key.tuned_on is None:
        tuned = row.tuned_on or "an unnamed task"
        yield f"what this run's checkpoint was tuned on is not known; the published one on {tuned}"
    if key.official and row.family:
        yield "this run asks in the words of the benchmark's authors, the published number in PaliGemma's"


def _matched(row: Published, doubts: tuple[str, ...]) -> Match:
    """The row with its footnote: source, circumstances, and what is not certain."""
    likely = row.match == "likely"
    precision = "precision unstated" if row.quant == "unstated" else row.precision
    remark = "" if likely else row.reason
    text = "; ".join(part for part in (row.source, row.setting, precision, row.note, remark) if part)
    if not (likely or doubts):
        return Match(row, "exact", text)
    reasons = "; ".join(((row.reason,) if likely else ()) + doubts)
    return Match(row, "likely", f"likely, not certain: {reasons}. {text}")


def _sorted(found: list[Match]) -> tuple[Match, ...]:
    return tuple(sorted(found, key=lambda match: match.agreement == "likely"))

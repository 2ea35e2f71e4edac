"""Several checkpoints of one recipe as one number: mean and standard deviation over training seeds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from pgbench.recipe.asked import AskedCell
from pgbench.records import RunRecord
from pgbench.report.sweep_table import level
from pgbench.report.table import Table
from pgbench.specs import called
from pgbench.sweeping.work import Told
from pgbench.types import RunSpec


@dataclass(frozen=True, slots=True)
class Replicate:
    """One recipe on one task at one level. Fractions, unless `number`."""

    recipe: str
    spec: RunSpec  # of any of them, its checkpoint named after the recipe
    metric: str
    values: tuple[float, ...]  # the primary score of each checkpoint that has one
    asked: int  # checkpoints
    n: tuple[int, ...]  # samples of each
    number: bool = False

    @property
    def mean(self) -> float | None:
        return fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Of a sample (ddof = 1), hence None with one checkpoint."""
        return stdev(self.values) if len(self.values) > 1 else None


def replicates(cells: Sequence[Told]) -> list[Replicate]:
    """In the order of the cells. Cells of a recipe belong together where all but the checkpoint is equal."""
    groups: dict[tuple[str, RunSpec], list[Told]] = {}
    for cell in cells:
        if cell.asked.replicate is not None and cell.spec is not None:
            recipe = cell.asked.replicate
            point = replace(cell.spec.checkpoint, id=recipe, revision=None)
            groups.setdefault((recipe, replace(cell.spec, checkpoint=point)), []).append(cell)
    unopened = [cell for cell in cells if cell.spec is None]
    for (recipe, _), members in groups.items():  # asked for like them, and counted as seeds without a score
        alike = _but_checkpoint(members[0].asked)
        members += [
            cell
            for cell in unopened
            if cell.asked.replicate == recipe and _but_checkpoint(cell.asked) == alike
        ]
    return [_of(recipe, spec, members) for (recipe, spec), members in groups.items()]


def _but_checkpoint(asked: AskedCell) -> AskedCell:
    return replace(asked, model=replace(asked.model, model=None, revision=None), where="")


def _of(recipe: str, spec: RunSpec, cells: Sequence[Told]) -> Replicate:
    records = [cell.record for cell in cells if cell.record is not None]
    scored = [(record, value) for record in records if (value := _value(record)) is not None]
    first = records[0] if records else None
    return Replicate(
        recipe=recipe,
        spec=spec,
        metric=first.primary if first else "",
        values=tuple(value for _, value in scored),
        asked=len(cells),
        n=tuple(record.scores[record.primary].n for record, _ in scored),
        number=first.scores[first.primary].number if first else False,
    )


def _value(record: RunRecord) -> float | None:
    return record.scores[record.primary].value


def of_replicates(found: Sequence[Replicate]) -> Table:
    """One row a recipe, task and level."""
    return Table(
        title=("replicates: mean and standard deviation over training seeds (ddof 1)",),
        columns=("task", "recipe", "level", "metric", "mean", "SD", "seeds", "n each"),
        rows=tuple(map(_row, found)),
        notes=("the SD is between seeds; it holds no sampling error of the questions",),
        left=4,
    )


def _row(one: Replicate) -> tuple[str, ...]:
    scale = 1 if one.number else 100
    point = one.spec.checkpoint
    seeds = f"{len(one.values)}" if len(one.values) == one.asked else f"{len(one.values)} of {one.asked}"
    counts = sorted(set(one.n))
    return (
        *(one.spec.task, called(one.recipe, point), level(point.quant, point.dtype), one.metric),
        "none" if one.mean is None else f"{scale * one.mean:.2f}",
        "none" if one.sd is None else f"{scale * one.sd:.2f}",
        seeds,
        " or ".join(f"{count:,}" for count in counts),
    )

"""Two runs of the same questions compared, metric by metric."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from pgbench.errors import DataError, UsageError, unknown
from pgbench.paired.aligned import Aligned, pair, units_of
from pgbench.paired.differences import Mismatch, between, failed, require_comparable
from pgbench.paired.evidence import Evidence
from pgbench.paired.flips import Flip, flips_of, is_binary
from pgbench.paired.metrics import reduced
from pgbench.stats import Difference, mcnemar, paired_interval, swap_test
from pgbench.types import Direction

MCNEMAR = "McNemar's exact test"


@dataclass(frozen=True, slots=True)
class Tested:
    """A two-sided p of "no difference", not adjusted for other tests."""

    p: float
    kind: str  # McNemar's exact test | exact label swap | label swap
    draws: int = 0  # of the label swap
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One metric over the samples that were compared, or over one value of a breakdown. Fractions."""

    metric: str
    before: float | None
    after: float | None
    difference: Difference | None  # None: the value is undefined on a side
    test: Tested | None  # likewise, and for values of a breakdown
    flips: tuple[Flip, ...]  # units whose change moves the value, in the order of the run
    binary: bool  # every unit scores 0 or 1
    n: int  # samples
    units: int
    clusters: int
    failed: tuple[int, int]  # samples without an answer before and after; they are wrong
    direction: Direction | None
    number: bool
    group: str | None = None  # the value of the breakdown

    @property
    def fell(self) -> int:
        """Units whose change alone lowers the value: of scores of 0 and 1, those that were lost."""
        return sum(flip.change < 0 for flip in self.flips)

    @property
    def rose(self) -> int:
        return sum(flip.change > 0 for flip in self.flips)


@dataclass(frozen=True, slots=True)
class Comparison:
    before: Evidence
    after: Evidence
    rows: tuple[Row, ...]  # the primary metric first
    mismatches: tuple[Mismatch, ...]
    shared: int  # samples compared
    dropped: int  # left out, since they failed on either side
    unpaired: tuple[str, ...]  # metrics of both runs that are one number of the whole run
    by: str | None = None
    groups: tuple[Row, ...] = ()

    @property
    def comparable(self) -> bool:
        return not any(one.refuses for one in self.mismatches)


def compare(
    before: Evidence,
    after: Evidence,
    metrics: Sequence[str] | None = None,
    by: str | None = None,
    anyway: bool = False,
    drop_failed: bool = False,
) -> Comparison:
    """after - before for each metric, paired by sample.

    `metrics`: all that both have where none are named; `by`: also each value of that breakdown, for the
    metrics named or the primary one; `anyway`: what the two share, also where `between` refuses;
    `drop_failed`: without the samples that failed on either side.
    Raises DataError for runs that cannot be compared, UsageError for an unknown metric or breakdown.
    """
    found = _relevant(between(before, after, drop_failed=drop_failed), metrics)
    if not anyway:
        require_comparable(before, after, found)
    shared = [name for name in before.samples if name in after.samples]
    without = {*failed(before), *failed(after)}.intersection(shared) if drop_failed else set()
    names = _metrics(before, after, metrics)
    return Comparison(
        before=before,
        after=after,
        rows=tuple(_row(before, after, name, without) for name in names),
        mismatches=found,
        shared=len(shared) - len(without),
        dropped=len(without),
        unpaired=tuple(
            name
            for name in before.record.scores
            if name in after.record.scores and _unpaired(before, after, name)
        ),
        by=by,
        groups=tuple(_groups(before, after, by, names if metrics else names[:1], without)) if by else (),
    )


def _relevant(found: Sequence[Mismatch], metrics: Sequence[str] | None) -> tuple[Mismatch, ...]:
    """A metric that nobody asked for is no reason to refuse."""
    if metrics is None:
        return tuple(found)
    return tuple(
        replace(one, refuses=False) if one.name.startswith("metric ") and one.name[7:] not in metrics else one
        for one in found
    )


def _metrics(before: Evidence, after: Evidence, asked: Sequence[str] | None) -> list[str]:
    for name in asked or ():
        units_of(before, name)
        units_of(after, name)
    names = list(dict.fromkeys(asked or [name for name in before.units if name in after.units]))
    if not names:
        raise UsageError(f"{before.place} and {after.place} have no metric in common that can be paired")
    return names if asked else sorted(names, key=lambda name: name != before.record.primary)


def _unpaired(before: Evidence, after: Evidence, metric: str) -> bool:
    return not (metric in before.units and metric in after.units)


def _groups(
    before: Evidence, after: Evidence, by: str, metrics: Sequence[str], without: Collection[str]
) -> Iterator[Row]:
    if by not in before.record.groups:
        raise UsageError(unknown(f"group of {before.place}", by, before.record.groups))
    for value in before.record.groups[by]:
        for name in metrics:
            try:
                yield _row(before, after, name, without, (by, value))
            except DataError:  # a metric of some samples only, or units that straddle values
                continue


def _row(
    before: Evidence,
    after: Evidence,
    metric: str,
    without: Collection[str],
    group: tuple[str, str] | None = None,
) -> Row:
    both = pair(before, after, metric, group, without)
    values = [_value(both, table.T.tolist()) for table in (both.before, both.after)]
    defined = None not in values
    difference = (
        paired_interval(both.pair, both.units.reduce, mean=both.units.is_mean, bounded=both.bounded)
        if defined
        else None
    )
    samples = [one for name in both.ids for one in before.members.get(metric, {}).get(name, (name,))]
    flips = flips_of(both)
    return Row(
        metric=metric,
        before=values[0],
        after=values[1],
        difference=difference,
        test=_test(both, flips) if defined and group is None else None,
        flips=flips,
        binary=is_binary(both),
        n=both.n,
        units=len(both.ids),
        clusters=both.clusters,
        failed=(_failed(before, samples), _failed(after, samples)),
        direction=both.units.direction,
        number=both.units.number,
        group=group[1] if group else None,
    )


def _failed(run: Evidence, samples: Sequence[str]) -> int:
    return sum(run.samples[name].failed for name in samples)


def _value(both: Aligned, columns: Sequence[Sequence[float]]) -> float | None:
    total = {name: math.fsum(column) for name, column in zip(both.pair.names, columns, strict=True)}
    return reduced(both.units.reduce, total)


def _test(both: Aligned, flips: Sequence[Flip]) -> Tested:
    """McNemar's where it says the same as all swaps: scores of 0 and 1, every unit a cluster of its own."""
    if is_binary(both) and both.clusters == both.trials:
        lost = sum(flip.change < 0 for flip in flips)
        return Tested(mcnemar(lost, len(flips) - lost, "two-sided"), MCNEMAR)
    found = swap_test(both.pair, both.units.reduce, alternative="two-sided", mean=both.units.is_mean)
    return Tested(found.p, found.kind, found.draws, found.seed)

"""Two runs of the same questions, unit by unit in one order, summed per cluster."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pgbench.errors import DataError, UsageError, unknown
from pgbench.paired.evidence import Evidence, Units
from pgbench.stats import Pair

if TYPE_CHECKING:
    from pgbench.stats.pairs import Table


@dataclass(frozen=True, slots=True)
class Aligned:
    """One metric of two runs over the units that both have. `pair` has a row for each cluster, by the
    clusters' names, since a bootstrap depends on their order."""

    pair: Pair
    units: Units  # of the first run: the metric's name, reduce and direction
    ids: tuple[str, ...]  # of the units, in the order of the first run
    before: Table  # units x names of `pair`
    after: Table
    n: int  # samples; of a mean with its own "n" what that counts in the first run, as in its record
    trials: int  # units; of a mean those with an n
    clusters: int

    @property
    def bounded(self) -> bool:
        """The values are fractions."""
        return self.units.direction == "up" and not self.units.number


def pair(
    before: Evidence,
    after: Evidence,
    metric: str,
    group: tuple[str, str] | None = None,
    without: Collection[str] = (),
) -> Aligned:
    """The units of a metric that both runs have; of larger units those with all of their samples.

    `group`: a breakdown's name and value, to which all samples of a unit belong in the first run;
    `without`: ids of samples that are left out. Raises UsageError for a metric that a run has no units of,
    DataError where no unit or no cluster's name is left.
    """
    ours, theirs = units_of(before, metric), units_of(after, metric)
    members = before.members.get(metric, {})
    places = {name: place for place, name in enumerate(theirs.ids)}
    left_out = frozenset(without)
    chosen = [
        (place, places[name], name)
        for place, name in enumerate(ours.ids)
        if name in places and _is_in(before, members.get(name, (name,)), group, left_out)
    ]
    if not chosen:
        among = f" in {group[0]}={group[1]}" if group else ""
        raise DataError(f"{before.place} and {after.place} share no scored sample of {metric}{among}")
    names = tuple(sorted({*ours.sums, *theirs.sums}))
    one = _rows(ours, names)[[place for place, _, _ in chosen]]
    two = _rows(theirs, names)[[place for _, place, _ in chosen]]
    ids = tuple(name for _, _, name in chosen)
    clusters = [_cluster(before, after, members.get(name, (name,))[0]) for name in ids]
    summed = [_summed(table, clusters) for table in (one, two)]
    n = sum(len(members.get(name, (name,))) for name in ids)
    trials = len(ids)
    if ours.is_mean:
        kept = (summed[0][:, names.index("n")] != 0) | (summed[1][:, names.index("n")] != 0)
        summed = [table[kept] for table in summed]
        trials = int(((one[:, names.index("n")] != 0) | (two[:, names.index("n")] != 0)).sum())
        n = n if members else round(float(one[:, names.index("n")].sum()))
    rows = cast("list[Sequence[Sequence[float]]]", summed)
    return Aligned(Pair(names, rows[0], rows[1]), ours, ids, one, two, n, trials, len(summed[0]))


def units_of(run: Evidence, metric: str) -> Units:
    """Raises UsageError for a metric that cannot be paired, with the reason."""
    if metric in run.units:
        return run.units[metric]
    if metric in run.record.scores:
        raise UsageError(
            f"{metric} of {run.place} cannot be paired: it is one number of the whole run, or its units were "
            f"not kept; choose another one: {', '.join(run.units) or 'none'}"
        )
    raise UsageError(unknown(f"metric of {run.place}", metric, run.units))


def _is_in(
    run: Evidence, samples: Sequence[str], group: tuple[str, str] | None, left_out: frozenset[str]
) -> bool:
    if left_out and not left_out.isdisjoint(samples):
        return False
    return group is None or all(run.samples[name].groups.get(group[0]) == group[1] for name in samples)


def _rows(units: Units, names: Sequence[str]) -> Table:
    import numpy as np

    table = np.zeros((len(units.ids), len(names)))
    for place, name in enumerate(names):
        if name in units.sums:
            table[:, place] = units.sums[name]
    return table


def _cluster(before: Evidence, after: Evidence, sample: str) -> str:
    found = before.samples[sample].cluster or after.samples[sample].cluster
    if not found:
        raise DataError(
            f"{before.place} and {after.place} do not say which samples share a picture (pgbench's first "
            "schema did not); run one of them again"
        )
    return found


def _summed(table: Table, clusters: Sequence[str]) -> Table:
    """By cluster, in the order of the units within each and of names between them."""
    import numpy as np

    numbers: Mapping[str, int] = {name: number for number, name in enumerate(sorted(set(clusters)))}
    found = np.zeros((len(numbers), table.shape[1]))
    np.add.at(found, [numbers[name] for name in clusters], table)
    return found

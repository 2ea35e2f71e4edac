"""From answers to a `Score`: units are judged, summed per cluster, reduced, and given an interval."""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pgbench import stats
from pgbench.metrics import mean
from pgbench.records import Interval, Score
from pgbench.types import Likelihoods, Metric, Sample, Sums, cluster_of, sample_id

Row = tuple[Sample, str | Likelihoods | None]  # a sample and its answer; None: the sample failed

_SLACK = 1e-9  # of a sample: what rounding may add to sums


def unit_sums(metric: Metric, unit: Sequence[Row]) -> Sums:
    """The additive statistics of one unit; those of a failure if any of its samples has no answer."""
    answered = [(sample, answer) for sample, answer in unit if answer is not None]
    if len(answered) < len(unit):
        return metric.failed([sample for sample, _ in unit])
    return metric.stat(answered)


def score(metric: Metric, rows: Iterable[Row]) -> Score:
    """The score of answers under one metric.

    Samples without references are left out. Rows may come in any order; where a unit is a single sample
    they are not kept. A unit of several samples belongs to the cluster of its first.
    Raises ValueError where a metric's own sums contradict its direction (`ClusterSums.score`), and what
    `metric.stat` raises.
    """
    if metric.weighted is not None:
        return _weighted(metric, [row for row in rows if row[0].target is not None])
    sums = ClusterSums()
    for unit in units_of(metric, rows):
        failed = [answer for _, answer in unit].count(None)
        sums.add(cluster_of(unit[0][0]), unit_sums(metric, unit), len(unit), failed)
    return sums.score(metric)


def _weighted(metric: Metric, rows: Sequence[Row]) -> Score:
    """A value of all samples together, with a bootstrap over clusters that draws their weights."""
    value_of = metric.weighted(rows) if metric.weighted and rows else lambda weights: None
    names = sorted({cluster_of(sample) for sample, _ in rows})  # the bootstrap depends on the order
    numbers = {name: number for number, name in enumerate(names)}
    places = [numbers[cluster_of(sample)] for sample, _ in rows]
    value = value_of([1.0] * len(rows))
    bounds = None if value is None else stats.weighted_bootstrap(places, value_of)
    low, high = (bounds.low, bounds.high) if bounds else (None, None)
    kind: Interval = "bootstrap" if bounds else "none"
    if bounds is None and value is not None and metric.direction == "up":
        (low, high), kind = stats.wilson(value, len(names)), "wilson"
    answered = [row for row in rows if row[1] is not None]
    return Score(
        value=value,
        low=low,
        high=high,
        stderr=bounds.stderr if bounds else None,
        n=len(rows),
        units=len(rows),
        clusters=len(names),
        invalid=round(sum(metric.stat([row]).get("invalid", 0.0) for row in answered)),
        failed=len(rows) - len(answered),
        interval=kind,
        number=metric.number,
    )


def units_of(metric: Metric, rows: Iterable[Row]) -> Iterable[Sequence[Row]]:
    """The samples that the metric scores together, without those that have no references."""
    scored = (row for row in rows if row[0].target is not None)
    if metric.unit_of is sample_id:
        return ([row] for row in scored)
    units: dict[str, list[Row]] = {}
    for row in scored:
        units.setdefault(metric.unit_of(row[0]), []).append(row)
    return units.values()


@dataclass(frozen=True, slots=True)
class _Means:
    """What the clusters of a mean sum up to, one entry each."""

    sums: array[float]
    counts: array[float]


_NOTHING = _Means(array("d"), array("d"))


class Clusters:
    """Numbers for the names of clusters, from 0 in the order they are met; all sums of a cell share one."""

    __slots__ = ("_last", "_numbers")

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._last = ("", -1)  # samples of one cluster mostly follow each other

    def number(self, name: str) -> int:
        if name != self._last[0] or not self._numbers:
            self._last = name, self._numbers.setdefault(name, len(self._numbers))
        return self._last[1]

    def names(self) -> list[str]:
        """By number."""
        return list(self._numbers)


class Rows:
    """Which clusters one group of samples has, and the place of each in every column of the group's sums.

    Clusters mostly come in the order of their numbers, which takes eight bytes for each; the first one that
    comes back after another calls for an index.
    """

    __slots__ = ("_index", "numbers")

    def __init__(self) -> None:
        self.numbers = array("q")  # of the cluster in each row
        self._index: dict[int, int] | None = None  # cluster -> row

    def __len__(self) -> int:
        return len(self.numbers)

    def row(self, number: int) -> int:
        """The row of a cluster, a new one where it has none."""
        numbers = self.numbers
        if self._index is None:
            last = numbers[-1] if numbers else -1
            if number > last:
                numbers.append(number)
            if number >= last:
                return len(numbers) - 1
            self._index = {number: row for row, number in enumerate(numbers)}
        row = self._index.setdefault(number, len(numbers))
        if row == len(numbers):
            numbers.append(number)
        return row


class ClusterSums:
    """Statistics summed per cluster as units come in, judged just now or read back from disk.

    Clusters may come interleaved in any order. Within one, floats add in the order they come: feed its
    samples in one fixed order where scores shall be equal to the last bit.

    Held as columns of numbers: GQA's validation split has over a million pairs of a breakdown's value and a
    cluster, and a dict for each of them would take more memory than its questions. Sums of several metrics
    over the same units can share what numbers their clusters.
    """

    __slots__ = ("_clusters", "_rows", "columns", "failed", "samples", "units")

    def __init__(self, clusters: Clusters | None = None, rows: Rows | None = None) -> None:
        self._clusters = Clusters() if clusters is None else clusters
        self._rows = Rows() if rows is None else rows
        self.columns: dict[str, array[float]] = {}  # name -> sum of each cluster
        self.units = self.samples = self.failed = 0

    def add(self, cluster: str, sums: Sums, samples: int = 1, failed: int = 0) -> None:
        """Adds one unit: its sums, how many samples it has and how many of these failed."""
        self.add_to(self._rows.row(self._clusters.number(cluster)), sums, samples, failed)

    def add_to(self, row: int, sums: Sums, samples: int = 1, failed: int = 0) -> None:
        """Adds one unit to the cluster in that row."""
        columns = self.columns
        for name, value in sums.items():
            column = columns.get(name)
            if column is None:
                column = columns[name] = array("d")
            if row >= len(column):  # zeros where a cluster has not had this name
                column.frombytes(bytes(8 * (row + 1 - len(column))))
            column[row] += value
        self.units += 1
        self.samples += samples
        self.failed += failed

    def total(self) -> dict[str, float]:
        """All clusters together; correctly rounded, so that their order does not matter."""
        return {name: math.fsum(self.columns[name]) for name in sorted(self.columns)}

    def ordered(self) -> list[dict[str, float]]:
        """The sums of each cluster, by the clusters' names: the bootstrap depends on the order."""
        names, numbers, columns = self._clusters.names(), self._rows.numbers, self._whole_columns()
        places = sorted(range(len(numbers)), key=lambda row: names[numbers[row]])
        return [{name: column[row] for name, column in columns.items()} for row in places]

    def _whole_columns(self) -> dict[str, array[float]]:
        """Each as long as there are clusters."""
        for column in self.columns.values():
            column.frombytes(bytes(8 * (len(self._rows) - len(column))))
        return self.columns

    def score(self, metric: Metric) -> Score:
        """The value with its 95 % interval: clustered t for a mean, a bootstrap over clusters otherwise.

        Where that is degenerate a metric with direction "up", a fraction by contract, gets Wilson's
        interval with the clusters as trials, as if all answers about one image were a single answer:
        samples of one cluster may be copies of each other, clusters are not, so it is rather too wide
        than too narrow. There `stderr` is None: an unknown error is not an error of zero.
        Nothing scored: value None.
        Raises ValueError where a mean with direction "up" sums to less than 0 or more than its n.
        """
        total, samples, trials = self.total(), self.samples, len(self._rows)
        means = _NOTHING
        if metric.reduce is mean:
            means = self._means()
            trials = len(means.counts)
            samples = round(total.get("n", 0.0)) if metric.unit_of is sample_id else samples
        if metric.reduce is mean and metric.direction == "up":
            _check_fractions(metric, means)
        value = metric.reduce(total) if self.units else None
        low, high, stderr, interval = self._interval(metric, value, means)
        return Score(
            value=value,
            low=low,
            high=high,
            stderr=stderr,
            n=samples,
            units=self.units,
            clusters=trials,
            invalid=round(total.get("invalid", 0.0)),
            failed=self.failed,
            interval=interval,
            number=metric.number,
        )

    def _means(self) -> _Means:
        """Clusters without any n are no trials of a metric of some samples only (GQA's binary questions)."""
        if not len(self._rows):
            return _NOTHING
        columns = self._whole_columns()
        counts, sums = columns["n"], columns["sum"]
        if all(counts):
            return _Means(sums, counts)
        return _Means(array("d", itertools.compress(sums, counts)), array("d", filter(None, counts)))

    def _interval(
        self, metric: Metric, value: float | None, means: _Means
    ) -> tuple[float | None, float | None, float | None, Interval]:
        """(low, high, stderr, kind)."""
        if value is None:
            return None, None, None, "none"
        bounds: stats.Bounds | None
        kind: Interval
        if metric.reduce is mean:
            bounds = stats.clustered_t(means.sums, means.counts, bounded=metric.direction == "up")
            kind = "clustered t"
        else:
            bounds, kind = stats.bootstrap(self.ordered(), metric.reduce), "bootstrap"
        if bounds:
            return bounds.low, bounds.high, bounds.stderr, kind
        if metric.direction == "up" and -_SLACK <= value <= 1 + _SLACK:
            trials = len(means.counts) if metric.reduce is mean else len(self._rows)
            return *stats.wilson(min(1.0, max(0.0, value)), trials), None, "wilson"
        return None, None, None, "none"


def _check_fractions(metric: Metric, means: _Means) -> None:
    """A stat that counts one sample twice shows as a sum beyond its n before it shows as a good result."""
    for total, n in zip(means.sums, means.counts, strict=True):
        if not -_SLACK <= total <= n + _SLACK:
            raise ValueError(
                f"metric {metric.name}: a sum of {total:g} over {n:g} samples is no fraction; "
                'a mean with direction "up" adds between 0 and 1 for each sample'
            )

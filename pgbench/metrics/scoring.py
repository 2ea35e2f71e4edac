"""From answers to a `Score`: units are judged, summed per cluster, reduced, and given an interval."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pgbench import stats
from pgbench.metrics import mean
from pgbench.records import Interval, Score
from pgbench.types import Metric, Sample, Sums, cluster_of, sample_id

Row = tuple[Sample, str | None]  # a sample and its raw answer; None: the sample failed

_SLACK = 1e-9  # of a sample: what rounding may add to sums


def unit_sums(metric: Metric, unit: Sequence[Row]) -> Sums:
    """The additive statistics of one unit; those of a failure if any of its samples has no answer."""
    answered = [(sample, text) for sample, text in unit if text is not None]
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
    sums = ClusterSums()
    for unit in _units(metric, rows):
        failed = [text for _, text in unit].count(None)
        sums.add(cluster_of(unit[0][0]), unit_sums(metric, unit), len(unit), failed)
    return sums.score(metric)


def _units(metric: Metric, rows: Iterable[Row]) -> Iterable[Sequence[Row]]:
    scored = (row for row in rows if row[0].target is not None)
    if metric.unit_of is sample_id:
        return ([row] for row in scored)
    units: dict[str, list[Row]] = {}
    for row in scored:
        units.setdefault(metric.unit_of(row[0]), []).append(row)
    return units.values()


@dataclass(slots=True)
class ClusterSums:
    """Statistics summed per cluster as units come in, judged just now or read back from disk.

    Clusters may come interleaved in any order. Within one, floats add in the order they come: feed its
    samples in one fixed order where scores shall be equal to the last bit.

    Held as columns of numbers: GQA's validation split has over a million pairs of a breakdown's value and a
    cluster, and a dict for each of them would take more memory than its questions.
    """

    rows: dict[str, int] = field(default_factory=dict)  # cluster -> its place in every column
    columns: dict[str, array[float]] = field(default_factory=dict)  # name -> sum of each cluster
    units: int = 0
    samples: int = 0
    failed: int = 0

    def add(self, cluster: str, sums: Sums, samples: int = 1, failed: int = 0) -> None:
        """Adds one unit: its sums, how many samples it has and how many of these failed."""
        row = self.rows.get(cluster)
        if row is None:
            row = self.rows[cluster] = len(self.rows)
            for column in self.columns.values():
                column.append(0.0)
        for name, value in sums.items():
            if name not in self.columns:
                self.columns[name] = array("d", bytes(8 * len(self.rows)))
            self.columns[name][row] += value
        self.units += 1
        self.samples += samples
        self.failed += failed

    def total(self) -> dict[str, float]:
        """All clusters together; correctly rounded, so that their order does not matter."""
        return {name: math.fsum(self.columns[name]) for name in sorted(self.columns)}

    def ordered(self) -> list[dict[str, float]]:
        """The sums of each cluster, by the clusters' names: the bootstrap depends on the order."""
        places = [row for _, row in sorted(self.rows.items())]
        return [{name: column[row] for name, column in self.columns.items()} for row in places]

    def score(self, metric: Metric) -> Score:
        """The value with its 95 % interval: clustered t for a mean, a bootstrap over clusters otherwise.

        Where that is degenerate a metric with direction "up", a fraction by contract, gets Wilson's
        interval with the clusters as trials, as if all answers about one image were a single answer:
        samples of one cluster may be copies of each other, clusters are not, so it is rather too wide
        than too narrow. There `stderr` is None: an unknown error is not an error of zero.
        Nothing scored: value None.
        Raises ValueError where a mean with direction "up" sums to less than 0 or more than its n.
        """
        total, samples, trials = self.total(), self.samples, len(self.rows)
        means: list[tuple[float, float]] = []
        if metric.reduce is mean:
            means = self._means()
            trials = len(means)
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

    def _means(self) -> list[tuple[float, float]]:
        """(sum, n) of each cluster. Those without any n are no trials of a metric of some samples only (GQA's
        binary questions)."""
        if not self.rows:
            return []
        counts, sums = self.columns["n"], self.columns["sum"]
        return [(total, n) for total, n in zip(sums, counts, strict=True) if n]

    def _interval(
        self, metric: Metric, value: float | None, means: Sequence[tuple[float, float]]
    ) -> tuple[float | None, float | None, float | None, Interval]:
        """(low, high, stderr, kind)."""
        if value is None:
            return None, None, None, "none"
        bounds: stats.Bounds | None
        kind: Interval
        if metric.reduce is mean:
            sums, counts = [one for one, _ in means], [n for _, n in means]
            bounds, kind = stats.clustered_t(sums, counts, bounded=metric.direction == "up"), "clustered t"
        else:
            bounds, kind = stats.bootstrap(self.ordered(), metric.reduce), "bootstrap"
        if bounds:
            return bounds.low, bounds.high, bounds.stderr, kind
        if metric.direction == "up" and -_SLACK <= value <= 1 + _SLACK:
            trials = len(means) if metric.reduce is mean else len(self.rows)
            return *stats.wilson(min(1.0, max(0.0, value)), trials), None, "wilson"
        return None, None, None, "none"


def _check_fractions(metric: Metric, means: Iterable[tuple[float, float]]) -> None:
    """A stat that counts one sample twice shows as a sum beyond its n before it shows as a good result."""
    for total, n in means:
        if not -_SLACK <= total <= n + _SLACK:
            raise ValueError(
                f"metric {metric.name}: a sum of {total:g} over {n:g} samples is no fraction; "
                'a mean with direction "up" adds between 0 and 1 for each sample'
            )

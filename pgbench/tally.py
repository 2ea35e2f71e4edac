"""Running sums of one cell: scores, breakdowns, failures and cost, from stored answers or new ones."""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pgbench.errors import ResumeError, UsageError, task_code
from pgbench.metrics.scoring import Clusters, ClusterSums, Row, Rows, score, unit_sums, units_of
from pgbench.records import Cost, Failure, PeakMemory, SampleLine, Score
from pgbench.types import Likelihoods, Metric, Mode, Sample, Sums, Task, cluster_of, sample_id
from pgbench.units import Unit

Groups = Mapping[str, Mapping[str, Mapping[str, Score]]]
_WHOLE = ("\0", "")  # the group that every sample is in
_DIGITS = 4_000  # Python makes no int of more than 4,300


class Tally:
    """Feed it every sample with its line, in any order; then ask.

    Metrics whose unit is one sample are summed as lines come in. Those of larger units (a pair) keep
    their samples until the end, since a unit may straddle batches.
    """

    def __init__(self, task: Task, mode: Mode = "generate") -> None:
        self._task, self._mode = task, mode
        self._names = {metric.name for metric in _single(task)}
        self._clusters = Clusters()
        self._sums: dict[tuple[str, str], _Group] = {}  # group name, value
        self._rows: dict[tuple[str, str], list[Row]] = {_WHOLE: []}
        self._batches = _Batches()
        self._reused = 0
        self._nonfinite = 0
        self._halved: set[int] = set()  # batches
        self.failures: list[Failure] = []

    @staticmethod
    def stats(task: Task, sample: Sample, answer: str | Likelihoods | None) -> dict[str, Sums]:
        """What a sample line stores: the statistics of each metric that scores one sample at a time.

        Raises UsageError for a metric that returns anything but finite numbers.
        """
        if sample.target is None:
            return {}
        return {metric.name: _sums(metric, sample, answer) for metric in _single(task)}

    def add(self, sample: Sample, line: SampleLine) -> None:
        """One answer, just given or read back. Raises ResumeError for statistics of other metrics."""
        failed = line.error is not None
        if line.stats.keys() != (self._names if sample.target is not None else set()):
            raise ResumeError(f"the stored answer {line.id} is scored by {sorted(line.stats) or 'no metric'}")
        if failed:
            self.failures.append(Failure(sample.id, line.error or ""))
        self._batches.add(line)
        self._reused += bool(line.reused)
        self._nonfinite += not line.finite
        if line.halved:
            self._halved.add(line.batch)
        if sample.target is None:
            return
        cluster = self._clusters.number(cluster_of(sample))
        for key in (_WHOLE, *sample.groups.items()):
            group = self._sums.get(key)
            if group is None:
                group = self._sums[key] = _Group(self._clusters, self._names)
            group.add(cluster, line.stats, failed)
            if len(line.stats) < len(self._task.metrics):
                self._rows.setdefault(key, []).append((sample, line.answer(self._mode)))

    def scores(self) -> dict[str, Score]:
        """Metric name -> score over all samples. Raises UsageError for a metric that cannot be reduced."""
        return {metric.name: self._score(metric, _WHOLE) for metric in self._task.metrics}

    def groups(self) -> Groups:
        """Breakdown name -> value -> metric name -> score."""
        result: dict[str, dict[str, dict[str, Score]]] = {}
        for name, value in sorted(self._sums.keys() - {_WHOLE}, key=_natural):
            scores = {metric.name: self._score(metric, (name, value)) for metric in self._task.metrics}
            result.setdefault(name, {})[value] = scores
        return result

    def units(self) -> Iterator[Unit]:
        """What units of several samples add to their metrics, in the order in which lines came."""
        rows = self._rows[_WHOLE]
        for metric in self._task.metrics:
            if metric.unit_of is sample_id or metric.weighted is not None:  # no sums give a weighted value
                continue
            found = list(units_of(metric, rows))
            if len(found) == 1 and len({cluster_of(sample) for sample, _ in found[0]}) > 1:
                continue  # the whole run: nothing is left to pair, and its sums may be thousands
            for unit in found:
                ids = tuple(sample.id for sample, _ in unit)
                sums = {name: float(value) for name, value in unit_sums(metric, unit).items()}
                yield Unit(metric.name, metric.unit_of(unit[0][0]), ids, sums)

    def cost(
        self, load_seconds: float, warmup_seconds: float, weight_bytes: int, peak: PeakMemory, batch_size: int
    ) -> Cost:
        """Speed over the batches of all sessions of the run, by the wall time stored with them; a batch
        with an answer from elsewhere is in none of it."""
        timed = sorted(self._batches.timed())
        generated = sum(count for _, count in timed)
        seconds = math.fsum(wall for wall, _ in timed)
        return Cost(
            load_seconds=load_seconds,
            warmup_seconds=warmup_seconds,
            weight_bytes=weight_bytes,
            peak_memory=peak,
            generated=generated,
            samples_per_second=generated / seconds if seconds else None,
            batch_size=batch_size,
            batch_seconds_p50=_quantile(timed, 0.50),
            batch_seconds_p95=_quantile(timed, 0.95),
            nonfinite=self._nonfinite,
            reused=self._reused,
            halved=len(self._halved),
        )

    def _score(self, metric: Metric, group: tuple[str, str]) -> Score:
        try:
            if metric.unit_of is sample_id:
                sums = self._sums.get(group)
                found = (ClusterSums() if sums is None else sums.of[metric.name]).score(metric)
            else:
                found = score(metric, self._rows.get(group, []))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise UsageError(f"metric {metric.name} cannot be reduced ({reason})") from error
        if found.value is not None and not math.isfinite(found.value):
            raise UsageError(f"metric {metric.name} reduces to {found.value}; expected a number or None")
        return found


class _Group:
    """The sums of one group under every metric whose unit is one sample; they share their clusters' rows."""

    __slots__ = ("_rows", "of")

    def __init__(self, clusters: Clusters, metrics: Iterable[str]) -> None:
        self._rows = Rows()
        self.of = {metric: ClusterSums(clusters, self._rows) for metric in metrics}

    def add(self, cluster: int, stats: Mapping[str, Sums], failed: bool) -> None:
        row = self._rows.row(cluster)
        for metric, sums in stats.items():
            self.of[metric].add_to(row, sums, 1, int(failed))


class _Batches:
    """Answers generated and wall time of each batch, by its number: 17 bytes each."""

    __slots__ = ("_generated", "_partly", "_seconds")

    def __init__(self) -> None:
        self._generated, self._seconds = array("q"), array("d")
        self._partly = bytearray()  # 1: not generated whole, so that its seconds say nothing

    def add(self, line: SampleLine) -> None:
        lacking = line.batch + 1 - len(self._generated)
        if lacking > 0:
            self._generated.frombytes(bytes(8 * lacking))
            self._seconds.frombytes(bytes(8 * lacking))
            self._partly += bytes(lacking)
        self._generated[line.batch] += line.error is None
        self._seconds[line.batch] = line.seconds
        if line.reused:
            self._partly[line.batch] = 1

    def timed(self) -> Iterator[tuple[float, int]]:
        """(seconds, answers) of each batch that says how fast answers come."""
        for seconds, generated, partly in zip(self._seconds, self._generated, self._partly, strict=True):
            if generated and not partly:
                yield seconds, generated


def _natural(group: tuple[str, str]) -> tuple[str, int, str]:
    """Values that are numbers stand in their order."""
    name, value = group
    short = len(value) < _DIGITS and value.isdecimal()
    return name, int(value) if short else -1, value


def _single(task: Task) -> list[Metric]:
    return [metric for metric in task.metrics if metric.unit_of is sample_id]


def _sums(metric: Metric, sample: Sample, answer: str | Likelihoods | None) -> Sums:
    """The statistics of one sample as plain floats, which is what JSON gives back; numpy's are welcome."""
    with task_code(f"metric {metric.name}, sample {sample.id}"):
        given = unit_sums(metric, [(sample, answer)])
    try:
        found = {name: float(value) for name, value in given.items()}
    except (AttributeError, OverflowError, TypeError, ValueError):
        found = {"": math.nan}
    if not all(map(math.isfinite, found.values())):
        raise UsageError(
            f"metric {metric.name} gave {given!r} for sample {sample.id}; expected names with finite numbers"
        )
    return found


def _quantile(ordered: Sequence[tuple[float, int]], share: float) -> float | None:
    """The smallest value that at least `share` of the values do not exceed; each comes so many times."""
    least = math.ceil(share * sum(times for _, times in ordered))
    seen = itertools.accumulate(times for _, times in ordered)
    return next((value for (value, _), so_far in zip(ordered, seen, strict=True) if so_far >= least), None)

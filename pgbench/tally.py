"""Running sums of one cell: scores, breakdowns, failures and cost, from stored answers or new ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pgbench.errors import ResumeError, UsageError, task_code
from pgbench.metrics.scoring import ClusterSums, score, unit_sums
from pgbench.records import Cost, Failure, PeakMemory, SampleLine, Score
from pgbench.types import Metric, Sample, Sums, Task, cluster_of, sample_id

Groups = Mapping[str, Mapping[str, Mapping[str, Score]]]
_WHOLE = ("\0", "")  # the group that every sample is in


class Tally:
    """Feed it every sample with its line, in any order; then ask.

    Metrics whose unit is one sample are summed as lines come in. Those of larger units (a pair) keep
    their samples until the end, since a unit may straddle batches.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._names = {metric.name for metric in _single(task)}
        self._sums: dict[tuple[str, str, str], ClusterSums] = {}  # group name, value, metric
        self._rows: dict[tuple[str, str], list[tuple[Sample, str | None]]] = {_WHOLE: []}
        self._batches: dict[int, tuple[int, float]] = {}  # number -> answers generated, seconds
        self._nonfinite = 0
        self.failures: list[Failure] = []

    @staticmethod
    def stats(task: Task, sample: Sample, text: str | None) -> dict[str, Sums]:
        """What a sample line stores: the statistics of each metric that scores one sample at a time.

        Raises UsageError for a metric that returns anything but finite numbers.
        """
        if sample.target is None:
            return {}
        return {metric.name: _sums(metric, sample, text) for metric in _single(task)}

    def add(self, sample: Sample, line: SampleLine) -> None:
        """One answer, just given or read back. Raises ResumeError for statistics of other metrics."""
        failed = line.error is not None
        if line.stats.keys() != (self._names if sample.target is not None else set()):
            raise ResumeError(f"the stored answer {line.id} is scored by {sorted(line.stats) or 'no metric'}")
        if failed:
            self.failures.append(Failure(sample.id, line.error or ""))
        generated, _ = self._batches.get(line.batch, (0, 0.0))
        self._batches[line.batch] = (generated + (not failed), line.seconds)
        self._nonfinite += not line.finite
        if sample.target is None:
            return
        for group in (_WHOLE, *sample.groups.items()):
            for metric, sums in line.stats.items():
                key = (*group, metric)
                self._sums.setdefault(key, ClusterSums()).add(cluster_of(sample), sums, failed=int(failed))
            if len(line.stats) < len(self._task.metrics):
                self._rows.setdefault(group, []).append((sample, None if failed else line.output))

    def scores(self) -> dict[str, Score]:
        """Metric name -> score over all samples. Raises UsageError for a metric that cannot be reduced."""
        return {metric.name: self._score(metric, _WHOLE) for metric in self._task.metrics}

    def groups(self) -> Groups:
        """Breakdown name -> value -> metric name -> score."""
        found = sorted({key[:2] for key in self._sums} | set(self._rows) - {_WHOLE})
        result: dict[str, dict[str, dict[str, Score]]] = {}
        for name, value in sorted((group for group in found if group != _WHOLE), key=_natural):
            scores = {metric.name: self._score(metric, (name, value)) for metric in self._task.metrics}
            result.setdefault(name, {})[value] = scores
        return result

    def cost(
        self, load_seconds: float, warmup_seconds: float, weight_bytes: int, peak: PeakMemory, batch_size: int
    ) -> Cost:
        """Speed over the batches of all sessions of the run, by the wall time stored with them."""
        generated = sum(count for count, _ in self._batches.values())
        seconds = sum(wall for count, wall in self._batches.values() if count)
        walls = sorted(wall for count, wall in self._batches.values() for _ in range(count))
        return Cost(
            load_seconds=load_seconds,
            warmup_seconds=warmup_seconds,
            weight_bytes=weight_bytes,
            peak_memory=peak,
            generated=generated,
            samples_per_second=generated / seconds if seconds else None,
            batch_size=batch_size,
            batch_seconds_p50=_quantile(walls, 0.50),
            batch_seconds_p95=_quantile(walls, 0.95),
            nonfinite=self._nonfinite,
        )

    def _score(self, metric: Metric, group: tuple[str, str]) -> Score:
        try:
            if metric.unit_of is sample_id:
                found = self._sums.get((*group, metric.name), ClusterSums()).score(metric)
            else:
                found = score(metric, self._rows.get(group, []))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise UsageError(f"metric {metric.name} cannot be reduced ({reason})") from error
        if found.value is not None and not math.isfinite(found.value):
            raise UsageError(f"metric {metric.name} reduces to {found.value}; expected a number or None")
        return found


def _natural(group: tuple[str, str]) -> tuple[str, int, str]:
    """Values that are numbers stand in their order."""
    name, value = group
    return name, int(value) if value.isdecimal() else -1, value


def _single(task: Task) -> list[Metric]:
    return [metric for metric in task.metrics if metric.unit_of is sample_id]


def _sums(metric: Metric, sample: Sample, text: str | None) -> Sums:
    """The statistics of one sample as plain floats, which is what JSON gives back; numpy's are welcome."""
    with task_code(f"metric {metric.name}, sample {sample.id}"):
        given = unit_sums(metric, [(sample, text)])
    try:
        found = {name: float(value) for name, value in given.items()}
    except (AttributeError, OverflowError, TypeError, ValueError):
        found = {"": math.nan}
    if not all(map(math.isfinite, found.values())):
        raise UsageError(
            f"metric {metric.name} gave {given!r} for sample {sample.id}; expected names with finite numbers"
        )
    return found


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of the values do not exceed."""
    if not ordered:
        return None
    return ordered[math.ceil(share * len(ordered)) - 1]

"""A task's metrics as an `evaluate.Metric`: what a benchmark's module adds is the shape of a reference.

Traps of evaluate 0.4: a script given to `evaluate.load` may import one module a line only; the first class in
it that is a metric is taken, so it must not import `BenchmarkMetric` by name; and predictions are kept in
files below ~/.cache unless `keep_in_memory` is on, which `evaluate.load` switches off if it is not told.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

try:
    import datasets
    import evaluate
except ImportError as error:
    raise ImportError(
        f"pgbench.evaluate_modules needs {error.name}; install it: pip install 'pgbench[evaluate]'"
    ) from error

from pgbench.errors import DataError
from pgbench.metrics.scoring import ClusterSums, Row, unit_sums
from pgbench.registry import load_task
from pgbench.types import Metric, Sample, Task, cluster_of, sample_id

Result = dict[str, object]
_NONE = "\0"  # what stands for a text that is not given: evaluate takes no None there


class BenchmarkMetric(evaluate.Metric, abc.ABC):  # type: ignore[misc]  # evaluate has no types
    """All metrics of one task over predictions (texts) and references of the task's own shape.

    `compute` returns each metric by its name (a fraction; None where it is undefined), `n`, `invalid`
    (answers that the primary metric could not parse) and `per_sample`: metric name -> its value over each
    answer alone, for metrics that score one answer at a time.
    Raises ValueError for predictions or references of another type, DataError for values no metric can score.
    """

    task = ""  # its name
    reference: Any = None  # the datasets feature of one reference
    required: tuple[str, ...] = ()  # keys of a reference without which nothing can be scored

    def __init__(self, config_name: str | None = None, keep_in_memory: bool = True, **kwargs: Any) -> None:
        super().__init__(config_name, keep_in_memory=keep_in_memory, **kwargs)
        self.info.module_name = self.task  # evaluate would make vq_av2 of VQAv2

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Adds predictions with their references; keys of a reference may be left out or None."""
        filled = [self._filled(one) for one in references] if isinstance(references, list) else references
        evaluate.Metric.add_batch(self, predictions=predictions, references=filled, **kwargs)

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Adds a prediction with its reference; keys of a reference may be left out or None."""
        evaluate.Metric.add(self, prediction=prediction, reference=self._filled(reference), **kwargs)

    def _filled(self, reference: Any) -> Any:
        if not isinstance(reference, dict) or not isinstance(self.reference, dict):
            return reference
        if surplus := sorted(reference.keys() - self.reference.keys()):
            raise ValueError(f"a reference has {surplus[0]!r}; expected no more than {list(self.reference)}")
        given = {key: reference.get(key) for key in self.reference}
        texts = {key for key, feature in self.reference.items() if feature == datasets.Value("string")}
        return {key: _NONE if one is None and key in texts else one for key, one in given.items()}

    @abc.abstractmethod
    def sample(self, number: str, reference: Any) -> Sample:
        """One reference as a sample, called `number` where it has no name of its own."""

    def _info(self) -> Any:
        task = load_task(self.task)
        scores = "".join(f"\n- {metric.name}: {metric.source}" for metric in task.metrics)
        return evaluate.MetricInfo(
            description=f"{task.title}. {(self.__doc__ or '').strip()}\n\nScores and their sources:{scores}",
            citation=task.cite,
            inputs_description=f"\n\npredictions: texts, as printed\nreferences: {self.reference}",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": self.reference}
            ),
            license=task.licence,
        )

    def _compute(self, *, predictions: Sequence[str], references: Sequence[Any]) -> Result:
        rows = []
        for number, (text, given) in enumerate(zip(predictions, map(_restored, references), strict=True)):
            lacking = [key for key in self.required if given[key] in (None, [])]
            if lacking:
                raise DataError(
                    f"sample {number}: a reference needs {lacking[0]!r}, which is left out or empty"
                )
            rows.append((self.sample(str(number), given), text))
        return scores_of(load_task(self.task), rows)


def _restored(reference: Any) -> Any:
    if not isinstance(reference, dict):
        return reference
    return {key: None if value == _NONE else value for key, value in reference.items()}


def scores_of(task: Task, rows: Sequence[Row]) -> Result:
    """What `compute` returns."""
    found: Result = {}
    alone: dict[str, list[float | None]] = {}
    invalid: dict[str, int] = {}
    for metric in task.metrics:
        sums = ClusterSums()
        for unit in _units(metric, rows):
            one = unit_sums(metric, unit)
            sums.add(cluster_of(unit[0][0]), one, len(unit))
            if metric.unit_of is sample_id:
                alone.setdefault(metric.name, []).append(metric.reduce(one))
        total = sums.total()
        found[metric.name] = metric.reduce(total) if rows else None
        invalid[metric.name] = round(total.get("invalid", 0.0))
    primary = next((metric for metric in task.metrics if metric.primary), task.metrics[0])
    return {**found, "n": len(rows), "invalid": invalid[primary.name], "per_sample": alone}


def _units(metric: Metric, rows: Sequence[Row]) -> Sequence[Sequence[Row]]:
    if metric.unit_of is sample_id:  # each row by itself, also where two have the same id
        return [[row] for row in rows]
    units: dict[str, list[Row]] = {}
    for row in rows:
        units.setdefault(metric.unit_of(row[0]), []).append(row)
    return list(units.values())


def known(reference: Mapping[str, object], *keys: str) -> dict[str, object]:
    """The fields of a reference that were given, lists as tuples."""
    given = {key: reference[key] for key in keys if reference[key] is not None}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}

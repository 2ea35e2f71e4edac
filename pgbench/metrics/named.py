"""Metrics by name: what `--metric` may choose for any task, beside the metrics of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from pgbench.errors import DataError, UsageError, unknown
from pgbench.metrics import mean, texts
from pgbench.metrics.mmvp import OWN as MMVP
from pgbench.metrics.vqa import MMF
from pgbench.metrics.vqav2 import VQA_EVAL
from pgbench.types import Metric, Mode, Sample, Sums, Task


class _Rule(Protocol):
    def __call__(self, *, prediction: str, answers: Sequence[str]) -> float: ...


def _sums(rule: _Rule, unit: Sequence[tuple[Sample, str]]) -> Sums:
    """One sample's sums. An answer of white space counts as invalid and is scored all the same."""
    ((sample, text),) = unit
    try:
        answers = texts.references(sample, with_options=rule is texts.exact_match)
        found = rule(prediction=text, answers=answers)
    except ValueError as error:
        raise DataError(f"sample {sample.id}: {error}") from error
    return {"sum": found, "n": 1.0, "invalid": 0.0 if text.strip() else 1.0}


def _choice_sums(unit: Sequence[tuple[Sample, str]]) -> Sums:
    ((sample, text),) = unit
    right, invalid = texts.choice(prediction=text, options=sample.options, correct=texts.right_option(sample))
    return {"sum": right, "n": 1.0, "invalid": float(invalid)}


def _of(name: str, rule: _Rule, source: str) -> Metric:
    return Metric(name, partial(_sums, rule), mean, source, primary=True)


EXACT_MATCH = _of(
    "exact_match", texts.exact_match, "pgbench's own: equality, outer white space and case apart"
)
_ALL = (
    EXACT_MATCH,
    _of("contains", texts.contains, "pgbench's own: a reference occurs in the answer"),
    _of("anls", texts.anls, texts.ANLS_SCRIPT),
    _of("relaxed_accuracy", texts.relaxed_accuracy, texts.CHARTQA),
    _of("vqa_accuracy", texts.vqa_accuracy, VQA_EVAL),
    _of("textvqa_accuracy", texts.textvqa, MMF),
    _of("vqa_thirds", texts.vqa_thirds, texts.THIRDS),
    Metric("choice", _choice_sums, mean, MMVP, primary=True),
)
LIKELIHOOD = "_ll"  # how the names of metrics of mode likelihood end, and no other
NAMED: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}


def in_mode(task: Task, mode: Mode) -> Task:
    """The task as it scores in a mode: with that mode's metrics. Raises UsageError for one it lacks."""
    if mode not in task.modes:
        raise UsageError(unknown(f"mode of {task.name}", mode, task.modes))
    if mode == "generate":
        return task
    found = task.likelihood.metrics if task.likelihood else ()
    names = {metric.name for metric in found}
    if not names or len(names) < len(found) or not all(name.endswith(LIKELIHOOD) for name in names):
        raise UsageError(
            f"task {task.name}: mode likelihood needs metrics, each with a name of its own that ends in "
            f"{LIKELIHOOD}; got {', '.join(sorted(names)) or 'none'}"
        )
    return replace(task, metrics=found, draw=None)


def narrowed(task: Task, metric: str | None) -> Task:
    """The task with this metric alone: one of its own, else a general one. None: the task as it is.

    A task's own metric comes first where a general one has its name.
    Raises UsageError for a name that is neither.
    """
    if metric is None:
        return task
    general = {} if task.metrics[0].name.endswith(LIKELIHOOD) else NAMED  # those judge texts
    offered = {**general, **{own.name: own for own in task.metrics}}
    if metric not in offered:
        raise UsageError(unknown(f"metric of {task.name}", metric, offered))
    chosen = offered[metric]
    return replace(task, metrics=(chosen if chosen.primary else replace(chosen, primary=True),))


def check_fits(task: Task, samples: Iterable[Sample]) -> None:
    """Try a narrowed task's metric, its first, on every sample before any model is loaded.

    Raises DataError for the first sample that a general metric cannot score: options where it takes answers,
    nine answers where it takes ten. A task's own metrics are taken at their word.
    """
    metric = task.metrics[0]
    if metric is not NAMED.get(metric.name):
        return
    for sample in samples:
        if sample.target is not None:
            metric.stat([(sample, "")])

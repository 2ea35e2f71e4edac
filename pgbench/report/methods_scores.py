"""What the scores are, how sure they are, and with which doubts: sentences for the methods. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial

from pgbench.records import RunRecord
from pgbench.report.figures.cells import doubts as doubts_of
from pgbench.report.methods_subjects import differing, joined, listed
from pgbench.types import Task

_INTERVALS = {
    "clustered t": "Student's t on sums per cluster (an image, or a pair) with C - 1 degrees of freedom",
    "wilson": "Wilson's with clusters as trials, where all clusters agree",
    "bootstrap": "percentile bootstrap over clusters, on sums per cluster",
    "none": "no interval",
    "": "no score, and so no interval",
}


def metrics(records: Sequence[RunRecord], tasks: Mapping[str, Task]) -> Iterator[str]:
    """The metrics of each task, the primary one first, with the source that defines them."""
    groups: dict[tuple[str, int], list[RunRecord]] = {}
    for record in records:
        groups.setdefault((record.spec.task, record.spec.version), []).append(record)
    for (name, version), found in groups.items():
        primaries = tuple(dict.fromkeys(record.primary for record in found))
        names = tuple(dict.fromkeys([*primaries, *(one for record in found for one in record.scores)]))
        sources = _sources(tasks.get(name), version, names)
        yield f"Metrics of {name}: {sources}; primary: {listed(primaries)}"


def intervals(records: Sequence[RunRecord]) -> Iterator[str]:
    """Which kind of 95 % interval which metric has, and in how many cells where it is not the same in all."""
    kinds: dict[str, Counter[str]] = {}
    cells: Counter[str] = Counter()
    for record in records:
        for name, score in record.scores.items():
            metric = f"{record.spec.task} {name}"
            kinds.setdefault("" if score.value is None else score.interval, Counter())[metric] += 1
            cells[metric] += 1
    parts = [
        f"{said} ({listed(tuple(_share(one, count, cells[one]) for one, count in kinds[kind].items()))})"
        for kind, said in _INTERVALS.items()
        if kind in kinds
    ]
    if parts:
        yield f"95 % intervals: {'; '.join(parts)}"


def _share(metric: str, count: int, cells: int) -> str:
    return metric if count == cells else f"{metric} in {count:,} of {cells:,} cells"


def failures(records: Sequence[RunRecord]) -> Iterator[str]:
    """Samples without an answer, and answers that could not be parsed."""
    if not records:
        return
    failed = [record for record in records if record.failures]
    if failed:
        yield f"Samples without an answer, which count as wrong: {joined(differing(failed, _failed))}"
    else:
        yield "No sample failed"
    unread = [record for record in records if _invalid(record)]
    if unread:
        yield f"Answers that could not be parsed, by the primary metric: {joined(differing(unread, _unread))}"


def doubts(records: Sequence[RunRecord]) -> Iterator[str]:
    """What numbers cannot be taken for: demo, limited, incomplete, seen in training."""
    held = {id(record): frozenset(_doubts(record)) for record in records}
    for reason in dict.fromkeys(reason for record in records for reason in _doubts(record)):
        having = {name for name, found in held.items() if reason in found}
        whose = next(who for value, who in differing(records, partial(_held, having)) if value)
        yield f"{reason[0].upper()}{reason[1:]} ({listed(whose) if whose else 'all cells'})"


def _held(having: Set[int], record: RunRecord) -> str:
    return "held" if id(record) in having else ""


def _doubts(record: RunRecord) -> tuple[str, ...]:
    """Without failures, which have a sentence of their own."""
    return doubts_of(replace(record, failures=()))


def _sources(task: Task | None, version: int, names: Sequence[str]) -> str:
    if task is None or task.version != version:
        here = (
            "the task is not installed here" if task is None else f"version {task.version} is installed here"
        )
        return f"{listed(names)} (definitions not at hand: {here})"
    sources: dict[str, list[str]] = {}
    known = {one.name: one.source for one in task.metrics}
    for name in names:
        sources.setdefault(known.get(name, "made on demand"), []).append(name)
    return "; ".join(f"{listed(tuple(found))} ({source})" for source, found in sources.items())


def _failed(record: RunRecord) -> str:
    return f"{len(record.failures):,} of {record.data.selected:,}"


def _invalid(record: RunRecord) -> int:
    return record.scores[record.primary].invalid if record.primary in record.scores else 0


def _unread(record: RunRecord) -> str:
    return f"{_invalid(record):,} of {record.scores[record.primary].n:,}"

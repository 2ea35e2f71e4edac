"""What results/demo/README.md is made of: the runs of results/demo, and their scores by task and kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from pgbench.demo.touring.route import Route
from pgbench.paired.compare import Row
from pgbench.paired.evidence import Evidence
from pgbench.records import Score
from pgbench.stats import clustered_t, wilson

POOLED = ("vqav2", "gqa", "pope", "textvqa")  # tasks whose kinds of questions are told apart
KINDS: Mapping[str, tuple[str, ...]] = {
    "colour": ("colour",),
    "shape": ("shape",),
    "yes/no": ("exists", "both", "either", "verify", "same"),
    "counting": ("count",),
    "where": ("where",),
    "one of two": ("side", "size", "which"),
    "reading, large letters": ("sign",),
    "reading, small letters": ("label",),
}
_TITLES = {"textvqa": "TextVQA", "vqav2": "VQAv2", "scienceqa": "ScienceQA"}


@dataclass(frozen=True, slots=True)
class Blind:
    """What answering without looking scores in a task, and in each kind of its questions; fractions."""

    whole: float
    kinds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Found:
    """All that the page is made of. `held` and `shuffled` are unquantized, over the same questions."""

    route: Route
    swept: Sequence[Evidence]
    held: Sequence[Evidence]
    shuffled: Sequence[Evidence]
    blind: Mapping[str, Blind]  # by task


@dataclass(frozen=True, slots=True)
class Value:
    """A score with its interval. Fractions."""

    value: float
    low: float | None
    high: float | None
    n: int

    def __str__(self) -> str:
        known = self.low is not None and self.high is not None
        span = f" ({points(self.low)} to {points(self.high)})" if known else ""
        return f"{points(self.value)}{span}"


def pooled(cells: Sequence[Evidence], kinds: Sequence[str]) -> Value | None:
    """Mean accuracy of these kinds of questions over the tasks of `POOLED`; None where none is asked.

    Its interval is clustered by picture.
    """
    sums: dict[tuple[str, str], list[float]] = {}
    for cell in cells:
        units = cell.units["accuracy"] if task_of(cell) in POOLED else None
        for place, name in enumerate(units.ids if units else ()):
            sample = cell.samples[name]
            if units and sample.groups["asks"] in kinds:
                value = units.reduce({stat: column[place] for stat, column in units.sums.items()})
                sums.setdefault((task_of(cell), sample.cluster), []).append(value or 0.0)
    if not sums:
        return None
    n = sum(map(len, sums.values()))
    mean = fsum(value for values in sums.values() for value in values) / n
    bounds = clustered_t(
        [fsum(values) for values in sums.values()], [len(one) for one in sums.values()], bounded=True
    )
    low, high = (bounds.low, bounds.high) if bounds else wilson(mean, len(sums))
    return Value(mean, low, high, n)


def blind_of(found: Found, kinds: Sequence[str]) -> float:
    """Of kinds over tasks, each as often as it was asked."""
    asked: list[float] = []
    for cell in cells_of(found.held, found.route.checkpoints[0]):
        blind = found.blind[task_of(cell)].kinds
        if task_of(cell) in POOLED:
            given = (one.groups["asks"] for one in cell.samples.values())
            asked += [blind[kind] for kind in given if kind in kinds]
    return fsum(asked) / len(asked)


def of_score(score: Score) -> Value:
    return Value(score.value or 0.0, score.low, score.high, score.n)


def score_of(cells: Sequence[Evidence], task: str, checkpoint: str) -> Value:
    """The primary score of an unquantized cell."""
    record = cell_of(cells, task, checkpoint).record
    return of_score(record.scores[record.primary])


def task_of(cell: Evidence) -> str:
    return cell.record.spec.task


def cells_of(cells: Sequence[Evidence], checkpoint: str) -> list[Evidence]:
    return [cell for cell in cells if cell.record.spec.checkpoint.id == checkpoint]


def cell_of(cells: Sequence[Evidence], task: str, checkpoint: str, quant: str = "none") -> Evidence:
    """Raises LookupError where there is not exactly one such cell."""
    found = [
        cell
        for cell in cells_of(cells, checkpoint)
        if (task_of(cell), cell.record.spec.checkpoint.quant) == (task, quant)
    ]
    if len(found) != 1:
        raise LookupError(f"{len(found)} cells of {task}, {checkpoint}, {quant}; expected one")
    return found[0]


def titled(task: str) -> str:
    return _TITLES.get(task, task.upper())


def change(row: Row) -> str:
    gain = row.difference
    if gain is None:
        return "undefined"
    known = gain.low is not None and gain.high is not None
    span = f" ({100 * (gain.low or 0):+.2f} to {100 * (gain.high or 0):+.2f})" if known else ""
    return f"{100 * gain.value:+.2f}{span}"


def p_of(row: Row) -> str:
    return f"{row.test.p:.2g}" if row.test else ""


def points(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.2f}"

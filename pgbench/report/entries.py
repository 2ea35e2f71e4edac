"""What stands in a comparison: a number, its place on every axis, and what is said with it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev

from pgbench.published import Match
from pgbench.records import RunRecord, Score
from pgbench.report import axes
from pgbench.report.grid import Entry
from pgbench.report.table import caveats, seen

PEOPLE = "people"  # who rated an NES; any other rater is a judge


@dataclass(frozen=True, slots=True)
class Rating:
    """An NES beside a record: by people, or by a judge, which is never the same."""

    metric: str  # nes | the judge's own name, NES-proxy (judge@revision)
    rater: str  # PEOPLE | the judge's name
    score: Score
    note: str


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run of a report. `place` names it in messages, relative to the folder that was named."""

    place: str
    record: RunRecord
    recipe: str = ""  # what its checkpoint is one training run of
    ratings: tuple[Rating, ...] = ()
    remarks: tuple[str, ...] = ()  # why a rating beside it is left out


@dataclass(frozen=True, slots=True)
class Item:
    """One number. Fractions unless `number`; of a published one there is no run."""

    keys: Mapping[str, str]  # axis -> value
    value: float | None
    low: float | None = None
    high: float | None = None
    number: bool = False
    n: int | None = None
    failed: int = 0
    run: Run | None = None
    score: Score | None = None
    match: Match | None = None
    notes: tuple[str, ...] = ()
    shown: Mapping[str, str] = field(default_factory=dict)  # how a head says a value, where not as it is
    members: tuple[Item, ...] = ()  # training runs of one recipe
    spread: float | None = None  # their standard deviation, ddof 1
    digits: int = 2  # behind the point; of a published number as it was published


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which scores of a record: metrics by name (none: the primary), of all samples or of a breakdown.

    `groups`: breakdowns whose values are shown as well. `only_groups`: without the number over all samples.
    """

    metrics: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    only_groups: bool = False
    ratings: bool = False


def of_run(run: Run, wanted: Wanted) -> Iterator[Item]:
    """The scores of a run that a table asks for, in the order in which they were asked for."""
    record = run.record
    shared, notes = axes.of_record(record), _notes(run)
    for metric in wanted.metrics or (record.primary,):
        parted = wanted.only_groups and any(group in record.groups for group in wanted.groups)
        if metric in record.scores and not parted:
            yield _scored(run, shared, notes, metric, record.scores[metric])
        for group in wanted.groups:
            for value, scores in record.groups.get(group, {}).items():
                if metric in scores:
                    yield _scored(run, shared, notes, metric, scores[metric], f"{group}={value}")
    for rating in run.ratings if wanted.ratings else ():
        keys = {"metric": rating.metric, "rater": rating.rater}
        made = _scored(run, shared, (*notes, rating.note), rating.metric, rating.score)
        yield replace(made, keys={**made.keys, **keys})


def _scored(
    run: Run, shared: Mapping[str, str], notes: tuple[str, ...], metric: str, score: Score, group: str = ""
) -> Item:
    keys = {**shared, "metric": metric, "group": group, "rater": "", "replicate": run.recipe}
    return Item(
        keys=keys,
        value=score.value,
        low=score.low,
        high=score.high,
        number=score.number,
        n=score.n,
        failed=score.failed,
        run=run,
        score=score,
        notes=notes,
        shown={"group": group.partition("=")[2] or "all"},
    )


def _notes(run: Run) -> tuple[str, ...]:
    """What each number of a run carries: what it cannot be taken for, and whether its samples were seen."""
    reason = seen(run.record)
    told = [f"may have been trained on these samples: {reason}"] if reason else []
    return (*caveats(run.record), *told)


def replicates(items: Sequence[Item]) -> list[Item]:
    """Training runs of one recipe as one number, mean with SD over seeds; other items as they are."""
    alike: dict[tuple[str, ...], list[Item]] = {}
    dropped = {"model", "checkpoint", "revision", "adapter", "adapter_revision", "device", "params", "batch"}
    for item in items:
        recipe = item.keys.get("replicate", "")
        own = [f"{axis}={value}" for axis, value in sorted(item.keys.items()) if axis not in dropped]
        alike.setdefault((*own, "" if recipe else str(id(item))), []).append(item)
    return [_mean(members) if members[0].keys.get("replicate") else members[0] for members in alike.values()]


def _mean(members: Sequence[Item]) -> Item:
    first = members[0]
    values = [item.value for item in members if item.value is not None]
    seeds = f"{len(values)} seed{'s' if len(values) != 1 else ''}"
    short = f" of {len(members)}" if len(values) < len(members) else ""
    note = f"mean ± SD over {seeds}{short} of one recipe (ddof 1); the SD holds no sampling error"
    recipe = first.keys["replicate"]
    return Item(
        keys={
            **first.keys,
            "model": recipe,
            "checkpoint": recipe,
            "revision": "",
            "adapter": "",
            "adapter_revision": "",
            "params": "",
        },
        value=fmean(values) if values else None,
        number=first.number,
        n=first.n if len({item.n for item in members}) == 1 else None,
        failed=sum(item.failed for item in members),
        notes=tuple(dict.fromkeys([note, *(text for item in members for text in item.notes)])),
        shown=first.shown,
        members=tuple(members),
        spread=stdev(values) if len(values) > 1 else None,
    )


def entry(item: Item, notes: Iterable[int], *, bold: bool = False) -> Entry:
    """The number of an item as a table prints it: points, or as it is where it is no fraction."""
    scale = 1 if item.number else 100
    text = "undefined" if item.value is None else f"{scale * item.value:.{item.digits}f}"
    if item.spread is not None:
        text += f" ± {scale * item.spread:.2f}"
    known = item.low is not None and item.high is not None
    interval = f"{scale * (item.low or 0.0):.2f} to {scale * (item.high or 0.0):.2f}" if known else ""
    return Entry(text, interval, bold=bold, notes=tuple(sorted(set(notes))), data=_data(item))


def _data(item: Item) -> dict[str, object]:
    """For machines: fractions, unless the unit says otherwise."""
    score, match = item.score, item.match
    found: dict[str, object] = {
        "value": item.value,
        "low": item.low,
        "high": item.high,
        "n": item.n,
        "unit": "number" if item.number else "fraction",
        **{axis: value for axis, value in item.keys.items() if value},
    }
    if score is not None:
        counts = {name: getattr(score, name) for name in ("clusters", "invalid", "failed", "interval")}
        found |= {"stderr": score.stderr, **counts}
    if item.run is not None:
        found |= {"key": item.run.record.key, "full": item.run.record.data.full}
    if item.members:
        found |= {"sd": item.spread, "seeds": len(item.members)}
    if match is not None:
        found |= {"published": True, "source": match.row.source, "agreement": match.agreement}
    return found

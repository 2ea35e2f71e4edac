"""Records as what figures are made of: one score each, with names that tell them apart. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pgbench.records import RunRecord, Score
from pgbench.report.axes import adapter_name
from pgbench.report.table import SUBMIT_HINT, caveats, seen
from pgbench.types import Checkpoint, Direction, Task

_SHORT = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_LISTED = 16  # names in a sentence of a caption


@dataclass(frozen=True, slots=True)
class Cell:
    """One score of one record."""

    record: RunRecord
    metric: str
    score: Score
    task: str  # "textvqa v1 · val", with variant and mode where they are not the usual ones
    series: str  # the checkpoint
    level: str  # its number format: bf16, 4bit, ...
    doubts: tuple[str, ...]  # why its point is hollow
    direction: Direction | None  # None also where the task is not at hand

    @property
    def name(self) -> str:
        return f"{self.series} {self.level}"

    @property
    def scale(self) -> float:
        return 1.0 if self.score.number else 100.0

    @property
    def y(self) -> float:
        return self.scale * (self.score.value or 0.0)

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        low, high = self.score.low, self.score.high
        return (None, None) if low is None or high is None else (self.scale * low, self.scale * high)


def of(
    records: Sequence[RunRecord], tasks: Mapping[str, Task], metric: str | None = None
) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    """The cells in the order of the records, and a phrase for each record that has no such score."""
    names = _series([record.spec.checkpoint for record in records])
    found, missing = [], []
    for record, name in zip(records, names, strict=True):
        chosen = metric or record.primary
        score = record.scores.get(chosen)
        cell = Cell(
            record,
            chosen,
            score or Score(None, None, None, None, 0, 0, 0, 0, 0),
            _task(record, tasks.get(record.spec.task)),
            name,
            level(record.spec.checkpoint),
            doubts(record),
            _direction(tasks.get(record.spec.task), chosen),
        )
        if score is None or score.value is None:
            why = "has no score of that name" if score is None else "is undefined"
            missing.append(f"{cell.task}, {cell.name}: {chosen} {why}")
        else:
            found.append(cell)
    return _told_apart(found), tuple(missing)


def doubts(record: RunRecord) -> tuple[str, ...]:
    """What the score of a record cannot be taken for: the caveats of its table, and seen data."""
    found = [one.removesuffix(SUBMIT_HINT) for one in caveats(replace(record, failures=()))]
    if record.failures:
        found.append(
            f"{len(record.failures):,} of {record.data.selected:,} samples failed and count as wrong"
        )
    reason = seen(record)
    return (*found, *([f"CONTAMINATED: {reason}"] if reason else []))


def level(point: Checkpoint) -> str:
    """bf16, fp32, 8bit, 4bit, ... and what is unusual about it.

    >>> from pgbench.types import Profile
    >>> level(Checkpoint("x", None, Profile("mix", "paligemma"), 224, quant="4bit", quant_scope="language"))
    '4bit (language model only)'
    """
    short = _SHORT[point.dtype]
    if point.quant == "none":
        return short
    rest = [f"rest {short}"] if point.dtype != "bfloat16" else []
    more = [*(["language model only"] if point.quant_scope == "language" else []), *rest]
    return f"{point.quant} ({', '.join(more)})" if more else point.quant


def panels(cells: Iterable[Cell]) -> dict[tuple[str, str], list[Cell]]:
    """Cells that share axes: those of one task, version, variant, mode, split and metric."""
    found: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        found[cell.task, cell.metric].append(cell)
    return dict(found)


def measured(cells: Sequence[Cell]) -> str:
    """How many samples a panel's scores are over: "n = 5,000", "n = 50 to 5,000". A drawing is copied without
    its caption: that numbers are a demo's stands in it."""
    counts = sorted({cell.score.n for cell in cells})
    told = f"n = {counts[0]:,}" if len(counts) == 1 else f"n = {counts[0]:,} to {counts[-1]:,}"
    drawn = [any(doubt.startswith("DEMO NUMBERS") for doubt in cell.doubts) for cell in cells]
    return f"{told} · {'' if all(drawn) else 'with '}DEMO NUMBERS" if any(drawn) else told


def listed(names: Iterable[str], separator: str = ", ") -> str:
    """Names in a sentence, each once, the first sixteen of them."""
    found = list(dict.fromkeys(names))
    more = [f"and {len(found) - _LISTED:,} more"] if len(found) > _LISTED else []
    return separator.join([*found[:_LISTED], *more])


def _direction(task: Task | None, metric: str) -> Direction | None:
    return next((one.direction for one in task.metrics if one.name == metric), None) if task else None


def _task(record: RunRecord, task: Task | None) -> str:
    spec = record.spec
    usual = task.variants[0] if task else "default"
    more = [
        *([spec.variant] if spec.variant != usual else []),
        *([spec.mode] if spec.mode != "generate" else []),
    ]
    return " · ".join([f"{spec.task} v{spec.version}", spec.split, *more])


def _series(points: Sequence[Checkpoint]) -> list[str]:
    """A name for each checkpoint: the last part of its id where that is enough."""
    ids = {point.id for point in points}
    last = Counter(_last(name) for name in ids)
    revisions = {name: {point.revision for point in points if point.id == name} for name in ids}
    return [
        _named(
            point,
            point.id if last[_last(point.id)] > 1 else _last(point.id),
            several=len(revisions[point.id]) > 1,
        )
        for point in points
    ]


def _last(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1] or name


def _named(point: Checkpoint, name: str, *, several: bool) -> str:
    parts = [f"{name}@{point.revision[:7]}" if several and point.revision else name]
    if point.resolution and str(point.resolution) not in name:
        parts.append(f"{point.resolution} px")
    if point.adapter:
        parts.append(f"adapter {adapter_name(point)}")
    if point.pixels_from:
        parts.append(f"pixels from {point.pixels_from} px")
    parts += [word for word in (point.profile.style, point.protocol) if word not in ("paligemma", "hf")]
    return ", ".join(parts)


def _told_apart(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Cells of one task that share a name get what they differ in into it, in the last resort their key."""
    groups: dict[tuple[str, str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.task, cell.metric, cell.name].append(cell)
    renamed: dict[int, Cell] = {}
    for group in groups.values():
        told = [_circumstances(cell.record) for cell in group]
        differ = [index for index in range(len(told[0])) if len({facts[index] for facts in told}) > 1]
        words = [", ".join(facts[index] for index in differ) for facts in told]
        counts = Counter(words)
        for cell, text in zip(group, words, strict=True):
            more = [text] if text else []
            if counts[text] > 1 and len(group) > 1:
                more.append(cell.record.key[:8])
            name = ", ".join([cell.level, *more])
            renamed[id(cell)] = replace(cell, level=name)
    return tuple(renamed[id(cell)] for cell in cells)


def _circumstances(record: RunRecord) -> tuple[str, ...]:
    spec = record.spec
    return (
        f"limit {spec.limit:,}" if spec.limit else "no limit",
        f"batch {spec.batch}",
        f"seed {spec.seed}",
        f"{spec.max_new_tokens} new tokens",
        record.stack.device_name or record.stack.device,
        f"data {record.data.digest[:6]}",
        f"adapter {(spec.checkpoint.adapter_revision or 'none')[:8]}",
    )

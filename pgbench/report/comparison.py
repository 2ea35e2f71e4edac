"""A comparison table: numbers in their places, with differences, costs, and all that has to be said. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pgbench.records import RunRecord
from pgbench.report import costs, deltas, marks, placing, saying
from pgbench.report.deltas import Against, Delta
from pgbench.report.entries import Item, entry
from pgbench.report.grid import Column, Entry, Grid, Row
from pgbench.report.marks import Marks, Paired
from pgbench.report.placing import Key, Placed, RowKey


@dataclass(frozen=True, slots=True)
class Plan:
    """What a table is to look like."""

    name: str
    caption: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    by_itself: bool = False  # a layout: it adds axes in which its cells differ
    against: Against | None = None
    costs: bool = False
    beside: bool = False  # published numbers as columns, not as rows
    first: Mapping[str, Sequence[str]] = field(default_factory=dict)  # the order of an axis' values
    heads: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (axis, value) -> its head
    remarks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Notes:
    """Footnotes, numbered as they are first met."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.texts.setdefault(text, len(self.texts) + 1)


@dataclass(frozen=True, slots=True)
class _Table:
    """What every part of a table is made from."""

    plan: Plan
    items: Sequence[Item]
    placed: Placed
    deltas: Mapping[int, Delta]
    marks: Marks
    published: Mapping[int, Sequence[Item]]  # where they are columns: by position
    note: Notes
    usual: saying.Usual
    spread: Mapping[Key, Sequence[int]]  # positions of the items of a column
    with_delta: frozenset[Key]  # columns
    with_published: frozenset[Key]
    counted: bool  # each row is of one set of samples, so that their number can stand in a column
    setting: costs.Setting


def grid(
    items: Sequence[Item],
    published: Sequence[Item],
    beside: Mapping[int, Sequence[Item]],
    plan: Plan,
    paired: Paired | None,
) -> Grid:
    """One table. `beside`: published numbers by the position of the item that they stand beside.

    Raises UsageError for two runs in one place and for a cell of comparison that is not there, StoreError
    where paired answers cannot be read.
    """
    all_items = [*items, *([] if plan.beside else published)]
    rows, columns = placing.completed(all_items, plan.rows, plan.columns, by_itself=plan.by_itself)
    placed = placing.placed(all_items, rows, columns, plan.first)
    found = deltas.deltas(all_items, plan.against) if plan.against else {}
    marked = marks.of(all_items, found, paired) if paired else marks.UNPAIRED
    table = _table(plan, all_items, placed, found, marked, beside if plan.beside else {})
    body = tuple(_row(table, row) for row in placed.rows)
    return Grid(
        name=plan.name,
        caption=plan.caption,
        row_heads=tuple(axis.replace("_", " ") for axis in rows),
        columns=_columns(table),
        rows=body,
        footnotes=tuple(table.note.texts),
        remarks=tuple(_remarks(table, (*rows, *columns))),
        warnings=(*saying.warnings(items), *plan.warnings),
    )


def _table(
    plan: Plan,
    items: Sequence[Item],
    placed: Placed,
    found: Mapping[int, Delta],
    marked: Marks,
    published: Mapping[int, Sequence[Item]],
) -> _Table:
    spread: dict[Key, list[int]] = {column: [] for column in placed.columns}
    for (_, column), places in placed.cells.items():
        spread[column] += places
    own = [item for item in items if item.match is None]
    samples = {saying.question(item) for item in own}
    with_delta = [
        column
        for column, places in spread.items()
        if any(place in found and found[place].value is not None for place in places)
    ]
    with_published = [column for column, places in spread.items() if any(one in published for one in places)]
    return _Table(
        plan,
        items,
        placed,
        found,
        marked,
        published,
        Notes(),
        saying.usual(own),
        {column: sorted(places) for column, places in spread.items()},
        frozenset(with_delta),
        frozenset(with_published),
        counted=len(samples) == 1,
        setting=costs.setting(records_of(own)),
    )


def _columns(table: _Table) -> tuple[Column, ...]:
    inner = bool(table.with_delta or table.with_published)
    made = []
    for column in table.placed.columns:
        heads = tuple(
            _head(table, axis, value, table.spread[column])
            for axis, value in zip(table.placed.column_axes, column, strict=True)
        )
        made.append(Column((*heads, "score") if inner or not heads else heads))
        if column in table.with_delta:
            made.append(Column((*heads, _against(table)), "delta"))
        if column in table.with_published:
            made.append(Column((*heads, "published"), "published"))
    counts = (Column(("n",), "count"), Column(("failed",), "count")) if table.counted else ()
    return (*made, *counts, *(costs.columns() if table.plan.costs else ()))


def _against(table: _Table) -> str:
    """The head of differences: the cell of comparison as its own head names it."""
    against = table.plan.against
    if against is None:
        return "Δ"
    bases = [place for place, item in enumerate(table.items) if item.keys.get(against.axis) == against.value]
    return f"Δ to {_head(table, against.axis, against.value, bases) if bases else against.value}"


def _head(table: _Table, axis: str, value: str, places: Sequence[int]) -> str:
    if named := table.plan.heads.get((axis, value)):
        return named
    items = [table.items[place] for place in places]
    own = [item for item in items if item.match is None] or items
    if axis == "quant" and value == "none" and own[0].match is None:
        dtypes = {item.keys["dtype"] for item in own}
        return dtypes.pop() if len(dtypes) == 1 else "not quantized"
    return own[0].shown.get(axis, value) or ""


def _row(table: _Table, row: RowKey) -> Row:
    placed, entries = table.placed, list[Entry]()
    for column in placed.columns:
        places = placed.cells.get((row, column), ())
        entries += _cell(table, column, places)
    mine = [place for column in placed.columns for place in placed.cells.get((row, column), ())]
    entries += _counts(table, mine) if table.counted else ()
    if table.plan.costs:
        records = records_of(table.items[place] for place in mine)
        entries += costs.entries(records, table.note, table.setting)
    heads = tuple(
        _head(table, axis, value, mine) for axis, value in zip(placed.row_axes, row.keys, strict=True)
    )
    return Row(heads, tuple(entries), published=row.published)


def _cell(table: _Table, column: Key, places: Sequence[int]) -> list[Entry]:
    """The score of one place, its difference and what is published of it, as far as the column has them."""
    made = [_score(table, places) if places else Entry()]
    if column in table.with_delta:
        made.append(_difference(table, places[0]) if places else Entry())
    if column in table.with_published:
        made.append(_beside(table, table.published.get(places[0], ())) if places else Entry())
    return made


def _score(table: _Table, places: Sequence[int]) -> Entry:
    item = table.items[places[0]]
    texts = [text for place in places for text in table.items[place].notes]
    usual = table.usual.get(saying.question(item))
    if None not in (item.n, usual) and item.n != usual and not table.counted:
        texts.append(f"n = {item.n:,} here")
    if reason := table.marks.reasons.get(places[0]):
        texts.append(reason)
    return entry(item, [table.note(text) for text in texts], bold=places[0] in table.marks.bold)


def _difference(table: _Table, place: int) -> Entry:
    delta, against = table.deltas.get(place), table.plan.against
    if delta is None or against is None:
        return Entry()  # the baseline itself
    item = table.items[place]
    if delta.value is None:
        return Entry(notes=(table.note(delta.reason),) if delta.reason else ())
    verdict, p = table.marks.verdicts.get(place), table.marks.adjusted.get(place)
    interval, extra = "", dict[str, object]()
    if verdict is not None:
        scale = 1 if item.number else 100
        if verdict.low is not None and verdict.high is not None:
            interval = f"{scale * verdict.low:+.2f} to {scale * verdict.high:+.2f}"
        extra = {"low": verdict.low, "high": verdict.high, "p": verdict.p, "p_holm": p}
        extra |= {"interval": verdict.interval, "test": verdict.test, "draws": verdict.draws}
        extra |= {"seed": verdict.seed, "disagreeing_clusters": verdict.disagreeing}
        extra |= {"refused": verdict.refusal or None}
    mark = "*" if p is not None and p < marks.ALPHA else ""
    notes = (table.note(table.marks.reasons[place]),) if verdict and verdict.refusal else ()
    data = {**deltas.data(delta, against, extra), "unit": "number" if item.number else "fraction"}
    return Entry(deltas.text(delta, item), interval, mark=mark, notes=notes, data=data)


def _beside(table: _Table, found: Sequence[Item]) -> Entry:
    """Published numbers of one cell: each source's own, the exact matches first."""
    if not found:
        return Entry()
    made = [entry(item, ()) for item in found]
    notes = sorted({table.note(text) for item in found for text in item.notes})
    data = {"published": [dict(one.data) for one in made]}
    return Entry(", ".join(dict.fromkeys(one.text for one in made)), notes=tuple(notes), data=data)


def _counts(table: _Table, places: Sequence[int]) -> tuple[Entry, Entry]:
    own = [table.items[place] for place in places if table.items[place].match is None]
    numbers = {item.n for item in own if item.n is not None}
    failed = {item.failed for item in own}
    return _count(numbers), _count(failed)


def _count(numbers: set[int]) -> Entry:
    if not numbers:
        return Entry()
    shown = " or ".join(f"{one:,}" for one in sorted(numbers))
    return Entry(shown, data={"value": max(numbers), "unit": "samples"})


def records_of(items: Iterable[Item]) -> list[RunRecord]:
    found: dict[str, RunRecord] = {}
    for item in items:
        for one in item.members or (item,):
            if one.run is not None:
                found[one.run.record.key] = one.run.record
    return list(found.values())


def _remarks(table: _Table, used: Sequence[str]) -> list[str]:
    own = [item for item in table.items if item.match is None]
    told: list[str] = []
    if own:
        told += [saying.samples(own, table.usual), *placing.untold(table.items, used), *saying.intervals(own)]
        held = [place for place, delta in table.deltas.items() if delta.base is not None]
        bases = [base for place in held if (base := table.deltas[place].base) is not None]
        compared = records_of(table.items[place] for place in (*bases, *held))
        told += saying.noise(compared, asked=table.marks is not marks.UNPAIRED)
        told += [*table.marks.remarks, *([table.marks.footnote] if table.marks.footnote else [])]
    if table.plan.costs and (records := records_of(own)):
        told += costs.remarks(records)
    points = "scores in percent, differences in points" if table.deltas else "scores in percent"
    heads = table.plan.heads
    numbers = {
        heads.get(("metric", item.keys["metric"]), item.keys["metric"]) for item in table.items if item.number
    }
    told.append(points + (f"; plain numbers: {', '.join(sorted(numbers))}" if numbers else ""))
    return [*told, *table.plan.remarks]

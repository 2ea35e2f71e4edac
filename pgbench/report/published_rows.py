"""Published numbers with a place in a comparison: beside the runs that they may stand beside, or alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

from pgbench.published import Key, Match, Published, column, find, key_of, rows
from pgbench.report.axes import OF_QUESTIONS
from pgbench.report.entries import PEOPLE, Item

Choice: TypeAlias = Callable[[Published], bool]
Place: TypeAlias = tuple[str, str, str, str]  # task, split, metric, group

_UNQUANTIZED = ("none", "unstated")  # an unstated precision stands beside unquantized runs, see its footnote


def beside(items: Iterable[Item]) -> tuple[list[Item], dict[int, list[Item]]]:
    """What is published of the cells of a table: all of it, and by the position of each cell.

    Nothing stands beside drawn pictures or a demo checkpoint; what stands beside a part of a split, or
    beside answers of no model, says so.
    """
    found: dict[tuple[object, ...], Item] = {}
    by_cell: dict[int, list[Item]] = {}
    known: dict[Key, tuple[Match, ...]] = {}
    for position, item in enumerate(items):
        for match in _matches(item, known):
            made = _item(match, {axis: item.keys[axis] for axis in OF_QUESTIONS}, _doubts(item))
            made = found.setdefault((match.row, *sorted(made.keys.items()), made.notes), made)
            by_cell.setdefault(position, []).append(made)
    return list(found.values()), by_cell


def around(
    items: Sequence[Item], known: Sequence[Item], tables: Iterable[Place], chosen: Choice
) -> list[Item]:
    """Numbers of a layout's own published table that no cell joins: other models on the same questions.

    `known`: those that stand in the table by then. Nothing stands below drawn pictures.
    """
    asked: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        if item.run is not None and not item.run.record.data.demo:
            asked.setdefault((item.keys["task"], item.keys["split"]), []).append(item)
    there = {item.match.row for item in known if item.match}
    found = []
    for place in tables:
        own = asked.get(place[:2], [])
        matches = [match for match in column(*place) if own and chosen(match.row) and match.row not in there]
        for match in _in_order(matches):
            answered = [item for item in own if item.keys["mode"] == "generate"]
            fit = [item for item in answered if match.row.variant in (None, item.keys["variant"])]
            if not fit:
                continue
            keys = {axis: fit[0].keys[axis] for axis in ("version", "variant", "mode")}
            doubts = dict.fromkeys(text for item in fit for text in _doubts(item))
            found.append(_item(match, {**_asked(match.row), **keys}, tuple(doubts)))
    return found


def of_tables(tables: Iterable[Place], chosen: Choice) -> list[Item]:
    """The published numbers of some (task, split, metric, group), without any run."""
    found = [match for place in tables for match in column(*place) if chosen(match.row)]
    return [_item(match, _asked(match.row), ()) for match in _in_order(found)]


def _in_order(found: Iterable[Match]) -> list[Match]:
    """As their sources have them."""
    order = {row: place for place, row in enumerate(rows())}
    return sorted(found, key=lambda match: order[match.row])


def _asked(row: Published) -> dict[str, str]:
    return {
        "task": row.task or "",
        "version": "",
        "split": row.split or "",
        "variant": row.variant or "",
        "mode": "generate",
        "metric": row.metric or "",
        "group": row.group,
        "rater": PEOPLE if row.metric == "nes" else "",
    }


def _matches(item: Item, known: dict[Key, tuple[Match, ...]]) -> Sequence[Match]:
    if item.run is None or item.run.record.data.demo:
        return ()
    key = key_of(item.run.record.spec, item.keys["metric"], item.keys["group"])
    if key not in known:
        known[key] = find(key)
    return known[key]


def _doubts(item: Item) -> tuple[str, ...]:
    if item.run is None:
        return ()
    record = item.run.record
    doubts = []
    if not record.data.full:
        doubts.append("runs that it stands with are not of the full published split: no comparison")
    if record.spec.checkpoint.backend in ("oracle", "replay"):
        doubts.append(
            f"answers that it stands with are of the {record.spec.checkpoint.backend} backend, not of a model"
        )
    return tuple(doubts)


def _item(match: Match, asked: dict[str, str], doubts: tuple[str, ...]) -> Item:
    row = match.row
    keys = {
        **asked,
        "model": _model(row),
        "checkpoint": _model(row),
        "family": row.family or "",
        "params": row.params,
        "kind": row.kind or "",
        "tuned_on": row.tuned_on or "",
        "resolution": str(row.resolution or ""),
        "quant": "none" if row.quant in _UNQUANTIZED else row.quant,
        "dtype": row.precision,
        "source": row.source,
    }
    return Item(
        keys=keys,
        value=row.scaled,
        number=not row.unit.startswith("%"),
        match=match,
        notes=(_footnote(match), *doubts),
        shown={"quant": _level(row), "group": row.group.partition("=")[2] or "all"},
        digits=_digits(row),
    )


def _footnote(match: Match) -> str:
    """One for all numbers of a source that differ in their precision alone: it names each, and the heads of
    the table say which is which."""
    row, agreement = match.row, "" if match.agreement == "likely" else "exact match: "
    own = f"; {row.precision}"
    alike = [
        one.precision
        for one in rows(row.task)
        if replace(one, value=row.value, quant=row.quant, precision=row.precision) == row
    ]
    every = f"; {', '.join(dict.fromkeys(alike))}"
    text = match.footnote.replace(own, every, 1) if len(alike) > 1 else match.footnote
    return f"published; {agreement}{text}"


def _model(row: Published) -> str:
    known = (
        row.params.lower() not in ("unknown", "unstated", "") and row.params.lower() not in row.model.lower()
    )
    return f"{row.model}{f' {row.params}' if known else ''}, {row.setting}"


def _level(row: Published) -> str:
    return row.precision if row.quant in ("none", "other") else row.quant


def _digits(row: Published) -> int:
    """Digits behind the point in the row's own table: 88.0 stands there as 88.00, 484 as 484."""
    alike = (row.benchmark, row.published_metric, row.source)
    found = [one for one in rows(row.task) if (one.benchmark, one.published_metric, one.source) == alike]
    return max(len(f"{one.value:g}".partition(".")[2]) for one in found)

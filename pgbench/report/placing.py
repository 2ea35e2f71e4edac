"""Numbers put into rows and columns: which axes, in which order, and no two in one place. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pgbench.errors import UsageError
from pgbench.report.axes import AXES, OF_MODEL, ordered
from pgbench.report.entries import Item

Key = tuple[str, ...]
# Axes that a table gets by itself where its cells differ in them; of the model to the rows, of the questions
# to the columns.
_BY_ITSELF = (
    *("style", "quant_scope", "dtype", "protocol", "pixels_from", "chat_attention", "adapter"),
    *("adapter_mode", "backend"),
)
_OF_COLUMNS = ("version", "split", "variant")
_NEVER_SHARED = ("mode", "rater")  # a likelihood is no answer, a judge is no person
# Another split has other data and another checkpoint another revision: nothing that has to be said.
_FOLLOWS = {"data": ("task", "split"), "revision": ("checkpoint",), "adapter_revision": ("adapter",)}
_TOLD = (
    *(
        "data",
        "device",
        "seed",
        "batch",
        "batching",
        "limit",
        "source",
        "revision",
        "adapter_revision",
        "adapter_mode",
    ),
    *("chat_attention", "max_new_tokens", "task_source"),
)


@dataclass(frozen=True, slots=True)
class RowKey:
    """`serial`: further numbers of one place, which papers have and runs must not."""

    keys: Key
    published: bool = False
    serial: int = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """`cells`: (row, column) -> position among the items."""

    row_axes: tuple[str, ...]
    column_axes: tuple[str, ...]
    rows: tuple[RowKey, ...]
    columns: tuple[Key, ...]
    cells: Mapping[tuple[RowKey, Key], tuple[int, ...]] = field(default_factory=dict)


def completed(
    items: Sequence[Item], rows: Sequence[str], columns: Sequence[str], *, by_itself: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The axes of a table: those asked for, and those without which its cells would be mistaken.

    `by_itself`: a layout, which adds what its cells differ in; axes that a user chose get only what must
    never share a column. Raises UsageError for an axis on both sides.
    """
    if both := sorted(set(rows) & set(columns)):
        raise UsageError(f"{both[0]} is named by --rows and by --columns; name each axis once")
    used = {*rows, *columns}
    more = [axis for axis in _NEVER_SHARED if axis not in columns and len(_values(items, axis)) > 1]
    more = [axis for axis in more if not (axis == "rater" and "metric" in columns)]
    rows = [axis for axis in rows if axis not in more]
    if not by_itself:
        return tuple(rows), (*more, *columns)
    own = [item for item in items if item.match is None]
    left = [axis for axis in _BY_ITSELF if axis not in used and len(_values(own, axis)) > 1]
    if "quant" in used and "quant_scope" in left and len(_values(own, "quant_scope") - {""}) < 2:
        left.remove("quant_scope")
    top = [axis for axis in _OF_COLUMNS if axis not in used and _differs_within(own, axis)]
    at = columns.index("task") + 1 if "task" in columns else 0
    return (*rows, *left), (*more, *columns[:at], *top, *columns[at:])


def _values(items: Sequence[Item], axis: str) -> set[str]:
    return {item.keys.get(axis, "") for item in items}


def _differs_within(items: Sequence[Item], axis: str, same: Sequence[str] = ("task",)) -> bool:
    """Whether items that are equal on the axes `same` differ on another one."""
    found: dict[tuple[str, ...], set[str]] = {}
    for item in items:
        found.setdefault(tuple(item.keys.get(one, "") for one in same), set()).add(item.keys.get(axis, ""))
    return any(len(values) > 1 for values in found.values())


def placed(
    items: Sequence[Item], rows: tuple[str, ...], columns: tuple[str, ...], first: Mapping[str, Sequence[str]]
) -> Placed:
    """Every item in its place. `first`: per axis an order that comes before the natural one.

    Raises UsageError for two runs in one place, naming the axes that would tell them apart.
    """
    cells: dict[tuple[RowKey, Key], tuple[int, ...]] = {}
    for position, item in enumerate(items):
        column = tuple(item.keys.get(axis, "") for axis in columns)
        keys, published = tuple(item.keys.get(axis, "") for axis in rows), item.match is not None
        row = RowKey(keys, published)
        while (row, column) in cells and published:
            if items[cells[row, column][0]].value == item.value:  # two sources that agree
                break
            row = RowKey(keys, published, row.serial + 1)
        if (row, column) in cells and not published:
            raise UsageError(_crowded(items[cells[row, column][0]], item, rows, columns))
        cells[row, column] = (*cells.get((row, column), ()), position)
    ranks = {axis: _ranks(items, axis, first.get(axis, ())) for axis in (*rows, *columns)}
    return Placed(
        rows,
        columns,
        tuple(sorted({row for row, _ in cells}, key=lambda row: _order(row, rows, ranks))),
        tuple(sorted({column for _, column in cells}, key=lambda column: _rank(column, columns, ranks))),
        cells,
    )


def _ranks(items: Sequence[Item], axis: str, first: Sequence[str]) -> dict[str, int]:
    values = ordered(axis, (item.keys.get(axis, "") for item in items), first)
    return {value: place for place, value in enumerate(values)}


def _rank(key: Key, axes: Sequence[str], ranks: Mapping[str, Mapping[str, int]]) -> tuple[int, ...]:
    return tuple(ranks[axis][value] for axis, value in zip(axes, key, strict=True))


def _order(row: RowKey, axes: Sequence[str], ranks: Mapping[str, Mapping[str, int]]) -> tuple[object, ...]:
    return row.published, _rank(row.keys, axes, ranks), row.serial


def _crowded(one: Item, other: Item, rows: Sequence[str], columns: Sequence[str]) -> str:
    """The message for two runs in one place."""
    where = ", ".join(f"{axis} {one.keys[axis] or 'none'}" for axis in (*rows, *columns))
    places = [item.run.place if item.run else item.keys["replicate"] for item in (one, other)]
    apart = [
        axis
        for axis in AXES
        if one.keys[axis] != other.keys[axis] and axis not in ("checkpoint", "group", "replicate", "rater")
    ]
    if "quant" in apart and "quant_scope" in apart:
        apart.remove("quant_scope")  # there is none where nothing is quantized
    if not apart and one.keys["checkpoint"] != other.keys["checkpoint"]:
        apart = ["checkpoint"]
    both = f"{places[0]} and {places[1]} fall into one place ({where})"
    if not apart:
        same = one.run and other.run and one.run.record.key == other.run.record.key
        why = "they are the same run" if same else "no axis tells them apart"
        return f"{both}: {why}; name one of them only"
    best = next((axis for axis in (*OF_MODEL, *AXES) if axis in apart), apart[0])
    named = ", ".join(apart[:4])
    return f"{both}: they differ in {named}; add {best} to --rows or --columns, or name fewer folders"


def untold(items: Sequence[Item], used: Sequence[str]) -> list[str]:
    """What cells differ in that no axis says; what they have in common."""
    own = [item for item in items if item.match is None and not item.members]
    if not own:
        return []
    differ, equal = [], []
    for axis in (
        *_OF_COLUMNS,
        "mode",
        "style",
        "resolution",
        "quant",
        "dtype",
        "protocol",
        "adapter",
        *_TOLD,
    ):
        values = ordered(axis, _values(own, axis))
        if axis in used or (axis == "resolution" and "checkpoint" in used):
            continue
        if len(values) > 1:
            within = _differs_within(own, axis, _FOLLOWS.get(axis, ("task",)))
            if within or axis not in (
                "version",
                "variant",
                "split",
                "data",
                "source",
                "task_source",
                "max_new_tokens",
                "revision",
                "adapter_revision",
            ):
                shown = [value or "none" for value in values]
                more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
                differ.append(f"{axis} ({', '.join(shown[:5])}{more})")
        elif (
            axis in ("split", "mode", "dtype", "protocol", "quant", "resolution", "style", "batch")
            and values[0]
        ):
            equal.append(f"{axis} {values[0]}")
    told = [f"cells differ in what no axis shows: {', '.join(differ)}"] if differ else []
    return [*told, *([f"equal in all cells: {', '.join(equal)}"] if equal else [])]

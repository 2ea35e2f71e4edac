"""Stored answers as a table: a row per answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgbench.durable import exists, read_json
from pgbench.errors import StoreError
from pgbench.frame.folders import Errors, Reading
from pgbench.frame.typed import typed
from pgbench.records import SampleLine
from pgbench.samples import read_lines

if TYPE_CHECKING:
    import pandas

# The target is a text, a tuple of texts, or None.
_TABLE = """
folder:string key:string task:string model:string id:string cluster:string prompt:string output:string
target:object error:string tokens:Int64 n_prompt:Int64 seconds:Float64 finite:boolean batch:Int64
batch_size:Int64 halved:Int64 image:string request_key:string reused:string
"""
_TYPES = {name: kind for name, _, kind in (column.partition(":") for column in _TABLE.split())}
_INT64 = 1 << 63
_OR_NONE = {"cluster", "image", "request_key", "reused"}  # stored as "" where there is none


def load_samples(run: str | Path, *, errors: Errors = "raise") -> pandas.DataFrame:
    """The answers of a run, or of all runs below a folder, unfinished ones too: one row per answer.

    `key` joins the rows with those of `load`, `id` joins the answers of two checkpoints. `cluster` is the
    picture or pair that a question shares with others, `reused` the key of the run that an answer was taken
    over from, `halved` how many samples were asked together where memory was not enough for the batch, else
    0. Then come the values of each breakdown (`group.NAME`) and the statistics of each metric
    (`accuracy.sum`), both sorted by name, none where a run lacks them. `attrs["skipped"]` as in `load`.

    Raises UsageError for a folder that is not there, StoreError for a file that cannot be read.
    """
    reading = Reading.of(run, errors)
    columns: dict[str, list[object]] = {name: [] for name in _TYPES}
    groups, statistics = _Sparse(), _Sparse()
    count = 0
    for name, (said, lines) in reading.each(_answers):
        for line in lines:
            _append(columns, {**said, "folder": name}, line)
            groups.add(count, {f"group.{group}": value for group, value in line.groups.items()})
            sums = {
                f"{metric}.{key}": value for metric, all_ in line.stats.items() for key, value in all_.items()
            }
            statistics.add(count, sums)
            count += 1
    more = groups.columns(count), statistics.columns(count)
    kinds = dict.fromkeys(more[0], "string"), dict.fromkeys(more[1], "Float64")
    frame = typed(columns | more[0] | more[1], _TYPES | kinds[0] | kinds[1])
    frame.attrs = {"skipped": reading.skipped}
    return frame


class _Sparse:
    """Columns that not every row has."""

    def __init__(self) -> None:
        self._columns: dict[str, list[object]] = {}

    def add(self, row: int, values: Mapping[str, object]) -> None:
        for name, value in values.items():
            column = self._columns.setdefault(name, [])
            column += [None] * (row - len(column))
            column.append(value)

    def columns(self, rows: int) -> dict[str, list[object]]:
        """Sorted by name, filled up with None."""
        return {
            name: [*column, *[None] * (rows - len(column))] for name, column in sorted(self._columns.items())
        }


def _append(columns: Mapping[str, list[object]], said: Mapping[str, object], line: SampleLine) -> None:
    for name, column in columns.items():
        value = said[name] if name in said else getattr(line, name)
        column.append(None if value == "" and name in _OR_NONE else value)


def _answers(folder: Path) -> tuple[dict[str, object], list[SampleLine]]:
    names = ("record.json", "spec.json")
    path = next((folder / name for name in names if exists(folder / name)), folder / "spec.json")
    said: Any = read_json(path)
    try:
        found = {"key": said["key"], "task": said["spec"]["task"], "model": said["spec"]["checkpoint"]["id"]}
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path} does not say what was run; it is none of pgbench's") from error
    try:
        lines = list(read_lines(folder))
    except OSError as error:
        raise StoreError(f"cannot read the answers in {folder}: {error.strerror}") from error
    if strange := next((line for line in lines if not _fits(line)), None):
        raise StoreError(f"{folder}: answer {strange.id} has a field that fits no column; restore the file")
    return found, lines


def _fits(line: Any) -> bool:
    """A reader of lines looks at the fields that scores come from alone."""
    counts = (line.batch, line.batch_size, line.halved, line.tokens, line.n_prompt)
    texts = (line.prompt, line.request_key, line.image, line.cluster, line.reused, line.error or "")
    numbers = (line.seconds, *(value for sums in line.stats.values() for value in sums.values()))
    return (
        all(type(count) is int and abs(count) < _INT64 for count in counts)
        and all(type(text) is str for text in texts)
        and all(abs(number) < _INT64 or type(number) is float for number in numbers)
        and type(line.finite) is bool
        and isinstance(line.groups, dict)
        and all(type(value) is str for value in line.groups.values())
    )

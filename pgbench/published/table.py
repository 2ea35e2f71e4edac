"""The published numbers as they are stored: one CSV file per benchmark, checked line by line when read."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal, TypeAlias, get_args

from pgbench.errors import DataError
from pgbench.types import Family, Kind

Level: TypeAlias = Literal["none", "8bit", "4bit", "fp4", "other", "unstated"]  # other: by another program
Agreement: TypeAlias = Literal["exact", "likely", "none"]

PACKAGE, FOLDER = "pgbench_results", "published"


@dataclass(frozen=True, slots=True)
class Published:
    """One published number: as it stands in its source, then where it belongs in pgbench, if anywhere."""

    benchmark: str
    published_metric: str
    published_split: str
    value: float  # in `unit`
    unit: str
    model: str
    params: str
    resolution: int | None  # px; None: not stated
    precision: str  # "unstated" where the source says nothing
    setting: str
    source: str
    note: str
    task: str | None  # from here on pgbench's words; None: there is none, see reason
    split: str | None
    metric: str | None
    group: str  # "name=value" of a breakdown; "": all samples
    variant: str | None  # None: the source does not tell the task's variants apart
    family: Family | None  # None: no PaliGemma
    kind: Kind | None  # None: no PaliGemma, or of no released kind
    tuned_on: str | None  # the task of an ft row; None: not named, or none of pgbench's
    quant: Level
    match: Agreement
    reason: str  # what is missing; on an exact match a remark, or nothing

    @property
    def scaled(self) -> float:
        """The value as pgbench keeps it: percentages as fractions, all else as published."""
        return self.value / 100 if self.unit.startswith("%") else self.value


COLUMNS = tuple(field.name for field in dataclasses.fields(Published))
_OPTIONAL = {"note", "group", "reason", "resolution"}  # an empty cell is a value
_NULLABLE = {"task", "split", "metric", "variant", "family", "kind", "tuned_on"}  # an empty cell is None
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "family": get_args(Family),
    "kind": get_args(Kind),
    "quant": get_args(Level),
    "match": get_args(Agreement),
}


def rows(task: str | None = None) -> tuple[Published, ...]:
    """All published numbers, or those of one task of pgbench, whether they join or not.

    Raises DataError where a file is malformed, naming file and line.
    """
    return tuple(row for row in _shipped() if task in (None, row.task))


@cache
def _shipped() -> tuple[Published, ...]:
    return read(files(PACKAGE) / FOLDER)


def read(folder: Traversable) -> tuple[Published, ...]:
    """All rows of a folder's CSV files, in the order of file names.

    Raises DataError, naming file and line, where a row is malformed.
    """
    tables = sorted(
        (path for path in folder.iterdir() if path.name.endswith(".csv")), key=lambda path: path.name
    )
    return tuple(row for path in tables for row in _table(path))


def _table(path: Traversable) -> Iterator[Published]:
    where = f"{FOLDER}/{path.name}"
    lines = csv.reader(io.StringIO(_text(path, where), newline=""), strict=True)
    try:
        header = tuple(next(lines, ()))
        if header != COLUMNS:
            odd = sorted(set(header) ^ set(COLUMNS)) or "their order"
            raise DataError(f"{where}, line 1: the columns differ in {odd}; expected {','.join(COLUMNS)}")
        for cells in lines:
            try:
                yield _row(cells)
            except ValueError as error:
                raise DataError(f"{where}, line {lines.line_num}: {error}") from error
    except csv.Error as error:
        raise DataError(f"{where}, line {lines.line_num}: not CSV: {error}") from error


def _text(path: Traversable, where: str) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{where}, line {line}: not UTF-8: {error.reason}") from error


def _row(cells: list[str]) -> Published:
    """One line of a table. Raises ValueError, saying which column is wrong."""
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{len(cells)} cells; expected {len(COLUMNS)}")
    texts = dict(zip(COLUMNS, cells, strict=True))
    for name, text in texts.items():
        if not text and name not in _OPTIONAL | _NULLABLE:
            raise ValueError(f"{name} is empty")
        if text and text not in _CHOICES.get(name, (text,)):
            raise ValueError(f"{name} is {text!r}; expected one of {', '.join(_CHOICES[name])}")
    _check(texts)
    values: dict[str, object] = {
        name: text or None if name in _NULLABLE else text for name, text in texts.items()
    }
    values["value"] = _number(texts["value"])
    values["resolution"] = _pixels(texts["resolution"])
    return Published(**values)  # type: ignore[arg-type]  # checked above, column by column


def _check(texts: Mapping[str, str]) -> None:
    """What columns ask of each other."""
    complete = texts["task"] and texts["split"] and texts["metric"]
    if texts["match"] != "none" and not complete:
        raise ValueError(f"match is {texts['match']!r} without task, split and metric")
    if texts["match"] != "exact" and not texts["reason"]:
        raise ValueError(f"match is {texts['match']!r} without a reason")
    if texts["kind"] and not texts["family"]:
        raise ValueError("a kind without a family")
    if texts["tuned_on"] and texts["kind"] != "ft":
        raise ValueError("tuned_on on a row that is not of kind ft")
    if texts["group"] and not re.fullmatch(r"\w+=.+", texts["group"]):
        raise ValueError(f"group is {texts['group']!r}; expected name=value")


def _number(text: str) -> float:
    value = float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"value is {text!r}; expected a number")
    return value


def _pixels(text: str) -> int | None:
    if text and not re.fullmatch(r"[1-9][0-9]*", text):
        raise ValueError(f"resolution is {text!r}; expected pixels")
    return int(text) if text else None

"""Raters' files: filled copies of a sheet, as spreadsheets save them."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgbench.errors import DataError, UsageError
from pgbench.keys import json_key
from pgbench.nes.score import RATINGS, Rating

# "N" is Neutral: the letters of "Nothing to assess" are NTA, as the guide of the sheet says
_WORDS: Mapping[str, Rating] = {
    **{rating.casefold(): rating for rating in RATINGS},
    "e": "Entailment",
    "n": "Neutral",
    "c": "Contradiction",
    "nta": "Nothing to assess",
}
_NEEDED = ("row", "rating")
_LISTED = 20  # mistakes named in one message: ratings of another sheet are wrong in every row


@dataclass(frozen=True, slots=True)
class Rater:
    """One rater's answers; rows that were left empty or out are not among them."""

    name: str  # the file's name without its ending
    ratings: Mapping[str, Rating]  # by row id


def read(paths: Sequence[Path], rows: Container[str]) -> tuple[Rater, ...]:
    """The raters of a sheet with these row ids, by name.

    Any delimiter of a spreadsheet, a byte order mark, further columns, another order and missing rows are
    fine. Raises DataError, which names file and line of unknown rows, unknown ratings and rows that come
    twice, the first twenty of them; UsageError for two files of one name, since a rater is told by it.
    """
    names = [path.stem for path in paths]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two files are called {twice[0]!r}; a rater is told by the file's name, rename one")
    problems: list[str] = []
    raters = [Rater(path.stem, _ratings(path, rows, problems)) for path in paths]
    if problems:
        more = f"; and {len(problems) - _LISTED:,} more" if len(problems) > _LISTED else ""
        raise DataError(f"{len(problems):,} mistakes in the ratings: {'; '.join(problems[:_LISTED])}{more}")
    if not any(rater.ratings for rater in raters):
        raise DataError("no rating in any file; fill in the column 'rating'")
    return tuple(sorted(raters, key=lambda rater: rater.name))


def digest(sheet: str, raters: Sequence[Rater]) -> str:
    """sha256 over a sheet's digest and all that was rated: what a score of NES is a score of."""
    return json_key({"sheet": sheet, "raters": {rater.name: dict(rater.ratings) for rater in raters}})


def _ratings(path: Path, rows: Container[str], problems: list[str]) -> dict[str, Rating]:
    found: dict[str, Rating] = {}
    lines: dict[str, int] = {}
    for number, row, said in _cells(path):
        where = f"{path.name}, line {number}"
        if row not in rows:
            problems.append(f"{where}: row {row!r} is not in the sheet")
        elif row in lines:
            problems.append(f"{where}: row {row!r} stands in line {lines[row]} already")
        elif said and said.casefold() not in _WORDS:
            problems.append(f"{where}: rating {said!r} is none of {', '.join(RATINGS)} (E, N, C, NTA)")
        elif said:
            found[row] = _WORDS[said.casefold()]
        lines.setdefault(row, number)
    return found


def _cells(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, row id and rating, white space taken off; empty lines are passed over."""
    text = _text(path)
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a caption may be longer than the default
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    try:
        header = [cell.strip().casefold() for cell in next(reader, [])]
        if any(header.count(name) != 1 for name in _NEEDED):
            raise DataError(
                f"{path.name} has the columns {', '.join(header)[:200] or 'none'}; expected one 'row' and "
                "one 'rating', as in the sheet"
            )
        places = [header.index(name) for name in _NEEDED]
        for cells in reader:
            row, said = (" ".join(cells[at].split()) if at < len(cells) else "" for at in places)
            if row or said or any(map(str.strip, cells)):
                yield reader.line_num, row, said
    except csv.Error as error:
        raise DataError(f"{path.name}, line {reader.line_num}: not a CSV file: {error}") from error


def _delimiter(text: str) -> str:
    """What stands most often in the header: a comma, a semicolon (Excel in much of Europe) or a tab."""
    header = next(iter(text[:10_000].splitlines()), "")  # "CSV (Macintosh)" ends lines with \r alone
    return max(",;\t", key=header.count)


def _text(path: Path) -> str:
    """A file as text. Ids and ratings are ASCII, so a caption in another encoding does no harm."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if data.startswith(b"PK\x03\x04"):
        raise DataError(f"{path.name} is a spreadsheet's own file, not CSV; save it as CSV")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # Excel's "Unicode text"
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "replace")

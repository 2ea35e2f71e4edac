"""The sheet that raters fill in: the sentences of several runs, mixed and blinded.

Images, and the captions of one image, stand in one shuffled order; the rows of a caption stay together,
in order, so that it can be read. What tells the runs apart is in the key alone.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from pgbench.durable import exists, write_pieces
from pgbench.errors import DataError, UsageError
from pgbench.keys import json_key
from pgbench.nes.answers import Caption, Captions
from pgbench.nes.key import FILE, SCHEMA, Key, RowOfSheet, RunOfSheet, relative, write
from pgbench.nes.pictures import Pictures
from pgbench.records import SampleLine
from pgbench.report.render import printable

SHEET, GUIDE = "sheet.csv", "guide.txt"
COLUMNS = ("row", "image", "label", "caption", "number", "sentence", "rating", "comment")
# What a spreadsheet takes for the start of a formula (OWASP, CSV injection), its full-width forms included.
_FORMULA = tuple("=+-@\t\r＝＋－＠")
# Where the list separator is a semicolon (much of Europe), a cell begins behind every one of them.
_INNER = re.compile(r'(;[\s"]*)(?=[=+\-@＝＋－＠])')
_GUIDE = """\
Look at the image, read the caption, then rate the sentence of each row:

    What is the relationship of the sentence with respect to the image?

    Entailment         (E)    the image shows that it is true
    Neutral            (N)    the image neither shows nor rules it out
    Contradiction      (C)    the image shows that it is false
    Nothing to assess  (NTA)  it claims nothing about the image

Write one of the four, or its letters, into the column "rating". Leave it empty if you cannot say. Do not
change the column "row"; rows may be sorted, columns may be added. Save the file as CSV. The question is that
of PaliGemma 2 (arXiv:2412.03555, appendix B.5); the explanations on the right are pgbench's own. A mark '
before a text, or behind a semicolon, is no part of it.
"""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows as they are written, and the key to them."""

    rows: tuple[tuple[str, ...], ...]  # by COLUMNS
    key: Key


def build(runs: Sequence[Captions], pictures: Pictures, out: Path, seed: int, splitter: str) -> Sheet:
    """The sheet of several runs; the order in which they are named does not matter.

    Raises DataError where there is no sentence to rate, or where runs mean two pictures by one id.
    """
    _require_same_pictures(runs)
    digest = _digest(runs, seed)
    rows: list[tuple[str, ...]] = []
    key: dict[str, RowOfSheet] = {}
    for label, run, caption in _shuffled(runs, digest):
        for place, sentence in enumerate(caption.sentences):
            row = f"s{digest[:8]}-{len(rows) + 1}"  # a letter first: a spreadsheet reads 12e45678 as a number
            shown = (label, caption.line.output, str(place + 1), sentence)
            picture = as_text(guarded(pictures.names[caption.line.id]))
            rows.append((row, picture, *map(guarded, shown), "", ""))
            key[row] = RowOfSheet(run.answers.record.key, caption.line.id, place, caption.digest)
    if not rows:
        raise DataError("no run has a sentence to rate: every sample failed or its caption is empty")
    named = {run.answers.record.key: _named(run, out) for run in runs}
    return Sheet(tuple(rows), Key(SCHEMA, digest, seed, splitter, named, key))


def save(sheet: Sheet, out: Path) -> None:
    """Write the sheet, the raters' guide and the key.

    Raises UsageError for a folder that holds a sheet (it may be filled in by now), StoreError.
    """
    if exists(out / SHEET) or exists(out / FILE):
        raise UsageError(f"{out} holds a sheet already, which may be filled in; name another --out")
    write(out, sheet.key)  # first: a sheet without its key could be rated for nothing
    write_pieces(out / GUIDE, [_GUIDE.encode()])
    write_pieces(out / SHEET, _csv(sheet))


def as_text(name: str) -> str:
    """A name that a spreadsheet would show as another number (00012, 262148000123, 12e5), marked as text."""
    return f"'{name}" if re.fullmatch(r"0\d+|\d{12,}|\d+[eE]\d+", name) else name


def guarded(text: str) -> str:
    r"""Text as one harmless cell: on one line, nothing invisible, and no formula.

    A text that begins like a formula, or with the mark itself, gets an apostrophe in front, so that one
    apostrophe taken off gives it back. What looks like a formula behind a semicolon gets one as well.

    >>> guarded('=HYPERLINK("http://x")'), guarded("a\n b\x1b[0m"), guarded("'tis")
    ('\'=HYPERLINK("http://x")', 'a b\\x1b[0m', "''tis")
    """
    shown = _INNER.sub(r"\1'", printable(" ".join(text.split())))
    return f"'{shown}" if shown.startswith((*_FORMULA, "'")) else shown


def _require_same_pictures(runs: Sequence[Captions]) -> None:
    """A row shows one picture for an id. The bytes may differ between copies of one benchmark (hub, files):
    there the same reference of the same split tells."""
    known: dict[str, tuple[Captions, SampleLine]] = {}
    for run in runs:
        for caption in run.captions:
            line = caption.line
            first, other = known.setdefault(line.id, (run, line))
            one, two = first.answers.record.spec, run.answers.record.spec
            told = line.target is not None or not (line.image and other.image)
            alike = told and (one.task, one.split, other.target) == (two.task, two.split, line.target)
            if not alike and not (line.image and line.image == other.image):
                raise DataError(
                    f"{first.answers.folder} and {run.answers.folder} both have a sample {line.id}, of "
                    "different pictures; make a sheet for each of them"
                )


def _digest(runs: Sequence[Captions], seed: int) -> str:
    told = [
        [run.answers.record.key, run.answers.digest, [[c.line.id, *c.sentences] for c in run.captions]]
        for run in runs
    ]
    return json_key({"seed": seed, "runs": sorted(told)})


def _shuffled(runs: Sequence[Captions], digest: str) -> Iterator[tuple[str, Captions, Caption]]:
    """Label, run and caption. The order is that of hashes, the same with every version of Python."""
    images: dict[tuple[str, str], list[tuple[str, Captions, Caption]]] = {}
    for run in runs:
        record = run.answers.record
        for caption in run.captions:
            drawn = _drawn(digest, caption.line.id, record.key)
            images.setdefault((record.spec.task, caption.line.id), []).append((drawn, run, caption))
    for image in sorted(images, key=lambda image: _drawn(digest, *image)):
        for place, (_, run, caption) in enumerate(sorted(images[image], key=lambda one: one[0])):
            yield _label(place), run, caption


def _drawn(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _label(place: int) -> str:
    """A, B, ... Z, A2, B2, ...: for the captions of one image, in the order that the draw gave them."""
    again, letter = divmod(place, len(ascii_uppercase))
    return f"{ascii_uppercase[letter]}{again + 1 if again else ''}"


def _named(run: Captions, out: Path) -> RunOfSheet:
    spec = run.answers.record.spec
    return RunOfSheet(
        folder=relative(run.answers.folder, out),
        task=spec.task,
        split=spec.split,
        checkpoint=spec.checkpoint.id,
        answers=run.answers.digest,
        captions=len(run.captions),
        failed=run.failed,
        empty=run.empty,
    )


def _csv(sheet: Sheet) -> Iterator[bytes]:
    """With a byte order mark, without which a spreadsheet does not take it for UTF-8."""
    yield "\ufeff".encode()
    for row in (COLUMNS, *sheet.rows):
        line = io.StringIO()
        csv.writer(line).writerow(row)
        yield line.getvalue().encode()

"""One large JSON file read record by record, for annotations that would fill the memory as one document.

`json.load` of VQAv2's validation annotations alone peaks near 1 GB; one record at a time needs one chunk.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pgbench.errors import DataError
from pgbench.sources.files import kind, listing, names

CHUNK = 1 << 18  # bytes read at once
_SPACE = " \t\n\r"
_TORN = 16  # characters: a literal or an escape that the end of a chunk cuts is no longer


def json_records(folder: Path, name: str, key: str) -> Iterator[Mapping[str, object]]:
    """The records of the list under `key` in the object that a JSON file holds, in order.

    What stands beside the list is read and dropped. The file is checked to its end.
    Raises DataError as it comes to it: no such file, unreadable, not JSON (and where), another shape.
    """
    try:
        with Document(folder, name) as document:
            yield from _records(document, name, key)
    except FileNotFoundError as exc:
        raise DataError(f"{name} is not in {folder}; there: {listing(folder)}") from exc
    except OSError as exc:
        raise DataError(f"{name} cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:  # no UTF-8; a number of thousands of digits
        raise DataError(f"{name} is not JSON: {type(exc).__name__}; download it again") from exc


def _records(document: Document, name: str, key: str) -> Iterator[Mapping[str, object]]:
    if document.peek() != "{":
        raise DataError(f"{name}: expected an object with {key!r}, got {kind(document.value())}")
    there: list[str] = []
    for _ in document.items("{", "}"):
        member = document.value()
        if not isinstance(member, str):
            raise document.broken("Expecting property name enclosed in double quotes")
        document.take(":")
        if member != key or key in there:
            document.value()
        elif document.peek() != "[":
            raise DataError(f"{name}: {key!r} should be a list of records, got {kind(document.value())}")
        else:
            yield from _list(document, name, key)
        there.append(member)
    if document.peek():
        raise document.broken("Extra data")
    if key not in there:
        raise DataError(f"{name}: expected an object with {key!r}, got keys {names(sorted(there))}")


def _list(document: Document, name: str, key: str) -> Iterator[Mapping[str, object]]:
    index = -1
    for index in document.items("[", "]"):
        record = document.value()
        if not isinstance(record, dict):
            raise DataError(f"{name}: record {index} should be an object, got {kind(record)}")
        yield record
    if index < 0:
        raise DataError(f"{name}: {key!r} should be a list of records, got an empty list")


class Document:
    """A JSON file with a window of its text; `value` decodes what begins in the window."""

    def __init__(self, folder: Path, name: str) -> None:
        self._name = name
        # A bare number: of a file object the collector may find fault (ResourceWarning) before it ends the
        # generator that would close it, where a reader left both behind with an exception.
        self._file = os.open(folder / name, os.O_RDONLY)
        self._text = ""
        self._at = 0  # in the window
        self._before = 0  # characters of the file that the window has left behind
        self._ended = False
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._decoder = json.JSONDecoder()

    def __enter__(self) -> Document:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def peek(self) -> str:
        """The next character that is no white space; "" at the end of the file."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def take(self, *wanted: str) -> str:
        """Passes the next character, one of `wanted`. Raises DataError for any other."""
        found = self.peek()
        if found not in wanted:
            raise self.broken(f"Expecting {' or '.join(map(repr, wanted))}")
        self._at += 1
        return found

    def items(self, opening: str, closing: str) -> Iterator[int]:
        """Counts the items of an object or list; each must be read before the next is asked for."""
        self.take(opening)
        if self.peek() == closing:
            self.take(closing)
            return
        count, mark = 0, ","
        while mark == ",":
            yield count
            count += 1
            mark = self.take(",", closing)

    def value(self) -> object:
        """The value that begins here, whole. Raises DataError where it is no JSON."""
        self.peek()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as exc:
                # a cut text is "unterminated" from its start, any other cut value fails near the window's end
                cut = exc.msg.startswith("Unterminated") or exc.pos > len(self._text) - _TORN
                if not (cut and self._more()):
                    raise self.broken(exc.msg, exc.pos) from exc
                continue
            # a number may go on behind the window: 1, 1., 1e and 1e+ are all read as 1
            if end < len(self._text) - 2 or not self._more():
                self._at = end
                return found

    def broken(self, what: str, at: int | None = None) -> DataError:
        place = self._before + (self._at if at is None else at) + 1
        return DataError(f"{self._name} is not JSON: {what} at character {place}; download it again")

    def _more(self) -> bool:
        """Moves the window on, keeping what is not passed; False at the end of the file."""
        if self._ended:
            return False
        wanted = max(CHUNK, len(self._text) - self._at)  # doubles, so that long values stay linear
        data = os.read(self._file, wanted)
        self._ended = not data
        text = self._utf8.decode(data, final=self._ended)
        if text:
            self._before += self._at
            self._text, self._at = self._text[self._at :] + text, 0
        return not self._ended

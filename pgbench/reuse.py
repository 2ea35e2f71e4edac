"""Answers that other cells below the same --out gave already to the very same requests.

Equal request keys mean equal answers where the arithmetic is float32: there each answer is taken over by
itself. Below it the rest of a batch can move an answer, so a batch is taken over whole or not at all: the
same requests in the same order, as in runs of one plan that differ in --limit.
What stands in other folders is looked at again when it is taken over: an answer that failed, met nan or inf,
or does not fit its request stays where it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pgbench.backends.identity import answering
from pgbench.durable import read_json
from pgbench.errors import StoreError
from pgbench.lines import parse
from pgbench.records import SampleLine, Stack
from pgbench.samples import files_of
from pgbench.store import plain
from pgbench.types import Likelihoods, Prepared, RunSpec

_DIGEST, _FILE, _OFFSET = 16, 4, 8  # bytes of one entry: of its key, then big-endian where its line begins
_ENTRY = _DIGEST + _FILE + _OFFSET
_RUN_KEY = re.compile(r"[0-9a-f]{64}")
# A quote inside JSON text has a backslash, so no text of a line can look like this.
_PLACE = re.compile(rb',"request_key":"([0-9a-f]*)","image":"[0-9a-f]*","batch":(\d+),"batch_size":(\d+),')


@dataclass(frozen=True, slots=True)
class Given:
    """An answer taken over."""

    output: str
    tokens: int
    n_prompt: int
    run: str  # key of the run that generated it
    likelihoods: Likelihoods = ()


@dataclass(frozen=True, slots=True)
class _Source:
    """One samples file and the run that it belongs to."""

    path: Path
    run: str


class Known:
    """An index of answers, 28 bytes each."""

    def __init__(self, sources: Sequence[_Source] = (), *, whole: bool = True) -> None:
        """`whole`: whole batches only."""
        self._sources, self._whole = sources, whole
        entries = sorted(
            key + number.to_bytes(_FILE, "big") + start.to_bytes(_OFFSET, "big")
            for number, source in enumerate(sources)
            for key, start in _keys(source.path, whole)
        )
        self._entries = b"".join(entries)

    def __len__(self) -> int:
        """Answers, or batches where they are taken over whole."""
        return len(self._entries) // _ENTRY

    def given(self, batch: Sequence[Prepared]) -> list[Given | None]:
        """What is known of the requests of one batch, in their order."""
        if not self._entries or not batch:
            return [None] * len(batch)
        parts = [batch] if self._whole else [[one] for one in batch]
        given: list[Given | None] = []
        for part in parts:
            given += self._found(part) or [None] * len(part)
        return given

    def _found(self, asked: Sequence[Prepared]) -> list[Given] | None:
        for source, start in self._places(_digest([one.request_key for one in asked])):
            if (lines := self._read(source.path, start)) is None or len(lines) != len(asked):
                continue
            if all(_fits(line, one) for line, one in zip(lines, asked, strict=True)):
                return [
                    Given(
                        line.output, line.tokens, line.n_prompt, line.reused or source.run, line.likelihoods
                    )
                    for line in lines
                ]
        return None

    def _places(self, key: bytes) -> Iterator[tuple[_Source, int]]:
        """Where this key stands, the first run first."""
        number = bisect_left(range(len(self)), key, key=self._key)
        while number < len(self) and self._key(number) == key:
            place = self._entries[number * _ENTRY + _DIGEST : (number + 1) * _ENTRY]
            yield self._sources[int.from_bytes(place[:_FILE], "big")], int.from_bytes(place[_FILE:], "big")
            number += 1

    def _key(self, number: int) -> bytes:
        return self._entries[number * _ENTRY : number * _ENTRY + _DIGEST]

    def _read(self, path: Path, start: int) -> list[SampleLine] | None:
        """The answered lines of one batch, or the one line; None where something else stands there now."""
        try:
            with path.open("rb") as file:
                file.seek(start)
                return _batch(file) if self._whole else _line(file)
        except OSError:  # taken away since
            return None


def known(spec: RunSpec, stack: Stack, own: Path) -> Known:
    """What the runs beside the folder `own` answered with the same checkpoint on the same stack.

    Nothing for a checkpoint whose content is not named. What cannot be read is left alone.
    """
    whole = spec.checkpoint.dtype != "float32" or spec.checkpoint.quant != "none"
    if spec.checkpoint.revision is None:
        return Known()
    checkpoint = plain(spec.checkpoint)
    same = answering(checkpoint, plain(stack))
    folders = sorted(path.parent for path in own.parents[1].glob("*/*/spec.json"))
    found = [one for folder in folders if folder != own for one in _of_run(folder, checkpoint, same)]
    return Known(found, whole=whole)


def _of_run(folder: Path, checkpoint: Mapping[str, Any], same: str) -> Iterator[_Source]:
    """The samples files of a run, if `same` answered it; none of a folder that does not say what it is."""
    try:
        said: Any = read_json(folder / "spec.json")
        point = said["spec"]["checkpoint"]
        if any(point[name] != checkpoint[name] for name in ("revision", "quant", "dtype")):
            return  # most runs of a sweep, told apart by one file
        stack: Any = read_json(folder / "stack.json")
        if _RUN_KEY.fullmatch(said["key"]) and answering(point, stack) == same:
            yield from (_Source(path, said["key"]) for path in files_of(folder))
    except (StoreError, LookupError, TypeError, AttributeError):
        return


def _keys(path: Path, whole: bool) -> Iterator[tuple[bytes, int]]:
    """Key and first byte of each answer of a file, or of each complete batch of it."""
    start = begun = 0
    batch, keys = b"", list[str]()
    lines = 0
    for raw in _raw(path):
        place = _PLACE.search(raw)
        key, number, size = (place[1].decode(), place[2], int(place[3])) if place else ("", b"", 0)
        if number != batch or not lines:
            batch, begun, keys, lines = number, start, [], 0
        lines += 1
        keys += [key] if key else []
        if not whole and key:
            yield _digest([key]), start
        start += len(raw)
        if lines == size:
            if whole and keys:
                yield _digest(keys), begun
            lines = 0


def _raw(path: Path) -> Iterator[bytes]:
    with contextlib.suppress(OSError), path.open("rb") as lines:
        yield from (raw for raw in lines if raw.endswith(b"\n"))


def _digest(keys: Sequence[str]) -> bytes:
    return hashlib.sha256("\n".join(keys).encode()).digest()[:_DIGEST]


def _line(file: IO[bytes]) -> list[SampleLine] | None:
    line = parse(file.readline())
    return [line] if line is not None else None


def _batch(file: IO[bytes]) -> list[SampleLine] | None:
    """Those lines of a batch that the backend was asked; others could not be prepared."""
    lines: list[SampleLine] = []
    while (line := parse(file.readline())) is not None:
        lines.append(line)
        if line.batch != lines[0].batch or line.batch_size != lines[0].batch_size:
            break
        if len(lines) == line.batch_size:
            halved = any(one.halved for one in lines)  # memory was not enough: no answer of the whole batch
            return None if halved else [one for one in lines if one.request_key]
    return None


def _fits(line: SampleLine, asked: Prepared) -> bool:
    """A whole answer to this very request."""
    return (
        line.error is None
        and line.finite is True
        and line.request_key == asked.request_key
        and line.image == asked.image_key
        and line.n_prompt == asked.length
        and type(line.tokens) is int
        and 0 <= line.tokens <= asked.request.max_new_tokens
        and [one.text for one in line.likelihoods] == [*(asked.request.continuations or ())]
        and (line.reused == "" or _RUN_KEY.fullmatch(str(line.reused)) is not None)
    )

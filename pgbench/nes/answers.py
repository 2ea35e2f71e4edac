"""The captions of a finished run, with the digest that ratings of them carry."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pgbench.errors import StoreError, UsageError
from pgbench.keys import json_key
from pgbench.records import RunRecord, SampleLine
from pgbench.registry import SHIPPED, task_names
from pgbench.samples import read_lines
from pgbench.store import read_record

_OF_CAPTIONS = ("docci", "custom")  # of the shipped tasks

Splitter: TypeAlias = Callable[[str], Sequence[str]]  # a caption -> its sentences


@dataclass(frozen=True, slots=True)
class Answers:
    """A finished run with its stored answers."""

    folder: Path
    record: RunRecord
    lines: tuple[SampleLine, ...]
    digest: str  # sha256 over ids, answers and failures: a rating of other answers is refused by it


@dataclass(frozen=True, slots=True)
class Caption:
    """An answer that has sentences."""

    line: SampleLine
    sentences: tuple[str, ...]

    @property
    def digest(self) -> str:
        """sha256 of the answer."""
        return text_key(self.line.output)


@dataclass(frozen=True, slots=True)
class Captions:
    """What of a run can be rated, and what cannot."""

    answers: Answers
    captions: tuple[Caption, ...]
    failed: int  # samples without an answer
    empty: int  # answers without a sentence


def read(run: Path) -> Answers:
    """The run in a folder, or beside a file. Raises StoreError for one that is missing or unfinished."""
    folder = run.parent if run.is_file() else run
    record = read_record(folder)
    if record is None:
        kept = (folder / "spec.json").is_file()
        raise StoreError(
            f"{folder} is not finished: run the same command again"
            if kept
            else f"{folder} is no run folder: it has no record.json"
        )
    if record.spec.mode != "generate":
        raise StoreError(f"{folder} is a run of mode {record.spec.mode}: it has no captions to be rated")
    lines = tuple(read_lines(folder))
    told = sorted([line.id, line.output, line.error or ""] for line in lines)
    return Answers(folder, record, lines, json_key({"answers": told}))


def read_all(runs: Sequence[Path]) -> tuple[Answers, ...]:
    """Several runs, in the order of their keys. Raises StoreError, and UsageError for one named twice."""
    found = sorted((read(run) for run in runs), key=lambda answers: answers.record.key)
    for one, other in itertools.pairwise(found):
        if one.record.key == other.record.key:
            raise UsageError(f"{one.folder} and {other.folder} are the same run; name each run once")
    return tuple(found)


def require_captions(found: Iterable[Answers]) -> None:
    """Raises UsageError for a run of a shipped task whose answers are no captions.

    Captions are those of docci, and may be those of `custom` and of tasks of others, whose answers nobody
    here knows.
    """
    names = task_names()
    for one in found:
        task = one.record.spec.task
        if names.get(task) == SHIPPED and task not in _OF_CAPTIONS:
            raise UsageError(
                f"{one.folder} is a run of {task}, whose answers are no captions; name runs of "
                f"{' or '.join(_OF_CAPTIONS)}, or of a task of your own"
            )


def captions(answers: Answers, split: Splitter) -> Captions:
    """The answers of a run, cut into sentences. Failed samples and empty captions have none: counted."""
    answered = [line for line in answers.lines if line.error is None]
    cut = [Caption(line, tuple(filter(str.strip, split(line.output)))) for line in answered]
    kept = tuple(caption for caption in cut if caption.sentences)
    return Captions(answers, kept, len(answers.lines) - len(answered), len(answered) - len(kept))


def characters(lines: Iterable[SampleLine]) -> float | None:
    """Mean length in characters of the answered captions, surrounding white space apart; None without any."""
    lengths = [len(line.output.strip()) for line in lines if line.error is None]
    return sum(lengths) / len(lengths) if lengths else None


def text_key(text: str) -> str:
    """sha256 of text, lone surrogates included."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def cluster(line: SampleLine) -> str:
    """The image, by content; by sample where the backend opened none."""
    return line.image or line.id

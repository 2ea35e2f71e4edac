"""Finished runs to the answers of one submission, one after the other, every id of the split once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgbench.errors import DataError, StoreError, UsageError
from pgbench.records import RunRecord
from pgbench.samples import read_lines
from pgbench.store import differences, plain, read_record
from pgbench.types import Dataset, Sample

SHOWN = 10  # ids listed in a refusal


@dataclass(frozen=True, slots=True)
class Part:
    """One finished run."""

    folder: Path
    record: RunRecord


def read_part(given: Path) -> Part:
    """A run by its folder or a file in it. Raises StoreError where it is not finished."""
    folder = given.parent if given.is_file() else given
    record = read_record(folder)
    if record is None:
        begun = (folder / "spec.json").is_file()
        todo = (
            "run the same command again" if begun else "name a run as it was printed, results/runs/TASK/RUN"
        )
        raise StoreError(f"{given} is no finished run: it has no record.json; {todo}")
    return Part(folder, record)


def require_whole(part: Part) -> None:
    """Raises UsageError for drawings, limited runs and likelihoods: no server takes them."""
    spec, data = part.record.spec, part.record.data
    if spec.mode != "generate":
        raise UsageError(f"{part.folder} chose among given texts; submit a run of generated answers")
    if data.demo:
        raise UsageError(f"{part.folder} asked drawings of the demo; submit a run of the published data")
    if spec.limit is not None:
        raise UsageError(f"{part.folder} was limited to {spec.limit:,} samples; submit a run without --limit")


def require_alike(parts: Sequence[Part]) -> None:
    """Raises UsageError for runs that differ in more than their split, order, batches and data set."""
    first = _protocol(parts[0])
    for part in parts[1:]:
        found = list(differences(first, _protocol(part), "spec"))
        if found:
            raise UsageError(
                f"{part.folder} and {parts[0].folder} are not one model asked in one way: {found[0]}; "
                "submit them apart"
            )


def _protocol(part: Part) -> dict[str, Any]:
    document: dict[str, Any] = plain(part.record.spec)
    for free in ("split", "source", "seed", "batch", "limit", "metric", "official_seed"):
        document.pop(free, None)
    return document


@dataclass(slots=True)
class Joined:
    """Iterates once over (sample, answer); at the end every id had its turn, or DataError says which had not.

    With `fill`, samples that no run answered come last, with "". Lines are read one at a time; what is held
    is 13 bytes a sample, beside the data set itself.
    """

    parts: Sequence[Part]
    dataset: Dataset
    says_nothing: Callable[[str, Sample], bool]
    fill: bool = False
    answered: int = 0
    silent: int = 0  # answers that are empty or name no choice
    filled: int = 0  # "" for samples that no run asked
    failed: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[Sample, str]]:
        samples = self.dataset.samples
        index, seen = Index(samples), bytearray(len(samples))
        for part in self.parts:
            for line in read_lines(part.folder):
                row = index.find(line.id)
                if row is None:
                    self.surplus.append(line.id)
                    continue
                if seen[row]:
                    raise DataError(
                        f"{part.folder} answers {line.id} a second time; leave out one of the runs"
                    )
                seen[row] = 1
                if line.error is not None:
                    self.failed.append(line.id)
                    seen[row] = 2
                elif not self.surplus:
                    yield self._answer(samples[row], line.output)
        self._require_all(seen)
        for row, state in enumerate(seen):
            if state != 1:
                self.filled += not state
                yield samples[row], ""

    def _answer(self, sample: Sample, text: str) -> tuple[Sample, str]:
        self.answered += 1
        self.silent += self.says_nothing(text, sample)
        return sample, text

    def _require_all(self, seen: bytearray) -> None:
        samples = self.dataset.samples
        if self.surplus:
            raise DataError(f"surplus ids, of no sample of {self.dataset.id}: {_told(self.surplus)}")
        if self.fill:
            return
        hint = 'answer them, or write "" for them with --fill-missing'
        missing = [samples[row].id for row, state in enumerate(seen) if not state] if 0 in seen else []
        if missing:
            raise DataError(f"missing ids, not asked in these runs: {_told(missing)}; {hint}")
        if self.failed:
            raise DataError(f"failed ids, asked and without an answer: {_told(self.failed)}; {hint}")


def _told(ids: Sequence[str]) -> str:
    """
    >>> _told(["7", "8"])
    '2 (7, 8)'
    """
    return f"{len(ids):,} ({', '.join([*ids[:SHOWN], *(['...'] if len(ids) > SHOWN else [])])})"


class Index:
    """Sample id -> position in 12 bytes a sample: a dictionary of GQA's 4 million takes half a gigabyte."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        import numpy as np

        hashes = np.fromiter((hash(sample.id) for sample in samples), np.int64, len(samples))
        self._rows = np.argsort(hashes, kind="stable").astype(np.int32)
        self._hashes = hashes[self._rows]
        self._samples = samples

    def find(self, one: str) -> int | None:
        wanted = hash(one)
        place = int(self._hashes.searchsorted(wanted))
        while place < len(self._hashes) and self._hashes[place] == wanted:
            row = int(self._rows[place])
            if self._samples[row].id == one:
                return row
            place += 1
        return None

"""Scores computed again from stored answers, where a task judges otherwise than it did when a run ended.

What comes of it is a sidecar beside the record, `rescored-v<version>-<digest of the task's source>.json`; the
record stays what it was. A sidecar names by a digest the answers that it is computed from.
Answers are judged again, never asked again: where the task would ask otherwise now, the run has to be made
again, and is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from pgbench.backends import versions
from pgbench.batch import prefix
from pgbench.concluding import now
from pgbench.durable import exists, write_json
from pgbench.errors import DataError, PgbenchError, StoreError, task_code
from pgbench.keys import image_key
from pgbench.records import Data, RunRecord, SampleLine
from pgbench.rescore.sidecars import SCHEMA, Rescored, Sidecar, answers_key, name_of, read
from pgbench.samples import read_lines
from pgbench.store import plain, read_record
from pgbench.sweeping import reopening
from pgbench.tally import Tally
from pgbench.types import Dataset, Mode, RunSpec, Sample, Task, cluster_of

LOOKED_AT = 50  # pictures hashed again, where they are at hand

# rescored: a sidecar was written; already: it was there and fits; unchanged: the task judges as it did
State: TypeAlias = Literal["rescored", "already", "unchanged", "unfinished", "refused"]
Progress: TypeAlias = Callable[[int, int], None]  # answers judged, answers in all


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one run folder."""

    folder: Path
    state: State
    reason: str = ""  # of a refusal
    record: RunRecord | None = None
    sidecar: Sidecar | None = None


class Judge:
    """Judges run folders one after the other; keeps the data that it read last."""

    def __init__(self, data: Sequence[str] = (), task_files: Sequence[str] = ()) -> None:
        """`data`: where original files lie; `task_files`: of runs whose task is not installed.

        Raises UsageError for a task file that cannot be used.
        """
        self._data = data
        self._files = reopening.named_files(task_files)
        self._opened: tuple[object, Dataset, dict[str, int]] | None = None

    def rescore(
        self, folder: Path, *, force: bool = False, progress: Progress = lambda done, total: None
    ) -> Verdict:
        """Judge one run again and write the sidecar; `force`: also where the task has not changed."""
        record = None
        try:
            record = read_record(folder)
            if record is None:
                return Verdict(folder, "unfinished")
            task, digest = self._task(record.spec)
            changed = (record.spec.version, record.stack.versions.get("task")) != (task.version, digest)
            if not force and not changed:
                return Verdict(folder, "unchanged", record=record)
            path, answers = folder / name_of(task.version, digest), answers_key(folder)
            if not force and (found := _fitting(path, record, digest, answers)) is not None:
                return Verdict(folder, "already", record=record, sidecar=found)
            rescored = self._again(folder, record, task, digest, answers, progress)
            write_json(path, plain(rescored))
        except PgbenchError as error:
            return Verdict(folder, "refused", str(error), record)
        except OSError as error:
            return Verdict(folder, "refused", f"{error.strerror}: {error.filename or folder}", record)
        return Verdict(folder, "rescored", record=record, sidecar=Sidecar(path, rescored, fits=True))

    def _task(self, spec: RunSpec) -> tuple[Task, str]:
        task, digest = reopening.task_of(spec, self._files)
        if task.max_new_tokens != spec.max_new_tokens:
            raise DataError(
                f"{task.name} v{task.version} lets a model answer {task.max_new_tokens} tokens, "
                f"it was {spec.max_new_tokens}; run again"
            )
        return task, digest

    def _again(
        self,
        folder: Path,
        record: RunRecord,
        task: Task,
        digest: str,
        answers: str,
        progress: Progress,
    ) -> Rescored:
        """With the first of the data that may be meant to which all answers belong."""
        reasons: list[PgbenchError] = []
        for path in reopening.candidates(record.spec, self._data):
            try:
                data, tally, unscored = self._tally(folder, record, task, path, progress)
            except PgbenchError as error:
                reasons.append(error)
                continue
            return Rescored(
                schema=SCHEMA,
                key=record.key,
                answers=answers,
                task=task.name,
                version=task.version,
                task_digest=digest,
                data=_data(record, task, data, unscored),
                primary=next((one.name for one in task.metrics if one.primary), task.metrics[0].name),
                scores=tally.scores(),
                groups=tally.groups(),
                made=now(),
                versions=versions(),
            )
        raise reasons[0]

    def _tally(
        self, folder: Path, record: RunRecord, task: Task, path: str | None, progress: Progress
    ) -> tuple[Dataset, Tally, int]:
        """All answers judged; also how many had no references."""
        dataset, places = self._open(record.spec, task, path)
        tally, unscored = Tally(task, record.spec.mode), 0
        done, total = 0, record.data.selected
        step = max(1, total)  # of a damaged record it may be 0
        for done, line in enumerate(read_lines(folder), start=1):
            if line.id not in places:
                raise DataError(f"sample {line.id} is not in {dataset.id} any more; run again")
            sample = dataset.samples[places[line.id]]
            _require_same_question(record.spec, task, sample, line)
            if done * LOOKED_AT // step != (done - 1) * LOOKED_AT // step:
                _require_same_picture(sample, line)
            tally.add(sample, _judged(task, sample, line, record.spec.mode))
            unscored += sample.target is None
            progress(done, total)
        if done != total:
            raise StoreError(
                f"{folder} holds {done:,} answers, its record {total:,}; restore the samples files"
            )
        return dataset, tally, unscored

    def _open(self, spec: RunSpec, task: Task, path: str | None) -> tuple[Dataset, dict[str, int]]:
        wanted = (task.name, spec.source, spec.split, spec.variant, spec.metric, path)
        if self._opened is None or self._opened[0] != wanted:
            self._opened = None  # what was read before makes room
            found = reopening.data_of(spec, task, path)
            places = {sample.id: place for place, sample in enumerate(found.samples)}
            self._opened = (wanted, found, places)
        return self._opened[1:]


def _fitting(path: Path, record: RunRecord, digest: str, answers: str) -> Sidecar | None:
    """The sidecar that is there, if it is what would be written now."""
    if not exists(path):
        return None
    try:
        found = read(path)
    except StoreError:  # written anew
        return None
    same = (found.key, found.answers, found.task_digest) == (record.key, answers, digest)
    return Sidecar(path, found, fits=True) if same else None


def _require_same_question(spec: RunSpec, task: Task, sample: Sample, line: SampleLine) -> None:
    with task_code(f"task {task.name}, sample {sample.id}"):
        prompt = prefix(spec, task, sample)
        texts = reopening.continuations(spec, task, sample)
    same = line.error is not None or texts == [one.text for one in line.likelihoods]
    if prompt != line.prompt or not same:
        raise DataError(f"{task.name} v{task.version} asks sample {sample.id} otherwise now; run again")


def _require_same_picture(sample: Sample, line: SampleLine) -> None:
    """Scoring needs no picture, so one that is not there is no reason to refuse."""
    if not line.image or not sample.images:
        return
    try:
        found = image_key([image.read() for image in sample.images])
    except OSError:
        return
    if found != line.image:
        raise DataError(f"the image of sample {sample.id} is not the one that was asked about; run again")


def _judged(task: Task, sample: Sample, line: SampleLine, mode: Mode) -> SampleLine:
    stats = Tally.stats(task, sample, line.answer(mode))
    named = replace(line, stats=stats, target=sample.target, cluster=cluster_of(sample), groups=sample.groups)
    return replace(named, batch=0)  # sums of batches, which nobody asks for, are as many as the largest


def _data(record: RunRecord, task: Task, dataset: Dataset, unscored: int) -> Data:
    return Data(
        digest=dataset.digest,
        available=len(dataset.samples),
        published=None if dataset.demo else task.splits.get(record.spec.split),
        selected=record.data.selected,
        unscored=unscored,
        demo=dataset.demo,
    )

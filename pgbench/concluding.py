"""From the answers of a run to its record, whoever gave them: always from what is on disk, in plan order."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pgbench import store, units, verdicts
from pgbench.backends import JUDGES, versions
from pgbench.batch import Cell
from pgbench.errors import DataError, ResumeError, RunStopped, StoreError, UsageError
from pgbench.plan import Selection
from pgbench.records import Data, RunRecord, Score, Session, Stack
from pgbench.samples import Answers
from pgbench.tally import Groups, Tally
from pgbench.types import Sample


def data_of(cell: Cell, chosen: Selection) -> Data:
    """What a run of these samples sees. Raises DataError for none, or two of one id."""
    samples = cell.dataset.samples
    if not chosen.positions:
        raise DataError(f"{cell.dataset.id}: split {cell.spec.split} has no samples")
    if repeated := _repeated(samples, chosen):
        raise DataError(f"{cell.dataset.id}: {repeated} samples share an id with another one")
    return Data(
        digest=cell.dataset.digest,
        available=len(samples),
        published=None if cell.dataset.demo else cell.task.splits.get(cell.spec.split),
        selected=len(chosen.positions),
        unscored=chosen.unscored,
        demo=cell.dataset.demo,
    )


def _repeated(samples: Sequence[Sample], chosen: Selection) -> int:
    """How many samples bear the id of an earlier one: ids of one hash are looked up again."""
    import numpy as np

    found = np.frombuffer(chosen.ids, dtype=np.int64)
    ranked = np.sort(found)
    suspects = np.flatnonzero(np.isin(found, ranked[1:][ranked[1:] == ranked[:-1]]))
    ids = [samples[chosen.positions[suspect]].id for suspect in suspects.tolist()]
    return len(ids) - len(set(ids))


def require_same(sample: Sample, answered: str) -> None:
    """Raises ResumeError for an answer to another sample, the one with the id `answered`."""
    if answered != sample.id:
        raise ResumeError(
            f"stored answer {answered} stands where sample {sample.id} belongs; start afresh in another --out"
        )


def conclude(
    cell: Cell,
    folder: Path,
    planned: Sequence[Sequence[int]],
    answers: Answers,
    data: Data,
    started: str,
) -> RunRecord:
    """Score a run of which every batch is there, and write its record.

    Raises RunStopped where the record cannot be made or written: all answers are kept then.
    """
    stack = store.read_stack(folder)
    tally = Tally(cell.task, cell.spec.mode)
    prompts = {}
    positions = (position for batch in planned for position in batch)
    for position, line in zip(positions, answers.lines(), strict=True):
        sample = cell.dataset.samples[position]
        require_same(sample, line.id)
        tally.add(sample, line)
        if line.prompt_ids:
            prompts[line.id] = line.prompt_ids
    record = _record(cell, stack, store.read_session(folder), tally, data, started)
    doctor = verdicts.find(folder.parents[1], cell.spec.checkpoint, stack)
    record = replace(record, prompts=prompts, stack=replace(stack, doctor=doctor))
    try:
        units.write(folder, tally.units())
        store.finish(folder, record)
    except StoreError as error:
        raise RunStopped(f"{error}; all answers are kept, the same command goes on") from error
    return record


def require_same_judges(cell: Cell, folder: Path) -> None:
    """For a run whose stack no backend was compared with in this process.

    Raises ResumeError where what scores now is not what scored when the answers were given.
    """
    stack = store.read_stack(folder)
    current = {"task": cell.task_digest, **versions()}
    judges = {name: found for name in JUDGES if (found := stack.versions.get(name)) is not None}
    changed = list(store.differences(judges, {name: current[name] for name in judges}, "stack.versions"))
    if changed:
        raise ResumeError(
            f"{folder} was answered under another version: {'; '.join(changed)}. "
            "Restore that, or start afresh in another --out"
        )


def _record(cell: Cell, stack: Stack, session: Session, tally: Tally, data: Data, started: str) -> RunRecord:
    scores, groups = _judged(tally)
    failures = tuple(tally.failures)
    cost = tally.cost(
        session.load_seconds,
        session.warmup_seconds,
        stack.weight_bytes,
        session.peak_memory,
        cell.spec.batch,
    )
    return RunRecord(
        schema=store.SCHEMA,
        key=cell.spec.key,
        spec=cell.spec,
        stack=stack,
        data=data,
        scores=scores,
        groups=groups,
        cost=replace(cost, shared_load=session.shared_load),
        started=started,
        finished=now(),
        status="failures" if failures else "complete",
        failures=failures,
        primary=next((m.name for m in cell.task.metrics if m.primary), cell.task.metrics[0].name),
    )


def _judged(tally: Tally) -> tuple[Mapping[str, Score], Groups]:
    try:
        return tally.scores(), tally.groups()
    except UsageError as error:
        raise RunStopped(f"{error}; all answers are kept, mend the task and take another --out") from error


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

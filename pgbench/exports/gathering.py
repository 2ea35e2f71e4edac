"""The runs that are exported: read, chosen, and refused where their numbers would mislead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgbench.errors import StoreError, UsageError, unknown
from pgbench.exports.facts import barred, hub_dataset
from pgbench.frame.folders import Reading
from pgbench.records import RunRecord
from pgbench.store import read_record


@dataclass(frozen=True, slots=True)
class Run:
    """`place` names the run in messages, as the user named it."""

    place: str
    folder: Path
    record: RunRecord


def gather(
    places: Sequence[Path], *, model: str | None = None, anyway: bool = False, of_hub: bool = False
) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """The finished runs in and below these folders, each once, in a fixed order; and the folders of runs that
    are not finished. `model`: only those of this checkpoint; `of_hub`: only data of the hub can be said.

    Raises UsageError for no run, for other data than the hub's where `of_hub`, and for demo, limited and
    incomplete runs unless `anyway`; StoreError for a record that cannot be read, or a named run without one.
    """
    found: dict[Path, Run] = {}
    unfinished: list[str] = []
    for top in places:
        reading = Reading.of(top, "raise")
        for name, record in reading.each(read_record):
            folder = reading.top / name
            if record is not None:
                found.setdefault(folder.resolve(), Run(str(folder), folder, record))
            elif name == ".":
                raise StoreError(f"{top} is not finished: it has no record.json; run the same command again")
            else:
                unfinished.append(str(folder))
    runs = _of_model(_sorted(found.values()), model)
    if not runs:
        raise UsageError(f"no finished run in {', '.join(map(str, places))}; name a folder with run folders")
    if of_hub:  # first: --anyway does not help there
        for run in runs:
            require_hub(run)
    if not anyway:
        _require_fit(runs)
    return runs, tuple(unfinished)


def require_hub(run: Run) -> str:
    """The hub id of a run's data set. Raises UsageError for data that are not of the hub."""
    source = run.record.spec.source
    dataset = hub_dataset(run.record.spec)
    if dataset is None:
        raise UsageError(
            f"{run.place} read {source.id!r} ({source.name}), and an entry of .eval_results "
            "names the benchmark's data set on the hub; run on the hub's copy, or take --format model-index"
        )
    return dataset


def _sorted(runs: Iterable[Run]) -> tuple[Run, ...]:
    return tuple(sorted(runs, key=lambda run: (run.record.spec.task, run.record.spec.split, run.record.key)))


def _of_model(runs: tuple[Run, ...], model: str | None) -> tuple[Run, ...]:
    if model is None:
        return runs
    there = {run.record.spec.checkpoint.id for run in runs}
    if model not in there:
        raise UsageError(unknown("checkpoint of these runs", model, there))
    return tuple(run for run in runs if run.record.spec.checkpoint.id == model)


def _require_fit(runs: Sequence[Run]) -> None:
    """Raises UsageError for runs whose numbers nobody should take for the benchmark's."""
    bad = [(run, reasons) for run in runs if (reasons := barred(run.record))]
    if bad:
        run, reasons = bad[0]
        more = f" (and {len(bad) - 1} more runs)" if bad[1:] else ""
        raise UsageError(
            f"{run.place} is no run of a full benchmark: {'; '.join(reasons)}{more}; "
            "--anyway exports it, and the file says so"
        )

"""`pgbench data check`: is the data fit for a run?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pgbench.cli import flags, streams
from pgbench.errors import INCOMPLETE, OK, UsageError
from pgbench.sweeping import choices
from pgbench.types import DataRequest

if TYPE_CHECKING:
    from pgbench.inspection import Inspection
    from pgbench.types import Dataset, Task

_SHOWN = 10  # names listed

app = typer.Typer(help="Look at a benchmark's data before hours are spent on it.")


@app.callback()
def root() -> None:
    """Look at a benchmark's data before hours are spent on it."""


@app.command("check")
def check(
    task: flags.Task,
    data: flags.Data = None,
    source: flags.Source = None,
    split: flags.Split = None,
    variant: flags.Variant = None,
    data_id: flags.DataId = None,
    data_revision: flags.DataRevision = None,
    images: Annotated[str, typer.Option(help="How many pictures to decode, evenly spread, or all.")] = "all",
    as_json: flags.Json = False,
) -> int:
    """Open the data as a run would, count it, and decode every picture."""
    from pgbench.registry import load_task

    limit = _limit(images)
    with streams.stdout_on_stderr():
        found = load_task(task)
        request = DataRequest(split=split or "", path=data, id=data_id, revision=data_revision)
        name = choices.source(found, source, request, drawn=False)
        chosen, kind = choices.split(found, split or ""), choices.variant(found, variant)
        request = DataRequest(chosen, data, data_id, data_revision, kind)
        dataset = choices.dataset(found, name, request)
        inspection = _inspect(dataset, found.splits[chosen], limit)
    if as_json:
        streams.print_json(_document(found, name, request, dataset, inspection))
    else:
        _print(found, name, request, dataset, inspection)
    return _verdict(chosen, name, inspection)


def _limit(images: str) -> int | None:
    if images == "all":
        return None
    if not images.isdecimal():
        raise UsageError(f"--images {images} is no number; expected all, or how many pictures to decode")
    return int(images)


def _inspect(dataset: Dataset, published: int | None, limit: int | None) -> Inspection:
    import shutil

    from tqdm import tqdm

    from pgbench.inspection import inspect

    columns, rows = shutil.get_terminal_size()
    with tqdm(
        unit="picture", desc="pictures", disable=None, file=sys.stderr, ncols=columns, nrows=rows
    ) as bar:

        def progress(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        return inspect(dataset, published, limit=limit, progress=progress)


def _document(
    task: Task, source: str, request: DataRequest, dataset: Dataset, inspection: Inspection
) -> dict[str, object]:
    from dataclasses import asdict

    asked = {"task": task.name, "version": task.version, "split": request.split, "variant": request.variant}
    read = {"source": source, "id": dataset.id, "revision": dataset.revision, "demo": dataset.demo}
    return {**asked, **read, **asdict(inspection), "fine": inspection.fine}


def _print(task: Task, source: str, request: DataRequest, dataset: Dataset, inspection: Inspection) -> None:
    from pgbench.report.render import printable

    revision = f"@{dataset.revision[:8]}" if dataset.revision else ""
    lines = [
        f"{task.name} v{task.version} · {request.split} · {dataset.id}{revision} ({source})",
        *(f"{name:<11}{value}" for name, value in _facts(inspection, demo=dataset.demo)),
    ]
    print("\n".join(printable(line) for line in lines))
    for title, listed in (
        ("missing", inspection.missing),
        ("unreadable", [f"{one.sample_id}: {one.image}: {one.reason}" for one in inspection.unreadable]),
        ("empty questions", inspection.blank_questions),
    ):
        _list(title, listed)


def _facts(found: Inspection, *, demo: bool) -> list[tuple[str, str]]:
    published = "drawn, not the published ones" if demo else "the published size is not known"
    if found.published is not None:
        published = f"{found.published:,} published"
    references = f"{found.unreferenced:,} samples have none: run, not scored" if found.unreferenced else "all"
    bare = f", {found.without_image:,} samples without one" if found.without_image else ""
    return [
        ("samples", f"{found.samples:,} ({published})"),
        ("clusters", f"{found.clusters:,}"),
        ("references", references),
        ("pictures", f"{found.pictures:,} stored, {found.opened:,} decoded{bare}"),
        ("missing", f"{len(found.missing):,} samples"),
        ("unreadable", f"{len(found.unreadable):,} pictures"),
        ("digest", found.digest),
    ]


def _list(title: str, listed: Sequence[str]) -> None:
    from pgbench.report.render import printable

    if not listed:
        return
    more = f", the first {_SHOWN}" if len(listed) > _SHOWN else ""
    print(f"\n{title} ({len(listed):,}{more}):")
    for one in listed[:_SHOWN]:
        print(f"    {printable(one)}")


def _verdict(split: str, source: str, found: Inspection) -> int:
    if found.fine:
        return OK
    wrong = []
    if found.published not in (None, found.samples):
        wrong.append(f"{found.samples:,} samples, split {split} has {found.published:,} as published")
    if found.missing:
        wrong.append(f"{len(found.missing):,} samples without their picture")
    if found.unreadable:
        wrong.append(f"{len(found.unreadable):,} unreadable pictures")
    authors = "get the data again from where the authors publish it (docs/tasks.md)"
    published = "mend the data" if found.published is None else authors
    todo = "get the data again with pgbench fetch" if source == "hub" else published
    lost = len(found.missing) + len({one.sample_id for one in found.unreadable})
    accept = f", or run it with --max-failures {lost} (or more: pictures may be shared)" if lost else ""
    print(f"pgbench: {'; '.join(wrong)}: {todo}{accept}", file=sys.stderr)
    return INCOMPLETE

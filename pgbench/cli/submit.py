"""`pgbench submit`: the file that a benchmark's test server takes, from finished runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgbench.cli import flags, streams
from pgbench.errors import PgbenchError, UsageError, task_code
from pgbench.sweeping import choices
from pgbench.types import DataRequest, Dataset, Sample, Submission, Task

if TYPE_CHECKING:
    from pgbench.submissions.gather import Joined, Part

_NOTHING = ("", "?")  # what a task shows for an answer without a word or a choice


def submit(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several are joined.")],
    task: Annotated[
        str | None, typer.Option("--task", "-t", help="The task's file, where the runs are of one.")
    ] = None,
    source: flags.Source = None,
    data: flags.Data = None,
    out: Annotated[Path | None, typer.Option(help="The file. [default: named after the run, here]")] = None,
    fill_missing: Annotated[
        bool, typer.Option("--fill-missing", help='Write "" for ids without an answer.')
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    as_json: flags.Json = False,
) -> None:
    """Write the test-server file of runs: every id of the split exactly once, or a list of what lacks."""
    from pgbench.submissions import gather

    with streams.stdout_on_stderr():
        parts = [gather.read_part(run) for run in runs]
        found = _task(parts[0], task)
        submission, split = _submission(found, parts)
        path = out or Path(_name(parts[0], split, submission.suffix))
        _require_free(path, parts, overwrite=overwrite)
        dataset = _dataset(found, parts, split, source, data)
        joined = gather.Joined(parts, dataset, partial(_says_nothing, found), fill_missing)
        _write(path, submission, joined, len(dataset.samples))
    _tell(path, submission, joined, parts, found.splits.get(split), as_json=as_json)


def _task(part: Part, asked: str | None) -> Task:
    """The task of a run. Raises UsageError: not installed, or another than `asked`."""
    from pgbench.registry import load_task, task_names

    name = part.record.spec.task
    if asked is None and name not in task_names():
        raise UsageError(
            f"{part.folder} is of task {name}, which is not installed; give its file: --task FILE.py"
        )
    task = load_task(asked or name)
    if task.name != name:
        raise UsageError(
            f"{part.folder} is of task {name}, and --task {asked} is {task.name}; give that of the run"
        )
    return task


def _require_free(path: Path, parts: Sequence[Part], *, overwrite: bool) -> None:
    """Raises UsageError for a file that is there: unless asked to, and never a device or one of a run."""
    if not path.exists():
        return
    if not path.is_file():
        raise UsageError(f"{path} is no plain file, and is not replaced by one; take another --out")
    if path.resolve().parent in {part.folder.resolve() for part in parts}:
        raise UsageError(
            f"{path} is there already, in a run folder, where nothing is replaced; take another --out"
        )
    if not overwrite:
        raise UsageError(f"{path} is there already; take another --out, or replace it with --overwrite")


def _submission(task: Task, parts: Sequence[Part]) -> tuple[Submission, str]:
    """What the server takes, and the split whose ids it wants. Raises UsageError, saying what is possible."""
    from pgbench.submissions.gather import require_alike, require_whole

    if task.submission is None:
        raise UsageError(f"{task.name} has no test server; pgbench submit writes files of {_with_server()}")
    require_alike(parts)
    wanted = set()
    for part in parts:
        split = part.record.spec.split
        if split not in task.submission.splits:
            possible = ", ".join(task.submission.splits)
            raise UsageError(
                f"split {split} of {task.name} is not submitted; its server takes --split {possible}"
            )
        require_whole(part)
        wanted.add(task.submission.splits[split])
    if len(wanted) > 1:
        raise UsageError(f"these runs go into files of {', '.join(sorted(wanted))}; submit them apart")
    return task.submission, wanted.pop()


def _with_server() -> str:
    import contextlib

    from pgbench.registry import load_task, task_names

    found = []
    for name in task_names():
        with contextlib.suppress(PgbenchError):  # somebody's task that does not load is not the matter here
            found += [name] if load_task(name).submission is not None else []
    return ", ".join(found)


def _dataset(task: Task, parts: Sequence[Part], split: str, source: str | None, data: str | None) -> Dataset:
    """The ids that the file must hold, from where the run had its questions. Raises UsageError, DataError."""
    spec = parts[0].record.spec
    name = source or spec.source.name
    if name not in task.sources:
        raise UsageError(f"{task.name} has no source {name}; it has {', '.join(task.sources)}")
    if name == spec.source.name == "hub" and spec.source.revision is None and data is None:
        raise UsageError(f"the run read a local copy, {spec.source.id}; name its place with --data")
    known = (spec.source.id, spec.source.revision) if name == spec.source.name else (None, None)
    request = DataRequest(split, data, None if data else known[0], None if data else known[1], spec.variant)
    found = choices.dataset(task, name, request)
    for part in parts:
        same = part.record.spec.split == split and part.record.spec.source.name == name
        if same and part.record.data.digest != found.digest:
            raise UsageError(
                f"{part.folder} was asked other questions than {found.id} holds now; restore them"
            )
    return found


def _says_nothing(task: Task, text: str, sample: Sample) -> bool:
    with task_code(f"task {task.name}, sample {sample.id}"):
        return task.answer(text, sample) in _NOTHING


def _write(path: Path, submission: Submission, joined: Joined, total: int) -> None:
    """All of it or nothing, with a bar on stderr."""
    import sys

    from tqdm import tqdm

    from pgbench.durable import write_pieces

    def counted() -> Iterator[bytes]:
        with tqdm(total=total, unit="answer", desc="writing", disable=None, file=sys.stderr) as bar:
            for piece in submission.pieces(joined):
                yield piece.encode()
                bar.update()

    write_pieces(path, counted())


def _name(part: Part, split: str, suffix: str) -> str:
    spec = part.record.spec
    return f"{spec.task}-{split}-{part.folder.resolve().name}{suffix}"  # the folder may be given as "."


def _tell(
    path: Path,
    submission: Submission,
    joined: Joined,
    parts: Sequence[Part],
    published: int | None,
    *,
    as_json: bool,
) -> None:
    from pgbench.report.render import printable
    from pgbench.report.table import caveats

    failed, ids = len(joined.failed), len(joined.dataset.samples)
    if as_json:
        streams.print_json(
            {
                "file": str(path),
                "runs": [str(part.folder) for part in parts],
                "ids": ids,
                "published": published,
                "answered": joined.answered,
                "filled": joined.filled,
                "failed": failed,
                "silent": joined.silent,
                "server": submission.server,
            }
        )
        return
    print(f"{joined.answered:,} answers of {ids:,} ids: {printable(str(path))}")
    if joined.filled or failed:
        print(f'written as "": {joined.filled:,} ids that no run asked, {failed:,} that failed')
    if joined.silent:
        print(f"{joined.silent:,} answers are empty or name no choice; they count as wrong")
    if published not in (None, ids):
        print(f"INCOMPLETE SPLIT: {ids:,} ids here, {published:,} as published; is the questions file whole?")
    print(f"send it to: {printable(submission.server)}")
    for note in dict.fromkeys(note for part in parts for note in caveats(part.record)):
        if note.startswith("NO MODEL"):
            print(printable(note))

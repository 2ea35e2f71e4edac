"""`pgbench fetch`: downloads for machines whose compute nodes have no network."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from pgbench.cli import flags, streams
from pgbench.errors import INCOMPLETE, OK, UsageError
from pgbench.sweeping import choices
from pgbench.types import DataRequest, ModelRequest

if TYPE_CHECKING:
    from pgbench.backends.paligemma.offline import Verified
    from pgbench.fetch import Plan
    from pgbench.types import Dataset, Task

_SHOWN = 12  # files listed of a repository


def fetch(
    task: Annotated[str | None, typer.Option("--task", "-t", help="Fetch this task's data.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Fetch this hub id (id@revision).")
    ] = None,
    revision: flags.Revision = None,
    data_id: flags.DataId = None,
    data_revision: flags.DataRevision = None,
    split: flags.Split = None,
    variant: flags.Variant = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the sizes and stop.")] = False,
    as_json: flags.Json = False,
) -> int:
    """Download what a run reads, check it and open it offline; the same command again goes on, or is done."""
    if task is None and model is None:
        raise UsageError("nothing to fetch: give --task NAME, --model ID, or both")
    asked = _Asked(task, DataRequest(split or "", None, data_id, data_revision), variant, model, revision)
    from pgbench.fetch import planned, require_space

    with streams.stdout_on_stderr():
        needs = asked.needs()
        for need in needs:
            need.plans = planned(need.open_it)
            if not need.plans:
                raise UsageError(f"{need.name} reads nothing from the hub: there is nothing to fetch")
    plans = [plan for need in needs for plan in need.plans]
    waiting = sum(plan.to_download for plan in plans)
    if not as_json:
        _print_plans(plans, waiting)
    space = require_space(plans)
    if not as_json:
        _print_space(space)
    document: dict[str, object] = {"dry_run": dry_run, **_sizes(plans), "space": space}
    if dry_run:
        if as_json:
            streams.print_json(document)
        return OK
    with streams.stdout_on_stderr():
        for need in needs:
            _bring(need)
    document |= {"downloaded": waiting, **_found(asked, needs), "command": asked.command(needs)}
    if as_json:
        streams.print_json(document)
    else:
        _print_done(asked, needs, waiting)
    return _verdict(asked, needs)


@dataclass(slots=True)
class _Need:
    """One of the two things that can be fetched, and how far that is."""

    name: str
    open_it: Callable[[], object]
    plans: list[Plan] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    found: Dataset | Verified | None = None


@dataclass(slots=True)
class _Asked:
    """What the command line said."""

    task_name: str | None
    data: DataRequest
    variant: str | None
    model: str | None
    revision: str | None
    task: Task | None = None

    def needs(self) -> list[_Need]:
        """Raises UsageError for names that do not exist, and for a task without a copy on the hub."""
        needs = []
        if self.task_name is not None:
            needs.append(self._data())
        elif any((self.data.split, self.data.id, self.data.revision, self.variant)):
            raise UsageError("--split, --variant, --data-id and --data-revision go with --task")
        if self.model is not None:
            needs.append(_Need(self.model, functools.partial(_verified, self.model, self.revision)))
        elif self.revision is not None:
            raise UsageError("--revision goes with --model; the data set's is --data-revision")
        return needs

    def _data(self) -> _Need:
        from pgbench.registry import load_task

        self.task = task = load_task(self.task_name or "")
        if "hub" not in task.sources:
            raise UsageError(
                f"{task.name} has no copy on the hub (sources: {', '.join(task.sources)}); there is "
                f"nothing to fetch; pgbench tasks {self.task_name} says what it reads"
            )
        split, variant = choices.split(task, self.data.split), choices.variant(task, self.variant)
        self.data = DataRequest(split, None, self.data.id, self.data.revision, variant)
        return _Need(task.name, functools.partial(choices.dataset, task, "hub", self.data))

    def command(self, needs: Sequence[_Need]) -> str:
        """What to type where there is no network; revisions are pinned to what was fetched."""
        words = ["pgbench", "run", "--task", self.task_name or "TASK"]
        for need in needs:
            wanted, commit = need.plans[0].wanted, need.plans[0].commit
            if wanted.repo_type == "model":
                words += ["--model", f"{wanted.repo_id}@{commit}"]
                continue
            words += ["--source", "hub", "--split", self.data.split]
            words += ["--variant", self.data.variant] if self.variant else []
            words += ["--data-id", self.data.id] if self.data.id else []
            words += ["--data-revision", commit]
        words += [] if self.model else ["--model", "MODEL"]
        return f"HF_HUB_OFFLINE=1 {shlex.join(words)}"


def _verified(model: str, revision: str | None) -> Verified:
    from pgbench.backends.paligemma.offline import verify

    return verify(ModelRequest(model=model, revision=revision))


def _bring(need: _Need) -> None:
    """Download and check what is planned, then open it offline; what that asks for besides comes as well."""
    from pgbench.fetch import Unplanned, download, opened, plan_of, require_space

    for plan in need.plans:
        download(plan)
        need.mended += _check(plan)
    while need.found is None:
        try:
            need.found = opened(need.open_it, need.plans)  # type: ignore[assignment]
        except Unplanned as more:
            plan = plan_of(more.wanted)
            require_space([plan])
            download(plan)
            need.mended += _check(plan)
            need.plans.append(plan)


def _check(plan: Plan) -> list[str]:
    """Checksums, with a bar."""
    import shutil

    from tqdm import tqdm

    from pgbench.fetch import verify

    columns, rows = shutil.get_terminal_size()
    with tqdm(
        total=plan.size,
        unit="B",
        unit_scale=True,
        desc="checking",
        disable=None,
        file=sys.stderr,
        ncols=columns,
        nrows=rows,
    ) as bar:

        def progress(count: int) -> None:
            bar.update(count)

        return verify(plan, progress)


def _sizes(plans: Sequence[Plan]) -> dict[str, object]:
    listed = [
        {
            "type": plan.wanted.repo_type,
            "id": plan.wanted.repo_id,
            "commit": plan.commit,
            "bytes": plan.size,
            "to_download": plan.to_download,
            "files": [
                {"path": file.path, "bytes": file.size, "here": file.path in plan.here} for file in plan.files
            ],
        }
        for plan in plans
        if not plan.wanted.peek
    ]
    return {"repositories": listed, "bytes": sum(plan.size for plan in plans if not plan.wanted.peek)}


def _print_plans(plans: Sequence[Plan], waiting: int) -> None:
    from pgbench.report.render import printable

    for plan in plans:
        if plan.wanted.peek:
            continue
        kind = "data set" if plan.wanted.repo_type == "dataset" else "checkpoint"
        print(printable(f"{kind} {plan.wanted.repo_id}@{plan.commit}"))
        largest = sorted(plan.files, key=lambda file: -file.size)[:_SHOWN]
        for file in largest:
            here = "  here" if file.path in plan.here else ""
            print(f"  {file.size:>16,}  {printable(file.path)}{here}")
        more = len(plan.files) - len(largest)
        print(f"  {plan.size:>16,}  bytes in {len(plan.files)} files{f', {more} not shown' if more else ''}")
    if not waiting:
        print("nothing to download: all of it is here")


def _print_space(space: dict[str, int]) -> None:
    if space["download"]:
        unpacked = f", about {space['unpacking']:,} more when unpacked" if space["unpacking"] else ""
        print(f"to download: {space['download']:,} bytes{unpacked}; {space['free']:,} free")


def _found(asked: _Asked, needs: Sequence[_Need]) -> dict[str, object]:
    """What opening gave, for JSON."""
    from pgbench.types import Dataset

    found: dict[str, object] = {"mended": [path for need in needs for path in need.mended]}
    for need in needs:
        if isinstance(need.found, Dataset):
            counts = {"samples": len(need.found.samples), "published": _published(asked)}
            missing = len(need.found.missing)
            found["data"] = {**counts, "missing": missing, "digest": need.found.digest}
        elif need.found is not None:
            one = need.found
            found["checkpoint"] = {"tensors": one.tensors, "weight_files": one.weight_files}
    return found


def _print_done(asked: _Asked, needs: Sequence[_Need], waiting: int) -> None:
    from pgbench.report.render import printable
    from pgbench.types import Dataset

    for path in (path for need in needs for path in need.mended):
        print(f"was damaged, downloaded again: {printable(path)}")
    for need in needs:
        if isinstance(need.found, Dataset):
            said = f"{len(need.found.samples):,} samples of {need.name} {asked.data.split}"
            print(printable(f"offline: {said}, digest {need.found.digest[:8]}"))
        elif need.found is not None:
            said = f"config, tokenizer and processor load, {need.found.tensors:,} tensors in "
            print(printable(f"offline: {need.name}: {said}{need.found.weight_files} files are whole"))
    print(f"downloaded {waiting:,} bytes" if waiting else "downloaded nothing")
    print(f"on a machine without a network, with this cache (HF_HOME):\n  {printable(asked.command(needs))}")


def _published(asked: _Asked) -> int | None:
    return asked.task.splits[asked.data.split] if asked.task is not None else None


def _verdict(asked: _Asked, needs: Sequence[_Need]) -> int:
    from pgbench.types import Dataset

    published = _published(asked)
    for need in needs:
        if isinstance(need.found, Dataset) and published not in (None, len(need.found.samples)):
            print(
                f"pgbench: {need.name} {asked.data.split} has {len(need.found.samples):,} samples here, "
                f"{published:,} as published: check --data-id and --data-revision",
                file=sys.stderr,
            )
            return INCOMPLETE
    return OK

"""Cells that are not wanted, and cells that are asked for twice."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from pgbench.recipe.asked import AskedCell
from pgbench.recipe.checking import Checked
from pgbench.recipe.known import ANSWERS_BY_ITSELF
from pgbench.recipe.layers import Flags, below
from pgbench.recipe.nodes import Tree
from pgbench.recipe.places import Problems, Spot
from pgbench.recipe.points import as_path
from pgbench.recipe.shape import Match
from pgbench.recipe.splits import split_of
from pgbench.types import Task

_PATHS = ("data", "predictions")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cell with what is known of it beside what it asks for."""

    asked: AskedCell
    task: Task
    model_written: str
    task_written: str
    px: int | None
    spots: tuple[Spot, ...]  # of its checkpoint, resolution, quant, dtype and task


def judged(found: Sequence[Candidate], checked: Checked, flags: Flags, problems: Problems) -> list[AskedCell]:
    """The cells that are wanted; an exclude without effect and a cell asked for twice are mistakes."""
    wanted = list(found)
    for match, tree in zip(checked.file.exclude, checked.under("exclude"), strict=True):
        if tree.spot in checked.dented:
            continue  # without what was wrong of it, it would take away too much
        hit = {id(cell) for cell in found if _fits(cell, match, tree)}
        wanted = [cell for cell in wanted if id(cell) not in hit]
        if not hit and not flags.axes and not _doubted(match, checked):
            problems.add(tree.spot, _idle(match))
    if found and not wanted:
        problems.add(checked.tree.at("exclude"), "exclude takes away every cell; leave one or more")
    _twice(wanted, checked, problems)
    return [cell.asked for cell in wanted]


def _idle(match: Match) -> str:
    if not match.model_fields_set:
        return "exclude: an empty mapping; say what the cells have in common, as {task: gqa, quant: 4bit}"
    return "exclude: no cell is like this; mend it or leave it out"


def _doubted(match: Match, checked: Checked) -> bool:
    names = set(match.model_fields_set)
    return checked.doubts(*names, *(["resolutions"] if names & {"model", "resolution"} else []))


def _fits(cell: Candidate, match: Match, tree: Tree) -> bool:
    names = match.model_fields_set
    return bool(names) and all(_fits_in(name, getattr(match, name), cell, tree) for name in names)


def _fits_in(name: str, wanted: object, cell: Candidate, tree: Tree) -> bool:
    folder, text = tree.spot.folder, str(wanted)
    if name == "task":
        return any(fnmatchcase(one, text) for one in (cell.task_written, cell.task.name))
    if name == "model":
        seen = as_path(below(folder, text) or text)
        model = cell.asked.model.model or ""
        return any(fnmatchcase(one, text) for one in (cell.model_written, model)) or fnmatchcase(model, seen)
    if name in _PATHS:
        wanted = below(folder, text)
    elif name == "split":
        wanted = split_of(cell.task, text) or text
    elif name == "limit" and wanted == "all":
        wanted = None
    return wanted == _stated(name, cell)


def _stated(name: str, cell: Candidate) -> object:
    """What a cell says in the words of a sweep file."""
    asked = cell.asked
    other: dict[str, object] = {
        "resolution": cell.px or asked.model.resolution,
        "batch_size": asked.batch,
        "data": asked.data.path,
        "data_id": asked.data.id,
        "data_revision": asked.data.revision,
        "prompt_style": asked.model.style,
        "split": _split(cell),
        "variant": asked.variant or cell.task.variants[0],
    }
    if name in other:
        return other[name]
    return getattr(asked.model if hasattr(asked.model, name) else asked, name)


def _split(cell: Candidate) -> str:
    asked = cell.asked.data.split or next(iter(cell.task.splits))
    return split_of(cell.task, asked) or asked


def _twice(wanted: Sequence[Candidate], checked: Checked, problems: Problems) -> None:
    first: dict[object, Candidate] = {}
    for cell in wanted:
        before = first.setdefault(_identity(cell), cell)
        if before is cell or checked.doubts() or checked.dented & {*cell.spots, *before.spots}:
            continue  # what was wrong of an entry may be what tells the two apart
        here, there = next(_apart(cell, before), (cell.spots[0], before.spots[0]))
        problems.add(here, f"asks for a cell that {there} asks for already; leave one of the two out")


def _apart(cell: Candidate, before: Candidate) -> Iterator[tuple[Spot, Spot]]:
    return (pair for pair in zip(cell.spots, before.spots, strict=True) if pair[0] != pair[1])


def _identity(cell: Candidate) -> object:
    """What two cells have in common that would be one run."""
    asked, model, data = cell.asked, cell.asked.model, cell.asked.data
    alone = asked.backend in ANSWERS_BY_ITSELF
    model = replace(
        model,
        model=_one_path(model.model),
        device="auto",
        threads=None,
        dtype="float32" if alone else model.dtype,
        predictions=_one_path(model.predictions),
        max_memory=None,
        adapter=_one_path(model.adapter),
    )
    data = replace(data, split=_split(cell), path=_one_path(data.path))
    variant = asked.variant or cell.task.variants[0]
    common = replace(asked, model=model, data=data, variant=variant)
    return replace(common, task=_one_path(asked.task) or "", max_failures=0, replicate=None, where="")


def _one_path(text: str | None) -> str | None:
    """One spelling of a path; links are left, since a link gives a checkpoint a name of its own."""
    is_path = text is not None and text.startswith(("/", ".", "~"))
    return os.path.abspath(text) if is_path and text else text  # noqa: PTH100 - Path.absolute keeps ".."

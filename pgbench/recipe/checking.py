"""From a tree to a checked SweepFile: every mistake said at its place, and what is wrong left out.

What is left lets the mistakes be found that show only when the cells are made, in the same pass.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from pydantic import ValidationError

from pgbench.errors import nearest, unknown
from pgbench.recipe.nodes import Friend, Tree
from pgbench.recipe.places import ALL, Problems, Spot, shown
from pgbench.recipe.shape import INNER, CellEntry, CheckpointEntry, Match, Options, Strict, SweepFile

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Path: TypeAlias = tuple[str | int, ...]
_ITEM = {
    "checkpoints": "text, or a mapping with model:",
    "tasks": "text, or a mapping with task:",
    "include": "a mapping with task:",
    "exclude": "a mapping, as {task: gqa, quant: 4bit}",
}
_DECIDES = {
    "checkpoints": "model",
    "replicates": "model",
    "tasks": "task",
    "dtypes": "dtype",
    "defaults": ALL,
}


@dataclass(frozen=True, slots=True)
class Checked:
    """What is valid of a sweep file, and the names of options of which something was not."""

    file: SweepFile
    tree: Tree  # without what was wrong: lists stand beside those of `file`
    doubtful: set[str] = field(default_factory=set)
    dented: frozenset[Spot] = frozenset()  # items of lists of which something was not valid

    def doubts(self, *names: str) -> bool:
        """Whether a mistake may have taken something of these from what is valid."""
        return ALL in self.doubtful or not self.doubtful.isdisjoint(names)

    def under(self, name: str) -> list[Tree]:
        """The trees of a list's items."""
        found = self.tree.get(name)
        return found.value if found and isinstance(found.value, list) else []


def checked(tree: Tree, problems: Problems) -> Checked:
    """Says everything that is wrong with the file by itself."""
    doubtful = {_DECIDES.get(name, name) for name in problems.doubtful}
    dented: set[Spot] = set()
    first = True
    while True:
        try:
            return Checked(SweepFile.model_validate(tree.plain()), tree, doubtful, frozenset(dented))
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
        gone = {_reached(tree, item["loc"]) for item in found}
        if first:
            for item in found:
                _say(tree, item, problems)
                doubtful |= _doubt(item["loc"])
                dented |= {one.spot for one in [tree.get(*item["loc"][:2])] if one}
        first = False
        tree = Tree({}, tree.spot) if () in gone else pruned(tree, gone)


def pruned(tree: Tree, gone: set[Path]) -> Tree:
    """The tree without what stands at these paths."""
    if not gone or not isinstance(tree.value, (dict, list)):
        return tree
    drop = {path[0] for path in gone if len(path) == 1}
    below: dict[str | int, set[Path]] = {}
    for path in gone:
        below.setdefault(path[0], set()).add(path[1:])
    if isinstance(tree.value, dict):
        pairs = {
            key: pruned(child, below.get(key, set())) for key, child in tree.value.items() if key not in drop
        }
        return Tree(pairs, tree.spot, tree.keys)
    items = enumerate(tree.value)
    return Tree([pruned(child, below.get(n, set())) for n, child in items if n not in drop], tree.spot)


def _reached(tree: Tree, loc: Path) -> Path:
    """As much of an error's place as is in the tree: pydantic adds the branch of a union, a missing key."""
    while loc and tree.get(*loc) is None:
        loc = loc[:-1]
    return loc


def _say(tree: Tree, item: ErrorDetails, problems: Problems) -> None:
    loc, path = item["loc"], _reached(tree, item["loc"])
    here = tree.get(*path) or tree
    model, name = _field(loc)
    if item["type"] == "extra_forbidden":
        parent = tree.get(*path[:-1]) or tree
        problems.add(parent.at(str(loc[-1])), _strange(str(loc[-1]), model))
    elif item["type"] == "missing":
        problems.add(here.spot, f"{loc[-1]} is missing; expected {_expected(model, name, path)}")
    elif loc[-1] == "[key]":
        parent = tree.get(*path[:-1]) or tree
        problems.add(parent.at(str(path[-1])), "a name that is empty or cannot be printed; expected text")
    else:
        expected = _expected(model, name, path)
        near = nearest(here.value, expected.split(" | ")) if isinstance(here.value, str) else ""
        guess = f"; did you mean {near}?" if near else ""
        if item["type"] == "string_type" and isinstance(here.value, int):
            guess = "; quote it"
        problems.add(here.spot, f"{name}: got {said(here)}; expected {expected}{guess}")


def _strange(key: str, model: type[Strict]) -> str:
    if model is SweepFile and key in Options.model_fields:
        return f"key {key!r} is an option; write it under defaults:, a task or a checkpoint"
    return unknown("key", key, model.model_fields)


def _field(loc: Sequence[str | int]) -> tuple[type[Strict], str]:
    """The model and field that a place belongs to."""
    top = str(loc[0])
    inner = [part for part in loc[1:] if isinstance(part, str)]
    if top in INNER and inner:
        return INNER[top], inner[0]
    return SweepFile, top


def _expected(model: type[Strict], name: str, path: Path) -> str:
    if model is SweepFile and len(path) > 1 and name in _ITEM:
        return _ITEM[name]
    text = model.model_fields[name].description or "something else"
    if isinstance(path[-1], int) and model in (SweepFile, CheckpointEntry):
        return text.removeprefix("a list of ")
    return "a list of checkpoints" if len(path) == 2 and name == "replicates" else text


def said(tree: Tree) -> str:
    """What came, for a message."""
    if isinstance(tree.value, Friend):
        text = tree.value.text
        return f"{shown(text) if text else 'nothing'} ({tree.value.why})"
    if isinstance(tree.value, dict):
        return "a mapping"
    return "a list" if isinstance(tree.value, list) and tree.value else shown(tree.value)


def _doubt(loc: Path) -> set[str]:
    """The options that a mistake leaves open, the one that a misspelt key was meant to be among them."""
    names = [part for part in loc if isinstance(part, str)]
    if loc[0] == "exclude":  # an item that is wrong is left out whole
        return set()
    inner = names[1:] if names[0] in INNER else []
    known = {*Match.model_fields, *CellEntry.model_fields, *SweepFile.model_fields}
    name = next((part for part in inner if part in known), inner[0] if inner else names[0])
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return {_DECIDES.get(part, part) for part in [name, *near]}

"""Checkpoints as a sweep file names them, to checkpoints one by one: {px}, globs, replicates."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pgbench.errors import unknown
from pgbench.profiles import EXAMPLE, RELEASED, SHIPPED
from pgbench.recipe.checking import Checked
from pgbench.recipe.layers import Flags, Layer, Said, below, is_folder, layer, said
from pgbench.recipe.nodes import Tree
from pgbench.recipe.places import Problems, Spot, shown
from pgbench.recipe.shape import BACKEND, CellEntry, CheckpointEntry

PX = "{px}"
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")
_GLOB = re.compile(r"[*?\[]")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@.+)?")


@dataclass(frozen=True, slots=True)
class Point:
    """One checkpoint, or a backend that needs none, with what holds for its cells alone."""

    spot: Spot
    model: Said | None = None
    written: str = ""  # the model as the file has it, {px} filled in
    px: Said | None = None
    revision: Said | None = None
    layer: Layer = field(default_factory=dict)
    quant: tuple[Said, ...] = ()  # of its own
    dtypes: tuple[Said, ...] = ()
    replicate: str | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    model: str
    written: str
    px: Said | None


def items(values: Sequence[object] | None, tree: Tree | None) -> tuple[Said, ...]:
    """The items of a list, each with its place."""
    trees = tree.value if tree and isinstance(tree.value, list) else []
    return tuple(Said(value, child.spot) for value, child in zip(values or (), trees, strict=False))


class Finder:
    """Expands every entry that names checkpoints; `unused_resolutions` is to be asked last."""

    def __init__(self, checked: Checked, flags: Flags, problems: Problems) -> None:
        self._checked, self._flags, self._problems = checked, flags, problems
        self._sizes = items(checked.file.resolutions, checked.tree.get("resolutions"))
        self._used = False  # the sweep's own resolutions
        self._doubted = checked.doubts("model")  # by what the file says, not by what is found here

    def listed(self, recipes: Mapping[str, Point]) -> list[Point]:
        """The checkpoints of the axes in the order of the file, those that only recipes name last."""
        pairs = zip(self._checked.file.checkpoints, self._checked.under("checkpoints"), strict=True)
        found = [point for entry, tree in pairs for point in self.of_entry(entry, tree)]
        models = {point.model.value for point in found if point.model}
        if "checkpoints" not in self._flags.axes or "replicates" in self._flags.axes:
            found += [point for model, point in recipes.items() if model not in models]
        return found

    def of_entry(self, entry: CheckpointEntry, tree: Tree) -> Iterator[Point]:
        own, sizes = layer(entry, tree), items(entry.resolutions, tree.get("resolutions"))
        if "dtype" in own and entry.dtypes:
            self._problems.add(own["dtype"].spot, "dtype: stands beside dtypes; leave one of them out")
        if sizes and PX not in (entry.model or ""):
            what = f"the model {shown(entry.model)}" if entry.model else "no model"
            self._problems.add(tree.at("resolutions"), _unused(what))
        for point in self.of_model(entry, tree, own, sizes):
            quant, dtypes = tree.get("quant"), tree.get("dtypes")
            yield replace(point, quant=items(entry.quant, quant), dtypes=items(entry.dtypes, dtypes))

    def of_model(
        self, entry: CheckpointEntry | CellEntry, tree: Tree, own: Layer, sizes: tuple[Said, ...] = ()
    ) -> Iterator[Point]:
        """A point for each checkpoint that the entry's model names; one without a model where it has none."""
        point = Point(tree.spot, layer=own)
        if entry.revision is not None:
            point = replace(point, revision=said(entry, tree, "revision"))
        if entry.model is None:
            yield point
            return
        model = said(entry, tree, "model")
        for found in self._concrete(model, sizes, _backend(self._flags.layer, own, self._defaults())):
            yield replace(point, model=Said(found.model, model.spot), written=found.written, px=found.px)

    def recipes(self) -> dict[str, Point]:
        """Model -> the point that its recipe makes of it."""
        named: dict[str, Point] = {}
        for name, members in self._checked.file.replicates.items():
            for member in items(members, self._checked.tree.get("replicates", name)):
                for point in self._of_recipe(name, member):
                    self._name(named, point)
        return named

    def _of_recipe(self, name: str, member: Said) -> Iterator[Point]:
        if (PX in member.value) != (PX in name):
            self._used = self._used or PX in member.value
            text = f"{shown(member.value)} of {shown(name)}: {PX} stands in one of the two alone"
            self._lost(member.spot, f"replicates: {text}; each resolution is a recipe of its own")
            return
        for found in self._concrete(member, (), _backend(self._flags.layer, {}, self._defaults())):
            recipe = name.replace(PX, str(found.px.value)) if found.px else name
            model = Said(found.model, member.spot)
            yield Point(member.spot, model, found.written, found.px, replicate=recipe)

    def _name(self, named: dict[str, Point], point: Point) -> None:
        model = point.model.value if point.model else ""
        first = named.setdefault(model, point)
        if first is not point:
            already = f"stands in {shown(first.replicate)} already, at {first.spot}"
            self._problems.add(point.spot, f"replicates: {shown(point.written)} {already}")

    def unused_resolutions(self) -> None:
        """Says so where no model has {px} in it."""
        narrowed = "checkpoints" in self._flags.axes and "resolutions" not in self._flags.axes
        if self._sizes and not self._used and not narrowed and not self._doubted:
            self._problems.add(self._checked.tree.at("resolutions"), _unused("no checkpoint"))

    def _defaults(self) -> Layer:
        return layer(self._checked.file.defaults, self._checked.tree.get("defaults") or self._checked.tree)

    def _concrete(self, model: Said, own: tuple[Said, ...], backend: str) -> Iterator[_Found]:
        strange = sorted(set(_PLACEHOLDER.findall(model.value)) - {PX})
        if strange:
            self._lost(model.spot, f"unknown placeholder {shown(strange[0])}; expected {PX}")
            return
        if PX not in model.value:
            yield from self._matches(model.value, model.spot, None, backend)
            return
        self._used = self._used or not own
        sizes = own or self._sizes
        if not sizes and not self._checked.doubts("resolutions"):
            self._problems.add(model.spot, f"{shown(model.value)} has {PX}, and there are no resolutions:")
        if not sizes:
            self._checked.doubtful.add("model")
        for px in sizes:
            yield from self._matches(model.value.replace(PX, str(px.value)), model.spot, px, backend)

    def _matches(self, text: str, spot: Spot, px: Said | None, backend: str) -> Iterator[_Found]:
        path = below(spot.folder, text)
        if path is None:
            self._lost(spot, f"{shown(text)}: there is no such user; write the folder out")
        elif _GLOB.search(text) and not is_folder(path):
            matches = folders(spot.folder, path)
            if not matches:
                whose = "the working folder" if spot.file is None else "this file"
                self._lost(spot, f"no folder matches {shown(text)}, seen from {whose}; expected one or more")
            yield from (_Found(as_path(match), text, px) for match in matches)
        else:
            yield from self._plain(text, path, spot, px, backend)

    def _plain(self, text: str, path: str, spot: Spot, px: Said | None, backend: str) -> Iterator[_Found]:
        is_path = text.startswith(("/", ".", "~")) or text.count("/") > 1 or "\\" in text
        if text not in SHIPPED and (is_path or is_folder(path)):
            yield _Found(as_path(path), text, px)
        elif text in SHIPPED or backend != BACKEND or _HUB_ID.fullmatch(text):
            yield _Found(text, text, px)
        else:
            hint = f"; or a folder, or a hub id such as {EXAMPLE}"
            self._lost(spot, unknown("checkpoint", text, SHIPPED, also=RELEASED, hint=hint))

    def _lost(self, spot: Spot, text: str) -> None:
        self._problems.add(spot, text)
        self._checked.doubtful.add("model")


def folders(folder: Path, path: str) -> list[str]:
    """The folders that a pattern below `folder` matches, checkpoint-9 before checkpoint-10."""
    own = "" if folder == Path() else str(folder)  # its own brackets are no pattern
    pattern = glob.escape(own) + path.removeprefix(own) if own and path.startswith(own) else path
    return sorted(filter(is_folder, glob.glob(pattern)), key=_natural)  # noqa: PTH207 - takes absolute ones


def _natural(text: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", text)
    return [(int(part), "") if part.isdecimal() and part.isascii() else (0, part) for part in parts]


def as_path(path: str) -> str:
    """A text that no backend takes for a shipped name or a hub id."""
    return path if path.count("/") > 1 or path.startswith(("/", "./", "../")) else f"./{path}"


def _unused(what: str) -> str:
    return f"resolutions: {what} has {PX} in it, as in google/paligemma2-3b-mix-{PX}; leave resolutions out"


def _backend(flags: Layer, own: Layer, defaults: Layer) -> str:
    """A backend other than the default one may know other names of checkpoints."""
    found = {**defaults, **own, **flags}.get("backend")
    return str(found.value) if found else BACKEND

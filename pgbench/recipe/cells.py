"""From a checked sweep file to cells: the axes multiplied, included cells added, excluded ones taken away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pgbench.recipe.asked import AskedCell
from pgbench.recipe.checking import Checked
from pgbench.recipe.known import Known
from pgbench.recipe.layers import Flags, Layer, Said, below, is_folder, layer, said
from pgbench.recipe.matching import Candidate, judged
from pgbench.recipe.nodes import Tree
from pgbench.recipe.places import Problems, Spot, shown
from pgbench.recipe.points import Finder, Point, as_path, items
from pgbench.recipe.shape import CellEntry, TaskEntry
from pgbench.types import DataRequest, ModelRequest, Task

MOST_CELLS = 10_000
_DTYPE = "bfloat16"  # as of `pgbench run`
# A cell's own fields -> the options that give them; what is not said has the default of `pgbench run`.
_SAME: Mapping[str, str] = {
    **{name: name for name in ("backend", "source", "variant", "metric", "official_seed", "limit", "seed")},
    "mode": "mode",
    "batch": "batch_size",
    "max_failures": "max_failures",
}


@dataclass(frozen=True, slots=True)
class _Turn:
    """One entry of the list of tasks."""

    spot: Spot
    called: str
    task: Task
    written: str
    layer: Layer


def cells(checked: Checked, flags: Flags, problems: Problems) -> tuple[AskedCell, ...]:
    """The cells in the order in which they are to run: those that share a loaded checkpoint stand together.

    What is wrong goes to `problems`; the cells mean something only where nothing is.
    """
    return _Maker(checked, flags, problems).all()


def grouped(found: Sequence[AskedCell]) -> tuple[AskedCell, ...]:
    """Cells of one loaded checkpoint side by side, each checkpoint at the place of its first cell."""
    groups: dict[object, list[AskedCell]] = {}
    for cell in found:
        groups.setdefault((cell.backend, cell.model), []).append(cell)
    return tuple(cell for group in groups.values() for cell in group)


class _Maker:
    def __init__(self, checked: Checked, flags: Flags, problems: Problems) -> None:
        self._checked, self._flags, self._problems = checked, flags, problems
        self._known, self._finder = Known(problems), Finder(checked, flags, problems)
        self._defaults = layer(checked.file.defaults, checked.tree.get("defaults") or checked.tree)
        self._quant = items(checked.file.quant, checked.tree.get("quant"))
        self._dtypes = items(checked.file.dtypes, checked.tree.get("dtypes"))

    def all(self) -> tuple[AskedCell, ...]:
        doubted = self._checked.doubts("model"), self._checked.doubts("task")
        self._conflicts()
        recipes = self._finder.recipes()
        found = self._finder.listed(recipes)
        turns = [
            turn for turn in map(self._turn, self._checked.file.tasks, self._checked.under("tasks")) if turn
        ]
        included = list(self._included(recipes))
        self._finder.unused_resolutions()
        if not self._lacks_tasks(doubted[1]) and not self._names_checkpoints() and not doubted[0]:
            found = [Point(self._checked.tree.at("checkpoints"))]  # fine for backends that load none
        self._alone(found, turns)
        if self._too_many(found, turns, included):
            return ()
        product = [cell for point in found for cell in self._of_point(_tagged(point, recipes), turns)]
        return grouped(judged([*product, *included], self._checked, self._flags, self._problems))

    def _alone(self, points: Sequence[Point], turns: Sequence[_Turn]) -> None:
        """Options, where a mistake elsewhere leaves no cell in which they would be looked at."""
        for turn in turns if not points else ():
            options = {**self._defaults, **turn.layer, **self._flags.layer}
            self._known.options(turn.task, options)
            self._known.installed(options)
        for point in points if not turns else ():
            self._known.installed({**self._defaults, **point.layer, **self._flags.layer})

    def _names_checkpoints(self) -> bool:
        return bool(self._checked.file.checkpoints or self._checked.file.replicates)

    def _lacks_tasks(self, doubted: bool) -> bool:
        """Whether the axes make no cell for want of tasks, which is said where it is a mistake."""
        file, tree = self._checked.file, self._checked.tree
        if not file.tasks and not doubted and (self._names_checkpoints() or not file.include):
            self._problems.add(tree.at("tasks"), "there are no tasks; name one or more, as tasks: [textvqa]")
        return not file.tasks

    def _conflicts(self) -> None:
        """dtype as an option and dtypes as an axis, on one level."""
        by_flag = "dtypes" in self._flags.axes
        own = (self._flags.layer if by_flag else self._defaults).get("dtype")
        if own and self._dtypes and (by_flag or "dtype" not in self._flags.layer):
            self._problems.add(own.spot, "dtype: stands beside dtypes; leave one of them out")

    def _turn(self, entry: TaskEntry | CellEntry, tree: Tree) -> _Turn | None:
        found = self._known.task(said(entry, tree, "task"))
        if found is None:
            self._checked.doubtful.add("task")
            return None
        return _Turn(tree.spot, *found, entry.task, layer(entry, tree))

    def _included(self, recipes: Mapping[str, Point]) -> Iterator[Candidate]:
        for entry, tree in zip(self._checked.file.include, self._checked.under("include"), strict=True):
            turn = self._turn(entry, tree)
            found = list(self._finder.of_model(entry, tree, layer(entry, tree)))
            if turn is None:
                self._alone(found, [])
                continue
            self._alone(found, [turn])
            quant = said(entry, tree, "quant") if entry.quant else Said("none", tree.spot)
            for point in found:
                (dtype,) = self._dtypes_of(point, turn, axis=False)
                yield self._cell(_tagged(point, recipes), turn, quant, dtype)

    def _too_many(
        self, found: Sequence[Point], turns: Sequence[_Turn], included: Sequence[Candidate]
    ) -> bool:
        count = len(found) * len(turns) + len(included)  # first, since both can be thousands
        if count <= MOST_CELLS:
            pairs = ((point, turn) for point in found for turn in turns)
            sizes = (len(self._quant_of(point)) * len(self._dtypes_of(point, turn)) for point, turn in pairs)
            count = sum(sizes) + len(included)
        if count <= MOST_CELLS:
            return False
        text = f"{count:,} cells; at most {MOST_CELLS:,} in one sweep: split it, or shorten an axis"
        self._problems.add(self._checked.tree.spot, text)
        return True

    def _of_point(self, point: Point, turns: Sequence[_Turn]) -> Iterator[Candidate]:
        for quant in self._quant_of(point):
            for turn in turns:
                for dtype in self._dtypes_of(point, turn):
                    yield self._cell(point, turn, quant, dtype)

    def _quant_of(self, point: Point) -> tuple[Said, ...]:
        if point.quant and "quant" not in self._flags.axes:
            return point.quant
        loads = point.model is not None  # the sweep's axes are of checkpoints
        return (loads and self._quant) or (Said("none", point.spot),)

    def _dtypes_of(self, point: Point, turn: _Turn, *, axis: bool = True) -> tuple[Said, ...]:
        """The nearest layer that says one; `axis`: whether the sweep's axis does, where it comes to that."""
        if flag := self._flags.layer.get("dtype"):
            return (flag,)
        dtypes = self._dtypes if axis and point.model else ()
        if dtypes and "dtypes" in self._flags.axes:
            return dtypes
        own = turn.layer.get("dtype") or point.layer.get("dtype")
        nearest = (own,) if own else point.dtypes or dtypes
        return nearest or (self._defaults.get("dtype", Said(_DTYPE, point.spot)),)

    def _cell(self, point: Point, turn: _Turn, quant: Said, dtype: Said) -> Candidate:
        options = {**self._defaults, **point.layer, **turn.layer, **self._flags.layer}
        self._known.options(turn.task, options)
        self._known.backend(options, point, quant)
        asked = AskedCell(
            task=turn.called,
            model=self._model(options, point, quant, dtype),
            data=self._data(options),
            replicate=point.replicate,
            where=_where(point.spot, turn.spot),
            **_same(options),
        )
        spots = (point.spot, point.px.spot if point.px else point.spot, quant.spot, dtype.spot, turn.spot)
        px = point.px.value if point.px else None
        return Candidate(asked, turn.task, point.written, turn.written, px, spots)

    def _model(self, options: Layer, point: Point, quant: Said, dtype: Said) -> ModelRequest:
        given = {name: option.value for name, option in options.items()}
        return ModelRequest(
            model=point.model.value if point.model else None,
            revision=point.revision.value if point.revision else None,
            dtype=dtype.value,
            quant=quant.value,
            style=given.get("prompt_style", "paligemma"),
            protocol=given.get("protocol", "hf"),
            pixels_from=given.get("pixels_from"),
            chat_attention=given.get("chat_attention"),
            kind=given.get("kind"),
            tuned_on=given.get("tuned_on"),
            resolution=given.get("resolution"),
            quant_scope=given.get("quant_scope", "all"),
            adapter=self._adapter(options.get("adapter")),
            adapter_mode=given.get("adapter_mode"),
            adapter_order=given.get("adapter_order"),
            device=given.get("device", "auto"),
            max_memory=given.get("max_memory"),
            threads=given.get("threads"),
            attention=given.get("attention"),
            cache=given.get("cache"),
            predictions=self._path(options.get("predictions")),
        )

    def _data(self, options: Layer) -> DataRequest:
        given = {name: option.value for name, option in options.items()}
        return DataRequest(
            split=given.get("split", ""),
            path=self._path(options.get("data")),
            id=given.get("data_id"),
            revision=given.get("data_revision"),
        )

    def _adapter(self, option: Said | None) -> str | None:
        """A folder seen from the working folder; what is none may be a hub id."""
        path = self._path(option)
        if option is None or path is None:
            return None
        return as_path(path) if is_folder(path) else str(option.value)

    def _path(self, option: Said | None) -> str | None:
        """A path seen from the working folder."""
        if option is None:
            return None
        path = below(option.spot.folder, option.value)
        if path is None:
            text = f"{shown(option.value)}: there is no such user; write the folder out"
            self._problems.add(option.spot, text)
        return path


def _same(options: Layer) -> dict[str, Any]:
    given = {name: options[option].value for name, option in _SAME.items() if option in options}
    return {name: None if (name, value) == ("limit", "all") else value for name, value in given.items()}


def _tagged(point: Point, recipes: Mapping[str, Point]) -> Point:
    """With the recipe that its checkpoint is one run of, if it is."""
    recipe = recipes.get(point.model.value) if point.model else None
    return replace(point, replicate=recipe.replicate) if recipe else point


def _where(*spots: Spot) -> str:
    """sweep.yaml:4 x sweep.yaml:9: the entries that a cell comes from, without their folders."""
    places = ("flags" if one.file is None else f"{one.file.name}:{one.line}" for one in spots)
    return " x ".join(dict.fromkeys(places))

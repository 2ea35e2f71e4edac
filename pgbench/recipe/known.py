"""What installed tasks and backends say of the words of a sweep; nothing heavy is imported for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pgbench import registry
from pgbench.errors import UsageError, unknown
from pgbench.recipe.layers import Layer, Said, below
from pgbench.recipe.places import Problems, Spot, shown
from pgbench.recipe.points import Point
from pgbench.recipe.shape import BACKEND
from pgbench.recipe.splits import split_of
from pgbench.types import Task

OF_A_CHECKPOINT = (  # options
    *("kind", "tuned_on", "resolution", "quant_scope", "adapter", "adapter_mode", "adapter_order"),
    *("attention", "cache", "max_memory"),
)
ANSWERS_BY_ITSELF = ("oracle", "replay")  # shipped backends that load no checkpoint


@dataclass(slots=True)
class Known:
    """Says what is wrong at the place where it was said; a task is loaded once."""

    problems: Problems
    tasks: dict[str, Task | str] = field(default_factory=dict)  # or why it cannot be used
    offered: Mapping[str, str] | None = None

    def task(self, name: Said) -> tuple[str, Task] | None:
        """What to call the task by, a file seen from the working folder, and the task."""
        called = name.value
        if registry.is_path(called):
            path = below(name.spot.folder, called)
            if path is None:
                self._say(name.spot, f"{shown(called)}: there is no such user; write the folder out")
                return None
            called = path if registry.is_path(path) else f"./{path}"  # "./gqa" is not the task gqa
        if called not in self.tasks:
            self.tasks[called] = _load(called)
        found = self.tasks[called]
        if isinstance(found, str):
            self._say(name.spot, found)
            return None
        return called, found

    def options(self, task: Task, options: Layer) -> None:
        """Names that the task does not know."""
        from pgbench.metrics.named import in_mode

        if (split := options.get("split")) and split_of(task, split.value) is None:
            self._unknown(f"split of {task.name}", split, task.splits)
        if (variant := options.get("variant")) and variant.value not in task.variants:
            self._unknown(f"variant of {task.name}", variant, task.variants)
        if (source := options.get("source")) and source.value not in task.sources:
            self._unknown(f"source of {task.name}", source, task.sources)
        if (mode := options.get("mode")) and mode.value not in task.modes:
            self._unknown(f"mode of {task.name}", mode, task.modes)
            return
        task = in_mode(task, mode.value if mode else "generate")
        if (seed := options.get("official_seed")) and task.draw is None:
            text = f"{task.name} has no official script that guesses; leave official_seed out of its cells"
            self._say(seed.spot, text)
        if metric := options.get("metric"):
            self._metric(task, metric)

    def _metric(self, task: Task, metric: Said) -> None:
        from pgbench.metrics.named import narrowed

        try:
            narrowed(task, metric.value)
        except UsageError as error:
            self._say(metric.spot, str(error))

    def _unknown(self, kind: str, said: Said, choices: Mapping[str, object] | tuple[str, ...]) -> None:
        self._say(said.spot, unknown(kind, said.value, choices))

    def backend(self, options: Layer, point: Point, quant: Said) -> None:
        """A backend that is not installed, or that does not go with the rest of its cell."""
        said, model = options.get("backend"), point.model
        name, at = (said.value, said.spot) if said else (BACKEND, point.spot)
        self.installed(options)
        if name in ANSWERS_BY_ITSELF and model is not None:
            self._say(at, f"the backend {name} loads no checkpoint; leave out the one at {model.spot}")
        elif name in ANSWERS_BY_ITSELF and quant.value != "none":
            self._say(quant.spot, f"the backend {name} loads no checkpoint; leave out quant")
        if name == "replay" and (mode := options.get("mode")) and mode.value != "generate":
            self._say(mode.spot, "the backend replay has no likelihoods; leave out mode")
        for option in ("protocol", "pixels_from", "chat_attention"):
            if name in ANSWERS_BY_ITSELF and (given := options.get(option)) and given.value != "hf":
                self._say(given.spot, f"the backend {name} sees no pixels; leave out {option}")
        for option in OF_A_CHECKPOINT:
            if name in ANSWERS_BY_ITSELF and (given := options.get(option)) and given.value != "all":
                self._say(given.spot, f"the backend {name} loads no checkpoint; leave out {option}")
        if name == BACKEND and model is None:
            self._say(point.spot, "no checkpoint; expected a hub id, a folder or a shipped checkpoint")
        given = options.get("predictions")
        if name == "replay" and given is None:
            self._say(at, "the backend replay needs predictions: with a file of answers")
        elif given and name in (BACKEND, "oracle"):
            self._say(given.spot, "predictions go with backend: replay")
        if point.revision:
            self._revision(name, model, point.revision)

    def installed(self, options: Layer) -> None:
        """That the backend which these options name is."""
        if (said := options.get("backend")) and said.value not in self._backends(said.spot):
            self._say(said.spot, unknown("backend", said.value, self._backends(said.spot)))

    def _revision(self, backend: str, model: Said | None, revision: Said) -> None:
        """It goes with a hub id; points.py gives every path a head that no hub id has."""
        if model is None or backend in ANSWERS_BY_ITSELF:
            self._say(revision.spot, "revision: there is no checkpoint that it is of; leave it out")
        elif backend == BACKEND and (model.value.startswith((".", "/")) or "/" not in model.value):
            self._say(revision.spot, f"revision: {shown(model.value)} is on this machine and has none")

    def _backends(self, spot: Spot) -> Mapping[str, str]:
        if self.offered is None:
            try:
                self.offered = registry.backend_names()
            except UsageError as error:
                self._say(spot, str(error))
                self.offered = {}
        return self.offered

    def _say(self, spot: Spot, text: str) -> None:
        self.problems.add(spot, text)


def _load(name: str) -> Task | str:
    try:
        return registry.load_task(name)
    except UsageError as error:
        return str(error)

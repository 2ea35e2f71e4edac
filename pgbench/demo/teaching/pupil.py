"""A model under training: what it begins with, and its state on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pgbench.demo.teaching.architecture import Size, build
from pgbench.demo.teaching.packing import Words
from pgbench.demo.teaching.stages import PARTS, Stage
from pgbench.demo.teaching.tower import Lessons
from pgbench.errors import DataError

State = dict[str, torch.Tensor]


@dataclass(slots=True)
class Pupil:
    """A model under training, with all that a step needs."""

    stage: Stage
    size: Size
    model: Any
    processor: Any
    lessons: Lessons
    words: Words
    seed: int

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """What is learnt, by the names that states use."""
        return {"model": self.model, "lessons": self.lessons}

    @property
    def tower(self) -> Any:
        return self.model.model.vision_tower


def pupil(stage: Stage, out: Path, seed: int) -> Pupil:
    """The model that a stage begins with.

    Raises DataError where a stage before it has not been taught in `out`.
    """
    size = Size(stage.image)
    model, processor = build(stage.family, size, seed)
    found = Pupil(stage, size, model, processor, Lessons(size), Words(processor.tokenizer), seed)
    if stage.start:
        _take(found, _taught(out, stage.start), "")
    if stage.tower:
        _take(found, _taught(out, stage.tower), "model.model.vision_tower.")
    return found


def kept_at(out: Path, stage: str) -> Path:
    """Where a stage's state is kept."""
    return out / f"{stage}.training.safetensors"


def _taught(out: Path, stage: str) -> State:
    path = kept_at(out, stage)
    if not path.exists():
        raise DataError(f"stage {stage} comes first and has not been taught in {out}; teach it")
    return _read(path)[0]


def _read(path: Path) -> tuple[State, Mapping[str, str]]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def _take(found: Pupil, state: State, prefix: str) -> None:
    """Weights whose names begin so. Those of another shape are left, but the table of places is stretched."""
    for module, owner in found.modules.items():
        own = owner.state_dict()
        for name, weights in own.items():
            given = state.get(f"{module}.{name}")
            if given is None or not f"{module}.{name}".startswith(prefix):
                continue
            if name.endswith("position_embedding.weight") and given.shape != weights.shape:
                given = _stretched(given, found.size.grid)
            if given.shape == weights.shape:
                own[name] = given
        owner.load_state_dict(own)


def _stretched(table: torch.Tensor, grid: int) -> torch.Tensor:
    side = math.isqrt(len(table))
    square = table.T.reshape(1, -1, side, side)
    wide = torch.nn.functional.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    return wide.reshape(table.shape[1], -1).T.contiguous()


def keep(found: Pupil, optimizer: torch.optim.Optimizer, part: str, done: int, path: Path) -> None:
    """Weights and the optimizer's state, such that a run that is cut off goes on as if it had not been."""
    kept = {
        f"{module}.{name}": weights.detach()
        for module, owner in found.modules.items()
        for name, weights in owner.named_parameters()  # tied ones once: safetensors refuses shared memory
    }
    for index, state in optimizer.state_dict()["state"].items():
        kept |= {f"optimizer.{index}.{name}": one for name, one in state.items()}
    written = path.with_suffix(".part")
    tensors = {name: one.contiguous() for name, one in kept.items()}
    save_file(tensors, written, {"part": part, "done": str(done)})
    written.replace(path)


def resume(found: Pupil, optimizer: torch.optim.Optimizer, part: str, path: Path) -> int | None:
    """Takes up the kept state; returns how many steps of this part are done, None for all of them."""
    if not path.exists():
        return 0
    kept, about = _read(path)
    if PARTS.index(about["part"]) < PARTS.index(part):
        return 0
    _take(found, kept, "")
    if about["part"] != part:
        return None
    state: dict[int, State] = {}
    for key, one in kept.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = one
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return int(about["done"])

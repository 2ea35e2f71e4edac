"""The loop that every part of a stage runs in."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pgbench.demo.teaching.pupil import Pupil, keep, resume

WARM_UP = 60  # steps
EVERY = 100  # steps between lines of the log
KEEP = 100  # steps between states on disk

Step = Callable[[int, bool], tuple[torch.Tensor, str]]  # (number, is it told?) to (loss, how it goes)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a stage: what is learnt, from what, and how fast."""

    name: str
    learnt: tuple[Any, ...]  # parameters
    step: Step
    steps: int
    rate: float  # AdamW's, at its peak


def fit(found: Pupil, part: Part, path: Path, tell: Callable[[str], None]) -> None:
    """Trains in place, from where `path` left it. What a step sees depends on its number alone."""
    optimizer = torch.optim.AdamW(part.learnt, lr=part.rate, betas=(0.9, 0.98), weight_decay=0.0)
    start = resume(found, optimizer, part.name, path)
    found.model.train()
    since, losses = time.monotonic(), list[float]()
    for number in range(part.steps if start is None else start, part.steps):
        told = (number + 1) % EVERY == 0 or number + 1 == part.steps
        loss, said = _learn(found, part, optimizer, number, told)
        losses.append(loss)
        if told:
            mean, pace = sum(losses) / len(losses), (time.monotonic() - since) / len(losses)
            tell(f"{part.name} {number + 1}/{part.steps} loss {mean:.3f} {pace:.2f} s/step {said}")
            since, losses = time.monotonic(), []
        if (number + 1) % KEEP == 0 or number + 1 == part.steps:
            keep(found, optimizer, part.name, number + 1, path)


def _learn(
    found: Pupil, part: Part, optimizer: torch.optim.Optimizer, number: int, told: bool
) -> tuple[float, str]:
    torch.manual_seed(zlib.crc32(f"{found.seed}/{part.name}/{number}".encode()))
    for group in optimizer.param_groups:
        group["lr"] = part.rate * _schedule(number, part.steps)
    loss, said = part.step(number, told)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(part.learnt, 1.0)
    optimizer.step()
    return loss.item(), said


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to 3 %."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))

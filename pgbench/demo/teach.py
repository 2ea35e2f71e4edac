"""Teaches the demo's checkpoints: one stage a call, each from the stages before it.

    python -m pgbench.demo.teach OUT STAGE

A stage looks (the tower alone, at dense scenes), or answers (the decoder, the tower at rest), or both.
OUT/STAGE becomes a checkpoint in Hugging Face format, OUT/STAGE.training.safetensors what the next stage and
a run that was cut off start from. The same seed, versions and processor give the same weights, also when cut
off; another processor may round differently. The log goes to standard output.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from pgbench.demo.teaching import asking
from pgbench.demo.teaching.fitting import Part, fit
from pgbench.demo.teaching.pupil import Pupil, kept_at, pupil
from pgbench.demo.teaching.stages import STAGES
from pgbench.demo.world import scene
from pgbench.errors import DataError


def teach(found: Pupil, path: Path, tell: Callable[[str], None], cap: int | None = None) -> None:
    """All parts of a stage, from where the state at `path` left it; at most `cap` steps of each."""
    stage = found.stage
    if stage.look:
        learnt = (*found.tower.parameters(), *found.lessons.parameters())
        steps = _capped(stage.look, cap)
        fit(found, Part("look", learnt, asking.look(found), steps, stage.look_rate), path, tell)
    if not stage.answer:
        return
    found.tower.requires_grad_(False)
    decoder = tuple(weights for weights in found.model.parameters() if weights.requires_grad)
    scenes = [scene("train", stage.first + index) for index in range(stage.scenes)]
    seen = asking.seen_by(found, scenes)
    for name, make, steps, rate in (
        ("answer", asking.answer, stage.answer, stage.answer_rate),
        ("settle", asking.settle, stage.settle, stage.settle_rate),
    ):
        step = make(found, scenes, seen)
        fit(found, Part(name, decoder, step, _capped(steps, cap), rate), path, tell)


def _capped(number: int, cap: int | None) -> int:
    return number if cap is None else min(number, cap)


def save(model: Any, processor: Any, out: Path) -> str:
    """Writes the checkpoint, weights in bfloat16 as the real ones; returns the sha256 of the weights."""
    model.eval().to(torch.bfloat16).save_pretrained(out)
    processor.save_pretrained(out)
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def main(argv: Sequence[str] | None = None) -> None:
    """Teaches one stage and writes it."""
    parser = argparse.ArgumentParser(prog="python -m pgbench.demo.teach", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the stages")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--seed", type=int, default=0, help="of weights, scenes and questions")
    parser.add_argument("--steps", type=int, help="at most so many of each part")
    given = parser.parse_args(argv)
    stage = STAGES[given.stage]
    torch.set_num_threads(stage.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        found = pupil(stage, given.out, given.seed)
    except DataError as error:
        parser.error(str(error))
    teach(found, kept_at(given.out, given.stage), functools.partial(print, flush=True), given.steps)
    weights = save(found.model, found.processor, given.out / given.stage)
    print(f"{given.stage}: sha256 of model.safetensors {weights}", flush=True)


if __name__ == "__main__":
    main()

"""What a checkpoint answers about held-out scenes through its processor and `generate`; chance beside it.

python -m pgbench.demo.teaching.examination CHECKPOINT [--scenes N] [--dtype float32]
"""

from __future__ import annotations

import argparse
import io
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from pgbench.demo.questions import KINDS, LAYOUTS, taught
from pgbench.demo.world import draw, scene
from pgbench.stats import wilson

BATCH = 50
LONGEST = {"caption": 110}  # new tokens
ANSWER = 10  # new tokens of every other answer


@dataclass(frozen=True, slots=True)
class Case:
    """One question put to a checkpoint; `scene` and `other` are numbers in the split."""

    scene: int
    other: int  # whose image is shown instead when images are shuffled
    prompt: str
    answer: str


def cases(split: str, scenes: int) -> Mapping[str, tuple[Case, ...]]:
    """At most one question of each kind and layout about each of the first `scenes` scenes."""
    found: dict[str, list[Case]] = {}
    for index in range(scenes):
        drawn = scene(split, index)
        for kind, ask in KINDS.items():
            for layout in LAYOUTS[kind]:
                generator = random.Random(f"{split}/{index}/{kind}/{layout}")
                if question := ask(drawn, generator):
                    case = Case(index, (index + 1) % scenes, *taught(question, layout))
                    found.setdefault(f"{kind}/{layout}", []).append(case)
    return {name: tuple(asked) for name, asked in found.items()}


def answers(
    model: Any, processor: Any, split: str, asked: Sequence[tuple[int, str]], longest: int = ANSWER
) -> list[str]:
    """Greedy answers to (scene, prompt) pairs, in order."""
    found: list[str] = []
    for start in range(0, len(asked), BATCH):
        part = asked[start : start + BATCH]
        batch = processor(
            images=[Image.open(io.BytesIO(draw(scene(split, index)))) for index, _ in part],
            text=[f"<image>{prompt}" for _, prompt in part],
            return_tensors="pt",
            padding="longest",
        )
        batch.pop("labels", None)  # all -100, and there even without a suffix
        batch["pixel_values"] = batch["pixel_values"].to(model.dtype)
        with torch.inference_mode():
            out = model.generate(**batch, max_new_tokens=longest, do_sample=False)
        found += processor.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in found]


def chance(asked: Sequence[Case]) -> float:
    """What the best constant answer to each prompt scores, as a fraction: answering without looking."""
    by_prompt: dict[str, Counter[str]] = {}
    for case in asked:
        by_prompt.setdefault(case.prompt, Counter())[case.answer] += 1
    if len(by_prompt) > len(asked) / 4:  # as good as every prompt has options of its own
        return Counter(case.answer for case in asked).most_common(1)[0][1] / len(asked)
    return sum(max(one.values()) for one in by_prompt.values()) / len(asked)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a line for each kind and layout of question."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--split", default="test")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--kinds", nargs="*", help="only these, as sign/plain")
    parser.add_argument("--wrong", action="store_true", help="print wrong answers too")
    given = parser.parse_args(argv)
    model = AutoModelForImageTextToText.from_pretrained(
        given.checkpoint, dtype=given.dtype, local_files_only=True
    ).eval()
    processor = AutoProcessor.from_pretrained(given.checkpoint, local_files_only=True)
    for name, asked in cases(given.split, given.scenes).items():
        if given.kinds and name not in given.kinds:
            continue
        longest = LONGEST.get(name.split("/")[0], ANSWER)
        said = answers(model, processor, given.split, [(case.scene, case.prompt) for case in asked], longest)
        blind = answers(model, processor, given.split, [(case.other, case.prompt) for case in asked], longest)
        right, guessed = (
            sum(text == case.answer for text, case in zip(told, asked, strict=True)) / len(asked)
            for told in (said, blind)
        )
        low, high = wilson(right, len(asked))
        print(
            f"{name:18} n {len(asked):4} right {right:.3f} [{low:.3f}, {high:.3f}]"
            f" shuffled {guessed:.3f} chance {chance(asked):.3f}",
            flush=True,
        )
        if given.wrong:
            print("   ", [(c.answer, t) for c, t in zip(asked, said, strict=True) if t != c.answer][:8])


if __name__ == "__main__":
    main()

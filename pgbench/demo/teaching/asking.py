"""What a step of each part is made of: scenes, questions about them, and the loss.

Scenes, questions and their order follow from the seed and the step's number.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy

from pgbench.demo.draws import pick, shuffled
from pgbench.demo.questions import KINDS, LAYOUTS, taught
from pgbench.demo.teaching.fitting import Step
from pgbench.demo.teaching.packing import IGNORED, Packed, Pair, alone, logits, pack
from pgbench.demo.teaching.pupil import Pupil
from pgbench.demo.teaching.stages import MIXTURES
from pgbench.demo.teaching.tower import Album, labels, lesson, pixels
from pgbench.demo.world import Scene, scene

BATCH = 32  # scenes at once where nothing is learnt
HELD_OUT = 96  # scenes of the split val
SETTLED = 2  # questions of one image in a step of settling


def look(found: Pupil) -> Step:
    """The tower and its heads at dense scenes; tells what the heads name in held-out plain ones."""
    held_out, album = [scene("val", index) for index in range(HELD_OUT)], Album(found.size)

    def step(number: int, told: bool) -> tuple[torch.Tensor, str]:
        chosen = lesson(f"{found.seed}/look/{found.stage.look_batch}/{number}", found.stage.look_batch)
        scenes = [scene(split, index) for split, index in chosen]
        loss, _ = _lessons(found, album, scenes)
        if not told:
            return loss, ""
        with torch.no_grad():
            _, right = _lessons(found, album, held_out)
        return loss, " ".join(f"{name} {share:.2f}" for name, share in right.items())

    return step


def _lessons(found: Pupil, album: Album, scenes: Sequence[Scene]) -> tuple[torch.Tensor, dict[str, float]]:
    features = found.tower(pixel_values=pixels(scenes, album)).last_hidden_state
    loss, right = found.lessons(features, labels(scenes, found.size))
    return loss, right


def seen_by(found: Pupil, scenes: Sequence[Scene]) -> torch.Tensor:
    """What the tower, which is at rest, makes of each scene: [scenes, image tokens, hidden]."""
    album = Album(found.size)
    parts = []
    with torch.no_grad():
        for start in range(0, len(scenes), BATCH):
            shown = pixels(scenes[start : start + BATCH], album)
            parts.append(found.tower(pixel_values=shown).last_hidden_state)
            album.clear()
    return torch.cat(parts)


def answer(found: Pupil, asked: Sequence[Scene], seen: torch.Tensor) -> Step:
    """Packs of questions; tells how held-out scenes are answered."""
    held_out = [scene("val", index) for index in range(HELD_OUT)]
    shown = seen_by(found, held_out)

    def step(number: int, told: bool) -> tuple[torch.Tensor, str]:
        generator = random.Random(f"{found.seed}/answer/{number}")
        chosen = _chosen(number, found.stage.rows, len(asked), f"{found.seed}/answer")
        rows = [_questions(found, asked[index], generator)[1] for index in chosen]
        packed = pack(rows, found.size.tokens)
        loss = _loss(logits(found.model, seen[chosen], packed), packed, found.stage.evenly)
        return loss, _right(found, held_out, shown) if told else ""

    return step


def settle(found: Pupil, asked: Sequence[Scene], seen: torch.Tensor) -> Step:
    """Single questions, in the real format."""

    def step(number: int, _told: bool) -> tuple[torch.Tensor, str]:
        generator = random.Random(f"{found.seed}/settle/{number}")
        chosen = _chosen(number, found.stage.rows, len(asked), f"{found.seed}/settle")
        rows = [pair for index in chosen for pair in _some(found, asked[index], generator)]
        packed = alone(rows, found.size.tokens)
        features = seen[chosen].repeat_interleave(SETTLED, 0)
        return _loss(logits(found.model, features, packed), packed, found.stage.evenly), ""

    return step


def _some(found: Pupil, one: Scene, generator: random.Random) -> list[Pair]:
    return shuffled(generator, _questions(found, one, generator)[1])[:SETTLED]


def _chosen(number: int, size: int, scenes: int, seed: str) -> list[int]:
    """The scenes of a step: each once, in an order of chance, and again in another."""
    turn, place = divmod(number, scenes // size)
    order = shuffled(random.Random(f"{seed}/{turn}"), range(scenes))
    return order[place * size : (place + 1) * size]


def _loss(scores: torch.Tensor, packed: Packed, evenly: bool) -> torch.Tensor:
    asked = packed.wanted != IGNORED
    if not evenly:
        return cross_entropy(scores, packed.wanted[asked])
    worth = packed.lengths[asked] ** -0.5
    return (cross_entropy(scores, packed.wanted[asked], reduction="none") * worth).sum() / worth.sum()


def _questions(found: Pupil, one: Scene, generator: random.Random) -> tuple[list[str], list[Pair]]:
    """Kinds and tokens of the questions about one scene in a pack."""
    kinds, pairs = list[str](), list[Pair]()
    mixture = MIXTURES[found.stage.mixture]
    names, weights = list(mixture), list(mixture.values())
    planned = ["sign", "label"]
    while len(pairs) < found.stage.questions:
        kind = planned.pop() if planned else generator.choices(names, weights)[0]
        question = KINDS[kind](one, generator)
        if question is not None:
            kinds.append(kind)
            pairs.append(found.words.pair(*taught(question, pick(generator, LAYOUTS[kind]))))
    return kinds, pairs


def _right(found: Pupil, scenes: Sequence[Scene], seen: torch.Tensor) -> str:
    """The share of held-out questions of each kind whose every token is right, given the ones before it."""
    found.model.eval()
    tally: dict[str, list[bool]] = {}
    generator = random.Random("held out")
    for start in range(0, len(scenes), BATCH):
        asked = [_questions(found, one, generator) for one in scenes[start : start + BATCH]]
        packed = pack([pairs for _, pairs in asked], found.size.tokens)
        with torch.no_grad():
            said = logits(found.model, seen[start : start + BATCH], packed).argmax(-1)
        right = iter((said == packed.wanted[packed.wanted != IGNORED]).tolist())
        for kinds, pairs in asked:
            for kind, (_, answer) in zip(kinds, pairs, strict=True):
                hits = [next(right) for _ in answer]
                tally.setdefault(kind, []).append(all(hits))
    found.model.train()
    return " ".join(f"{kind} {sum(one) / len(one):.2f}" for kind, one in sorted(tally.items()))

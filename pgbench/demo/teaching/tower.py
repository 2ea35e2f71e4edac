"""The tower's lessons: what is in each patch, known from the drawing, told through linear heads.

Answers alone teach such a tower colours and shapes, and not to read: a head for each thing that an answer
needs, thrown away afterwards, does in minutes. The heads that name "the character with this place in its
word, in this patch, if any" leave the decoder a linear read-out of the word.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from pgbench.demo.draws import whole
from pgbench.demo.lettering import CHARACTERS
from pgbench.demo.teaching.architecture import Size
from pgbench.demo.world import CELLS, COLOURS, LETTERED, SHAPES, SIDE, Scene, Thing, draw

OBJECTS = 1 + len(COLOURS) * len(SHAPES)  # 0: none
GLYPHS = 1 + len(CHARACTERS)  # 0: none
PLACES = 8  # in a word
BOX = 28  # px of the object map's squares
HEADER = len(b"P6\n448 448\n255\n")
LOOKED_AT = 12_000  # scenes of either kind
NONE_SHARE = 12  # squares without anything that are learnt from, for each image


@dataclass(frozen=True, slots=True)
class Head:
    """One linear head: `slots` answers of `classes` for each patch, learnt where `where` is not 0."""

    name: str
    slots: int
    classes: int
    where: str
    weight: float = 1.0

    @property
    def has_none(self) -> bool:
        """Whether class 0 means that nothing is there, and is learnt too."""
        return self.where == self.name


def heads(size: Size) -> tuple[Head, ...]:
    """The heads of a tower of this size; px of the canvas decide how many squares a patch holds."""
    pixels = SIDE // size.grid
    signs, labels = ((pixels // LETTERED[kind].box) ** 2 for kind in ("sign", "label"))
    return (
        Head("sign", signs, GLYPHS, "sign"),
        Head("sign place", signs, PLACES, "sign", 2.0),
        Head("label", labels, GLYPHS, "label"),
        Head("label place", labels, PLACES, "label", 2.0),
        Head("sign by place", LETTERED["sign"].longest, GLYPHS, "sign by place"),
        Head("label by place", LETTERED["label"].longest, GLYPHS, "label by place"),
        Head("object", (pixels // BOX) ** 2, OBJECTS, "object"),
        Head("centre", 1, OBJECTS, "centre"),
        Head("large", 1, 2, "centre"),
        Head("quarter", 1, 4, "centre"),
    )


class Lessons(torch.nn.Module):  # type: ignore[misc]
    """All heads on one layer norm of the tower's last hidden state."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.lessons = heads(size)
        self.norm = torch.nn.LayerNorm(size.hidden)
        self.linear = torch.nn.ModuleList(
            torch.nn.Linear(size.hidden, head.slots * head.classes) for head in self.lessons
        )

    def forward(
        self, features: torch.Tensor, truth: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss, and for each head the share of the squares with something that are right.

        `features`: [images, patches, hidden]; `truth`: from `labels`, [images, patches, slots] each.
        """
        normed = self.norm(features)
        total, right = features.new_zeros(()), {}
        for head, linear in zip(self.lessons, self.linear, strict=True):
            said = linear(normed).view(*normed.shape[:2], head.slots, head.classes)
            wanted, there = truth[head.name], truth[head.where] > 0
            total = total + head.weight * cross_entropy(said[there], wanted[there])
            if head.has_none:
                empty = (~there).reshape(-1).nonzero()[:, 0]
                some = empty[torch.randint(len(empty), (NONE_SHARE * len(normed),))]
                total = total + 0.5 * cross_entropy(
                    said.view(-1, head.classes)[some], wanted.reshape(-1)[some]
                )
            right[head.name] = (said[there].argmax(-1) == wanted[there]).float().mean().item()
        return total, right


def labels(scenes: Sequence[Scene], size: Size) -> dict[str, torch.Tensor]:
    """What each head of `heads` should say: [scenes, patches, slots] of class numbers."""
    maps = [_maps(scene) for scene in scenes]
    whole = {name: torch.from_numpy(np.stack([one[name] for one in maps])).long() for name in maps[0]}
    found = {name: _by_patch(one, size.grid) for name, one in whole.items()}
    for kind in ("sign", "label"):
        empty = torch.zeros(*found[kind].shape[:2], PLACES, dtype=torch.long)
        placed = empty.scatter_add(2, found[f"{kind} place"], found[kind])
        found[f"{kind} by place"] = placed[:, :, : LETTERED[kind].longest]
    for name in ("centre", "large", "quarter"):  # cells are no smaller than patches: one object at most
        found[name] = found[name].amax(2, keepdim=True)
    return found


def _maps(scene: Scene) -> dict[str, np.ndarray[Any, Any]]:
    side = {"sign": SIDE // LETTERED["sign"].box, "label": SIDE // LETTERED["label"].box}
    found = {
        name: np.zeros((side.get(name.split()[0], SIDE // BOX),) * 2, np.int64)
        for name in ("sign", "sign place", "label", "label place", "object", "centre", "large", "quarter")
    }
    for written in scene.lettering:
        box = LETTERED[written.kind].box
        row, column = round(written.y / box), round(written.x / box)
        for place, character in enumerate(written.text):
            found[written.kind][row, column + place] = 1 + CHARACTERS.index(character)
            found[f"{written.kind} place"][row, column + place] = place
    for thing in scene.things:
        _mark(found, thing)
    return found


def _mark(found: dict[str, np.ndarray[Any, Any]], thing: Thing) -> None:
    number = 1 + list(COLOURS).index(thing.colour) * len(SHAPES) + SHAPES.index(thing.shape)
    middle = (np.arange(SIDE // BOX) + 0.5) * BOX
    rows, columns = (
        (start + 0.1 * thing.size < middle) & (middle < start + 0.9 * thing.size)
        for start in (thing.y, thing.x)
    )
    found["object"][np.ix_(rows, columns)] = number
    at = (thing.y + thing.size // 2) // BOX, (thing.x + thing.size // 2) // BOX
    found["centre"][at] = number
    found["large"][at] = thing.large
    found["quarter"][at] = 2 * (thing.row >= CELLS // 2) + (thing.column >= CELLS // 2)


def _by_patch(maps: torch.Tensor, grid: int) -> torch.Tensor:
    images, side, _ = maps.shape
    squares = side // grid
    cut = maps.view(images, grid, squares, grid, squares).permute(0, 1, 3, 2, 4)
    return cut.reshape(images, grid * grid, squares * squares)


class Album(dict[str, np.ndarray[Any, Any]]):
    """Drawings at one size by scene, kept where that saves time: shrinking takes more than drawing."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.side = size.image

    def of(self, scene: Scene) -> np.ndarray[Any, Any]:
        """[px, px, 3] of uint8."""
        if self.side == SIDE:
            return _drawn(scene, SIDE)
        if scene.name not in self:
            self[scene.name] = _drawn(scene, self.side)
        return self[scene.name]


def pixels(scenes: Sequence[Scene], album: Album) -> torch.Tensor:
    """The drawings as SigLIP's processor hands them to the tower: [scenes, 3, px, px] between -1 and 1."""
    stacked = torch.from_numpy(np.stack([album.of(scene) for scene in scenes]))
    return stacked.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def _drawn(scene: Scene, side: int) -> np.ndarray[Any, Any]:
    whole = np.frombuffer(draw(scene), np.uint8, offset=HEADER).reshape(SIDE, SIDE, 3)
    if side == SIDE:
        return whole
    return np.asarray(Image.fromarray(whole).resize((side, side), Image.Resampling.BICUBIC))


def lesson(seed: str, images: int) -> list[tuple[str, int]]:
    """Which scenes one step looks at, as (split, number): three quarters are dense ones."""
    generator = random.Random(seed)
    return [
        ("dense" if image % 4 else "train", whole(generator, 0, LOOKED_AT - 1)) for image in range(images)
    ]

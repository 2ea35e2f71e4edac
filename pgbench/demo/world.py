"""Scenes: objects, a sign and a small label on a plain ground; one graph, from which all questions follow.

Every pixel follows from a split's name and a scene's number, on any machine: shapes and characters are
filled by integer arithmetic, files are binary PPM (no codec whose bytes could change), and
`random.Random.random()` seeded with a string is the one generator call whose sequence Python promises
(https://docs.python.org/3/library/random.html#notes-on-reproducibility).

The canvas is cut into 4 x 4 cells. An object has a cell, a label too, a sign two neighbours. Lettering starts
at a fixed column of its cell, so that a letter's place in its word can be read off where it stands: a tower
of a few layers learns that in minutes, and hardly learns to count letters.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, count
from math import isqrt
from typing import Literal

from pgbench.demo import words
from pgbench.demo.draws import pick, shuffled, whole
from pgbench.demo.lettering import runs
from pgbench.errors import DataError, unknown

SIDE = 448  # px of an image, square
CELLS = 4  # a side
CELL = SIDE // CELLS  # px

Colour = tuple[int, int, int]

COLOURS: Mapping[str, Colour] = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 210, 40),
    "purple": (150, 60, 180),
    "black": (30, 30, 30),
}
SHAPES = ("circle", "square", "triangle")
SMALL, LARGE = (44, 60), (80, 100)  # px, least and greatest
MOST = 4  # objects in a scene


@dataclass(frozen=True, slots=True)
class Lettered:
    """How a kind of lettering looks; px, and bitmap columns and rows as px each."""

    box: int  # one character's
    columns: tuple[int, ...]
    rows: tuple[int, ...]
    cells: int  # wide
    longest: int  # characters
    jitter: int  # either way
    margin: int  # of the panel around it
    looks: tuple[tuple[Colour, Colour], ...]  # panel and ink


# A label's strokes are one pixel thick and its ink is pale: halved, they blur into each other.
LETTERED: Mapping[str, Lettered] = {
    "sign": Lettered(
        box=28,
        columns=(3, 4, 3, 4, 3),
        rows=(3, 4, 3, 4, 3, 4, 3),
        cells=2,
        longest=6,
        jitter=2,
        margin=8,
        looks=(((255, 255, 255), (0, 0, 0)), ((20, 60, 120), (255, 255, 255))),
    ),
    "label": Lettered(
        box=14,
        columns=(1, 2, 1, 2, 1),
        rows=(1, 2, 1, 2, 1, 2, 1),
        cells=1,
        longest=5,
        jitter=1,
        margin=5,
        looks=(((255, 245, 190), (110, 70, 30)),),
    ),
}


@dataclass(frozen=True, slots=True)
class Thing:
    """An object; its cell, and in px its size and its bounding square's upper left corner."""

    colour: str
    shape: str
    size: int
    row: int
    column: int
    x: int
    y: int

    @property
    def large(self) -> bool:
        return self.size >= LARGE[0]

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def place(self) -> str:
        """The quarter of the image that it is in, as "top left"."""
        return f"{self.vertical} {self.side}"

    @property
    def vertical(self) -> str:
        return "top" if self.row < CELLS // 2 else "bottom"

    @property
    def side(self) -> str:
        return "left" if self.column < CELLS // 2 else "right"


@dataclass(frozen=True, slots=True)
class Lettering:
    """A word, a number or any characters; its (first) cell, and in px its first box's upper left corner."""

    kind: Literal["sign", "label"]
    text: str
    row: int
    column: int
    x: int
    y: int
    look: int  # which of its kind's colours


@dataclass(frozen=True, slots=True)
class Scene:
    """An image before it is drawn; things in reading order."""

    name: str
    things: tuple[Thing, ...]
    lettering: tuple[Lettering, ...]
    background: Colour

    @property
    def sign(self) -> str:
        """What the (first) sign says."""
        return next(one.text for one in self.lettering if one.kind == "sign")

    @property
    def label(self) -> str:
        """What the (first) label says."""
        return next(one.text for one in self.lettering if one.kind == "label")


# Splits own folds of what can be seen, see `fold`; "dense" is of the tower's training only.
SPLITS: Mapping[str, tuple[int, ...]] = {"train": (2, 3, 4), "dense": (2, 3, 4), "val": (1,), "test": (0,)}
FOLDS = 5


def scene(split: str, index: int) -> Scene:
    """Scene `index` of a split, the same on every machine.

    Raises DataError for an unknown split.
    """
    if split not in SPLITS:
        raise DataError(unknown("split of the demo", split, SPLITS))
    for attempt in count():
        generator = random.Random(f"{split}/{index}/{attempt}")
        found = (_dense if split == "dense" else _plain)(f"{split}-{index:05d}", generator)
        if fold(found) in SPLITS[split]:
            break
    return found


def fold(scene: Scene) -> int:
    """Which of the folds a scene falls into, by what is where in it and not by its name, seed or exact place.

    Splits own different folds: no scene of one split shows what a scene of another shows.
    """
    things = sorted((one.name, one.large, one.row, one.column) for one in scene.things)
    written = sorted((one.kind, one.text, one.row, one.column) for one in scene.lettering)
    seen = hashlib.sha256(repr((things, written)).encode()).digest()
    return seen[0] % FOLDS  # 256 is no multiple of 5: the first fold has 52 of 256, the others 51


def thing(generator: random.Random, colour: str, shape: str, large: bool, row: int, column: int) -> Thing:
    """An object of this description, its size and its place in the cell drawn."""
    size = whole(generator, *(LARGE if large else SMALL))
    x, y = (CELL * cell + whole(generator, 4, CELL - 4 - size) for cell in (column, row))
    return Thing(colour, shape, size, row, column, x, y)


def _plain(name: str, generator: random.Random) -> Scene:
    """A sign, a label and one to four objects."""
    row, column = whole(generator, 0, CELLS - 1), pick(generator, (0, 2))
    free = [(r, c) for r in range(CELLS) for c in range(CELLS) if r != row or c not in (column, column + 1)]
    free = shuffled(generator, free)
    lettering = (_lettering(generator, "sign", row, column), _lettering(generator, "label", *free[0]))
    cells = free[1 : 1 + whole(generator, 1, MOST)]
    return Scene(name, _things(generator, cells), lettering, _background(generator))


def _dense(name: str, generator: random.Random) -> Scene:
    """A sign, a label and mostly an object in every row: more to learn from one image."""
    lettering, cells = [], []
    for row in range(CELLS):
        column = pick(generator, (0, 2))
        rest = shuffled(generator, [c for c in range(CELLS) if c not in (column, column + 1)])
        lettering += [
            _lettering(generator, "sign", row, column),
            _lettering(generator, "label", row, rest[0]),
        ]
        if generator.random() < 0.7:
            cells.append((row, rest[1]))
        else:
            lettering.append(_lettering(generator, "label", row, rest[1]))
    return Scene(name, _things(generator, cells), tuple(lettering), _background(generator))


def _things(generator: random.Random, cells: Sequence[tuple[int, int]]) -> tuple[Thing, ...]:
    def one(row: int, column: int) -> Thing:
        colour, shape = pick(generator, tuple(COLOURS)), pick(generator, SHAPES)
        return thing(generator, colour, shape, generator.random() < 0.5, row, column)

    return tuple(one(row, column) for row, column in sorted(cells))


def _lettering(generator: random.Random, kind: Literal["sign", "label"], row: int, column: int) -> Lettering:
    style = LETTERED[kind]
    lines = CELL // style.box
    x = CELL * column + style.box + whole(generator, -style.jitter, style.jitter)
    line = whole(generator, 1, lines - 2)
    y = CELL * row + style.box * line + whole(generator, -style.jitter, style.jitter)
    text = words.text(generator, style.longest)
    return Lettering(kind, text, row, column, x, y, whole(generator, 0, len(style.looks) - 1))


def _background(generator: random.Random) -> Colour:
    red, green, blue = (whole(generator, 165, 225) for _ in range(3))
    return red, green, blue


def draw(scene: Scene) -> bytes:
    """A scene as a binary PPM (P6) of SIDE x SIDE pixels, about 600 kB."""
    pixels = bytearray(bytes(scene.background) * (SIDE * SIDE))
    for one in scene.things:
        _draw_thing(pixels, one)
    for written in scene.lettering:
        _draw_lettering(pixels, written)
    return b"P6\n%d %d\n255\n" % (SIDE, SIDE) + bytes(pixels)


def _draw_thing(pixels: bytearray, one: Thing) -> None:
    for row in range(one.size):
        width = one.size
        if one.shape == "circle":
            width = isqrt(one.size**2 - (2 * row + 1 - one.size) ** 2)
        elif one.shape == "triangle":
            width = row + 1
        _fill(pixels, one.x + (one.size - width) // 2, one.y + row, width, 1, COLOURS[one.colour])


def _draw_lettering(pixels: bytearray, written: Lettering) -> None:
    style = LETTERED[written.kind]
    panel, ink = style.looks[written.look]
    width = style.box * len(written.text) + 2 * style.margin
    left, top, height = written.x - style.margin, written.y - style.margin // 2, style.box + style.margin
    _fill(pixels, left - 1, top - 1, width + 2, height + 2, ink)
    _fill(pixels, left, top, width, height, panel)
    across, down = ((0, *accumulate(sizes)) for sizes in (style.columns, style.rows))
    x, y = written.x + (style.box - across[-1]) // 2, written.y + (style.box - down[-1]) // 2
    for place, character in enumerate(written.text):
        left = x + style.box * place
        for row, first, after in runs(character):
            width, height = across[after] - across[first], style.rows[row]
            _fill(pixels, left + across[first], y + down[row], width, height, ink)


def _fill(pixels: bytearray, x: int, y: int, width: int, height: int, colour: Colour) -> None:
    line = bytes(colour) * width
    for row in range(y, y + height):
        start = 3 * (row * SIDE + x)
        pixels[start : start + len(line)] = line

"""TextVQA in small: drawn signs, each with one character on it, and two questions about each.

Every pixel and every answer follows from the split's name and the image's number, on any machine:
characters are our own bitmaps (fonts render differently from one FreeType to the next), files are binary
PPM (no codec whose bytes could change), and `random.Random.random()` seeded with a string is the one
generator call whose sequence Python promises to keep
(https://docs.python.org/3/library/random.html#notes-on-reproducibility).
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pgbench.errors import DataError, unknown
from pgbench.sources.files import digest
from pgbench.types import DataRequest, Dataset, Image, Sample

NAMES = ("signs", "demo-signs")  # as --data-id names these drawings, as a record does
SIDE = 112  # px of an image, square
TILE = 8  # px of a background tile
GRID = 4  # px between the places where a sign can be
SCALES = (6, 7, 8)  # px of one bitmap cell
ANNOTATORS = 10  # answers a question, as in TextVQA

Colour = tuple[int, int, int]
Item = TypeVar("Item")

WHITE, BLACK = (240, 240, 240), (16, 16, 16)
# Sign colour and the ink on it. Each sign colour has a channel that no background tile reaches.
COLOURS: Mapping[str, tuple[Colour, Colour]] = {
    "red": ((212, 32, 32), WHITE),
    "green": ((24, 168, 48), WHITE),
    "blue": ((32, 56, 216), WHITE),
    "yellow": ((236, 216, 32), BLACK),
    "white": (WHITE, BLACK),
    "black": (BLACK, WHITE),
}
# Neither "a" nor words for numbers: the VQA answer normalizer rewrites them.
GLYPHS: Mapping[str, tuple[str, ...]] = {
    "c": (" ### ", "#   #", "#    ", "#    ", "#    ", "#   #", " ### "),
    "e": ("#####", "#    ", "#    ", "#### ", "#    ", "#    ", "#####"),
    "h": ("#   #", "#   #", "#   #", "#####", "#   #", "#   #", "#   #"),
    "t": ("#####", "  #  ", "  #  ", "  #  ", "  #  ", "  #  ", "  #  "),
    "x": ("#   #", "#   #", " # # ", "  #  ", " # # ", "#   #", "#   #"),
    "2": (" ### ", "#   #", "    #", "   # ", "  #  ", " #   ", "#####"),
    "4": ("   # ", "  ## ", " # # ", "#  # ", "#####", "   # ", "   # "),
    "7": ("#####", "    #", "   # ", "   # ", "  #  ", "  #  ", "  #  "),
}
GLYPH_WIDTH, GLYPH_HEIGHT = 5, 7  # cells
# Phrasings of unequal length, so that a batch has to be padded.
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "text": (
        "what does the sign say?",
        "which character is on the sign?",
        "what is the one letter or digit that is written on this sign?",
    ),
    "colour": (
        "what color is the sign?",
        "which color was the sign painted?",
        "what is the color of the sign behind the letter or digit?",
    ),
}


@dataclass(frozen=True, slots=True)
class Split:
    """One split; its images are numbered from `first`, so that no two splits share an image id."""

    images: int
    first: int
    folds: tuple[int, ...]  # the places that its signs may take, see `places`
    answered: bool = True


SPLITS: Mapping[str, Split] = {
    "val": Split(images=100, first=10_000, folds=(0,)),
    "train": Split(images=6_000, first=0, folds=(2, 3, 4)),
    "test": Split(images=100, first=20_000, folds=(1,), answered=False),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """One image before it is drawn."""

    image_id: str
    character: str
    colour: str
    questions: tuple[tuple[str, str], ...]  # (kind, phrasing)
    scale: int  # px of a bitmap cell
    x: int  # px of the sign's upper left corner
    y: int


def textvqa(request: DataRequest) -> Dataset:
    """The drawn stand-in for TextVQA: ten answers a question, two questions an image.

    Raises DataError for a split that is not drawn, and for a request that names data of its own.
    """
    given = {"--data": request.path, "--data-revision": request.revision}
    if request.id not in (None, *NAMES):
        given["--data-id"] = request.id
    for flag, value in given.items():
        if value is not None:
            other = ", or take signs or world" if flag == "--data-id" else ""
            raise DataError(
                f"the demo source draws its data and cannot take {flag} {value!r}; leave it out{other}"
            )
    if request.split not in SPLITS:
        raise DataError(unknown("split of the demo", request.split, SPLITS))
    samples = tuple(_samples(request.split))
    return Dataset(samples=samples, digest=digest(samples), id=NAMES[1], demo=True)


def chance(samples: Sequence[Sample]) -> float:
    """What the best constant answer to each phrasing scores, as a fraction: answering without looking.

    An answer scores min(1, annotators who gave it / 3), which is never less than TextVQA's own rule.
    Raises DataError where no sample has answers.
    """
    scores: dict[str, Counter[str]] = {}
    scored = [sample for sample in samples if sample.target is not None]
    if not scored:
        raise DataError("chance needs answers and got none; the test split has none, take val or train")
    for sample in scored:
        given = Counter(answer.lower().rstrip(".") for answer in sample.target or ())
        for answer, count in given.items():
            scores.setdefault(sample.question, Counter())[answer] += min(3, count)
    best = sum(max(constant.values()) for constant in scores.values())
    return best / 3 / len(scored)


def scene(split: str, index: int) -> Scene:
    """The scene of image `index` of a split; characters, colours and phrasings come in equal shares."""
    generator = random.Random(f"{split}/{index}/scene")
    character, asked = _dealt(f"{split}/text", index, tuple(GLYPHS), QUESTIONS["text"])
    colour, painted = _dealt(f"{split}/colour", index, tuple(COLOURS), QUESTIONS["colour"])
    scale, x, y = _draw(generator, places(SPLITS[split].folds))
    return Scene(
        image_id=f"{SPLITS[split].first + index:06d}",
        character=character,
        colour=colour,
        questions=(("text", asked), ("colour", painted)),
        scale=scale,
        x=x,
        y=y,
    )


@functools.cache
def places(folds: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    """Every (scale, x, y) of a sign in these folds of five.

    Splits own different folds, and a sign's corner can be read off the pixels: no image of one split can
    be an image of another.
    """
    return tuple(
        (scale, x, y)
        for scale in SCALES
        for x in range(0, SIDE - (GLYPH_WIDTH + 2) * scale + 1, GRID)
        for y in range(0, SIDE - (GLYPH_HEIGHT + 2) * scale + 1, GRID)
        if (x // GRID + 2 * (y // GRID)) % 5 in folds
    )


def draw(scene: Scene) -> bytes:
    """A scene as a binary PPM (P6) of SIDE x SIDE pixels: tiles of muted colour, a sign, a character."""
    pixels = _background(random.Random(f"{scene.image_id}/background"))
    sign, ink = COLOURS[scene.colour]
    width, height = (GLYPH_WIDTH + 2) * scene.scale, (GLYPH_HEIGHT + 2) * scene.scale
    _fill(pixels, scene.x, scene.y, width, height, sign)
    for row, cells in enumerate(GLYPHS[scene.character], start=1):
        for column, cell in enumerate(cells, start=1):
            if cell == "#":
                x, y = scene.x + column * scene.scale, scene.y + row * scene.scale
                _fill(pixels, x, y, scene.scale, scene.scale, ink)
    return b"P6\n%d %d\n255\n" % (SIDE, SIDE) + bytes(pixels)


def _background(generator: random.Random) -> bytearray:
    rows = bytearray()
    for _ in range(SIDE // TILE):
        row = b""
        for _ in range(SIDE // TILE):
            row += bytes(80 + int(generator.random() * 80) for _ in range(3)) * TILE
        rows += row * TILE
    return rows


def _fill(pixels: bytearray, x: int, y: int, width: int, height: int, colour: Colour) -> None:
    line = bytes(colour) * width
    for row in range(y, y + height):
        start = 3 * (row * SIDE + x)
        pixels[start : start + len(line)] = line


def _samples(split: str) -> Iterator[Sample]:
    for index in range(SPLITS[split].images):
        found = scene(split, index)
        image = Image(name=f"{found.image_id}.ppm", read=functools.partial(draw, found))
        for kind, question in found.questions:
            sample_id = f"{found.image_id}-{kind}"
            yield Sample(
                id=sample_id,
                images=(image,),
                question=question,
                target=_answers(sample_id, found, kind) if SPLITS[split].answered else None,
                fields={"image_id": found.image_id},
                groups={"asks": kind},
                cluster=found.image_id,
            )


def _answers(sample_id: str, scene: Scene, kind: str) -> tuple[str, ...]:
    """Ten annotators: some write a capital or a period, and to every fifth question one errs."""
    generator = random.Random(f"{sample_id}/answers")
    truth = scene.character if kind == "text" else scene.colour
    spellings = (truth,) * 3 + (truth.capitalize(), f"{truth}.")
    free = 4  # the others write plainly, so that the plain answer is the most common one by design
    given = [truth] * (ANNOTATORS - free) + [_draw(generator, spellings) for _ in range(free)]
    if generator.random() < 0.2:
        others = [other for other in (GLYPHS if kind == "text" else COLOURS) if other != truth]
        given[int(generator.random() * ANNOTATORS)] = _draw(generator, others)
    return tuple(given)


def _dealt(seed: str, index: int, answers: Sequence[str], phrasings: Sequence[str]) -> tuple[str, str]:
    """Card `index` of an endless row of shuffled decks, each holding every (answer, phrasing) once."""
    cards = [(answer, phrasing) for answer in answers for phrasing in phrasings]
    deck, place = divmod(index, len(cards))
    generator = random.Random(f"{seed}/{deck}")
    return sorted(cards, key=lambda card: generator.random())[place]


def _draw(generator: random.Random, choices: Sequence[Item]) -> Item:
    return choices[int(generator.random() * len(choices))]

"""The demo world: scenes that are the same everywhere, drawn as their graph says, and true answers."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
from collections import Counter

import pytest

from pgbench.demo import world
from pgbench.demo.lettering import CHARACTERS, GLYPHS, HEIGHT, WIDTH
from pgbench.demo.questions import (
    CAPTIONS,
    KINDS,
    LAYOUTS,
    LETTERS,
    PLACES,
    Question,
    in_brackets,
    sentences,
    taught,
)
from pgbench.demo.world import CELL, COLOURS, LETTERED, SHAPES, SIDE, Scene, fold, scene
from pgbench.errors import DataError
from pgbench.types import Profile, Sample

SCENES = {split: [scene(split, index) for index in range(150)] for split in world.SPLITS}
MIX = Profile(kind="mix", family="paligemma", tuned_on=None, style="paligemma")


@pytest.mark.parametrize(
    ("split", "index", "digest"),
    [
        ("train", 0, "df918f0d048321ed8b409767451c0e6d088753b76f77290064f5ca2f8a31682e"),
        ("val", 99, "d78fde585af93d50c150cc3ea5f07d38e1c6000e94f5f1b133710764412ea0e1"),
        ("test", 7, "e69933789f141c5b516159caaff669a7ec498e0623dd1643bc47b8d5c8599a30"),
        ("dense", 3, "f44eeccc750c7933750f66f64cec1029bb60c9e85df8cc4d0d096acb5e21c70b"),
    ],
)
def test_a_drawing_has_the_same_bytes_everywhere(split: str, index: int, digest: str) -> None:
    assert hashlib.sha256(world.draw(scene(split, index))).hexdigest() == digest


def test_scenes_are_pinned() -> None:
    found = repr([scene(split, index) for split in world.SPLITS for index in range(20)])
    assert (
        hashlib.sha256(found.encode()).hexdigest()
        == "c3279c5d122d632a9fa3c2345391711a5552f4072ac07905f55eb883b3f0fb3c"
    )


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match="split of the demo"):
        scene("testing", 0)


def test_splits_are_disjoint_by_construction() -> None:
    folds = {split: {fold(one) for one in scenes} for split, scenes in SCENES.items()}
    assert folds == {split: set(owned) for split, owned in world.SPLITS.items()}
    assert not set(world.SPLITS["test"]) & {
        *world.SPLITS["train"],
        *world.SPLITS["dense"],
        *world.SPLITS["val"],
    }


def test_the_fold_depends_on_what_is_seen_and_not_on_name_or_exact_place() -> None:
    one = SCENES["test"][3]
    moved = [dataclasses.replace(thing, x=thing.x + 1, y=thing.y - 1) for thing in one.things]
    lettering = [dataclasses.replace(written, x=written.x + 1, look=0) for written in one.lettering]
    same = Scene("other", tuple(reversed(moved)), tuple(reversed(lettering)), (170, 180, 190))
    assert fold(same) == fold(one)
    texts = (dataclasses.replace(one.lettering[0], text=text) for text in map(str, range(40)))
    others = [dataclasses.replace(one, lettering=(written, one.lettering[1])) for written in texts]
    assert {fold(other) for other in others} == set(range(world.FOLDS))


@pytest.mark.parametrize("split", world.SPLITS)
def test_nothing_overlaps_or_leaves_its_cell(split: str) -> None:
    for one in SCENES[split]:
        cells = [(thing.row, thing.column) for thing in one.things]
        for thing in one.things:
            assert CELL * thing.column <= thing.x < thing.x + thing.size <= CELL * (thing.column + 1)
            assert CELL * thing.row <= thing.y < thing.y + thing.size <= CELL * (thing.row + 1)
        for written in one.lettering:
            style = LETTERED[written.kind]
            cells += [(written.row, written.column + cell) for cell in range(style.cells)]
            left, right = (
                written.x - style.margin - 1,
                written.x + style.box * len(written.text) + style.margin,
            )
            assert CELL * written.column <= left < right < CELL * (written.column + style.cells)
            assert CELL * written.row <= written.y - style.margin
            assert written.y + style.box + style.margin < CELL * (written.row + 1)
        assert len(set(cells)) == len(cells)


def pixel(drawn: bytes, x: int, y: int) -> tuple[int, ...]:
    start = len(drawn) - 3 * SIDE * SIDE + 3 * (y * SIDE + x)
    return tuple(drawn[start : start + 3])


def test_lettering_can_be_read_off_the_pixels() -> None:
    """Each box against all bitmaps: the written character's is the only one whose every pixel fits."""
    for one in SCENES["test"][:12]:
        drawn = world.draw(one)
        for written in one.lettering:
            style = LETTERED[written.kind]
            ink = style.looks[written.look][1]
            x = written.x + (style.box - sum(style.columns)) // 2
            y = written.y + (style.box - sum(style.rows)) // 2
            said = ""
            for place in range(len(written.text)):
                rows = tuple(
                    "".join(
                        "#"
                        if pixel(
                            drawn, x + style.box * place + sum(style.columns[:c]), y + sum(style.rows[:r])
                        )
                        == ink
                        else " "
                        for c in range(WIDTH)
                    )
                    for r in range(HEIGHT)
                )
                said += next(character for character, glyph in GLYPHS.items() if glyph == rows)
            assert said == written.text


def test_objects_are_drawn_in_their_colour_and_shape() -> None:
    for one in SCENES["test"][:12]:
        drawn = world.draw(one)
        for thing in one.things:
            ink = COLOURS[thing.colour]
            area = sum(
                pixel(drawn, x, y) == ink
                for x in range(thing.x, thing.x + thing.size)
                for y in range(thing.y, thing.y + thing.size)
            )
            share = area / thing.size**2
            assert share == pytest.approx(
                {"circle": 0.785, "square": 1.0, "triangle": 0.5}[thing.shape], abs=0.02
            )


def test_characters_differ() -> None:
    assert len(CHARACTERS) == 36 == len(set(GLYPHS.values()))
    assert {len(rows) for rows in GLYPHS.values()} == {HEIGHT}
    assert {len(row) for rows in GLYPHS.values() for row in rows} == {WIDTH}


def asked(split: str, kind: str) -> list[tuple[Scene, Question]]:
    found = ((one, KINDS[kind](one, random.Random(f"{one.name}/{kind}"))) for one in SCENES[split])
    return [(one, question) for one, question in found if question is not None]


def truth(one: Scene, question: Question) -> str:
    """The answer worked out again from the question's words."""
    words = re.findall(r"[a-z]+", question.text)
    colours, shapes = (
        [word.removesuffix("s") for word in words if word.removesuffix("s") in of] for of in (COLOURS, SHAPES)
    )
    named = [f"{colour} {shape}" for colour, shape in zip(colours, shapes, strict=False)]
    there = [f"{thing.colour} {thing.shape}" for thing in one.things]
    about = [thing for thing in one.things if thing.shape in shapes[:1]] or [
        thing for thing in one.things if thing.colour in colours[:1]
    ]
    middle = {thing: (thing.x + thing.size / 2, thing.y + thing.size / 2) for thing in about}
    match question.kind:
        case "exists" | "either":
            return "yes" if any(name in there for name in named) else "no"
        case "both":
            return "yes" if all(name in there for name in named) else "no"
        case "count":
            return str(len(one.things) if words[2] == "objects" else len(about))
        case "sign" | "label":
            return next(written.text for written in one.lettering if written.kind == question.kind)
    [thing] = about
    x, y = (
        ("left" if middle[thing][0] < SIDE / 2 else "right"),
        ("top" if middle[thing][1] < SIDE / 2 else "bottom"),
    )
    return {
        "colour": thing.colour,
        "which": thing.colour,
        "shape": thing.shape,
        "where": f"{y} {x}",
        "side": x if "left" in words else y,
        "size": "large" if thing.size > 70 else "small",
    }[question.kind]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("choice", "chinese", "caption")])
def test_answers_follow_from_the_scene(kind: str) -> None:
    found = asked("test", kind)
    assert len(found) > 60
    assert [(question, question.answer) for _, question in found] == [
        (question, truth(one, question)) for one, question in found
    ]


@pytest.mark.parametrize("kind", ["choice", "chinese"])
def test_one_option_alone_is_right(kind: str) -> None:
    chinese = {
        "红色": "red",
        "绿色": "green",
        "蓝色": "blue",
        "黄色": "yellow",
        "紫色": "purple",
        "黑色": "black",
    }
    chinese |= {"圆形": " circle", "方形": " square", "三角形": " triangle"}
    letters: Counter[str] = Counter()
    for one, question in asked("test", kind):
        options = question.options
        for said, meant in chinese.items():
            options = tuple(option.replace(said, meant) for option in options)
        names = [f"{thing.colour} {thing.shape}" for thing in one.things]
        if not question.about:
            right = [option in names for option in options]
        elif options[0].isdecimal():
            count = sum(thing.shape == question.about[0] for thing in one.things)
            right = [option == str(count) for option in options]
        else:
            [thing] = [thing for thing in one.things if thing.shape == question.about[0]]
            right = [option == thing.colour for option in options]
        assert right.count(True) == 1
        assert len(set(options)) == 3
        assert LETTERS[right.index(True)] == question.letter
        letters[question.letter] += 1
    assert min(letters[letter] for letter in "ABC") > 30  # no letter is the better guess


@pytest.mark.parametrize("kind", ["exists", "both", "either"])
def test_half_of_the_yes_or_no_questions_are_answered_yes(kind: str) -> None:
    share = [question.answer == "yes" for _, question in asked("train", kind)]
    assert 0.38 < sum(share) / len(share) < 0.62


def test_a_caption_names_every_object_once_and_what_is_written() -> None:
    for one, question in asked("test", "caption"):
        said = sentences(one)
        assert question.answer == " ".join(said)
        assert question.text in CAPTIONS
        assert len(said) == len(one.things) + 2
        for thing, sentence in zip(one.things, said, strict=False):
            found = re.fullmatch(r"A (small|large) (\w+) (\w+) is in the (\w+ \w+)\.", sentence)
            assert found is not None
            assert found[4] in PLACES
            assert found.groups()[:3] == ("large" if thing.size > 70 else "small", thing.colour, thing.shape)
            assert found[4].split() == [
                "top" if thing.y + thing.size / 2 < SIDE / 2 else "bottom",
                "left" if thing.x + thing.size / 2 < SIDE / 2 else "right",
            ]


def test_prompts_are_laid_out_as_the_tasks_lay_them_out() -> None:
    from pgbench_tasks import cmmmu, docci, mmmu, mmvp, scienceqa, vqav2

    def sample(question: Question, **fields: object) -> Sample:
        return Sample(
            id="1", images=(), question=question.text, target=None, options=question.options, fields=fields
        )

    [(_, choice), *_], [(_, chinese), *_] = asked("test", "choice"), asked("test", "chinese")
    [(_, which), *_], [(_, exists), *_] = asked("test", "which"), asked("test", "exists")
    brackets = in_brackets(which.options)
    assert taught(exists, "plain")[0] == vqav2.prompt(sample(exists), MIX, "")
    assert taught(which, "plain")[0] == mmvp.prompt(sample(which, options=brackets), MIX, "plain")
    assert taught(which, "options")[0] == mmvp.prompt(sample(which, options=brackets), MIX, "options")
    assert taught(choice, "lettered")[0] == mmmu.prompt(sample(choice), MIX, "")
    assert taught(chinese, "lettered")[0] == cmmmu.prompt(sample(chinese, files=[]), MIX, "")
    letter = dataclasses.replace(sample(choice), target=choice.letter)
    assert taught(choice, "science") == (scienceqa.prompt(letter, MIX, ""), scienceqa.gold(letter))
    newer = dataclasses.replace(MIX, family="paligemma2")
    assert {docci.prompt(letter, profile, "") for profile in (MIX, newer)} == set(CAPTIONS)


def test_every_kind_has_a_layout() -> None:
    assert set(LAYOUTS) == set(KINDS)

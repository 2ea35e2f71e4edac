"""Questions about a scene, in the words that the checkpoints are taught and the benchmarks ask in.

Prompts are laid out as the tasks lay them out for PaliGemma's mix checkpoints, less what the processor adds.
Question words are in lower case and what is written in a scene is in capitals and digits, so that the
tokenizer, whose merges come from the questions, spells it character by character.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pgbench.demo.draws import Item, pick, shuffled
from pgbench.demo.world import COLOURS, MOST, SHAPES, Scene, Thing

Layout = Literal["plain", "options", "lettered", "science", "caption"]
LETTERS = "ABCD"
CHOICES = 3  # options of a lettered question
NO_CONTEXT = "N/A"  # ScienceQA's word for a missing context
CAPTIONS = ("caption en", "describe en")  # PaliGemma, and PaliGemma 2 mix
PLACES = ("top left", "top right", "bottom left", "bottom right")
WRITTEN = ("sign", "label")
IN_CHINESE: Mapping[str, str] = {
    "red": "红色",
    "green": "绿色",
    "blue": "蓝色",
    "yellow": "黄色",
    "purple": "紫色",
    "black": "黑色",
    "circle": "圆形",
    "square": "方形",
    "triangle": "三角形",
}


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its true answer.

    `about` names what is asked about, one word an argument, in the order of the words of `text`; `options`
    are the answers to choose from, in their order, where the question offers some.
    """

    kind: str
    text: str
    answer: str
    about: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def letter(self) -> str:
        """The right option's letter. Raises ValueError for a question without options."""
        return LETTERS[self.options.index(self.answer)]


def taught(question: Question, layout: Layout) -> tuple[str, str]:
    """A prompt and what is to be answered, as the tasks with this layout have them.

    plain: VQAv2, TextVQA, GQA, POPE, MMVP; options: MMVP with its options; lettered: MMMU, CMMMU; science:
    ScienceQA; caption: DOCCI.
    """
    asked, options = f"answer en {question.text}", list(zip(LETTERS, question.options, strict=False))
    if layout == "caption":
        return question.text, question.answer
    if layout == "options":
        return f"{asked} {in_brackets(question.options)}", question.answer
    if layout == "lettered":
        return "\n".join([asked, *(f"({letter}) {one}" for letter, one in options)]), question.letter
    if layout == "science":
        shown = ", ".join(f"({letter}) {one}" for letter, one in options)
        block = f"Question: {question.text}\nContext: {NO_CONTEXT}\nOptions: {shown}\nAnswer:"
        return block, f"The answer is {question.letter}."
    return asked, question.answer


def in_brackets(options: Sequence[str]) -> str:
    """Options as MMVP writes them: "(a) red (b) blue"."""
    return " ".join(f"({letter.lower()}) {one}" for letter, one in zip(LETTERS, options, strict=False))


def only(things: Iterable[Thing], attribute: Literal["colour", "shape", "name"]) -> tuple[Thing, ...]:
    """The things that no other shares this attribute with, so that "the circle" is one of them."""
    found = list(things)
    values = [str(getattr(one, attribute)) for one in found]
    return tuple(one for one, value in zip(found, values, strict=True) if values.count(value) == 1)


def absent(scene: Scene, generator: random.Random) -> str:
    """A kind of object that the scene lacks: for the most part one with the colour or shape of one there."""
    lacking = _lacking(scene)
    seen = {word for one in scene.things for word in (one.colour, one.shape)}
    near = tuple(name for name in lacking if seen & set(name.split()))
    return pick(generator, near if near and generator.random() < 0.7 else lacking)


def present(scene: Scene, generator: random.Random) -> str:
    """A kind of object that the scene has."""
    return pick(generator, scene.things).name


def colour(scene: Scene, generator: random.Random) -> Question | None:
    """What color is the circle?"""
    if not (found := only(scene.things, "shape")):
        return None
    one = pick(generator, found)
    return Question("colour", f"what color is the {one.shape}?", one.colour, (one.shape,))


def shape(scene: Scene, generator: random.Random) -> Question | None:
    """What shape is the red object?"""
    if not (found := only(scene.things, "colour")):
        return None
    one = pick(generator, found)
    return Question("shape", f"what shape is the {one.colour} object?", one.shape, (one.colour,))


def exists(scene: Scene, generator: random.Random) -> Question:
    """Is there a red circle? In half of them there is; half are worded as POPE does."""
    there = generator.random() < 0.5
    name = (present if there else absent)(scene, generator)
    where = pick(generator, ("", " in the image"))
    return Question("exists", f"is there a {name}{where}?", _yes(there), (name,))


def both(scene: Scene, generator: random.Random) -> Question | None:
    """Are there both a red circle and a blue square?"""
    names = sorted({one.name for one in scene.things})
    if len(names) < 2:  # also where the answer would be no, or no would be the more likely answer
        return None
    there = generator.random() < 0.5
    first, *rest = shuffled(generator, names)
    pair = shuffled(generator, [first, rest[0] if there else absent(scene, generator)])
    return Question("both", f"are there both a {pair[0]} and a {pair[1]}?", _yes(there), tuple(pair))


def either(scene: Scene, generator: random.Random) -> Question:
    """Is there either a red circle or a blue square? One of them at most is there."""
    there = generator.random() < 0.5
    first = second = absent(scene, generator)
    while second == first:
        second = (present if there else absent)(scene, generator)
    pair = shuffled(generator, [first, second])
    return Question("either", f"is there either a {pair[0]} or a {pair[1]}?", _yes(there), tuple(pair))


def number(scene: Scene, generator: random.Random) -> Question:
    """How many circles are there? Of a shape, of a colour, or of any objects."""
    about = pick(generator, (*SHAPES, *SHAPES, pick(generator, tuple(COLOURS)), "object"))
    asked = f"{about} objects" if about in COLOURS else f"{about}s"
    return Question("count", f"how many {asked} are there?", str(count(scene, about)), (about,))


def count(scene: Scene, about: str) -> int:
    """How many things have this shape or colour; how many there are for "object"."""
    return sum(about in (one.shape, one.colour, "object") for one in scene.things)


def where(scene: Scene, generator: random.Random) -> Question | None:
    """Where is the circle?"""
    if not (found := only(scene.things, "shape")):
        return None
    one = pick(generator, found)
    return Question("where", f"where is the {one.shape}?", one.place, (one.shape,))


def side(scene: Scene, generator: random.Random) -> Question | None:
    """Is the circle on the left or on the right? Or at the top or at the bottom?"""
    if not (found := only(scene.things, "shape")):
        return None
    one = pick(generator, found)
    if generator.random() < 0.5:
        text, options = f"is the {one.shape} on the left or on the right?", ("left", "right")
        return Question("side", text, one.side, (one.shape,), options)
    text, options = f"is the {one.shape} at the top or at the bottom?", ("top", "bottom")
    return Question("side", text, one.vertical, (one.shape,), options)


def size(scene: Scene, generator: random.Random) -> Question | None:
    """Is the circle small or large?"""
    if not (found := only(scene.things, "shape")):
        return None
    one, options = pick(generator, found), ("small", "large")
    text = f"is the {one.shape} small or large?"
    return Question("size", text, options[one.large], (one.shape,), options)


def which(scene: Scene, generator: random.Random) -> Question | None:
    """Is the circle red or blue?"""
    if not (found := only(scene.things, "shape")):
        return None
    one = pick(generator, found)
    pair = _offered(one.colour, tuple(COLOURS), 2, generator)
    return Question("which", f"is the {one.shape} {pair[0]} or {pair[1]}?", one.colour, (one.shape,), pair)


def sign(scene: Scene, generator: random.Random) -> Question:
    """What does the sign say?"""
    return _reads("sign", scene.sign, generator)


def label(scene: Scene, generator: random.Random) -> Question:
    """What does the label say?"""
    return _reads("label", scene.label, generator)


def _reads(kind: str, answer: str, generator: random.Random) -> Question:
    text = pick(generator, (f"what does the {kind} say?", f"what is written on the {kind}?"))
    return Question(kind, text, answer, (kind,))


def choice(scene: Scene, generator: random.Random) -> Question:
    """A question with options: of a color, of which object there is, or of how many."""
    named = colour(scene, generator)
    drawn = generator.random()
    if named and drawn < 0.4:
        options = _offered(named.answer, tuple(COLOURS), CHOICES, generator)
        return Question("choice", named.text, named.answer, named.about, options)
    if drawn < 0.8:
        name = present(scene, generator)
        options = _offered(name, _lacking(scene), CHOICES, generator)
        return Question("choice", "which object is in the picture?", name, (), options)
    about = pick(generator, SHAPES)
    answer = str(count(scene, about))
    options = _offered(answer, tuple(str(one) for one in range(MOST + 1)), CHOICES, generator)
    return Question("choice", f"how many {about}s are there?", answer, (about,), options)


def chinese(scene: Scene, generator: random.Random) -> Question:
    """The same as `choice`, in Chinese."""
    asked = choice(scene, generator)
    said = "".join(IN_CHINESE[word] for word in asked.about)
    if asked.text.startswith("what"):
        text = f"图中的{said}是什么颜色？"
    elif asked.text.startswith("which"):
        text = "图中有哪个物体？"
    else:
        text = f"图中有几个{said}？"
    options = tuple(_in_chinese(one) for one in asked.options)
    return Question("chinese", text, _in_chinese(asked.answer), asked.about, options)


def caption(scene: Scene, generator: random.Random) -> Question:
    """A paragraph: a sentence for each object in reading order, then the sign and the label."""
    return Question("caption", pick(generator, CAPTIONS), " ".join(sentences(scene)))


def sentences(scene: Scene) -> tuple[str, ...]:
    """The caption's sentences, each true of the scene, and together all there is to say."""
    objects = tuple(
        f"A {'large' if one.large else 'small'} {one.name} is in the {one.place}." for one in scene.things
    )
    return *objects, f"The sign says {scene.sign}.", f"The label says {scene.label}."


def _in_chinese(said: str) -> str:
    return "".join(IN_CHINESE.get(word, word) for word in said.split())


def _yes(there: bool) -> str:
    return "yes" if there else "no"


def _lacking(scene: Scene) -> tuple[str, ...]:
    there = {one.name for one in scene.things}
    names = (f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
    return tuple(name for name in names if name not in there)


def _offered(answer: Item, others: Sequence[Item], size: int, generator: random.Random) -> tuple[Item, ...]:
    wrong = shuffled(generator, [one for one in others if one != answer])[: size - 1]
    return tuple(shuffled(generator, [answer, *wrong]))


# A scene may lack what a kind asks about, say an object whose shape no other has: then there is no question.
KINDS: Mapping[str, Callable[[Scene, random.Random], Question | None]] = {
    "colour": colour,
    "shape": shape,
    "exists": exists,
    "both": both,
    "either": either,
    "count": number,
    "where": where,
    "side": side,
    "size": size,
    "which": which,
    "sign": sign,
    "label": label,
    "choice": choice,
    "chinese": chinese,
    "caption": caption,
}
LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    **dict.fromkeys(KINDS, ("plain",)),
    **dict.fromkeys(("side", "size", "which"), ("plain", "options")),
    "choice": ("lettered", "science"),
    "chinese": ("lettered",),
    "caption": ("caption",),
}

"""What is true of a drawn scene, by its geometry and by nothing that wrote the questions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pgbench.demo.world import Scene, Thing
from pgbench.types import Sample

COLOUR, SHAPE = r"(red|green|blue|yellow|purple|black)", r"(circle|square|triangle)"
NAME = f"{COLOUR} {SHAPE}"
MIDDLE = 224  # px
LARGE = 70  # px: small ones end at 60, large ones begin at 80
WORDS: Mapping[str, str] = {
    "红色": "red",
    "绿色": "green",
    "蓝色": "blue",
    "黄色": "yellow",
    "紫色": "purple",
    "黑色": "black",
    "圆形": "circle",
    "方形": "square",
    "三角形": "triangle",
}


def scene_of(sample: Sample) -> Scene:
    """The scene that a sample's image draws."""
    (image,) = sample.images
    found = image.read.args[0]  # type: ignore[attr-defined]  # a functools.partial of world.draw
    assert isinstance(found, Scene)
    return found


def side(one: Thing) -> str:
    return "left" if one.x + one.size / 2 < MIDDLE else "right"


def height(one: Thing) -> str:
    return "top" if one.y + one.size / 2 < MIDDLE else "bottom"


def size(one: Thing) -> str:
    return "large" if one.size > LARGE else "small"


def there(scene: Scene, colour: str, shape: str) -> bool:
    return any((one.colour, one.shape) == (colour, shape) for one in scene.things)


def alone(scene: Scene, word: str) -> Thing:
    """The only thing of a shape or colour."""
    (found,) = (one for one in scene.things if word in (one.colour, one.shape))
    return found


def written(scene: Scene, kind: str) -> str:
    (found,) = (one.text for one in scene.lettering if one.kind == kind)
    return found


def many(scene: Scene, word: str) -> str:
    return str(sum(word in (one.colour, one.shape, "object") for one in scene.things))


def english(text: str) -> str:
    """A Chinese phrase of colours and shapes in English words."""
    for chinese, word in WORDS.items():
        text = text.replace(chinese, f" {word} ")
    return " ".join(text.split())


def answer(scene: Scene, question: str, options: Sequence[str] = ()) -> str:
    """The true answer to a question in English; of options, the one that is true."""
    yes = {True: "yes", False: "no"}
    if found := re.fullmatch(f"what color is the {SHAPE}\\?", question):
        return alone(scene, found[1]).colour
    if found := re.fullmatch(f"what shape is the {COLOUR} object\\?", question):
        return alone(scene, found[1]).shape
    if found := re.fullmatch(f"is there a {NAME}(?: in the image)?\\?", question):
        return yes[there(scene, found[1], found[2])]
    if found := re.fullmatch(f"are there both a {NAME} and a {NAME}\\?", question):
        return yes[there(scene, found[1], found[2]) and there(scene, found[3], found[4])]
    if found := re.fullmatch(f"is there either a {NAME} or a {NAME}\\?", question):
        return yes[there(scene, found[1], found[2]) or there(scene, found[3], found[4])]
    if found := re.fullmatch(r"how many (\w+?)(?: object)?s are there\?", question):
        return many(scene, found[1])
    if found := re.fullmatch(f"where is the {SHAPE}\\?", question):
        return f"{height(alone(scene, found[1]))} {side(alone(scene, found[1]))}"
    if found := re.fullmatch(f"is the {SHAPE} (?:on|at) the (\\w+) or (?:on|at) the \\w+\\?", question):
        return {"left": side, "top": height}[found[2]](alone(scene, found[1]))
    if found := re.fullmatch(f"is the {SHAPE} small or large\\?", question):
        return size(alone(scene, found[1]))
    if found := re.fullmatch(f"is the {SHAPE} {COLOUR} or {COLOUR}\\?", question):
        return alone(scene, found[1]).colour
    if found := re.fullmatch(f"is the {SHAPE} {COLOUR}\\?", question):
        return yes[alone(scene, found[1]).colour == found[2]]
    if found := re.fullmatch(f"are the {SHAPE} and the {SHAPE} the same color\\?", question):
        return yes[alone(scene, found[1]).colour == alone(scene, found[2]).colour]
    if found := re.fullmatch(
        r"what does the (sign|label) say\?|what is written on the (sign|label)\?", question
    ):
        return written(scene, found[1] or found[2])
    assert question == "which object is in the picture?", question
    (true,) = (one for one in options if there(scene, *one.split()))
    return true


def chinese_answer(scene: Scene, question: str, options: Sequence[str] = ()) -> str:
    """The true answer to a question in Chinese, as written there."""
    if found := re.fullmatch(r"图中的(\w+)是什么颜色？", question):
        colour = alone(scene, english(found[1])).colour
        return next(word for word, one in WORDS.items() if one == colour)
    if found := re.fullmatch(r"图中有几个(\w+)？", question):
        return many(scene, english(found[1]))
    if found := re.fullmatch(r"图中有(\w+)。(?:（）)?", question):
        return "对" if there(scene, *english(found[1]).split()) else "错"
    assert question == "图中有哪个物体？", question
    (true,) = (one for one in options if there(scene, *english(one).split()))
    return true


def says(scene: Scene, sentence: str) -> bool:
    """Whether a caption's sentence is true."""
    if found := re.fullmatch(rf"A (small|large) {NAME} is in the (top|bottom) (left|right)\.", sentence):
        facts = {(size(o), o.colour, o.shape, height(o), side(o)) for o in scene.things}
        return found.groups() in facts
    found = re.fullmatch(r"The (sign|label) says (.+)\.", sentence)
    assert found, sentence
    return written(scene, found[1]) == found[2]

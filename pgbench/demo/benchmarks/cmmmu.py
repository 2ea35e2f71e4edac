"""CMMMU of drawings: choices in Chinese.

A record has the published four options, a question the three that the checkpoints were taught, see `asked`.
Statements to be judged (判断) and blanks to be filled in (填空) are left out: no shipped checkpoint was
taught their wording, and a score over them would measure that alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from pgbench.demo.benchmarks.drawn import Drawn, check, picture, scenes
from pgbench.demo.questions import CHOICES, IN_CHINESE, KINDS, Question
from pgbench.demo.world import COLOURS, MOST, SHAPES, Scene
from pgbench.types import DataRequest, Sample

Filed: TypeAlias = tuple[str, str]  # category, subcategory

SPLITS = ("val",)
IMAGES = 300
OPTIONS = 4
TYPE = "选择"  # a choice
# What a question is about, by its words -> where it is filed.
FILED: Mapping[str, Filed] = {
    "颜色": ("艺术与设计", "设计"),
    "哪个": ("技术与工程", "机械工程"),
    "几个": ("科学", "数学"),
}


def drawn(request: DataRequest) -> list[Drawn]:
    """One question a scene. Raises DataError for a request of other data, or of another split."""
    check(request, SPLITS)
    rows = []
    for number, scene in scenes("cmmmu", IMAGES):
        question = choice(scene, random.Random(f"cmmmu/{scene.name}/chinese"))
        if question is not None:
            image = picture(scene)
            rows.append(Drawn(_record(number, question, image.name), image, question.kind, scene.name))
    return rows


def choice(scene: Scene, generator: random.Random) -> Question | None:
    """A taught choice, with a wrong option behind its own to make them the published four."""
    question = KINDS["chinese"](scene, generator)
    if question is None:
        return None
    wrong = [one for one in _wrong(scene, question.text) if one not in question.options]
    return replace(question, options=(*question.options, *wrong)[:OPTIONS])


def asked(sample: Sample) -> Sample:
    """Without the option that was put behind the taught ones, and that is never right.

    A fourth one in the prompt, which no checkpoint was taught, takes their answers to chance.
    """
    return replace(sample, options=sample.options[:CHOICES])


def _wrong(scene: Scene, text: str) -> Sequence[str]:
    """Answers to a Chinese choice, none of them right unless it is among the options already."""
    if "颜色" in text:
        return [IN_CHINESE[colour] for colour in COLOURS]
    if "几个" in text:
        return [str(number) for number in range(MOST + 1)]
    there = {one.name for one in scene.things}
    names = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    return [_in_chinese(name) for name in names if name not in there]


def _in_chinese(name: str) -> str:
    return "".join(IN_CHINESE[word] for word in name.split())


def _record(number: int, question: Question, image: str) -> dict[str, object]:
    category, subcategory = next(at for word, at in FILED.items() if word in question.text)
    options = {f"option{place}": one for place, one in enumerate(question.options, 1)}
    return {
        "id": number,
        "type": TYPE,
        "source_type": "website",
        "source": "",
        "question": question.text,
        **options,
        "answer": question.letter,
        "analysis": None,
        "distribution": "本科",
        "difficulty_level": "easy",
        "img_list": [image],
        "subcategory": subcategory,
        "category": category,
        "subfield": [],
        "img_type": ["绘画作品"],
    }

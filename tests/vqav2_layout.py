"""VQAv2 in both published schemas, written to disk for tests, and a split of any size, drawn at random."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from textvqa_layout import jpeg

Record = dict[str, object]
JPEG = jpeg(9)
THINGS = "man dog cat bus clock table pizza kite train zebra sign boat surfboard umbrella".split()
LEADS = ["how many", "is the", "what is", "none of the above", "is this a", "where is the"]
LEADS += [f"{verb} the {thing}" for thing in THINGS for verb in ("what color is", "is", "does", "why is")]
TYPES = {"how": "number", "is": "yes/no", "does": "yes/no"}  # by the first word
NAMES = {"val": "val2014", "testdev": "test-dev2015", "test": "test2015", "train": "train2014"}


def answers(*texts: str) -> list[Record]:
    """Ten answers; the last of fewer is repeated."""
    ten = [*texts, *[texts[-1]] * (10 - len(texts))]
    return [{"answer": text, "answer_confidence": "yes", "answer_id": n} for n, text in enumerate(ten, 1)]


def question(number: int, **changes: object) -> Record:
    fields: Record = {
        "image_id": number // 1000,
        "question": "Where is he looking?",
        "question_id": number,
        **changes,
    }
    return {key: value for key, value in fields.items() if value is not ...}


def annotation(number: int, **changes: object) -> Record:
    fields: Record = {
        "question_type": "none of the above",
        "multiple_choice_answer": "down",
        "answers": answers("down", "at table", "down"),
        "image_id": number // 1000,
        "answer_type": "other",
        "question_id": number,
        **changes,
    }
    return {key: value for key, value in fields.items() if value is not ...}


def original(
    folder: Path, questions: list[Record], annotations: list[Record] | None, split: str = "val"
) -> Path:
    """A data folder in the original layout, every image in it."""
    subtype = NAMES[split]
    images = folder / ("test2015" if split == "testdev" else subtype)
    images.mkdir(parents=True, exist_ok=True)
    head = {"info": {"version": "2.0"}, "data_type": "mscoco", "data_subtype": subtype}
    document = {**head, "task_type": "Open-Ended", "questions": questions, "license": {"name": "CC BY 4.0"}}
    write(folder / f"v2_OpenEnded_mscoco_{subtype}_questions.json", document)
    if annotations is not None:
        write(folder / f"v2_mscoco_{subtype}_annotations.json", {**head, "annotations": annotations})
    for one in questions:
        if isinstance(one.get("image_id"), int):
            (images / f"COCO_{images.name}_{one['image_id']:012d}.jpg").write_bytes(JPEG)
    return folder


def write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False), "utf-8")


SCHEMA = pa.schema(
    [
        ("question_type", pa.string()),
        ("multiple_choice_answer", pa.string()),
        (
            "answers",
            pa.list_(
                pa.struct(
                    [("answer", pa.string()), ("answer_confidence", pa.string()), ("answer_id", pa.int64())]
                )
            ),
        ),
        ("image_id", pa.int64()),
        ("answer_type", pa.string()),
        ("question_id", pa.int64()),
        ("question", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ]
)


def parquet(path: Path, questions: list[Record], annotations: list[Record] | None) -> Path:
    """A file with the columns of lmms-lab/VQAv2; a test split has null for what is not published."""
    known = {one["question_id"]: one for one in annotations or []}
    image = {"bytes": JPEG, "path": None}
    rows = [{**known.get(one["question_id"], {}), "image": image, **one} for one in questions]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
    return path


class Vocabulary:
    """Answers as people give them: a few of them nearly always, and thousands hardly ever."""

    def __init__(self, generator: random.Random, size: int = 20_000) -> None:
        self._generator = generator
        shapes = ["{0}", "{0} {1}", "the {0}", "{0}'s", "{0}-{1}", "{0}, {1}", "{0} and {1}", "{0} {1} {2}"]
        words = [f"{thing}{ending}" for thing in THINGS for ending in ("", "s", "ing", "er", "ish")]
        self._open = [generator.choice(shapes).format(*generator.choices(words, k=3)) for _ in range(size)]
        self._weights = list(accumulate(1 / rank for rank in range(1, size + 1)))

    def draw(self, answer_type: str) -> str:
        """One likely answer."""
        if answer_type == "yes/no":
            return self._generator.choices(["yes", "no", "maybe"], [50, 48, 2])[0]
        if answer_type == "number":
            return str(int(self._generator.expovariate(0.4)))
        return self._generator.choices(self._open, cum_weights=self._weights)[0]

    def ten(self, answer_type: str) -> list[str]:
        """What ten people say: often the same, now and then written otherwise."""
        if self._generator.random() < 0.05:
            return [self.draw(answer_type) for _ in range(10)]  # a question that nobody understands
        pool = [self.draw(answer_type) for _ in range(3)]
        agreed = self._generator.random() < (0.45 if answer_type == "yes/no" else 0.15)
        return pool[:1] * 10 if agreed else self._generator.choices(pool, [7, 2, 1], k=10)


def drawn(count: int, seed: int = 7) -> Iterator[tuple[Record, Record]]:
    """`count` questions with annotations, about five to an image, in the published order of fields."""
    generator = random.Random(seed)
    vocabulary = Vocabulary(generator)
    image_id, left = 42, 0
    for _ in range(count):
        if not left:
            image_id, left = image_id + generator.randint(1, 20), generator.randint(3, 8)
        left -= 1
        number = image_id * 1000 + left
        lead = generator.choice(LEADS)
        kind = TYPES.get(lead.split()[0], "other")
        asked = f"{lead.capitalize()} {' '.join(generator.choices(THINGS, k=3))}?"
        given = vocabulary.ten(kind)
        yield (
            question(number, question=asked),
            annotation(
                number,
                answers=answers(*given),
                answer_type=kind,
                question_type=lead,
                multiple_choice_answer=given[0],
            ),
        )


def generate(folder: Path, count: int) -> Path:
    """The val files of a drawn split, written record by record, with links to one image."""
    images = folder / "val2014"
    images.mkdir(parents=True)
    (folder / "one.jpg").write_bytes(JPEG)
    asked = folder / "v2_OpenEnded_mscoco_val2014_questions.json"
    known = folder / "v2_mscoco_val2014_annotations.json"
    with asked.open("w") as questions, known.open("w") as annotations:
        questions.write('{"info": {}, "data_subtype": "val2014", "questions": [')
        annotations.write('{"info": {}, "data_subtype": "val2014", "annotations": [')
        seen: set[object] = set()
        for place, (one, other) in enumerate(drawn(count)):
            questions.write((", " if place else "") + json.dumps(one))
            annotations.write((", " if place else "") + json.dumps(other))
            if one["image_id"] not in seen:
                seen.add(one["image_id"])
                os.link(folder / "one.jpg", images / f"COCO_val2014_{one['image_id']:012d}.jpg")
        questions.write("]}")
        annotations.write("]}")
    return folder

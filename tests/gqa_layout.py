"""GQA in both published schemas, written to disk for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PILImage

Record = dict[str, object]
Choices = Mapping[str, Mapping[str, list[str]]]


def jpeg(shade: int = 9) -> bytes:
    out = BytesIO()
    PILImage.new("RGB", (8, 6), (shade, 0, 0)).save(out, "JPEG")
    return out.getvalue()


def step(operation: str, argument: str, *dependencies: int) -> Record:
    return {"operation": operation, "dependencies": list(dependencies), "argument": argument}


def record(image: str, question: str, answer: str, /, **changes: object) -> Record:
    """All fields of a record of val_balanced_questions.json."""
    fields: Record = {
        "semantic": [step("select", "sky (2486325)"), step("verify color", "dark", 0)],
        "entailed": [],
        "equivalent": ["02930152"],
        "question": question,
        "imageId": image,
        "isBalanced": True,
        "groups": {"global": None, "local": "06-sky_dark"},
        "answer": answer,
        "semanticStr": "select: sky (2486325)->verify color: dark [0]",
        "annotations": {"answer": {}, "question": {"2": "2486325"}, "fullAnswer": {"2": "2486325"}},
        "types": {"detailed": "verifyAttr", "semantic": "attr", "structural": "verify"},
        "fullAnswer": "Yes, the sky is dark.",
        **changes,
    }
    return {key: value for key, value in fields.items() if value is not ...}


QUERY = {"detailed": "relS", "semantic": "rel", "structural": "query"}
COMMON = {"detailed": "twoCommon", "semantic": "attr", "structural": "compare"}
NAMED = [step("select", "wall (722332)"), step("relate", "_,on,s (722335)", 0), step("query", "name", 1)]
EMPTY = {"global": "", "local": "14-wall_on,s"}

# Two images with scored questions; the unbalanced ones are what the first three entail.
RECORDS: dict[str, Record] = {
    "02930152": record("2354786", "Is the sky dark?", "yes", entailed=["02930152", "02930160", "02930158"]),
    "02930160": record("2354786", "Is the sky bright?", "no", isBalanced=False),
    "02930158": record("2354786", "Which color is the sky?", "dark", isBalanced=False),
    "07333408": record(
        "n375429", "What is on the white wall?", "pipe", types=QUERY, semantic=NAMED, groups=EMPTY
    ),
    "0733340": record("n375429", "What is on  the wall?", "pipe", types=QUERY, groups=EMPTY),
    "7333409": record(
        "n375429",
        "What do the pipe and the wall have in common?",
        "color",
        types=COMMON,
        groups={"global": "color", "local": "x"},
        entailed=["07333408"],
    ),
}
BALANCED = {key: one for key, one in RECORDS.items() if one["isBalanced"]}
CHOICES: Choices = {
    "02930152": {"valid": ["yes", "no"], "plausible": ["yes", "no"]},
    "02930160": {"valid": ["yes", "no"], "plausible": ["yes", "no"]},
    "07333408": {"valid": ["pipe", "shelf", "no"], "plausible": ["pipe", "shelf"]},
    "0733340": {"valid": ["pipe", "shelf", "no"], "plausible": ["pipe", "shelf"]},
    "7333409": {"valid": ["no"], "plausible": ["no"]},
}


def with_choices(folder: Path) -> Path:
    """A folder of all questions whose choices lie in chunks, as in eval.zip."""
    original(folder, RECORDS, "val_all_questions")
    for number, (key, one) in enumerate(CHOICES.items()):
        write(folder / f"val_choices/val_choices_{number}.json", {key: one})
    return folder


def write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False), "utf-8")


def original(
    folder: Path, records: Mapping[str, Record] = BALANCED, stem: str = "testdev_balanced_questions"
) -> Path:
    """A data folder in the original layout."""
    write(folder / f"{stem}.json", records)
    (folder / "images").mkdir(exist_ok=True)
    for one in records.values():
        if isinstance(one.get("imageId"), str) and "/" not in str(one["imageId"]):
            (folder / "images" / f"{one['imageId']}.jpg").write_bytes(jpeg())
    return folder


STRING = pa.string()
POINTERS = pa.list_(pa.struct([("objectId", STRING), ("value", STRING)]))
INSTRUCTIONS = pa.schema(
    [
        *((name, STRING) for name in ("id", "imageId", "question", "answer", "fullAnswer")),
        ("isBalanced", pa.bool_()),
        ("groups", pa.struct([("global", STRING), ("local", STRING)])),
        ("entailed", STRING),
        ("equivalent", STRING),
        ("types", pa.struct([("structural", STRING), ("semantic", STRING), ("detailed", STRING)])),
        ("annotations", pa.list_(pa.struct([(n, POINTERS) for n in ("question", "answer", "fullAnswer")]))),
        (
            "semantic",
            pa.list_(
                pa.struct(
                    [("operation", STRING), ("argument", STRING), ("dependencies", pa.list_(pa.int32()))]
                )
            ),
        ),
        ("semanticStr", STRING),
    ]
)
IMAGES = pa.schema([("id", STRING), ("image", pa.struct([("bytes", pa.binary()), ("path", STRING)]))])


def hub(folder: Path, tier: str = "testdev", drop: tuple[str, ...] = (), lost: tuple[str, ...] = ()) -> Path:
    """A copy of lmms-lab/GQA: two tables of a tier, lists of ids flattened to text."""
    rows = [
        {
            **one,
            "id": key,
            "entailed": str(one["entailed"]),
            "equivalent": str(one["equivalent"]),
            "annotations": [],
        }
        for key, one in BALANCED.items()
    ]
    table = pa.Table.from_pylist(rows, INSTRUCTIONS).drop_columns(list(drop))
    seen = dict.fromkeys(str(one["imageId"]) for one in BALANCED.values())
    present = [
        {"id": one, "image": {"bytes": jpeg(), "path": f"{one}.jpg"}} for one in seen if one not in lost
    ]
    for kind, content in (("instructions", table), ("images", pa.Table.from_pylist(present, IMAGES))):
        path = folder / f"{tier}_balanced_{kind}" / f"{tier}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(content, path)
    return folder

"""TextVQA in both published schemas, written to disk for tests."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PILImage

Record = dict[str, object]
ANSWERS = ["nous les gosses", "dakota", "clos culombu", "dakota digital", "dakota"] * 2


def jpeg(shade: int) -> bytes:
    out = BytesIO()
    PILImage.new("RGB", (8, 6), (shade, 0, 0)).save(out, "JPEG")
    return out.getvalue()


def record(number: int, **changes: object) -> Record:
    """All fields of a record of TextVQA_0.5.1_val.json."""
    image_id = str(changes.get("image_id", f"{number:016x}"))
    fields: Record = {
        "question": "what is the brand of this camera?",
        "image_id": image_id,
        "image_classes": ["Camera"],
        "flickr_original_url": f"https://farm1.staticflickr.com/1/{image_id}_o.jpg",
        "flickr_300k_url": f"https://c1.staticflickr.com/1/{image_id}_z.jpg",
        "image_width": 1024,
        "image_height": 664,
        "answers": ANSWERS,
        "question_tokens": ["what", "is", "the", "brand", "of", "this", "camera"],
        "question_id": number,
        "set_name": "val",
        **changes,
    }
    return {key: value for key, value in fields.items() if value is not ...}


RECORDS = [
    record(34602, image_id="003a8ae2ef43b901", question="What does the NASA sign say?"),
    record(34603, image_id="003a8ae2ef43b901", question=" was steht auf dem Schild für „Größe“?  "),
    record(34604, image_id="0000000000000000"),
    record(34605, answers=...),
    record(34606, answers=[""] * 10),
]


def original(folder: Path, records: list[Record], split: str = "val") -> Path:
    """A data folder in the original layout."""
    document = {"dataset_type": split, "dataset_name": "textvqa", "dataset_version": "0.5.1", "data": records}
    images = folder / ("test_images" if split == "test" else "train_images")
    images.mkdir(parents=True, exist_ok=True)
    (folder / f"TextVQA_0.5.1_{split}.json").write_text(json.dumps(document, ensure_ascii=False), "utf-8")
    for one in records:
        if isinstance(one.get("image_id"), str) and "/" not in str(one["image_id"]):
            (images / f"{one['image_id']}.jpg").write_bytes(jpeg(9))
    return folder


SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("question_id", pa.int32()),
        ("question", pa.string()),
        ("question_tokens", pa.list_(pa.string())),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("image_width", pa.int32()),
        ("image_height", pa.int32()),
        ("flickr_original_url", pa.string()),
        ("flickr_300k_url", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("image_classes", pa.list_(pa.string())),
        ("set_name", pa.string()),
        ("ocr_tokens", pa.list_(pa.string())),
    ]
)
PRESENT = {"bytes": jpeg(9), "path": None}


def parquet(path: Path, records: list[Record]) -> Path:
    """A file with the columns of lmms-lab/textvqa."""
    rows = [{"image": PRESENT, "ocr_tokens": ["NASA"], **one} for one in records]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
    return path

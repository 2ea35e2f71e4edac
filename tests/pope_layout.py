"""POPE in both published schemas, written to disk for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PILImage

from pgbench.metrics.pope import SETTINGS

Record = dict[str, object]


def jpeg(shade: int) -> bytes:
    out = BytesIO()
    PILImage.new("RGB", (8, 6), (shade, 0, 0)).save(out, "JPEG")
    return out.getvalue()


def record(number: int, **changes: object) -> Record:
    """A line of coco_pope_random.json: questions alternate yes and no, six to a picture."""
    fields: Record = {
        "question_id": number,
        "image": f"COCO_val2014_{310196 + (number - 1) // 6:012d}.jpg",
        "text": f"Is there a thing {number} in the image?",
        "label": "yes" if number % 2 else "no",
        **changes,
    }
    return {key: value for key, value in fields.items() if value is not ...}


def original(folder: Path, *, array: Sequence[str] = (), **records: Sequence[Record]) -> Path:
    """The authors' files with val2014/; 12 questions a setting unless given."""
    (folder / "val2014").mkdir(parents=True)
    for setting in SETTINGS:
        chosen = records.get(setting, [record(n) for n in range(1, 13)])
        lines = "\n".join(json.dumps(one) for one in chosen) + "\n"
        text = json.dumps(chosen, indent=4) if setting in array else lines
        (folder / f"coco_pope_{setting}.json").write_text(text, "utf-8")
        for one in chosen:
            (folder / "val2014" / Path(str(one.get("image", "none"))).name).write_bytes(jpeg(9))
    return folder


SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "question_id", "question", "answer", "image_source")),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("category", pa.string()),
    ]
)


def hub(path: Path, rows: Sequence[Record]) -> Path:
    """A file with the columns of lmms-lab/POPE."""
    present = {"image": {"bytes": jpeg(9), "path": None}}
    pq.write_table(pa.Table.from_pylist([{**present, **row} for row in rows], SCHEMA), path)
    return path


def hub_row(setting: str, number: int, **changes: object) -> Record:
    one = record(number)
    return {
        "id": str(number - 1),
        "question_id": str(number),
        "question": one["text"],
        "answer": one["label"],
        "image_source": str(one["image"]).removesuffix(".jpg"),
        "category": setting,
        **changes,
    }

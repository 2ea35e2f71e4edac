"""DOCCI in both published schemas, written to disk for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PILImage

Record = dict[str, object]

TEXTS = (
    "An indoor angled down medium close-up front view of a dog. It lies on the rug by No. 5.",
    'A sign reads "Mr. Smith, Jr." in the U.S. style.\u2028It is 3 p.m. and the light is low.',
    "A red car stands left of a tree; its two front wheels touch the curb.  ",
)


def jpeg(shade: int) -> bytes:
    out = BytesIO()
    PILImage.new("RGB", (8, 6), (shade, 0, 0)).save(out, "JPEG")
    return out.getvalue()


def record(number: int, split: str = "test", **changes: object) -> Record:
    """A line of docci_descriptions.jsonlines; numbers start at 0 in each split."""
    example = f"{split}_{number:05d}"
    fields: Record = {
        "example_id": example,
        "split": split,
        "image_file": f"{example}.jpg",
        "description": TEXTS[number % len(TEXTS)],
        **changes,
    }
    return {key: value for key, value in fields.items() if value is not ...}


RECORDS = [
    record(0, "train"),
    *(record(number) for number in range(3)),
    record(0, "qual_dev"),
    record(1, "qual_test"),
]


def original(folder: Path, records: Sequence[Record] = RECORDS, lines: Sequence[str] = ()) -> Path:
    """A data folder as the authors' archives unpack; U+2028 stands as it is in the lines."""
    (folder / "images").mkdir(parents=True)
    written = [json.dumps(one, ensure_ascii=False) for one in records]
    (folder / "docci_descriptions.jsonlines").write_bytes("\n".join([*written, *lines, ""]).encode())
    for shade, one in enumerate(records):
        name = str(one.get("image_file", "none"))
        if "/" not in name:
            (folder / "images" / name).write_bytes(jpeg(9 * shade))
    return folder


SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("example_id", pa.string()),
        ("description", pa.string()),
    ]
)


def row(number: int, split: str = "test", **changes: object) -> Record:
    one = record(number, split)
    image = {"bytes": jpeg(9), "path": one["image_file"]}
    return {
        "image": image,
        "example_id": one["example_id"],
        "description": one["description"],
        **changes,
    }


def hub(folder: Path, rows: Sequence[Record], split: str = "test") -> Path:
    """A copy of a repository with the columns of not-lain/docci."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    path = folder / "data" / f"{split}-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows), SCHEMA), path)
    return folder

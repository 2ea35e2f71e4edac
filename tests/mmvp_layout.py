"""MMVP in both published schemas, written to disk for tests."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PILImage

Row = dict[str, object]
COLUMNS = ("Index", "Question", "Options", "Correct Answer")


def jpeg(shade: int) -> bytes:
    out = BytesIO()
    PILImage.new("RGB", (8, 6), (shade % 256, 0, 0)).save(out, "JPEG")
    return out.getvalue()


def row(number: int, **changes: object) -> Row:
    """A row of Questions.csv; odd numbers are (a)."""
    fields: Row = {
        "Index": number,
        "Question": f"Are wings {(number + 1) // 2} open, or closed?",
        "Options": "(a) Open (b) Closed",
        "Correct Answer": "(a)" if number % 2 else "(b)",
        **changes,
    }
    return fields


def original(folder: Path, rows: Sequence[Row], header: Sequence[str] = COLUMNS) -> Path:
    images = folder / "MMVP Images"
    images.mkdir(parents=True)
    with (folder / "Questions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(one.values() for one in rows)
    for one in rows:
        (images / f"{one['Index']}.jpg").write_bytes(jpeg(int(str(one["Index"]))))
    return folder


SCHEMA = pa.schema(
    [
        ("Index", pa.int32()),
        *((name, pa.string()) for name in COLUMNS[1:]),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ]
)


def hub(path: Path, rows: Sequence[Row]) -> Path:
    """A file with the columns of lmms-lab-eval/MMVP."""
    shown = [{"image": {"bytes": jpeg(int(str(one["Index"]))), "path": None}, **one} for one in rows]
    pq.write_table(pa.Table.from_pylist(shown, SCHEMA), path)
    return path

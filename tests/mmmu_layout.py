"""MMMU in its published schema, odd rows among them, written to disk for tests."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PILImage

Record = dict[str, object]
TEXT = ("id", "question", "options", "explanation", "img_type", "answer", "topic_difficulty")
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = pa.schema(
    [(name, pa.string()) for name in TEXT]
    + [(f"image_{i}", PICTURE) for i in range(1, 8)]
    + [("question_type", pa.string()), ("subfield", pa.string())]
)


def png(shade: int) -> dict[str, object]:
    out = BytesIO()
    PILImage.new("RGB", (8, 6), (shade, 0, 0)).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": f"{shade}.png"}


def row(name: str, **changes: object) -> Record:
    return {
        "id": name,
        "question": "<image 1> Baxter Company has a range of production. What is the cost?",
        "options": "['$6', '$7', '$8', '$9']",
        "explanation": "",
        "image_1": png(1),
        **{f"image_{i}": None for i in range(2, 8)},
        "img_type": "['Tables']",
        "answer": "B",
        "topic_difficulty": "Medium",
        "question_type": "multiple-choice",
        "subfield": "Managerial Accounting",
        **changes,
    }


ROWS = [
    row("validation_Accounting_1"),
    row("validation_Art_Theory_7", image_2=png(2), question="<image 2> or <image 1>? <image 2>"),
    row("validation_Chemistry_30", answer="['$MgS$', 'MgS']", question_type="open", options="[]"),
    row("validation_Math_15", answer="[0, 1]", question_type="short-answer", options="[]", question="组?  "),
    row("validation_Music_2", image_1=None, image_3=png(3), question="which?"),
    row("validation_Sociology_3", options=str([f"<image {i}>\\pi 'x' " for i in range(1, 4)] + ["é"] * 6)),
    row("validation_Physics_4", image_1={"bytes": None, "path": None}, answer=""),
    row("validation_Biology_5", answer=None),
]


def parquet(folder: Path, rows: list[Record], name: str = "validation-00000-of-00001.parquet") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / name)
    return folder

"""CMMMU in both published schemas, written to disk for tests."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PILImage

Record = dict[str, object]
FOLDERS = {"艺术与设计": "art_and_design", "商业": "business"}
TEXT = (
    "id type source_type source question option1 option2 option3 option4 answer analysis distribution "
    "difficulty_level subcategory category subfield img_type"
)
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = pa.schema(
    [(name, pa.string()) for name in TEXT.split()]
    + [(f"image_{i}", PICTURE) for i in range(1, 6)]
    + [(f"image_{i}_filename", pa.string()) for i in range(1, 6)]
)


def jpeg() -> bytes:
    out = BytesIO()
    PILImage.new("RGB", (8, 6), (9, 0, 0)).save(out, "JPEG")
    return out.getvalue()


def record(number: int, **changes: object) -> Record:
    name = f"q_{number:05}_001.jpg"
    fields: Record = {
        "id": number,
        "type": "选择",
        "source_type": "website",
        "source": "https://example.org/",
        "question": f'如<img="{name}">所示,文字透视效果是通过哪种样式产生的？',
        "option1": "贝壳",
        "option2": "旗帜 ",
        "option3": "下弧 ",
        "option4": "扇形",
        "answer": "D",
        "analysis": None,
        "distribution": "本科",
        "difficulty_level": "easy",
        "img_list": [name],
        "subcategory": "设计",
        "category": "艺术与设计",
        "subfield": ["图像编辑", "文本处理"],
        "img_type": ["屏幕截图"],
        **changes,
    }
    if fields["type"] != "选择":
        fields = {key: value for key, value in fields.items() if not key.startswith("option")}
    return {key: value for key, value in fields.items() if value is not ...}


TAGGED = {f"option{i}": f'<img="a_07490_00{i}.png">' for i in range(1, 5)}
RECORDS = [
    record(1902),
    record(
        7490,
        question="下列图是欧拉图的是（）",
        img_list=[f"a_07490_00{i}.png" for i in (1, 2, 3, 4)],
        **TAGGED,
    ),
    record(5286, type="判断", answer="错"),
    record(12, type="填空", answer="-474.04", category="商业", subcategory="会计", answer_note=1),
    record(13, type="填空", answer=..., category="商业", subcategory="金融"),
    record(14, type="填空", answer="简单图", category="商业", question="无图", img_list=[]),
]


def listed(one: Record) -> list[str]:
    names = one.get("img_list")
    return [str(name) for name in names] if isinstance(names, list) else []


def original(folder: Path, records: list[Record], split: str = "val") -> Path:
    for category, name in FOLDERS.items():
        place = folder / f"cmmmu-data-{split}" / name
        place.mkdir(parents=True, exist_ok=True)
        mine = [one for one in records if one.get("category", "商业") == category]
        lines = [json.dumps(one, ensure_ascii=False) for one in mine]
        (place / f"{name}.jsonl").write_text("\n".join(lines) + "\n\n", "utf-8")
        for one in mine:
            for image in listed(one):
                (place / image).write_bytes(jpeg())
    return folder


def parquet(folder: Path, records: list[Record], split: str = "val") -> Path:
    """The columns of lmms-lab/CMMMU: every id a text, five images each with its file name."""
    rows = []
    for one in records:
        images = {f"image_{i}_filename": name for i, name in enumerate(listed(one), 1)}
        pictures = {key.removesuffix("_filename"): {"bytes": jpeg(), "path": None} for key in images}
        strings = {key: str(one[key]) if one.get(key) is not None else None for key in TEXT.split()}
        rows.append({**strings, **images, **pictures})
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / f"{split}-00000-of-00001.parquet")
    return folder

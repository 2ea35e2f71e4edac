"""ScienceQA in both published layouts, odd records among them, written to disk for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PILImage

Record = dict[str, object]
STATES = ["West Virginia", "Louisiana", "Arizona", "Oklahoma"]


def png() -> bytes:
    out = BytesIO()
    PILImage.new("RGBA", (9, 6), (200, 0, 0, 90)).save(out, "PNG")
    return out.getvalue()


def record(**changes: object) -> Record:
    """All fields of a record of problems.json."""
    fields: Record = {
        "question": "Which of these states is farthest north?",
        "choices": STATES,
        "answer": 0,
        "hint": "",
        "image": "image.png",
        "task": "closed choice",
        "grade": "grade2",
        "subject": "social science",
        "topic": "geography",
        "category": "Geography",
        "skill": "Read a map: cardinal directions",
        "lecture": "Maps have four cardinal directions, or main directions.",
        "solution": "To find the answer, look at the compass rose.",
        "split": "test",
        **changes,
    }
    return {key: value for key, value in fields.items() if value is not ...}


TWINS = {"question": "What is the name of the colony shown?", "subject": "social science"}
PROBLEMS = {
    "1": record(split="train"),
    "4": record(grade="grade8", answer=3),
    "5": record(image=None, hint="Passage\n\nwith  lines.", subject="language science", choices=["a", "b"]),
    "6": record(image=None, hint="", subject="natural science", grade="grade12"),
    "11": record(hint="Ein Magnet – „stark“.", choices=["1 kg", "2 kg", "3 kg", "4 kg", "5 kg"], answer=4),
    "10": record(**TWINS),
    "12": record(**TWINS, answer=1),
    "13": record(split="val"),
}
TEST_FULL = ["4", "5", "6", "11", "10", "12"]
TEST = ["4", "11", "10", "12"]


def original(folder: Path, problems: dict[str, Record], below: str = "") -> Path:
    """A data folder in the original layout."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "problems.json").write_text(json.dumps(problems, indent=4), "utf-8")
    by_split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number, one in problems.items():
        by_split.setdefault(str(one.get("split")), []).append(number)
        if isinstance(one.get("image"), str) and one["image"] and "/" not in str(one["image"]) + number:
            path = folder / below / str(one.get("split")) / number
            path.mkdir(parents=True, exist_ok=True)
            (path / str(one["image"])).write_bytes(png())
    (folder / "pid_splits.json").write_text(json.dumps(by_split))
    return folder


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXTS = ("question", "hint", "task", "grade", "subject", "topic", "category", "skill", "lecture", "solution")
SCHEMA = pa.schema(
    [("image", IMAGE), ("choices", pa.list_(pa.string())), ("answer", pa.int8())]
    + [(name, pa.string()) for name in TEXTS]
)


def parquet(path: Path, records: Sequence[Record]) -> Path:
    """A file with the columns of the hub copies: no number, no split, the picture inside or null."""
    rows = [
        {name: one[name] for name in ("choices", "answer", *TEXTS)}
        | {"image": {"bytes": png(), "path": "image.png"} if one["image"] == "image.png" else one["image"]}
        for one in records
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
    return path

"""Where golden files lie, and how they are read."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "golden"
# Read at import, since conftest.py clears PGBENCH_* before each test.
FOLDER = Path(os.environ.get("PGBENCH_GOLDEN") or HERE)


def golden(task: str, folder: Path) -> dict[str, Any]:
    """The golden file of a task, plain or compressed."""
    plain, packed = folder / f"{task}.json", folder / f"{task}.json.gz"
    text = plain.read_bytes() if plain.is_file() else gzip.decompress(packed.read_bytes())
    data: dict[str, Any] = json.loads(text)
    return data

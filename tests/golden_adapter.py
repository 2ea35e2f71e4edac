"""Verdicts on golden cases, computed by pgbench's public functions alone.

`verdict(task, case)` judges one case, `aggregate(task, cases)` all cases of a file in file order. A case
is {"id", "prediction", "reference": {...}}. Each task's part is golden_<task>.py beside this file; a task
without one raises KeyError with its name.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

TASKS = sorted(
    path.stem.removeprefix("golden_")
    for path in Path(__file__).parent.glob("golden_*.py")
    if path.stem != "golden_adapter"
)


def verdict(task: str, case: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = _part(task).verdict(case)
    return found


def aggregate(task: str, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = _part(task).aggregate(cases)
    return found


def _part(task: str) -> ModuleType:
    if task not in TASKS:
        raise KeyError(task)
    return importlib.import_module(f"golden_{task}")

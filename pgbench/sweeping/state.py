"""OUT/sweep.json: the cells that the latest sweep asked for and what became of them, for `pgbench status`.

It has one writer at a time (locks.py). A second sweep of the same folder works all the same; what it does is
seen in the run folders, which are the truth: this file adds only what has none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pgbench.durable import exists, read_json, write_json
from pgbench.errors import RunLocked, StoreError
from pgbench.holders import holder_of
from pgbench.keys import json_key
from pgbench.locks import Lock
from pgbench.profiles import SHIPPED
from pgbench.recipe.asked import AskedCell
from pgbench.specs import called
from pgbench.sweeping import choices

if TYPE_CHECKING:
    from pgbench.sweeping.told import Told

FILE, LOCK = "sweep.json", ".sweep.lock"
SCHEMA = 1
_FOLDERS = re.compile(r"(?<![\w.])(?:/[^\s/\"':,]+)+/(?=[^\s/])")  # of an absolute path
_HOST = re.compile(r"(\bpid \d+) on [^\s,;)]+")  # as holders.Holder is told


class Ledger:
    """Writes sweep.json, as long as no other process does. Opening it raises StoreError."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._held = contextlib.ExitStack()
        self._mine = self._wrote = False
        self._before: dict[str, dict[str, Any]] = {}  # cells of the sweep before, by id
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"cannot write {out}: {error.strerror}; name a folder that can be written with --out"
            raise StoreError(reason) from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def write(self, cells: Sequence[Told]) -> bool:
        """Whether it was written: it is this process's turn once no other holds the lock.

        Raises StoreError where the first write fails; a later one that fails costs no cell its answers.
        """
        try:
            if not self._mine:
                self._held.enter_context(Lock(self._out / LOCK))
                self._mine = True
                self._before = _before(self._out)
            rows = [_known(_plain(cell, self._out), self._before) for cell in cells]
            write_json(self._out / FILE, {"schema": SCHEMA, "cells": rows})
        except RunLocked:
            return False
        except StoreError:
            if not self._wrote:
                raise
            return False
        self._wrote = True
        return True


def _before(out: Path) -> dict[str, dict[str, Any]]:
    try:
        return {str(cell["id"]): cell for cell in read(out)}
    except StoreError:  # it is written anew
        return {}


def _known(row: dict[str, object], before: Mapping[str, Mapping[str, Any]]) -> dict[str, object]:
    """A cell that was not opened yet lies where the sweep before had it, else `pgbench status` counts it as
    waiting and its folder as one more."""
    earlier = before.get(str(row["id"]))
    if row["key"] is not None or row["state"] == "failed" or earlier is None:
        return row
    return row | {name: earlier.get(name) for name in ("key", "folder", "samples")}


def is_written(out: Path) -> bool:
    """Whether a sweep of this folder runs now; for showing."""
    return holder_of(out / LOCK) is not None


def read(out: Path) -> list[dict[str, Any]]:
    """The cells of sweep.json, none where no sweep wrote one. Raises StoreError."""
    path = out / FILE
    if not exists(path):
        return []
    try:
        document = read_json(path)
    except StoreError as error:
        raise StoreError(f"{error}; if it is damaged, remove it: the run folders hold all answers") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise StoreError(f"{path} is no state of a sweep that this pgbench reads; remove it")
    cells = document.get("cells")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) and "id" in cell for cell in cells):
        raise StoreError(f"{path} is damaged; remove it: the run folders hold all answers")
    return cells


def cell_id(asked: AskedCell) -> str:
    """16 hex digits that stay the same as long as the same is asked for."""
    return json_key(dataclasses.asdict(dataclasses.replace(asked, where="", reuse=True)))[:16]


def _data_id(asked: AskedCell) -> str:
    """The same for cells that answer the same samples."""
    chosen = (asked.task, asked.source, asked.variant, asked.limit, asked.seed)
    drawn = asked.source is None and asked.model.model in (None, *SHIPPED) and not asked.model.predictions
    data = choices.drawings(asked.source or "demo", asked.data, asked.model)
    parts = {"chosen": chosen, "drawn": drawn, "data": dataclasses.asdict(data)}
    return json_key(parts)[:16]


def model_name(asked: AskedCell) -> str:
    """The checkpoint as it was asked for; of a folder, its name only."""
    model = asked.model.model
    if model is None:
        return "the demo checkpoint" if asked.backend == "paligemma" else asked.backend
    is_folder = model.startswith(("/", ".", "~")) or model.count("/") > 1
    return Path(model).name if is_folder else model


def task_name(asked: AskedCell) -> str:
    """The task as it was asked for; of a task file, its name only."""
    return Path(asked.task).name


def harmless(reason: str) -> str:
    """A reason without the folders of absolute paths and the name of a machine: the file is kept."""
    return _HOST.sub(r"\1", _FOLDERS.sub("", reason))


def _plain(cell: Told, out: Path) -> dict[str, object]:
    spec = cell.spec
    return {
        "id": cell_id(cell.asked),
        "task": spec.task if spec else task_name(cell.asked),
        "checkpoint": called(spec.checkpoint.id if spec else model_name(cell.asked), cell.asked.model),
        "quant": cell.asked.model.quant,
        "dtype": cell.asked.model.dtype,
        "mode": cell.asked.mode,
        "replicate": cell.asked.replicate,
        "where": cell.asked.where,
        "data": _data_id(cell.asked),
        "key": spec.key if spec else None,
        "folder": cell.folder.relative_to(out).as_posix() if cell.folder else None,
        "samples": cell.samples,
        "state": cell.state,
        "reason": harmless(cell.reason),
    }

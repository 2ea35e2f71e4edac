"""What became of each cell of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pgbench.recipe.asked import AskedCell
from pgbench.records import RunRecord
from pgbench.types import RunSpec

# locked: another process writes it; stopped: it can be resumed; waiting: its turn did not come;
# answered: its shard is, and pgbench merge makes the record
State: TypeAlias = Literal["waiting", "running", "done", "answered", "failed", "locked", "stopped"]


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one cell."""

    asked: AskedCell
    state: State = "waiting"
    reason: str = ""  # of a state that is not done
    already_done: bool = False
    spec: RunSpec | None = None  # known once the cell was opened
    samples: int | None = None  # that it will answer, known then too
    folder: Path | None = None
    record: RunRecord | None = None  # where it ran to its end, also with more failures than allowed


@dataclass(frozen=True, slots=True)
class Swept:
    """Every cell that was asked for, in order."""

    cells: tuple[Told, ...]
    stopped: str = ""  # why the sweep ended before its last cell

    @property
    def whole(self) -> bool:
        return all(cell.state in ("done", "answered") for cell in self.cells)

"""The bars of a sweep: one of its cells, and one of the cell that runs."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Any

from pgbench.cli import bars
from pgbench.recipe.asked import AskedCell
from pgbench.report.render import printable
from pgbench.runner import Progress
from pgbench.sweeping.state import model_name, task_name
from pgbench.sweeping.work import Told, Watch


class Bars(Watch):
    """Shows what it hears; for engines that run several cells at once, the answers of all of them."""

    def __init__(self, cells: Any) -> None:
        """`cells`: a bar with one step a cell."""
        self._cells = cells

    def cell(self, asked: AskedCell) -> AbstractContextManager[Progress]:
        name = f"{task_name(asked)} · {model_name(asked)} · {asked.model.quant}"
        return bars.of_cell(printable(name), below=1)

    def several(self, done: int, total: int) -> None:
        self._cells.set_postfix_str(f"{done:,} of {total:,} answers")

    def ended(self, told: Told) -> None:
        self._cells.update(1)
        if told.state in ("failed", "locked") and not self._cells.disable:
            where = f"{task_name(told.asked)} · {model_name(told.asked)} · {told.asked.model.quant}"
            self._cells.write(printable(f"{told.state}: {where}: {told.reason}"), file=sys.stderr)

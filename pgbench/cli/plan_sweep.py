"""`pgbench plan SWEEP`: cells, samples and hours of a sweep, before it is run."""

from __future__ import annotations

from pathlib import Path

from pgbench.cli import streams
from pgbench.errors import INCOMPLETE, OK


def plan_sweep(sweep: Path, out: Path, *, as_json: bool) -> int:
    """Every cell is looked at, nothing is loaded; the table or the document of what is left to do.

    Returns the exit code: 3 where a cell cannot be run.
    """
    from pgbench.recipe.read import read
    from pgbench.report.cost_table import costs, of_costs
    from pgbench.report.render import terminal
    from pgbench.sweeping.preview import preview

    with streams.stdout_on_stderr():
        cells = preview(read(sweep), out)
    if as_json:
        streams.print_json(costs(cells))
    else:
        print(terminal(of_costs(cells)))
    return INCOMPLETE if any(cell.told.state == "failed" for cell in cells) else OK

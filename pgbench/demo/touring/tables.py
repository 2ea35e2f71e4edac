"""The tables of the demo: the grids that `pgbench report` makes of its runs, each with its command."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgbench.demo.touring.route import Route
from pgbench.durable import write_pieces
from pgbench.report import layouts
from pgbench.report.deltas import Against
from pgbench.report.entries import Run
from pgbench.report.grid import Grid
from pgbench.report.layouts import Asked
from pgbench.report.pairing import Answers
from pgbench.specs import cell_name

TITLE = "pgbench demo: drawn pictures, tiny checkpoints; no number here says anything about PaliGemma"
_BY_TASK = ("task", "metric")


@dataclass(frozen=True, slots=True)
class Shown:
    """One table, and the command that prints it, as a user of a shell types it."""

    command: str
    grid: Grid


def tables(
    route: Route, runs: Sequence[Run], folder: Path, answers: Answers | None = None
) -> tuple[Shown, ...]:
    """Scores, the effect of the resolution and that of quantization, paired. `folder` holds the runs.

    `answers`: where they are elsewhere than in the runs. Raises StoreError where they cannot be read.
    """
    paired = answers or Answers({})
    return tuple(
        Shown(_typed(where, asked), layouts.grids(of, asked, paired)[0])
        for of, where, asked in _asked(route, runs, folder)
    )


def _asked(route: Route, runs: Sequence[Run], folder: Path) -> Iterator[tuple[Sequence[Run], str, Asked]]:
    """The runs of each table, where they lie in a shell's words, and what is asked."""
    place = shlex.quote(str(folder))
    yield runs, place, Asked(published=False, caption="Demo: every checkpoint at every level")
    low, high = sorted(route.pair)
    pair = [run for run in runs if _is_of(run, route.pair.values())]
    if len({run.record.spec.checkpoint.id for run in pair}) > 1:
        title = f"Demo: what the resolution does, {low} against {high} px"
        names = dict.fromkeys(cell_name(run.record.spec) for run in pair)
        where = " ".join(f"{place}/*/{shlex.quote(name)}-*" for name in names)
        yield pair, where, _against(title, _BY_TASK, "resolution", str(low))
    if len(route.quant) > 1:
        rows = ("model", "resolution", *_BY_TASK)
        yield runs, place, _against("Demo: what quantization does", rows, "quant", "none")


def _is_of(run: Run, checkpoints: Collection[str]) -> bool:
    point = run.record.spec.checkpoint
    return point.quant == "none" and point.id in checkpoints


def _against(title: str, rows: tuple[str, ...], axis: str, value: str) -> Asked:
    against = Against(axis, value, quiet=True)
    return Asked(rows=rows, columns=(axis,), against=against, published=False, caption=title)


def _typed(where: str, asked: Asked) -> str:
    table = (
        ["--rows", ",".join(asked.rows), "--columns", ",".join(asked.columns), "--delta", str(asked.against)]
        if asked.against
        else []
    )
    return " ".join(["pgbench report", where, *table, "--paired --no-published"])


def write(out: Path, shown: Sequence[Shown]) -> dict[str, Path]:
    """report.html, tables.md and tables.tex below `out`: format -> file. Raises StoreError."""
    from pgbench.report.formats import html, renderer

    grids = tuple(one.grid for one in shown)
    texts = {
        "html": (out / "report.html", html.render(html.Page(TITLE, grids, command="pgbench demo"))),
        "markdown": (out / "tables.md", renderer("markdown")(grids)),
        "latex": (out / "tables.tex", renderer("latex")(grids)),
    }
    for path, text in texts.values():
        write_pieces(path, [text.encode("utf-8", "backslashreplace")])
    return {form: path for form, (path, _) in texts.items()}

"""Makes results/demo: the demo's records and report, more held-out samples, the check with shuffled pictures.

python benchmarks/demo_results.py WORK   WORK: an empty folder, or one in which this was interrupted
python benchmarks/demo_results.py        report, tables and README again, from the records that are there
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from demo_found import Blind, Found
from demo_page import page
from provenance import ROOT

from pgbench import runner
from pgbench.batch import Cell
from pgbench.cli import demo
from pgbench.demo.benchmarks.blind import by_kind, chance
from pgbench.demo.touring import route, shuffled, tables
from pgbench.demo.touring.route import FULL, RECIPE, Route
from pgbench.durable import write_pieces
from pgbench.errors import OK
from pgbench.paired import baseline
from pgbench.paired.evidence import Evidence
from pgbench.paired.folders import runs_of
from pgbench.recipe.asked import AskedCell
from pgbench.recipe.read import read
from pgbench.report.entries import Run
from pgbench.report.pairing import Answers
from pgbench.sweeping.loans import Loans
from pgbench.sweeping.opening import open_cell
from pgbench.sweeping.work import sweep

RESULTS = ROOT / "results" / "demo"
RECORDS, HELD, SHUFFLED, PAGE = "records.json", "held-out.json", "shuffled.json", "README.md"
SAMPLES = 900  # of each held-out cell: all that are drawn, but half of POPE


def held_out(chosen: Route, samples: int) -> Route:
    """The unquantized cells of a route, with more samples."""
    return replace(chosen, quant=("none",), limit=samples)


def asked_of(chosen: Route, folder: Path) -> tuple[AskedCell, ...]:
    """The cells of a route, whichever demo the folder holds."""
    path = folder / RECIPE
    write_pieces(path, [route.text(chosen).encode()])
    return read(path)


def opened(asked: Iterable[AskedCell]) -> dict[str, Cell]:
    """The first cell of each task, opened."""
    firsts: dict[str, AskedCell] = {}
    for one in asked:
        firsts.setdefault(one.task, one)
    return {task: open_cell(one)[0] for task, one in firsts.items()}


def blind(cells: Mapping[str, Cell]) -> dict[str, Blind]:
    """Chance of each task, over all its drawn samples."""
    found = {}
    for task, cell in cells.items():
        samples = cell.dataset.samples
        found[task] = Blind(chance(cell.task, samples), by_kind(cell.task, samples))
    return found


def kept(path: Path) -> list[Evidence]:
    """Runs of a folder, or of a file of the results."""
    return [run.read({}) for run in runs_of(path, {}).runs]


def found_in(results: Path, chosen: Route, cells: Mapping[str, Cell]) -> Found:
    """What the pages are made of. `cells`: one of each task."""
    swept, held, mixed = (kept(results / name) for name in (RECORDS, HELD, SHUFFLED))
    return Found(chosen, swept, held, mixed, blind(cells))


class Filed(Answers):
    """Answers of runs that lie in a file."""

    def __init__(self, runs: Sequence[Evidence]) -> None:
        super().__init__({})
        self._kept.update({run.place: run for run in runs})


def write_pages(out: Path, found: Found) -> list[Path]:
    """Report, tables and README, the same bytes for the same records."""
    runs = [Run(run.place, run.record) for run in found.swept]
    shown = tables.tables(found.route, runs, Path("pgbench-demo/runs"), Filed(found.swept))
    write_pieces(out / PAGE, [page(found).encode()])
    return [*tables.write(out, shown).values(), out / PAGE]


def narrowed(run: Evidence) -> Evidence:
    """With the statistics of its primary metric alone."""
    name = run.record.primary
    members = {metric: found for metric, found in run.members.items() if metric == name}
    return replace(run, units={name: run.units[name]}, members=members)


def _run_shuffled(asked: Sequence[AskedCell], out: Path) -> None:
    before: AskedCell | None = None
    with contextlib.closing(Loans()) as loans:
        for one in asked:
            if before is not None and before.model != one.model:
                loans.close()
            before = one
            cell, _ = open_cell(one, loans.engine)
            done = runner.run(shuffled.of_cell(cell), out)
            print(f"shuffled: {done.folder.relative_to(out)}", file=sys.stderr)


def run_all(work: Path, chosen: Route, samples: int) -> bool:
    """Whether every cell is done. What is there already is not run again."""
    if demo.tour(chosen, work / "demo") != OK:
        return False
    asked = asked_of(held_out(chosen, samples), work / "held-out")
    if not sweep(asked, work / "held-out" / "runs").whole:
        return False
    _run_shuffled(asked, work / "shuffled" / "runs")
    return True


def keep(work: Path, results: Path) -> None:
    """The recipe and the records of WORK, small enough to be committed."""
    write_pieces(results / RECIPE, [(work / "demo" / RECIPE).read_bytes()])
    for name, runs in ((RECORDS, "demo/runs"), (HELD, "held-out/runs"), (SHUFFLED, "shuffled/runs")):
        baseline.save([narrowed(run) for run in kept(work / runs)], results / name)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path, nargs="?", help="folder of the runs; without it nothing is run")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of each held-out cell")
    given = parser.parse_args(argv)
    if given.work:
        if not run_all(given.work, FULL, given.samples):
            print("not all cells are done; the same command goes on", file=sys.stderr)
            return 1
        keep(given.work, RESULTS)
    found = found_in(RESULTS, FULL, opened(read(RESULTS / RECIPE)))
    for path in write_pages(RESULTS, found):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""results/demo says what this code makes: its cells, its statistics, its pages, some answers asked again.

`python benchmarks/demo_results.py WORK` makes it; without WORK it writes the pages again from the records.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import demo_found
import demo_results
import demo_targets
import pytest

from pgbench import runner
from pgbench.batch import Cell
from pgbench.demo.touring import route, shuffled
from pgbench.demo.touring.route import FULL
from pgbench.paired.evidence import Evidence
from pgbench.paired.reading import read as read_run
from pgbench.profiles import SHIPPED
from pgbench.recipe.asked import AskedCell
from pgbench.recipe.read import read
from pgbench.sweeping.opening import engine_of, open_cell
from pgbench.types import RunSpec

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "demo"
LARGEST = 6_000_000  # bytes of all files together
MOVED = 0.05  # of the samples of a cell may score otherwise on another processor, in bfloat16

made = pytest.mark.skipif(
    not RESULTS.is_dir(), reason="results/demo is made once its checkpoints are shipped"
)


def test_the_results_are_there_as_soon_as_the_checkpoints_are() -> None:
    assert RESULTS.is_dir() or not {*FULL.checkpoints} <= {*SHIPPED}


@pytest.fixture(scope="module")
def asked() -> tuple[AskedCell, ...]:
    return read(RESULTS / route.RECIPE)


@pytest.fixture(scope="module")
def cells(asked: tuple[AskedCell, ...]) -> dict[str, Cell]:
    return demo_results.opened(asked)


@pytest.fixture(scope="module")
def found(cells: dict[str, Cell]) -> demo_found.Found:
    """Reading a file reduces all its statistics to the scores of its records, or raises."""
    return demo_results.found_in(RESULTS, FULL, cells)


@made
def test_the_recipe_is_that_of_the_demo() -> None:
    assert (RESULTS / route.RECIPE).read_text() == route.text(FULL)


@made
def test_the_records_are_of_the_cells_that_the_demo_asks_for_now(
    found: demo_found.Found, cells: dict[str, Cell]
) -> None:
    """Equal keys: the same checkpoints, versions of tasks, limits; and equal digests of the data."""
    assert keys(found.swept) == {spec.key for spec in specs(cells, FULL.quant)}
    limits = {run.record.spec.limit for run in (*found.held, *found.shuffled)}
    assert len(limits) == 1
    (limit,) = limits
    assert limit is not None
    assert limit > FULL.limit
    held = {task: replace(cell, spec=replace(cell.spec, limit=limit)) for task, cell in cells.items()}
    assert keys(found.held) == {spec.key for spec in specs(held, ("none",))}
    mixed = {task: shuffled.of_cell(cell) for task, cell in held.items()}
    assert keys(found.shuffled) == {spec.key for spec in specs(mixed, ("none",))}
    for runs, of in ((found.swept, cells), (found.held, held), (found.shuffled, mixed)):
        assert {(run.record.spec.task, run.record.data.digest) for run in runs} == {
            (task, cell.dataset.digest) for task, cell in of.items()
        }


def keys(runs: Sequence[Evidence]) -> set[str]:
    found = [run.record.key for run in runs]
    assert len(set(found)) == len(found)
    return set(found)


def specs(cells: dict[str, Cell], levels: tuple[str, ...]) -> Iterator[RunSpec]:
    """The cells of every checkpoint and level, as those of the first one are."""
    first = read(RESULTS / route.RECIPE)[0]
    for name in FULL.checkpoints:
        for level in levels:
            point = engine_of("paligemma", replace(first.model, model=name, quant=level)).checkpoint  # type: ignore[arg-type]
            for cell in cells.values():
                yield replace(cell.spec, checkpoint=point)


@made
def test_every_cell_is_whole_and_marked_as_demo(found: demo_found.Found) -> None:
    for run in (*found.swept, *found.held, *found.shuffled):
        record = run.record
        assert not record.failures
        assert record.data.demo
        assert record.spec.checkpoint.demo
        assert record.primary in run.units
        assert len(run.samples) == record.data.selected > 0


@made
def test_the_pages_are_those_of_the_records(found: demo_found.Found, tmp_path: Path) -> None:
    """`python benchmarks/demo_results.py` writes them anew."""
    for path in demo_results.write_pages(tmp_path, found):
        assert path.read_text() == (RESULTS / path.name).read_text(), path.name


@made
def test_with_shuffled_pictures_nothing_is_known(found: demo_found.Found) -> None:
    assert list(demo_targets.above_chance(found)) == []


@made
@pytest.mark.parametrize(
    ("task", "checkpoint", "quant"),
    [
        (FULL.gate.task, FULL.checkpoints[0], "none"),
        ("textvqa", FULL.checkpoints[1], "4bit"),
        ("mmvp", FULL.checkpoints[-1], "none"),
    ],
)
def test_a_cell_that_is_run_again_says_the_same(
    task: str,
    checkpoint: str,
    quant: str,
    asked: tuple[AskedCell, ...],
    found: demo_found.Found,
    tmp_path: Path,
) -> None:
    (one,) = (
        one for one in asked if (one.task, one.model.model, one.model.quant) == (task, checkpoint, quant)
    )
    cell, _ = open_cell(one)
    again = read_run(runner.run(cell, tmp_path).folder)
    (before,) = (run for run in found.swept if run.record.key == again.record.key)
    assert before.samples == again.samples, "prompts, pictures, references"
    name = before.record.primary
    ours, theirs = (run.units[name] for run in (before, again))
    assert list(ours.ids) == list(theirs.ids)
    columns = [[one.sums[stat] for stat in sorted(one.sums)] for one in (ours, theirs)]
    rows = [list(zip(*one, strict=True)) for one in columns]
    moved = sum(one != two for one, two in zip(*rows, strict=True))
    assert moved <= MOVED * len(ours.ids), f"{moved} of {len(ours.ids)}"


@made
def test_the_files_are_small_and_name_nobody() -> None:
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        *(route.RECIPE, "records.json", "held-out.json", "shuffled.json"),
        *("report.html", "tables.md", "tables.tex", "README.md"),
    }
    assert sum(path.stat().st_size for path in files) < LARGEST
    for path in files:
        assert not re.search(r"(?<![\w.:/<])/(home|root|tmp|work|Users|usr|var)/", path.read_text()), (
            path.name
        )

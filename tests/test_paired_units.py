"""units.jsonl is the same however a run came to its end, and never moves a record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import planted
import pytest
from fakes import result

from pgbench import store, units
from pgbench.batch import Cell
from pgbench.errors import RunStopped
from pgbench.merging import merge
from pgbench.plan import Shard
from pgbench.runner import answer_part, run
from pgbench.samples import files_of

SAMPLES = planted.mmvp(24)
ANSWERS = planted.spoiled(planted.gold("mmvp", SAMPLES), 6)
FAILED = {"7": "no memory"}


def cell() -> Cell:
    return planted.cell(SAMPLES, ANSWERS, task="mmvp", failed=FAILED, batch=5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(cell(), tmp_path_factory.mktemp("whole")).folder


def test_what_is_in_it(whole: Path) -> None:
    found = {(one.metric, one.unit): one for one in units.read(whole)}
    assert len(found) == 24  # twelve pairs, strict and lenient
    for (_, name), one in found.items():
        ids = {str(2 * int(name.split()[1]) + place) for place in (1, 2)}
        assert set(one.samples) == ids
        right = all(ANSWERS[sample] != "unlike" and sample not in FAILED for sample in ids)
        assert one.sums["sum"] == float(right)
    record = store.read_record(whole)
    assert record is not None
    pairs = sum(one.sums["sum"] for one in found.values() if one.metric == "pair_accuracy")
    assert record.scores["pair_accuracy"].value == pairs / 12


@pytest.mark.parametrize("count", [2, 3])
def test_shards_leave_the_same(tmp_path: Path, whole: Path, count: int) -> None:
    for index in reversed(range(count)):
        part = answer_part(cell(), tmp_path, Shard(index, count))
    outcome = run(cell(), tmp_path)
    assert part is not None
    assert len(files_of(outcome.folder)) > 1
    assert (outcome.folder / units.UNITS).read_bytes() == (whole / units.UNITS).read_bytes()


def test_a_run_killed_between_its_units_and_its_record_leaves_the_same(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / whole.parent.name / whole.name
    shutil.copytree(whole, folder)
    (folder / "record.json").unlink()
    (folder / units.UNITS).write_text("torn")
    outcome = run(cell(), tmp_path)
    assert outcome.folder == folder
    assert (folder / units.UNITS).read_bytes() == (whole / units.UNITS).read_bytes()


def test_they_are_written_before_the_record(tmp_path: Path) -> None:
    """So that whoever sees a record finds them; what cannot be written leaves all answers."""
    folder = store.folder_of(tmp_path, cell().spec)
    (folder / units.UNITS).mkdir(parents=True)
    with pytest.raises(RunStopped, match=r"units.jsonl.*; all answers are kept, the same command goes on"):
        run(cell(), tmp_path)
    assert not (folder / "record.json").exists()
    (folder / units.UNITS).rmdir()
    assert run(cell(), tmp_path).record.scores["pair_accuracy"].n == 24


def test_a_record_is_the_same_with_and_without_them(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "write", lambda folder, found: None)
    without = run(cell(), tmp_path)
    assert not (without.folder / units.UNITS).exists()
    monkeypatch.undo()
    assert result(without) == result(run(cell(), whole.parents[1]))


def test_a_finished_run_that_is_gathered_brings_them_along(tmp_path: Path, whole: Path) -> None:
    (merged,) = merge([whole.parents[1]], tmp_path)
    assert (merged.state, merged.folder.parent.parent) == ("done", tmp_path)
    assert (merged.folder / units.UNITS).read_bytes() == (whole / units.UNITS).read_bytes()


def test_names_that_utf8_cannot_hold_come_back(tmp_path: Path) -> None:
    kept = units.Unit("pairs", "\ud800\n\u202e", ("a\x1b", "b"), {"sum": 0.5})
    units.write(tmp_path, [kept])
    assert list(units.read(tmp_path)) == [kept]
    assert len((tmp_path / units.UNITS).read_bytes().splitlines()) == 1
    assert json.loads((tmp_path / units.UNITS).read_bytes())["unit"] == kept.unit

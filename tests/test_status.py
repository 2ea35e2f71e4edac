"""How far a sweep is: told from the folders alone, while others write them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import Fake
from sweeps import Shelf, asked

from pgbench.cli import invoke
from pgbench.errors import StoreError
from pgbench.locks import Lock
from pgbench.recipe.asked import AskedCell
from pgbench.report.sweep_table import of_status
from pgbench.sweeping import state
from pgbench.sweeping.live import looked_at
from pgbench.sweeping.status import CellStatus, Status, answers_of, read_status
from pgbench.sweeping.stop import Stop
from pgbench.sweeping.work import Told, sweep
from pgbench.types import DataRequest

CELLS = [asked("a"), asked("b"), asked("broken"), asked("c")]


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its content and its time."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def swept(out: Path, cells: list[AskedCell] | None = None, stop_at: int | None = None) -> list[Path | None]:
    def make(name: str) -> Fake:
        return Fake(stop_at=stop_at, error=KeyboardInterrupt()) if name == "b" else Fake()

    found = sweep(cells or CELLS, out, engine_of=Shelf(make))
    return [cell.folder for cell in found.cells]


def conditions(out: Path) -> list[str]:
    return [cell.condition for cell in read_status(out).cells]


def test_afterwards_everything_is_done_or_failed(tmp_path: Path) -> None:
    swept(tmp_path)
    status = read_status(tmp_path)
    assert [cell.condition for cell in status.cells] == ["done", "done", "failed", "done"]
    assert status.cells[2].reason == "broken: no weights"
    assert (status.cells[0].answers, status.cells[0].samples, status.cells[0].failed) == (20, 20, 0)
    assert status.counts == {"done": 3, "running": 0, "stopped": 0, "failed": 1, "waiting": 0}
    assert status.rate is None
    assert status.seconds_left == 0.0


def test_after_a_stop_it_says_what_is_left(tmp_path: Path) -> None:
    swept(tmp_path, stop_at=3)  # the warm-up and two batches of b
    status = read_status(tmp_path)
    assert [cell.condition for cell in status.cells] == ["done", "stopped", "waiting", "waiting"]
    assert [cell.answers for cell in status.cells] == [20, 8, 0, 0]
    assert [cell.samples for cell in status.cells] == [20] * 4  # of the same data
    rates = sorted(cell.rate for cell in status.cells if cell.rate)
    middle = (rates[0] + rates[1]) / 2
    assert status.seconds_left == pytest.approx((12 + 20 + 20) / middle)


def test_without_sweep_json_the_folders_are_the_truth(tmp_path: Path) -> None:
    swept(tmp_path, stop_at=3)
    (tmp_path / state.FILE).unlink()
    assert sorted(conditions(tmp_path)) == ["done", "stopped"]


def test_a_cell_says_its_mode(tmp_path: Path) -> None:
    folder = swept(tmp_path, [asked("a"), asked("b")], stop_at=3)[0]
    assert folder is not None
    spec = json.loads((folder / "spec.json").read_text())
    spec["spec"]["mode"] = "likelihood"
    (folder / "spec.json").write_text(json.dumps(spec))
    status = read_status(tmp_path)
    assert [cell.mode for cell in status.cells] == ["likelihood", "generate"]
    assert [row[0].endswith(" (likelihood)") for row in of_status(status).rows] == [True, False]


def test_it_writes_nothing(tmp_path: Path) -> None:
    folder = swept(tmp_path, stop_at=3)[1]
    assert folder is not None
    with Lock(folder / ".lock-0-of-1", beat=None):
        before = snapshot(tmp_path)
        read_status(tmp_path)
        assert snapshot(tmp_path) == before


def test_a_held_lock_is_a_run_that_runs(tmp_path: Path) -> None:
    folder = swept(tmp_path, stop_at=3)[1]
    assert folder is not None
    with Lock(folder / ".lock-0-of-1"):
        status = read_status(tmp_path)
        assert status.cells[1].condition == "running"
        assert status.cells[1].holders[0].startswith("pid ")
        assert status.rate == status.cells[1].rate
        assert status.rate is not None
        assert status.seconds_left == pytest.approx((12 + 20 + 20) / status.rate)
    assert read_status(tmp_path).cells[1].condition == "stopped"


def test_a_cell_that_is_being_loaded_runs_while_its_sweep_does(tmp_path: Path) -> None:
    swept(tmp_path, stop_at=3)
    document = json.loads((tmp_path / state.FILE).read_text())
    document["cells"][3]["state"] = "running"
    (tmp_path / state.FILE).write_text(json.dumps(document))
    assert conditions(tmp_path)[3] == "waiting"  # that sweep was killed
    with Lock(tmp_path / state.LOCK):
        assert conditions(tmp_path)[3] == "running"


def test_a_run_of_several_shards_is_one_cell(tmp_path: Path) -> None:
    folder = swept(tmp_path, stop_at=3)[1]
    assert folder is not None
    (whole,) = folder.glob("samples-*.jsonl")
    lines = whole.read_bytes().splitlines(keepends=True)
    rate = looked_at(whole).rate
    assert rate is not None
    whole.unlink()
    for number in range(2):
        (folder / f"samples-{number}-of-2.jsonl").write_bytes(b"".join(lines[4 * number : 4 * number + 4]))
    assert answers_of(folder) == 8
    with Lock(folder / ".lock-1-of-2"):
        cell = read_status(tmp_path).cells[1]
        assert (cell.condition, cell.answers) == ("running", 8)
        assert cell.rate == looked_at(folder / "samples-1-of-2.jsonl").rate  # the other shard has ended


def test_a_torn_line_is_no_answer(tmp_path: Path) -> None:
    folder = swept(tmp_path, stop_at=3)[1]
    assert folder is not None
    with (folder / "samples-0-of-1.jsonl").open("ab") as file:
        file.write(b'{"id": "torn')
    assert read_status(tmp_path).cells[1].answers == 8


def line(batch: int, seconds: float, **more: object) -> bytes:
    return (
        json.dumps({"batch": batch, "seconds": seconds, "error": None, "reused": "", **more}).encode() + b"\n"
    )


def test_speed_is_of_the_latest_batches_and_of_generated_answers(tmp_path: Path) -> None:
    path = tmp_path / "samples-0-of-1.jsonl"
    path.write_bytes(line(0, 9.0) * 4 + line(1, 2.0) * 4 + line(2, 2.0) * 3 + line(2, 2.0, reused="f00"))
    assert looked_at(path).rate == pytest.approx(4 / 2)  # the first batch of the tail may be cut in two
    path.write_bytes(line(0, 0.0, reused="f00") * 4)
    assert looked_at(path).rate is None
    long = b"".join(line(number, 1.0, output="x" * 1000) * 2 for number in range(400))
    path.write_bytes(line(0, 900.0) * 2 + long + line(400, 1.0) * 2)
    assert looked_at(path).rate == pytest.approx(2.0)
    assert looked_at(path).answers == 804


@pytest.mark.parametrize("spoil", [lambda p: p.write_text("{"), lambda p: p.write_text("[]")])
def test_a_damaged_spec_or_record_is_said(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    folders = swept(tmp_path)
    assert folders[0] is not None
    assert folders[1] is not None
    spoil(folders[0] / "spec.json")
    spoil(folders[1] / "record.json")
    found = read_status(tmp_path).cells
    assert [cell.condition for cell in found] == ["failed", "failed", "failed", "done"]
    assert "spec.json" in found[0].reason
    assert "record.json" in found[1].reason


def test_a_foreign_folder_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "some" / "project").mkdir(parents=True)
    (tmp_path / "some" / "project" / "spec.json").write_text('{"openapi": "3.1"}')
    assert read_status(tmp_path).cells == ()
    (tmp_path / "sweep.json").write_text('{"sweep": "of a chimney"}')
    with pytest.raises(StoreError, match="no state of a sweep that this pgbench reads"):
        read_status(tmp_path)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["status", str(tmp_path / "nowhere")]) == 2
    assert "nowhere is no folder; name the --out of a sweep or of runs" in capsys.readouterr().err


def test_an_empty_folder_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["status", str(tmp_path)]) == 0
    assert "no runs below" in capsys.readouterr().out
    assert invoke(["status", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == []


def test_a_cell_that_failed_and_was_mended_is_done(tmp_path: Path) -> None:
    cell = asked("b")
    sweep([cell], tmp_path, engine_of=Shelf(lambda name: Fake(stop_at=3)))
    assert conditions(tmp_path) == ["failed"]
    told = (tmp_path / state.FILE).read_bytes()
    sweep([cell], tmp_path, engine_of=Shelf())
    (tmp_path / state.FILE).write_bytes(told)  # as a run of that cell alone would have left it
    assert conditions(tmp_path) == ["done"]


def test_a_sweep_that_goes_on_counts_no_cell_twice(tmp_path: Path) -> None:
    swept(tmp_path)
    seen: list[list[str]] = []

    def look(name: str) -> Fake:
        seen.append(conditions(tmp_path))
        return Fake()

    cells = [asked("a", seed=1), *CELLS]
    sweep(cells, tmp_path, engine_of=Shelf(look))
    assert seen == [["running", "done", "done", "waiting", "done"]]


def test_sizes_are_known_whoever_answers(tmp_path: Path) -> None:
    cells = [replace(cell, source=None, data=DataRequest("", path="d")) for cell in (asked("a"), asked("b"))]
    rows = [Told(cells[0], "running", samples=20), Told(cells[1])]
    with state.Ledger(tmp_path) as ledger:
        ledger.write(rows)
    assert [cell.samples for cell in read_status(tmp_path).cells] == [20, 20]


def test_shards_that_wait_to_be_merged_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swept(tmp_path, cells=[asked("a")])
    next(tmp_path.glob("*/*/record.json")).unlink()
    assert invoke(["status", str(tmp_path)]) == 0
    assert "1 stopped with all answers: pgbench merge" in capsys.readouterr().out


def test_a_damaged_sweep_json_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / state.FILE).write_text("{")
    with pytest.raises(StoreError, match=r"remove it: the run folders hold all answers"):
        read_status(tmp_path)


def test_a_file_in_place_of_the_folder_is_refused_with_a_next_step(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StoreError, match=r"File exists; name a folder that can be written with --out"):
        state.Ledger(tmp_path / "out")


def test_what_is_left_and_failed_is_no_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep([replace(asked("broken"), where="s.yaml:3")], tmp_path, engine_of=Shelf())
    assert invoke(["status", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "all that is left has failed" in said
    assert "(s.yaml:3): broken: no weights" in said


def test_unknown_sizes_are_counted_and_make_no_time() -> None:
    cell = CellStatus("gqa", "a", "none", "bfloat16", "waiting")
    assert (Status((cell,)).unknown, Status((cell,)).seconds_left) == (1, None)
    assert Status(()).seconds_left == 0.0


def test_it_never_fails_while_a_sweep_writes(tmp_path: Path) -> None:
    stop, done = Stop(), threading.Event()
    seen: set[str] = set()
    errors: list[Exception] = []

    def look() -> None:
        while not done.is_set():
            try:
                seen.update(cell.condition for cell in read_status(tmp_path).cells)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test is to show it
                errors.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    slow = Shelf(lambda name: Fake(sleep=lambda size: time.sleep(0.02)))
    sweep([asked("a"), asked("b"), asked("a", seed=1)], tmp_path, engine_of=slow, stop=stop)
    done.set()
    thread.join()
    assert errors == []
    assert {"running", "waiting", "done"} <= seen


def test_one_cell_is_no_cells(tmp_path: Path) -> None:
    swept(tmp_path, CELLS[:1])
    assert of_status(read_status(tmp_path)).title == ("1 cell: 1 done; 20 answers",)


def test_the_table_and_the_document_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swept(tmp_path, stop_at=3)
    assert invoke(["status", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert "4 cells: 1 done, 1 stopped, 2 waiting; 28 answers" in table
    assert "nothing answers now; about " in table
    assert invoke(["status", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"done": 1, "running": 0, "stopped": 1, "failed": 0, "waiting": 2}
    assert [cell["answers"] for cell in found["cells"]] == [20, 8, 0, 0]
    assert found["seconds_left"] > 0

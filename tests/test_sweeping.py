"""Many cells in one process: what is shared, what fails alone, what a stop keeps, what a lock says."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import Fake
from sweeps import Shelf, asked

from pgbench.backends import Engine
from pgbench.cli import stopping
from pgbench.errors import StoreError
from pgbench.locks import Lock
from pgbench.recipe.asked import AskedCell
from pgbench.records import essence
from pgbench.runner import Progress
from pgbench.samples import read_lines
from pgbench.sweeping import state
from pgbench.sweeping.opening import engine_of
from pgbench.sweeping.stop import Stop
from pgbench.sweeping.work import Swept, Told, Watch, sweep
from pgbench.types import DataRequest, ModelRequest


class After(Watch):
    """Does something when so many answers are kept, in all cells together; hears what ended."""

    def __init__(self, answers: int = 0, act: object = None) -> None:
        self.answers, self.act, self.seen = answers, act, 0
        self.heard: list[str] = []

    @contextlib.contextmanager
    def _cell(self) -> Iterator[Progress]:
        before = self.seen

        def progress(done: int, total: int) -> None:
            self.seen = before + done
            if self.seen >= self.answers and callable(self.act):
                act, self.act = self.act, None
                act()

        yield progress

    def cell(self, asked: AskedCell) -> AbstractContextManager[Progress]:
        return self._cell()

    def ended(self, told: Told) -> None:
        self.heard.append(told.state)


def states(swept: Swept) -> list[str]:
    return [cell.state for cell in swept.cells]


def result(told: Told) -> dict[str, object]:
    assert told.record is not None
    assert told.folder is not None
    return essence(told.record, read_lines(told.folder))


# A loaded checkpoint is shared


def test_consecutive_cells_of_one_checkpoint_load_it_once(tmp_path: Path) -> None:
    shelf = Shelf()
    cells = [asked("a"), asked("a", limit=24), asked("b"), asked("a", seed=1)]
    swept = sweep(cells, tmp_path, engine_of=shelf)
    assert states(swept) == ["done"] * 4
    assert shelf.loads == ["a", "b", "a"]
    assert all(backend.closed for backend in shelf.made)
    shared = [cell.record.cost.shared_load for cell in swept.cells if cell.record]
    assert shared == [False, True, False, False]


def test_a_finished_cell_loads_nothing(tmp_path: Path) -> None:
    shelf = Shelf()
    sweep([asked("a")], tmp_path, engine_of=shelf)
    swept = sweep([asked("a"), asked("a", limit=24)], tmp_path, engine_of=shelf)
    assert [cell.already_done for cell in swept.cells] == [True, False]
    assert shelf.loads == ["a", "a"]


@pytest.mark.parametrize("quant", ["none", "4bit"])
def test_a_tiny_checkpoint_is_loaded_once_and_answers_as_alone(tmp_path: Path, quant: str) -> None:
    loads: list[str] = []

    def counted(backend: str, model: ModelRequest) -> Engine:
        engine = engine_of(backend, model)

        def load() -> object:
            loads.append(engine.checkpoint.id)
            return engine.load()

        return replace(engine, load=load)  # type: ignore[arg-type]

    model = ModelRequest("tiny-gemma", dtype="float32", quant=quant, device="cpu")  # type: ignore[arg-type]
    first = AskedCell("textvqa", model, DataRequest(""), source="demo", limit=8, reuse=False)
    cells = [first, replace(first, seed=1)]
    together = sweep(cells, tmp_path / "together", engine_of=counted)
    assert loads == ["tiny-gemma"]
    alone = [sweep([cell], tmp_path / "alone").cells[0] for cell in cells]
    assert [result(cell) for cell in together.cells] == [result(cell) for cell in alone]


# What fails, fails alone


def test_a_cell_that_fails_stops_no_other(tmp_path: Path) -> None:
    def make(name: str) -> Fake:
        return Fake(stop_at=3) if name == "dies" else Fake()

    shelf = Shelf(make)
    cells = [asked("broken"), asked("a", variant="nope"), asked("dies"), asked("a"), asked(source="nowhere")]
    swept = sweep(cells, tmp_path, engine_of=shelf)
    assert states(swept) == ["failed", "failed", "failed", "done", "failed"]
    assert not swept.whole
    reasons = [cell.reason for cell in swept.cells]
    assert reasons[0] == "broken: no weights"
    assert "unknown variant of textvqa 'nope'" in reasons[1]
    assert reasons[2].startswith("unexpected RuntimeError: the device is gone (fakes.py, line ")
    assert reasons[3] == ""
    assert "unknown source of textvqa 'nowhere'" in reasons[4]


def test_a_backend_that_failed_is_not_lent_on(tmp_path: Path) -> None:
    shelf = Shelf(lambda name: Fake(stop_at=0) if not shelf.made else Fake())
    swept = sweep([asked("a"), asked("a", seed=1)], tmp_path, engine_of=shelf)
    assert states(swept) == ["failed", "done"]
    assert shelf.loads == ["a", "a"]
    assert shelf.made[0].closed


@pytest.mark.parametrize(("allowed", "state"), [(1, "failed"), (2, "done")])
def test_more_failed_samples_than_allowed_fail_the_cell(tmp_path: Path, allowed: int, state: str) -> None:
    first = sweep([asked("a")], tmp_path / "ids", engine_of=Shelf()).cells[0]
    ids = [line.id for line in read_lines(first.folder or tmp_path)][:2]
    shelf = Shelf(lambda name: Fake(refused=dict.fromkeys(ids, "torn")))
    (told,) = sweep([asked("a", max_failures=allowed)], tmp_path, engine_of=shelf).cells
    assert told.state == state
    assert told.record is not None  # the answers are worth keeping either way
    assert ("2 samples failed, 1 allowed" in told.reason) == (state == "failed")


def test_a_folder_that_cannot_be_written_stops_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        sweep([asked("a")], tmp_path / "file" / "below", engine_of=Shelf())


# A stop keeps what was answered


def test_a_stop_comes_at_the_end_of_a_batch_and_the_same_call_goes_on(tmp_path: Path) -> None:
    cells = [asked("a"), asked("b"), asked("c")]
    whole = sweep(cells, tmp_path / "whole", engine_of=Shelf())
    stop, shelf = Stop(), Shelf()
    watch = After(28, lambda: stop.ask("terminated"))
    swept = sweep(cells, tmp_path / "out", engine_of=shelf, stop=stop, watch=watch)
    assert states(swept) == ["done", "stopped", "waiting"]
    assert (swept.stopped, swept.cells[1].reason) == ("terminated", "terminated")
    folder = swept.cells[1].folder
    assert folder is not None
    assert len(list(read_lines(folder))) == 8
    assert watch.heard == ["done"]
    assert all(backend.closed for backend in shelf.made)
    again = Shelf()
    resumed = sweep(cells, tmp_path / "out", engine_of=again)
    assert again.loads == ["b", "c"]
    assert again.made[0].batches[-1] != []
    assert sum(map(len, again.made[0].batches[1:])) == 12  # the first one is the warm-up
    assert list(map(result, resumed.cells)) == list(map(result, whole.cells))


def test_a_stop_in_the_last_batch_leaves_the_cell_done(tmp_path: Path) -> None:
    stop = Stop()
    watch = After(20, lambda: stop.ask("terminated"))
    swept = sweep([asked("a"), asked("b")], tmp_path, engine_of=Shelf(), stop=stop, watch=watch)
    assert states(swept) == ["done", "waiting"]
    assert sweep([asked("a")], tmp_path, engine_of=Shelf(), stop=Stop()).whole


def test_ctrl_c_keeps_the_batches_before_it(tmp_path: Path) -> None:
    shelf = Shelf(lambda name: Fake(stop_at=3, error=KeyboardInterrupt()))
    swept = sweep([asked("a"), asked("b")], tmp_path, engine_of=shelf)
    assert (states(swept), swept.stopped) == (["stopped", "waiting"], "interrupted")
    assert len(list(read_lines(swept.cells[0].folder or tmp_path))) == 8


def test_signals_ask_and_a_second_sigterm_insists() -> None:
    import signal

    before = signal.getsignal(signal.SIGTERM)
    for number in (signal.SIGUSR1, signal.SIGTERM):
        with stopping.at_batch_end() as stop:
            os.kill(os.getpid(), number)
            stop.at_boundary(4, 4)  # nothing is missing: no reason to stop
            with pytest.raises(KeyboardInterrupt):
                stop.at_boundary(0, 4)
            with pytest.raises(KeyboardInterrupt, match="terminated"):
                os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_without_the_main_thread_no_signal_is_heard() -> None:
    found: list[str] = []

    def work() -> None:
        with stopping.at_batch_end() as stop:
            found.append(stop.reason)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [""]


# Two processes on one folder


def lock_of(cells: list[AskedCell], number: int, out: Path) -> Lock:
    """The lock of that cell's run, as another process would hold it."""
    folder = sweep(cells[number : number + 1], out.parent / "probe", engine_of=Shelf()).cells[0].folder
    assert folder is not None
    return Lock(out / folder.relative_to(out.parent / "probe") / ".lock-0-of-1")


def test_a_locked_cell_is_left_to_its_holder(tmp_path: Path) -> None:
    cells = [asked("a"), asked("b")]
    watch = After()
    with lock_of(cells, 0, tmp_path / "out"):
        swept = sweep(cells, tmp_path / "out", engine_of=Shelf(), watch=watch)
    assert states(swept) == ["locked", "done"]
    assert f"another process is writing it (pid {os.getpid()} on " in swept.cells[0].reason
    assert watch.heard == ["done", "locked"]


def test_sweep_json_names_no_machine_and_no_folder(tmp_path: Path) -> None:
    cells = [asked("a"), AskedCell("textvqa", ModelRequest(), DataRequest("", path=str(tmp_path / "data")))]
    with lock_of(cells, 0, tmp_path / "out"):
        swept = sweep(cells, tmp_path / "out", engine_of=Shelf())
    told = [cell["reason"] for cell in state.read(tmp_path / "out")]
    assert all(str(tmp_path) in cell.reason for cell in swept.cells)
    assert not any(str(tmp_path) in reason or socket.gethostname() in reason for reason in told)
    assert f"another process is writing it (pid {os.getpid()}, last heartbeat" in told[0]


def test_a_lock_that_went_away_meanwhile_is_tried_again(tmp_path: Path) -> None:
    cells = [asked("a"), asked("b")]
    lock = lock_of(cells, 0, tmp_path / "out")
    lock.__enter__()
    watch = After(8, lambda: lock.__exit__(None, None, None))
    swept = sweep(cells, tmp_path / "out", engine_of=Shelf(), watch=watch)
    assert states(swept) == ["done", "done"]
    assert watch.heard == ["done", "done"]


def test_sweep_json_has_one_writer(tmp_path: Path) -> None:
    with Lock(tmp_path / state.LOCK):
        assert sweep([asked("a")], tmp_path, engine_of=Shelf()).whole
        assert not (tmp_path / state.FILE).exists()
        assert state.is_written(tmp_path)
    sweep([asked("a"), asked("broken")], tmp_path, engine_of=Shelf())
    assert not state.is_written(tmp_path)
    told = json.loads((tmp_path / state.FILE).read_text())
    assert [cell["state"] for cell in told["cells"]] == ["done", "failed"]
    assert told["cells"][1]["reason"] == "broken: no weights"
    assert str(tmp_path) not in (tmp_path / state.FILE).read_text()

"""--batch-size auto: found once by trying, stored beside the runs, used and named from then on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import SPEC, Fake, make_cell, make_samples
from sweeps import Shelf, asked
from test_sweeping_preview import V1, size

from pgbench import runner
from pgbench.backends import Backend, Engine
from pgbench.batching import LONGEST_FIRST
from pgbench.cli import invoke
from pgbench.engines import wire
from pgbench.engines.ray_board import _with_stored_size
from pgbench.errors import CheckpointError, OutOfMemory, StoreError, UsageError
from pgbench.records import PeakMemory
from pgbench.report.preview_table import of_preview
from pgbench.report.sweep_json import of_preview as document
from pgbench.sweeping import sizes, sizing
from pgbench.sweeping.opening import open_cell
from pgbench.sweeping.preview import preview
from pgbench.sweeping.work import sweep
from pgbench.types import ModelRequest, Prepared, Reply

NEW = replace(SPEC, batching=LONGEST_FIRST, batch=0)
SAMPLES = make_samples(100)
CLOCK = [0.0]  # seconds
SIZED = '{{"schema": 1, "of": "HERE", "found": {{"size": {}, "why": "no gain"}}}}'


@pytest.fixture(autouse=True)
def own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "time", SimpleNamespace(perf_counter=lambda: CLOCK[0]))


@dataclass
class Timed(Fake):
    """Takes `each` seconds a sample and `once` a call, by its own clock; has room for so many at once."""

    once: float = 0.004
    each: float = 0.0
    room: int = 10_000
    a_sample: int = 0  # bytes that one takes
    kind: str = "process resident"
    peak: int = 100

    def generate(self, batch: Sequence[Prepared]) -> Sequence[Reply]:
        if len(batch) > self.room:
            raise OutOfMemory(f"no room for {len(batch)}")
        self.peak = max(self.peak, 100 + self.a_sample * len(batch))
        CLOCK[0] += self.once + self.each * len(batch)
        return super().generate(batch)

    def peak_memory(self) -> PeakMemory:
        return PeakMemory(self.peak, self.kind)  # type: ignore[arg-type]

    def restart_peak(self) -> None:
        return None


def found(backend: Fake, count: int = 100) -> sizes.Found:
    return sizing.search(make_cell(SAMPLES[:count], backend, spec=NEW), backend)


def test_sizes_are_doubled_until_memory_is_not_enough() -> None:
    backend = Timed(room=20)
    here = found(backend)
    assert (here.size, here.why) == (16, "out of memory")
    assert [one.size for one in here.tried] == [1, 2, 4, 8, 16]
    assert max(map(len, backend.batches)) == 16


def test_and_until_there_is_nothing_to_gain() -> None:
    here = found(Timed(once=0.0002, each=0.004))  # twice as many take twice as long
    assert (here.size, here.why) == (1, "no gain")
    assert [one.size for one in here.tried] == [1, 2, 4]
    later = found(Timed(once=0.02, each=0.002))  # 64 are 1.13 times as fast as 32, 100 are 1.09 times
    assert (later.size, later.why) == (64, "all samples")


def test_and_until_all_samples_are_in_one_batch() -> None:
    here = found(Timed(), count=10)
    assert (here.size, here.why, here.tried[-1].samples) == (16, "all samples", 10)
    assert found(Timed()).tried[-1].samples == 100


def test_and_until_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "LARGEST", 4)
    assert (found(Timed()).size, found(Timed()).why) == (4, "largest tried")


@pytest.mark.parametrize(
    ("kind", "size", "why"), [("process resident", 8, "memory bound"), ("device", 64, "")]
)
def test_a_process_stops_before_the_memory_of_the_machine_does(
    kind: str, size: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizing, "free_memory", lambda: 9_000)
    here = found(Timed(a_sample=1_000, kind=kind, room=64))  # eight more would take 8,000 of the 9,000
    assert (here.size, here.why) == (size, why or "out of memory")


def test_free_memory_is_known_here() -> None:
    assert (sizing.free_memory() or 0) > 1 << 20


def test_a_single_sample_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(
        CheckpointError, match="out of memory with a single sample; take a checkpoint of fewer"
    ):
        found(Timed(room=0))


def test_samples_that_all_fail_say_nothing() -> None:
    refused = dict.fromkeys((sample.id for sample in SAMPLES), "broken")
    assert found(Timed(refused=refused)).size == 1


def loaded(shelf: Shelf, device: str = "some GPU") -> object:
    """Engines that say which device they are for."""

    def engine_of(backend: str, model: ModelRequest) -> Engine:
        return replace(shelf(backend, model), device=lambda: device)

    return engine_of


def timed(room: int = 12) -> Shelf:
    return Shelf(lambda name: Timed(room=room, once=0.002), size=size(V1))


def test_a_sweep_finds_it_once_and_the_key_holds_it(tmp_path: Path) -> None:
    shelf, cells = timed(), [asked("a", batch="auto"), asked("a", batch="auto", seed=1)]
    swept = sweep(cells, tmp_path, engine_of=loaded(shelf))  # type: ignore[arg-type]
    assert [cell.state for cell in swept.cells] == ["done", "done"]
    assert [cell.spec.batch for cell in swept.cells if cell.spec] == [8, 8]
    assert len(list((tmp_path / "batch-sizes").glob("*.json"))) == 1  # prompts are about as long
    assert shelf.loads == ["a"]
    again = sweep(cells, tmp_path, engine_of=loaded(later := timed(4)))  # type: ignore[arg-type]
    assert [cell.already_done for cell in again.cells] == [True, True]
    assert later.loads == []
    named = sweep([asked("a", batch=8)], tmp_path, engine_of=loaded(later))  # type: ignore[arg-type]
    assert named.cells[0].already_done
    # the first cell loaded it, if to find its size; the second one did not
    costs = [cell.record.cost for cell in swept.cells if cell.record]
    assert [cost.shared_load for cost in costs] == [False, True]
    assert costs[0].load_seconds == costs[1].load_seconds


def test_a_small_part_says_nothing_of_the_whole(tmp_path: Path) -> None:
    def batch(limit: int) -> int:
        cell = asked("a", batch="auto", limit=limit)
        told = sweep([cell], tmp_path, engine_of=loaded(timed(70))).cells[0]  # type: ignore[arg-type]
        assert told.spec is not None
        return told.spec.batch

    assert batch(8) == 8
    assert batch(100) == 64  # not 8 because of a look at a few
    assert batch(8) == 8  # and goes on under its key


def test_another_device_level_or_shape_is_found_anew(tmp_path: Path) -> None:
    def batch(shelf: Shelf, device: str = "some GPU", **more: object) -> int:
        cell = asked("a", batch="auto", **more)
        told = sweep([cell], tmp_path, engine_of=loaded(shelf, device)).cells[0]  # type: ignore[arg-type]
        assert told.spec is not None
        return told.spec.batch

    assert batch(timed(12)) == 8
    assert batch(timed(4)) == 8  # stored
    assert batch(timed(4), "another GPU") == 4
    level = replace(asked("a", batch="auto"), model=ModelRequest("a", quant="4bit"))
    told = sweep([level], tmp_path, engine_of=loaded(timed(2))).cells[0]  # type: ignore[arg-type]
    assert told.spec is not None
    assert told.spec.batch == 2


def test_what_is_stored_first_counts(tmp_path: Path) -> None:
    cell = make_cell(SAMPLES, Fake(), spec=NEW)
    wanted = sizes.shape(cell, "cpu")
    assert sizes.find(tmp_path, wanted) is None
    assert sizes.keep(tmp_path, wanted, sizes.Found(8, "no gain")).size == 8
    assert sizes.keep(tmp_path, wanted, sizes.Found(4, "no gain")).size == 8
    assert sizes.foreseen(cell, tmp_path) == 8
    sizes.keep(tmp_path, sizes.shape(cell, "cuda"), sizes.Found(32, "no gain"))
    assert sizes.foreseen(cell, tmp_path) is None  # which of the two is not known without the device


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[" * 100_000, '{"schema": 1, "of": null, "found": []}'),
        '{"schema": 1, "of": {}, "found": {"size": 0, "why": "no gain"}}',
        *(SIZED.format(size) for size in ("0", "257", "1" + "0" * 400, "8.0", "true", '"8"')),
    ],
)
def test_a_file_that_says_nothing_is_written_anew(text: str, tmp_path: Path) -> None:
    cell = make_cell(SAMPLES, Fake(), spec=NEW)
    wanted = sizes.shape(cell, "cpu")
    sizes.keep(tmp_path, wanted, sizes.Found(8, "no gain"))
    (path,) = (tmp_path / "batch-sizes").glob("*.json")
    path.write_text(text.replace('"HERE"', json.dumps(json.loads(path.read_text())["of"])))
    assert sizes.find(tmp_path, wanted) is None
    assert sizes.foreseen(cell, tmp_path) is None
    assert sizes.keep(tmp_path, wanted, sizes.Found(4, "no gain")).size == 4
    other = json.loads(path.read_text()) | {"of": {"device": "another"}}
    path.write_text(json.dumps(other))  # of another shape: it was moved there
    assert sizes.find(tmp_path, wanted) is None


def test_a_backend_without_a_model_needs_no_trying(tmp_path: Path) -> None:
    cell, _ = open_cell(asked(batch="auto"))
    assert sizing.settled(cell, tmp_path).spec.batch == sizing.DEFAULT
    assert not any(tmp_path.iterdir())
    with pytest.raises(UsageError, match="batch size is not known yet"):
        runner.run(cell, tmp_path)


def test_a_look_ahead_says_what_it_can(tmp_path: Path) -> None:
    shelf, cells = timed(), [asked("a", batch="auto")]
    (before,) = preview(cells, tmp_path, shelf)
    assert (before.auto, before.runs, before.left, before.memory) == (True, True, 20, None)
    assert any("batch size auto: not found yet for 1 cell" in note for note in of_preview([before]).notes)
    assert _batch_sizes([before]) == ["auto"]
    sweep(cells, tmp_path, engine_of=loaded(shelf))  # type: ignore[arg-type]
    (after,) = preview(cells, tmp_path, shelf)
    assert (after.auto, after.told.state) == (False, "done")
    assert after.memory is not None
    assert _batch_sizes([after]) == [8]


def _batch_sizes(cells: object) -> list[object]:
    return [cell["batch_size"] for cell in document(cells)["cells"]]  # type: ignore[arg-type, attr-defined]


def test_ray_takes_a_stored_size_and_finds_none(tmp_path: Path) -> None:
    shelf, cells = timed(), [asked("a", batch="auto")]
    cell, _ = open_cell(cells[0], shelf)
    with pytest.raises(UsageError, match=r"no size is stored for this cell.*or name a size"):
        _with_stored_size(cell, tmp_path)
    sweep(cells, tmp_path, engine_of=loaded(shelf))  # type: ignore[arg-type]
    assert _with_stored_size(cell, tmp_path).spec.batch == 8


def test_the_word_travels_to_worker_processes() -> None:
    job = wire.Job("runs", asked("a", batch="auto"))
    assert wire.parse(wire.Job, wire.dump(job)) == job


@pytest.mark.parametrize("word", ["0", "-1", "many", "1.5", "", "²", "9" * 20])
def test_another_word_is_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "--task", "textvqa", "--backend", "oracle", f"--batch-size={word}"]) == 2
    assert f"--batch-size {word!r}: expected a whole number of 1 or more, or auto" in capsys.readouterr().err


def test_the_command_says_what_it_took(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--task", "textvqa", "--backend", "oracle", "--batch-size", "auto", "--limit", "20"]
    assert invoke(["run", *command, "--out", str(tmp_path)]) == 0
    assert "batches of 8 (--batch-size auto)" in capsys.readouterr().err
    recipe = tmp_path / "sweep.yaml"
    recipe.write_text("tasks: [textvqa]\ndefaults: {backend: oracle, batch_size: auto, limit: 20}\n")
    assert invoke(["sweep", str(recipe), "--out", str(tmp_path)]) == 0
    assert "already" in capsys.readouterr().out


def test_a_backend_is_closed_where_trying_ends_in_an_error(tmp_path: Path) -> None:
    backend = Timed(room=0)
    engine = Engine(SPEC.checkpoint, lambda: backend, device=lambda: "cpu")
    cell = replace(make_cell(SAMPLES, backend, spec=NEW), engine=engine)
    with pytest.raises(CheckpointError):
        sizing.settled(cell, tmp_path)
    assert backend.closed
    assert not any(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    shelf = timed()
    swept = open_cell(asked("a", batch="auto"), loaded(shelf))[0]  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="cannot create"):
        sizing.settled(swept, tmp_path / "file" / "runs")
    assert not shelf.loads


def test_a_size_of_its_own_is_left_alone(tmp_path: Path) -> None:
    def load() -> Backend:
        raise AssertionError("nothing is to be found out")

    cell = replace(
        make_cell(SAMPLES, Fake(), spec=replace(NEW, batch=3)), engine=Engine(SPEC.checkpoint, load)
    )
    assert sizing.settled(cell, tmp_path) is cell

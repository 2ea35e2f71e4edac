"""`--engine ray`: workers elsewhere come to the records of one process, whatever happens to them.

Most of it is shown without Ray, with workers that run here; the last part starts a real one with two workers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kills import SLOW_FAILURES, SLOW_TASK

from pgbench import store
from pgbench.backends import Engine
from pgbench.engines import ray as engine
from pgbench.engines import ray_cell, ray_cluster
from pgbench.engines.ray_board import Board, Open
from pgbench.engines.ray_cluster import joined, why
from pgbench.engines.ray_dispatch import Crew, Dispatch, Event, Need
from pgbench.engines.ray_worker import Begun, Worker, read
from pgbench.errors import RunStopped, StoreError, UsageError
from pgbench.plan import WHOLE
from pgbench.recipe.asked import AskedCell
from pgbench.records import Stack, essence
from pgbench.samples import Samples, read_lines
from pgbench.sweeping import work
from pgbench.sweeping.opening import engine_of
from pgbench.sweeping.state import Ledger
from pgbench.sweeping.stop import Stop
from pgbench.sweeping.work import Swept, Told, Watch
from pgbench.types import DataRequest, ModelRequest

SAMPLES, BATCH = 200, 8  # of the demo's drawings
BATCHES = SAMPLES // BATCH
OTHER = ModelRequest(style="official")  # another checkpoint, as far as loading goes
TEXTVQA = AskedCell(
    "textvqa", ModelRequest(), DataRequest(split=""), backend="oracle", source="demo", batch=BATCH
)


def slow(
    folder: Path, seconds: float | str = 0.0, *, before: str = "", after: str = "", name: str = "slow"
) -> AskedCell:
    """A task of a file of its own, with failures in it."""
    path = folder / f"{name}.py"
    path.write_text(before + SLOW_TASK.format(seconds=seconds).replace('"slow"', repr(name)) + after)
    return dataclasses.replace(TEXTVQA, task=str(path), max_failures=SLOW_FAILURES)


class Here(Crew):
    """Workers that run in this process, in turns of one message."""

    def __init__(
        self,
        room: int = 3,
        *,
        sent: Callable[[int, bytes], bytes | None] = lambda worker, message: message,
        born: Callable[[int], bool] = lambda worker: True,
    ) -> None:
        """`sent`: what arrives of a message, None where its worker dies; `born`: whether it starts."""
        self._room, self._sent, self._born = room, sent, born
        self.workers: dict[int, Worker] = {}
        self.streams: dict[int, Iterator[bytes]] = {}
        self.starting: list[int] = []
        self.units: list[list[int]] = []
        self.hired = self.most = self.loaded = 0

    def need(self, one: Open) -> Need:
        return Need()

    def room(self, need: Need) -> int:
        return self._room

    def hire(self, need: Need) -> int:
        self.hired += 1
        self.workers[self.hired] = Worker({}, self._engine)
        self.starting.append(self.hired)
        self.most = max(self.most, len(self.workers))
        return self.hired

    def _engine(self, backend: str, model: ModelRequest) -> Engine:
        found = engine_of(backend, model)

        def load() -> Any:
            self.loaded += 1
            return found.load()

        return dataclasses.replace(found, load=load)

    def give(self, worker: int, job: bytes, numbers: Sequence[int]) -> None:
        self.units.append(list(numbers))
        self.streams[worker] = self.workers[worker].answer(job, numbers)

    def events(self, seconds: float) -> list[Event]:
        found = [self._start(worker) for worker in self.starting]
        self.starting = []
        return found + [self._turn(worker) for worker in list(self.streams)]

    def _start(self, worker: int) -> Event:
        return Event(worker, "ready") if self._born(worker) else self._die(worker)

    def _turn(self, worker: int) -> Event:
        message = next(self.streams[worker], None)
        if message is None:
            del self.streams[worker]
            return Event(worker, "ended")
        arrived = self._sent(worker, message)
        return self._die(worker) if arrived is None else Event(worker, "said", arrived)

    def _die(self, worker: int) -> Event:
        self.dismiss(worker)
        return Event(worker, "died", reason="ActorDiedError: the plug was pulled")

    def dismiss(self, worker: int) -> None:
        self.workers.pop(worker)
        self.streams.pop(worker, None)


def swept(
    cells: Sequence[AskedCell],
    out: Path,
    crew: Crew,
    *,
    stop: Stop | None = None,
    watch: Watch | None = None,
    workers: int | None = None,
) -> Swept:
    with Ledger(out) as ledger:
        board = Board(cells, out, watch or Watch(), ledger.write, engine.elsewhere, engine_of)
        return Dispatch(board, crew, stop or Stop(), workers).run()


def results(found: Swept) -> list[dict[str, object]]:
    """What has to be equal, however the cells were answered; each answer is on disk once."""
    assert [cell.state for cell in found.cells] == ["done"] * len(found.cells), found
    return [_result(cell) for cell in found.cells]


def _result(cell: Told) -> dict[str, object]:
    assert cell.folder is not None
    assert cell.record is not None
    assert len(ids_of(cell.folder)) == len(set(ids_of(cell.folder)))
    return essence(cell.record, read_lines(cell.folder))


def ids_of(folder: Path) -> list[str]:
    return [
        str(json.loads(line)["id"])
        for path in folder.glob("samples-*")
        for line in path.read_bytes().splitlines()
    ]


def serial(cells: Sequence[AskedCell], folder: Path) -> list[dict[str, object]]:
    return results(work.sweep(cells, folder / "serial"))


def of_batch(message: bytes, *numbers: int) -> bool:
    return message[:1] == b"L" and json.loads(message[1:].splitlines()[0])["batch"] in numbers


def edited(message: bytes, **changes: object) -> bytes:
    """A batch with its first line changed."""
    first, rest = message[1:].split(b"\n", 1)
    return b"L" + json.dumps(json.loads(first) | changes).encode() + b"\n" + rest


# Without Ray


def test_workers_elsewhere_come_to_the_records_of_one_process(tmp_path: Path) -> None:
    cells = [TEXTVQA, slow(tmp_path), dataclasses.replace(TEXTVQA, model=OTHER, limit=30)]
    crew = Here()
    heard: list[tuple[int, int]] = []

    class Ears(Watch):
        def several(self, done: int, total: int) -> None:
            heard.append((done, total))

    found = swept(cells, tmp_path / "out", crew, watch=Ears())
    assert results(found) == serial(cells, tmp_path)
    assert heard[0] == (0, SAMPLES)
    assert heard[-1] == (430, 430)
    states = json.loads((tmp_path / "out/sweep.json").read_text())["cells"]
    assert [cell["state"] for cell in states] == ["done"] * 3
    assert sorted(chain(*crew.units)) == sorted([*range(BATCHES)] * 2 + [*range(4)])
    assert crew.loaded == 4  # three workers for two cells, and one for the third: it has a unit only


def test_answers_arrive_in_any_order_and_cells_overlap(tmp_path: Path) -> None:
    """A worker that dawdles over its first unit is overtaken by the rest of the sweep."""
    cells = [TEXTVQA, slow(tmp_path)]
    crew, order = Here(), list[int]()
    patience = iter(range(40))
    turn = crew._turn

    def dawdle(worker: int) -> Event:
        if worker == 1 and next(patience, None) is not None:
            return Event(99, "ready")  # nobody that anybody knows
        event = turn(worker)
        if event.what == "said" and event.message[:1] == b"L":
            order.append(json.loads(event.message[1:].splitlines()[0])["batch"])
        return event

    crew._turn = dawdle  # type: ignore[method-assign]
    assert results(swept(cells, tmp_path / "out", crew)) == serial(cells, tmp_path)
    assert order[:BATCHES] != sorted(order[:BATCHES])


def test_there_are_never_more_workers_than_allowed(tmp_path: Path) -> None:
    cells = [TEXTVQA, dataclasses.replace(TEXTVQA, model=OTHER), dataclasses.replace(TEXTVQA, seed=1)]
    crew = Here(room=5)
    results(swept(cells, tmp_path, crew, workers=2))
    assert crew.most == 2
    assert not crew.workers


@pytest.mark.parametrize("seed", range(3))
def test_workers_that_die_anywhere_cost_nothing(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    cells = [TEXTVQA, slow(tmp_path)]
    answered: dict[int, bool] = {}  # of each worker, since its unit began
    deaths, fruitless = [0], [0]  # three fruitless ones in a row would be too many

    def sent(worker: int, message: bytes) -> bytes | None:
        answered[worker] = message[:1] != b"B" and answered.get(worker, False)
        if draw.random() < 0.2 and (answered[worker] or fruitless[0] < 2):
            deaths[0] += 1
            fruitless[0] += not answered[worker]
            return None
        answered[worker] |= message[:1] == b"L"
        return message

    crew = Here(sent=sent)
    assert results(swept(cells, tmp_path / "out", crew)) == serial(cells, tmp_path)
    assert deaths[0] >= 6
    assert fruitless[0] == 2


def test_a_batch_that_kills_every_worker_fails_its_cell_alone_and_can_be_resumed(tmp_path: Path) -> None:
    cells = [TEXTVQA, slow(tmp_path)]
    deaths = list[int]()

    def sent(worker: int, message: bytes) -> bytes | None:
        if of_batch(message, 2) and len(deaths) < 4:  # the first one had answered batch 0
            deaths.append(worker)
            return None
        return message

    crew = Here(sent=sent)
    found = swept(cells, tmp_path / "out", crew)
    assert [cell.state for cell in found.cells] == ["failed", "done"]
    assert "3 workers in a row died over batch 2" in found.cells[0].reason
    assert "the plug was pulled" in found.cells[0].reason
    kept = len(ids_of(found.cells[0].folder or tmp_path))
    assert f"{kept} of 200 answers are kept" in found.cells[0].reason
    assert kept >= 2 * BATCH
    assert len(set(deaths)) == 4
    assert results(swept(cells, tmp_path / "out", Here())) == serial(cells, tmp_path)


def test_a_worker_that_answers_before_it_dies_is_always_replaced(tmp_path: Path) -> None:
    """Retries are counted only where nothing comes of them."""
    units: dict[int, int] = {}

    def sent(worker: int, message: bytes) -> bytes | None:
        if message[:1] == b"L":
            units[worker] = units.get(worker, 0) + 1
        return None if units.get(worker, 0) > 1 else message

    crew = Here(room=1, sent=sent)
    assert results(swept([TEXTVQA], tmp_path / "out", crew)) == serial([TEXTVQA], tmp_path)
    assert crew.hired > 20


def test_workers_that_cannot_start_fail_the_cells_of_their_checkpoint(tmp_path: Path) -> None:
    cells = [TEXTVQA, dataclasses.replace(TEXTVQA, model=OTHER)]
    found = swept(cells, tmp_path, Here(born=lambda worker: worker > 3))
    assert [cell.state for cell in found.cells] == ["failed", "done"]
    assert "3 workers in a row died while they started" in found.cells[0].reason
    assert found.cells[0].folder is not None
    assert not found.cells[0].folder.exists()  # no answer, nothing left


def other_stack(message: bytes) -> bytes:
    if message[:1] != b"B":
        return message
    begun = json.loads(message[1:])
    begun["stack"]["versions"]["torch"] = "0.1 of another"
    return b"B" + json.dumps(begun).encode()


def test_a_worker_with_another_stack_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    crew = Here(sent=lambda worker, message: other_stack(message) if worker == 2 else message)
    assert results(swept([TEXTVQA], tmp_path / "out", crew)) == serial([TEXTVQA], tmp_path)
    assert crew.hired == 3  # nobody came in its place


class Chooses:
    """A backend that names other kernels each time it is loaded, and can go on with those of a run."""

    def __init__(self, backend: Any, kernel: str) -> None:
        self.opens_images, self._backend, self._kernel = False, backend, kernel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def describe(self) -> Stack:
        described: Stack = self._backend.describe()
        return dataclasses.replace(described, attention={"text": self._kernel})

    def go_on_with(self, stack: Stack) -> None:
        self._kernel = stack.attention["text"]


class Choosing(Here):
    def _engine(self, backend: str, model: ModelRequest) -> Engine:
        found = super()._engine(backend, model)
        return dataclasses.replace(found, load=lambda: Chooses(found.load(), f"kernel {self.loaded}"))


def test_workers_go_on_with_the_kernels_that_began_the_run(tmp_path: Path) -> None:
    """Whichever each of them finds fastest; one that was given work too early to be told is replaced."""
    fresh = Choosing()
    assert results(swept([TEXTVQA], tmp_path / "fresh", fresh)) == serial([TEXTVQA], tmp_path)
    assert fresh.hired > 3
    crew = Choosing(sent=lambda worker, message: None if of_batch(message, 8) else message)
    stopped = swept([TEXTVQA], tmp_path / "out", crew).cells[0]
    assert stopped.state == "failed"
    assert "died over batch 8" in stopped.reason
    again = Choosing()
    assert results(swept([TEXTVQA], tmp_path / "out", again)) == serial([TEXTVQA], tmp_path)
    assert again.hired == again.loaded < 3  # they were told, and none was refused


def test_where_every_worker_has_another_stack_the_difference_is_told(tmp_path: Path) -> None:
    deaths = Here(sent=lambda worker, message: None if of_batch(message, 5, 20) else message)
    began = swept([TEXTVQA], tmp_path, deaths).cells[0]
    crew = Here(sent=lambda worker, message: other_stack(message))
    found = swept([TEXTVQA], tmp_path, crew).cells[0]
    assert found.state == "failed"
    assert 'stack.versions.torch: was null, now "0.1 of another"' in found.reason
    assert crew.hired == 3
    assert began.folder is not None
    assert "another" not in (began.folder / "stack.json").read_text()


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("key", "f" * 64, "run.key"),
        ("data", {"digest": "other"}, "run.data.digest"),
    ],
)
def test_a_worker_that_sees_another_run_is_refused(tmp_path: Path, part: str, change: Any, told: str) -> None:
    def sent(worker: int, message: bytes) -> bytes:
        if message[:1] != b"B":
            return message
        begun = json.loads(message[1:])
        begun[part] = begun[part] | change if isinstance(change, dict) else change
        return b"B" + json.dumps(begun).encode()

    found = swept([TEXTVQA], tmp_path, Here(sent=sent)).cells[0]
    assert found.state == "failed"
    assert told in found.reason
    assert found.folder is not None
    assert not found.folder.exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda message: edited(message, id="somebody else"),
        lambda message: edited(message, batch=4),
        lambda message: message[:-2],
        lambda message: b"L" + b"".join(message[1:].splitlines(keepends=True)[1:]),
        lambda message: message + message[1:],
        lambda message: b"L",
        lambda message: b"S{}",
        lambda message: b"?what",
    ],
    ids=["id", "batch", "torn", "short", "twice", "empty", "session", "letter"],
)
def test_what_is_no_batch_of_the_plan_is_never_written(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    spoilt = Here(sent=lambda worker, message: spoil(message) if of_batch(message, 3) else message)
    found = swept([TEXTVQA], tmp_path / "out", spoilt).cells[0]
    assert found.state == "failed"
    assert found.folder is not None
    ids = ids_of(found.folder)
    assert 0 < len(ids) < SAMPLES
    assert len(ids) == len(set(ids))
    assert len(ids) % BATCH == 0
    assert results(swept([TEXTVQA], tmp_path / "out", Here())) == serial([TEXTVQA], tmp_path)


def test_an_error_in_a_worker_fails_its_cell_alone(tmp_path: Path) -> None:
    """The task breaks in the workers only, as it does on a node that lacks something."""
    broken = (
        "\nimport os\n"
        "def lacking(sample, profile, variant):\n"
        "    if sample.id.endswith('7-text'):\n"
        "        raise FileNotFoundError('words.txt')\n"
        "    return REAL.prompt(sample, profile, variant)\n"
        "TASK = dataclasses.replace(TASK, prompt=lacking)\n"
    )
    cells = [slow(tmp_path, after=broken, name="lacking"), TEXTVQA]
    found = swept(cells, tmp_path / "out", Here())
    assert [cell.state for cell in found.cells] == ["failed", "done"]
    assert "FileNotFoundError: words.txt" in found.cells[0].reason
    assert "\n" not in found.cells[0].reason


def test_a_stop_keeps_what_arrives_and_the_same_call_goes_on(tmp_path: Path) -> None:
    cells = [TEXTVQA, slow(tmp_path)]
    stop, arrived = Stop(), [0]

    def sent(worker: int, message: bytes) -> bytes:
        arrived[0] += message[:1] == b"L"
        if arrived[0] == 7:
            stop.ask("the machine is taken")
        return message

    found = swept(cells, tmp_path / "out", Here(sent=sent), stop=stop)
    assert found.stopped == "the machine is taken"
    assert [(cell.state, cell.reason) for cell in found.cells] == [
        ("stopped", found.stopped),
        ("waiting", ""),
    ]
    # seven, two that were on their way, and the one that each of three was at
    assert len(ids_of(found.cells[0].folder or tmp_path)) == 12 * BATCH
    assert results(swept(cells, tmp_path / "out", Here())) == serial(cells, tmp_path)


def test_ctrl_c_leaves_every_run_resumable(tmp_path: Path) -> None:
    arrived = [0]

    def sent(worker: int, message: bytes) -> bytes:
        arrived[0] += 1
        if arrived[0] == 9:
            raise KeyboardInterrupt
        return message

    crew = Here(sent=sent)
    found = swept([TEXTVQA], tmp_path / "out", crew)
    assert (found.stopped, found.cells[0].state) == ("interrupted", "stopped")
    assert not crew.workers
    assert results(swept([TEXTVQA], tmp_path / "out", Here())) == serial([TEXTVQA], tmp_path)


def test_a_stop_before_the_first_answer_leaves_nothing(tmp_path: Path) -> None:
    def sent(worker: int, message: bytes) -> bytes:
        raise KeyboardInterrupt

    found = swept([TEXTVQA], tmp_path / "out", Here(sent=sent))
    assert found.cells[0].state == "stopped"
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name[0] != "."] == ["sweep.json"]


def test_a_full_disk_fails_the_cell_and_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, full = Samples.append, [5]

    def appended(self: Samples, lines: Any) -> None:
        full[0] -= 1
        if not full[0]:
            raise StoreError("cannot write it: No space left on device")
        append(self, lines)

    monkeypatch.setattr(Samples, "append", appended)
    found = swept([TEXTVQA, dataclasses.replace(TEXTVQA, seed=1)], tmp_path / "out", Here())
    assert [cell.state for cell in found.cells] == ["failed", "done"]
    assert found.cells[0].reason.startswith("cannot write it: No space left on device; 32 of 200 answers")


def test_a_cluster_that_has_gone_ends_the_sweep_and_the_same_call_goes_on(tmp_path: Path) -> None:
    class Cut(Here):
        def events(self, seconds: float) -> list[Event]:
            if len(self.units) > 3:
                raise RunStopped("the Ray head of the cluster has gone")
            return super().events(seconds)

    cells = [slow(tmp_path)]
    found = swept(cells, tmp_path / "out", Cut())
    assert found.stopped == "the Ray head of the cluster has gone"
    assert [cell.state for cell in found.cells] == ["stopped"]
    assert results(swept(cells, tmp_path / "out", Here())) == serial(cells, tmp_path)


@pytest.mark.parametrize(("end", "told"), [(0, "node of this machine"), (1, "head of the cluster")])
def test_a_node_or_a_head_that_answers_no_more_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: int, told: str
) -> None:
    monkeypatch.setattr(ray_cluster, "_LOOK", 0.0)
    path = str(tmp_path / "raylet")
    with socket.socket(socket.AF_UNIX) as node, socket.create_server(("127.0.0.1", 0)) as head:
        node.bind(path)
        node.listen()
        context = SimpleNamespace(get_node_id=lambda: "a", gcs_address=f"127.0.0.1:{head.getsockname()[1]}")
        nodes = [{"NodeID": "b", "RayletSocketName": "/"}, {"NodeID": "a", "RayletSocketName": path}]
        pulse = ray_cluster.Pulse(SimpleNamespace(get_runtime_context=lambda: context, nodes=lambda: nodes))
        pulse.require()
        (node, head)[end].close()
        pulse.require()  # it may come back
        monkeypatch.setattr(ray_cluster, "GONE", 0.0)
        with pytest.raises(RunStopped, match=told):
            pulse.require()


def test_a_run_that_another_process_writes_is_left_to_it(tmp_path: Path) -> None:
    cells = [TEXTVQA, dataclasses.replace(TEXTVQA, seed=1)]
    done = work.sweep(cells[:1], tmp_path / "plan").cells[0]
    assert done.spec is not None
    folder = store.folder_of(tmp_path / "out", done.spec)
    with Samples(folder, [BATCH] * BATCHES, WHOLE):
        found = swept(cells, tmp_path / "out", Here())
    assert [cell.state for cell in found.cells] == ["locked", "done"]


def test_a_cell_without_a_node_for_it_fails_unless_workers_are_named(tmp_path: Path) -> None:
    found = swept([TEXTVQA], tmp_path, Here(room=0)).cells[0]
    assert (found.state, found.reason) == (
        "failed",
        "no node has a core to give; start one that has, or say --workers",
    )
    results(swept([TEXTVQA], tmp_path, Here(room=0), workers=1))


def test_what_is_done_asks_for_no_worker(tmp_path: Path) -> None:
    before = results(work.sweep([TEXTVQA], tmp_path))
    crew = Here()
    found = swept([TEXTVQA], tmp_path, crew)
    assert results(found) == before
    assert found.cells[0].already_done
    assert crew.hired == 0


def test_the_costs_of_a_cell_are_its_costliest_worker_s(tmp_path: Path) -> None:
    def sent(worker: int, message: bytes) -> bytes:
        if message[:1] not in (b"B", b"S"):
            return message
        content = json.loads(message[1:])
        session = content["session"] if message[:1] == b"B" else content
        session["load_seconds"] = 10.0 - worker
        session["peak_memory"]["bytes"] = 1000 * worker
        return message[:1] + json.dumps(content).encode()

    found = swept([TEXTVQA, dataclasses.replace(TEXTVQA, seed=1)], tmp_path, Here(sent=sent))
    costs = [cell.record.cost for cell in found.cells if cell.record]
    assert [cost.load_seconds for cost in costs] == [9.0, 9.0]
    assert [cost.peak_memory.bytes for cost in costs] == [3000, 3000]
    assert [cost.shared_load for cost in costs] == [False, True]
    assert all(cost.warmup_seconds > 0 for cost in costs)


def test_units_shrink_so_that_workers_end_together(tmp_path: Path) -> None:
    crew = Here(room=2)
    results(swept([dataclasses.replace(TEXTVQA, batch=1)], tmp_path, crew))
    sizes = [len(unit) for unit in crew.units]
    assert sizes[0] == SAMPLES / 4
    assert sizes[-1] <= ray_cell.SMALLEST
    assert sorted(chain(*crew.units)) == list(range(SAMPLES))


def test_a_worker_says_in_plain_text_what_it_sees() -> None:
    """Nothing of ours is pickled: every message is a letter and JSON."""
    from pgbench.engines import wire

    job = wire.dump(wire.Job("", TEXTVQA))
    messages = list(Worker({}).answer(job, [3, 1]))
    assert [message[:1] for message in messages] == [b"B", b"S", b"L", b"S", b"L"]
    for message in messages:
        assert all(json.loads(line) for line in message[1:].splitlines())
    begun = read(Begun, messages[0][1:])
    assert isinstance(begun.stack, Stack)
    assert begun.stack.backend == "oracle"
    assert of_batch(messages[2], 3)
    assert of_batch(messages[4], 1)


# What Ray is asked, without one


class FakeRay:
    def __init__(self, *nodes: dict[str, float], alive: bool = True) -> None:
        self._nodes = [{"Alive": alive, "Resources": node} for node in nodes]
        self.all = nodes

    def nodes(self) -> list[dict[str, object]]:
        return self._nodes

    def cluster_resources(self) -> dict[str, float]:
        return {name: sum(node.get(name, 0) for node in self.all) for name in ("CPU", "GPU", "memory")}


def crew_of(ray: FakeRay) -> engine.RayCrew:
    crew = engine.RayCrew(None, None)
    crew.__dict__["_ray"] = ray
    return crew


def cell_of(backend: str, parameters: int | None, **model: Any) -> Any:
    """As much of an open cell as `need` looks at."""
    from types import SimpleNamespace as Some

    size = None if parameters is None else Some(parameters=parameters)
    asked = dataclasses.replace(TEXTVQA, backend=backend, model=ModelRequest(**model))
    cell = Some(engine=Some(size=lambda: size))
    return Some(asked=asked, checkpoint=(backend, asked.model), remote=Some(cell=cell))


def test_a_checkpoint_gets_a_whole_gpu_where_there_are_any() -> None:
    mixed = crew_of(FakeRay({"CPU": 8, "GPU": 2}, {"CPU": 4}))
    assert mixed.need(cell_of("paligemma", 10)) == Need(gpus=1)
    assert mixed.need(cell_of("paligemma", 10, device="cpu")) == Need(memory=40)
    assert mixed.need(cell_of("oracle", None)) == Need()
    assert crew_of(FakeRay({"CPU": 8})).need(cell_of("paligemma", 10, dtype="float32")) == Need(memory=80)
    assert crew_of(FakeRay({"CPU": 8})).need(cell_of("paligemma", 10, device="cuda")) == Need(gpus=1)


def test_there_is_room_where_a_node_has_all_that_is_needed() -> None:
    crew = crew_of(
        FakeRay({"CPU": 8, "GPU": 2, "memory": 100}, {"CPU": 1, "GPU": 4}, {"CPU": 3, "memory": 70})
    )
    assert crew.room(Need()) == 12
    assert crew.room(Need(gpus=1)) == 3
    assert crew.room(Need(memory=30)) == 5
    assert crew_of(FakeRay({"CPU": 8}, alive=False)).room(Need()) == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"workers": 0}, "0 workers; expected 1 or more"),
        ({"address": "ray://head:10001"}, "run pgbench on a node of the cluster"),
        ({"model": ModelRequest(device="cuda:1")}, "say cuda"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    cell = dataclasses.replace(TEXTVQA, model=options.pop("model", ModelRequest()))
    with pytest.raises(UsageError, match=told):
        engine.sweep([cell], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:six"])
def test_an_address_where_nobody_is_is_told_at_once(tmp_path: Path, address: str) -> None:
    before = time.monotonic()
    with pytest.raises(UsageError, match=f"no Ray cluster answers at {address}"):
        engine.sweep([TEXTVQA], tmp_path, address=address)
    assert time.monotonic() - before < 30


def test_without_ray_the_next_step_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'pgbench\[ray\]'"):
        engine.sweep([TEXTVQA], tmp_path)


def test_workers_in_another_folder_are_asked_with_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint").mkdir()
    model = ModelRequest(model="checkpoint", predictions="answers.json")
    found = engine.elsewhere(AskedCell("./my_task.py", model, DataRequest("", path="data")))
    assert found.task == str(tmp_path / "my_task.py")
    assert found.model.model == str(tmp_path / "checkpoint")
    assert found.model.predictions == str(tmp_path / "answers.json")
    assert found.data.path == str(tmp_path / "data")
    named = AskedCell("textvqa", ModelRequest(model="google/paligemma2-3b-mix-224"), DataRequest(""))
    assert engine.elsewhere(named) == named


def test_the_reason_of_a_death_is_one_line_without_a_machine() -> None:
    class ActorDiedError(Exception): ...

    died = (
        "The actor died.\n\tpid: 7336\n\tip: 192.0.2.2\nWorker exit type: SYSTEM_ERROR Worker exit detail: "
    )
    assert why(ActorDiedError(died + "End of file. Some common causes include: (1) x")) == (
        "ActorDiedError: End of file"
    )
    raised = (
        "The actor died in its creation task, ip=1.2.3.4\n  File x\nModuleNotFoundError: No module named 'a'"
    )
    assert why(ActorDiedError(raised)) == "ActorDiedError: ModuleNotFoundError: No module named 'a'"
    assert why(ActorDiedError("")) == "ActorDiedError: no reason given"


# With Ray


@pytest.fixture(scope="module")
def ray(no_network: None) -> Iterator[Any]:
    """One Ray with room for two workers, which the sweeps of this process join."""
    import ray

    with joined(ray, None, 2), pytest.MonkeyPatch.context() as patch:
        own = ray.get_runtime_context().gcs_address.rpartition(":")[0]
        guard: Any = socket.socket.connect  # of conftest; Ray is at this machine's own address
        patch.setitem(guard.__globals__, "LOCAL", (*guard.__globals__["LOCAL"], own))
        yield ray


DIARY = "import os\nwith open({path!r}, 'a') as file:\n    file.write(f'{{os.getpid()}}\\n')\n"


def diary(folder: Path) -> str:
    """What a task does when it is imported happens in the process of a worker."""
    return DIARY.format(path=str(folder / "pids"))


def test_a_real_ray_comes_to_the_records_of_one_process(tmp_path: Path, ray: Any) -> None:
    cells = [TEXTVQA, slow(tmp_path, 0.002)]
    assert results(engine.sweep(cells, tmp_path / "out", workers=2)) == serial(cells, tmp_path)
    assert ray.is_initialized()  # by whoever called
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_worker_killed_in_the_middle_of_its_work_costs_nothing(tmp_path: Path, ray: Any) -> None:
    cell = slow(tmp_path, 0.004, before=diary(tmp_path))
    killed = list[int]()

    class Assassin(Watch):
        def several(self, done: int, total: int) -> None:
            pids = {int(line) for line in (tmp_path / "pids").read_text().split()} - {os.getpid()}
            if done >= 40 and not killed:
                killed.append(max(pids))
                os.kill(killed[0], signal.SIGKILL)

    found = engine.sweep([cell], tmp_path / "out", watch=Assassin(), workers=2)
    assert killed
    with pytest.raises(ProcessLookupError):
        os.kill(killed[0], 0)
    assert results(found) == serial([cell], tmp_path)


DRIVER = """\
import sys
from pathlib import Path
from pgbench.engines import ray, wire
from pgbench.sweeping.work import Watch

class Aloud(Watch):
    def several(self, done, total):
        print(done, flush=True)

if __name__ == "__main__":
    job = wire.parse(wire.Job, sys.stdin.buffer.readline())
    swept = ray.sweep([job.asked], Path(job.out), watch=Aloud(), workers=1)
    print("stopped:", swept.stopped, swept.cells[0].state, flush=True)
"""


def left(mark: str) -> list[int]:
    """Processes that inherited this environment variable."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def test_a_ray_of_its_own_goes_with_the_sweep_and_leaves_nothing(tmp_path: Path) -> None:
    from pgbench.engines import wire

    mark = f"PGBENCH_RAY_TEST={tmp_path.name}-{os.getpid()}"
    home = tmp_path / "home"
    home.mkdir()
    settings = os.environ | {
        "HOME": str(home),
        "PGBENCH_RAY_TEST": mark.partition("=")[2],
        "PGBENCH_SLOW": "0.02",
    }
    (tmp_path / "driver.py").write_text(DRIVER)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "driver.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=settings,
        cwd=home,
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        cell = slow(tmp_path, "float(os.environ.get('PGBENCH_SLOW', 0))", before="import os\n")
        driver.stdin.write(wire.dump(wire.Job(str(tmp_path / "out"), cell)))
        driver.stdin.close()
        kept = next(int(line) for line in driver.stdout if int(line) >= 24)
        driver.send_signal(signal.SIGTERM)
        said = driver.stdout.read().decode()
        errors = driver.stderr.read().decode() if driver.stderr else ""
    assert said.splitlines()[-1] == "stopped: terminated stopped", errors
    assert errors == ""
    folder = next((tmp_path / "out").glob("*/*/spec.json")).parent
    assert kept <= len(ids_of(folder)) < SAMPLES
    limit = time.monotonic() + 20
    while left(mark) and time.monotonic() < limit:
        time.sleep(0.2)
    assert not left(mark)
    assert list(home.iterdir()) == []
    assert results(work.sweep([cell], tmp_path / "out")) == serial([cell], tmp_path)

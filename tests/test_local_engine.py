"""`--engine local`: cells on several processes come to the records of one, whatever happens to them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
from kills import SLOW_FAILURES, SLOW_TASK

from pgbench import store
from pgbench.engines import devices, local, wire
from pgbench.engines.devices import Slot
from pgbench.engines.process import Worker
from pgbench.errors import UsageError
from pgbench.recipe.asked import AskedCell
from pgbench.records import essence
from pgbench.samples import Samples, read_lines
from pgbench.sweeping import state, work
from pgbench.sweeping.stop import Stop
from pgbench.sweeping.work import Swept, Told, Watch
from pgbench.types import DataRequest, ModelRequest, RunSpec

Until: TypeAlias = Callable[[Callable[[], object]], None]
PATIENCE = 60.0  # seconds
SAMPLES = 200  # of the demo's drawings

# What a task does when it is imported happens in the process of the worker.
DIARY = """\
import os, signal, sys
from pathlib import Path

with Path({diary!r}).open("a") as file:
    file.write(" ".join([str(os.getpid()), os.environ.get("OMP_NUM_THREADS", "-"),
                         os.environ.get("CUDA_VISIBLE_DEVICES", "-")]) + "\\n")
"""
HOSTILE = """\
print('{{"state": "done", "ended": true}}')
os.write(1, b'{{"state": "failed", "ended": true}}\\n' * 20000)
os.write(2, b"\\xff\\x00 no line end")
if sys.stdin.read() or os.read(0, 10):
    raise RuntimeError("a task could read its worker's orders")
"""
NONSENSE = """\
import contextlib
for number in range(3, 30):
    with contextlib.suppress(OSError):
        os.write(number, b"nonsense\\n")
"""
DEADLY = """\
def deadly(metric):
    def stat(unit):
        if unit[0][0].id == {sample!r}:
            sys.stderr.write("\\nlast words from /home/someone/secret/model.py\\n")
            {death}
        return metric.stat(unit)
    return dataclasses.replace(metric, stat=stat)

TASK = dataclasses.replace(TASK, metrics=tuple(map(deadly, TASK.metrics)))
"""

OFFICIAL = ModelRequest(style="official")
# The driver of a sweep in a process of its own: cells on stdin, and the exit code of the command line.
DRIVER = """\
import sys
from pathlib import Path
from pgbench.engines import local, wire
jobs = [wire.parse(wire.Job, line) for line in sys.stdin.buffer]
swept = local.sweep([job.asked for job in jobs], Path(jobs[0].out), workers=2)
print(swept.stopped)
sys.exit(0 if swept.whole else 3)
"""


def asked(task: str = "textvqa", **options: object) -> AskedCell:
    cell = AskedCell(task, ModelRequest(), DataRequest(split=""), backend="oracle", source="demo")
    return dataclasses.replace(cell, **options)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Plugin:
    """A slow task in a file of its own, and what its processes wrote down when they imported it."""

    path: Path
    diary: Path

    @property
    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.diary.read_text().splitlines()] if self.diary.exists() else []

    @property
    def pids(self) -> list[int]:
        return [int(line[0]) for line in self.lines]

    def cell(self, **options: object) -> AskedCell:
        cell = asked(str(self.path), batch=4, max_failures=SLOW_FAILURES)
        return dataclasses.replace(cell, **options)  # type: ignore[arg-type]


def plugin(
    folder: Path, *, name: str = "slow", seconds: float = 0.0, before: str = "", after: str = ""
) -> Plugin:
    folder.mkdir(parents=True, exist_ok=True)
    made = Plugin(folder / f"{name}.py", folder / f"{name}.pids")
    head = DIARY.format(diary=str(made.diary)) + before
    body = SLOW_TASK.format(seconds=seconds).replace('name="slow"', f"name={name!r}")
    made.path.write_text(head + body + after)
    return made


def results(swept: Swept) -> list[dict[str, object]]:
    """What has to be equal in two sweeps, read from the disk."""
    found = []
    for told in swept.cells:
        assert told.folder is not None, told
        record = store.read_record(told.folder)
        assert record is not None, told
        found.append(essence(record, read_lines(told.folder)))
    return found


def ids(told: Told) -> list[str]:
    """Of all lines on disk, read without pgbench."""
    assert told.folder is not None
    lines = [line for path in told.folder.glob("samples-*") for line in path.read_bytes().splitlines()]
    return [str(json.loads(line)["id"]) for line in lines]


def told_of(out: Path) -> list[tuple[str, str]]:
    return [(cell["state"], cell["reason"]) for cell in state.read(out)]


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def kept_at_least(out: Path, answers: int) -> bool:
    return sum(map(local.answers, out.glob("*/*"))) >= answers


def until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


@contextlib.contextmanager
def meanwhile(action: Callable[[Until], None]) -> Iterator[None]:
    """Something that happens while the sweep runs in the main thread, which is where signals arrive.

    It is given an `until` that ends with the sweep.
    """
    raised: list[BaseException] = []
    over = threading.Event()

    def wait(condition: Callable[[], object]) -> None:
        until(lambda: condition() or over.is_set())
        assert condition(), "the sweep ended before"

    def guarded() -> None:
        try:
            action(wait)
        except BaseException as error:  # noqa: BLE001 - told in the main thread
            raised.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert [repr(error) for error in raised] == []


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


class Heard(Watch):
    """Keeps what a sweep told."""

    def __init__(self) -> None:
        self.ends: list[Told] = []
        self.several_told: list[tuple[int, int]] = []

    def several(self, done: int, total: int) -> None:
        self.several_told.append((done, total))

    def ended(self, told: Told) -> None:
        self.ends.append(told)


def test_two_workers_come_to_the_records_of_one_process(tmp_path: Path) -> None:
    task = plugin(tmp_path / "task", seconds=0.001)
    cells = [
        task.cell(limit=60),
        task.cell(limit=90, batch=3),
        task.cell(batch=5, model=OFFICIAL),
        asked(limit=20, model=OFFICIAL),
    ]
    serial = work.sweep(cells, tmp_path / "serial")
    assert [told.state for told in serial.cells] == ["done"] * 4
    task.diary.unlink()
    watch = Heard()
    out = tmp_path / "local"
    swept = local.sweep(cells, out, watch=watch, workers=2)
    assert swept.whole
    assert swept.stopped == ""
    assert results(swept) == results(serial)
    assert [told.record for told in swept.cells] == [
        store.read_record(told.folder) for told in swept.cells if told.folder
    ]
    assert [(told.spec, told.samples) for told in swept.cells] == [
        (told.spec, told.samples) for told in serial.cells
    ]
    assert sorted(told.asked.where + str(told.asked.limit) for told in watch.ends) == [
        "20",
        "60",
        "90",
        "None",
    ]
    assert watch.several_told[-1] == (60 + 90 + SAMPLES + 20, 60 + 90 + SAMPLES + 20)
    assert told_of(out) == [("done", "")] * 4
    # the first checkpoint's cells, and the second's, each in a process of their own, this one in none
    assert len(set(task.pids)) == len(task.pids) == 2
    assert os.getpid() not in task.pids
    again = local.sweep(cells, out, workers=2)
    assert [told.already_done for told in again.cells] == [True] * 4
    assert results(again) == results(serial)


def test_a_model_answers_in_a_worker_as_it_does_here(tmp_path: Path) -> None:
    model = ModelRequest("tiny-gemma2", dtype="float32", device="cpu")
    cells = [asked(model=model, backend="paligemma", limit=limit, batch=4) for limit in (12, 16)]
    serial = work.sweep(cells, tmp_path / "serial")
    swept = local.sweep(cells, tmp_path / "local")
    assert results(swept) == results(serial)
    loads = [told.record.cost.shared_load for told in swept.cells if told.record]
    assert loads == [False, True]


def test_a_checkpoint_is_loaded_by_idle_workers_too(tmp_path: Path) -> None:
    """One checkpoint and two workers: both have something to do."""
    task = plugin(tmp_path, seconds=0.002)
    swept = local.sweep([task.cell(limit=limit) for limit in (80, 90, 100)], tmp_path / "out", workers=2)
    assert swept.whole
    assert len(task.pids) == 2


def test_cells_wait_for_their_checkpoint() -> None:
    cells = [asked(), asked(limit=1), asked(model=OFFICIAL), asked(limit=2, model=OFFICIAL), asked()]
    waiting = local.Waiting(cells)
    assert waiting.fresh() == (0, 0)
    assert waiting.fresh() == (1, 2)
    assert waiting.more(1) == 3
    assert waiting.more(1) is None
    assert waiting.fresh() == (2, 4)
    assert waiting.fresh() == (0, 1)  # loaded once more, rather than a device that idles
    assert waiting.fresh() is None
    waiting.again(2)
    assert waiting.fresh() == (3, 2)


def test_a_worker_killed_in_a_cell_is_resumed(tmp_path: Path) -> None:
    whole = plugin(tmp_path / "whole")
    serial = work.sweep([whole.cell()], tmp_path / "serial")
    task = plugin(tmp_path / "task", seconds=0.002)
    out = tmp_path / "local"
    killed: list[int] = []

    def kill(wait: Until) -> None:
        """More often than a cell without progress would survive."""
        moments = {20: signal.SIGKILL, 60: signal.SIGTERM, 100: signal.SIGUSR1, 140: signal.SIGKILL}
        for answers, number in moments.items():
            wait(partial(kept_at_least, out, answers))
            os.kill(task.pids[-1], number)
            killed.append(task.pids[-1])

    with meanwhile(kill):
        swept = local.sweep([task.cell()], out)
        assert swept.whole, swept.cells[0].reason
    assert len(set(killed)) == 4
    assert len(set(task.pids)) == 5
    assert results(swept) == results(serial)
    assert len(ids(swept.cells[0])) == len(set(ids(swept.cells[0]))) == SAMPLES


@pytest.mark.parametrize(
    ("death", "said"),
    [
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "its process ended by SIGKILL (out of memory?), having printed: ",
        ),
        (
            "signal.signal(11, signal.SIG_DFL); os.kill(os.getpid(), 11)",
            "its process ended by SIGSEGV, having",
        ),
        ("os._exit(0)", "its process ended by itself with code 0, having"),
    ],
)
def test_a_worker_that_always_dies_fails_its_cell_only(tmp_path: Path, death: str, said: str) -> None:
    sane = plugin(tmp_path, name="sane")
    probe = work.sweep([sane.cell()], tmp_path / "serial")
    sample = ids(probe.cells[0])[50]
    task = plugin(tmp_path, name="deadly", after=DEADLY.format(sample=sample, death=death))
    cells = [sane.cell(limit=8), task.cell(), sane.cell(), sane.cell(limit=12)]
    out = tmp_path / "local"
    swept = local.sweep(cells, out)
    assert [told.state for told in swept.cells] == ["done", "failed", "done", "done"]
    reason = swept.cells[1].reason
    assert reason.startswith(said), reason
    assert "last words from model.py" in reason
    assert "/home" not in reason
    assert reason.endswith("so 3 times without an answer in between, 48 answers are kept")
    assert told_of(out)[1] == ("failed", reason)
    # the first one came from 0 to 48 answers, which is progress, so that two more were tried
    assert len(task.pids) == len(set(task.pids)) == 3
    assert len(set(sane.pids)) == 1 + 2  # this process, before the death, and after it
    assert results(Swept((swept.cells[2],))) == results(Swept((probe.cells[0],)))


def test_what_a_task_prints_and_reads_is_no_message(tmp_path: Path) -> None:
    task = plugin(tmp_path, before=HOSTILE.format())
    swept = local.sweep([task.cell(limit=30), task.cell(limit=40)], tmp_path / "out")
    assert [(told.state, told.reason) for told in swept.cells] == [("done", "")] * 2
    assert [told.samples for told in swept.cells] == [30, 40]


def test_a_task_that_closes_every_stream(tmp_path: Path) -> None:
    task = plugin(tmp_path, before="os.closerange(0, 3)\n")
    swept = local.sweep([task.cell(limit=30)], tmp_path / "out")
    assert swept.whole, swept.cells[0].reason


def test_a_worker_that_says_nonsense_is_not_believed(tmp_path: Path) -> None:
    task = plugin(tmp_path, before=NONSENSE)
    swept = local.sweep([task.cell(limit=30), asked(limit=10)], tmp_path / "out")
    assert [told.state for told in swept.cells] == ["failed", "done"]
    assert "said what is no report" in swept.cells[0].reason


def test_what_a_cell_cannot_do_is_its_own_failure(tmp_path: Path) -> None:
    cells = [asked("no-such-task"), asked(limit=10), asked(max_failures=0, variant="upside-down")]
    serial = work.sweep(cells, tmp_path / "serial")
    swept = local.sweep(cells, tmp_path / "local", workers=2)
    assert [told.state for told in swept.cells] == ["failed", "done", "failed"]
    assert [told.reason for told in swept.cells] == [told.reason for told in serial.cells]


def test_a_cell_that_another_process_writes_has_its_turn_again(tmp_path: Path) -> None:
    """It is the first of the sweep; when the others are done, so is the other process."""
    first, second = plugin(tmp_path / "first"), plugin(tmp_path / "second", seconds=0.02)
    out, watch = tmp_path / "out", Heard()
    (probe,) = local.sweep([first.cell(limit=8)], out).cells
    assert probe.folder is not None
    (probe.folder / "record.json").unlink()
    held = Samples(probe.folder, [4, 4])

    def release(wait: Until) -> None:
        wait(lambda: told_of(out)[0][0] == "locked")
        held.__exit__(None, None, None)

    with held, meanwhile(release):
        swept = local.sweep([first.cell(limit=8), second.cell(limit=40)], out, watch=watch)
    assert [told.state for told in swept.cells] == ["done", "done"]
    assert [told.state for told in watch.ends] == ["done", "done"]
    assert [told.reason for told in swept.cells] == ["", ""]


def test_a_cell_that_another_process_goes_on_writing_is_told(tmp_path: Path) -> None:
    task, watch = plugin(tmp_path / "task"), Heard()
    (probe,) = local.sweep([task.cell(limit=8)], tmp_path / "out").cells
    assert probe.folder is not None
    (probe.folder / "record.json").unlink()
    with Samples(probe.folder, [4, 4]):
        swept = local.sweep([task.cell(limit=8), task.cell(limit=12)], tmp_path / "out", watch=watch)
    assert [told.state for told in swept.cells] == ["locked", "done"]
    assert f"pid {os.getpid()}" in swept.cells[0].reason
    assert [told.state for told in watch.ends] == ["done", "locked"]


class Sweeping:
    """A sweep in a process of its own, which does not outlive its test."""

    def __init__(self, cells: Sequence[AskedCell], out: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        jobs = b"".join(wire.dump(wire.Job(str(out), cell)) for cell in cells)
        pipe = self.process.stdin
        assert pipe is not None
        pipe.write(jobs)
        pipe.close()
        self.process.stdin = None

    def __enter__(self) -> Sweeping:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def until(self, condition: Callable[[], object]) -> None:
        def reached() -> object:
            assert self.process.poll() is None, self.end()
            return condition()

        until(reached)

    def end(self) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        said, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said.decode(), errors.decode()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_sweep_that_is_ended_leaves_no_process_and_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    task = plugin(tmp_path / "task", seconds=0.01)
    cells = [task.cell(limit=80), task.cell(limit=80, model=OFFICIAL), task.cell(limit=10)]
    out = tmp_path / "out"
    with Sweeping(cells, out) as sweeping:
        sweeping.until(lambda: sum(local.answers(path) > 0 for path in out.glob("*/*")) == 2)
        workers = task.pids
        assert len(workers) == 2
        assert all(map(alive, workers))
        sweeping.process.send_signal(number)
        if number == signal.SIGKILL:
            assert sweeping.process.wait(PATIENCE) == -signal.SIGKILL
            until(lambda: not any(map(alive, workers)))
        else:
            assert sweeping.end() == (3, "terminated\n", "")
            assert told_of(out) == [("stopped", "terminated")] * 2 + [("waiting", "")]
    assert not any(map(alive, workers))
    assert not list(out.rglob("record.json"))
    kept = [ids(Told(cells[0], folder=path)) for path in sorted(out.glob("*/*"))]
    assert all(0 < len(some) < 80 and len(some) % 4 == 0 for some in kept), kept  # whole batches
    with Sweeping(cells, out) as again:
        assert again.end() == (0, "\n", "")
    swept = local.sweep(cells, out)
    assert [(told.already_done, told.reason) for told in swept.cells] == [(True, "")] * 3
    for told, count in zip(swept.cells, (80, 80, 10), strict=True):
        assert len(ids(told)) == len(set(ids(told))) == count


def test_a_second_signal_does_not_wait_for_the_batch(tmp_path: Path) -> None:
    task = plugin(tmp_path / "task", seconds=5.0)
    out = tmp_path / "out"
    with Sweeping([task.cell()], out) as sweeping:
        sweeping.until(lambda: list(out.glob("*/*/stack.json")))
        before = time.monotonic()
        sweeping.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert sweeping.process.poll() is None
        sweeping.process.send_signal(signal.SIGINT)
        assert sweeping.end() == (3, "interrupted\n", "")
    assert time.monotonic() - before < 4
    assert not any(map(alive, task.pids))


def test_a_worker_that_does_not_stop_is_killed_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgbench.engines.process.GRACE", 0.4)
    task = plugin(tmp_path / "task", seconds=5.0)
    stop, out = Stop(), tmp_path / "out"
    asked_at: list[float] = []

    def ask(wait: Until) -> None:
        wait(lambda: list(out.glob("*/*/stack.json")))
        asked_at.append(time.monotonic())
        stop.ask("no more")

    with meanwhile(ask):
        swept = local.sweep([task.cell()], out, stop=stop)
    assert time.monotonic() - asked_at[0] < 3
    assert [(told.state, told.reason) for told in swept.cells] == [("stopped", "no more")]
    assert not any(map(alive, task.pids))


def test_a_worker_without_a_parent_kills_itself_in_the_end(tmp_path: Path) -> None:
    task = plugin(tmp_path / "task", seconds=30.0)
    program = (
        "from pgbench.engines import serving; from pgbench.sweeping.stop import Stop; "
        "serving.GRACE = 0.4; serving.serve(0, 2, Stop())"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert worker.stdin is not None
    worker.stdin.write(wire.dump(wire.Job(str(tmp_path / "out"), task.cell())))
    worker.stdin.flush()
    until(lambda: list(tmp_path.glob("out/*/*/stack.json")))
    assert worker.poll() is None
    worker.stdin.close()
    assert worker.wait(10) == -signal.SIGKILL


def test_a_stop_that_was_asked_for_before_starts_nothing(tmp_path: Path) -> None:
    stop = Stop()
    stop.ask("enough")
    swept = local.sweep([asked(limit=10)], tmp_path, stop=stop)
    assert (swept.stopped, swept.cells[0].state) == ("enough", "waiting")
    assert told_of(tmp_path) == [("waiting", "")]


def test_a_worker_ends_with_its_orders(tmp_path: Path) -> None:
    """Told to leave without a cell in hand, it is gone at once; and it says nothing."""
    worker = Worker(Slot("process 1"))
    worker.leave()
    until(lambda: worker.gone)
    assert list(worker.heard()) == []
    assert worker.reason() == "ended by itself with code 0"
    worker.close()


def gpu_said(monkeypatch: pytest.MonkeyPatch, count: str, listed: str = "") -> None:
    monkeypatch.setattr(devices, "_said", lambda command: listed if "nvidia-smi" in command else count)


H100 = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-11a-b)\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-22c)\n"
MIG = """\
GPU 0: NVIDIA A100 (UUID: GPU-11a)
  MIG 3g.20gb     Device  0: (UUID: MIG-aaa-1)
  MIG 3g.20gb     Device  1: (UUID: MIG-bbb-2)
GPU 1: NVIDIA A100 (UUID: GPU-22c)
"""


@pytest.mark.parametrize(
    ("given", "count", "listed", "found"),
    [
        (None, "2\n", H100, ("GPU-11a-b", "GPU-22c")),
        (None, "1\n", MIG, ("MIG-aaa-1", "MIG-bbb-2", "GPU-22c")),
        (None, "2\n", "", ("0", "1")),  # a container without nvidia-smi
        (None, "", H100, ()),  # a driver that does not load
        (None, "0\n", "", ()),
        ("", "2\n", H100, ()),
        ("-1", "2\n", H100, ()),
        ("NoDevFiles", "2\n", H100, ()),
        ("3,1", "2\n", H100, ("3", "1")),
        ("1, 0,1,-1,2", "2\n", H100, ("1", "0")),
        ("GPU-22c,MIG-GPU-11a/3/0", "1\n", H100, ("GPU-22c", "MIG-GPU-11a/3/0")),
        ("0,1", "", "", ()),  # inherited by a machine without any
    ],
)
def test_gpus_are_those_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, given: str | None, count: str, listed: str, found: tuple[str, ...]
) -> None:
    gpu_said(monkeypatch, count, listed)
    environment = {} if given is None else {"CUDA_VISIBLE_DEVICES": given}
    assert devices.gpus(environment) == found


def test_the_driver_is_asked_in_another_process() -> None:
    """For real: there may be GPUs on the machine that tests, or none."""
    found = devices.gpus({})
    assert all(found)
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        assert found == ()


def settings(found: Sequence[Slot]) -> list[Mapping[str, str]]:
    return [slot.settings for slot in found]


def test_every_worker_has_a_gpu_or_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_said(monkeypatch, "2\n", H100)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert settings(devices.slots()) == [{"CUDA_VISIBLE_DEVICES": name} for name in ("GPU-11a-b", "GPU-22c")]
    assert settings(devices.slots(1)) == [{"CUDA_VISIBLE_DEVICES": "GPU-11a-b"}]
    assert [slot.name for slot in devices.slots(3)] == ["GPU GPU-11a-b", "GPU GPU-22c", "GPU GPU-11a-b"]
    assert settings(devices.slots(cpu=True)) == [{}]
    with pytest.raises(UsageError, match="cuda:1: with --engine local each process sees one GPU; say cuda"):
        local.sweep([asked(model=ModelRequest(device="cuda:1"))], Path("unused"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(devices, "usable_cores", lambda: 9)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert settings(devices.slots()) == [{}]  # as without an engine: a run goes on in either
    assert settings(devices.slots(2)) == [{"OMP_NUM_THREADS": "4"}] * 2
    assert settings(devices.slots(20)) == [{"OMP_NUM_THREADS": "1"}] * 20
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert settings(devices.slots(2)) == [{}, {}]
    with pytest.raises(UsageError, match="0 workers; expected 1 or more"):
        devices.slots(0)


def test_a_worker_has_the_settings_of_its_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        devices,
        "slots",
        lambda workers, cpu: (Slot("a", {"CUDA_VISIBLE_DEVICES": "7", "OMP_NUM_THREADS": "5"}),),
    )
    task = plugin(tmp_path)
    assert local.sweep([task.cell(limit=10)], tmp_path / "out").whole
    assert task.lines[0][1:] == ["5", "7"]


def test_messages_arrive_as_they_were_sent(tmp_path: Path) -> None:
    swept = work.sweep([asked(limit=10)], tmp_path)
    told = swept.cells[0]
    report = wire.parse(wire.Report, wire.dump(wire.report(told, ended=True)))
    assert isinstance(report.spec, RunSpec)
    assert wire.told(report, told.asked) == dataclasses.replace(told, record=None)
    assert (report.recorded, report.ended) == (True, True)
    odd = dataclasses.replace(
        told.asked,
        model=ModelRequest(model="caf\u00e9 \udcff\n", threads=2, quant="4bit"),
        data=DataRequest("val", path="a\u2028b"),
        limit=3,
    )
    raw = wire.dump(wire.Job("\udcff/out", odd))
    assert raw.count(b"\n") == 1
    assert wire.parse(wire.Job, raw) == wire.Job("\udcff/out", odd)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"out": 3}, "Job.out: expected <class 'str'>, got 3"),
        ({"more": 1}, "Job: more: not a part of it, or missing"),
        ({"asked": []}, "Job.asked: expected a mapping, got []"),
        ({"asked.batch": "8"}, "Job.asked.batch: expected <class 'int'> or typing.Literal['auto'], got '8'"),
        (
            {"asked.batch": True},
            "Job.asked.batch: expected <class 'int'> or typing.Literal['auto'], got True",
        ),
        ({"asked.limit": 1.5}, "Job.asked.limit: expected <class 'int'>, got 1.5"),
        ({"asked.model.quant": "2bit"}, "Job.asked.model.quant: expected typing.Literal"),
        ({"asked.data": {}}, "Job.asked.data: split: not a part of it, or missing"),
    ],
)
def test_what_is_no_message_is_refused(change: Mapping[str, object], said: str) -> None:
    document = json.loads(wire.dump(wire.Job("out", asked())))
    for path, value in change.items():
        *above, name = path.split(".")
        place = document
        for step in above:
            place = place[step]
        place[name] = value
    with pytest.raises(UsageError) as caught:
        wire.parse(wire.Job, json.dumps(document).encode())
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("raw", [b"", b"nonsense", b'{"out": ', b"[" * 100000, b"\xff"])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(UsageError, match="expected a Job as a line of JSON"):
        wire.parse(wire.Job, raw)

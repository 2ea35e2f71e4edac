"""`--engine ray`: a sweep on the machines of a Ray cluster, or on this one.

Workers answer parts of cells and send them here; this process is the only one that writes. Ray moves what it
is given by pickle, so a cluster is to be trusted as much as this machine; of ours it moves text and numbers.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from pgbench.engines.devices import THREADS, VISIBLE
from pgbench.engines.ray_board import Board, Checkpoint, Open
from pgbench.engines.ray_cluster import Pulse, joined, why
from pgbench.engines.ray_dispatch import Crew, Dispatch, Event, Need
from pgbench.engines.ray_worker import Worker
from pgbench.errors import UsageError
from pgbench.recipe.asked import AskedCell
from pgbench.registry import is_path
from pgbench.sweeping.opening import engine_of
from pgbench.sweeping.state import Ledger
from pgbench.sweeping.stop import Stop
from pgbench.sweeping.work import Swept, Watch

_NO_MODEL = ("oracle", "replay")  # backends that need no GPU


def sweep(
    asked: Sequence[AskedCell],
    out: Path,
    *,
    watch: Watch | None = None,
    stop: Stop | None = None,
    address: str | None = None,
    workers: int | None = None,
) -> Swept:
    """Run every cell to its record on a Ray cluster.

    `address`: of a cluster that this machine is a node of ("auto": the one that runs here); without it, one
    is started on this machine and shut down at the end, unless this process has joined one already.
    `workers`: how many answer at once, as many as there is room for where it is not said.
    Batches that a dead worker did not send are given to another one, until a unit has cost three workers
    without an answer: its cell fails then, and stops no other. `stop`, Ctrl-C and SIGTERM end the sweep once
    the batches in flight have come, a second signal at once; the same call goes on.
    Raises UsageError without Ray, without the cluster, or for a device with a number; StoreError where `out`
    cannot be written.
    """
    _refuse(asked, address, workers)
    stop = stop or Stop()
    with Ledger(out) as ledger, _signals(stop), contextlib.closing(RayCrew(address, workers)) as crew:
        board = Board(asked, out, watch or Watch(), ledger.write, elsewhere, engine_of)
        return Dispatch(board, crew, stop, workers).run()


def _refuse(asked: Sequence[AskedCell], address: str | None, workers: int | None) -> None:
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--engine ray needs Ray, which is not installed; pip install 'pgbench[ray]'")
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers; expected 1 or more")
    if address is not None and address.startswith("ray://"):
        raise UsageError(f"--address {address}: run pgbench on a node of the cluster, with --address auto")
    for one in asked:
        if one.model.device == "auto-map":
            raise UsageError("device auto-map: with --engine ray each worker sees one GPU; say cuda")
        if one.model.device.startswith("cuda:"):
            raise UsageError(
                f"device {one.model.device}: with --engine ray each worker sees one GPU; say cuda"
            )


def elsewhere(asked: AskedCell) -> AskedCell:
    """The cell as a process in another folder is asked for it: with absolute paths, which no record names."""
    model, data = asked.model, asked.data
    task = _absolute(asked.task) if is_path(asked.task) else asked.task
    named = _absolute(model.model) if model.model and _is_folder(model.model) else model.model
    adapter = _absolute(model.adapter) if model.adapter and _is_folder(model.adapter) else model.adapter
    return replace(
        asked,
        task=task or asked.task,
        model=replace(model, model=named, adapter=adapter, predictions=_absolute(model.predictions)),
        data=replace(data, path=_absolute(data.path)),
    )


def _absolute(path: str | None) -> str | None:
    """Links unresolved: names say what a folder is."""
    return path and str(Path(path).expanduser().absolute())


def _is_folder(text: str) -> bool:
    try:
        return Path(text).expanduser().is_dir()
    except (OSError, RuntimeError):  # longer than a file name may be; the home of nobody
        return False


class RayCrew(Crew):
    """Ray actors. The cluster is joined, or started, when it is first asked for anything."""

    def __init__(self, address: str | None, workers: int | None) -> None:
        self._address, self._workers = address, workers
        self._held = contextlib.ExitStack()
        self._needs: dict[Checkpoint, Need] = {}
        self._actors: dict[int, Any] = {}
        self._awaited: dict[Any, int] = {}  # a reference or a stream -> the worker that it is of
        self._number = 0

    @functools.cached_property
    def _pulse(self) -> Pulse:
        return Pulse(self._ray)

    @functools.cached_property
    def _ray(self) -> Any:
        import ray

        if not ray.is_initialized():
            self._held.enter_context(joined(ray, self._address, self._workers))
        return ray

    def need(self, one: Open) -> Need:
        if one.checkpoint not in self._needs:
            self._needs[one.checkpoint] = self._need(one)
        return self._needs[one.checkpoint]

    def _need(self, one: Open) -> Need:
        model = one.asked.model
        gpus = self._ray.cluster_resources().get("GPU", 0)
        wished = model.device == "auto" and one.asked.backend not in _NO_MODEL and gpus >= 1
        if wished or model.device.startswith("cuda"):
            return Need(gpus=1)  # a whole one: two processes on a GPU see less memory than they count on
        size = one.remote.cell.engine.size()
        if size is None:
            return Need()
        weights = size.parameters * (4 if model.dtype == "float32" else 2)
        return Need(memory=2 * weights)  # loading holds a second copy for a while

    def room(self, need: Need) -> int:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return sum(_fitting(resources, need) for resources in nodes)

    def hire(self, need: Need) -> int:
        settings = {THREADS: os.environ.get(THREADS, "1")}
        if not need.gpus:
            settings[VISIBLE] = ""  # Ray hides no GPU from an actor that asked for none
        options = {"num_cpus": 1, "num_gpus": need.gpus, "max_restarts": 0, "max_task_retries": 0}
        memory = {"memory": need.memory} if need.memory else {}
        actor = self._ray.remote(Worker).options(**options, **memory)
        self._number += 1
        self._actors[self._number] = handle = actor.remote(settings)
        self._awaited[handle.ready.remote()] = self._number
        return self._number

    def give(self, worker: int, job: bytes, numbers: Sequence[int]) -> None:
        stream = self._actors[worker].answer.options(num_returns="streaming").remote(job, list(numbers))
        self._awaited[stream] = worker

    def events(self, seconds: float) -> list[Event]:
        self._pulse.require()
        if not self._awaited:
            time.sleep(seconds)
            return []
        awaited = list(self._awaited)
        if not self._ray.wait(awaited, num_returns=1, timeout=seconds)[0]:
            return []
        there, _ = self._ray.wait(awaited, num_returns=len(awaited), timeout=0)
        return [self._event(one) for one in there]

    def _event(self, one: Any) -> Event:
        worker = self._awaited[one]
        is_stream = not isinstance(one, self._ray.ObjectRef)
        try:
            message = self._ray.get(next(one) if is_stream else one)
        except StopIteration:
            del self._awaited[one]
            return Event(worker, "ended")
        except self._ray.exceptions.RayError as error:
            self.dismiss(worker)
            return Event(worker, "died", reason=why(error))
        if is_stream:
            return Event(worker, "said", message)
        del self._awaited[one]
        return Event(worker, "ready")

    def dismiss(self, worker: int) -> None:
        actor = self._actors.pop(worker, None)
        self._awaited = {one: whose for one, whose in self._awaited.items() if whose != worker}
        if actor is not None:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)

    def close(self) -> None:
        """Let go of all workers, and of the cluster if it was joined here."""
        try:
            for worker in list(self._actors):
                self.dismiss(worker)
        finally:
            self._held.close()


def _fitting(resources: Mapping[str, float], need: Need) -> int:
    """How many workers one node can hold."""
    counts = [resources.get("CPU", 0)]
    counts += [resources.get("GPU", 0) / need.gpus] if need.gpus else []
    counts += [resources.get("memory", 0) / need.memory] if need.memory else []
    return int(min(counts))


@contextlib.contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """The first signal is a wish, the second one an order."""

    def handler(number: int, frame: FrameType | None) -> None:
        if stop.reason:
            raise KeyboardInterrupt(stop.reason)
        stop.ask("interrupted" if number == signal.SIGINT else "terminated")

    if threading.current_thread() is not threading.main_thread():  # no handler can be set there
        yield
        return
    heard = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, one in before.items():
            signal.signal(number, one)

"""--batch-size auto: the batch size of a cell, found once by trying, then taken from where it is stored.

Sizes are doubled on the batch that the plan puts first, which is its largest, until memory is not enough, or
the next doubling would take more than is free, or there is nothing to gain.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pgbench.backends import Backend
from pgbench.batch import Cell, ask, askable, prepare
from pgbench.batching import Planned, choose, planned
from pgbench.durable import require_place
from pgbench.errors import CheckpointError, OutOfMemory
from pgbench.sweeping import sizes
from pgbench.sweeping.sizes import Found, Tried, Why
from pgbench.types import Prepared

DEFAULT = 8  # of backends without a model, where the size moves nothing
GAIN = 1.1  # times as fast as a smaller size: less is not worth the memory
_PATIENCE = 2  # doublings without a gain, after which no more is expected
_TIMES = 2  # that a batch is timed; the faster one counts
_SHARE = 0.8  # of the free memory that one more doubling may take


def settled(cell: Cell, out: Path) -> Cell:
    """The cell with a batch size: its own, the stored one, or the one found now, which loads the checkpoint.

    Raises PgbenchError.
    """
    if cell.spec.batch:
        return cell
    device = cell.engine.device()
    if not device:
        return with_size(cell, DEFAULT)
    wanted = sizes.shape(cell, device)
    if (found := sizes.find(out, wanted)) is None:
        require_place(out)
        found = sizes.keep(out, wanted, _searched(cell))
    return with_size(cell, found.size)


def with_size(cell: Cell, size: int) -> Cell:
    return replace(cell, spec=replace(cell.spec, batch=size))


def _searched(cell: Cell) -> Found:
    cell.engine.imports()
    backend = cell.engine.load()
    try:
        return search(cell, backend)
    finally:
        backend.close()


def search(cell: Cell, backend: Backend) -> Found:
    """Try sizes on a loaded backend. Raises CheckpointError where a single sample does not fit."""
    tried: list[Tried] = []
    loaded = backend.peak_memory().bytes
    for size, plan in _plans(cell):
        if tried and _would_not_fit(backend, tried[-1].peak_bytes - loaded):
            return _best(tried, "memory bound")
        found = _try(cell, backend, plan, size)
        if found is None and not tried:
            raise CheckpointError(
                "out of memory with a single sample; take a checkpoint of fewer pixels, another level "
                "(--quant 8bit or 4bit), or free the device"
            )
        if found is None:
            return _best(tried, "out of memory")
        tried.append(found)
        if len(tried) > _PATIENCE and all(one.gain < GAIN for one in tried[-_PATIENCE:]):
            return _best(tried, "no gain")
        if len(plan.positions) == 1:
            return _best(tried, "all samples")
    return _best(tried, "largest tried")


def _plans(cell: Cell) -> Iterator[tuple[int, Planned]]:
    """Each size with its plan, where the largest batch is another one than that of the size before."""
    chosen, samples = choose(cell.spec, cell.task, cell.dataset.samples), 0
    for size in (1 << power for power in range(sizes.LARGEST.bit_length())):
        plan = planned(replace(cell.spec, batch=size), chosen)
        if plan.positions.end(0) > samples:
            samples = plan.positions.end(0)
            yield size, plan


def _try(cell: Cell, backend: Backend, plan: Planned, size: int) -> Tried | None:
    """The first batch of a plan, once for nothing, then timed; None where it does not fit."""
    samples = [cell.dataset.samples[position] for position in plan.positions[0]]
    pairs = zip(samples, plan.alone[0], strict=True)
    asked = askable([prepare(cell, backend, sample, alone == 1) for sample, alone in pairs])
    if not asked:  # every one of them fails, and nothing can be told from it
        return Tried(size, len(samples), 0.0, 0.0, backend.peak_memory().bytes)
    middle = (len(asked) + 1) // 2
    try:
        ask(cell, backend, asked)
        whole = min(_seconds(cell, backend, [asked]) for _ in range(_TIMES))
        halves = [part for part in (asked[:middle], asked[middle:]) if part]
        parts = min(_seconds(cell, backend, halves) for _ in range(_TIMES)) if len(halves) > 1 else whole
    except OutOfMemory:
        return None
    return Tried(size, len(samples), whole, parts, backend.peak_memory().bytes)


def _seconds(cell: Cell, backend: Backend, parts: Sequence[Sequence[Prepared]]) -> float:
    before = time.perf_counter()
    for part in parts:
        ask(cell, backend, part)
    return time.perf_counter() - before


def _best(tried: Sequence[Tried], why: Why) -> Found:
    """The smallest size that no larger one beats by what is worth having."""
    best, since = tried[0], 1.0
    for one in tried[1:]:
        since *= one.gain
        if since >= GAIN:
            best, since = one, 1.0
    return Found(best.size, why, tuple(tried))


def _would_not_fit(backend: Backend, grown: int) -> bool:
    """Whether twice what was taken beside the weights is more than is free. A GPU says so itself, and can
    be asked again; a process that takes too much of the machine's memory is killed."""
    free = free_memory() if backend.peak_memory().kind == "process resident" else None
    return free is not None and grown > _SHARE * free


def free_memory() -> int | None:
    """Bytes that this machine, or the group of processes that this one is in, has left; None: not known."""
    found = [_machine(), _group()]
    return min((one for one in found if one is not None), default=None)


def _machine() -> int | None:
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _group() -> int | None:
    """Of cgroup 2; what the kernel keeps of files counts as taken, and is given back when it is wanted."""
    most, taken = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        return max(0, int(most.read_text()) - int(taken.read_text()))
    except (OSError, ValueError):  # none, or "max"
        return None

"""What the commands run and sweep do, for Python: nothing is printed, no process is left, Ctrl-C passes."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from pgbench.recipe.asked import AskedCell, BatchSize
    from pgbench.records import RunRecord
    from pgbench.sweeping.work import Swept
    from pgbench.types import (
        AdapterMode,
        AdapterOrder,
        Attention,
        CacheKind,
        ChatAttention,
        Dtype,
        Kind,
        Mode,
        ProtocolName,
        Quant,
        QuantScope,
        Style,
    )

P = ParamSpec("P")
T = TypeVar("T")

_ENGINES = ("serial", "local", "ray")
_SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished run: its record, where it lies, whether it was there already, and, where answers made
    elsewhere were scored, the ids of those that belong to no sample."""

    record: RunRecord
    folder: Path
    already_done: bool
    surplus: tuple[str, ...] = ()


def _known(function: Callable[P, T]) -> Callable[P, T]:
    """Says of a keyword that is none which one may have been meant; Python 3.11 does not."""
    names = tuple(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: P.args, **keywords: P.kwargs) -> T:
        for name in keywords:
            if name not in names:
                raise UsageError(unknown(f"keyword of pgbench.{function.__name__}", name, names))
        return function(*args, **keywords)

    return checked


@_known
def run(
    task: str | Path,
    model: str | Path | None = None,
    *,
    revision: str | None = None,
    quant: Quant = "none",
    quant_scope: QuantScope = "all",
    kind: Kind | None = None,
    tuned_on: str | None = None,
    resolution: int | None = None,
    adapter: str | Path | None = None,
    adapter_mode: AdapterMode | None = None,
    adapter_order: AdapterOrder | None = None,
    dtype: Dtype = "bfloat16",
    device: str = "auto",
    max_memory: str | None = None,
    batch_size: BatchSize = 8,
    source: str | None = None,
    data: str | Path | None = None,
    data_id: str | None = None,
    data_revision: str | None = None,
    split: str | None = None,
    variant: str | None = None,
    metric: str | None = None,
    mode: Mode = "generate",
    prompt_style: Style = "paligemma",
    chat_attention: ChatAttention | None = None,
    protocol: ProtocolName = "hf",
    pixels_from: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    official_seed: int | None = None,
    backend: str = "paligemma",
    predictions: str | Path | None = None,
    threads: int | None = None,
    attention: Attention | None = None,
    cache: CacheKind | None = None,
    max_failures: int = 0,
    no_reuse: bool = False,
    out: str | Path = "results/runs",
    progress: Callable[[int, int], None] | None = None,
) -> Ran:
    """One checkpoint on one task, as `pgbench run`: to its record, or on from where it stopped.

    Keywords are the flags of the command, `_` for `-`. `progress` is told samples done and samples in all,
    after each batch. Samples that failed raise nothing: they are in `record.failures`, scored 0 and counted;
    `max_failures` is how many may lack their image before anything is run.

    Raises UsageError, DataError, CheckpointError, HubError, ResumeError or StoreError before the first
    sample, RunStopped after it (the same call goes on); KeyboardInterrupt passes and keeps all answers.
    """
    given: dict[str, Any] = dict(locals())
    del given["out"], given["progress"], given["no_reuse"]
    return _ran(replace(_asked(given), reuse=not no_reuse), Path(out), progress or (lambda done, total: None))


def _ran(asked: AskedCell, out: Path, progress: Callable[[int, int], None]) -> Ran:
    from pgbench import runner
    from pgbench.sweeping.loans import Loans
    from pgbench.sweeping.opening import open_cell
    from pgbench.sweeping.sizing import settled

    with contextlib.closing(Loans()) as loans:
        cell, surplus = open_cell(asked, loans.engine)
        done = runner.run(settled(cell, out), out, progress)
    return Ran(done.record, done.folder, done.already_done, tuple(surplus))


def sweep(
    sweep: str | Path | Mapping[str, object],
    *,
    engine: str = "serial",
    workers: int | None = None,
    address: str | None = None,
    no_reuse: bool = False,
    out: str | Path = "results/runs",
    **overrides: object,
) -> Swept:
    """Every cell of a sweep file, or of the same as a mapping, as `pgbench sweep`.

    `overrides` are keys of a sweep file: an option (`limit=500`) counts for every cell, an axis
    (`quant=["none", "4bit"]`) takes the place of the file's. `engine` is "serial" (this process, one cell
    after the other), "local" (the devices of this machine, a process for each loaded checkpoint) or "ray".

    A cell that fails stops no other: `cells` has the state, reason and record of each, in order, and `whole`
    says whether all are done. The same call again goes on; `pgbench status` shows how far it is meanwhile.

    Raises UsageError, which lists all that is wrong with the sweep, before anything is run; StoreError where
    `out` cannot be written; KeyboardInterrupt passes and keeps all answers.
    """
    from pgbench.recipe.read import read

    if isinstance(sweep, Mapping):
        cells = read(None, {**sweep, **overrides})
    elif isinstance(sweep, (str, Path)):
        cells = read(Path(sweep), overrides)
    else:
        raise UsageError(f"expected the path of a sweep file, or a mapping, got {_short(sweep)}")
    cells = tuple(replace(cell, reuse=not no_reuse) for cell in cells)
    swept = _swept(cells, Path(out), engine, workers, address)
    if swept.stopped:
        raise KeyboardInterrupt(f"{swept.stopped}; all answers are kept, the same call goes on")
    return swept


def _swept(
    cells: tuple[AskedCell, ...], out: Path, engine: str, workers: int | None, address: str | None
) -> Swept:
    if engine not in _ENGINES:
        raise UsageError(unknown("engine", str(engine), _ENGINES))
    if workers is not None and engine == "serial":
        raise UsageError('workers goes with engine="local" or "ray"; serial is one process')
    if address is not None and engine != "ray":
        raise UsageError(f'address goes with engine="ray", not with {engine}')
    if engine == "local":
        from pgbench.engines import local

        return local.sweep(cells, out, workers=workers)
    if engine == "ray":
        from pgbench.engines import ray

        return ray.sweep(cells, out, address=address, workers=workers)
    from pgbench.sweeping import work

    return work.sweep(cells, out)


def _asked(given: Mapping[str, Any]) -> AskedCell:
    """Raises UsageError, which names every value that is none."""
    from pydantic import ValidationError

    from pgbench.recipe.asked import AskedCell
    from pgbench.recipe.shape import CellEntry
    from pgbench.types import DataRequest, ModelRequest

    plain = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    try:
        entry = CellEntry.model_validate(plain)
    except ValidationError as error:
        names = dict.fromkeys(str(item["loc"][0]) for item in error.errors())
        raise UsageError("; ".join(_refusal(name, given[name]) for name in names)) from error
    said = {name: value for name, value in entry.model_dump().items() if value is not None}
    model = {name: said[name] for name in _MODEL if name in said}
    style = {"style": said["prompt_style"]} if "prompt_style" in said else {}
    data = {field: said[name] for name, field in _DATA.items() if name in said}
    rest = {field: said[name] for name, field in _REST.items() if name in said}
    if rest.get("limit") == "all":
        del rest["limit"]
    split = said.get("split", "")
    return AskedCell(model=ModelRequest(**model, **style), data=DataRequest(split=split, **data), **rest)


_MODEL = (
    *("model", "revision", "dtype", "quant", "protocol", "pixels_from", "chat_attention"),
    *("kind", "tuned_on", "resolution", "quant_scope", "adapter", "adapter_mode", "adapter_order"),
    *("device", "max_memory", "threads", "attention", "cache", "predictions"),
)
_DATA = {"data": "path", "data_id": "id", "data_revision": "revision"}
_REST = {
    **{name: name for name in ("task", "backend", "source", "variant", "metric", "official_seed", "limit")},
    "seed": "seed",
    "mode": "mode",
    "batch_size": "batch",
    "max_failures": "max_failures",
}


def _refusal(name: str, value: object) -> str:
    from pgbench.errors import nearest
    from pgbench.recipe.shape import CellEntry

    expected = CellEntry.model_fields[name].description or "something else"
    near = nearest(value, expected.split(" | ")) if isinstance(value, str) else ""
    return f"{name}: got {_short(value)}; expected {expected}{f'; did you mean {near}?' if near else ''}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."

"""The seam between pgbench and whatever answers: the protocol, and the names of the shipped backends.

Only modules below this package import torch or transformers, and only when a backend is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from pgbench.errors import UsageError
from pgbench.keys import bytes_key, json_key
from pgbench.records import PeakMemory, Stack
from pgbench.types import Checkpoint, ModelRequest, Prepared, Reply, Request

if TYPE_CHECKING:  # names are listed without importing what is below this package
    from pgbench.backends.size import ModelSize

# name -> "module:function" of an EngineFactory, imported on demand
SHIPPED: Mapping[str, str] = {
    "oracle": "pgbench.backends.oracle:engine",
    "paligemma": "pgbench.backends.paligemma:engine",
    "replay": "pgbench.backends.replay:engine",
}


class Backend(Protocol):
    """What answers. `prepare` is thread-safe and runs on the CPU; the rest is called from one thread."""

    def describe(self) -> Stack: ...

    def prepare(self, request: Request) -> Prepared:
        """Raises SampleError for an image that cannot be used."""
        ...

    def generate(self, batch: Sequence[Prepared]) -> Sequence[Reply]:
        """Greedy decoding; as many replies as requests, in their order."""
        ...

    def score(self, batch: Sequence[Prepared], continuations: Sequence[Sequence[str]]) -> Sequence[Reply]:
        """Log-likelihoods of given continuations. Raises UsageError where the backend offers none."""
        ...

    def peak_memory(self) -> PeakMemory: ...

    def close(self) -> None: ...


def _nothing() -> None:
    """The backend needs no heavy library."""


def _not_kept() -> None:
    """Every `load` loads."""


def _not_shared() -> bool:
    """Nobody else has it."""
    return False


def _not_known() -> None:
    """The backend cannot tell, or has no model."""


def _nowhere() -> str:
    """The backend has no model, or cannot tell."""
    return ""


@dataclass(frozen=True, slots=True)
class Engine:
    """A checkpoint that is known (its config read, its revision resolved) and not yet loaded."""

    checkpoint: Checkpoint
    load: Callable[[], Backend]
    imports: Callable[[], None] = _nothing  # what `load` would import, so that it is not timed as loading
    reusable: bool = False  # equal request keys mean equal answers, in whatever cell
    kept: Callable[[], float | None] = _not_kept  # seconds that loading took, where `load` only hands it on
    shared: Callable[[], bool] = _not_shared  # whether it was loaded for an earlier cell
    size: Callable[[], ModelSize | None] = _not_known  # of the model, from its config alone
    device: Callable[[], str] = _nowhere  # where `load` would put it: its kind and name; may import libraries


# What a backend's name leads to. Where it may fetch weights, a function `peek` beside it does not.
EngineFactory: TypeAlias = Callable[[ModelRequest], Engine]


_SCORING = ("pysbd", "sacrebleu")  # libraries whose version can move a score
JUDGES = ("task", "pgbench code", "pgbench", *_SCORING)  # versions that decide how an answer is scored


def versions(*packages: str) -> dict[str, str]:
    """Installed versions, Python's own and pgbench's among them; "absent" for a package that is not there."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "pgbench code": _code_key()}
    for package in ("pgbench", *_SCORING, *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def _code_key() -> str:
    """sha256 over pgbench's own source: a version number stands still while a checkout moves."""
    from importlib.resources import files
    from pathlib import Path

    root = Path(str(files("pgbench")))
    sources = sorted(path for path in root.rglob("*.py"))
    return json_key({path.relative_to(root).as_posix(): bytes_key([path.read_bytes()]) for path in sources})


def process_peak(before: int = 0) -> PeakMemory:
    """The largest resident set of this process since `start_process_peak`, or since its start."""
    import resource
    import sys

    found = _status("VmHWM")
    if found is None:
        unit = 1 if sys.platform == "darwin" else 1024
        found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return PeakMemory(found, "process resident", before)


def start_process_peak() -> int:
    """Start the peak afresh for this cell, which only Linux can; returns the bytes resident now."""
    import contextlib
    from pathlib import Path

    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS") or 0


def _status(name: str) -> int | None:
    """A figure of /proc/self/status in bytes; None where there is none."""
    from pathlib import Path

    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def refuse_model(request: ModelRequest, backend: str) -> None:
    """For backends without a checkpoint: what names or shapes one would be ignored. Raises UsageError."""
    if request.model or request.revision or request.quant != "none":
        raise UsageError(
            f"the {backend} backend loads no checkpoint: leave out --model, --revision and --quant"
        )
    if request.chat_attention is not None:
        raise UsageError(f"the {backend} backend loads no checkpoint: leave out --chat-attention")
    if request.attention is not None or request.cache is not None:
        raise UsageError(f"the {backend} backend loads no checkpoint: leave out --attention and --cache")
    others = (request.kind, request.tuned_on, request.resolution, request.max_memory)
    adapter = (request.adapter, request.adapter_mode, request.adapter_order)
    if any((*others, *adapter)) or request.quant_scope != "all":
        raise UsageError(
            f"the {backend} backend loads no checkpoint: leave out --adapter and its like, --kind, "
            "--tuned-on, --resolution, --quant-scope and --max-memory"
        )
    if request.protocol != "hf" or request.pixels_from is not None:
        raise UsageError(f"the {backend} backend sees no pixels: leave out --protocol and --pixels-from")


class TextBackend:
    """The half that backends without a model share: no device, no pixels, no likelihoods."""

    opens_images = False  # nothing to do in threads; a backend without this word is taken to open them
    _before = 0  # bytes

    def __init__(self, name: str) -> None:
        self._name = name
        self._before = start_process_peak()

    def describe(self) -> Stack:
        return Stack(backend=self._name, versions=versions())

    def prepare(self, request: Request) -> Prepared:
        key = json_key({"backend": self._name, "sample": request.sample_id, "prompt": request.prompt})
        return Prepared(request=request, inputs=None, length=0, image_key="", request_key=key)

    def score(self, batch: Sequence[Prepared], continuations: Sequence[Sequence[str]]) -> Sequence[Reply]:
        raise UsageError(f"the {self._name} backend has no likelihoods; use --mode generate")

    def peak_memory(self) -> PeakMemory:
        return process_peak(self._before)

    def restart_peak(self) -> None:
        """The next `peak_memory` is of what follows."""
        start_process_peak()

    def close(self) -> None:
        return None

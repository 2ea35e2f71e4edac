"""PaliGemma and PaliGemma 2 through Hugging Face transformers: the reference engine.

Other engines are not offered: vLLM 0.33 makes only the image span bidirectional and leaves the text
prefix causal (v1/attention/backends/utils.py), which is not the mask that PaliGemma was trained with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbench.backends import Backend, Engine
from pgbench.backends.paligemma.checkpoint import Files, look_at, read_object, resolve
from pgbench.backends.paligemma.size import size_of
from pgbench.errors import UsageError
from pgbench.types import ModelRequest

if TYPE_CHECKING:
    from pathlib import Path

    from pgbench.backends.size import ModelSize
    from pgbench.types import Checkpoint


def engine(request: ModelRequest) -> Engine:
    """Find the checkpoint and read its config; weights are loaded when the engine is.

    Raises UsageError, CheckpointError, HubError.
    """
    _check(request)
    checkpoint, folder = resolve(request)
    opened = Files.of(folder)
    return Engine(
        checkpoint,
        lambda: _load(checkpoint, opened, request),
        _imports,
        reusable=True,
        size=lambda: _size(checkpoint, folder),
    )


def peek(request: ModelRequest) -> Engine:
    """The same checkpoint from its config alone: weights are fetched when the engine is loaded.

    Raises UsageError, CheckpointError, HubError.
    """
    _check(request)
    checkpoint, folder = look_at(request)
    return Engine(
        checkpoint,
        lambda: engine(request).load(),
        _imports,
        reusable=True,
        size=lambda: _size(checkpoint, folder),
    )


def _check(request: ModelRequest) -> None:
    if request.predictions is not None:
        raise UsageError("--predictions goes with --backend replay")
    if request.device not in ("auto", "cpu"):  # told before gigabytes are fetched; costs importing torch
        from pgbench.backends.paligemma.load import device_of

        device_of(request.device)


def _size(checkpoint: Checkpoint, folder: Path) -> ModelSize | None:
    return size_of(read_object(folder / "config.json", checkpoint.id))


def _imports() -> None:
    from pgbench.backends.paligemma import generate, load  # noqa: F401 - seconds, at their first import


def _load(checkpoint: Checkpoint, opened: Files, request: ModelRequest) -> Backend:
    from pgbench.backends.paligemma.generate import PaliGemma
    from pgbench.backends.paligemma.load import load

    loaded = load(checkpoint, opened.folder, request)
    opened.require_same(checkpoint.id)  # its revision names what was there then
    return PaliGemma(checkpoint, loaded, opened)

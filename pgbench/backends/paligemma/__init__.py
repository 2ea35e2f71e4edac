"""PaliGemma and PaliGemma 2 through Hugging Face transformers: the reference engine.

Other engines are not offered: vLLM 0.33 makes only the image span bidirectional and leaves the text
prefix causal (v1/attention/backends/utils.py), which is not the mask that PaliGemma was trained with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbench.backends import Backend, Engine
from pgbench.backends.paligemma.checkpoint import Files, Found, find, read_object
from pgbench.backends.paligemma.size import size_of
from pgbench.errors import UsageError
from pgbench.types import ModelRequest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pgbench.backends.size import ModelSize
    from pgbench.types import Checkpoint


def engine(request: ModelRequest) -> Engine:
    """Find the checkpoint and read its config; weights are loaded when the engine is.

    Raises UsageError, CheckpointError, HubError.
    """
    _check(request)
    found = find(request)
    opened = [Files.of(found.folder), *([found.adapter.opened()] if found.adapter else [])]
    return Engine(
        found.checkpoint,
        lambda: _load(found, opened, request),
        _imports,
        reusable=True,
        size=lambda: _size(found.checkpoint, found.folder),
        device=lambda: _device(request),
    )


def peek(request: ModelRequest) -> Engine:
    """The same checkpoint from its config alone: weights are fetched when the engine is loaded.

    Raises UsageError, CheckpointError, HubError.
    """
    _check(request)
    found = find(request, weights=False)
    return Engine(
        found.checkpoint,
        lambda: engine(request).load(),
        _imports,
        reusable=True,
        size=lambda: _size(found.checkpoint, found.folder),
        device=lambda: _device(request),
    )


def _check(request: ModelRequest) -> None:
    if request.predictions is not None:
        raise UsageError("--predictions goes with --backend replay")
    if request.device not in ("auto", "cpu") or request.max_memory:  # told before gigabytes are fetched
        hush()
        from pgbench.backends.paligemma import placement
        from pgbench.backends.paligemma.load import device_of

        device_of(placement.entrance(request))
        placement.max_memory(request)


def _size(checkpoint: Checkpoint, folder: Path) -> ModelSize | None:
    return size_of(read_object(folder / "config.json", checkpoint.id))


def _device(request: ModelRequest) -> str:
    """cpu, or the GPU by its name; of --device auto-map with the memory that it may take."""
    if request.device == "cpu":
        return "cpu"
    hush()
    import torch

    from pgbench.backends.paligemma import placement
    from pgbench.backends.paligemma.load import device_of

    device = device_of(placement.entrance(request))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    spread = f" auto-map {request.max_memory or ''}".rstrip() if request.device == "auto-map" else ""
    return f"{name}{spread}"


def hush() -> None:
    """torchao, where it is installed, is imported with transformers' models, and says on stderr which of its
    CUDA libraries are not for this machine (torchao 0.18, torch 2.13)."""
    import logging

    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _imports() -> None:
    hush()
    from pgbench.backends.paligemma import generate, load  # noqa: F401 - seconds, at their first import


def _load(found: Found, opened: Sequence[Files], request: ModelRequest) -> Backend:
    hush()
    from pgbench.backends.paligemma.generate import PaliGemma
    from pgbench.backends.paligemma.load import load

    loaded = load(found.checkpoint, found.folder, request, found.adapter)
    for files in opened:  # their revisions name what was there then
        files.require_same(files.folder.name if files.folder != found.folder else found.checkpoint.id)
    return PaliGemma(found.checkpoint, loaded, opened[0])

"""From what --model says to a folder of safetensors and a Checkpoint that names its content.

Nothing here imports torch: a wrong name, a repository that is not PaliGemma and a missing licence are
told in a second, before any weight is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

from pgbench.backends.paligemma import adapter as lora
from pgbench.backends.paligemma import kinds
from pgbench.backends.paligemma.contents import CONTENT
from pgbench.backends.paligemma.contents import Files as Files
from pgbench.backends.paligemma.contents import content_key as content_key
from pgbench.backends.paligemma.contents import folder_at as folder_at
from pgbench.backends.paligemma.contents import read_object as read_object
from pgbench.backends.paligemma.contents import require_weights as require_weights
from pgbench.errors import CheckpointError, HubError, UsageError, nearest, unknown
from pgbench.profiles import DEFAULT, EXAMPLE, RELEASED, SHIPPED
from pgbench.types import ChatAttention, Checkpoint, Family, ModelRequest, Profile

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CONFIG = ("config.json",)
_FAMILIES: Mapping[str, Family] = {"gemma": "paligemma", "gemma2": "paligemma2"}
_SIGLIP_DEFAULT_PX = 224  # SiglipVisionConfig.image_size; the 224-px repositories leave it out
_LARGEST_PX = 4096  # the released ones end at 896; above this the config is broken
Fetch: TypeAlias = Callable[[str, str | None], tuple[Path, str]]  # a hub id and revision: folder and commit


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint, the folder it lies in, and the adapter that goes into it."""

    checkpoint: Checkpoint
    folder: Path
    adapter: lora.Adapter | None


def resolve(request: ModelRequest) -> tuple[Checkpoint, Path]:
    """The checkpoint and the folder it lies in, downloaded if it is a hub id.

    Raises as `find` does.
    """
    found = find(request)
    return found.checkpoint, found.folder


def find(request: ModelRequest, *, weights: bool = True) -> Found:
    """The checkpoint with its adapter; what is a hub id is downloaded.

    `weights`: of a hub id not the config alone; whether it has safetensors is not known without. Raises
    UsageError for an unknown name, HubError, CheckpointError for what is not a PaliGemma in safetensors.
    """
    kinds.require_library(request.quant)
    fetch: Fetch = _download if weights else _glance
    name, folder, revision = _locate(request, fetch)
    family, resolution = _read_config(folder, name)
    kinds.require_resolution(request.resolution, resolution, name)
    _require_fewer(request.pixels_from, resolution, name)
    if revision is None or weights:
        require_weights(folder, name)
    adapter = lora.find(request, _adapter_files(weights), whole=weights)
    if adapter:
        lora.require_fit(adapter, name, family, resolution)
    mode, order = lora.settings(request) if adapter else (None, None)
    profile = kinds.profile(request, adapter.id if adapter else name, family)
    checkpoint = Checkpoint(
        id=name,
        revision=revision or content_key(folder),
        profile=profile,
        resolution=resolution,
        dtype=request.dtype,
        quant=request.quant,
        quant_scope=request.quant_scope if request.quant != "none" else "all",
        protocol=request.protocol,
        pixels_from=request.pixels_from,
        chat_attention=_chat_attention(request, profile, name),
        demo=request.model in (None, *SHIPPED),
        adapter=adapter.id if adapter else None,
        adapter_revision=adapter.revision if adapter else None,
        adapter_mode=mode,
        adapter_order=order,
        attention=request.attention,
        cache=request.cache,
    )
    return Found(checkpoint, folder, adapter)


def _chat_attention(request: ModelRequest, profile: Profile, name: str) -> ChatAttention | None:
    """As asked, or the default that paligemma/chat.py has a reason for; None for other kinds.

    Raises UsageError where it does not go with the checkpoint.
    """
    if profile.kind == "chat" and request.protocol == "paper":
        raise UsageError(
            f"--protocol paper is big_vision's, which never asked a chat model as {name} is; leave it out"
        )
    if profile.kind == "chat":
        return request.chat_attention or "full"
    if request.chat_attention is not None:
        raise UsageError(f"--chat-attention goes with a chat checkpoint; {name} is of kind {profile.kind}")
    return None


def _require_fewer(pixels_from: int | None, resolution: int, name: str) -> None:
    """Raises UsageError where pictures would not be reduced."""
    if pixels_from is not None and not 1 <= pixels_from < resolution:
        raise UsageError(
            f"--pixels-from {pixels_from}: {name} has {resolution} px; expected fewer, or leave it out"
        )


def _locate(request: ModelRequest, fetch: Fetch) -> tuple[str, Path, str | None]:
    """Name, folder and, for a hub id, the commit."""
    model = DEFAULT if request.model is None else request.model
    if not model.strip():  # an unset shell variable must not measure the demo checkpoint instead
        raise UsageError("--model is empty; name a checkpoint folder, a hub id (org/name) or a shipped name")
    if model in SHIPPED:
        _refuse_revision(request, model)
        return model, Path(str(files("pgbench") / "demo" / "checkpoints" / model)), None
    if (folder := folder_at(model)) is not None:
        _refuse_revision(request, model)
        # the name as given, links unresolved: it says what kind of checkpoint this is
        return Path(os.path.abspath(folder)).name, folder, None  # noqa: PTH100 - Path.absolute keeps ".."
    name, _, at = model.partition("@")
    if HUB_ID.fullmatch(name):
        folder, commit = fetch(name, _one_revision(model, request.revision, at))
        return name, folder, commit
    if any(mark in model for mark in "/\\") or model.startswith(("~", ".")):
        raise CheckpointError(
            f"no folder {model}; expected a checkpoint folder, a hub id (org/name) or a shipped name"
        )
    raise UsageError(
        unknown(
            "checkpoint",
            model,
            SHIPPED,
            also=RELEASED,
            hint=f"; or a folder, or a hub id such as {EXAMPLE}",
        )
    )


def _one_revision(model: str, flag: str | None, at: str) -> str | None:
    if flag and at and flag != at:
        raise UsageError(f"--model {model} and --revision {flag} name two revisions; give one of them")
    return flag or at or None


def _refuse_revision(request: ModelRequest, model: str) -> None:
    if request.revision:
        raise UsageError(f"--revision goes with a hub id; {model} is on this machine and has none")


def _download(name: str, revision: str | None) -> tuple[Path, str]:
    """The config first, so that what is no PaliGemma is refused before gigabytes are fetched."""
    from pgbench.sources.hub import fetch

    folder, commit = _glance(name, revision)
    _read_config(folder, name)
    folder, _ = fetch(name, commit, repo_type="model", patterns=CONTENT)
    return folder, commit


def _adapter_files(weights: bool) -> lora.Fetch:
    """Fetches an adapter's config, and its weights where they are wanted."""
    from pgbench.sources.hub import fetch

    def fetched(name: str, revision: str | None) -> tuple[Path, str]:
        folder, commit = fetch(name, revision, repo_type="model", patterns=(lora.CONFIG,), peek=True)
        if weights:
            folder, _ = fetch(name, commit, repo_type="model", patterns=(lora.CONFIG, lora.WEIGHTS))
        return folder, commit

    return fetched


def _glance(name: str, revision: str | None) -> tuple[Path, str]:
    """The config alone."""
    from pgbench.sources.hub import fetch

    try:
        return fetch(name, revision, repo_type="model", patterns=_CONFIG, peek=True)
    except HubError as error:
        guess = nearest(name, RELEASED) if _nowhere(error) and name not in RELEASED else ""
        raise HubError(f"{error}{f' (did you mean {guess}?)' if guess else ''}") from error


def _nowhere(error: HubError) -> bool:
    """Whether the hub knows no such repository; one that is gated, or out of reach, is spelt right."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    from pgbench.sources.hub import chain

    causes = [cause for cause in chain(error) if isinstance(cause, RepositoryNotFoundError)]
    return bool(causes) and not any(isinstance(cause, GatedRepoError) for cause in causes)


def _read_config(folder: Path, name: str) -> tuple[Family, int]:
    """Family and resolution in px. Raises CheckpointError."""
    config = read_object(folder / "config.json", name)
    kind = config.get("model_type")
    text = _part(config, "text_config", name).get("model_type", "gemma")
    if not isinstance(text, str) or kind != "paligemma" or text not in _FAMILIES:
        raise CheckpointError(
            f"{name} is a {kind!r} checkpoint{f' with {text!r} text' if kind == 'paligemma' else ''}; "
            "pgbench runs PaliGemma (text gemma) and PaliGemma 2 (text gemma2)"
        )
    if config.get("quantization_config"):
        raise CheckpointError(
            f"{name} is already quantized; name the full-precision checkpoint and use --quant"
        )
    size = _part(config, "vision_config", name).get("image_size", _SIGLIP_DEFAULT_PX)
    if type(size) is not int or not 1 <= size <= _LARGEST_PX:  # True is an int too
        raise CheckpointError(
            f"{name}: config.json has image_size {size!r}, expected pixels from 1 to {_LARGEST_PX}"
        )
    return _FAMILIES[text], size


def _part(config: Mapping[str, Any], key: str, name: str) -> Mapping[str, Any]:
    part = config.get(key) or {}
    if not isinstance(part, dict):
        raise CheckpointError(f"{name}: config.json has a {type(part).__name__} as {key}, expected an object")
    return part

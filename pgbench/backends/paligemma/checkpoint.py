"""From what --model says to a folder of safetensors and a Checkpoint that names its content.

Nothing here imports torch: a wrong name, a repository that is not PaliGemma and a missing licence are
told in a second, before any weight is read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

from pgbench.errors import CheckpointError, HubError, UsageError, nearest, unknown
from pgbench.keys import bytes_key, json_key
from pgbench.profiles import DEFAULT, EXAMPLE, RELEASED, SHIPPED, profile_of
from pgbench.types import Checkpoint, Family, ModelRequest

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CONFIG = ("config.json",)
_CONTENT = ("*.json", "*.safetensors", "tokenizer.model")  # what is loaded, hence what is hashed
_FAMILIES: Mapping[str, Family] = {"gemma": "paligemma", "gemma2": "paligemma2"}
_SIGLIP_DEFAULT_PX = 224  # SiglipVisionConfig.image_size; the 224-px repositories leave it out
_LARGEST_PX = 4096  # the released ones end at 896; above this the config is broken
_CHUNK = 1 << 24
Fetch: TypeAlias = Callable[[str, str | None], tuple[Path, str]]  # a hub id and revision: folder and commit


def resolve(request: ModelRequest) -> tuple[Checkpoint, Path]:
    """The checkpoint and the folder it lies in, downloaded if it is a hub id.

    Raises UsageError for an unknown name, HubError, CheckpointError for what is not a PaliGemma in
    safetensors.
    """
    return _found(request, _download)


def look_at(request: ModelRequest) -> tuple[Checkpoint, Path]:
    """The same, of a hub id with its config alone: whether it has safetensors is not known then."""
    return _found(request, _glance)


def _found(request: ModelRequest, fetch: Fetch) -> tuple[Checkpoint, Path]:
    name, folder, revision = _locate(request, fetch)
    family, resolution = _read_config(folder, name)
    if revision is None or fetch is _download:
        require_weights(folder, name)
    checkpoint = Checkpoint(
        id=name,
        revision=revision or content_key(folder),
        profile=profile_of(name, family, request.style),
        resolution=resolution,
        dtype=request.dtype,
        quant=request.quant,
        demo=request.model in (None, *SHIPPED),
    )
    return checkpoint, folder


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


def folder_at(model: str) -> Path | None:
    """The folder that a text names, if there is one; a text may be no path at all."""
    try:
        folder = Path(model).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):  # longer than a file name may be; the home of nobody
        return None


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
    folder, _ = fetch(name, commit, repo_type="model", patterns=_CONTENT)
    return folder, commit


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


def read_object(path: Path, name: str) -> dict[str, Any]:
    """The JSON object in one of a checkpoint's files. Raises CheckpointError."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{name} has no readable {path.name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name}: {path.name} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{name}: {path.name} is not an object")
    return document


def require_weights(folder: Path, name: str) -> None:
    """Safetensors, whole. Raises CheckpointError for pickled weights, an adapter alone, or none."""
    if (folder / "adapter_config.json").is_file():  # transformers applies it or not, as peft is there or not
        raise CheckpointError(f"{name} holds an adapter; merge it into its base model and name the result")
    if any(folder.glob("*.safetensors")):
        return _require_flat(folder, name)
    other = sorted(
        path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.npz") for path in folder.glob(pattern)
    )
    found = f"found {', '.join(other[:3])}" if other else "found no weights"
    raise CheckpointError(f"{name}: {found}; pgbench loads safetensors only, never pickled weights")


def _require_flat(folder: Path, name: str) -> None:
    """transformers follows an index into other folders, which the checkpoint's hash does not."""
    for path in folder.glob("*.safetensors.index.json"):
        try:
            names = set(json.loads(path.read_bytes())["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{name}: {path.name} is no index of weights; fetch it again") from error
        if strange := sorted(str(one) for one in names if Path(str(one)).name != one):
            raise CheckpointError(
                f"{name}: {path.name} names {strange[0]}, outside its folder; put all weights beside it"
            )


def content_key(folder: Path, patterns: Sequence[str] = _CONTENT) -> str:
    """sha256 over names and contents of all that is loaded: two folders with equal keys answer alike."""
    paths, seen = _paths(folder, patterns), Files.of(folder, patterns)
    try:
        key = json_key({path.name: bytes_key(_chunks(path)) for path in paths})
    except OSError as error:
        unread = Path(error.filename or folder).name
        raise CheckpointError(f"cannot read {unread} of the checkpoint: {error.strerror}") from error
    seen.require_same(folder.name)
    return key


@dataclass(frozen=True, slots=True)
class Files:
    """What a checkpoint consists of at one moment: an edit is told from this, without reading gigabytes."""

    folder: Path
    patterns: Sequence[str]
    marks: Mapping[str, tuple[int, int, int] | None]  # name -> inode, bytes, time of the last change

    @classmethod
    def of(cls, folder: Path, patterns: Sequence[str] = _CONTENT) -> Files:
        return cls(folder, patterns, {path.name: _mark(path) for path in _paths(folder, patterns)})

    def require_same(self, name: str) -> None:
        """Raises CheckpointError where the folder holds anything else by now."""
        if Files.of(self.folder, self.patterns) != self:
            raise CheckpointError(f"the files of {name} have changed since they were opened; run again")

    def require_unedited(self, name: str) -> None:
        """Raises CheckpointError where a file was written to: safetensors stay mapped on a CPU, so that a
        loaded model changes with them. What was replaced or deleted stays as it was in memory."""
        for file, mark in self.marks.items():
            found = _mark(self.folder / file)
            if mark and found and found[0] == mark[0] and found != mark:
                raise CheckpointError(f"{file} of {name} was edited while it was in use; run again")


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _paths(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk

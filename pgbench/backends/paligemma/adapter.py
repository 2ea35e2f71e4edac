"""Which LoRA adapter --adapter means, and whether it fits the checkpoint; peft and torch stay out of it.

An adapter is two files, as peft writes them: adapter_config.json and adapter_model.safetensors.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pgbench.backends.paligemma.contents import Files, content_key, folder_at, read_object
from pgbench.errors import CheckpointError, UsageError
from pgbench.profiles import RELEASED
from pgbench.types import AdapterMode, AdapterOrder, Family, ModelRequest

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_FILES = (CONFIG, WEIGHTS)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_NAMED = re.compile(r"(paligemma2?)-(3|10|28)b-(pt|mix|ft-.+)-(224|448|896)")
# What peft can do beside adding a product of two matrices to a linear layer, and what would then have to be
# proved in another way; `false`, null and empty are its defaults (peft 0.21, tuners/lora/config.py).
_MORE_THAN_LORA = (
    *("modules_to_save", "trainable_token_indices", "target_parameters", "layer_replication"),
    *("use_dora", "use_qalora", "use_bdlora", "lora_bias", "alora_invocation_tokens", "arrow_config"),
    *("kasa_config", "velora_config", "monteclora_config", "fan_in_fan_out"),
    "megatron_config",  # has peft import a module that the config names
)
# Others change the base's weights when the adapter is put in, or need them changed.
_PLAIN_START = (True, False, "gaussian", "orthogonal", "eva")
Fetch: TypeAlias = Callable[[str, str | None], tuple[Path, str]]  # a hub id and revision: folder and commit


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter, its config read."""

    id: str  # hub id or the folder's name
    revision: str  # hub commit, or sha256 of its two files
    folder: Path
    config: Mapping[str, Any]

    def opened(self) -> Files:
        """Its files as they are now."""
        return Files.of(self.folder, _FILES)


def find(request: ModelRequest, fetch: Fetch, *, whole: bool) -> Adapter | None:
    """The adapter that was asked for; None where there is none.

    `whole`: its weights have to be there. Raises UsageError for words that do not go together and where peft
    is absent, HubError, CheckpointError for what is no plain LoRA adapter in safetensors.
    """
    if request.adapter is None:
        if request.adapter_mode or request.adapter_order:
            flag = "--adapter-mode" if request.adapter_mode else "--adapter-order"
            raise UsageError(f"{flag} goes with --adapter; name an adapter, or leave it out")
        return None
    if importlib.util.find_spec("peft") is None:
        raise UsageError("--adapter needs peft, which is not installed; pip install 'pgbench[lora]'")
    name, folder, commit = _locate(request.adapter, fetch)
    config = _config(folder, name)
    if whole or commit is None:
        _require_safetensors(folder, name)
        _require_ranks(folder, name, config)
    revision = commit or content_key(folder, _FILES)
    return Adapter(name, revision, folder, config)


def settings(request: ModelRequest) -> tuple[AdapterMode, AdapterOrder | None]:
    """How and when the adapter goes in. Raises UsageError for an order that its mode cannot have."""
    mode = request.adapter_mode or "merge"
    if request.quant == "none":
        return mode, None  # nothing is quantized: it makes no difference
    order = request.adapter_order or ("before" if mode == "merge" else "after")
    if (mode, order) == ("attach", "before"):
        raise UsageError(
            "--adapter-order before with --adapter-mode attach would quantize the adapter itself; expected "
            "--adapter-order after, or --adapter-mode merge"
        )
    if mode == "merge" and order == "after" and request.quant.startswith("quanto"):
        raise UsageError(  # peft 0.21 takes a QLinear for a plain one: its merge changes nothing, silently
            f"--adapter-order after: peft cannot merge into the layers of --quant {request.quant}; expected "
            "--adapter-order before, or --adapter-mode attach"
        )
    return mode, order


def require_fit(adapter: Adapter, base: str, family: Family, resolution: int) -> None:
    """That the adapter was trained on such a checkpoint, as far as the name of its base says.

    Raises CheckpointError. Shapes are compared when it is put in.
    """
    said = str(adapter.config.get("base_model_name_or_path") or "").rstrip("/").rsplit("/", 1)[-1].lower()
    trained, here = _NAMED.search(said), _NAMED.search(base.rsplit("/", 1)[-1].lower())
    if trained is None:
        return
    found = (family, here[2] if here else None, here[3] if here else None, str(resolution))
    wrong = [
        f"{what} {one} and not {other}"
        for what, one, other in zip(("family", "size", "kind", "px"), trained.groups(), found, strict=True)
        if other is not None and one != other
    ]
    if wrong:
        hint = next((name for name in RELEASED if name.endswith(f"/{trained[0]}")), trained[0])
        raise CheckpointError(
            f"the adapter {adapter.id} was trained on {said}, which is not {base} ({'; '.join(wrong)}); "
            f"expected --model {hint}"
        )


def _locate(text: str, fetch: Fetch) -> tuple[str, Path, str | None]:
    if not text.strip():
        raise UsageError("--adapter is empty; name a folder or a hub id (org/name)")
    if (folder := folder_at(text)) is not None:
        return Path(os.path.abspath(folder)).name or str(folder), folder, None  # noqa: PTH100 - ".." too
    name, _, revision = text.partition("@")
    if _HUB_ID.fullmatch(name):
        found, commit = fetch(name, revision or None)
        return name, found, commit
    raise CheckpointError(f"no folder {text}; expected the folder of an adapter, or a hub id (org/name)")


def _config(folder: Path, name: str) -> dict[str, Any]:
    """Raises CheckpointError for what is no plain LoRA."""
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{name} has no {CONFIG}; expected a LoRA adapter as peft saves it")
    config = read_object(folder / CONFIG, name)
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"{name} is an adapter of type {config.get('peft_type')!r}; expected LORA")
    more = [key for key in _MORE_THAN_LORA if config.get(key)]
    if config.get("bias", "none") != "none":
        more.append("bias")
    if config.get("init_lora_weights", True) not in _PLAIN_START:
        more.append("init_lora_weights")
    if more:
        raise CheckpointError(
            f"{name} is more than a plain LoRA adapter ({', '.join(more)}); merge it with peft, and name the "
            "result with --model"
        )
    _require_numbers(config, name)
    return config


def _require_numbers(config: Mapping[str, Any], name: str) -> None:
    """Ranks that are counts and alphas that are numbers. Raises CheckpointError."""
    if type(config.get("r")) is not int or config["r"] < 1:
        raise CheckpointError(f"{name}: {CONFIG} has rank r {config.get('r')!r}, expected 1 or more")
    patterns = {key: config.get(key) or {} for key in ("rank_pattern", "alpha_pattern")}
    for key, pattern in patterns.items():
        if not isinstance(pattern, dict):
            raise CheckpointError(f"{name}: {CONFIG} has {key} {pattern!r:.40}, expected an object")
    for rank in patterns["rank_pattern"].values():
        if type(rank) is not int or rank < 1:
            raise CheckpointError(f"{name}: {CONFIG} has rank_pattern to {rank!r:.40}, expected 1 or more")
    for alpha in (config.get("lora_alpha", 8), *patterns["alpha_pattern"].values()):  # 8: peft's own
        if type(alpha) not in (int, float) or not -1e30 < alpha < 1e30:
            raise CheckpointError(f"{name}: {CONFIG} has lora_alpha {alpha!r:.40}, expected a number")


def _require_safetensors(folder: Path, name: str) -> None:
    if not (folder / WEIGHTS).is_file():
        pickled = "found adapter_model.bin; " if (folder / "adapter_model.bin").is_file() else ""
        raise CheckpointError(
            f"{name} has no {WEIGHTS}: {pickled}pgbench loads safetensors only, never pickled weights"
        )


def _require_ranks(folder: Path, name: str, config: Mapping[str, Any]) -> None:
    """The matrices have the rank that the config says. Raises CheckpointError."""
    ranks = {config["r"], *(config.get("rank_pattern") or {}).values()}
    shapes = _shapes(folder / WEIGHTS, name)
    if not shapes:
        raise CheckpointError(f"{name}: {WEIGHTS} is empty; save the adapter again")
    told = ", ".join(map(str, sorted(ranks)))
    for key, shape in shapes.items():
        side = 0 if ".lora_A." in key else 1 if ".lora_B." in key else None
        if side is None or len(shape) != 2:
            raise CheckpointError(f"{name}: {WEIGHTS} holds {key}, which is no matrix of a LoRA adapter")
        if shape[side] not in ranks:
            raise CheckpointError(f"{name}: {key} has rank {shape[side]}, its config says {told}")
    largest = max(shape[".lora_B." in key] for key, shape in shapes.items())
    if max(ranks) > largest:  # peft would make room for it before it compares
        raise CheckpointError(f"{name}: {WEIGHTS} has ranks up to {largest}, its config says {told}")


def _shapes(path: Path, name: str) -> dict[str, list[int]]:
    """Tensor -> shape, off the header of a safetensors file."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            entries = json.loads(file.read(min(length, 100_000_000)))
        entries.pop("__metadata__", None)
        return {key: list(map(int, entry["shape"])) for key, entry in entries.items()}
    except OSError as error:
        raise CheckpointError(f"{name}: {path.name} cannot be read: {error.strerror}") from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{name}: {path.name} is no safetensors file: {error}") from error

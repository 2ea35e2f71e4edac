"""Put a LoRA adapter into a loaded model with peft, and prove that all of it is there.

All arithmetic of the adapter is float32, whatever the cell's dtype: its weights, their product, and the sum
with a layer's own weights, which is rounded once, to that dtype. A product rounded to bfloat16 first (8 bits
of mantissa) would lose what is small beside a weight, and a training run keeps adapters in float32 too.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from pgbench.backends.paligemma.adapter import WEIGHTS, Adapter
from pgbench.backends.paligemma.proof import starred, tensors
from pgbench.backends.paligemma.quantizers import class_of, held
from pgbench.errors import CheckpointError, told
from pgbench.records import Adaptation, ModuleGroup
from pgbench.types import AdapterMode, AdapterOrder

_NAME = "default"  # of the adapter, within peft
_TIED = ("lm_head", "embed_tokens")


def put_in(model: Any, adapter: Adapter, mode: AdapterMode, order: AdapterOrder | None) -> Adaptation:
    """The model changed in place, and what was put into it.

    Raises CheckpointError for an adapter of other layers or shapes, and where a tensor of it is not found
    again in the model.
    """
    found = _tensors(adapter)
    with warnings.catch_warnings():  # peft warns of rounding when it merges into quantized layers
        warnings.simplefilter("ignore")
        try:
            tuner = _inject(model, adapter)
            _fill(model, adapter, found)
        except CheckpointError:
            raise
        except Exception as error:  # peft and torch raise many kinds for other layers and shapes
            raise CheckpointError(f"the adapter {adapter.id} does not fit: {_first(error)}") from error
        layers = list(_adapted(model))
        _require_untied(adapter, mode, [name for name, _ in layers])
        shown = _groups(layers)
        try:
            moved = _merge(tuner, layers) if mode == "merge" else 0
        except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:  # a layer without a merge
            raise CheckpointError(f"the adapter {adapter.id} cannot be merged: {told(error)}") from error
    if mode == "merge":
        _require_moved(adapter, found, moved)
    return Adaptation(mode=mode, order=order, tensors=len(found), layers=shown, moved=moved)


def _first(error: Exception) -> str:
    """The line that says what is wrong: torch lists shapes below a line that says that it does."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line.startswith("size mismatch")), told(error))


def _tensors(adapter: Adapter) -> dict[str, torch.Tensor]:
    try:
        found: dict[str, torch.Tensor] = load_file(adapter.folder / WEIGHTS)
    except Exception as error:  # safetensors raises several kinds for a broken file
        said = told(error).replace(str(Path(adapter.folder)), "its folder")
        raise CheckpointError(f"cannot load the adapter {adapter.id}: {said}") from error
    if broken := [name for name, tensor in found.items() if not bool(tensor.isfinite().all())]:
        raise CheckpointError(
            f"the adapter {adapter.id} holds numbers that are not finite, first: {broken[0]}"
        )
    return {name: tensor.float() for name, tensor in found.items()}


def _inject(model: Any, adapter: Adapter) -> Any:
    """Empty matrices beside the layers that the adapter's config names, in float32."""
    from peft import LoraConfig, LoraModel

    config = LoraConfig.from_pretrained(str(adapter.folder))
    config.inference_mode = True
    config.init_lora_weights = True  # they are filled at once; the other ways cost time and change the base
    config.lora_dropout = 0.0  # of training; what peft adds is in training mode, and would draw it here
    tuner = LoraModel(model, config, _NAME)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()
    model.eval()
    return tuner


def _fill(model: Any, adapter: Adapter, found: Mapping[str, torch.Tensor]) -> None:
    """The weights of the file into the model; peft drops what it has no place for, and says nothing.

    It renames what older transformers called otherwise (language_model.model, vision_model).
    """
    from peft import set_peft_model_state_dict

    result = set_peft_model_state_dict(model, dict(found), _NAME)
    if homeless := sorted(result.unexpected_keys):
        raise CheckpointError(
            f"the adapter {adapter.id} has {len(homeless)} weights for layers that its config does not name "
            f"or the checkpoint lacks, first: {homeless[0]}"
        )
    if empty := sorted(key for key in result.missing_keys if ".lora_" in key):
        raise CheckpointError(
            f"the adapter {adapter.id} lacks weights for {len(empty)} places that its config names, first: "
            f"{empty[0]}"
        )
    inside = Counter(
        _digest(parameter.data) for name, parameter in model.named_parameters() if ".lora_" in name
    )
    if inside != Counter(map(_digest, found.values())):
        raise CheckpointError(
            f"the adapter {adapter.id} is not in the model as its file has it: {sum(inside.values())} "
            f"tensors for {len(found)}; save it again with peft"
        )


def _digest(tensor: torch.Tensor) -> tuple[tuple[int, ...], bytes]:
    data = tensor.detach().contiguous().cpu()
    return tuple(data.shape), hashlib.sha256(data.numpy().tobytes()).digest()


def _adapted(model: Any) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if hasattr(module, "base_layer") and hasattr(module, "lora_A"):
            yield name, module


def _groups(layers: list[tuple[str, Any]]) -> tuple[ModuleGroup, ...]:
    """Adapted layers by name with the layer number starred and by class; bytes are the adapter's."""
    gathered: dict[tuple[str, str], list[int]] = defaultdict(list)
    for name, layer in layers:
        parts = (layer.lora_A[_NAME].weight, layer.lora_B[_NAME].weight)
        gathered[starred(name), class_of(layer.base_layer)].append(sum(part.nbytes for part in parts))
    return tuple(ModuleGroup(*key, len(sizes), sum(sizes)) for key, sizes in gathered.items())


def _require_untied(adapter: Adapter, mode: AdapterMode, names: list[str]) -> None:
    """The output layer is the embedding: a merge into one would change the other."""
    tied = [name for name in names if name.rsplit(".", 1)[-1] in _TIED]
    if tied and mode == "merge":
        raise CheckpointError(
            f"the adapter {adapter.id} adapts {tied[0]}, which is tied to another layer; use --adapter-mode "
            "attach"
        )


def _merge(tuner: Any, layers: list[tuple[str, Any]]) -> int:
    """The adapter into the weights; how many layers changed."""
    plain = [layer for _, layer in layers if not held(layer.base_layer)]
    moved = sum(map(_add, plain))
    rest = [layer for _, layer in layers if held(layer.base_layer)]
    before = [_fingerprint(layer.base_layer) for layer in rest]
    for layer in rest:
        layer.merge()  # dequantized, added, quantized again
    moved += sum(one != _fingerprint(layer.base_layer) for one, layer in zip(before, rest, strict=True))
    tuner.unload()
    return moved


def _add(layer: Any) -> bool:
    """In float32, rounded once; peft would add in the weights' own dtype."""
    weight = layer.base_layer.weight
    delta = layer.get_delta_weight(_NAME).float()
    merged = (weight.data.float() + delta.to(weight.device)).to(weight.dtype)
    changed = not torch.equal(merged, weight.data)
    weight.data = merged
    return changed


def _fingerprint(layer: Any) -> tuple[bytes, ...]:
    return tuple(
        hashlib.sha256(one.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes()).digest()
        for one in tensors(layer)
        if one.dim()
    )


def _require_moved(adapter: Adapter, found: Mapping[str, torch.Tensor], moved: int) -> None:
    """Raises CheckpointError where an adapter that is not zero has changed nothing."""
    if moved == 0 and all(bool(tensor.any()) for tensor in found.values()):
        raise CheckpointError(
            f"merging {adapter.id} changed no weight; use --adapter-mode attach, or a finer --dtype"
        )

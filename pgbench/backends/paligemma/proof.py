"""What the loaded model really is, read off its modules: the proof of a quantization level.

`get_memory_footprint` is not used: it leaves out the quantization state of bitsandbytes (184 MB for a
model that takes 194) and counts packed tensors wrongly for other libraries.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from pgbench.backends.paligemma.quantizers import HEAD, SEEING, class_of, figures, held
from pgbench.errors import CheckpointError
from pgbench.records import ModuleGroup, Quantization
from pgbench.types import Quant, QuantScope

_BF16_BYTES = 2


def prove(model: Any, level: Quant, workarounds: tuple[str, ...], scope: QuantScope = "all") -> Quantization:
    """Which linear layers were replaced by which class, which were not, and their true bytes.

    Raises CheckpointError if the level asked for is not what the model holds, down to the last layer.
    """
    wanted = level if level != "none" else ""
    linears = linear_layers(model)
    replaced = [(name, layer) for name, layer in linears if held(layer)]
    skipped = [(name, layer) for name, layer in linears if not held(layer)]
    strange = sorted({held(layer) for _, layer in replaced} - {wanted})
    if strange or (wanted and not replaced):
        raise CheckpointError(
            f"--quant {level} left {', '.join(strange) or 'no quantized layers'} in the model, "
            f"expected {wanted or 'none'}"
        )
    if wanted:
        _require_scope(level, scope, [name for name, _ in replaced], [name for name, _ in skipped])
    kind, compute, double = figures(replaced[0][1]) if replaced else (None, None, None)
    return Quantization(
        level=level,
        replaced=_groups(replaced),
        skipped=_groups(skipped),
        compute_dtype=compute,
        quant_type=kind,
        double_quant=double,
        replaced_bytes=_unique_bytes(tensor for _, module in replaced for tensor in tensors(module)),
        replaced_bytes_bf16=sum(_elements(module) * _BF16_BYTES for _, module in replaced),
        workarounds=workarounds,
    )


def linear_layers(model: Any) -> list[tuple[str, Any]]:
    """The checkpoint's own, by their own names; those of an attached adapter are not among them."""
    return [
        (name.removesuffix(".base_layer"), module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and ".lora_" not in name
    ]


def _require_scope(level: Quant, scope: QuantScope, replaced: list[str], skipped: list[str]) -> None:
    """Everything is replaced but the head and, in scope language, all that sees."""
    kept = (HEAD, *SEEING) if scope == "language" else (HEAD,)
    left = [name for name in skipped if not name.startswith(kept)]
    if left:
        raise CheckpointError(f"--quant {level} left {len(left)} layers as they were, first: {left[0]}")
    over = [name for name in replaced if name.startswith(kept)]
    if over:
        raise CheckpointError(
            f"--quant {level} replaced {len(over)} layers that --quant-scope {scope} keeps, first: {over[0]}"
        )


def true_bytes(model: Any) -> int:
    """Bytes of all parameters, buffers and quantization states as stored; shared storage counts once."""
    tied = getattr(model, "all_tied_weights_keys", None) or {}  # what waits on disk shares no storage
    return _unique_bytes(
        tensor
        for name, module in model.named_modules()
        for tensor in tensors(module)
        if not (tensor.is_meta and f"{name}.weight" in tied)
    )


def tensors(module: Any) -> Iterator[torch.Tensor]:
    """A module's own tensors: parameters, buffers, and what libraries hang beside them or hide in them."""
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        yield from _stored(tensor)
        yield from _state_tensors(getattr(tensor, "quant_state", None))
        for extra in (getattr(tensor, "CB", None), getattr(tensor, "SCB", None)):  # int8 rows and scales
            if isinstance(extra, torch.Tensor):
                yield extra
    state = getattr(module, "state", None)  # LLM.int8 moves its weights here at the first forward
    for name in ("CB", "SCB"):
        if isinstance(getattr(state, name, None), torch.Tensor):
            yield getattr(state, name)


def _stored(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensors that hold one's numbers: those within a packed one, or itself."""
    if not is_traceable_wrapper_subclass(tensor):
        yield tensor
        return
    for inner in tensor.__tensor_flatten__()[0]:
        yield from _stored(getattr(tensor, inner))


def _state_tensors(state: Any) -> Iterator[torch.Tensor]:
    """absmax, code table and offset of a 4-bit state, and those of its nested state."""
    if state is None:
        return
    for name in ("absmax", "code", "offset"):
        if isinstance(getattr(state, name, None), torch.Tensor):
            yield getattr(state, name)
    yield from _state_tensors(getattr(state, "state2", None))


def starred(name: str) -> str:
    """A module's name without the numbers of its layers."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name)


def _groups(entries: list[tuple[str, Any]]) -> tuple[ModuleGroup, ...]:
    """Modules gathered by class and by name with the layer number starred, in model order."""
    gathered: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for name, module in entries:
        gathered[starred(name), class_of(module)].append(module)
    return tuple(
        ModuleGroup(
            pattern, cls, len(modules), _unique_bytes(t for module in modules for t in tensors(module))
        )
        for (pattern, cls), modules in gathered.items()
    )


def _unique_bytes(found: Iterator[torch.Tensor]) -> int:
    """A meta tensor stands for one that accelerate brings when it is needed; it has no address."""
    sizes = {
        storage.data_ptr() or -id(tensor): storage.nbytes()
        for tensor, storage in ((tensor, tensor.untyped_storage()) for tensor in found)
    }
    return sum(sizes.values())


def _elements(module: Any) -> int:
    bias = module.out_features if module.bias is not None else 0
    return int(module.in_features * module.out_features + bias)

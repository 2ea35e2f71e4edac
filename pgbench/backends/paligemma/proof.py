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

from pgbench.errors import CheckpointError
from pgbench.records import ModuleGroup, Quantization
from pgbench.types import Quant

_QUANTIZED = {"none": "", "8bit": "Linear8bitLt", "4bit": "Linear4bit", "fp4": "Linear4bit"}
_BF16_BYTES = 2
_KEPT = {"lm_head"}  # tied to the embedding; everything else is replaced, or the level is not what it says


def prove(model: Any, level: Quant, workarounds: tuple[str, ...]) -> Quantization:
    """Which linear layers were replaced by which class, which were not, and their true bytes.

    Raises CheckpointError if the level asked for is not what the model holds, down to the last layer.
    """
    wanted = _QUANTIZED[level]
    linears = [
        (name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)
    ]
    replaced = [(name, module) for name, module in linears if type(module).__name__ == wanted]
    strange = sorted({type(module).__name__ for _, module in linears} - {"Linear", wanted})
    skipped = [(name, module) for name, module in linears if type(module).__name__ != wanted]
    left = [name for name, _ in skipped if name not in _KEPT]
    if strange or (wanted and not replaced):
        raise CheckpointError(
            f"--quant {level} left {strange or 'no quantized layers'} in the model, "
            f"expected {wanted or 'Linear'}"
        )
    if wanted and left:
        raise CheckpointError(f"--quant {level} left {len(left)} layers as they were, first: {left[0]}")
    for _, module in replaced:
        _require_type(module, level)
    first: Any = replaced[0][1] if replaced else None
    state = getattr(getattr(first, "weight", None), "quant_state", None)
    return Quantization(
        level=level,
        replaced=_groups(replaced),
        skipped=_groups(skipped),
        compute_dtype=_dtype(first.compute_dtype) if state is not None else _int8_dtype(level),
        quant_type=state.quant_type if state is not None else ("int8" if level == "8bit" else None),
        double_quant=bool(state.nested) if state is not None else None,
        replaced_bytes=_unique_bytes(tensor for _, module in replaced for tensor in tensors(module)),
        replaced_bytes_bf16=sum(_elements(module) * _BF16_BYTES for _, module in replaced),
        workarounds=workarounds,
    )


def true_bytes(model: Any) -> int:
    """Bytes of all parameters, buffers and quantization states as stored; shared storage counts once."""
    return _unique_bytes(tensor for module in model.modules() for tensor in tensors(module))


def tensors(module: Any) -> Iterator[torch.Tensor]:
    """A module's own tensors: parameters, buffers, and what bitsandbytes hangs beside them."""
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        yield tensor
        yield from _state_tensors(getattr(tensor, "quant_state", None))
        for extra in (getattr(tensor, "CB", None), getattr(tensor, "SCB", None)):  # int8 rows and scales
            if isinstance(extra, torch.Tensor):
                yield extra
    state = getattr(module, "state", None)  # LLM.int8 moves its weights here at the first forward
    for name in ("CB", "SCB"):
        if isinstance(getattr(state, name, None), torch.Tensor):
            yield getattr(state, name)


def _state_tensors(state: Any) -> Iterator[torch.Tensor]:
    """absmax, code table and offset of a 4-bit state, and those of its nested state."""
    if state is None:
        return
    for name in ("absmax", "code", "offset"):
        if isinstance(getattr(state, name, None), torch.Tensor):
            yield getattr(state, name)
    yield from _state_tensors(getattr(state, "state2", None))


def _require_type(module: Any, level: Quant) -> None:
    state = getattr(getattr(module, "weight", None), "quant_state", None)
    if level in ("4bit", "fp4") and (
        state is None or state.quant_type != {"4bit": "nf4", "fp4": "fp4"}[level]
    ):
        raise CheckpointError(f"--quant {level} gave {getattr(state, 'quant_type', 'no 4-bit state')} layers")


def _groups(entries: list[tuple[str, Any]]) -> tuple[ModuleGroup, ...]:
    """Modules gathered by class and by name with the layer number starred, in model order."""
    gathered: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for name, module in entries:
        pattern = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name)
        package = type(module).__module__.partition(".")[0]
        gathered[pattern, f"{package}.nn.{type(module).__name__}"].append(module)
    return tuple(
        ModuleGroup(
            pattern, cls, len(modules), _unique_bytes(t for module in modules for t in tensors(module))
        )
        for (pattern, cls), modules in gathered.items()
    )


def _unique_bytes(found: Iterator[torch.Tensor]) -> int:
    sizes = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in found}
    return sum(sizes.values())


def _elements(module: Any) -> int:
    bias = module.out_features if module.bias is not None else 0
    return int(module.in_features * module.out_features + bias)


def _dtype(dtype: torch.dtype | None) -> str | None:
    return str(dtype).removeprefix("torch.") if dtype is not None else None


def _int8_dtype(level: Quant) -> str | None:
    """LLM.int8 casts its inputs to float16 and multiplies in int8 (bitsandbytes MatMul8bitLt)."""
    return "float16" if level == "8bit" else None

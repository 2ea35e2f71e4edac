"""Levels of quantization: what transformers is told, and what a layer of each level is.

Measured with transformers 5.23, bitsandbytes 0.50.2, torchao 0.18.0 and optimum-quanto 0.2.7 on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from pgbench.errors import UsageError
from pgbench.types import Checkpoint, Quant, QuantScope

HEAD = "lm_head"  # tied to the embedding, which no level touches
SEEING = ("model.vision_tower", "model.multi_modal_projector")  # what --quant-scope language leaves as it is
_QUANTO = {"quanto-int8": "int8", "quanto-int4": "int4"}
_BITS = {"nf4": "4bit", "fp4": "fp4"}
_QTYPES = {"qint8": "quanto-int8", "qint4": "quanto-int4"}
_TORCHAO = {"Int8Tensor": "torchao-int8", "Float8Tensor": "torchao-fp8"}


def config(quant: Quant, scope: QuantScope) -> Any:
    """What from_pretrained takes as quantization_config; None for none.

    The head is always skipped. transformers does so by itself only while no list is given: one that names
    the tower alone would quantize the head, and generation would die in bitsandbytes (nn/modules.py, a bare
    assert). Names are matched from their start, which is "model." (transformers PR 42711).
    """
    skipped = [*SEEING, HEAD] if scope == "language" else None
    if quant == "none":
        return None
    if quant == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    if quant in ("4bit", "fp4"):
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4" if quant == "4bit" else "fp4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,  # float16 overflows in Gemma: bitsandbytes issue 1572
            llm_int8_skip_modules=skipped,
        )
    return _quanto(quant, skipped) if quant in _QUANTO else _torchao(quant, skipped)


def _quanto(quant: Quant, skipped: list[str] | None) -> Any:
    from transformers import QuantoConfig

    if quant == "quanto-int4":
        _unpack_in_python()
    return QuantoConfig(weights=_QUANTO[quant], modules_to_not_convert=skipped)


def _torchao(quant: Quant, skipped: list[str] | None) -> Any:
    """Of weights alone. int4 is not offered: without CUDA and the package mslk torchao cannot pack it."""
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    made = Int8WeightOnlyConfig() if quant == "torchao-int8" else Float8WeightOnlyConfig()
    return TorchAoConfig(made, modules_to_not_convert=skipped)


def require_device(checkpoint: Checkpoint, device: torch.device) -> None:
    """That the device has the numbers of a level. Raises UsageError.

    A CPU emulates float8: slowly (557 ms a token where bfloat16 takes 21), and right. GPUs have had it since
    compute capability 8.9 (Ada, Hopper).
    """
    if checkpoint.quant != "torchao-fp8" or device.type != "cuda":
        return
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < (8, 9):
        name = torch.cuda.get_device_name(device)
        raise UsageError(
            f"--quant torchao-fp8: {name} has no float8 (compute capability {major}.{minor}, expected 8.9 or "
            "more); use --quant torchao-int8"
        )


def held(layer: Any) -> str:
    """The level of a linear layer as it is; "" for one that is not quantized, its class for a strange one."""
    name, weight = type(layer).__name__, getattr(layer, "weight", None)
    if name == "Linear":
        kind = type(weight).__name__
        return "" if kind in ("Parameter", "Tensor") else _TORCHAO.get(kind, kind)
    if name == "Linear8bitLt":
        return "8bit"
    if name == "Linear4bit":
        bits = getattr(getattr(weight, "quant_state", None), "quant_type", "")
        return _BITS.get(bits, f"{name} without a 4-bit state")
    if name == "QLinear":
        kind = getattr(getattr(weight, "qtype", None), "name", "unquantized")
        return _QTYPES.get(kind, f"{name} {kind}")
    return name


def figures(layer: Any) -> tuple[str | None, str | None, bool | None]:
    """Of a quantized layer: kind of numbers, dtype it computes in, whether statistics are quantized too."""
    weight, level = layer.weight, held(layer)
    if level == "8bit":  # it casts its inputs to float16 and multiplies in int8 (bitsandbytes MatMul8bitLt)
        return "int8", "float16", None
    if level in _BITS.values():
        state = weight.quant_state
        return state.quant_type, _named(layer.compute_dtype), bool(state.nested)
    if level in _QUANTO:
        return weight.qtype.name.removeprefix("q"), _named(weight.dtype), None
    return _named(weight.qdata.dtype), _named(weight.dtype), None


def class_of(layer: Any) -> str:
    """Package and class, with the class of a weight that is no plain parameter of torch's own layer."""
    package = type(layer).__module__.partition(".nn.")[0]  # optimum.quanto, bitsandbytes, torch
    name = f"{package}.nn.{type(layer).__name__}"
    weight = type(getattr(layer, "weight", None))
    return f"{name} of {weight.__module__.partition('.')[0]}.{weight.__name__}" if _inside(layer) else name


def _inside(layer: Any) -> bool:
    return type(layer).__name__ == "Linear" and bool(held(layer))


def cpu_workarounds(model: Any, device: torch.device) -> tuple[str, ...]:
    """Keep 4-bit layers that the packed AVX512-BF16 path refuses on the plain path.

    That path packs weights at the first forward and asserts out_features % 32 == 0 and
    in_features % blocksize == 0; SigLIP-So400m's 4304-wide layers fail it (bitsandbytes 0.50.2).
    """
    if device.type != "cpu":
        return ()
    refused = [
        name
        for name, module in model.named_modules()
        if getattr(module, "support_avx512bf16_for_cpu", False)
        and (module.out_features % 32 or module.in_features % _block(module))
    ]
    for name in refused:
        model.get_submodule(name).support_avx512bf16_for_cpu = False
    widths = "out_features not a multiple of 32 or in_features not one of the block size"
    return (f"{len(refused)} 4-bit layers off the packed AVX512-BF16 path: {widths}",) if refused else ()


def _block(layer: Any) -> int:
    """Weights to a statistic; a layer that was never quantized, which the proof refuses, has none."""
    return int(getattr(getattr(layer.weight, "quant_state", None), "blocksize", 1))


def unlock(model: Any, quant: Quant) -> tuple[str, ...]:
    """Let int4 layers of quanto run in inference mode, where they die ("Cannot set version_counter for
    inference tensor", quanto 0.2.7): they leave it for their own product. Says what was done."""
    if quant != "quanto-int4":
        return ()
    layers = [module for module in model.modules() if type(module).__name__ == "QLinear"]
    for layer in layers:
        layer.forward = _outside(layer.forward)
    return (f"{len(layers)} int4 layers leave torch's inference mode, which quanto cannot run in",)


def _unpack_in_python() -> None:
    """On a CPU quanto compiles C++ into its own folder at the first int4 product: minutes, where there is a
    compiler and a right to write at all. This takes the same bits apart, low ones first (quanto 0.2.7)."""
    from optimum.quanto.library.extensions import get_extension

    def unpack(packed: torch.Tensor, bits: int) -> torch.Tensor:
        return torch.cat([(packed >> low) & ((1 << bits) - 1) for low in range(0, 8, bits)])

    get_extension("quanto_cpp")._lib = SimpleNamespace(unpack=unpack)


def _outside(forward: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **more: Any) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            return forward(*args, **more)

    return wrapped


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

"""Load a checkpoint, quantize it and pin everything that could move an answer.

Traps of transformers 5 and bitsandbytes 0.50 are named where they are met.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    GenerationConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
)

from pgbench.backends import start_process_peak, versions
from pgbench.backends.paligemma import adapter as adapters
from pgbench.backends.paligemma import last, lora, paper, placement, quantizers
from pgbench.backends.paligemma.adapter import Adapter
from pgbench.backends.paligemma.proof import prove, true_bytes
from pgbench.backends.paligemma.settling import settle
from pgbench.errors import CheckpointError, UsageError
from pgbench.records import Adaptation, Stack
from pgbench.types import CacheKind, Checkpoint, ModelRequest, Quant

_PACKAGES = (
    *("torch", "transformers", "tokenizers", "accelerate", "bitsandbytes", "safetensors", "pillow", "numpy"),
    "kernels",  # where it is installed, bitsandbytes fetches another CPU kernel: other numerics
)
_EXTRA = {"torchao": "torchao", "quanto": "optimum-quanto"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to answer, its processor and the stack that proves what it is."""

    model: Any
    processor: Any
    device: torch.device
    dtype: torch.dtype
    stack: Stack
    before: int  # bytes that the process held before loading
    gpus: tuple[torch.device, ...] = ()  # in use; more than one with --device auto-map
    cache: CacheKind = "dynamic"  # of generation; what the stack names as well
    measured: frozenset[str] = frozenset()  # of threads and attention, what was chosen by time
    cut: bool = False  # the last layer is computed at a prompt's last token alone; the stack says so


def load(
    checkpoint: Checkpoint, folder: Path, request: ModelRequest, adapter: Adapter | None = None
) -> Loaded:
    """Raises UsageError for a device that is not there, CheckpointError for weights that cannot be used."""
    quiet()
    device = device_of(placement.entrance(request))
    quantizers.require_device(checkpoint, device)
    before = start_process_peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    torch.set_float32_matmul_precision("highest")  # no TF32: float32 means float32,
    torch.backends.cudnn.allow_tf32 = False  # also in SigLIP's patch convolution, where it is the default
    dtype = getattr(torch, checkpoint.dtype)
    model, adapted = _assemble(checkpoint, folder, request, adapter)
    placed = placement.placed(model, request)
    processor = processor_of(checkpoint, folder)
    _require_match(checkpoint.id, model, processor)
    workarounds = quantizers.cpu_workarounds(model, device) + quantizers.unlock(model, checkpoint.quant)
    fresh = prove(model, checkpoint.quant, workarounds, checkpoint.quant_scope)
    chosen = settle(checkpoint, model, processor, device, request)
    settled = prove(model, checkpoint.quant, workarounds, checkpoint.quant_scope)
    if fresh.double_quant and not settled.double_quant:
        unfolded = "the packed AVX512-BF16 path keeps the doubly quantized statistics unfolded, in bfloat16"
        settled = replace(settled, double_quant=True, workarounds=(*workarounds, unfolded))
    stack = Stack(
        backend="paligemma",
        versions=versions(*_PACKAGES, *_used(checkpoint)),
        device=device.type,
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        threads=chosen.threads,
        matmul_precision=torch.get_float32_matmul_precision(),
        attention={
            "text": str(model.config.text_config._attn_implementation),
            "vision": str(model.config.vision_config._attn_implementation),
        },
        quantization=settled,
        weight_bytes=true_bytes(model),
        numerics={"cache": chosen.cache, **({"prefill": last.SAID} if chosen.cut else {})}
        | _numerics(device, checkpoint.quant)
        | (paper.numerics(model) if checkpoint.protocol == "paper" else {}),
        adapter=adapted,
        placement=placed,
        tried=chosen.tried,
    )
    gpus = placement.gpus(device, placed)
    return Loaded(
        model, processor, device, dtype, stack, before, gpus, chosen.cache, chosen.measured, chosen.cut
    )


def _used(checkpoint: Checkpoint) -> list[str]:
    """Libraries that count only where they are used, since they come with extras."""
    library = _EXTRA.get(checkpoint.quant.partition("-")[0])
    return [*(["peft"] if checkpoint.adapter else []), *([library] if library else [])]


def quiet() -> None:
    """Libraries talk on stderr of things that are settled here; errors still come through."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # one line per layer and call: "MatMul8bitLt: inputs will be cast from bfloat16 to float16"
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # "Some parameters are on the meta device": the stack says which
    logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)


def device_of(name: str) -> torch.device:
    """auto, cpu, cuda or cuda:n. Raises UsageError for what is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cpu", *(["cuda"] if count else []), *(f"cuda:{number}" for number in range(count))]
    if name not in known:
        raise UsageError(
            f"no device {name!r} here; available: auto, {', '.join(known)} (torch {torch.__version__})"
        )
    return torch.device(name)


def _assemble(
    checkpoint: Checkpoint, folder: Path, request: ModelRequest, adapter: Adapter | None
) -> tuple[Any, Adaptation | None]:
    """The model with its adapter in it, quantized before or after that."""
    where = placement.options(request, device_of(placement.entrance(request)))
    level = quantizers.config(checkpoint.quant, checkpoint.quant_scope)
    if adapter is None:
        return _model(checkpoint, folder, where, level), None
    mode, order = adapters.settings(request)
    if order != "before":
        model = _model(checkpoint, folder, where, level)
        placement.require_resident(checkpoint, placement.placed(model, request))
        return model, lora.put_in(model, adapter, mode, order)
    whole = _model(checkpoint, folder, {"device_map": {"": torch.device("cpu")}}, None)
    done = lora.put_in(whole, adapter, mode, order)
    weights = whole.state_dict()
    model = _model(checkpoint, folder, where, level, weights)
    model.generation_config = whole.generation_config  # its file is not read where weights are given
    return model, done


def _model(
    checkpoint: Checkpoint, folder: Path, where: Mapping[str, Any], level: Any, weights: Any = None
) -> Any:
    """`where`: of placement.options. `weights`: a state to load in the place of the folder's."""
    options: dict[str, Any] = {"quantization_config": level} if level else {}
    try:
        if checkpoint.protocol == "paper":
            options["config"] = paper.config(checkpoint, folder)
        elif weights is not None:
            options["config"] = PaliGemmaConfig.from_pretrained(folder, local_files_only=True)
        kind = AutoModelForImageTextToText if weights is None else PaliGemmaForConditionalGeneration
        model, report = kind.from_pretrained(
            folder if weights is None else None,
            state_dict=weights,
            dtype=getattr(torch, checkpoint.dtype),  # transformers 5 would take the checkpoint's own
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # reported below, by name; else a long table on stderr
            output_loading_info=True,
            **where,
            **options,
        )
    except torch.OutOfMemoryError as error:
        raise CheckpointError(f"{checkpoint.id} does not fit into memory; try --quant 4bit") from error
    except Exception as error:  # safetensors, json and transformers raise a dozen kinds for a broken folder
        if level and where["device_map"] == "auto":
            raise placement.no_room(checkpoint, type(error).__name__) from error
        raise CheckpointError(f"cannot load {checkpoint.id}: {reason(error, folder)}") from error
    require_all_weights(checkpoint.id, report)
    # generate() fills up every field that a GenerationConfig leaves None from the checkpoint's own
    # (transformers 5.23, _prepare_generation_config): penalties, suppressed tokens. Only the stops are kept.
    model.generation_config = GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
    return model.eval()


def require_all_weights(name: str, report: Mapping[str, Any]) -> None:
    """transformers goes on with random weights in the place of what is absent, and drops what is strange."""
    if absent := sorted(report["missing_keys"]):
        raise CheckpointError(f"{name} lacks {len(absent)} weights, first: {absent[0]}")
    if other := sorted(map(tuple, report["mismatched_keys"])):
        key, found, wanted = other[0]
        raise CheckpointError(
            f"{name}: {len(other)} weights do not fit its config.json, first: {key} has shape "
            f"{list(found)}, expected {list(wanted)}"
        )
    if unmerged := sorted(key for key in report["unexpected_keys"] if ".lora_" in key):
        raise CheckpointError(f"{name} holds an unmerged adapter ({unmerged[0]}); merge it first")


def _require_match(name: str, model: Any, processor: Any) -> None:
    """A processor of another resolution or vocabulary than the weights fails late or answers nonsense."""
    vision = model.config.vision_config
    wanted = {
        "size": {"height": vision.image_size, "width": vision.image_size},
        "image_seq_length": (vision.image_size // vision.patch_size) ** 2,
        "<image> token": model.config.image_token_id,
    }
    images = processor.image_processor
    found = {
        "size": {side: images.size.get(side) for side in ("height", "width")},
        "image_seq_length": processor.image_seq_length,
        "<image> token": processor.image_token_id,
    }
    for what, value in wanted.items():
        if found[what] != value:
            raise CheckpointError(f"{name}: its processor has {what} {found[what]}, its weights {value}")
    if len(processor.tokenizer) > model.config.text_config.vocab_size:
        raise CheckpointError(
            f"{name}: its tokenizer has {len(processor.tokenizer)} tokens, its weights "
            f"{model.config.text_config.vocab_size}"
        )


def _numerics(device: torch.device, quant: Quant) -> dict[str, str]:
    """What decides between kernels, beside the versions."""
    found = {"image_processor": "pil", "padding": "left"}
    if device.type == "cuda":
        found["cuda"] = str(torch.version.cuda)
        found["cudnn"] = str(torch.backends.cudnn.version())
        found["tf32"] = (
            f"matmul {torch.backends.cuda.matmul.allow_tf32}, cudnn {torch.backends.cudnn.allow_tf32}"
        )
    else:
        found["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    if quant in ("8bit", "4bit", "fp4") and device.type == "cpu":
        from bitsandbytes.functional import has_avx512bf16

        found["bitsandbytes_avx512bf16"] = str(has_avx512bf16())
    return found


def processor_of(checkpoint: Checkpoint, folder: Path) -> Any:
    """The published processor, on Pillow: transformers 5 takes torchvision where it finds it, and its
    pixels differ by 1 or 2 of 255 in up to 0.8 % of values. Left padding whatever the tokenizer says."""
    try:
        processor = AutoProcessor.from_pretrained(
            folder, backend="pil", local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # as above: many kinds for a broken folder
        raise CheckpointError(
            f"cannot load the processor of {checkpoint.id} (tokenizer.json, preprocessor_config.json): "
            f"{reason(error, folder)}"
        ) from error
    processor.tokenizer.padding_side = "left"
    return processor


def reason(error: Exception, folder: Path) -> str:
    """The first line of an error, without the path of the folder: the hub's cache is nobody's business."""
    text = str(error).replace(str(folder), "its folder")
    lines = [line for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__

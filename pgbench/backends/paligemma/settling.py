"""What of a loaded model is settled by running it: threads, attention, cache, and repacked weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from pgbench.backends.paligemma import allocator, caches, kernels, last, threads
from pgbench.errors import CheckpointError, UsageError, told
from pgbench.types import CacheKind, Checkpoint, ModelRequest

_PROMPTS = ("a", "a b c d")  # of unlike length: one row is padded


@dataclass(frozen=True, slots=True)
class Settled:
    """What was chosen for the model, and of what."""

    threads: int
    cache: CacheKind
    tried: Mapping[str, str]  # threads, attention, cache and prefill: each in one line, with figures
    measured: frozenset[str]  # of these, what was chosen by time: another session may choose otherwise
    cut: bool  # of a prompt, the last layer is computed at its last token alone


def settle(
    checkpoint: Checkpoint, model: Any, processor: Any, device: torch.device, request: ModelRequest
) -> Settled:
    """Choose kernels on the loaded model, and end with a pass on a grey image: bitsandbytes repacks weights
    at the first one, and what is measured shall be what runs.

    Raises UsageError for a kernel that was asked for and cannot be used, CheckpointError for weights that
    cannot look at an image.
    """
    name = checkpoint.id
    try:
        allocator.keep(device)
        count, of_threads, measured = threads.pin(model, device, request.threads)
        attention = kernels.choose(model, device, request.attention)
        with torch.inference_mode():
            model(**_rows(model, processor, device, 1))
        cache, of_cache = caches.choose(
            model, lambda: _rows(model, processor, device, len(_PROMPTS)), request.cache
        )
        cut, of_prefill = False, "the whole last layer: generate fills a static cache"
        if cache == "dynamic":
            cut, of_prefill = last.choose(model, device, checkpoint.quant)
    except torch.OutOfMemoryError as error:
        raise CheckpointError(f"{name} leaves {device} no memory for one image; try --quant 4bit") from error
    except UsageError:
        raise
    except Exception as error:  # a config that loads and does not run
        raise CheckpointError(f"{name} cannot look at an image: {told(error)}") from error
    free = {"threads": measured, "attention": request.attention is None}
    tried = {"threads": of_threads, "attention": attention, "cache": of_cache, "prefill": of_prefill}
    return Settled(count, cache, tried, frozenset(name for name, chosen in free.items() if chosen), cut)


def _rows(model: Any, processor: Any, device: torch.device, count: int) -> dict[str, torch.Tensor]:
    """Grey images with short prompts, as the model takes them."""
    size = model.config.vision_config.image_size
    grey = Image.new("RGB", (size, size), (128, 128, 128))
    batch = processor(
        images=[[grey]] * count,
        text=["<image>" + prompt for prompt in _PROMPTS[:count]],
        padding=True,
        return_tensors="pt",
    ).to(device)
    batch.pop("labels", None)
    batch["pixel_values"] = batch["pixel_values"].to(model.get_input_embeddings().weight.dtype)
    return dict(batch)

"""`--protocol paper`: what big_vision does where the published processors and configs do otherwise.

    pixels      bilinear with the task's antialias flag, cut to whole levels (pixels.py, decoding.py)
    prefix      bos, prefix and separator are tokenized each on its own, and capped at the task's text_len
    soft-caps   off where the transfer had them off
    window      none: every layer of the text model attends to all tokens

Sources: google-research/big_vision@0127fb6, configs/proj/paligemma/transfers/common.py (layout, cap) and
forkme.py (final_logits_softcap=0.0), models/ppp/gemma.py (no window); arXiv:2412.03555 section 3 (no caps on
attention and output in stage 3). Decoding is that of both protocols.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pgbench.backends.paligemma.decoding import decode
from pgbench.backends.paligemma.pixels import Levels, resize, value_range
from pgbench.backends.paligemma.prompts import Tokens
from pgbench.types import PAPER_RULE, Checkpoint, Pixels, Request

SEPARATOR = "\n"
_FULL = "full_attention"  # a layer type of transformers


class Prefixes:
    """Prompts and pictures of one checkpoint as big_vision lays them out. Thread-safe."""

    def __init__(self, processor: Any, tokens: Tokens, pixels_from: int | None) -> None:
        """`pixels_from`: px that pictures are reduced to first."""
        self._processor, self._tokens = processor, tokens
        self._side = int(processor.image_processor.size["height"])
        self._sides = (self._side,) if pixels_from is None else (pixels_from, self._side)

    def ids(self, request: Request) -> torch.Tensor:
        """[length]: image tokens, then bos, prefix and separator; of these text_len at most.

        What is too long loses its end, the separator first, as in big_vision's `tolen`.
        """
        words = self._processor.tokenizer
        prefix, separator = (self._tokens.ids(text) for text in (request.prompt, SEPARATOR))
        count = len(request.images) * self._processor.image_seq_length
        text = [words.bos_token_id, *prefix, *separator][: pixels_of(request).text_len]
        return torch.tensor([self._processor.image_token_id] * count + text)

    def pixels(self, pictures: Sequence[Levels], request: Request) -> torch.Tensor:
        """[images, 3, side, side] in float32."""
        found = list(pictures)
        for side in self._sides:
            found = [resize(picture, side, antialias=pixels_of(request).antialias) for picture in found]
        return torch.from_numpy(np.stack([value_range(picture) for picture in found]))

    def decode(self, data: bytes) -> Levels:
        """Raises SampleError."""
        return decode(data)


def pixels_of(request: Request) -> Pixels:
    """What the task's transfer config says."""
    if request.pixels is None:
        raise TypeError("the paper protocol needs a request with its task's pixels (types.Pixels)")
    return request.pixels


def rule(request: Request) -> str:
    """How the encoded pictures of a request become pixels, for its key."""
    return f"{PAPER_RULE}; bilinear, truncated, antialias {pixels_of(request).antialias}"


def config(checkpoint: Checkpoint, folder: Path) -> Any:
    """The checkpoint's config with soft-caps and window as in the transfers. Raises what transformers does.

    The window's length stays: without one, transformers 5.23 would hand the text model a single mask, and
    with types of layers it is not used.
    """
    from transformers import AutoConfig

    found = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    text = found.text_config
    if getattr(text, "layer_types", None) is not None:
        text.layer_types = [_FULL] * len(text.layer_types)
    if capless(checkpoint) and hasattr(text, "final_logit_softcapping"):
        text.final_logit_softcapping = text.attn_logit_softcapping = None
    return found


def capless(checkpoint: Checkpoint) -> bool:
    """pt checkpoints are from stages 1 and 2, which have soft-caps; mix and ft ones are transfers."""
    return checkpoint.profile.kind != "pt"


def numerics(model: Any) -> dict[str, str]:
    """What of the protocol the stack states, read off the model that was loaded."""
    text = model.config.text_config
    caps = (getattr(text, name, None) for name in ("attn_logit_softcapping", "final_logit_softcapping"))
    return {
        "image_processor": "TensorFlow's bilinear in numpy, truncated",
        "prefix": "separator tokenized apart, capped at the task's text_len",
        "soft-caps": ", ".join(f"{cap:g}" if cap else "off" for cap in caps),
        "window": "off" if {*(getattr(text, "layer_types", None) or [_FULL])} == {_FULL} else "on",
    }

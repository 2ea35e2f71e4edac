"""A text model cut short for a while, so that kernels are tried in it without the time of a whole pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


def attentions(model: Any) -> list[Any]:
    """The attention modules of the text model's layers, also below an adapter."""
    return [
        module
        for path, module in model.named_modules()
        if path.endswith(".self_attn") and "language_model." in path
    ]


@contextlib.contextmanager
def short(model: Any, window: int | None = None) -> Iterator[int]:
    """Only the first layers run: as many as have every kind there is. Yields how many.

    `window`: tokens that a window has meanwhile, where there is one.
    """
    text = model.config.text_config
    kinds = list(getattr(text, "layer_types", None) or ["all"])
    depth, windowed = text.num_hidden_layers, []
    if window is not None:
        windowed = [one for one in (text, *attentions(model)) if getattr(one, "sliding_window", None)]
    before = [one.sliding_window for one in windowed]
    text.num_hidden_layers = max(kinds.index(kind) for kind in {*kinds}) + 1
    for one in windowed:
        one.sliding_window = window
    try:
        yield text.num_hidden_layers
    finally:
        text.num_hidden_layers = depth
        for one, length in zip(windowed, before, strict=True):
            one.sliding_window = length

"""A run goes on with the kernels that it began with, also where others are faster this time.

Times scatter, so that two sessions, or two shards, may choose differently; answers of one run are to come
from one stack.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from pgbench.backends.paligemma import kernels
from pgbench.backends.paligemma.load import Loaded
from pgbench.errors import UsageError
from pgbench.records import Stack


def with_kernels(loaded: Loaded, stack: Stack) -> Loaded:
    """The same model with the threads and the attention of another session, as far as they were chosen by
    time and can be had here; what cannot stays as it is."""
    own = loaded.stack
    if "threads" in loaded.measured and stack.threads > 0:
        torch.set_num_threads(stack.threads)
        own = replace(own, threads=int(torch.get_num_threads()))
    if "attention" in loaded.measured and (name := stack.attention.get("text")):
        own = replace(own, attention={**own.attention, "text": _attending(loaded, name)})
    return replace(loaded, stack=own)


def _attending(loaded: Loaded, name: Any) -> str:
    """The attention that the model has afterwards."""
    text, before = loaded.model.config.text_config, loaded.stack.attention["text"]
    try:
        kernels.choose(loaded.model, loaded.device, name)
    except UsageError:
        text._attn_implementation = before
    return str(text._attn_implementation)

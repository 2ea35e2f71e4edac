"""Which cache generation uses: dynamic, or static with CUDA graphs where that is asked for and right.

A static cache has its full length from the start, so that transformers compiles the decoding step, which on
CUDA becomes a graph that is launched as a whole. That takes tens of seconds at every load, and no row leaves
such a batch, so that it is never chosen unasked. In transformers 5.23 it is right for PaliGemma; for
PaliGemma 2 it raises, since a mapping of masks is taken for a mask, and versions 4.47 to 4.57 made the prefix
causal without a word. Hence it is looked at first, uncompiled: logits of two rows of unlike length over a few
steps, against those with the dynamic cache. Only then, on CUDA, is it compiled and looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import GenerationConfig

from pgbench.backends.paligemma.kernels import why
from pgbench.errors import UsageError
from pgbench.types import CacheKind

_STEPS = 4  # tokens of an answer that are compared
# Distance of logits, root mean square over their spread: roundings of sums over longer keys.
_NEAR = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}


def choose(
    model: Any, rows: Callable[[], Mapping[str, torch.Tensor]], asked: CacheKind | None = None
) -> tuple[CacheKind, str]:
    """The cache, and why it is that, in one line.

    rows: inputs of the model, two rows of which one is padded on the left, pixels in its dtype.
    Raises UsageError where the static cache was asked for and does not work, or disagrees.
    """
    if asked == "dynamic":
        return asked, "dynamic, as asked"
    if asked is None:
        return "dynamic", "dynamic; static is used where it is asked for"
    inputs = rows()
    wrong = _wrong(model, inputs, compiled=False)
    if not wrong and model.device.type == "cuda":
        wrong = _wrong(model, inputs, compiled=True)
    if wrong:
        raise UsageError(f"--cache static cannot be used here ({wrong}); leave it out, or use dynamic")
    return asked, "static, as asked"


def _wrong(model: Any, inputs: Mapping[str, torch.Tensor], *, compiled: bool) -> str:
    """Why the static cache is not what the dynamic one is; "" where it is."""
    try:
        usual, other = (_logits(model, inputs, kind, compiled) for kind in ("dynamic", "static"))
    except Exception as error:  # noqa: BLE001 - compilers raise anything; AttributeError in 5.23
        return why(error)
    limit = _NEAR[model.get_input_embeddings().weight.dtype]
    for step, (one, same) in enumerate(zip(usual, other, strict=True)):
        spread = (one - one.mean(-1, keepdim=True)).norm()
        far = float((one - same).norm() / spread)
        if not far <= limit:  # nan too
            return f"logits {far:.2g} of their spread away at step {step}, limit {limit:g}"
        if not torch.equal(one.argmax(-1), same.argmax(-1)):
            return ""  # a near tie within the limit: what follows has other tokens before it
    return ""


def _logits(
    model: Any, inputs: Mapping[str, torch.Tensor], kind: CacheKind, compiled: bool
) -> list[torch.Tensor]:
    """[rows, vocabulary] in float32, of each step."""
    found = _generated(model, inputs, kind, _STEPS, compiled)
    return [one.float() for one in found.logits]


def _generated(
    model: Any, inputs: Mapping[str, torch.Tensor], kind: CacheKind, steps: int, compiled: bool
) -> Any:
    with torch.inference_mode():
        return model.generate(**inputs, generation_config=config(kind, steps, compiled=compiled))


def config(kind: CacheKind, steps: int, *, compiled: bool) -> GenerationConfig:
    """Greedy, all of the steps: no token ends an answer."""
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        min_new_tokens=steps,
        max_new_tokens=steps,
        eos_token_id=[],
        pad_token_id=0,
        use_cache=True,
        cache_implementation="static" if kind == "static" else None,
        disable_compile=not compiled,
        return_dict_in_generate=True,
        output_logits=True,
    )

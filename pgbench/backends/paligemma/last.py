"""The last layer at the last token: of a prompt, nothing else that it computes is ever looked at.

An answer begins with the logits of the prompt's last token, and later tokens ask the last layer for its keys
and values alone. So these are computed of all tokens, and everything else of that layer of the last one: in
a text model of two layers that is nearly half of a prompt's work, in 18 to 46 layers 2 to 6 %.

The keys and values of all tokens but the last go into the cache; the last token then passes through the layer
itself, behind them, as at every later step. Whether that gives what a whole pass gives is looked at when a
checkpoint is loaded.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from transformers import DynamicCache

from pgbench.backends.paligemma.kernels import why
from pgbench.types import Quant

SAID = "last layer at the last token"
_ALONE = ("none", "4bit", "fp4")  # levels at which what a layer gives for one token has nothing of the others
_TOKENS, _PADDING = 12, 5  # of the two rows that are looked at
# Distance of logits, root mean square over their spread: products of other shapes add in another order.
_NEAR = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}


def choose(model: Any, device: torch.device, quant: Quant) -> tuple[bool, str]:
    """Whether a prompt is computed so, and in one line why not."""
    try:
        wrong = _never(model, quant) or _disagreement(model, device)
    except Exception as error:  # noqa: BLE001 - a layer of another making may raise anything
        wrong = why(error)
    return not wrong, f"the whole last layer: {wrong}" if wrong else SAID


@contextlib.contextmanager
def at_last(model: Any, wanted: bool = True) -> Iterator[None]:
    """Within, a pass over prompts gives the hidden states of their last tokens alone."""
    if not wanted:
        yield
        return
    hook = _last(model).register_forward_pre_hook(_instead, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _last(model: Any) -> Any:
    """The layer that runs last."""
    return model.model.language_model.layers[model.config.text_config.num_hidden_layers - 1]


def _instead(layer: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What the layer is called with, once keys and values are kept; None: as it is.

    hidden states: [rows, tokens, width]; a mask: [rows, 1, tokens, keys].
    """
    (hidden,), attention, mask = given, layer.self_attn, named["attention_mask"]
    if hidden.shape[1] == 1:
        return None  # a later step
    cosine, sine = named["position_embeddings"]
    earlier = layer.input_layernorm(hidden[:, :-1])
    shape = (*earlier.shape[:-1], -1, attention.head_dim)
    keys, values = (
        part(earlier).view(shape).transpose(1, 2) for part in (attention.k_proj, attention.v_proj)
    )
    rotated = sys.modules[type(attention).__module__].apply_rotary_pos_emb  # of queries and of keys
    keys = rotated(keys, keys, cosine[:, :-1], sine[:, :-1])[1]
    named["past_key_values"].update(keys, values, attention.layer_idx)
    last = {
        "attention_mask": None if mask is None else mask[:, :, -1:],
        "position_embeddings": (cosine[:, -1:], sine[:, -1:]),
        "position_ids": named["position_ids"][:, -1:],
    }
    return (hidden[:, -1:],), {**named, **last}


def _never(model: Any, quant: Quant) -> str:
    """Why it is not worth a try; "" where it is."""
    layer = _last(model)
    if model.config.text_config._attn_implementation == "flex_attention":
        return "flex_attention's masks are of blocks"
    if quant not in _ALONE:
        return f"{quant} rounds a token by those beside it"
    if any(hasattr(part, "_hf_hook") for part in layer.modules()):
        return "layers are spread over devices"
    if getattr(layer.self_attn, "sliding_window", None):
        return "its window holds fewer keys than a prompt may have"
    return ""


def _disagreement(model: Any, device: torch.device) -> str:
    """Why it does not give what a whole pass gives, over a prompt and a step; "" where it does."""
    limit = _NEAR[model.get_input_embeddings().weight.dtype]
    pairs = zip(_logits(model, device, cut=False), _logits(model, device, cut=True), strict=True)
    for step, (whole, cut) in enumerate(pairs):
        spread = (whole - whole.mean(-1, keepdim=True)).norm()
        far = float((whole - cut).norm() / spread)
        if not far <= limit:  # nan too
            return f"logits {far:.2g} of their spread away at step {step}, limit {limit:g}"
    return ""


def _logits(model: Any, device: torch.device, *, cut: bool) -> list[torch.Tensor]:
    """[2, vocabulary] in float32, behind a prompt, which one row has padded, and behind one more token."""
    ids = torch.arange(2 * (_TOKENS + 1), device=device).view(2, -1) + 10  # no control token
    seen = torch.ones_like(ids)
    seen[1, :_PADDING] = 0
    positions, found = seen.cumsum(-1).clamp(min=1), []  # PaliGemma counts from 1
    with _early(model), torch.inference_mode(), at_last(model, cut):
        cache, start = DynamicCache(config=model.config.text_config), 0
        for end in (_TOKENS, _TOKENS + 1):
            output = model(
                input_ids=ids[:, start:end],
                attention_mask=seen[:, :end],
                token_type_ids=torch.zeros_like(ids[:, start:end]) + (start > 0),
                position_ids=positions[:, start:end],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            found.append(output.logits[:, -1].float())
            start = end
    return found


@contextlib.contextmanager
def _early(model: Any) -> Iterator[None]:
    """The last layer runs in the place of the first one of its kind, and none behind it: a whole pass takes
    seconds on a CPU, and another layer would not show what is wrong with this one alone."""
    text, layers, last = model.config.text_config, model.model.language_model.layers, _last(model)
    depth, number = text.num_hidden_layers, last.self_attn.layer_idx
    kinds = list(getattr(text, "layer_types", None) or ["all"] * depth)
    place = kinds.index(kinds[depth - 1])
    usual = layers[place]
    text.num_hidden_layers, layers[place], last.self_attn.layer_idx = place + 1, last, place
    try:
        yield
    finally:
        text.num_hidden_layers, layers[place], last.self_attn.layer_idx = depth, usual, number

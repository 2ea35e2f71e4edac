"""Whether an attention gives what eager attention gives, asked in the model itself.

Two rows, one of them padded, with scores driven to the soft-cap and the window shortened: a prompt and four
further tokens. What an attention gives is held against eager attention in float32 on the same queries and
keys; it may be as far from that as eager attention in the model's own dtype is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache

from pgbench.backends.paligemma.cut import attentions, short

EAGER = "eager"
_TRIAL = "pgbench-trial"
_TOKENS, _PADDING, _WINDOW = 12, 5, 4  # of the rows
_BEYOND = 2.0  # times the cap that the largest score is driven to
# Distance from attention in float32 that is allowed in any case: roundings of sums and of the result. Where
# eager attention is further away itself, so may a candidate be, by a half: it rounds scores in another order.
_NEAR = {torch.float32: 1e-5, torch.bfloat16: 0.01, torch.float16: 0.002}
_ROOM = 1.5


def pair(module: Any, name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """An attention and the maker of its masks."""
    masks = AttentionMaskInterface()
    if name == EAGER:  # not in transformers' registry: each model has its own
        return sys.modules[type(module).__module__].eager_attention_forward, masks[EAGER]
    return AttentionInterface()[name], masks[name]


def dtype_of(model: Any) -> torch.dtype:
    """What attention computes in: the embedding's, which no level quantizes."""
    found: torch.dtype = model.get_input_embeddings().weight.dtype
    return found


@dataclass(slots=True)
class Watch:
    """Stands between the model and one attention, and computes each call again in float32."""

    attend: Callable[..., Any]
    exactly: Callable[..., Any]  # eager attention
    real: torch.Tensor  # [rows, tokens] of the prompt: no padding
    masks: list[torch.Tensor]  # of eager attention, call by call
    gather: bool = False  # this is eager attention, and leaves its masks
    distances: list[float] = field(default_factory=list)

    def __call__(
        self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **more: Any
    ) -> tuple[torch.Tensor, None]:
        if self.gather:
            self.masks.append(mask)
        wide = self.masks[len(self.distances)].to(query.device, torch.float32)
        query = _driven(module, query, key, more.get("softcap"))
        found: torch.Tensor = self.attend(module, query, key, value, mask, **more)[0]
        exact = self.exactly(module, query.float(), key.float(), value.float(), wide, **more)[0]
        far = (found.float() - exact).flatten(2).norm(dim=-1) / exact.flatten(2).norm(dim=-1)
        self.distances.append(
            float((far[self.real.to(far.device)] if far.shape == self.real.shape else far).max())
        )
        return found, None


def _driven(module: Any, query: torch.Tensor, key: torch.Tensor, cap: float | None) -> torch.Tensor:
    """Queries with which the largest score is beyond the cap, where there is one."""
    if not cap:
        return query
    keys = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    largest = float((query @ keys.transpose(2, 3)).abs().max()) * module.scaling
    return query * max(1.0, _BEYOND * cap / largest) if largest > 0 else query


def reference(model: Any, device: torch.device) -> Watch:
    """Eager attention on what candidates are asked. `device`: where ids go in; of a model whose weights wait
    on a disk, `model.device` is none."""
    eager, mask = pair(attentions(model)[0], EAGER)
    real = torch.ones(2, _TOKENS, dtype=torch.bool, device=device)
    real[1, :_PADDING] = False
    usual = Watch(eager, eager, real, [], gather=True)
    _pass(model, usual, mask)
    return usual


def disagreement(model: Any, name: str, usual: Watch) -> str:
    """Why a candidate is not the attention that eager is; "" where it is."""
    attend, mask = pair(attentions(model)[0], name)
    other = Watch(attend, usual.attend, usual.real, usual.masks)
    _pass(model, other, mask)
    limit = max(_NEAR[dtype_of(model)], _ROOM * max(usual.distances))
    worst = max(other.distances, key=lambda far: float("inf") if far != far else far)
    if worst <= limit and len(other.distances) == len(usual.distances):
        return ""
    return f"{worst:.2g} away from attention in float32, limit {limit:.2g}"


def _pass(model: Any, watch: Watch, mask: Callable[..., Any]) -> None:
    """A prompt of two rows and four tokens after it, through the first layers."""
    text = model.config.text_config
    AttentionInterface.register(_TRIAL, watch)
    AttentionMaskInterface.register(_TRIAL, mask)
    before, text._attn_implementation = text._attn_implementation, _TRIAL
    there = watch.real.long()
    ids = torch.arange(2 * (_TOKENS + 4), device=there.device).view(2, -1) + 10  # no control token
    try:
        with short(model, _WINDOW), torch.inference_mode():
            cache, start = DynamicCache(config=text), 0
            for end in (_TOKENS, _TOKENS + 1, _TOKENS + 4):  # the last three at once, as likelihoods are
                kinds = torch.zeros_like(ids[:, start:end]) + (start > 0)
                seen = torch.cat([there, there.new_ones(2, end - _TOKENS)], dim=1)
                positions = seen.cumsum(-1)[:, start:end].clamp(min=1)  # PaliGemma counts from 1
                model(
                    input_ids=ids[:, start:end],
                    attention_mask=seen,
                    token_type_ids=kinds,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                start = end
    finally:
        text._attn_implementation = before

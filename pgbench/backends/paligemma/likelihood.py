"""Log-likelihoods of given continuations, as generation would have computed them.

The prompts of a batch are computed once, like the first step of generation; what they leave in the cache is
handed to a row for each continuation. There its tokens go through the model many at once, each told what
stands before it (teacher forcing). Nothing but the mask keeps a token from seeing those behind it:

- in the prompt attention is full, token_type_ids 0, as ever;
- in the continuation it is causal: its token_type_ids are 1, and transformers gives queries that come after a
  filled cache a causal mask. A flash kernel gets no mask from PaliGemma and is told "not causal"
  (transformers 5.23, `is_causal = not use_bidirectional_attention`): every token would see the answer. Such
  attention is refused.

Rows are padded on the right; what is padded is masked, and causal attention could not see it anyway.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache

from pgbench.backends.paligemma.greedy import all_finite
from pgbench.backends.paligemma.last import at_last
from pgbench.backends.paligemma.prompts import Tokens
from pgbench.errors import SampleError, UsageError
from pgbench.types import Continuation, Prepared, Reply

_SAFE = ("sdpa", "eager", "grouped", "flex_attention")  # they get a mask
_TEXTS = 4096  # whose tokens are kept
_BLOCK = 32  # tokens of a continuation at once: each has logits over 257,216 tokens, kept for all rows


@dataclass(frozen=True, slots=True)
class Words:
    """How a checkpoint's tokenizer writes a continuation. Thread-safe; `end`: the token that ends one."""

    tokens: Tokens
    end: int
    control: tuple[int, ...]  # tokens that no continuation may hold
    kept: dict[str, tuple[int, ...]] = field(default_factory=dict)  # most texts come again

    def ids(self, text: str) -> tuple[int, ...]:
        """The tokens that would have to be generated, the end token last: those behind the prompt's newline,
        which is a token of its own. Raises SampleError for a text that no answer can be."""
        if (known := self.kept.get(text)) is not None:
            return known
        found = self.tokens.ids(text)
        if not found:
            raise SampleError("a continuation is empty; there is nothing to be likely")
        if {*found} & {*self.control}:
            raise SampleError(f"a continuation holds a control token as text: {text[:60]!r}")
        if len(self.kept) >= _TEXTS:
            self.kept.clear()
        self.kept[text] = (*found, self.end)
        return (*found, self.end)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One continuation of one sample: `row` of the batch it belongs to."""

    row: int
    ids: tuple[int, ...]


def require_mask(attention: str) -> None:
    """Raises UsageError for attention that would show a token what comes behind it."""
    if attention not in _SAFE:
        raise UsageError(
            f"--mode likelihood with {attention} attention would let each token see the answer; "
            f"expected {' or '.join(_SAFE)}"
        )


def score(
    model: Any,
    inputs: dict[str, Any],
    prepared: Sequence[Prepared],
    continuations: Sequence[Sequence[str]],
    words: Words,
    *,
    cut: bool = False,
) -> list[Reply]:
    """A reply for each prompt of a batch, with the log-likelihood of every token of its continuations.

    inputs: [batch, longest] ids, mask and types, padded on the left, and pixels; `cut`: see last.py. No more
    rows than the batch has go through the model at once.
    Raises UsageError for attention without a mask, SampleError for a continuation that cannot be.
    """
    require_mask(str(model.config.text_config._attn_implementation))
    asked = [_Asked(row, words.ids(text)) for row, texts in enumerate(continuations) for text in texts]
    with torch.inference_mode():
        with at_last(model, cut):
            first, cache = _prefix(model, inputs)
        found: list[tuple[list[float], bool]] = []
        for start in range(0, len(asked), len(prepared)):
            found += _rows(model, inputs, first, cache, asked[start : start + len(prepared)], words.end)
    scores = iter(found)
    return [
        _reply(one, texts, [next(scores) for _ in texts])
        for one, texts in zip(prepared, continuations, strict=True)
    ]


def _reply(prepared: Prepared, texts: Sequence[str], scores: Sequence[tuple[list[float], bool]]) -> Reply:
    """`text`: the likeliest of several, end tokens not counted; nothing where there is one, or none."""
    if not all(map(math.isfinite, (number for logprobs, _ in scores for number in logprobs))):
        return Reply("", n_prompt=prepared.length, finite=False, error="a log-likelihood is nan or inf")
    totals = [math.fsum(logprobs[:-1]) for logprobs, _ in scores]
    return Reply(
        text=texts[totals.index(max(totals))] if len(texts) > 1 else "",
        n_prompt=prepared.length,
        finite=all(finite for _, finite in scores),
        likelihoods=tuple(
            Continuation(text, tuple(logprobs)) for text, (logprobs, _) in zip(texts, scores, strict=True)
        ),
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """logits: [rows, tokens, vocabulary]; finite: [rows, tokens], before soft-caps too, which hide inf."""

    logits: torch.Tensor
    finite: torch.Tensor
    cache: Any


def _prefix(model: Any, inputs: dict[str, Any]) -> tuple[_Step, Any]:
    """The step that generation begins with; its logits are those of each continuation's first token."""
    positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0) + 1  # PaliGemma counts from 1
    empty = DynamicCache(config=model.config.get_text_config(decoder=True))
    step = _forward(model, **inputs, position_ids=positions, past_key_values=empty, logits_to_keep=1)
    return step, step.cache


def _rows(
    model: Any, inputs: dict[str, Any], first: _Step, cache: Any, asked: Sequence[_Asked], pad: int
) -> list[tuple[list[float], bool]]:
    """(log-likelihoods of the tokens, whether all logits were finite) of each continuation."""
    device = first.logits.device
    rows = torch.tensor([one.row for one in asked], device=device)
    given = max(len(one.ids) for one in asked) - 1  # the last token is asked for and never given
    ids = torch.full((len(asked), given), pad)
    there = torch.zeros((len(asked), given), dtype=torch.long)
    for number, one in enumerate(asked):
        ids[number, : len(one.ids) - 1] = torch.tensor(one.ids[:-1])
        there[number, : len(one.ids) - 1] = 1
    ids, there = ids.to(device), there.to(device)
    mask = torch.cat([inputs["attention_mask"][rows], there], dim=1)
    positions = mask.cumsum(-1)  # PaliGemma counts from 1
    found = [_logprobs(first.logits[one.row], one.ids[:1]) for one in asked]
    finite = [first.finite[rows]]
    before, cache = mask.shape[1] - given, _selected(cache, rows)
    for start in range(0, given, _BLOCK):
        end = min(start + _BLOCK, given)
        step = _forward(
            model,
            input_ids=ids[:, start:end],
            attention_mask=mask[:, : before + end],
            token_type_ids=torch.ones_like(ids[:, start:end]),
            position_ids=positions[:, before + start : before + end],
            past_key_values=cache,
        )
        finite.append(step.finite)
        for number, one in enumerate(asked):
            wanted = one.ids[start + 1 : end + 1]
            found[number] += _logprobs(step.logits[number, : len(wanted)], wanted)
    sound = torch.cat(finite, dim=1).cpu()
    pairs = zip(found, asked, strict=True)
    return [(logprobs, bool(sound[n, : len(one.ids)].all())) for n, (logprobs, one) in enumerate(pairs)]


def _logprobs(logits: torch.Tensor, ids: tuple[int, ...]) -> list[float]:
    """logits: [tokens, vocabulary], turned into float32 as generation does."""
    wanted = torch.tensor(ids, device=logits.device, dtype=torch.long).unsqueeze(1)
    return logits.float().log_softmax(dim=-1).gather(1, wanted).squeeze(1).tolist()  # type: ignore[no-any-return]


def _selected(cache: Any, rows: torch.Tensor) -> Any:
    """A cache with a row of the other one for each continuation; the other one stays as it was, since layers
    replace their tensors and write into none."""
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    copied.batch_select_indices(rows)
    return copied


def _forward(model: Any, **inputs: Any) -> _Step:
    raw: list[torch.Tensor] = []
    hook = model.lm_head.register_forward_hook(
        lambda _module, _inputs, logits: raw.append(all_finite(logits))
    )
    try:
        output = model(**inputs, use_cache=True)
    finally:
        hook.remove()
    return _Step(output.logits, raw[0] & all_finite(output.logits), output.past_key_values)

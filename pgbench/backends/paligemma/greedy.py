"""Greedy decoding in which a row that has ended leaves the batch.

One long answer would otherwise keep all other rows in the pass until it ends. The passes are those of
transformers' `generate` (positions from 1 at the first token, no mask where nothing is padded, float32 before
the maximum), without what it prepares, copies and waits for around each of them. With a static cache, which
has its number of rows for good, `generate` itself is called.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList

from pgbench.backends.paligemma.last import at_last

# Rows leave when at least one in so many has ended: to select the others in the cache costs about a pass.
_LEAVING = 4
_AHEAD = 64  # tokens by which a mask grows: most answers end before, and a limit may be any number
# RuntimeErrors of torch 2.13: its CPU allocator; libraries to which the allocator has left no room; and what
# CUDA itself says to those that ask it for memory without torch.
_NO_ROOM = (
    *("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
    "CUDA error: out of memory",
)


@dataclass(slots=True)
class Answer:
    """One row's tokens, its stop token among them; `finite`: no logit of its own steps was nan or inf."""

    limit: int
    ids: list[int] = field(default_factory=list)
    finite: bool = True
    over: bool = False

    def add(self, token: int, finite: bool, stop: frozenset[int]) -> None:
        """What follows the end is ignored."""
        if self.over:
            return
        self.ids.append(token)
        self.finite &= finite
        self.over = token in stop or len(self.ids) >= self.limit


def decode(
    model: Any, inputs: dict[str, Any], limits: Sequence[int], stop: Sequence[int], *, cut: bool = False
) -> list[Answer]:
    """Answers of a batch, in its order.

    inputs: [rows, longest] ids, mask and types, padded on the left, and pixels or features; `limits`: the
    most tokens of each row, at least 1; `stop`: tokens that end an answer; `cut`: see last.py.
    """
    answers, ends = [Answer(limit) for limit in limits], frozenset(stop)
    present = list(range(len(limits)))
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    mask = inputs["attention_mask"]
    length, padded = mask.shape[1], not bool((mask == 1).all())
    positions = (mask.cumsum(-1) - 1).clamp(min=0) + 1  # PaliGemma counts from 1
    causal = torch.ones_like(mask[:, :1])  # the type of a token of an answer
    step = {**inputs, "attention_mask": mask if padded else None}
    with torch.inference_mode(), _raw(model) as raw, at_last(model, cut):
        while True:
            output = model(
                **step, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
            )
            tokens, found = _chosen(output.logits[:, -1].to(mask.device), raw.pop())
            for row, token, finite in zip(present, *found, strict=True):
                answers[row].add(token, finite, ends)
            staying = [place for place, row in enumerate(present) if not answers[row].over]
            if not staying:
                return answers
            if _LEAVING * (len(present) - len(staying)) >= len(present):
                rows = torch.tensor(staying, device=mask.device)
                _select(cache, rows)
                tokens, mask, positions = tokens[rows], mask[rows], positions[rows]
                present = [present[place] for place in staying]
            if length == mask.shape[1]:
                mask = torch.cat([mask, mask.new_ones((len(present), _AHEAD))], dim=1)
            length, positions = length + 1, positions[:, -1:] + 1
            step = {
                "input_ids": tokens[:, None],
                "attention_mask": mask[:, :length] if padded else None,
                "token_type_ids": causal[: len(present)],
            }


def _chosen(logits: torch.Tensor, raw: torch.Tensor) -> tuple[torch.Tensor, tuple[list[int], list[bool]]]:
    """The likeliest token of each row, on the device; as numbers, with whether all logits are finite.

    `raw`: the logits before a soft-cap, which leaves finite ones finite. Numbers of tokens are far below
    2^24, up to which float32 holds integers, and one wait for the device a pass is enough.
    """
    if logits.device.type == "cpu":
        return _chosen_on_a_cpu(logits, raw)
    tokens = logits.float().argmax(dim=-1)
    least, most = (end.to(logits.device, torch.float32) for end in (raw.amin(dim=-1), raw.amax(dim=-1)))
    numbers, *ends = torch.stack([tokens.float(), least, most]).tolist()
    sound = [math.isfinite(low) and math.isfinite(high) for low, high in zip(*ends, strict=True)]
    return tokens, ([int(number) for number in numbers], sound)


def _chosen_on_a_cpu(
    logits: torch.Tensor, raw: torch.Tensor
) -> tuple[torch.Tensor, tuple[list[int], list[bool]]]:
    """The same. There numpy's `argmax`, which also takes the first of equals, and of those that are nan,
    needs a tenth of the time of torch's (2.13); and what is finite in sum is so in every part."""
    tokens = logits.float().numpy().argmax(axis=-1)
    finite = math.isfinite(float(raw.sum()))
    sound = [True] * len(tokens) if finite else all_finite(raw).tolist()
    return torch.from_numpy(tokens), (tokens.tolist(), sound)


def _select(cache: Any, rows: torch.Tensor) -> None:
    """As its own `batch_select_indices`, which indexes and takes five times as long on a CPU."""
    for layer in cache.layers:
        own = rows.to(layer.keys.device)  # each on the device that computes it
        layer.keys, layer.values = layer.keys.index_select(0, own), layer.values.index_select(0, own)


def all_finite(logits: torch.Tensor) -> torch.Tensor:
    """[..., vocabulary] -> [...]: the least and the largest are finite, which neither is where one is nan.

    Two passes: on a CPU `aminmax` and `isfinite` take ten times as long (torch 2.13).
    """
    return torch.isfinite(logits.amin(dim=-1)) & torch.isfinite(logits.amax(dim=-1))


@contextlib.contextmanager
def _raw(model: Any) -> Iterator[list[torch.Tensor]]:
    """The last logits of a pass before Gemma 2's soft-cap, which turns an overflow into a finite 30."""
    found: list[torch.Tensor] = []

    def look(_module: object, _inputs: object, logits: torch.Tensor) -> None:
        found.append(logits[:, -1])

    hook = model.lm_head.register_forward_hook(look)
    try:
        yield found
    finally:
        hook.remove()


def no_room(error: BaseException) -> bool:
    """Whether an error of a pass says that memory is out: on the device, or of the process."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_ROOM)


class FiniteRows:
    """A logits processor that changes nothing and remembers the rows that met nan or inf.

    limits: [rows], the max_new_tokens of each. Logits after a row's last token mean nothing.
    """

    def __init__(self, limits: Sequence[int], stop: Sequence[int]) -> None:
        self.finite = torch.ones(len(limits), dtype=torch.bool)
        self._limits, self._stop = torch.tensor(limits), torch.tensor(stop)
        self._over = torch.zeros(len(limits), dtype=torch.bool)
        self._step = 0
        self.raw: list[torch.Tensor] = []  # the logits of the pass that is looked at; filled by `_raw`

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._step:  # at the first step the last token is the prompt's
            self._over |= torch.isin(input_ids[:, -1].cpu(), self._stop) | (self._step >= self._limits)
        self._step += 1
        sound = all_finite(scores).cpu()
        if self.raw:
            sound &= all_finite(self.raw.pop()).cpu()
        self.finite &= sound | self._over
        return scores


def generate(
    model: Any,
    inputs: dict[str, Any],
    limits: Sequence[int],
    stop: Sequence[int],
    config: GenerationConfig,
) -> list[Answer]:
    """The same by transformers' own `generate`, all rows to the end; `config`: with its kind of cache."""
    watch = FiniteRows(limits, stop)
    with torch.inference_mode(), _raw(model) as raw:
        watch.raw = raw
        output = model.generate(
            **inputs, generation_config=config, logits_processor=LogitsProcessorList([watch])
        )
    answers, ends = [Answer(limit) for limit in limits], frozenset(stop)
    for answer, ids in zip(answers, output[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
        for token in ids:
            answer.add(token, True, ends)
    for answer, finite in zip(answers, watch.finite.tolist(), strict=True):
        answer.finite = finite
    return answers

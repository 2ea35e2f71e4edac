"""Several questions about one image as one sequence, so that the image tokens are paid for once.

Each question with its answer is a segment that sees the image and itself and no other segment, at positions
that start behind the image. The image tokens see no segment, while those of the real format see the prompt:
a model taught in packs gets used to that in a few steps with one question a row, see `alone`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import linear

IGNORED = -100
HIDDEN = -1e9  # added to the scores of what is not to be seen

Pair = tuple[tuple[int, ...], tuple[int, ...]]  # tokens of a prompt and of its answer


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch: [rows, length] each, but for the mask [rows, 1, image + length, image + length]."""

    ids: torch.Tensor
    positions: torch.Tensor  # [rows, image + length]
    mask: torch.Tensor
    wanted: torch.Tensor  # the next token where an answer is being written, else IGNORED
    lengths: torch.Tensor  # of the answer that is being written


class Words:
    """Prompts and answers as the processor turns them into tokens, remembered."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._known: dict[str, tuple[int, ...]] = {}

    def pair(self, prompt: str, answer: str) -> Pair:
        """bos, prompt and line end; answer and eos."""
        first, last = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return (first, *self._tokens(f"{prompt}\n")), (*self._tokens(answer), last)

    def _tokens(self, text: str) -> tuple[int, ...]:
        if text not in self._known:
            self._known[text] = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return self._known[text]


def alone(pairs: Sequence[Pair], image: int) -> Packed:
    """One question a row, seen by the image tokens too: the real format."""
    return pack([[pair] for pair in pairs], image, seen_by_image=True)


def pack(rows: Sequence[Sequence[Pair]], image: int, seen_by_image: bool = False) -> Packed:
    """Rows of questions behind `image` tokens each."""
    length = max(sum(len(prompt) + len(answer) - 1 for prompt, answer in row) for row in rows)
    ids, wanted, segment, position, lengths = (
        torch.full((len(rows), length), value) for value in (0, IGNORED, -1, image + 1, 1)
    )
    prompted = torch.zeros(len(rows), length, dtype=torch.bool)
    for number, row in enumerate(rows):
        start = 0
        for place, (prompt, answer) in enumerate(row):
            tokens = prompt + answer[:-1]
            end = start + len(tokens)
            ids[number, start:end] = torch.tensor(tokens)
            segment[number, start:end] = place
            position[number, start:end] = image + 1 + torch.arange(len(tokens))
            prompted[number, start : start + len(prompt)] = True
            wanted[number, start + len(prompt) - 1 : end] = torch.tensor(answer)
            lengths[number, start:end] = len(answer)
            start = end
    mask = _mask(segment, prompted, image, seen_by_image)
    before = torch.arange(1, image + 1).expand(len(rows), -1)
    return Packed(ids, torch.cat([before, position], 1), mask, wanted, lengths)


def _mask(segment: torch.Tensor, prompted: torch.Tensor, image: int, seen_by_image: bool) -> torch.Tensor:
    rows, length = segment.shape
    same = segment[:, :, None] == segment[:, None, :]
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    seen = torch.zeros(rows, image + length, image + length, dtype=torch.bool)
    seen[:, :, :image] = True
    if seen_by_image:
        seen[:, :image, image:] = prompted[:, None, :]
    seen[:, image:, image:] = same & (earlier | prompted[:, None, :])
    return torch.zeros(seen.shape).masked_fill_(~seen, HIDDEN)[:, None]


def logits(model: Any, features: torch.Tensor, packed: Packed) -> torch.Tensor:
    """The decoder's scores where answers are written, [tokens, vocabulary], in the order of `wanted`.

    `features`: the tower's last hidden state, [rows, image, hidden].
    """
    decoder, config = model.model.language_model, model.config.text_config
    seen = model.model.multi_modal_projector(features)
    embedded = torch.cat([seen, decoder.embed_tokens(packed.ids)], 1)
    masks: Any = packed.mask
    if config.model_type == "gemma2":  # the window is longer than any sequence here
        masks = {"full_attention": packed.mask, "sliding_attention": packed.mask}
    out = decoder(
        inputs_embeds=embedded, attention_mask=masks, position_ids=packed.positions, use_cache=False
    ).last_hidden_state[:, -packed.ids.shape[1] :]
    scores = linear(out[packed.wanted != IGNORED], model.lm_head.weight)
    cap = getattr(config, "final_logit_softcapping", None)
    return scores if cap is None else torch.tanh(scores / cap) * cap

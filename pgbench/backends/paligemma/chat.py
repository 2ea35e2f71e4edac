"""Chat checkpoints: image tokens, then Gemma's chat template, an answer that ends with its turn.

    <image>... <bos><start_of_turn>user\\n{question}<end_of_turn>\\n<start_of_turn>model\\n

That is how the card of BUAADreamer/PaliGemma-3B-Chat-v0.2 lays a question out; the newline that the processor
puts behind other prompts is left out. The template stands here rather than being taken from the checkpoint,
where it would be a program.

Which attention it was trained with is not known for certain: LLaMA-Factory since e6fc0ac8f (2024-05-24)
calls all text suffix, hence causal, while transformers 4.41.0, with which it was trained, attended in full
whatever it was told. `full` is the default: the card's own snippet passes no token_type_ids, and the
transformers of its day then attended in full within the whole prompt.
"""

from __future__ import annotations

from typing import Any

import torch

from pgbench.backends.paligemma.prompts import Tokens
from pgbench.errors import CheckpointError, SampleError
from pgbench.types import ChatAttention, Request

START, END = "<start_of_turn>", "<end_of_turn>"
_TEMPLATE = "{bos}" + START + "user\n{question}" + END + "\n" + START + "model\n"
_STARTS = 2  # turns that a prompt begins


class Turns:
    """Prompts of one chat checkpoint. Thread-safe; `end`: the token that ends a turn."""

    def __init__(self, name: str, processor: Any, tokens: Tokens, attention: ChatAttention) -> None:
        """Raises CheckpointError for a tokenizer without the tokens of turns."""
        self._processor, self._tokens, self._attention = processor, tokens, attention
        known = processor.tokenizer.get_vocab()
        if lacking := [token for token in (START, END) if token not in known]:
            raise CheckpointError(
                f"{name}: its name says chat, its tokenizer has no {' and no '.join(lacking)}; "
                "expected Gemma's tokens of turns"
            )
        self._start, self.end = known[START], known[END]

    def ids(self, request: Request) -> torch.Tensor:
        """[length]. Raises SampleError for a question that holds a token of turns as text."""
        words = self._processor.tokenizer
        text = _TEMPLATE.format(bos=words.bos_token, question=request.prompt.strip())
        found = self._tokens.ids(text)
        if found.count(self._start) != _STARTS or found.count(self.end) != 1:
            raise SampleError(f"the prompt holds a control token ({START}, {END}) as text")
        count = len(request.images) * self._processor.image_seq_length
        return torch.tensor([self._processor.image_token_id] * count + found)

    def types(self, ids: torch.Tensor) -> torch.Tensor:
        """[length]: 0 where attention is full, 1 where it is causal."""
        causal = self._attention == "causal"
        return (ids != self._processor.image_token_id).long() if causal else torch.zeros_like(ids)

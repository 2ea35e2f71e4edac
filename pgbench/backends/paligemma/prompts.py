"""Prompts without what a processor and a tokenizer of transformers do around each of them.

The published processor lays out thousands of image tokens as text, tokenizes them and makes half a dozen
arrays for each question. Here the library below the tokenizer is asked, for bos, prefix and newline alone.
That this gives what the other way gives is looked at on a few texts when a checkpoint is loaded; where it
does not, the other way is taken every time.
"""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image as Pillow

from pgbench.backends.paligemma.once import Once

IMAGE = "<image>"
_LOOKED_AT = (
    *("answer en what colour is the sign?", "caption en", "", "two  blanks", "  lead", "at its end "),
    *("a\nb", "answer en\n", "ünïcode 標識 🚏", "<loc0012> here", "<bos>", "what is <eos>?", "1,234.5%"),
)
_KEPT = 8 << 20  # bytes of prompts that are kept: many questions come again
_EACH = 4 << 10  # of a prompt beside its tokens, as measured: most of it, where pictures are small
_BYTES = 24  # of a token: in two tensors, and in a tuple, whose integers are mostly shared


@dataclass(frozen=True, slots=True)
class Prompt:
    """Tokens of one prompt. ids and types: [length], which nobody writes to."""

    tokens: tuple[int, ...]
    ids: torch.Tensor
    types: torch.Tensor  # 0: a prefix attends in both directions


def prompt_of(tokens: list[int]) -> Prompt:
    ids = torch.frombuffer(array("q", tokens), dtype=torch.long)  # torch.tensor takes four times as long
    return Prompt(tuple(tokens), ids, torch.zeros_like(ids))


def _size(prompt: Prompt) -> int:
    return _EACH + _BYTES * len(prompt.tokens)


class Tokens:
    """Ids of texts, no special token added to them. Thread-safe."""

    def __init__(self, words: Any, lock: threading.Lock) -> None:
        """`words`: a tokenizer; `lock`: its own, since a fast one refuses two callers: "Already borrowed"."""
        self._words, self._lock = words, lock
        self.direct = getattr(words, "backend_tokenizer", None) is not None and all(
            self._encoded(text) == self._asked(text) for text in _LOOKED_AT
        )

    def ids(self, text: str) -> list[int]:
        return self._encoded(text) if self.direct else self._asked(text)

    def _encoded(self, text: str) -> list[int]:
        with self._lock:
            return self._words.backend_tokenizer.encode(text, add_special_tokens=False).ids  # type: ignore[no-any-return]

    def _asked(self, text: str) -> list[int]:
        with self._lock:
            return list(self._words(text, add_special_tokens=False)["input_ids"])


class Prompts:
    """Token ids of prompts as the published processor has them. Thread-safe."""

    def __init__(self, processor: Any, tokens: Tokens, lock: threading.Lock) -> None:
        """`lock`: of the tokenizer."""
        self._processor, self._tokens, self._lock = processor, tokens, lock
        self._known: Once[tuple[str, int], Prompt] = Once(_KEPT, _size)
        self._bos = str(processor.tokenizer.bos_token)  # asked once: it takes as long as tokenizing
        self.direct = all(
            self._laid_out(prompt, count) == self._asked(prompt, count)
            for prompt in _LOOKED_AT
            for count in ((1, 2) if prompt == _LOOKED_AT[0] else (1,))
        )

    def of(self, prompt: str, count: int) -> Prompt:
        """`count` blocks of image tokens, bos, prefix and newline."""
        laid_out = self._laid_out if self.direct else self._asked
        return self._known.get((prompt, count), lambda: prompt_of(laid_out(prompt, count)))

    def _laid_out(self, prompt: str, count: int) -> list[int]:
        processor = self._processor
        text = self._tokens.ids(f"{self._bos}{prompt}\n")
        return [processor.image_token_id] * (count * processor.image_seq_length) + text

    def _asked(self, prompt: str, count: int) -> list[int]:
        dots = [Pillow.new("RGB", (1, 1))] * count
        with self._lock:
            batch = self._processor(images=[dots], text=[IMAGE * count + prompt], return_tensors="pt")
        return [int(token) for token in batch["input_ids"][0]]

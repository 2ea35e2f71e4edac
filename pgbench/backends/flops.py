"""Floating-point operations that a model has to do, counted from its size alone. Nothing here imports torch.

A multiplication and its addition are two. Counted: every linear layer, the convolution over patches, both
products of attention, the output layer. Left out: norms, softmax, rotations and activations, which are less
than one in a hundred at real widths. A prefix sees all of itself in PaliGemma, so no half of it is masked.
"""

from __future__ import annotations

from dataclasses import dataclass

from pgbench.backends.size import ModelSize


@dataclass(frozen=True, slots=True)
class Flops:
    """Of one row, from its pictures to its first token, and of each token after that."""

    vision: float  # tower and projector, of all its pictures
    text: float  # the prompt through the text model, and the logits of one token
    step: float  # one more token, half of the answer being there

    @property
    def prefill(self) -> float:
        return self.vision + self.text


def flops(size: ModelSize, *, images: float, text: float, answer: float = 0.0, cut: bool = False) -> Flops:
    """`images` of a prompt, `text`: its other tokens, `answer`: new tokens. Fractions are means over rows.

    `cut`: of the last layer, all tokens but the last one of a prompt have keys and values alone.
    """
    prompt = images * size.image_tokens + text
    logits = 2.0 * size.width * size.vocabulary
    return Flops(
        vision=images * _tower(size),
        text=_linear(size, prompt, sees=False)
        + _attention(size, prompt, prompt)
        - (_spared(size, prompt) if cut else 0.0)
        + logits,
        step=_linear(size, 1.0, sees=False) + _attention(size, 1.0, prompt + answer / 2) + logits,
    )


def _tower(size: ModelSize) -> float:
    """Of one picture."""
    tokens = size.image_tokens
    patches = 2.0 * tokens * size.patch * size.vision_width
    attention = 4.0 * size.vision_layers * tokens**2 * size.vision_width
    return patches + _linear(size, tokens, sees=True) + attention


def _linear(size: ModelSize, tokens: float, *, sees: bool) -> float:
    return 2.0 * tokens * sum(one.count * one.weights for one in size.linears if one.sees == sees)


def _spared(size: ModelSize, prompt: float) -> float:
    """Of one layer, for all tokens but the last: everything but keys and values."""
    asking = prompt - 1
    layer = _linear(size, asking, sees=False) + _attention(size, asking, prompt)
    return (layer - 2.0 * asking * size.width * size.cached) / size.layers


def _attention(size: ModelSize, asking: float, asked: float) -> float:
    """Queries by keys, and what comes of it by values, over all layers of the text model."""
    return 4.0 * size.layers * asking * asked * size.attending

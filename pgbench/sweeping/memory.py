"""The device memory that answering takes, estimated from a model's config alone.

    weights      the linear layers at their level, quantization state included; the rest at the dtype
    cache        keys and values of batch x (image tokens + text + answer), at the dtype
    activations  of the widest moment: the vision tower, or the prompt in the text model, with the pixels and
                 the logits of one token beside it

An estimate: what a driver and its libraries hold by themselves is not in it, nor what an allocator wastes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pgbench.backends.size import Linears, ModelSize
from pgbench.types import Dtype, Quant, QuantScope

RULE = (
    "memory is an estimate from the config alone: weights at their level, quantization state included; keys "
    "and values of batch x (image tokens + text + answer); activations of the widest layer; without what the "
    "driver and its libraries hold"
)
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_BLOCK, _NESTED = 64, 256  # bitsandbytes: weights to a statistic in 4 bit, statistics to a nested one
_GROUPS = (128, 96, 64, 32)  # of optimum-quanto: the first that divides more inputs than 128, else a row
_TABLES = 4 * (16 + 256 + 1)  # of each layer: the code, the nested code and an offset, in float32
SCORED = 32  # tokens of continuations at once, as backends/paligemma/likelihood.py takes them
_LOGIT = 4  # bytes: logits are turned into float32 for the choice of a token


@dataclass(frozen=True, slots=True)
class Load:
    """What one batch asks of a model."""

    rows: int  # samples a batch
    images: int  # of the sample with the most
    text: int  # tokens of a prompt at most, images left out
    answer: int  # new tokens at most
    scored: int = 0  # tokens whose logits are held at once, in mode likelihood


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes."""

    weights: int
    cache: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.activations


def estimate(size: ModelSize, quant: Quant, dtype: Dtype, load: Load, scope: QuantScope = "all") -> Memory:
    """What loading at this level and answering such batches takes."""
    one = _BYTES[dtype]
    prompt = load.images * size.image_tokens + load.text
    return Memory(
        weights=weight_bytes(size, quant, dtype, scope),
        cache=load.rows * (prompt * (2 if load.scored else 1) + load.answer) * size.cached * one,
        activations=load.rows * (_widest(size, load.images, prompt, one) + _logits(size, load, one)),
    )


def _logits(size: ModelSize, load: Load, one: int) -> int:
    """Bytes of one row of scored tokens: their logits, and once more what a soft-cap makes of them. The cache
    is held for the prompts and, beside them, for the rows of continuations."""
    return 2 * load.scored * size.vocabulary * one


def weight_bytes(size: ModelSize, quant: Quant, dtype: Dtype, scope: QuantScope = "all") -> int:
    """The weights as they are stored on the device."""
    one = _BYTES[dtype]
    if quant == "none":
        return size.parameters * one
    quantized = [linear for linear in size.linears if scope == "all" or not linear.sees]
    rest = size.parameters - sum(linear.count * linear.weights for linear in quantized)
    return rest * one + sum(linear.count * _stored(linear, quant, one) for linear in quantized)


def _stored(linear: Linears, quant: Quant, one: int) -> int:
    """Bytes of one layer's weight. `one`: of a number at the dtype."""
    if quant in ("4bit", "fp4"):
        return _four_bits(linear)
    if quant == "quanto-int4":  # a scale and an offset a group, which the input's width decides
        wide = linear.inputs > _GROUPS[0]
        group = next((size for size in _GROUPS if wide and linear.inputs % size == 0), linear.inputs)
        return math.ceil(linear.weights / 2) + 2 * one * (linear.weights // group)
    a_row = {"8bit": 4, "torchao-int8": 5, "torchao-fp8": 4}  # float32 scales; torchao's zero point is a byte
    return linear.weights + a_row.get(quant, one) * linear.outputs


def _four_bits(linear: Linears) -> int:
    """Doubly quantized: half a byte a weight, a byte a block, a float32 a block of blocks, and tables."""
    blocks = math.ceil(linear.weights / _BLOCK)
    return linear.weights // 2 + blocks + 4 * math.ceil(blocks / _NESTED) + _TABLES


def _widest(size: ModelSize, images: int, prompt: int, one: int) -> int:
    """Bytes of one row: gate, up and product of a perceptron beside the residual stream and attention's
    queries, keys, values and output; likewise in the tower, with one hidden layer and its activation."""
    tower = images * size.image_tokens * (2 * size.vision_mlp + 6 * size.vision_width) * one
    scores = size.heads * prompt**2 * (2 * one + 4) if size.eager else 0  # softmax in float32
    text = prompt * (3 * size.mlp + 6 * size.width) * one + scores
    pixels = images * 3 * size.pixels**2 * one
    return max(tower, text) + pixels + size.vocabulary * (one + _LOGIT)

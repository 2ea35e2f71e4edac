"""How large a model is, told before any weight is read: counts of parameters, shapes, tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Linears:
    """Linear layers of one shape that a quantization level replaces."""

    inputs: int
    outputs: int
    count: int = 1
    bias: bool = False
    sees: bool = False  # of the vision tower or the projector

    @property
    def weights(self) -> int:
        """Of one layer, its bias left out."""
        return self.inputs * self.outputs

    @property
    def parameters(self) -> int:
        """Of all of them."""
        return self.count * (self.weights + (self.outputs if self.bias else 0))


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Parameters by part, and what decides how much memory answering takes."""

    vision: int
    projector: int
    text: int  # layers and norms
    embeddings: int  # of tokens, tied to the output layer: counted once
    linears: tuple[Linears, ...]  # of all parts
    pixels: int  # side of the square image
    image_tokens: int  # of one image
    vision_width: int
    vision_mlp: int
    width: int  # of the text model
    mlp: int
    heads: int
    vocabulary: int
    cached: int  # numbers that one token leaves in the key and value cache, over all layers
    eager: bool  # attention keeps its scores, as Gemma 2 with its soft-cap has to
    vision_layers: int = 0  # these four decide how much is computed; 0: not known
    layers: int = 0  # of the text model
    attending: int = 0  # width of its queries: heads x their width
    patch: int = 0  # numbers that become one image token: channels x side x side

    @property
    def parameters(self) -> int:
        return self.vision + self.projector + self.text + self.embeddings

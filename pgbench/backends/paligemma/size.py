"""The size of a PaliGemma from its config.json alone. Nothing here imports torch.

Layouts: modeling_siglip.py, modeling_gemma.py, modeling_gemma2.py and modeling_paligemma.py of transformers
5.23. A key that a config leaves out has the default of its class there; the released configs leave out some.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgbench.backends.size import Linears, ModelSize

_VISION = {  # SiglipVisionConfig
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
}
_GEMMA = {  # GemmaConfig
    "vocab_size": 256_000,
    "hidden_size": 3072,
    "intermediate_size": 24_576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 256,
}
_GEMMA2 = {  # Gemma2Config
    "vocab_size": 256_000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
}
_PROJECTED = 2048  # PaliGemmaConfig.projection_dim


def size_of(config: Mapping[str, Any]) -> ModelSize | None:
    """None for a config with numbers that cannot be; loading says what is wrong with it."""
    text_part = config.get("text_config") or {}
    second = text_part.get("model_type") == "gemma2"
    eye = _numbers(config.get("vision_config") or {}, _VISION)
    text = _numbers(text_part, _GEMMA2 if second else _GEMMA)
    projected = config.get("projection_dim", _PROJECTED)
    if eye is None or text is None or type(projected) is not int or projected < 1:
        return None
    tokens = (eye["image_size"] // eye["patch_size"]) ** 2
    towers = _vision_linears(eye)
    projector = Linears(eye["hidden_size"], projected, bias=True, sees=True)
    layers = _text_linears(text, bias=text_part.get("attention_bias") is True)
    return ModelSize(
        vision=_sum(towers) + _vision_rest(eye, tokens),
        projector=projector.parameters,
        text=_sum(layers) + _norms(text, 4 if second else 2),
        embeddings=text["vocab_size"] * text["hidden_size"],
        linears=(*towers, projector, *layers),
        pixels=eye["image_size"],
        image_tokens=tokens,
        vision_width=eye["hidden_size"],
        vision_mlp=eye["intermediate_size"],
        width=text["hidden_size"],
        mlp=text["intermediate_size"],
        heads=text["num_attention_heads"],
        vocabulary=text["vocab_size"],
        cached=2 * text["num_hidden_layers"] * text["num_key_value_heads"] * text["head_dim"],
        eager=second,
        vision_layers=eye["num_hidden_layers"],
        layers=text["num_hidden_layers"],
        attending=text["num_attention_heads"] * text["head_dim"],
        patch=eye["num_channels"] * eye["patch_size"] ** 2,
    )


def _numbers(part: Mapping[str, Any], defaults: Mapping[str, int]) -> dict[str, int] | None:
    found = {name: part.get(name, default) for name, default in defaults.items()}
    return found if all(type(value) is int and value > 0 for value in found.values()) else None


def _sum(linears: tuple[Linears, ...]) -> int:
    return sum(linear.parameters for linear in linears)


def _vision_linears(eye: Mapping[str, int]) -> tuple[Linears, ...]:
    """Queries, keys, values and output of attention; the two layers of the perceptron."""
    width, mlp, layers = eye["hidden_size"], eye["intermediate_size"], eye["num_hidden_layers"]
    return (
        Linears(width, width, 4 * layers, bias=True, sees=True),
        Linears(width, mlp, layers, bias=True, sees=True),
        Linears(mlp, width, layers, bias=True, sees=True),
    )


def _vision_rest(eye: Mapping[str, int], tokens: int) -> int:
    """The convolution over patches, the positions, and two layer norms a layer and one after the last."""
    width = eye["hidden_size"]
    patches = eye["num_channels"] * eye["patch_size"] ** 2 * width + width
    return patches + tokens * width + (2 * eye["num_hidden_layers"] + 1) * 2 * width


def _text_linears(text: Mapping[str, int], *, bias: bool) -> tuple[Linears, ...]:
    width, mlp, layers = text["hidden_size"], text["intermediate_size"], text["num_hidden_layers"]
    asked = text["num_attention_heads"] * text["head_dim"]
    kept = text["num_key_value_heads"] * text["head_dim"]
    return (
        Linears(width, asked, layers, bias),
        Linears(width, kept, 2 * layers, bias),
        Linears(asked, width, layers, bias),
        Linears(width, mlp, 2 * layers),
        Linears(mlp, width, layers),
    )


def _norms(text: Mapping[str, int], a_layer: int) -> int:
    """RMS norms: so many a layer, and one after the last."""
    return (a_layer * text["num_hidden_layers"] + 1) * text["hidden_size"]

"""Checkpoints with random weights at the widths of published ones: for measuring without the weights.

    paligemma2-3b-448        the widths of google/paligemma2-3b-pt-448
    paligemma2-3b-448/16     every width a sixteenth of that, rounded up to multiples of 16
    paligemma2-3b-448/16x2   and two layers in each tower

Widths: config.json of google/paligemma-3b-pt-224 and google/paligemma2-{3b,10b,28b}-pt-224 (vision: SigLIP
So400m/14). The tokenizer is the shipped demo's, since Gemma's has a licence. Random weights take as long as
trained ones, but rarely stop early: every answer is as long as it may be. Importing this loads no torch.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgbench.backends.paligemma.size import size_of
from pgbench.errors import CheckpointError, UsageError, unknown
from pgbench.types import Family

if TYPE_CHECKING:
    from pgbench.backends.size import ModelSize

PATCH, VOCABULARY, _ROUND = 14, 257_216, 16
_VISION = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "layers": 27}
_TEXT: Mapping[str, Mapping[str, Any]] = {
    "paligemma-3b": {
        "hidden_size": 2048,
        "intermediate_size": 16_384,
        "head_dim": 256,
        "heads": (8, 1),
        "layers": 18,
    },
    "paligemma2-3b": {
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "head_dim": 256,
        "heads": (8, 4),
        "layers": 26,
        "scaled": 256,
    },
    "paligemma2-10b": {
        "hidden_size": 3584,
        "intermediate_size": 14_336,
        "head_dim": 256,
        "heads": (16, 8),
        "layers": 42,
        "scaled": 256,
    },
    "paligemma2-28b": {
        "hidden_size": 4608,
        "intermediate_size": 36_864,
        "head_dim": 128,
        "heads": (32, 16),
        "layers": 46,
        "scaled": 144,
    },
}
NAMES = tuple(f"{model}-{px}" for model in _TEXT for px in (224, 448, 896))
_NAME = re.compile(
    r"(?P<model>[a-z0-9]+-\d+b)-(?P<px>224|448|896)(/(?P<divide>\d{1,2})(x(?P<layers>\d{1,2}))?)?"
)
_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1}


@dataclass(frozen=True, slots=True)
class Widths:
    """What is built. `divide`: every width by so much, the vocabulary too; `layers`: in each tower, None: all
    of them; `patch`: side in px of what becomes one image token."""

    model: str  # paligemma-3b, paligemma2-3b and so on
    pixels: int
    divide: int = 1
    layers: int | None = None
    patch: int = PATCH

    @property
    def family(self) -> Family:
        return "paligemma2" if self.model.startswith("paligemma2") else "paligemma"

    @property
    def name(self) -> str:
        """As it is asked for."""
        layers = f"x{self.layers}" if self.layers else ""
        small = f"/{self.divide}{layers}" if self.divide > 1 or layers else ""
        return f"{self.model}-{self.pixels}{small}"

    @property
    def folder(self) -> str:
        """A folder's name that says that it is pre-trained, and of the published ones nothing but that."""
        layers = f"-{self.layers}-layers" if self.layers else ""
        small = f"-divided-by-{self.divide}{layers}" if self.divide > 1 or layers else ""
        return f"random-{self.model}{small}-pt-{self.pixels}"


def widths(name: str) -> Widths:
    """Of one of NAMES, divided where the name goes on so. Raises UsageError."""
    found = _NAME.fullmatch(name)
    if not found or found["model"] not in _TEXT or found["divide"] == "0" or found["layers"] == "0":
        hint = "; smaller ones as paligemma2-3b-448/16 (widths) or /16x2 (widths and layers)"
        raise UsageError(unknown("random checkpoint", name, NAMES, hint=hint))
    layers = found["layers"]
    return Widths(
        found["model"], int(found["px"]), int(found["divide"] or 1), int(layers) if layers else None
    )


def size(of: Widths) -> ModelSize:
    """Parameters and shapes, told from the widths alone. Raises CheckpointError for widths that cannot be."""
    vision = {"image_size": of.pixels, "patch_size": of.patch, **dict(_divided(_VISION, of))}
    text = {"vocab_size": VOCABULARY // of.divide, **dict(_divided(_TEXT[of.model], of))}
    kind = {"model_type": "gemma2" if of.family == "paligemma2" else "gemma"}
    config = {"vision_config": vision, "text_config": text | kind, "projection_dim": text["hidden_size"]}
    if (found := size_of(config)) is None:
        raise CheckpointError(f"no model has the widths of {of.name}; divide by less")
    return found


def folder(of: Widths, top: Path, *, dtype: str = "bfloat16", seed: int = 0, vivid: bool = False) -> Path:
    """A checkpoint folder below `top`: config, weights at `dtype`, and the shipped demo's processor.

    Made on the GPU where there is one. Raises CheckpointError where the disk or the memory has no room.
    """
    wanted = size(of).parameters * (4 if dtype == "float32" else 2)
    if (free := shutil.disk_usage(top).free) < wanted * 1.05:
        raise CheckpointError(
            f"{of.name} with random weights takes {wanted / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are "
            "free where temporary files go; set TMPDIR, or ask for a smaller one"
        )
    made = top / of.folder
    model, reader = model_of(of, dtype=dtype, seed=seed, vivid=vivid)
    model.save_pretrained(made)
    reader.save_pretrained(made)
    return made


def model_of(
    of: Widths, *, dtype: str = "bfloat16", seed: int = 0, device: str | None = None, vivid: bool = False
) -> tuple[Any, Any]:
    """The model in memory and its processor. `device`: the GPU where there is one.

    `vivid` draws what layers add larger, so that answers depend on picture and prompt; as transformers draws
    it, the output layer, which is tied to the embedding, repeats the last token. Raises CheckpointError where
    there is no room.
    """
    import torch
    import transformers
    from transformers import PaliGemmaForConditionalGeneration

    transformers.logging.disable_progress_bar()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    reader = processor(of)
    try:
        drawn_on = [] if device == "cpu" else [torch.device(device)]
        with torch.random.fork_rng(devices=drawn_on), torch.device(device):
            torch.manual_seed(seed)
            # at the dtype from the start: in float32 first, 28 billion parameters take 112 GB
            model = PaliGemmaForConditionalGeneration._from_config(
                config_of(of, reader), dtype=getattr(torch, dtype)
            )
            if vivid:
                _enliven(model, of)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise CheckpointError(
            f"{of.name} with random weights does not fit into memory; ask for a smaller one"
        ) from error
    return model.eval(), reader


def processor(of: Widths) -> Any:
    """The shipped demo's at this resolution, on Pillow."""
    from transformers import AutoProcessor

    shipped = files("pgbench") / "demo" / "checkpoints" / "tiny-gemma"
    found = AutoProcessor.from_pretrained(str(shipped), backend="pil")
    tokens = (of.pixels // of.patch) ** 2
    found.image_processor.size = {"height": of.pixels, "width": of.pixels}
    found.image_processor.image_seq_length = found.image_seq_length = tokens
    return found


def config_of(of: Widths, reader: Any) -> Any:
    """PaliGemmaConfig. `reader`: the processor, whose tokenizer the vocabulary has to hold."""
    from transformers import Gemma2Config, GemmaConfig, PaliGemmaConfig, SiglipVisionConfig

    eye = SiglipVisionConfig(
        image_size=of.pixels, patch_size=of.patch, vision_use_head=False, **dict(_divided(_VISION, of))
    )
    wide: dict[str, Any] = dict(_divided(_TEXT[of.model], of))
    wide["vocab_size"] = max(VOCABULARY // of.divide, len(reader.tokenizer))
    kind: Any = GemmaConfig
    if of.family == "paligemma2":
        kind = Gemma2Config
        scaled = wide["head_dim"] if of.divide > 1 else _TEXT[of.model]["scaled"]
        wide |= {"query_pre_attn_scalar": scaled, "sliding_window": 4096}
    return PaliGemmaConfig(
        vision_config=eye,
        text_config=kind(max_position_embeddings=8192, **wide, **_IDS),
        projection_dim=wide["hidden_size"],
        hidden_size=wide["hidden_size"],
        image_token_index=reader.image_token_id,
        **_IDS,
    )


def _divided(sizes: Mapping[str, Any], of: Widths) -> Iterator[tuple[str, int]]:
    """As a config names them; widths rounded up to multiples of 16, which the real ones are, and of the
    heads, which have to divide them."""
    for name, value in sizes.items():
        if name == "layers":
            yield "num_hidden_layers", of.layers or value
        elif name == "heads":
            yield from zip(("num_attention_heads", "num_key_value_heads"), value, strict=True)
        elif name == "num_attention_heads":
            yield name, 1 << (max(1, value // of.divide).bit_length() - 1)
        elif name != "scaled":
            unit = max(_ROUND, sizes["heads"][0]) if "heads" in sizes and name == "hidden_size" else _ROUND
            yield name, -(-value // of.divide // unit) * unit


def _enliven(model: Any, of: Widths) -> None:
    spread = 8.0 / model.config.text_config.hidden_size**0.5
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight", "linear.weight")):
            parameter.data.normal_(0.0, spread)
        elif of.family == "paligemma2" and "language_model" in name and ".post_" in name:
            parameter.data.fill_(9.0)  # Gemma 2 normalises once more what its layers add

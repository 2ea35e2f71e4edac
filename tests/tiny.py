"""Tiny PaliGemma checkpoints with random weights, for tests: a megabyte, a quarter of a second.

Weights are drawn so that answers depend on picture and prompt: with the usual scale, the output layer, which
is tied to the embedding, repeats the last token. Widths are multiples of 64, so that every layer can be
quantized; `vision_mlp` breaks that on purpose.
"""

from __future__ import annotations

import functools
import io
import json
import random
import string
from pathlib import Path
from typing import Any

from pgbench.types import Dtype, Family, Image, ModelRequest, Request

FAMILIES: tuple[Family, ...] = ("paligemma", "paligemma2")
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")  # ids 0 to 4, as in Gemma
PATCH, SIDE, HIDDEN, LAYERS = 14, 28, 64, 2
IMAGE_TOKENS = (SIDE // PATCH) ** 2
VOCABULARY = 1600


def checkpoint(
    folder: Path, family: Family, *, vision_mlp: int = 2 * HIDDEN, eos: int | list[int] = 1, seed: int = 0
) -> Path:
    """Write config, weights in float32, processor and generation config into `folder`."""
    import torch
    import transformers
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

    words = tokenizer()
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": eos}
    config = PaliGemmaConfig(
        vision_config=vision(vision_mlp),
        text_config=text(family, ids),
        projection_dim=HIDDEN,
        hidden_size=HIDDEN,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PaliGemmaForConditionalGeneration(config)
        for name, parameter in model.named_parameters():  # what layers add shall outweigh the embedding
            if name.endswith(("o_proj.weight", "down_proj.weight", "linear.weight")):
                parameter.data.normal_(0.0, 1.0)
            elif family == "paligemma2" and "language_model" in name and ".post_" in name:
                parameter.data.fill_(9.0)  # Gemma 2 normalises it once more
    transformers.logging.disable_progress_bar()
    model.save_pretrained(folder)
    processor(words).save_pretrained(folder)
    return folder


def text(family: Family, ids: dict[str, Any]) -> Any:
    from transformers import Gemma2Config, GemmaConfig

    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "initializer_range": 0.3,
    }
    if family == "paligemma":
        return GemmaConfig(**sizes, **ids)
    caps = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 32}
    return Gemma2Config(**sizes, **caps, **ids)


def vision(mlp: int) -> Any:
    from transformers import SiglipVisionConfig

    return SiglipVisionConfig(
        hidden_size=HIDDEN,
        intermediate_size=mlp,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=HIDDEN,
        vision_use_head=False,
    )


def tokenizer() -> Any:
    """Bytes, printable characters and a few merges in Gemma's manner: "▁" for a space, "\\n" alone."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import GemmaTokenizer
    from transformers.models.paligemma.processing_paligemma import EXTRA_TOKENS

    trained = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    letters = sorted({*string.printable} - {*"\t\r\x0b\x0c "} | {"▁"})
    trainer = trainers.BpeTrainer(
        vocab_size=len(SPECIAL) + 256 + len(letters) + 20,
        special_tokens=[*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=letters,
        show_progress=False,
    )
    trained.train_from_iterator(["answer en what colour is the sign?"], trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]] + [("\n", "\n")]  # Gemma has a token for "\n\n"
    vocabulary = {**model["vocab"], "\n\n": len(model["vocab"])}
    words = GemmaTokenizer(vocab=vocabulary, merges=merges, add_bos_token=False, add_eos_token=False)
    words.add_tokens(EXTRA_TOKENS)
    words.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return words


def processor(words: Any) -> Any:
    from transformers import PaliGemmaProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    pixels = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}, resample=3, do_convert_rgb=True)
    pixels.image_seq_length = IMAGE_TOKENS
    return PaliGemmaProcessor(pixels, words)


def picture(seed: int, side: int = 8) -> Image:
    """Coarse noise: pictures that differ in every patch."""
    from PIL import Image as PillowImage

    pixels = random.Random(seed).randbytes(3 * side * side)
    file = io.BytesIO()
    PillowImage.frombytes("RGB", (side, side), pixels).save(file, "PNG")
    data = file.getvalue()
    return Image(f"{seed}.png", lambda: data)


def question(seed: int, max_new_tokens: int = 4) -> Request:
    """A picture and a prompt of 1 to 12 words."""
    drawn = random.Random(seed)
    words = ["".join(drawn.choices(string.ascii_lowercase, k=drawn.randint(1, 7))) for _ in range(12)]
    prompt = " ".join(["answer en", *words[: drawn.randint(1, 12)]])
    return Request(f"q{seed}", (picture(seed),), prompt, max_new_tokens)


def edit_json(path: Path, **changes: object) -> None:
    """Change top-level fields of a JSON file; None removes one."""
    document = json.loads(path.read_text()) if path.exists() else {}
    document |= changes
    path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def copied(folder: Path, target: Path) -> Path:
    """A copy whose weights are a link, for tests that change the small files."""
    target.mkdir(parents=True)
    for path in folder.iterdir():
        if path.suffix == ".safetensors":
            (target / path.name).symlink_to(path)
        else:
            (target / path.name).write_bytes(path.read_bytes())
    return target


def load(folder: Path, dtype: Dtype = "float32", **more: Any) -> Any:
    """The backend of a folder, on the CPU; Any, since tests look inside."""
    from pgbench.backends.paligemma import engine

    return engine(ModelRequest(model=str(folder), dtype=dtype, device="cpu", **more)).load()


@functools.cache
def kept(folder: Path, dtype: Dtype = "float32", **more: Any) -> Any:
    """As `load`, one for all tests that only look at it."""
    return load(folder, dtype, **more)

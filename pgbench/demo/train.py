"""Builds a tiny PaliGemma of either family and trains it on drawn signs.

    python -m pgbench.demo.train OUT --family paligemma|paligemma2

OUT becomes a checkpoint in Hugging Face format that the shipped ones in checkpoints/ are copies of. The
architecture is the real one in small: SigLIP tower, linear projector, Gemma or Gemma 2 decoder with tied
embeddings (https://arxiv.org/abs/2407.07726, https://arxiv.org/abs/2412.03555). The same seed, versions
and processor give the same weights; another processor may round differently.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import random
import string
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
import tqdm
from PIL import Image as PillowImage
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    Gemma2Config,
    GemmaConfig,
    GemmaTokenizer,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SiglipVisionConfig,
)
from transformers.models.paligemma.processing_paligemma import EXTRA_TOKENS
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from pgbench.demo import signs
from pgbench.types import DataRequest, Family, Sample

# Ids 0 to 4, as in Gemma's vocabulary.
SPECIALS = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
HEAD_DIM = 32


@dataclass(frozen=True, slots=True)
class Recipe:
    """Size and training of one checkpoint.

    bitsandbytes' 4-bit layers need in_features in multiples of 64 (its block) and, packed on a CPU with
    AVX512-BF16, out_features in multiples of 32.
    """

    family: Family
    hidden: int = 128
    intermediate: int = 256
    layers: int = 2  # of the tower, and of the decoder
    image_size: int = 56  # px
    patch: int = 14  # px
    look_steps: int = 900
    answer_steps: int = 300
    batch: int = 64
    rate: float = 2e-3  # AdamW's, at its peak
    warm_up: int = 40  # steps
    seed: int = 0


def tokenizer() -> Any:
    """A byte-fallback BPE with Gemma's special tokens, and PaliGemma's <loc>, <seg> and <image>."""
    letters = [*sorted(set(string.printable) - set(string.whitespace)), "▁"]
    alphabet = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))]
    bpe = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    # While it is trained only: no merge crosses a word.
    bpe.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    corpus = [f"answer en {text}" for kind in signs.QUESTIONS for text in signs.QUESTIONS[kind]]
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + len(letters) + 200,
        special_tokens=alphabet,
        initial_alphabet=letters,
        show_progress=False,
    )
    bpe.train_from_iterator([*corpus, *signs.COLOURS], trainer)
    learnt = json.loads(bpe.to_str())["model"]
    merges = [tuple(merge) for merge in learnt["merges"]]
    found = GemmaTokenizer(vocab=learnt["vocab"], merges=merges, add_bos_token=False, add_eos_token=False)
    found.add_tokens(EXTRA_TOKENS)
    found.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return found


def build(recipe: Recipe) -> tuple[Any, Any]:
    """An untrained model and its processor."""
    words = tokenizer()
    ids = {name: getattr(words, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    vocabulary = -(-len(words) // 64) * 64
    config = PaliGemmaConfig(
        vision_config=_vision(recipe),
        text_config=_text(recipe, vocabulary, ids),
        vocab_size=vocabulary,
        projection_dim=recipe.hidden,
        hidden_size=recipe.hidden,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        **ids,
    )
    torch.manual_seed(recipe.seed)
    model = PaliGemmaForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.linear.weight, std=recipe.hidden**-0.5)
    pixels = SiglipImageProcessorPil(
        size={"height": recipe.image_size, "width": recipe.image_size}, resample=3
    )
    pixels.image_seq_length = (recipe.image_size // recipe.patch) ** 2  # PaliGemmaProcessor asks for it
    return model, PaliGemmaProcessor(pixels, words)


def _vision(recipe: Recipe) -> Any:
    return SiglipVisionConfig(
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.hidden // HEAD_DIM,
        image_size=recipe.image_size,
        patch_size=recipe.patch,
        projection_dim=recipe.hidden,
        vision_use_head=False,
    )


def _text(recipe: Recipe, vocabulary: int, ids: dict[str, int]) -> Any:
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": recipe.hidden,
        "intermediate_size": recipe.intermediate,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.hidden // HEAD_DIM,
        "num_key_value_heads": 1,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": 8192,
        "initializer_range": recipe.hidden**-0.5,  # the usual 0.02 is too small for so few channels
    }
    if recipe.family == "paligemma":
        return GemmaConfig(**sizes, **ids)
    # Soft-caps, window and scale as in https://huggingface.co/google/gemma-2-2b (its scale is head_dim too).
    gemma2 = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window": 4096}
    return Gemma2Config(query_pre_attn_scalar=HEAD_DIM, **gemma2, **sizes, **ids)


def train(model: Any, processor: Any, recipe: Recipe) -> None:
    """Trains in place, in float32, on the train split: the tower by itself first, then all of it.

    Answers alone teach colours and hardly reading: 0.47 of the held-out characters after 1,000 steps, with 64
    channels and 3 layers.
    """
    model.train()
    _learn_to_look(model.model.vision_tower, processor, recipe)
    batches = _batches(signs.textvqa(DataRequest("train")).samples, recipe)
    parameters = list(model.parameters())

    def loss() -> Any:
        return model(**encode(processor, next(batches), answered=True)).loss

    _fit("answer", loss, parameters, recipe.answer_steps, recipe)
    model.eval()


def _learn_to_look(tower: Any, processor: Any, recipe: Recipe) -> None:
    """Teaches the tower to name character and colour through a linear head, which is thrown away."""
    scenes = [signs.scene("train", index) for index in range(signs.SPLITS["train"].images)]
    glyphs, colours = list(signs.GLYPHS), list(signs.COLOURS)
    wanted = torch.tensor([(glyphs.index(scene.character), colours.index(scene.colour)) for scene in scenes])
    head = torch.nn.Linear(recipe.hidden, len(glyphs) + len(colours))
    generator = torch.Generator().manual_seed(recipe.seed)

    def loss() -> Any:
        chosen = torch.randint(len(scenes), (recipe.batch,), generator=generator)
        files = [signs.draw(scenes[index]) for index in chosen.tolist()]
        pixels = processor.image_processor(images=_open(files), return_tensors="pt")["pixel_values"]
        named = head(tower(pixel_values=pixels).last_hidden_state.mean(dim=1))
        of_glyph = torch.nn.functional.cross_entropy(named[:, : len(glyphs)], wanted[chosen, 0])
        return of_glyph + torch.nn.functional.cross_entropy(named[:, len(glyphs) :], wanted[chosen, 1])

    _fit("look", loss, [*tower.parameters(), *head.parameters()], recipe.look_steps, recipe)


def _fit(name: str, loss: Callable[[], Any], parameters: list[Any], steps: int, recipe: Recipe) -> None:
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.0)
    with tqdm.trange(steps, unit="step", desc=f"{recipe.family}: {name}") as bar:
        for step in bar:
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * _schedule(step, steps, recipe.warm_up)
            value = loss()
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            if step % 20 == 0:
                bar.set_postfix(loss=f"{value.item():.3f}")


def _schedule(step: int, steps: int, warm_up: int) -> float:
    """Linear warm-up, then a cosine down to 3 %."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


def _batches(samples: Sequence[Sample], recipe: Recipe) -> Iterator[list[Sample]]:
    order = random.Random(f"{recipe.seed}/order")
    while True:
        shuffled = sorted(samples, key=lambda sample: order.random())
        for start in range(0, len(shuffled) - recipe.batch + 1, recipe.batch):
            yield shuffled[start : start + recipe.batch]


def _open(files: Sequence[bytes]) -> list[PillowImage.Image]:
    return [PillowImage.open(io.BytesIO(file)) for file in files]


def encode(processor: Any, samples: Sequence[Sample], answered: bool = False) -> Any:
    """Samples as the model reads them; with `answered`, their answers as suffixes and labels."""
    # "<image>" stands first, the processor adds bos and "\n": the prompt that real checkpoints know.
    # https://huggingface.co/docs/transformers/model_doc/paligemma
    suffixes = {"suffix": [truth(sample) for sample in samples]} if answered else {}
    batch = processor(
        images=_open([sample.images[0].read() for sample in samples]),
        text=[f"<image>answer en {sample.question}" for sample in samples],
        return_tensors="pt",
        padding="longest",
        **suffixes,
    )
    if not answered:
        batch.pop("labels", None)  # all -100, and there even without a suffix
    return batch


def truth(sample: Sample) -> str:
    """What most annotators answered; "" for a sample without answers."""
    return Counter(sample.target or ("",)).most_common(1)[0][0]


def answers(model: Any, processor: Any, samples: Sequence[Sample], batch: int = 50) -> list[str]:
    """Greedy answers, in order."""
    found: list[str] = []
    for start in range(0, len(samples), batch):
        inputs = encode(processor, samples[start : start + batch])
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
        with torch.inference_mode():
            out = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        found += processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in found]


def exact_match(found: Sequence[str], samples: Sequence[Sample]) -> float:
    """The share of answers that are the most common one, as a fraction."""
    return sum(text == truth(sample) for text, sample in zip(found, samples, strict=True)) / len(samples)


def save(model: Any, processor: Any, out: Path) -> str:
    """Writes the checkpoint, weights in bfloat16 as the real ones; returns the sha256 of the weights."""
    model.to(torch.bfloat16).save_pretrained(out)
    processor.save_pretrained(out)
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, writes, reads back and states what the checkpoint answers on held-out signs."""
    parser = argparse.ArgumentParser(prog="python -m pgbench.demo.train", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the new checkpoint")
    parser.add_argument("--family", choices=get_args(Family), required=True)
    parser.add_argument("--seed", type=int, default=0, help="of weights and order")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)  # the order of additions, hence the weights, depends on it
    recipe = Recipe(family=asked.family, seed=asked.seed)
    model, processor = build(recipe)
    train(model, processor, recipe)
    weights = save(model, processor, asked.out)
    model = AutoModelForImageTextToText.from_pretrained(
        asked.out, dtype="float32", local_files_only=True
    ).eval()
    processor = AutoProcessor.from_pretrained(asked.out, local_files_only=True)
    held_out = signs.textvqa(DataRequest("val")).samples
    accuracy = exact_match(answers(model, processor, held_out), held_out)
    print(f"held-out exact match {accuracy:.3f} of {len(held_out)}, chance {signs.chance(held_out):.3f}")
    print(f"sha256 of model.safetensors {weights}")


if __name__ == "__main__":
    main()

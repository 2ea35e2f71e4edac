"""A tiny PaliGemma of either family, untrained, with its processor.

The real architecture in small: SigLIP tower, linear projector, Gemma or Gemma 2 decoder with tied embeddings
(https://arxiv.org/abs/2407.07726, https://arxiv.org/abs/2412.03555). A large patch keeps 448 px affordable.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
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

from pgbench.demo.questions import CAPTIONS, KINDS, LAYOUTS, WRITTEN, sentences, taught
from pgbench.demo.world import COLOURS, scene
from pgbench.types import Family

# Ids 0 to 4, as in Gemma's vocabulary.
SPECIALS = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
HEAD_DIM = 32
PATCH = 28  # px
MERGES = 400


@dataclass(frozen=True, slots=True)
class Size:
    """Of one checkpoint.

    bitsandbytes' 4-bit layers need in_features in multiples of 64 (its block) and, packed on a CPU with
    AVX512-BF16, out_features in multiples of 32.
    """

    image: int  # px
    hidden: int = 128
    intermediate: int = 384
    tower: int = 4  # layers
    decoder: int = 3  # layers

    @property
    def grid(self) -> int:
        """Patches a side."""
        return self.image // PATCH

    @property
    def tokens(self) -> int:
        """Image tokens."""
        return self.grid**2


def build(family: Family, size: Size, seed: int) -> tuple[Any, Any]:
    """An untrained model in float32 and its processor."""
    words = tokenizer()
    ids = {name: getattr(words, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    vocabulary = -(-len(words) // 64) * 64
    config = PaliGemmaConfig(
        vision_config=_vision(size),
        text_config=_text(family, size, vocabulary, ids),
        vocab_size=vocabulary,
        projection_dim=size.hidden,
        hidden_size=size.hidden,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        **ids,
    )
    torch.manual_seed(seed)
    model = PaliGemmaForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.linear.weight, std=size.hidden**-0.5)
    pixels = SiglipImageProcessorPil(size={"height": size.image, "width": size.image}, resample=3)
    pixels.image_seq_length = size.tokens  # PaliGemmaProcessor asks for it
    return model, PaliGemmaProcessor(pixels, words)


def tokenizer() -> Any:
    """A byte-fallback BPE with Gemma's special tokens, and PaliGemma's <loc>, <seg> and <image>."""
    letters = [*sorted(set(string.printable) - set("\t\r\x0b\x0c ")), "▁"]
    alphabet = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))]
    bpe = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    # While it is trained only: no merge crosses a word or touches punctuation, a line's end or a digit.
    alone = pre_tokenizers.Split(Regex(r"[?.,:()/\n\d？]"), "isolated")
    by_word = pre_tokenizers.Split("▁", "merged_with_next")
    bpe.pre_tokenizer = pre_tokenizers.Sequence([alone, by_word])
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + len(letters) + MERGES,
        special_tokens=alphabet,
        initial_alphabet=letters,
        show_progress=False,
    )
    bpe.train_from_iterator(_corpus(), trainer)
    learnt = json.loads(bpe.to_str())["model"]
    merges = [tuple(merge) for merge in learnt["merges"]]
    found = GemmaTokenizer(vocab=learnt["vocab"], merges=merges, add_bos_token=False, add_eos_token=False)
    found.add_tokens(EXTRA_TOKENS)
    found.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return found


def _corpus() -> Iterator[str]:
    """Prompts and answers, but for what signs and labels say: that is spelt."""
    generator = random.Random("corpus")
    for index in range(400):
        drawn = scene("train", index)
        yield from (*CAPTIONS, *COLOURS, *sentences(drawn)[:-2], "The answer is A.")
        for kind in WRITTEN:
            yield from (f"answer en what does the {kind} say?", f"what is written on the {kind}?")
            yield f" The {kind} says"
        for kind, ask in KINDS.items():
            question = ask(drawn, generator)
            for layout in LAYOUTS[kind] if kind not in (*WRITTEN, "caption") else ():
                yield from () if question is None else taught(question, layout)


def _vision(size: Size) -> Any:
    return SiglipVisionConfig(
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.tower,
        num_attention_heads=size.hidden // HEAD_DIM,
        image_size=size.image,
        patch_size=PATCH,
        projection_dim=size.hidden,
        vision_use_head=False,
    )


def _text(family: Family, size: Size, vocabulary: int, ids: dict[str, int]) -> Any:
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_hidden_layers": size.decoder,
        "num_attention_heads": size.hidden // HEAD_DIM,
        "num_key_value_heads": 1,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": 8192,
        "initializer_range": size.hidden**-0.5,  # the usual 0.02 is too small for so few channels
    }
    if family == "paligemma":
        return GemmaConfig(**sizes, **ids)
    # Soft-caps, window and scale as in https://huggingface.co/google/gemma-2-2b (its scale is head_dim too).
    gemma2 = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window": 4096}
    return Gemma2Config(query_pre_attn_scalar=HEAD_DIM, **gemma2, **sizes, **ids)

"""A tiny NLI judge made on the spot: a BERT of one layer whose answers are set by hand.

Attention is uniform (queries are zero), values and everything else pass each word's embedding on, so that the
first token, which the classifier reads, holds the mean of what stands in the pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny import edit_json

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "yes", "maybe", "no", "filler")
SIZE = 16
LABELS = ("contradiction", "entailment", "neutral")
SAYS = {"yes": "entailment", "maybe": "neutral", "no": "contradiction"}


def nli(
    folder: Path, *, labels: Sequence[str] = LABELS, longest: int = 32, by_hand: bool = True, seed: int = 0
) -> Path:
    """A BERT for sequence classification. `by_hand`: the word of SAYS that a pair has most of decides."""
    import torch
    import transformers
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=SIZE,
        num_hidden_layers=1 if by_hand else 2,
        num_attention_heads=2,
        intermediate_size=SIZE,
        max_position_embeddings=longest,
        hidden_act="relu",
        initializer_range=1.0,  # with the usual .02 every pair gets the same answer
        id2label=dict(enumerate(labels)),
        label2id={label: place for place, label in enumerate(labels)},
        num_labels=len(labels),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertForSequenceClassification(config)
    if by_hand:
        _set(model, labels)
    transformers.logging.disable_progress_bar()
    model.save_pretrained(folder)
    _tokenizer(longest).save_pretrained(folder)
    return folder


def _set(model: Any, labels: Sequence[str]) -> None:
    import torch

    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        parameter.data.zero_()
        if name.endswith("LayerNorm.weight"):
            parameter.data.fill_(1.0)
        elif name.endswith(("value.weight", "attention.output.dense.weight", "pooler.dense.weight")):
            parameter.data.copy_(torch.eye(SIZE))
    words = parameters["bert.embeddings.word_embeddings.weight"].data
    for place in range(len(WORDS)):
        words[place, place] = 1.0
    head = parameters["classifier.weight"].data
    for word, label in SAYS.items():
        said = label if label in labels else "not_entailment"
        head[list(labels).index(said), WORDS.index(word)] += 50.0


def _tokenizer(longest: int) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordPiece({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer(lowercase=True)
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = [(mark, WORDS.index(mark)) for mark in ("[CLS]", "[SEP]")]
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=marks
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        model_max_length=longest,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def relabel(folder: Path, labels: Sequence[str]) -> Path:
    """Other words for the outputs in config.json; the weights stay."""
    edit_json(folder / "config.json", id2label={str(place): label for place, label in enumerate(labels)})
    return folder

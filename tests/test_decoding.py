"""How a reply is decoded: greedily, in any batch, and with its broken logits counted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from pgbench.types import Family, Image, Reply, Request

EOS = 1  # Gemma's
ASKED = 200


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def original(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / f"{family}-mix-28", family)


@pytest.fixture(scope="module")
def model(original: Path) -> Any:
    return tiny.load(original)


@pytest.fixture(scope="module")
def asked(model: Any) -> list[Any]:
    return [model.prepare(tiny.question(seed, max_new_tokens=2)) for seed in range(ASKED)]


@pytest.fixture(scope="module")
def answers(model: Any, asked: list[Any]) -> list[Reply]:
    return [reply for start in range(0, ASKED, 32) for reply in model.generate(asked[start : start + 32])]


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may spoil; the weights are a link."""
    return tiny.copied(original, tmp_path / original.name)


def tokens(replies: list[Reply]) -> list[tuple[int, ...]]:
    return [reply.token_ids for reply in replies]


def test_batches_of_1_and_32_answer_alike_in_float32(
    model: Any, asked: list[Any], answers: list[Reply]
) -> None:
    alone = [model.generate([item])[0] for item in asked]
    assert [(reply.text, reply.token_ids) for reply in alone] == [(r.text, r.token_ids) for r in answers]
    assert len(set(tokens(answers))) > 0.9 * ASKED
    assert len({item.length for item in asked}) > 20
    assert [reply.n_prompt for reply in answers] == [item.length for item in asked]


def test_answers_are_those_of_transformers_plain_loop(original: Path, answers: list[Reply]) -> None:
    import torch
    from transformers import PaliGemmaForConditionalGeneration

    plain = PaliGemmaForConditionalGeneration.from_pretrained(original, dtype=torch.float32).eval()
    processor = published(original)
    for seed, reply in enumerate(answers):
        question = tiny.question(seed)
        batch = processor(
            images=pillow(question.images[0]), text="<image>" + question.prompt, return_tensors="pt"
        )
        batch.pop("labels")
        with torch.inference_mode():
            found = plain.generate(**batch, max_new_tokens=2, do_sample=False)[0, reply.n_prompt :]
        assert tuple(found.tolist()) == reply.token_ids
        assert processor.decode(found, skip_special_tokens=True) == reply.text


def test_a_checkpoints_own_decoding_moves_nothing(copy: Path, asked: list[Any], answers: list[Reply]) -> None:
    """transformers 5.23 fills up a GenerationConfig from the checkpoint's, field by field."""
    banned = sorted({reply.token_ids[0] for reply in answers[:32]})
    tiny.edit_json(
        copy / "generation_config.json",
        do_sample=True,
        temperature=5.0,
        top_k=3,
        num_beams=3,
        repetition_penalty=9.0,
        no_repeat_ngram_size=1,
        max_length=1,
        min_new_tokens=2,
        suppress_tokens=banned,
    )
    tiny.edit_json(copy / "tokenizer_config.json", padding_side="right")
    hostile = tiny.load(copy)
    assert tokens(hostile.generate(asked[:32])) == tokens(answers[:32])


def test_an_answer_ends_at_the_first_of_several_stops(
    copy: Path, asked: list[Any], answers: list[Reply]
) -> None:
    """PaliGemma 2 names <eos> and <end_of_turn>: [1, 107]."""
    second, first = answers[0].token_ids[1], answers[1].token_ids[0]
    tiny.edit_json(copy / "generation_config.json", eos_token_id=[second, first])
    stopped = tiny.load(copy)
    longer = [replace(item, request=replace(item.request, max_new_tokens=6)) for item in asked[:3]]
    replies = stopped.generate(longer)
    assert replies[0].token_ids == answers[0].token_ids
    assert replies[1].token_ids == answers[1].token_ids[:1]
    assert len(replies[2].token_ids) == 6
    assert tokens(replies) == [tokens(stopped.generate([item]))[0] for item in longer]


@pytest.mark.parametrize("where", ["generation_config.json", "config.json", "text_config"])
def test_stops_are_found_wherever_the_checkpoint_names_them(copy: Path, where: str) -> None:
    own = json.loads((copy / "config.json").read_text())
    (copy / "generation_config.json").unlink()
    tiny.edit_json(
        copy / "config.json", eos_token_id=None, text_config={**own["text_config"], "eos_token_id": 1}
    )
    if where == "text_config":
        tiny.edit_json(copy / "config.json", text_config={**own["text_config"], "eos_token_id": [EOS, 107]})
    else:
        tiny.edit_json(copy / where, eos_token_id=[EOS, 107])
    assert tiny.load(copy)._stop == (EOS, 107)


def test_decoding_goes_on_no_longer_than_it_must(copy: Path, asked: list[Any], answers: list[Reply]) -> None:
    tiny.edit_json(copy / "generation_config.json", eos_token_id=[answers[0].token_ids[1], 107])
    stopped = tiny.load(copy)
    passes = []
    stopped._loaded.model.register_forward_hook(lambda *_: passes.append(1))
    stopped.generate([replace(asked[0], request=replace(asked[0].request, max_new_tokens=6))])
    assert len(passes) == 2
    stopped.generate(asked[1:3])  # which go on to their limit of 2
    assert len(passes) == 4
    (other,) = [token for token in answers[1].token_ids[:1] if token not in stopped._stop]
    tiny.edit_json(copy / "generation_config.json", eos_token_id=[107, other])
    second = tiny.load(copy)
    second._loaded.model.register_forward_hook(lambda *_: passes.append(1))
    second.generate([replace(asked[1], request=replace(asked[1].request, max_new_tokens=6))])
    assert len(passes) == 5


def test_each_request_has_its_own_limit(model: Any, asked: list[Any]) -> None:
    limits = [1, 5, 3, 2]
    rows = [
        replace(item, request=replace(item.request, max_new_tokens=limit))
        for item, limit in zip(asked, limits, strict=False)
    ]
    replies = model.generate(rows)
    assert [len(reply.token_ids) for reply in replies] == limits
    assert tokens(replies) == [tokens(model.generate([row]))[0] for row in rows]


def test_special_tokens_are_not_in_the_text(model: Any, asked: list[Any]) -> None:
    assert model._reply(asked[0], [326, EOS, 0], True).text == "a"
    assert model._reply(asked[0], [326, EOS, 0], True).token_ids == (326, EOS)
    assert model._reply(asked[0], [EOS, 0, 0], True).text == ""


# Logits that are nan or inf


@pytest.fixture
def untied(copy: Path) -> tuple[Any, Any, Callable[[], Path]]:
    """Change the weights of a copy whose output layer is its own; (embedding, output, save)."""
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    embedding = next(weights[key] for key in weights if "embed_tokens" in key)
    weights["lm_head.weight"] = embedding.clone()
    (copy / "model.safetensors").unlink()
    config = json.loads((copy / "config.json").read_text())
    text = {**config["text_config"], "tie_word_embeddings": False}
    tiny.edit_json(copy / "config.json", tie_word_embeddings=False, text_config=text)

    def save() -> Path:
        save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
        return copy

    return embedding, weights["lm_head.weight"], save


def test_a_row_with_nan_is_counted_and_its_neighbours_are_not(untied: Any) -> None:
    embedding, _, save = untied
    spoilt = tiny.tokenizer()("%", add_special_tokens=False)["input_ids"][-1]
    embedding[spoilt] = math.inf
    loaded = tiny.load(save())
    prompts = ["fine", "100 %", "fine as well, and longer", "%"]
    rows = [loaded.prepare(Request(prompt, (tiny.picture(1),), prompt, 3)) for prompt in prompts]
    assert [reply.finite for reply in loaded.generate(rows)] == [True, False, True, False]
    assert loaded.generate(rows[:1]) == loaded.generate(rows)[:1]


def test_an_overflow_is_seen_below_the_soft_cap(untied: Any, family: Family) -> None:
    """Gemma 2 squeezes inf into a finite 30."""
    _, output, save = untied
    output[7] = 60_000.0
    question = Request("q", (tiny.picture(1),), "what?", 1)
    half = tiny.load(save(), dtype="float16")
    assert [reply.finite for reply in half.generate([half.prepare(question)])] == [False]
    full = tiny.load(save(), dtype="float32")
    assert [reply.finite for reply in full.generate([full.prepare(question)])] == [True]


def test_what_follows_the_last_token_of_a_row_is_not_looked_at() -> None:
    import torch

    from pgbench.backends.paligemma.greedy import FiniteRows

    watch = FiniteRows([1, 3, 3], [EOS])
    good, bad = torch.zeros(3, 5), torch.full((3, 5), math.nan)
    watch(torch.tensor([[EOS], [EOS], [EOS]]), good)  # the prompt's own last token ends nothing
    watch(torch.tensor([[9], [EOS], [9]]), bad)
    assert watch.finite.tolist() == [True, True, False]
    watch(torch.tensor([[9], [9], [9]]), good)  # once is enough; an ended row stays ended
    watch(torch.tensor([[9], [9], [9]]), bad)
    assert watch.finite.tolist() == [True, True, False]


def published(folder: Path) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder, backend="pil")


def pillow(image: Image) -> Any:
    import io

    from PIL import Image as PillowImage

    return PillowImage.open(io.BytesIO(image.read())).convert("RGB")

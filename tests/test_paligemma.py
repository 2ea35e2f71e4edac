"""The engine: what the model is shown, how it is decoded, and what a reply states."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from pgbench.backends.paligemma import engine
from pgbench.errors import SampleError, UsageError
from pgbench.types import Dtype, Family, Image, ModelRequest, Prepared, Reply, Request

IMAGE, BOS, EOS = 1530, 2, 1  # ids of the tiny tokenizer; bos and eos are Gemma's
ASKED = 200
Folder = Callable[[str], Path]


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def original(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / f"{family}-mix-28", family)


@pytest.fixture(scope="module")
def model(original: Path) -> Any:
    return load(original)


@pytest.fixture(scope="module")
def asked(model: Any) -> list[Prepared]:
    return [model.prepare(tiny.question(seed, max_new_tokens=2)) for seed in range(ASKED)]


@pytest.fixture(scope="module")
def answers(model: Any, asked: list[Prepared]) -> list[Reply]:
    return [reply for start in range(0, ASKED, 32) for reply in model.generate(asked[start : start + 32])]


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint that a test may spoil; the weights are a link."""
    return tiny.copied(original, tmp_path / original.name)


def load(folder: Path, dtype: Dtype = "float32", **more: Any) -> Any:
    return engine(ModelRequest(model=str(folder), dtype=dtype, device="cpu", **more)).load()


def tokens(replies: list[Reply]) -> list[tuple[int, ...]]:
    return [reply.token_ids for reply in replies]


# Layout


@pytest.mark.parametrize(
    "prompt", ["answer en what?", "caption en", "", "two  blanks", "ünïcode 標識 🚏", "<loc0012> here", "a\nb"]
)
def test_layout_is_image_tokens_bos_prefix_newline(model: Any, prompt: str) -> None:
    """T/common.py of big_vision; the newline is a token of its own."""
    prepared = model.prepare(Request("q", (tiny.picture(1),), prompt, 4))
    words = model._loaded.processor.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    newline = model._loaded.processor.tokenizer("\n", add_special_tokens=False)["input_ids"]
    expected = [IMAGE] * tiny.IMAGE_TOKENS + [BOS] + words + newline
    assert prepared.inputs.ids.tolist() == expected
    assert prepared.inputs.types.tolist() == [0] * len(expected)  # all of it is prefix
    assert prepared.length == len(expected)
    assert len(newline) == 1


@pytest.mark.parametrize("prompt", ["answer en what?", "answer en what? ", "answer en\n", "  lead"])
def test_prompts_are_what_the_published_processor_makes_of_them(model: Any, original: Path, prompt: str) -> None:
    """White space at the end too: it merges with the separator, which is why tasks strip it."""
    prepared = model.prepare(Request("q", (tiny.picture(1),), prompt, 4))
    batch = published(original)(images=pillow(tiny.picture(1)), text="<image>" + prompt, return_tensors="pt")
    assert prepared.inputs.ids.tolist() == batch["input_ids"][0].tolist()
    assert prepared.inputs.pixels.equal(batch["pixel_values"])


def test_several_images_stand_before_one_bos(model: Any) -> None:
    images = (tiny.picture(1), tiny.picture(2), tiny.picture(3))
    one = model.prepare(Request("q", images[:1], "answer en which?", 4))
    three = model.prepare(Request("q", images, "answer en which?", 4))
    ids = three.inputs.ids.tolist()
    assert ids[: 3 * tiny.IMAGE_TOKENS] == [IMAGE] * 3 * tiny.IMAGE_TOKENS
    assert ids[2 * tiny.IMAGE_TOKENS :] == one.inputs.ids.tolist()
    assert three.inputs.pixels.shape == (3, 3, tiny.SIDE, tiny.SIDE)


def test_several_images_reach_their_own_row_in_their_order(model: Any) -> None:
    first, second = tiny.picture(1), tiny.picture(2)
    rows = [(first, second), (second, first), (first,), (second,)]
    prepared = [model.prepare(Request("q", images, "answer en which?", 2)) for images in rows]
    together = tokens(model.generate(prepared))
    assert together == [tokens(model.generate([item]))[0] for item in prepared]
    assert len(set(together)) == len(rows)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request("q", (tiny.picture(1),), "what is <image>?", 4), "holds the image token"),
        (Request("q", (), "what?", 4), "has no image"),
        (Request("q", (tiny.picture(1),), "half a pair \ud83d", 4), "not valid Unicode"),
        (Request("q", (Image("a.png", lambda: b"GIF89a"),), "what?", 4), "a.png"),
        (Request("q", (Image("a.png", lambda: Path("/gone").read_bytes()),), "what?", 4), "No such file"),
    ],
)
def test_what_cannot_be_asked_is_a_failed_sample(model: Any, request_: Request, said: str) -> None:
    with pytest.raises(SampleError, match=said) as caught:
        model.prepare(request_)
    assert "\n" not in str(caught.value)


# What reaches the model


def test_the_model_sees_types_and_a_left_padded_mask_and_no_labels(model: Any, asked: list[Prepared]) -> None:
    seen: list[dict[str, Any]] = []
    inner = model._loaded.model
    hook = inner.register_forward_pre_hook(lambda _m, _a, kwargs: seen.append(dict(kwargs)), with_kwargs=True)
    try:
        model.generate(asked[:3])
    finally:
        hook.remove()
    longest = max(item.length for item in asked[:3])
    assert len({item.length for item in asked[:3]}) > 1
    assert seen[0]["token_type_ids"].tolist() == [[0] * longest] * 3
    assert all(kwargs.get("labels") is None for kwargs in seen)
    ids, mask = seen[0]["input_ids"], seen[0]["attention_mask"]
    for row, item in enumerate(asked[:3]):
        assert ids[row, longest - item.length :].tolist() == item.inputs.ids.tolist()
        assert mask is None or isinstance(mask, dict) or mask[row].sum() == item.length


def test_a_causal_prefix_gives_other_answers(model: Any, asked: list[Prepared], answers: list[Reply]) -> None:
    """What token_type_ids are for: the test above would not notice a model that ignores them."""
    causal = [replace(item, inputs=replace(item.inputs, types=item.inputs.types + 1)) for item in asked[:32]]
    same = sum(a == b for a, b in zip(tokens(model.generate(causal)), tokens(answers), strict=False))
    assert same < 16


def test_other_pictures_give_other_answers(model: Any, asked: list[Prepared], answers: list[Reply]) -> None:
    shifted = [
        replace(item, inputs=replace(item.inputs, pixels=asked[number + 1].inputs.pixels))
        for number, item in enumerate(asked[:32])
    ]
    same = sum(a == b for a, b in zip(tokens(model.generate(shifted)), tokens(answers), strict=False))
    assert same < 16


# Decoding


def test_batches_of_1_and_32_answer_alike_in_float32(
    model: Any, asked: list[Prepared], answers: list[Reply]
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


def test_a_checkpoints_own_decoding_moves_nothing(
    copy: Path, asked: list[Prepared], answers: list[Reply]
) -> None:
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
    hostile = load(copy)
    assert tokens(hostile.generate(asked[:32])) == tokens(answers[:32])


def test_an_answer_ends_at_the_first_of_several_stops(
    copy: Path, asked: list[Prepared], answers: list[Reply]
) -> None:
    """PaliGemma 2 names <eos> and <end_of_turn>: [1, 107]."""
    second, first = answers[0].token_ids[1], answers[1].token_ids[0]
    tiny.edit_json(copy / "generation_config.json", eos_token_id=[second, first])
    stopped = load(copy)
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
    tiny.edit_json(copy / "config.json", eos_token_id=None, text_config={**own["text_config"], "eos_token_id": 1})
    if where == "text_config":
        tiny.edit_json(
            copy / "config.json", text_config={**own["text_config"], "eos_token_id": [EOS, 107]}
        )
    else:
        tiny.edit_json(copy / where, eos_token_id=[EOS, 107])
    assert load(copy)._stop == (EOS, 107)


def test_each_request_has_its_own_limit(model: Any, asked: list[Prepared]) -> None:
    limits = [1, 5, 3, 2]
    rows = [
        replace(item, request=replace(item.request, max_new_tokens=limit))
        for item, limit in zip(asked, limits, strict=False)
    ]
    replies = model.generate(rows)
    assert [len(reply.token_ids) for reply in replies] == limits
    assert tokens(replies) == [tokens(model.generate([row]))[0] for row in rows]


def test_special_tokens_are_not_in_the_text(model: Any, asked: list[Prepared]) -> None:
    assert model._reply(asked[0], [326, EOS, 0], True).text == "a"
    assert model._reply(asked[0], [326, EOS, 0], True).token_ids == (326, EOS)
    assert model._reply(asked[0], [EOS, 0, 0], True).text == ""


def test_likelihoods_are_refused(model: Any, asked: list[Prepared]) -> None:
    with pytest.raises(UsageError, match="--mode generate"):
        model.score(asked[:1], [["a"]])


# Logits that are nan or inf


@pytest.fixture
def untied(copy: Path) -> Iterator[Any]:
    """Change the weights of a copy whose output layer is its own; yields (embedding, output, save)."""
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

    return embedding, weights["lm_head.weight"], save  # type: ignore[return-value]


def test_a_row_with_nan_is_counted_and_its_neighbours_are_not(untied: Any) -> None:
    embedding, _, save = untied
    spoilt = tiny.tokenizer()("%", add_special_tokens=False)["input_ids"][-1]
    embedding[spoilt] = math.inf
    loaded = load(save())
    prompts = ["fine", "100 %", "fine as well, and longer", "%"]
    rows = [loaded.prepare(Request(prompt, (tiny.picture(1),), prompt, 3)) for prompt in prompts]
    assert [reply.finite for reply in loaded.generate(rows)] == [True, False, True, False]
    assert loaded.generate(rows[:1]) == loaded.generate(rows)[:1]


def test_an_overflow_is_seen_below_the_soft_cap(untied: Any, family: Family) -> None:
    """Gemma 2 squeezes inf into a finite 30."""
    _, output, save = untied
    output[7] = 60_000.0
    question = Request("q", (tiny.picture(1),), "what?", 1)
    half = load(save(), dtype="float16")
    assert [reply.finite for reply in half.generate([half.prepare(question)])] == [False]
    full = load(save(), dtype="float32")
    assert [reply.finite for reply in full.generate([full.prepare(question)])] == [True]


def test_what_follows_the_last_token_of_a_row_is_not_looked_at() -> None:
    import torch

    from pgbench.backends.paligemma.generate import FiniteRows

    watch = FiniteRows([1, 3, 3], [EOS])
    good, bad = torch.zeros(3, 5), torch.full((3, 5), math.nan)
    watch(torch.tensor([[EOS], [EOS], [EOS]]), good)  # the prompt's own last token ends nothing
    watch(torch.tensor([[9], [EOS], [9]]), bad)
    assert watch.finite.tolist() == [True, True, False]


# The stack


def test_the_stack_says_what_computed(model: Any, family: Family) -> None:
    import torch
    import transformers

    stack = model.describe()
    assert stack.backend == "paligemma"
    assert (stack.device, stack.device_name) == ("cpu", "")
    assert stack.threads == torch.get_num_threads() == 1
    assert stack.matmul_precision == torch.get_float32_matmul_precision() == "highest"
    assert stack.versions["transformers"] == transformers.__version__
    assert {"pgbench", "python", "torch", "bitsandbytes", "pillow", "kernels"} <= set(stack.versions)
    assert stack.numerics["image_processor"] == "pil"
    assert type(model._loaded.processor.image_processor).__name__.endswith("Pil")
    assert stack.attention["vision"] == "sdpa"
    assert stack.attention["text"] == ("sdpa" if family == "paligemma" else "eager")
    assert {parameter.dtype for parameter in model._loaded.model.parameters()} == {torch.float32}


def test_the_stack_names_no_path_host_or_user(model: Any, original: Path) -> None:
    import getpass
    import socket

    text = json.dumps(asdict(model.describe()))
    for secret in (str(original), str(Path.home()) + "/", socket.gethostname(), f"/{getpass.getuser()}"):
        assert secret not in text


def test_request_keys_tell_requests_apart(model: Any, asked: list[Prepared]) -> None:
    question = tiny.question(0, max_new_tokens=2)
    variants = [
        question,
        replace(question, prompt="other"),
        replace(question, max_new_tokens=3),
        replace(question, images=(tiny.picture(99),)),
    ]
    keys = [model.prepare(variant).request_key for variant in variants]
    assert len(set(keys)) == len(variants)
    assert keys[0] == asked[0].request_key
    assert model.prepare(replace(question, sample_id="elsewhere", gold="x")).request_key == keys[0]


def test_threads_are_pinned_as_asked(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    try:
        assert load(original, threads=2).describe().threads == torch.get_num_threads() == 2
        for inherited, expected in {"3": 3, "2,4": 2, "": 1, "many": 1}.items():
            monkeypatch.setenv("OMP_NUM_THREADS", inherited)
            assert load(original).describe().threads == torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(1)


def test_close_lets_go_of_the_weights(original: Path) -> None:
    import weakref

    loaded = load(original)
    weights = weakref.ref(loaded._loaded.model)
    peak = loaded.peak_memory()
    assert peak.kind == "process resident"
    assert peak.bytes > loaded.describe().weight_bytes
    loaded.close()
    assert weights() is None
    assert loaded.describe().backend == "paligemma"


def published(folder: Path) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(folder, backend="pil")


def pillow(image: Image) -> Any:
    import io

    from PIL import Image as PillowImage

    return PillowImage.open(io.BytesIO(image.read())).convert("RGB")

"""Chat checkpoints: the layout of their prompts, both attentions, where answers end, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from pgbench.errors import CheckpointError, SampleError, UsageError
from pgbench.registry import load_task
from pgbench.specs import called, cell_name
from pgbench.types import Checkpoint, DataSource, ModelRequest, Profile, Request, RunSpec, Sample

START, END = "<start_of_turn>", "<end_of_turn>"
LAYOUT = f"<bos>{START}user\nwhat?{END}\n{START}model\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PaliGemma-3B-Chat-v0.2 in small: the tokenizer has the tokens of turns, its processor knows nothing."""
    path = tmp_path_factory.mktemp("model") / "paligemma-3b-chat-v0.2"
    tiny.checkpoint(path, "paligemma")
    with_turns(path)
    return path


def with_turns(path: Path) -> None:
    """Gives a tiny checkpoint Gemma's two tokens, in the place of two that nothing uses."""
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(path)
    words.add_special_tokens({"additional_special_tokens": ["<image>", START, END]})
    assert len(words) <= tiny.VOCABULARY
    words.save_pretrained(path)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return tiny.load(folder)


@pytest.fixture(scope="module")
def causal(folder: Path) -> Any:
    return tiny.load(folder, chat_attention="causal")


def asked(prompt: str = "what?", images: int = 1, new: int = 4) -> Request:
    return Request("q", tuple(tiny.picture(seed) for seed in range(images)), prompt, new)


def ids(model: Any, text: str) -> list[int]:
    return list(model._tokenizer(text, add_special_tokens=False)["input_ids"])


# The prompt


@pytest.mark.parametrize("images", [1, 2])
def test_layout_is_image_tokens_then_the_template_and_no_newline_of_the_processor(
    model: Any, images: int
) -> None:
    prepared = model.prepare(asked(images=images))
    image = model._loaded.processor.image_token_id
    assert prepared.ids == (*[image] * images * tiny.IMAGE_TOKENS, *ids(model, LAYOUT))
    start, end = (model._tokenizer.convert_tokens_to_ids(token) for token in (START, END))
    text = prepared.ids[images * tiny.IMAGE_TOKENS :]
    newline = ids(model, "\n")
    assert text[:2] == (2, start)
    assert text.count(end) == 1
    assert list(text[-len(ids(model, "model\n")) - 1 :]) == [start, *ids(model, "model\n")]
    assert list(text[-1:]) == newline
    assert prepared.inputs.pixels.shape == (images, 3, tiny.SIDE, tiny.SIDE)


def test_the_question_is_trimmed_as_the_template_of_gemma_does(model: Any) -> None:
    assert model.prepare(asked("  what?\n")).ids == model.prepare(asked()).ids


def test_pixels_are_the_published_processors(model: Any) -> None:
    import io

    from PIL import Image

    picture = Image.open(io.BytesIO(tiny.picture(0).read())).convert("RGB")
    batch = model._loaded.processor(images=picture, text="<image>what?", return_tensors="pt")
    assert model.prepare(asked()).inputs.pixels.equal(batch["pixel_values"])


@pytest.mark.parametrize("text", [START, END, "<bos>", "<eos>", "<pad>", f"a{END}\n{START}model\nyes"])
def test_turns_in_a_question_are_a_failed_sample(model: Any, text: str) -> None:
    with pytest.raises(SampleError, match="control token"):
        model.prepare(asked(f"what {text}?"))
    with pytest.raises(SampleError, match="image token"):
        model.prepare(asked("what <image>?"))


def test_a_task_asks_a_chat_checkpoint_in_the_words_of_its_authors(model: Any, folder: Path) -> None:
    from pgbench.backends.paligemma import engine

    point = engine(ModelRequest(model=str(folder), dtype="float32", device="cpu")).checkpoint
    assert (point.profile.kind, point.profile.style, point.chat_attention) == ("chat", "official", "full")
    sample = Sample("1", (), "Is it red?", "yes", ("yes", "no"), fields={"options": "(a) yes (b) no"})
    assert load_task("pope").prompt(sample, point.profile, "default") == "Is it red?"
    assert load_task("mmmu").prompt(sample, point.profile, "first").endswith("choices directly.")
    assert load_task("docci").prompt(sample, point.profile, "default") == "Describe this image in detail."
    with pytest.raises(UsageError, match="no prompt by its authors"):
        load_task("docci").prompt(sample, replace(point.profile, kind="mix"), "default")


# Attention


def test_types_are_all_zero_in_full_and_one_for_text_where_it_is_causal(model: Any, causal: Any) -> None:
    full, half = model.prepare(asked(images=2)), causal.prepare(asked(images=2))
    assert full.inputs.types.tolist() == [0] * full.length
    count = 2 * tiny.IMAGE_TOKENS
    assert half.inputs.types.tolist() == [0] * count + [1] * (half.length - count)
    assert full.ids == half.ids
    assert full.request_key != half.request_key


def test_text_sees_later_text_in_full_attention_alone(model: Any, causal: Any) -> None:
    """Read off the model: what the last word of a question moves at the token before it."""
    import torch

    moved = {}
    for name, chat in (("full", model), ("causal", causal)):
        rows = [chat.prepare(asked(f"answer {word}")) for word in ("x", "y")]
        place = next(
            at for at, pair in enumerate(zip(rows[0].ids, rows[1].ids, strict=True)) if len({*pair}) > 1
        )
        logits = []
        for row in rows:
            with torch.inference_mode():
                logits.append(chat._loaded.model(**chat._collate([row.inputs])).logits[0, place - 1])
        moved[name] = float((logits[0] - logits[1]).abs().max())
    assert moved["full"] > 1e-3
    assert moved["causal"] == 0.0


@pytest.mark.parametrize("attention", ["full", "causal"])
def test_a_batch_answers_as_its_samples_by_themselves(model: Any, causal: Any, attention: str) -> None:
    chat = {"full": model, "causal": causal}[attention]
    prepared = [chat.prepare(asked("so " * length + "what?")) for length in range(6)]
    together = [reply.token_ids for reply in chat.generate(prepared)]
    assert together == [chat.generate([one])[0].token_ids for one in prepared]
    scored = chat.score(prepared, [["yes", "no"]] * 6)
    alone = [chat.score([one], [["yes", "no"]])[0] for one in prepared]
    for one, other in zip(scored, alone, strict=True):
        for found, expected in zip(one.likelihoods, other.likelihoods, strict=True):
            assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


# Where an answer ends


def test_an_answer_ends_with_its_turn_as_well_as_with_eos(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    end = model._tokenizer.convert_tokens_to_ids(END)
    assert set(model._stop) == {1, end}
    yes = ids(model, "Q")[0]

    def prints(tokens: list[int]) -> str:
        given = iter(tokens)

        def forced(_module: object, _inputs: object, logits: Any) -> Any:
            return torch.nn.functional.one_hot(torch.tensor([[next(given)]]), logits.shape[-1]).to(logits)

        hook = model._loaded.model.lm_head.register_forward_hook(forced)
        try:
            (reply,) = model.generate([model.prepare(asked(new=len(tokens)))])
        finally:
            hook.remove()
        return f"{reply.text} {len(reply.token_ids)}"

    assert prints([yes, end, yes, yes]) == "Q 2"
    assert prints([yes, 1, yes, yes]) == "Q 2"
    assert prints([yes, yes, yes]) == "QQQ 3"


def test_a_likelihood_ends_with_the_turn(model: Any) -> None:
    end = model._tokenizer.convert_tokens_to_ids(END)
    assert model._words.ids("yes") == (*ids(model, "yes"), end)


# The key


POINT = Checkpoint("org/p-chat", "f00", Profile("chat", "paligemma", style="official"), 448)
SPEC = RunSpec("pope", 1, "default", "generate", "test", DataSource("hub", "x"), POINT)


def test_the_attention_is_in_the_key_and_in_names_and_others_keep_theirs() -> None:
    keys = {
        replace(SPEC, checkpoint=replace(POINT, chat_attention=attention)).key
        for attention in (None, "full", "causal")
    }
    assert len(keys) == 3
    causal = replace(POINT, chat_attention="causal")
    assert called(causal.id, causal) == "org/p-chat (causal chat attention)"
    assert cell_name(replace(SPEC, checkpoint=causal)).endswith("_bf16_causal")
    assert cell_name(replace(SPEC, checkpoint=replace(POINT, chat_attention="full"))).endswith("_bf16")


# Refused


def test_a_checkpoint_that_is_no_chat_one_has_no_chat_attention(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--chat-attention goes with a chat checkpoint"):
        tiny.load(tiny.checkpoint(tmp_path / "paligemma-3b-mix-28", "paligemma"), chat_attention="full")


def test_the_paper_never_asked_a_chat_checkpoint(folder: Path) -> None:
    with pytest.raises(UsageError, match="--protocol paper is big_vision's, which never asked a chat model"):
        tiny.load(folder, protocol="paper")


def test_a_chat_checkpoint_needs_the_tokens_of_turns(tmp_path: Path) -> None:
    path = tiny.checkpoint(tmp_path / "my-chat-28", "paligemma")
    with pytest.raises(CheckpointError, match=f"its tokenizer has no {START} and no {END}") as caught:
        tiny.load(path)
    assert "\n" not in str(caught.value)

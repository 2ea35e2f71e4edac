"""Likelihoods of given texts are what generation would have computed, and no token sees what follows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import LogitsProcessorList

from pgbench.backends.paligemma import engine, likelihood
from pgbench.errors import CheckpointError, SampleError, UsageError
from pgbench.sweeping.memory import SCORED
from pgbench.types import Family, ModelRequest, Reply

ASKED = 16
TEXTS = ("yes", "no", "a longer text, with two\nlines", "Q")
SHIPPED = {"paligemma": "tiny-gemma", "paligemma2": "tiny-gemma2"}
CLOSE = 1e-5


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def trained(family: Family) -> Any:
    return engine(ModelRequest(model=SHIPPED[family], dtype="float32", device="cpu")).load()


@pytest.fixture(scope="module")
def original(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / f"{family}-mix-28", family)


@pytest.fixture(scope="module")
def random(original: Path) -> Any:
    return tiny.load(original)


@pytest.fixture(scope="module")
def asked(random: Any) -> list[Any]:
    return [random.prepare(tiny.question(seed)) for seed in range(ASKED)]


@pytest.fixture(params=["trained", "random"])
def model(request: pytest.FixtureRequest, trained: Any, random: Any) -> Iterator[Any]:
    """In float32 as it is shipped; with random weights, which blow rounding up, in float64."""
    if request.param == "trained":
        yield trained
        return
    random._loaded.model.double()
    patch = pytest.MonkeyPatch()
    patch.setattr(random, "_loaded", replace(random._loaded, dtype=torch.float64))
    yield random
    patch.undo()
    random._loaded.model.float()


class Forced:
    """Makes generation print given tokens, whatever it finds likely."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = list(ids)
        self.step = 0

    def __call__(self, _ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(scores, -math.inf)
        forced[:, self.ids[self.step]] = 0.0
        self.step += 1
        return forced


def steps(model: Any, prepared: Sequence[Any], text: str) -> list[list[float]]:
    """Log-probabilities of a text's tokens by generation, step by step: one new token a forward pass."""
    ids = model._words.ids(text)
    output = model._loaded.model.generate(
        **model._collate([one.inputs for one in prepared]),
        generation_config=model._decoding(len(ids)),
        logits_processor=LogitsProcessorList([Forced(ids)]),
        output_logits=True,
        return_dict_in_generate=True,
    )
    logprobs = torch.stack(output.logits, dim=1).float().log_softmax(-1)
    return logprobs[:, range(len(ids)), ids].tolist()  # type: ignore[no-any-return]


def numbers(replies: Sequence[Reply]) -> list[list[tuple[float, ...]]]:
    return [[one.logprobs for one in reply.likelihoods] for reply in replies]


def scored(model: Any, prepared: Sequence[Any], texts: Sequence[str] = TEXTS) -> list[Reply]:
    return list(model.score(prepared, [texts] * len(prepared)))


def furthest(found: Any, expected: Any) -> float:
    if isinstance(found, float):
        return abs(found - float(expected))
    return max((furthest(*pair) for pair in zip(found, expected, strict=True)), default=0.0)


# Equal to generation


@pytest.mark.parametrize("batch", [1, ASKED])
def test_likelihoods_are_the_step_log_probabilities_of_generation(model: Any, batch: int) -> None:
    prepared = [model.prepare(tiny.question(seed)) for seed in range(ASKED)]
    assert len({one.length for one in prepared}) > 4, "rows are padded"
    parts = [prepared[start : start + batch] for start in range(0, ASKED, batch)]
    if batch == 1:
        parts = parts[:4]
    found = [one for part in parts for one in numbers(scored(model, part))]
    by_text = [[one for part in parts for one in steps(model, part, text)] for text in TEXTS]
    expected = [list(row) for row in zip(*by_text, strict=True)]
    assert furthest(found, expected) < CLOSE
    assert furthest(found, expected[1:] + expected[:1]) > 100 * CLOSE, "rows differ"


def test_a_text_of_several_blocks_is_one_text(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "_BLOCK", 5)
    prepared = [model.prepare(tiny.question(seed)) for seed in range(3)]
    text = "a text of more than two blocks"
    found = numbers(scored(model, prepared, ("no", text, "five5")))
    assert len(model._words.ids(text)) > 11
    assert furthest([row[1] for row in found], steps(model, prepared, text)) < CLOSE
    monkeypatch.undo()
    assert furthest(found, numbers(scored(model, prepared, ("no", text, "five5")))) < CLOSE


def test_a_window_shorter_than_the_prompt_is_that_of_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at 896 px, where a cache with a window has lost the first image tokens when the answer begins."""
    folder = tiny.checkpoint(tmp_path / "paligemma2-mix-28", "paligemma2")
    config = json.loads((folder / "config.json").read_text())
    tiny.edit_json(folder / "config.json", text_config=config["text_config"] | {"sliding_window": 7})
    narrow = tiny.load(folder)
    narrow._loaded.model.double()
    monkeypatch.setattr(narrow, "_loaded", replace(narrow._loaded, dtype=torch.float64))
    monkeypatch.setattr(likelihood, "_BLOCK", 5)
    prepared = [narrow.prepare(tiny.question(seed)) for seed in range(3)]
    text = "longer than the window"
    assert min(one.length for one in prepared) > 7
    assert len(narrow._words.ids(text)) > 12
    found = [row[0] for row in numbers(scored(narrow, prepared, (text,)))]
    assert furthest(found, steps(narrow, prepared, text)) < CLOSE


def test_greedy_answers_score_as_they_were_generated(trained: Any) -> None:
    """Without a text in between: the very tokens that were printed, from the very logits."""
    prepared = [trained.prepare(tiny.question(seed, max_new_tokens=6)) for seed in range(ASKED)]
    inputs = trained._collate([one.inputs for one in prepared])
    output = trained._loaded.model.generate(
        **inputs, generation_config=trained._decoding(6), output_scores=True, return_dict_in_generate=True
    )
    replies = trained.generate(prepared)
    found = trained.score(prepared, [[reply.text] for reply in replies])
    for row, (reply, likely) in enumerate(zip(replies, found, strict=True)):
        step = torch.stack(output.scores, dim=1)[row].float().log_softmax(-1)
        ids = reply.token_ids
        assert ids[-1] == 1
        expected = tuple(step[range(len(ids)), ids].tolist())
        assert furthest(likely.likelihoods[0].logprobs, expected) < CLOSE


def test_a_batch_of_sixteen_scores_as_its_samples_by_themselves(model: Any) -> None:
    prepared = [model.prepare(tiny.question(seed)) for seed in range(ASKED)]
    together = numbers(scored(model, prepared))
    alone = [numbers(scored(model, [one]))[0] for one in prepared]
    assert furthest(together, alone) < CLOSE


def test_the_final_soft_cap_is_in_the_numbers(random: Any, asked: list[Any], family: Family) -> None:
    """Taken off, PaliGemma 2 gives others; generation would too."""
    text = random._loaded.model.config.text_config
    capped = numbers(scored(random, asked[:2]))
    cap = getattr(text, "final_logit_softcapping", None)
    assert (cap is not None) == (family == "paligemma2")
    text.final_logit_softcapping = None
    try:
        plain = numbers(scored(random, asked[:2]))
    finally:
        text.final_logit_softcapping = cap
    assert (furthest(capped, plain) > 1e-3) == (family == "paligemma2")


# Nothing leaks


def test_a_later_token_moves_no_earlier_one(random: Any, asked: list[Any]) -> None:
    """By changing the end of a text of many tokens; its own number moves, those before it stay to the bit."""
    texts = ["the quick brown fox jumps", "the quick brown fox jumpZ"]
    (reply,) = random.score(asked[:1], [texts])
    one, other = (likely.logprobs for likely in reply.likelihoods)
    differing = random._words.ids(texts[0])[:-1], random._words.ids(texts[1])[:-1]
    same = next(place for place, (a, b) in enumerate(zip(*differing, strict=False)) if a != b)
    assert same > 8
    assert one[:same] == other[:same]
    assert abs(one[same] - other[same]) > 1e-3


def test_a_leak_would_be_seen(random: Any, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mask, as a flash kernel has it from PaliGemma, the check above fails."""
    from transformers.models.paligemma import modeling_paligemma

    plain = modeling_paligemma.create_causal_mask

    def open_mask(**given: Any) -> Any:
        mask = plain(**{**given, "allow_is_causal_skip": False})
        if mask is None or not given["past_key_values"].is_initialized:
            return mask
        return torch.ones_like(mask) if mask.dtype == torch.bool else torch.zeros_like(mask)

    monkeypatch.setattr(modeling_paligemma, "create_causal_mask", open_mask)
    texts = ["the quick brown fox jumps", "the quick brown fox jumpZ"]
    (reply,) = random.score(asked[:1], [texts])
    one, other = (likely.logprobs for likely in reply.likelihoods)
    assert furthest(one[1:8], other[1:8]) > 1e-3


@pytest.mark.parametrize("attention", ["flash_attention_2", "flash_attention_4", "flash_attention_3"])
def test_attention_without_a_mask_is_refused(
    random: Any, asked: list[Any], attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random._loaded.model.config.text_config, "_attn_implementation_internal", attention)
    with pytest.raises(
        UsageError, match=f"{attention} attention would let each token see the answer"
    ) as caught:
        scored(random, asked[:1])
    assert "expected sdpa or eager" in str(caught.value)


def test_texts_of_other_lengths_and_other_samples_in_the_batch_move_nothing(
    random: Any, asked: list[Any]
) -> None:
    mixed = random.score(asked[:4], [TEXTS, (), TEXTS[1:2], TEXTS[::-1]])
    alone = [scored(random, [asked[row]], texts)[0] for row, texts in ((0, TEXTS), (2, TEXTS[1:2]))]
    assert mixed[1].likelihoods == ()
    assert mixed[1].text == ""
    tight = pytest.approx(numbers(alone)[0][0], abs=1e-4, rel=CLOSE)
    assert mixed[0].likelihoods[0].logprobs == tight
    assert furthest(numbers(mixed[2:3]), numbers(alone[1:])) < 1e-4
    assert [one.text for one in mixed[3].likelihoods] == [*TEXTS[::-1]]


def test_no_more_rows_go_through_the_model_than_the_batch_has(random: Any, asked: list[Any]) -> None:
    rows: list[int] = []
    hook = random._loaded.model.lm_head.register_forward_hook(lambda *given: rows.append(len(given[2])))
    try:
        scored(random, asked[:3])
    finally:
        hook.remove()
    assert rows == [3, 3, 3, 3, 3]  # the prompts once, then 3 x 4 texts


def test_the_estimate_of_memory_knows_how_many_tokens_are_scored_at_once() -> None:
    assert likelihood._BLOCK == SCORED


def test_types_are_zero_in_the_prompt_and_one_behind_it(random: Any, asked: list[Any]) -> None:
    seen: list[dict[str, Any]] = []
    inner = random._loaded.model
    hook = inner.register_forward_pre_hook(lambda _m, _a, kwargs: seen.append(dict(kwargs)), with_kwargs=True)
    try:
        scored(random, asked[:2])
    finally:
        hook.remove()
    assert seen[0]["token_type_ids"].unique().tolist() == [0]
    assert "mm_encoder_outputs" in seen[0]
    for later in seen[1:]:
        assert later["token_type_ids"].unique().tolist() == [1]
        assert "mm_encoder_outputs" not in later


# Replies


def test_a_reply_names_the_likeliest_text_and_keeps_every_token(trained: Any) -> None:
    prepared = [trained.prepare(tiny.question(seed)) for seed in range(3)]
    for reply in scored(trained, prepared):
        totals = {one.text: math.fsum(one.logprobs[:-1]) for one in reply.likelihoods}
        assert reply.text == max(totals, key=lambda text: totals[text])
        assert [len(one.logprobs) for one in reply.likelihoods] == [len(trained._words.ids(t)) for t in TEXTS]
        assert reply.finite
        assert reply.token_ids == ()
        assert all(number < 0 for one in reply.likelihoods for number in one.logprobs)


def test_a_continuation_is_written_as_it_would_be_generated(random: Any) -> None:
    """Behind the newline: no bos, no space before it, the end token last."""
    words = random._loaded.processor.tokenizer
    batch = random._loaded.processor(
        images=pillow(), text="<image>answer en what?", suffix="yes sir", return_tensors="pt"
    )
    ids, types = batch["input_ids"][0], batch["token_type_ids"][0]
    assert random._words.ids("yes sir") == tuple(ids[types == 1].tolist())
    assert random._words.ids("yes sir")[-1] == words.eos_token_id == 1


def test_a_logit_that_is_nan_or_inf_is_a_failed_sample(
    random: Any, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    head = random._loaded.model.lm_head

    def broken(_module: object, _inputs: object, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.clone()
        if logits.shape[1] > 1:
            logits[0, 0, :] = math.nan
        return logits

    hook = head.register_forward_hook(broken)
    try:
        first, second = scored(random, asked[:2], ["yes"])
    finally:
        hook.remove()
    assert (first.error, first.finite, first.likelihoods) == ("a log-likelihood is nan or inf", False, ())
    assert second.error is None
    assert second.finite


def test_an_overflow_under_the_soft_cap_is_told(random: Any, asked: list[Any], family: Family) -> None:
    """Gemma 2's cap turns it into a finite 30: the number is there, and marked."""
    hook = random._loaded.model.lm_head.register_forward_hook(
        lambda _m, _i, logits: torch.where(torch.arange(logits.shape[-1]) == 7, math.inf, logits),
        prepend=True,
    )
    try:
        (reply,) = scored(random, asked[:1], ["no"])
    finally:
        hook.remove()
    assert not reply.finite
    assert (reply.error is None) == (family == "paligemma2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("yes<eos>", "control token"),
        ("<bos>", "control token"),
        ("<image>", "control token"),
    ],
)
def test_a_text_that_no_answer_can_be_is_a_failed_sample(random: Any, text: str, said: str) -> None:
    with pytest.raises(SampleError, match=said):
        random.prepare(replace(tiny.question(1), continuations=("fine", text)))


def test_a_text_longer_than_the_checkpoint_has_positions_is_a_failed_sample(random: Any) -> None:
    with pytest.raises(SampleError, match="positions"):
        random.prepare(replace(tiny.question(1), continuations=("why? " * 9000,)))


def test_request_keys_tell_texts_and_modes_apart(random: Any) -> None:
    question = tiny.question(1)
    kinds = [None, (), ("yes",), ("no",), ("yes", "no"), ("no", "yes")]
    keys = [random.prepare(replace(question, continuations=kind)).request_key for kind in kinds]
    assert len(set(keys)) == len(kinds)
    longer = replace(question, continuations=("yes",), max_new_tokens=99)
    assert random.prepare(longer).request_key == keys[2], "nothing is generated"


def test_out_of_memory_names_the_batch(
    random: Any, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_given: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(likelihood, "_prefix", full)
    with pytest.raises(CheckpointError, match="out of memory with a batch of 2; lower --batch-size"):
        scored(random, asked[:2])


def pillow() -> Any:
    import io

    from PIL import Image as PillowImage

    return PillowImage.open(io.BytesIO(tiny.picture(1).read())).convert("RGB")

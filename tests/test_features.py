"""Vision features: once for each picture, exactly, and never by what happens to be kept."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from pgbench.errors import OutOfMemory
from pgbench.types import Family, Reply, Request

NEW = 5


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def folder(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / f"{family}-mix-28", family)


@pytest.fixture
def model(folder: Path) -> Iterator[Any]:
    found = tiny.kept(folder)
    found._features.forget()
    yield found
    found._features.forget()


@pytest.fixture
def seen(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each pass of the vision tower had."""
    passes: list[int] = []
    hook = model._loaded.model.model.vision_tower.register_forward_pre_hook(
        lambda _module, args, kwargs: passes.append(len(args[0] if args else kwargs["pixel_values"])),
        with_kwargs=True,
    )
    monkeypatch.setattr(model, "_removed_by_fixture", hook, raising=False)
    return passes


@pytest.fixture(autouse=True)
def unhooked(model: Any) -> Iterator[None]:
    yield
    if hook := getattr(model, "_removed_by_fixture", None):
        hook.remove()


def asked(model: Any, pictures: Sequence[int], *, alone: Sequence[bool] = (), **more: Any) -> list[Any]:
    """A question of its own about each of these pictures."""
    found = []
    for number, seed in enumerate(pictures):
        question = replace(tiny.question(500 + number, NEW), images=(tiny.picture(seed),), **more)
        found.append(model.prepare(replace(question, alone=bool(alone) and alone[number])))
    return found


def tokens(replies: Sequence[Reply]) -> list[tuple[int, ...]]:
    return [reply.token_ids for reply in replies]


def features(model: Any, prepared: Sequence[Any]) -> Any:
    loaded = model._loaded
    rows = [one.inputs for one in prepared]
    return model._features.of(loaded.model, rows, loaded.device, loaded.dtype)


# Exact


def test_answers_are_those_of_pixels_in_every_row(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By transformers' own generate, and by the path of versions without `mm_encoder_outputs`."""
    import torch

    prepared = asked(model, [1, 1, 2, 3, 2, 1, 4, 1])
    found = tokens(model.generate(prepared))
    inputs = model._collate([one.inputs for one in prepared])
    del inputs["mm_encoder_outputs"]
    inputs["pixel_values"] = torch.cat([one.inputs.pixels for one in prepared])
    with torch.inference_mode():
        plain = model._loaded.model.generate(**inputs, generation_config=model._decoding(NEW))
    expected = [tuple(row[: len(ids)]) for row, ids in zip(plain[:, -NEW:].tolist(), found, strict=True)]
    assert found == expected
    assert len({*found}) > 4
    monkeypatch.setattr(model._features, "reused", False)
    assert "pixel_values" in model._collate([one.inputs for one in prepared])
    assert tokens(model.generate(prepared)) == found


def test_likelihoods_are_those_of_pixels_in_every_row(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ("yes", "no", "a longer one")
    prepared = asked(model, [1, 1, 2, 1], continuations=texts)
    found = [reply.likelihoods for reply in model.score(prepared, [texts] * 4)]
    monkeypatch.setattr(model._features, "reused", False)
    plain = [reply.likelihoods for reply in model.score(prepared, [texts] * 4)]
    far = [
        abs(a - b)
        for one, other in zip(found, plain, strict=True)
        for first, second in zip(one, other, strict=True)
        for a, b in zip(first.logprobs, second.logprobs, strict=True)
    ]
    assert max(far) < 1e-4
    assert len({one[0].logprobs for one in found}) == 4


def test_several_pictures_of_a_row_come_in_their_order(model: Any, seen: list[int]) -> None:
    one, two = tiny.picture(1), tiny.picture(2)
    rows = [(one, two), (two, one), (one,), (one, one)]
    prepared = [model.prepare(Request("q", images, "answer en which?", NEW)) for images in rows]
    together = tokens(model.generate(prepared))
    assert seen == [2]
    assert together == [tokens(model.generate([row]))[0] for row in prepared]
    assert len({*together}) == 4


# Once


def test_a_picture_is_looked_at_once_in_a_batch(model: Any, seen: list[int]) -> None:
    model.generate(asked(model, [1, 2, 1, 1, 2, 3, 1, 1]))
    assert seen == [3]
    model.generate(asked(model, [1, 2]))  # its own group: nothing is kept of the first
    assert seen == [3, 2]


def test_a_picture_that_goes_on_is_looked_at_by_itself_and_kept(model: Any, seen: list[int]) -> None:
    model.generate(asked(model, [1, 2, 3, 3], alone=[False, False, True, True]))
    assert sorted(seen) == [1, 2]
    model.generate(asked(model, [3, 3, 3, 3], alone=[True] * 4))
    assert len(seen) == 2
    model.generate(asked(model, [3, 4], alone=[True, False]))
    assert sorted(seen) == [1, 1, 2]


def test_a_kept_picture_is_bit_for_bit_what_would_be_computed(folder: Path) -> None:
    """In bfloat16, where a picture beside others has other last bits, and whatever came before."""
    model = tiny.kept(folder, dtype="bfloat16")
    batch = asked(model, [7, 7, 8, 9], alone=[True, True, False, False])
    orders: list[Callable[[], object]] = [
        lambda: None,
        lambda: features(model, asked(model, [9, 8, 7], alone=[False] * 3)),
        lambda: features(model, asked(model, [5, 7, 6], alone=[True] * 3)),
        lambda: features(model, batch),
    ]
    found = []
    for before in orders:
        model._features.forget()
        before()
        found.append((features(model, batch), tokens(model.generate(batch))))
    assert all(one.equal(found[0][0]) and answers == found[0][1] for one, answers in found)


@pytest.mark.parametrize("alone", list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("pictures", [(1, 2, 3), (2, 1, 2), (3, 3, 1)])
def test_features_stand_in_the_order_of_the_rows(
    model: Any, pictures: Sequence[int], alone: Sequence[bool]
) -> None:
    found = features(model, asked(model, pictures, alone=alone))
    for one, picture in zip(found, pictures, strict=True):
        own = features(model, asked(model, [picture]))[0]
        assert one.sub(own).abs().max() <= 1e-5 * own.abs().max()  # what is beside it moves its last bits


def test_what_is_kept_is_bounded(model: Any, monkeypatch: pytest.MonkeyPatch, seen: list[int]) -> None:
    from pgbench.backends.paligemma.features import Features

    one = features(model, asked(model, [1]))
    small = Features(model._loaded.model, most=2 * one[0].nbytes)
    monkeypatch.setattr(model, "_features", small)
    seen.clear()
    features(model, asked(model, range(20), alone=[True] * 20))
    assert small._kept.held == 2 * one[0].nbytes
    features(model, asked(model, [18, 19], alone=[True] * 2))
    assert len(seen) == 20
    features(model, asked(model, [0], alone=[True]))
    assert len(seen) == 21


def test_one_file_by_two_rules_is_two_pictures(folder: Path) -> None:
    from pgbench.types import Pixels

    model = tiny.kept(folder, protocol="paper")
    pixels = [Pixels(antialias, 64) for antialias in (True, False)]
    image = (tiny.picture(3, side=60),)
    prepared = [model.prepare(Request("q", image, "what?", NEW, pixels=one, alone=True)) for one in pixels]
    one, other = (features(model, [row]) for row in prepared)
    assert not one.equal(other)
    assert features(model, prepared)[1].equal(other[0])


# The stack, and memory


def test_the_stack_says_how_pictures_arrive(
    folder: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PaliGemmaForConditionalGeneration

    assert model.describe().numerics["vision"] == "once per picture"
    forward = PaliGemmaForConditionalGeneration.forward

    def older(
        self: Any, input_ids: Any = None, pixel_values: Any = None, past_key_values: Any = None, **kw: Any
    ) -> Any:
        return forward(
            self, input_ids=input_ids, pixel_values=pixel_values, past_key_values=past_key_values, **kw
        )

    prepared = asked(model, [1, 2, 1])
    expected = tokens(model.generate(prepared))
    monkeypatch.setattr(PaliGemmaForConditionalGeneration, "forward", older)
    other = tiny.load(folder)
    assert other.describe().numerics["vision"] == "pixels of every row"
    assert tokens(other.generate(asked(other, [1, 2, 1]))) == expected
    assert other.prepare(tiny.question(1)).request_key != model.prepare(tiny.question(1)).request_key


@pytest.mark.parametrize("mode", ["generate", "score"])
def test_a_batch_that_does_not_fit_leaves_the_backend_as_it_was(
    model: Any, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    import torch

    prepared = asked(model, [1, 2, 3, 4])
    inner, most = model._loaded.model, [2]

    def small(_module: object, _args: object, kwargs: dict[str, Any]) -> None:
        if len(kwargs["input_ids"]) > most[0]:
            raise errors.pop()

    def run(rows: Sequence[Any]) -> list[Reply]:
        return list(model.generate(rows) if mode == "generate" else model.score(rows, [("yes",)] * len(rows)))

    whole = run(prepared)
    hook = inner.register_forward_pre_hook(small, with_kwargs=True)
    try:
        for error in (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
            MemoryError(),
        ):
            errors = [error]
            with pytest.raises(OutOfMemory, match="out of memory with a batch of 4; lower --batch-size"):
                run(prepared)
        if mode == "generate":
            assert [*run(prepared[:2]), *run(prepared[2:])] == whole
        errors = [RuntimeError("shapes do not match")]
        with pytest.raises(RuntimeError, match="shapes do not match"):
            run(prepared)
    finally:
        hook.remove()
    assert run(prepared) == whole

"""The last layer at a prompt's last token alone: logits, keys and answers are those of a whole pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny

from pgbench.types import Family, Quant, Reply, Request

NEAR = 1e-5  # of log-likelihoods, in float32


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def folder(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / f"{family}-mix-28", family)


@pytest.fixture
def model(folder: Path) -> Iterator[Any]:
    found = tiny.load(folder)
    yield found
    found.close()


def layers(model: Any) -> Any:
    return model._loaded.model.model.language_model.layers


def questions(model: Any, count: int = 6) -> list[Any]:
    return [model.prepare(tiny.question(seed, 8)) for seed in range(count)]


def decoded(model: Any, prepared: list[Any], *, cut: bool) -> tuple[list[list[int]], list[Any], Any]:
    """Tokens of the answers, the logits of each pass, and the cache of the last one."""
    from pgbench.backends.paligemma import greedy

    logits, caches = list[Any](), list[Any]()

    def look(_module: object, _args: object, named: dict[str, Any], output: Any) -> None:
        logits.append(output.logits[:, -1].clone())
        caches.append(named["past_key_values"])

    hook = model._loaded.model.register_forward_hook(look, with_kwargs=True)
    try:
        inputs = model._collate([one.inputs for one in prepared])
        limits = [one.request.max_new_tokens for one in prepared]
        answers = greedy.decode(model._loaded.model, inputs, limits, model._stop, cut=cut)
    finally:
        hook.remove()
    return [answer.ids for answer in answers], logits, caches[-1]


@pytest.mark.parametrize("alone", [False, True])
def test_answers_logits_and_keys_are_those_of_a_whole_pass(model: Any, alone: bool) -> None:
    """Without padding there is no mask; with it every row has its own."""
    import torch

    prepared = questions(model)[: 1 if alone else None]
    assert alone or len({one.length for one in prepared}) > 1
    whole, expected, keys = decoded(model, prepared, cut=False)
    found, logits, kept = decoded(model, prepared, cut=True)
    assert found == whole
    for one, other in zip(expected, logits, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)
    real = torch.ones(kept.layers[-1].keys.shape[-2], dtype=torch.bool)
    real[: max(one.length for one in prepared) - min(one.length for one in prepared)] = False
    for layer, before in zip(kept.layers, keys.layers, strict=True):  # what is padded is nobody's
        for one, other in ((layer.keys, before.keys), (layer.values, before.values)):
            torch.testing.assert_close(one[:, :, real], other[:, :, real], rtol=1e-4, atol=1e-4)


def test_of_a_prompt_the_last_layer_computes_one_token_and_the_others_all(model: Any) -> None:
    seen: dict[int, list[int]] = {}
    for number, layer in enumerate(layers(model)):
        layer.mlp.register_forward_pre_hook(
            lambda _module, given, number=number: seen.setdefault(number, []).append(given[0].shape[1])
        )
    prepared = questions(model)
    model.generate(prepared)
    longest = max(one.length for one in prepared)
    first, *_, last = (seen[number] for number in range(len(layers(model))))
    assert (first[0], last[0]) == (longest, 1)
    assert {*first[1:], *last[1:]} == {1}


def test_the_stack_says_so_and_a_layer_is_left_as_it_was(model: Any) -> None:
    from pgbench.backends.paligemma.last import SAID

    assert model.describe().numerics["prefill"] == model.describe().tried["prefill"] == SAID
    model.generate(questions(model))
    assert not layers(model)[-1]._forward_pre_hooks


def test_likelihoods_are_those_of_a_whole_pass(model: Any) -> None:
    from pgbench.backends.paligemma import likelihood

    prepared, texts = questions(model), [("red", "what does it say")] * 6

    def scored(cut: bool) -> list[Reply]:
        inputs = model._collate([one.inputs for one in prepared])
        return likelihood.score(model._loaded.model, inputs, prepared, texts, model._words, cut=cut)

    for one, other in zip(scored(False), scored(True), strict=True):
        for a, b in zip(one.likelihoods, other.likelihoods, strict=True):
            assert b.logprobs == pytest.approx(a.logprobs, abs=NEAR)


# When it is left


def chosen(model: Any, quant: Quant = "none") -> tuple[bool, str]:
    import torch

    from pgbench.backends.paligemma import last

    return last.choose(model._loaded.model, torch.device("cpu"), quant)


def bent(model: Any) -> None:
    """What a layer does differs from what its parts say: its first norm is another within it."""
    for layer in layers(model):
        layer.forward = _bent(layer)


def bent_at_last(model: Any) -> None:
    """As `bent`, in the layer alone that is meant: a layer before it would not show that."""
    layers(model)[-1].forward = _bent(layers(model)[-1])


def _bent(layer: Any) -> Callable[..., Any]:
    forward, norm = layer.forward, layer.input_layernorm.forward

    def other(*given: Any, **named: Any) -> Any:
        layer.input_layernorm.forward = lambda states: 2 * norm(states)
        try:
            return forward(*given, **named)
        finally:
            layer.input_layernorm.forward = norm

    return other


def of_another_making(model: Any) -> None:
    for layer in layers(model):
        layer.self_attn.keys_of = layer.self_attn.k_proj
        forward = layer.self_attn.forward
        layer.self_attn.forward = _renamed(layer.self_attn, forward)
        del layer.self_attn.k_proj


def _renamed(attention: Any, forward: Callable[..., Any]) -> Callable[..., Any]:
    def other(*given: Any, **named: Any) -> Any:
        attention.k_proj = attention.keys_of
        try:
            return forward(*given, **named)
        finally:
            del attention.k_proj

    return other


def windowed(model: Any) -> None:
    layers(model)[-1].self_attn.sliding_window = 4


def spread(model: Any) -> None:
    layers(model)[-1].mlp._hf_hook = object()


def of_blocks(model: Any) -> None:
    model._loaded.model.config.text_config._attn_implementation = "flex_attention"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (bent, "of their spread away at step"),
        (bent_at_last, "of their spread away at step"),
        (of_another_making, "AttributeError"),
        (windowed, "its window holds fewer keys"),
        (spread, "spread over devices"),
        (of_blocks, "masks are of blocks"),
    ],
)
def test_it_is_left_where_it_is_not_right_and_the_stack_says_why(
    model: Any, change: Callable[[Any], None], said: str
) -> None:
    assert chosen(model)[0]
    change(model)
    taken, why = chosen(model)
    assert not taken
    assert said in why


def test_a_model_that_was_looked_at_is_as_it_was(model: Any) -> None:
    """Also where the last layer raised."""
    text = model._loaded.model.config.text_config

    def state() -> list[Any]:
        hooks = [hook for module in model._loaded.model.modules() for hook in module._forward_pre_hooks]
        own = [(layer, layer.self_attn.layer_idx) for layer in layers(model)]
        return [text.num_hidden_layers, own, hooks]

    before = state()
    assert chosen(model)[0]
    assert state() == before

    def fail(*_given: Any) -> None:
        raise RuntimeError("no kernel")

    handle = layers(model)[-1].self_attn.o_proj.register_forward_hook(fail)
    assert chosen(model) == (False, "the whole last layer: RuntimeError: no kernel")
    handle.remove()
    assert state() == before


@pytest.mark.parametrize("quant", ["8bit", "torchao-int8", "quanto-int8"])
def test_it_is_left_where_a_token_is_rounded_by_others(model: Any, quant: Quant) -> None:
    assert chosen(model, quant) == (False, f"the whole last layer: {quant} rounds a token by those beside it")
    assert chosen(model, "4bit")[0]


def test_a_level_that_rounds_by_others_answers_with_the_whole_layer(folder: Path) -> None:
    found = tiny.load(folder, quant="8bit")
    assert "prefill" not in found.describe().numerics
    assert not found._loaded.cut
    found.close()


def test_a_request_of_one_token_is_a_prompt_all_the_same(model: Any) -> None:
    """The picture's tokens stand before it."""
    image = tiny.question(0, 1).images
    (reply,) = model.generate([model.prepare(Request("s", image, "", 1))])
    assert len(reply.token_ids) == 1

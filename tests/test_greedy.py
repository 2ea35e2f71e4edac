"""Decoding in which rows leave: the answers of transformers' generate, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from pgbench.types import Family, Reply

EOS = 1


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def folder(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / f"{family}-mix-28", family)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return tiny.load(folder)


class Passes:
    """Rows of each forward pass of a model, and the keys that its cache held then."""

    def __init__(self, model: Any) -> None:
        self.rows: list[int] = []
        self.inputs: list[dict[str, Any]] = []
        self._model = model

    def __enter__(self) -> Passes:
        def look(_module: object, _args: object, kwargs: dict[str, Any]) -> None:
            self.rows.append(len(kwargs["input_ids"]))
            self.inputs.append(dict(kwargs))

        self._hook = self._model._loaded.model.register_forward_pre_hook(look, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


@pytest.fixture
def ending(model: Any) -> Iterator[list[int]]:
    """Each row prints what it likes, and ends after as many tokens as its number of prompt tokens says."""
    lengths: list[int] = []
    stop = list(model._stop)
    seen: dict[str, Any] = {}

    def note(_module: object, _args: object, kwargs: dict[str, Any]) -> None:
        seen.update(kwargs)

    def end(_module: object, _args: object, logits: Any) -> Any:
        """Rows are known by their first position, the cache's own count by the last one."""
        logits = logits.clone()
        logits[..., stop] = -1e4
        mask, positions = seen["attention_mask"], seen["position_ids"]
        if mask is None:
            mask = positions.new_ones((len(logits), int(positions[0, -1])))
        for row in range(len(logits)):
            total = int(positions[row if len(positions) > 1 else 0, -1])
            prompt = lengths_of[int((mask[row] == 0).sum())]
            if total - prompt + 1 >= 1 + prompt % 7 * 4:
                logits[row, -1, EOS] = 1e4
        return logits

    lengths_of: dict[int, int] = {}
    model._lengths_of = lengths_of
    handles = [
        model._loaded.model.register_forward_pre_hook(note, with_kwargs=True),
        model._loaded.model.lm_head.register_forward_hook(end),
    ]
    yield lengths
    for handle in handles:
        handle.remove()


def questions(model: Any, count: int, new: int = 32, first: int = 0) -> list[Any]:
    return [model.prepare(tiny.question(seed, new)) for seed in range(first, first + count)]


def tokens(replies: Sequence[Reply]) -> list[tuple[int, ...]]:
    return [reply.token_ids for reply in replies]


def plain(model: Any, prepared: Sequence[Any], new: int) -> list[list[int]]:
    """What transformers' generate prints for each row, up to its first stop token."""
    import torch

    inputs = model._collate([one.inputs for one in prepared])
    with torch.inference_mode():
        output = model._loaded.model.generate(**inputs, generation_config=model._decoding(new))
    found = []
    for row in output[:, inputs["input_ids"].shape[1] :].tolist():
        end = next((place for place, token in enumerate(row, 1) if token in model._stop), len(row))
        found.append(row[:end])
    return found


def padding(model: Any, prepared: Sequence[Any]) -> None:
    """Tell `ending` how long the prompt of a row is that has so much padding."""
    longest = max(one.length for one in prepared)
    model._lengths_of.update({longest - one.length: one.length for one in prepared})


def test_rows_of_very_different_lengths_print_what_generate_prints(model: Any, ending: list[int]) -> None:
    prepared = questions(model, 12)
    padding(model, prepared)
    with Passes(model) as passes:
        found = tokens(model.generate(prepared))
    lengths = [len(ids) for ids in found]
    assert (min(lengths), max(lengths)) == (1, 25)
    assert [list(ids) for ids in found] == plain(model, prepared, 32)
    assert passes.rows[0] == 12
    assert passes.rows == sorted(passes.rows, reverse=True)
    assert len({*passes.rows}) > 3, "rows leave"
    assert passes.rows[-1] < 4
    needed = sum(lengths)
    assert needed <= sum(passes.rows) <= needed * 4 / 3 + 12


def test_a_limit_beyond_all_memory_costs_none(
    model: Any, ending: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What grows with an answer grows a few tokens at a time."""
    from pgbench.backends.paligemma import greedy

    monkeypatch.setattr(greedy, "_AHEAD", 3)
    prepared = questions(model, 8)
    padding(model, prepared)
    expected = plain(model, prepared, 32)
    assert max(map(len, expected)) > 3 * greedy._AHEAD
    found = tokens(model.generate(questions(model, 8, new=10**15)))
    assert [list(ids) for ids in found] == expected


def test_a_row_of_a_batch_prints_what_it_prints_alone(model: Any, ending: list[int]) -> None:
    prepared = questions(model, 9, first=40)
    padding(model, prepared)
    together = tokens(model.generate(prepared))
    model._lengths_of.clear()
    for row, one in zip(together, prepared, strict=True):
        model._lengths_of[0] = one.length
        assert tokens(model.generate([one])) == [row]


@pytest.mark.parametrize("window", [6, 9])
def test_a_window_shorter_than_the_prompt_goes_with_the_rows(tmp_path: Path, window: int) -> None:
    """Gemma 2's: a layer with one keeps the last keys alone, in the rows that stay."""
    import json

    folder = tiny.checkpoint(tmp_path / "paligemma2-mix-28", "paligemma2")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["sliding_window"] = window
    (folder / "config.json").write_text(json.dumps(config))
    model = tiny.load(folder)
    assert {"sliding_attention", "full_attention"} == {*model._loaded.model.config.text_config.layer_types}
    limits = [2, 24, 3, 9, 1, 17, 2, 4]
    prepared = [
        model.prepare(tiny.question(seed, limit)) for seed, limit in zip(range(8), limits, strict=True)
    ]
    with Passes(model) as passes:
        found = tokens(model.generate(prepared))
    assert len({*passes.rows}) > 3
    expected = plain(model, prepared, max(limits))
    assert [list(ids) for ids in found] == [ids[:n] for ids, n in zip(expected, limits, strict=True)]
    assert max(map(len, found)) > 10


def test_rows_stop_at_their_own_limit_and_leave(model: Any) -> None:
    limits = [1, 12, 1, 1, 3, 1, 12, 2]
    prepared = [
        model.prepare(tiny.question(seed, limit)) for seed, limit in zip(range(8), limits, strict=True)
    ]
    with Passes(model) as passes:
        found = tokens(model.generate(prepared))
    expected = plain(model, prepared, 12)
    assert [list(ids) for ids in found] == [ids[:n] for ids, n in zip(expected, limits, strict=True)]
    assert passes.rows[1] <= 4
    with Passes(model) as passes:
        model.generate([replace(one, request=replace(one.request, max_new_tokens=1)) for one in prepared])
    assert passes.rows == [8]


def test_a_cache_is_not_sorted_out_for_few_rows(model: Any) -> None:
    """To select rows costs about a pass: one of eight stays until a second one has ended."""
    limits = [1, *[6] * 7]
    prepared = [
        model.prepare(tiny.question(seed, limit)) for seed, limit in zip(range(100, 108), limits, strict=True)
    ]
    with Passes(model) as passes:
        found = tokens(model.generate(prepared))
    if min(map(len, found[1:])) == 6:
        assert passes.rows == [8] * 6
    assert [list(ids) for ids in found[:1]] == [ids[:1] for ids in plain(model, prepared, 1)[:1]]


def test_passes_are_given_what_generate_gives_them(model: Any) -> None:
    """Positions from 1 at the first token; a mask where something is padded, and none where nothing is."""
    prepared = questions(model, 4, new=3)
    assert len({one.length for one in prepared}) > 1
    for batch in (prepared, prepared[:1]):
        with Passes(model) as own:
            model.generate(batch)
        with Passes(model) as theirs:
            plain(model, batch, 3)
        for step, (one, other) in enumerate(zip(own.inputs, theirs.inputs, strict=False)):
            assert one["input_ids"].equal(other["input_ids"])
            assert (one["logits_to_keep"], one["use_cache"]) == (1, True)
            mask, wanted = one["attention_mask"], other.get("attention_mask")
            assert (mask is None) == (wanted is None) == (len(batch) == 1), step
            if mask is None:
                assert one["position_ids"].equal(other["position_ids"])
                continue
            assert mask.equal(wanted)
            there = mask.bool()[:, -one["position_ids"].shape[1] :]
            assert one["position_ids"][there].equal(other["position_ids"][there])


def test_a_static_cache_is_left_to_generate(model: Any, family: Family) -> None:
    """All rows to the end, with the same answers; PaliGemma 2 has no static cache in transformers 5.23."""
    limits = [4, 1, 7, 2]
    prepared = [
        model.prepare(tiny.question(seed, limit)) for seed, limit in zip(range(4), limits, strict=True)
    ]
    expected = model.generate(prepared)
    dynamic = model._loaded
    model._loaded = replace(dynamic, cache="static")
    try:
        assert model._decoding(7).cache_implementation == "static"
        if family == "paligemma2":
            return
        with Passes(model) as passes:
            assert model.generate(prepared) == expected
        assert {*passes.rows} == {4}
    finally:
        model._loaded = dynamic


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_a_row_with_nan_is_counted_in_its_own_steps_alone(folder: Path, cache: Any) -> None:
    """Whether it comes at the first step or at a later one, and not after the row has ended."""
    import torch

    if cache == "static" and "paligemma2" in folder.name:
        return
    model = tiny.load(folder)
    model._loaded = replace(model._loaded, cache=cache)
    limits = [1, 6, 3, 6]
    prepared = [
        model.prepare(replace(tiny.question(seed, limit), images=(tiny.picture(1),)))
        for seed, limit in zip((3, 3, 5, 3), limits, strict=True)
    ]
    step = [0]

    def spoil(_module: object, _args: object, logits: Any) -> Any:
        logits = logits.clone()
        if step[0] == 4:
            logits[..., 9] = torch.nan
        step[0] += 1
        return logits

    def never(_module: object, _args: object, logits: Any) -> Any:
        logits[..., list(model._stop)] = -1e4
        return logits

    handles = [model._loaded.model.lm_head.register_forward_hook(hook) for hook in (never, spoil)]
    try:
        replies = model.generate(prepared)
    finally:
        for handle in handles:
            handle.remove()
    assert [reply.finite for reply in replies] == [True, False, True, False]
    assert [len(reply.token_ids) for reply in replies] == limits


# Few operations


def of_torch(logits: Any, raw: Any) -> tuple[list[int], list[bool]]:
    """What `_chosen` says, as it is found on any device."""
    finite = raw.isfinite().all(dim=-1)
    return logits.float().argmax(dim=-1).tolist(), finite.tolist()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tokens_on_a_cpu_are_those_of_torch(dtype: str) -> None:
    """Among equals, beside nan and inf, and where the sum alone is too large."""
    import torch

    from pgbench.backends.paligemma.greedy import _chosen

    torch.manual_seed(0)
    plain = torch.randint(-9, 9, (40, 50)).to(getattr(torch, dtype))
    for strange in ([], [float("nan")], [float("inf")], [-float("inf")], [float("inf"), -float("inf")]):
        logits = plain.clone()
        for place, value in enumerate(strange):
            logits[7 + place, 3 * place], logits[11, 40 + place] = value, value
        for given in (logits, torch.stack([plain, logits], dim=1)[:, -1], logits.repeat(1, 1)):
            tokens, found = _chosen(given, given)
            assert found == of_torch(given, given)
            assert tokens.tolist() == found[0]
        assert all(found[1]) is not bool(strange)
    large = torch.full((3, 50), 3e38, dtype=plain.dtype)
    assert _chosen(large, large)[1] == ([0, 0, 0], [True, True, True])
    _, (_, finite) = _chosen(plain, torch.full_like(plain, float("inf")))  # what a soft-cap has hidden
    assert finite == [False] * 40


def test_rows_are_selected_as_the_cache_itself_does(model: Any) -> None:
    import copy

    import torch
    from transformers import DynamicCache

    from pgbench.backends.paligemma.greedy import _select

    own = DynamicCache(config=model._loaded.model.config.get_text_config(decoder=True))
    inputs = model._collate([one.inputs for one in questions(model, 6)])
    with torch.inference_mode():
        model._loaded.model(**inputs, past_key_values=own, use_cache=True)
    theirs, rows = copy.deepcopy(own), torch.tensor([5, 0, 3])
    _select(own, rows)
    theirs.batch_select_indices(rows)
    assert len(own.layers) > 1
    for one, other in zip(own.layers, theirs.layers, strict=True):
        assert one.keys.equal(other.keys)
        assert one.values.equal(other.values)
        state = [{**vars(layer)} for layer in (one, other)]
        assert [sorted(found) for found in state] == [sorted(state[0])] * 2
        assert one.get_seq_length() == other.get_seq_length()


# Out of memory


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("CUDA error: out of memory", True),  # torch.AcceleratorError, of a library with its own allocations
        ("CUDA error: an illegal memory access was encountered", False),
        ("The size of tensor a (3) must match the size of tensor b (4)", False),
    ],
)
def test_which_errors_say_that_memory_is_out(message: str, expected: bool) -> None:
    import torch

    from pgbench.backends.paligemma.greedy import no_room

    assert no_room(RuntimeError(message)) is expected
    assert no_room(ValueError(message)) is False
    assert no_room(torch.OutOfMemoryError("")) is no_room(MemoryError()) is True

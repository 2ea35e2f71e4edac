"""Which attention, cache and count of threads a loaded model gets: what is tried, and what is refused.

Candidates that disagree, raise or are slow are planted into transformers' registry, as a kernel that is
broken on some device would stand there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from pgbench.errors import ResumeError, UsageError
from pgbench.types import ModelRequest

PLANTED = "planted"
Tries = Callable[..., str]


@pytest.fixture(scope="module")
def gemma2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("gemma2"), "paligemma2")


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("gemma"), "paligemma")


@pytest.fixture
def model(gemma2: Path) -> Any:
    return tiny.load(gemma2)._loaded.model


@pytest.fixture
def tries(model: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tries]:
    """Puts an attention beside the candidates, and says what came of it."""
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface

    from pgbench.backends.paligemma import kernels

    def of(attend: Any, mask: Any = None) -> str:
        from transformers.masking_utils import eager_mask

        AttentionInterface.register(PLANTED, attend)
        AttentionMaskInterface.register(PLANTED, mask or eager_mask)
        monkeypatch.setattr(kernels, "CANDIDATES", (kernels.Candidate(PLANTED),))
        return kernels.choose(model, torch.device("cpu"))

    yield of
    for interface in (AttentionInterface, AttentionMaskInterface):
        interface._global_mapping.pop(PLANTED, None)


def grouped(*args: Any, **more: Any) -> Any:
    from pgbench.backends.paligemma.grouped import attend

    return attend(*args, **more)


def in_use(model: Any) -> str:
    return str(model.config.text_config._attn_implementation)


# Grouped attention


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("queries", "keys"), [(13, 13), (300, 300), (1, 40), (3, 40)])
@pytest.mark.parametrize("cap", [None, 5.0])
def test_grouped_attention_is_eager_attention(dtype: str, queries: int, keys: int, cap: float | None) -> None:
    import torch
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

    drawn = torch.Generator().manual_seed(0)
    kind = getattr(torch, dtype)
    query, key, value = (
        torch.randn(2, length, heads, 32, generator=drawn).to(kind).transpose(1, 2) * 3
        for length, heads in ((queries, 6), (keys, 2), (keys, 2))
    )
    mask = torch.zeros(2, 1, queries, keys, dtype=kind)
    mask[0, :, :, :5] = torch.finfo(kind).min
    module = torch.nn.Module().eval()
    module.num_key_value_groups, module.head_dim = 3, 32
    more = {"scaling": 0.2, "softcap": cap, "dropout": 0.0}
    expected = eager_attention_forward(module, query, key, value, mask, **more)[0]
    found = grouped(module, query, key, value, mask, **more)[0]
    assert found.shape == expected.shape == (2, queries, 6, 32)
    assert torch.allclose(found, expected, atol=1e-5 if dtype == "float32" else 1e-2)
    if dtype != "float32":  # the same operations on the same numbers; sums of one query may be cut otherwise
        assert float((found == expected).float().mean()) > 0.98


def test_answers_with_grouped_attention_are_those_with_eager(gemma2: Path) -> None:
    eager, other = (tiny.load(gemma2, attention=name) for name in ("eager", "grouped"))
    assert (in_use(eager._loaded.model), in_use(other._loaded.model)) == ("eager", "grouped")
    one, two = (
        backend.generate([backend.prepare(tiny.question(seed, 8)) for seed in range(12)])
        for backend in (eager, other)
    )
    assert [reply.token_ids for reply in one] == [reply.token_ids for reply in two]
    assert len({reply.token_ids for reply in one}) > 3
    keys = [backend.prepare(tiny.question(0)).request_key for backend in (eager, other)]
    assert keys[0] != keys[1]


# The choice


def test_paligemma_2_gets_the_attention_that_agrees_and_is_not_slower(model: Any) -> None:
    assert in_use(model) == "grouped"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("quant", ["none", "8bit"])
def test_what_was_tried_is_in_the_stack(gemma2: Path, dtype: Any, quant: Any) -> None:
    if quant != "none" and dtype != "bfloat16":
        pytest.skip("one dtype of this level is enough")
    stack = tiny.load(gemma2, dtype, quant=quant).describe()
    assert stack.attention["text"] == "grouped"
    assert stack.numerics["cache"] == "dynamic"
    said = stack.tried["attention"]
    assert said.startswith("grouped of eager ")
    assert "ms, grouped " in said
    assert stack.tried["cache"] == "dynamic; static is used where it is asked for"
    assert "OMP_NUM_THREADS" in stack.tried["threads"] or "small" in stack.tried["threads"]


def test_paligemma_keeps_the_attention_of_transformers(gemma: Path) -> None:
    stack = tiny.load(gemma).describe()
    assert (stack.attention["text"], stack.tried["attention"]) == ("sdpa", "sdpa, as transformers has it")


def test_without_soft_caps_paligemma_2_may_use_sdpa(gemma2: Path, tmp_path: Path) -> None:
    folder = tiny.copied(gemma2, tmp_path / "paligemma2-3b-mix-28")
    stack = tiny.load(folder, protocol="paper").describe()
    assert stack.numerics["soft-caps"] == "off, off"
    assert "sdpa " in stack.tried["attention"]
    assert "not taken" not in stack.tried["attention"]


def test_one_that_agrees_is_taken(tries: Tries, model: Any) -> None:
    assert tries(grouped).startswith(f"{PLANTED} of eager ")
    assert in_use(model) == PLANTED


def without_cap(*args: Any, **more: Any) -> Any:
    return grouped(*args, **(more | {"softcap": None}))


def with_another_cap(*args: Any, **more: Any) -> Any:
    return grouped(*args, **(more | {"softcap": 0.9 * more["softcap"]}))


def without_mask(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
    return grouped(module, query, key, value, None, **more)


def causal(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
    import torch

    later = torch.ones(mask.shape[-2:]).triu(1 + mask.shape[-1] - mask.shape[-2]).bool()
    return grouped(module, query, key, value, mask.masked_fill(later, -3e38), **more)


def other_heads(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
    return grouped(module, query.flip(1), key, value, mask, **more)


def not_a_number(*args: Any, **more: Any) -> Any:
    return grouped(*args, **more)[0] * float("nan"), None


def wrong_after_the_prompt(module: Any, query: Any, key: Any, *others: Any, **more: Any) -> Any:
    found = grouped(module, query, key, *others, **more)[0]
    return (found * 1.001 if query.shape[2] == 1 else found), None


def seeing_the_answer(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
    """As a flash kernel without a mask: of several tokens behind the prompt each sees all."""
    if 1 < query.shape[2] < key.shape[2]:
        mask = mask[:, :, -1:].expand_as(mask)
    return grouped(module, query, key, value, mask, **more)


FAULTS = (
    *(without_cap, with_another_cap, without_mask, causal, other_heads, not_a_number),
    *(wrong_after_the_prompt, seeing_the_answer),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_one_that_disagrees_is_not(tries: Tries, model: Any, fault: Any) -> None:
    said = tries(fault)
    assert in_use(model) == "eager"
    assert f"{PLANTED} not taken: " in said
    assert "away from attention in float32, limit 1e-05" in said


def test_a_mask_without_the_window_is_seen(tries: Tries, model: Any) -> None:
    from transformers.masking_utils import causal_mask_function, eager_mask

    def whole(**asked: Any) -> Any:
        if asked["q_length"] == 1:
            asked["mask_function"] = causal_mask_function
        return eager_mask(**asked)

    def short_by_one(**asked: Any) -> Any:
        mask = eager_mask(**asked)
        mask[..., asked["q_length"] // 2 :, -2] = -3e38
        return mask

    assert "away from" in tries(grouped, short_by_one)
    assert in_use(model) == "eager"
    assert tries(grouped, whole).startswith(PLANTED)  # the cache holds no more keys than the window


def test_one_that_raises_is_not_and_says_why_without_a_path(tries: Tries, model: Any) -> None:
    def broken(*args: Any, **more: Any) -> Any:
        raise RuntimeError("no kernel at /home/somebody/cache/x.so for this device")

    said = tries(broken)
    assert in_use(model) == "eager"
    assert f"{PLANTED} not taken: RuntimeError: no kernel at for this device" in said
    assert "somebody" not in said


def test_one_that_raises_at_full_length_alone_is_not(tries: Tries, model: Any) -> None:
    import torch

    def small(module: Any, query: Any, *others: Any, **more: Any) -> Any:
        if query.shape[2] > 20:
            raise torch.OutOfMemoryError("too large")
        return grouped(module, query, *others, **more)

    assert f"{PLANTED} not taken: OutOfMemoryError: too large" in tries(small)
    assert in_use(model) == "eager"


def test_one_that_is_slower_is_not_and_the_figures_say_so(tries: Tries, model: Any) -> None:
    def slow(*args: Any, **more: Any) -> Any:
        time.sleep(0.01)
        return grouped(*args, **more)

    said = tries(slow)
    assert in_use(model) == "eager"
    assert said.startswith("eager of eager ")
    assert f", {PLANTED} " in said


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([(0.010, 0.030), (0.011, 0.025), (0.010, 0.019)], PLANTED),  # held up twice
        ([(0.010, 0.019)], PLANTED),
        ([(0.010, 0.030)] * 5, "eager"),
        ([(0.010, 0.030)] * 4 + [(0.010, 0.020)], PLANTED),
    ],
)
def test_noise_does_not_decide(
    tries: Tries,
    model: Any,
    monkeypatch: pytest.MonkeyPatch,
    times: list[tuple[float, float]],
    expected: str,
) -> None:
    """Figures of rounds: (eager, the candidate). One that agrees is refused only if every round speaks so."""
    from pgbench.backends.paligemma import kernels

    left = {"eager": [0.010, *(one for one, _ in times)], PLANTED: [other for _, other in times]}
    monkeypatch.setattr(kernels, "_seconds", lambda _model, name, _device: left[name].pop(0))
    said = tries(grouped)
    assert (in_use(model), said.split(" of ")[0]) == (expected, expected)
    assert not left[PLANTED]


def test_what_is_compiled_is_never_taken_unasked() -> None:
    from pgbench.backends.paligemma.kernels import CANDIDATES

    assert [one.name for one in CANDIDATES] == ["grouped", "sdpa"]


def test_the_model_is_left_whole(tries: Tries, model: Any) -> None:
    text = model.config.text_config
    before = (text.num_hidden_layers, text.sliding_window, [one.sliding_window for one in attentions(model)])
    tries(not_a_number)
    assert before == (
        text.num_hidden_layers,
        text.sliding_window,
        [one.sliding_window for one in attentions(model)],
    )


def attentions(model: Any) -> Sequence[Any]:
    from pgbench.backends.paligemma.cut import attentions

    found = attentions(model)
    assert len(found) == tiny.LAYERS
    return found


def test_trying_takes_no_noticeable_time(model: Any) -> None:
    import torch

    from pgbench.backends.paligemma import kernels

    times = []
    for _ in range(3):
        start = time.perf_counter()
        kernels.choose(model, torch.device("cpu"))
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3  # measured 0.1 on a loaded core


# Asked for


def test_what_is_asked_for_is_used_and_named(gemma2: Path, gemma: Path) -> None:
    backend = tiny.load(gemma2, attention="eager")
    assert (in_use(backend._loaded.model), backend.describe().tried["attention"]) == (
        "eager",
        "eager, as asked",
    )
    assert tiny.load(gemma, attention="grouped").describe().attention["text"] == "grouped"


@pytest.mark.parametrize(
    ("attention", "reason"),
    [("sdpa", "does not support `softcap`"), ("flex_attention", "compiled for CUDA alone")],
)
def test_what_cannot_be_used_is_refused_and_not_replaced(gemma2: Path, attention: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=f"--attention {attention} cannot be used here .*{reason}"):
        tiny.load(gemma2, attention=attention)


def test_what_is_asked_for_is_in_the_key_and_what_is_not_leaves_it_as_it_was() -> None:
    from pgbench.types import Checkpoint, DataSource, Profile, RunSpec

    point = Checkpoint("x", "f00", Profile("mix", "paligemma2"), 448)
    spec = RunSpec("t", 1, "default", "generate", "val", DataSource("hub", "x"), point)
    others = [replace(point, attention="eager"), replace(point, cache="static")]
    assert len({spec.key, *(replace(spec, checkpoint=one).key for one in others)}) == 3
    assert spec.key == "a659da797437153f560ba76547aae9e601ccdcc0f1186d5accec65cf08603aae"


# The cache


def test_a_static_cache_is_used_where_it_agrees(gemma: Path) -> None:
    asked = [tiny.load(gemma, cache=kind) for kind in ("dynamic", "static")]
    assert [one._loaded.cache for one in asked] == ["dynamic", "static"]
    assert [one.describe().numerics["cache"] for one in asked] == ["dynamic", "static"]
    replies = [one.generate([one.prepare(tiny.question(seed, 6)) for seed in range(6)]) for one in asked]
    assert [a.token_ids for a in replies[0]] == [b.token_ids for b in replies[1]]


def test_paligemma_2_has_none_in_this_version_and_says_so(gemma2: Path) -> None:
    with pytest.raises(UsageError, match=r"--cache static cannot be used here .*AttributeError"):
        tiny.load(gemma2, cache="static")


def rows_of(backend: Any) -> Callable[[], Any]:
    from pgbench.backends.paligemma.settling import _rows

    loaded = backend._loaded
    return lambda: _rows(loaded.model, loaded.processor, loaded.device, 2)


def test_a_static_cache_that_disagrees_is_refused(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.cache_utils import StaticLayer

    from pgbench.backends.paligemma import caches

    backend = tiny.load(gemma)
    update = StaticLayer.update

    def losing(self: Any, keys: Any, values: Any, *args: Any, **more: Any) -> Any:
        return update(self, keys, values * (1.0 if keys.shape[2] > 1 else 0.5), *args, **more)

    monkeypatch.setattr(StaticLayer, "update", losing)
    with pytest.raises(UsageError, match=r"--cache static .*of their spread away at step"):
        caches.choose(backend._loaded.model, rows_of(backend), "static")


def test_a_static_cache_is_never_taken_unasked(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor looked at: on CUDA that would compile."""
    from types import SimpleNamespace

    from pgbench.backends.paligemma import caches

    def looked(*_: Any, **__: Any) -> Any:
        raise AssertionError("looked at")

    monkeypatch.setattr(caches, "_wrong", looked)
    for kind in ("cpu", "cuda"):
        model = SimpleNamespace(device=SimpleNamespace(type=kind))
        assert caches.choose(model, looked)[0] == "dynamic"


def test_on_cuda_a_static_cache_is_looked_at_compiled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from pgbench.backends.paligemma import caches

    model, asked = SimpleNamespace(device=SimpleNamespace(type="cuda")), list[bool]()

    def wrong(_model: Any, _inputs: Any, *, compiled: bool) -> str:
        asked.append(compiled)
        return "RuntimeError: no triton" if compiled else ""

    monkeypatch.setattr(caches, "_wrong", wrong)
    with pytest.raises(UsageError, match=r"--cache static cannot be used here \(RuntimeError: no triton\)"):
        caches.choose(model, dict, "static")
    assert asked == [False, True]


# Threads


def counted(
    monkeypatch: pytest.MonkeyPatch, times: dict[int, float], hidden: int = 2304
) -> tuple[Any, list[int]]:
    """`pin` on a machine with eight cores on which so many threads take so long."""
    from types import SimpleNamespace

    import torch

    from pgbench.backends.paligemma import threads

    now, asked = [1], []

    def pinned(count: int) -> None:
        now[0] = count

    def seconds(_model: Any) -> float:
        asked.append(now[0])
        return times[now[0]]

    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(8)))
    monkeypatch.setattr(torch, "set_num_threads", pinned)
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    monkeypatch.setattr(threads, "seconds", seconds)
    model = SimpleNamespace(config=SimpleNamespace(text_config=SimpleNamespace(hidden_size=hidden)))
    return lambda asked=None: threads.pin(model, torch.device("cpu"), asked), asked


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({8: 0.02, 4: 0.01, 2: 0.03}, 4),
        ({8: 0.01, 4: 0.02, 2: 0.03}, 8),
        ({8: 0.0101, 4: 0.01, 2: 0.03}, 8),  # no difference worth another stack
        ({8: 0.014, 4: 0.01, 2: 0.01}, 8),  # nor one that noise may turn round
        ({8: 0.05, 4: 0.03, 2: 0.025}, 4),
        ({8: 0.05, 4: 0.03, 2: 0.01}, 2),
    ],
)
def test_the_fastest_count_of_threads_is_taken(
    monkeypatch: pytest.MonkeyPatch, times: dict[int, float], expected: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    pin, asked = counted(monkeypatch, times)
    count, said, measured = pin()
    assert (count, measured, asked) == (expected, True, [8, 4, 2] * 3)
    assert said.startswith(f"{expected}, of 8: {times[8] * 1e3:.3g} ms, 4: ")


def test_of_each_count_the_least_time_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cores are kept, though something held them up in two rounds of three."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    pin, _ = counted(monkeypatch, {})
    rounds = [{8: 0.09, 4: 0.012, 2: 0.03}, {8: 0.08, 4: 0.01, 2: 0.03}, {8: 0.01, 4: 0.01, 2: 0.03}]
    figures = [one[count] for one in rounds for count in (8, 4, 2)]
    monkeypatch.setattr("pgbench.backends.paligemma.threads.seconds", lambda _model: figures.pop(0))
    assert pin()[:2] == (8, "8, of 8: 10 ms, 4: 10 ms, 2: 30 ms")


def test_what_was_said_of_threads_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    pin, asked = counted(monkeypatch, {})
    assert pin() == (3, "3, OMP_NUM_THREADS", False)
    assert pin(5) == (5, "5, as asked", False)
    monkeypatch.delenv("OMP_NUM_THREADS")
    pin, _ = counted(monkeypatch, {}, hidden=64)
    assert pin() == (1, "1, the model is small", False)
    assert asked == []


def test_the_count_is_measured_on_the_model(gemma2: Path) -> None:
    from pgbench.backends.paligemma.threads import seconds

    model = tiny.load(gemma2)._loaded.model
    calls: list[int] = []
    handle = model.model.language_model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    assert 0 < seconds(model) < 1
    handle.remove()
    assert len(calls) == 2


# A run that goes on


def test_a_session_goes_on_with_the_kernels_that_the_run_began_with(gemma2: Path) -> None:
    first, second = tiny.load(gemma2, attention="eager"), tiny.load(gemma2)
    began = first.describe()
    assert second.describe().attention["text"] == "grouped"
    second.go_on_with(began)
    assert (second.describe().attention, in_use(second._loaded.model)) == (began.attention, "eager")
    assert replace(second.describe(), tried={}) == replace(began, tried={})
    keys = [backend.prepare(tiny.question(0)).request_key for backend in (first, second)]
    assert keys[0] != tiny.load(gemma2).prepare(tiny.question(0)).request_key
    assert keys[0] == keys[1] or first._checkpoint != second._checkpoint


def test_what_was_asked_for_is_never_changed_so(gemma2: Path) -> None:
    backend = tiny.load(gemma2, attention="grouped", threads=1)
    backend.go_on_with(replace(backend.describe(), attention={"text": "eager", "vision": "sdpa"}, threads=2))
    assert (backend.describe().attention["text"], backend.describe().threads) == ("grouped", 1)


def test_a_kernel_that_cannot_be_had_here_is_not_taken_over(gemma2: Path) -> None:
    backend = tiny.load(gemma2)
    stack = backend.describe()
    backend.go_on_with(replace(stack, attention={"text": "flex_attention", "vision": "sdpa"}))
    assert backend.describe() == stack
    assert in_use(backend._loaded.model) == "grouped"


def test_a_run_that_began_with_another_attention_goes_on(gemma2: Path, tmp_path: Path) -> None:
    from pgbench import store

    backend = tiny.load(gemma2)
    stack = backend.describe()
    store.keep_stack(tmp_path, replace(stack, tried={"attention": "other figures"}))
    store.keep_stack(tmp_path, stack)  # figures alone make no other stack
    with pytest.raises(ResumeError, match="threads"):
        store.keep_stack(tmp_path, replace(stack, threads=7))


def test_a_run_whose_folder_has_other_kernels_takes_these(gemma2: Path, tmp_path: Path) -> None:
    """As two sessions, or two shards that start together, may choose differently."""
    from types import SimpleNamespace

    from pgbench import store
    from pgbench.runner import _kept_stack, stack_of

    cell: Any = SimpleNamespace(task_digest="d")
    plan: Any = SimpleNamespace(folder=tmp_path)
    backend = tiny.load(gemma2)
    began = stack_of(cell, backend)
    store.keep_stack(tmp_path, replace(began, attention={**began.attention, "text": "eager"}))
    kept = _kept_stack(cell, plan, backend)
    assert (kept.attention["text"], in_use(backend._loaded.model)) == ("eager", "eager")
    assert kept.tried == began.tried
    asked = tiny.load(gemma2, attention="grouped")
    with pytest.raises(ResumeError, match=r'stack\.attention\.text: was "eager", now "grouped"'):
        _kept_stack(cell, plan, asked)


def test_other_backends_have_no_kernels() -> None:
    from pgbench.backends.oracle import engine

    for asked in (ModelRequest(attention="eager"), ModelRequest(cache="static")):
        with pytest.raises(UsageError, match="leave out --attention and --cache"):
            engine(asked)

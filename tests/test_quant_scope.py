"""--quant-scope language, and the levels of torchao and quanto: the same proof, whoever quantized.

Byte counts of one layer with n weights and r rows, as the libraries store them (torchao 0.18, quanto 0.2.7):
torchao-int8: n int8, a float32 scale and an int8 zero point a row. torchao-fp8: n bytes and a float32 a row.
quanto-int8: n int8 and a scale a row at the model's dtype. quanto-int4: n / 2, scale and offset a row (of 128
weights or fewer) at the model's dtype.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, get_args

import pytest
import tiny

from pgbench.backends.paligemma import kinds, quantizers
from pgbench.backends.paligemma.proof import prove, tensors
from pgbench.backends.paligemma.size import size_of
from pgbench.errors import CheckpointError, UsageError
from pgbench.published.joins import find, key_of
from pgbench.records import Quantization
from pgbench.sweeping.memory import weight_bytes
from pgbench.types import DataSource, Dtype, Family, Quant, RunSpec

BITSANDBYTES: tuple[Quant, ...] = ("8bit", "4bit", "fp4")
OTHERS = tuple(
    pytest.param(
        level,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(package) is None,
            reason=f"--quant {level} needs {package}: pip install 'pgbench[{level.split('-')[0]}]'",
        ),
    )
    for level, package in {
        "torchao-int8": "torchao",
        "torchao-fp8": "torchao",
        "quanto-int8": "optimum",
        "quanto-int4": "optimum",
    }.items()
)
SEEING = 6 * tiny.LAYERS + 1  # linear layers of the tower, and the projector
LANGUAGE = 7 * tiny.LAYERS
H, ROWS = tiny.HIDDEN, 2 * tiny.HIDDEN


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both families go the same way."""
    return tiny.checkpoint(tmp_path_factory.mktemp("single") / "paligemma2-mix-28", "paligemma2")


@pytest.fixture(scope="module")
def folder(family: Family, single: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if single.name.startswith(f"{family}-"):
        return single
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / f"{family}-mix-28", family)


@pytest.fixture(scope="module")
def plain(folder: Path) -> Any:
    return tiny.kept(folder, "bfloat16")


def proof(backend: Any) -> Quantization:
    found = backend.describe().quantization
    assert found is not None
    return found  # type: ignore[no-any-return]


def logits(backend: Any) -> Any:
    import torch

    inputs = [backend._collate([backend.prepare(tiny.question(seed)).inputs]) for seed in range(8)]
    with torch.inference_mode():
        return torch.cat([backend._loaded.model(**one).logits[0, -1].float() for one in inputs])


def require_language_alone(backend: Any, plain: Any, level: Quant) -> None:
    import torch

    found = proof(backend)
    assert sum(group.count for group in found.replaced) == LANGUAGE
    assert all(".language_model.layers." in group.pattern for group in found.replaced)
    assert sum(group.count for group in found.skipped) == SEEING + 1
    ours, theirs = backend._loaded.model, plain._loaded.model
    for name, weight in theirs.model.vision_tower.named_parameters():
        assert torch.equal(ours.model.vision_tower.get_parameter(name), weight)
    weights = [one.model.multi_modal_projector.linear.weight for one in (ours, theirs)]
    assert torch.equal(*weights)
    assert type(ours.lm_head) is torch.nn.Linear
    assert ours.lm_head.weight.data_ptr() == ours.model.language_model.embed_tokens.weight.data_ptr()
    assert not torch.equal(logits(backend), logits(plain))
    replies = backend.generate([backend.prepare(tiny.question(seed)) for seed in range(4)])
    assert all(reply.finite and reply.token_ids for reply in replies)
    assert backend._loaded.stack.quantization.level == level


# The scope


@pytest.mark.parametrize("level", BITSANDBYTES)
def test_the_language_model_alone_is_quantized(folder: Path, plain: Any, level: Quant) -> None:
    require_language_alone(tiny.kept(folder, "bfloat16", quant=level, quant_scope="language"), plain, level)


@pytest.mark.parametrize("level", OTHERS)
def test_so_with_the_others(folder: Path, plain: Any, level: Quant) -> None:
    require_language_alone(tiny.kept(folder, "bfloat16", quant=level, quant_scope="language"), plain, level)


def test_a_scope_is_in_the_checkpoint_where_something_is_quantized(folder: Path) -> None:
    from pgbench.backends.paligemma import engine
    from pgbench.types import ModelRequest

    def known(**more: Any) -> Any:
        return engine(ModelRequest(model=str(folder), **more)).checkpoint

    assert known(quant_scope="language") == known()
    assert known(quant="4bit", quant_scope="language").quant_scope == "language"
    assert known(quant="4bit").quant_scope == "all"


@pytest.mark.parametrize("level", BITSANDBYTES[:2])
def test_a_list_without_the_head_does_not_pass(
    single: Path, level: Quant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trap: transformers skips the tied head by itself only while it is given no list."""
    built = quantizers.config

    def trapped(quant: Quant, scope: Any) -> Any:
        config = built(quant, scope)
        config.llm_int8_skip_modules = list(quantizers.SEEING)
        return config

    monkeypatch.setattr(quantizers, "config", trapped)
    with pytest.raises(CheckpointError, match=r"replaced 1 layers .*first: lm_head|left Linear4bit without"):
        tiny.load(single, "bfloat16", quant=level, quant_scope="language")


@pytest.mark.parametrize("level", BITSANDBYTES[:2])
def test_a_list_of_names_without_their_head_does_not_pass(
    single: Path, level: Quant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are matched from their start, "model.": others are ignored, silently."""
    monkeypatch.setattr(quantizers, "SEEING", ("vision_tower", "multi_modal_projector"))
    with pytest.raises(CheckpointError, match=f"replaced {SEEING} layers that --quant-scope language keeps"):
        tiny.load(single, "bfloat16", quant=level, quant_scope="language")


def test_one_scope_does_not_pass_for_the_other(folder: Path) -> None:
    part, whole = (tiny.kept(folder, "bfloat16", quant="4bit", quant_scope=s) for s in ("language", "all"))
    prove(part._loaded.model, "4bit", (), "language")
    with pytest.raises(CheckpointError, match=f"left {SEEING} layers as they were"):
        prove(part._loaded.model, "4bit", (), "all")
    with pytest.raises(CheckpointError, match=f"replaced {SEEING} layers that --quant-scope language keeps"):
        prove(whole._loaded.model, "4bit", (), "language")


# Other libraries

KIND = {
    "torchao-int8": ("torch.nn.Linear of torchao.Int8Tensor", "int8"),
    "torchao-fp8": ("torch.nn.Linear of torchao.Float8Tensor", "float8_e4m3fn"),
    "quanto-int8": ("optimum.quanto.nn.QLinear", "int8"),
    "quanto-int4": ("optimum.quanto.nn.QLinear", "int4"),
}


@pytest.mark.parametrize("level", OTHERS)
def test_the_proof_names_classes_and_kinds(folder: Path, plain: Any, level: Quant) -> None:
    import torch

    backend = tiny.kept(folder, "bfloat16", quant=level)
    found, (cls, kind) = proof(backend), KIND[level]
    assert {group.cls for group in found.replaced} == {cls}
    assert sum(group.count for group in found.replaced) == LANGUAGE + SEEING
    assert [(group.pattern, group.cls) for group in found.skipped] == [("lm_head", "torch.nn.Linear")]
    assert (found.level, found.quant_type, found.compute_dtype) == (level, kind, "bfloat16")
    assert found.double_quant is None
    apart = torch.corrcoef(torch.stack([logits(plain), logits(backend)]))[0, 1].item()
    assert (0.5 if level == "quanto-int4" else 0.9) < apart < 1
    assert not torch.equal(logits(plain), logits(backend))
    package = {"torchao": "torchao", "quanto": "optimum-quanto"}[level.split("-")[0]]
    assert backend.describe().versions[package] != "absent"
    assert package not in plain.describe().versions


def expected(level: Quant, dtype: int) -> float:
    """Bytes of ROWS x H weights. `dtype`: of a number of the model's."""
    scales = {
        "torchao-int8": 5 * ROWS,
        "torchao-fp8": 4 * ROWS,
        "quanto-int8": dtype * ROWS,
        "quanto-int4": 2 * dtype * ROWS,
    }
    return ROWS * H * (0.5 if level == "quanto-int4" else 1) + scales[level]


@pytest.mark.parametrize("dtype", get_args(Dtype))
@pytest.mark.parametrize("level", OTHERS)
def test_bytes_and_every_dtype(single: Path, level: Quant, dtype: Dtype) -> None:
    import torch

    backend = tiny.kept(single, dtype, quant=level)
    layer = backend._loaded.model.model.language_model.layers[0].mlp.up_proj
    found = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors(layer)}
    # what quanto keeps for quantized activations, which nobody asked for: two float32 scales
    surplus = 8 if level.startswith("quanto") else 0
    assert sum(found.values()) == expected(level, getattr(torch, dtype).itemsize) + surplus
    assert proof(backend).compute_dtype == dtype
    assert backend._loaded.model.lm_head.weight.dtype == getattr(torch, dtype)
    replies = backend.generate([backend.prepare(tiny.question(seed, 2)) for seed in range(4)])
    assert all(reply.finite and len(reply.token_ids) == 2 for reply in replies)


@pytest.mark.parametrize("level", OTHERS)
def test_batches_answer_as_single_questions(single: Path, level: Quant) -> None:
    backend = tiny.kept(single, quant=level)
    asked = [backend.prepare(tiny.question(seed)) for seed in range(8)]
    alone = [backend.generate([one])[0].token_ids for one in asked]
    equal = sum(one.token_ids == other for one, other in zip(backend.generate(asked), alone, strict=True))
    assert equal >= 7


@pytest.mark.parametrize("level", OTHERS)
def test_a_quantization_that_did_nothing_is_refused(
    single: Path, level: Quant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizers, "config", lambda quant, scope: None)
    with pytest.raises(CheckpointError, match=f"--quant {level} left no quantized layers"):
        tiny.load(single, "bfloat16", quant=level)


@pytest.mark.parametrize("level", OTHERS)
def test_one_library_does_not_pass_for_another(single: Path, level: Quant) -> None:
    model = tiny.kept(single, "bfloat16", quant=level)._loaded.model
    prove(model, level, ())
    for claimed in get_args(Quant):
        if claimed != level:
            with pytest.raises(CheckpointError, match=f"--quant {claimed} left {level} in the model"):
                prove(model, claimed, ())


def test_int4_is_unpacked_without_a_compiler(single: Path) -> None:
    """quanto would build C++ into its own folder, for minutes, at the first product."""
    import torch

    pytest.importorskip("optimum.quanto")
    from optimum.quanto.library.extensions import get_extension

    tiny.kept(single, "bfloat16", quant="quanto-int4")
    assert type(get_extension("quanto_cpp").lib) is not type(torch)  # no module that was built
    packed = torch.arange(256, dtype=torch.uint8)
    found = torch.ops.quanto.unpack(packed, 4)
    assert found.tolist() == [*(byte & 15 for byte in range(256)), *(byte >> 4 for byte in range(256))]
    assert found.dtype == torch.uint8


@pytest.mark.parametrize("level", ["torchao-int8", "torchao-fp8", "quanto-int8", "quanto-int4"])
def test_without_its_library(level: Quant, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(kinds, "version", absent)
    with pytest.raises(UsageError, match=rf"pip install 'pgbench\[{level.split('-')[0]}\]'"):
        kinds.require_library(level)
    kinds.require_library("4bit")


def test_fp8_needs_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from pgbench.types import Checkpoint, Profile

    point = Checkpoint("a", None, Profile("mix", "paligemma"), 224, quant="torchao-fp8")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    for capability, fine in (((8, 0), False), ((8, 9), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        if fine:
            quantizers.require_device(point, torch.device("cuda"))
        else:
            with pytest.raises(UsageError, match=r"A100 has no float8 .*8\.0, expected 8\.9"):
                quantizers.require_device(point, torch.device("cuda"))
    quantizers.require_device(point, torch.device("cpu"))


# What is told of them


def require_estimate(folder: Path, backend: Any, level: Quant, scope: Any) -> None:
    import json

    size = size_of(json.loads((folder / "config.json").read_text()))
    assert size is not None
    true = backend.describe().weight_bytes
    assert weight_bytes(size, level, "bfloat16", scope) == pytest.approx(true, rel=0.03)


@pytest.mark.parametrize("scope", ["all", "language"])
@pytest.mark.parametrize("level", OTHERS)
def test_memory_is_estimated_as_it_is_stored(single: Path, level: Quant, scope: Any) -> None:
    backend = tiny.kept(single, "bfloat16", quant=level, quant_scope=scope)
    require_estimate(single, backend, level, scope)


def test_memory_of_a_part(folder: Path) -> None:
    backend = tiny.kept(folder, "bfloat16", quant="8bit", quant_scope="language")
    require_estimate(folder, backend, "8bit", "language")


@pytest.mark.parametrize("level", ["torchao-int8", "quanto-int4"])
def test_no_published_number_stands_beside_them(level: Quant) -> None:
    from dataclasses import replace

    from pgbench.types import Checkpoint, Profile

    point = Checkpoint("google/paligemma-3b-ft-vqav2-448", "f", Profile("ft", "paligemma", "vqav2"), 448)
    spec = RunSpec("vqav2", 1, "default", "generate", "test", DataSource("hub", "x"), point)
    metrics = ("accuracy", "paper_accuracy")
    assert any(find(key_of(spec, metric)) for metric in metrics)
    other = replace(spec, checkpoint=replace(point, quant=level))
    assert not any(find(key_of(other, metric)) for metric in metrics)

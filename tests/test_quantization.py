"""The proof of a quantization level, held against counts and bytes that are worked out here.

Byte counts of one layer with n weights, before and after the first forward pass (bitsandbytes 0.50.2):
8bit: n int8 and one float32 scale a row. 4bit, fp4: n / 2, and for every 64 weights one byte, these in turn
for every 256 one float32; a packed layer (AVX512-BF16) has two bytes for every 64 weights instead.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tiny

from pgbench.backends.paligemma.proof import prove, tensors, true_bytes
from pgbench.errors import CheckpointError
from pgbench.records import Quantization
from pgbench.types import Dtype, Family, Quant, QuantScope

LEVELS: tuple[Quant, ...] = ("8bit", "4bit", "fp4")
EVERY: tuple[Quant, ...] = ("none", *LEVELS)  # test_quant_scope.py has those of other libraries
# Worked out from the architecture: 6 linears a SigLIP layer, the projector, 7 a Gemma layer.
LINEARS = 6 * tiny.LAYERS + 1 + 7 * tiny.LAYERS
H, MLP = tiny.HIDDEN, 2 * tiny.HIDDEN
VISION = 4 * (H * H + H) + (H * MLP + MLP) + (MLP * H + H)  # with biases
TEXT = 2 * (H * 128) + 2 * (H * 32) + 3 * H * MLP  # q and o of 4 heads of 32, k and v of one
ELEMENTS = tiny.LAYERS * (VISION + TEXT) + H * H + H


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def folder(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / family, family)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> dict[Quant, Any]:
    return {level: tiny.load(folder, "bfloat16", quant=level) for level in EVERY}


def proof(backend: Any) -> Quantization:
    found = backend.describe().quantization
    assert found is not None
    return found  # type: ignore[no-any-return]


def logits(backend: Any, seed: int = 0) -> Any:
    """[vocabulary] of the first answer token, in float32."""
    import torch

    inputs = backend._collate([backend.prepare(tiny.question(seed)).inputs])
    with torch.inference_mode():
        return backend._loaded.model(**inputs).logits[0, -1].float()


def packs() -> bool:
    from bitsandbytes.functional import has_avx512bf16

    return bool(has_avx512bf16())


# What was replaced


@pytest.mark.parametrize("level", LEVELS)
def test_every_linear_but_the_output_layer_is_replaced(loaded: dict[Quant, Any], level: Quant) -> None:
    found = proof(loaded[level])
    cls = "bitsandbytes.nn.Linear8bitLt" if level == "8bit" else "bitsandbytes.nn.Linear4bit"
    assert found.level == level
    assert {group.cls for group in found.replaced} == {cls}
    assert sum(group.count for group in found.replaced) == LINEARS
    assert [(group.pattern, group.cls, group.count) for group in found.skipped] == [
        ("lm_head", "torch.nn.Linear", 1)
    ]
    patterns = {group.pattern: group.count for group in found.replaced}
    assert patterns["model.vision_tower.encoder.layers.*.mlp.fc1"] == tiny.LAYERS
    assert patterns["model.language_model.layers.*.self_attn.q_proj"] == tiny.LAYERS
    assert patterns["model.multi_modal_projector.linear"] == 1


def test_the_count_is_that_of_the_full_precision_model(loaded: dict[Quant, Any]) -> None:
    import torch

    plain = loaded["none"]._loaded.model
    named = [name for name, module in plain.named_modules() if type(module) is torch.nn.Linear]
    by_pattern = Counter(re.sub(r"\.\d+\.", ".*.", name) for name in named)
    assert {group.pattern: group.count for group in proof(loaded["none"]).skipped} == by_pattern
    assert proof(loaded["none"]).replaced == ()
    del by_pattern["lm_head"]
    for level in LEVELS:
        assert {group.pattern: group.count for group in proof(loaded[level]).replaced} == by_pattern


@pytest.mark.parametrize(
    ("level", "kind", "compute", "double"),
    [
        ("none", None, None, None),
        ("8bit", "int8", "float16", None),
        ("4bit", "nf4", "bfloat16", True),
        ("fp4", "fp4", "bfloat16", True),
    ],
)
def test_the_kind_of_quantization(
    loaded: dict[Quant, Any], level: Quant, kind: str | None, compute: str | None, double: bool | None
) -> None:
    found = proof(loaded[level])
    assert (found.quant_type, found.compute_dtype, found.double_quant) == (kind, compute, double)
    if level in ("4bit", "fp4"):
        modules = [m for m in loaded[level]._loaded.model.modules() if type(m).__name__ == "Linear4bit"]
        assert {str(module.compute_dtype) for module in modules} == {f"torch.{compute}"}
        assert {module.weight.quant_state.quant_type for module in modules} == {kind}


# Bytes


@pytest.mark.parametrize("level", LEVELS)
def test_bytes_of_one_layer(loaded: dict[Quant, Any], level: Quant) -> None:
    model = loaded[level]._loaded.model
    module = model.model.language_model.layers[0].mlp.up_proj  # 128 x 64, no bias
    n, rows = MLP * H, MLP
    assert (module.out_features, module.in_features, module.bias) == (rows, H, None)
    found = sum(
        {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors(module)}.values()
    )
    table = 16 * 4  # the 16 values of a 4-bit code
    if level == "8bit":
        assert found == n + 4 * rows
    elif packs():
        assert found == n // 2 + n // 64 * 2 + table + 4  # the mean of the statistics stays, unused
    else:
        nested = 256 * 4 + 4  # the code of the statistics' own quantization, and their mean
        assert found == n // 2 + n // 64 + -(-n // 64 // 256) * 4 + nested + table


@pytest.mark.parametrize("level", LEVELS)
def test_bytes_before_the_first_pass_are_those_of_nested_statistics(folder: Path, level: Quant) -> None:
    """Every backend shows these where weights are not packed; here on a model that never ran."""
    import bitsandbytes
    import torch

    layer: Any
    n, rows = MLP * H, MLP
    if level == "8bit":
        layer = bitsandbytes.nn.Linear8bitLt(H, rows, bias=False, has_fp16_weights=False)
        expected = n + 4 * rows
    else:
        kind = "nf4" if level == "4bit" else "fp4"
        layer = bitsandbytes.nn.Linear4bit(H, rows, bias=False, quant_type=kind, compute_dtype=torch.bfloat16)
        expected = n // 2 + n // 64 + 4 + (256 * 4 + 4) + 16 * 4
    holder = torch.nn.Module()
    holder.add_module("up_proj", layer.to("cpu"))
    found = prove(holder, level, ())
    assert found.replaced_bytes == found.replaced[0].bytes == true_bytes(holder) == expected
    assert found.replaced_bytes_bf16 == 2 * n
    assert found.double_quant is (None if level == "8bit" else True)


@pytest.mark.parametrize("level", LEVELS)
def test_bytes_of_all_replaced_layers(loaded: dict[Quant, Any], level: Quant) -> None:
    found = proof(loaded[level])
    assert found.replaced_bytes_bf16 == 2 * ELEMENTS
    ratio = found.replaced_bytes / found.replaced_bytes_bf16
    assert (0.5 < ratio < 0.6) if level == "8bit" else (0.25 < ratio < 0.45)


def test_shared_storage_counts_once(loaded: dict[Quant, Any]) -> None:
    """The output layer is the embedding."""
    stack = loaded["none"].describe()
    model = loaded["none"]._loaded.model
    assert model.lm_head.weight.data_ptr() == model.model.language_model.embed_tokens.weight.data_ptr()
    expected = 2 * sum(
        parameter.numel() for parameter in model.parameters()
    )  # parameters() skips the tied one
    buffers = {b.untyped_storage().data_ptr(): b.untyped_storage().nbytes() for b in model.buffers()}
    assert stack.weight_bytes == expected + sum(buffers.values())
    head = next(group for group in proof(loaded["none"]).skipped if group.pattern == "lm_head")
    assert head.bytes == 2 * tiny.VOCABULARY * H


def test_levels_take_less_and_less(loaded: dict[Quant, Any]) -> None:
    sizes = [loaded[level].describe().weight_bytes for level in ("none", "8bit", "4bit")]
    assert sizes == sorted(sizes, reverse=True)
    kept = sizes[0] - 2 * ELEMENTS  # embedding, norms, buffers
    assert sizes[2] - proof(loaded["4bit"]).replaced_bytes == kept


# What it does to the answers


@pytest.mark.parametrize("level", LEVELS)
def test_logits_move_and_not_far(loaded: dict[Quant, Any], level: Quant) -> None:
    """Random weights carry an error further than trained ones do: 0.6 here is 0.99 there."""
    import torch

    plain = torch.cat([logits(loaded["none"], seed) for seed in range(8)])
    moved = torch.cat([logits(loaded[level], seed) for seed in range(8)])
    assert not torch.equal(plain, moved)
    alike = torch.corrcoef(torch.stack([plain, moved]))[0, 1].item()
    assert alike > (0.95 if level == "8bit" else 0.5)


@pytest.mark.parametrize(
    ("level", "low", "high"), [("8bit", 0.005, 0.02), ("4bit", 0.07, 0.11), ("fp4", 0.1, 0.15)]
)
def test_one_layer_errs_as_its_level_does(
    loaded: dict[Quant, Any], level: Quant, low: float, high: float
) -> None:
    """The relative error of Gaussian weights: about 1/127 of a row's largest, 9 % for nf4, 12 % for fp4."""
    import torch

    inputs = torch.randn(64, H, generator=torch.Generator().manual_seed(0)).bfloat16()
    outputs = []
    for name in ("none", level):
        layer = loaded[name]._loaded.model.model.language_model.layers[1].mlp.gate_proj
        with torch.inference_mode():
            outputs.append(layer(inputs).float())
    error = ((outputs[0] - outputs[1]).norm() / outputs[0].norm()).item()
    assert low < error < high


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("level", EVERY)
def test_every_level_runs_in_every_dtype(folder: Path, level: Quant, dtype: Dtype) -> None:
    backend = tiny.load(folder, dtype, quant=level)
    prepared = [backend.prepare(tiny.question(seed, 2)) for seed in range(4)]
    replies = backend.generate(prepared)
    assert all(reply.finite and len(reply.token_ids) == 2 for reply in replies)
    assert str(backend._loaded.model.lm_head.weight.dtype) == f"torch.{dtype}"
    found = proof(backend)
    assert found.compute_dtype == {"none": None, "8bit": "float16"}.get(level, "bfloat16")


# What must not pass for quantized


@pytest.mark.parametrize("level", LEVELS)
def test_a_quantization_that_did_nothing_is_refused(
    folder: Path, level: Quant, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForImageTextToText

    published = AutoModelForImageTextToText.from_pretrained

    def deaf(*args: Any, quantization_config: Any = None, **options: Any) -> Any:
        return published(*args, **options)

    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", deaf)
    with pytest.raises(CheckpointError, match=f"--quant {level} left no quantized layers"):
        tiny.load(folder, "bfloat16", quant=level)


@pytest.mark.parametrize("level", LEVELS)
def test_a_tower_left_in_full_precision_is_refused(
    folder: Path, level: Quant, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pgbench.backends.paligemma import quantizers

    built = quantizers.config

    def partly(quant: Quant, scope: QuantScope) -> Any:
        config: Any = built(quant, scope)
        config.llm_int8_skip_modules = ["model.vision_tower", "lm_head"]
        return config

    monkeypatch.setattr(quantizers, "config", partly)
    with pytest.raises(
        CheckpointError, match=f"left {6 * tiny.LAYERS} layers as they were, first: model.vision"
    ):
        tiny.load(folder, "bfloat16", quant=level)


def test_one_level_does_not_pass_for_another(loaded: dict[Quant, Any]) -> None:
    for held in EVERY:
        for claimed in EVERY:
            if held == claimed:
                prove(loaded[held]._loaded.model, claimed, ())
            else:
                with pytest.raises(CheckpointError):
                    prove(loaded[held]._loaded.model, claimed, ())

"""4-bit layers on CPUs with AVX512-BF16, which pack weights at the first pass and refuse odd widths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from pgbench.errors import CheckpointError
from pgbench.records import Quantization
from pgbench.types import Family, Quant

UNFOLDED = "the packed AVX512-BF16 path keeps the doubly quantized statistics unfolded, in bfloat16"
LINEARS = 6 * tiny.LAYERS + 1 + 7 * tiny.LAYERS  # of a SigLIP layer, the projector, of a Gemma layer


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def folder(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / family, family)


def proof(backend: Any) -> Quantization:
    found = backend.describe().quantization
    assert found is not None
    return found  # type: ignore[no-any-return]


def without_bytes(found: Quantization) -> Quantization:
    return replace(found, replaced=(), replaced_bytes=0, skipped=(), workarounds=())


def logits(backend: Any, seed: int = 0) -> Any:
    """[vocabulary] of the first answer token, in float32."""
    import torch

    inputs = backend._collate([backend.prepare(tiny.question(seed)).inputs])
    with torch.inference_mode():
        return backend._loaded.model(**inputs).logits[0, -1].float()


def packs() -> bool:
    from bitsandbytes.functional import has_avx512bf16

    return bool(has_avx512bf16())


@pytest.mark.parametrize("width", [80, 112])
@pytest.mark.parametrize("level", ["4bit", "fp4"])
def test_odd_widths_run_off_the_packed_path(tmp_path: Path, family: Family, level: Quant, width: int) -> None:
    """As SigLIP-So400m's 4304: no multiple of 32 rows, no multiple of 64 columns."""
    folder = tiny.checkpoint(tmp_path / "odd", family, vision_mlp=width)
    plain, odd = tiny.load(folder, "bfloat16", quant="none"), tiny.load(folder, "bfloat16", quant=level)
    prepared = [odd.prepare(tiny.question(seed)) for seed in range(3)]
    assert all(reply.finite for reply in odd.generate(prepared))
    found = proof(odd)
    assert sum(group.count for group in found.replaced) == LINEARS
    if packs():
        assert [note.partition(":")[0] for note in found.workarounds] == [
            f"{2 * tiny.LAYERS} 4-bit layers off the packed AVX512-BF16 path",
            UNFOLDED,
        ]
    else:
        assert found.workarounds == ()
    import torch

    alike = torch.corrcoef(torch.stack([logits(plain), logits(odd)]))[0, 1].item()
    assert alike > 0.5


def test_without_the_workaround_the_packed_path_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not packs():
        pytest.skip("this CPU has no AVX512-BF16, so nothing is packed")
    from pgbench.backends.paligemma import quantizers

    folder = tiny.checkpoint(tmp_path / "odd", "paligemma", vision_mlp=80)
    monkeypatch.setattr(quantizers, "cpu_workarounds", lambda model, device: ())
    with pytest.raises(CheckpointError, match="cannot look at an image: AssertionError"):
        tiny.load(folder, "bfloat16", quant="4bit")


def test_even_widths_all_run_packed(folder: Path) -> None:
    found = proof(tiny.load(folder, "bfloat16", quant="4bit"))
    assert found.workarounds == ((UNFOLDED,) if packs() else ())
    assert found.double_quant is True


def test_nothing_is_packed_without_the_instruction(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another CPU does: the same proof, statistics still nested, and nearly the same logits."""
    import bitsandbytes.nn.modules as modules
    import torch

    packed = tiny.load(folder, "bfloat16", quant="4bit")
    monkeypatch.setattr(modules, "has_avx512bf16", lambda: False)
    plain = tiny.load(folder, "bfloat16", quant="4bit")
    assert plain.describe().quantization.double_quant is True
    assert proof(plain).replaced_bytes < 0.45 * proof(plain).replaced_bytes_bf16
    assert without_bytes(proof(plain)) == without_bytes(proof(packed))
    assert torch.corrcoef(torch.stack([logits(plain), logits(packed)]))[0, 1].item() > 0.95

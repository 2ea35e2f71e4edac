"""The damaged checkpoint of the demo's gate: noise of the size, in the weights and of the seed asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import pgbench.demo
from pgbench.demo.touring import damage
from pgbench.demo.touring.route import Harm
from pgbench.errors import CheckpointError

CHECKPOINTS = Path(pgbench.demo.__file__).parent / "checkpoints"


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = load_file(folder / "model.safetensors")
    return found


def test_damage_is_noise_of_the_size_that_was_asked_for(tmp_path: Path) -> None:
    source, harm = CHECKPOINTS / "tiny-gemma", Harm(("multi_modal_projector",), 0.5, 3)
    done = damage.damaged(source, tmp_path / "one", harm)
    assert done.tensors == ("multi_modal_projector.linear.weight",)
    before, after = weights(source), weights(tmp_path / "one")
    assert before.keys() == after.keys()
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == set(done.tensors)
    (name,) = changed
    noise = (after[name].float() - before[name].float()) / before[name].float().std()
    assert abs(float(noise.std()) - 0.5) < 0.02
    assert abs(float(noise.mean())) < 0.02
    assert {path.name for path in (tmp_path / "one").iterdir()} == {path.name for path in source.iterdir()}


def test_damage_is_the_same_every_time_and_another_for_another_seed(tmp_path: Path) -> None:
    source = CHECKPOINTS / "tiny-gemma2"
    for name, seed in (("one", 0), ("two", 0), ("three", 1), ("one", 0)):
        damage.damaged(source, tmp_path / name, Harm(seed=seed))
    one, two, three = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two", "three")
    )
    assert one == two != three
    damage.damaged(source, tmp_path / "none", Harm(size=0.0))
    assert (tmp_path / "none" / "model.safetensors").read_bytes() == (
        source / "model.safetensors"
    ).read_bytes()


def test_numbers_are_rounded_to_bfloat16_as_torch_does() -> None:
    import torch

    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    values[:3] = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8)])  # halfway between two
    ours = damage._widened(damage._narrowed(values.numpy()))
    assert (ours == values.to(torch.bfloat16).float().numpy()).all()


def test_damage_to_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weight matrix named like nothing"):
        damage.damaged(CHECKPOINTS / "tiny-gemma", tmp_path, Harm(("nothing",)))

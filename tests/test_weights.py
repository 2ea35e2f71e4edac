"""What is refused when weights and processor are read: one line, before the first sample."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from pgbench.backends.paligemma import engine
from pgbench.errors import CheckpointError, PgbenchError, UsageError
from pgbench.types import ModelRequest

Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / "paligemma2-mix-28", "paligemma2")


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return tiny.copied(original, tmp_path / "mine")


def refused(folder: Path) -> PgbenchError:
    """What loading says: the checkpoint itself was found, and its config read."""
    found = engine(ModelRequest(model=str(folder), device="cpu"))
    with pytest.raises(PgbenchError) as caught:
        found.load()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.exit_code == 2
    return caught.value


def edit_config(folder: Path, part: str | None = None, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    if part is not None:
        changes = {part: {**config[part], **changes}}
    tiny.edit_json(folder / "config.json", **changes)


# What is refused when the weights are loaded


def weights(change: Callable[[dict[str, Any]], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        (folder / "model.safetensors").unlink()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return spoil


def cut(folder: Path, keep: float) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(data[: int(len(data) * keep)])


def rename_key(tensors: dict[str, Any], ending: str, new: str) -> None:
    key = next(key for key in tensors if key.endswith(ending))
    tensors[new] = tensors.pop(key)


def narrow(tensors: dict[str, Any]) -> None:
    key = next(key for key in tensors if key.endswith("fc1.weight"))
    tensors[key] = tensors[key][:-1].contiguous()


def lone_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def without(*names: str) -> Spoil:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def edit_processor(**changes: object) -> Spoil:
    def spoil(folder: Path) -> None:
        own = json.loads((folder / "processor_config.json").read_text())["image_processor"]
        tiny.edit_json(folder / "processor_config.json", image_processor={**own, **changes})

    return spoil


def stops(folder: Path, found: object) -> None:
    tiny.edit_json(folder / "generation_config.json", eos_token_id=found)


LATE: dict[str, tuple[Spoil, str]] = {
    "empty": (lambda f: cut(f, 0.0), "cannot load mine"),
    "header cut": (lambda f: cut(f, 0.001), "cannot load mine"),
    "data cut": (lambda f: cut(f, 0.9), "cannot load mine"),
    "lacking": (
        weights(lambda t: t.pop(next(key for key in t if key.endswith("fc1.weight")))),
        "lacks 1 weights, first: model.vision_tower",
    ),
    "renamed": (weights(lambda t: rename_key(t, "linear.bias", "projector.bias")), "lacks 1 weights"),
    "wrong shape": (weights(narrow), "fc1.weight has shape [127, 64], expected [128, 64]"),
    "lone shard": (lone_shard, "cannot load mine"),
    "no tokenizer": (without("tokenizer.json", "tokenizer_config.json"), "the processor of mine"),
    "no preprocessor": (without("processor_config.json"), "the processor of mine"),
    "tokenizer cut": (lambda f: (f / "tokenizer.json").write_text("{"), "the processor of mine"),
    "no stop": (lambda f: stops(f, []), "eos_token_id is []; expected ids"),
    "stop is text": (lambda f: stops(f, "x"), "eos_token_id is 'x'"),
    "stop out of range": (lambda f: stops(f, [1, 999_999]), "eos_token_id is [1, 999999]"),
    "no tokenizer config": (without("tokenizer_config.json"), "mine"),
    "other size": (edit_processor(size={"height": 448, "width": 448}), "has size {'height': 448"),
    "other length": (edit_processor(image_seq_length=1024), "image_seq_length 1024, its weights 4"),
    "other token": (lambda f: edit_config(f, image_token_index=7), "<image> token 1530, its weights 7"),
}


@pytest.mark.parametrize("what", LATE)
def test_what_cannot_be_loaded_is_one_line(copy: Path, what: str) -> None:
    spoil, said = LATE[what]
    spoil(copy)
    error = refused(copy)
    assert isinstance(error, CheckpointError)
    assert said in str(error)
    assert str(copy) not in str(error)


def test_an_unmerged_adapter_among_the_weights_is_refused(copy: Path) -> None:
    import torch

    weights(lambda t: t.update({"model.q_proj.lora_A.weight": torch.zeros(2, 2)}))(copy)
    assert "unmerged adapter" in str(refused(copy))


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "tpu", "cpu:1", "", "CPU"])
def test_a_device_that_is_not_there(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before the checkpoint is looked for, let alone fetched."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError) as caught:
        engine(ModelRequest(model="org/not-looked-for", device=device))
    assert str(caught.value).startswith(f"no device {device!r} here; available: auto, cpu (torch ")


def test_devices_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from pgbench.backends.paligemma.load import device_of

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [str(device_of(name)) for name in ("auto", "cpu")] == ["cpu", "cpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(device_of(name)) for name in ("auto", "cuda", "cuda:1")] == ["cuda", "cuda", "cuda:1"]
    with pytest.raises(UsageError, match="available: auto, cpu, cuda, cuda:0, cuda:1"):
        device_of("cuda:2")


@pytest.mark.parametrize("where", ["config.json", "processor_config.json", "tokenizer_config.json"])
def test_code_in_a_checkpoint_is_never_executed(copy: Path, where: str) -> None:
    ran = copy / "ran"
    (copy / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Evil: ...\n")
    names = (
        "AutoConfig",
        "AutoModelForImageTextToText",
        "AutoProcessor",
        "AutoTokenizer",
        "AutoImageProcessor",
    )
    tiny.edit_json(copy / where, auto_map=dict.fromkeys(names, "evil.Evil"))
    try:
        engine(ModelRequest(model=str(copy), device="cpu")).load()
    except CheckpointError:
        pass  # refused is as good as ignored
    assert not ran.exists()

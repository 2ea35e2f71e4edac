"""LoRA adapters: found, checked, put in, proved; held against weights that are worked out here.

An adapter of rank r and alpha a adds a / r * B @ A to a layer's weight (arXiv:2106.09685, section 4.1).
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import tiny
from hub_server import HubServer

import pgbench
from pgbench.backends.paligemma import adapter as adapters
from pgbench.backends.paligemma import engine
from pgbench.errors import CheckpointError, PgbenchError, UsageError
from pgbench.types import AdapterMode, DataSource, Dtype, Family, ModelRequest, Quant, RunSpec

pytest.importorskip("peft", reason="--adapter needs peft: pip install 'pgbench[lora]'")

RANK, ALPHA = 4, 8
HEAD = "base_model.model."
LAYERS = {  # name -> rows, columns: what the targets q_proj and gate_proj name
    **{f"model.language_model.layers.{n}.self_attn.q_proj": (128, 64) for n in range(tiny.LAYERS)},
    **{f"model.language_model.layers.{n}.mlp.gate_proj": (128, 64) for n in range(tiny.LAYERS)},
    **{f"model.vision_tower.encoder.layers.{n}.self_attn.q_proj": (64, 64) for n in range(tiny.LAYERS)},
}
QUANTIZED: tuple[Quant, ...] = ("8bit", "4bit")  # fp4 goes the way of 4bit
Change = Callable[[dict[str, Any]], object]


def tensors(seed: int = 0) -> dict[str, Any]:
    import torch

    drawn = torch.Generator().manual_seed(seed)
    found = {}
    for name, (rows, columns) in LAYERS.items():
        found[f"{HEAD}{name}.lora_A.weight"] = torch.randn(RANK, columns, generator=drawn) * 0.1
        found[f"{HEAD}{name}.lora_B.weight"] = torch.randn(rows, RANK, generator=drawn) * 0.1
    return found


def adapter(folder: Path, change: Change = lambda found: None, seed: int = 0, **config: Any) -> Path:
    """As peft saves one."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    found = tensors(seed)
    change(found)
    copies = {name: tensor.clone() for name, tensor in found.items()}
    save_file(copies, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    told = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": ["q_proj", "gate_proj"]}
    told |= {"base_model_name_or_path": "somebody/base", "bias": "none", "task_type": "CAUSAL_LM"}
    told |= {"lora_dropout": 0.1}  # of training; published adapters have it
    (folder / "adapter_config.json").write_text(json.dumps(told | config))
    return folder


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def base(family: Family, single: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if single.name.startswith(f"{family}-"):
        return single
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / f"{family}-mix-28", family)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both families go the same way."""
    return tiny.checkpoint(tmp_path_factory.mktemp("single") / "paligemma2-mix-28", "paligemma2")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapter(tmp_path_factory.mktemp("adapter") / "mine")


def logits(backend: Any) -> Any:
    """[4 questions, vocabulary], in float32."""
    import torch

    inputs = [backend._collate([backend.prepare(tiny.question(seed)).inputs]) for seed in range(4)]
    with torch.inference_mode():
        return torch.stack([backend._loaded.model(**one).logits[0, -1].float() for one in inputs])


def merged(weight: Any, name: str, dtype: Any) -> Any:
    """One layer's weight with the adapter in it: summed in float32, rounded once."""
    found = tensors()
    a, b = (found[f"{HEAD}{name}.lora_{part}.weight"] for part in "AB")
    return (weight.float() + ALPHA / RANK * (b @ a)).to(dtype)


# What is put in


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merge_is_the_sum_in_float32_rounded_once(base: Path, one: Path, dtype: Dtype) -> None:
    import torch

    plain, with_it = tiny.kept(base, dtype), tiny.kept(base, dtype, adapter=str(one))
    before, after = (dict(one._loaded.model.named_parameters()) for one in (plain, with_it))
    assert before.keys() == after.keys()
    for name, weight in before.items():
        layer = name.removesuffix(".weight")
        if layer in LAYERS:
            expected = merged(weight, layer, weight.dtype)
            torch.testing.assert_close(after[name], expected, rtol=0, atol=1e-6 if dtype == "float32" else 0)
            assert not torch.equal(after[name], weight)
        else:
            assert torch.equal(after[name], weight)


def test_an_attached_adapter_answers_as_a_merged_one(base: Path, one: Path) -> None:
    import torch

    plain = tiny.kept(base)
    merge, attach = (tiny.kept(base, adapter=str(one), adapter_mode=mode) for mode in ("merge", "attach"))
    torch.testing.assert_close(logits(attach), logits(merge), rtol=1e-3, atol=1e-3)
    assert (logits(merge) - logits(plain)).abs().max() > 0.1
    assert not any(module.training for module in attach._loaded.model.modules())
    asked = [merge.prepare(tiny.question(seed)) for seed in range(8)]
    assert [reply.token_ids for reply in attach.generate(asked)] == [
        reply.token_ids for reply in merge.generate(asked)
    ]
    for name in LAYERS:  # the base's own weights are what they were
        ours, theirs = (b._loaded.model.get_submodule(name) for b in (attach, plain))
        assert torch.equal(ours.base_layer.weight, theirs.weight)
        assert ours.lora_A["default"].weight.dtype == torch.float32


@pytest.mark.parametrize("mode", get_args(AdapterMode))
def test_the_stack_counts_what_landed(base: Path, one: Path, mode: AdapterMode) -> None:
    stack = tiny.kept(base, "bfloat16", adapter=str(one), adapter_mode=mode).describe()
    found = stack.adapter
    assert (found.mode, found.order, found.tensors, found.dtype) == (mode, None, 2 * len(LAYERS), "float32")
    assert {group.pattern: group.count for group in found.layers} == {
        "model.language_model.layers.*.self_attn.q_proj": tiny.LAYERS,
        "model.language_model.layers.*.mlp.gate_proj": tiny.LAYERS,
        "model.vision_tower.encoder.layers.*.self_attn.q_proj": tiny.LAYERS,
    }
    assert sum(group.bytes for group in found.layers) == 4 * sum(one.numel() for one in tensors().values())
    assert found.moved == (len(LAYERS) if mode == "merge" else 0)
    assert stack.versions["peft"] != "absent"
    assert "peft" not in tiny.kept(base, "bfloat16").describe().versions


def older(found: dict[str, Any]) -> None:
    """Names as transformers had them before 4.52; published adapters have them."""
    for name in list(found):
        new = name.replace("model.language_model.", "language_model.model.")
        found[new.replace("model.vision_tower.", "vision_tower.vision_model.")] = found.pop(name)


def test_names_of_older_transformers_land_in_the_same_place(base: Path, one: Path, tmp_path: Path) -> None:
    import torch

    old = adapter(tmp_path / "old", older)
    assert not {*json.loads(header(old))} & {*json.loads(header(one))} - {"__metadata__"}
    ours, theirs = (tiny.kept(base, adapter=str(folder)) for folder in (one, old))
    assert torch.equal(logits(ours), logits(theirs))


def header(folder: Path) -> bytes:
    data = (folder / "adapter_model.safetensors").read_bytes()
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


def test_an_adapter_that_is_zero_changes_nothing(single: Path, tmp_path: Path) -> None:
    """As before its first step of training."""
    import torch

    def zero(found: dict[str, Any]) -> None:
        for name in found:
            found[name] *= "lora_A" in name

    backend = tiny.kept(single, adapter=str(adapter(tmp_path / "zero", zero)))
    assert backend.describe().adapter.moved == 0
    assert torch.equal(logits(backend), logits(tiny.kept(single)))


def test_ranks_and_scales_of_their_own(single: Path, tmp_path: Path) -> None:
    """rank_pattern, alpha_pattern and rsLoRA's alpha / sqrt(r)."""
    import torch

    def wider(found: dict[str, Any]) -> None:
        for name in [name for name in found if "gate_proj" in name]:
            size = (16, 64) if "lora_A" in name else (128, 16)
            found[name] = torch.ones(size) * 0.01

    settings: dict[str, Any] = {"rank_pattern": {"gate_proj": 16}, "alpha_pattern": {"gate_proj": 2}}
    folder = adapter(tmp_path / "own", wider, use_rslora=True, **settings)
    found, plain = tiny.kept(single, adapter=str(folder)), tiny.kept(single)
    name = "model.language_model.layers.0.mlp.gate_proj"
    moved, weight = (b._loaded.model.get_submodule(name).weight for b in (found, plain))
    torch.testing.assert_close(moved, weight + 2 / 16**0.5 * 16 * 0.01**2)


# With quantization


@pytest.fixture(scope="module")
def whole(base: Path, one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The merged checkpoint as somebody would publish it."""
    folder = tmp_path_factory.mktemp("whole") / base.name
    shutil.copytree(base, folder)
    from safetensors.torch import load_file, save_file

    found = load_file(folder / "model.safetensors")
    for name in LAYERS:
        (key,) = (key for key in found if tail(key) == tail(f"{name}.weight"))
        found[key] = merged(found[key].bfloat16(), name, found[key].bfloat16().dtype)
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def tail(name: str) -> str:
    """A weight's name without what transformers calls otherwise in a file."""
    return (
        name.split("language_model.")[-1]
        .split("vision_tower.")[-1]
        .removeprefix("model.")
        .removeprefix("vision_model.")
    )


@pytest.mark.parametrize("level", QUANTIZED)
def test_merged_before_quantization_is_the_merged_checkpoint_quantized(
    base: Path, one: Path, whole: Path, level: Quant
) -> None:
    import torch

    ours = tiny.kept(base, "bfloat16", quant=level, adapter=str(one), adapter_order="before")
    theirs = tiny.kept(whole, "bfloat16", quant=level)
    assert torch.equal(logits(ours), logits(theirs))
    assert ours.describe().quantization == theirs.describe().quantization
    assert ours._stop == theirs._stop
    assert (ours.describe().adapter.order, ours.describe().adapter.moved) == ("before", len(LAYERS))


def test_the_stops_are_those_of_the_generation_config(single: Path, one: Path, tmp_path: Path) -> None:
    """PaliGemma 2 has a second one there, which is not in its config."""
    folder = tiny.copied(single, tmp_path / single.name)
    tiny.edit_json(folder / "generation_config.json", eos_token_id=[1, 107])
    ways: list[dict[str, Any]] = [{}, {"quant": "8bit"}, {"quant": "8bit", "adapter_mode": "attach"}]
    for more in ways:
        assert tiny.kept(folder, "bfloat16", adapter=str(one), **more)._stop == (1, 107)


@pytest.mark.parametrize("level", QUANTIZED)
def test_merged_after_quantization_is_rounded_twice(base: Path, one: Path, whole: Path, level: Quant) -> None:
    import torch

    ours = tiny.kept(base, "bfloat16", quant=level, adapter=str(one), adapter_order="after")
    theirs = tiny.kept(whole, "bfloat16", quant=level)
    assert not torch.equal(logits(ours), logits(theirs))
    alike = torch.corrcoef(torch.stack([logits(ours).flatten(), logits(theirs).flatten()]))[0, 1]
    assert alike > (0.9 if level == "8bit" else 0.4)
    assert ours.describe().adapter.moved == len(LAYERS)
    assert proved(ours) == proved(theirs)


@pytest.mark.parametrize("level", QUANTIZED)
def test_an_adapter_attached_to_quantized_layers(base: Path, one: Path, level: Quant) -> None:
    import torch

    plain = tiny.kept(base, "bfloat16", quant=level)
    ours = tiny.kept(base, "bfloat16", quant=level, adapter=str(one), adapter_mode="attach")
    assert ours.describe().adapter.order == "after"
    assert proved(ours) == proved(plain)
    assert not torch.equal(logits(ours), logits(plain))
    extra = 4 * sum(one.numel() for one in tensors().values())
    assert ours.describe().weight_bytes == plain.describe().weight_bytes + extra
    assert all(reply.finite for reply in ours.generate([ours.prepare(tiny.question(0))]))


def proved(backend: Any) -> list[tuple[str, str, int]]:
    found = backend.describe().quantization.replaced
    return sorted((group.pattern, group.cls, group.count) for group in found)


# What is in the key


def known(base: Path, **more: Any) -> Any:
    return engine(ModelRequest(model=str(base), **more)).checkpoint


def test_the_checkpoint_says_which_adapter_and_how(single: Path, one: Path, tmp_path: Path) -> None:
    plain = known(single)
    assert (plain.adapter, plain.adapter_revision, plain.adapter_mode, plain.adapter_order) == (None,) * 4
    found = known(single, adapter=str(one))
    assert (found.adapter, found.adapter_mode, found.adapter_order) == ("mine", "merge", None)
    assert len(found.adapter_revision) == 64
    assert found.profile.kind == "ft"  # whatever the base was
    spec = RunSpec("vqav2", 1, "default", "generate", "val", DataSource("hub", "x"), plain)
    points = [
        plain,
        found,
        known(single, adapter=str(one), adapter_mode="attach"),
        known(single, adapter=str(one), quant="8bit"),
        known(single, adapter=str(one), quant="8bit", adapter_order="after"),
        known(single, adapter=str(adapter(tmp_path / "mine", seed=1))),
        known(single, adapter=str(adapter(tmp_path / "b" / "mine", lora_alpha=16))),
    ]
    assert len({replace(spec, checkpoint=point).key for point in points}) == len(points)
    assert known(single, adapter=str(one), adapter_order="after") == found  # nothing is quantized


def test_a_run_with_an_adapter(single: Path, one: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"source": "demo", "limit": 2, "dtype": "float32", "device": "cpu"}
    done = pgbench.run("textvqa", single, adapter=one, out=tmp_path, **settings)
    assert (done.record.spec.checkpoint.adapter, done.record.stack.adapter.tensors) == ("mine", 12)  # type: ignore[union-attr]
    assert done.folder.name.startswith(f"{single.name}_28px_fp32_mine-")
    from pgbench.report.render import terminal
    from pgbench.report.table import of_record

    assert "adapter mine@" in terminal(of_record(done.record))
    again = pgbench.run("textvqa", single, adapter=one, out=tmp_path, **settings)
    assert (again.already_done, again.record) == (True, done.record)


def test_a_sweep_file_names_an_adapter_beside_itself(one: Path, tmp_path: Path) -> None:
    from pgbench.recipe.read import read

    shutil.copytree(one, tmp_path / "lora")
    lines = [
        "tasks: [pope]",
        "quant: [none, 8bit]",
        "defaults: {quant_scope: language, kind: ft, tuned_on: vqav2}",
        "checkpoints:",
        "  - {model: tiny-gemma, adapter: lora, adapter_mode: attach}",
        "  - {model: tiny-gemma, adapter: somebody/lora@v2, adapter_order: after}",
    ]
    (tmp_path / "sweep.yaml").write_text("\n".join(lines))
    found = [cell.model for cell in read(tmp_path / "sweep.yaml", {})]
    assert [(model.quant, model.adapter_mode) for model in found] == [
        *(("none", "attach"), ("8bit", "attach")),
        *(("none", None), ("8bit", None)),
    ]
    assert {model.adapter for model in found} == {str(tmp_path / "lora"), "somebody/lora@v2"}
    assert {(model.kind, model.tuned_on, model.quant_scope) for model in found} == {
        ("ft", "vqav2", "language")
    }
    assert found[3].adapter_order == "after"


def test_an_edit_between_opening_and_loading_is_refused(single: Path, one: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(one, tmp_path / "mine"))
    opened = engine(ModelRequest(model=str(single), dtype="float32", device="cpu", adapter=str(mine)))
    adapter(mine, seed=3)
    with pytest.raises(CheckpointError, match="the files of mine have changed"):
        opened.load()


# The hub


@pytest.fixture
def hub(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    root = tmp_path / "hub" / "models" / "somebody" / "lora"
    shutil.copytree(one, root / "main")
    (root / "main" / "adapter_model.bin").write_text("must not be fetched")
    adapter(root / "v2", seed=2)
    with HubServer(tmp_path / "hub") as server:
        server.use(monkeypatch, tmp_path / "cache")
        yield server


def test_an_adapter_of_the_hub_and_its_revisions(hub: HubServer, single: Path, one: Path) -> None:
    import torch

    main, second = (known(single, adapter=f"somebody/lora{at}") for at in ("", "@v2"))
    assert (main.adapter, main.adapter_revision) == ("somebody/lora", hub.commit("models", "somebody/lora"))
    assert second.adapter_revision == hub.commit("models", "somebody/lora", "v2") != main.adapter_revision
    assert not any(path.endswith(".bin") for _, path, _ in hub.requests)
    ours, theirs = (tiny.kept(single, adapter=name) for name in ("somebody/lora", str(one)))
    assert torch.equal(logits(ours), logits(theirs))
    with pytest.raises(PgbenchError, match="somebody/lora has no revision 'v3'"):
        known(single, adapter="somebody/lora@v3")


# What is refused


def refused(base: Path, load: bool = False, **more: Any) -> PgbenchError:
    def opened() -> None:
        found = engine(ModelRequest(model=str(base), dtype="float32", device="cpu", **more))
        if load:
            found.load()

    with pytest.raises(PgbenchError) as caught:
        opened()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.exit_code == 2
    return caught.value


def stray(found: dict[str, Any]) -> None:
    name = f"{HEAD}model.language_model.layers.9.mlp.gate_proj.lora_"
    found[f"{name}A.weight"], found[f"{name}B.weight"] = (found[key] for key in list(found)[:2])


def stray_in_place(found: dict[str, Any]) -> None:
    """A layer that the checkpoint has and the config does not name."""
    name = f"{HEAD}model.language_model.layers.0.mlp.up_proj.lora_"
    found[f"{name}A.weight"], found[f"{name}B.weight"] = (found[key] for key in list(found)[:2])


def lacking(found: dict[str, Any]) -> None:
    del found[next(name for name in found if "layers.1" in name)]


def narrow(found: dict[str, Any]) -> None:
    """The adapter of a narrower model."""
    for name in [name for name in found if "lora_A" in name]:
        found[name] = found[name][:, :32].contiguous()


def not_finite(found: dict[str, Any]) -> None:
    found[next(iter(found))][0, 0] = float("nan")


def alien(found: dict[str, Any]) -> None:
    found[f"{HEAD}model.language_model.norm.weight"] = found[next(iter(found))]


SPOILT: dict[str, tuple[Change, dict[str, Any], bool, str]] = {  # with whether it takes loading to see it
    "stray layer": (stray, {}, True, "has 2 weights for layers that its config does not name or the checkp"),
    "unnamed layer": (stray_in_place, {}, True, "has 2 weights for layers that its config does not name"),
    "lacks one": (lacking, {}, True, "lacks weights for 1 places that its config names"),
    "narrow": (narrow, {}, True, "does not fit: .*size mismatch"),
    "no such target": (lambda f: None, {"target_modules": ["wq"]}, True, "does not fit: .*[Tt]arget modules"),
    "another rank": (lambda f: None, {"r": 8}, False, "has rank 4, its config says 8"),
    "no rank": (lambda f: None, {"r": None}, False, "has rank r None, expected 1 or more"),
    "a rank too many": (
        lambda f: None,
        {"rank_pattern": {"q_proj": 1 << 40}},
        False,
        "ranks up to 4, its co",
    ),
    "a rank of nothing": (lambda f: None, {"rank_pattern": {"q_proj": "4"}}, False, "rank_pattern to '4'"),
    "no pattern": (lambda f: None, {"rank_pattern": [4]}, False, "has rank_pattern .4., expected an object"),
    "no alpha": (lambda f: None, {"lora_alpha": float("nan")}, False, "has lora_alpha nan, expected a numb"),
    "no alphas": (
        lambda f: None,
        {"alpha_pattern": {"q_proj": "2"}},
        False,
        "has lora_alpha '2', expected a",
    ),
    "not finite": (not_finite, {}, True, "holds numbers that are not finite, first: base_model"),
    "imports": (lambda f: None, {"megatron_config": {"a": 1}}, False, r"LoRA adapter \(megatron_config\)"),
    "no matrix": (alien, {}, False, "which is no matrix of a LoRA adapter"),
    "empty": (lambda f: f.clear(), {}, False, "adapter_model.safetensors is empty"),
    "another type": (lambda f: None, {"peft_type": "IA3"}, False, "of type 'IA3'; expected LORA"),
    "whole modules": (lambda f: None, {"modules_to_save": ["lm_head"]}, False, r"\(modules_to_save\)"),
    "dora": (lambda f: None, {"use_dora": True}, False, r"more than a plain LoRA adapter \(use_dora\)"),
    "biases": (lambda f: None, {"bias": "all"}, False, r"\(bias\)"),
    "pissa": (lambda f: None, {"init_lora_weights": "pissa"}, False, r"\(init_lora_weights\)"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_is_no_adapter_of_this_checkpoint(single: Path, tmp_path: Path, what: str) -> None:
    change, config, load, said = SPOILT[what]
    error = refused(single, load, adapter=str(adapter(tmp_path / "bad", change, **config)))
    assert isinstance(error, CheckpointError)
    assert re.search(said, str(error)), str(error)


@pytest.mark.parametrize(
    ("trained", "said"),
    [
        ("google/paligemma-3b-pt-224", ("px 224 and not 28", "expected --model google/paligemma-3b-pt-224")),
        ("/home/me/paligemma2-10b-mix-448/", ("px 448 and not 28", "google/paligemma2-10b-mix-448")),
    ],
)
def test_an_adapter_of_another_checkpoint(
    base: Path, family: Family, tmp_path: Path, trained: str, said: tuple[str, ...]
) -> None:
    folder = adapter(tmp_path / "other", base_model_name_or_path=trained)
    error = str(refused(base, adapter=str(folder)))
    assert all(part in error for part in said)
    assert ("family" in error) == (not trained.rstrip("/").rsplit("/", 1)[-1].startswith(f"{family}-"))


def test_size_and_kind_are_told_by_names_alone(tmp_path: Path) -> None:
    found = adapters.Adapter("a", "f", tmp_path, {"base_model_name_or_path": "google/paligemma2-3b-pt-448"})
    adapters.require_fit(found, "gv-hf/paligemma2-3b-pt-448", "paligemma2", 448)
    adapters.require_fit(found, "a-folder", "paligemma2", 448)
    for base in ("google/paligemma2-10b-pt-448", "google/paligemma2-3b-mix-448"):
        with pytest.raises(CheckpointError, match="expected --model google/paligemma2-3b-pt-448"):
            adapters.require_fit(found, base, "paligemma2", 448)


@pytest.mark.parametrize("shape", ["[]", "[[4], 4]", "4", "[" * 100_000])
def test_a_header_of_something_else(single: Path, one: Path, tmp_path: Path, shape: str) -> None:
    folder = Path(shutil.copytree(one, tmp_path / "bad"))
    text = f'{{"a.lora_A.weight": {{"shape": {shape}}}}}'.encode()
    (folder / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    said = str(refused(single, adapter=str(folder)))
    assert "no matrix of a LoRA adapter" in said or "is no safetensors file" in said


def test_an_adapter_is_named_as_its_folder_whichever_way_it_is_reached(
    single: Path, one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one / "within").mkdir()
    monkeypatch.chdir(one / "within")
    assert known(single, adapter="..") == known(single, adapter=str(one))


def test_pickled_weights_are_refused(single: Path, one: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(one, tmp_path / "pickled"))
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "found adapter_model.bin; pgbench loads safetensors only" in str(
        refused(single, adapter=str(folder))
    )


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"adapter": ""}, UsageError, "--adapter is empty"),
        ({"adapter": "./nowhere"}, CheckpointError, "no folder ./nowhere"),
        ({"adapter": "~nobody_of_this_name/a"}, CheckpointError, "no folder ~nobody_of_this_name/a"),
        ({"adapter_mode": "attach"}, UsageError, "--adapter-mode goes with --adapter"),
        ({"adapter_order": "after"}, UsageError, "--adapter-order goes with --adapter"),
    ],
)
def test_words_that_lead_nowhere(single: Path, given: Any, kind: type[PgbenchError], said: str) -> None:
    error = refused(single, **given)
    assert isinstance(error, kind)
    assert said in str(error)


def test_orders_that_cannot_be(single: Path, one: Path) -> None:
    error = refused(single, quant="8bit", adapter=str(one), adapter_mode="attach", adapter_order="before")
    assert "would quantize the adapter itself" in str(error)
    with pytest.raises(UsageError, match="peft cannot merge into the layers of --quant quanto-int8"):
        adapters.settings(ModelRequest(quant="quanto-int8", adapter="x", adapter_order="after"))


def test_an_output_layer_is_not_merged(single: Path, tmp_path: Path) -> None:
    """It is the embedding."""
    import torch

    def head(found: dict[str, Any]) -> None:
        found.clear()
        found[f"{HEAD}lm_head.lora_A.weight"] = torch.ones(RANK, tiny.HIDDEN)
        found[f"{HEAD}lm_head.lora_B.weight"] = torch.ones(tiny.VOCABULARY, RANK)

    folder = adapter(tmp_path / "head", head, target_modules=["lm_head"])
    assert "tied to another layer; use --adapter-mode attach" in str(
        refused(single, True, adapter=str(folder))
    )
    assert tiny.kept(single, adapter=str(folder), adapter_mode="attach").describe().adapter.tensors == 2


def test_without_peft(single: Path, one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'pgbench[lora]'" in str(refused(single, adapter=str(one)))


def test_a_tensor_that_was_lost_on_the_way_is_seen(
    single: Path, one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever peft says of it."""
    import peft

    published = peft.set_peft_model_state_dict

    def lossy(model: Any, found: dict[str, Any], name: str) -> Any:
        key = next(iter(found))
        return published(model, found | {key: found[key] * 0}, name)

    monkeypatch.setattr(peft, "set_peft_model_state_dict", lossy)
    assert "is not in the model as its file has it" in str(refused(single, True, adapter=str(one)))


def test_a_merge_that_did_nothing_is_seen(single: Path, one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As peft's into layers that it takes for others."""
    from pgbench.backends.paligemma import lora

    monkeypatch.setattr(lora, "_add", lambda layer: False)
    assert "changed no weight" in str(refused(single, True, adapter=str(one)))

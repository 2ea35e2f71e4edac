"""Kind, task, resolution and revision of a checkpoint, and weights that are larger than one device."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from hub_server import HubServer

from pgbench.backends.paligemma import engine, kinds, placement
from pgbench.errors import CheckpointError, PgbenchError, UsageError
from pgbench.profiles import RELEASED
from pgbench.types import DataRequest, Family, ModelRequest, Profile, Reply

REPO = "org/tiny-paligemma-3b-mix-224"


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def base(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / f"{family}-mix-28", family)


def known(model: Path | str, **more: Any) -> Any:
    return engine(ModelRequest(model=str(model), **more)).checkpoint


def refused(model: Path | str, **more: Any) -> str:
    with pytest.raises(PgbenchError) as caught:
        known(model, **more)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.exit_code == 2
    return str(caught.value)


def profile(name: str, **more: Any) -> Profile:
    return kinds.profile(ModelRequest(**more), name, "paligemma")


# Kind and task


def test_flags_say_what_a_name_does_not(base: Path, family: Family) -> None:
    assert known(base).profile == Profile("mix", family)
    assert known(base, kind="pt").profile == Profile("pt", family)
    assert known(base, kind="ft").profile == Profile("ft", family, None)
    assert known(base, kind="ft", tuned_on="vqav2").profile == Profile("ft", family, "vqav2")


def test_a_task_alone_suffices_where_the_name_says_ft_or_nothing() -> None:
    assert profile("somebody/model", tuned_on="gqa") == Profile("ft", "paligemma", "gqa")
    assert profile("somebody/paligemma-3b-ft-x-224", tuned_on="gqa").tuned_on == "gqa"
    assert profile("google/paligemma-3b-ft-gqa-224", kind="ft").tuned_on == "gqa"


def test_a_task_of_the_name_goes_with_its_kind() -> None:
    assert profile("somebody/paligemma-3b-ft-gqa-224", kind="mix") == Profile("mix", "paligemma", None)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("google/paligemma-3b-pt-224", {"kind": "mix"}, "was published as kind pt; leave --kind out"),
        ("google/paligemma-3b-mix-224", {"kind": "ft"}, "was published as kind mix"),
        ("a/b-mix", {"tuned_on": "gqa"}, "--tuned-on gqa: a/b-mix is of kind mix; add --kind ft"),
        ("a/b", {"kind": "pt", "tuned_on": "gqa"}, "is of kind pt; add --kind ft"),
        ("google/paligemma-3b-ft-gqa-224", {"tuned_on": "vqav2"}, "was published as tuned on gqa"),
    ],
)
def test_kinds_that_contradict(name: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        profile(name, **given)
    assert "\n" not in str(caught.value)


def test_a_wrong_kind_is_refused_before_the_weights(base: Path) -> None:
    assert "add --kind ft" in refused(base, tuned_on="vqav2")


# Resolution


def test_the_resolution_is_the_config_s(base: Path) -> None:
    assert known(base).resolution == known(base, resolution=28).resolution == 28


def test_a_resolution_that_it_lacks_is_refused(base: Path) -> None:
    said = refused(base, resolution=448)
    assert f"--resolution 448: {base.name} has 28 px and no other; expected --resolution 28" in said


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("google/paligemma-3b-mix-224", 448, "expected --resolution 224 or google/paligemma-3b-mix-448"),
        ("google/paligemma-3b-mix-224", 896, "the series also has google/paligemma-3b-mix-448"),
        ("google/paligemma2-10b-pt-224", 896, "or google/paligemma2-10b-pt-896; the series also has google/"),
        ("somebody/paligemma-3b-mix-224", 448, "has 224 px and no other; expected --resolution 224"),
    ],
)
def test_the_choices_are_those_of_the_series(name: str, asked: int, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        kinds.require_resolution(asked, 224, name)
    assert said in str(caught.value)


def test_every_published_resolution_is_in_its_series() -> None:
    assert all(name in kinds.series(name) for name in RELEASED if name.startswith("google/"))
    assert {len(kinds.series(name)) for name in RELEASED if "-pt-" in name} == {3}


# Revisions


@pytest.fixture
def hub(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    from safetensors.torch import load_file, save_file

    home = tmp_path / "hub" / "models" / REPO
    for branch in ("main", "bfloat16", "float16"):
        shutil.copytree(base, home / branch)
        if branch != "main":
            import torch

            file = home / branch / "model.safetensors"
            cast = {name: one.to(getattr(torch, branch)) for name, one in load_file(file).items()}
            save_file(cast, file, metadata={"format": "pt"})
    with HubServer(tmp_path / "hub") as server:
        server.use(monkeypatch, tmp_path / "cache")
        yield server


def test_a_revision_is_its_own_weights(hub: HubServer) -> None:
    """main is float32, as in the published repositories; a cell's dtype is its own, whatever is stored."""
    import torch

    found = {at: tiny.load(Path(f"{REPO}{at}"), "bfloat16") for at in ("", "@bfloat16", "@float16")}
    weights = {at: one._loaded.model.lm_head.weight for at, one in found.items()}
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert torch.equal(weights[""], weights["@bfloat16"])  # rounded by whom does not matter
    assert not torch.equal(weights[""], weights["@float16"])  # rounded twice
    points = {at: known(f"{REPO}{at}") for at in found}
    assert len({point.revision for point in points.values()}) == 3
    for at, point in points.items():
        assert point.revision == hub.commit("models", REPO, at.removeprefix("@") or "main")
        assert (point.id, point.profile.kind) == (REPO, "mix")


# Larger than one device


@pytest.fixture(scope="module")
def plain(base: Path) -> Any:
    return tiny.load(base)


def spread(base: Path, budget: str, dtype: Any = "float32", **more: Any) -> Any:
    request = ModelRequest(
        model=str(base), dtype=dtype, device="auto-map", max_memory=budget, threads=1, **more
    )
    return engine(request).load()


def answers(backend: Any) -> list[Reply]:
    return list(backend.generate([backend.prepare(tiny.question(seed)) for seed in range(6)]))


@pytest.mark.parametrize("budget", ["cpu=700KB", "cpu=1KB"])
def test_what_has_no_room_stays_in_its_files(
    base: Path, plain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    """A part of the model, and all of it: the same answers, the same bytes, and nothing is written."""
    for name in ("TMPDIR", "HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = sorted(base.iterdir())
    backend = spread(base, budget)
    assert answers(backend) == answers(plain)
    stack = backend.describe()
    assert "disk" in stack.placement.values()
    assert set(stack.placement) == ({""} if budget == "cpu=1KB" else set(stack.placement) - {""})
    assert stack.weight_bytes == plain.describe().weight_bytes
    assert stack.quantization == plain.describe().quantization
    assert (list(tmp_path.iterdir()), sorted(base.iterdir())) == ([], before)
    backend.close()


def test_where_there_is_room_it_lies_together(base: Path, plain: Any) -> None:
    backend = spread(base, "cpu=1GB", "bfloat16", quant="8bit")
    assert backend.describe().placement == {"": "cpu"}
    assert not plain.describe().placement
    assert backend.peak_memory().bytes > 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"quant": "8bit"}, "as --quant 8bit does not lie on devices as a whole"),
        ({"quant": "4bit"}, "raise --max-memory, or use --quant none"),
    ],
)
def test_what_cannot_wait_elsewhere_is_refused(base: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        spread(base, "cpu=300KB", "bfloat16", **given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("budget", ["20GiB", "0=20", "cpu=", "gpu=1GB", "cpu=1GB,"])
def test_a_budget_that_is_none(base: Path, budget: str) -> None:
    assert "expected a device and its limit, as 0=20GiB,cpu=60GiB" in refused(
        base, device="auto-map", max_memory=budget
    )


def test_a_budget_goes_with_a_map(base: Path) -> None:
    assert "--max-memory goes with --device auto-map" in refused(base, max_memory="cpu=1GB")
    found = placement.max_memory(ModelRequest(device="auto-map", max_memory="0=20GiB, cpu = 1.5 TB"))
    assert found == {0: "20GiB", "cpu": "1.5TB"}


def test_gpus_and_what_waits_elsewhere() -> None:
    """On a CPU alone nothing but the files is elsewhere; beside a GPU its memory is too."""
    import torch

    mixed = {"tower": "cuda:0", "layers.0": "cuda:1", "layers.1": "cpu", "head": "disk"}
    assert placement.offloaded(mixed) == ["layers.1", "head"]
    assert placement.offloaded({"tower": "cpu", "head": "disk"}) == ["head"]
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [str(one) for one in placement.gpus(gpu, mixed)] == ["cuda:0", "cuda:1"]
    assert placement.gpus(gpu, {}) == (gpu,)
    assert placement.gpus(cpu, {"": "cpu"}) == placement.gpus(cpu, {}) == ()


def test_processes_that_see_one_device_refuse_a_map(tmp_path: Path) -> None:
    from pgbench.engines import local
    from pgbench.recipe.asked import AskedCell

    cell = AskedCell("textvqa", ModelRequest("tiny-gemma", device="auto-map"), DataRequest(""))
    with pytest.raises(UsageError, match="--engine local gives each process one device"):
        local.sweep([cell], tmp_path / "out")
    assert not (tmp_path / "out" / "textvqa").exists()

"""Which checkpoint --model means, what is refused and in which words, and what the hub is asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from hub_server import HubServer

from pgbench.backends.paligemma import engine
from pgbench.errors import CheckpointError, HubError, PgbenchError, UsageError
from pgbench.profiles import DEFAULT, SHIPPED
from pgbench.types import Checkpoint, ModelRequest

REPO = "org/tiny-paligemma-3b-mix-224"
Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model") / "paligemma2-mix-28", "paligemma2")


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return tiny.copied(original, tmp_path / "mine")


def known(folder: Path | str, **more: Any) -> Checkpoint:
    return engine(ModelRequest(model=str(folder), **more)).checkpoint


def refused(model: Path | str | None, **more: Any) -> PgbenchError:
    with pytest.raises(PgbenchError) as caught:
        engine(ModelRequest(model=None if model is None else str(model), **more))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert caught.value.exit_code == 2
    return caught.value


def edit_config(folder: Path, part: str | None = None, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    if part is not None:
        changes = {part: {**config[part], **changes}}
    tiny.edit_json(folder / "config.json", **changes)


# What a folder is


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_folder_is_a_checkpoint_named_after_it(family: Any, tmp_path: Path) -> None:
    found = known(tiny.checkpoint(tmp_path / f"tiny-{family}-mix-28", family))
    assert (found.id, found.resolution) == (f"tiny-{family}-mix-28", tiny.SIDE)
    assert (found.profile.family, found.profile.kind) == (family, "mix")
    assert not found.demo
    assert len(found.revision or "") == 64


def edited_in_place(folder: Path) -> None:
    """Other weights in the same file."""
    path = folder / "model.safetensors"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(1000))


def replaced(folder: Path) -> None:
    path = folder / "model.safetensors"
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes()[:-1000] + bytes(1000))
    other.replace(path)


def more(folder: Path) -> None:
    (folder / "added_tokens.json").write_text("{}")


@pytest.mark.parametrize("change", [edited_in_place, replaced, more])
def test_what_changes_between_opening_and_loading_is_refused(change: Spoil, copy: Path) -> None:
    """Its answers would go by the revision of other weights."""
    opened = engine(ModelRequest(model=str(copy), dtype="float32"))
    change(copy)
    with pytest.raises(CheckpointError, match="have changed since they were opened; run again"):
        opened.load()


def test_what_changes_while_its_revision_is_told_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pgbench.backends.paligemma import contents

    chunks = contents._chunks

    def slow(path: Path) -> Iterator[bytes]:
        yield from chunks(path)
        edited_in_place(copy)

    monkeypatch.setattr(contents, "_chunks", slow)
    assert "have changed since they were opened" in str(refused(copy))


def test_what_takes_the_place_of_loaded_files_does_no_harm(copy: Path) -> None:
    """A trainer deletes old checkpoints; what is loaded keeps the file that it was loaded from."""
    loaded = engine(ModelRequest(model=str(copy), dtype="float32")).load()
    batch = [loaded.prepare(tiny.question(0))]
    before = loaded.generate(batch)
    replaced(copy)  # the old file is what is loaded
    assert loaded.generate(batch) == before
    copy.rename(copy.with_name("elsewhere"))
    assert loaded.generate(batch) == before
    loaded.close()


def test_an_edit_under_a_loaded_model_is_refused(copy: Path) -> None:
    """In its own dtype a model on a CPU reads its file as long as it lives."""
    loaded = engine(ModelRequest(model=str(copy), dtype="bfloat16")).load()
    batch = [loaded.prepare(tiny.question(0))]
    loaded.generate(batch)
    edited_in_place(copy)
    with pytest.raises(CheckpointError, match="was edited while it was in use; run again"):
        loaded.generate(batch)
    loaded.close()


def test_equal_content_is_an_equal_revision(original: Path, copy: Path) -> None:
    before = known(original).revision
    assert known(copy).revision == before
    (copy / "README.md").write_text("not loaded")
    assert known(copy).revision == before


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors", "generation_config.json"])
def test_changed_content_is_another_revision(copy: Path, name: str) -> None:
    before = known(copy).revision
    data = (copy / name).read_bytes()
    (copy / name).unlink()
    (copy / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert known(copy).revision != before


@pytest.mark.parametrize("name", ["with spaces", "模型-ünï", "a@b", "org.name", "100%"])
def test_folder_names_may_be_strange(original: Path, tmp_path: Path, name: str) -> None:
    folder = tiny.copied(original, tmp_path / name)
    assert known(folder).id == known(f"{folder}/").id == known(f"{folder}/../{name}").id == name


def test_a_link_keeps_its_own_name(original: Path, tmp_path: Path) -> None:
    """It says what kind of checkpoint this is; a snapshot in the hub's cache is named by its commit."""
    link = tmp_path / "paligemma-3b-pt-224"
    link.symlink_to(original)
    assert (known(link).id, known(link).profile.kind) == ("paligemma-3b-pt-224", "pt")
    assert known(link).revision == known(original).revision


def test_a_relative_folder_wins_over_a_hub_id(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.copied(original, tmp_path / "org" / "model")
    monkeypatch.chdir(tmp_path)
    assert known("org/model").id == "model"
    monkeypatch.chdir(tmp_path / "org" / "model")
    assert known(".").id == "model"


@pytest.mark.parametrize("name", [None, *SHIPPED])
def test_shipped_checkpoints_are_marked_as_demo(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    tiny.copied(original, tmp_path / "demo" / "checkpoints" / (name or DEFAULT))
    monkeypatch.setattr("pgbench.backends.paligemma.checkpoint.files", lambda package: tmp_path)
    found = engine(ModelRequest(model=name)).checkpoint
    assert found.demo
    assert found.id == (name or DEFAULT)


# What is refused before any weight is read


@pytest.mark.parametrize(
    ("model", "kind", "said"),
    [
        ("tiny-gema", UsageError, "did you mean tiny-gemma"),
        ("paligemma-3b-mix-224", UsageError, "google/paligemma-3b-mix-224"),
        ("", UsageError, "--model is empty"),
        (" ", UsageError, "--model is empty"),
        ("x" * 5000, UsageError, "unknown checkpoint"),
        ("./nowhere", CheckpointError, "no folder ./nowhere"),
        ("/nowhere/at/all", CheckpointError, "no folder /nowhere/at/all"),
        ("~nobody-at-all/model", CheckpointError, "no folder ~nobody-at-all/model"),
        ("a/b/c", CheckpointError, "no folder a/b/c"),
    ],
)
def test_names_that_lead_nowhere(model: str, kind: type[PgbenchError], said: str) -> None:
    with pytest.raises(kind, match=said):
        engine(ModelRequest(model=model))


def config_as_folder(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


SPOILT: dict[str, tuple[Spoil, str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "no readable config.json"),
    "config cut": (lambda f: (f / "config.json").write_text('{"model_type":'), "config.json is not JSON"),
    "config binary": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json is not JSON"),
    "config deep": (lambda f: (f / "config.json").write_text("[" * 99_999), "config.json is not JSON"),
    "config list": (lambda f: (f / "config.json").write_text("[]"), "config.json is not an object"),
    "config folder": (config_as_folder, "no readable config.json: Is a directory"),
    "llama": (lambda f: edit_config(f, model_type="llama"), "is a 'llama' checkpoint"),
    "no type": (lambda f: edit_config(f, model_type=None), "is a None checkpoint"),
    "gemma 3 text": (lambda f: edit_config(f, "text_config", model_type="gemma3_text"), "'gemma3_text' text"),
    "list text": (lambda f: edit_config(f, "text_config", model_type=["gemma"]), "text gemma"),
    "text config": (lambda f: edit_config(f, text_config="gemma"), "a str as text_config"),
    "vision config": (lambda f: edit_config(f, vision_config=[1]), "a list as vision_config"),
    "quantized": (lambda f: edit_config(f, quantization_config={"bits": 4}), "already quantized"),
    "size 0": (lambda f: edit_config(f, "vision_config", image_size=0), "image_size 0"),
    "size huge": (lambda f: edit_config(f, "vision_config", image_size=10**9), "image_size 1000000000"),
    "size text": (lambda f: edit_config(f, "vision_config", image_size="224"), "image_size '224'"),
    "size true": (lambda f: edit_config(f, "vision_config", image_size=True), "image_size True"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "found no weights"),
    "pickle": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "found pytorch_model.bin; pgbench loads safetensors only",
    ),
    "adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "holds an adapter; merge it"),
    "dead link": (lambda f: (f / "added.json").symlink_to(f / "gone"), "cannot read added.json"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_is_no_paligemma_is_refused_at_once(copy: Path, what: str) -> None:
    spoil, said = SPOILT[what]
    spoil(copy)
    error = refused(copy)
    assert isinstance(error, CheckpointError)
    assert said in str(error)


@pytest.mark.parametrize("model", [None, "tiny-gemma"])
def test_a_revision_goes_with_a_hub_id(original: Path, model: str | None) -> None:
    assert "--revision goes with a hub id" in str(refused(model, revision="main"))
    assert "--revision goes with a hub id" in str(refused(original, revision="main"))


# The hub


@pytest.fixture
def hub(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    root = tmp_path / "hub"
    shutil.copytree(original, root / "models" / REPO / "main")
    main = root / "models" / REPO / "main"
    for name in ("pytorch_model.bin", "model.py", "README.md", "weights.pt"):
        (main / name).write_text("must not be fetched")
    with HubServer(root) as server:
        server.use(monkeypatch, tmp_path / "cache")
        yield server


def fetched(hub: HubServer) -> set[str]:
    return {path.rsplit("/", 1)[-1] for _, path, _ in hub.requests if "/resolve/" in path}


def test_a_hub_id_is_fetched_and_its_commit_recorded(hub: HubServer) -> None:
    found = engine(ModelRequest(model=REPO, dtype="float32", device="cpu"))
    assert found.checkpoint.id == REPO
    assert found.checkpoint.revision == hub.commit("models", REPO)
    assert (found.checkpoint.profile.kind, found.checkpoint.demo) == ("mix", False)
    loaded = found.load()
    question = tiny.question(1)
    assert len(loaded.generate([loaded.prepare(question)])[0].token_ids) == question.max_new_tokens


def test_only_what_is_loaded_is_fetched(hub: HubServer) -> None:
    known(REPO)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= fetched(hub)
    assert not fetched(hub) & {"pytorch_model.bin", "model.py", "README.md", "weights.pt"}


@pytest.mark.parametrize("form", ["at", "flag", "both"])
def test_revisions(hub: HubServer, form: str) -> None:
    base = hub.root / "models" / REPO
    shutil.copytree(base / "main", base / "float16")
    edit_config(base / "float16", "vision_config", image_size=56)
    commit = hub.commit("models", REPO, "float16")
    model = REPO if form == "flag" else f"{REPO}@float16"
    found = known(model, revision=None if form == "at" else "float16")
    assert (found.id, found.revision, found.resolution) == (REPO, commit, 56)
    assert known(f"{REPO}@{commit}").revision == commit != known(REPO).revision


def test_two_revisions_at_once_are_refused(hub: HubServer) -> None:
    assert "name two revisions" in str(refused(f"{REPO}@main", revision="float16"))
    assert hub.requests == []


@pytest.mark.parametrize(
    ("mode", "token", "said"),
    [
        ("gated", None, ("gated", "401", "accept its licence", "hf auth login")),
        ("gated", "stranger", ("gated", "403", "accept its licence")),
        ("private", None, ("401", "check the id")),
        ("forbidden", None, ("403",)),
        ("down", None, ("503",)),
    ],
)
def test_a_hub_that_refuses(
    hub: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    mode: Any,
    token: str | None,
    said: tuple[str],
) -> None:
    hub.modes[REPO] = mode
    hub.use(monkeypatch, tmp_path / "cache", token=token)
    error = refused(REPO)
    assert isinstance(error, HubError)
    assert ("did you mean" in str(error)) == (mode == "private")
    assert all(part in str(error) for part in (REPO, *said))
    assert "stranger" not in str(error)


def test_what_the_hub_does_not_have(hub: HubServer) -> None:
    missing = str(refused(f"{REPO}@nightly"))
    assert missing.startswith(f"model {REPO} has no revision 'nightly' (404)")
    assert "did you mean" not in missing
    assert "check the id" in str(refused("org/nothing"))
    assert "did you mean google/paligemma-3b-mix-224" in str(refused("google/paligemma-3b-mx-224"))


def test_without_a_network_the_cache_answers(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.use(monkeypatch, tmp_path / "cache", offline=True)
    assert "HF_HUB_OFFLINE" in str(refused(REPO))
    hub.use(monkeypatch, tmp_path / "cache")
    online = known(REPO)
    hub.use(monkeypatch, tmp_path / "cache", offline=True)
    assert known(REPO) == online
    assert "not in the cache" in str(refused(f"{REPO}@float16"))
    hub.stop()
    hub.use(monkeypatch, tmp_path / "cache")
    assert known(REPO) == online
    assert "out of reach" in str(refused("org/other"))


@pytest.mark.parametrize("spoil", ["llama", "no config", "quantized"])
def test_a_repository_that_is_no_paligemma_costs_no_weights(hub: HubServer, spoil: str) -> None:
    SPOILT[spoil][0](hub.root / "models" / REPO / "main")
    assert SPOILT[spoil][1] in str(refused(REPO))
    assert fetched(hub) <= {"config.json"}


def test_a_repository_of_pickles_is_refused(hub: HubServer) -> None:
    (hub.root / "models" / REPO / "main" / "model.safetensors").unlink()
    assert "pgbench loads safetensors only" in str(refused(REPO))
    assert "pytorch_model.bin" not in fetched(hub)


@pytest.mark.parametrize(
    ("weight_map", "said"),
    [
        ({"a": "sub/model.safetensors"}, "names sub/model.safetensors, outside its folder"),
        ({"a": "../other.safetensors"}, "outside its folder"),
        ({"a": 1}, "outside its folder"),
        (None, "is no index of weights"),
    ],
)
def test_weights_that_the_hash_would_not_cover_are_refused(copy: Path, weight_map: object, said: str) -> None:
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError, match=said):
        known(copy)

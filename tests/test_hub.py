"""The hub over a real HTTP server: what is fetched, and what every refusal says."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer, Mode

from pgbench.errors import HubError
from pgbench.sources.hub import fetch

MODEL = "google/tiny"
WEIGHTS = ("*.json", "*.safetensors")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, content in {
        "main/config.json": "{}",
        "main/model.safetensors": "weights",
        "main/sub/tokenizer.json": "{}",
        "main/pytorch_model.bin": "pickle",
        "main/evil.py": "raise SystemExit",
        "main/README.md": "text",
        "v1/config.json": '{"version": 1}',
    }.items():
        path = tmp_path / "hub" / "models" / MODEL / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "hub"


@pytest.fixture
def hub(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(root) as server:
        server.use(monkeypatch, tmp_path / "cache")
        yield server


def get(revision: str | None = None, repo: str = MODEL) -> tuple[Path, str]:
    return fetch(repo, revision, repo_type="model", patterns=WEIGHTS)


def refusal(revision: str | None = None, repo: str = MODEL) -> str:
    """The message of the HubError, which must be one line without a secret."""
    with pytest.raises(HubError) as caught:
        get(revision, repo)
    message = str(caught.value)
    assert "\n" not in message
    assert "hf_secret" not in message
    return message


def test_fetch_brings_what_matches_and_names_the_commit(hub: HubServer) -> None:
    folder, commit = get()
    assert commit == hub.commit("models", MODEL)
    here = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert here == ["config.json", "model.safetensors", "sub/tokenizer.json"]


def test_pickles_and_code_are_refused_even_where_asked_for(hub: HubServer) -> None:
    folder, _ = fetch(MODEL, None, repo_type="model", patterns=["*"])
    here = {path.name for path in folder.rglob("*") if path.is_file()}
    assert here == {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    assert not any(path.endswith((".py", ".bin")) for _, path, _ in hub.requests)


def test_revisions_are_branches_or_commits(hub: HubServer) -> None:
    folder, commit = get("v1")
    assert json.loads((folder / "config.json").read_text()) == {"version": 1}
    assert commit == hub.commit("models", MODEL, "v1") != hub.commit("models", MODEL)
    assert get(commit) == (folder, commit)


@pytest.mark.parametrize(
    ("mode", "token", "said"),
    [
        (
            "gated",
            None,
            r"gated and no login .*\(401\): accept its licence at \S+/google/tiny.*hf auth login.*HF_TOKEN",
        ),
        ("gated", "hf_secret", r"gated and this account is not on its list \(403\): accept its licence"),
        ("private", None, r"no model google/tiny .*private \(401\): check the id"),
        ("private", "hf_secret", r"no model google/tiny .*private \(404\): check the id"),
        ("forbidden", "hf_secret", r"refused to this login \(403\)"),
        ("down", None, r"answered 503"),
    ],
)
def test_refusals_say_what_to_do(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: Mode, token: str | None, said: str
) -> None:
    hub.modes[MODEL] = mode
    hub.use(monkeypatch, tmp_path / "cache", token=token)
    assert re.search(said, refusal())


def test_a_right_token_opens_a_gated_repository_and_stays_secret(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.modes[MODEL] = "gated"
    hub.tokens.add("hf_secret")
    hub.use(monkeypatch, tmp_path / "cache", token="hf_secret")
    folder, _ = get()
    assert {token for *_, token in hub.requests} == {"hf_secret"}
    said = "".join(capfd.readouterr())
    stored = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert folder.is_dir()
    assert "hf_secret" not in said
    assert b"hf_secret" not in stored


def test_what_is_not_there(hub: HubServer) -> None:
    assert "no revision 'v9' (404)" in refusal("v9")
    assert "check the id" in refusal(repo="google/none")
    assert "neither a local folder nor a hub id" in refusal(repo="not a//repository")


def test_progress_goes_to_stderr(hub: HubServer, capfd: pytest.CaptureFixture[str]) -> None:
    get()
    assert capfd.readouterr().out == ""


def test_the_cache_serves_when_the_network_is_gone(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = get()
    hub.modes[MODEL] = "down"
    assert get() == first
    hub.stop()
    assert get() == first
    hub.use(monkeypatch, tmp_path / "cache", offline=True)
    assert get() == first
    assert "model google/tiny at v1 is not in the cache and HF_HUB_OFFLINE is set" in refusal("v1")
    hub.use(monkeypatch, tmp_path / "empty")
    assert "is out of reach: connect once" in refusal()


def test_half_a_snapshot_is_no_snapshot(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fetch(MODEL, None, repo_type="model", patterns=["config.json"])
    hub.use(monkeypatch, tmp_path / "cache", offline=True)
    assert "only in part in the cache" in refusal()


def test_a_full_disk_is_said(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/home/somebody/.cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    message = refusal()
    assert "No space left on device; set HF_HOME" in message
    assert "somebody" not in message


def test_a_connection_that_breaks(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from pgbench.sources.hub import connection_error

    def broken(*args: object, **kwargs: object) -> None:
        raise connection_error()("peer closed the connection")

    monkeypatch.setattr("huggingface_hub.snapshot_download", broken)
    assert "the connection to http://127.0.0.1" in refusal()


def test_another_process_finds_the_hub_by_its_environment(hub: HubServer, tmp_path: Path) -> None:
    code = f"""
from pgbench.sources.hub import fetch
print(fetch({MODEL!r}, None, repo_type="model", patterns=["*.json"])[1])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=hub.environment(tmp_path / "other"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == hub.commit("models", MODEL)


def test_an_import_loads_nothing_heavy() -> None:
    code = """
import sys, pgbench.sources.hub, pgbench.sources.files, pgbench.sources.images, pgbench.sources.parquet
print({"huggingface_hub", "datasets", "pyarrow", "pandas", "numpy", "PIL"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"

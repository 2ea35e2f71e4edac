"""A small Hugging Face hub on 127.0.0.1 for tests: `snapshot_download` talks to it for real.

    root/models/google/tiny/main/config.json          a model repository with one branch
    root/datasets/lmms-lab/textvqa/main/data/...      a dataset repository
    root/datasets/lmms-lab/textvqa/v1.0/...           another revision of it

    with HubServer(root) as hub:
        hub.use(monkeypatch, tmp_path / "cache")      # this process
        subprocess.run(..., env=hub.environment(tmp_path / "cache"))     # or another one

Each folder below a repository is a revision; its commit (`hub.commit("models", id, "main")`) is a sha1 of its
content, so a changed file is a new commit. Commits can be asked for like branches.

`hub.modes[id] = mode` makes a repository refuse, as the real hub answers it:

    gated       listing is public, files answer 401 GatedRepo, or 403 with a token not in `hub.tokens`
    private     everything answers 401 RepoNotFound without a token in `hub.tokens`
    forbidden   everything answers 403
    down        everything answers 503

A repository that is not there answers 401 RepoNotFound without any token and 404 with one; a missing revision
404 RevisionNotFound; a missing file 404 EntryNotFound. `hub.requests` keeps (method, path, token or None).
The server stops when the context ends; a request that hangs ends after 10 s.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Literal
from urllib.parse import unquote, urlsplit

import pytest

LARGE = (".safetensors", ".parquet", ".bin")
Mode = Literal["gated", "private", "forbidden", "down"]


@dataclass(frozen=True)
class RefusedError(Exception):
    status: int
    code: str = ""  # X-Error-Code
    message: str = ""  # X-Error-Message


class HubServer:
    """See the module. `url` is the HF_ENDPOINT."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modes: dict[str, Mode] = {}
        self.tokens: set[str] = set()
        self.requests: list[tuple[str, str, str | None]] = []
        self.held: dict[str, threading.Event] = {}  # a file's name -> it is not sent before
        self.free = threading.Event()
        self.free.set()
        hub = self

        class Handler(HubHandler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """The network goes away; also at the end of the context. A second call does nothing."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(timeout=10)

    def environment(self, cache: Path, **more: str) -> dict[str, str]:
        """Environment variables with which another process uses this hub, an own cache and no token."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
        return {**kept, "HF_ENDPOINT": self.url, "HF_HOME": str(cache), "OMP_NUM_THREADS": "1", **more}

    def use(
        self,
        monkeypatch: pytest.MonkeyPatch,
        cache: Path,
        *,
        offline: bool = False,
        token: str | None = None,
    ) -> None:
        """Point the huggingface_hub of this process here; it reads the environment only when imported."""
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        template = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        if token is not None:
            monkeypatch.setenv("HF_TOKEN", token)

    def commit(self, kind: str, repo: str, revision: str = "main") -> str:
        """40 hex digits over the names and contents of a revision."""
        whole = hashlib.sha1()
        for path in files(self.root / kind / repo / revision):
            whole.update(path.encode() + b"\0")
            whole.update((self.root / kind / repo / revision / path).read_bytes())
        return whole.hexdigest()

    def revision(self, kind: str, repo: str, asked: str) -> tuple[Path, str]:
        """The folder and commit of a branch or commit. Raises RefusedError."""
        base = self.root / kind / repo
        for folder in sorted(base.iterdir()):
            commit = self.commit(kind, repo, folder.name)
            if asked in (folder.name, commit):
                return folder, commit
        raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {asked}")

    def admit(self, kind: str, repo: str, token: str | None, *, file: bool) -> None:
        """Raises RefusedError as the real hub would."""
        mode = self.modes.get(repo)
        if mode == "down":
            raise RefusedError(503, "", "Service Unavailable")
        if mode == "forbidden":
            raise RefusedError(403, "", "Forbidden: pass a token with the right scope")
        if not (self.root / kind / repo).is_dir():
            raise RefusedError(404 if token else 401, "RepoNotFound", "Repository not found")
        if mode == "private" and token not in self.tokens:
            raise RefusedError(404 if token else 401, "RepoNotFound", "Repository not found")
        if mode == "gated" and file and token not in self.tokens:
            raise RefusedError(403 if token else 401, "GatedRepo", f"Access to {repo} is restricted")


class HubHandler(BaseHTTPRequestHandler):
    server_hub: HubServer
    protocol_version = "HTTP/1.0"  # no kept-alive connection outlives the server
    timeout = 10  # seconds of silence on a connection

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Tests read stderr."""

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.server_hub.requests.append((self.command, path, token))
        try:
            headers, body = self.route(path.strip("/"), token)
        except RefusedError as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            self.reply(refusal.status, headers, json.dumps({"error": refusal.message}).encode())
        else:
            self.reply(200, headers, body)

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def route(self, path: str, token: str | None) -> tuple[dict[str, str], bytes]:
        match path.split("/"):
            case ["api", "models" | "datasets" as kind, owner, name, *rest]:
                return self.api(kind, f"{owner}/{name}", rest, token)
            case ["datasets", owner, name, "resolve", *rest]:
                return self.resolve("datasets", f"{owner}/{name}", rest, token)
            case [owner, name, "resolve", *rest]:
                return self.resolve("models", f"{owner}/{name}", rest, token)
        raise RefusedError(404, "", f"no route for {path}")

    def api(self, kind: str, repo: str, rest: list[str], token: str | None) -> tuple[dict[str, str], bytes]:
        hub = self.server_hub
        hub.admit(kind, repo, token, file=False)
        verb = rest[0] if rest else "revision"
        folder, commit = hub.revision(kind, repo, "/".join(rest[1:]) or "main")
        if verb == "tree":
            tree = [
                {"type": "file", "path": name, **stored(folder / name)} | {"oid": sha1(folder / name)}
                for name in files(folder)
            ]
            return {"Content-Type": "application/json"}, json.dumps(tree).encode()
        info = {
            "id": repo,
            "sha": commit,
            "private": False,
            "siblings": [{"rfilename": name, **stored(folder / name)} for name in files(folder)],
        }
        return {"Content-Type": "application/json"}, json.dumps(info).encode()

    def resolve(
        self, kind: str, repo: str, rest: list[str], token: str | None
    ) -> tuple[dict[str, str], bytes]:
        hub = self.server_hub
        hub.admit(kind, repo, token, file=True)
        folder, commit = hub.revision(kind, repo, rest[0])
        name = "/".join(rest[1:])
        if name not in files(folder):
            raise RefusedError(404, "EntryNotFound", "Entry not found")
        hub.held.get(name, hub.free).wait(10)
        return {"ETag": f'"{sha1(folder / name)}"', "X-Repo-Commit": commit}, (folder / name).read_bytes()


def stored(path: Path) -> dict[str, object]:
    """Size and checksum as the hub lists them: sha256 in large file storage, else git's own sha1."""
    content = path.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    sha256 = hashlib.sha256(content).hexdigest()  # named differently by the two endpoints
    large = {"lfs": {"sha256": sha256, "oid": sha256, "size": len(content), "pointerSize": 134}}
    return {"size": len(content), "blobId": git} | (large if path.suffix in LARGE else {})


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def sha1(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()

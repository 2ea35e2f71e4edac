"""The Hugging Face hub: snapshots of model and dataset repositories.

Nothing that a repository ships is executed or unpickled: no dataset script, no remote code, no *.bin.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast

from pgbench.errors import HubError

RepoType: TypeAlias = Literal["model", "dataset"]

# Pickles and code, refused even where a caller's pattern lets them in.
NEVER = ("*.bin", "*.ckpt", "*.pickle", "*.pkl", "*.pt", "*.pth", "*.py")
LOGIN = "log in with `hf auth login` (or set HF_TOKEN)"
LOCAL = "or name a local folder instead"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks `fetch` for."""

    repo_id: str
    revision: str | None  # branch, tag or commit; None: the default branch
    repo_type: RepoType
    patterns: tuple[str, ...]
    peek: bool = False  # a small file that decides whether the rest is wanted at all


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository as the hub lists it."""

    path: str
    size: int  # bytes
    sha256: str | None  # of files in large file storage
    git: str | None  # git's own sha1 of the others


# Asked before every fetch: the commit to read from the cache alone. May raise to stop the fetch.
Guide: TypeAlias = Callable[[Wanted], str]
_GUIDE: ContextVar[Guide | None] = ContextVar("guide", default=None)


@contextlib.contextmanager
def guided(guide: Guide) -> Iterator[None]:
    """In this block `fetch` downloads nothing: what a source reads is known to `guide`, or refused by it."""
    token = _GUIDE.set(guide)
    try:
        yield
    finally:
        _GUIDE.reset(token)


def fetch(
    repo_id: str, revision: str | None, *, repo_type: RepoType, patterns: Sequence[str], peek: bool = False
) -> tuple[Path, str]:
    """The folder and commit of a repository's files that match `patterns`, downloaded or from the cache.

    HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE are honoured; where the hub is out of reach, what is
    cached is used. `revision` is a branch, tag or commit; None is the default branch. `peek` marks a small
    file that decides whether the rest is wanted.

    Raises HubError, one line with what to do: gated or private (401, 403), no such repository or revision
    (404), no network or offline mode with nothing cached, a cache that cannot be written.
    """
    if (guide := _GUIDE.get()) is not None:
        revision = guide(Wanted(repo_id, revision, repo_type, tuple(patterns), peek))
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = snapshot_download(
            repo_id,
            revision=revision,
            repo_type=repo_type,
            allow_patterns=list(patterns),
            ignore_patterns=list(NEVER),
            local_files_only=guide is not None,
        )
    except HFValidationError as exc:
        raise HubError(no_id(repo_id)) from exc
    except (OSError, connection_error()) as exc:
        raise HubError(advice(exc, repo_id, revision, repo_type)) from exc
    return Path(folder), Path(folder).name


def look_up(wanted: Wanted) -> tuple[str, list[RemoteFile]]:
    """The commit, and the files that `fetch` would bring of it, as the hub lists them; downloads nothing.

    Raises HubError as `fetch` does; the cache cannot stand in for the hub here.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

    if constants.HF_HUB_OFFLINE:
        raise HubError(
            "HF_HUB_OFFLINE is set, and sizes are known to the hub alone: unset it where you fetch"
        )
    try:
        info = HfApi().repo_info(
            wanted.repo_id,
            revision=wanted.revision,
            repo_type=wanted.repo_type,
            files_metadata=True,
            timeout=30,
        )
    except HFValidationError as exc:
        raise HubError(no_id(wanted.repo_id)) from exc
    except (OSError, connection_error()) as exc:
        raise HubError(advice(exc, wanted.repo_id, wanted.revision, wanted.repo_type)) from exc
    there = [
        RemoteFile(one.rfilename, one.size or 0, one.lfs.sha256 if one.lfs else None, one.blob_id)
        for one in getattr(info, "siblings", None) or ()
    ]
    names = set(
        filter_repo_objects(
            [one.path for one in there], allow_patterns=list(wanted.patterns), ignore_patterns=list(NEVER)
        )
    )
    return str(info.sha), [one for one in there if one.path in names]


def fetch_again(wanted: Wanted, commit: str, path: str) -> None:
    """One file afresh, in the place of a damaged one. Raises HubError."""
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(
            wanted.repo_id, path, revision=commit, repo_type=wanted.repo_type, force_download=True
        )
    except (OSError, connection_error()) as exc:
        raise HubError(advice(exc, wanted.repo_id, commit, wanted.repo_type)) from exc


def cached(wanted: Wanted, commit: str, path: str) -> Path | None:
    """A file of a commit in the cache, if it is there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(wanted.repo_id, path, revision=commit, repo_type=wanted.repo_type)
    return Path(found) if isinstance(found, str) and Path(found).is_file() else None


def no_id(repo_id: str) -> str:
    return f"{repo_id!r} is neither a local folder nor a hub id like owner/name"


def advice(exc: BaseException, repo_id: str, revision: str | None, repo_type: RepoType) -> str:
    """One line: what the hub said and what to do about it. Never the token, never a local path."""
    from huggingface_hub import constants, errors

    page = f"{endpoint()}/{'datasets/' if repo_type == 'dataset' else ''}{repo_id}"
    cause = next((one for one in chain(exc) if isinstance(one, errors.HfHubHTTPError)), None)
    if cause is not None:
        return refused(cause, f"{repo_type} {repo_id}", revision, page)
    where = f"{repo_type} {repo_id}" + (f" at {revision}" if revision else "")
    if isinstance(exc, errors.LocalEntryNotFoundError):
        incomplete = getattr(errors, "IncompleteSnapshotError", ())  # newer than huggingface_hub 1.0
        part = "only in part" if isinstance(exc, incomplete) else "not"
        if constants.HF_HUB_OFFLINE:
            return f"{where} is {part} in the cache and HF_HUB_OFFLINE is set: unset it once, {LOCAL}"
        return (
            f"{where} is {part} in the cache and {endpoint()} is out of reach: connect once "
            f"(pgbench fetch), {LOCAL}"
        )
    if isinstance(exc, OSError) and exc.errno is not None:
        said = os.strerror(exc.errno)
        return f"{where} cannot be written to the hub cache: {said}; set HF_HOME to another disk"
    return (
        f"the connection to {endpoint()} broke ({type(exc).__name__}) fetching {where}: "
        "run it again, on a machine that reaches it"
    )


def endpoint() -> str:
    """HF_ENDPOINT for a message, without the user and password that a mirror's address may hold."""
    from urllib.parse import urlsplit

    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def refused(exc: BaseException, what: str, revision: str | None, page: str) -> str:
    from huggingface_hub import errors

    status = getattr(getattr(exc, "response", None), "status_code", 0)
    if isinstance(exc, errors.GatedRepoError):
        account = "this account is not on its list" if status == 403 else "no login came with the request"
        return (
            f"{what} is gated and {account} ({status}): accept its licence at {page}, then {LOGIN}, {LOCAL}"
        )
    if isinstance(exc, errors.RepositoryNotFoundError):
        return f"no {what} at {page}, or it is private ({status}): check the id, or {LOGIN}, {LOCAL}"
    if isinstance(exc, errors.RevisionNotFoundError):
        return f"{what} has no revision {revision!r} ({status}): choose a branch, tag or commit of {page}"
    if status in (401, 403):
        return f"{what} is refused to this login ({status}): check its rights at {page}, {LOGIN}, {LOCAL}"
    return f"the hub answered {status} for {what} and the cache lacks it: try again later, {LOCAL}"


def chain(exc: BaseException | None) -> Iterator[BaseException]:
    """An exception and what caused it: snapshot_download wraps a refusal into LocalEntryNotFoundError."""
    while exc is not None:
        yield exc
        exc = exc.__cause__


def connection_error() -> type[Exception]:
    """The HTTP client's base error; huggingface_hub changed its client twice (requests, httpx, httpx2)."""
    from huggingface_hub.errors import HfHubHTTPError

    return cast("type[Exception]", HfHubHTTPError.__bases__[0])


def dataset_files(repo_id: str, commit: str) -> list[str]:
    """What a dataset repository holds, for a message; nothing where the hub cannot be asked."""
    from huggingface_hub import HfApi

    try:  # not list_repo_files, which tries for 23 s where there is no network
        info = HfApi().dataset_info(repo_id, revision=commit, timeout=10)
    except (OSError, connection_error()):
        return []
    return sorted(file.rfilename for file in info.siblings or ())

"""The Hugging Face hub: snapshots of model and dataset repositories.

Nothing that a repository ships is executed or unpickled: no dataset script, no remote code, no *.bin.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, cast

from pgbench.errors import HubError

RepoType: TypeAlias = Literal["model", "dataset"]

# Pickles and code, refused even where a caller's pattern lets them in.
NEVER = ("*.bin", "*.ckpt", "*.pickle", "*.pkl", "*.pt", "*.pth", "*.py")
LOGIN = "log in with `hf auth login` (or set HF_TOKEN)"
LOCAL = "or name a local folder instead"


def fetch(
    repo_id: str, revision: str | None, *, repo_type: RepoType, patterns: Sequence[str]
) -> tuple[Path, str]:
    """The folder and commit of a repository's files that match `patterns`, downloaded or from the cache.

    HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE are honoured; where the hub is out of reach, what is
    cached is used. `revision` is a branch, tag or commit; None is the default branch.

    Raises HubError, one line with what to do: gated or private (401, 403), no such repository or revision
    (404), no network or offline mode with nothing cached, a cache that cannot be written.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = snapshot_download(
            repo_id,
            revision=revision,
            repo_type=repo_type,
            allow_patterns=list(patterns),
            ignore_patterns=list(NEVER),
        )
    except HFValidationError as exc:
        raise HubError(f"{repo_id!r} is neither a local folder nor a hub id like owner/name") from exc
    except (OSError, connection_error()) as exc:
        raise HubError(advice(exc, repo_id, revision, repo_type)) from exc
    return Path(folder), Path(folder).name


def advice(exc: BaseException, repo_id: str, revision: str | None, repo_type: RepoType) -> str:
    """One line: what the hub said and what to do about it. Never the token, never a local path."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{'datasets/' if repo_type == 'dataset' else ''}{repo_id}"
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
            f"{where} is {part} in the cache and {constants.ENDPOINT} is out of reach: connect once, {LOCAL}"
        )
    if isinstance(exc, OSError) and exc.errno is not None:
        said = os.strerror(exc.errno)
        return f"{where} cannot be written to the hub cache: {said}; set HF_HOME to another disk"
    return (
        f"the connection to {constants.ENDPOINT} broke ({type(exc).__name__}) fetching {where}: run it again"
    )


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

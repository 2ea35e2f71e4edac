"""Downloads for machines without a network: sizes first, then the files, then proof that they suffice.

What a task or a checkpoint reads is not written down a second time. Its own opening code is run under a
guide (`sources.hub.guided`) that lets it read what is planned, from the cache alone, and stops it at the
first thing that is not: that is the next plan. When it runs through, everything is here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pgbench.errors import HubError, PgbenchError
from pgbench.sources import hub
from pgbench.sources.files import names
from pgbench.sources.hub import RemoteFile, Wanted

T = TypeVar("T")
CHUNK = 1 << 22  # bytes read at a time
Progress = Callable[[int], None]  # bytes that were just read


class Unplanned(BaseException):
    """What is being opened asks for files that no plan holds. No Exception: code that catches those, as
    `errors.task_code` does around tasks, must let it pass."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__(wanted.repo_id)
        self.wanted = wanted


@dataclass(frozen=True, slots=True)
class Plan:
    """Files of one commit, as the hub lists them, and which of them the cache holds."""

    wanted: Wanted
    commit: str
    files: tuple[RemoteFile, ...]
    here: frozenset[str]  # paths whose whole size is in the cache

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def to_download(self) -> int:
        """Bytes that are not here."""
        return sum(file.size for file in self.files if file.path not in self.here)

    def holds(self, other: Wanted) -> bool:
        mine = (self.wanted.repo_id, self.wanted.repo_type)
        return (
            mine == (other.repo_id, other.repo_type)
            and other.revision in (self.wanted.revision, self.commit)
            and set(other.patterns) <= set(self.wanted.patterns)
        )


def opened(open_it: Callable[[], T], plans: Sequence[Plan]) -> T:
    """What `open_it` gives from the planned files alone, without the network.

    Raises Unplanned for the first thing that is not planned, and whatever `open_it` raises.
    """

    def guide(wanted: Wanted) -> str:
        plan = next((plan for plan in plans if plan.holds(wanted)), None)
        if plan is None:
            raise Unplanned(wanted)
        return plan.commit

    with hub.guided(guide):
        return open_it()


def first_wanted(open_it: Callable[[], object]) -> Wanted | None:
    """What `open_it` asks the hub for first, found out without a network; None where it asks for nothing."""
    try:
        opened(open_it, ())
    except Unplanned as stop:
        return stop.wanted
    except PgbenchError:
        return None
    return None


def planned(open_it: Callable[[], object]) -> list[Plan]:
    """What `open_it` reads first: small files that decide about the rest are downloaded, the rest is not.

    Raises HubError, and whatever `open_it` raises for what it has looked at.
    """
    plans: list[Plan] = []
    while True:
        try:
            opened(open_it, plans)
        except Unplanned as stop:
            plans.append(plan_of(stop.wanted))
            if not stop.wanted.peek:
                return plans
            download(plans[-1])
        else:
            return plans


def plan_of(wanted: Wanted) -> Plan:
    """Raises HubError, also where the repository holds nothing that is wanted."""
    commit, files = hub.look_up(wanted)
    if all(file.path == "README.md" for file in files):
        raise HubError(
            f"{wanted.repo_type} {wanted.repo_id} has none of the files that are read: "
            f"{names(sorted({*wanted.patterns} - {'README.md'}))}; check the id, the split and the revision"
        )
    here = frozenset(file.path for file in files if is_here(wanted, commit, file))
    return Plan(wanted, commit, tuple(sorted(files, key=lambda file: file.path)), here)


def is_here(wanted: Wanted, commit: str, file: RemoteFile) -> bool:
    path = hub.cached(wanted, commit, file.path)
    return path is not None and path.stat().st_size == file.size


def require_space(plans: Iterable[Plan]) -> dict[str, int]:
    """Bytes that are needed and free, by what for. Raises HubError where a disk has too little.

    A data set's parquet files take their size a second time, unpacked in the cache of `datasets`.
    """
    from huggingface_hub import constants

    waiting = [plan for plan in plans if plan.to_download]
    downloads = sum(plan.to_download for plan in waiting)
    unpacked = sum(plan.size for plan in waiting if plan.wanted.repo_type == "dataset")
    places = {"download": (Path(constants.HF_HUB_CACHE), downloads)}
    if unpacked:  # importing datasets takes a second
        import datasets

        places["unpacking"] = (Path(datasets.config.HF_DATASETS_CACHE), unpacked)
    disks: dict[int, tuple[int, int]] = {}  # device -> free, needed
    for folder, size in places.values():
        there = existing(folder)
        device, free = there.stat().st_dev, shutil.disk_usage(there).free
        disks[device] = (free, disks.get(device, (0, 0))[1] + size)
    for free, needed in disks.values():
        if needed > free:
            raise HubError(
                f"{needed:,} bytes are needed and {free:,} are free on the disk of the cache; make room, or "
                "set HF_HOME to another disk"
            )
    free = disks[existing(places["download"][0]).stat().st_dev][0]
    return {"download": downloads, "unpacking": unpacked, "free": free}


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there already."""
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())


def download(plan: Plan) -> None:
    """Bring what is not here; whole files of a killed one are kept, the one in flight begins afresh (as
    huggingface_hub 2 does). Raises HubError."""
    wanted = plan.wanted
    if plan.to_download:
        hub.fetch(wanted.repo_id, plan.commit, repo_type=wanted.repo_type, patterns=wanted.patterns)
    for file in plan.files:  # a file of another size than the hub's is damaged, and is no download to go on
        if not is_here(wanted, plan.commit, file):
            hub.fetch_again(wanted, plan.commit, file.path)
    if wanted.revision != plan.commit:  # the branch's name leads to its commit, offline as well
        small = min(plan.files, key=lambda file: file.size).path
        hub.fetch(wanted.repo_id, wanted.revision, repo_type=wanted.repo_type, patterns=[small])


def verify(plan: Plan, progress: Progress) -> list[str]:
    """Compare every file with the checksum that the hub lists; a damaged one is downloaded again.

    Returns the paths that were mended. Raises HubError for one that stays damaged.
    """
    mended = [file for file in plan.files if not intact(plan, file, progress)]
    for file in mended:
        hub.fetch_again(plan.wanted, plan.commit, file.path)
        if not intact(plan, file, lambda _: None):
            raise HubError(
                f"{file.path} of {plan.wanted.repo_id} is not what the hub lists ({file.size:,} bytes and a "
                "checksum), also after a second download: check the disk, then run it again"
            )
    return [file.path for file in mended]


def intact(plan: Plan, file: RemoteFile, progress: Progress) -> bool:
    """Whether a cached file has the size and the checksum that the hub lists."""
    path = hub.cached(plan.wanted, plan.commit, file.path)
    if path is None or path.stat().st_size != file.size:
        return False
    if file.sha256 is None and file.git is None:
        return True
    whole = hashlib.sha256() if file.sha256 else hashlib.sha1(usedforsecurity=False)
    if not file.sha256:
        whole.update(b"blob %d\0" % file.size)  # how git names what it stores
    try:
        with path.open("rb") as content:
            while chunk := content.read(CHUNK):
                whole.update(chunk)
                progress(len(chunk))
    except OSError as error:
        what = os.strerror(error.errno) if error.errno else type(error).__name__
        raise HubError(f"{file.path} in the cache cannot be read: {what}; check the disk") from error
    return whole.hexdigest() == (file.sha256 or file.git)

"""Where the pictures of a sheet lie, for the people who rate them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pgbench.errors import UsageError
from pgbench.keys import bytes_key
from pgbench.records import SampleLine

_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True, slots=True)
class Pictures:
    """What each sample's image column says."""

    names: dict[str, str]  # sample id -> path below the folder, or the sample id where no file was found
    missing: tuple[str, ...]  # sample ids without a file
    other: tuple[str, ...]  # found by name, with other bytes than the run saw (a re-encoded copy)


def find(lines: Iterable[SampleLine], folder: Path | None) -> Pictures:
    """Image files below `folder`: named like the sample, or else with the bytes that the run saw.

    Without a folder every column holds the sample id, which is what DOCCI's files are named after.
    Raises UsageError for a folder that is not there.
    """
    wanted = {line.id: line.image for line in lines}
    if folder is None:
        return Pictures({name: name for name in wanted}, (), ())
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}; --data names the folder of the pictures")
    files = list(_files(folder))
    named: dict[str, list[Path]] = {}
    for path in files:
        for name in {path.name, path.stem}:
            named.setdefault(name, []).append(path)
    names, other = {}, []
    for sample, image in wanted.items():
        places = named.get(sample, [])
        exact = [path for path in places if image and _key(path) == image]
        if places:
            names[sample] = (exact or places)[0].relative_to(folder).as_posix()
        if places and image and not exact:
            other.append(sample)
    names |= _by_content(
        {sample: image for sample, image in wanted.items() if sample not in names}, files, folder
    )
    missing = tuple(sample for sample in wanted if sample not in names)
    return Pictures({sample: names.get(sample, sample) for sample in wanted}, missing, tuple(other))


def _by_content(wanted: dict[str, str], files: list[Path], folder: Path) -> dict[str, str]:
    """Samples whose files bear other names, where the run stored what it saw."""
    samples: dict[str, list[str]] = {}
    for sample, image in wanted.items():
        if image:
            samples.setdefault(image, []).append(sample)
    if not samples:
        return {}
    found: dict[str, str] = {}
    for path in files:
        for sample in samples.get(_key(path), ()):
            found.setdefault(sample, path.relative_to(folder).as_posix())
    return found


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _ENDINGS and path.is_file())


def _key(path: Path) -> str:
    try:
        return bytes_key([path.read_bytes()])
    except OSError as error:
        raise UsageError(f"cannot read the picture {path}: {error.strerror}") from error

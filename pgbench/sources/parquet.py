"""A data set's parquet files as rows, through `datasets`: fields at once, encoded images late and exact.

The files come from the hub, a local copy of a repository, or one file. Dataset scripts are never run.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pgbench.errors import DataError
from pgbench.sources.files import is_file, names, read_image
from pgbench.sources.hub import dataset_files, fetch
from pgbench.types import DataRequest, Image


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a split's parquet files: their fields at once, their images late and one by one."""

    table: Any  # datasets.Dataset, memory-mapped, its image columns undecoded
    id: str  # the hub id, or the name of the file or folder; never an absolute path
    revision: str | None  # the hub commit
    folder: Path  # where a row's image is, if the row holds a path instead of bytes
    columns: tuple[str, ...]  # of fields; without those optional ones that the files lack

    def __len__(self) -> int:
        return len(self.table)

    def fields(self, *columns: str) -> Sequence[Mapping[str, object]]:
        """All rows with these columns alone, as Python values, in the published order."""
        rows: list[Mapping[str, object]] = self.table.select_columns(list(columns)).data.table.to_pylist()
        return rows

    def stream(self, start: int = 0) -> Iterator[Mapping[str, object]]:
        """The rows from `start` on with all field columns, as Python values, a thousand at a time.

        For large splits: VQAv2's validation rows as Python values at once would take over a gigabyte.
        """
        table = self.table.select_columns(list(self.columns)).data.table.slice(start)
        for batch in table.to_batches(max_chunksize=1000):
            yield from batch.to_pylist()

    def image(self, index: int, name: str, column: str = "image") -> Image:
        """The image of a row, read late; reading raises OSError where the row holds none."""
        return Image(name, functools.partial(self.read, index, column))

    def read(self, index: int, column: str) -> bytes:
        """The encoded bytes exactly as stored. Raises OSError."""
        cell = self.table.data.column(column)[index].as_py()
        if cell is not None and cell["bytes"] is not None:
            data: bytes = cell["bytes"]
            return data
        path = self.inside(cell)
        if path is None:
            raise OSError(f"row {index} holds no image")
        return read_image(path)

    def names_image(self, index: int, column: str = "image") -> bool:
        """Whether a row's image cell holds a path: without bytes, such a picture is missing, not absent."""
        cell = self.table.data.column(column)[index].as_py()
        return cell is not None and bool(cell["path"])

    def without_image(self, column: str = "image") -> frozenset[int]:
        """The rows that hold neither bytes nor a path to a file that is there; reads no image."""
        import pyarrow.compute as pc

        cells = self.table.data.column(column)
        empty = pc.indices_nonzero(pc.is_null(pc.struct_field(cells, "bytes"))).to_pylist()
        return frozenset(i for i in empty if not is_there(self.inside(cells[i].as_py())))

    def inside(self, cell: Mapping[str, Any] | None) -> Path | None:
        """The file that a cell's path names. A data set must not choose among the user's other files."""
        name = cell["path"] if cell is not None else None
        if not name or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
            return None
        return self.folder / str(name)


def is_there(path: Path | None) -> bool:
    return path is not None and is_file(path)


def parquet_rows(
    request: DataRequest,
    default_id: str,
    split_names: Sequence[str],
    *,
    fields: Sequence[str],
    images: Sequence[str] = ("image",),
    optional: Sequence[str] = (),
) -> Rows:
    """The rows of a split, from the hub, a local folder or one parquet file (taken as it is).

    `request.path` is the folder or file; without it the repository is `request.id`, or `default_id`, at
    `request.revision`. A split's files are those named after the first of `split_names` that has any
    (data/validation-00000-of-00003.parquet, val.parquet, validation/0000.parquet). Only they are downloaded.
    `optional` fields may be absent from the files.

    Raises HubError as `fetch` does, and DataError: no such file, folder or split, a part of the split
    missing, a column missing, a file that is not parquet or damaged.
    """
    if request.path is not None:
        path = Path(request.path)
        files = local_files(path, split_names)
        found, revision = path.resolve().name, None
    else:
        found = request.id or default_id
        revision, files = hub_files(found, request.revision, split_names)
    schemas = [check_parquet(file, [*fields, *images]) for file in files]
    columns = (*fields, *(one for one in optional if all(one in schema for schema in schemas)))
    table = load(files, split_names[0], columns, images)
    return Rows(table, found, revision, files[0].parent, columns)


def bring(request: DataRequest, default_id: str, split_names: Sequence[str]) -> DataRequest:
    """Download the files of all these splits in one go, for a source that reads several tables: the sizes of
    all are known before the first is read. Returns the request at the one commit that they are of, since a
    branch may move between two look-ups. Raises HubError."""
    if request.path is not None:
        return request
    found = request.id or default_id
    _, commit = fetch(found, request.revision, repo_type="dataset", patterns=wanted(split_names))
    return replace(request, revision=commit)


def wanted(split_names: Sequence[str]) -> list[str]:
    # the card as well: huggingface_hub warns at length where nothing matches; `absent` says it better
    return ["README.md", *(pattern for split_name in split_names for pattern in patterns(split_name))]


def patterns(split_name: str) -> tuple[str, ...]:
    """How the files of a split are called, below the repository's root; `*` crosses folders."""
    own, below = f"{split_name}[-_.]*parquet", f"{split_name}/*.parquet"
    return own, f"*/{own}", below, f"*/{below}"


def pick(paths: Iterable[str], split_names: Sequence[str]) -> list[str]:
    """The paths of one split, in order; empty where there is none. Raises DataError for a missing part.

    >>> pick(["data/test-0.parquet", "data/val-0.parquet"], ["validation", "val"])
    ['data/val-0.parquet']
    """
    known = sorted(paths)
    for split_name in split_names:
        picked = [path for path in known if any(fnmatchcase(path, one) for one in patterns(split_name))]
        if picked:
            check_parts(picked)
            return picked
    return []


def check_parts(paths: Sequence[str]) -> None:
    """Raises DataError where a name says `-of-00003` and there are fewer: a split would shrink unseen."""
    for path in paths:
        match = re.search(r"-(\d+)-of-(\d+)\.parquet$", path)
        if match is None:
            continue
        stem, width, count = path[: match.start()], len(match[1]), int(match[2])
        parts = [f"{stem}-{i:0{width}}-of-{match[2]}.parquet" for i in range(count)]
        missing = sorted(set(parts) - set(paths))
        if missing:
            raise DataError(
                f"{len(missing)} of {count} parts are missing: {names(missing)}; copy them as well"
            )


def local_files(path: Path, split_names: Sequence[str]) -> list[Path]:
    if path.is_file():
        refuse_other_split(path.name, split_names)
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; expected a parquet file or a folder with parquet files")
    # three floors: a copy of a hub repository has one or two, and a wrong --data must not walk a whole disk
    here = [
        file for floor in ("*", "*/*", "*/*/*") for file in path.glob(f"{floor}.parquet") if file.is_file()
    ]
    paths = sorted(file.relative_to(path).as_posix() for file in here)
    picked = pick(paths, split_names)
    if not picked:
        raise DataError(
            absent(split_names, str(path), paths, "name one of these files, or take another split")
        )
    return [path / name for name in picked]


def refuse_other_split(name: str, split_names: Sequence[str]) -> None:
    """Raises DataError for a file whose name says another split than the one that was asked for."""
    match = re.match(r"(train|validation|val|testdev|test|dev)(?=[-_.])", name)
    if match is not None and match[1] not in split_names:
        raise DataError(f"{name} is of split {match[1]}, not {split_names[-1]}: add --split {match[1]}")


def hub_files(repo_id: str, revision: str | None, split_names: Sequence[str]) -> tuple[str, list[Path]]:
    folder, commit = fetch(repo_id, revision, repo_type="dataset", patterns=wanted(split_names))
    here = (file.relative_to(folder).as_posix() for file in folder.rglob("*.parquet"))
    picked = pick(here, split_names)
    if not picked:
        there = dataset_files(repo_id, commit)
        hint = "take another split or data set; dataset scripts (*.py) are never run"
        raise DataError(absent(split_names, f"data set {repo_id}", there, hint))
    return commit, [folder / name for name in picked]


def absent(split_names: Sequence[str], where: str, there: Sequence[str], hint: str) -> str:
    files = " or ".join(f"{split_name}-*.parquet" for split_name in split_names)
    return f"{where} has no {files}; there: {names(there)}; {hint}"


def load(files: Sequence[Path], split: str, fields: Sequence[str], images: Sequence[str]) -> Any:
    """A datasets.Dataset over parquet files, image columns undecoded. Raises DataError.

    Its unpacked copy in the cache of `datasets` is made anew where it is damaged or has lost rows.
    """
    import datasets
    import pyarrow as pa

    what = names([file.name for file in files])
    try:
        return unpacked(files, split, [*fields, *images], images)
    except (
        datasets.exceptions.DatasetGenerationError,
        pa.ArrowException,
        ValueError,
        TypeError,
        OSError,
    ) as exc:
        cause = exc.__cause__ or exc
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            full = f"no space is left for {what} in the cache of datasets; set HF_HOME to another disk"
            raise DataError(full) from exc
        if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            # the files themselves were read before; a cache shared among machines is often read-only
            raise DataError(
                f"{what} cannot be unpacked: the cache of datasets may not be written "
                f"({one_line(cause)}); set HF_DATASETS_CACHE to a folder that may"
            ) from exc
        raise DataError(f"{what} cannot be read: {one_line(cause)}; download it again") from exc


def unpacked(files: Sequence[Path], split: str, columns: Sequence[str], images: Sequence[str]) -> Any:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    # escaped: datasets reads a path as a pattern
    sources = {split: [glob.escape(str(file)) for file in files]}

    def open_it(mode: datasets.DownloadMode) -> Any:
        table = datasets.load_dataset(
            "parquet", data_files=sources, split=split, columns=columns, download_mode=mode
        )
        for column in images:
            table = table.cast_column(column, datasets.Image(decode=False))
        return table

    rows = sum(pq.read_metadata(file).num_rows for file in files)
    # a copy cut between two batches reads without an error, as a smaller table
    with contextlib.suppress(pa.ArrowException, OSError):
        table = open_it(datasets.DownloadMode.REUSE_DATASET_IF_EXISTS)
        if len(table) == rows:
            return table
    return open_it(datasets.DownloadMode.REUSE_CACHE_IF_EXISTS)


def one_line(exc: BaseException) -> str:
    """What a library says of a file, without the path that it may add."""
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return " ".join(str(exc).split()).removesuffix(".")[:200]


def check_parquet(file: Path, columns: Sequence[str]) -> Sequence[str]:
    """A file's columns, from its footer. Raises DataError: no parquet file, or one of `columns` lacks."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        there: Sequence[str] = pq.read_schema(file).names
        rows = pq.read_metadata(file).num_rows
    except (pa.ArrowException, OSError) as exc:
        raise DataError(
            f"{file.name} is not a whole parquet file: {one_line(exc)}; download it again"
        ) from exc
    if not rows:
        raise DataError(f"{file.name} has no rows; download it again, or take another split")
    lacking = [column for column in columns if column not in there]
    if lacking:
        raise DataError(f"{file.name} has no column {names(lacking)}; there: {names(there)}")
    return there

"""Files of an export: planned all, looked at all, then written one by one, each whole or not at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pgbench.durable import require_outside_runs, write_pieces
from pgbench.errors import StoreError, UsageError


@dataclass(frozen=True, slots=True)
class Output:
    """A file and what makes its bytes; what a later file says of an earlier one is known by then."""

    path: Path
    pieces: Callable[[], Iterable[bytes]]


def write(outputs: Sequence[Output], *, overwrite: bool = False) -> None:
    """Write all files, in order. Raises UsageError before the first where one is there and is not to be
    replaced, would lie in a run's own folder, or is of two runs; StoreError where the disk refuses."""
    times = Counter(output.path for output in outputs)
    if twice := [path for path, count in times.items() if count > 1]:
        raise UsageError(
            f"{twice[0]} would be of two runs, which are copies or of one cell; export them apart"
        )
    for output in outputs:
        _require_free(output.path, overwrite=overwrite)
    for output in outputs:
        write_pieces(output.path, output.pieces())


def as_json(document: object, **style: int) -> bytes:
    """JSON in ASCII: invisible and direction-changing characters of answers are escaped, and mean the same.

    Raises StoreError for nan and inf, which strict JSON lacks.
    """
    try:
        return json.dumps(document, allow_nan=False, **style).encode() + b"\n"  # type: ignore[arg-type]
    except ValueError as error:
        raise StoreError(f"a result cannot be exported: {error}") from error


def as_yaml(document: object) -> bytes:
    """YAML in ASCII, in the order given, one line a value; read back by any YAML 1.1 parser."""
    import yaml

    text = yaml.safe_dump(document, allow_unicode=False, sort_keys=False, width=float("inf"))
    return str(text).encode()


def _require_free(path: Path, *, overwrite: bool) -> None:
    require_outside_runs(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give --out a file in it")
    if path.exists() and not (overwrite and path.is_file()):
        hint = "--overwrite replaces it" if path.is_file() else "give --out another name"
        raise UsageError(f"{path} is there already; {hint}")

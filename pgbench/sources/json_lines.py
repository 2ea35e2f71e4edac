"""JSON Lines, whole in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from pgbench.errors import DataError
from pgbench.sources.files import kind


def json_lines(file: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(where, record) of each line that is not empty. Raises DataError naming file and line."""
    try:
        for number, line in enumerate(file.read_text(encoding="utf-8-sig").split("\n"), 1):
            where = f"{file.name} line {number}"
            if line.strip():
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise DataError(f"{where}: expected an object, got {kind(record)}")
                yield where, record
    except OSError as exc:
        raise DataError(f"{file.name} cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{file.name} is not JSON Lines ({type(exc).__name__}); download it again") from exc

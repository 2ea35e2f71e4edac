"""A judge's sidecar, read back."""

from __future__ import annotations

from pathlib import Path

from pgbench.durable import read_json
from pgbench.errors import StoreError
from pgbench.nes.judge import SCHEMA, ProxyRun


def load(path: Path) -> ProxyRun:
    """Raises StoreError for a file that `pgbench nes judge` did not write."""
    from pydantic import TypeAdapter, ValidationError

    document = read_json(path)
    if not isinstance(document, dict) or (document.get("kind"), document.get("schema")) != (
        "nes-proxy",
        SCHEMA,
    ):
        raise StoreError(f"{path} is no NES-proxy of schema {SCHEMA}; remove it, or judge the run again")
    try:
        return TypeAdapter(ProxyRun).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise StoreError(f"{path} is no NES-proxy: {where}: {first['msg']}") from error

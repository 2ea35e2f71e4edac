"""Grids as text, one file for each format. A renderer is imported when it is asked for.

Hostile text (names, model output, captions) is harmless in each; tests/test_formats_hostile.py tries it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias, cast

from pgbench.errors import UsageError, unknown
from pgbench.report.grid import Grid

Renderer: TypeAlias = Callable[[Sequence[Grid]], str]
FILES: Mapping[str, str] = MappingProxyType(
    {
        "terminal": "terminal",
        "markdown": "markdown",
        "csv": "comma",
        "json": "documents",
        "latex": "latex",
        "html": "html",
    }
)
SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        "terminal": ".txt",
        "markdown": ".md",
        "csv": ".csv",
        "json": ".json",
        "latex": ".tex",
        "html": ".html",
    }
)


def renderer(name: str) -> Renderer:
    """The function that writes grids in a format; its text ends in a newline.

    Raises UsageError for a format that does not exist.
    """
    if name not in FILES:
        raise UsageError(unknown("format", name, FILES))
    return cast(Renderer, importlib.import_module(f"pgbench.report.formats.{FILES[name]}").render)

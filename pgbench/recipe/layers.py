"""What is said about a cell, in layers: defaults, its checkpoint, its task, flags; the later counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pgbench.recipe.nodes import Tree
from pgbench.recipe.places import Spot
from pgbench.recipe.shape import Options


@dataclass(frozen=True, slots=True)
class Said:
    """A value and where it was said."""

    value: Any
    spot: Spot


Layer: TypeAlias = Mapping[str, Said]  # the name of an option -> what was said last


@dataclass(frozen=True, slots=True)
class Flags:
    """What flags said: options that count for every cell, and the axes that they took from the file."""

    layer: Layer = field(default_factory=dict)
    axes: frozenset[str] = frozenset()


def layer(options: Options, tree: Tree) -> Layer:
    """The options that were said here; a mapping's other keys are no options."""
    names = options.model_fields_set & Options.model_fields.keys()
    return {name: said(options, tree, name) for name in sorted(names)}


def said(options: object, tree: Tree, name: str) -> Said:
    """One key's value; it stands where the whole entry does where a text stands for the entry."""
    child = tree.get(name)
    return Said(getattr(options, name), child.spot if child else tree.spot)


def below(folder: Path, text: str) -> str | None:
    """A path relative to a folder, as text, ~ expanded; None where that is nobody's home."""
    try:
        return str(folder / Path(text).expanduser())
    except RuntimeError:
        return None


def is_folder(path: str) -> bool:
    """Never raises, whatever the text."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):  # longer than a file name may be
        return False

"""A sweep file, or the same as flags, to the cells that it asks for; everything that is wrong, at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pgbench.errors import unknown
from pgbench.recipe.asked import AskedCell
from pgbench.recipe.cells import cells
from pgbench.recipe.checking import checked
from pgbench.recipe.layers import Flags, layer
from pgbench.recipe.nodes import Tree, compose, of_python
from pgbench.recipe.places import ALL, Problems, Spot, plain_name
from pgbench.recipe.shape import Options, SweepFile

LONGEST_CHAIN = 10  # files that extend each other


def read(path: Path | None, overrides: Mapping[str, object] | None = None) -> tuple[AskedCell, ...]:
    """The cells of a sweep in the order in which they are to run.

    `path` None: `overrides` are the whole sweep. A key of `overrides` is one of the file: an option
    (`limit`), which then counts for every cell whatever the file says, or an axis or list
    (`checkpoints`, `tasks`, `quant`, `dtypes`, ...), which then takes the place of the file's.
    None stands for a flag that was not given. Paths in `overrides` are relative to the working folder.

    Raises Mistakes (a UsageError), which lists everything that is wrong, each with file:line:column.
    """
    problems = Problems()
    what = plain_name(path) if path else "the flags"
    tree = Tree({}, Spot()) if path is None else load(path, problems)
    if tree is None:
        problems.stop(what)
        return ()
    options, axes = _split(overrides or {}, problems)
    tree = merged(tree, of_python(axes, Spot()))
    said = checked(tree, problems)
    flags = checked(of_python({"defaults": options}, Spot()), problems)
    doubtful = said.doubtful | flags.doubtful
    given = layer(flags.file.defaults, flags.tree.get("defaults") or flags.tree)
    made = cells(replace(said, doubtful=doubtful), Flags(given, frozenset(axes)), problems)
    problems.stop(what)
    return made


def _split(
    overrides: Mapping[str, object], problems: Problems
) -> tuple[dict[str, object], dict[str, object]]:
    options: dict[str, object] = {}
    axes: dict[str, object] = {}
    for name, value in overrides.items():
        if value is None:
            continue
        if name in Options.model_fields:
            options[name] = value
        elif name in SweepFile.model_fields and name != "extends":
            axes[name] = value
        else:
            known = [*Options.model_fields, *SweepFile.model_fields]
            text = unknown("flag", name, [one for one in known if one != "extends"])
            problems.add(Spot(), text, takes=ALL)
    return options, axes


def load(
    path: Path, problems: Problems, asked: Spot | None = None, above: tuple[Path, ...] = ()
) -> Tree | None:
    """One file and what it extends, as one tree; None where the file itself cannot be read."""
    tree = compose(path, problems, asked)
    told = tree.get("extends") if tree else None
    if tree is None or told is None or not isinstance(told.value, str) or not told.value.isprintable():
        return tree  # what is wrong with `extends`, the check says
    other = path.parent / told.value
    chain = (*above, _real(path))
    if _real(other) in chain:
        names = " -> ".join(plain_name(Path(one.name)) for one in (*chain, _real(other)))
        problems.add(
            told.spot, f"extends: a circle, {names}; one of them must not extend the other", takes=ALL
        )
        return tree
    if len(chain) >= LONGEST_CHAIN:
        problems.add(told.spot, f"extends: more than {LONGEST_CHAIN} files in a row; join some", takes=ALL)
        return tree
    base = load(other, problems, told.spot, chain)
    if base is None:
        problems.doubtful.add(ALL)
        return tree
    return merged(base, tree)


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # links in a circle, which opening it will say
        return path.absolute()


def merged(base: Tree, over: Tree) -> Tree:
    """Mappings key by key; of everything else, the value of `over`."""
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    pairs = dict(base.value)
    for key, child in over.value.items():
        pairs[key] = merged(pairs[key], child) if key in pairs else child
    spot = over.spot if over.spot.file else base.spot  # flags have no place that could be mended
    return Tree(pairs, spot, {**base.keys, **over.keys})

"""YAML as a tree in which every value and every key knows where it stands.

Composed, never constructed: no tag makes an object. What YAML 1.1 (PyYAML) reads differently from what its
writer means (https://yaml.org/type/ against https://yaml.org/spec/1.2.2/#103-core-schema) stays a `Friend`,
which no field accepts: the message then says why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pgbench.recipe.places import ALL, Problems, Spot, plain_name, shown

if TYPE_CHECKING:
    from yaml import Node
    from yaml.nodes import MappingNode, ScalarNode

LARGEST_FILE = 1 << 20  # bytes
MOST_NODES = 20_000  # aliases counted at their full size
DEEPEST = 12  # mappings and lists in each other; a sweep needs 4

_CORE = "tag:yaml.org,2002:"
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+")


@dataclass(frozen=True, slots=True)
class Friend:
    """A false friend: a plain word that YAML 1.1 does not read as it looks."""

    text: str
    why: str


Value: TypeAlias = "str | int | Friend | dict[str, Tree] | list[Tree]"


@dataclass(frozen=True, slots=True)
class Tree:
    """A value, where it stands, and where its keys stand."""

    value: Value
    spot: Spot
    keys: dict[str, Spot] = field(default_factory=dict)

    def plain(self) -> object:
        """The value without its places."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        return [child.plain() for child in self.value] if isinstance(self.value, list) else self.value

    def get(self, *path: str | int) -> Tree | None:
        """What stands at this path."""
        here: Tree = self
        for step in path:
            if isinstance(here.value, dict) and step in here.value:
                here = here.value[str(step)]
            elif isinstance(here.value, list) and isinstance(step, int) and step < len(here.value):
                here = here.value[step]
            else:
                return None
        return here

    def at(self, key: str) -> Spot:
        """Where that key stands; the mapping itself where it has no such key."""
        return self.keys.get(key, self.spot)


def of_python(value: object, spot: Spot) -> Tree:
    """A tree of what flags said; None in a mapping stands for a flag that was not given."""
    if isinstance(value, Mapping):
        pairs = {str(key): of_python(child, spot) for key, child in value.items() if child is not None}
        return Tree(pairs, spot)
    if isinstance(value, (list, tuple)):
        return Tree([of_python(child, spot) for child in value], spot)
    if isinstance(value, (str, Path)):
        return Tree(str(value), spot)
    if isinstance(value, int) and not isinstance(value, bool):
        return Tree(value, spot)
    return Tree(Friend(repr(value), f"a {type(value).__name__}"), spot)


def compose(
    path: Path, problems: Problems, asked: Spot | None = None, holds: str = "checkpoints: and tasks:"
) -> Tree | None:
    """The tree of one file; None where it cannot be read as YAML at all, which `problems` then says.

    `asked`: where the file was named; a file that cannot be opened is a mistake there. `holds`: the keys that
    a file of this kind has, for the message where it is no mapping.
    """
    import yaml

    text = _text(path, problems, asked or Spot(path, 1, 1))
    if text is None:
        return None
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        spot = Spot(path, mark.line + 1, mark.column + 1) if mark else Spot(path, 1, 1)
        line = text.split("\n")[mark.line] if mark and mark.line < text.count("\n") + 1 else ""
        hint = "; inside [ ] quote what has {px} in it" if re.search(r"\[[^'\"]*\{px\}", line) else ""
        problems.add(spot, f"no YAML: {' '.join(filter(None, (error.context, error.problem)))}{hint}")
    except yaml.reader.ReaderError as error:
        before = text[: error.position].split("\n")
        problems.add(
            Spot(path, len(before), len(before[-1]) + 1), "no YAML: a character that may not be printed"
        )
    except RecursionError:
        problems.add(Spot(path, 1, 1), f"nested too deeply; at most {DEEPEST} levels")
    except (ValueError, OverflowError) as error:  # an escape such as \UFFFFFFFF, a version of 5,000 digits
        problems.add(Spot(path, 1, 1), f"no YAML: {error}")
    else:
        return Reading(path, problems, holds).whole(node)
    return None


def _text(path: Path, problems: Problems, asked: Spot) -> str | None:
    try:
        if not path.is_file():
            problems.add(asked, f"there is no file {plain_name(path)}; expected a YAML file")
            return None
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            problems.add(Spot(path, 1, 1), f"more than {LARGEST_FILE:,} bytes; write a shorter file")
            return None
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add(Spot(path, data[: error.start].count(b"\n") + 1, 1), "not UTF-8; save it as UTF-8")
    except (OSError, ValueError) as error:
        problems.add(asked, f"{plain_name(path)} cannot be read: {getattr(error, 'strerror', None) or error}")
    return None


class _TooMuch(Exception):  # noqa: N818 - says what happened
    """More nodes, or deeper ones, than a sweep needs."""

    def __init__(self, spot: Spot, text: str) -> None:
        super().__init__(text)
        self.spot = spot


@dataclass(slots=True)
class Reading:
    """Turns the nodes of one file into a tree, counting what aliases expand to."""

    path: Path
    problems: Problems
    holds: str
    nodes: int = 0

    def whole(self, node: Any) -> Tree | None:
        """None where the file is empty or too much of it, which `problems` then says."""
        from yaml.nodes import MappingNode

        try:
            if isinstance(node, MappingNode):
                return self.tree(node, 0)
        except _TooMuch as error:
            self.problems.add(error.spot, str(error))
            return None
        spot = self.spot(node) if node else Spot(self.path, 1, 1)
        self.problems.add(spot, f"expected a mapping with {self.holds}")
        return None

    def spot(self, node: Node) -> Spot:
        return Spot(self.path, node.start_mark.line + 1, node.start_mark.column + 1)

    def tree(self, node: Node, depth: int) -> Tree:
        from yaml.nodes import MappingNode, ScalarNode, SequenceNode

        self.nodes += 1
        spot = self.spot(node)
        if self.nodes > MOST_NODES:
            raise _TooMuch(spot, f"more than {MOST_NODES:,} values once aliases are expanded; write fewer")
        if depth > DEEPEST:
            raise _TooMuch(spot, f"nested too deeply, or an alias inside itself; at most {DEEPEST} levels")
        if isinstance(node, MappingNode) and node.tag == f"{_CORE}map":
            return self.mapping(node, spot, depth)
        if isinstance(node, SequenceNode) and node.tag == f"{_CORE}seq":
            return Tree([self.tree(child, depth + 1) for child in node.value], spot)
        if isinstance(node, ScalarNode):
            return Tree(scalar(node), spot)
        return Tree(Friend(node.tag, "tags are not used"), spot)

    def mapping(self, node: MappingNode, spot: Spot, depth: int) -> Tree:
        from yaml.nodes import ScalarNode

        tree = Tree({}, spot)
        values: dict[str, Tree] = {}
        for key, child in node.value:
            self.nodes += 1
            at, name = self.spot(key), scalar(key) if isinstance(key, ScalarNode) else None
            if name == "<<":
                self.problems.add(at, "merge keys (<<) are not used; write defaults: or extends:", takes=ALL)
            elif name is None:
                self.problems.add(at, "a list or mapping as a key; expected text")
            elif not isinstance(name, str):
                why = f" ({name.why})" if isinstance(name, Friend) else ""
                self.problems.add(at, f"key {shown(key.value)}{why}; expected text as a key: quote it")
            elif name in values:
                text = f"key {shown(name)} stands twice, first at {tree.keys[name]}"
                self.problems.add(at, text, takes=name)
            else:
                values[name], tree.keys[name] = self.tree(child, depth + 1), at
        return Tree(values, spot, tree.keys)


def scalar(node: ScalarNode) -> str | int | Friend:
    """A plain scalar is text or a whole decimal number; all else that YAML 1.1 makes of it is a Friend."""
    text, kind = str(node.value), str(node.tag).removeprefix(_CORE)
    if kind == "str" and (node.style is not None or not _EXPONENT.fullmatch(text)):
        return text
    if kind in ("value", "merge"):  # = and <<
        return text
    if node.style is not None or node.tag == kind:
        return Friend(text, f"the tag {shown(node.tag)}; tags are not used")
    if kind == "int" and _WHOLE.fullmatch(text):
        return int(text)
    return Friend(text, _why(kind, text))


def _why(kind: str, text: str) -> str:
    if kind == "str":
        return "YAML 1.1 reads it as text, YAML 1.2 as a number; write it out, or quote it if text is meant"
    if kind == "bool":
        yes = text.lower() in ("yes", "on", "true")
        return f"YAML reads it as {str(yes).lower()}; quote it if the word is meant"
    if kind == "null":
        return "YAML reads it as null; leave the key out, or quote it if the word is meant"
    if kind == "timestamp":
        return "YAML reads it as a date; quote it if text is meant"
    if ":" in text:
        return "YAML 1.1 reads it as a number to base 60; quote it if text is meant"
    if kind == "int" and re.fullmatch(r"[-+]?0[0-7_]+", text):
        return "YAML 1.1 reads it as an octal number; write it without leading zeros, or quote it"
    if kind == "int":
        return "YAML 1.1 reads it as a number; write it in plain decimal digits, or quote it if text is meant"
    return "YAML reads it as a number with a fraction; write a whole number, or quote it if text is meant"

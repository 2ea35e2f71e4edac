"""A rules file to Rules: every mistake at its line and column, all at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pydantic import ValidationError

from pgbench.check.rules import DECIMAL, Defaults, Match, Require, Rule, Rules, RulesFile
from pgbench.errors import UsageError, nearest, unknown
from pgbench.recipe.checking import said
from pgbench.recipe.nodes import Friend, Tree, compose
from pgbench.recipe.places import Problems, plain_name
from pgbench.recipe.shape import Strict

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_Loc: TypeAlias = tuple[str | int, ...]
_INSIDE: dict[str, type[Strict]] = {"defaults": Defaults, "rules": Rule, "match": Match, "require": Require}
_ITEM = {"metrics": "a metric's name, as text", "groups": "a breakdown, as setting or setting=adversarial"}


def read(path: Path | None, tolerance: float | None = None, alpha: float | None = None) -> Rules:
    """`tolerance` (points) and `alpha` are what flags said. Raises Mistakes, UsageError."""
    if tolerance is not None and not 0 <= tolerance <= 100:
        raise UsageError(f"--tolerance: expected points from 0 to 100, got {tolerance:g}")
    if alpha is not None and not 0 < alpha < 0.5:
        raise UsageError(f"--alpha: expected a number above 0 and below 0.5, got {alpha:g}")
    file, spots = (RulesFile(), ()) if path is None else _checked(path)
    return Rules(file, spots, None if tolerance is None else tolerance / 100, alpha)


def _checked(path: Path) -> tuple[RulesFile, tuple[str, ...]]:
    problems = Problems()
    tree = compose(path, problems, holds="rules:, and defaults: where all cells have something in common")
    file = RulesFile()
    if tree is not None:
        try:
            file = RulesFile.model_validate(tree.plain())
        except ValidationError as error:
            for item in error.errors(include_url=False, include_context=False, include_input=False):
                _say(tree, item, problems)
        for text, rule in _senseless(tree):
            problems.add(rule.spot, text)
    problems.stop(plain_name(path))
    return file, tuple(f"{path.name}:{rule.spot.line}:{rule.spot.column}" for rule in _rules(tree))


def _rules(tree: Tree | None) -> list[Tree]:
    found = tree.get("rules") if tree else None
    return found.value if found and isinstance(found.value, list) else []


def _senseless(tree: Tree) -> Iterator[tuple[str, Tree]]:
    """Rules that are valid and say nothing, or too much."""
    for rule in _rules(tree):
        if not isinstance(rule.value, dict):
            continue
        more = rule.value.keys() - {"match"}
        match = rule.value.get("match")
        if match is not None and match.value == {}:
            yield "match: an empty mapping; what holds for every cell stands under defaults:", match
        if match is not None and not more:
            yield "a rule that asks for nothing; say tolerance:, metrics:, require: or ignore:", rule
        if "ignore" in more and len(more) > 1:
            rest = ", ".join(sorted(more - {"ignore"}))
            yield f"ignore: stands beside {rest}; cells that are not checked are asked for nothing", rule


def _say(tree: Tree, item: ErrorDetails, problems: Problems) -> None:
    loc = item["loc"]
    path = _reached(tree, loc)
    here = tree.get(*path) or tree
    model, name = _field(loc)
    if item["type"] == "extra_forbidden":
        parent = tree.get(*path[:-1]) or tree
        problems.add(parent.at(str(loc[-1])), unknown("key", str(loc[-1]), model.model_fields))
    elif item["type"] == "missing":
        problems.add(here.spot, f"{name} is missing; expected {_expected(model, name, loc)}")
    else:
        expected = _expected(model, name, loc)
        near = nearest(here.value, expected.split(" | ")) if isinstance(here.value, str) else ""
        guess = f"; did you mean {near}?" if near else ""
        problems.add(here.spot, f"{name}: got {_got(here)}; expected {expected}{guess}")


def _got(tree: Tree) -> str:
    number = isinstance(tree.value, Friend) and DECIMAL.fullmatch(tree.value.text)
    return tree.value.text if number and isinstance(tree.value, Friend) else said(tree)


def _reached(tree: Tree, loc: _Loc) -> _Loc:
    while loc and tree.get(*loc) is None:
        loc = loc[:-1]
    return loc


def _field(loc: _Loc) -> tuple[type[Strict], str]:
    """The model and field that a place belongs to."""
    model: type[Strict] = RulesFile
    names = [part for part in loc if isinstance(part, str)]
    for name in names[:-1]:
        model = _INSIDE.get(name, model)
    return model, names[-1]


def _expected(model: type[Strict], name: str, loc: _Loc) -> str:
    if isinstance(loc[-1], int):
        return _ITEM.get(name, "a rule: a mapping with match:")
    return model.model_fields[name].description or "something else"

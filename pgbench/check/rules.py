"""What a rules file may say, and what it says of one cell. Pure: the file is read by asking.py.

The description of a field is what a message says was expected. Rules that match a cell are laid over each
other in the order of the file: what a later one says counts, and of `metrics` and `groups` all that any says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from pgbench.check.verdicts import ALPHA, TOLERANCE
from pgbench.recipe.nodes import Friend
from pgbench.recipe.shape import Counted, Strict, Text
from pgbench.types import RunSpec

NOISE = 10.0  # percent; below, speed and memory of equal runs differ by themselves
DECIMAL = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")
_NOISY = f"a number of percent, {NOISE:g} or more: machines are noisy, and a smaller change is none"


def _number(given: object) -> object:
    """Whole numbers, and decimals as the reader of sweep files leaves them: text that it does not trust."""
    text = given.text if isinstance(given, Friend) else given
    if isinstance(text, str) and DECIMAL.fullmatch(text):
        return float(text)
    return float(text) if isinstance(text, int) and not isinstance(text, bool) else given


def _measurable(percent: float) -> float:
    if percent < NOISE:
        raise ValueError("smaller than the noise of a machine")
    return percent


def _glob(given: object) -> object:
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


Points: TypeAlias = Annotated[float, BeforeValidator(_number), Field(ge=0, le=100)]
Share: TypeAlias = Annotated[float, BeforeValidator(_number), Field(gt=0, lt=0.5)]
Percent: TypeAlias = Annotated[
    float, BeforeValidator(_number), Field(ge=0, le=10_000), AfterValidator(_measurable)
]
Glob: TypeAlias = Annotated[Text, BeforeValidator(_glob)]
Names: TypeAlias = Annotated[list[Text], Field(min_length=1)]


class Match(Strict):
    """Which cells; * and ? stand for anything. What is not named may be anything."""

    task: Glob | None = Field(default=None, description="a task, or a pattern such as mm*")
    variant: Glob | None = Field(default=None, description="a variant, or a pattern")
    mode: Glob | None = Field(default=None, description="generate | likelihood, or a pattern")
    split: Glob | None = Field(default=None, description="a split, or a pattern")
    checkpoint: Glob | None = Field(
        default=None, description="a checkpoint, or a pattern such as google/*-448"
    )
    resolution: Glob | None = Field(default=None, description="px, or a pattern")
    quant: Glob | None = Field(
        default=None, description="none | 8bit | 4bit | fp4, or a pattern such as ?bit"
    )
    dtype: Glob | None = Field(default=None, description="float32 | bfloat16 | float16, or a pattern")
    style: Glob | None = Field(default=None, description="paligemma | official, or a pattern")
    protocol: Glob | None = Field(default=None, description="hf | paper, or a pattern")
    adapter: Glob | None = Field(default=None, description="an adapter, or a pattern")


class Require(Strict):
    """Limits on what is no score. None is asked for unless it stands here, failures excepted."""

    failures: Counted | None = Field(default=None, description="failed samples at most: a whole number")
    invalid: Points | None = Field(
        default=None, description="points that the share of invalid answers may rise: 0 to 100"
    )
    memory: Percent | None = Field(default=None, description=f"how far peak memory may rise, {_NOISY}")
    speed: Percent | None = Field(default=None, description=f"how far samples/s may fall, {_NOISY}")


class Defaults(Strict):
    """What holds for every cell unless a rule says otherwise."""

    tolerance: Points | None = Field(
        default=None, description="points, 0 to 100 (1.0 = one percent of the samples)"
    )
    alpha: Share | None = Field(default=None, description="a number above 0 and below 0.5")
    require: Require = Field(
        default=Require(), description="a mapping of failures, invalid, memory and speed"
    )


class Rule(Defaults):
    """What holds for the cells that `match` names."""

    match: Match = Field(description="a mapping of task, split, checkpoint, quant, ...")
    metrics: Names = Field(default=[], description="a list of metrics that gate beside the primary one")
    groups: Names = Field(default=[], description="a list of breakdowns, as setting or setting=adversarial")
    ignore: Text | None = Field(
        default=None, description="the reason why these cells are not checked, as text"
    )


class RulesFile(Strict):
    """A rules file."""

    defaults: Defaults = Field(default=Defaults(), description="a mapping of tolerance, alpha and require")
    rules: list[Rule] = Field(default=[], description="a list of rules, a mapping with match: each")


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked of one cell. Fractions; `memory` and `speed` are changes relative to the baseline."""

    tolerance: float = TOLERANCE
    alpha: float = ALPHA
    metrics: tuple[str, ...] = ()  # beside the primary one
    groups: tuple[str, ...] = ()  # "setting" or "setting=adversarial"
    failures: int = 0
    invalid: float | None = None
    memory: float | None = None
    speed: float | None = None
    ignore: str | None = None  # the reason


@dataclass(frozen=True, slots=True)
class Rules:
    """A checked rules file, the places of its rules, and what flags said, which counts for every cell."""

    file: RulesFile = field(default_factory=RulesFile)
    spots: tuple[str, ...] = ()  # file:line:column, one for each rule
    tolerance: float | None = None  # a fraction
    alpha: float | None = None

    def terms(self, spec: RunSpec) -> Terms:
        """What is asked of a cell."""
        rules = [rule for rule in self.file.rules if fits(rule.match, spec)]
        layers: list[Defaults] = [self.file.defaults, *rules]
        asked = [one.require for one in layers]
        tolerance = _last(self.tolerance, _shares(one.tolerance for one in layers))
        alpha = _last(self.alpha, (one.alpha for one in layers))
        return Terms(
            tolerance=TOLERANCE if tolerance is None else tolerance,
            alpha=ALPHA if alpha is None else alpha,
            metrics=tuple(dict.fromkeys(name for rule in rules for name in rule.metrics)),
            groups=tuple(dict.fromkeys(name for rule in rules for name in rule.groups)),
            failures=int(_last(None, (one.failures for one in asked)) or 0),
            invalid=_last(None, _shares(one.invalid for one in asked)),
            memory=_last(None, _shares(one.memory for one in asked)),
            speed=_last(None, _shares(one.speed for one in asked)),
            ignore=next((rule.ignore for rule in reversed(rules) if rule.ignore), None),
        )

    def place(self, name: str, spec: RunSpec) -> str:
        """Where the rule stands that names this metric or group for that cell."""
        for rule, spot in zip(self.file.rules, self.spots, strict=True):
            if name in (*rule.metrics, *rule.groups) and fits(rule.match, spec):
                return spot
        return "rules"

    def idle(self, specs: Sequence[RunSpec]) -> tuple[str, ...]:
        """The places of rules that match no cell."""
        placed = zip(self.file.rules, self.spots, strict=True)
        return tuple(spot for rule, spot in placed if not any(fits(rule.match, spec) for spec in specs))


def fits(match: Match, spec: RunSpec) -> bool:
    """Whether a cell is one of those that a rule names."""
    point = spec.checkpoint
    seen = {
        "task": spec.task,
        "variant": spec.variant,
        "mode": spec.mode,
        "split": spec.split,
        "checkpoint": point.id,
        "resolution": str(point.resolution),
        "quant": point.quant,
        "dtype": point.dtype,
        "style": point.profile.style,
        "protocol": point.protocol,
        "adapter": point.adapter or "",
    }
    return all(fnmatchcase(seen[name], getattr(match, name)) for name in match.model_fields_set)


def _last(flag: float | None, said: Iterable[float | None]) -> float | None:
    """What a flag says, else the last of what the layers say."""
    found = [one for one in said if one is not None]
    return flag if flag is not None else found[-1] if found else None


def _shares(said: Iterable[float | None]) -> Iterator[float | None]:
    """Points and percent as fractions."""
    return (None if one is None else one / 100 for one in said)

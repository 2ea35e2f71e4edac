"""How the numbers and reasons of a check read. Pure."""

from __future__ import annotations

from pgbench.check.findings import Measure
from pgbench.check.verdicts import Statistical
from pgbench.report.axes import adapter_name
from pgbench.report.table import size
from pgbench.types import RunSpec


def cell_name(spec: RunSpec) -> str:
    """What a person knows a cell by, in one line: task and version, split, checkpoint and level.

    >>> from pgbench.types import Checkpoint, DataSource, Profile
    >>> point = Checkpoint("google/x-mix-224", "f00", Profile("mix", "paligemma"), 224, quant="4bit")
    >>> cell_name(RunSpec("pope", 1, "default", "generate", "test", DataSource("hub", "x"), point))
    'pope v1 test · google/x-mix-224 224 px 4bit'
    """
    point = spec.checkpoint
    asked = [f"{spec.task} v{spec.version}", spec.split]
    asked += [spec.variant] if spec.variant != "default" else []
    asked += [spec.mode] if spec.mode != "generate" else []
    asked += [f"limit {spec.limit}"] if spec.limit is not None else []
    level = point.dtype if point.quant == "none" else point.quant
    answered = [point.id, *([f"{point.resolution} px"] if point.resolution else []), level]
    answered += [f"style {point.profile.style}"] if point.profile.style != "paligemma" else []
    answered += ["paper protocol"] if point.protocol == "paper" else []
    answered += [f"adapter {adapter_name(point)}"] if point.adapter else []
    answered += ["language model only"] if point.quant_scope == "language" else []
    answered += [f"pixels from {point.pixels_from} px"] if point.pixels_from else []
    return f"{' '.join(asked)} · {' '.join(answered)}"


def reason(verdict: Statistical, measure: Measure, family: int) -> str:
    """Why a score has its verdict."""
    unit = " points" if measure.unit == "points" else ""
    seen, limit = difference(measure, unit), f"{_tolerance(measure)}{unit}"
    among = f" after Holm over {family:,}" if family > 1 else ""
    if verdict == "regressed":
        return f"{seen}, a drop beyond the tolerance of {limit}; p = {_p(measure.p_worse)}{among}"
    if verdict == "improved":
        return f"{seen}; p = {_p(measure.p_better)}{among}"
    if verdict == "ok":
        return f"{seen}, the lower bound is within the tolerance of {limit}"
    if measure.low is None:
        return f"{seen}, without a bound: too few samples differ, or all by the same"
    more = f"about {measure.needed:,} would (power 0.8)" if measure.needed else "no number of them would"
    return f"{seen}; {measure.n:,} samples do not tell if a drop is within the tolerance of {limit}, {more}"


def figures(measure: Measure) -> tuple[str, str, str, str, str]:
    """Baseline, candidate, difference with bounds, tolerance, n with failures."""
    return (
        value(measure, measure.before),
        value(measure, measure.after),
        difference(measure),
        _tolerance(measure),
        count(measure),
    )


def value(measure: Measure, number: float) -> str:
    """One side's number in the unit of print."""
    if measure.unit == "bytes":
        return size(int(number))
    return f"{100 * number:.2f}" if measure.unit == "points" else f"{number:,.2f}"


def difference(measure: Measure, points: str = "") -> str:
    """In points, in the unit of a number, or in percent of the baseline. `points`: what follows points."""
    scale, unit = _scale(measure)
    unit = unit or points
    bounds = [f"{scale * one:+.2f}" for one in (measure.low, measure.high) if one is not None]
    text = f"{scale * measure.difference + 0.0:+.2f}{unit}"  # + 0.0: no minus before a zero
    return f"{text} ({' to '.join(bounds)})" if bounds else text


def count(measure: Measure) -> str:
    """Samples, and how many of them have no answer."""
    if not measure.n:
        return ""
    failed = f", failed {measure.failed[0]:,}/{measure.failed[1]:,}" if any(measure.failed) else ""
    return f"{measure.n:,}{failed}"


def _tolerance(measure: Measure) -> str:
    scale, unit = _scale(measure)
    return f"{scale * measure.tolerance:.2f}{unit}"


def _scale(measure: Measure) -> tuple[float, str]:
    if measure.unit in ("bytes", "samples/s"):
        return 100.0, " %"
    return (100.0, "") if measure.unit == "points" else (1.0, "")


def _p(p: float | None) -> str:
    if p is None:
        return "?"
    return f"{p:.4f}" if p >= 0.0001 else "below 0.0001"

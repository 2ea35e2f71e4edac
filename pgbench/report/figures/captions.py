"""The sentences under a figure: what is drawn, over how many samples, with which doubts. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from pgbench.report.figures.cells import Cell, listed, measured, panels

_KINDS = {
    "clustered t": "t, clustered by image or pair",
    "wilson": "Wilson over clusters",
    "bootstrap": "bootstrap over clusters",
}


def sentence(*parts: str) -> str:
    """One paragraph; parts that say nothing are left out, a full stop ends each."""
    return " ".join(part if part.endswith(".") else f"{part}." for part in parts if part)


def over(cells: Sequence[Cell]) -> str:
    """Task, split, metric, n and failures of each panel."""
    parts = []
    for (task, metric), found in panels(cells).items():
        failed = sum(cell.score.failed for cell in found)
        lost = f", {failed:,} of them failed in all cells together" if failed else ", none failed"
        parts.append(f"{task}: {metric}, {measured(found)}{lost}")
    return "Scores: " + "; ".join(parts) if parts else ""


def intervals(cells: Iterable[Cell], bars: str = "Bars") -> str:
    """What the bars are."""
    found = list(cells)
    kinds = sorted({cell.score.interval for cell in found} - {"none"})
    without = [cell.name for cell in found if cell.bounds[0] is None]
    said = f"{bars} are 95 % intervals ({', '.join(_KINDS[kind] for kind in kinds)})" if kinds else ""
    return "; ".join([*([said] if said else []), *([f"no interval: {listed(without)}"] if without else [])])


def hollow(cells: Iterable[Cell]) -> str:
    """Whose points are hollow, by reason."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    found = list(cells)
    for cell in found:
        for doubt in cell.doubts:
            by_reason[doubt].append(f"{cell.task}, {cell.name}")
    everyone = len({f"{cell.task}, {cell.name}" for cell in found})
    parts = [
        f"{reason} ({'all points' if len(set(names)) == everyone > 1 else listed(names, '; ')})"
        for reason, names in by_reason.items()
    ]
    return "Hollow points: " + "; ".join(parts) if parts else ""


def missing(phrases: Iterable[str]) -> str:
    """What could not be drawn, and why."""
    text = listed(phrases, "; ")
    return f"Not drawn: {text}" if text else ""


def grouped(phrases: Mapping[str, Sequence[str]]) -> list[str]:
    """Names by what they lack, as phrases for `missing`."""
    return [f"{listed(names, '; ')} ({why})" for why, names in phrases.items() if names]

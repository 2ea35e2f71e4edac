"""A check as a table and as sentences. Pure; whoever prints escapes what names have in them."""

from __future__ import annotations

from collections.abc import Sequence

from pgbench.check.findings import Check, Finding
from pgbench.check.words import figures
from pgbench.report.table import Table

_CHANGED = "changed: "
_MARKS = {"regressed": "REGRESSED", "failed": "FAILED", "missing": "MISSING", "incomparable": "INCOMPARABLE"}


def of_check(check: Check) -> Table:
    """A row for each finding, the worst first; the reasons of all that is not ok below."""
    rows = tuple(
        (
            _MARKS.get(one.verdict, one.verdict),
            one.cell,
            one.what or "the cell",
            *(figures(one.measure) if one.measure else ("", "", "", "", "")),
        )
        for one in check.findings
    )
    return Table(
        title=(headline(check),),
        columns=("verdict", "cell", "", "baseline", "candidate", "difference", "tolerance", "n"),
        rows=rows,
        notes=(*legend(check), *reasons(check)),
        left=3,
    )


def headline(check: Check) -> str:
    """How many of which verdict."""
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in check.counts.items())
    return f"check: {counts or 'nothing to judge'}"


def legend(check: Check) -> list[str]:
    """How the figures are to be read."""
    if not check.family:
        return []
    tests = f"{check.family:,} gated score{'s' if check.family > 1 else ''}"
    return [
        "scores in percent; difference: candidate minus baseline in the good direction, one-sided bounds",
        f"p adjusted by Holm over the {tests} of this check",
    ]


def reasons(check: Check) -> list[str]:
    """A sentence on each finding that is not ok, what changed beside the numbers, and warnings."""
    found = [sentence(one) for one in check.findings if one.verdict != "ok"]
    noted: dict[str, list[str]] = {}
    for one in check.findings:
        for note in one.notes:
            cells = noted.setdefault(note, [])
            cells += [one.cell] if one.cell not in cells else []
    alike: dict[tuple[str, ...], list[str]] = {}
    for note, cells in noted.items():
        alike.setdefault(tuple(cells), []).append(note)
    notes = [f"note: {note} ({_some(cells)})" for cells, some in alike.items() for note in one_change(some)]
    return [*found, *notes, *(f"warning: {text}" for text in check.warnings)]


def sentence(finding: Finding) -> str:
    """A finding in one line."""
    return f"{finding.verdict}: {finding.title}: {finding.reason}"


def one_change(notes: Sequence[str]) -> list[str]:
    """All that changed in one line, where it was first said; other notes as they are.

    >>> one_change(["changed: quant: none → 4bit", "changed: device: cpu → cuda", "LIMITED"])
    ['changed: quant: none → 4bit; device: cpu → cuda', 'LIMITED']
    """
    changes = [note for note in notes if note.startswith(_CHANGED)]
    joined = _CHANGED + "; ".join(note.removeprefix(_CHANGED) for note in changes)
    return [joined if note in changes else note for note in notes if note not in changes[1:]]


def _some(cells: Sequence[str]) -> str:
    more = f" and {len(cells) - 3:,} more" if len(cells) > 3 else ""
    return "; ".join(cells[:3]) + more

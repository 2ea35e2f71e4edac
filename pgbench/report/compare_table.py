"""Two runs side by side, as a table and as a document. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pgbench.paired.compare import Comparison, Row
from pgbench.paired.differences import Mismatch
from pgbench.paired.evidence import Evidence
from pgbench.paired.matching import differing
from pgbench.report.table import Table, caveats, seen
from pgbench.store import plain

COLUMNS = ("before", "after", "change", "95 % interval", "p", "flips", "n", "clusters", "failed")
_SMALL = 1e-4  # below, a p is said to be smaller


def of_comparison(comparison: Comparison) -> Table:
    """A row for each metric: what it was, what it is, the change in points with its paired interval."""
    spec = comparison.before.record.spec
    return Table(
        title=(
            *_warning(comparison),
            f"{spec.task} v{spec.version} · {spec.split} · {comparison.shared:,} samples compared",
            f"before: {_named(comparison.before)}",
            f"after:  {_named(comparison.after)}",
        ),
        columns=("metric", *COLUMNS),
        rows=tuple((_metric(row), *cells(row)) for row in comparison.rows),
        notes=tuple(_notes(comparison, comparison.rows)),
    )


def by_group(comparison: Comparison) -> Table:
    """A row for each value of the breakdown and metric; intervals, no p."""
    dropped = COLUMNS.index("p")
    rows = (
        (_metric(row), row.group or "", *(cell for place, cell in enumerate(cells(row)) if place != dropped))
        for row in comparison.groups
    )
    return Table(
        title=(
            *_warning(comparison),
            f"{comparison.before.record.spec.task} {comparison.before.record.spec.split} by {comparison.by}",
        ),
        columns=("metric", comparison.by or "", *(name for name in COLUMNS if name != "p")),
        rows=tuple(rows),
        notes=(
            _intervals(comparison.groups),
            "no p values: of many some are small by chance alone; each interval is of one value by itself",
        ),
        left=2,
    )


def of_couples(comparisons: Sequence[Comparison], *, every: bool) -> Table:
    """The primary metric of each pair of runs, or with `every` all that were compared."""
    chosen = [(one, row) for one in comparisons for row in one.rows[: None if every else 1]]
    rows = []
    for one, row in chosen:
        spec = one.before.record.spec
        changed = ", ".join(differing(one.before.record, one.after.record))
        name = " ".join([spec.task, spec.split, *_marks(one)])
        rows.append((name, _cell(one.before), changed or "same cell", _metric(row), *cells(row)))
    shown = [row for _, row in chosen]
    return Table(
        title=(f"{len(comparisons):,} pair{'s' if len(comparisons) != 1 else ''} of runs, after - before",),
        columns=("task", "checkpoint", "changed", "metric", *COLUMNS),
        rows=tuple(rows),
        notes=(_intervals(shown), *_tests(shown), _flips(shown), *_of_all(comparisons)),
        left=4,
    )


def cells(row: Row) -> tuple[str, ...]:
    """Before, after, change, interval, p, flips, n, clusters and failed, as text."""
    scale = 1 if row.number else 100
    found, tested = row.difference, row.test
    interval = "none"
    if found and found.low is not None and found.high is not None:
        interval = f"{scale * found.low:+.2f} to {scale * found.high:+.2f}"
    words = ("lost", "gained") if row.binary else ("fell", "rose")
    return (
        *("undefined" if value is None else f"{scale * value:.2f}" for value in (row.before, row.after)),
        f"{scale * found.value + 0.0:+.2f}" if found else "undefined",
        interval,
        "" if tested is None else _p(tested.p),
        f"{row.fell:,} {words[0]}, {row.rose:,} {words[1]}",
        f"{row.n:,}",
        f"{row.clusters:,}",
        f"{row.failed[0]:,}" if row.failed[0] == row.failed[1] else f"{row.failed[0]:,} → {row.failed[1]:,}",
    )


def _p(p: float) -> str:
    return f"<{_SMALL:.4f}" if p < _SMALL else f"{p:.4f}"


def _metric(row: Row) -> str:
    arrow = {"up": "", "down": " (lower is better)", None: " (neither is better)"}[row.direction]
    return f"{row.metric}{' (no %)' if row.number else ''}{arrow}"


def _named(run: Evidence) -> str:
    return f"{_cell(run)} ({run.place})"


def _cell(run: Evidence) -> str:
    point = run.record.spec.checkpoint
    parts = [f"{point.id}@{point.revision[:8]}" if point.revision else point.id]
    if point.resolution:
        parts += [f"{point.resolution} px", point.quant if point.quant != "none" else point.dtype]
    return " · ".join(parts)


def _warning(comparison: Comparison) -> Iterator[str]:
    refusing = [one.said for one in comparison.mismatches if one.refuses]
    if refusing:
        yield "NOT COMPARABLE: the change below may come from what differs and not from the models"
        yield from (f"  {said}" for said in refusing)


def _notes(comparison: Comparison, rows: Sequence[Row]) -> Iterator[str]:
    if comparison.before.place == comparison.after.place:
        yield "before and after are one and the same run"
    unit = "in points (no %: as it is)" if any(row.number for row in rows) else "in points"
    yield f"change: after - before, {unit}; {_intervals(rows)}"
    yield from _tests(rows)
    yield _flips(rows)
    if comparison.dropped:
        word = "sample" if comparison.dropped == 1 else "samples"
        yield f"left out: {comparison.dropped:,} {word} that failed on either side"
    if comparison.unpaired:
        yield f"not paired, one number of the whole run: {', '.join(comparison.unpaired)}"
    yield from _different(comparison.mismatches)
    ours, theirs = (_said_of(run) for run in (comparison.before, comparison.after))
    for caveat in dict.fromkeys([*ours, *theirs]):
        side = "both" if caveat in ours and caveat in theirs else "before" if caveat in ours else "after"
        yield f"{side}: {caveat}"


def _different(mismatches: Iterable[Mismatch]) -> Iterator[str]:
    named = [one.said for one in mismatches if not one.refuses]
    if named:
        yield f"also different: {'; '.join(named)}"


def _of_all(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """What the pairs of a list differ in, each once, with the number of pairs."""
    counts = Counter((one.refuses, one.said) for found in comparisons for one in found.mismatches)
    alike: dict[tuple[bool, int], list[str]] = {}
    for (refuses, said), count in counts.items():
        alike.setdefault((refuses, count), []).append(said)
    for (refuses, count), told in sorted(alike.items(), key=lambda one: not one[0][0]):
        where = f" (in {count:,} of {len(comparisons):,})" if len(comparisons) > 1 else ""
        yield f"{'NOT COMPARABLE' if refuses else 'also different'}: {'; '.join(told)}{where}"


def _intervals(rows: Sequence[Row]) -> str:
    found = [row.difference for row in rows if row.difference]
    kinds = sorted({one.kind for one in found})
    drawn = {one.kind: f" ({one.draws:,} draws, seed {one.seed})" for one in found if one.draws}
    said = [f"{kind}{drawn.get(kind, '')}" for kind in kinds]
    return f"intervals: paired over clusters, {', '.join(said) or 'none'}"


def _tests(rows: Sequence[Row]) -> Iterator[str]:
    tests = [row.test for row in rows if row.test]
    kinds = sorted({one.kind for one in tests})
    drawn = next((one for one in tests if one.seed is not None), None)
    draws = f" ({drawn.draws:,} draws, seed {drawn.seed})" if drawn else ""
    said = [f"{kind}{draws if kind == 'label swap' else ''}" for kind in kinds]
    alone = f", each by itself (not adjusted for the {len(tests)} here)" if len(tests) > 1 else ""
    if said:
        yield f"p: {', '.join(said)}; two-sided{alone}"


def _flips(rows: Sequence[Row]) -> str:
    said = []
    if any(row.binary for row in rows):
        said.append("lost: right before and wrong after, gained: the other way")
    if not all(row.binary for row in rows):
        said.append("fell, rose: units whose change alone lowers or raises the value")
    return f"flips: {'; '.join(said)}"


def _seen(run: Evidence) -> list[str]:
    reason = seen(run.record)
    return [f"CONTAMINATED: {reason}"] if reason else []


def _said_of(run: Evidence) -> list[str]:
    """What its numbers cannot be taken for."""
    return [*caveats(run.record), *_seen(run)]


def _marks(comparison: Comparison) -> list[str]:
    """Short words for a list of many; the runs' own tables say them in full."""
    found = [*_said_of(comparison.before), *_said_of(comparison.after)]
    found += [] if comparison.comparable else ["NOT COMPARABLE"]
    words = ("NOT COMPARABLE", "DEMO NUMBERS", "LIMITED", "INCOMPLETE SPLIT", "NO MODEL", "CONTAMINATED")
    return [word for word in words if any(said.startswith(word) for said in found)]


def document(comparison: Comparison) -> dict[str, object]:
    """For `--json`; fractions."""
    return {
        "before": _run(comparison.before),
        "after": _run(comparison.after),
        "comparable": comparison.comparable,
        "differences": [
            {"name": one.name, "was": one.was, "now": one.now, "refuses": one.refuses}
            for one in comparison.mismatches
        ],
        "samples": comparison.shared,
        "dropped": comparison.dropped,
        "not_paired": list(comparison.unpaired),
        "metrics": [_row(row) for row in comparison.rows],
        "by": comparison.by,
        "groups": [_row(row) for row in comparison.groups],
    }


def _run(run: Evidence) -> dict[str, object]:
    record = run.record
    return {
        "run": run.place,
        "key": record.key,
        "spec": plain(record.spec),
        "caveats": _said_of(run),
    }


def _row(row: Row) -> dict[str, object]:
    return {
        "metric": row.metric,
        "group": row.group,
        "before": row.before,
        "after": row.after,
        "difference": plain(row.difference) if row.difference else None,
        "test": plain(row.test) if row.test else None,
        "fell": row.fell,
        "rose": row.rose,
        "binary": row.binary,
        "n": row.n,
        "units": row.units,
        "clusters": row.clusters,
        "failed": {"before": row.failed[0], "after": row.failed[1]},
        "direction": row.direction,
        "number": row.number,
    }

"""A candidate against a baseline, cell by cell, under the rules. What was read comes in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from pgbench.check.findings import Check, Finding, ordered
from pgbench.check.limits import limits, unsound
from pgbench.check.rules import Rules
from pgbench.check.scores import Asked, asked_of, measured, mistakes, same
from pgbench.check.sides import Run, Side
from pgbench.check.words import cell_name
from pgbench.paired.differences import Mismatch, between, failed
from pgbench.paired.evidence import Evidence
from pgbench.paired.matching import Couple, Couples, axes, couples
from pgbench.recipe.places import Mistakes
from pgbench.records import RunRecord
from pgbench.report.table import caveats, seen
from pgbench.stats.swaps import MOST_DRAWS

DRAWS = 9999


def check(
    baseline: Side,
    candidate: Side,
    rules: Rules = Rules(),  # noqa: B008 - frozen
    *,
    strict: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
    step: Callable[[], object] = lambda: None,
) -> Check:
    """Every verdict. `draws` and `seed` are of the label swaps; `step` is called once a gated score.

    Raises Mistakes for rules that name metrics or breakdowns that a cell has not.
    """
    matched = _matched(baseline.runs, candidate.runs)
    found, wrong = list[Finding | Asked](), list[str]()
    for couple in matched.pairs:
        found += _of_couple(couple, rules, wrong)
    if wrong:
        raise Mistakes("the rules do not fit the runs", dict.fromkeys(wrong))
    asked = [one for one in found if isinstance(one, Asked)]
    scored = iter(measured(asked, draws, seed, step))
    findings = [next(scored) if isinstance(one, Asked) else one for one in found]
    findings += [_missing(run, rules, baseline.runs, candidate.runs) for run in matched.missing]
    findings += [_new(run, rules) for run in matched.new]
    findings += [Finding(name, "", "failed", f"baseline: {why}") for name, why in baseline.unreadable]
    findings += [Finding(name, "", "failed", why) for name, why in candidate.unreadable]
    specs = [run.record.spec for run in (*baseline.runs, *candidate.runs)]
    idle = tuple(f"the rule at {place} matches no cell" for place in rules.idle(specs))
    return Check(ordered(findings), len(asked), (*idle, *_out_of_reach(asked)), strict)


def _out_of_reach(asked: Sequence[Asked]) -> Iterator[str]:
    """Levels that no p can be below: under them a collapse would pass."""
    least = 1 / (1 + MOST_DRAWS)
    for alpha in sorted({one.terms.alpha for one in asked}):
        if alpha / len(asked) <= least:
            yield (
                f"alpha {alpha:g} over a family of {len(asked):,} is below any p of a test ({least:.1g}): a "
                "drop in one score cannot be shown; raise alpha, or gate fewer scores"
            )


def _matched(before: Sequence[Run], after: Sequence[Run]) -> Couples[Run]:
    """Runs of the same cell; of another level, say, only where the task has one run on each side. What is
    left over of more would let a cell that came stand in for one that went."""
    found = couples(before, after)
    alone = {key for key, count in Counter(map(_topic, before)).items() if count == 1}
    alone &= {key for key, count in Counter(map(_topic, after)).items() if count == 1}
    parted = [one for one in found.pairs if one.differing and _topic(one.before) not in alone]
    return Couples(
        tuple(one for one in found.pairs if not any(one is other for other in parted)),
        (*found.missing, *(one.before for one in parted)),
        (*found.new, *(one.after for one in parted)),
    )


def _topic(run: Run) -> tuple[str, str, str, str]:
    spec = run.record.spec
    return spec.task, spec.variant, spec.mode, spec.split


def _of_couple(couple: Couple[Run], rules: Rules, wrong: list[str]) -> list[Finding | Asked]:
    """What is to be said of one cell; what rules ask of it in vain goes to `wrong`."""
    ours, theirs = couple.before, couple.after
    spec = theirs.record.spec
    terms = rules.terms(spec)
    common = Finding(cell_name(spec), "", "ok", "", keys=(ours.record.key[:8], theirs.record.key[:8]))
    if terms.ignore:
        return [replace(common, verdict="ignored", reason=terms.ignore)]
    for side, run in (("baseline: ", ours), ("", theirs)):
        if run.evidence is None or (why := unsound(run.record, terms)):
            return [replace(common, verdict="failed", reason=f"{side}{run.broken or why}")]
    before, after = ours.evidence, theirs.evidence
    if before is None or after is None:
        return []  # said above
    if all(run.record.data.unscored == run.record.data.selected for run in (before, after)):
        why = "published without references: a test server scores it"
        return [replace(common, verdict="not compared", reason=why)]
    mismatches = between(before, after, drop_failed=True)
    if refusing := [one.said for one in mismatches if one.refuses]:
        return [replace(common, verdict="incomparable", reason="; ".join(refusing))]
    without = _one_sided(before, after)
    common = replace(common, notes=_notes(before, after, mismatches, len(without)))
    if said := list(mistakes(after, terms)):
        wrong += [f"{rules.place(name, spec)}: {text}" for name, text in said]
        return []
    found: Iterable[Finding | Asked] = asked_of(before, after, terms, common, without)
    if same_run(before, after):
        found = [same(after.record, terms, common)]
    return [*found, *limits(before.record, after.record, terms, common)]


def same_run(before: Evidence, after: Evidence) -> bool:
    """Equal key, stack, scores and statistics of every answer: there is nothing to test."""
    ours, theirs = before.record, after.record
    return (
        (ours.key, ours.stack) == (theirs.key, theirs.stack)
        and before.samples == after.samples
        and before.units.keys() == after.units.keys()
        and _values(ours) == _values(theirs)  # of what has no units too
        and all(_sums(before, name) == _sums(after, name) for name in before.units)
    )


def _values(record: RunRecord) -> dict[str, float | None]:
    return {name: score.value for name, score in record.scores.items()}


def _sums(run: Evidence, metric: str) -> list[object]:
    units = run.units[metric]
    return [list(units.ids), {name: list(column) for name, column in units.sums.items()}]


def _one_sided(before: Evidence, after: Evidence) -> frozenset[str]:
    """Samples that failed on one side only: left out of both."""
    return frozenset(failed(before)) ^ frozenset(failed(after))


def _notes(
    before: Evidence, after: Evidence, mismatches: Sequence[Mismatch], left_out: int
) -> tuple[str, ...]:
    """What changed beside the answers, and what the numbers cannot be taken for."""
    ours, theirs = (dict.fromkeys(_marks(run.record)) for run in (before, after))
    dropped = [f"{left_out:,} samples that failed on one side are left out of both"] if left_out else []
    return (
        *dropped,
        *(f"changed: {one.said}" for one in mismatches),
        *(mark for mark in theirs if mark in ours),
        *(f"candidate: {mark}" for mark in theirs if mark not in ours),
        *(f"baseline: {mark}" for mark in ours if mark not in theirs),
    )


def _marks(record: RunRecord) -> list[str]:
    reason = seen(record)
    return [*caveats(record), *([f"CONTAMINATION: {reason}"] if reason else [])]


def _missing(run: Run, rules: Rules, before: Sequence[Run], after: Sequence[Run]) -> Finding:
    spec = run.record.spec
    common = Finding(cell_name(spec), "", "missing", "", keys=(run.record.key[:8], ""))
    if why := rules.terms(spec).ignore:
        return replace(common, verdict="ignored", reason=why)
    if run.broken:
        return replace(common, verdict="failed", reason=f"baseline: {run.broken}")
    ours, theirs = _like(run, before), _like(run, after)
    if theirs:
        counts = f"{ours:,} in the baseline, {theirs:,} in the candidate"
        return replace(common, reason=f"runs of this cell: {counts}; leave one on each side")
    return replace(common, reason="the baseline has this cell, the candidate has no run of it")


def _like(run: Run, others: Sequence[Run]) -> int:
    return sum(axes(one.record.spec) == axes(run.record.spec) for one in others)


def _new(run: Run, rules: Rules) -> Finding:
    spec = run.record.spec
    common = Finding(
        cell_name(spec), "", "new", "not in the baseline, not judged", keys=("", run.record.key[:8])
    )
    if why := rules.terms(spec).ignore:
        return replace(common, verdict="ignored", reason=why)
    return replace(common, verdict="failed", reason=run.broken) if run.broken else common

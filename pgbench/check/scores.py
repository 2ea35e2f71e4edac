"""The gated scores: their differences, tests and verdicts, all in one family. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from pgbench.check.findings import Finding, Measure, Unit, Verdict
from pgbench.check.rules import Terms
from pgbench.check.verdicts import Hypothesis, Judged, Measured, gate
from pgbench.check.words import reason
from pgbench.errors import DataError, unknown
from pgbench.paired.aligned import Aligned, pair
from pgbench.paired.evidence import Evidence
from pgbench.records import RunRecord
from pgbench.stats import Difference, SwapTest, paired_interval, swap_test


@dataclass(frozen=True, slots=True)
class Asked:
    """One score that is to be gated: the finding that will hold its verdict, and what it is made of."""

    finding: Finding
    aligned: Aligned
    terms: Terms
    before: float
    after: float
    failed: tuple[int, int]

    @property
    def sign(self) -> int:
        """By which a difference turns to the good direction."""
        return -1 if self.aligned.units.direction == "down" else 1

    @property
    def tolerance(self) -> float:
        """In the unit of the metric."""
        return self.terms.tolerance * _unit(number=self.aligned.units.number)[1]


def asked_of(
    before: Evidence, after: Evidence, terms: Terms, common: Finding, without: Collection[str] = ()
) -> Iterator[Asked | Finding]:
    """The scores of a cell that are gated; a finding in place of one that cannot be.

    `common`: the finding of the cell. `terms` have no `mistakes`.
    """
    for metric in dict.fromkeys((before.record.primary, *terms.metrics)):
        if metric not in after.units:
            why = f"{metric} is one number of the whole run, which cannot be gated; run with all metrics"
            yield _finding(common, metric, "incomparable", why)
            continue
        if after.units[metric].direction is None:
            yield _finding(common, metric, "not compared", f"no value of {metric} is better than another")
            continue
        if metric not in before.units:
            why = f"the baseline does not keep {metric} sample by sample; save it anew, with all metrics"
            yield _finding(common, metric, "incomparable", why)
            continue
        for group in (None, *dict.fromkeys(one for name in terms.groups for one in _groups(before, name))):
            yield _asked(before, after, metric, group, terms, common, without)


def mistakes(run: Evidence, terms: Terms) -> Iterator[tuple[str, str]]:
    """Metrics and breakdowns that rules name and a cell has not, each with what is wrong."""
    task, groups = run.record.spec.task, run.record.groups
    for name in terms.metrics:
        if name not in run.record.scores:
            yield name, unknown(f"metric of {task}", name, run.record.scores)
        elif name not in run.units:
            yield name, f"{name} of {task} is one number of the whole run, which cannot be gated"
        elif run.units[name].direction is None:
            yield name, f"no value of {name} of {task} is better than another; it cannot be gated"
    for said in terms.groups:
        name, equals, value = said.partition("=")
        if name not in groups:
            yield said, unknown(f"breakdown of {task}", name, groups)
        elif equals and value not in groups[name]:
            yield said, unknown(f"{name} of {task}", value, groups[name])


def _groups(run: Evidence, said: str) -> list[tuple[str, str]]:
    """ "setting" is every value of it, "setting=adversarial" one."""
    name, equals, value = said.partition("=")
    return [(name, value)] if equals else [(name, one) for one in run.record.groups[name]]


def _asked(
    before: Evidence,
    after: Evidence,
    metric: str,
    group: tuple[str, str] | None,
    terms: Terms,
    common: Finding,
    without: Collection[str],
) -> Asked | Finding:
    what = f"{metric} [{group[0]}={group[1]}]" if group else metric
    try:
        aligned = pair(before, after, metric, group, without)
    except DataError as error:
        why = str(error).replace(before.place, "the baseline").replace(after.place, "the candidate")
        return _finding(common, what, "incomparable", why)
    ours, theirs = values = _values(aligned)
    if theirs is None and ours is not None:
        return _finding(
            common, what, "failed", f"undefined in the candidate, {_shown(ours, aligned)} in the baseline"
        )
    if ours is None or theirs is None:
        both = "on both sides" if values == (None, None) else "in the baseline"
        return _finding(common, what, "not compared", f"undefined {both}: there is no difference")
    failed = len(before.record.failures), len(after.record.failures)
    return Asked(_finding(common, what, "cannot tell", ""), aligned, terms, ours, theirs, failed)


def same(record: RunRecord, terms: Terms, common: Finding) -> Finding:
    """Of the very same run on both sides: there is nothing to test."""
    score = record.scores[record.primary]
    why = "the very same run: key, stack and the statistics of every answer are equal"
    measure = None
    if score.value is not None:
        unit, scale = _unit(number=score.number)
        measure = Measure(unit, score.value, score.value, 0.0, scale * terms.tolerance, n=score.n)
        measure = replace(measure, clusters=score.clusters, failed=(score.failed, score.failed))
    return replace(common, what=record.primary, reason=why, measure=measure)


def _unit(*, number: bool) -> tuple[Unit, int]:
    """Of a metric, with what a tolerance in points is multiplied by: points are hundredths of a fraction, and
    stand for units of its own where a metric is none."""
    return ("number", 100) if number else ("points", 1)


def _values(aligned: Aligned) -> tuple[float | None, float | None]:
    names, reduce = aligned.pair.names, aligned.units.reduce
    ours, theirs = (table.sum(axis=0).tolist() for table in (aligned.before, aligned.after))
    return reduce(dict(zip(names, ours, strict=True))), reduce(dict(zip(names, theirs, strict=True)))


def measured(
    asked: Sequence[Asked], draws: int, seed: int, step: Callable[[], object] = lambda: None
) -> list[Finding]:
    """The findings of all gated scores of a check: Holm's family is all of them."""
    found = []
    for one in asked:
        difference = _interval(one, seed)
        found.append((one, difference, _test(one, difference.value, len(asked), draws, seed)))
        step()
    judged = gate([_hypothesis(*one) for one in found])
    return [_judged(*one, verdict, len(asked)) for one, verdict in zip(found, judged, strict=True)]


def _interval(one: Asked, seed: int) -> Difference:
    units = one.aligned.units
    return paired_interval(
        one.aligned.pair,
        units.reduce,
        mean=units.is_mean,
        bounded=one.aligned.bounded,
        level=1 - 2 * one.terms.alpha,  # so that each of its ends is a one-sided bound at 1 - alpha
        seed=seed,
    )


def _test(one: Asked, value: float, family: int, draws: int, seed: int) -> SwapTest | None:
    """Of the direction that the difference has: the other p is above one half, and settles nothing."""
    if value == 0:
        return None
    units = one.aligned.units
    return swap_test(
        one.aligned.pair,
        units.reduce,
        alternative="less" if value < 0 else "greater",
        mean=units.is_mean,
        draws=draws,
        seed=seed,
        floor=one.terms.alpha / family,
    )


def _hypothesis(one: Asked, difference: Difference, test: SwapTest | None) -> Hypothesis:
    value = one.sign * difference.value
    ends = [None if end is None else one.sign * end for end in (difference.low, difference.high)]
    low, high = ends[:: one.sign]
    p = test.p if test else 1.0
    return Hypothesis(
        name=one.finding.title,
        difference=Measured(value, low, high, difference.stderr),
        p_down=p if value < 0 else 1.0,
        p_up=p if value > 0 else 1.0,
        n=one.aligned.n,
        tolerance=one.tolerance,
        alpha=one.terms.alpha,
    )


def _judged(
    one: Asked, difference: Difference, test: SwapTest | None, judged: Judged, family: int
) -> Finding:
    seen = judged.hypothesis.difference
    measure = Measure(
        unit=_unit(number=one.aligned.units.number)[0],
        before=one.before,
        after=one.after,
        difference=seen.value,
        tolerance=one.tolerance,
        low=seen.low,
        high=seen.high,
        alpha=one.terms.alpha,
        p_worse=judged.p_down,
        p_better=judged.p_up,
        n=one.aligned.n,
        clusters=one.aligned.clusters,
        failed=one.failed,
        interval=difference.kind,
        test=test.kind if test else "",
        draws=(difference.draws, test.draws if test else 0),
        seed=difference.seed if test is None or test.seed is None else test.seed,
        needed=judged.needed,
    )
    return replace(
        one.finding, verdict=judged.verdict, reason=reason(judged.verdict, measure, family), measure=measure
    )


def _finding(common: Finding, what: str, verdict: Verdict, why: str) -> Finding:
    return replace(common, what=what, verdict=verdict, reason=why)


def _shown(value: float, aligned: Aligned) -> str:
    return f"{value:,.2f}" if aligned.units.number else f"{100 * value:.2f}"

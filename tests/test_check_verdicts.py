"""Verdicts from numbers alone: their order, Holm's family, and how many samples would tell."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from statsmodels.stats.multitest import multipletests

from pgbench.check.findings import Finding, Verdict, exit_code, ordered
from pgbench.check.verdicts import Hypothesis, Measured, Statistical, decide, gate, needed

SE = 0.0036


def seen(value: float, stderr: float = SE) -> Measured:
    return Measured(value, value - 1.6448536 * stderr, value + 1.6448536 * stderr, stderr)


def hypothesis(value: float, p_down: float = 1.0, p_up: float = 1.0, n: int = 5000) -> Hypothesis:
    return Hypothesis("x", seen(value), p_down, p_up, n)


@pytest.mark.parametrize(
    ("value", "stderr", "down", "up", "verdict"),
    [
        (-0.03, SE, 0.001, 1.0, "regressed"),
        (-0.03, 0.03, 0.2, 0.9, "cannot tell"),  # looks like a drop, is not shown
        (-0.009, 0.0001, 0.0001, 1.0, "ok"),  # certain, and within the tolerance
        (-0.009, 0.004, 0.01, 1.0, "cannot tell"),  # the drop is shown, its size is not
        (-0.01, 0.001, 0.0001, 1.0, "cannot tell"),  # exactly at the tolerance is not beyond it
        (0.95 - 0.96, 0.001, 0.0001, 1.0, "cannot tell"),  # nor is what rounding leaves of that
        (-0.003, SE, 0.2, 0.9, "ok"),
        (0.03, SE, 1.0, 0.001, "improved"),  # comes before ok
        (0.03, SE, 1.0, 0.05, "ok"),  # alpha itself is not below alpha
        (0.0, 0.02, 0.5, 0.5, "cannot tell"),
    ],
)
def test_the_order_of_verdicts(
    value: float, stderr: float, down: float, up: float, verdict: Statistical
) -> None:
    assert decide(seen(value, stderr), down, up) == verdict


def test_without_a_bound_nothing_is_ok() -> None:
    assert decide(Measured(0.0, None, None, None), 1.0, 1.0) == "cannot tell"
    assert needed(Hypothesis("x", Measured(0.0, None, None, 0.001), 1.0, 1.0, n=50)) is None


def test_without_tolerance_any_shown_drop_counts() -> None:
    assert decide(seen(-0.001), 0.04, 1.0, tolerance=0.0) == "regressed"
    assert decide(seen(-0.001), 0.06, 1.0, tolerance=0.0) == "cannot tell"


def test_every_hypothesis_is_adjusted_for_all_of_them() -> None:
    ps = [0.0004, 0.012, 0.03, 0.2]
    judged = gate([hypothesis(-0.03, p) for p in ps])
    expected = multipletests(ps, method="holm")[1]
    assert [one.p_down for one in judged] == pytest.approx(list(expected))
    assert [one.verdict for one in judged] == ["regressed", "regressed", "cannot tell", "cannot tell"]
    assert gate([hypothesis(-0.03, 0.03)])[0].verdict == "regressed"  # alone it would have been one


def test_improvements_are_a_family_of_their_own() -> None:
    drops = [hypothesis(-0.03, p_down=0.001)] * 9
    assert gate([*drops, hypothesis(0.03, p_up=0.004)])[-1].p_up == pytest.approx(0.04)
    assert [one.p_up for one in gate(drops)] == [1.0] * 9


def test_each_hypothesis_has_its_own_tolerance_and_alpha() -> None:
    one = hypothesis(-0.03, 0.02)
    loose, strict = replace(one, tolerance=0.05), replace(one, alpha=0.01)
    assert [found.verdict for found in gate([loose, strict])] == ["ok", "cannot tell"]


def test_samples_needed_to_show_a_drop() -> None:
    few = Hypothesis("x", seen(-0.03, 0.036), 0.2, 0.8, n=50)
    assert needed(few) == math.ceil(50 * ((1.6448536 + 0.8416212) * 0.036 / 0.03) ** 2)
    assert (needed(few, family=36) or 0) > (needed(few) or 0)


def test_samples_needed_to_show_that_there_is_none() -> None:
    few = Hypothesis("x", seen(-0.004, 0.02), 0.4, 0.6, n=500)
    assert needed(few) == math.ceil(500 * ((1.6448536 + 0.8416212) * 0.02 / 0.006) ** 2)
    assert needed(few) == needed(few, family=36)  # a bound is of one score


def test_samples_needed_where_nothing_differs() -> None:
    share = 1 - 0.05 ** (1 / 50)
    same = Hypothesis("x", Measured(0.0, -share, share, None), 1.0, 1.0, n=50)
    found = needed(same) or 0
    assert 1 - 0.05 ** (1 / found) < 0.01 < 1 - 0.05 ** (1 / (found - 1))


def test_samples_needed_where_few_differ_are_more_than_there_were() -> None:
    """One lost of 450: by its standard error alone 220 samples would have told what 450 do not."""
    few = Hypothesis("x", Measured(-1 / 450, -4.74 / 450, 2.5 / 450, 1 / 450), 0.5, 1.0, n=450)
    assert decide(few.difference, 1.0, 1.0) == "cannot tell"
    assert needed(few) == 727


@pytest.mark.parametrize("value", [-0.01, 0.0, 0.95 - 0.96])
def test_no_number_of_samples_tells_what_lies_on_the_line(value: float) -> None:
    tolerance = round(-value, 6)
    assert needed(replace(hypothesis(value), tolerance=tolerance)) is None


def finding(verdict: Verdict) -> Finding:
    return Finding("cell", "accuracy", verdict, "")


@pytest.mark.parametrize(
    ("verdicts", "code", "strict"),
    [
        (["ok", "improved", "not compared", "ignored", "new"], 0, 0),
        (["ok", "cannot tell"], 0, 3),
        (["regressed", "missing", "cannot tell"], 1, 1),
        (["failed"], 3, 3),
        (["incomparable"], 3, 3),
        (["missing"], 3, 3),
        ([], 0, 0),
    ],
)
def test_exit_codes(verdicts: list[Verdict], code: int, strict: int) -> None:
    findings = [finding(one) for one in verdicts]
    assert (exit_code(findings), exit_code(findings, strict=True)) == (code, strict)


def test_the_worst_comes_first() -> None:
    given: list[Verdict] = ["ok", "new", "cannot tell", "failed", "regressed"]
    assert [one.verdict for one in ordered(map(finding, given))] == [
        "regressed", "failed", "cannot tell", "ok", "new",
    ]  # fmt: skip

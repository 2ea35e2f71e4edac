"""McNemar, Holm and the detectable effect against statsmodels, scipy and closed forms."""

from __future__ import annotations

import math
import re
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower

from pgbench import stats
from pgbench.stats import Alternative, detectable_effect, holm, mcnemar

COUNT = st.integers(0, 400)
PS = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@given(COUNT, COUNT)
@settings(deadline=None)
def test_mcnemar_is_the_exact_one_of_statsmodels(lost: int, gained: int) -> None:
    wanted = reference_mcnemar([[7, lost], [gained, 5]], exact=True).pvalue if lost + gained else 1.0
    assert mcnemar(lost, gained) == pytest.approx(min(1.0, wanted), rel=1e-9)


@given(COUNT, COUNT, st.sampled_from([("less", "greater"), ("greater", "less")]))
@settings(deadline=None)
def test_one_side_of_mcnemar_is_a_binomial_tail(
    lost: int, gained: int, ways: tuple[Alternative, Alternative]
) -> None:
    """Few gained of all that differ is what "after is worse" makes."""
    ours, theirs = ways
    wanted = 1.0
    if lost + gained:
        few = gained if ours == "less" else lost
        wanted = scipy.stats.binomtest(few, lost + gained, 0.5, alternative="less").pvalue
    assert mcnemar(lost, gained, ours) == pytest.approx(wanted, rel=1e-9)
    assert mcnemar(gained, lost, theirs) == mcnemar(lost, gained, ours)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(10, 0, "less") == pytest.approx(1 / 1024)
    assert mcnemar(10, 0, "greater") == pytest.approx(1.0)
    assert mcnemar(10, 0) == pytest.approx(2 / 1024)


@pytest.mark.parametrize("size", [1, 2, 7, 36])
@pytest.mark.parametrize("power", [1, 4])  # of 4: many small ones
def test_holm_is_that_of_statsmodels(size: int, power: int) -> None:
    ps = (np.random.default_rng(size).random(size).round(3) ** power).tolist()
    wanted = multipletests(ps, method="holm")[1]
    assert holm(ps) == pytest.approx(list(wanted), rel=1e-12)


@given(PS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_holm_keeps_order_and_never_lowers(ps: list[float], random: object) -> None:
    adjusted = holm(ps)
    assert all(after >= before for before, after in zip(ps, adjusted, strict=True))
    assert [adjusted[place] for place in np.argsort(ps, kind="stable")] == sorted(adjusted)
    assert min(adjusted) == min(1.0, len(ps) * min(ps))
    places = list(range(len(ps)))
    random.shuffle(places)  # type: ignore[attr-defined]
    assert holm([ps[place] for place in places]) == tuple(adjusted[place] for place in places)


def test_holm_by_hand() -> None:
    """Equal ones share the larger; a later one is never below an earlier one."""
    assert holm([]) == ()
    assert holm([0.2]) == (0.2,)
    assert holm([0.01, 0.01, 0.5]) == pytest.approx((0.03, 0.03, 0.5))
    assert holm([0.02, 0.021, 0.9]) == pytest.approx((0.06, 0.06, 0.9))
    assert holm([0.4, 0.6]) == pytest.approx((0.8, 0.8))


def test_holm_leaves_the_others_as_they_are_where_one_is_certain() -> None:
    """The gate gives a p of 1 to what points the other way."""
    assert holm([0.01, 0.7])[0] == holm([0.01, 1.0])[0]


@given(
    st.floats(1e-4, 0.1),
    st.sampled_from([0.8, 0.9, 0.95]),
    st.sampled_from([0.05, 0.01]),
    st.booleans(),
)
@settings(deadline=None, max_examples=30)
def test_the_detectable_effect_is_that_of_statsmodels(
    stderr: float, power: float, alpha: float, two_sided: bool
) -> None:
    """One sample (ratio 0) of size 1 and spread `stderr`; it counts the far tail too, of below 1e-5."""
    wanted = NormalIndPower().solve_power(
        nobs1=1, ratio=0, alpha=alpha, power=power, alternative="two-sided" if two_sided else "larger"
    )
    found = detectable_effect(stderr, power, alpha, two_sided=two_sided)
    assert found == pytest.approx(wanted * stderr, rel=1e-5)


def test_the_detectable_effect_is_found_as_often_as_it_says() -> None:
    normal = NormalDist()
    effect = detectable_effect(0.01)
    assert 1 - normal.cdf(normal.inv_cdf(0.975) - effect / 0.01) == pytest.approx(0.8)
    assert effect == pytest.approx(0.0280159, abs=1e-7)
    assert detectable_effect(0.01, two_sided=False) < effect
    assert detectable_effect(0.0) == 0.0


@pytest.mark.parametrize("ps", [[0.5, -0.1], [1.1], [math.nan]])
def test_holm_refuses_what_is_no_p(ps: list[float]) -> None:
    with pytest.raises(ValueError, match="expected p in"):
        holm(ps)


def test_mcnemar_refuses_what_is_no_count() -> None:
    with pytest.raises(ValueError, match="got -1 lost"):
        mcnemar(-1, 3)
    with pytest.raises(ValueError, match="got 'worse'"):
        mcnemar(1, 3, "worse")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stderr", "power", "alpha"), [(-1, 0.8, 0.05), (0.1, 1, 0.05), (0.1, 0.8, 0), (math.nan, 0.8, 0.05)]
)
def test_effects_that_cannot_be_are_refused(stderr: float, power: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="expected stderr"):
        detectable_effect(stderr, power, alpha)


def test_the_example_of_the_page_works() -> None:
    page = (Path(__file__).parents[1] / "docs" / "statistics.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["found"].kind == "few differences seen"
    assert names["found"].value == pytest.approx(-0.05)


def test_the_public_names_are_sorted_and_there() -> None:
    assert stats.__all__ == sorted(stats.__all__)
    assert all(hasattr(stats, name) for name in stats.__all__)

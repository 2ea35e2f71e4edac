"""The gate's error rates with few small draws; `make prove` has 2,000 of 5,000 samples."""

from __future__ import annotations

import math
from collections import Counter

import gates
import numpy as np
import pytest

DRAWS, SAMPLES = 300, 1_000


def verdicts(tolerance: float, drop: float = 0.0, samples: int = SAMPLES, draws: int = DRAWS) -> Counter[str]:
    rng = np.random.default_rng(round(1000 * drop))
    return Counter(gates.judged([gates.draw(rng, samples, drop)], tolerance)[0] for _ in range(draws))


def test_without_tolerance_one_in_twenty_alarms() -> None:
    """Within four standard errors of 5 %."""
    found = verdicts(0.0)
    reach = 4 * math.sqrt(0.05 * 0.95 / DRAWS)
    assert abs(found["regressed"] / DRAWS - 0.05) < reach
    assert abs(found["improved"] / DRAWS - 0.05) < reach


def test_a_tolerance_of_a_point_stops_alarms() -> None:
    found = verdicts(0.01, samples=5_000, draws=100)
    assert found["regressed"] <= 1
    assert found["ok"] >= 75


def test_a_drop_of_three_points_is_found() -> None:
    assert verdicts(0.01, drop=0.03, samples=5_000, draws=60)["regressed"] >= 57


def test_many_cells_do_not_alarm_more_often() -> None:
    """Without Holm 84 % of such checks would have an alarm."""
    rng = np.random.default_rng(3)
    checks = [gates.judged([gates.draw(rng, 200) for _ in range(36)], 0.0) for _ in range(30)]
    assert sum("regressed" in check for check in checks) <= 6


def test_draws_are_what_they_are_said_to_be() -> None:
    likeness = gates.likeness(5_000, draws=100)
    assert likeness["flips"] == pytest.approx(0.08, abs=0.003)
    assert likeness["clusters"] == pytest.approx(2_500, rel=0.02)
    assert likeness["design_effect"] == pytest.approx(1.4, abs=0.1)
    rng = np.random.default_rng(1)
    drops = [gates.draw(rng, 5_000, 0.03).pair for _ in range(100)]
    seen = np.mean([np.subtract(pair.after, pair.before)[:, 0].sum() / 5_000 for pair in drops])
    assert seen == pytest.approx(-0.03, abs=0.0015)

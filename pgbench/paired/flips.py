"""Which units two runs judge differently, and which way each of them moves the value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbench.paired.aligned import Aligned
from pgbench.paired.metrics import reduced

if TYPE_CHECKING:
    from pgbench.stats.pairs import Table

_NOISE = 1e-12  # what rounding may make of an unchanged score


@dataclass(frozen=True, slots=True)
class Flip:
    """One unit. `change`: of a mean its own score's; else what the value of the first run would change by if
    this unit alone were judged as in the second. Never 0."""

    unit: str
    change: float


def is_binary(both: Aligned) -> bool:
    """Whether the metric is a mean of units that score 0 or 1 of 1, or nothing of nothing."""
    import numpy as np

    if not both.units.is_mean:
        return False
    total, count = (both.pair.names.index(name) for name in ("sum", "n"))
    return all(
        bool(np.isin(table[:, count], (0.0, 1.0)).all())
        and bool(((table[:, total] == 0.0) | (table[:, total] == table[:, count])).all())
        for table in (both.before, both.after)
    ) and bool((both.before[:, count] == both.after[:, count]).all())


def flips_of(both: Aligned) -> tuple[Flip, ...]:
    """In the order of the run.

    A metric that is no mean has no score of one sample (F1): there a unit falls where its change, put alone
    into the first run, lowers the value. Units that move nothing are none.
    """
    import numpy as np

    moved = np.flatnonzero((np.abs(both.after - both.before) > _NOISE).any(axis=1))
    changes = _of_scores(both) if both.units.is_mean else None
    if changes is None:
        changes = np.zeros(len(both.ids))
        changes[moved] = _alone(both, both.after[moved] - both.before[moved])
    return tuple(
        Flip(both.ids[place], float(changes[place])) for place in moved if abs(changes[place]) > _NOISE
    )


def _of_scores(both: Aligned) -> Table | None:
    """The change of each unit's own mean; None where a unit has other counts on the two sides."""
    import numpy as np

    total, count = (both.pair.names.index(name) for name in ("sum", "n"))
    n = both.before[:, count]
    if not np.array_equal(n, both.after[:, count]):
        return None
    gains: Table = (both.after - both.before)[:, total] / np.where(n == 0, 1.0, n)
    return gains


def _alone(both: Aligned, gains: Table) -> Table:
    """Many units change alike (a yes that became a no), and are reduced once."""
    import numpy as np

    start = both.before.sum(axis=0)
    value = _reduced(both, start)
    kinds, which = np.unique(gains, axis=0, return_inverse=True)
    found = [_reduced(both, start + kind) for kind in kinds]
    changes = np.array([0.0 if one is None or value is None else one - value for one in found])
    return changes[which.reshape(-1)]


def _reduced(both: Aligned, total: Table) -> float | None:
    return reduced(both.units.reduce, dict(zip(both.pair.names, total.tolist(), strict=True)))

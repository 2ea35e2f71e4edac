"""Two runs of the same questions as numbers: what each cluster sums up to before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from pgbench.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Table: TypeAlias = NDArray[np.float64]
    Rows: TypeAlias = Sequence[Sequence[float]] | NDArray[np.number]

Reduce: TypeAlias = Callable[[Mapping[str, float]], float | None]
Alternative: TypeAlias = Literal["two-sided", "less", "greater"]  # of "after" against "before"
ALTERNATIVES = ("two-sided", "less", "greater")
FEW = 10  # clusters that differ; fewer are few: the test is exact, and the interval minds what was not seen

# Sums of the same scores in another order differ by rounding, of about 1e-16 a score; real ones by more.
NOISE = 1e-9


@dataclass(frozen=True, slots=True)
class Pair:
    """Additive statistics per cluster (rows) and name (columns); row i is the same cluster on both sides.

    A side may be a numpy array.
    Raises ValueError where the two sides differ in shape or a row has not one number for each name.
    """

    names: tuple[str, ...]
    before: Rows
    after: Rows

    def __post_init__(self) -> None:
        if len(self.before) != len(self.after):
            raise ValueError(
                f"expected the same clusters on both sides, got {len(self.before)} and {len(self.after)}"
            )
        widths = {len(row) for rows in (self.before, self.after) for row in rows}
        if widths - {len(self.names)}:
            raise ValueError(f"expected {len(self.names)} statistics a cluster, got {sorted(widths)}")


def tables(pair: Pair) -> tuple[Table, Table]:
    """Both sides as arrays, clusters x names. Raises DataError for a pair without clusters."""
    import numpy as np

    if not len(pair.before):
        raise DataError("nothing to compare: no cluster is on both sides; name two runs of the same samples")
    return np.asarray(pair.before, dtype=np.float64), np.asarray(pair.after, dtype=np.float64)


def differs(before: Table, after: Table) -> NDArray[np.bool_]:
    """Which clusters have other statistics after than before, by more than rounding."""
    import numpy as np

    size = np.maximum(1.0, np.maximum(np.abs(before), np.abs(after)))
    found: NDArray[np.bool_] = np.any(np.abs(after - before) > NOISE * size, axis=1)
    return found


def means(pair: Pair, before: Table, after: Table) -> tuple[Table, Table] | None:
    """Of a mean: how much each cluster's sum gained, and its number of samples; empty clusters left out.

    None where a cluster has more samples on one side. Raises ValueError without "sum" and "n".
    """
    import numpy as np

    if not {"sum", "n"} <= set(pair.names):
        raise ValueError(f"a mean is of the statistics sum and n, got {', '.join(pair.names) or 'none'}")
    total, count = pair.names.index("sum"), pair.names.index("n")
    if not np.allclose(before[:, count], after[:, count], rtol=NOISE, atol=0):
        return None
    kept = before[:, count] != 0
    columns = [total, count]
    moved = differs(before[kept][:, columns], after[kept][:, columns])
    return np.where(moved, after[kept, total] - before[kept, total], 0.0), before[kept, count]


def of_totals(reduce: Reduce, names: Sequence[str], totals: Table) -> float | None:
    """What `reduce` makes of one row of totals."""
    return reduce(dict(zip(names, totals.tolist(), strict=True)))


def values_of(pair: Pair, reduce: Reduce, before: Table, after: Table) -> tuple[float, float]:
    """The value of each side's totals. Raises DataError where one is undefined."""
    values = [of_totals(reduce, pair.names, table.sum(axis=0)) for table in (before, after)]
    if values[0] is None or values[1] is None:
        side = "before" if values[0] is None else "after"
        raise DataError(f"the value is undefined {side} (None), so there is no difference; take more samples")
    return values[0], values[1]

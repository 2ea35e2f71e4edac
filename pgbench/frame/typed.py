"""Columns of lists to a pandas table, each with the type that it is said to have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def typed(columns: Mapping[str, Sequence[object]], types: Mapping[str, str]) -> pandas.DataFrame:
    """A table with these columns in this order; None is pandas' NA."""
    import pandas as pd

    # Python's own strings: Arrow's are UTF-8, and published names and file names may hold lone surrogates.
    kinds = {"string": pd.StringDtype("python")}
    return pd.DataFrame(
        {
            name: pd.Series(values, dtype=kinds.get(types[name], types[name]))
            for name, values in columns.items()
        }
    )

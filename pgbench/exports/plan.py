"""From runs and a format to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pgbench.errors import UsageError, unknown
from pgbench.exports import cards, every_eval, harness
from pgbench.exports.asked import FORMATS, Asked
from pgbench.exports.gathering import Run
from pgbench.exports.writing import Output


def outputs(runs: Sequence[Run], form: str, out: Path, asked: Asked) -> tuple[Output, ...]:
    """The files of an export, none written yet. `out` is a file or a folder, as the format has it.

    Raises UsageError for an unknown format, and where the runs cannot be said in it.
    """
    known = {
        "eval-results": cards.eval_results,
        "model-index": cards.model_index,
        "lm-eval": harness.results,
        "every-eval-ever": every_eval.documents,
    }
    if form not in known:
        raise UsageError(unknown("format", form, FORMATS))
    return tuple(known[form](runs, out, asked))

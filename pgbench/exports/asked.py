"""What an export is asked to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Format: TypeAlias = Literal["eval-results", "model-index", "lm-eval", "every-eval-ever"]
Relationship: TypeAlias = Literal["first_party", "third_party", "collaborative", "other"]
FORMATS: tuple[str, ...] = get_args(Format)
RELATIONSHIPS: tuple[str, ...] = get_args(Relationship)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the flags said, beside the runs and the place. Who ran an evaluation is in no record."""

    metric: str | None = None  # of .eval_results; None: the primary one of each run
    task_id: str | None = None  # of .eval_results; None: the task's name
    source_url: str | None = None
    source_name: str | None = None
    organization: str | None = None  # of Every Eval Ever: who ran the evaluation
    relationship: str = "other"  # likewise: theirs to the model
    samples: bool = True  # of Every Eval Ever: a line for each answer too

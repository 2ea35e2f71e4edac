"""The stages: what is taught, from what, in how many steps and at what rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pgbench.types import Family

PARTS = ("look", "answer", "settle")  # of a stage, in their order


@dataclass(frozen=True, slots=True)
class Stage:
    """What one call teaches; `start` and `tower` name stages, whose weights or whose tower it takes over."""

    image: int  # px
    family: Family = "paligemma"
    start: str | None = None
    tower: str | None = None
    look: int = 0  # steps
    look_batch: int = 64  # scenes
    look_rate: float = 2e-3  # AdamW's, at its peak
    answer: int = 0  # steps
    answer_rate: float = 1.5e-3
    settle: int = 0  # steps in the real format, one question a row
    settle_rate: float = 5e-4
    scenes: int = 8_000  # asked about
    first: int = 0  # number of the first of them
    rows: int = 16  # scenes a step that asks
    questions: int = 8  # of one scene in a pack
    mixture: str = "first"  # of MIXTURES
    evenly: bool = False  # a long answer counts for the root of its length, not for its length
    threads: int = 1  # the order of additions, hence the weights, depends on it


# How often a kind is asked; a sign and a label are asked about in every pack besides. Yes or no, counting and
# choices are learnt last, so later mixtures hold more of them.
MIXTURES: Mapping[str, Mapping[str, float]] = {
    "first": {
        **dict.fromkeys(("colour", "count", "where", "side", "which"), 1.0),
        **dict.fromkeys(("shape", "size", "both", "either", "chinese"), 0.7),
        "exists": 1.5,
        "choice": 1.2,
        "caption": 0.15,
    },
    "second": {
        **dict.fromkeys(("colour", "side", "which"), 1.0),
        **dict.fromkeys(("count", "where"), 1.4),
        **dict.fromkeys(("both", "either", "chinese"), 0.8),
        **dict.fromkeys(("shape", "size"), 0.6),
        "exists": 2.0,
        "choice": 1.8,
        "caption": 0.15,
    },
    "third": {
        **dict.fromkeys(("colour", "side", "which", "size"), 0.7),
        **dict.fromkeys(("both", "either", "where"), 1.0),
        **dict.fromkeys(("exists", "chinese"), 1.6),
        "shape": 0.5,
        "count": 1.8,
        "choice": 2.0,
        "caption": 0.3,
    },
    "last": {
        **dict.fromkeys(("colour", "shape", "side", "which", "where"), 0.4),
        **dict.fromkeys(("both", "either", "chinese"), 1.5),
        "size": 0.7,
        "exists": 1.0,
        "count": 3.0,
        "choice": 2.5,
        "caption": 0.3,
    },
}
SECOND_LOOK = {"start": "look", "look": 500, "look_batch": 16, "look_rate": 1.5e-3}
SECOND_ANSWERS = {
    "start": "base",
    "answer": 1000,
    "settle": 60,
    "first": 20_000,
    "questions": 10,
    "mixture": "second",
    "evenly": True,
}
LAST_ANSWERS = SECOND_ANSWERS | {"answer": 450, "answer_rate": 1e-3, "first": 40_000, "mixture": "last"}
# Both resolutions have one stage in common and go on with the same scenes, questions, steps and rates, as
# PaliGemma's own do (https://arxiv.org/abs/2407.07726, section 3.2): their difference is the resolution's.
STAGES: Mapping[str, Stage] = {
    # Half a minute: shows that all parts run, and give the same weights again.
    "trial": Stage(image=112, look=20, look_batch=4, answer=20, settle=10, scenes=32, rows=2),
    "look": Stage(image=224, look=600, threads=2),
    "base": Stage(image=224, start="look", answer=1400),
    "look-224": Stage(image=224, **SECOND_LOOK),  # type: ignore[arg-type]
    "look-448": Stage(image=448, **SECOND_LOOK),  # type: ignore[arg-type]
    "mix-224": Stage(image=224, tower="look-224", **SECOND_ANSWERS),  # type: ignore[arg-type]
    "mix-448": Stage(image=448, tower="look-448", **SECOND_ANSWERS),  # type: ignore[arg-type]
    "tiny-mix-224": Stage(image=224, **LAST_ANSWERS | {"start": "mix-224"}),  # type: ignore[arg-type]
    "tiny-mix-448": Stage(image=448, **LAST_ANSWERS | {"start": "mix-448"}),  # type: ignore[arg-type]
    # Gemma's weights where Gemma 2 has the same, so also the embeddings: the norms around them are its own.
    "tiny2-mix-224": Stage(
        image=224,
        family="paligemma2",
        start="base",
        tower="look-224",
        answer=1500,
        settle=60,
        first=20_000,
        questions=10,
        mixture="third",
        evenly=True,
    ),
}

"""NES: the share of sentences whose majority rating is Neutral or Contradiction. Pure.

Source: PaliGemma 2 (arXiv:2412.03555), section 4.6 and appendix B.5: five raters per sentence, four
categories, majority vote, over the sentences of all captions. The paper leaves open which way ties go,
whether "Nothing to assess" stays in the denominator (both are reported here), and which splitter cut
the sentences. "Proportion of sentences" is read as one ratio over all captions, not a mean of captions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from pgbench import stats
from pgbench.records import Interval

Rating: TypeAlias = Literal["Entailment", "Neutral", "Contradiction", "Nothing to assess"]
Outcome: TypeAlias = Literal["entailed", "non-entailed", "nothing to assess", "undecided", "unrated"]
RATINGS: tuple[Rating, ...] = get_args(Rating)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
TIE_RULE = (
    "ties: the rating given most often counts; where several are given equally often, Neutral and "
    "Contradiction together stand against Entailment; where that is even too, the sentence is undecided: "
    "counted, listed and left out of NES, since counting it either way would be a rating of our own"
)
RATERS = "the intervals are over images; how much other raters would differ is not in them"
_OF: Mapping[Rating, Outcome] = {
    "Entailment": "entailed",
    "Neutral": "non-entailed",
    "Contradiction": "non-entailed",
    "Nothing to assess": "nothing to assess",
}


@dataclass(frozen=True, slots=True)
class Rated:
    """One sentence and the ratings that it got, one a rater at most."""

    sample: str
    sentence: int  # its place in the caption, from 0
    cluster: str  # the image
    votes: tuple[Rating, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """A share of sentences with its 95 % interval clustered by image; None where undefined."""

    value: float | None
    low: float | None
    high: float | None
    stderr: float | None
    n: int  # sentences in the denominator
    clusters: int  # images
    interval: Interval


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the raters agree, over sentences that at least two of them rated."""

    sentences: int
    alpha: float | None  # Krippendorff's, nominal, four categories; None: no variation or no such sentence
    alpha_binary: float | None  # the same, Entailment or not
    binary: float | None  # share of sentences on which all agree whether it is Entailment


@dataclass(frozen=True, slots=True)
class Nes:
    """What the raters' answers to one run come to."""

    without_nothing: Share  # "Nothing to assess" left out of the denominator
    with_nothing: Share  # "Nothing to assess" in the denominator
    if_undecided: tuple[float, float] | None  # `without_nothing` with every undecided entailed, or none
    outcomes: Mapping[Outcome, int]  # sentences
    agreement: Agreement


def majority(votes: Sequence[Rating]) -> Outcome:
    """What the ratings of one sentence come to, by TIE_RULE.

    >>> majority(["Entailment", "Neutral", "Contradiction"])
    'non-entailed'
    >>> majority(["Entailment", "Neutral"])
    'undecided'
    """
    if not votes:
        return "unrated"
    counts = Counter(votes)
    most = max(counts.values())
    first, *others = [rating for rating, count in counts.items() if count == most]
    if not others:
        return _OF[first]
    against, entailed = counts["Neutral"] + counts["Contradiction"], counts["Entailment"]
    if against == entailed:
        return "undecided"
    return "non-entailed" if against > entailed else "entailed"


def nes(rows: Sequence[Rated]) -> Nes:
    """The score of one run's sentences."""
    outcomes = [(row.cluster, majority(row.votes)) for row in rows]
    counts = Counter(outcome for _, outcome in outcomes)
    decided = [(cluster, o == "non-entailed") for cluster, o in outcomes if o in ("entailed", "non-entailed")]
    nothing = [(cluster, False) for cluster, o in outcomes if o == "nothing to assess"]
    bad, loose = counts["non-entailed"], counts["undecided"]
    all_in = len(decided) + loose
    return Nes(
        without_nothing=share(decided),
        with_nothing=share([*decided, *nothing]),
        if_undecided=(bad / all_in, (bad + loose) / all_in) if all_in else None,
        outcomes={outcome: counts[outcome] for outcome in OUTCOMES},
        agreement=agreement([row.votes for row in rows]),
    )


def share(rows: Iterable[tuple[str, bool]]) -> Share:
    """The share of true ones among (cluster, whether) rows, as one ratio over all of them.

    Interval: clustered t; where all rows agree or one cluster is all there is, Wilson's with the clusters
    as trials, as for every other score of pgbench. No rows: undefined.
    """
    sums: dict[str, list[int]] = {}
    for cluster, whether in rows:
        cell = sums.setdefault(cluster, [0, 0])
        cell[0] += whether
        cell[1] += 1
    bad, n = sum(cell[0] for cell in sums.values()), sum(cell[1] for cell in sums.values())
    if not n:
        return Share(None, None, None, None, 0, 0, "none")
    ordered = [cell for _, cell in sorted(sums.items())]
    bounds = stats.clustered_t([cell[0] for cell in ordered], [cell[1] for cell in ordered], bounded=True)
    if bounds:
        return Share(bad / n, bounds.low, bounds.high, bounds.stderr, n, len(sums), "clustered t")
    low, high = stats.wilson(bad / n, len(sums))
    return Share(bad / n, low, high, None, n, len(sums), "wilson")


def agreement(votes: Iterable[Sequence[Rating]]) -> Agreement:
    """Agreement between raters. "Nothing to assess" counts as no Entailment where the question is binary.

    Sources: Krippendorff, Content Analysis, 4th ed. 2018, chapter 12 (library `krippendorff`); the binary
    agreement is the PaliGemma 2 paper's, all raters alike on Entailment.
    """
    several = [vote for vote in votes if len(vote) > 1]
    alike = [len({rating == "Entailment" for rating in vote}) == 1 for vote in several]
    tables = [[vote.count(rating) for rating in RATINGS] for vote in map(list, several)]
    return Agreement(
        sentences=len(several),
        alpha=_alpha(tables),
        alpha_binary=_alpha([[row[0], sum(row[1:])] for row in tables]),
        binary=sum(alike) / len(alike) if alike else None,
    )


def _alpha(table: Sequence[Sequence[int]]) -> float | None:
    """Krippendorff's alpha of counts, one row a sentence, one column a category.

    None where every rating is the same: chance agreement is then certain and the ratio 0 / 0.
    """
    if not table or sum(any(column) for column in zip(*table, strict=True)) < 2:
        return None
    from krippendorff import alpha

    found = float(alpha(value_counts=table, level_of_measurement="nominal"))
    return found if math.isfinite(found) else None

"""Scores of mode likelihood: how probable given texts are behind the prompt, not what a model prints there.

Of each text the log-likelihood of every token is known, its end token's last. Choices are compared without
the end token, as EleutherAI/lm-evaluation-harness does it, by the sum over tokens (its `acc`) and by the mean
a token; perplexity counts the end token, as the loss that a checkpoint was trained with does. Logarithms are
natural ones. Names end in `_ll`: these numbers belong in no column with scores of generated answers, which
nobody helps to the right form.
Texts that tie for the largest likelihood share one point: no score is drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from pgbench.errors import DataError
from pgbench.metrics import mean
from pgbench.metrics.pope import SETTINGS, accuracy, over_settings
from pgbench.types import Continuation, Likelihoods, Metric, Sample, Sums, cluster_of

Places: TypeAlias = Callable[[Sample], tuple[int, ...]]  # of the continuations that are right
Value: TypeAlias = Callable[[Continuation], float]
Unit: TypeAlias = Sequence[tuple[Sample, Likelihoods]]

HARNESS = "EleutherAI/lm-evaluation-harness:lm_eval/api/task.py, `acc` of loglikelihood requests"
PER_TOKEN = "pgbench's own: the mean log-likelihood a token; the harness's `acc_norm` divides by characters"
MANN_WHITNEY = "Hanley and McNeil 1982, Radiology 143:29-36: the share of pairs in order, ties count half"
YES, NO = "yes", "no"
PAIR = 2


def total(one: Continuation, *, end: bool = False) -> float:
    """The log-likelihood of a text, with its end token or without. Raises DataError for no token at all.

    >>> total(Continuation("Front", (-0.5, -0.25, -2.0)))
    -0.75
    """
    counted = one.logprobs if end else one.logprobs[:-1]
    if not counted:
        raise DataError(f"the continuation {one.text!r} has no token; a task gives texts that are not empty")
    return math.fsum(counted)


def per_token(one: Continuation) -> float:
    """
    >>> per_token(Continuation("Front", (-0.5, -0.25, -2.0)))
    -0.375
    """
    return total(one) / (len(one.logprobs) - 1)


def chosen(values: Sequence[float], right: Sequence[int]) -> float:
    """The share of the largest values that belong to right texts: 0 or 1, unless several tie.

    >>> chosen([-1.0, -3.0], [0]), chosen([-1.0, -1.0], [0])
    (1.0, 0.5)
    """
    best = [place for place, value in enumerate(values) if value == max(values)]
    return sum(place in right for place in best) / len(best)


def auroc(scores: Sequence[float], positive: Sequence[bool]) -> Callable[[Sequence[float]], float | None]:
    """The area under the ROC curve as a function of the samples' weights; None without either kind.

    It is the probability that a positive's score is the larger one, ties counted half. Exact, from ranks.
    Source: `MANN_WHITNEY`.

    >>> auroc([0.9, 0.4, 0.4, 0.1], [True, True, False, False])([1, 1, 1, 1])
    0.875
    """
    import numpy as np

    ranks = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)[1]
    labels = np.asarray(positive, dtype=np.float64)

    def area(weights: Sequence[float]) -> float | None:
        weighed = np.asarray(weights, dtype=np.float64)
        above = np.bincount(ranks, weights=weighed * labels)
        below = np.bincount(ranks, weights=weighed * (1.0 - labels))
        pairs = float(above.sum() * below.sum())
        return float(above @ (np.cumsum(below) - below / 2)) / pairs if pairs else None

    return area


def perplexity(sums: Sums) -> float | None:
    """exp of the mean negative log-likelihood a token; None where a sample failed: the rest is another set.

    >>> round(perplexity({"nats": 2 * math.log(8), "tokens": 2.0, "lacking": 0.0}), 9)
    8.0
    """
    if sums["lacking"] or not sums["tokens"]:
        return None
    try:
        return math.exp(sums["nats"] / sums["tokens"])
    except OverflowError:
        return None


def lettered(sample: Sample) -> tuple[int, ...]:
    """The places of the options that a sample's reference names by letter, in either case."""
    golds = (sample.target,) if isinstance(sample.target, str) else sample.target or ()
    return tuple(
        place for place in range(len(sample.options)) if chr(ord("A") + place) in map(str.upper, golds)
    )


def choice_metrics(floor: float, right: Places = lettered) -> tuple[Metric, ...]:
    """Accuracy over questions with options; samples without any are in no count."""
    of = partial(Metric, reduce=mean, failed=_wrong, floor=floor)
    return (
        of(name="choice_accuracy_ll", stat=partial(_choice, total, right), source=HARNESS, primary=True),
        of(name="choice_accuracy_per_token_ll", stat=partial(_choice, per_token, right), source=PER_TOKEN),
    )


def pair_metrics(right: Places = lettered) -> tuple[Metric, ...]:
    """Pairs of two-option questions, both of which are to be right; then the questions by themselves."""
    of = partial(Metric, reduce=mean, unit_of=cluster_of, failed=_wrong_pair, floor=0.25)
    source = "both of a pair, as tsb0601/MMVP:scripts/gpt_grader.py@763500597e65 counts them"
    single = partial(Metric, reduce=mean, failed=_wrong, floor=0.5)
    return (
        of(name="pair_accuracy_ll", stat=partial(_pair, total, right), source=source, primary=True),
        of(name="pair_accuracy_per_token_ll", stat=partial(_pair, per_token, right), source=source),
        single(name="choice_accuracy_ll", stat=partial(_choice, total, right), source=HARNESS),
        single(
            name="choice_accuracy_per_token_ll", stat=partial(_choice, per_token, right), source=PER_TOKEN
        ),
    )


def _choice(value: Value, right: Places, unit: Unit) -> Sums:
    ((sample, likelihoods),) = unit
    if not likelihoods:
        return {"sum": 0.0, "n": 0.0, "invalid": 0.0}
    score = chosen([value(one) for one in likelihoods], right(sample))
    return {"sum": score, "n": 1.0, "invalid": 0.0}


def _wrong(unit: Sequence[Sample]) -> Sums:
    (sample,) = unit
    return {"sum": 0.0, "n": float(bool(sample.options)), "invalid": 0.0}


def _pair(value: Value, right: Places, unit: Unit) -> Sums:
    """1 of 1 where both are right; 0 of 0 for a sample without its other half."""
    scores = [_choice(value, right, [row])["sum"] for row in unit]
    whole = _whole_pair([sample for sample, _ in unit])
    return {"sum": math.prod(scores) * whole, "n": float(whole), "invalid": 0.0}


def _wrong_pair(unit: Sequence[Sample]) -> Sums:
    return {"sum": 0.0, "n": float(_whole_pair(unit)), "invalid": 0.0}


def _whole_pair(unit: Sequence[Sample]) -> bool:
    if len(unit) > PAIR:
        raise DataError(f"pair {cluster_of(unit[0])} has {len(unit)} samples; a pair is two")
    return len(unit) == PAIR


def yes_no(likelihoods: Likelihoods) -> float:
    """How much likelier yes is than no, in nats: the logarithm of the odds. Raises DataError."""
    found = {one.text: one for one in likelihoods}
    if found.keys() != {YES, NO}:
        raise DataError(f"expected the likelihoods of {YES} and {NO}, got {', '.join(found) or 'none'}")
    return total(found[YES]) - total(found[NO])


def probability(odds: float) -> float:
    """Of yes, where yes and no are all there is.

    >>> probability(0.0), probability(-1000.0)
    (0.5, 0.0)
    """
    return 0.5 * (1 + math.tanh(odds / 2))


def _outcome(unit: Unit) -> Sums:
    """Outcomes as `pgbench.metrics.pope` names them; a tie is half of either."""
    ((sample, likelihoods),) = unit
    odds = yes_no(likelihoods)
    says = 0.5 if odds == 0 else float(odds > 0)
    names = ("TP", "FN") if sample.target == YES else ("FP", "TN")
    return {f"{_setting(sample)}.{name}": share for name, share in zip(names, (says, 1 - says), strict=True)}


def _wrong_outcome(unit: Sequence[Sample]) -> Sums:
    (sample,) = unit
    return {f"{_setting(sample)}.{'FN' if sample.target == YES else 'FP'}": 1.0}


def _setting(sample: Sample) -> str:
    return sample.groups.get("setting", "")


def _probability(unit: Unit) -> Sums:
    ((_, likelihoods),) = unit
    return {"sum": probability(yes_no(likelihoods)), "n": 1.0, "invalid": 0.0}


def _not_asked(_unit: Sequence[Sample]) -> Sums:
    """It said neither: a failed sample is in no mean probability."""
    return {"sum": 0.0, "n": 0.0, "invalid": 0.0}


def _area(rows: Sequence[tuple[Sample, Likelihoods | None]]) -> Callable[[Sequence[float]], float | None]:
    """The mean of the settings' areas, like all of POPE's numbers. A failed sample ranks at the wrong end."""
    import numpy as np

    areas = []
    for setting in SETTINGS:
        places = [place for place, (sample, _) in enumerate(rows) if _setting(sample) == setting]
        positive = [rows[place][0].target == YES for place in places]
        pairs = zip((rows[place][1] for place in places), positive, strict=True)
        scores = [
            yes_no(found) if found is not None else (-math.inf if yes else math.inf) for found, yes in pairs
        ]
        if places:
            areas.append((np.asarray(places), auroc(scores, positive)))

    def mean_area(weights: Sequence[float]) -> float | None:
        weighed = np.asarray(weights)
        values = [area(weighed[places]) for places, area in areas]
        known = [value for value in values if value is not None]
        whole = len(known) == len(values) and len(values) in {1, len(SETTINGS)}
        return sum(known) / len(known) if whole else None

    return mean_area


def _nothing(_unit: Unit) -> Sums:
    return {"invalid": 0.0}


def _reference(unit: Unit) -> Sums:
    ((sample, likelihoods),) = unit
    if len(likelihoods) != 1:
        raise DataError(
            f"sample {sample.id}: expected the likelihood of one reference, got {len(likelihoods)}"
        )
    (found,) = likelihoods
    return {"nats": -total(found, end=True), "tokens": float(len(found.logprobs)), "lacking": 0.0}


def _lacking(_unit: Sequence[Sample]) -> Sums:
    return {"nats": 0.0, "tokens": 0.0, "lacking": 1.0}


YES_NO = (
    Metric(
        name="yes_no_accuracy_ll",
        stat=_outcome,
        reduce=partial(over_settings, accuracy),
        source=f"{HARNESS}; the mean of the three settings",
        failed=_wrong_outcome,
        floor=0.5,
        primary=True,
    ),
    Metric(
        name="auroc_ll",
        stat=_nothing,
        reduce=lambda sums: None,
        source=f"{MANN_WHITNEY}; by the odds of yes, the mean of the three settings",
        unit_of=cluster_of,
        floor=0.5,
        weighted=_area,
    ),
    Metric(
        name="yes_probability_ll",
        stat=_probability,
        reduce=mean,
        source="pgbench's own: p(yes) / (p(yes) + p(no)), its mean over all questions",
        failed=_not_asked,
        floor=0.5,
        direction=None,
    ),
)
PERPLEXITY = Metric(
    name="reference_perplexity_ll",
    stat=_reference,
    reduce=perplexity,
    source="exp of the mean negative log-likelihood a token of the references, end token included; arXiv:"
    "2412.03555 section 4.6 chose by the perplexity of DOCCI's test split, and does not say how it counts",
    failed=_lacking,
    number=True,
    direction="down",
    primary=True,
)

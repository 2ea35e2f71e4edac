"""Scores of mode likelihood against numbers worked out by hand, and against plain counting."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pgbench.errors import DataError, UsageError
from pgbench.metrics import likelihood
from pgbench.metrics.named import in_mode, narrowed
from pgbench.metrics.scoring import Row, score
from pgbench.registry import load_task
from pgbench.types import Continuation, Likelihoods, Metric, Sample

BY_NAME = {
    metric.name: metric
    for metric in (
        *likelihood.choice_metrics(0.25),
        *likelihood.pair_metrics()[:2],
        *likelihood.YES_NO,
        likelihood.PERPLEXITY,
    )
}


def asked(name: str, target: str | tuple[str, ...] | None, options: int = 3, **more: object) -> Sample:
    return Sample(name, (), "?", target, tuple("wxyz"[:options]), **more)  # type: ignore[arg-type]


def said(**logprobs: tuple[float, ...]) -> Likelihoods:
    return tuple(Continuation(text, numbers) for text, numbers in logprobs.items())


def yes_no(odds: float) -> Likelihoods:
    return said(no=(-1.0 - odds, -9.0), yes=(-1.0, -0.5))


def value(name: str, rows: list[Row]) -> float | None:
    return score(BY_NAME[name], rows).value


# Choices


def test_the_sum_and_the_mean_a_token_can_choose_differently() -> None:
    """The long text is unlikelier as a whole, likelier a token; end tokens (-0.1, -50) count in neither."""
    texts = said(short=(-2.0, -50.0), long=(-1.0, -1.5, -1.0, -0.1), other=(-9.0, -0.1))
    for target, by_sum, by_token in (("A", 1.0, 0.0), ("B", 0.0, 1.0), ("b", 0.0, 1.0), ("C", 0.0, 0.0)):
        assert value("choice_accuracy_ll", [(asked("q", target), texts)]) == by_sum
        assert value("choice_accuracy_per_token_ll", [(asked("q", target), texts)]) == by_token


def test_texts_that_tie_share_the_point() -> None:
    texts = said(a=(-1.0, 0.0), b=(-1.0, 0.0), c=(-2.0, 0.0))
    assert value("choice_accuracy_ll", [(asked("q", "A"), texts)]) == 0.5
    assert value("choice_accuracy_ll", [(asked("q", ("A", "B")), texts)]) == 1.0
    assert value("choice_accuracy_ll", [(asked("q", "C"), texts)]) == 0.0


def test_failed_samples_are_wrong_and_open_questions_in_no_count() -> None:
    right = said(a=(-1.0, 0.0), b=(-2.0, 0.0))
    rows: list[Row] = [
        (asked("1", "A"), right),
        (asked("2", "A"), None),
        (asked("3", "7", options=0), ()),
        (asked("4", "7", options=0), None),
        (asked("5", None), right),
    ]
    found = score(BY_NAME["choice_accuracy_ll"], rows)
    assert (found.value, found.n, found.failed, found.invalid) == (0.5, 2, 2, 0)
    assert found.clusters == 2


def test_both_of_a_pair_are_to_be_right() -> None:
    right, wrong = said(a=(-1.0, 0.0), b=(-2.0, 0.0)), said(a=(-2.0, 0.0), b=(-1.0, 0.0))
    pairs = {"p": (right, right), "q": (right, wrong), "r": (wrong, wrong), "s": (right, None), "t": (right,)}
    rows: list[Row] = [
        (asked(f"{name}{place}", "A", 2, cluster=name), answer)
        for name, answers in pairs.items()
        for place, answer in enumerate(answers)
    ]
    found = score(BY_NAME["pair_accuracy_ll"], rows)
    assert (found.value, found.clusters, found.failed) == (0.25, 4, 1)  # the single one is in no count
    rows += [(asked("p2", "A", 2, cluster="p"), right)]
    with pytest.raises(DataError, match="pair p has 3 samples"):
        score(BY_NAME["pair_accuracy_ll"], rows)


def test_a_text_without_a_token_is_no_certainty() -> None:
    with pytest.raises(DataError, match="has no token"):
        likelihood.total(Continuation("", (-0.5,)))
    assert likelihood.total(Continuation("", (-0.5,)), end=True) == -0.5


# Yes or no

SETTINGS = ("random", "popular", "adversarial")


def pope(answers: Sequence[tuple[str, float | None]], setting: str = "random") -> list[Row]:
    return [
        (
            asked(f"{setting}{n}", target, 0, groups={"setting": setting}, cluster=f"image {n // 2}"),
            None if odds is None else yes_no(odds),
        )
        for n, (target, odds) in enumerate(answers)
    ]


def pairs_in_order(answers: list[tuple[str, float | None]]) -> float:
    """The definition: every yes against every no."""
    worst = {"yes": -math.inf, "no": math.inf}
    of = {
        label: [worst[label] if odds is None else odds for target, odds in answers if target == label]
        for label in worst
    }
    wins = [(a > b) + (a == b) / 2 for a, b in itertools.product(of["yes"], of["no"])]
    return sum(wins) / len(wins)


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    drawn = random.Random(3)
    for _ in range(20):
        answers: list[tuple[str, float | None]] = [
            (drawn.choice(("yes", "no")), drawn.choice((None, *(round(drawn.gauss(0, 1), 1),) * 9)))
            for _ in range(40)
        ]
        assert value("auroc_ll", pope(answers)) == pytest.approx(pairs_in_order(answers), abs=1e-12)


def test_settings_count_alike_whatever_their_size() -> None:
    one, two, three = (
        [("yes", 2.0), ("no", 1.0)],
        [("yes", 1.0), ("no", 2.0)] * 5,
        [("yes", 0.0), ("no", 0.0)],
    )
    rows = [*pope(one), *pope(two, "popular"), *pope(three, "adversarial")]
    assert value("auroc_ll", rows) == pytest.approx((1.0 + 0.0 + 0.5) / 3)
    assert value("yes_no_accuracy_ll", rows) == pytest.approx((0.5 + 0.5 + 0.5) / 3)
    assert value("auroc_ll", rows[:-2]) is None, "two settings are no mean of three"
    assert value("auroc_ll", pope([("yes", 1.0)])) is None, "nothing to compare with"
    assert value("auroc_ll", []) is None


def test_the_order_of_rows_moves_neither_area_nor_interval() -> None:
    drawn = random.Random(5)
    rows = pope([(drawn.choice(("yes", "no")), drawn.gauss(0, 1)) for _ in range(60)])
    first = score(BY_NAME["auroc_ll"], rows)
    drawn.shuffle(rows)
    assert score(BY_NAME["auroc_ll"], rows) == first
    assert first.interval == "bootstrap"
    assert first.low is not None
    assert first.high is not None
    assert first.value is not None
    assert 0 <= first.low < first.value < first.high <= 1
    assert (first.n, first.units, first.clusters) == (60, 60, 30)


def test_the_bootstrap_draws_clusters_and_not_samples() -> None:
    """Every answer twenty times over is no more evidence where the copies share an image."""
    drawn = random.Random(7)
    base = [(drawn.choice(("yes", "no")), drawn.gauss(0, 1)) for _ in range(40)]

    def rows(times: int, apart: bool) -> list[Row]:
        return [
            (
                replace(sample, id=f"{sample.id}-{k}", cluster=f"{sample.id}-{k}" if apart else sample.id),
                found,
            )
            for sample, found in pope(list(base))
            for k in range(times)
        ]

    once, copies, more = (
        score(BY_NAME["auroc_ll"], rows(*how)) for how in ((1, False), (20, False), (20, True))
    )
    assert once.stderr == pytest.approx(copies.stderr)
    assert more.stderr is not None
    assert more.stderr < 0.5 * (copies.stderr or 0.0)
    assert once.value == pytest.approx(copies.value)


def test_a_perfect_area_has_an_interval_that_does_not_claim_certainty() -> None:
    found = score(BY_NAME["auroc_ll"], pope([("yes", 3.0), ("no", -3.0)] * 8))
    assert (found.value, found.interval) == (1.0, "wilson")
    assert found.low is not None
    assert found.low < 0.95


def test_yes_and_no_by_their_odds() -> None:
    rows = pope([("yes", 1.0), ("no", 1.0), ("no", -1.0), ("yes", 0.0), ("yes", None)])
    assert value("yes_no_accuracy_ll", rows) == pytest.approx((1 + 0 + 1 + 0.5 + 0) / 5)
    sigmoid = [1 / (1 + math.exp(-odds)) for odds in (1.0, 1.0, -1.0, 0.0)]
    assert value("yes_probability_ll", rows) == pytest.approx(sum(sigmoid) / 4)
    assert likelihood.probability(800.0) == 1.0
    with pytest.raises(DataError, match="expected the likelihoods of yes and no, got maybe"):
        likelihood.yes_no(said(maybe=(-1.0, -1.0)))


# Perplexity


def test_perplexity_is_over_all_tokens_with_the_end() -> None:
    """ln 2 + ln 8 + ln 4 over three tokens, and one of ln 16: not the mean of two perplexities."""
    rows: list[Row] = [
        (asked("a", "x"), said(x=(-math.log(2), -math.log(8), -math.log(4)))),
        (asked("b", "y"), said(y=(-math.log(16),))),
    ]
    found = score(BY_NAME["reference_perplexity_ll"], rows)
    assert found.value == pytest.approx(2 ** ((1 + 3 + 2 + 4) / 4))
    assert found.number
    assert BY_NAME["reference_perplexity_ll"].direction == "down"
    assert value("reference_perplexity_ll", [*rows, (asked("c", "z"), None)]) is None
    assert value("reference_perplexity_ll", []) is None
    assert value("reference_perplexity_ll", [(asked("a", "x"), said(x=(-1e6, -1.0)))]) is None
    with pytest.raises(DataError, match="one reference, got 2"):
        value("reference_perplexity_ll", [(asked("a", "x"), yes_no(1.0))])


# Tasks

LIKELY = ("docci", "mmmu", "mmvp", "pope", "scienceqa")


@pytest.mark.parametrize("name", LIKELY)
def test_metrics_of_likelihood_have_names_of_their_own(name: str) -> None:
    task = load_task(name)
    scored = in_mode(task, "likelihood")
    assert in_mode(task, "generate") is task
    assert all(metric.name.endswith("_ll") for metric in scored.metrics)
    assert not {metric.name for metric in task.metrics} & {metric.name for metric in scored.metrics}
    assert [metric.primary for metric in scored.metrics].count(True) == 1
    assert scored.draw is None, "no guess is drawn where nothing is parsed"


def test_general_metrics_judge_no_likelihoods() -> None:
    scored = in_mode(load_task("mmmu"), "likelihood")
    assert narrowed(scored, "choice_accuracy_per_token_ll").metrics[0].primary
    for name in ("exact_match", "accuracy", "choice"):
        with pytest.raises(UsageError, match=f"unknown metric of mmmu '{name}'"):
            narrowed(scored, name)
    with pytest.raises(UsageError, match="unknown metric of mmmu 'choice_accuracy_ll'"):
        narrowed(load_task("mmmu"), "choice_accuracy_ll")


def test_a_task_without_the_mode_and_metrics_misnamed_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown mode of vqav2 'likelihood'"):
        in_mode(load_task("vqav2"), "likelihood")
    task = load_task("mmmu")
    assert task.likelihood is not None
    misnamed = replace(likelihood.PERPLEXITY, name="accuracy")
    for metrics in ((), (misnamed,), (likelihood.PERPLEXITY,) * 2):
        broken = replace(task, likelihood=replace(task.likelihood, metrics=metrics))
        with pytest.raises(UsageError, match="a name of its own that ends in _ll"):
            in_mode(broken, "likelihood")


@pytest.mark.parametrize("metric", BY_NAME.values(), ids=list(BY_NAME))
def test_every_metric_says_where_it_comes_from(metric: Metric) -> None:
    assert metric.source
    assert "choice" not in metric.name or metric.floor

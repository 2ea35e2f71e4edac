"""General metrics by name: ceiling and floor, their sources transcribed plainly, and what does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbench_tasks import mmvp
from pgbench_tasks.custom import gold

from pgbench.errors import DataError, UsageError
from pgbench.metrics import texts
from pgbench.metrics.named import NAMED, narrowed
from pgbench.metrics.scoring import score
from pgbench.types import Sample


def asked(*answers: str) -> Sample:
    return Sample("1", (), "q", answers, fields={"verbatim": False})


CHOICE = Sample("1", (), "q", "B", options=("Open", "Closed"), fields={"verbatim": False})
TEN = ("down",) * 8 + ("up",) * 2
CEILING = {
    "exact_match": [asked("Red", "红色"), CHOICE],
    "contains": [asked("Red")],
    "anls": [asked("12/15/88", "December")],
    "relaxed_accuracy": [asked("10"), asked("7%"), asked("red")],
    "vqa_accuracy": [asked(*TEN)],
    "textvqa_accuracy": [asked(*TEN)],
    "vqa_thirds": [asked("up", "down", "down", "down")],
    "choice": [CHOICE],
}


@pytest.mark.parametrize("name", NAMED)
def test_ceiling_and_floor(name: str) -> None:
    for number, sample in enumerate(CEILING[name]):
        one = replace(sample, id=str(number))
        assert score(NAMED[name], [(one, gold(one))]).value == 1.0
        empty = score(NAMED[name], [(one, " ")])
        assert (empty.value, empty.invalid) == (0.0, 1)
        assert score(NAMED[name], [(one, None)]).failed == 1
    assert NAMED[name].primary
    assert len(NAMED[name].source) > 10


@pytest.mark.parametrize(
    ("rule", "said", "answers", "value"),
    [
        (texts.exact_match, " RED\n", ("red",), 1.0),
        (texts.exact_match, "red.", ("red",), 0.0),
        (texts.exact_match, "", ("", "x"), 1.0),
        (texts.contains, "It is reddish", ("red",), 1.0),
        (texts.contains, "blue", ("", "red"), 0.0),
        (texts.anls, "Den ver", ("denver", "den  VER "), 1.0),
        (texts.anls, "ab", ("ac",), 0.5),
        (texts.anls, "abc", ("xyc",), 0.0),
        (texts.anls, "", ("",), 1.0),
        (texts.relaxed_accuracy, " 10.5 ", ("10",), 1.0),
        (texts.relaxed_accuracy, "-10.6", ("-10",), 0.0),
        (texts.relaxed_accuracy, "0.07", ("7%",), 1.0),
        (texts.relaxed_accuracy, "0.0", ("0",), 0.0),
        (texts.relaxed_accuracy, "nan", ("NaN",), 1.0),
        (texts.relaxed_accuracy, "5", ("inf",), 0.0),
        (texts.vqa_thirds, "Two", ("two", "two", "2"), 2 / 3),
        (texts.vqa_thirds, "x", ("x",), 1 / 3),
    ],
)
def test_rules(rule: Callable[..., float], said: str, answers: tuple[str, ...], value: float) -> None:
    assert rule(prediction=said, answers=answers) == pytest.approx(value)


def edits(left: str, right: str) -> int:
    """The definition itself."""
    if not left or not right:
        return len(left) + len(right)
    cut = [edits(left[1:], right), edits(left, right[1:]), edits(left[1:], right[1:]) - (left[0] == right[0])]
    return 1 + min(cut)


@given(st.text("abé", max_size=5), st.text("abé", max_size=5))
def test_edits_are_as_defined(left: str, right: str) -> None:
    assert texts.levenshtein(left, right) == edits(left, right)


def official_anls(said: str, known: list[str]) -> float:
    """The DocVQA script, line by line."""
    values = []
    for one in known:
        distance = edits(" ".join(one.strip().lower().split()), " ".join(said.strip().lower().split()))
        length = max(len(one.upper()), len(said.upper()))
        values.append(0.0 if length == 0 else float(distance) / float(length))
    result = 1 - min(values)
    return 0 if result < 0.5 else result


@given(st.text("aB ß\n", max_size=5), st.lists(st.text("aB ß\n", max_size=5), min_size=1, max_size=3))
def test_anls_is_the_script(said: str, known: list[str]) -> None:
    assert texts.anls(prediction=said, answers=known) == official_anls(said, known)


NUMBERS = st.floats(-1e3, 1e3).map(lambda value: f"{value:.3g}") | st.sampled_from(
    ["5%", "0", "a", "A", "1e400"]
)


@given(NUMBERS, NUMBERS)
def test_relaxed_accuracy_is_the_script(said: str, known: str) -> None:
    def number(text: str) -> float | None:
        try:
            return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
        except ValueError:
            return None

    left, right = number(said), number(known)
    expected = said.lower() == known.lower()
    if left is not None and right:
        error = abs(left - right) / abs(right)
        expected = expected if math.isnan(error) or math.isinf(right) else error <= 0.05
    assert texts.relaxed_accuracy(prediction=said, answers=[known]) == float(expected)


def test_a_metric_that_does_not_fit_is_refused() -> None:
    with pytest.raises(
        DataError, match="sample 1: vqa_accuracy is defined for 10 answers, got 1; vqa_thirds"
    ):
        score(NAMED["vqa_accuracy"], [(asked("x"), "x")])
    with pytest.raises(DataError, match="sample 1 has no options"):
        score(NAMED["choice"], [(asked("x"), "x")])
    with pytest.raises(DataError, match="sample 1 has options, this metric takes answers"):
        score(NAMED["contains"], [(CHOICE, "x")])
    with pytest.raises(DataError, match="expected the letter of one of 2 options"):
        score(NAMED["choice"], [(replace(CHOICE, target="C"), "x")])


def test_any_task_is_narrowed_to_one_metric() -> None:
    (own,) = narrowed(mmvp.TASK, "accuracy").metrics
    assert (own.name, own.primary, own.stat) == ("accuracy", True, mmvp.TASK.metrics[2].stat)
    assert narrowed(mmvp.TASK, "choice").metrics == (NAMED["choice"],)
    assert narrowed(mmvp.TASK, None) is mmvp.TASK
    with pytest.raises(UsageError, match="unknown metric of mmvp 'exact'; did you mean exact_match"):
        narrowed(mmvp.TASK, "exact")

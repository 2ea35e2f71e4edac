"""ScienceQA's rules: their quirks, an independent transcription, ceiling and floor."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbench_tasks.scienceqa import TASK, gold

from pgbench.errors import DataError
from pgbench.metrics import scienceqa as rules
from pgbench.metrics.scoring import Row, score
from pgbench.records import Score
from pgbench.types import Metric, Sample


def spelt_out(text: str, answer: str, choices: int) -> tuple[Fraction, Fraction, Fraction]:
    """(official, plain, paper) straight from the rules, by index and without a shared line of code."""
    stripped, found, start = text.strip(), [], 0
    sentence = "The answer is "
    while (at := stripped.find(sentence, start)) >= 0:
        end = at + len(sentence)
        letter, after = stripped[end : end + 1], stripped[end + 1 : end + 2]
        read_it = letter != "" and letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" and after not in ("", "\n")
        start = end + 2 if read_it else at + 1
        found += [letter] if read_it else []
    index = "ABCDE".index(found[0]) if len(found) == 1 and found[0] in "ABCDE"[:choices] else None
    right = "ABCDE".index(answer)
    draws = range(choices) if index is None else [index]
    official = Fraction(sum(draw == right for draw in draws), len(draws))
    lowered = text.lower()
    paper = lowered.startswith("the answer is ") and lowered[14:16] == f"{answer.lower()}."
    return official, Fraction(index == right), Fraction(paper)


PIECES = st.sampled_from(
    "The answer is |the answer is |THE ANSWER IS |The answer is A.|The answer is E!|\n| |"
    "A|b|E|F|Z|.|)|\r|\u212a|\u0391".split("|")
)


@given(st.lists(PIECES | st.text(max_size=2), max_size=6).map("".join), st.integers(1, 5), st.data())
def test_the_rules_equal_a_straightforward_transcription(
    text: str, choices: int, data: st.DataObject
) -> None:
    answer = data.draw(st.sampled_from("ABCDE"[:choices]))
    got = (
        rules.official_accuracy(prediction=text, answer=answer, choices=choices),
        rules.plain_accuracy(prediction=text, answer=answer, choices=choices),
        rules.paper_accuracy(prediction=text, answer=answer),
    )
    assert got == tuple(map(float, spelt_out(text, answer, choices)))
    assert got[1] <= got[0]


@pytest.mark.parametrize(
    ("text", "official", "plain", "paper"),
    [
        ("The answer is B.", 1, 1, 1),
        ("The answer is A.", 0, 0, 0),
        ("The answer is B", 0.25, 0, 0),  # one character more is needed
        ("The answer is B\n", 0.25, 0, 0),  # and is stripped off
        ("The answer is B\nBecause", 0.25, 0, 0),  # a line break is no character
        ("The answer is BA", 1, 1, 0),
        (" So The answer is B) it", 1, 1, 0),
        ("The answer is B. The answer is B.", 0.25, 0, 1),  # just once
        ("the answer is b.", 0.25, 0, 1),
        ("The answer is E.", 0.25, 0, 0),  # a letter of no choice is guessed at
        ("B", 0.25, 0, 0),
        ("", 0.25, 0, 0),
    ],
)
def test_the_quirks(text: str, official: float, plain: float, paper: float) -> None:
    assert rules.official_accuracy(prediction=text, answer="B", choices=4) == official
    assert rules.plain_accuracy(prediction=text, answer="B", choices=4) == plain
    assert rules.paper_accuracy(prediction=text, answer="B") == paper


@pytest.mark.parametrize(("answer", "choices"), [("A", 0), ("A", -1), ("A", 6), ("C", 2), ("a", 2), ("", 2)])
def test_an_impossible_answer_is_refused(answer: str, choices: int) -> None:
    for rule in (rules.official_accuracy, rules.plain_accuracy):
        with pytest.raises(ValueError, match="expected the letter of one of 1 to 5"):
            rule(prediction="The answer is A.", answer=answer, choices=choices)


SAMPLES = [
    Sample(str(i), (), "q", "ABCDE"[i % n], tuple("vwxyz"[:n])) for i, n in enumerate([2, 3, 4, 5, 1, 4, 2])
]


def scores(say: Callable[[Sample], str | None]) -> dict[str, Score]:
    rows: list[Row] = [(one, say(one)) for one in SAMPLES]
    return {metric.name: score(metric, rows) for metric in TASK.metrics}


def test_gold_reaches_the_ceiling() -> None:
    for one in SAMPLES:
        assert gold(one) == f"The answer is {one.target}."
    for found in scores(gold).values():
        assert (found.value, found.invalid) == (1.0, 0)


def test_empty_answers_get_what_a_guess_is_worth() -> None:
    found = scores(lambda one: "")
    assert found["accuracy"].value == pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 1 / 5 + 1 + 1 / 4 + 1 / 2) / 7)
    assert found["plain_accuracy"].value == found["paper_accuracy"].value == 0
    assert {one.invalid for one in found.values()} == {7}
    assert found["accuracy"].interval == "clustered t"


def test_failed_samples_are_wrong_and_no_guess() -> None:
    for found in scores(lambda one: None).values():
        assert (found.value, found.n, found.failed, found.invalid) == (0.0, 7, 7, 0)


def test_what_each_rule_calls_invalid() -> None:
    invalid = {name: found.invalid for name, found in scores(lambda one: "The answer is E.").items()}
    assert invalid == {"accuracy": 6, "plain_accuracy": 6, "paper_accuracy": 0}


@pytest.mark.parametrize("metric", TASK.metrics, ids=lambda metric: metric.name)
def test_a_target_that_is_no_letter_is_refused(metric: Metric) -> None:
    for bad in (("A",), "C", "0", None):
        with pytest.raises(DataError, match="sample 1: "):
            metric.stat([(Sample("1", (), "q", bad, ("x", "y")), "")])

"""The MMVP task: both published layouts, labels, prompts, and the matching rule transcribed plainly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmvp_layout import Row, hub, jpeg, original, row
from mmvp_rules import transcribed
from pgbench_tasks.mmvp import TASK, gold, prompt, read_letter, read_options

from pgbench.errors import DataError
from pgbench.metrics.mmvp import (
    ACCURACY,
    ACCURACY_LENIENT,
    METRICS,
    PAIR_ACCURACY,
    PAIR_ACCURACY_LENIENT,
    judge,
    pair_accuracy,
)
from pgbench.metrics.scoring import score
from pgbench.types import DataRequest, Dataset, Profile, Sample

MIX = Profile("mix", "paligemma")
OFFICIAL = Profile("mix", "paligemma", style="official")


def load(source: str, path: Path, variant: str = "", split: str = "test") -> Dataset:
    return TASK.sources[source](DataRequest(split, path=str(path), variant=variant))


def test_the_original_layout(tmp_path: Path) -> None:
    data = load("files", original(tmp_path / "d", [row(n) for n in range(1, 301)]))
    assert [one.id for one in data.samples] == [str(n) for n in range(1, 301)]
    first, second, third = data.samples[:3]
    assert (first.question, first.options, first.target) == (
        "Are wings 1 open, or closed?",
        ("Open", "Closed"),
        "a",
    )
    assert second.target == "b"
    assert first.cluster == second.cluster == "pair-1"
    assert third.cluster == "pair-2"
    assert len({one.cluster for one in data.samples}) == 150
    assert first.images[0].name == "1.jpg"
    assert data.samples[9].images[0].read() == jpeg(10)
    assert (data.id, data.revision, data.missing, data.demo) == ("Questions.csv", None, (), False)


def test_rows_are_told_by_their_number_not_their_place(tmp_path: Path) -> None:
    """An image folder lists 1, 10, 100, 101, ...: a pair made of neighbours there would be no pair."""
    rows = [row(n) for n in range(1, 121)]
    ordered = load("hub", hub(tmp_path / "train-00000-of-00001.parquet", rows))
    shuffled = hub(tmp_path / "train.parquet", sorted(rows, key=lambda one: str(one["Index"])))
    data = load("hub", shuffled)
    assert data.digest == ordered.digest
    assert [one.id for one in data.samples[:3]] == ["1", "2", "3"]
    assert all(one.images[0].read() == jpeg(int(one.id)) for one in data.samples)
    assert data.digest == load("files", original(tmp_path / "d", rows)).digest


SWAPPED = {99: "b", 100: "a", 279: "b", 280: "a"}


@pytest.mark.parametrize("source", ["hub", "files"])
@pytest.mark.parametrize("published", ["original", "corrected"])
def test_both_labellings_come_from_either_source(tmp_path: Path, source: str, published: str) -> None:
    rows = [row(n) for n in range(1, 301)]
    if published == "corrected":
        rows = [
            row(n, **{"Correct Answer": f"({SWAPPED[n]})"}) if n in SWAPPED else row(n) for n in range(1, 301)
        ]
    path = hub(tmp_path / "train.parquet", rows) if source == "hub" else original(tmp_path / "d", rows)
    data = {variant: load(source, path, variant) for variant in TASK.variants}
    labels = {variant: [one.target for one in found.samples] for variant, found in data.items()}
    assert labels["plain"] == labels["options"] == ["a", "b"] * 150
    assert labels["plain_corrected"] == labels["options_corrected"]
    differ = [n for n in range(1, 301) if labels["plain"][n - 1] != labels["plain_corrected"][n - 1]]
    assert differ == [99, 100, 279, 280]
    assert load(source, path).digest == data["plain"].digest != data["plain_corrected"].digest


def test_missing_images_are_listed(tmp_path: Path) -> None:
    rows = [row(n) for n in (1, 2, 10, 9)]
    folder = original(tmp_path / "d", rows)
    for number in (2, 10):
        (folder / "MMVP Images" / f"{number}.jpg").unlink()
    assert load("files", folder).missing == ("2", "10")
    empty = [{**one, "image": None} if one["Index"] in (10, 2) else one for one in rows]
    assert load("hub", hub(tmp_path / "train.parquet", empty)).missing == ("2", "10")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (
            row(2, Options="Open or closed"),
            r"Questions\.csv row 2 \(Index 2\): the options should be written",
        ),
        (row(2, Options="(b) Open (a) Closed"), "the options should be written"),
        (row(2, **{"Correct Answer": "(c)"}), r"the answer \(c\) is none of the 2 options"),
        (row(2, **{"Correct Answer": "Closed"}), r"the answer should be written '\(a\)', got 'Closed'"),
        (row(0), "row 2: field 'Index' should be a whole number from 1, got '0'"),
        (row(2, Surplus="Closed"), r"Questions\.csv row 2 has more fields than columns"),
        (row(1), "id 1 occurs twice"),
        ({"Index": 2, "Question": "q"}, "field 'Options' is null"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, bad: Row, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        load("files", original(tmp_path / "d", [row(1), bad]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["9" * 5000, "1" * 10, "\u0661", "1_0"])
def test_a_number_is_one_of_a_row(tmp_path: Path, number: str) -> None:
    """Python refuses to read 5,000 digits, with an error of its own."""
    folder = original(tmp_path / "d", [row(1)])
    (folder / "Questions.csv").write_text(
        f"Index,Question,Options,Correct Answer\n{number},Open?,(a) x (b) y,(a)\n", "utf-8"
    )
    with pytest.raises(DataError, match="row 1: field 'Index' should be a whole number from 1"):
        load("files", folder)


def test_what_a_data_folder_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs --data DIR, a folder with Questions\.csv and MMVP Images/"):
        TASK.sources["files"](DataRequest("test"))
    with pytest.raises(DataError, match=r"unknown split of mmvp 'original'\. Available: test"):
        load("files", tmp_path, split="original")
    with pytest.raises(DataError, match="unknown variant of mmvp 'corrected'; did you mean plain_corrected"):
        load("files", tmp_path, "corrected")
    with pytest.raises(DataError, match=r"Questions\.csv is not in .*; there: nothing"):
        load("files", tmp_path)
    headless = original(tmp_path / "h", [row(1)], header=("Index", "Question", "Options"))
    with pytest.raises(DataError, match="has no column Correct Answer; there: Index, Question, Options"):
        load("files", headless)
    (headless / "Questions.csv").write_bytes(b'Index,"Question\n')
    with pytest.raises(DataError, match=r"Questions\.csv is not CSV"):
        load("files", headless)
    (headless / "Questions.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        load("files", headless)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    folder = original(tmp_path / "d", [row(1), row(2)])
    path = folder / "Questions.csv"
    path.write_text(path.read_text("utf-8"), "utf-8-sig")
    assert len(load("files", folder).samples) == 2


def test_options_are_read_in_the_order_of_their_letters() -> None:
    assert read_options("(a) Open (b) Closed", "") == ("Open", "Closed")
    assert read_options(" (A)Yes  (b)  No ", "") == ("Yes", "No")
    assert read_options("(a) Left (b) Vitamin (d) (c) None", "") == ("Left", "Vitamin (d)", "None")
    whole = " ".join(f"({chr(97 + n)}) x" for n in range(26))
    assert read_options(f"{whole} (a) again", "") == ("x",) * 25 + ("x (a) again",)
    assert [read_letter(one, "") for one in ("(a)", " (B) ", "b", "a)")] == ["a", "b", "b", "a"]


def make(number: int, letter: str, options: tuple[str, ...] = ("Open", "Closed")) -> Sample:
    written = " ".join(f"({mark}) {option}" for mark, option in zip("ab", options, strict=True))
    return Sample(
        id=str(number),
        images=(),
        question="Are they open? ",
        target=letter,
        options=options,
        fields={"options": written},
        cluster=f"pair-{(number + 1) // 2}",
    )


def test_prompts() -> None:
    one = make(1, "a")
    for variant in ("plain", "plain_corrected"):
        assert prompt(one, MIX, variant) == "answer en Are they open?"
    for variant in ("options", "options_corrected"):
        assert prompt(one, MIX, variant) == "answer en Are they open? (a) Open (b) Closed"
    for variant in TASK.variants:
        assert prompt(one, OFFICIAL, variant) == "Are they open?  (a) Open (b) Closed"  # nothing stripped


FOUR = [make(1, "a"), make(2, "b"), make(3, "b"), make(4, "a")]


def values(answers: Sequence[str | None]) -> dict[str, float | None]:
    rows = list(zip(FOUR, answers, strict=True))
    return {metric.name: score(metric, rows).value for metric in METRICS}


def test_pairs_count_whole() -> None:
    assert values(["open", "closed", "closed", "open"]) == dict.fromkeys((m.name for m in METRICS), 1.0)
    assert values(["open", "closed", "closed", "closed"]) == {
        "pair_accuracy": 0.5,
        "pair_accuracy_lenient": 0.5,
        "accuracy": 0.75,
        "accuracy_lenient": 0.75,
    }
    assert values(["it is open", "closed", "closed", "closed"]) == {
        "pair_accuracy": 0.0,
        "pair_accuracy_lenient": 0.5,
        "accuracy": 0.5,
        "accuracy_lenient": 0.75,
    }
    assert values([""] * 4) == dict.fromkeys((m.name for m in METRICS), 0.0)


def test_the_floor_is_what_guessing_gives() -> None:
    """Every way of answering a pair without looking, once each: a quarter of the pairs, half of the rows."""
    guesses = [(x, y) for x in ("open", "closed") for y in ("open", "closed")]
    found = [values([x, y, x, y]) for x, y in guesses]
    for metric in METRICS:
        assert sum(one[metric.name] or 0.0 for one in found) / 4 == metric.floor


def test_a_failed_half_fails_its_pair() -> None:
    assert values(["open", None, "closed", "open"]) == {
        "pair_accuracy": 0.5,
        "pair_accuracy_lenient": 0.5,
        "accuracy": 0.75,
        "accuracy_lenient": 0.75,
    }


def test_a_row_alone_is_no_pair() -> None:
    rows = [(FOUR[0], "open"), (FOUR[1], "closed"), (FOUR[2], "open")]
    assert score(PAIR_ACCURACY, rows).value == 1.0
    assert score(ACCURACY, rows).value == pytest.approx(2 / 3)
    assert score(PAIR_ACCURACY, rows[2:]).value is None
    assert score(PAIR_ACCURACY, [(FOUR[0], None)]).value is None
    with pytest.raises(DataError, match="pair pair-1 has 3 samples; a pair is two"):
        score(PAIR_ACCURACY, [(make(n, "a"), "open") for n in (1, 1, 2)])


def test_each_rule_counts_what_it_cannot_read() -> None:
    rows = list(zip(FOUR, ["open", "it is closed", "open or closed", ""], strict=True))
    assert [score(metric, rows).invalid for metric in (PAIR_ACCURACY, ACCURACY)] == [3, 3]
    assert [score(metric, rows).invalid for metric in (PAIR_ACCURACY_LENIENT, ACCURACY_LENIENT)] == [2, 2]


def test_an_option_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="the right option should be one of a, b, got 'c'"):
        judge(prediction="a", options=["x", "y"], correct="c")
    with pytest.raises(DataError, match="expected a letter as its target"):
        score(ACCURACY, [(Sample("1", (), "", ("a",), options=("x", "y")), "a")])


WORD = st.sampled_from(
    ["open", "Closed", "a", "the", "left", "side", "left side", "1", "12", "no", "not", "b"]
)
OPTION = st.lists(WORD, min_size=1, max_size=3).map(" ".join)
MARK = st.sampled_from(["", ".", "!", " .", ";:", "\n", "  "])
PREFIX = st.sampled_from(["", "(a) ", "b) ", "A", "(B)", "A ", "the ", "it is ", "(c) ", " "])


@given(PREFIX, OPTION | st.text(max_size=5), MARK, OPTION, OPTION, st.sampled_from("ab"))
def test_the_rule_is_as_written(
    prefix: str, said: str, mark: str, first: str, second: str, correct: str
) -> None:
    answer = prefix + said + mark
    got = judge(prediction=answer, options=[first, second], correct=correct)
    assert (got.strict, got.lenient, got.invalid) == transcribed(answer, [first, second], correct)
    assert not (got.strict and got.strict_invalid)
    assert not (got.invalid and not got.strict_invalid)


@given(OPTION | st.just(""), OPTION, st.sampled_from("ab"))
def test_gold_reaches_the_ceiling(first: str, second: str, correct: str) -> None:
    one = make(1, correct, (first, second))
    got = judge(prediction=gold(one), options=one.options, correct=correct)
    assert (got.strict, got.lenient) == (True, True)


def test_gold_is_the_text_of_the_right_option() -> None:
    assert [gold(one) for one in FOUR] == ["Open", "Closed", "Closed", "Open"]
    assert gold(make(1, "a", ("", "Closed"))) == "(a)"
    assert gold(Sample("1", (), "", None)) == ""


@given(st.lists(st.booleans(), max_size=9))
def test_pairs_of_verdicts(right: list[bool]) -> None:
    whole = len(right) // 2
    both = sum(right[2 * i] and right[2 * i + 1] for i in range(whole))
    assert pair_accuracy(right) == (both / whole if whole else None)


def test_the_task_is_complete() -> None:
    assert (TASK.name, TASK.version, TASK.max_new_tokens) == ("mmvp", 1, 32)
    assert dict(TASK.splits) == {"test": 300}
    assert TASK.variants == ("plain", "options", "plain_corrected", "options_corrected")
    assert [one.name for one in TASK.metrics if one.primary] == ["pair_accuracy"]
    assert TASK.cite.count("{") == TASK.cite.count("}")

"""The MMMU task: rows in the published schema, odd ones among them, prompts, gold and the rules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mmmu_rules as plain
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmmu_layout import ROWS, Record, parquet, png, row
from pgbench_tasks.mmmu import ALL, DISCIPLINE_OF, TASK, answer, gold, prompt, read, text_list

from pgbench.errors import DataError
from pgbench.metrics.mmmu import ACCURACY, PLAIN_ACCURACY, choice_accuracy, open_accuracy, parse_choice
from pgbench.metrics.scoring import score
from pgbench.types import DataRequest, Dataset, Profile, Sample

PALIGEMMA = Profile("mix", "paligemma")
OFFICIAL = Profile("mix", "paligemma", style="official")


def load(folder: Path, split: str = "val") -> Dataset:
    return TASK.sources["hub"](DataRequest(split, path=str(folder)))


def test_the_published_rows(tmp_path: Path) -> None:
    data = load(parquet(tmp_path / "d", ROWS))
    accounting, theory, chemistry, math, music, sociology, physics, biology = data.samples
    assert accounting.options == ("$6", "$7", "$8", "$9")
    assert accounting.target == "B"
    assert accounting.groups == {
        "subject": "Accounting",
        "discipline": "Business",
        "type": "multiple-choice",
    }
    assert [image.read() for image in theory.images] == [png(1)["bytes"]]
    assert (theory.groups["subject"], theory.groups["discipline"]) == ("Art_Theory", "Art and Design")
    assert (chemistry.target, chemistry.options) == (("$MgS$", "MgS"), ())
    assert (math.target, math.groups["type"]) == ("[0, 1]", "open")
    assert sociology.options[0] == "<image 1>\\pi 'x' "
    assert len(sociology.options) == 9
    assert (physics.target, biology.target) == (None, None)
    assert data.missing == ("validation_Music_2", "validation_Physics_4")
    with pytest.raises(OSError, match="holds no image"):
        music.images[0].read()


def test_all_images_come_in_marker_order(tmp_path: Path) -> None:
    request = DataRequest("val", path=str(parquet(tmp_path / "d", ROWS)))
    data = read(request, ALL)
    shades = [[image.name.rpartition("_")[2] for image in sample.images] for sample in data.samples]
    assert shades == [["1"], ["2", "1"], ["1"], ["1"], ["3"], ["1", "2", "3"], ["1"], ["1"]]
    assert data.missing == ("validation_Sociology_3", "validation_Physics_4")
    assert data.digest != read(request, TASK.variants[0]).digest


def test_the_folders_of_subjects_are_read(tmp_path: Path) -> None:
    for one in ROWS[:2]:
        parquet(tmp_path / "d" / str(one["id"]).split("_")[1], [one])
    assert [one.id for one in load(tmp_path / "d", "validation").samples] == [one["id"] for one in ROWS[:2]]


def test_test_rows_without_answers_are_not_scored(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "d", [row("test_Art_1", answer="?"), row("test_Art_2")], "test-0.parquet")
    assert [one.target for one in load(folder, "test").samples] == [None, "B"]
    val = parquet(tmp_path / "val", [row("validation_Art_1", answer="?", question_type="open")])
    assert [one.target for one in load(val).samples] == ["?"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"options": "['a', 3]"}, "'options' should be a Python list of 1 to 26 texts"),
        ({"options": "__import__('os').system('true')"}, "should be a Python list"),
        ({"options": "[]"}, "should be a Python list"),
        ({"options": str(["x"] * 27)}, "should be a Python list"),
        ({"options": "[" * 9000}, "should be a Python list"),
        ({"options": str(["x" * 30_000])}, "should be a Python list"),
        ({"options": None}, "'options' is null"),
        ({"id": "Accounting"}, "should be like validation_Accounting_1"),
        ({"id": "validation_Accounting_1"}, "occurs twice"),
        ({"question": None}, "'question' is null"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, bad: Record, said: str) -> None:
    folder = parquet(tmp_path / "d", [ROWS[0], row("validation_Art_9", **bad)])
    with pytest.raises(DataError, match=said) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_an_unknown_split_offers_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean test"):
        load(Path("nowhere"), "tset")


def test_literals_are_never_run() -> None:
    assert text_list("['a\\\\pi', \"it's\"]") == ["a\\pi", "it's"]
    assert text_list(r"['\pi']") == ["\\pi"]
    assert [text_list(one) for one in ("", "('a',)", "[1]", "['a'", "{}", "\0")] == [None] * 6


def sample(question: str, target: str | tuple[str, ...] | None = "A", *options: str) -> Sample:
    return Sample("validation_Art_1", (), question, target, options)


def test_prompts() -> None:
    choice, free = sample(" <image 1> Which?\n", "A", "red ", "<image 2>"), sample("How many?", "4")
    assert prompt(choice, PALIGEMMA, "first") == "answer en <image 1> Which?\n(A) red \n(B) <image 2>"
    assert prompt(free, PALIGEMMA, "first") == "answer en How many?"
    assert prompt(choice, OFFICIAL, "first") == (
        " <image 1> Which?\n\n\n(A) red \n(B) <image 2>\n\n\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert prompt(free, OFFICIAL, "first") == (
        "How many?\n\nAnswer the question using a single word or phrase."
    )


def test_gold_reaches_the_ceiling() -> None:
    """The ceiling by the other transcription: of these only "x is y" cannot be said, being read as "y"."""
    rows = [
        sample("", "C", "a", "b", "c"),
        sample("", ("x is y", "Tampa")),
        sample("", "24/7"),
        sample("", "x is y"),
    ]
    reachable = [True, *(any(plain.mmmu_open(g, g_all) for g in g_all) for g_all in golds(rows[1:]))]
    assert reachable == [True, True, True, False]
    for metric in (ACCURACY, PLAIN_ACCURACY):
        assert score(metric, [(one, gold(one)) for one in rows]).value == sum(reachable) / 4
    assert gold(sample("", None)) == ""


def golds(rows: list[Sample]) -> list[list[str]]:
    return [[one.target] if isinstance(one.target, str) else list(one.target or ()) for one in rows]


def test_empty_answers_score_what_a_guess_expects() -> None:
    rows = [
        sample("", "B", *"wxyz"),
        sample("", "A", *"wx"),
        sample("", ("A", "C"), *"wxyz"),
        sample("", "q"),
    ]
    expected, wrong = score(ACCURACY, [(r, "") for r in rows]), score(PLAIN_ACCURACY, [(r, "") for r in rows])
    assert expected.value == (1 / 4 + 1 / 2 + 2 / 4 + 0) / 4
    assert (wrong.value, wrong.invalid, expected.invalid) == (0.0, 4, 4)
    assert score(ACCURACY, [(r, None) for r in rows]).value == 0.0


WORDS = st.sampled_from(
    "A B C D (A) (B) (C) a b answer is so the final result could be thus = red Red blue green , . ' ? ! : \n"
    " 1,000 1_000 -3.14159 .5 1e3 １２ nan inf 2,5 x y".split(" ")
)
SAID = st.lists(WORDS, max_size=9).map(" ".join) | st.lists(WORDS, max_size=6).map("".join)
OPTION = st.sampled_from(["red", "Red", "blue", "", "green blue", "1,000", "A", "x"])


@given(SAID, st.lists(OPTION, min_size=1, max_size=5))
def test_choices_follow_the_rules(said: str, options: list[str]) -> None:
    chosen = plain.mmmu_choice(said, options)
    assert parse_choice(said, options) == chosen
    worth = choice_accuracy(prediction=said, options=options, golds=["B"])
    guess = (len(options) > 1) / len(options)
    assert worth == (guess if chosen is None else float(chosen == "B"))
    assert answer(said, sample("", "A", *options)) == (chosen or "?")


@given(SAID, st.lists(SAID, min_size=1, max_size=2))
def test_open_answers_follow_the_rules(said: str, wanted: list[str]) -> None:
    assert open_accuracy(prediction=said, golds=wanted) == plain.mmmu_open(said, wanted)


def test_an_empty_tail_resets_the_shortest() -> None:
    assert open_accuracy(prediction="result so x is \n.", golds=["so x"]) == 1.0
    assert plain.mmmu_open("result so x is \n.", ["so x"])


def test_the_task_is_complete() -> None:
    assert list(TASK.splits.items()) == [("val", 900), ("dev", 150), ("test", 10500)]
    assert [one.name for one in TASK.metrics] == ["accuracy", "plain_accuracy"]
    assert [one.primary for one in TASK.metrics] == [True, False]
    assert (len(DISCIPLINE_OF), len(set(DISCIPLINE_OF.values()))) == (30, 6)
    assert TASK.cite.count("{") == TASK.cite.count("}")
    assert set(TASK.sources) == {"hub", "demo"}


def test_importing_the_task_is_light() -> None:
    code = """
import sys, pgbench_tasks.mmmu, pgbench_tasks.cmmmu
print({"torch", "transformers", "datasets", "huggingface_hub", "pandas", "numpy", "PIL"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"

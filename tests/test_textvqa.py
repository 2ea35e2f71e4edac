"""The TextVQA task: the original layout, odd records, prompts, and gold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbench_tasks.textvqa import TASK, gold, prompt
from textvqa_layout import ANSWERS, RECORDS, Record, jpeg, original, record

from pgbench.errors import DataError
from pgbench.metrics.vqa import paper_accuracy, textvqa_accuracy
from pgbench.types import DataRequest, Dataset, Profile, Sample

PALIGEMMA = Profile("mix", "paligemma")
OFFICIAL = Profile("mix", "paligemma", style="official")


def from_files(folder: Path, split: str = "val") -> Dataset:
    return TASK.sources["files"](DataRequest(split, path=str(folder)))


def test_the_original_layout(tmp_path: Path) -> None:
    data = from_files(original(tmp_path / "d", RECORDS))
    assert [one.id for one in data.samples] == ["34602", "34603", "34604", "34605", "34606"]
    first, second, third, *rest = data.samples
    assert first.question == "What does the NASA sign say?"
    assert first.target == tuple(ANSWERS)
    assert first.images[0].name == "003a8ae2ef43b901.jpg"
    assert first.images[0].read() == jpeg(9)
    assert first.cluster == second.cluster == "003a8ae2ef43b901"
    assert third.cluster == "0000000000000000"
    assert [one.target for one in rest] == [None, None]
    assert (data.id, data.revision, data.missing, data.demo) == ("TextVQA_0.5.1_val.json", None, (), False)


def test_test_and_train_have_their_folders(tmp_path: Path) -> None:
    folder = original(tmp_path / "d", [record(1, answers=...)], "test")
    original(folder, [record(2)], "train")
    assert from_files(folder, "test").samples[0].target is None
    assert from_files(folder, "train").samples[0].images[0].read() == jpeg(9)
    assert not (folder / "val_images").exists()


@pytest.mark.parametrize("alias", ["val", "validation"])
def test_validation_is_another_name_for_val(tmp_path: Path, alias: str) -> None:
    assert from_files(original(tmp_path / "d", RECORDS), alias).id == "TextVQA_0.5.1_val.json"
    demo = TASK.sources["demo"](DataRequest(alias))
    assert demo.demo
    assert len(demo.samples) > 0


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (record(7, answers=ANSWERS[:9]), r"record 1 \(question_id 7\): field 'answers' has 9 answers"),
        (record(7, answers=[*ANSWERS, "x"]), "has 11 answers"),
        (record(7, answers=[None, *ANSWERS[1:]]), "field 'answers' should be text, got null"),
        (record(7, answers="dakota"), "field 'answers' should be a list of 10, got 'dakota'"),
        (record(7, question=...), r"\(question_id 7\): field 'question' is missing; there: answers, flickr"),
        (record(7, question=None), "field 'question' is null"),
        (record(7, question="\ud800"), "half a surrogate"),
        (record(7, image_id=...), r"record 1: field 'image_id' is missing"),
        (record(7, image_id=7), "field 'image_id' should be text, got 7"),
        (record(7, image_id="../../etc/passwd"), "no plain file name"),
        (record(7, image_id="a\0"), "no plain file name"),
        (record(7, question_id=...), "field 'question_id' is missing"),
        (record(7, question_id="x"), "should be a whole number, got 'x'"),
        (record(7, question_id=True), "should be a whole number"),
        (record(34602), "id 34602 occurs twice"),
    ],
)
def test_a_bad_record_is_named(tmp_path: Path, bad: Record, said: str) -> None:
    folder = original(tmp_path / "d", [RECORDS[0]])
    path = folder / "TextVQA_0.5.1_val.json"
    path.write_text(json.dumps({"data": [RECORDS[0], bad]}))
    with pytest.raises(DataError, match=said) as caught:
        from_files(folder)
    assert "\n" not in str(caught.value)


def test_missing_images_are_listed(tmp_path: Path) -> None:
    folder = original(tmp_path / "d", RECORDS)
    (folder / "train_images" / "003a8ae2ef43b901.jpg").unlink()
    assert from_files(folder).missing == ("34602", "34603")


def test_what_a_data_folder_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs --data DIR"):
        TASK.sources["files"](DataRequest("val"))
    folder = original(tmp_path / "d", RECORDS)
    with pytest.raises(
        DataError, match=r"TextVQA_0\.5\.1_test\.json is not in .*there: TextVQA_0\.5\.1_val\.json"
    ):
        from_files(folder, "test")
    for image in (folder / "train_images").iterdir():
        image.unlink()
    (folder / "train_images").rmdir()
    assert from_files(folder).missing == tuple(one.id for one in from_files(folder).samples)


@pytest.mark.parametrize("source", ["hub", "files", "demo"])
def test_an_unknown_split_offers_the_nearest(source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown split of textvqa 'vall'; did you mean val\?"):
        TASK.sources[source](DataRequest("vall"))


def sample(question: str, target: tuple[str, ...] | None = None) -> Sample:
    return Sample("1", (), question, target)


def test_the_question_is_never_touched() -> None:
    question = "What does the NASA sign say about STS-51L?"
    assert prompt(sample(question), PALIGEMMA, "default") == f"answer en {question}"
    assert prompt(sample(question), OFFICIAL, "default") == question
    assert prompt(sample("  a  b\tc?\n"), PALIGEMMA, "default") == "answer en a  b\tc?"


ODD = st.sampled_from(
    ["yes", "Yes", "yes.", "the yes", "no", "No!", "two", "2", "", " ", "men's", "1,000", "."]
)


@given(st.lists(ODD | st.text(max_size=6), min_size=10, max_size=10))
def test_gold_reaches_the_ceiling(answers: list[str]) -> None:
    target = tuple(answers)
    text = gold(sample("q", target))
    assert text in target
    official = {one: textvqa_accuracy(prediction=one, answers=answers) for one in answers}
    assert official[text] == max(official.values())
    tied = [one for one in answers if official[one] == official[text]]
    assert paper_accuracy(prediction=text, answers=answers) == max(
        paper_accuracy(prediction=one, answers=answers) for one in tied
    )


def test_gold_breaks_ties_by_the_paper() -> None:
    """Officially x,y and xy are one text; by the paper's rule they are two, said by 2 and by 8 people."""
    assert gold(sample("q", ("x,y",) * 2 + ("xy",) * 8)) == "xy"


def test_gold_without_references_is_empty() -> None:
    assert gold(sample("q")) == ""


def test_the_task_is_complete() -> None:
    assert (TASK.name, TASK.version, TASK.max_new_tokens) == ("textvqa", 1, 32)
    assert list(TASK.splits.items()) == [("val", 5000), ("test", 5734), ("train", 34602)]
    assert [one.name for one in TASK.metrics if one.primary] == [TASK.metrics[0].name]
    assert (TASK.pixels.antialias, TASK.pixels.text_len) == (True, 32)
    assert "Towards" in TASK.cite
    assert TASK.cite.count("{") == TASK.cite.count("}")
    assert set(TASK.sources) == {"hub", "files", "demo"}


def test_importing_the_task_is_light() -> None:
    code = """
import sys, pgbench_tasks.textvqa
print({"torch", "transformers", "datasets", "huggingface_hub", "pandas", "numpy", "PIL"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"

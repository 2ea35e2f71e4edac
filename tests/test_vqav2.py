"""The VQAv2 task: rules, prompts, gold, and the original layout and its hub copy with their odd records."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import vqav2_rules as rules
from hypothesis import given, settings
from hypothesis import strategies as st
from kills import Command, differing, kill_repeatedly
from pgbench_tasks.vqav2 import TASK, gold, prompt
from vqav2_layout import JPEG, Record, annotation, answers, generate, original, parquet, question

from pgbench.cli import invoke
from pgbench.errors import DataError
from pgbench.metrics.scoring import score
from pgbench.metrics.vqa import paper_accuracy
from pgbench.metrics.vqav2 import VQAV2_ACCURACY, official_table, vqav2_accuracy
from pgbench.types import DataRequest, Dataset, Profile, Sample

PALIGEMMA = Profile("mix", "paligemma")
OFFICIAL = Profile("mix", "paligemma", style="official")

A, B, C = 262148000, 262148001, 42000
QUESTIONS = [question(A), question(B, question=" Wie heißt „Größe“?  "), question(C)]
ANNOTATIONS = [
    annotation(C, answers=answers("Yes"), answer_type="yes/no", question_type="is the"),
    annotation(A),
    annotation(999000),  # of a question that is not asked
    annotation(B, answers=answers("", "größe", "the", "größe")),
]


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets-cache")


def from_files(folder: Path, split: str = "val") -> Dataset:
    return TASK.sources["files"](DataRequest(split, path=str(folder)))


def from_hub(path: Path, split: str = "val") -> Dataset:
    return TASK.sources["hub"](DataRequest(split, path=str(path)))


# --- rules ---

PIECES = [
    *rules.MARKS,
    *[" ", " ", " ", " ", "\n", "\t", "\u00a0", ".", "." * 32, "." * 33, "1,2", ".5", "٣,٤", "İ"],
    *["a", "The", "none", "Ten", "eleven", "red", "Yes", "cant", "dont", "somebody'd", "'", "’"],
    *rules.CONTRACTIONS,
]
texts = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)


@st.composite
def judged(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A prediction and ten answers, unanimous but for white space now and then."""
    pool = draw(st.lists(texts, min_size=1, max_size=3))
    changed = st.sampled_from([str, str.upper, lambda t: f"{t}.", lambda t: f" {t}\n", lambda t: f"the {t}"])
    one = st.builds(lambda change, text: str(change(text)), changed, st.sampled_from(pool))
    same = st.lists(st.sampled_from([pool[0], f" {pool[0]}\t"]), min_size=10, max_size=10)
    return draw(one), draw(same | st.lists(one, min_size=10, max_size=10))


@given(judged())
@settings(max_examples=500, deadline=None)
def test_the_accuracy_agrees_with_its_transcription(case: tuple[str, list[str]]) -> None:
    said, ten = case
    wanted = rules.accuracy(said, ten)
    assert vqav2_accuracy(prediction=said, answers=ten) == pytest.approx(wanted, abs=1e-12)
    assert official_table([(Sample("1", (), "", tuple(ten)), said)])["overall"] == round(100 * wanted, 2)


def test_only_the_first_32_periods_vanish() -> None:
    ten = ["b"] * 9 + ["c"]
    assert vqav2_accuracy(prediction="." * 32 + "b", answers=ten) == 1
    assert vqav2_accuracy(prediction="." * 33 + "b", answers=ten) == 0
    assert paper_accuracy(prediction="." * 33 + "b", answers=ten) == 1


@pytest.mark.parametrize(("said", "wanted"), [("Yes", 0), ("yes.", 0), ("a yes", 0), (" yes\n", 1)])
def test_a_unanimous_answer_is_taken_to_the_letter(said: str, wanted: float) -> None:
    assert vqav2_accuracy(prediction=said, answers=["yes", "yes "] * 5) == wanted


def test_no_answers_is_an_error() -> None:
    with pytest.raises(ValueError, match="no answers"):
        vqav2_accuracy(prediction="x", answers=[])


def test_the_table_is_the_script_s(tmp_path: Path) -> None:
    """On drawn questions, to the digit; a question without references is in no mean."""
    samples = from_files(generate(tmp_path / "d", 1000)).samples
    generator = random.Random(3)
    said = [generator.choice(one.target or ("",)) for one in samples]
    rows = list(zip(samples, said, strict=True))
    wanted = rules.evaluate(
        (text, targets(one), one.groups["answer_type"], one.groups["question_type"]) for one, text in rows
    )
    unscored = Sample("x", (), "", None, groups={"answer_type": "other", "question_type": "new"})
    assert official_table([*rows, (unscored, "x")]) == wanted
    assert official_table([(unscored, "x")]) == {"overall": None, "perAnswerType": {}, "perQuestionType": {}}
    with pytest.raises(DataError, match="sample 1: expected a tuple of answers, got 'yes'"):
        official_table([(Sample("1", (), "", "yes"), "yes")])


def targets(sample: Sample) -> Sequence[str]:
    assert isinstance(sample.target, tuple)
    return sample.target


def test_ceiling_floor_and_failures(tmp_path: Path) -> None:
    """Gold reaches what the best of the ten answers can, and empty answers what the script gives them."""
    samples = from_files(generate(tmp_path / "d", 600)).samples
    best = [max(rules.accuracy(answer, targets(one)) for answer in targets(one)) for one in samples]
    assert min(best) < 1  # the drawn split has questions that nobody can answer
    assert score(VQAV2_ACCURACY, [(one, gold(one)) for one in samples]).value == pytest.approx(
        sum(best) / len(best), abs=1e-12
    )
    empty = score(VQAV2_ACCURACY, [(one, "") for one in samples])
    assert (empty.value, empty.invalid) == (0, 600)
    assert [one.floor for one in TASK.metrics] == [0.2598, 0.2598]  # always "yes" scores more than nothing
    odd = Sample("odd", (), "", ("the", "?", "...", *["x"] * 7))
    assert score(VQAV2_ACCURACY, [(odd, "")]).value == rules.accuracy("", targets(odd)) == 0.9
    failed = score(VQAV2_ACCURACY, [(samples[0], None), (samples[1], gold(samples[1]))])
    assert (failed.value, failed.failed) == (best[1] / 2, 1)


# --- prompts and gold ---


def test_the_question_is_never_touched() -> None:
    sample = Sample("1", (), "  What  does NASA say?\n", None)
    assert prompt(sample, PALIGEMMA, "default") == "answer en What  does NASA say?"
    assert prompt(sample, OFFICIAL, "default") == "What  does NASA say?"


@given(st.lists(texts, min_size=10, max_size=10))
@settings(max_examples=100, deadline=None)
def test_gold_is_the_best_of_the_ten(ten: list[str]) -> None:
    best = gold(Sample("1", (), "", tuple(ten)))
    assert best in ten
    assert rules.accuracy(best, ten) == pytest.approx(max(rules.accuracy(one, ten) for one in ten))


def test_gold_without_references_is_empty() -> None:
    assert gold(Sample("1", (), "", None)) == ""


# --- files ---


def test_the_original_layout(tmp_path: Path) -> None:
    data = from_files(original(tmp_path / "d", QUESTIONS, ANNOTATIONS))
    assert [one.id for one in data.samples] == [str(A), str(B), str(C)]
    first, second, third = data.samples
    assert (first.question, second.question) == ("Where is he looking?", " Wie heißt „Größe“?  ")
    assert first.target == ("down", "at table", *["down"] * 8)
    assert second.target == ("", "größe", "the", *["größe"] * 7)
    assert third.target == ("Yes",) * 10
    assert first.images[0].name == "COCO_val2014_000000262148.jpg"
    assert first.images[0].read() == JPEG
    assert first.cluster == second.cluster == "262148"
    assert third.groups == {"answer_type": "yes/no", "question_type": "is the"}
    assert first.groups == {"answer_type": "other", "question_type": "none of the above"}
    assert data.id == "v2_OpenEnded_mscoco_val2014_questions.json"
    assert (data.revision, data.missing, data.demo) == (None, (), False)


def test_the_samples_are_a_sequence(tmp_path: Path) -> None:
    samples = from_files(original(tmp_path / "d", QUESTIONS, ANNOTATIONS)).samples
    assert len(samples) == 3
    assert samples[-1].id == str(C)
    assert [one.id for one in samples[1:]] == [str(B), str(C)]
    with pytest.raises(IndexError):
        samples[3]


@pytest.mark.parametrize("split", ["test", "testdev", "test-dev"])
def test_test_splits_are_run_and_not_scored(tmp_path: Path, split: str) -> None:
    folder = original(tmp_path / "d", QUESTIONS, None, split.replace("-", ""))
    first = from_files(folder, split).samples[0]
    assert (first.target, first.groups) == (None, {})
    assert first.images[0].name == "COCO_test2015_000000262148.jpg"
    assert first.images[0].read() == JPEG


@pytest.mark.parametrize("alias", ["val", "validation"])
def test_validation_is_another_name_for_val(tmp_path: Path, alias: str) -> None:
    assert len(from_files(original(tmp_path / "d", QUESTIONS, ANNOTATIONS), alias).samples) == 3


def test_minival_is_the_end_of_val(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In file order, whatever the ids say; of a shortened file it would be another split."""
    asked = [*QUESTIONS[::-1], question(7)]
    noted = [*ANNOTATIONS, annotation(7)]
    folder = original(tmp_path / "d", asked, noted)
    copy = parquet(tmp_path / "val.parquet", [*asked[:3], {**asked[3], "image": None}], noted)
    whole = "holds 4 questions; minival is the last 10,240 of all 214,354 of val: take the whole file"
    for source in (from_files, from_hub):
        with pytest.raises(DataError, match=whole):
            source(folder if source is from_files else copy, "minival")
    monkeypatch.setattr("pgbench_tasks.vqav2.VAL", 4)
    monkeypatch.setattr("pgbench_tasks.vqav2.MINIVAL", 2)
    for data in (from_files(folder, "minival"), from_hub(copy, "minival")):
        assert [one.id for one in data.samples] == [str(A), "7"]
        assert data.samples[0].images[0].read() == JPEG
        assert data.samples[0].images[0].name == "COCO_val2014_000000262148.jpg"
    assert data.missing == ("7",)


def test_an_unknown_split_offers_the_nearest() -> None:
    for name, split_of in {"hub": "vqav2", "files": "vqav2", "demo": "the demo"}.items():
        with pytest.raises(DataError, match=rf"unknown split of {split_of} 'vall'; did you mean val\?"):
            TASK.sources[name](DataRequest("vall"))


def test_missing_images_are_listed(tmp_path: Path) -> None:
    folder = original(tmp_path / "d", QUESTIONS, ANNOTATIONS)
    (folder / "val2014" / "COCO_val2014_000000262148.jpg").unlink()
    assert from_files(folder).missing == (str(A), str(B))
    shutil.rmtree(folder / "val2014")
    assert from_files(folder).missing == tuple(one.id for one in from_files(folder).samples)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (question(7, question=...), r"record 1 \(question_id 7\): field 'question' is missing"),
        (question(7, question="\ud800"), "half a surrogate"),
        (question(7, image_id="7"), "field 'image_id' should be a whole number, got '7'"),
        (question(7, image_id=-1), "field 'image_id' should be a whole number, got -1"),
        (question(7, question_id=10**19), "field 'question_id' should be a whole number, got 10000"),
        (question(7, question_id=True), "field 'question_id' should be a whole number, got True"),
        (question(7, question_id=...), "field 'question_id' is missing"),
        (question(A), f"id {A} occurs twice"),
    ],
)
def test_a_bad_question_is_named(tmp_path: Path, bad: Record, said: str) -> None:
    folder = original(tmp_path / "d", [QUESTIONS[0]], ANNOTATIONS)
    path = folder / "v2_OpenEnded_mscoco_val2014_questions.json"
    path.write_text(path.read_text().replace("}]", "}, " + json.dumps(bad) + "]"))
    with pytest.raises(DataError, match=said) as caught:
        from_files(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (
            annotation(B, answers=answers("x")[:9]),
            r"record 1 \(question_id 262148001\).* of 10, got 9 of them",
        ),
        (annotation(B, answers=None), "field 'answers' is null"),
        (annotation(B, answers="down"), "should be a list of 10, got 'down'"),
        (annotation(B, answers=["down"] * 10), "should hold objects with 'answer', got 'down'"),
        (annotation(B, answers=[{"answer": 2}] * 10), "field 'answer' should be text, got 2"),
        (annotation(B, answer_type=...), "field 'answer_type' is missing"),
        (annotation(B, question_type=None), "field 'question_type' is null"),
        (annotation(B, image_id=5), "image_id is 5, but the question has 262148"),
        (annotation(B, question_id="x"), "field 'question_id' should be a whole number"),
        (annotation(A), "a second annotation of this question"),
        (annotation(C), "lacks 1 of the 2 questions, question_id 262148001 first"),
    ],
)
def test_a_bad_annotation_is_named(tmp_path: Path, bad: Record, said: str) -> None:
    folder = original(tmp_path / "d", QUESTIONS[:2], [annotation(A), bad])
    with pytest.raises(DataError, match=said) as caught:
        from_files(folder)
    assert "\n" not in str(caught.value)


def test_what_a_data_folder_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs --data DIR, a folder with v2_OpenEnded.* and val2014/"):
        TASK.sources["files"](DataRequest("val"))
    folder = original(tmp_path / "d", QUESTIONS, None)
    with pytest.raises(DataError, match=r"v2_mscoco_val2014_annotations\.json is not in .*; there: v2_Open"):
        from_files(folder)
    with pytest.raises(DataError, match=r"v2_OpenEnded_mscoco_train2014_questions\.json is not in"):
        from_files(folder, "train")


# --- hub ---


def test_both_layouts_give_the_same_samples(tmp_path: Path) -> None:
    files = from_files(original(tmp_path / "d", QUESTIONS, ANNOTATIONS))
    hub = from_hub(parquet(tmp_path / "copy/data/validation-00000-of-00001.parquet", QUESTIONS, ANNOTATIONS))
    assert hub.digest == files.digest
    for one, other in zip(hub.samples, files.samples, strict=True):
        assert (one.groups, one.cluster, one.target) == (other.groups, other.cluster, other.target)
        assert one.images[0].read() == JPEG


def test_hub_test_splits_hold_null(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    parquet(path / "data/testdev-00000-of-00001.parquet", QUESTIONS, None)
    data = from_hub(path, "testdev")
    assert [one.target for one in data.samples] == [None] * 3
    assert data.samples[0].images[0].name == "COCO_test2015_000000262148.jpg"
    with pytest.raises(DataError, match=r"no train-\*\.parquet"):
        from_hub(path, "train")
    with pytest.raises(DataError, match=r"no test-\*\.parquet"):
        from_hub(path, "test")


def test_hub_rows_without_an_image_and_bad_rows(tmp_path: Path) -> None:
    path = parquet(tmp_path / "val.parquet", [QUESTIONS[0], {**QUESTIONS[2], "image": None}], ANNOTATIONS)
    assert from_hub(path).missing == (str(C),)
    parquet(path, QUESTIONS, ANNOTATIONS[:2])
    with pytest.raises(DataError, match=rf"row 1 \(question_id {B}\): field 'answers' is null"):
        from_hub(path)
    path = parquet(tmp_path / "val.parquet", [QUESTIONS[0], QUESTIONS[0]], ANNOTATIONS)
    with pytest.raises(DataError, match=rf"val\.parquet: id {A} occurs twice"):
        from_hub(path)
    short = [annotation(A, answers=answers("x")[:3])]
    with pytest.raises(DataError, match=rf"row 0 \(question_id {A}\): field 'answers' .*got 3 of them"):
        from_hub(parquet(tmp_path / "val.parquet", QUESTIONS[:1], short))


# --- runs ---


@pytest.mark.parametrize("model", [(), ("--model", "tiny-gemma2", "--dtype", "float32", "--limit", "2")])
@pytest.mark.parametrize("source", ["files", "hub"])
def test_it_runs_from_both_layouts(tmp_path: Path, source: str, model: tuple[str, ...]) -> None:
    where = original(tmp_path / "d", QUESTIONS, ANNOTATIONS)
    if source == "hub":
        where = parquet(tmp_path / "copy/data/validation-0.parquet", QUESTIONS, ANNOTATIONS).parents[1]
    backend = model or ("--backend", "oracle")
    flags = ["--task", "vqav2", *backend, "--source", source, "--data", str(where)]
    assert invoke(["run", *flags, "--out", str(tmp_path / "out")]) == 0


def test_a_killed_run_of_5000_questions_goes_on(tmp_path: Path) -> None:
    """To the record of a run that was left alone, with the breakdowns of its 5,000 questions."""
    folder = generate(tmp_path / "d", 5_000)
    flags = (
        "--task",
        "vqav2",
        "--backend",
        "oracle",
        "--source",
        "files",
        "--data",
        str(folder),
        "--batch-size",
        "50",
    )
    whole, killed = Command(flags, tmp_path / "whole"), Command(flags, tmp_path / "killed")
    whole.finish()
    found = kill_repeatedly(killed, 2, 5_000, random.Random(5))
    assert found.kills > 0
    assert differing(whole.result(), killed.result()) == []
    assert len(set(killed.ids())) == 5_000


def test_the_task_is_complete() -> None:
    assert (TASK.name, TASK.version, TASK.max_new_tokens) == ("vqav2", 1, 32)
    assert list(TASK.splits.items()) == [
        ("val", 214_354),
        ("minival", 10_240),
        ("testdev", 107_394),
        ("test", 447_793),
        ("train", 443_757),
    ]
    assert [(one.name, one.primary) for one in TASK.metrics] == [
        ("accuracy", True),
        ("paper_accuracy", False),
    ]
    assert (TASK.pixels.antialias, TASK.pixels.text_len) == (True, 32)
    assert TASK.cite.count("{") == TASK.cite.count("}")
    assert set(TASK.sources) == {"hub", "files", "demo"}

"""The ScienceQA task: both published layouts with their odd records, prompts, and whole runs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from hub_server import HubServer
from pgbench_tasks.scienceqa import TASK, prompt
from scienceqa_layout import (
    PROBLEMS,
    STATES,
    TEST,
    TEST_FULL,
    Record,
    original,
    parquet,
    png,
    record,
)

from pgbench.cli import invoke
from pgbench.errors import DataError, UsageError
from pgbench.samples import read_lines
from pgbench.sweeping import choices
from pgbench.types import DataRequest, Dataset, Profile, Sample

PALIGEMMA = Profile("ft", "paligemma")
OFFICIAL = Profile("ft", "paligemma", style="official")


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets-cache")


def read(source: str, path: Path, split: str = "test") -> Dataset:
    return TASK.sources[source](DataRequest(split, path=str(path)))


def ids(data: Dataset) -> list[str]:
    return [sample.id for sample in data.samples]


def test_the_original_layout(tmp_path: Path) -> None:
    data = read("files", original(tmp_path, PROBLEMS))
    assert ids(data) == TEST
    first, second = data.samples[:2]
    assert (first.question, first.target, first.context) == (PROBLEMS["4"]["question"], "D", "")
    assert first.options == tuple(STATES)
    assert first.images[0].name == "4/image.png"
    assert first.images[0].read() == png()
    assert (second.target, second.context) == ("E", "Ein Magnet – „stark“.")
    assert (data.id, data.revision, data.missing, data.demo) == ("problems.json", None, (), False)


def test_the_full_splits_hold_the_questions_without_a_picture(tmp_path: Path) -> None:
    data = read("files", original(tmp_path, PROBLEMS), "test_full")
    assert ids(data) == TEST_FULL
    assert [len(sample.images) for sample in data.samples] == [1, 0, 0, 1, 1, 1]
    assert data.missing == ()  # not asked for, so not missing
    assert ids(read("files", tmp_path, "val")) == ids(read("files", tmp_path, "validation")) == ["13"]
    assert ids(read("files", tmp_path, "train_full")) == ["1"]


def test_the_groups_are_those_of_the_official_table(tmp_path: Path) -> None:
    samples = {s.id: s for s in read("files", original(tmp_path, PROBLEMS), "test_full").samples}
    geography = {"topic": "geography"}
    assert samples["4"].groups == geography | {
        "subject": "social science",
        "grade": "7-12",
        "has_image": "yes",
    }
    language = geography | {"subject": "language science", "grade": "1-6"}
    assert samples["5"].groups == language | {"has_text": "yes"}
    assert samples["6"].groups == geography | {
        "subject": "natural science",
        "grade": "7-12",
        "no_context": "yes",
    }
    assert {"has_text", "has_image"} <= samples["11"].groups.keys()


def test_an_empty_name_is_no_picture(tmp_path: Path) -> None:
    """As evaluate_acc.py has it, which asks whether the field is true."""
    assert ids(read("files", original(tmp_path, {"4": record(), "5": record(image="")}))) == ["4"]


@pytest.mark.parametrize(("root", "below"), [("", ""), ("", "images"), ("data/scienceqa", "images")])
def test_where_the_pictures_may_lie(tmp_path: Path, root: str, below: str) -> None:
    original(tmp_path / root, PROBLEMS, below)
    data = read("files", tmp_path)
    assert data.missing == ()
    assert data.samples[0].images[0].read() == png()


def test_a_missing_picture_is_listed(tmp_path: Path) -> None:
    folder = original(tmp_path, PROBLEMS)
    (folder / "test/11/image.png").unlink()
    for split in ("test", "test_full"):
        assert read("files", folder, split).missing == ("11",)
    (folder / "problems.json").write_text(json.dumps({"1" * 300: record()}))
    assert read("files", folder).missing == ("1" * 300,)


@pytest.mark.parametrize(
    ("number", "bad", "said"),
    [
        ("7", record(answer=4), r"problems\.json record 7: field 'answer' should be .* of 4 choices, got 4"),
        ("7", record(answer=-1), "got -1"),
        ("7", record(answer=True), "got True"),
        ("7", record(answer="0"), "got '0'"),
        ("7", record(answer=...), "field 'answer' is missing"),
        ("7", record(choices=[]), "'choices' should be a list of 1 to 5, got 0"),
        ("7", record(choices=list("abcdef")), "got 6"),
        ("7", record(choices="ab"), "should be a list of 1 to 5, got 'ab'"),
        ("7", record(choices=[1, 2]), "field 'choices' should be text, got 1"),
        ("7", record(question=None), "field 'question' is null"),
        ("7", record(hint=3), "field 'hint' should be text, got 3"),
        ("7", record(image=3), "field 'image' should be text, got 3"),
        ("7", record(image="../../secret.png"), "no plain file name"),
        ("../7", record(), "no plain file name"),
        ("\ud800", record(), "problems.json: field 'number' holds half a surrogate pair"),
        ("7", record(split=...), "field 'split' is missing"),
    ],
)
def test_a_bad_record_is_named(tmp_path: Path, number: str, bad: Record, said: str) -> None:
    folder = original(tmp_path, {"4": record()})
    (folder / "problems.json").write_text(json.dumps({"4": record(), number: bad}))
    with pytest.raises(DataError, match=said) as caught:
        read("files", folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "expected an object of records by number, got an empty list"),
        ({"4": []}, "record 4 should be an object, got an empty list"),
        ({"4": record(split="val")}, "problems.json: no question of this split"),
        ({"4": record(image=None)}, "problems.json: no question of this split"),
    ],
)
def test_a_bad_document_is_named(tmp_path: Path, document: object, said: str) -> None:
    folder = original(tmp_path, {"4": record()})
    (folder / "problems.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=said):
        read("files", folder)


def test_what_a_data_folder_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs --data DIR, a folder with problems\.json"):
        TASK.sources["files"](DataRequest("test"))
    folder = original(tmp_path, {"4": record(split="val")})
    shutil.rmtree(folder / "val")
    assert read("files", folder, "val").missing == ("4",)
    (tmp_path / "problems.json").unlink()
    with pytest.raises(DataError, match=r"problems\.json is not in"):
        read("files", tmp_path)


@pytest.mark.parametrize("source", ["hub", "files"])
def test_an_unknown_split_offers_the_nearest(source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown split of scienceqa 'test_ful'; did you mean test_full or"):
        read(source, tmp_path, "test_ful")


def test_other_names_of_splits_are_known_on_the_command_line() -> None:
    asked = ("", "validation", "validation_full", "test")
    assert [choices.split(TASK, one) for one in asked] == ["test", "val", "val_full", "test"]
    with pytest.raises(UsageError, match="unknown split of scienceqa 'val_balanced'"):
        choices.split(TASK, "val_balanced")


FULL_RECORDS = [PROBLEMS[number] for number in TEST_FULL]
IMAGE_RECORDS = [PROBLEMS[number] for number in TEST]


def test_every_copy_gives_the_same_ids(tmp_path: Path) -> None:
    """lmms-lab has a folder for each config; derek-thomas has one copy of all questions."""
    lmms = tmp_path / "lmms"
    parquet(lmms / "ScienceQA-FULL/test-00000-of-00001.parquet", FULL_RECORDS)
    parquet(lmms / "ScienceQA-IMG/test-00000-of-00001.parquet", IMAGE_RECORDS)
    one = parquet(tmp_path / "derek/data/test-00000-of-00001-f0e719df791966ff.parquet", FULL_RECORDS)
    full, part = read("hub", lmms, "test_full"), read("hub", lmms, "test")
    assert (len(full.samples), len(part.samples)) == (6, 4)
    assert ids(part) == [sample.id for sample in full.samples if sample.images]
    for path in (tmp_path / "derek", one):
        assert read("hub", path, "test").digest == part.digest
        assert read("hub", path, "test_full").digest == full.digest
    assert full.missing == part.missing == ()
    first, *_, twin = part.samples
    assert re.fullmatch("[0-9a-f]{16}", first.id)
    assert twin.id == f"{part.samples[2].id}-2"  # same text, other picture, other answer
    assert first.images[0].read() == png()
    assert [sample.groups for sample in full.samples] == [
        sample.groups for sample in read("files", original(tmp_path / "o", PROBLEMS), "test_full").samples
    ]


def test_the_hub_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of lmms-lab's two configs only the one that is needed is downloaded."""
    lmms = tmp_path / "hub/datasets/lmms-lab/ScienceQA/main"
    full, part = (f"ScienceQA-{name}/test-00000-of-00001.parquet" for name in ("FULL", "IMG"))
    parquet(lmms / full, FULL_RECORDS)
    parquet(lmms / part, IMAGE_RECORDS)
    parquet(
        tmp_path / "hub/datasets/derek-thomas/ScienceQA/main/data/test-00000-of-00001.parquet", FULL_RECORDS
    )
    with HubServer(tmp_path / "hub") as hub:
        hub.use(monkeypatch, tmp_path / "cache")
        data = TASK.sources["hub"](DataRequest("test"))
        assert (data.id, data.revision) == (
            "lmms-lab/ScienceQA",
            hub.commit("datasets", "lmms-lab/ScienceQA"),
        )
        assert any(part in path for _, path, _ in hub.requests)
        assert not any(full in path for _, path, _ in hub.requests)
        assert len(TASK.sources["hub"](DataRequest("test_full")).samples) == 6
        other = TASK.sources["hub"](DataRequest("test", id="derek-thomas/ScienceQA"))
        assert (other.id, other.digest) == ("derek-thomas/ScienceQA", data.digest)


def test_a_corrected_label_or_another_order_of_columns_keeps_the_id(tmp_path: Path) -> None:
    before = read("hub", parquet(tmp_path / "a/test.parquet", [record()]))
    after = read("hub", parquet(tmp_path / "b/test.parquet", [record(answer=2)]))
    other = read("hub", parquet(tmp_path / "c/test.parquet", [record(choices=STATES[::-1])]))
    assert ids(before) == ids(after) != ids(other)
    assert before.digest != after.digest


def test_twins_without_a_picture_do_not_shift_the_numbers_of_those_with_one(tmp_path: Path) -> None:
    bare, drawn = record(image=None), record()
    full = read("hub", parquet(tmp_path / "a/test.parquet", [bare, drawn, bare, drawn]), "test")
    assert ids(full) == ids(read("hub", parquet(tmp_path / "b/test.parquet", [drawn, drawn])))


def test_no_picture_is_not_a_missing_picture(tmp_path: Path) -> None:
    lost = {"bytes": None, "path": "image.png"}
    rows = [record(), record(image=None, hint="x"), record(image={"bytes": None, "path": None}, hint="y")]
    path = parquet(tmp_path / "test.parquet", [*rows, record(image=lost, hint="z")])
    part, full = read("hub", path), read("hub", path, "test_full")
    assert [sample.context for sample in part.samples] == ["", "z"]
    assert [len(sample.images) for sample in full.samples] == [1, 0, 0, 1]
    assert part.missing == full.missing == (part.samples[1].id,)


def test_validation_files_under_either_name(tmp_path: Path) -> None:
    parquet(tmp_path / "ScienceQA-IMG/validation-00000-of-00001.parquet", [record()])
    assert len(read("hub", tmp_path, "val").samples) == 1
    assert len(read("hub", parquet(tmp_path / "val.parquet", [record()]), "val").samples) == 1
    with pytest.raises(DataError, match=r"test-\*\.parquet; there: ScienceQA-IMG/validation"):
        read("hub", tmp_path, "test")


def sample(context: str = "", choices: Sequence[str] = ("x", "y"), target: str | None = "A") -> Sample:
    return Sample("1", (), "Which  one?", target, tuple(choices), context)


def test_the_prompt_is_big_visions_block() -> None:
    assert prompt(sample(), PALIGEMMA, "default") == (
        "Question: Which  one?\nContext: N/A\nOptions: (A) x, (B) y\nAnswer:"
    )
    hint = "Look at  it.\n\nTwice. "
    for kind in ("pt", "mix", "ft"):
        assert prompt(sample(hint, ("v ", "w", "x", "y", "z")), Profile(kind, "paligemma2"), "default") == (
            f"Question: Which  one?\nContext: {hint}\nOptions: (A) v , (B) w, (C) x, (D) y, (E) z\nAnswer:"
        )


def test_the_official_prompt_joins_by_spaces_and_halves_double_ones() -> None:
    assert prompt(sample(" Look  at it. "), OFFICIAL, "default") == (
        "Question: Which one?\nContext: Look at it.\nOptions: (A) x (B) y\nAnswer:"
    )
    assert "Context: N/A\n" in prompt(sample("  "), OFFICIAL, "default")


def test_the_display_shows_the_letter() -> None:
    assert TASK.answer("The answer is B. Yes.", sample()) == "B"
    assert TASK.answer(" so B\n", sample()) == "so B"


def test_the_task_is_complete() -> None:
    assert (TASK.name, TASK.version, TASK.max_new_tokens) == ("scienceqa", 1, 32)
    assert next(iter(TASK.splits.items())) == ("test", 2017)
    assert list(TASK.splits.values()) == [2017, 2097, 6218, 4241, 4241, 12726]
    assert [metric.name for metric in TASK.metrics if metric.primary] == ["accuracy"]
    assert (TASK.pixels.antialias, TASK.pixels.text_len) == (False, 512)
    assert TASK.cite.count("{") == TASK.cite.count("}")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object]]:
    code = invoke(["run", "--task", "scienceqa", *arguments, "--json"])
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return code, document


def test_a_checkpoint_answers_the_picture_questions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original(tmp_path / "d", PROBLEMS)
    where = ("--model", "tiny-gemma2", "--data", str(tmp_path / "d"), "--out", str(tmp_path / "out"))
    code, document = run(capsys, *where)
    assert code == 0
    lines = list(read_lines(Path(str(document["run"]))))
    assert {line.id for line in lines} == set(TEST)
    (line,) = (line for line in lines if line.id == "10")
    assert line.prompt == (
        "Question: What is the name of the colony shown?\nContext: N/A\n"
        "Options: (A) West Virginia, (B) Louisiana, (C) Arizona, (D) Oklahoma\nAnswer:"
    )
    code, document = run(capsys, *where, "--split", "test_full")
    assert code == 3  # two questions without a picture failed, and none was allowed to
    failed = {line.id: line.error for line in read_lines(Path(str(document["run"]))) if line.error}
    assert failed == dict.fromkeys(
        ("5", "6"), "the sample has no image; PaliGemma cannot be asked without one"
    )


def test_the_oracle_reaches_the_ceiling_of_the_full_split_from_a_hub_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parquet(tmp_path / "d/ScienceQA-FULL/test-00000-of-00001.parquet", FULL_RECORDS)
    code, document = run(
        *(capsys, "--backend", "oracle", "--source", "hub", "--data", str(tmp_path / "d")),
        *("--split", "test_full", "--out", str(tmp_path / "out")),
    )
    assert code == 0
    kept = document["record"]
    assert isinstance(kept, dict)
    assert {name: (one["value"], one["n"]) for name, one in kept["scores"].items()} == {
        metric.name: (1.0, 6) for metric in TASK.metrics
    }
    assert kept["groups"]["no_context"]["yes"]["accuracy"]["n"] == 1


def test_answers_made_elsewhere_are_scored_without_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original(tmp_path / "d", PROBLEMS)
    said = dict(zip(TEST_FULL, ["The answer is D.", "The answer is A. Yes", "", "E", "a", "b"], strict=True))
    (tmp_path / "said.json").write_text(json.dumps(said))
    code, document = run(
        *(capsys, "--backend", "replay", "--predictions", str(tmp_path / "said.json"), "--source", "files"),
        *("--data", str(tmp_path / "d"), "--split", "test_full", "--out", str(tmp_path / "out")),
    )
    assert code == 0
    kept = document["record"]
    assert isinstance(kept, dict)
    found = {name: (one["value"], one["invalid"], one["failed"]) for name, one in kept["scores"].items()}
    expected = (1 + 1 + 1 / 4 + 1 / 5 + 1 / 4 + 1 / 4) / 6
    assert found["accuracy"] == (pytest.approx(expected), 4, 0)
    assert found["plain_accuracy"] == found["paper_accuracy"] == (pytest.approx(2 / 6), 4, 0)

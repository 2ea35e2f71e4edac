"""The GQA task: both layouts, odd records, prompts, and the ceiling and floor of its scores."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from gqa_layout import BALANCED, CHOICES, RECORDS, Record, hub, jpeg, original, record, with_choices, write
from hub_server import HubServer
from pgbench_tasks.gqa import SPLITS, TASK, gold, prompt
from pgbench_tasks.vqav2 import TASK as VQAV2

from pgbench.errors import DataError, UsageError
from pgbench.metrics.scoring import score
from pgbench.sweeping.choices import split
from pgbench.types import DataRequest, Dataset, Profile, Sample

FILE = "testdev_balanced_questions"


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets-cache")


def load(folder: Path, split: str = "testdev", source: str = "files") -> Dataset:
    return TASK.sources[source](DataRequest(split, path=str(folder)))


def values(data: Dataset, texts: dict[str, str]) -> dict[str, float | None]:
    rows = [(one, texts[one.id]) for one in data.samples]
    return {metric.name: score(metric, rows).value for metric in TASK.metrics}


def test_the_original_layout(tmp_path: Path) -> None:
    data = load(original(tmp_path / "d"))
    assert [one.id for one in data.samples] == ["02930152", "07333408", "0733340", "7333409"]
    sky, wall, _, both = data.samples
    assert (sky.question, sky.target, sky.cluster) == ("Is the sky dark?", "yes", "2354786")
    assert (sky.images[0].name, sky.images[0].read()) == ("2354786.jpg", jpeg())
    assert wall.images[0].name == "n375429.jpg"
    assert sky.groups == {"structural": "verify", "semantic": "attr", "steps": "2", "words": "4"}
    assert wall.groups == {"structural": "query", "semantic": "rel", "steps": "2", "words": "6"}
    assert "global" not in sky.fields  # null is no group, the empty text is one
    assert (wall.fields["global"], both.fields["global"]) == ("", "color")
    assert (sky.fields["common"], both.fields["common"]) == (False, True)
    assert (data.id, data.revision, data.missing, data.demo) == (f"{FILE}.json", None, (), False)


def test_the_hub_layout_gives_the_same_questions(tmp_path: Path) -> None:
    data, files = load(hub(tmp_path / "copy"), source="hub"), load(original(tmp_path / "d"))
    assert data.id == "copy"
    for mine, theirs in zip(data.samples, files.samples, strict=True):
        assert (mine.id, mine.question, mine.target) == (theirs.id, theirs.question, theirs.target)
        assert (mine.groups, mine.cluster) == (theirs.groups, theirs.cluster)
        assert mine.images[0].name == theirs.images[0].name
        assert mine.images[0].read() == jpeg()
        assert mine.fields == {k: v for k, v in theirs.fields.items() if k != "entailed"}


def test_what_a_hub_copy_flattens_is_undefined_not_wrong(tmp_path: Path) -> None:
    bare = load(hub(tmp_path / "bare", drop=("types", "groups", "semantic", "entailed")), source="hub")
    assert [one.groups for one in bare.samples] == [{"words": n} for n in ("4", "6", "5", "10")]
    for data in (bare, load(hub(tmp_path / "copy"), source="hub")):
        found = values(data, {one.id: gold(one) for one in data.samples})
        assert found["accuracy"] == 1.0
        assert found["consistency"] is found["validity"] is found["plausibility"] is None
    assert values(bare, {one.id: "x" for one in bare.samples}) == dict.fromkeys(found, None) | {
        "accuracy": 0.0,
    }


def test_a_picture_that_the_hub_copy_lacks(tmp_path: Path) -> None:
    data = load(hub(tmp_path / "copy", lost=("2354786",)), source="hub")
    assert data.missing == ("02930152",)
    with pytest.raises(OSError, match="no row"):
        data.samples[0].images[0].read()


def test_what_the_hub_source_cannot_do(tmp_path: Path) -> None:
    copy = hub(tmp_path / "copy")
    with pytest.raises(DataError, match="use the original files with --source files"):
        load(copy, "testdev_all", "hub")
    with pytest.raises(DataError, match="GQA needs a folder"):
        load(next(copy.glob("*/*.parquet")), source="hub")
    with pytest.raises(DataError, match=r"no val_balanced_instructions-\*\.parquet"):
        load(copy, "val", "hub")
    hub(copy, "val")
    assert load(copy, "validation", "hub").samples[0].id == "02930152"


def test_all_questions_in_chunks(tmp_path: Path) -> None:
    """Chunk 10 comes after chunk 9; balanced splits take the scored questions of it alone."""
    folder = original(tmp_path / "d", RECORDS, "unused")
    for number, (key, one) in enumerate(RECORDS.items(), 6):
        write(folder / f"val_all_questions/val_all_questions_{number}.json", {key: one})
    everything = load(folder, "val_all")
    assert [one.id for one in everything.samples] == list(RECORDS)
    assert everything.id == "val_all_questions"
    assert everything.samples[1].groups == {}
    assert [one.id for one in load(folder, "val").samples] == list(BALANCED)
    with pytest.raises(
        DataError, match=r"testdev_balanced_questions or testdev_all_questions\.json is not in"
    ):
        load(folder, "testdev")


def test_choices_must_be_whole(tmp_path: Path) -> None:
    folder = with_choices(tmp_path / "d")
    (folder / "val_choices/val_choices_2.json").unlink()
    with pytest.raises(DataError, match="1 scored questions have no choices, the first is 07333408; take"):
        load(folder, "val")
    write(folder / "val_choices/val_choices_2.json", {"07333408": {"valid": "pipe", "plausible": []}})
    with pytest.raises(
        DataError, match="question 07333408: field 'valid' should be a list of answers, got 'p"
    ):
        load(folder, "val")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (record("1", "q", "a", question=...), "question 07: field 'question' is missing"),
        (record("1", "q", "a", question=None), "field 'question' is null"),
        (record("1", "q", "a", answer=...), "question 07: field 'answer' is missing"),
        (record("1", "q", "a", answer=["a"]), "field 'answer' should be text, got a list"),
        (record("1", "q", "a", isBalanced="yes"), "field 'isBalanced' should be true or false, got 'yes'"),
        (record("1", "q", "a", isBalanced=...), "field 'isBalanced' is missing"),
        (record("1", "q", "a", imageId=7), "field 'imageId' should be text, got 7"),
        (record("../../secret", "q", "a"), "no plain file name"),
        (record("1", "\ud800", "a"), "half a surrogate"),
        (record("1", "q", "a", entailed=[7]), "field 'entailed' should be text, got 7"),
        (record("1", "q", "a", groups={"global": 7}), "field 'groups.global' should be text, got 7"),
        ([], "record 07 should be an object, got an empty list"),
    ],
)
def test_a_bad_record_is_named(tmp_path: Path, bad: Record, said: str) -> None:
    folder = original(tmp_path / "d")
    (folder / f"{FILE}.json").write_text(json.dumps({**BALANCED, "07": bad}))
    with pytest.raises(DataError, match=said) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON|expected an object"),
        ("[]", "expected an object of records by id, got an empty list"),
        ("{}", "expected records by id, got an empty object"),
        ('{"07": {"question": "q"', "is not JSON: .* at character"),
        (f'{{"07": {json.dumps(BALANCED["0733340"])}}} {{}}', "is not JSON: Extra data at character"),
        ('{"07" {}}', "is not JSON: Expecting ':'"),
        ("{7: {}}", "is not JSON: Expecting property name"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    folder = original(tmp_path / "d")
    (folder / f"{FILE}.json").write_text(text)
    with pytest.raises(DataError, match=f"{FILE}.json.*({said})"):
        load(folder)


def test_an_id_twice_and_files_without_scored_questions(tmp_path: Path) -> None:
    folder = original(tmp_path / "d")
    one = json.dumps(BALANCED["0733340"])
    (folder / f"{FILE}.json").write_text(f'{{"0733340": {one}, "0733340": {one}}}')
    with pytest.raises(DataError, match="id 0733340 occurs twice"):
        load(folder)
    write(folder / f"{FILE}.json", {"02930160": RECORDS["02930160"]})
    with pytest.raises(DataError, match="holds no balanced question"):
        load(folder)


def test_odd_facts_are_unknown(tmp_path: Path) -> None:
    """What is not as published is left out, not guessed; the question itself is asked and scored."""
    odd = record("1", "Is it?", "yes", semantic=[{}], types="verify", groups=None, entailed="[]")
    folder = original(tmp_path / "d", {"07": odd, "08": record("1", "q", "a", types={}, semantic=...)})
    assert [(one.fields, one.groups) for one in load(folder).samples] == [
        ({"balanced": True}, {"words": "2"}),
        ({"balanced": True, "entailed": ()}, {"words": "1"}),
    ]


def test_missing_images_are_listed(tmp_path: Path) -> None:
    folder = original(tmp_path / "d")
    (folder / "images/n375429.jpg").unlink()
    assert load(folder).missing == ("07333408", "0733340", "7333409")


def test_the_digest_sees_what_scores_depend_on(tmp_path: Path) -> None:
    plain = load(original(tmp_path / "d")).digest
    other = {**BALANCED, "02930152": {**BALANCED["02930152"], "entailed": []}}
    assert load(original(tmp_path / "e", other)).digest != plain
    assert load(original(tmp_path / "f")).digest == plain
    write(tmp_path / "f/testdev_choices.json", CHOICES)
    assert load(tmp_path / "f").digest != plain


def test_loading_keeps_no_document_in_memory(tmp_path: Path) -> None:
    """8,000 unbalanced questions of 2.5 kB: the file has 20 MB, what is kept of each is below 1 kB."""
    many = {
        f"{n:08}": record(f"{n // 20}", "Is it?", "yes", isBalanced=n == 0, semanticStr="x" * 2000)
        for n in range(8000)
    }
    folder = original(tmp_path / "d", {"1": many["00000000"]})
    write(folder / "testdev_all_questions.json", many)
    assert (folder / "testdev_all_questions.json").stat().st_size > 18e6
    tracemalloc.start()
    try:
        data = load(folder, "testdev_all")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(data.samples) == 8000
    assert peak < 9e6


def test_the_question_is_never_touched() -> None:
    one = Sample("1", (), "  What is  on the\tTable?\n", "pipe")
    assert prompt(one, Profile("mix", "paligemma"), "default") == "answer en What is  on the\tTable?"
    official = Profile("mix", "paligemma", style="official")
    assert prompt(one, official, "default") == "What is  on the\tTable?"
    assert gold(one) == "pipe"
    assert gold(replace(one, target=None)) == ""


def test_the_names_of_the_published_files_are_taken() -> None:
    """So do other names of a split; a record knows one name for each."""
    assert [split(TASK, one) for one in ("", "testdev_balanced", "val_balanced")] == ["testdev"] * 2 + ["val"]
    assert [split(VQAV2, one) for one in ("validation", "test-dev")] == ["val", "testdev"]
    with pytest.raises(UsageError, match="unknown split of gqa 'train_balanced'"):
        split(TASK, "train_balanced")


@pytest.mark.parametrize("source", ["hub", "files"])
def test_an_unknown_split_offers_the_nearest(source: str) -> None:
    with pytest.raises(
        DataError, match=r"unknown split of gqa 'testdef'; did you mean testdev or test or testdev_all\?"
    ):
        TASK.sources[source](DataRequest("testdef"))


def test_the_task_is_complete() -> None:
    assert (TASK.name, TASK.version, TASK.max_new_tokens) == ("gqa", 1, 32)
    assert list(SPLITS.items())[:2] == [("testdev", 12_578), ("val", 132_062)]
    assert [one.name for one in TASK.metrics if one.primary] == ["accuracy"]
    assert (TASK.pixels.antialias, TASK.pixels.text_len) == (False, 32)
    assert TASK.cite.count("{") == TASK.cite.count("}")


def test_importing_the_task_is_light() -> None:
    code = """
import sys, pgbench_tasks.gqa
print({"torch", "transformers", "datasets", "huggingface_hub", "pandas", "numpy", "PIL"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"


def test_the_hub_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both tables come from one commit, and no other split's."""
    repository = tmp_path / "hub/datasets/lmms-lab/GQA/main"
    hub(repository)
    hub(repository, "val")
    with HubServer(tmp_path / "hub") as server:
        server.use(monkeypatch, tmp_path / "cache")
        data = TASK.sources["hub"](DataRequest("testdev"))
        assert (data.id, data.revision) == ("lmms-lab/GQA", server.commit("datasets", "lmms-lab/GQA"))
        assert [one.images[0].read() for one in data.samples] == [jpeg()] * 4
        assert not any("val_" in path for _, path, _ in server.requests)
        # the branch is looked up once: it may move between two look-ups
        assert sum(path.endswith("/revision/main") for _, path, _ in server.requests) == 1

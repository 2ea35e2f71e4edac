"""The POPE task: both published layouts, odd records, prompts, and scores against a plain transcription."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbench_tasks.pope import TASK, gold, prompt
from pope_layout import Record, hub, hub_row, jpeg, original, record
from pope_rules import script

from pgbench.errors import DataError
from pgbench.metrics.pope import (
    ACCURACY,
    F1,
    METRICS,
    PAPER_ACCURACY,
    PRECISION,
    RECALL,
    SETTINGS,
    YES_RATIO,
    paper_correct,
    pope_answer,
)
from pgbench.metrics.scoring import score
from pgbench.types import DataRequest, Dataset, Metric, Profile, Sample

MIX = Profile("mix", "paligemma")
OFFICIAL = Profile("mix", "paligemma", style="official")


def load(source: str, path: Path, split: str = "test") -> Dataset:
    return TASK.sources[source](DataRequest(split, path=str(path)))


def test_the_original_layout(tmp_path: Path) -> None:
    data = load("files", original(tmp_path / "d"))
    assert len(data.samples) == 36
    assert [data.samples[i].id for i in (0, 11, 12, 24)] == [
        *("random-1", "random-12", "popular-1", "adversarial-1"),
    ]
    first, popular = data.samples[0], data.samples[12]
    assert (first.question, first.target) == ("Is there a thing 1 in the image?", "yes")
    assert first.images[0].name == "COCO_val2014_000000310196.jpg"
    assert first.images[0].read() == jpeg(9)
    assert (first.groups, popular.groups) == ({"setting": "random"}, {"setting": "popular"})
    assert first.cluster == popular.cluster == "COCO_val2014_000000310196"
    assert len({sample.cluster for sample in data.samples}) == 2
    assert data.id == "coco_pope (random 12, popular 12, adversarial 12)"
    assert (data.revision, data.missing, data.demo) == (None, (), False)


def test_arrays_blank_lines_and_a_mark_at_the_start_are_read(tmp_path: Path) -> None:
    lines = load("files", original(tmp_path / "lines"))
    folder = original(tmp_path / "array", array=["popular", "adversarial"])
    path = folder / "coco_pope_random.json"
    path.write_text("\ufeff" + path.read_text().replace("\n", "\r\n\r\n"), "utf-8")
    assert load("files", folder).digest == lines.digest


def test_a_line_may_hold_unicode_line_ends(tmp_path: Path) -> None:
    folder = original(tmp_path / "d")
    odd = json.dumps(record(1, text="Is there a \u2028 in the image?"), ensure_ascii=False)
    (folder / "coco_pope_random.json").write_text(odd, "utf-8")
    assert load("files", folder).samples[0].question == "Is there a \u2028 in the image?"


def test_the_hub_layout_asks_the_same(tmp_path: Path) -> None:
    rows = [hub_row(setting, n) for setting in SETTINGS for n in range(1, 13)]
    data = load("hub", hub(tmp_path / "test-00000-of-00001.parquet", rows))
    assert data.digest == load("files", original(tmp_path / "d")).digest
    assert data.samples[0].images[0].read() == jpeg(9)
    ending = [{**row, "image_source": f"{row['image_source']}.jpg"} for row in rows]
    assert load("hub", hub(tmp_path / "test.parquet", ending)).digest == data.digest


def test_missing_images_are_listed(tmp_path: Path) -> None:
    folder = original(tmp_path / "d", random=[record(1), record(7)])
    (folder / "val2014" / str(record(7)["image"])).unlink()
    missing = load("files", folder).missing
    assert missing[0] == "random-7"
    assert len(missing) == 1 + 6 + 6
    rows = [hub_row(setting, 1) for setting in SETTINGS]
    rows[1]["image"] = None
    assert load("hub", hub(tmp_path / "test.parquet", rows)).missing == ("popular-1",)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (record(7, label="No"), r"record 2 \(question_id 7\): the label should be 'yes' or 'no', got 'No'"),
        (record(7, label=...), "field 'label' is missing; there: image, question_id, text"),
        (record(7, label=["yes"]), "got a list"),
        (record(7, text=7), "field 'text' should be text, got 7"),
        (record(7, image="../../etc/passwd"), "no plain file name"),
        (record(7, image=None), "field 'image' is null"),
        (record(7, question_id="x"), "should be a whole number, got 'x'"),
        (record(7, question_id="\u0661"), "should be a whole number, got"),
        (record(7, question_id="01"), "id random-1 occurs twice"),
        (record(7, question_id=True), "should be a whole number"),
        (record(1), "id random-1 occurs twice"),
    ],
)
def test_a_bad_record_is_named(tmp_path: Path, bad: Record, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        load("files", original(tmp_path / "d", random=[record(1), bad]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"question_id": %b}' % (b"9" * 5000), "line 1 is not JSON: too deep, or a number too long"),
        (b'{"question_id": 1}\n{"quest', r"coco_pope_popular\.json line 2 is not JSON: .*download it again"),
        (b"[1, 2]", "record 1 should be an object, got 1"),
        (b"\n\n", "holds no questions"),
        (b"[]", "holds no questions"),
        (b"\xff\xfe", "no UTF-8"),
        (b'[{"a": 1}', "popular.json is not JSON"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    folder = original(tmp_path / "d")
    (folder / "coco_pope_popular.json").write_bytes(content)
    with pytest.raises(DataError, match=said):
        load("files", folder)


def test_what_a_data_folder_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs --data DIR, a folder with coco_pope_random\.json"):
        TASK.sources["files"](DataRequest("test"))
    folder = original(tmp_path / "d")
    (folder / "coco_pope_adversarial.json").unlink()
    with pytest.raises(
        DataError, match=r"coco_pope_adversarial\.json is not in .*; there: coco_pope_popular"
    ):
        load("files", folder)
    with pytest.raises(DataError, match="unknown split of pope 'random'"):
        load("files", folder, "random")
    path = hub(tmp_path / "test.parquet", [hub_row("random", 1), hub_row("popular", 1)])
    with pytest.raises(DataError, match="has no adversarial questions; POPE is run over random, popular"):
        load("hub", path)
    with pytest.raises(DataError, match="unknown setting 'rand'; did you mean random"):
        load("hub", hub(tmp_path / "test.parquet", [hub_row("rand", 1)]))


def test_the_old_random_setting_is_declared(tmp_path: Path) -> None:
    old = original(tmp_path / "old", random=[record(n) for n in range(1, 2911)])
    data = load("files", old, "test_2910")
    assert data.id == "coco_pope (random 2910, popular 12, adversarial 12)"
    assert load("files", old).digest == data.digest
    assert TASK.splits == {"test": 9_000, "test_2910": 8_910}
    with pytest.raises(
        DataError, match="has 12 random questions, split test_2910 has 2910; take --split test"
    ):
        load("files", original(tmp_path / "d"), "test_2910")


def sample(setting: str, label: str, number: int = 1, cluster: str = "") -> Sample:
    return Sample(f"{setting}-{number}", (), "q?", label, groups={"setting": setting}, cluster=cluster)


def test_prompts() -> None:
    assert prompt(record_sample("Is there a dog in the image? "), MIX, "default") == (
        "answer en Is there a dog in the image?"
    )
    assert prompt(record_sample("Is there a dog?"), OFFICIAL, "default") == "Is there a dog?"


def record_sample(question: str) -> Sample:
    return Sample("random-1", (), question, "yes", groups={"setting": "random"})


EACH = [sample(setting, label, i) for setting in SETTINGS for i, label in enumerate(("yes", "no"))]


def test_the_ceiling_and_the_floor() -> None:
    best = {metric.name: score(metric, [(one, gold(one)) for one in EACH]).value for metric in METRICS}
    assert best == dict.fromkeys(best, 1.0) | {"yes_ratio": 0.5}
    yes = {metric.name: score(metric, [(one, "yes") for one in EACH]).value for metric in METRICS}
    assert yes == pytest.approx({metric.name: metric.floor for metric in METRICS})


def test_empty_answers() -> None:
    """Officially a yes, which is the floor; by the paper wrong."""
    got = {metric.name: score(metric, [(one, "") for one in EACH]) for metric in METRICS}
    assert {name: one.value for name, one in got.items()} == pytest.approx(
        {metric.name: metric.floor for metric in METRICS} | {"paper_accuracy": 0.0}
    )
    assert {one.invalid for one in got.values()} == {len(EACH)}


def test_a_failed_sample_is_wrong() -> None:
    rows: list[tuple[Sample, str | None]] = [(one, gold(one)) for one in EACH]
    rows[0], rows[1] = (EACH[0], None), (EACH[1], None)  # a yes and a no of the random setting
    random = [*rows[:2], (sample("random", "yes", 7), "yes"), (sample("random", "no", 8), "no")]
    got = {metric.name: score(metric, random) for metric in METRICS}
    assert {name: one.value for name, one in got.items()} == {
        **dict.fromkeys(("accuracy", "precision", "recall", "f1", "paper_accuracy"), 0.5),
        "yes_ratio": 0.25,
    }
    assert {(one.n, one.failed) for one in got.values()} == {(4, 2)}
    assert score(ACCURACY, rows).value == pytest.approx((0.0 + 1.0 + 1.0) / 3)


@pytest.mark.parametrize(
    ("text", "invalid"),
    [("yes", 0), ("Yes, there is.", 0), ("no", 0), ("NO", 1), ("", 1), ("a dog", 1), ("yesterday", 1)],
)
def test_what_the_script_guesses_is_counted(text: str, invalid: int) -> None:
    assert score(ACCURACY, [(EACH[0], text)]).invalid == invalid


def test_the_paper_counts_its_valid_answers() -> None:
    rows = [(EACH[i], text) for i, text in enumerate(["YES", " yes", "No.", "no"])]
    assert score(PAPER_ACCURACY, rows).invalid == 2


def test_two_settings_are_no_mean_of_three() -> None:
    two = [one for one in EACH if one.groups["setting"] != "popular"]
    assert score(ACCURACY, [(one, gold(one)) for one in two]).value is None
    one = [one for one in EACH if one.groups["setting"] == "popular"]
    assert score(ACCURACY, [(each, gold(each)) for each in one]).value == 1.0


def test_a_setting_weighs_a_third_whatever_its_size() -> None:
    """2,910 random questions do not make random count less."""
    rows = [(sample("random", "yes"), "no")]
    rows += [(sample(setting, "yes", n), "yes") for setting in SETTINGS[1:] for n in range(50)]
    assert score(ACCURACY, rows).value == pytest.approx(2 / 3)


def test_a_sample_of_no_setting_or_label_is_refused() -> None:
    with pytest.raises(
        DataError, match="expected a group 'setting' of random, popular, adversarial, got None"
    ):
        score(ACCURACY, [(Sample("1", (), "", "yes"), "yes")])
    with pytest.raises(DataError, match=r"expected yes or no as its target, got \('yes',\)"):
        score(ACCURACY, [(Sample("1", (), "", ("yes",), groups={"setting": "random"}), "yes")])


TEXTS = st.sampled_from(
    ["yes", "Yes", "no", "No", "NO", "not", "Not", "no.", ".no", "no,", "n,o", "no\n", "No one", "a no b", ""]
) | st.text(alphabet="noNOtyes., \n!", max_size=8)


ROWS = st.lists(st.tuples(TEXTS, st.sampled_from(["yes", "no"])), min_size=1, max_size=8)


@given(st.tuples(ROWS, ROWS, ROWS))
def test_the_metrics_are_the_scripts(settings: tuple[list[tuple[str, str]], ...]) -> None:
    each = [script([answer for answer, _ in rows], [label for _, label in rows]) for rows in settings]
    rows = [
        [(sample(setting, label, number), answer) for number, (answer, label) in enumerate(pairs)]
        for setting, pairs in zip(SETTINGS, settings, strict=True)
    ]
    metrics: tuple[Metric, ...] = (ACCURACY, PRECISION, RECALL, F1, YES_RATIO)
    for metric in metrics:
        values = [one[metric.name] for one in each]
        assert [total(metric, part) for part in rows] == [pytest.approx(value) for value in values]
        known = [value for value in values if value is not None]
        mean = sum(known) / 3 if len(known) == 3 else None
        assert total(metric, [row for part in rows for row in part]) == pytest.approx(mean)


def total(metric: Metric, rows: Sequence[tuple[Sample, str]]) -> float | None:
    """The value alone: an interval for each of a thousand examples would take minutes."""
    sums: dict[str, float] = {}
    for row in rows:
        for name, value in metric.stat([row]).items():
            sums[name] = sums.get(name, 0.0) + value
    return metric.reduce(sums)


@given(TEXTS, st.sampled_from(["yes", "no"]))
def test_the_paper_is_never_kinder_to_a_parsed_answer(text: str, label: str) -> None:
    right = text.lower() == label
    assert paper_correct(prediction=text, label=label) is right
    if text in ("yes", "no"):
        assert pope_answer(text) == text


def test_the_task_is_complete() -> None:
    assert (TASK.name, TASK.version, TASK.max_new_tokens) == ("pope", 1, 48)
    assert [one.name for one in TASK.metrics if one.primary] == ["accuracy"]
    assert (TASK.pixels.antialias, TASK.pixels.text_len) == (False, 48)
    assert TASK.cite.count("{") == TASK.cite.count("}")
    assert next(iter(TASK.splits)) == "test"

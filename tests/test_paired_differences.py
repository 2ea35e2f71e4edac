"""What two runs differ in: each difference that refuses, and each that is only named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import planted
import pytest

from pgbench.errors import DataError
from pgbench.paired import reading
from pgbench.paired.compare import compare
from pgbench.paired.differences import between, require_comparable
from pgbench.paired.evidence import Asked, Evidence
from pgbench.records import Stack
from pgbench.types import Image, Profile

SAMPLES = planted.textvqa(8)
RIGHT = planted.gold("textvqa", SAMPLES)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return reading.read(planted.plant(tmp_path_factory.mktemp("run"), SAMPLES, RIGHT).folder)


def spec(run: Evidence, **change: Any) -> Evidence:
    return replace(run, record=replace(run.record, spec=replace(run.record.spec, **change)))


def asked(run: Evidence, name: str, **change: Any) -> Evidence:
    samples: Mapping[str, Asked] = {**run.samples, name: replace(run.samples[name], **change)}
    return replace(run, samples=samples)


def only(before: Evidence, after: Evidence) -> tuple[str, str, str, bool]:
    (found,) = between(before, after)
    return found.name, found.was, found.now, found.refuses


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"task": "gqa"}, ("task", "textvqa", "gqa")),
        ({"version": 2}, ("task version", "v1", "v2")),
        ({"variant": "lists"}, ("variant", "default", "lists")),
        ({"mode": "likelihood"}, ("mode", "generate", "likelihood")),
        ({"split": "test"}, ("split", "val", "test")),
    ],
)
def test_other_questions_are_refused(
    run: Evidence, change: dict[str, Any], told: tuple[str, str, str]
) -> None:
    other = spec(run, **change)
    assert only(run, other) == (*told, True)
    name, was, now = told
    with pytest.raises(DataError, match=f"cannot be compared: {name}: {was} there, {now} here; --anyway"):
        compare(run, other)


def test_other_annotations_are_refused(run: Evidence) -> None:
    other = replace(run, record=replace(run.record, data=replace(run.record.data, digest="f" * 64)))
    assert only(run, other) == ("data digest", run.record.data.digest[:12], "f" * 12, True)


def test_a_sample_that_one_run_lacks_is_refused(run: Evidence) -> None:
    kept = dict(list(run.samples.items())[:-1])
    said = ("8 (1 not shared)", "7 (0 not shared)")
    assert only(run, replace(run, samples=kept)) == ("samples", *said, True)


def test_as_many_samples_of_which_one_is_another_are_refused(run: Evidence) -> None:
    (_, one), *rest = run.samples.items()
    said = "8 (1 not shared)"
    assert only(run, replace(run, samples=dict([*rest, ("new", one)]))) == ("samples", said, said, True)


def test_other_prompts_are_refused_and_the_first_shown(tmp_path: Path, run: Evidence) -> None:
    """The style of the benchmark's authors asks in other words."""
    point = planted.checkpoint()
    official = replace(point, profile=replace(point.profile, style="official"))
    other = reading.read(planted.plant(tmp_path, SAMPLES, RIGHT, official).folder)
    first = next(iter(run.samples))
    question = next(one.question for one in SAMPLES if one.id == first)
    refused, *named = between(run, other)
    assert refused.name == f"prompts (8 of 8 differ, sample {first})"
    assert refused.was == repr(f"answer en {question}")
    assert question.capitalize() in refused.now or question in refused.now
    assert (refused.refuses, refused.was == refused.now) == (True, False)
    assert [one.said for one in named] == ["style: paligemma → official"]
    with pytest.raises(DataError, match=r"cannot be compared: prompts \(8 of 8 differ") as caught:
        compare(run, other)
    assert "\n" not in str(caught.value)


def test_long_prompts_are_shortened(tmp_path: Path) -> None:
    point = planted.checkpoint()
    official = replace(point, profile=replace(point.profile, style="official"))
    long = tuple(replace(one, question="why? " * 500) for one in SAMPLES)
    one, two = (
        reading.read(planted.plant(tmp_path / str(number), long, RIGHT, asks).folder)
        for number, asks in enumerate((point, official))
    )
    assert len(between(one, two)[0].said) < 250


def test_other_pictures_are_refused(tmp_path: Path, run: Evidence) -> None:
    other = tuple(
        replace(one, images=(Image(one.images[0].name, lambda: b"painted over"),))
        if one.id == "34605"
        else one
        for one in SAMPLES
    )
    after = reading.read(planted.plant(tmp_path, other, RIGHT).folder)
    name, was, now, refuses = only(run, after)
    assert (name, refuses) == ("pictures (1 of 8 differ, sample 34605)", True)
    assert (was, now) == (run.samples["34605"].image, after.samples["34605"].image)


def test_pictures_that_a_run_never_opened_are_no_difference(run: Evidence) -> None:
    blind = replace(run, samples={name: replace(one, image="") for name, one in run.samples.items()})
    assert between(run, blind) == ()


def test_other_references_are_refused(run: Evidence) -> None:
    other = asked(run, "34603", target="0" * 12)
    name, was, now, refuses = only(run, replace(other, place="base.json: cell"))
    assert (name, refuses) == ("references (1 of 8 differ, sample 34603)", True)
    assert (was, now) == (repr("word 1"), "0" * 12)


def test_a_primary_metric_that_one_run_lacks_is_refused(run: Evidence) -> None:
    lacking = replace(run, units={"paper_accuracy": run.units["paper_accuracy"]})
    assert only(run, lacking) == ("metric accuracy", "scored", "not kept unit by unit", True)
    with pytest.raises(DataError, match="metric accuracy: scored there, not kept unit by unit here"):
        compare(run, lacking)
    assert [row.metric for row in compare(run, lacking, ["paper_accuracy"]).rows] == ["paper_accuracy"]


def test_another_metric_that_one_run_lacks_is_named(run: Evidence) -> None:
    lacking = replace(run, units={"accuracy": run.units["accuracy"]})
    assert only(run, lacking) == ("metric paper_accuracy", "scored", "not kept unit by unit", False)
    assert [row.metric for row in compare(run, lacking).rows] == ["accuracy"]


def test_unequal_failures_are_refused_unless_they_are_left_out(run: Evidence) -> None:
    other = asked(run, "34603", failed=True)
    assert only(run, other) == ("failed samples", "0", "1 (first: 34603)", True)
    with pytest.raises(
        DataError, match=r"failed samples: 0 there, 1 \(first: 34603\) here; --drop-failed leaves"
    ):
        compare(run, other)
    assert between(run, other, drop_failed=True) == ()
    assert between(other, other) == ()
    both = asked(run, "34604", failed=True)
    found = compare(other, both, drop_failed=True)
    assert (found.comparable, found.dropped, found.shared, found.rows[0].n) == (True, 2, 6, 6)
    marked = compare(other, both, anyway=True)
    assert (marked.comparable, marked.rows[0].failed, marked.rows[0].n) == (False, (1, 1), 8)


def test_all_differences_are_named_in_one_line(run: Evidence) -> None:
    other = spec(asked(run, "34603", prompt="0" * 12), split="test", version=2)
    with pytest.raises(DataError) as caught:
        require_comparable(run, other, between(run, other))
    said = str(caught.value)
    assert "task version: v1 there, v2 here (also: split, prompts (1 of 8 differ, sample 34603))" in said
    assert "\n" not in said


def test_what_computed_the_answers_is_only_named(tmp_path: Path, run: Evidence) -> None:
    stack = Stack(
        "paligemma",
        {**planted.VERSIONS, "transformers": "5.24.0", "task": "no matter"},
        device="cuda:0",
        device_name="NVIDIA L4",
        threads=4,
        attention={"text": "sdpa"},
    )
    point = planted.checkpoint(dtype="float32", revision="1" * 40)
    more = {"batch": 16, "max_new_tokens": 64}
    after = reading.read(planted.plant(tmp_path, SAMPLES, RIGHT, point, stack=stack, **more).folder)
    found = between(run, after)
    assert not any(one.refuses for one in found)
    assert {one.said for one in found} == {
        f"revision: {'0' * 40} → {'1' * 40}",
        "dtype: bfloat16 → float32",
        "batch: 64 → 16",
        "max new tokens: 32 → 64",
        "transformers: 5.23.0 → 5.24.0",
        "device: cpu → cuda:0",
        "device name: none → NVIDIA L4",
        "threads: 0 → 4",
        "attention text: none → sdpa",
    }
    assert compare(run, after).comparable


def test_what_a_side_without_a_model_has_none_of_is_not_listed(run: Evidence) -> None:
    bare = replace(run.record.stack, device="none", versions={"pgbench": "0.2.0"})
    oracle = spec(run, checkpoint=planted.checkpoint(backend="oracle"))
    oracle = replace(oracle, record=replace(oracle.record, stack=bare))
    point = replace(oracle.record.spec.checkpoint, resolution=0, profile=Profile("ft", "paligemma"))
    oracle = spec(oracle, checkpoint=point)
    names = {one.name for one in between(run, oracle)}
    assert {"backend", "pgbench"} <= names
    assert not {"resolution", "kind", "tuned on", "demo", "quant", "dtype"} & names
    assert not {"torch", "device"} & names
    same = replace(run, record=replace(run.record, stack=bare))
    assert {"torch", "device"} <= {one.name for one in between(run, same)}  # they may explain a difference


def test_the_source_of_a_task_is_only_named(run: Evidence) -> None:
    versions = {**run.record.stack.versions, "task": "f" * 64}
    other = replace(run, record=replace(run.record, stack=replace(run.record.stack, versions=versions)))
    assert only(run, other) == ("task source", run.record.stack.versions["task"][:12], "f" * 12, False)


def test_another_checkpoint_is_what_is_compared(run: Evidence) -> None:
    point = replace(
        planted.checkpoint("google/paligemma2-3b-mix-448", quant="4bit"), profile=Profile("mix", "paligemma2")
    )
    names = {one.name for one in between(run, spec(run, checkpoint=point)) if not one.refuses}
    assert names == {"checkpoint", "resolution", "quant", "family"}
    assert compare(run, spec(run, checkpoint=point)).comparable

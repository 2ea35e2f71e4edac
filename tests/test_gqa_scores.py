"""GQA's scores: ceiling, floor, by hand, of failures and groups, and against a plain transcription."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gqa_layout import BALANCED, COMMON, QUERY, RECORDS, original, record, with_choices
from hypothesis import given
from hypothesis import strategies as st
from pgbench_tasks.gqa import TASK, gold, read_sample

from pgbench.metrics.gqa import DISTRIBUTION
from pgbench.metrics.scoring import score
from pgbench.records import SampleLine
from pgbench.tally import Tally
from pgbench.types import DataRequest, Dataset, Image, Sample

Values = dict[str, float | None]


def load(folder: Path, split: str) -> Dataset:
    return TASK.sources["files"](DataRequest(split, path=str(folder)))


def values(data: Dataset, texts: Mapping[str, str]) -> Values:
    rows = [(one, texts[one.id]) for one in data.samples]
    return {metric.name: score(metric, rows).value for metric in TASK.metrics}


def line(sample: Sample, text: str) -> SampleLine:
    stats = Tally.stats(TASK, sample, text)
    return SampleLine(sample.id, "", "", "", 0, 1, text, 1, 1, 0.1, True, stats, sample.target)


def test_gold_answers_reach_the_ceiling(tmp_path: Path) -> None:
    """All is 1 and no distance where gold answers are among their choices, "Common" ones by the rule."""
    data = load(with_choices(tmp_path / "d"), "val_all")
    found = values(data, {key: str(one["answer"]) for key, one in RECORDS.items()})
    assert found == {
        "accuracy": 1.0,
        "binary": 1.0,
        "open": 1.0,
        "consistency": 1.0,
        "validity": 1.0,
        "plausibility": 1.0,
        "distribution": 0.0,
    }


def test_empty_answers_are_at_the_floor(tmp_path: Path) -> None:
    """Without any right answer there is no consistency; the distributions are off by all of their gold."""
    data = load(with_choices(tmp_path / "d"), "val_all")
    found = values(data, dict.fromkeys(RECORDS, ""))
    assert found.pop("consistency") is None
    # group "": two gold pipes, (0 - 2)^2 / 2 = 2; group color: one, 1; weighted by 2 and 1, over 100
    assert found.pop("distribution") == pytest.approx((2 * 2 + 1 * 1) / 3 / 100)
    assert set(found.values()) == {0.0}
    rows = [(one, "") for one in data.samples]
    assert [score(one, rows).invalid for one in TASK.metrics] == [4, 2, 2, 4, 4, 4, 3]


def test_scores_by_hand(tmp_path: Path) -> None:
    said = {
        "02930152": "yes",
        "02930160": "no",
        "02930158": "bright",
        "07333408": "no",
        "0733340": "shelf",
        "7333409": "color",
    }
    found = values(load(with_choices(tmp_path / "d"), "val_all"), said)
    assert found["accuracy"] == 2 / 4
    assert (found["binary"], found["open"]) == (1.0, 0.0)
    assert found["consistency"] == (1 / 2 + 0) / 2
    assert (found["validity"], found["plausibility"]) == (1.0, 3 / 4)
    # group "": pipe never said, (0 - 2)^2 / 2, weight 2; group color: exact
    assert found["distribution"] == pytest.approx((2 * 2 + 0) / 3 / 100)


def test_consistency_needs_what_is_entailed(tmp_path: Path) -> None:
    """With the balanced questions alone a right answer that entails another leaves it undefined."""
    data = load(original(tmp_path / "d"), "testdev")
    assert values(data, {key: str(one["answer"]) for key, one in BALANCED.items()})["consistency"] is None
    right = dict.fromkeys(BALANCED, "") | {"7333409": "color"}
    assert values(data, right)["consistency"] == 0.0


def test_a_failed_sample_is_wrong(tmp_path: Path) -> None:
    data = load(with_choices(tmp_path / "d"), "val_all")
    rows = [(one, None if one.id == "02930152" else gold(one)) for one in data.samples]
    found = {metric.name: score(metric, rows) for metric in TASK.metrics}
    assert (found["accuracy"].value, found["accuracy"].failed) == (3 / 4, 1)
    assert (found["binary"].value, found["open"].value) == (1 / 2, 1.0)
    assert (found["validity"].value, found["consistency"].value) == (3 / 4, 1 / 2)
    assert found["distribution"].value is None
    sums = DISTRIBUTION.stat([(one, gold(one)) for one in data.samples])
    assert DISTRIBUTION.reduce(sums) == 0.0
    assert DISTRIBUTION.reduce({**sums, **DISTRIBUTION.failed(data.samples)}) is None


def test_the_breakdowns_are_of_scored_questions(tmp_path: Path) -> None:
    data = load(with_choices(tmp_path / "d"), "val_all")
    tally = Tally(TASK)
    for one in data.samples:
        tally.add(one, line(one, gold(one)))
    groups = tally.groups()
    counts = {name: {kind: s["accuracy"].n for kind, s in kinds.items()} for name, kinds in groups.items()}
    assert counts == {
        "structural": {"compare": 1, "query": 2, "verify": 1},
        "semantic": {"attr": 2, "rel": 2},
        "steps": {"2": 4},
        "words": {"10": 1, "4": 1, "5": 1, "6": 1},
    }
    assert groups["structural"]["verify"]["consistency"].value is None


ANSWERS = st.sampled_from(["yes", "Yes", "yes ", "no", "", "color", "shape", "pipe"])
TYPES = st.sampled_from([QUERY, COMMON, {"detailed": "exist", "semantic": "obj", "structural": "verify"}])
LISTS = st.lists(ANSWERS, max_size=3)
ONE = st.tuples(
    ANSWERS,
    ANSWERS,
    st.booleans(),
    TYPES,
    st.sampled_from([None, "", "color", "thing"]),
    st.lists(st.integers(0, 9), max_size=4),
    LISTS,
    LISTS,
    st.sampled_from(["a", "b"]),
)


def plain(asked: Mapping[str, dict[str, Any]], said: Mapping[str, str]) -> Values:
    """The rules of the official script, written down again; its empty means and divisions are None."""
    lists: dict[str, list[float]] = defaultdict(list)
    groups: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for key, one in asked.items():
        if not one["isBalanced"]:
            continue
        hit = float(said[key] == one["answer"])
        lists["accuracy"].append(hit)
        lists["open" if one["types"]["structural"] == "query" else "binary"].append(hit)
        for name, choices in (("validity", one["valid"]), ("plausibility", one["plausible"])):
            if "Common" in one["types"]["detailed"]:
                choices = ["color", "material", "shape"]
            lists[name].append(float(said[key] in choices))
        others = [other for other in one["entailed"] if other != key]
        if hit and others:
            hits = [said[other] == asked[other]["answer"] for other in others]
            lists["consistency"].append(sum(hits) / len(hits))
        if one["groups"]["global"] is not None:
            gold_answers, said_answers = groups[one["groups"]["global"]]
            gold_answers.append(one["answer"])
            said_answers.append(said[key])
    found: Values = {metric.name: None for metric in TASK.metrics}
    found |= {name: sum(scores) / len(scores) for name, scores in lists.items()}
    total = sum(len(answers) for answers, _ in groups.values())
    if total:
        chi = 0.0
        for answers, given_answers in groups.values():
            for answer in set(answers):
                e, o = answers.count(answer), given_answers.count(answer)
                chi += len(answers) * (o - e) ** 2 / e
        found["distribution"] = chi / total / 100
    return found


@given(st.lists(ONE, min_size=1, max_size=10))
def test_scores_are_those_of_a_plain_transcription(drawn: list[Any]) -> None:
    """Questions entail others of their image, as published ones do."""
    images = [one[8] for one in drawn]
    asked, said, rows = {}, {}, []
    for number, (answer, text, balanced, types, group, entailed, valid, plausible, image) in enumerate(drawn):
        key = f"0{number}"
        near = [f"0{other % len(drawn)}" for other in entailed if images[other % len(drawn)] == image]
        one = record(image, "q", answer, isBalanced=balanced, types=types, entailed=near)
        one |= {"groups": {"global": group, "local": ""}, "valid": valid, "plausible": plausible}
        asked[key], said[key] = one, text
        sample = read_sample(key, one, key, Image(f"{image}.jpg", bytes))
        choices = {"valid": tuple(valid), "plausible": tuple(plausible)}
        rows.append((replace(sample, fields={**sample.fields, **choices}), text))
    wanted = plain(asked, said)
    for metric in TASK.metrics:
        assert score(metric, rows).value == pytest.approx(wanted[metric.name], abs=1e-12), metric.name

"""GQA of drawings: programs that give the answers, entailments that hold, choices that fit."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import drawn_truth as truth
import pytest

from pgbench.demo.benchmarks import entailment, gqa
from pgbench.demo.benchmarks.drawn import Drawn
from pgbench.demo.questions import Question
from pgbench.demo.world import Scene, Thing
from pgbench.metrics.scoring import score
from pgbench.registry import load_task
from pgbench.types import DataRequest, Sample

TASK = load_task("gqa")


@functools.cache
def rows(split: str = "val_all") -> list[Drawn]:
    return gqa.drawn(DataRequest(split))


@functools.cache
def samples(split: str) -> Sequence[Sample]:
    return TASK.sources["demo"](DataRequest(split)).samples


def scene_of(row: Drawn) -> Scene:
    return row.image.read.args[0]  # type: ignore[attr-defined, no-any-return]


def run(program: Sequence[Mapping[str, Any]], scene: Scene) -> str:
    """Executes a program as GQA's operations are meant, on the scene alone."""
    results: list[Any] = []
    for step in program:
        operation, argument = step["operation"], step["argument"]
        given = [results[place] for place in step["dependencies"]]
        results.append(OPERATIONS[operation.split()[0]](scene, operation, argument, given))
    last = results[-1]
    return {True: "yes", False: "no"}[last] if isinstance(last, bool) else str(last)


def select(scene: Scene, _operation: str, argument: str, _given: Any) -> list[Thing]:
    name, ids = argument.rstrip(")").split(" (")
    places = [int(one) - 10 * int(scene.name[-5:]) for one in ids.split(",")] if ids != "-" else []
    found = [scene.things[place] for place in places]
    assert name in ("object", "circle", "square", "triangle")
    if name != "object":
        assert found == [one for one in scene.things if one.shape == name]
    return found


def query(_scene: Scene, _operation: str, argument: str, given: Any) -> str:
    (one,) = given[0]
    return str({"color": one.colour, "shape": one.shape}[argument])


def choose(_scene: Scene, operation: str, argument: str, given: Any) -> str:
    (one,) = given[0]
    aspects = {"color": one.colour, "size": truth.size(one)}
    aspects |= {"hposition": truth.side(one), "vposition": truth.height(one)}
    value = str(aspects[operation.split()[1]])
    assert value in argument.split("|")
    return value


OPERATIONS: Mapping[str, Any] = {
    "select": select,
    "filter": lambda _s, _o, argument, given: [one for one in given[0] if one.colour == argument],
    "exist": lambda _s, _o, _a, given: bool(given[0]),
    "and": lambda _s, _o, _a, given: all(given),
    "or": lambda _s, _o, _a, given: any(given),
    "query": query,
    "choose": choose,
    "verify": lambda _s, _o, argument, given: given[0][0].colour == argument,
    "same": lambda _s, _o, _a, given: given[0][0].colour == given[1][0].colour,
}


def test_every_program_gives_the_answer() -> None:
    for row in rows():
        semantic: Any = row.record["semantic"]
        assert run(semantic, scene_of(row)) == row.record["answer"], row.record
        written = "->".join(
            f"{one['operation']}: {one['argument']}"
            + (f" {one['dependencies']}" if one["dependencies"] else "")
            for one in semantic
        )
        assert row.record["semanticStr"] == written


def test_all_kinds_of_question_are_there() -> None:
    types: list[Any] = [row.record["types"] for row in rows("testdev")]
    assert {one["structural"] for one in types} >= {"query", "verify", "choose", "logical"}
    assert {one["semantic"] for one in types} == {"attr", "obj"}
    groups: list[Any] = [row.record["groups"] for row in rows("testdev")]
    for one, row in zip(groups, rows("testdev"), strict=True):
        assert (one["global"] is not None) == (row.record["types"]["structural"] == "query")  # type: ignore[index]
        assert one["local"]


def test_balanced_questions_alone_are_scored() -> None:
    assert all(row.record["isBalanced"] for row in rows("testdev"))
    whole = rows("testdev_all")
    assert {row.record["id"] for row in whole if row.record["isBalanced"]} == {
        row.record["id"] for row in rows("testdev")
    }
    assert len(whole) > 2 * len(rows("testdev"))
    entailed = {one for row in rows("testdev") for one in row.record["entailed"]}  # type: ignore[attr-defined]
    assert {row.record["id"] for row in whole if not row.record["isBalanced"]} <= entailed


def test_what_is_entailed_follows_wherever_the_first_answer_is_given() -> None:
    """The same question with the same answer never entails two different answers to another."""
    by_id = {row.record["id"]: row.record for row in rows()}
    follows: dict[tuple[object, object, object], set[object]] = {}
    for record in by_id.values():
        listed: Any = record["entailed"]
        assert record["id"] not in listed
        for one in listed:
            other = by_id[one]
            assert other["imageId"] == record["imageId"]
            told = (record["question"], record["answer"], other["question"])
            follows.setdefault(told, set()).add(other["answer"])
    assert len(follows) > 500
    assert {len(answers) for answers in follows.values()} == {1}


def test_equivalent_questions_have_one_answer() -> None:
    by_id = {row.record["id"]: row.record for row in rows()}
    several = 0
    for record in by_id.values():
        same: Any = record["equivalent"]
        assert record["id"] in same
        assert {by_id[one]["answer"] for one in same} == {record["answer"]}
        several += len(same) > 1
    assert several > 50


RED = Question("colour", "", "red", ("circle",))
THERE = Question("exists", "", "yes", ("red circle",))


@pytest.mark.parametrize(
    ("first", "second", "follows"),
    [
        (RED, THERE, True),
        (RED, Question("exists", "", "no", ("blue circle",)), True),
        (RED, Question("exists", "", "no", ("red square",)), False),
        (THERE, RED, False),  # there may be another circle
        (THERE, Question("either", "", "yes", ("red circle", "red square")), True),
        (THERE, Question("both", "", "no", ("red circle", "red square")), False),
        (
            Question("exists", "", "no", ("red circle",)),
            Question("both", "", "no", ("a b", "red circle")),
            True,
        ),
        (Question("both", "", "no", ("red circle", "red square")), THERE, False),
        (Question("either", "", "no", ("red circle", "a b")), Question("exists", "", "no", ("a b",)), True),
        (Question("shape", "", "circle", ("red",)), Question("exists", "", "no", ("red square",)), True),
        (Question("size", "", "large", ("circle",)), THERE, False),
        (RED, Question("size", "", "large", ("circle",)), False),
    ],
)
def test_what_follows(first: Question, second: Question, follows: bool) -> None:
    assert entailment.entails(first, second) is follows


def test_choices_come_with_val_alone() -> None:
    assert not any("valid" in sample.fields for sample in samples("testdev"))
    for sample in samples("val"):
        valid, plausible = sample.fields["valid"], sample.fields["plausible"]
        assert isinstance(valid, tuple)
        assert isinstance(plausible, tuple)
        assert sample.target in plausible
        assert set(plausible) <= set(valid)


def test_consistency_validity_and_plausibility_are_scored() -> None:
    whole = samples("val_all")
    by_name = {metric.name: metric for metric in TASK.metrics}
    right = [(sample, TASK.gold(sample)) for sample in whole]
    for name in ("accuracy", "binary", "open", "consistency", "validity", "plausibility"):
        assert score(by_name[name], right).value == 1
    contrary = {"yes": "no", "no": "yes"}
    half = [
        (sample, said if sample.fields["balanced"] else contrary.get(said, "?")) for sample, said in right
    ]
    value = score(by_name["consistency"], half).value
    assert value is not None
    assert value < 0.5
    assert score(by_name["accuracy"], half).value == 1

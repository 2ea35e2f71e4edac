"""A batch that does not fit into memory is asked in halves: the answers stay, the record says so."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fakes import SPEC, TASK, Fake, make_cell, make_samples, result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgbench.batch import Cell
from pgbench.batching import LONGEST_FIRST
from pgbench.errors import CheckpointError, OutOfMemory, RunStopped
from pgbench.fitting import Fitting, tokens
from pgbench.lines import dump, parse
from pgbench.metrics import mean
from pgbench.recipe.asked import AskedCell
from pgbench.report.table import remarks
from pgbench.runner import run
from pgbench.samples import read_lines
from pgbench.sweeping.loans import Loans
from pgbench.sweeping.opening import open_cell
from pgbench.types import (
    Continuation,
    DataRequest,
    LikelihoodMode,
    Likelihoods,
    Metric,
    Mode,
    ModelRequest,
    Prepared,
    Reply,
    Request,
    Sample,
)

SAMPLES = make_samples(24, unscored=frozenset({4}))
NEW = replace(SPEC, batching=LONGEST_FIRST, batch=8)


@dataclass
class Small(Fake):
    """Has room for so many at once, and no more."""

    room: int = 100
    failing: list[int] = field(default_factory=list)  # sizes that did not fit
    chance: random.Random | None = None  # memory that fails now and then, whatever the size

    def generate(self, batch: Sequence[Prepared]) -> Sequence[Reply]:
        self._require_room(batch)
        return super().generate(batch)

    def score(self, batch: Sequence[Prepared], continuations: Sequence[Sequence[str]]) -> Sequence[Reply]:
        self._require_room(batch)
        self.batches.append([one.request.sample_id for one in batch])
        return [
            Reply(texts[0], likelihoods=tuple(Continuation(text, (-0.5, -len(text) / 8)) for text in texts))
            for texts in continuations
        ]

    def _require_room(self, batch: Sequence[Prepared]) -> None:
        unlucky = self.chance is not None and len(batch) > 1 and self.chance.random() < 0.4
        if len(batch) > self.room or unlucky:
            self.failing.append(len(batch))
            raise OutOfMemory(f"no room for {len(batch)}")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), batch=st.integers(1, 8), room=st.integers(1, 30))
def test_random_failures_of_memory_change_no_answer(
    seed: int, batch: int, room: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spec, work = replace(NEW, batch=batch), tmp_path_factory.mktemp("runs")
    backend = Small(chance=random.Random(seed), room=room, answer=lambda name: name[-1])
    found = run(make_cell(SAMPLES, backend, spec=spec), work / "halved")
    plain = run(make_cell(SAMPLES, Small(answer=lambda name: name[-1]), spec=spec), work / "plain")
    assert result(found) == result(plain)
    lines = list(read_lines(found.folder))
    halved = {line.batch for line in lines if line.halved}
    assert found.record.cost.halved == len(halved)
    assert plain.record.cost.halved == 0
    assert all(0 <= line.halved < line.batch_size for line in lines)
    assert bool(halved) or not any(size > 1 for size in backend.failing[1:])


def test_what_did_not_fit_is_not_tried_again(tmp_path: Path) -> None:
    backend = Small(room=3)
    found = run(make_cell(SAMPLES, backend, spec=NEW), tmp_path)
    assert backend.failing == [8, 4]  # in the warm-up: 8 fails, 4 fails, 2 fits
    assert {len(batch) for batch in backend.batches} == {2}
    assert found.record.cost.halved == 3
    assert {line.halved for line in read_lines(found.folder)} == {2}
    assert "3 batches did not fit into memory and went in parts" in remarks(found.record)


def test_smaller_batches_are_whole_again(tmp_path: Path) -> None:
    """Long prompts come first; what fits by its tokens is not cut because of them."""
    lengths = {"a": 100, "b": 100, "c": 10, "d": 10}
    asked = [_prepared(name, length) for name, length in lengths.items()]
    calls: list[str] = []

    def ask(batch: Sequence[Prepared]) -> list[Reply]:
        calls.append("".join(one.request.sample_id for one in batch))
        if tokens(batch) > 150:
            raise OutOfMemory("no room")
        return [Reply(one.request.sample_id) for one in batch]

    fitting = Fitting(ask)
    assert [(reply.text, size) for reply, size in fitting.ask(asked[:2])] == [("a", 1), ("b", 1)]
    assert [(reply.text, size) for reply, size in fitting.ask(asked[2:])] == [("c", 2), ("d", 2)]
    assert calls == ["ab", "a", "b", "cd"]


def _prepared(name: str, length: int) -> Prepared:
    return Prepared(Request(name, (), "?", 1), None, length, "", name)


def test_a_single_sample_that_does_not_fit_is_an_error_with_advice(tmp_path: Path) -> None:
    backend = Small(room=0)
    with pytest.raises(
        CheckpointError, match=r"single sample \(s\d+, 9 tokens\); take a checkpoint of fewer"
    ):
        run(make_cell(SAMPLES, backend, spec=NEW), tmp_path)
    assert backend.failing == [8, 4, 2, 1]
    assert backend.closed
    assert not any(tmp_path.iterdir())


def test_memory_that_ends_in_the_middle_keeps_the_answers_before(tmp_path: Path) -> None:
    class Shrinking(Small):
        def generate(self, batch: Sequence[Prepared]) -> Sequence[Reply]:
            self.room = 0 if len(self.batches) >= 2 else 100
            return super().generate(batch)

    with pytest.raises(RunStopped, match=r"out of memory with a single sample.*8 of 24 answers are kept"):
        run(make_cell(SAMPLES, Shrinking(), spec=NEW), tmp_path)
    resumed = run(make_cell(SAMPLES, Small(room=4), spec=NEW), tmp_path)
    assert result(resumed) == result(run(make_cell(SAMPLES, Fake(), spec=NEW), tmp_path / "plain"))
    assert resumed.record.cost.halved == 2  # of this session; the first batch was whole


def test_likelihoods_are_halved_likewise(tmp_path: Path) -> None:
    metric = Metric("right_ll", lambda unit: {"sum": 1.0, "n": 1.0, "invalid": 0.0}, mean, "tests")
    scored = LikelihoodMode(lambda sample, *_: ("yes", "no, " + sample.id), lambda _: (0,), (metric,))
    task = replace(TASK, modes=("generate", "likelihood"), likelihood=scored, metrics=(metric,))
    spec = replace(NEW, mode="likelihood")
    found = run(make_cell(SAMPLES, Small(room=3), task=task, spec=spec), tmp_path / "halved")
    plain = run(make_cell(SAMPLES, Small(), task=task, spec=spec), tmp_path / "plain")
    assert result(found) == result(plain)
    assert (found.record.cost.halved, plain.record.cost.halved) == (3, 0)
    assert all(len(line.likelihoods) == 2 for line in read_lines(found.folder))


def test_a_line_says_it_only_where_it_is_so(tmp_path: Path) -> None:
    found = run(make_cell(SAMPLES, Small(), spec=NEW), tmp_path)
    line = next(read_lines(found.folder))
    assert b"halved" not in dump(line)
    halved = replace(line, halved=2)
    assert parse(dump(halved)) == halved
    assert parse(dump(halved).replace(b'"halved":2', b'"halved":"2"')) is None


@pytest.mark.parametrize("mode", ["generate", "likelihood"])
def test_a_model_answers_in_halves_as_it_does_at_once(
    mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real backend in float32: the questions of one image are asked apart, its features shared or not."""
    from pgbench.backends.paligemma.generate import PaliGemma

    model = ModelRequest("tiny-gemma2", dtype="float32", device="cpu")
    asked = AskedCell("textvqa", model, DataRequest(""), source="demo", limit=16, reuse=False)
    name = "generate" if mode == "generate" else "score"
    whole, drawn = getattr(PaliGemma, name), random.Random(3)

    def sometimes(self: PaliGemma, batch: Sequence[Prepared], *more: Any) -> Sequence[Reply]:
        if len(batch) > 1 and drawn.random() < 0.6:
            raise OutOfMemory("no room")
        replies: Sequence[Reply] = whole(self, batch, *more)
        return replies

    with contextlib.closing(Loans()) as loans:
        plain = run(_in_mode(open_cell(asked, loans.engine)[0], mode), tmp_path / "plain")
        monkeypatch.setattr(PaliGemma, name, sometimes)
        found = run(_in_mode(open_cell(asked, loans.engine)[0], mode), tmp_path / "halved")
    assert found.record.cost.halved > 0
    for one, other in zip(read_lines(plain.folder), read_lines(found.folder), strict=True):
        assert (one.id, one.output, one.tokens) == (other.id, other.output, other.tokens)
        for this, that in zip(one.likelihoods, other.likelihoods, strict=True):
            assert this.logprobs == pytest.approx(that.logprobs, abs=1e-4)  # sums in another order
    assert found.record.scores == plain.record.scores


def _in_mode(cell: Cell, mode: Mode) -> Cell:
    """The task with likelihoods of two texts, where it is asked for them."""
    if mode == "generate":
        return cell
    metric = Metric("right_ll", _likeliest, mean, "tests", primary=True)
    scored = LikelihoodMode(lambda sample, *_: ("red", "blue, or green"), lambda _: (0,), (metric,))
    task = replace(cell.task, modes=("likelihood",), likelihood=scored, metrics=(metric,))
    return replace(cell, task=task, spec=replace(cell.spec, mode=mode))


def _likeliest(unit: Sequence[tuple[Sample, Likelihoods]]) -> Mapping[str, float]:
    ((_, found),) = unit
    first, second = (sum(one.logprobs) for one in found)
    return {"sum": float(first > second), "n": 1.0, "invalid": 0.0}

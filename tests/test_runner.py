"""One cell on a benchmark, a data set and a backend in memory: every answer kept, scored and found again."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from fakes import SPEC, TASK, Fake, make_cell, make_samples, result
from hypothesis import given
from hypothesis import strategies as st

from pgbench import batching, runner, store
from pgbench.batching import Planned, batches
from pgbench.errors import DataError, PgbenchError, ResumeError, RunStopped, StoreError, UsageError
from pgbench.keys import image_key
from pgbench.metrics import mean
from pgbench.plan import Selection, order
from pgbench.records import Failure, RunRecord
from pgbench.runner import Outcome, run
from pgbench.samples import SAMPLES as FILE
from pgbench.samples import read_lines
from pgbench.tally import _quantile
from pgbench.types import Image, Metric, RunSpec, Sums, Task

SAMPLES = make_samples(24, unscored=frozenset({4, 5}))
REFUSED = {"s007": "the image is truncated"}
BROKEN = {"s010": "the device said no"}


def planned(count: int = 24) -> list[list[str]]:
    """The ids of each batch."""
    positions = order(SAMPLES[:count], seed=SPEC.seed, limit=SPEC.limit)
    return [[SAMPLES[position].id for position in batch] for batch in batches(positions, SPEC.batch)]


def test_every_batch_is_asked_as_planned_and_the_first_once_more(tmp_path: Path) -> None:
    backend = Fake()
    outcome = run(make_cell(SAMPLES, backend), tmp_path)
    assert backend.batches == [planned()[0], *planned()]
    lines = list(read_lines(outcome.folder))
    assert [line.id for line in lines] == list(chain(*planned()))
    assert [line.batch for line in lines] == [number for number in range(6) for _ in range(4)]
    assert {(line.batch_size, line.tokens, line.n_prompt, line.output) for line in lines} == {
        (4, 3, 9, "yes")
    }
    assert lines[0].prompt.startswith("default question ")
    assert backend.closed


def test_the_same_command_again_reports_done_and_loads_nothing(tmp_path: Path) -> None:
    first = run(make_cell(SAMPLES, Fake()), tmp_path)
    before = {path: path.read_bytes() for path in first.folder.iterdir()}
    again = run(make_cell(SAMPLES, Fake(stop_at=0)), tmp_path)
    assert (again.already_done, first.already_done) == (True, False)
    assert again.record == first.record
    assert {path: path.read_bytes() for path in first.folder.iterdir()} == before


def test_a_record_that_another_process_finished_meanwhile_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(spec: RunSpec, chosen: Selection) -> Planned:
        monkeypatch.undo()
        run(make_cell(SAMPLES, Fake()), tmp_path)
        return batching.planned(spec, chosen)

    monkeypatch.setattr(runner, "planned", overtaken)  # between the first look for a record and the lock
    assert run(make_cell(SAMPLES, Fake(stop_at=0)), tmp_path).already_done


def test_a_failed_sample_is_recorded_scores_0_and_stays_in_n(tmp_path: Path) -> None:
    backend = Fake(answer=lambda name: "yes", refused=REFUSED, broken=BROKEN)
    outcome = run(make_cell(SAMPLES, backend, missing=("s020",)), tmp_path)
    record = outcome.record
    reasons = {**REFUSED, **BROKEN, "s020": "the image is missing"}
    assert {failure.sample_id: failure.reason for failure in record.failures} == reasons
    assert record.status == "failures"
    score = record.scores["accuracy"]
    assert (score.n, score.units, score.failed) == (22, 22, 3)
    answered = [s for s in SAMPLES if s.target and s.id not in reasons]
    assert score.value == pytest.approx(sum(s.target == "yes" for s in answered) / 22)
    lines = {line.id: line for line in read_lines(outcome.folder)}
    assert len(lines) == 24
    assert lines["s007"].stats["accuracy"] == {"sum": 0.0, "n": 1.0, "invalid": 0.0}
    assert record.cost.generated == 21
    asked = {name for batch in backend.batches for name in batch}
    assert asked == {sample.id for sample in SAMPLES} - {"s007", "s020"}


def test_a_run_in_which_everything_fails_still_ends_in_a_record(tmp_path: Path) -> None:
    refused = {sample.id: "no" for sample in SAMPLES}
    record = run(make_cell(SAMPLES, Fake(refused=refused)), tmp_path).record
    assert (record.scores["accuracy"].value, record.scores["accuracy"].failed) == (0.0, 22)
    assert len(record.failures) == 24
    assert (record.cost.generated, record.cost.samples_per_second) == (0, None)


def test_samples_without_references_run_and_are_not_scored(tmp_path: Path) -> None:
    outcome = run(make_cell(SAMPLES, Fake()), tmp_path)
    assert outcome.record.data.unscored == 2
    assert {score.n for score in outcome.record.scores.values()} == {22}
    lines = {line.id: line for line in read_lines(outcome.folder)}
    assert (lines["s004"].output, lines["s004"].stats, lines["s004"].target) == ("yes", {}, None)
    bare = make_samples(4, unscored=frozenset(range(4)))
    record = run(make_cell(bare, Fake()), tmp_path / "bare").record
    assert (record.scores["f1"].value, record.scores["f1"].n, record.groups) == (None, 0, {})


def by_hand(half: str | None) -> dict[str, float]:
    """All three metrics where the answer is always yes and two samples failed, counted without pgbench."""
    failed = {*REFUSED, *BROKEN}
    chosen = [s for s in SAMPLES if s.target and half in (None, s.groups["half"])]
    good = {s.id for s in chosen if s.target == "yes" and s.id not in failed}
    pairs = [(f"s{n:03}", f"s{n + 1:03}") for n in range(0, 24, 2)]
    known = [pair for pair in pairs if pair[0] in {s.id for s in chosen}]
    fn = sum(s.target == "yes" and s.id in failed for s in chosen)
    fp = sum(s.target == "no" and s.id not in failed for s in chosen)
    return {
        "accuracy": len(good) / len(chosen),
        "pairs": sum(set(pair) <= good for pair in known) / len(known),
        "f1": 2 * len(good) / (2 * len(good) + fp + fn),
    }


def test_values_of_groups_that_are_numbers_stand_in_their_order(tmp_path: Path) -> None:
    """Whatever their length: data may name a group by more digits than Python makes a number of."""
    values = ["10", "9", "1" * 5_000, "none"]
    samples = [
        dataclasses.replace(one, groups={"n": values[number % 4]})
        for number, one in enumerate(make_samples(8))
    ]
    record = run(make_cell(samples, Fake()), tmp_path).record
    assert list(record.groups["n"]) == ["1" * 5_000, "none", "9", "10"]


def test_pairs_across_batches_and_f1_and_groups_come_through(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, batch=3)
    outcome = run(make_cell(SAMPLES, Fake(refused=REFUSED, broken=BROKEN), spec=spec), tmp_path)
    batch_of = {line.id: line.batch for line in read_lines(outcome.folder)}
    assert any(batch_of[f"s{n:03}"] != batch_of[f"s{n + 1:03}"] for n in range(0, 24, 2))
    record = outcome.record
    assert {name: score.value for name, score in record.scores.items()} == pytest.approx(by_hand(None))
    for half in ("early", "late"):
        found = record.groups["half"][half]
        assert {name: score.value for name, score in found.items()} == pytest.approx(by_hand(half))
    assert (record.scores["pairs"].units, record.scores["pairs"].n) == (11, 22)
    assert record.scores["f1"].interval == "bootstrap"
    assert record.primary == "accuracy"


@pytest.mark.parametrize("seed", range(6))
def test_a_run_stopped_anywhere_goes_on_to_the_same_record(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    answers = {sample.id: generator.choice(["yes", "no", ""]) for sample in SAMPLES}
    spec = dataclasses.replace(SPEC, batch=generator.choice([1, 3, 4, 7]))

    def backend(stop_at: int | None) -> Fake:
        return Fake(answers.__getitem__, REFUSED, BROKEN, stop_at)

    whole = result(run(make_cell(SAMPLES, backend(None), spec=spec), tmp_path / "whole"))
    asked: Counter[str] = Counter()
    sessions = 0
    outcome: Outcome | None = None
    while outcome is None:
        session = backend(generator.randrange(2, 5))
        with contextlib.suppress(RuntimeError):
            outcome = run(make_cell(SAMPLES, session, spec=spec), tmp_path / "stopped")
        assert session.closed
        asked.update(name for batch in session.batches[1:] for name in batch)  # 0: warm-up
        sessions += 1
    assert sessions > 1
    assert result(outcome) == whole
    assert set(asked.values()) == {1}


def stopped(folder: Path, **changes: Any) -> None:
    with pytest.raises(RuntimeError):
        run(make_cell(SAMPLES, Fake(stop_at=3), **changes), folder)


def test_our_own_errors_say_what_is_kept(tmp_path: Path) -> None:
    late = Fake(stop_at=3, error=StoreError("no space"))
    with pytest.raises(RunStopped, match="no space; 8 of 24 answers are kept, the same command goes on"):
        run(make_cell(SAMPLES, late), tmp_path)
    again = Fake(stop_at=0, error=StoreError("no space"))  # resumed, and stopped before a new answer
    with pytest.raises(RunStopped, match="8 of 24 answers are kept"):
        run(make_cell(SAMPLES, again), tmp_path)
    with pytest.raises(StoreError, match=r"^no space$"):
        run(make_cell(SAMPLES, Fake(stop_at=1, error=StoreError("no space"))), tmp_path / "fresh")


def test_progress_tells_at_once_what_is_kept(tmp_path: Path) -> None:
    stopped(tmp_path)
    told: list[tuple[int, int]] = []
    run(make_cell(SAMPLES, Fake()), tmp_path, lambda done, total: told.append((done, total)))
    assert told == [(done, 24) for done in (8, 12, 16, 20, 24)]


def test_changed_annotations_are_refused(tmp_path: Path) -> None:
    stopped(tmp_path)
    other = [dataclasses.replace(SAMPLES[0], question="another?"), *SAMPLES[1:]]
    with pytest.raises(ResumeError, match=r'data.digest: was "[0-9a-f]{56}'):
        run(make_cell(other, Fake()), tmp_path)
    with pytest.raises(ResumeError, match=r"data.available: was 24, now 20; .*data.selected: was 24, now 20"):
        run(make_cell(SAMPLES[:20], Fake()), tmp_path)


def test_a_finished_record_is_not_reported_for_other_annotations(tmp_path: Path) -> None:
    run(make_cell(SAMPLES, Fake()), tmp_path)
    other = [dataclasses.replace(SAMPLES[0], target="maybe"), *SAMPLES[1:]]
    with pytest.raises(ResumeError, match=r"data\.digest"):
        run(make_cell(other, Fake()), tmp_path)


def test_a_changed_stack_or_task_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path)
    with pytest.raises(ResumeError, match=r'stack.numerics.mode: was "plain", now "fast"'):
        run(make_cell(SAMPLES, Fake(numerics="fast")), tmp_path)
    with pytest.raises(ResumeError, match=r'stack.versions.task: was "d16e57", now "edited"'):
        run(make_cell(SAMPLES, Fake(), task_digest="edited"), tmp_path)


def gone() -> bytes:
    raise FileNotFoundError(2, "No such file or directory")


@pytest.mark.parametrize(
    ("read", "message"),
    [(lambda: b"repainted", "has changed since it was answered"), (gone, r"is gone \(No such file")],
)
@pytest.mark.parametrize("which", [0, 3, 7])
def test_a_changed_image_is_refused(
    tmp_path: Path, read: Callable[[], bytes], message: str, which: int
) -> None:
    stopped(tmp_path)
    name = list(chain(*planned()))[which]  # of the 8 that were answered
    other = [
        dataclasses.replace(sample, images=(Image("other", read),)) if sample.id == name else sample
        for sample in SAMPLES
    ]
    with pytest.raises(ResumeError, match=f"the image of sample {name}.* {message}"):
        run(make_cell(other, Fake()), tmp_path)


@pytest.mark.parametrize("count", [1, 49, 50, 51, 99, 149, 1000])
def test_the_images_looked_at_again_are_spread_over_all(count: int) -> None:
    looked: list[int] = []

    def reader(number: int) -> Callable[[], bytes]:
        def read() -> bytes:
            looked.append(number)
            return b"x"

        return read

    known = image_key([b"x"])
    sample = SAMPLES[0]
    finished = [
        (dataclasses.replace(sample, images=(Image("", reader(number)),)), known) for number in range(count)
    ]
    runner._rehash(finished)
    assert len(set(looked)) == len(looked) == min(count, 50)
    assert max(looked) >= count - 1 - count / 50


def test_stored_answers_of_other_samples_are_refused(tmp_path: Path) -> None:
    stopped(tmp_path)
    path = next(tmp_path.rglob(FILE))
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first.replace(planned()[0][0].encode(), b"s999") + b"".join(rest))
    before = path.read_bytes()
    with pytest.raises(
        ResumeError, match=f"stored answer s999 stands where sample {planned()[0][0]} belongs"
    ):
        run(make_cell(SAMPLES, Fake()), tmp_path)
    assert path.read_bytes() == before


def test_a_limited_record_never_passes_for_a_full_one(tmp_path: Path) -> None:
    def full(spec_limit: int | None, count: int = 24, demo: bool = False) -> bool:
        spec = dataclasses.replace(SPEC, limit=spec_limit)
        cell = make_cell(make_samples(count), Fake(), spec=spec, demo=demo)
        return run(cell, tmp_path / f"{spec_limit}-{count}-{demo}").record.data.full

    assert full(None)
    assert full(24)  # all of it, whatever was asked
    assert not full(22)
    assert not full(None, count=22)  # a source that lacks a pair
    assert not full(None, count=26)  # more than was published
    assert not full(None, demo=True)


def test_small_runs_nest_in_large_ones(tmp_path: Path) -> None:
    def outputs(limit: int | None) -> dict[str, str]:
        spec = dataclasses.replace(SPEC, limit=limit, batch=1)
        outcome = run(make_cell(SAMPLES, Fake(lambda name: name), spec=spec), tmp_path)
        return {line.id: line.output for line in read_lines(outcome.folder)}

    whole = outputs(None)
    for limit in (1, 5, 10):
        assert outputs(limit).items() <= whole.items()


def test_warm_up_is_not_in_the_speed(tmp_path: Path) -> None:
    backend = Fake()
    backend.sleep = lambda size: time.sleep(0.5 if len(backend.batches) == 1 else 0.002)
    cost = run(make_cell(SAMPLES, backend), tmp_path).record.cost
    assert cost.warmup_seconds >= 0.5
    assert cost.batch_seconds_p50 is not None
    assert cost.batch_seconds_p95 is not None
    assert cost.samples_per_second is not None
    assert 0.002 <= cost.batch_seconds_p50 <= cost.batch_seconds_p95 < 0.4
    assert 24 / 0.5 < cost.samples_per_second <= 4 / 0.002
    assert (cost.generated, cost.batch_size, cost.weight_bytes) == (24, 4, 7)


@given(st.lists(st.tuples(st.floats(0, 1e3), st.integers(1, 9)), max_size=300), st.sampled_from([0.5, 0.95]))
def test_quantiles_are_those_of_numpy(counted: list[tuple[float, int]], share: float) -> None:
    values = [value for value, times in counted for _ in range(times)]
    found = _quantile(sorted(counted), share)
    assert found == (np.quantile(values, share, method="inverted_cdf") if values else None)


def test_quantiles_of_every_small_size() -> None:
    for size in range(1, 500):
        values = list(range(size))
        for share in (0.5, 0.95):
            found = _quantile([(value, 1) for value in values], share)
            assert found == np.quantile(values, share, method="inverted_cdf"), (
                size,
                share,
            )


def task_with(stat: Callable[[fakes.Unit], Any], reduce: Callable[[Sums], Any] = mean) -> Task:
    return dataclasses.replace(TASK, metrics=(Metric("odd", stat, reduce, "tests"),))


@pytest.mark.parametrize(
    "given_", [{"sum": float("nan")}, {"sum": "many"}, None, 0.5, {"sum": 10**400}], ids=repr
)
def test_a_metric_that_gives_no_numbers_is_named(tmp_path: Path, given_: object) -> None:
    with pytest.raises(
        PgbenchError, match=f"metric odd gave .* for sample {planned()[0][0]}; expected names"
    ):
        run(make_cell(SAMPLES, Fake(), task=task_with(lambda unit: given_)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_numpy_numbers_are_welcome(tmp_path: Path) -> None:
    task = task_with(lambda unit: {"sum": np.float32(0.5), "n": np.int64(1)})
    outcome = run(make_cell(SAMPLES, Fake(), task=task), tmp_path)
    assert outcome.record.scores["odd"].value == 0.5
    assert store.read_record(outcome.folder) == outcome.record


@pytest.mark.parametrize(
    ("stat", "reduce", "message"),
    [
        ({}, mean, "metric odd cannot be reduced .KeyError: 'n'"),
        ({"sum": 2.0, "n": 1.0}, mean, "metric odd cannot be reduced .ValueError: .*2 over 1|sum of"),
        ({"n": 0.0}, lambda sums: 1 / sums["n"], "metric odd cannot be reduced .ZeroDivisionError"),
        ({"n": 1.0}, lambda sums: float("nan"), "metric odd reduces to nan; expected a number or None"),
    ],
)
def test_a_metric_that_cannot_be_reduced_is_named_and_loses_no_answer(
    tmp_path: Path, stat: Sums, reduce: Callable[[Sums], float | None], message: str
) -> None:
    with pytest.raises(RunStopped, match=message):
        run(make_cell(SAMPLES, Fake(), task=task_with(lambda unit: stat, reduce)), tmp_path)
    folder = next(tmp_path.rglob(FILE)).parent
    assert len(list(read_lines(folder))) == 24
    assert not (folder / "record.json").exists()


def test_data_that_cannot_be_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fake.json: split val has no samples"):
        run(make_cell((), Fake()), tmp_path)
    twice = [*SAMPLES, dataclasses.replace(SAMPLES[3], cluster="elsewhere")]
    with pytest.raises(DataError, match=r"fake.json: 1 samples share an id with another one"):
        run(make_cell(twice, Fake()), tmp_path)
    assert list(tmp_path.iterdir()) == []


class Forgetful(Fake):
    def generate(self, batch: Any) -> Any:
        return super().generate(batch)[1:]


def test_a_backend_that_loses_an_answer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the backend gave 3 replies to 4 requests"):
        run(make_cell(SAMPLES, Forgetful()), tmp_path)


def test_memory_and_time_stay_flat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Per sample of a metric whose unit is one sample: a few sums per cluster, and none of the answers."""
    task = dataclasses.replace(TASK, metrics=(fakes.ACCURACY, fakes.F1))
    spec = dataclasses.replace(SPEC, batch=64)

    def measured(count: int) -> tuple[float, int, RunRecord]:
        rows = [
            dataclasses.replace(s, images=(), cluster=f"c{n // 10}")
            for n, s in enumerate(make_samples(count))
        ]
        backend = Fake(lambda name: "yes" * 100)
        backend.batches = Discarding()
        cell = make_cell(rows, backend, task=task, spec=spec)
        tracemalloc.start()
        before = time.process_time()  # whatever else the machine does
        record = run(cell, tmp_path / str(count)).record
        seconds, (_, peak) = time.process_time() - before, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return seconds, peak, record

    measured(64)  # imports
    seconds, small, _ = measured(2_000)
    seconds, large, record = measured(20_000)
    assert record.data.selected == 20_000
    per_sample = (large - small) / 18_000
    with capsys.disabled():
        print(
            f"\nrunner, 20,000 samples: {1e6 * seconds / 20_000:.0f} us and {per_sample:.0f} bytes a sample"
        )
    assert per_sample < 1_000
    assert seconds / 20_000 < 0.002


class Discarding(list[list[str]]):
    def append(self, item: list[str]) -> None:
        return None


def test_failures_come_in_the_order_of_the_run(tmp_path: Path) -> None:
    refused = {sample.id: f"reason {sample.id}" for sample in SAMPLES[::5]}
    record = run(make_cell(SAMPLES, Fake(refused=refused)), tmp_path).record
    ordered = [name for batch in planned() for name in batch if name in refused]
    assert record.failures == tuple(Failure(name, f"reason {name}") for name in ordered)

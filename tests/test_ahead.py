"""While one batch is answered the next ones are prepared: overlapped, bounded, and cleanly ended."""

from __future__ import annotations

import statistics
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fakes import SPEC, TASK, Fake, make_cell, make_samples, result

from pgbench.ahead import in_threads, in_turn
from pgbench.answering import ahead
from pgbench.backends import Engine
from pgbench.batching import LONGEST_FIRST
from pgbench.errors import DataError, RunStopped
from pgbench.records import Stack
from pgbench.runner import run
from pgbench.samples import read_lines
from pgbench.sweeping.loans import Loans
from pgbench.types import Image, ModelRequest, Prepared, Reply, Request, Sample

SAMPLES = make_samples(24)
NEW = replace(SPEC, batching=LONGEST_FIRST)
PATIENCE = 10.0  # seconds after which a test has failed


@dataclass
class Seeing(Fake):
    """It opens images, so it is asked to prepare in threads; notes what is prepared while it answers."""

    opens_images = True
    prepared: list[str] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    seen: list[int] = field(default_factory=list)  # samples prepared by the end of each call of generate
    wait_for: int = 0  # samples that are to be prepared before an answer is given
    slow: float = 0.0

    def prepare(self, request: Request) -> Prepared:
        self.threads.add(threading.current_thread().name)
        time.sleep(self.slow)
        found = super().prepare(request)
        self.prepared.append(request.sample_id)
        return found

    def generate(self, batch: Sequence[Prepared]) -> Sequence[Reply]:
        until = time.monotonic() + PATIENCE
        while len(self.prepared) < self.wait_for and time.monotonic() < until:
            time.sleep(0.001)
        replies = super().generate(batch)
        self.seen.append(len(self.prepared))
        return replies


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("prepare")]


def test_the_next_two_batches_are_prepared_while_one_is_answered_and_no_more(tmp_path: Path) -> None:
    backend = Seeing(wait_for=12)  # without an overlap it would wait in vain
    before = time.monotonic()
    run(make_cell(SAMPLES, backend, spec=NEW), tmp_path)
    assert time.monotonic() - before < PATIENCE
    time.sleep(0)
    assert backend.seen[0] == 12  # the warm-up: three batches of four, and not one sample more
    assert all(count <= 12 + 4 * number for number, count in enumerate(backend.seen[1:]))
    assert not workers()
    assert threading.current_thread().name not in backend.threads


def test_answers_are_those_of_a_run_without_threads(tmp_path: Path) -> None:
    refused, missing = {"s007": "the image is truncated"}, ("s020",)
    seeing = run(make_cell(SAMPLES, Seeing(refused=refused), missing=missing, spec=NEW), tmp_path / "a")
    plain = run(make_cell(SAMPLES, Fake(refused=refused), missing=missing, spec=NEW), tmp_path / "b")
    assert result(seeing) == result(plain)


def test_a_backend_without_images_pays_for_no_thread(tmp_path: Path) -> None:
    class Blind(Seeing):
        opens_images = False

    backend = Blind()
    run(make_cell(SAMPLES, backend, spec=NEW), tmp_path / "alone")
    loans = Loans(lambda name, model: Engine(SPEC.checkpoint, lambda: backend))
    lent = replace(make_cell(SAMPLES, backend, spec=NEW), engine=loans.engine("fake", ModelRequest()))
    run(lent, tmp_path / "lent")
    assert backend.threads == {threading.current_thread().name}


@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), RuntimeError("the device is gone")])
def test_an_end_in_the_middle_leaves_no_thread_and_keeps_what_was_answered(
    error: BaseException, tmp_path: Path
) -> None:
    backend = Seeing(stop_at=3, error=error, slow=0.005)
    with pytest.raises(type(error)):
        run(make_cell(SAMPLES, backend, spec=NEW), tmp_path)
    assert backend.closed
    assert not workers()
    count = len(backend.prepared)
    time.sleep(0.05)
    assert len(backend.prepared) == count <= 4 * 5  # nothing more was begun
    after = Seeing()
    whole = run(make_cell(SAMPLES, after, spec=NEW), tmp_path)
    assert len(after.batches) == 4 + 1  # two batches were kept; one more call to warm up
    assert result(whole) == result(run(make_cell(SAMPLES, Fake(), spec=NEW), tmp_path / "straight"))


def test_a_broken_prompt_is_raised_at_its_turn_and_not_before(tmp_path: Path) -> None:
    last = run(make_cell(SAMPLES, Fake(), spec=NEW), tmp_path / "straight").folder
    third = [line.id for line in read_lines(last)][9]  # in the third batch

    def prompt(sample: Sample, *_: object) -> str:
        if sample.id == third and threading.current_thread() is not threading.main_thread():
            raise ValueError("no such template")
        return f"default {sample.question}"

    cell = make_cell(SAMPLES, Seeing(), task=replace(TASK, prompt=prompt), spec=NEW)
    with pytest.raises(RunStopped, match=r"no such template.*8 of 24 answers are kept"):
        run(cell, tmp_path / "broken")
    assert not workers()


def test_items_that_cannot_be_gathered_are_raised_at_their_turn() -> None:
    def gather(number: int) -> list[int]:
        if number == 2:
            raise DataError("the disk is gone")
        return [number] * 3

    turns = in_threads(range(4), gather, str, 2)
    assert [next(turns).prepared for _ in range(2)] == [["0"] * 3, ["1"] * 3]
    with pytest.raises(DataError, match="the disk is gone"):
        next(turns)
    assert not workers()


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_threads_begin_when_the_caller_has_its_batch_and_keep_no_hold_of_it(ahead: int) -> None:
    """So they run beside the model, and not beside what is prepared at its turn."""
    gathered: list[int] = []
    begun: list[int] = []  # batches, when one is prepared at its turn
    kept: list[weakref.ref[Seeing]] = []

    def gather(number: int) -> list[int]:
        gathered.append(number)
        return [number, number]

    def prepare(number: int) -> Seeing:
        if threading.current_thread() is threading.main_thread():
            begun.append(len(gathered))
        return Seeing()

    turns = in_threads(range(6), gather, prepare, ahead, lambda item: 0)
    for number in range(6):  # enumerate would hold what it has yielded
        turn = next(turns)
        assert len(gathered) == min(6, number + 1 + ahead)
        kept.append(weakref.ref(turn.prepared[1]))
        del turn
        assert kept[-1]() is None
    assert next(turns, None) is None
    assert begun == [1, *(min(6, number + max(ahead, 1)) for number in range(1, 6))]
    assert not workers()


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 17])
def test_whatever_the_size_of_a_batch_its_order_stays(size: int) -> None:
    items = [list(range(number, number + size)) for number in range(6)]
    threaded = [turn.prepared for turn in in_threads(range(6), items.__getitem__, str, 2)]
    plain = [turn.prepared for turn in in_turn(range(6), items.__getitem__, str)]
    assert threaded == plain == [list(map(str, one)) for one in items]


def test_of_items_that_are_alike_the_first_is_prepared_in_a_thread_and_the_others_at_their_turn() -> None:
    """Questions about one picture: whoever makes the picture has to have begun."""
    where, batches = dict[int, str](), [[1, 2, 11, 12, 3], [21, 13, 22], []]

    def prepare(item: int) -> int:
        where[item] = threading.current_thread().name
        return -item

    turns = [*in_threads(range(3), batches.__getitem__, prepare, 2, alike=lambda item: item // 10)]
    assert [turn.prepared for turn in turns] == [[-1, -2, -11, -12, -3], [-21, -13, -22], []]
    here = threading.current_thread().name
    assert [item for item, name in where.items() if name == here] == [2, 12, 3, 22]
    assert not workers()


def test_what_is_prepared_at_its_turn_is_raised_there() -> None:
    def prepare(item: int) -> int:
        if item == 4:
            raise DataError("no such template")
        return item

    turns = in_threads(range(2), lambda number: [2 * number + 1, 2 * number + 2], prepare, 2, lambda item: 0)
    assert next(turns).prepared == [1, 2]
    with pytest.raises(DataError, match="no such template"):
        next(turns)
    assert not workers()


@pytest.mark.parametrize(("device", "px"), [("cpu", 223), ("cpu", 224), ("cuda", 56)])
def test_beside_a_small_model_on_the_cpu_threads_are_for_pictures(
    tmp_path: Path, device: str, px: int
) -> None:
    class On(Seeing):
        def describe(self) -> Stack:
            return replace(super().describe(), device=device)

    picture = (Image("one.png", lambda: b""),)
    samples = [replace(sample, cluster="one picture", images=picture) for sample in SAMPLES]
    backend = On()
    spec = replace(NEW, checkpoint=replace(SPEC.checkpoint, resolution=px))
    run(make_cell(samples, backend, spec=spec), tmp_path)
    assert (threading.current_thread().name in backend.threads) == (px == 223)
    assert any(name.startswith("prepare") for name in backend.threads)


def test_large_pictures_are_fewer_ahead() -> None:
    def at(pixels: int, batch: int) -> int:
        return ahead(replace(NEW, batch=batch, checkpoint=replace(SPEC.checkpoint, resolution=pixels)))

    assert (at(224, 64), at(448, 32), at(448, 128), at(896, 64)) == (2, 2, 1, 1)


def test_seconds_are_those_between_finished_batches(tmp_path: Path) -> None:
    backend = Seeing(slow=0.06, sleep=lambda size: time.sleep(0.08))  # 4 threads: a batch in 0.06 s
    before = time.monotonic()
    outcome = run(make_cell(SAMPLES, backend, spec=NEW), tmp_path)
    wall = time.monotonic() - before
    seconds = {line.batch: line.seconds for line in read_lines(outcome.folder)}
    cost = outcome.record.cost
    assert sum(seconds.values()) + cost.warmup_seconds <= wall
    assert 0.08 <= statistics.median(seconds.values()) < 0.13  # 0.14: nothing overlapped
    assert cost.samples_per_second == pytest.approx(24 / sum(seconds.values()))


def test_a_folder_that_goes_away_is_told_apart_from_a_broken_picture(tmp_path: Path) -> None:
    gone = threading.Event()

    def reader(number: int) -> Image:
        def read() -> bytes:
            if gone.is_set():
                raise FileNotFoundError(2, "No such file or directory")
            return b"pixels %d" % number

        return Image(f"{number}.png", read)

    samples = [replace(sample, images=(reader(n),)) for n, sample in enumerate(make_samples(60))]

    class Strict(Seeing):
        def prepare(self, request: Request) -> Prepared:
            from pgbench.errors import SampleError

            try:
                return super().prepare(request)
            except OSError as error:
                raise SampleError(f"cannot read: {error}") from error

    backend = Strict(sleep=lambda size: gone.set() if len(backend.batches) == 5 else None)
    with pytest.raises(RunStopped, match="the data folder has gone"):
        run(make_cell(samples, backend, spec=NEW), tmp_path)
    gone.clear()
    whole = run(make_cell(samples, Strict(), spec=NEW), tmp_path)
    assert not whole.record.failures

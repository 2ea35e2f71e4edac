"""Sweeps that are killed, torn, told to stop, out of disk or robbed of their data go on to the same records.

The full proofs, with more kills and with several processes and machines, are benchmarks/sweep_proofs.py.
"""

from __future__ import annotations

import dataclasses
import json
import random
import signal
from pathlib import Path

import pytest
from fakes import SPEC, Fake, make_cell, make_samples, result
from kills import Sweep, differing, full_disk, kill_repeatedly, oracle_sweep, tear, tiny_sweep, wait_for

from pgbench.errors import INCOMPLETE, OK, DataError, RunLocked, RunStopped, SampleError
from pgbench.holders import lock_of
from pgbench.plan import WHOLE
from pgbench.runner import run
from pgbench.samples import SAMPLES, Samples, read_lines
from pgbench.types import Image, Prepared, Request, Sample

CELLS, LIMIT = 12, 16


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep of twelve oracle cells, left alone."""
    folder = tmp_path_factory.mktemp("oracle")
    sweep = Sweep(oracle_sweep(folder, CELLS, LIMIT), folder / "whole")
    sweep.finish()
    return sweep


def alike(left: Sweep, right: Sweep) -> None:
    found = left.result()
    assert differing(found, right.result()) == []
    assert len(right.ids()) == len(set(right.ids())) == len(left.ids())
    leftovers = [path for path in right.out.rglob("*") if path.name.startswith((".lock", ".record", ".spec"))]
    assert leftovers == []


def test_the_sweep_that_is_compared_holds_something(whole: Sweep) -> None:
    found = whole.result()
    assert len(found) == CELLS
    assert 8 * CELLS < len(whole.ids()) <= LIMIT * CELLS
    assert all(cell["samples"] for cell in found.values() if isinstance(cell, dict))
    assert whole.unfinished() == []


def test_a_sweep_killed_at_twenty_moments(tmp_path: Path, whole: Sweep) -> None:
    sweep = Sweep(whole.file, tmp_path)
    found = kill_repeatedly(sweep, 20, len(whole.ids()), random.Random(4))
    assert found.kills >= 15
    assert found.kept == sorted(found.kept)
    assert found.kept[-1] > len(whole.ids()) / 3
    alike(whole, sweep)


@pytest.mark.timeout(420)  # seven starts of torch, on whatever else the cores do
def test_a_sweep_of_checkpoints_killed_at_five_moments(tmp_path: Path) -> None:
    file = tiny_sweep(tmp_path, quant="[none]", defaults="{source: demo, limit: 90, batch_size: 2}")
    whole, sweep = Sweep(file, tmp_path / "whole"), Sweep(file, tmp_path / "killed")
    session = whole.finish()
    found = kill_repeatedly(sweep, 5, len(whole.ids()), random.Random(5), session=session / 2)
    assert found.kills == 5
    assert 0 < found.kept[-1] < len(whole.ids())
    assert len(whole.result()) == 4
    alike(whole, sweep)


def test_lines_torn_by_a_power_cut(tmp_path: Path, whole: Sweep) -> None:
    sweep, generator = Sweep(whole.file, tmp_path), random.Random(6)
    for answers in (5, 60, 120):
        process = sweep.start()
        assert wait_for(sweep, process, answers)
        process.kill()
        process.communicate()
        for path in sweep.unfinished():
            assert tear(path, generator) > 0
    sweep.finish()
    alike(whole, sweep)


@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGTERM, "terminated"), (signal.SIGUSR1, "SIGUSR1"), (signal.SIGINT, "interrupted")],
)
def test_a_sweep_that_is_told_to_stop(
    tmp_path: Path, whole: Sweep, number: signal.Signals, word: str
) -> None:
    sweep = Sweep(whole.file, tmp_path)
    process = sweep.start()
    assert wait_for(sweep, process, 40)
    process.send_signal(number)
    out, said = process.communicate(timeout=60)
    assert process.returncode == INCOMPLETE
    assert word in out + said
    assert "Traceback" not in said
    assert 40 <= sweep.kept() < len(whole.ids())
    assert list(tmp_path.rglob(".lock-*")) == []  # given back, though cut short
    sweep.finish()
    alike(whole, sweep)


@pytest.mark.parametrize("room", [9_000, 40_000])
def test_a_disk_that_is_full(tmp_path: Path, whole: Sweep, room: int) -> None:
    out = tmp_path / "out"
    cramped = Sweep(whole.file, out, environment=full_disk(tmp_path / "disk", out, room))
    process = cramped.start()
    told, said = process.communicate(timeout=120)
    assert process.returncode == INCOMPLETE
    assert "No space left on device" in told + said
    assert "Traceback" not in told + said
    kept = cramped.kept()
    assert 0 < kept < len(whole.ids())
    sweep = Sweep(whole.file, out)  # somebody made room
    sweep.finish()
    assert sweep.kept() > kept
    alike(whole, sweep)


def test_two_processes_on_one_sweep(tmp_path: Path, whole: Sweep) -> None:
    """The second works on other cells, or says who holds the one that it came to."""
    sweep = Sweep(whole.file, tmp_path)
    first = sweep.start()
    assert wait_for(sweep, first, 10)
    second = sweep.start()
    told = [process.communicate(timeout=120) for process in (first, second)]
    codes = [process.returncode for process in (first, second)]
    assert set(codes) <= {OK, INCOMPLETE}
    for (out, said), code in zip(told, codes, strict=True):
        assert "Traceback" not in said
        assert code == OK or "another process is writing it (pid" in out + said
    sweep.finish()
    alike(whole, sweep)


# One cell, in this process


class Reads(Fake):
    """Reads pictures as real backends do: one that cannot be read is a failed sample."""

    def prepare(self, request: Request) -> Prepared:
        try:
            return super().prepare(request)
        except OSError as error:
            raise SampleError(f"cannot read image: {error.strerror}") from error


def on_disk(folder: Path, count: int = 24) -> tuple[Sample, ...]:
    folder.mkdir()
    found = []
    for sample in make_samples(count):
        path = folder / f"{sample.id}.png"
        path.write_bytes(sample.images[0].read())
        found.append(dataclasses.replace(sample, images=(Image(path.name, path.read_bytes),)))
    return tuple(found)


def test_a_data_folder_that_goes_away_is_no_thousand_failures(tmp_path: Path) -> None:
    data, away = tmp_path / "data", tmp_path / "away"
    samples = on_disk(data)
    whole = run(make_cell(samples, Reads()), tmp_path / "whole")
    backend = Reads()

    def goes(size: int) -> None:
        if len(backend.batches) == 4:  # the warm-up is one
            data.rename(away)

    backend.sleep = goes
    with pytest.raises(RunStopped) as caught:
        run(make_cell(samples, backend), tmp_path / "runs")
    assert str(caught.value).startswith("the data folder has gone: s0")
    assert "read before, cannot be read any more (No such file or directory)" in str(caught.value)
    assert str(caught.value).endswith("12 of 24 answers are kept, the same command goes on")
    (kept,) = (tmp_path / "runs").rglob(SAMPLES)
    lines = [json.loads(line) for line in kept.read_bytes().splitlines()]
    assert [line["error"] for line in lines] == [None] * 12
    away.rename(data)
    again = run(make_cell(samples, Reads()), tmp_path / "runs")
    assert result(again) == result(whole)


def test_a_data_folder_that_goes_away_after_batches_with_failures(tmp_path: Path) -> None:
    samples = on_disk(tmp_path / "data")
    backend = Reads(refused={sample.id: "too long" for sample in samples[::2]})

    def goes(size: int) -> None:
        if len(backend.batches) == 3:
            (tmp_path / "data").rename(tmp_path / "away")

    backend.sleep = goes
    with pytest.raises(
        RunStopped, match=r"read before, cannot be read any more .*; 8 of 24 answers are kept"
    ):
        run(make_cell(samples, backend), tmp_path / "runs")


def test_a_data_folder_that_goes_away_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    """Some pictures of the first batch were read, and one of them is looked at again."""
    samples, asked = on_disk(tmp_path / "data", 4), iter(range(10))

    class Half(Reads):
        def prepare(self, request: Request) -> Prepared:
            if next(asked) == 2:
                (tmp_path / "data").rename(tmp_path / "away")
            return super().prepare(request)

    with pytest.raises(DataError, match=r"^the data folder has gone: s00\d.png of sample s00\d, read before"):
        run(make_cell(samples, Half()), tmp_path / "runs")
    assert list((tmp_path / "runs").rglob(SAMPLES)) == []


@pytest.mark.parametrize("count", [6, 24])
def test_a_data_folder_that_goes_away_before_the_first_picture(tmp_path: Path, count: int) -> None:
    samples = on_disk(tmp_path / "data", count)
    (tmp_path / "data").rename(tmp_path / "away")
    with pytest.raises(DataError, match=r"like all, cannot be read \(No such file or directory\); bring it"):
        run(make_cell(samples, Reads()), tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []  # the lock went as well


@pytest.mark.parametrize("count", [2, 24])
def test_one_picture_that_goes_away_is_a_failed_sample(tmp_path: Path, count: int) -> None:
    samples = on_disk(tmp_path / "data", count)
    (tmp_path / "data" / "s001.png").unlink()
    outcome = run(make_cell(samples, Reads()), tmp_path / "runs")
    assert [failure.sample_id for failure in outcome.record.failures] == ["s001"]
    assert outcome.record.failures[0].reason == "cannot read image: No such file or directory"


def test_a_picture_that_fails_once_is_read_again(tmp_path: Path) -> None:
    """As on a file server that comes back."""
    samples, left = on_disk(tmp_path / "data", 8), iter([True])

    def flaky() -> bytes:
        if next(left, False):
            raise OSError(5, "Input/output error")
        return (tmp_path / "data" / "s003.png").read_bytes()

    mended = dataclasses.replace(samples[3], images=(Image("s003.png", flaky),))
    outcome = run(make_cell((*samples[:3], mended, *samples[4:]), Reads()), tmp_path / "runs")
    assert outcome.record.failures == ()
    assert next(left, None) is None  # it did fail


def test_pictures_known_to_be_missing_are_no_sign(tmp_path: Path) -> None:
    samples = on_disk(tmp_path / "data", 16)
    (tmp_path / "data").rename(tmp_path / "away")
    cell = make_cell(samples, Reads(), missing=tuple(sample.id for sample in samples))
    assert len(run(cell, tmp_path / "runs").record.failures) == 16


def test_a_run_whose_lock_was_taken_over_writes_no_more(tmp_path: Path) -> None:
    """As after a suspension: what the new holder writes is not touched."""
    samples, backend = make_samples(12), Fake()
    (runs := tmp_path / "runs").mkdir()

    def stolen(size: int) -> None:
        if len(backend.batches) == 3:  # of the second batch; the first is on disk
            (lock,) = runs.rglob(lock_of(WHOLE))
            lock.unlink()
            lock.write_text("{}")

    backend.sleep = stolen
    with pytest.raises(
        RunStopped, match=r"was removed while this process was held up; it writes no more; 4 of"
    ):
        run(make_cell(samples, backend), runs)
    (path,) = runs.rglob(SAMPLES)
    assert path.read_bytes().count(b"\n") == 4
    assert [lock.read_text() for lock in runs.rglob(lock_of(WHOLE))] == ["{}"]


def test_a_process_that_lost_its_lock_and_still_has_the_file_open(tmp_path: Path) -> None:
    with Samples(tmp_path, [2, 2]):
        (tmp_path / lock_of(WHOLE)).unlink()
        with pytest.raises(RunLocked, match="still has the answers open; end it"), Samples(tmp_path, [2, 2]):
            pass
    with Samples(tmp_path, [2, 2]) as samples:
        assert samples.pending() == [0, 1]


def test_file_systems_without_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(file: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unknown)
    outcome = run(make_cell(make_samples(8), Fake(), spec=SPEC), tmp_path)
    assert len(list(read_lines(outcome.folder))) == 8
    with Samples(tmp_path / "x", [2]), pytest.raises(RunLocked), Samples(tmp_path / "x", [2]):
        pass

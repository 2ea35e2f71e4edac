"""A run that dies at any instant goes on to the record of a run that was left alone."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import SPEC, Fake, make_cell, make_samples, result
from kills import Command, differing, kill_repeatedly, slow_task, wait_for

from pgbench import store
from pgbench.errors import INCOMPLETE, USAGE
from pgbench.records import RunRecord
from pgbench.runner import Outcome, run
from pgbench.samples import read_lines
from pgbench.units import UNITS

DEMO = 200  # samples
TINY = ("--task", "textvqa", "--source", "demo", "--dtype", "float32", "--batch-size", "2", "--limit", "60")


class Death(BaseException):
    """SIGKILL as seen from inside: from now on no system call of this process does anything."""


class Disk:
    """Dies at the n-th call that changes the disk, a write half-way through."""

    CHANGES = ("write", "fsync", "ftruncate", "replace", "mkdir", "unlink")

    def __init__(self, dies_at: int) -> None:
        self.calls = 0
        self._dies_at = dies_at

    @contextlib.contextmanager
    def mounted(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        with patch.context() as inner:
            for name in self.CHANGES:
                inner.setattr(os, name, self._wrapped(name, getattr(os, name)))
            yield

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self._dies_at and name == "write":
                call(arguments[0], arguments[1][: len(arguments[1]) * 2 // 3])
            if self.calls >= self._dies_at:
                raise Death
            if name == "fsync":
                return None  # slow, and for the power cut: what a process wrote outlives it
            return call(*arguments, **options)

        return counted


def session(runs: Path, patch: pytest.MonkeyPatch, dies_at: int) -> tuple[Outcome | None, int]:
    """One process's life on a small run; the outcome, or None where it died, and how far it came."""
    disk = Disk(dies_at)
    cell = make_cell(
        make_samples(8),
        Fake(refused={"s003": "truncated"}),
        spec=dataclasses.replace(SPEC, batch=3),
    )
    with disk.mounted(patch):
        try:
            return run(cell, runs), disk.calls
        except Death:
            return None, disk.calls


NEVER = 10_000


def test_death_at_every_change_of_the_disk_and_again_on_the_way_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_alone, changes = session(tmp_path / "whole", monkeypatch, NEVER)
    assert left_alone is not None
    whole = result(left_alone)
    pairs = (left_alone.folder / UNITS).read_bytes()
    assert changes >= 18  # folders, three documents, three batches
    deaths = 0
    generator = random.Random(0)
    for first in range(1, changes + 1):
        for second in generator.sample(range(1, changes + 1), 6):
            runs = tmp_path / f"{first}-{second}"
            outcome = None
            for dies_at in (first, second, NEVER):
                outcome, _ = session(runs, monkeypatch, dies_at)
                if outcome:
                    break
                deaths += 1
            assert outcome is not None
            assert result(outcome) == whole, (first, second)
            assert (outcome.folder / UNITS).read_bytes() == pairs
            ids = [line.id for line in read_lines(outcome.folder)]
            assert len(ids) == len(set(ids)) == 8
            read = store.read_record(outcome.folder)
            assert isinstance(read, RunRecord)
            assert not any(path.name.startswith(".record") for path in outcome.folder.iterdir())
    assert deaths > 1.5 * 6 * changes


def alike(left: Command, right: Command, samples: int) -> None:
    assert differing(left.result(), right.result()) == []
    assert len(right.ids()) == len(set(right.ids())) == samples


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return slow_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def whole(slow: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The slow task, left alone."""
    command = Command((*slow, "--batch-size", "4"), tmp_path_factory.mktemp("whole"))
    command.finish()
    return command


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments(tmp_path: Path, whole: Command, seed: int) -> None:
    command = Command(whole.flags, tmp_path)
    found = kill_repeatedly(command, 6, DEMO, random.Random(seed))
    assert found.kills >= 4
    assert found.kept == sorted(found.kept)
    assert found.kept[-1] > 0
    alike(whole, command, DEMO)


def test_the_result_that_is_compared_holds_something(whole: Command) -> None:
    folder = whole.folder()
    assert folder is not None
    record = store.read_record(folder)
    assert record is not None
    assert len(record.failures) == 5
    score = record.scores["accuracy"]
    assert (score.n, score.failed) == (DEMO, 5)
    assert score.value is not None
    assert 0.5 < score.value < 1
    assert set(record.groups) == {"asks"}


def test_a_real_checkpoint_killed_at_random_moments(tmp_path: Path) -> None:
    flags = (*TINY, "--model", "tiny-gemma2")
    left_alone = Command(flags, tmp_path / "whole")
    left_alone.finish()
    command = Command(flags, tmp_path / "killed")
    found = kill_repeatedly(command, 2, 60, random.Random(7))
    assert found.kills == 2
    assert 0 < found.kept[0] < found.kept[1] < 60
    alike(left_alone, command, 60)


@pytest.mark.parametrize(("number", "word"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")])
def test_a_polite_signal_says_what_is_kept(
    tmp_path: Path, whole: Command, number: signal.Signals, word: str
) -> None:
    command = Command(whole.flags, tmp_path)
    process = command.start()
    assert wait_for(command, process, 20)
    process.send_signal(number)
    out, said = process.communicate(timeout=30)
    assert process.returncode == INCOMPLETE
    assert out == ""
    kept = command.kept()
    assert 20 <= kept < DEMO
    # the batch in flight may reach the disk without being counted
    assert said in {
        f"pgbench: {word}; {count} of {DEMO} answers are kept, the same command goes on\n"
        for count in (kept, kept - 4)
    }
    command.finish()
    alike(whole, command, DEMO)


def test_of_two_processes_on_one_run_the_second_leaves(tmp_path: Path, whole: Command) -> None:
    command = Command(whole.flags, tmp_path)
    first = command.start()
    assert wait_for(command, first, 8)
    second = command.start()
    out, said = second.communicate(timeout=30)
    assert (second.returncode, out) == (USAGE, "")
    assert said.startswith("pgbench: cannot write ")
    assert f"another process is writing it (pid {first.pid} on {socket.gethostname()}, last heartbeat" in said
    assert said.count("\n") == 1
    assert first.wait(timeout=60) == 0
    first.communicate()
    alike(whole, command, DEMO)


def test_a_finished_run_is_reported_and_left_alone(whole: Command) -> None:
    folder = whole.folder()
    assert folder is not None
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    process = Command((*whole.flags, "--json"), whole.out).start()
    out, _ = process.communicate(timeout=30)
    assert json.loads(out)["already_done"] is True
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before

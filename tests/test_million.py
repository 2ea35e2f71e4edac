"""What pgbench takes beside the model stays small and flat; `make prove` shows it with a million samples."""

from __future__ import annotations

from array import array
from pathlib import Path

import many
import pytest

from pgbench import concluding, store
from pgbench.plan import Selection
from pgbench.records import RunRecord, SampleLine, essence
from pgbench.samples import SAMPLES, read_lines
from pgbench.types import Sample

FEW, MANY = 2_000, 20_000
MOST_MORE_BYTES = 8_000_000  # for ten times the samples, of which none is kept
MOST_MICROSECONDS = 1_000.0  # a sample, on a busy machine
MOST_RESUME_MICROSECONDS = 500.0  # a finished sample; starting up is most of it


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("million")


@pytest.fixture(scope="module")
def sessions(folder: Path) -> tuple[many.Session, many.Session]:
    return many.watched(many.command(folder, FEW, "few")), many.watched(many.command(folder, MANY, "many"))


def found(folder: Path) -> tuple[Path, RunRecord, list[SampleLine]]:
    run = many.command(folder, MANY, "many").folder()
    assert run is not None
    record = store.read_record(run)
    assert record is not None
    return run, record, list(read_lines(run))


def test_ids_of_one_hash_are_looked_up_again() -> None:
    samples = [Sample(name, (), "?", "yes") for name in ("a", "b", "a", "c", "a")]
    for hashes in ([7] * 5, [7, 8, 7, 8, 7], [7, 8, 7, 9, 7]):
        chosen = Selection(array("q", range(5)), array("q", hashes), 0)
        assert concluding._repeated(samples, chosen) == 2
    assert concluding._repeated(samples, Selection(array("q", [0, 1, 3]), array("q", [7] * 3), 0)) == 0


def test_memory_is_flat(sessions: tuple[many.Session, many.Session]) -> None:
    few, more = sessions
    assert few.peak_bytes > 20_000_000  # it was measured
    assert more.peak_bytes - few.peak_bytes < MOST_MORE_BYTES


def test_the_time_of_a_sample_is_small(sessions: tuple[many.Session, many.Session]) -> None:
    assert sessions[1].cpu_seconds / MANY * 1e6 < MOST_MICROSECONDS


def test_all_samples_are_scored(folder: Path, sessions: tuple[many.Session, many.Session]) -> None:
    _, record, lines = found(folder)
    score = record.scores["accuracy"]
    assert (score.n, score.clusters, score.value) == (MANY, MANY // 4, 0.9)
    assert record.groups["kind"]["number"]["accuracy"].value == 0.8  # 13, 33, ... of 1, 5, 9, ...
    assert len({line.id for line in lines}) == len(lines) == MANY
    assert [line.batch for line in lines] == [number // many.BATCH for number in range(MANY)]


def test_a_run_goes_on_soon_and_to_the_same_record(
    folder: Path, sessions: tuple[many.Session, many.Session]
) -> None:
    run, record, lines = found(folder)
    command = many.command(folder, MANY, "many")
    back = many.resumed(command, MANY)
    assert back.seconds / MANY * 1e6 < MOST_RESUME_MICROSECONDS
    assert store.read_record(run) is None  # it was killed on its way
    assert (run / SAMPLES).read_bytes().count(b"\n") >= MANY - many.BATCH
    many.watched(command)
    _, again, lines_again = found(folder)
    assert essence(again, lines_again) == essence(record, lines)

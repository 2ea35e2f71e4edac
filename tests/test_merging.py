"""Shards: parts of one plan, answered apart, made into the record that one process would have made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import textvqa_layout
from fakes import SPEC, Fake, make_cell, make_samples, result
from hypothesis import given
from hypothesis import strategies as st

from pgbench import store
from pgbench.cli import invoke
from pgbench.errors import ResumeError, StoreError, UsageError
from pgbench.holders import lock_of
from pgbench.locks import Lock
from pgbench.plan import WHOLE, Shard
from pgbench.records import essence
from pgbench.runner import answer_part, run
from pgbench.samples import SAMPLES, files_of, read_lines
from pgbench.sweeping.choices import shard

ROWS = make_samples(24, unscored=frozenset({4, 5}))
Capture = pytest.CaptureFixture[str]
ORACLE = ("--task", "textvqa", "--backend", "oracle", "--limit", "40", "--batch-size", "4")


@given(st.integers(0, 400), st.integers(1, 12))
def test_shards_are_contiguous_and_hold_every_batch_once(batches: int, count: int) -> None:
    parts = [Shard(index, count).of(batches) for index in range(count)]
    assert [batch for part in parts for batch in part] == list(range(batches))
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("asked", ["3/3", "-1/3", "1", "1/", "/3", "a/b", "0/0", "1/2/3", "", "²/3"])
def test_a_shard_that_is_none_is_refused(asked: str) -> None:
    with pytest.raises(UsageError, match=r"expected i/n, counted from 0"):
        shard(asked)


def test_a_shard_as_asked() -> None:
    assert shard("2/3") == Shard(2, 3)


def test_each_shard_is_asked_its_batches_and_no_others(tmp_path: Path) -> None:
    asked = []
    for index in range(3):
        backend = Fake()
        part = answer_part(make_cell(ROWS, backend), tmp_path, Shard(index, 3))
        assert (part.answers, part.record) == (8, None)
        asked += [name for batch in backend.batches[1:] for name in batch]  # without the warm-up
        assert part.missing == 6 - 2 * (index + 1)
    assert len(asked) == len(set(asked)) == 24


@pytest.mark.parametrize("kept", [(0,), (1,), (0, 2), (0, 1, 2)])
def test_a_run_goes_on_with_what_shards_have_answered(tmp_path: Path, kept: tuple[int, ...]) -> None:
    whole = result(run(make_cell(ROWS, Fake(lambda name: name)), tmp_path / "whole"))
    for index in kept:
        answer_part(make_cell(ROWS, Fake(lambda name: name)), tmp_path / "parts", Shard(index, 3))
    backend = Fake(lambda name: name)
    outcome = run(make_cell(ROWS, backend), tmp_path / "parts")
    assert result(outcome) == whole
    assert sum(len(batch) for batch in backend.batches[1:]) == 24 - 8 * len(kept)
    assert bool(backend.batches) == (len(kept) < 3)


def test_shards_of_another_count_go_on_too(tmp_path: Path) -> None:
    """Five machines are left of three: no batch is answered again."""
    whole = result(run(make_cell(ROWS, Fake()), tmp_path / "whole"))
    answer_part(make_cell(ROWS, Fake()), tmp_path / "parts", Shard(1, 3))
    asked = 0
    for index in range(5):
        backend = Fake()
        answer_part(make_cell(ROWS, backend), tmp_path / "parts", Shard(index, 5))
        asked += sum(len(batch) for batch in backend.batches[1:])
    assert asked == 16
    outcome = run(make_cell(ROWS, Fake(stop_at=0)), tmp_path / "parts")
    assert result(outcome) == whole
    assert len(list(read_lines(outcome.folder))) == 24


def test_a_shard_that_is_stopped_goes_on(tmp_path: Path) -> None:
    cell = make_cell(ROWS, Fake(stop_at=2, error=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        answer_part(cell, tmp_path, Shard(1, 2))
    backend = Fake()
    part = answer_part(make_cell(ROWS, backend), tmp_path, Shard(1, 2))
    assert part.missing == 3
    assert [len(batch) for batch in backend.batches] == [4, 4, 4]  # warm-up, and the two that were left


def test_a_shard_on_another_stack_is_refused(tmp_path: Path) -> None:
    answer_part(make_cell(ROWS, Fake()), tmp_path, Shard(0, 2))
    with pytest.raises(ResumeError, match=r"stack\.numerics\.mode: was"):
        answer_part(make_cell(ROWS, Fake(numerics="fast")), tmp_path, Shard(1, 2))


def test_a_shard_that_cannot_begin_harms_no_other(tmp_path: Path) -> None:
    answer_part(make_cell(ROWS, Fake()), tmp_path, Shard(0, 2))
    with pytest.raises(RuntimeError):
        answer_part(make_cell(ROWS, Fake(stop_at=0)), tmp_path, Shard(1, 2))
    assert answer_part(make_cell(ROWS, Fake()), tmp_path, Shard(1, 2)).missing == 0


def test_the_peak_is_the_highest_of_the_shards(tmp_path: Path) -> None:
    for index in range(2):
        answer_part(make_cell(ROWS, Fake()), tmp_path, Shard(index, 2))
    folder = store.folder_of(tmp_path, SPEC)
    sessions = [json.loads(path.read_text()) for path in sorted(folder.glob("session-*"))]
    sessions[0]["peak_memory"]["bytes"], sessions[1]["load_seconds"] = 1 << 50, 1e6
    for path, session in zip(sorted(folder.glob("session-*")), sessions, strict=True):
        path.write_text(json.dumps(session))
    cost = run(make_cell(ROWS, Fake()), tmp_path).record.cost
    assert (cost.peak_memory.bytes, cost.load_seconds) == (1 << 50, 1e6)


def test_answers_without_their_session_are_refused(tmp_path: Path) -> None:
    for index in range(2):
        answer_part(make_cell(ROWS, Fake()), tmp_path, Shard(index, 2))
    for path in store.folder_of(tmp_path, SPEC).glob("session-*"):
        path.unlink()
    with pytest.raises(StoreError, match="holds answers and no session"):
        run(make_cell(ROWS, Fake()), tmp_path)


def test_answers_are_not_scored_by_another_version(tmp_path: Path) -> None:
    for index in range(2):
        answer_part(make_cell(ROWS, Fake()), tmp_path, Shard(index, 2))
    with pytest.raises(ResumeError, match=r'stack\.versions\.task: was "d16e57", now "edited"'):
        run(make_cell(ROWS, Fake(), task_digest="edited"), tmp_path)
    stack = store.folder_of(tmp_path, SPEC) / "stack.json"
    stack.write_text(stack.read_text().replace('"fake": "1"', '"fake": "1", "sacrebleu": "0.1"'))
    with pytest.raises(ResumeError, match=r'stack\.versions\.sacrebleu: was "0\.1", now'):
        run(make_cell(ROWS, Fake()), tmp_path)


# The commands


def ran(*words: object) -> int:
    return invoke([str(word) for word in words])


def shards(out: Path, count: int, *, apart: bool, flags: tuple[str, ...] = ORACLE) -> list[Path]:
    outs = [out / f"machine {index}" if apart else out for index in range(count)]
    for index, folder in enumerate(outs):
        assert ran("run", *flags, "--shard", f"{index}/{count}", "--out", folder) == 0
    return outs if apart else [out]


def run_in(out: Path) -> Path:
    return next(out.rglob("record.json")).parent


def essence_in(out: Path) -> dict[str, object]:
    folder = run_in(out)
    record = store.read_record(folder)
    assert record is not None
    return essence(record, read_lines(folder))


@pytest.mark.parametrize("apart", [False, True], ids=["one folder", "a folder each"])
def test_merged_shards_are_what_one_process_writes(tmp_path: Path, capsys: Capture, apart: bool) -> None:
    outs = shards(tmp_path / "parts", 3, apart=apart)
    assert ran("run", *ORACLE, "--out", tmp_path / "whole") == 0
    capsys.readouterr()
    assert ran("merge", *outs, "--json") == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [one["state"] for one in document["runs"]] == ["merged"]
    assert essence_in(outs[0]) == essence_in(tmp_path / "whole")
    assert len(list(outs[0].rglob("record.json"))) == 1
    assert ran("merge", *outs) == 0
    assert "already done" in capsys.readouterr().out
    assert ran("run", *ORACLE, "--shard", "1/3", "--out", outs[0]) == 0
    assert "the run is already done" in capsys.readouterr().out


def test_merged_elsewhere_leaves_the_parts_alone(tmp_path: Path) -> None:
    outs = shards(tmp_path / "parts", 2, apart=True)
    before = {path: path.read_bytes() for path in (tmp_path / "parts").rglob("*") if path.is_file()}
    assert ran("merge", *outs, "--out", tmp_path / "all") == 0
    assert before == {path: path.read_bytes() for path in (tmp_path / "parts").rglob("*") if path.is_file()}
    assert len(files_of(run_in(tmp_path / "all"))) == 2


def test_a_missing_shard_is_named_and_exits_3(tmp_path: Path, capsys: Capture) -> None:
    for index in (0, 2):
        ran("run", *ORACLE, "--shard", f"{index}/3", "--out", tmp_path)
    capsys.readouterr()
    assert ran("merge", tmp_path) == 3
    told = capsys.readouterr().err
    assert "batches are not answered, first: 3 (shards there: 0-of-3, 2-of-3)" in told
    assert not list(tmp_path.rglob("record.json"))
    assert not list(tmp_path.rglob(SAMPLES))


def test_parts_at_odds_are_refused(tmp_path: Path, capsys: Capture) -> None:
    one, two = shards(tmp_path, 2, apart=True)
    stack = next(two.rglob("stack.json"))
    stack.write_text(stack.read_text().replace('"backend": "oracle"', '"backend": "other"'))
    assert ran("merge", one, two) == 3
    assert "stack.backend: was" in capsys.readouterr().err
    shutil.rmtree(two)
    assert ran("run", *ORACLE, "--shard", "0/2", "--out", two) == 0
    path = next(two.rglob("samples-0-of-2.jsonl"))
    path.write_bytes(path.read_bytes().replace(b'"tokens":', b'"tokens": '))
    assert ran("merge", one, two) == 3
    assert "hold different answers to one shard" in capsys.readouterr().err


def test_a_longer_copy_of_a_shard_takes_the_place_of_a_shorter_one(tmp_path: Path) -> None:
    one, two = shards(tmp_path, 2, apart=True)
    own = next(one.rglob("spec.json")).parent
    other = next(two.rglob("samples-1-of-2.jsonl"))
    lines = other.read_bytes().splitlines(keepends=True)
    (own / other.name).write_bytes(b"".join(lines[:4]))
    assert ran("merge", one, two) == 0


def test_original_files_are_named_again(tmp_path: Path, capsys: Capture) -> None:
    data = textvqa_layout.original(tmp_path / "data", [textvqa_layout.record(n) for n in range(4)])
    flags = ("--task", "textvqa", "--backend", "oracle", "--data", str(data), "--batch-size", "1")
    (out,) = shards(tmp_path / "out", 2, apart=False, flags=flags)
    assert ran("merge", out) == 3
    assert "name it with --data PATH" in capsys.readouterr().err
    other = textvqa_layout.original(tmp_path / "other", [textvqa_layout.record(n) for n in range(2, 6)])
    assert ran("merge", out, "--data", other) == 3
    assert "data.digest: was" in capsys.readouterr().err
    assert ran("merge", out, "--data", other, "--data", data) == 0


@pytest.mark.parametrize("words", [[], ["nowhere"]])
def test_what_cannot_be_merged_is_a_usage_error(tmp_path: Path, words: list[object], capsys: Capture) -> None:
    assert ran("merge", *(words or [tmp_path])) == 2
    assert "run" in capsys.readouterr().err


def test_every_cell_of_a_sweep_in_shards(tmp_path: Path, capsys: Capture) -> None:
    flags = ("--backend", "oracle", "--task", "textvqa", "--limit", "40")
    words = ("sweep", *flags, "--out", tmp_path)
    for index in range(2):
        assert ran(*words, "--shard", f"{index}/2") == 0
        told = capsys.readouterr().out
        assert "0 of 1 cells done, 1 shard answered" in told
        assert "pgbench merge" in told
    assert ran("merge", tmp_path) == 0
    capsys.readouterr()
    assert ran(*words, "--shard", "1/2") == 0
    assert "1 of 1 cells done (1 of them before)" in capsys.readouterr().out
    assert ran(*words, "--shard", "1/2", "--engine", "local") == 2


def test_shards_without_a_batch_of_their_own_are_merged_too(tmp_path: Path) -> None:
    outs = shards(tmp_path, 12, apart=True)  # of ten batches
    assert ran("merge", *outs, "--out", tmp_path / "all") == 0
    assert ran("merge", *reversed(outs), "--out", tmp_path / "again") == 0


@pytest.mark.parametrize("held", [WHOLE, Shard(1, 2)], ids=["a run or a merge", "a shard"])
def test_what_is_being_written_is_not_merged(tmp_path: Path, capsys: Capture, held: Shard) -> None:
    one, two = shards(tmp_path, 2, apart=True)
    assert ran("merge", one) == 3
    target = next(one.rglob("spec.json")).parent
    lines = next(two.rglob("samples-*")).read_bytes().splitlines(keepends=True)
    (target / "samples-1-of-2.jsonl").write_bytes(b"".join(lines[:4]))  # the shard goes on
    before = {path.name: path.stat().st_ino for path in files_of(target)}
    with Lock(target / lock_of(held)):
        assert ran("merge", one, two) == 3
        assert "another process is writing it" in capsys.readouterr().err
    assert before == {path.name: path.stat().st_ino for path in files_of(target)}
    assert not list(tmp_path.rglob("record.json"))
    assert ran("merge", one, two) == 0
    assert not [path for path in target.iterdir() if path.name.startswith(".")]


def test_a_record_is_of_the_answers_beside_it(tmp_path: Path) -> None:
    """Answers of another writer would be read in their place."""
    done, part = tmp_path / "done", tmp_path / "part"
    shards(done, 2, apart=False)
    assert ran("merge", done) == 0
    record = run_in(done) / "record.json"
    record.write_text(record.read_text().replace('"started": "2', '"started": "1'))
    shards(part, 1, apart=False)
    before = [path.name for path in files_of(record.parent)]
    assert ran("merge", done, part) == 0
    assert [path.name for path in files_of(record.parent)] == before
    assert ran("merge", part, done) == 0
    assert '"started": "2' in (run_in(part) / "record.json").read_text()

"""`pgbench sweep` as its users meet it: one table, one document, exit codes, signals, a second process."""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kills import SLOW_FAILURES, slow_task
from sweeps import Shelf, asked

from pgbench import engines
from pgbench.cli import invoke
from pgbench.errors import CheckpointError
from pgbench.records import essence
from pgbench.report.replicates import of_replicates, replicates
from pgbench.report.sweep_json import of_swept as json_of
from pgbench.report.sweep_table import clock, of_swept
from pgbench.samples import read_lines
from pgbench.store import folder_of, read_begun, read_record
from pgbench.sweeping import work
from pgbench.sweeping.work import Swept, Told, sweep

ORACLE = ["--backend", "oracle", "--task", "textvqa", "--source", "demo", "--batch-size", "4"]
SECOND = """\
import dataclasses
from pgbench_tasks.textvqa import TASK as REAL
TASK = dataclasses.replace(REAL, name="second")
"""


def start(words: list[str], out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pgbench", "sweep", *words, "--out", str(out)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def lines_below(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.rglob("samples-*.jsonl"))


def wait_for(process: subprocess.Popen[str], out: Path, answers: int) -> None:
    limit = time.monotonic() + 60
    while lines_below(out) < answers and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.002)
    assert process.poll() is None


@pytest.fixture
def slow(tmp_path: Path) -> list[str]:
    """Two cells of 200 slow samples, five of which fail and are accepted."""
    words = list(slow_task(tmp_path, 0.004))
    (tmp_path / "second.py").write_text(SECOND)
    return [*words, "--task", str(tmp_path / "second.py"), "--source", "demo", "--batch-size", "4"]


def documents(out: Path) -> list[dict[str, object]]:
    folders = sorted(path.parent for path in out.rglob("record.json"))
    return [essence(record, read_lines(at)) for at in folders if (record := read_record(at)) is not None]


# Tables and documents


def test_flags_are_a_sweep_and_the_same_command_reports_it_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "second.py").write_text(SECOND)
    words = ["sweep", *ORACLE, "--task", str(tmp_path / "second.py"), "--limit", "20"]
    assert invoke([*words, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 of 2 cells done\n")
    assert "textvqa v1 val" in out
    assert "second v1 val" in out
    assert "100.00" in out
    assert "NO MODEL" in out
    assert "DEMO NUMBERS" in out
    assert invoke([*words, "--out", str(tmp_path / "out"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [cell["already_done"] for cell in document["cells"]] == [True, True]
    assert [cell["score"]["n"] for cell in document["cells"]] == [20, 20]
    assert {cell["state"] for cell in document["cells"]} == {"done"}


def test_a_cell_that_fails_is_listed_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "config.json").write_text('{"model_type": "llama"}')
    words = ["--checkpoint", str(bad), "--checkpoint", "tiny-gemma", "--task", "textvqa", "--source", "demo"]
    assert invoke(["sweep", *words, "--limit", "4", "--out", str(tmp_path / "out")]) == 3
    said = capsys.readouterr()
    assert said.out.startswith("1 of 2 cells done, 1 failed\n")
    assert "failed: textvqa · bad · bfloat16 (flags): bad is a 'llama' checkpoint" in said.out
    assert said.err.splitlines()[-1] == (
        "pgbench: 1 of 2 cells done, 1 failed; mend what failed, then give the same command"
    )


def begun_before(out: Path, run: Path) -> Path:
    """The folder of this run's cell as an earlier version began it, below `out`."""
    spec, _ = read_begun(run)
    folder = folder_of(out, replace(spec, batching=None))
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text("{}")
    return folder


@pytest.mark.parametrize(("command", "cells"), [("run", 1), ("sweep", 1), ("sweep", 2)])
def test_runs_of_an_earlier_versions_batches_are_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, cells: int
) -> None:
    (tmp_path / "second.py").write_text(SECOND)
    more = ["--task", str(tmp_path / "second.py")] if cells > 1 else []
    words = [command, *ORACLE, *more, "--limit", "20", "--json"]
    assert invoke([*words, "--out", str(tmp_path / "new")]) == 0
    assert "earlier version" not in capsys.readouterr().err
    out = tmp_path / "out"
    runs = sorted(path.parent for path in (tmp_path / "new").rglob("record.json"))
    assert len(runs) == cells
    before = [begun_before(out, run) for run in runs]
    assert invoke([*words, "--out", str(out)]) == 0
    (said,) = (line for line in capsys.readouterr().err.splitlines() if "earlier version" in line)
    stays = "in the batches of an earlier version, and"
    if cells == 1:
        assert said == f"pgbench: {before[0]} holds this cell {stays} stays as it is; this is a new run"
    else:
        assert said.endswith(f" and 1 more hold these cells {stays} stay as they are; these are new runs")
        assert any(said.startswith(f"pgbench: {folder} and") for folder in before)
    assert [[path.name for path in folder.iterdir()] for folder in before] == [["spec.json"]] * cells
    assert invoke([*words, "--out", str(out)]) == 0
    assert "earlier version" not in capsys.readouterr().err, "it was done"


def test_of_a_cell_that_did_not_begin_no_earlier_run_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["sweep", *ORACLE, "--limit", "20"]
    assert invoke([*words, "--out", str(tmp_path / "new")]) == 0
    (run,) = (path.parent for path in (tmp_path / "new").rglob("record.json"))
    begun_before(tmp_path / "out", run)

    def failing(*_: object) -> None:
        raise CheckpointError("it does not load")

    monkeypatch.setattr("pgbench.runner.run", failing)
    assert invoke([*words, "--out", str(tmp_path / "out")]) == 3
    said = capsys.readouterr()
    assert "it does not load" in said.out
    assert "earlier version" not in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to run; name a sweep file"),
        ([*ORACLE, "--engine", "slurm"], "unknown engine 'slurm'"),
        ([*ORACLE, "--workers", "2"], "--workers goes with --engine local or ray"),
        ([*ORACLE, "--shard", "0/2", "--dry-run"], "--dry-run is of whole cells; leave out --shard"),
        ([*ORACLE, "--engine", "local", "--address", "auto"], "--address goes with --engine ray"),
        ([*ORACLE, "--variant", "nope"], "nope"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert invoke(["sweep", *words, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_schema_is_printed_for_editors(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["sweep", "--schema"]) == 0
    assert "checkpoints" in json.loads(capsys.readouterr().out)["properties"]


def test_words_may_be_joined_by_commas_or_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--checkpoint", "tiny-gemma", "--task", "textvqa", "--source", "demo", "--quant", "none,8bit"]
    more = ["--quant", "4bit", "--limit", "4", "--dry-run", "--json"]
    assert invoke(["sweep", *words, *more, "--out", str(tmp_path)]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert [cell["quant"] for cell in cells] == ["none", "8bit", "4bit"]


def test_a_file_and_flags_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "sweep.yaml"
    recipe.write_text("defaults: {backend: oracle, source: demo, limit: 40}\ntasks: [textvqa]\n")
    assert invoke(["sweep", str(recipe), "--limit", "20", "--json", "--out", str(tmp_path / "out")]) == 0
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert cell["samples"] == 20
    assert cell["where"].endswith("sweep.yaml:2")


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_an_engine_is_given_the_cells_and_its_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    given: dict[str, Any] = {}

    class Module:
        @staticmethod
        def sweep(asked: Any, out: Path, **more: Any) -> Swept:
            given.update(more, asked=asked, out=out)
            return Swept(tuple(Told(one) for one in asked), "terminated")

    monkeypatch.setitem(sys.modules, f"pgbench.engines.{engine}", Module)
    monkeypatch.setattr(engines, engine, Module, raising=False)
    words = ["sweep", *ORACLE, "--engine", engine, "--workers", "3", "--no-reuse", "--out", str(tmp_path)]
    assert invoke([*words, *(["--address", "auto"] if engine == "ray" else [])]) == 3
    assert (given["workers"], given.get("address")) == (3, "auto" if engine == "ray" else None)
    assert [cell.reuse for cell in given["asked"]] == [False]
    assert {"watch", "stop"} <= set(given)
    assert "terminated; 0 of 1 cells done, 1 not begun; the same command goes on" in capsys.readouterr().err


# Replicates


def recipes(out: Path, names: str, hits: dict[str, int]) -> tuple[Told, ...]:
    """One recipe, trained with several seeds; `hits`: answers of 20 that each gets right."""
    from fakes import Fake

    def make(name: str) -> Fake:
        right = iter(range(1000))
        return Fake(answer=lambda sample_id: truth[sample_id] if next(right) - 4 < hits[name] else "none")

    probe = sweep([asked()], out / "probe").cells[0]
    truth = {line.id: line.output for line in read_lines(probe.folder or out)}
    cells = [asked(name, replicate="mine") for name in names]
    return sweep(cells, out / "out", engine_of=Shelf(make)).cells


def test_replicates_are_a_mean_and_a_deviation_over_seeds(tmp_path: Path) -> None:
    (one,) = replicates(recipes(tmp_path, "abc", {"a": 20, "b": 10, "c": 0}))
    assert one.recipe == one.spec.checkpoint.id == "mine"
    assert len(one.values) == 3
    assert one.mean == pytest.approx(statistics.fmean(one.values))
    assert one.sd == pytest.approx(statistics.stdev(one.values))
    assert one.values[0] > one.values[1] > one.values[2]
    table = of_replicates([one])
    assert table.rows[0][4:] == (f"{100 * (one.mean or 0):.2f}", f"{100 * (one.sd or 0):.2f}", "3", "20")


def test_one_seed_has_no_deviation_and_missing_ones_are_told(tmp_path: Path) -> None:
    cells = recipes(tmp_path, "ab", {"a": 20, "b": 20})
    (one,) = replicates([cells[0], replace(cells[1], record=None, state="failed")])
    assert (one.sd, len(one.values), one.asked) == (None, 1, 2)
    assert of_replicates([one]).rows[0][5:7] == ("none", "1 of 2")
    unopened = replace(cells[1], record=None, spec=None, state="failed")
    (one,) = replicates([cells[0], unopened])
    assert (one.asked, len(one.values)) == (2, 1)
    other = replace(unopened, asked=replace(unopened.asked, limit=3))
    assert [found.asked for found in replicates([cells[0], other])] == [1]


def test_only_cells_that_differ_in_the_checkpoint_alone_are_one_row(tmp_path: Path) -> None:
    cells = recipes(tmp_path, "ab", {"a": 20, "b": 20})
    other = cells[1]
    assert other.spec is not None
    limited = replace(other, spec=replace(other.spec, limit=None))
    assert len(replicates([cells[0], limited])) == 2
    assert replicates([replace(cell, asked=asked("a")) for cell in cells]) == []


def test_a_quantized_checkpoint_with_another_dtype_is_another_row(tmp_path: Path) -> None:
    (told,) = sweep([asked("a")], tmp_path, engine_of=Shelf()).cells
    assert told.spec is not None
    rest = [
        replace(
            told, spec=replace(told.spec, checkpoint=replace(told.spec.checkpoint, quant="4bit", dtype=dtype))
        )
        for dtype in ("bfloat16", "float32")
    ]
    assert [row[2] for row in of_swept(Swept(tuple(rest))).rows] == ["4bit", "4bit, float32"]


def test_reused_answers_are_a_column_where_there_are_any(tmp_path: Path) -> None:
    (told,) = sweep([asked("a")], tmp_path, engine_of=Shelf()).cells
    assert told.record is not None
    assert "reused" not in of_swept(Swept((told,))).columns
    taken = replace(told, record=replace(told.record, cost=replace(told.record.cost, reused=7)))
    table = of_swept(Swept((taken, replace(told, record=None))))
    assert [row[table.columns.index("reused")] for row in table.rows] == ["7", ""]


def test_batches_that_went_in_parts_are_a_note_and_in_the_json(tmp_path: Path) -> None:
    (told,) = sweep([asked("a")], tmp_path, engine_of=Shelf()).cells
    assert told.record is not None
    parted = replace(told, record=replace(told.record, cost=replace(told.record.cost, halved=1)))
    said = "1 batch did not fit into memory and went in parts"
    (note,) = (note for note in of_swept(Swept((told, parted))).notes if said in note)
    assert note.startswith("textvqa")
    document: dict[str, Any] = json_of(Swept((told, parted)))
    assert [said in cell["notes"] for cell in document["cells"]] == [False, True]


def test_durations_are_said_for_people() -> None:
    assert [clock(seconds) for seconds in (0.2, 59.6, 3599, 7260)] == [
        "0 s",
        "1 min 0 s",
        "59 min 59 s",
        "2 h 1 min",
    ]


# Signals and second processes


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (signal.SIGUSR1, "stopped at the end of a batch (SIGUSR1)"),
        (signal.SIGTERM, "terminated"),
        (signal.SIGINT, "interrupted"),
    ],
)
def test_a_signal_stops_it_and_the_same_command_goes_on(
    tmp_path: Path, slow: list[str], number: signal.Signals, word: str
) -> None:
    out = tmp_path / "out"
    process = start(slow, out)
    wait_for(process, out, 20)
    process.send_signal(number)
    said, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert err.splitlines()[-1] == (
        f"pgbench: {word}; 0 of 2 cells done, 1 stopped, 1 not begun; the same command goes on"
    )
    assert said.startswith("0 of 2 cells done, 1 stopped, 1 not begun\n")
    assert 20 <= lines_below(out) < 200
    assert lines_below(out) % 4 == 0
    assert list(out.rglob(".lock*")) == []
    again = start(slow, out)
    again.communicate(timeout=120)
    assert again.returncode == 0
    undisturbed = start(slow, tmp_path / "whole")
    undisturbed.communicate(timeout=120)
    assert documents(out) == documents(tmp_path / "whole")


def test_a_second_process_works_on_other_cells_and_says_who_holds_the_rest(
    tmp_path: Path, slow: list[str]
) -> None:
    out = tmp_path / "out"
    first = start(slow, out)
    wait_for(first, out, 8)
    os.kill(first.pid, signal.SIGSTOP)  # it holds its cell as long as the second one runs
    try:
        second = start(slow, out)
        said, err = second.communicate(timeout=60)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert second.returncode == 3
    assert said.startswith("1 of 2 cells done, 1 locked\n")
    assert f"another process is writing it (pid {first.pid} on {socket.gethostname()}" in said
    assert err.splitlines()[-1] == "pgbench: 1 of 2 cells done, 1 locked; the same command goes on"
    said, _ = first.communicate(timeout=120)
    assert first.returncode == 0
    assert said.startswith("2 of 2 cells done (1 of them before)\n")
    assert len(documents(out)) == 2
    assert json.loads((out / "sweep.json").read_text())["cells"][0]["state"] == "done"


def test_failures_that_were_accepted_are_in_the_table(
    tmp_path: Path, slow: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*slow[:-4], "--source", "demo", "--limit", "60", "--batch-size", "30"]
    assert invoke(["sweep", *words, "--json", "--out", str(tmp_path / "out")]) == 0
    failed = [cell["failed"] for cell in json.loads(capsys.readouterr().out)["cells"]]
    assert 0 < failed[0] <= SLOW_FAILURES
    assert failed[1] == 0


def test_the_serial_engine_is_the_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []

    def fake(asked: Any, out: Path, **more: Any) -> Swept:
        called.append(len(asked))
        return Swept(())

    monkeypatch.setattr(work, "sweep", fake)
    assert invoke(["sweep", *ORACLE, "--out", str(tmp_path)]) == 0
    assert called == [1]

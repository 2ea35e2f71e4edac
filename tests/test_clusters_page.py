"""The job script of docs/clusters.md does what the page says, on a Slurm that is not there."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from kills import SLOW_FAILURES, slow_task

from pgbench import store
from pgbench.merging import merge
from pgbench.recipe.asked import AskedCell
from pgbench.records import RunRecord, essence
from pgbench.samples import read_lines
from pgbench.sweeping import work
from pgbench.types import DataRequest, ModelRequest

PAGE = Path(__file__).parents[1] / "docs" / "clusters.md"
PATIENCE = 60.0  # seconds


@dataclasses.dataclass(frozen=True)
class Slurm:
    """A folder with the script, and programs that stand for Slurm's and write down what they are asked."""

    folder: Path

    @staticmethod
    def new(folder: Path) -> Slurm:
        script = next(code for code in _code() if "#SBATCH" in code)
        (folder / "pgbench.sbatch").write_text(script)
        for name, body in {
            "scontrol": f'echo "$@" >> {folder}/asked',
            "pgbench": f'exec {sys.executable} -m pgbench "$@"',
        }.items():
            program = folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(f"#!/bin/bash\n{body}\n")
            program.chmod(0o755)
        return Slurm(folder)

    def start(self, index: int, count: int, *flags: str) -> subprocess.Popen[str]:
        settings: Mapping[str, str] = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "SLURM_ARRAY_JOB_ID": "77",
            "SLURM_ARRAY_TASK_ID": str(index),
            "SLURM_ARRAY_TASK_COUNT": str(count),
        }
        words = ["bash", "pgbench.sbatch", *flags]
        return subprocess.Popen(
            words, cwd=self.folder, env=os.environ | settings, stderr=subprocess.PIPE, text=True
        )

    @property
    def requeued(self) -> str:
        path = self.folder / "asked"
        return path.read_text() if path.exists() else ""


def _code() -> list[str]:
    return re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def answers(out: Path, index: int, count: int) -> int:
    files = list(out.rglob(f"samples-{index}-of-{count}.jsonl"))
    return files[0].read_bytes().count(b"\n") if files else 0


def finished(process: subprocess.Popen[str]) -> int:
    said = process.communicate(timeout=PATIENCE)[1]
    if process.returncode not in (0, 3):
        pytest.fail(said)
    return process.returncode


def test_an_array_that_runs_out_of_time_comes_to_the_record_of_one_process(tmp_path: Path) -> None:
    slurm, out = Slurm.new(tmp_path), tmp_path / "out"
    task = slow_task(tmp_path, 0.01)
    flags = (*task, "--out", str(out))
    stopped = slurm.start(1, 2, *flags)
    limit = time.monotonic() + PATIENCE
    while answers(out, 1, 2) < 8 and time.monotonic() < limit:
        time.sleep(0.01)
    stopped.send_signal(signal.SIGUSR1)
    assert finished(stopped) == 3
    assert slurm.requeued == "requeue 77_1\n"
    assert 8 <= answers(out, 1, 2) < 100
    parts = [slurm.start(index, 2, *flags) for index in (0, 1)]
    assert [finished(part) for part in parts] == [0, 0]
    assert slurm.requeued == "requeue 77_1\n"  # by nothing but the signal
    (merged,) = merge([out], task_files=[task[1]])
    asked = AskedCell(task[1], ModelRequest(), DataRequest(""), backend="oracle", max_failures=SLOW_FAILURES)
    (whole,) = work.sweep([asked], tmp_path / "whole").cells
    assert whole.folder is not None
    assert result(store.read_record(merged.folder), merged.folder) == result(whole.record, whole.folder)


def result(record: RunRecord | None, folder: Path) -> dict[str, object]:
    assert record is not None
    return essence(record, read_lines(folder))


def test_an_error_puts_nothing_back_into_the_queue(tmp_path: Path) -> None:
    slurm = Slurm.new(tmp_path)
    process = slurm.start(0, 2, "--task", "textvqq")
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert slurm.requeued == ""


@pytest.mark.parametrize("number", range(len(_code())))
def test_the_shell_reads_every_script(number: int) -> None:
    subprocess.run(["bash", "-n"], input=_code()[number], text=True, check=True)

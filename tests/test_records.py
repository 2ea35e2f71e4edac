"""Records that earlier versions wrote stay readable: one folder per schema, never regenerated."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgbench import store
from pgbench.cli import invoke
from pgbench.samples import read_lines

STORED = sorted((Path(__file__).parent / "records").iterdir())


@pytest.mark.parametrize("folder", STORED, ids=lambda folder: folder.name)
def test_a_stored_record_reads_back(folder: Path) -> None:
    record = store.read_record(folder)
    assert record is not None
    score = record.scores[record.primary]
    lines = list(read_lines(folder))
    assert len(lines) == record.data.selected == score.n == 4
    assert score.value == sum(line.stats[record.primary]["sum"] for line in lines) / score.n
    assert all(line.image and line.request_key and line.prompt for line in lines)
    assert record.spec.key == record.key, "fields that came later are no part of it"
    assert not any(line.likelihoods for line in lines)


@pytest.mark.parametrize("folder", STORED, ids=lambda folder: folder.name)
def test_a_stored_record_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["show", str(folder), "--wrong", "1"]) == 0
    assert "LIMITED to 4 of 200 samples" in capsys.readouterr().out


def test_there_is_a_record_of_the_present_schema() -> None:
    assert f"schema-{store.SCHEMA}" in [folder.name for folder in STORED]

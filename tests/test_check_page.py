"""docs/ci.md: its workflow, its baseline and its rules do what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from pgbench.check import asking
from pgbench.check.findings import VERDICTS
from pgbench.cli import invoke

PAGE = (Path(__file__).parents[1] / "docs" / "ci.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)


def commands() -> list[list[str]]:
    """What the workflow runs of pgbench."""
    (job,) = yaml.safe_load(blocks("yaml")[0])["jobs"].values()
    runs = [shlex.split(step["run"]) for step in job["steps"] if "run" in step]
    return [words[3:] for words in runs if words[:3] == ["python", "-m", "pgbench"]]


def test_the_workflow_passes_against_its_own_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yaml").write_text(blocks("yaml")[1])
    made, saved = (shlex.split(line)[1:] for line in blocks("sh")[0].splitlines())
    run, check = commands()
    assert made == run
    few = ["--limit", "8"]  # not the 200, for the time
    assert [invoke(command) for command in ([*made, *few], saved, check)] == [0, 0, 0]
    assert re.search(r"(?m)^ok +textvqa v1 val limit 8", capsys.readouterr().out)
    assert (tmp_path / "junit.xml").is_file()
    other = ["run", "--task", "textvqa", "--backend", "oracle", "--source", "demo", "--limit", "4"]
    assert invoke([*other, "--out", "other"]) == 0
    assert invoke([word if word != "runs" else "other" for word in check]) == 3
    assert "INCOMPARABLE" in capsys.readouterr().out


def test_the_rules_are_valid(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(blocks("yaml")[1])
    rules = asking.read(tmp_path / "rules.yaml")
    assert [rule.tolerance for rule in rules.file.rules] == [3.0, None, None]


def test_every_verdict_is_explained() -> None:
    assert [name for name in VERDICTS if f"\n| {name} |" not in PAGE] == []

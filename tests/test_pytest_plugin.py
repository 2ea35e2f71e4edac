"""The pytest plugin: the fixture, an item per verdict, and nothing loaded where it is not used."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import planted
import pytest

from pgbench.check.folders import check_folders

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
HEAVY = ("numpy", "scipy", "pandas", "torch", "transformers", "datasets", "junitparser", "yaml", "pydantic")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty samples, half of them lost in the candidate, and a cell that the candidate lacks."""
    out = tmp_path_factory.mktemp("runs")
    samples = planted.textvqa(40)
    gold = planted.gold("textvqa", samples)
    planted.plant(out / "a", samples, gold)
    planted.plant(out / "a", samples, gold, planted.checkpoint(quant="4bit"))
    planted.plant(out / "a", samples, gold, planted.checkpoint(quant="8bit"))
    planted.plant(out / "b", samples, planted.spoiled(gold, 20))
    planted.plant(out / "b", samples, gold, planted.checkpoint(quant="4bit"))
    (out / "rules.yaml").write_text("rules: []")
    check_folders(out / "a", out / "b", out / "rules.yaml")  # loads what a session in this process would drop
    return out


@pytest.fixture
def started(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """With this plugin alone, whether the installed pgbench names it or not."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p pgbench.pytest_plugin -W error")
    return pytester


def sides(runs: Path) -> list[str]:
    """With =, for else pytest takes the paths for tests when it looks for its settings."""
    return [f"--pgbench-baseline={runs / 'a'}", f"--pgbench-candidate={runs / 'b'}"]


def test_the_fixture(runs: Path, started: pytest.Pytester) -> None:
    started.makepyfile(
        f"""
        def test_findings(pgbench_check, tmp_path):
            rules = tmp_path / "rules.yaml"
            rules.write_text("rules: [{{match: {{quant: 8bit}}, ignore: later}}]")
            found = pgbench_check({str(runs / "a")!r}, {str(runs / "b")!r}, rules)
            assert [one.verdict for one in found] == ["regressed", "ok", "ignored"]
            assert (len(found), found.exit_code) == (3, 1)
        """
    )
    started.runpytest_inprocess().assert_outcomes(passed=1)


def test_an_item_per_verdict(runs: Path, started: pytest.Pytester) -> None:
    started.makepyfile("def test_own(): pass")
    result = started.runpytest_subprocess(*sides(runs), "-v", "-rs")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            "pgbench::textvqa v1 val * bfloat16: accuracy FAILED*",
            "pgbench::textvqa v1 val * 8bit FAILED*",
            "pgbench::textvqa v1 val * 4bit: accuracy PASSED*",
            "regressed: textvqa v1 val *: -50.00 points (*), a drop beyond the tolerance of 1.00 points*",
            "missing: textvqa v1 val *",
        ]
    )


def test_items_alone_with_rules_and_strict(runs: Path, started: pytest.Pytester) -> None:
    rules = started.path / "rules.yaml"
    rules.write_text("rules: [{match: {quant: none}, tolerance: 50}, {match: {quant: 8bit}, ignore: later}]")
    asked = [*sides(runs), f"--pgbench-rules={rules}"]
    started.runpytest_inprocess(*asked).assert_outcomes(passed=1, skipped=2)
    result = started.runpytest_inprocess(*asked, "--pgbench-strict", "-k", "bfloat16")
    result.assert_outcomes(failed=1, deselected=2)  # it cannot tell


def test_what_cannot_be_checked_stops_the_session(runs: Path, started: pytest.Pytester) -> None:
    result = started.runpytest_inprocess(f"--pgbench-baseline={runs}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*stand together; one is missing*"])
    (started.path / "bad.yaml").write_text("rulez: []")
    result = started.runpytest_inprocess(*sides(runs), "--pgbench-rules=bad.yaml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*bad.yaml:1:1: unknown key 'rulez'; did you mean rules?*"])


def test_a_worker_of_xdist_says_a_mistake_as_an_item(runs: Path, started: pytest.Pytester) -> None:
    """Where a worker stops the session itself, xdist shows a traceback of its own in place of the mistake."""
    started.makeconftest("def pytest_configure(config): config.workerinput = {}")
    (started.path / "bad.yaml").write_text("rulez: []\nmore: []")
    result = started.runpytest_inprocess(*sides(runs), "--pgbench-rules=bad.yaml")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["failed: usage: pgbench: bad.yaml: 2 mistakes; bad.yaml:1:1: unknown key*"])


def test_it_is_an_entry_point_that_loads_nothing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (name,) = project["entry-points"]["pytest11"].values()
    assert hasattr(import_module(name), "pgbench_check")
    program = f"import sys, {name}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

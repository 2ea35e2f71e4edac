"""The outputs of a check: what they say, and that no name or answer in them can do harm."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html import unescape
from pathlib import Path

import planted
import pytest
from junitparser import JUnitXml

from pgbench.check.findings import VERDICTS, Check, Finding, Measure, document, ordered
from pgbench.cli import invoke
from pgbench.report import github
from pgbench.report.check_table import of_check, sentence
from pgbench.report.junit import xml
from pgbench.report.render import terminal

HOSTILE = {
    "cdata": "]]><evil/>",
    "command": "::error::broken",
    "command of a second line": "x\n::error title=a::broken\r\n::set-output name=a::b",
    "old command": "a ##[error]broken",
    "ansi": "\x1b[31mred\x1b]0;title\x07",
    "illegal in xml": "a\x00b\x0bc\ufffed\udce9e",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "table": "a | b |\n| --- |\n| c",
    "markdown": "[click](https://evil.example) ![x](y) `c` **b** @everyone www.evil.example $x$ &lt;b&gt; #1",
    "bidi": "abc\u202edef\u2066",
    "percent": "100 %25 %0A::error::x",
}
MEASURE = Measure(
    "points", 0.975, 0.945, -0.03, 0.01, -0.036, -0.024, 0.05, 0.0001, 1.0, 5000, 2500, (0, 2), needed=None
)


def of(*findings: Finding, strict: bool = False, warnings: tuple[str, ...] = ()) -> Check:
    return Check(ordered(findings), len(findings), warnings, strict)


def each() -> Check:
    """A finding of every verdict."""
    return of(
        *(
            Finding(f"cell {n}", "accuracy", verdict, f"reason {n}", MEASURE if n % 2 else None)
            for n, verdict in enumerate(VERDICTS)
        )
    )


def hostile(text: str) -> Check:
    """Wherever a name or an answer can stand."""
    found = Finding(text, text, "regressed", text, MEASURE, notes=(text,))
    return of(
        found, Finding(text, text, "cannot tell", text), Finding("b", "", "failed", text), warnings=(text,)
    )


@pytest.fixture(params=list(HOSTILE.values()), ids=list(HOSTILE))
def text(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_terminal_is_not_steered(text: str) -> None:
    shown = terminal(of_check(hostile(text)))
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e\u2066\udce9]", shown) is None
    plain = Finding("a", "a", "regressed", "a", MEASURE, notes=("a",))
    harmless = of(
        plain, Finding("a", "a", "cannot tell", "a"), Finding("b", "", "failed", "a"), warnings=("a",)
    )
    assert shown.count("\n") == terminal(of_check(harmless)).count("\n")


def test_the_xml_is_read_back(text: str) -> None:
    written = xml(hostile(text))
    root = ET.fromstring(written)
    kinds = {element.tag for element in root.iter()}
    expected = "testsuites testsuite testcase failure error skipped system-out properties property"
    assert kinds == set(expected.split())
    assert re.search(r"[\x00-\x08\x0b-\x1f\ufffe\ud800-\udfff]", written) is None
    written.encode()


def test_an_annotation_is_one_command_a_line(text: str) -> None:
    lines = github.commands(hostile(text))
    assert len(lines) == 4
    for line in lines:
        assert len(line.splitlines()) == 1
        kind, message = re.fullmatch(r"::(error|warning) title=[^:,\r\n]*::(.*)", line).groups()  # type: ignore[union-attr]
        assert kind
        assert "##[" not in line
        assert re.search(r"%(?!25|0A|0D)", message) is None
    assert not any(line.lstrip().startswith("::error") for line in lines[2:])


def test_a_log_line_is_no_command(text: str) -> None:
    for line in terminal(of_check(hostile(text))).splitlines():
        assert not line.lstrip().startswith("::")
        assert "##[" not in line


def test_the_summary_is_text_in_a_table(text: str) -> None:
    lines = github.summary(hostile(text)).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert [row.count("|") for row in rows] == [9] * 5
    assert len(lines) == len(github.summary(hostile("a")).splitlines())
    words = "\n".join(lines[4:])
    assert re.search(r"[<>`\[\]!@$\\\x00-\x09\x0b-\x1f]|&(?!#[0-9]+;)|www\.|https:", words) is None


def test_text_in_the_summary_reads_as_it_was() -> None:
    (row,) = [
        line for line in github.summary(of(Finding("a_b <i> | c", "", "ok", ""))).splitlines() if "a&" in line
    ]
    assert unescape(row).startswith("| ok | a_b <i> | c | the cell |")


def test_json_keeps_the_text(text: str) -> None:
    kept = json.loads(json.dumps(document(hostile(text))))
    assert {one["reason"] for one in kept["findings"]} == {text}


def test_junit_counts() -> None:
    whole = JUnitXml.fromstring(xml(each()).encode())
    assert (whole.tests, whole.failures, whole.errors, whole.skipped) == (10, 1, 3, 4)
    strict = JUnitXml.fromstring(xml(Check(each().findings, 10, (), strict=True)).encode())
    assert (strict.failures, strict.skipped) == (2, 3)


def test_every_finding_is_in_every_output() -> None:
    found = each()
    shown = terminal(of_check(found))
    for n, verdict in enumerate(VERDICTS):
        said = sentence(Finding(f"cell {n}", "accuracy", verdict, f"reason {n}"))
        assert (said in shown) == (verdict != "ok")
        assert f"cell {n}" in shown
        assert f"cell {n}" in github.summary(found)
    row = next(line for line in shown.splitlines() if line.startswith("FAILED"))
    assert row.split("accuracy")[1].split() == [
        "97.50", "94.50", "-3.00", "(-3.60", "to", "-2.40)", "1.00", "5,000,", "failed", "0/2",
    ]  # fmt: skip


def test_figures_of_memory_and_speed() -> None:
    memory = Measure("bytes", 3 << 30, 4 << 30, -1 / 3, 0.1)
    speed = Measure("samples/s", 1200.0, 1100.0, -1 / 12, 0.1)
    rows = of_check(
        of(Finding("a", "peak memory", "ok", "", memory), Finding("a", "samples/s", "ok", "", speed))
    ).rows
    assert rows[0][3:] == ("3.00 GiB", "4.00 GiB", "-33.33 %", "10.00 %", "")
    assert rows[1][3:] == ("1,200.00", "1,100.00", "-8.33 %", "10.00 %", "")


def test_github_shows_ten_annotations_of_a_kind() -> None:
    many = of(*(Finding(f"cell {n}", "", "failed", "why") for n in range(30)))
    lines = github.commands(many)
    assert len(lines) == 10
    assert lines[-1] == "::error title=pgbench check::21 more, see the log"
    assert len(github.commands(of(*many.findings[:10]))) == 10


def test_a_large_summary_stays_below_the_limit() -> None:
    many = of(*(Finding(f"cell {n}", "accuracy", "regressed", "why" * 30, MEASURE) for n in range(3000)))
    text = github.summary(many)
    assert len(text.encode()) < 1 << 20
    assert "2,000 more findings are in the log" in text


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty samples of a checkpoint with a bad name, and the same wrong."""
    out = tmp_path_factory.mktemp("runs")
    samples = planted.textvqa(40)
    gold = planted.gold("textvqa", samples)
    point = planted.checkpoint("::error::x ##[error]|<b>\x1b[31m")
    planted.plant(out / "a", samples, gold, point)
    planted.plant(out / "b", samples, planted.spoiled(gold, 20), point)
    return out


def test_the_command_on_github(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["check", "--baseline", str(runs / "a"), "--candidate", str(runs / "b")]
    files = ["--junit", str(tmp_path / "junit.xml"), "--summary", str(tmp_path / "summary.md")]
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert invoke([*asked, *files]) == 1
    assert "::error title" not in capsys.readouterr().out
    step = tmp_path / "step.md"
    step.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert invoke([*asked, "--github", "off"]) == 1
    assert "::error title" not in capsys.readouterr().out
    assert step.read_text() == "before\n"
    assert invoke(asked) == 1
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if "::" in line and line.startswith("::")] == [
        line
        for line in out.splitlines()
        if line.startswith("::error title=pgbench%3A regressed%3A textvqa v1 val")
    ]
    assert "##[" not in out
    assert "\x1b" not in out
    assert step.read_text() == "before\n" + (tmp_path / "summary.md").read_text()
    assert JUnitXml.fromfile(str(tmp_path / "junit.xml")).failures == 1
    assert invoke([*asked, "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["exit_code"] == 1
    assert "::error title" in said.err
    assert "##[" not in said.out + said.err


def test_a_step_summary_that_cannot_be_written_is_no_verdict(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "step.md"))
    asked = ["check", "--baseline", str(runs / "a"), "--candidate", str(runs / "b"), "--github", "on"]
    assert invoke([*asked, "--junit", str(tmp_path / "junit.xml")]) == 1
    assert "warning: no step summary: No such file" in capsys.readouterr().err
    assert (tmp_path / "junit.xml").is_file()


def test_a_file_that_cannot_be_written(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["check", "--baseline", str(runs / "a"), "--candidate", str(runs / "b")]
    assert invoke([*asked, "--junit", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "1 regressed" in said.out
    assert len(said.err.splitlines()) == 1

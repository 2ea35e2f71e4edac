"""What a newcomer meets: messages that say what to do next, and lists that are not silently empty."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import docci_layout
import mmvp_layout
import pope_layout
import pytest

from pgbench.cli import invoke

Capture = pytest.CaptureFixture[str]


def run_of(capsys: Capture, task: str, data: Path, *more: str, code: int = 0) -> Path:
    asked = ["run", "--task", task, "--source", "files", "--data", str(data), "--json", *more]
    assert invoke(asked) == code
    return Path(json.loads(capsys.readouterr().out)["run"])


def shown(capsys: Capture, *arguments: str) -> str:
    assert invoke(["show", *arguments]) == 0
    return capsys.readouterr().out


def answers(path: Path, said: dict[str, str]) -> str:
    path.write_text(json.dumps(said))
    return str(path)


def test_the_worst_answers_are_shown_where_a_metric_is_no_mean(tmp_path: Path, capsys: Capture) -> None:
    """POPE counts outcomes: random-1 asks for a yes and gets a no."""
    data = pope_layout.original(tmp_path / "pope")
    said = {
        f"{setting}-{n}": ("no" if n % 2 == 0 or (setting, n) == ("random", 1) else "yes")
        for setting in ("random", "popular", "adversarial")
        for n in range(1, 13)
    }
    file = answers(tmp_path / "pope.json", said)
    run = run_of(capsys, "pope", data, "--backend", "replay", "--predictions", file, "--out", str(tmp_path))
    text = shown(capsys, str(run), "--wrong", "3")
    assert "random-1  accuracy 0\n" in text
    assert text.count("answered: ") == 1


def test_the_worst_answers_are_shown_where_the_primary_metric_is_of_pairs(
    tmp_path: Path, capsys: Capture
) -> None:
    data = mmvp_layout.original(tmp_path / "mmvp", [mmvp_layout.row(n) for n in range(1, 5)])
    file = answers(tmp_path / "mmvp.json", {str(n): "neither" for n in range(1, 5)})
    run = run_of(capsys, "mmvp", data, "--backend", "replay", "--predictions", file, "--out", str(tmp_path))
    assert shown(capsys, str(run), "--wrong", "3").count("  accuracy 0\n") == 3
    assert invoke(["show", str(run), "--wrong", "3", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["wrong"]) == 3


def test_the_worst_captions_are_shown(tmp_path: Path, capsys: Capture) -> None:
    data = docci_layout.original(tmp_path / "docci", [docci_layout.record(n) for n in range(3)])
    run = run_of(capsys, "docci", data, "--backend", "oracle", "--out", str(tmp_path / "best"))
    assert shown(capsys, str(run), "--wrong", "3").endswith("no answer scored below full marks\n")
    file = answers(tmp_path / "docci.json", {f"test_{n:05d}": "xyz" for n in range(3)})
    run = run_of(capsys, "docci", data, "--backend", "replay", "--predictions", file, "--out", str(tmp_path))
    assert shown(capsys, str(run), "--wrong", "2").count("  chrf ") == 2


def test_a_run_without_references_points_to_submit(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "1.ppm").write_bytes(b"P6 8 8 255 " + bytes(192))
    data = tmp_path / "mine.jsonl"
    data.write_text('{"id": 1, "image": "1.ppm", "prompt": "caption en"}\n')
    run = run_of(capsys, "custom", data, "--backend", "oracle", "--out", str(tmp_path))
    (tmp_path / "lacks.jsonl").write_text('{"id": 1, "image": "2.ppm", "prompt": "caption en"}\n')
    assert invoke(["data", "check", "--task", "custom", "--data", str(tmp_path / "lacks.jsonl")]) == 3
    assert "without their picture: mend the data, or run it" in capsys.readouterr().err
    text = shown(capsys, str(run), "--wrong", "2")
    assert "not scored: 1; pgbench submit RUN writes a test server's file" in text
    assert "no sample has references; the answers are in samples-*.jsonl" in text
    data.write_text(data.read_text() + '{"id": 2, "image": "1.ppm", "question": "x?", "answer": "y"}\n')
    run = run_of(capsys, "custom", data, "--backend", "oracle", "--out", str(tmp_path / "more"))
    assert "not scored: 1\n" in shown(capsys, str(run))


def test_captions_have_no_questions_and_that_is_fine(tmp_path: Path, capsys: Capture) -> None:
    data = docci_layout.original(tmp_path / "docci", [docci_layout.record(n) for n in range(3)])
    assert invoke(["data", "check", "--task", "docci", "--data", str(data)]) == 3
    assert "empty questions" not in capsys.readouterr().out


def test_a_task_file_is_shown_as_a_shipped_task_is(tmp_path: Path, capsys: Capture) -> None:
    page = (Path(__file__).parents[1] / "docs" / "adding-a-task.md").read_text(encoding="utf-8")
    path = tmp_path / "colours.py"
    path.write_text(page.split("```python\n")[1].split("```")[0])
    assert invoke(["tasks", str(path)]) == 0
    text = capsys.readouterr().out
    assert "Colours of squares (v1)" in text
    assert "cite" not in text, "an empty citation"
    assert invoke(["tasks", str(path), "--markdown"]) == 0
    assert "[colours](#colours)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "(see pgbench run --help)"),
        (["nes"], "Missing command. (see pgbench nes --help)"),
        (["data"], "Missing command. (see pgbench data --help)"),
        (["rnu"], "(see pgbench --help)"),
        (["report", "runs", "--layout"], "requires an argument. (see pgbench report --help)"),
        (["nes", "sheet", "run", "--out"], "requires an argument. (see pgbench nes sheet --help)"),
        (["tasks", "./nowhere.py"], "nowhere.py does not exist"),
        (["fetch", "--task", "custom"], "pgbench tasks custom says what it reads"),
        (["submit", "nowhere"], "name a run as it was printed"),
        (["show", "."], "name one as a run prints it"),
    ],
)
def test_a_mistake_says_what_to_do(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err + captured.out


def test_answers_that_lack_are_completed_not_started_in_another_folder(
    tmp_path: Path, capsys: Capture
) -> None:
    data = pope_layout.original(tmp_path / "pope")
    file = answers(tmp_path / "few.json", {"random-1": "yes"})
    asked = ["--task", "pope", "--data", str(data), "--predictions", file, "--out", str(tmp_path / "o")]
    assert invoke(["score", *asked]) == 3
    assert "complete the answers and score them again, or accept them with" in capsys.readouterr().err


def test_the_card_names_the_test_server(capsys: Capture) -> None:
    assert invoke(["tasks", "vqav2"]) == 0
    text = capsys.readouterr().out
    assert "server   EvalAI challenge 830" in text
    assert "pgbench submit takes --split test, testdev" in text


def test_the_list_of_commands_is_in_whole_sentences(capsys: Capture) -> None:
    """typer cuts a docstring that is too long for the line."""
    assert invoke(["--help"]) == 0
    commands = capsys.readouterr().out.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    assert len(commands) > 8
    assert [line for line in commands if "..." in line] == []


def test_a_reader_that_leaves_is_no_regression() -> None:
    """More than a pipe holds, so that the writing itself fails and not the flush at the end."""
    words = [sys.executable, "-m", "pgbench", "published"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert "published numbers" in writer.stdout.readline()
        writer.stdout.close()
        assert writer.wait(timeout=60) == 0
        assert writer.stderr is not None
        assert writer.stderr.read() == ""

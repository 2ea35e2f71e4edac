"""What a run folder or a neighbour could pass off as this run's number, and what a plugin may do to us."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pgbench import store
from pgbench.cli import invoke
from pgbench.samples import SAMPLES

Capture = pytest.CaptureFixture[str]

TASK = """
from pgbench import Dataset, Image, Metric, Pixels, Sample, Task, mean

def image(number):
    return Image(f"{{number}}.ppm", lambda: b"P6 1 1 255 ABC")

def samples(request):
    {source}
    found = tuple(Sample(str(n), (image(n),), "what?", "yes", cluster=str(n)) for n in range(20))
    return Dataset(found, "digest", "made up")

def stat(unit):
    {stat}
    return {{"sum": {worth}, "n": 1.0, "invalid": 0.0}}

def prompt(sample, profile, variant):
    {prompt}
    return "answer en what?"

TASK = Task(
    name="mine", version=1, title="t", sources={sources}, splits={{"val": 20}}, prompt=prompt,
    gold=lambda sample: "yes", metrics={metrics}, pixels=Pixels(antialias=True, text_len=32),
    max_new_tokens={tokens}, cite="", licence="",
)
"""
PARTS = {
    "source": "pass",
    "stat": "pass",
    "prompt": "pass",
    "worth": "1.0",
    "sources": '{"files": samples}',
    "metrics": '(Metric("m", stat, mean, "tests"),)',
    "tokens": "8",
}


@pytest.fixture
def mine(tmp_path: Path) -> Callable[..., list[str]]:
    """Writes the task file and gives the command that runs it with the oracle."""

    def write(**parts: str) -> list[str]:
        (tmp_path / "mine.py").write_text(TASK.format(**PARTS | parts))
        task, out = str(tmp_path / "mine.py"), str(tmp_path / "out")
        return ["run", "--task", task, "--backend", "oracle", "--out", out]

    return write


def folder_of(tmp_path: Path) -> Path:
    return next((tmp_path / "out" / "mine").iterdir())


def error(capsys: Capture) -> str:
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1, captured.err
    return captured.err


def test_an_edited_task_is_not_already_done(mine: Callable[..., list[str]], capsys: Capture) -> None:
    assert invoke(mine()) == 0
    assert "100.00" in capsys.readouterr().out
    assert invoke(mine(worth="0.25")) == 2
    assert "task: was" in error(capsys)


@pytest.mark.parametrize("lost", ["spec.json", "stack.json"])
def test_answers_without_their_papers_are_refused_and_kept(
    mine: Callable[..., list[str]], tmp_path: Path, capsys: Capture, lost: str
) -> None:
    assert invoke(mine()) == 0
    folder = folder_of(tmp_path)
    before = (folder / SAMPLES).read_bytes()
    (folder / "record.json").unlink()
    (folder / lost).unlink()
    capsys.readouterr()
    assert invoke(mine()) in (2, 3)
    assert f"holds answers and no {lost}" in error(capsys)
    assert (folder / SAMPLES).read_bytes() == before


def test_a_damaged_first_line_costs_no_answer(
    mine: Callable[..., list[str]], tmp_path: Path, capsys: Capture
) -> None:
    assert invoke(mine()) == 0
    samples = folder_of(tmp_path) / SAMPLES
    (samples.parent / "record.json").unlink()
    damaged = b"{" + samples.read_bytes()
    samples.write_bytes(damaged)
    capsys.readouterr()
    assert invoke(mine()) == 2
    assert "is damaged at byte 0 and" in error(capsys)
    assert samples.read_bytes() == damaged


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"stats":{"m":{"sum":1.0,', '"stats":{"other":{"sum":1.0,'),
        ('"stats":{"m":{"sum":1.0,', '"stats":{"m":{"sum":"a",'),
        ('"seconds":', '"seconds":"x","error2":'),
        ('"output":"yes"', '"output":7'),
    ],
)
def test_lines_of_the_wrong_kind_are_no_answers(
    mine: Callable[..., list[str]], tmp_path: Path, capsys: Capture, old: str, new: str
) -> None:
    assert invoke(mine()) == 0
    samples = folder_of(tmp_path) / SAMPLES
    (samples.parent / "record.json").unlink()
    text = samples.read_text()
    assert old in text
    samples.write_text(text.replace(old, new, 1))
    capsys.readouterr()
    assert invoke(mine()) in (2, 3)
    assert "unexpected" not in error(capsys)


def test_other_pictures_under_the_same_names_are_not_already_done(tmp_path: Path, capsys: Capture) -> None:
    from PIL import Image

    data = tmp_path / "data"
    (data / "train_images").mkdir(parents=True)
    record = {"question_id": 1, "question": "what?", "image_id": "0a", "answers": ["red"] * 10}
    (data / "TextVQA_0.5.1_val.json").write_text(json.dumps({"data": [record]}))
    picture = data / "train_images" / "0a.jpg"
    Image.new("RGB", (8, 8), (200, 0, 0)).save(picture)
    run = [
        "run",
        "--task",
        "textvqa",
        "--model",
        "tiny-gemma",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "out"),
    ]
    assert invoke(run) == 0
    Image.new("RGB", (8, 8), (0, 0, 200)).save(picture)
    capsys.readouterr()
    assert invoke(run) == 2
    assert "the image of sample 1 has changed since it was answered" in error(capsys)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"prompt": "return {}['boo']"}, "task mine, sample"),
        ({"prompt": "return None"}, "AttributeError"),
        ({"stat": "raise KeyError('boo')"}, "metric m, sample"),
        ({"source": "raise KeyError('boo')"}, "task mine, source files: KeyError: 'boo' (mine.py, line "),
        ({"source": "return None"}, "gave a NoneType; expected a pgbench.Dataset"),
        ({"sources": "{}"}, "TASK needs a source"),
        ({"metrics": "()"}, "TASK needs metrics"),
        ({"metrics": '(Metric("m", stat, mean, "a"), Metric("m", stat, mean, "b"))'}, "a name of its own"),
        ({"tokens": "0"}, "max_new_tokens of 1 or more"),
    ],
)
def test_a_faulty_task_is_told_as_the_tasks_fault(
    mine: Callable[..., list[str]], capsys: Capture, parts: dict[str, str], expected: str
) -> None:
    assert invoke(mine(**parts)) == 2
    said = error(capsys)
    assert expected in said
    assert "please report" not in said


def test_json_stays_pure_whatever_prints(mine: Callable[..., list[str]]) -> None:
    command = mine(source="import os; os.write(1, b'from a C library\\n'); print('from Python')")
    done = run_as_program([*command, "--json"])
    assert done.returncode == 0
    assert json.loads(done.stdout)["record"]["status"] == "complete"
    assert "from a C library" in done.stderr


@pytest.mark.parametrize("closing", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_regression(mine: Callable[..., list[str]], closing: str) -> None:
    words = [sys.executable, "-m", "pgbench", *mine()]
    quoted = " ".join(f"'{word}'" for word in words)
    done = subprocess.run(["sh", "-c", f"{quoted} {closing}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_output_is_said(mine: Callable[..., list[str]]) -> None:
    words = " ".join(f"'{word}'" for word in [sys.executable, "-m", "pgbench", *mine()])
    done = subprocess.run(["sh", "-c", f"{words} >/dev/full"], capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)


def test_a_terminal_without_unicode_gets_escapes(mine: Callable[..., list[str]]) -> None:
    done = run_as_program(mine(), PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "\\u2500" in done.stdout
    done = run_as_program([*mine(), "--json"], PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)["already_done"] is True


def run_as_program(arguments: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pgbench", *arguments]
    environment = os.environ | variables
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("split", ["test-std", "valXYZ", "va", "Val"])
def test_no_split_is_guessed(split: str, capsys: Capture) -> None:
    assert invoke(["run", "--task", "textvqa", "--backend", "oracle", "--split", split]) == 2
    assert f"unknown split of textvqa '{split}'" in error(capsys)


def test_a_limit_needs_only_its_own_images(tmp_path: Path, capsys: Capture) -> None:
    data = tmp_path / "data"
    (data / "train_images").mkdir(parents=True)
    records = [
        {"question_id": n, "question": "what?", "image_id": f"{n:04}", "answers": ["red"] * 10}
        for n in range(9)
    ]
    (data / "TextVQA_0.5.1_val.json").write_text(json.dumps({"data": records}))
    command = [
        "run",
        "--task",
        "textvqa",
        "--backend",
        "oracle",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "o"),
    ]
    assert invoke([*command, "--limit", "2", "--max-failures", "2", "--json"]) == 0
    chosen = [failure["sample_id"] for failure in json.loads(capsys.readouterr().out)["record"]["failures"]]
    shutil.rmtree(tmp_path / "o")
    for number in chosen:
        (data / "train_images" / f"{int(number):04}.jpg").write_bytes(b"there")
    assert invoke([*command, "--limit", "2"]) == 0
    assert invoke([*command, "--limit", "3"]) == 2
    assert "1 of 3 samples name an image that is not there" in capsys.readouterr().err


def test_the_stack_names_our_own_code(mine: Callable[..., list[str]], tmp_path: Path) -> None:
    assert invoke(mine()) == 0
    record = store.read_record(folder_of(tmp_path))
    assert record is not None
    assert len(record.stack.versions["pgbench code"]) == 64
    assert len(record.stack.versions["task"]) == 64

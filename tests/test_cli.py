"""The command line as a user meets it: one line for a mistake, exit codes that mean something."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from pgbench.cli import invoke

Capture = pytest.CaptureFixture[str]
ORACLE = ["run", "--task", "textvqa", "--backend", "oracle"]


def one_line(capsys: Capture) -> str:
    """The single line on stderr; stdout must be empty."""
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert "Traceback" not in lines[0]
    assert lines[0].startswith("pgbench: ")
    return lines[0]


def png(width: int = 8, height: int = 8) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that declares 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


@pytest.fixture
def textvqa(tmp_path: Path) -> Callable[[dict[str, bytes | None]], Path]:
    """A folder in the original layout; image id -> file content, None for a file that is not there."""

    def make(images: dict[str, bytes | None]) -> Path:
        folder = tmp_path / "textvqa"
        (folder / "train_images").mkdir(parents=True)
        records = []
        for number, (image, content) in enumerate(images.items()):
            if content is not None:
                (folder / "train_images" / f"{image}.jpg").write_bytes(content)
            records.append(
                {
                    "question_id": 34602 + number,
                    "question": "what does the sign say?",
                    "image_id": image,
                    "answers": ["stop"] * 10,
                }
            )
        (folder / "TextVQA_0.5.1_val.json").write_text(json.dumps({"data": records}))
        return folder

    return make


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--task", "textvqq"], "unknown task 'textvqq'; did you mean textvqa?"),
        (["run", "--task", "textvqa", "--quant", "4bits"], "unknown quant '4bits'; did you mean 4bit"),
        (["run", "--task", "textvqa", "--dtype", "bf16"], "unknown dtype 'bf16'"),
        (["run", "--task", "textvqa", "--model", "tiny-gema2"], "did you mean tiny-gemma2"),
        (["run", "--task", "textvqa", "--model", "paligemma2-3b-mix-448"], "google/paligemma2-3b-mix-448"),
        (["run", "--task", "textvqa", "--model", "./nowhere"], "no folder ./nowhere"),
        (["run", "--task", "textvqa", "--model", "google/paligemma2-3b-mix-448"], "is not in the cache"),
        (["run", "--task", "textvqa", "--backend", "orcale"], "did you mean oracle"),
        (["run", "--task", "textvqa", "--source", "hubb"], "did you mean hub"),
        (
            ["run", "--task", "textvqa", "--split", "vla", "--backend", "oracle"],
            "unknown split of textvqa 'vla'",
        ),
        (["run", "--task", "textvqa", "--variant", "x", "--backend", "oracle"], "unknown variant"),
        (["run", "--task", "textvqa", "--prompt-style", "x"], "unknown prompt style"),
        (["run", "--task", "./my_task.py"], "./my_task.py does not exist"),
        (["run", "--task", "textvqa", "--source", "files", "--backend", "oracle"], "--data"),
        (["run", "--task", "textvqa", "--data", "nowhere", "--backend", "oracle"], "nowhere does not exist"),
        (["run", "--task", "textvqa", "--source", "hub", "--backend", "oracle"], "lmms-lab/textvqa"),
        (["run", "--task", "textvqa", "--backend", "replay"], "--predictions"),
        (["run", "--task", "textvqa", "--batch-size", "0"], "--batch-size"),
        (["run", "--task", "textvqa", "--limit", "none"], "--limit"),
        (["run", "--task", "textvqa", "--bach-size", "1"], "--batch-size"),
        (["run"], "--task"),
        (["rnu"], "run"),
        (["show", "nowhere"], "nowhere is no run folder"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(arguments) == 2
    assert expected in one_line(capsys)
    assert not list(tmp_path.rglob("*.json*")), "something was half-written"


def test_a_device_that_is_not_there(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["run", "--task", "textvqa", "--device", "cuda:63", "--out", str(tmp_path)]
    assert invoke(arguments) == 2
    assert "no device 'cuda:63' here; available: auto, cpu" in one_line(capsys)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_does_not_load_leaves_nothing(tmp_path: Path, capsys: Capture) -> None:
    broken, out = tmp_path / "broken", tmp_path / "out"
    shutil.copytree(str(files("pgbench") / "demo" / "checkpoints" / "tiny-gemma2"), broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    arguments = ["run", "--task", "textvqa", "--source", "demo", "--model", str(broken), "--out", str(out)]
    assert invoke(arguments) == 2
    assert "cannot load broken" in one_line(capsys)
    assert not list(out.iterdir())


@pytest.mark.parametrize("flag", [["--model", "tiny-gemma"], ["--quant", "4bit"], ["--revision", "x"]])
def test_the_oracle_ignores_no_checkpoint_silently(flag: list[str], capsys: Capture) -> None:
    assert invoke([*ORACLE, *flag]) == 2
    assert "the oracle backend loads no checkpoint" in one_line(capsys)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "TextVQA_0.5.1_val.json"),
        ('{"data": [{"question_id": 1}]}', "missing"),
        ('{"data": []}', "empty list"),
    ],
)
def test_annotations_that_cannot_be_used(
    content: str, expected: str, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "train_images").mkdir()
    (tmp_path / "TextVQA_0.5.1_val.json").write_text(content)
    out = tmp_path / "out"
    assert invoke([*ORACLE, "--data", str(tmp_path), "--out", str(out)]) == 2
    assert expected in one_line(capsys)
    assert not out.exists()


def test_a_missing_image_is_told_before_the_run(
    textvqa: Callable[[dict[str, bytes | None]], Path], tmp_path: Path, capsys: Capture
) -> None:
    folder = textvqa({"00aa": png(), "00bb": None})
    arguments = [*ORACLE, "--data", str(folder), "--out", str(tmp_path / "out")]
    assert invoke(arguments) == 2
    assert "1 of 2 samples name an image that is not there, first: 00bb.jpg of sample 34603" in one_line(
        capsys
    )
    assert invoke([*arguments, "--max-failures", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["record"]["scores"]["accuracy"]["n"] == 2
    assert document["record"]["scores"]["accuracy"]["failed"] == 1
    assert document["record"]["scores"]["accuracy"]["value"] == 0.5


def test_broken_images_are_failed_samples(
    textvqa: Callable[[dict[str, bytes | None]], Path], tmp_path: Path, capsys: Capture
) -> None:
    whole = png(64, 64)
    broken = {"cut": whole[:60], "empty": b"", "text": b"<html>404</html>", "bomb": bomb()}
    folder = textvqa({"good": whole, **broken})
    arguments = ["run", "--task", "textvqa", "--model", "tiny-gemma2", "--dtype", "float32", "--json"]
    arguments += ["--data", str(folder), "--out", str(tmp_path / "out"), "--batch-size", "3"]
    assert invoke(arguments) == 3
    captured = capsys.readouterr()
    record = json.loads(captured.out)["record"]
    assert record["status"] == "failures"
    assert {failure["sample_id"] for failure in record["failures"]} == {"34603", "34604", "34605", "34606"}
    assert record["scores"]["accuracy"]["n"] == 5
    assert record["scores"]["accuracy"]["failed"] == 4
    assert "4 samples failed, 0 allowed" in captured.err
    assert str(tmp_path) not in json.dumps(record)
    assert invoke([*arguments, "--max-failures", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["already_done"] is True


def test_json_is_one_document_and_nothing_else(tmp_path: Path, capsys: Capture) -> None:
    assert invoke([*ORACLE, "--out", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["record"]["scores"]["accuracy"]["value"] == 1.0
    assert Path(document["run"], "record.json").is_file()
    assert document["already_done"] is False
    assert any("DEMO NUMBERS" in note for note in document["notes"])


def test_the_same_command_again_reports_done(tmp_path: Path, capsys: Capture) -> None:
    assert invoke([*ORACLE, "--out", str(tmp_path)]) == 0
    first = capsys.readouterr().out
    assert invoke([*ORACLE, "--out", str(tmp_path)]) == 0
    second = capsys.readouterr().out
    assert second == first.replace("record: ", "already done: ")


def test_the_table_says_what_it_is_of(tmp_path: Path, capsys: Capture) -> None:
    assert invoke([*ORACLE, "--out", str(tmp_path), "--limit", "20"]) == 0
    text = capsys.readouterr().out
    for part in ("textvqa v1 · val", "95 % interval", "100.00", "samples/s", "peak memory", "DEMO NUMBERS"):
        assert part in text
    assert "LIMITED to 20 of 200 samples" in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("record: ")) <= 110


def test_show_prints_the_record_and_the_worst_answers(tmp_path: Path, capsys: Capture) -> None:
    answers = tmp_path / "answers.json"
    assert invoke([*ORACLE, "--out", str(tmp_path), "--json"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["run"])
    lines = [json.loads(line) for line in (folder / "samples-0-of-1.jsonl").read_text().splitlines()]
    planted = {line["id"]: line["output"] for line in lines}
    planted[lines[3]["id"]] = "\x1b[31mwrong\x1b[0m"
    answers.write_text(json.dumps(planted))
    replay = ["run", "--task", "textvqa", "--backend", "replay", "--source", "demo"]
    assert invoke([*replay, "--predictions", str(answers), "--out", str(tmp_path / "replay"), "--json"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["run"])
    assert invoke(["show", str(folder), "--wrong", "5"]) == 0
    text = capsys.readouterr().out
    assert lines[3]["id"] in text
    assert "answered: \\x1b[31mwrong\\x1b[0m" in text
    assert "\x1b" not in text
    assert text.count("answered:") == 1
    assert invoke(["show", str(folder / "record.json"), "--wrong", "5", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [line["id"] for line in document["wrong"]] == [lines[3]["id"]]


@pytest.mark.parametrize("backend", ["oracle", "paligemma"])
def test_predictions_are_never_ignored(tmp_path: Path, capsys: Capture, backend: str) -> None:
    flags = ["--source", "demo", "--backend", backend, "--predictions", "x.json", "--out", str(tmp_path)]
    assert invoke(["run", "--task", "textvqa", *flags]) == 2
    assert "--predictions goes with --backend replay" in capsys.readouterr().err


def test_tasks_lists_splits_metrics_and_sources(capsys: Capture) -> None:
    assert invoke(["tasks"]) == 0
    text = capsys.readouterr().out
    assert "val (5,000)" in text
    assert "accuracy*, paper_accuracy" in text
    assert invoke(["tasks", "--json"]) == 0
    (entry,) = [entry for entry in json.loads(capsys.readouterr().out) if entry["name"] == "textvqa"]
    assert entry["splits"] == {"val": 5000, "test": 5734, "train": 34602}
    assert entry["sources"] == ["hub", "files", "demo"]


def test_an_unexpected_error_is_one_line_and_never_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def broken(*anything: object) -> object:
        raise RuntimeError("planted\nover two lines")

    monkeypatch.setattr("pgbench.store.read_record", broken)
    assert invoke(["show", str(tmp_path)]) == 3
    assert "unexpected RuntimeError: planted over two lines" in one_line(capsys)


def test_debug_shows_the_traceback() -> None:
    command = [sys.executable, "-m", "pgbench", "run", "--task", "textvqq", "--debug"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("pgbench: unknown task")


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m pgbench tasks --json | head -c 1",
        shell=True,  # the pipe is the point
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0
    assert done.stderr == ""

"""`pgbench submit`: the five formats, checked by rules written down here, and every refusal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cmmmu_layout
import gqa_layout
import mmmu_layout
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import textvqa_layout
import vqav2_layout
from pgbench_tasks import gqa, vqav2

from pgbench.cli import invoke
from pgbench.durable import write_pieces
from pgbench.errors import DataError
from pgbench.sources.blind import Blind, blind_set
from pgbench.submissions.gather import Index
from pgbench.submissions.write import json_array, json_object
from pgbench.types import DataRequest, Image, Sample

Capture = pytest.CaptureFixture[str]
HOSTILE = ' "quoted"\u2028\n[{"\ud800"}]\x1b[31m, \\ 路 '


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets-cache")
    monkeypatch.chdir(tmp_path)


# The five formats as their servers read them.


def vqa(text: str) -> dict[str, str]:
    """A JSON array of {"question_id": int, "answer": str}."""
    return array(text, "question_id", int, "answer")


def gqa_file(text: str) -> dict[str, str]:
    """A JSON array of {"questionId": str, "prediction": str}."""
    return array(text, "questionId", str, "prediction")


def array(text: str, name: str, kind: type, answer: str) -> dict[str, str]:
    rows = json.loads(text)
    assert type(rows) is list
    for row in rows:
        assert list(row) == [name, answer]
        assert (type(row[name]), type(row[answer])) == (kind, str)
    return once((str(row[name]), row[answer]) for row in rows)


def mmmu_file(text: str) -> dict[str, str]:
    """One JSON object of texts."""
    pairs = json.loads(text, object_pairs_hook=list)
    assert type(json.loads(text)) is dict
    assert {type(value) for _, value in pairs} == {str}
    return once(pairs)


def cmmmu_file(text: str) -> dict[str, str]:
    """JSON Lines of exactly {"id": int, "type": str, "response": str}."""
    rows = [json.loads(line) for line in text.splitlines()]
    for row in rows:
        assert list(row) == ["id", "type", "response"]
        assert type(row["id"]) is int
        assert row["type"] in ("选择", "判断", "填空")
        assert type(row["response"]) is str
    return once((str(row["id"]), row["response"]) for row in rows)


def once(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    listed = list(pairs)
    assert len(dict(listed)) == len(listed)
    return dict(listed)


def checked(path: Path, rule: Callable[[str], dict[str, str]]) -> dict[str, str]:
    data = path.read_bytes()
    assert data.isascii()  # graders open it in the encoding of their machine
    assert data.endswith(b"\n")
    return rule(data.decode())


@pytest.fixture
def run(tmp_path: Path, capsys: Capture) -> Callable[..., Path]:
    """A run by the oracle, or of given answers; its folder."""

    def made(
        task: str, data: Path, split: str, *more: str, said: dict[str, str] | None = None, code: int = 0
    ) -> Path:
        words = [
            "--task",
            task,
            "--data",
            str(data),
            "--split",
            split,
            "--out",
            str(tmp_path / "out"),
            "--json",
        ]
        start = ["run", "--backend", "oracle"]
        if said is not None:
            (tmp_path / "said.json").write_text(json.dumps(said))
            start = ["score", "--predictions", str(tmp_path / "said.json")]
        assert invoke([*start, *words, *more]) == code, capsys.readouterr().err
        return Path(json.loads(capsys.readouterr().out)["run"])

    return made


def submitted(capsys: Capture, *arguments: object) -> dict[str, Any]:
    assert invoke(["submit", *map(str, arguments), "--json"]) == 0, capsys.readouterr().err
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: Capture, *arguments: object) -> str:
    before = sorted(Path.cwd().iterdir())
    assert invoke(["submit", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if "writing" not in line]
    assert captured.out == ""
    assert len(lines) == 1, captured.err
    assert sorted(Path.cwd().iterdir()) == before
    return lines[0]


TEST_IDS = [262144000, 262144001, 262145000, 300000001]


@pytest.fixture
def vqa_data(tmp_path: Path) -> Path:
    questions = [vqav2_layout.question(number) for number in TEST_IDS]
    vqav2_layout.original(tmp_path / "vqa", questions, None, "test")
    return vqav2_layout.original(tmp_path / "vqa", questions[:2], None, "testdev")


def test_vqav2(vqa_data: Path, run: Callable[..., Path], capsys: Capture) -> None:
    said = {str(number): f"{HOSTILE}{number}" for number in TEST_IDS}
    folder = run("vqav2", vqa_data, "test", said=said)
    found = submitted(capsys, folder, "--data", vqa_data, "--out", "sent.json")
    assert checked(Path("sent.json"), vqa) == said  # as decoded: nothing is stripped
    assert (found["ids"], found["answered"], found["filled"], found["failed"], found["silent"]) == (
        4,
        4,
        0,
        0,
        0,
    )
    assert "830" in found["server"]


def test_test_dev_is_filled_only_when_asked(
    vqa_data: Path, run: Callable[..., Path], capsys: Capture
) -> None:
    folder = run("vqav2", vqa_data, "testdev", said={str(number): "down" for number in TEST_IDS[:2]})
    text = refused(capsys, folder, "--data", vqa_data, "--out", "sent.json")
    assert "missing ids, not asked in these runs: 2 (262145000, 300000001); answer them" in text
    assert "--fill-missing" in text
    assert (
        invoke(["submit", str(folder), "--data", str(vqa_data), "--out", "sent.json", "--fill-missing"]) == 0
    )
    output = capsys.readouterr().out
    assert '2 answers of 4 ids: sent.json\nwritten as "": 2 ids that no run asked, 0 that failed' in output
    assert "send it to: EvalAI challenge 830" in output
    assert "NO MODEL: answers of the replay backend" in output
    assert checked(Path("sent.json"), vqa) == dict(
        zip(map(str, TEST_IDS), ["down", "down", "", ""], strict=True)
    )


def test_failed_samples_are_listed(vqa_data: Path, run: Callable[..., Path], capsys: Capture) -> None:
    (vqa_data / "test2015" / "COCO_test2015_000000300000.jpg").unlink()
    folder = run("vqav2", vqa_data, "test", "--max-failures", "1")
    text = refused(capsys, folder, "--data", vqa_data, "--out", "sent.json")
    assert "failed ids, asked and without an answer: 1 (300000001)" in text
    found = submitted(capsys, folder, "--data", vqa_data, "--out", "sent.json", "--fill-missing")
    assert (found["answered"], found["filled"], found["failed"], found["silent"]) == (3, 0, 1, 3)
    assert checked(Path("sent.json"), vqa) == dict.fromkeys(map(str, TEST_IDS), "")


def test_surplus_ids_are_listed(vqa_data: Path, run: Callable[..., Path], capsys: Capture) -> None:
    more = [vqav2_layout.question(number) for number in range(1000, 1012)]
    vqav2_layout.original(vqa_data, more, None, "testdev")
    folder = run("vqav2", vqa_data, "testdev")
    text = refused(capsys, folder, "--data", vqa_data, "--out", "sent.json", "--fill-missing")
    assert "surplus ids, of no sample of v2_OpenEnded_mscoco_test2015_questions.json: 12 (10" in text
    assert len(text.partition(": 12 (")[2].split(", ")) == 11  # ten ids and "...)"
    assert text.endswith(", ...)")


def test_questions_that_changed(vqa_data: Path, run: Callable[..., Path], capsys: Capture) -> None:
    folder = run("vqav2", vqa_data, "test")
    changed = [vqav2_layout.question(number, question="Why?") for number in TEST_IDS]
    vqav2_layout.original(vqa_data, changed, None, "test")
    assert "was asked other questions" in refused(capsys, folder, "--data", vqa_data, "--out", "sent.json")


def test_textvqa(tmp_path: Path, run: Callable[..., Path], capsys: Capture) -> None:
    records = [textvqa_layout.record(39602, answers=...), textvqa_layout.record(39603, answers=[""] * 10)]
    data = textvqa_layout.original(tmp_path / "d", records, "test")
    said = {"39602": HOSTILE, "39603": "Coca Cola."}
    folder = run("textvqa", data, "test", said=said)
    submitted(capsys, folder, "--data", data, "--out", "sent.json")
    assert checked(Path("sent.json"), vqa) == said
    copy = textvqa_layout.parquet(tmp_path / "copy" / "test-00000-of-00001.parquet", records).parent
    folder = run("textvqa", copy, "test", "--source", "hub", said=said)
    assert "name its place with --data" in refused(capsys, folder, "--out", "copy.json")
    submitted(capsys, folder, "--data", copy, "--out", "copy.json")
    assert checked(Path("copy.json"), vqa) == said


def test_mmmu(tmp_path: Path, run: Callable[..., Path], capsys: Capture) -> None:
    rows = [
        mmmu_layout.row("test_Accounting_1", answer="?"),
        mmmu_layout.row("test_Accounting_2", answer="?"),
        mmmu_layout.row("test_Math_14", answer="?", question_type="open", options="[]"),
        mmmu_layout.row("test_Math_15", answer="?"),
    ]
    data = mmmu_layout.parquet(tmp_path / "d", rows, "test-00000-of-00001.parquet")
    said = {
        "test_Accounting_1": "I would say (C), not (D).",
        "test_Accounting_2": "no idea",
        "test_Math_14": f" free{HOSTILE}text",
        "test_Math_15": "D",
    }
    folder = run("mmmu", data, "test", said=said)
    found = submitted(capsys, folder, "--data", data, "--out", "sent.json")
    letters = {"test_Accounting_1": "D", "test_Accounting_2": "", "test_Math_15": "D"}
    assert checked(Path("sent.json"), mmmu_file) == {**said, **letters}
    assert (found["silent"], found["answered"]) == (1, 4)
    assert "2026-02-12" in found["server"]
    first = Path("sent.json").read_bytes()
    submitted(capsys, folder, "--data", data, "--out", "sent.json", "--overwrite")
    assert Path("sent.json").read_bytes() == first  # nothing is drawn


def test_cmmmu(tmp_path: Path, run: Callable[..., Path], capsys: Capture) -> None:
    records = [
        cmmmu_layout.record(1902, answer=...),
        cmmmu_layout.record(12, type="填空", answer=..., category="商业"),
        cmmmu_layout.record(7, type="判断", answer="?"),
    ]
    data = cmmmu_layout.original(tmp_path / "d", records, "test")
    said = {"1902": "D", "12": f"-474.04{HOSTILE}", "7": "对"}
    folder = run("cmmmu", data, "test", said=said)
    submitted(capsys, folder, "--data", data)
    (path,) = Path.cwd().glob("cmmmu-test-*.jsonl")
    assert checked(path, cmmmu_file) == said
    kinds = {row["id"]: row["type"] for row in map(json.loads, path.read_text().splitlines())}
    assert kinds == {1902: "选择", 12: "填空", 7: "判断"}


TIERS = ("val", "testdev", "test", "challenge")


def gqa_data(folder: Path) -> tuple[Path, dict[str, str]]:
    """The questions of four tiers, two each, one of them balanced; and an answer for every id."""
    whole: dict[str, gqa_layout.Record] = {}
    for number, tier in enumerate(TIERS):
        asked = {
            f"0{number}{place}": gqa_layout.record(
                f"n{number}", f"Which {place}?", "red", isBalanced=not place
            )
            for place in (0, 1)
        }
        blind = {
            key: {name: one[name] for name in ("imageId", "question", "isBalanced")}
            for key, one in asked.items()
        }
        whole |= blind
        gqa_layout.original(folder, asked if number < 2 else blind, f"{tier}_all_questions")
    gqa_layout.original(folder, whole, "submission_all_questions")
    return folder, {key: f"{HOSTILE}{key}" for key in whole}


def test_gqa_joins_four_splits(tmp_path: Path, run: Callable[..., Path], capsys: Capture) -> None:
    data, said = gqa_data(tmp_path / "g")
    folders = [run("gqa", data, f"{tier}_all", said=said) for tier in TIERS]
    found = submitted(capsys, *folders, "--data", data, "--out", "sent.json")
    assert checked(Path("sent.json"), gqa_file) == said
    assert (found["ids"], found["answered"], len(found["runs"])) == (8, 8, 4)
    assert "in these runs: 2 (030, 031)" in refused(
        capsys, *folders[:3], "--data", data, "--out", "other.json"
    )
    assert "a second time" in refused(capsys, *folders, folders[0], "--data", data, "--out", "other.json")
    whole = run("gqa", data, "submission_all", said=said)
    submitted(capsys, whole, "--data", data, "--out", "whole.json")
    assert checked(Path("whole.json"), gqa_file) == said
    balanced = run("gqa", data, "test", said=said)
    found = submitted(capsys, balanced, "--data", data, "--out", "balanced.json", "--fill-missing")
    assert (found["answered"], found["filled"]) == (1, 7)


def test_other_models_are_not_joined(tmp_path: Path, run: Callable[..., Path], capsys: Capture) -> None:
    data, said = gqa_data(tmp_path / "g")
    mine = run("gqa", data, "test_all", said=said)
    other = run("gqa", data, "challenge_all", said={**said, "020": "x"})
    assert "checkpoint.revision" in refused(capsys, mine, other, "--data", data, "--out", "sent.json")
    oracle = run("gqa", data, "challenge_all")
    assert "are not one model" in refused(capsys, mine, oracle, "--data", data, "--out", "sent.json")


def test_what_is_no_submission(
    tmp_path: Path, vqa_data: Path, run: Callable[..., Path], capsys: Capture
) -> None:
    limited = run("vqav2", vqa_data, "test", "--limit", "2")
    assert "limited to 2 samples" in refused(capsys, limited, "--data", vqa_data)
    numbers = [262148000]
    asked = [vqav2_layout.question(n) for n in numbers]
    vqav2_layout.original(vqa_data, asked, [vqav2_layout.annotation(n) for n in numbers])
    val = run("vqav2", vqa_data, "val")
    assert "split val of vqav2 is not submitted; its server takes --split test, testdev" in refused(
        capsys, val
    )
    assert (
        invoke(["run", "--task", "textvqa", "--backend", "oracle", "--split", "test", "--out", "demo"]) == 0
    )
    capsys.readouterr()
    (demo,) = Path("demo/textvqa").iterdir()
    assert "drawings of the demo" in refused(capsys, demo)
    data = gqa_data(tmp_path / "g")[0]
    assert "is no finished run" in refused(capsys, data)
    from pope_layout import original

    pope = run("pope", original(tmp_path / "p"), "test")
    assert (
        "pope has no test server; pgbench submit writes files of cmmmu, gqa, mmmu, textvqa, vqav2"
        in refused(capsys, pope)
    )
    done = run("vqav2", vqa_data, "test")
    assert "the files source needs --data DIR" in refused(capsys, done)
    Path("kept.json").write_text("mine")
    assert "kept.json is there already" in refused(capsys, done, "--data", vqa_data, "--out", "kept.json")
    assert Path("kept.json").read_text() == "mine"


def test_what_is_never_replaced(vqa_data: Path, run: Callable[..., Path], capsys: Capture) -> None:
    folder = run("vqav2", vqa_data, "test")
    kept = (folder / "record.json").read_bytes()
    for name, said in ((folder / "record.json", "in a run folder"), (Path("pipe"), "no plain file")):
        if not name.exists():
            os.mkfifo(name)
        assert said in refused(capsys, folder, "--data", vqa_data, "--out", name, "--overwrite")
    assert Path("pipe").is_fifo()
    assert (folder / "record.json").read_bytes() == kept


def test_a_run_given_as_this_folder(
    vqa_data: Path, run: Callable[..., Path], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run("vqav2", vqa_data, "test")
    monkeypatch.chdir(folder)
    assert submitted(capsys, ".", "--data", vqa_data)["file"] == f"vqav2-test-{folder.name}.json"
    assert invoke(["submit", ".", "--data", str(vqa_data), "--out", "a.json"]) == 0
    assert "INCOMPLETE SPLIT: 4 ids here, 447,793 as published" in capsys.readouterr().out


TASK_FILE = """
from dataclasses import replace
from pgbench_tasks import textvqa
TASK = replace(textvqa.TASK, name="mine")
"""


def test_a_task_given_as_a_file(tmp_path: Path, run: Callable[..., Path], capsys: Capture) -> None:
    file = tmp_path / "mine.py"
    file.write_text(TASK_FILE)
    data = textvqa_layout.original(tmp_path / "d", [textvqa_layout.record(39602, answers=...)], "test")
    folder = run(str(file), data, "test", said={"39602": "a"})
    said = refused(capsys, folder, "--data", data, "--out", "sent.json")
    assert "task mine, which is not installed; give its file: --task FILE.py" in said
    other = refused(capsys, folder, "--data", data, "--out", "sent.json", "--task", "vqav2")
    assert "is of task mine, and --task vqav2 is vqav2" in other
    submitted(capsys, folder, "--data", data, "--out", "sent.json", "--task", file)
    assert checked(Path("sent.json"), vqa) == {"39602": "a"}


def test_a_record_chooses_no_file_to_be_run(
    tmp_path: Path, vqa_data: Path, run: Callable[..., Path], capsys: Capture
) -> None:
    folder = run("vqav2", vqa_data, "test")
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    record = json.loads((folder / "record.json").read_text())
    record["spec"]["task"] = str(tmp_path / "evil.py")
    (folder / "record.json").write_text(json.dumps(record))
    assert "is not installed" in refused(capsys, folder, "--data", vqa_data)
    assert invoke(["show", str(folder), "--wrong", "1"]) == 0
    assert not (tmp_path / "ran").exists()


def test_a_file_stays_as_it_was_when_something_is_wrong(
    vqa_data: Path, run: Callable[..., Path], capsys: Capture
) -> None:
    folder = run("vqav2", vqa_data, "testdev")
    Path("kept.json").write_text("mine")
    refused(capsys, folder, "--data", vqa_data, "--out", "kept.json", "--overwrite")
    assert Path("kept.json").read_text() == "mine"
    assert list(Path.cwd().glob(".*")) == []


def test_a_killed_write_leaves_no_half_file(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom pgbench.durable import write_pieces\n"
        "def pieces():\n    yield b'x' * 999_999\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_pieces(Path(sys.argv[1]), pieces())\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.json")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "a.json").exists()
    write_pieces(tmp_path / "a.json", iter([b"whole"]))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.json"]


def test_empty_files_are_json() -> None:
    assert json.loads("".join(json_array(lambda one, text: {})([]))) == []
    assert json.loads("".join(json_object(lambda one, text: "")([]))) == {}


def image(name: str) -> Image:
    return Image(f"{name}.jpg", bytes)


def test_questions_in_columns_are_questions() -> None:
    asked = [("007", "n1", "Wörter?"), ("07", "n1", ""), ("7", "2", "路?")]
    data = blind_set(asked, image, {"n1.jpg"}, "x")
    assert [(one.id, one.images[0].name, one.question, one.cluster) for one in data.samples] == [
        ("007", "n1.jpg", "Wörter?", "n1"),
        ("07", "n1.jpg", "", "n1"),
        ("7", "2.jpg", "路?", "2"),
    ]
    assert data.samples[-1].id == "7"
    assert [one.id for one in data.samples[1:]] == ["07", "7"]
    assert data.missing == ("7",)
    with pytest.raises(IndexError):
        data.samples[3]
    with pytest.raises(DataError, match="id 7 occurs twice"):
        blind_set([*asked, asked[-1]], image, (), "x")
    with pytest.raises(DataError, match="holds no question"):
        blind_set([], image, (), "x")


class Same(str):
    """A text whose hash is that of every other one."""

    def __hash__(self) -> int:
        return 7


def test_ids_are_found_whatever_their_hash() -> None:
    samples = [Sample(Same(name), (), "", None) for name in ("a", "b", "c")]
    index = Index(samples)
    assert [index.find(Same(name)) for name in ("c", "a", "b", "d")] == [2, 0, 1, None]
    assert Index([]).find("a") is None


def test_gqa_from_a_copy_of_the_hub(tmp_path: Path) -> None:
    rows = [
        {"id": f"0{n}", "imageId": "n1" if n else "2", "question": "?", "isBalanced": True} for n in range(3)
    ]
    for kind, content in (
        ("instructions", pa.Table.from_pylist(rows)),
        (
            "images",
            pa.Table.from_pylist([{"id": "n1", "image": {"bytes": b"x", "path": None}}], gqa_layout.IMAGES),
        ),
    ):
        for stem in ("test_balanced", "submission_all"):
            path = tmp_path / "copy" / f"{stem}_{kind}" / f"{stem.split('_')[0]}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True)
            pq.write_table(content, path)
    for split in ("test", "submission_all"):
        data = gqa.TASK.sources["hub"](DataRequest(split, path=str(tmp_path / "copy")))
        assert [one.id for one in data.samples] == ["00", "01", "02"]
        assert data.samples[1].images[0].read() == b"x"
        assert (data.missing, data.samples[0].target) == (("00",), None)


def test_sizes_of_what_servers_want() -> None:
    parts = [gqa.SPLITS[f"{tier}_all"] for tier in TIERS]
    assert sum(parts) == gqa.SPLITS["submission_all"] == 4_237_524
    assert vqav2.SPLITS["test"] == 447_793


def test_millions_of_questions_take_little(tmp_path: Path) -> None:
    count = 50_000
    tracemalloc.start()
    samples = Blind(image)
    for number in range(count):
        samples.add(f"{number:08}", f"n{number % 500}", "What color is the thing to the left?")
    index = Index(samples)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert index.find("00012345") == 12345
    assert held / count < 120  # bytes; 4.2 million take half a gigabyte at most

"""`pgbench score`: every benchmark's own result file, the traps in them, and answers of no sample."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cmmmu_layout
import docci_layout
import gqa_layout
import mmmu_layout
import mmvp_layout
import pope_layout
import pytest
import scienceqa_layout
import textvqa_layout
import vqav2_layout
from pgbench_tasks import mmmu, mmvp, pope

from pgbench.cli import invoke
from pgbench.errors import DataError
from pgbench.metrics.pope import SETTINGS
from pgbench.records import essence
from pgbench.registry import load_task
from pgbench.samples import read_lines
from pgbench.store import read_record
from pgbench.submissions.read import read_files, surplus_note, whole_ids
from pgbench.types import DataRequest, Sample

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets-cache")


def written(path: Path, document: object) -> Path:
    """A JSON file, or JSON Lines where the name ends so."""
    if path.suffix == ".jsonl" and isinstance(document, list):
        path.write_text("".join(json.dumps(one) + "\n" for one in document), "utf-8")
    else:
        path.write_text(json.dumps(document), "utf-8")
    return path


def scored(capsys: Capture, *arguments: object, code: int = 0) -> dict[str, Any]:
    assert invoke(["score", *map(str, arguments), "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: Capture, *arguments: object) -> str:
    assert invoke(["score", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err


def value(document: dict[str, Any], metric: str = "accuracy") -> tuple[float, int, int]:
    score = document["record"]["scores"][metric]
    return score["value"], score["n"], score["failed"]


@pytest.fixture
def textvqa(tmp_path: Path) -> list[object]:
    records = [textvqa_layout.record(number, answers=["red"] * 10) for number in (1, 2, 3)]
    folder = textvqa_layout.original(tmp_path / "d", records)
    return ["--task", "textvqa", "--source", "files", "--data", folder, "--out", tmp_path / "out"]


RED = [{"question_id": number, "answer": "red"} for number in (1, 2, 3)]


def test_it_is_the_record_of_a_run(tmp_path: Path, textvqa: list[object], capsys: Capture) -> None:
    file = written(tmp_path / "mine.json", RED)
    mine = scored(capsys, *textvqa, "--predictions", file)
    assert value(mine) == (1.0, 3, 0)
    assert "surplus" not in mine
    assert mine["record"]["spec"]["checkpoint"]["id"] == "replay-mine"
    assert any("NO MODEL" in note for note in mine["notes"])
    run = ["run", *map(str, textvqa[:-1]), str(tmp_path / "run"), "--backend", "replay"]
    assert invoke([*run, "--predictions", str(file), "--json"]) == 0
    other = json.loads(capsys.readouterr().out)
    records = [(read_record(Path(one["run"])), read_lines(Path(one["run"]))) for one in (mine, other)]
    (first, lines), (second, others) = records
    assert first is not None
    assert second is not None
    assert essence(first, lines) == essence(second, others)
    assert first.key == second.key
    assert scored(capsys, *textvqa, "--predictions", file)["already_done"] is True


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("a.json", RED),
        ("a.jsonl", RED),
        ("a.json", {"1": "red", "2": "red", "3": "red"}),
        ("a.json", [{"id": str(number), "prediction": "red", "image_id": "x"} for number in (1, 2, 3)]),
    ],
)
def test_general_shapes(
    tmp_path: Path, textvqa: list[object], capsys: Capture, name: str, document: object
) -> None:
    found = scored(capsys, *textvqa, "--predictions", written(tmp_path / name, document), "--name", "x/y")
    assert value(found) == (1.0, 3, 0)
    assert found["record"]["spec"]["checkpoint"]["id"] == "replay-x/y"


def test_pictures_are_not_looked_at(tmp_path: Path, textvqa: list[object], capsys: Capture) -> None:
    for picture in (tmp_path / "d" / "train_images").iterdir():
        picture.unlink()
    found = scored(capsys, *textvqa, "--predictions", written(tmp_path / "a.json", RED))
    assert value(found) == (1.0, 3, 0)


@pytest.mark.parametrize("task", ["vqav2", "textvqa", "gqa", "pope", "mmvp", "scienceqa", "docci"])
def test_annotations_alone_are_enough(tmp_path: Path, task: str, capsys: Capture) -> None:
    folder = tmp_path / "d"
    if task == "vqav2":
        numbers = (262148000, 262148001)
        annotations = [vqav2_layout.annotation(number) for number in numbers]
        vqav2_layout.original(folder, [vqav2_layout.question(number) for number in numbers], annotations)
    elif task == "scienceqa":
        scienceqa_layout.original(folder, scienceqa_layout.PROBLEMS)
    else:
        layouts = {"textvqa": textvqa_layout, "gqa": gqa_layout, "pope": pope_layout, "docci": docci_layout}
        rows: list[object] = [[mmvp_layout.row(1), mmvp_layout.row(2)]] if task == "mmvp" else []
        rows = [[textvqa_layout.record(1), textvqa_layout.record(2)]] if task == "textvqa" else rows
        layouts.get(task, mmvp_layout).original(folder, *rows)
    for pictures in [one for one in folder.iterdir() if one.is_dir()]:
        shutil.rmtree(pictures)
    samples = load_task(task).sources["files"](DataRequest(next(iter(load_task(task).splits)), str(folder)))
    said = written(tmp_path / "a.json", {one.id: "yes" for one in samples.samples})
    common = ["--task", task, "--data", folder, "--out", tmp_path / "out"]
    assert scored(capsys, *common, "--predictions", said)["record"]["failures"] == []
    assert invoke(["run", *map(str, common), "--backend", "oracle"]) == 2
    assert f"add the images where pgbench tasks {task} says" in capsys.readouterr().err


def test_missing_answers_fail(tmp_path: Path, textvqa: list[object], capsys: Capture) -> None:
    file = written(tmp_path / "a.json", RED[:2])
    share, asked, failed = value(scored(capsys, *textvqa, "--predictions", file, code=3))
    assert (share, asked, failed) == (2 / 3, 3, 1)
    assert scored(capsys, *textvqa, "--predictions", file, "--max-failures", 1)["record"]["failures"] == [
        {"sample_id": "3", "reason": "no prediction for sample 3"}
    ]


def test_surplus_answers_are_told(tmp_path: Path, textvqa: list[object], capsys: Capture) -> None:
    extra = [{"question_id": f"\x1b[31m{number}", "answer": "red"} for number in range(5)]
    file = written(tmp_path / "a.json", [*RED, *extra])
    names = [one["question_id"] for one in extra]
    assert scored(capsys, *textvqa, "--predictions", file)["surplus"] == {"count": 5, "first": names}
    assert invoke(["score", *map(str, textvqa), "--predictions", str(file)]) == 0
    text = capsys.readouterr().out
    escaped = ", ".join(f"\\x1b[31m{number}" for number in range(3))
    assert f"5 answers belong to no sample of this split and were left out: {escaped}, ..." in text
    assert "\x1b" not in text


def test_files_that_are_refused(tmp_path: Path, textvqa: list[object], capsys: Capture) -> None:
    other = written(tmp_path / "a.json", {"9001": "red"})
    said = refused(capsys, *textvqa, "--predictions", other)
    assert "none of its 1 ids is in the split" in said
    assert "'9001'" in said
    assert "'1'" in said
    twice = written(tmp_path / "b.json", [*RED, RED[0]])
    assert "b.json: record 4 repeats the id 1" in refused(capsys, *textvqa, "--predictions", twice)
    red = written(tmp_path / "c.json", RED)
    more = written(tmp_path / "e.json", RED[2:])
    both = refused(capsys, *textvqa, "--predictions", red, "--predictions", more)
    assert "e.json: the id 3 is in an earlier file already" in both
    (tmp_path / "empty").mkdir()
    assert "holds no .json" in refused(capsys, *textvqa, "--predictions", tmp_path / "empty")
    assert "cannot read predictions" in refused(capsys, *textvqa, "--predictions", tmp_path / "gone")
    assert "--name is empty" in refused(capsys, *textvqa, "--predictions", red, "--name", " ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            '[{"id": 1, "answer": "gold", "prediction": "said"}]',
            "record 1 has both 'answer' and 'prediction'",
        ),
        ('[{"question_id": 1, "text": "a", "output": "b"}]', "record 1 has both 'output' and 'text'"),
        ('{"id": 2, "question_id": 1, "answer": "a"}', "record 1 has 'id' and 'question_id', which differ"),
        ('{"id": 1, "answer": 3}', "record 1: 'answer' should be text, got 3"),
        ('{"id": 1.0, "answer": "a"}', "record 1: 'id' should be text or a whole number, got 1.0"),
        (
            '[{"id": 1, "answer": "a"},\n {"id": 2, "answer": "a"}\n',
            "it is not JSON: Expecting ',' delimiter: line 3",
        ),
        ('{"id": 1, "answer": "a"}\n{"id": 2', "line 2 is not JSON"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=re.escape(f"a.json: {said}")):
        read_files(tmp_path / "a.json", (), None, [Sample("1", (), "", "gold")])


def test_two_names_of_one_id_and_ids_of_thousands_of_digits(tmp_path: Path) -> None:
    rows = [{"id": "01", "question_id": "01", "answer": "a"}, {"id": "9" * 5000, "answer": "b"}]
    found = read_files(written(tmp_path / "a.json", rows), (), whole_ids, [Sample("1", (), "", "gold")])
    assert found.by_id == {"1": "a", "9" * 5000: "b"}
    assert len(surplus_note(found.surplus)) < 200


def test_names_that_no_system_takes(tmp_path: Path, textvqa: list[object], capsys: Capture) -> None:
    assert "File name too long" in refused(capsys, *textvqa, "--predictions", "a" * 300)
    textvqa[textvqa.index("--data") + 1] = "a" * 300
    assert "File name too long" in refused(capsys, *textvqa, "--predictions", "a.json")


def test_several_files_are_one(tmp_path: Path, textvqa: list[object], capsys: Capture) -> None:
    (tmp_path / "all").mkdir()
    first, second = (
        written(tmp_path / "all" / name, rows) for name, rows in (("a.json", RED[:1]), ("b.jsonl", RED[1:]))
    )
    found = scored(capsys, *textvqa, "--predictions", first, "--predictions", second)
    assert value(found) == (1.0, 3, 0)
    folder = scored(capsys, *textvqa, "--predictions", tmp_path / "all")
    assert folder["record"]["spec"]["checkpoint"]["id"] == "replay-all"
    assert (
        folder["record"]["spec"]["checkpoint"]["revision"]
        == found["record"]["spec"]["checkpoint"]["revision"]
    )


def test_vqav2_and_gqa(tmp_path: Path, capsys: Capture) -> None:
    numbers = [262148000, 262148001]
    folder = vqav2_layout.original(
        tmp_path / "v",
        [vqav2_layout.question(n) for n in numbers],
        [vqav2_layout.annotation(n, answers=vqav2_layout.answers("down")) for n in numbers],
    )
    said = written(tmp_path / "v.json", [{"question_id": n, "answer": "down"} for n in numbers])
    common = ["--source", "files", "--out", tmp_path / "out"]
    assert value(scored(capsys, "--task", "vqav2", "--data", folder, "--predictions", said, *common)) == (
        1.0,
        2,
        0,
    )
    folder = gqa_layout.original(tmp_path / "g")
    answers = {key: str(one["answer"]) for key, one in gqa_layout.BALANCED.items()}
    said = written(tmp_path / "g.json", [{"questionId": k, "prediction": v} for k, v in answers.items()])
    assert value(scored(capsys, "--task", "gqa", "--data", folder, "--predictions", said, *common)) == (
        1.0,
        4,
        0,
    )


def test_mmvp_answer_is_the_reference(tmp_path: Path, capsys: Capture) -> None:
    folder = mmvp_layout.original(tmp_path / "d", [mmvp_layout.row(number) for number in range(1, 5)])
    rows = [
        {
            "question_id": n,
            "prompt": "p",
            "answer": "(a)" if n % 2 else "(b)",
            "response": "Closed",
            "model_id": "m",
        }
        for n in range(1, 5)
    ]
    common = ["--task", "mmvp", "--source", "files", "--data", folder, "--out", tmp_path / "out"]
    found = scored(capsys, *common, "--predictions", written(tmp_path / "a.jsonl", rows))
    lines = list(read_lines(Path(found["run"])))
    assert {line.output for line in lines} == {"Closed"}
    assert found["record"]["scores"][found["record"]["primary"]]["value"] == 0.0
    replay = ["run", *map(str, common), "--backend", "replay", "--json"]
    assert (
        invoke([*replay, "--predictions", str(tmp_path / "a.jsonl")]) == 0
    )  # the same door, the same answers
    assert json.loads(capsys.readouterr().out)["already_done"] is True
    del rows[2]["response"]
    said = refused(capsys, *common, "--predictions", written(tmp_path / "b.jsonl", rows))
    assert "record 3 has no 'response'" in said


def test_mmmu_letters_texts_and_the_authors_output(tmp_path: Path, capsys: Capture) -> None:
    rows = [mmmu_layout.row("validation_Accounting_1"), mmmu_layout.row("validation_Art_Theory_7")]
    folder = mmmu_layout.parquet(tmp_path / "d", rows)
    common = ["--task", "mmmu", "--source", "hub", "--data", folder, "--out", tmp_path / "out"]
    letters = written(
        tmp_path / "a.json", {"validation_Accounting_1": "B", "validation_Art_Theory_7": "(B) 8"}
    )
    assert value(scored(capsys, *common, "--predictions", letters)) == (1.0, 2, 0)
    output = [
        {"id": row["id"], "question_type": "multiple-choice", "answer": "B", "response": "C"} for row in rows
    ]
    found = scored(capsys, *common, "--predictions", written(tmp_path / "output.json", output))
    assert value(found, "plain_accuracy") == (0.0, 2, 0)
    assert mmmu.TASK.results is mmvp.TASK.results


@pytest.mark.parametrize("key", ["response", "answer"])
def test_cmmmu_joins_on_numbers(tmp_path: Path, capsys: Capture, key: str) -> None:
    records = [cmmmu_layout.record(1902), cmmmu_layout.record(12, type="填空", answer="-474.04")]
    folder = cmmmu_layout.original(tmp_path / "d", records)
    rows = [{"id": "01902", "type": "选择", key: "D"}, {"id": 12, "type": "填空", key: "-474.04"}]
    common = ["--task", "cmmmu", "--source", "files", "--data", folder, "--out", tmp_path / "out"]
    found = scored(capsys, *common, "--predictions", written(tmp_path / "a.jsonl", rows))
    assert value(found) == (1.0, 2, 0)
    both = written(tmp_path / "b.jsonl", [{"id": 1902, "type": "选择", "answer": "D", "response": "A"}])
    assert "record 1 has both" in refused(capsys, *common, "--predictions", both)
    twice = written(tmp_path / "c.jsonl", [*rows, {"id": 1902, "type": "选择", key: "D"}])
    assert "repeats the id 1902" in refused(capsys, *common, "--predictions", twice)


def test_scienceqa_outputs_are_the_answers(tmp_path: Path, capsys: Capture) -> None:
    folder = scienceqa_layout.original(tmp_path / "d", scienceqa_layout.PROBLEMS)
    right = {
        "4": "The answer is D.",
        "11": "The answer is E.",
        "10": "The answer is A.",
        "12": "The answer is B.",
    }
    common = ["--task", "scienceqa", "--source", "files", "--data", folder, "--out", tmp_path / "out"]
    wrong = dict.fromkeys(right, 2)
    file = written(tmp_path / "a.json", {"acc": 1.0, "results": wrong, "outputs": right})
    assert value(scored(capsys, *common, "--predictions", file)) == (1.0, 4, 0)
    plain = written(tmp_path / "b.json", right)
    assert value(scored(capsys, *common, "--predictions", plain)) == (1.0, 4, 0)
    bare = written(tmp_path / "c.json", {"results": wrong})
    assert "without 'outputs'" in refused(capsys, *common, "--predictions", bare)
    part = written(tmp_path / "e.json", {"results": wrong, "outputs": {"4": "A"}})
    assert "3 of the 'results' have no text in 'outputs', first 10" in refused(
        capsys, *common, "--predictions", part
    )


def pope_data(folder: Path) -> dict[str, list[dict[str, object]]]:
    """Three settings whose even questions differ; the authors' answers to each, all of them right."""
    asked = {
        setting: [
            pope_layout.record(n, **({} if n % 2 else {"text": f"Is there a {setting} {n} in the image?"}))
            for n in range(1, 13)
        ]
        for setting in SETTINGS
    }
    random, popular, adversarial = (asked[setting] for setting in SETTINGS)
    pope_layout.original(folder, random=random, popular=popular, adversarial=adversarial)
    return {
        setting: [{"question": one["text"], "answer": str(one["label"]).title()} for one in rows]
        for setting, rows in asked.items()
    }


@pytest.fixture
def common(tmp_path: Path) -> list[object]:
    return ["--task", "pope", "--source", "files", "--data", tmp_path / "d", "--out", tmp_path / "out"]


def pope_value(document: dict[str, Any]) -> tuple[float, float]:
    record = document["record"]
    groups = record["groups"]["setting"]
    metric = record["primary"]
    return record["scores"][metric]["value"], min(groups[name][metric]["value"] for name in SETTINGS)


def test_popes_own_files(tmp_path: Path, common: list[object], capsys: Capture) -> None:
    said = pope_data(tmp_path / "d")
    (tmp_path / "said").mkdir()
    files = [written(tmp_path / "said" / f"{9 - n}.json", said[name]) for n, name in enumerate(SETTINGS)]
    for one, name in zip(files, SETTINGS, strict=True):
        one.write_text(
            "".join(json.dumps(row) + "\n" for row in said[name]), "utf-8"
        )  # JSON Lines named .json
    flags = [part for file in files for part in ("--predictions", file)]
    assert pope_value(scored(capsys, *common, *flags)) == (1.0, 1.0)
    samples = pope.TASK.sources["files"](DataRequest("test", path=str(tmp_path / "d"))).samples
    right = {one.id: str(one.target).title() for one in samples}
    folder = read_files(tmp_path / "said", [], pope.TASK.results, samples)
    assert (folder.by_id, folder.stem, folder.surplus) == (right, "said", ())
    whole = [row for name in reversed(SETTINGS) for row in said[name]]
    assert pope.results(whole, samples) == right
    ids = [
        {"question_id": n, "category": name, "answer": row["answer"]}
        for name in SETTINGS
        for n, row in enumerate(said[name], 1)
    ]
    assert pope.results(ids, samples) == right
    asked = [{**one, "text": "Is there?", "label": "no"} for one in ids]  # the questions' file with answers
    assert pope.results(asked, samples) == right
    assert pope.results(right, samples) == right
    with pytest.raises(DataError, match="record 1: unknown setting 'odd'"):
        pope.results([{**one, "setting": "odd"} for one in ids], samples)
    short = said["popular"][:7]
    found = scored(capsys, *common, "--predictions", written(tmp_path / "s.jsonl", short), code=3)
    assert {line.id for line in read_lines(Path(found["run"])) if line.error is None} == {
        f"popular-{n}" for n in range(1, 8)
    }


def test_pope_pairs_nothing_by_place_alone(tmp_path: Path, common: list[object], capsys: Capture) -> None:
    said = pope_data(tmp_path / "d")["random"]

    def told(rows: list[dict[str, object]]) -> str:
        return refused(capsys, *common, "--predictions", written(tmp_path / "a.jsonl", rows))

    gap = told([*said[:4], *said[5:]])
    assert "record 5 answers 'Is there a random 6 in the image?', but question 5 of random is" in gap
    swapped = told([*said[:8], said[9], said[8], *said[10:]])
    assert "record 9 answers" in swapped
    assert "the questions from record 1 fit random and popular and adversarial alike" in told(said[:1])
    assert "record 14 answers" in told([*said, *said])
    assert "record 2 needs a question and an answer" in told([said[0], {"question": "x"}])


def test_pope_with_all_answered_twice() -> None:
    sample = Sample("random-1", (), "Is it?", "yes", groups={"setting": "random"})
    assert pope.results([{"question": " Is it? ", "answer": "Yes"}], [sample]) == {"random-1": "Yes"}
    with pytest.raises(DataError, match="record 2 is one too many"):
        pope.results([{"question": "Is it?", "answer": "Yes"}] * 2, [sample])
    with pytest.raises(DataError, match="record 2 is a list"):
        pope.results([{"question": "Is it?", "answer": "Yes"}, []], [sample])

"""Runs in the files of others: what each format's own reader finds in them."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import planted
import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from pgbench.cli import invoke
from pgbench.exports import Asked, gather, outputs
from pgbench.records import Stack
from pgbench.types import DataSource, Image, Sample

SCHEMAS = Path(__file__).parent / "schemas"
HUB = DataSource("hub", "MMVP/MMVP", "d" * 40)
PAIRS = planted.mmvp(300)  # all of the published split
QUESTIONS = planted.textvqa(40)
ORG = ("--organization", "A lab")
Export = Callable[..., Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells of one checkpoint on all of MMVP, from the hub, three of the second one's samples failed."""
    out = tmp_path_factory.mktemp("runs")
    answers = planted.spoiled(planted.gold("mmvp", PAIRS), 60)
    failed = dict.fromkeys(("1", "2", "9"), "the picture is no picture")
    planted.plant(out, PAIRS, answers, task="mmvp", source=HUB)
    point = planted.checkpoint(quant="4bit")
    planted.plant(out, PAIRS, answers, point, task="mmvp", source=HUB, failed=failed)
    return out


@pytest.fixture
def export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Export:
    """Export, expect success, and give back the place."""

    def carry_out(runs: Path, form: str, name: str = "out", *more: str) -> Path:
        assert invoke(["export", str(runs), "--format", form, "--out", str(tmp_path / name), *more]) == 0
        capsys.readouterr()
        return tmp_path / name

    return carry_out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    assert invoke(["export", *map(str, arguments)]) == code
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


def schema(name: str) -> Any:
    document = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert document["version"] == "0.3.0"
    return jsonschema.Draft7Validator(document)


def read(path: Path) -> Any:
    return json.loads(path.read_bytes())


def entries_of(path: Path) -> list[Any]:
    return list(parse_eval_result_entries(yaml.safe_load(path.read_bytes())))


def by_level(runs: Path) -> dict[str, Any]:
    return {run.record.spec.checkpoint.quant: run.record for run in gather([runs])[0]}


def test_every_eval_ever_is_what_its_schemas_ask_for(runs: Path, export: Export) -> None:
    out = export(runs, "every-eval-ever", "eee", *ORG)
    documents = sorted(out.glob("data/mmvp/google/paligemma-3b-mix-224/*.json"))
    assert len(documents) == 2
    for path in documents:
        found = read(path)
        schema("eval").validate(found)
        samples = path.with_name(f"{path.stem}_samples.jsonl")
        lines = [json.loads(line) for line in samples.read_bytes().splitlines()]
        for line in lines:
            schema("instance_level_eval").validate(line)
        about = found["detailed_evaluation_results"]
        assert out / about["file_path"] == samples
        assert about["checksum"] == hashlib.sha256(samples.read_bytes()).hexdigest()
        assert about["total_rows"] == len(lines) >= 300
        assert {line["evaluation_id"] for line in lines} == {found["evaluation_id"]}
        assert {line["model_id"] for line in lines} == {found["model_info"]["id"]}
        names = {result["evaluation_result_id"] for result in found["evaluation_results"]}
        assert {line["evaluation_result_id"] for line in lines} <= names


def test_every_eval_ever_has_the_records_numbers(runs: Path, export: Export) -> None:
    record = by_level(runs)["4bit"]
    out = export(runs, "every-eval-ever", "eee", *ORG, "--relationship", "third_party")
    found = [read(path) for path in out.rglob("*.json")]
    (ours,) = [one for one in found if one["model_info"]["additional_details"]["quant"] == "4bit"]
    assert ours["source_metadata"]["source_organization_name"] == "A lab"
    assert ours["source_metadata"]["evaluator_relationship"] == "third_party"
    result = next(one for one in ours["evaluation_results"] if one["evaluation_result_id"] == "accuracy")
    score, details = record.scores["accuracy"], result["score_details"]
    assert details["score"] == score.value
    assert details["details"]["failed"] == "3"
    assert "3 failed, first: " in details["details"]["notes"]
    bounds = details["uncertainty"]["confidence_interval"]
    assert (bounds["lower"], bounds["upper"], bounds["confidence_level"]) == (score.low, score.high, 0.95)
    assert details["uncertainty"]["standard_error"]["value"] == score.stderr
    assert result["source_data"]["hf_repo"] == "MMVP/MMVP"


def test_the_lines_of_samples_average_to_the_score(runs: Path, export: Export) -> None:
    record = by_level(runs)["4bit"]
    out = export(runs, "every-eval-ever", "eee", *ORG)
    rows = [json.loads(line) for path in out.rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    ours = [row for row in rows if row["evaluation_id"].endswith(record.key[:8])]
    scores = [row["evaluation"]["score"] for row in ours if row["evaluation_result_id"] == "accuracy"]
    assert len(scores) == 300
    assert sum(scores) / 300 == pytest.approx(record.scores["accuracy"].value)
    assert sum(row["error"] is not None for row in ours if row["evaluation_result_id"] == "accuracy") == 3
    assert not [row for row in ours if row["evaluation_result_id"] == "pair_accuracy"]  # a pair is no sample


def test_without_samples_nothing_points_at_them(runs: Path, export: Export) -> None:
    out = export(runs, "every-eval-ever", "eee", *ORG, "--no-samples")
    assert not list(out.rglob("*.jsonl"))
    for path in out.rglob("*.json"):
        schema("eval").validate(read(path))
        assert "detailed_evaluation_results" not in read(path)


def test_a_set_metric_gives_a_sample_its_own_value_only_as_primary(tmp_path: Path, export: Export) -> None:
    asked = planted.pope(60)
    planted.plant(tmp_path / "runs", asked, planted.gold("pope", asked), task="pope")
    out = export(tmp_path / "runs", "every-eval-ever", "eee", *ORG, "--anyway")
    rows = [json.loads(line) for path in out.rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert {row["evaluation_result_id"] for row in rows if row["sample_id"] == "random-0"} >= {"accuracy"}
    assert not [row for row in rows if row["evaluation_result_id"] in ("f1", "precision", "recall")]
    (path,) = out.rglob("*.json")
    schema("eval").validate(read(path))
    ids = {result["evaluation_result_id"] for result in read(path)["evaluation_results"]}
    assert "accuracy[setting=random]" in ids


def test_a_length_makes_no_answer_correct(tmp_path: Path, export: Export) -> None:
    captions = tuple(
        Sample(f"test_{number}", (Image(f"{number}.jpg", f"{number}".encode),), "", target=f"A dog {number}.")
        for number in range(4)
    )
    answers = dict.fromkeys((one.id for one in captions), "A cat.")
    planted.plant(tmp_path / "runs", captions, answers, task="docci")
    out = export(tmp_path / "runs", "every-eval-ever", "eee", *ORG, "--anyway")
    rows = [json.loads(line) for path in out.rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert {row["evaluation_result_id"] for row in rows} == {"chrf"}
    assert not any(row["evaluation"]["is_correct"] for row in rows)
    (path,) = out.rglob("*.json")
    assert "chars" in {result["evaluation_result_id"] for result in read(path)["evaluation_results"]}


def test_eval_results_are_read_by_the_hubs_library(runs: Path, export: Export) -> None:
    path = export(runs, "eval-results", "mmvp.yaml", "--source-url", "https://x.org", "--source-name", "Logs")
    entries = entries_of(path)
    records = by_level(runs)
    assert len(entries) == 2
    for entry in entries:
        record = records["4bit" if "4bit" in entry.notes else "none"]
        assert (entry.dataset_id, entry.task_id, entry.dataset_revision) == (HUB.id, "mmvp", HUB.revision)
        assert entry.value == round(100 * record.scores["pair_accuracy"].value, 2)
        assert entry.date == record.finished
        assert (entry.source_url, entry.source_name) == ("https://x.org", "Logs")
        assert "pair_accuracy, in percent; n 300 of split test of mmvp v1" in entry.notes
        assert "95 % interval " in entry.notes
    assert {
        f"{len(record.failures)} failed" in "".join(e.notes for e in entries) for record in records.values()
    }
    folder = export(runs, "eval-results", ".eval_results", "--metric", "accuracy", "--task-id", "test")
    assert sorted(path.name for path in folder.iterdir()) == [
        "mmvp-google_paligemma-3b-mix-224_224px_4bit.yaml",
        "mmvp-google_paligemma-3b-mix-224_224px_bf16.yaml",
    ]
    for path in folder.iterdir():
        (entry,) = entries_of(path)
        assert (entry.task_id, entry.notes.split(",")[0]) == ("test", "accuracy")


def test_eval_results_name_a_data_set_of_the_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted.plant(tmp_path, PAIRS, planted.gold("mmvp", PAIRS), task="mmvp")
    told = refusal(capsys, tmp_path, "--format", "eval-results", "--out", tmp_path / "out.yaml")
    assert "read 'planted.json' (files)" in told
    assert "--format model-index" in told


def test_eval_results_of_other_data_promise_no_anyway(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.plant(tmp_path, QUESTIONS, planted.gold("textvqa", QUESTIONS), demo=True)
    flags = ("--format", "eval-results", "--out", tmp_path / "out.yaml")
    told = refusal(capsys, tmp_path, *flags)
    assert "read 'planted.json' (files)" in told
    assert "--anyway" not in told
    assert refusal(capsys, tmp_path, *flags, "--anyway") == told


def test_a_caveat_of_all_runs_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, gold = tmp_path / "runs", planted.gold("textvqa", QUESTIONS)
    planted.plant(runs, QUESTIONS, gold, demo=True)
    planted.plant(runs, QUESTIONS, gold, planted.checkpoint(quant="4bit"), demo=True, limit=10)
    flags = ["--format", "lm-eval", "--out", str(tmp_path / "out"), "--anyway"]
    assert invoke(["export", str(runs), *flags]) == 0
    told = capsys.readouterr().out
    assert told.count("DEMO NUMBERS") == 1
    assert "\nall 2 runs: DEMO NUMBERS" in told
    (limited,) = [line for line in told.splitlines() if "LIMITED" in line]
    assert limited.startswith(str(runs))
    assert invoke(["baseline", "save", str(runs), "--out", str(tmp_path / "base.json")]) == 0
    told = capsys.readouterr().out
    assert told.count("DEMO NUMBERS") == 1
    assert "all 2 runs: DEMO NUMBERS" in told


def test_model_index_is_the_front_matter_of_a_card(runs: Path, export: Export) -> None:
    path = export(runs, "model-index", "README.md")
    found = ModelCard(path.read_text(encoding="utf-8")).data.get("eval_results")
    records = by_level(runs)
    assert len(found) == 2 * len(records["none"].scores)
    four = [one for one in found if one.metric_type == "pair_accuracy" and "4bit" in (one.metric_name or "")]
    (result,) = four
    score = records["4bit"].scores["pair_accuracy"]
    assert score.value is not None
    assert result.metric_value == round(100 * score.value, 2)
    assert (result.dataset_type, result.dataset_split) == (HUB.id, "test")
    args = result.metric_args or {}
    assert (args["n"], args["failed"]) == (300, score.failed)
    assert result.metric_name == "pair_accuracy, percent (224 px, 4bit, bfloat16; n 300)"


def test_lm_eval_names(runs: Path, export: Export) -> None:
    out = export(runs, "lm-eval")
    paths = sorted(out.glob("google__paligemma-3b-mix-224/results_*.json"))
    assert len(paths) == 2
    (found,) = [one for one in map(read, paths) if one["config"]["model_args"]["quant"] == "4bit"]
    record = by_level(runs)["4bit"]
    result, score = found["results"]["mmvp"], record.scores["accuracy"]
    assert result["accuracy,none"] == score.value
    assert result["accuracy_stderr,none"] == score.stderr
    assert (result["alias"], result["sample_len"]) == ("mmvp", record.scores["pair_accuracy"].n)
    assert found["n-samples"]["mmvp"] == {"original": 300, "effective": 300}
    assert found["higher_is_better"]["mmvp"]["accuracy"] is True
    assert found["versions"] == {"mmvp": 1}
    assert found["config"]["model_dtype"] == "torch.bfloat16"
    assert found["config"]["model_args"]["pretrained"] == "google/paligemma-3b-mix-224"
    assert found["configs"]["mmvp"]["metadata"]["scores"]["accuracy"]["failed"] == 3
    assert any("3 failed" in note for note in found["configs"]["mmvp"]["metadata"]["notes"])


def test_a_results_file_is_of_one_cell(
    runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told = refusal(capsys, runs, "--format", "lm-eval", "--out", tmp_path / "all.json")
    assert "2 cells" in told


@pytest.mark.parametrize("form", ["eval-results", "model-index", "lm-eval", "every-eval-ever"])
def test_the_same_runs_give_the_same_bytes_and_no_place(
    form: str, runs: Path, export: Export, tmp_path: Path
) -> None:
    more = ORG if form == "every-eval-ever" else ()
    one, two = export(runs, form, "one", *more), export(runs, form, "two", *more)
    files = [path for path in one.rglob("*") if path.is_file()] if one.is_dir() else [one]
    assert files
    for path in files:
        data = path.read_bytes()
        assert data == (two / path.relative_to(one)).read_bytes()
        assert str(tmp_path).encode() not in data
        assert str(runs).encode() not in data


@pytest.mark.parametrize("form", ["eval-results", "model-index", "lm-eval", "every-eval-ever"])
def test_a_limited_run_is_exported_only_when_asked_and_marked(
    form: str, tmp_path: Path, export: Export, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    planted.plant(runs, PAIRS, planted.gold("mmvp", PAIRS), task="mmvp", source=HUB, limit=20)
    told = refusal(capsys, runs, "--format", form, "--out", tmp_path / "no", *ORG)
    assert "LIMITED to 20 of 300 samples" in told
    assert "--anyway" in told
    assert not (tmp_path / "no").exists()
    out = export(runs, form, "out", "--anyway", *ORG)
    files = [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out]
    text = [path.read_text() for path in files if path.suffix != ".jsonl"]
    assert all("LIMITED to 20 of 300 samples" in one for one in text)


def test_what_bars_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gold = planted.gold("textvqa", QUESTIONS)
    cases: dict[str, dict[str, Any]] = {
        "INCOMPLETE SPLIT": {},
        "DEMO NUMBERS": {"demo": True},
        "NO MODEL": {"point": planted.checkpoint("oracle", backend="oracle")},
    }
    for number, (head, more) in enumerate(cases.items()):
        runs = tmp_path / str(number)
        planted.plant(runs, QUESTIONS, gold, **more)
        assert head in refusal(capsys, runs, "--format", "lm-eval", "--out", tmp_path / "out")


def test_a_contaminated_number_says_so(tmp_path: Path, export: Export) -> None:
    point = planted.checkpoint("google/paligemma-3b-ft-textvqa-224")
    planted.plant(tmp_path / "runs", QUESTIONS, planted.gold("textvqa", QUESTIONS), point)
    path = export(tmp_path / "runs", "lm-eval", "out.json", "--anyway")
    notes = read(path)["configs"]["textvqa"]["metadata"]["notes"]
    assert any(note.startswith("CONTAMINATED: val was in the training data") for note in notes)


def test_several_checkpoints_on_one_card_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gold, runs = planted.gold("mmvp", PAIRS), tmp_path / "runs"
    for name in ("org/b", "org/a"):
        planted.plant(runs, PAIRS, gold, planted.checkpoint(name), task="mmvp", source=HUB)
    asked = ("--format", "model-index", "--out", tmp_path / "card.md")
    assert "2 checkpoints, and a card is of one: --model org/a" in refusal(capsys, runs, *asked)
    assert "Available: org/a, org/b" in refusal(capsys, runs, *asked, "--model", "org/c")
    assert invoke(["export", str(runs), *map(str, asked), "--model", "org/b"]) == 0
    assert "org/a" not in (tmp_path / "card.md").read_text()


def test_files_and_runs_are_left_alone(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--format", "model-index", "--out", tmp_path / "card.md")
    (tmp_path / "card.md").write_text("mine")
    assert "--overwrite" in refusal(capsys, runs, *asked)
    assert (tmp_path / "card.md").read_text() == "mine"
    assert invoke(["export", str(runs), *map(str, asked), "--overwrite"]) == 0
    capsys.readouterr()
    folder = gather([runs])[0][0].folder
    told = refusal(capsys, runs, "--format", "model-index", "--out", folder / "record.json", "--overwrite")
    assert "a run's folder" in told
    told = refusal(capsys, runs, "--format", "lm-eval", "--out", folder / "harness")
    assert "a run's folder" in told


def test_an_unfinished_run_is_named(tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn = tmp_path / "mmvp" / "torn"
    torn.mkdir(parents=True)
    (torn / "spec.json").write_text("{}")
    assert "not finished" in refusal(capsys, torn, "--format", "lm-eval", "--out", tmp_path / "out")
    assert "no finished run" in refusal(capsys, tmp_path, "--format", "lm-eval", "--out", tmp_path / "out")
    asked = ["export", str(runs), str(tmp_path), "-f", "lm-eval", "--out", str(tmp_path / "out"), "--json"]
    assert invoke(asked) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["unfinished"], len(document["files"]), len(document["runs"])) == ([str(torn)], 2, 2)


def test_what_is_asked_wrongly(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", tmp_path / "x")
    assert "did you mean lm-eval?" in refusal(capsys, runs, "--format", "lmeval", *out)
    assert "--organization" in refusal(capsys, runs, "--format", "every-eval-ever", *out)
    wrong = ("--format", "every-eval-ever", *ORG, "--relationship", "friend")
    assert "unknown relationship" in refusal(capsys, runs, *wrong, *out)
    assert "unknown metric 'f1'" in refusal(capsys, runs, "--format", "eval-results", "--metric", "f1", *out)
    named = ("--format", "eval-results", "--source-name", "Logs")
    assert "--source-url URL" in refusal(capsys, runs, *named, *out)
    assert "there is no folder" in refusal(capsys, tmp_path / "none", "--format", "lm-eval", *out)


def test_a_folder_that_was_named_twice_counts_once(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(runs)
    found, _ = gather([runs, runs / "mmvp", tmp_path / "link"])
    assert len(found) == 2
    assert len(outputs(found, "lm-eval", tmp_path, Asked())) == 2


@pytest.mark.parametrize("form", ["eval-results", "lm-eval", "every-eval-ever"])
def test_a_copy_of_a_run_does_not_take_the_others_place(
    form: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs, tmp_path / "copy")
    told = refusal(capsys, runs, tmp_path / "copy", "--format", form, "--out", tmp_path / "out", *ORG)
    assert "export them apart" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["eval-results", "lm-eval", "every-eval-ever"])
def test_a_record_chooses_no_place(form: str, runs: Path, tmp_path: Path) -> None:
    """Files are named by the key where cells are to be told apart, and a record may say any key."""
    shutil.copytree(runs, tmp_path / "runs")
    for name in ("one", "two"):
        first = min((tmp_path / "runs" / "mmvp").iterdir())
        copy = shutil.copytree(first, tmp_path / "runs" / name)
        record = read(copy / "record.json")
        record["key"] = f"/../../{name}"
        (copy / "record.json").write_text(json.dumps(record))
    out = tmp_path / "a" / "b" / "out"
    asked = ["export", str(tmp_path / "runs"), "-f", form, "--out", str(out), *ORG]
    assert invoke(asked) in (0, 2)
    assert all(out in path.parents for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert not any(path.is_relative_to(out) and ".." in path.parts for path in out.rglob("*"))


def test_a_stack_without_versions_is_unknown(tmp_path: Path, export: Export) -> None:
    planted.plant(tmp_path / "runs", PAIRS, planted.gold("mmvp", PAIRS), task="mmvp", stack=Stack("x", {}))
    out = export(tmp_path / "runs", "every-eval-ever", "eee", *ORG)
    (path,) = out.rglob("*.json")
    schema("eval").validate(read(path))
    assert read(path)["eval_library"]["name"] == "pgbench"


def test_an_old_hub_library_is_named(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", types.ModuleType("huggingface_hub"))
    told = refusal(capsys, runs, "--format", "eval-results", "--out", tmp_path / "x.yaml")
    assert "pip install -U huggingface_hub" in told

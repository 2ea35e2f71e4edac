"""`pgbench report` as a user meets it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from planted import checkpoint, gold, plant, pope, spoiled, textvqa
from report_runs import judge, rate

from pgbench.cli import invoke
from pgbench.cli import report as command
from pgbench.nes import answers
from pgbench.registry import load_task
from pgbench.report.gathering import gather
from pgbench.types import Sample

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of one checkpoint in three levels, and one run of POPE."""
    out = tmp_path_factory.mktemp("sweep") / "runs"
    samples = textvqa(60)
    right = gold("textvqa", samples)
    for quant, lost in (("none", 10), ("8bit", 12), ("4bit", 20)):
        plant(out, samples, spoiled(right, lost), checkpoint(quant=quant))
    asked = pope(60)
    plant(out, asked, gold("pope", asked), checkpoint(), task="pope")
    return out


def said(capsys: Capture, *arguments: str, code: int = 0) -> str:
    """What the command prints; of a mistake its one line."""
    assert invoke(["report", *arguments]) == code
    captured = capsys.readouterr()
    if not code:
        return captured.out
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1, captured.err
    return captured.err


def test_tables_of_a_folder(runs: Path, capsys: Capture) -> None:
    text = said(capsys, str(runs))
    assert "83.33" in text
    assert "INCOMPLETE SPLIT" in text
    assert str(runs) not in text
    document = json.loads(said(capsys, str(runs), "--layout", "quant", "--json"))
    assert [table["name"] for table in document["tables"]] == ["quant"]
    marked = said(capsys, str(runs), "-l", "quant", "--paired", "-f", "markdown")
    assert "**83.33**" in marked


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "name folders that hold runs"),
        (["nowhere"], "there is no folder nowhere"),
        (
            ["RUNS", "--layout", "chat"],
            "layout chat is of mmmu or cmmmu; RUNS has pope (1 run), textvqa (3 runs)",
        ),
        ([__file__], "is no folder; name a run folder"),
        (["RUNS", "--layout", "qaunt"], "did you mean quant"),
        (["RUNS", "--format", "docx"], "unknown format 'docx'"),
        (["RUNS", "--rows", "modle"], "unknown axis of --rows 'modle'"),
        (["RUNS", "--rows", "model", "--columns", "task"], "add quant to --rows or --columns"),
        (["RUNS", "--delta", "quant=3bit"], "unknown quant to hold cells against '3bit'"),
        (["RUNS", "--published-only"], "--published-only reads no runs"),
        (["--published-only", "--paired"], "leave out --paired"),
        (["--published-only", "-t", "gqa"], "leave out --metric, --by and --task"),
        (["RUNS", "--figures"], "beside --out FILE"),
        (["RUNS", "--methods", "--format", "csv"], "in any format but csv"),
        (["RUNS", "--out", "RUNS"], "is a folder; name a file"),
        (["RUNS", "RUNS/pope", "-t", "mmvp"], "unknown task"),
    ],
)
def test_mistakes_are_one_line(runs: Path, capsys: Capture, arguments: list[str], line: str) -> None:
    given = [part.replace("RUNS", str(runs)) for part in arguments]
    assert line.replace("RUNS", str(runs)) in said(capsys, *given, code=2)


def test_a_folder_without_a_finished_run_says_what_is_there(tmp_path: Path, capsys: Capture) -> None:
    assert "holds no finished run;" in said(capsys, str(tmp_path), code=2)
    begun = tmp_path / "textvqa" / "begun"
    begun.mkdir(parents=True)
    (begun / "spec.json").write_text("{}")
    assert "holds no finished run (1 not finished)" in said(capsys, str(tmp_path), code=2)


def test_unfinished_runs_are_named_and_folders_read_once(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    begun = tmp_path / "textvqa" / "begun"
    begun.mkdir(parents=True)
    (begun / "spec.json").write_text("{}")
    text = said(capsys, str(runs), str(runs / "pope"), str(tmp_path))
    assert "not finished, and in no table: textvqa/begun" in text
    (begun / "record.json").write_text("{")
    assert "record.json" in said(capsys, str(tmp_path), code=2)


def test_published_tables_need_no_run(capsys: Capture) -> None:
    latex = said(capsys, "--published-only", "--layout", "quant", "--format", "latex")
    assert all(number in latex for number in ("60.04", "59.78", "58.72", "huggingface/blog"))
    note = "bfloat16, 8bit (bitsandbytes), 4bit nf4 (bitsandbytes, bf16 compute)"
    assert latex.count("HF blog") == 1, "one footnote for the three precisions"
    assert note in " ".join(latex.split())
    resolution = said(capsys, "--published-only", "--layout", "resolution", "--format", "latex")
    assert all(number in resolution for number in ("46.00", "89.37", "65.47"))
    captions = said(capsys, "--published-only", "--layout", "docci", "--format", "latex")
    assert all(number in captions for number in ("529", "7.7", "28.4", r"\#char"))
    assert said(capsys, "--published-only").count("as published") == 4


def test_a_document_of_its_own(runs: Path, capsys: Capture) -> None:
    tables = said(capsys, str(runs), "-l", "quant", "-f", "latex")
    whole = said(capsys, str(runs), "-l", "quant", "-f", "latex", "--standalone", "--methods")
    assert "documentclass" not in tables
    assert whole.splitlines()[1].startswith(r"\documentclass")
    assert whole.index(r"\end{table") < whole.index(r"\paragraph{Models.}")
    assert whole.endswith("\\end{document}\n")
    assert "of --format latex" in said(capsys, str(runs), "-f", "html", "--standalone", code=2)


def test_a_file_with_figures_and_methods(
    runs: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.html"
    said(capsys, str(runs), "-l", "quant", "-f", "html", "--figures", "--methods", "--out", str(page))
    text = page.read_text()
    assert "data:image/svg+xml" in text
    assert "textvqa" in text
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    saved: list[Path] = []
    monkeypatch.setattr("pgbench.report.figures.save", lambda _, folder: saved.append(folder))
    table = tmp_path / "table.md"
    told = said(capsys, str(runs), "-l", "quant", "-f", "markdown", "--figures", "--out", str(table))
    assert "1 table, 6 rows" in told  # three of them published
    assert saved == [tmp_path / "table-figures"]
    assert table.read_text().startswith("### TextVQA")
    methods = said(capsys, str(runs), "-l", "quant", "--methods")
    assert "singh2019towards" in methods
    assert "li2023evaluating" not in methods  # POPE is in none of these tables
    assert "methods" in json.loads(said(capsys, str(runs), "-l", "quant", "--methods", "--json"))


def test_no_table_is_written_over_a_record(runs: Path, capsys: Capture) -> None:
    (record,) = runs.glob("pope/*/record.json")
    before = record.read_bytes()
    for out in (record, record.parent / "new" / "table.md"):
        assert "is a run's folder" in said(capsys, str(runs), "--out", str(out), code=2)
    assert record.read_bytes() == before
    assert not (record.parent / "new").exists()


def test_the_ending_of_out_is_the_format_unless_one_is_named(
    runs: Path, tmp_path: Path, capsys: Capture
) -> None:
    starts = {
        "a.tex": "% Needs",
        "b.MD": "### TextVQA",
        "c.csv": "table,",
        "d.html": "<!doctype",
        "e.txt": "TextVQA by",
    }
    for name, start in starts.items():
        said(capsys, str(runs), "-l", "quant", "--out", str(tmp_path / name))
        assert (tmp_path / name).read_text().lower().startswith(start.lower())
    said(capsys, str(runs), "-l", "quant", "-f", "markdown", "--out", str(tmp_path / "a.tex"))
    assert (tmp_path / "a.tex").read_text().startswith("### TextVQA")


def test_the_command_names_no_absolute_path(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [
        "x",
        "report",
        "/home/ann/runs",
        "--out=/home/ann/t.tex",
        "--caption",
        "a b",
        "runs/b",
        "--debug",
    ]
    monkeypatch.setattr("sys.argv", given)
    assert command.command() == "pgbench report runs --out=t.tex --caption 'a b' runs/b"


def captions(count: int) -> tuple[Sample, ...]:
    text = "A cat sits on a mat. The mat is red."
    return tuple(Sample(str(i), (), "", text, cluster=str(i)) for i in range(count))


def test_ratings_beside_a_run_are_of_its_answers(tmp_path: Path, capsys: Capture) -> None:
    samples = captions(4)
    right = {sample.id: load_task("docci").gold(sample) for sample in samples}
    folder = plant(
        tmp_path, samples, right, checkpoint("google/paligemma2-3b-ft-docci-448"), task="docci"
    ).folder
    read = answers.read(folder)
    rate(folder, read.record.key, read.digest, bad=[True, False, False, False])
    judge(folder, read.record.key, read.digest, bad=[True, True, False, False])
    text = said(capsys, str(tmp_path), "-l", "docci")
    assert "25.00" in text
    assert "50.00" in text
    assert "over-states NES" in text
    for path in folder.glob("nes-*.json"):
        path.write_text(path.read_text().replace(read.digest, "0" * 64))
    text = said(capsys, str(tmp_path), "-l", "docci")
    assert "25.00" not in text
    assert "rates other answers than the run has now" in text
    (found,) = gather([tmp_path]).runs
    assert found.ratings == ()  # other tables do not read answers for them


def test_replicates_are_known_from_the_sweep(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    samples = textvqa(20)
    right = gold("textvqa", samples)
    folders = [
        plant(tmp_path, samples, spoiled(right, lost), checkpoint(f"me/seed{lost}-224")).folder
        for lost in (0, 2, 4)
    ]
    cells = [
        {"id": str(i), "folder": folder.relative_to(tmp_path).as_posix(), "replicate": "mine"}
        for i, folder in enumerate(folders)
    ]
    (tmp_path / "sweep.json").write_text(json.dumps({"schema": 1, "cells": cells}))
    assert "90.00 ± 10.00" in said(capsys, str(tmp_path), "--rows", "replicate")
    assert "±" not in said(capsys, str(tmp_path))


def test_a_thousand_records_are_a_table_in_ten_seconds(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    """Of processor time; a record of 5,000 samples has failures, and no answers."""
    (path,) = runs.glob("pope/*/record.json")
    stored = json.loads(path.read_text())
    stored["failures"] = [{"sample_id": str(number), "reason": "no such image"} for number in range(50)]
    stored["key"], point = "KEY", stored["spec"]["checkpoint"]
    point["id"], point["quant"] = "MODEL", "LEVEL"
    text = json.dumps(stored)
    for number in range(1_000):
        level = ("none", "8bit", "4bit", "fp4")[number % 4]
        made = text.replace("KEY", f"{number:064x}").replace("MODEL", f"me/model{number // 4}-224")
        folder = tmp_path / "pope" / f"run{number}"
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(made.replace("LEVEL", level))
    before = time.process_time()
    text = said(capsys, str(tmp_path), "--by", "setting", "--delta", "quant=none", "--costs", "-f", "csv")
    taken = time.process_time() - before
    assert text.count("model249") >= 4
    assert taken < 10, f"{taken:.1f} s"

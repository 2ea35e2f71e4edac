"""What a rating sheet must not tell, must not mix up and must survive."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import planted
import pytest
from caption_runs import caption_run

from pgbench.cli import invoke
from pgbench.errors import DataError
from pgbench.nes import answers, sheet
from pgbench.nes.key import relative
from pgbench.nes.pictures import Pictures
from pgbench.nes.ratings import read
from pgbench.nes.sheet import as_text, guarded

Capture = pytest.CaptureFixture[str]


def made(out: Path, *runs: Path) -> list[dict[str, str]]:
    """A sheet's rows."""
    assert invoke(["nes", "sheet", *map(str, runs), "--out", str(out)]) == 0
    text = (out / "sheet.csv").read_bytes().decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def saved(path: Path, rows: list[dict[str, str]], delimiter: str = ",", ends: str = "\r\n") -> Path:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator=ends)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(file.getvalue().encode())
    return path


# The key names no absolute path and no user


@pytest.mark.parametrize(
    ("run", "out", "told"),
    [
        ("a/runs/docci/cell", "a/sheet", "../runs/docci/cell"),
        ("a/sheet/cell", "a/sheet", "cell"),
        ("home/alice/runs/cell", "shared/sheet", "cell"),  # through the user's own folder
        ("home/alice/runs/cell", "home/alice/sheet", "../runs/cell"),
    ],
)
def test_a_run_as_seen_from_the_sheet(
    run: str, out: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "alice"))
    assert relative(tmp_path / run, tmp_path / out) == told


def test_a_way_through_the_root_is_an_absolute_path(tmp_path: Path) -> None:
    assert relative(tmp_path / "runs" / "cell", Path("/nowhere/sheet")) == "cell"


def test_a_sheet_far_from_its_runs_asks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "alice"))
    run = caption_run(tmp_path / "home" / "alice" / "runs", ["A cat sits."])
    rows = made(tmp_path / "sheet", run)
    assert "alice" not in (tmp_path / "sheet" / "key.json").read_text()
    file = saved(tmp_path / "ann.csv", [row | {"rating": "E"} for row in rows])
    assert invoke(["nes", "score", str(tmp_path / "sheet"), str(file)]) == 2
    assert "name its folder with --run" in capsys.readouterr().err
    assert invoke(["nes", "score", str(tmp_path / "sheet"), str(file), "--run", str(run)]) == 0


# One id, one picture


def test_two_pictures_of_one_id_are_refused(tmp_path: Path) -> None:
    runs = [
        answers.captions(
            answers.read(caption_run(tmp_path / name, ["It is."], model=name)), lambda text: [text]
        )
        for name in ("a", "b")
    ]

    def build(**changed: object) -> int:
        """Rows of a sheet in which the second run's line differs."""
        (caption,) = runs[1].captions
        spec = replace(runs[1].answers.record.spec, split=str(changed.pop("split", "val")))
        told = replace(runs[1].answers, record=replace(runs[1].answers.record, spec=spec))
        line = replace(caption.line, **changed)  # type: ignore[arg-type]
        other = replace(runs[1], answers=told, captions=(replace(caption, line=line),))
        names = Pictures({line.id: line.id}, (), ())
        return len(sheet.build([runs[0], other], names, tmp_path / "sheet", 0, "none").rows)

    assert build() == 2
    assert build(image="0" * 64) == 2  # another copy of one benchmark: the reference says so
    assert build(split="test") == 2  # the same bytes
    for changed in ({"image": "0" * 64, "split": "test"}, {"image": "0" * 64, "target": "Another one."}):
        with pytest.raises(DataError, match="both have a sample s000, of different pictures"):
            build(**changed)


# What spreadsheets do


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("A cat; =1+1", "A cat; '=1+1"),
        ("A cat;@SUM(1); b", "A cat;'@SUM(1); b"),
        ('A cat;"=1"', 'A cat;"\'=1"'),
        ("A cat; a = b; c", "A cat; a = b; c"),
    ],
)
def test_a_formula_behind_a_semicolon(text: str, shown: str) -> None:
    """A spreadsheet whose list separator is a semicolon begins a cell there."""
    assert guarded(text) == shown
    assert not any(cell.strip(' "').startswith(tuple("=+-@")) for cell in guarded(text).split(";"))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("00012", "'00012"),
        ("262148000123", "'262148000123"),
        ("12e5", "'12e5"),
        ("12", "12"),
        ("0", "0"),
        ("images/00012.jpg", "images/00012.jpg"),
        ("qual_dev_00012", "qual_dev_00012"),
    ],
)
def test_names_that_look_like_numbers(name: str, shown: str) -> None:
    assert as_text(name) == shown


def test_files_of_spreadsheets(tmp_path: Path) -> None:
    rows = [{"row": f"s-{n}", "caption": "a, b, c, d", "rating": "E"} for n in range(9)]
    known: Mapping[str, None] = dict.fromkeys(row["row"] for row in rows)
    old = saved(tmp_path / "macintosh.csv", rows, ";", "\r")  # more commas than semicolons in all
    assert [len(rater.ratings) for rater in read([old], known)] == [9]
    book = tmp_path / "book.csv"
    book.write_bytes(b"PK\x03\x04" + os.urandom(99))
    with pytest.raises(DataError, match="a spreadsheet's own file, not CSV; save it as CSV"):
        read([book], known)


def test_ratings_of_another_sheet_make_a_short_message(tmp_path: Path) -> None:
    rows = [{"row": f"t-{n}", "rating": "E"} for n in range(3_000)]
    with pytest.raises(DataError, match=r"3,000 mistakes in the ratings: .*; and 2,980 more") as found:
        read([saved(tmp_path / "ann.csv", rows)], {})
    assert len(str(found.value)) < 2_000


@pytest.mark.parametrize("command", [["sheet", "--out", "rating"], ["judge", "--judge", "org/nli"]])
def test_answers_that_are_no_captions_are_refused(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    questions = planted.textvqa(4)
    run = planted.plant(tmp_path / "runs", questions, planted.gold("textvqa", questions)).folder
    monkeypatch.chdir(tmp_path)
    assert invoke(["nes", command[0], str(run), *command[1:]]) == 2
    told = capsys.readouterr().err
    assert "is a run of textvqa, whose answers are no captions; name runs of docci or custom" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "rating").exists()


def test_json_says_what_a_run_is_not(tmp_path: Path, capsys: Capture) -> None:
    run = caption_run(tmp_path / "runs", ["A cat sits.", None])
    rows = made(tmp_path / "sheet", run)
    file = saved(tmp_path / "ann.csv", [row | {"rating": "E"} for row in rows])
    capsys.readouterr()
    assert invoke(["nes", "score", str(tmp_path / "sheet"), str(file), "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)["warnings"]
    assert "1 failed, first: s001" in said

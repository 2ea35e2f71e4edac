"""NES by people: the sheet blinds, the files are read as spreadsheets save them, the score is the hand's."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from caption_runs import caption_run

from pgbench.cli import invoke
from pgbench.nes import rated
from pgbench.nes.score import RATINGS, Outcome, Rating, agreement, majority, share
from pgbench.nes.sheet import COLUMNS, guarded

Capture = pytest.CaptureFixture[str]
E, N, C, T = RATINGS
CAPTIONS = (
    "A cat sits. It sleeps. The mat is red.",  # 38 characters, 3 sentences
    "A dog runs. Wow!",  # 16, 2
    "Two boats float. The sea is calm. Birds fly.",  # 44, 3
    None,  # failed
    "",
)
# sample, sentence from 0 -> what Ann, Ben and Cat say; "" is a missing rating
BY_HAND: Mapping[tuple[str, int], tuple[str, str, str]] = {
    ("s000", 0): ("E", "entailment", "E"),  # entailed
    ("s000", 1): ("N", "c", "E"),  # three-way tie; N + C = 2 against E = 1: non-entailed
    ("s000", 2): ("E", "neutral", ""),  # 1 against 1: undecided
    ("s001", 0): ("Contradiction", "CONTRADICTION", "n"),  # non-entailed
    ("s001", 1): ("NTA", "nothing  to assess", "e"),  # nothing to assess
    ("s002", 0): (" Neutral ", "", ""),  # one rating is a majority: non-entailed
    ("s002", 1): ("", "", ""),  # unrated
    ("s002", 2): ("nta", "E", ""),  # a tie, N + C = 0 against E = 1: entailed
}


def rows_of(folder: Path) -> list[dict[str, str]]:
    text = (folder / "sheet.csv").read_bytes().decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def key_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "key.json").read_text())
    return document


def made(capsys: Capture, out: Path, *runs: Path, more: Sequence[str] = ()) -> dict[str, Any]:
    assert invoke(["nes", "sheet", *map(str, runs), "--out", str(out), "--json", *more]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def filled(folder: Path, said: Mapping[tuple[str, int], str]) -> list[dict[str, str]]:
    """The sheet's rows with one rater's ratings, told by the key."""
    key = key_of(folder)["rows"]
    places = {row: (key[row]["sample"], key[row]["sentence"]) for row in key}
    return [row | {"rating": said.get(places[row["row"]], "")} for row in rows_of(folder)]


def saved(
    path: Path, rows: Sequence[Mapping[str, str]], delimiter: str = ",", encoding: str = "utf-8"
) -> Path:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(file.getvalue().encode(encoding))
    return path


def three_raters(sheet: Path, folder: Path) -> list[Path]:
    """As spreadsheets save them: plainly; with semicolons, sorted, with a column more; UTF-16 with tabs."""
    ann, ben, cat = (filled(sheet, {place: said[n] for place, said in BY_HAND.items()}) for n in range(3))
    ben = [{**row, "mine": "x;y"} for row in reversed(ben)]
    cat = [row for row in cat if row["rating"]]  # rows without a rating left out altogether
    return [
        saved(folder / "ann.csv", ann),
        saved(folder / "ben.csv", ben, ";", "utf-8-sig"),
        saved(folder / "cat.csv", cat, "\t", "utf-16"),
    ]


@pytest.fixture
def sheet(tmp_path: Path, capsys: Capture) -> Path:
    made(capsys, tmp_path / "sheet", caption_run(tmp_path / "runs", CAPTIONS))
    return tmp_path / "sheet"


def scored(capsys: Capture, sheet: Path, files: Sequence[Path], *more: str) -> dict[str, Any]:
    assert invoke(["nes", "score", str(sheet), *map(str, files), "--json", *more]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_three_raters_equal_the_hand(sheet: Path, tmp_path: Path, capsys: Capture) -> None:
    document = scored(capsys, sheet, three_raters(sheet, tmp_path))
    (run,) = document["runs"]
    out, full = run["nes"]["without_nothing"], run["nes"]["with_nothing"]
    assert run["nes"]["outcomes"] == {
        "entailed": 2,
        "non-entailed": 3,
        "nothing to assess": 1,
        "undecided": 1,
        "unrated": 1,
    }
    # 3 of 5; images give 1 of 2, 1 of 1, 1 of 2: squares .04 + .16 + .04, times 3 / 2, over 25: .12 squared;
    # Student's t with 2 degrees of freedom is 4.302653, so .6 -+ .516318, cut at 1
    assert (out["value"], out["n"], out["clusters"], out["interval"]) == (0.6, 5, 3, "clustered t")
    assert out["stderr"] == pytest.approx(0.12)
    assert (out["low"], out["high"]) == (pytest.approx(0.083682, abs=1e-6), 1.0)
    # 3 of 6, each image 1 of 2: no variance, so Wilson with 3 trials: .5 -+ .374666
    assert (full["value"], full["n"], full["interval"], full["stderr"]) == (0.5, 6, "wilson", None)
    assert (full["low"], full["high"]) == pytest.approx((0.125334, 0.874666), abs=1e-6)
    assert run["nes"]["if_undecided"] == [3 / 6, 4 / 6]
    # six sentences with two ratings or more: 7 E, 3 N, 3 C, 3 T. Disagreeing pairs over (ratings - 1):
    # 0 + 6/2 + 2/1 + 4/2 + 4/2 + 2/1 = 11, by chance (16 * 16 - 49 - 9 - 9 - 9) / 15 = 12
    found = run["nes"]["agreement"]
    assert (found["sentences"], found["alpha"]) == (6, pytest.approx(1 - 11 / 12))
    # Entailment or not: 0 + 4/2 + 2/1 + 0 + 4/2 + 2/1 = 8, by chance 2 * 7 * 9 / 15 = 8.4; all alike on two
    assert found["alpha_binary"] == pytest.approx(1 - 8 / 8.4)
    assert found["binary"] == pytest.approx(2 / 6)
    assert document["agreement"] == found
    # the empty caption counts, the failed sample does not: (38 + 16 + 44 + 0) / 4 and 8 / 4
    assert (run["characters_per_caption"], run["sentences_per_caption"]) == (24.5, 2.0)
    assert (run["captions"], run["failed"], run["empty"]) == (3, 1, 1)
    assert run["raters"] == ["ann", "ben", "cat"]


def test_what_is_printed(sheet: Path, tmp_path: Path, capsys: Capture) -> None:
    files = three_raters(sheet, tmp_path)
    assert invoke(["nes", "score", str(sheet), *map(str, files)]) == 0
    text = capsys.readouterr().out
    for part in (
        "60.00",
        "8.37 to 100.00",
        "50.00",
        "24.5",
        "ties: the rating given most often counts",
        "how much other raters would differ is not in them",
        "undecided: s000#3",
        "unrated: s002#2",
        "NES from 50.00 to 66.67",
        "alpha 0.083 (four categories), 0.048 (Entailment or not)",
        "33.3 % of 6 sentences",
        "1 failed samples; 1 captions without a sentence (not in NES)",
    ):
        assert part in text
    assert "84.07" not in text  # the paper's agreement is of its own raters


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ((), "unrated"),
        ((E,), "entailed"),
        ((T,), "nothing to assess"),
        ((E, E, N, C), "entailed"),  # given most often, though two are against
        ((E, E, N, N, C), "non-entailed"),  # E and N tie, and C stands with N
        ((N, C), "non-entailed"),
        ((E, N), "undecided"),
        ((E, C, T), "undecided"),
        ((E, T), "entailed"),
        ((N, T), "non-entailed"),
        ((T, T, N, C), "nothing to assess"),
        ((E, E, T, T, N, C), "undecided"),
    ],
)
def test_majority(votes: tuple[Rating, ...], expected: Outcome) -> None:
    assert majority(votes) == expected
    assert majority(votes[::-1]) == expected


def test_agreement_where_it_is_undefined() -> None:
    assert agreement([(E,), (N,)]).sentences == 0
    assert agreement([(E,), (N,)]).alpha is None
    alike = agreement([(E, E), (E, E), (N,)])
    assert (alike.alpha, alike.alpha_binary, alike.binary, alike.sentences) == (None, None, 1.0, 2)
    split = agreement([(N, C), (T, N)])  # four categories disagree, the binary question never varies
    assert (split.alpha is not None, split.alpha_binary, split.binary) == (True, None, 1.0)


def test_alpha_of_two_categories() -> None:
    counts = [(3, 0), (0, 3), (2, 1)]
    votes = [(E,) * e + (N,) * n for e, n in counts]
    # 5 E, 4 N; observed 4 / 2 = 2, by chance 2 * 5 * 4 / 8 = 5
    assert agreement(votes).alpha == pytest.approx(1 - 2 / 5)


def test_nothing_rated_is_undefined() -> None:
    assert (share([]).value, share([]).n, share([]).interval) == (None, 0, "none")


def test_the_sheet_blinds(tmp_path: Path, capsys: Capture) -> None:
    texts = [f"Caption {number} begins. It ends." for number in range(12)]
    one = caption_run(tmp_path / "runs", texts, model="org/alpha")
    other = caption_run(
        tmp_path / "runs", [text.replace("ends", "stops") for text in texts], model="org/beta"
    )
    counts = made(capsys, tmp_path / "a", one, other)
    assert (counts["sentences"], counts["captions"], counts["runs"]) == (48, 24, 2)
    made(capsys, tmp_path / "b", other, one)
    assert (tmp_path / "a" / "sheet.csv").read_bytes() == (tmp_path / "b" / "sheet.csv").read_bytes()
    made(capsys, tmp_path / "c", one, other, more=("--seed", "1"))
    rows, key = rows_of(tmp_path / "a"), key_of(tmp_path / "a")
    assert tuple(rows[0]) == COLUMNS
    assert [row["caption"] for row in rows] != [row["caption"] for row in rows_of(tmp_path / "c")]
    text = (tmp_path / "a" / "sheet.csv").read_text(encoding="utf-8-sig")
    assert not any(
        word in text for word in ("alpha", "beta", *key["runs"], *(name[:8] for name in key["runs"]))
    )
    # a caption's rows stand together and in order; an image's captions too
    assert [row["number"] for row in rows] == ["1", "2"] * 24
    images = [row["image"] for row in rows]
    assert [images[at] for at in range(0, 48, 4)] == list(dict.fromkeys(images))
    assert list(dict.fromkeys(images)) != sorted(images[::4])
    # neither label is always the same run's
    labels = {(row["label"], key["rows"][row["row"]]["run"]) for row in rows}
    assert len(labels) == 4
    assert {row["rating"] + row["comment"] for row in rows} == {""}
    assert "/" not in "".join(run["folder"][:1] for run in key["runs"].values())
    assert str(tmp_path) not in (tmp_path / "a" / "key.json").read_text()


def test_two_runs_are_told_apart_again(tmp_path: Path, capsys: Capture) -> None:
    good = caption_run(tmp_path / "runs", ["It is good."] * 4, model="good")
    bad = caption_run(tmp_path / "runs", ["It is bad."] * 4, model="bad")
    made(capsys, tmp_path / "sheet", good, bad)
    rows = [row | {"rating": "CE"["good" in row["sentence"]]} for row in rows_of(tmp_path / "sheet")]
    document = scored(capsys, tmp_path / "sheet", [saved(tmp_path / "r.csv", rows)])
    values = {run["run"]: run["nes"]["without_nothing"]["value"] for run in document["runs"]}
    keys = {folder: json.loads((folder / "record.json").read_text())["key"] for folder in (good, bad)}
    assert (values[keys[good]], values[keys[bad]]) == (0.0, 1.0)


HOSTILE = (
    '=HYPERLINK("http://evil","x") is drawn. A \x1b[31mred\u202e sign; with, "all"\tof\n it. \ud800 @SUM(1).'
)


def test_hostile_text(tmp_path: Path, capsys: Capture) -> None:
    texts = [HOSTILE, "@SUM(A1) is written.", "+1 is written.", "-2 is.", "\t=3 is.", "＝4 is.", "'tis so."]
    made(capsys, tmp_path / "sheet", caption_run(tmp_path / "runs", texts))
    raw = (tmp_path / "sheet" / "sheet.csv").read_bytes().decode("utf-8-sig")
    assert not {letter for letter in raw if not letter.isprintable()} - {"\r", "\n"}
    rows = rows_of(tmp_path / "sheet")
    assert [cell for row in rows for cell in row.values() if cell.startswith(tuple("=+-@\t\r＝"))] == []
    assert len(raw.splitlines()) == 1 + len(rows)  # a row is a line, also for an editor
    said = [row | {"rating": "N"} for row in rows]
    document = scored(capsys, tmp_path / "sheet", [saved(tmp_path / "r.csv", said)])
    assert document["runs"][0]["nes"]["without_nothing"]["value"] == 1.0
    assert len(document["runs"][0]["sentences"]) == len(rows)


@pytest.mark.parametrize("text", ["=1+1", "'=1", "''", "plain", "@x", "-", ""])
def test_the_guard_comes_off(text: str) -> None:
    shown = guarded(text)
    assert shown.removeprefix("'") == text
    assert not shown.startswith(tuple("=+-@"))


def test_every_mistake_is_named(sheet: Path, tmp_path: Path, capsys: Capture) -> None:
    rows = filled(sheet, {place: said[0] for place, said in BY_HAND.items()})
    rows[1]["rating"] = "maybe\x1b[2J"
    rows[2]["row"] = "s0-1"
    first = saved(tmp_path / "ann.csv", [*rows, rows[0]])
    second = saved(tmp_path / "ben.csv", [rows[0] | {"rating": "5"}])
    assert invoke(["nes", "score", str(sheet), str(first), str(second)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "4 mistakes" in said
    for part in (
        "ann.csv, line 3: rating 'maybe",
        "ann.csv, line 4: row 's0-1' is not in the sheet",
        f"ann.csv, line 10: row '{rows[0]['row']}' stands in line 2 already",
        "ben.csv, line 2: rating '5' is none of Entailment, Neutral, Contradiction, Nothing to assess",
    ):
        assert part in said
    assert "\x1b" not in said
    assert list((tmp_path / "runs").rglob("nes-*")) == []


def test_files_that_are_no_ratings(sheet: Path, tmp_path: Path, capsys: Capture) -> None:
    def refused(*files: Path) -> str:
        assert invoke(["nes", "score", str(sheet), *map(str, files)]) == 2
        return capsys.readouterr().err

    (tmp_path / "other").mkdir()
    empty = saved(tmp_path / "ann.csv", rows_of(sheet))
    again = saved(tmp_path / "other" / "ann.csv", rows_of(sheet))
    columns = tmp_path / "columns.csv"
    columns.write_text("id,rating\n1,E\n")
    assert "no rating in any file" in refused(empty)
    assert "two files are called 'ann'" in refused(empty, again)
    assert "columns.csv has the columns id, rating" in refused(columns)
    assert "cannot read" in refused(tmp_path / "nowhere.csv")
    assert invoke(["nes", "score", str(tmp_path), str(empty)]) == 2
    assert "is no rating sheet" in capsys.readouterr().err


def test_ratings_of_another_sheet_are_refused(tmp_path: Path, capsys: Capture) -> None:
    run = caption_run(tmp_path / "runs", CAPTIONS)
    made(capsys, tmp_path / "one", run)
    made(capsys, tmp_path / "two", run, more=("--seed", "5"))
    rows = [row | {"rating": "E"} for row in rows_of(tmp_path / "one")]
    file = saved(tmp_path / "r.csv", rows)
    assert invoke(["nes", "score", str(tmp_path / "two"), str(file)]) == 2
    assert "8 mistakes" in capsys.readouterr().err


def test_changed_answers_are_refused(sheet: Path, tmp_path: Path, capsys: Capture) -> None:
    files = three_raters(sheet, tmp_path)
    (samples,) = (tmp_path / "runs").rglob("samples-*.jsonl")
    samples.write_text(samples.read_text().replace("It sleeps", "It snores"))
    assert invoke(["nes", "score", str(sheet), *map(str, files)]) == 2
    assert "have changed since the sheet" in capsys.readouterr().err


def test_a_run_that_moved(sheet: Path, tmp_path: Path, capsys: Capture) -> None:
    files = three_raters(sheet, tmp_path)
    (tmp_path / "runs").rename(tmp_path / "moved")
    (record,) = (tmp_path / "moved").rglob("record.json")
    assert invoke(["nes", "score", str(sheet), *map(str, files)]) == 2
    assert "name its folder with --run" in capsys.readouterr().err
    document = scored(capsys, sheet, files, "--run", str(record.parent))
    assert document["runs"][0]["nes"]["without_nothing"]["value"] == 0.6
    stranger = caption_run(tmp_path / "others", ["Another one."], model="stranger")
    assert invoke(["nes", "score", str(sheet), *map(str, files), "--run", str(stranger)]) == 2
    assert "is no run of the sheet" in capsys.readouterr().err


def test_the_sidecar(sheet: Path, tmp_path: Path, capsys: Capture) -> None:
    (record,) = (tmp_path / "runs").rglob("record.json")
    before = {path.name: path.read_bytes() for path in record.parent.iterdir()}
    files = three_raters(sheet, tmp_path)
    first = scored(capsys, sheet, files)
    second = scored(capsys, sheet, files[::-1])
    assert first == second  # the order of the files says nothing
    (kept,) = record.parent.glob("nes-*.json")
    assert first["kept"] == [str(kept)]
    text = kept.read_text()
    assert str(tmp_path) not in text
    assert ".csv" not in text
    found = rated.load(kept)
    assert json.loads(json.dumps(first["runs"][0])) == json.loads(text)
    assert (found.kind, found.schema, found.sheet) == ("nes", 1, key_of(sheet)["digest"])
    assert found.file == kept.name
    assert found.sentences[1].votes.keys() == {"ann", "ben", "cat"}
    scored(capsys, sheet, files[:2])  # other ratings, another file
    assert len(list(record.parent.glob("nes-*.json"))) == 2
    assert {name: (record.parent / name).read_bytes() for name in before} == before


def test_pictures_by_name_by_content_and_missing(tmp_path: Path, capsys: Capture) -> None:
    run = caption_run(tmp_path / "runs", ["One is here."] * 4)
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "images" / "s000.jpg").write_bytes(b"pixels of 0")
    (tmp_path / "data" / "strange name.PNG").write_bytes(b"pixels of 1")
    (tmp_path / "data" / "s002.png").write_bytes(b"encoded again")
    counts = made(capsys, tmp_path / "sheet", run, more=("--data", str(tmp_path / "data")))
    names = {row["image"] for row in rows_of(tmp_path / "sheet")}
    assert names == {"images/s000.jpg", "strange name.PNG", "s002.png", "s003"}
    assert (counts["pictures_missing"], counts["pictures_reencoded"]) == (1, 1)
    arguments = ["nes", "sheet", str(run), "--out", str(tmp_path / "x"), "--data", str(tmp_path / "nowhere")]
    assert invoke(arguments) == 2
    assert "--data names the folder of the pictures" in capsys.readouterr().err


def test_what_makes_no_sheet(sheet: Path, tmp_path: Path, capsys: Capture) -> None:
    def refused(out: str, *runs: Path) -> str:
        assert invoke(["nes", "sheet", *map(str, runs), "--out", str(tmp_path / out)]) == 2
        return capsys.readouterr().err

    (record,) = (tmp_path / "runs").rglob("record.json")
    run, written = record.parent, (sheet / "sheet.csv").read_bytes()
    assert "holds a sheet already" in refused("sheet", run)
    assert (sheet / "sheet.csv").read_bytes() == written
    assert "are the same run" in refused("new", run, record)
    assert "is no run folder" in refused("new", tmp_path)
    assert "no run has a sentence" in refused("new", caption_run(tmp_path / "empty", ["", None]))
    record.unlink()
    assert "is not finished" in refused("new", run)
    assert not (tmp_path / "new").exists()


def test_the_sheet_tells_what_has_no_sentence(tmp_path: Path, capsys: Capture) -> None:
    run = caption_run(tmp_path / "runs", CAPTIONS)
    assert invoke(["nes", "sheet", str(run), "--out", str(tmp_path / "sheet")]) == 0
    text = capsys.readouterr().out
    assert "8 sentences of 3 captions by 1 runs" in text
    assert "1 failed samples, 1 empty captions" in text
    assert (tmp_path / "sheet" / "guide.txt").read_text().count("with respect to the image") == 1

"""Baseline files: what is kept, what is refused, and how large they are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import planted
import pytest
from test_compare import HOSTILE, hostile

from pgbench.cli import invoke
from pgbench.errors import OK, USAGE, StoreError, UsageError
from pgbench.keys import json_key
from pgbench.paired import baseline, reading
from pgbench.paired.columns import Columns, unfolded
from pgbench.paired.compare import compare
from pgbench.paired.evidence import Evidence, Units

Capture: TypeAlias = pytest.CaptureFixture[str]
Change: TypeAlias = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tasks: a mean, pairs and macro means, with a failure and a sample without references."""
    out = tmp_path_factory.mktemp("runs")
    samples, pairs, yes_no = planted.textvqa(10), planted.mmvp(10), planted.pope(6)
    planted.plant(out, samples, planted.gold("textvqa", samples), failed={"34605": "no memory"})
    planted.plant(out, pairs, planted.spoiled(planted.gold("mmvp", pairs), 3), task="mmvp")
    planted.plant(out, yes_no, planted.spoiled(planted.gold("pope", yes_no), 3, text="no"), task="pope")
    return out


@pytest.fixture(scope="module")
def evidences(runs: Path) -> list[Evidence]:
    return [reading.read(path.parent) for path in sorted(runs.rglob("record.json"))]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, evidences: list[Evidence]) -> Path:
    path = tmp_path_factory.mktemp("kept") / "baseline.json"
    baseline.save(evidences, path)
    return path


def plain(run: Evidence) -> dict[str, object]:
    units = {
        name: (one.metric, one.is_mean, one.direction, one.number, list(one.ids), {
            key: list(column) for key, column in one.sums.items()
        })
        for name, one in run.units.items()
    }  # fmt: skip
    return {"record": run.record, "samples": run.samples, "units": units, "members": run.members}


def test_nothing_is_lost(kept: Path, evidences: list[Evidence]) -> None:
    found = baseline.load(kept)
    assert [plain(one) for one in found] == [plain(one) for one in evidences]
    names = [one.record.spec.task for one in found]
    assert names == ["mmvp", "pope", "textvqa"]
    assert re.fullmatch(
        rf"{re.escape(str(kept))}: mmvp/google_paligemma-3b-mix-224_224px_bf16-\w+", found[0].place
    )


def test_the_same_comparison_comes_of_the_file(kept: Path, evidences: list[Evidence]) -> None:
    for one, run in zip(baseline.load(kept), evidences, strict=True):
        metrics = [run.record.primary]
        assert compare(one, run, metrics).rows == compare(run, run, metrics).rows


def test_the_same_bytes_in_any_order(tmp_path: Path, kept: Path, evidences: list[Evidence]) -> None:
    baseline.save(reversed(evidences), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == kept.read_bytes()
    baseline.save(baseline.load(kept), tmp_path / "copy.json")
    assert (tmp_path / "copy.json").read_bytes() == kept.read_bytes()


def test_a_line_for_each_sample_and_unit(kept: Path) -> None:
    lines = kept.read_text().splitlines()
    assert sum(line.startswith('["346') for line in lines) == 10
    assert sum(line.startswith('["pair ') for line in lines) == 2 * 5
    assert kept.read_bytes().isascii()


def test_it_names_no_place_and_no_host(kept: Path, runs: Path) -> None:
    import socket

    text = kept.read_text()
    assert str(runs) not in text
    assert str(runs.parents[1]) not in text
    assert socket.gethostname() not in text


def test_columns_that_differ_by_a_constant_are_kept_once() -> None:
    """Of whole numbers alone: a difference of others rounds, and every number has to come back."""
    sums = {
        "letters": [5.0, 7.0, 12.0],
        "pairs": [4.0, 6.0, 11.0],
        "same": [5.0, 7.0, 12.0],
        "one": [1.0, 1.0, 1.0],
        "tenths": [0.1, 0.2, 0.4],
        "more tenths": [1.1, 1.2, 1.4],
        "huge": [2.0**60, 1.0, 2.0],
    }
    units = Units("a", lambda total: 0.0, False, "up", False, ["x", "y", "z"], sums)
    folded = Columns.of([units], units.ids)
    assert folded.statistics["a"] == {
        "letters": [0],
        "pairs": [0, -1],
        "same": [0],
        "one": 1,
        "tenths": [1],
        "more tenths": [2],
        "huge": [3],
    }
    rows = [row for row in folded.rows() if row is not None]
    assert {name: list(column) for name, column in unfolded(folded.statistics["a"], rows).items()} == sums


def test_layout_and_line_ends_do_not_matter(tmp_path: Path, kept: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(json.loads(kept.read_text()), indent=2).replace("\n", "\r\n"))
    assert [plain(one) for one in baseline.load(other)] == [plain(one) for one in baseline.load(kept)]


def rewritten(kept: Path, path: Path, change: Change, *, forge: bool = False) -> Path:
    document = json.loads(kept.read_text())
    change(document)
    if forge:
        document["digest"] = json_key({"schema": document["schema"], "runs": document["runs"]})
    path.write_text(json.dumps(document))
    return path


def test_an_edited_file_is_refused(tmp_path: Path, kept: Path) -> None:
    text = kept.read_text()
    path = tmp_path / "edited.json"
    path.write_text(text.replace('["34602","', '["34602 ","', 1))
    with pytest.raises(StoreError, match=r"edited.json was edited after it was saved .* save it anew"):
        baseline.load(path)


def lower(document: dict[str, Any]) -> None:
    document["runs"][2]["record"]["scores"]["accuracy"]["value"] = 0.5


def strange(document: dict[str, Any]) -> None:
    document["runs"][0]["samples"][0] = ["1", "p"]


def lost(document: dict[str, Any]) -> None:
    document["runs"][0]["samples"].pop()


def far(document: dict[str, Any]) -> None:
    document["runs"][0]["samples"][0][4] = 99


def negative(document: dict[str, Any]) -> None:
    document["runs"][0]["samples"][0][5] = -1


def short(document: dict[str, Any]) -> None:
    document["runs"][2]["samples"][0][7] = []


def unit_of_none(document: dict[str, Any]) -> None:
    document["runs"][0]["units"]["pair_accuracy"]["rows"][0][1] = []


def unit_twice(document: dict[str, Any]) -> None:
    rows = document["runs"][0]["units"]["pair_accuracy"]["rows"]
    rows[0][0] = rows[1][0]


def nowhere(document: dict[str, Any]) -> None:
    document["runs"][2]["metrics"]["accuracy"]["sum"] = []


def beyond(document: dict[str, Any]) -> None:
    document["runs"][2]["metrics"]["accuracy"]["sum"] = [0, 10**400]


def newer(document: dict[str, Any]) -> None:
    document["runs"][0]["record"]["schema"] = 99


def without_primary(document: dict[str, Any]) -> None:
    document["runs"][0]["record"]["primary"] = "no"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (unit_of_none, r"mmvp/.* is damaged \(ValueError\); restore"),
        (unit_twice, r"mmvp/.* is damaged \(ValueError\); restore"),
        (nowhere, r"textvqa/.* is damaged \(ValueError\); restore"),
        (beyond, r"textvqa/.* is damaged \(OverflowError\); restore"),
        (newer, r"mmvp/.* has schema 99; this pgbench reads schemas 1 and 2, save it anew"),
        (without_primary, r"mmvp/.* has no score of 'no'; save it anew"),
        (lower, r"textvqa/.*: the statistics of accuracy give 0.9 by this task, 0.5 by its record"),
        (strange, r"is no baseline file: runs.0.samples.0.2: Field required; save it anew"),
        (lost, r"mmvp/.* is damaged \(ValueError\); restore"),
        (far, r"mmvp/.* is damaged \(IndexError\); restore"),
        (negative, r"mmvp/.* is damaged \(LookupError\); restore"),
        (short, r"textvqa/.* is damaged \(IndexError\); restore"),
    ],
)
def test_a_forged_file_is_refused_in_one_line(tmp_path: Path, kept: Path, change: Change, said: str) -> None:
    with pytest.raises(StoreError, match=said) as caught:
        baseline.load(rewritten(kept, tmp_path / "forged.json", change, forge=True))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot read"),
        ("[]", "is no baseline file; make one with pgbench baseline save RUNS --out"),
        ('{"runs": []}', "is no baseline file"),
        (
            '{"schema": 9, "digest": "", "runs": []}',
            r"has schema 9; this pgbench reads schema 1, save it anew",
        ),
        ('{"schema": 1, "digest": "", "runs": []}', "was edited after it was saved"),
    ],
)
def test_what_is_no_baseline_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(StoreError, match=said):
        baseline.load(tmp_path / "file.json")


def test_one_cell_twice_is_refused(tmp_path: Path, evidences: list[Evidence]) -> None:
    with pytest.raises(UsageError, match=r"and .* are the same cell; keep one of them"):
        baseline.save([*evidences, evidences[0]], tmp_path / "twice.json")
    assert not (tmp_path / "twice.json").exists()


def test_5000_samples_take_less_than_a_megabyte(tmp_path: Path) -> None:
    """0.38 MB with two to a picture; clusters named by a hash, as VQA data has them, take it to 0.51."""
    samples = planted.textvqa(5_000)
    before, _ = planted.flipped(planted.gold("textvqa", samples), 800, 100)
    run = reading.read(planted.plant(tmp_path, samples, before).folder)
    baseline.save([run], tmp_path / "baseline.json")
    assert 200_000 < (tmp_path / "baseline.json").stat().st_size < 1_000_000
    assert baseline.load(tmp_path / "baseline.json")[0].samples == run.samples


def told(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    code = invoke(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command(tmp_path: Path, capsys: Capture, runs: Path, kept: Path) -> None:
    path = tmp_path / "new" / "baseline.json"
    code, out, err = told(capsys, "baseline", "save", runs, "--out", path)
    assert (code, err) == (OK, "")
    assert out.startswith(f"{path}: 3 runs, ")
    assert ": 1 failed, first: 34605: no memory" in out
    assert path.read_bytes() == kept.read_bytes()
    code, out, _ = told(capsys, "baseline", "save", *runs.glob("mmvp/*"), "--out", path, "--json")
    document = json.loads(out)
    assert (code, document["bytes"], len(document["runs"])) == (OK, path.stat().st_size, 1)


def test_the_primary_metric_alone(tmp_path: Path, capsys: Capture, runs: Path) -> None:
    path = tmp_path / "baseline.json"
    assert told(capsys, "baseline", "save", runs, "--out", path, "--metric", "primary")[0] == OK
    found = baseline.load(path)
    assert [list(one.units) for one in found] == [["pair_accuracy"], ["accuracy"], ["accuracy"]]
    assert [list(one.members) for one in found] == [["pair_accuracy"], [], []]
    code, out, _ = told(capsys, "compare", path, runs)
    assert code == OK
    assert "metric precision: not kept unit by unit → scored" in out


def test_a_comparison_with_a_file(tmp_path: Path, capsys: Capture, runs: Path, kept: Path) -> None:
    code, out, _ = told(capsys, "compare", kept, *runs.glob("mmvp/*"))
    assert code == OK
    assert out.startswith("mmvp v1 · test · 10 samples compared")
    samples = planted.mmvp(10)
    other = planted.plant(tmp_path, samples, planted.gold("mmvp", samples), task="mmvp").folder
    out = told(capsys, "compare", kept, other)[1]
    assert "before: (not kept in a baseline file)" in out


def test_what_is_there_and_no_baseline_stays(tmp_path: Path, capsys: Capture, runs: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_text("mine")
    code, _, err = told(capsys, "baseline", "save", runs, "--out", path)
    assert (code, path.read_text()) == (USAGE, "mine")
    assert "is there and is no baseline file; choose another --out" in err
    assert told(capsys, "baseline", "save", runs, "--out", tmp_path)[0] == USAGE


def test_nothing_is_written_into_a_run_or_through_a_link(tmp_path: Path, capsys: Capture, runs: Path) -> None:
    (run,) = runs.glob("mmvp/*")
    code, _, err = told(capsys, "baseline", "save", run, "--out", run / "samples-1-of-2.jsonl")
    assert (code, (run / "samples-1-of-2.jsonl").exists()) == (USAGE, False)
    assert "is a run's folder, which nobody edits; give --out another place" in err
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    (tmp_path / ".new.json.tmp").symlink_to(mine)  # the name under which a file is written at first
    assert told(capsys, "baseline", "save", run, "--out", tmp_path / "new.json")[0] == OK
    assert mine.read_text() == "mine"
    assert not (tmp_path / "new.json").is_symlink()


def test_a_file_that_is_neither_run_nor_baseline_is_refused(
    tmp_path: Path, capsys: Capture, runs: Path, kept: Path
) -> None:
    """It does not stand for the runs that lie beside it; a baseline may have any name."""
    (run,) = runs.glob("mmvp/*")
    notes = tmp_path / "README.md"
    notes.write_text("# mine")
    planted.plant(tmp_path, planted.mmvp(10), planted.gold("mmvp", planted.mmvp(10)), task="mmvp")
    code, _, err = told(capsys, "compare", notes, run)
    assert (code, err.count("\n")) == (USAGE, 1)
    assert "expected a run folder, or a file of pgbench baseline save" in err
    named = tmp_path / "main.baseline"
    named.write_bytes(kept.read_bytes())
    assert told(capsys, "compare", named, run)[0] == OK
    rewritten(kept, named, lambda document: document["runs"].clear(), forge=True)
    assert "holds no run; save it anew" in told(capsys, "compare", named, run)[2]


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path, capsys: Capture) -> None:
    samples = planted.textvqa(4)
    for side, limit in (("a", None), ("b", 2)):
        folder = planted.plant(tmp_path / side, samples, planted.gold("textvqa", samples), limit=limit).folder
    (folder / "record.json").unlink()
    code, _, err = told(capsys, "baseline", "save", tmp_path, "--out", tmp_path / "baseline.json")
    assert (code, err.count("\n")) == (USAGE, 1)
    assert "is not finished; give its command again, or name other runs" in err
    assert not (tmp_path / "baseline.json").exists()


def test_hostile_names_come_back_and_do_nothing(tmp_path: Path, capsys: Capture) -> None:
    place, _ = hostile(tmp_path)
    path = tmp_path / "baseline.json"
    code, out, _ = told(capsys, "baseline", "save", place, "--out", path)
    assert code == OK
    assert not set(out) & {"\x1b", "\x07", "\ud800"}
    (found,) = baseline.load(path)
    assert {one.groups["kind"] for one in found.samples.values()} == set(HOSTILE)
    assert plain(found) == plain(reading.read(place))
    assert path.read_bytes().isascii()

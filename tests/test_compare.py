"""`pgbench compare` on planted flips: changes, intervals, p and examples that were worked out by hand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import planted
import pytest

from pgbench.cli import invoke
from pgbench.errors import OK, USAGE
from pgbench.paired import reading
from pgbench.paired.compare import MCNEMAR, Comparison, Row, compare
from pgbench.registry import load_task
from pgbench.types import Sample, Task

Capture: TypeAlias = pytest.CaptureFixture[str]
OTHER = {"yes": "no", "no": "yes"}


def folders(
    out: Path, samples: tuple[Sample, ...], before: dict[str, str], after: dict[str, str], **more: Any
) -> tuple[Path, Path]:
    task = more.pop("task", "textvqa")
    one = planted.plant(out / "a", samples, before, task=task)
    return one.folder, planted.plant(out / "b", samples, after, task=task, **more).folder


def textvqa(out: Path, per_image: int, **more: Any) -> tuple[Path, Path]:
    """Of eight questions the second run lost the first three and gained the last."""
    samples = planted.textvqa(8, per_image)
    right = planted.gold("textvqa", samples)
    names = list(right)
    after = right | dict.fromkeys(names[:3], "unlike")
    return folders(out, samples, right | {names[7]: "unlike"}, after, **more)


def compared(places: tuple[Path, Path], **options: Any) -> Comparison:
    return compare(reading.read(places[0]), reading.read(places[1]), **options)


def row_of(found: Comparison, metric: str) -> Row:
    return next(row for row in found.rows if row.metric == metric)


def numbers(row: Row) -> tuple[float | None, ...]:
    """Values to nine digits; units that fell and rose; samples and clusters."""
    values = [None if value is None else round(value, 9) for value in (row.before, row.after)]
    return *values, row.fell, row.rose, row.n, row.clusters


def test_a_mean_of_single_samples(tmp_path: Path) -> None:
    """Differences -1 three times, +1 once, 0 four times: mean -2/8, standard error sqrt(3.5 / 7 / 8) = 0.25,
    t(7) = 2.364624; of four flips three or more go one way with a chance of 2 (1 + 4) / 16."""
    row = compared(textvqa(tmp_path, per_image=1)).rows[0]
    assert numbers(row) == (0.875, 0.625, 3, 1, 8, 8)
    assert row.difference is not None
    assert row.difference.value == pytest.approx(-0.25)
    assert (row.difference.low, row.difference.high) == pytest.approx((-0.841156, 0.341156), abs=1e-6)
    assert row.test is not None
    assert row.test.kind == MCNEMAR
    assert row.test.p == pytest.approx(0.625)
    assert row.binary


def test_a_mean_of_samples_that_share_pictures(tmp_path: Path) -> None:
    """Pictures differ by -2, -1, 0 and +1: of the eight ways to swap three labels six give 2 or more."""
    row = compared(textvqa(tmp_path, per_image=2)).rows[0]
    assert numbers(row) == (0.875, 0.625, 3, 1, 8, 4)
    assert row.test is not None
    assert (row.test.kind, row.test.p, row.test.draws) == ("exact label swap", 0.75, 8)


def test_pairs_of_mmvp(tmp_path: Path) -> None:
    """One answer of the first pair is lost and both of the second: two of four pairs, one way of two."""
    samples = planted.mmvp(8)
    right = planted.gold("mmvp", samples)
    found = compared(
        folders(tmp_path, samples, right, right | dict.fromkeys(("1", "3", "4"), "unlike"), task="mmvp")
    )
    pairs = row_of(found, "pair_accuracy")
    assert (found.rows[0], numbers(pairs)) == (pairs, (1.0, 0.5, 2, 0, 8, 4))
    assert pairs.difference is not None
    assert pairs.difference.value == -0.5
    assert pairs.test is not None
    assert (pairs.test.kind, pairs.test.p, pairs.units) == (MCNEMAR, 0.5, 4)
    single = row_of(found, "accuracy")
    assert numbers(single) == (1.0, 0.625, 3, 0, 8, 4)
    assert single.test is not None
    assert (single.test.kind, single.test.p) == ("exact label swap", 0.5)


def narrow_pope(*metrics: str) -> Task:
    """Fewer metrics, each of which would be resampled when a record is made."""
    task = load_task("pope")
    return replace(task, metrics=tuple(one for one in task.metrics if one.name in metrics))


@pytest.fixture(scope="module")
def pope(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of 24 questions in three settings, two of one setting turn wrong: a yes missed, a yes too many."""
    samples = planted.pope(24)
    right = planted.gold("pope", samples)
    turned = {name: OTHER[right[name]] for name in ("random-0", "random-1")}
    assert sorted(turned.values()) == ["no", "yes"]
    task = narrow_pope("accuracy", "recall", "f1")
    return folders(tmp_path_factory.mktemp("pope"), samples, right, right | turned, task=task)


def test_f1_over_settings(pope: tuple[Path, Path]) -> None:
    """In one of three settings TP 3, FP 1, FN 1: F1 is 0.75 there and 1 in the others."""
    row = row_of(compared(pope, metrics=["f1"]), "f1")
    assert numbers(row) == (1.0, round((0.75 + 1 + 1) / 3, 9), 2, 0, 24, 4)
    assert row.difference is not None
    assert row.difference.value == pytest.approx(-0.25 / 3)
    assert row.difference.kind == "few differences seen"  # one cluster of four
    assert (row.difference.disagreeing, row.binary) == (1, False)
    assert row.test is not None
    assert (row.test.kind, row.test.p) == ("exact label swap", 1.0)


def test_a_macro_mean(pope: tuple[Path, Path]) -> None:
    """POPE's accuracy is the mean of its settings, here of 6/8, 1 and 1; recall of 3/4, 1 and 1."""
    found = compared(pope, metrics=["accuracy", "recall"])
    assert numbers(row_of(found, "accuracy"))[:4] == (1.0, round(1 - 0.25 / 3, 9), 2, 0)
    assert numbers(row_of(found, "recall"))[:4] == (1.0, round(1 - 0.25 / 3, 9), 1, 0)


def test_settings_of_other_sizes_weigh_alike(tmp_path: Path) -> None:
    """Two questions of one setting against twelve of another: a mean over samples would be -1/20."""
    samples = planted.pope(24)
    kept = tuple(one for one in samples if one.groups["setting"] != "random" or int(one.id[7:]) < 2)
    right = planted.gold("pope", kept)
    after = right | {"random-0": OTHER[right["random-0"]]}
    places = folders(tmp_path, kept, right, after, task=narrow_pope("accuracy"))
    row = row_of(compared(places, metrics=["accuracy"]), "accuracy")
    assert row.difference is not None
    assert row.difference.value == pytest.approx(-0.5 / 3)


def test_a_breakdown_has_intervals_and_no_p(pope: tuple[Path, Path]) -> None:
    found = compared(pope, by="setting", metrics=["accuracy"])
    assert [(row.group, row.after, row.n, row.test) for row in found.groups] == [
        ("adversarial", 1.0, 8, None),
        ("popular", 1.0, 8, None),
        ("random", 0.75, 8, None),
    ]
    last = found.groups[-1].difference
    assert last is not None
    assert last.low is not None


def test_a_value_that_is_undefined_has_no_difference(tmp_path: Path) -> None:
    """Without a true positive there is no F1."""
    samples = planted.pope(24)
    right = planted.gold("pope", samples)
    places = folders(tmp_path, samples, right, dict.fromkeys(right, "no"), task=narrow_pope("f1"))
    row = row_of(compared(places, metrics=["f1"]), "f1")
    assert (row.before, row.after, row.difference, row.test) == (1.0, None, None, None)


def told(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    code = invoke(["compare", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_table(tmp_path: Path, capsys: Capture) -> None:
    places = textvqa(tmp_path, per_image=1, point=planted.checkpoint(quant="4bit"))
    code, out, err = told(capsys, *places)
    assert (code, err) == (OK, "")
    lines = out.splitlines()
    assert lines[0] == "textvqa v1 · val · 8 samples compared"
    assert lines[2] == f"after:  google/paligemma-3b-mix-224@00000000 · 224 px · 4bit ({places[1]})"
    row = next(line.split() for line in lines if line.startswith("accuracy "))
    assert " ".join(row) == "accuracy 87.50 62.50 -25.00 -84.12 to +34.12 0.6250 3 lost, 1 gained 8 8 0"
    assert "also different: quant: none → 4bit" in lines
    assert any(
        line.startswith("both: INCOMPLETE SPLIT: 8 samples here, 5,000 as published") for line in lines
    )
    assert any(line.startswith("both: CONTAMINATED: ") for line in lines)


def test_flips_are_shown_with_both_answers(tmp_path: Path, capsys: Capture) -> None:
    code, out, _ = told(capsys, *textvqa(tmp_path, per_image=1), "--examples", 2)
    assert code == OK
    lost, gained = out[out.index("\naccuracy, lost: 2 of 3") :].split("accuracy, gained: 1 of 1")
    assert lost.count("\n  sample ") == 2
    assert gained.splitlines()[1:] == [
        "  sample 34609  +100 points",
        "    asked:  answer en what is word 7?",
        "    before: unlike",
        "    after:  word 7",
        "    references: word 7",
    ]
    assert (
        "lost: " not in told(capsys, *textvqa(tmp_path, 1), "--examples", 0)[1].split("gained: the other")[1]
    )


def test_a_pair_is_shown_with_both_questions(tmp_path: Path, capsys: Capture) -> None:
    samples = planted.mmvp(4)
    right = planted.gold("mmvp", samples)
    places = folders(tmp_path, samples, right, right | {"4": "unlike"}, task="mmvp")
    out = told(capsys, *places)[1]
    shown = out[out.index("pair_accuracy, lost: 1 of 1") :]
    assert "unit pair 1 (2 samples)  -100 points" in shown
    assert shown.count("asked: ") == 2
    assert "after:  unlike" in shown


def test_the_document(tmp_path: Path, capsys: Capture) -> None:
    code, out, _ = told(
        capsys, *textvqa(tmp_path, 1), "--metric", "paper_accuracy", "--examples", 1, "--json"
    )
    document = json.loads(out)
    (found,) = document.pop("comparisons")
    assert (code, document) == (OK, {"refused": [], "missing": [], "new": [], "unfinished": []})
    (metric,) = found["metrics"]
    assert (metric["metric"], metric["difference"]["value"], metric["test"]["p"]) == (
        "paper_accuracy",
        -0.25,
        0.625,
    )
    assert (metric["fell"], metric["rose"], metric["n"]) == (3, 1, 8)
    assert metric["failed"] == {"before": 0, "after": 0}
    assert (found["comparable"], found["samples"], len(found["examples"]["fell"])) == (True, 8, 1)
    (sample,) = found["examples"]["rose"][0]["samples"]
    assert (sample["before"]["output"], sample["after"]["output"]) == ("unlike", "word 7")


def test_a_refusal_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    samples = planted.textvqa(8)
    right = planted.gold("textvqa", samples)
    one = planted.plant(tmp_path / "a", samples, right).folder
    other = planted.plant(tmp_path / "b", samples, right, split="test").folder
    code, out, err = told(capsys, one, other)
    assert (code, out) == (USAGE, "")
    assert err == (
        f"pgbench: {one} and {other} cannot be compared: split: val there, test here; --anyway compares what "
        "they share and marks it\n"
    )
    code, out, _ = told(capsys, one, other, "--anyway")
    assert code == OK
    assert out.splitlines()[:2] == [
        "NOT COMPARABLE: the change below may come from what differs and not from the models",
        "  split: val → test",
    ]


def test_shared_samples_alone_are_compared_anyway(tmp_path: Path, capsys: Capture) -> None:
    samples = planted.textvqa(10)
    right = planted.gold("textvqa", samples)
    one = planted.plant(tmp_path / "a", samples, right).folder
    other = planted.plant(tmp_path / "b", samples, right | {"34602": "unlike"}, limit=6).folder
    assert told(capsys, one, other)[0] == USAGE
    found = json.loads(told(capsys, one, other, "--anyway", "--json")[1])["comparisons"][0]
    assert (found["comparable"], found["samples"], found["metrics"][0]["n"]) == (False, 6, 6)


def test_failures_of_one_side(tmp_path: Path, capsys: Capture) -> None:
    samples = planted.textvqa(8, per_image=1)
    right = planted.gold("textvqa", samples)
    places = folders(tmp_path, samples, right, right, failed={"34604": "no memory"})
    code, _, err = told(capsys, *places)
    assert code == USAGE
    assert "failed samples: 0 there, 1 (first: 34604) here; --drop-failed leaves out samples" in err
    code, out, _ = told(capsys, *places, "--drop-failed")
    assert code == OK
    assert "left out: 1 sample that failed on either side" in out
    row = next(line.split() for line in out.splitlines() if line.startswith("accuracy "))
    assert row[1:4] == ["100.00", "100.00", "+0.00"]
    marked = told(capsys, *places, "--anyway")[1]
    assert "0 → 1" in marked
    assert "after:  (not kept" not in marked
    assert "    after:  failed: no memory" in marked


def several(tmp_path: Path) -> tuple[Path, Path]:
    """Two tasks on both sides, one level on one of them, and a run that is not finished."""
    samples, pairs = planted.textvqa(8), planted.mmvp(8)
    right, both = planted.gold("textvqa", samples), planted.gold("mmvp", pairs)
    for side, text in (("a", "word"), ("b", "unlike")):
        planted.plant(tmp_path / side, samples, right | {"34602": text})
        planted.plant(tmp_path / side, pairs, both, task="mmvp")
    planted.plant(tmp_path / "a", samples, right, planted.checkpoint(quant="8bit"))
    stopped = planted.plant(
        tmp_path / "b", planted.pope(6), planted.gold("pope", planted.pope(6)), task="pope"
    )
    (stopped.folder / "record.json").unlink()
    return tmp_path / "a", tmp_path / "b"


def test_folders_of_runs_are_matched_and_listed(tmp_path: Path, capsys: Capture) -> None:
    code, out, err = told(capsys, *several(tmp_path))
    assert (code, err) == (OK, "")
    assert out.startswith("2 pairs of runs, after - before\n")
    assert [line.split()[0] for line in out.splitlines()[3:7]][1:3] == ["mmvp", "textvqa"]
    ends = out.splitlines()[-2:]
    assert ends[0].startswith(f"only in A: {tmp_path}/a/textvqa/google_paligemma-3b-mix-224_224px_8bit-")
    assert ends[1].startswith(f"not finished: {tmp_path}/b/pope/")


def test_one_pair_of_many_that_is_refused_is_named(tmp_path: Path, capsys: Capture) -> None:
    ours, theirs = several(tmp_path)
    (samples,) = theirs.glob("mmvp/*/samples-0-of-1.jsonl")
    samples.write_text("")
    code, out, _ = told(capsys, ours, theirs)
    assert code == USAGE
    assert out.startswith("1 pair of runs")
    assert f"REFUSED: {samples.parent} holds 0 answers, its record 8; restore the samples files" in out
    document = json.loads(told(capsys, ours, theirs, "--json")[1])
    assert (len(document["comparisons"]), len(document["refused"]), len(document["missing"])) == (1, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--metric", "acuracy"], "unknown metric of .*'acuracy'; did you mean accuracy"),
        (["--by", "setting"], "unknown group of .*'setting'"),
        (["--task", "none.py"], "none.py"),
    ],
)
def test_mistakes(tmp_path: Path, capsys: Capture, arguments: list[str], said: str) -> None:
    code, out, err = told(capsys, *textvqa(tmp_path, 1), *arguments)
    assert (code, out, err.count("\n")) == (USAGE, "", 1)
    assert re.search(said, err)


def test_runs_of_nothing_in_common(tmp_path: Path, capsys: Capture) -> None:
    ours, theirs = several(tmp_path)
    code, _, err = told(capsys, ours / "mmvp", theirs / "textvqa")
    assert code == USAGE
    assert "no run of " in err
    assert told(capsys, ours, tmp_path / "nowhere")[2].startswith("pgbench: there is no folder ")
    assert (
        "is not finished; give its command again" in told(capsys, ours, next((theirs / "pope").iterdir()))[2]
    )


def test_a_run_with_itself_says_so(tmp_path: Path, capsys: Capture) -> None:
    one, other = textvqa(tmp_path, per_image=1)
    assert "before and after are one and the same run" in told(capsys, one, one)[1].splitlines()
    assert "the same run" not in told(capsys, one, other)[1]


def test_what_belongs_to_several_is_said(tmp_path: Path, capsys: Capture) -> None:
    """Two runs of one cell below a folder: that there is none to compare with would be untrue."""
    samples = planted.textvqa(8)
    right = planted.gold("textvqa", samples)
    one, two = (planted.plant(tmp_path / side, samples, right).folder for side in "ab")
    code, _, err = told(capsys, tmp_path, tmp_path)
    assert (code, err) == (USAGE, f"pgbench: {one} could belong to {one} or {two}; name two run folders\n")
    assert f"{one} could belong to {one} or {two}" in told(capsys, one, tmp_path)[2]
    pairs = planted.mmvp(4)
    planted.plant(tmp_path / "a", pairs, planted.gold("mmvp", pairs), task="mmvp")
    code, out, _ = told(capsys, tmp_path, tmp_path)
    ends = [f"matched with none of several, in {side}: {place}" for side in "AB" for place in (one, two)]
    assert (code, out.splitlines()[-4:]) == (OK, ends)


def test_the_runs_of_a_task_file(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import dataclasses\nfrom pgbench_tasks.textvqa import TASK as REAL\n"
        'TASK = dataclasses.replace(REAL, name="mine")\n'
    )
    samples = planted.textvqa(8)
    right = planted.gold("textvqa", samples)
    task = load_task(str(path))
    places = folders(tmp_path, samples, right, right, task=task)
    assert "name it with --task" in told(capsys, *places)[2]
    assert told(capsys, *places, "--task", path)[0] == OK


HOSTILE = ("<script>alert(1)</script>", "\x1b[31mred\x1b]0;title\x07", "\n::error::no", "\ud800", "‮olleh")


def hostile(tmp_path: Path) -> tuple[Path, Path]:
    samples = tuple(
        Sample(
            id=f"{text} {number}",
            images=planted.textvqa(1)[0].images,
            question=text,
            target=(text,) * 10,
            groups={"kind": text},
            cluster=f"{text} {number}",
        )
        for number, text in enumerate(HOSTILE)
    )
    right = {one.id: "word" for one in samples}
    return folders(tmp_path, samples, right, {one.id: one.question for one in samples})


def test_hostile_text_does_nothing(tmp_path: Path, capsys: Capture) -> None:
    places = hostile(tmp_path)
    code, out, _ = told(capsys, *places, "--by", "kind", "--examples", 9)
    assert code == OK
    assert out.count("  sample ") > 2
    assert not set(out) & {"\x1b", "\x07", "\r", "\ud800", "‮"}
    assert not any(line.lstrip().startswith("::") for line in out.splitlines())
    document = json.loads(told(capsys, *places, "--by", "kind", "--json")[1])
    assert {row["group"] for row in document["comparisons"][0]["groups"]} == set(HOSTILE)


SPEED = """
import json, resource, sys
from pgbench.cli import invoke
code = invoke(["compare", *sys.argv[1:]])
used = resource.getrusage(resource.RUSAGE_SELF)
heavy = {"torch", "transformers", "datasets", "pandas", "matplotlib", "PIL", "scipy.stats", "statsmodels"}
print("\\n" + json.dumps([code, used.ru_utime + used.ru_stime, sorted(heavy & set(sys.modules))]))
"""


def test_two_runs_of_5000_samples_take_less_than_two_seconds(tmp_path: Path) -> None:
    """As a whole process; 0.9 s of processor time on the machine that this was written on. The bound is
    for slower and busy ones."""
    samples = planted.textvqa(5_000)
    places = folders(tmp_path, samples, *planted.flipped(planted.gold("textvqa", samples), 400, 150))
    command = [sys.executable, "-c", SPEED, *map(str, places)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    code, seconds, heavy = json.loads(ended.stdout.splitlines()[-1])
    assert (code, heavy) == (OK, [])
    assert seconds < 4.0
    assert "275 lost, 125 gained" in ended.stdout
    assert "-3.00" in ended.stdout


def test_nothing_is_written(tmp_path: Path, capsys: Capture) -> None:
    places = textvqa(tmp_path, 1)
    before = state(tmp_path)
    assert told(capsys, *places)[0] == OK
    assert state(tmp_path) == before


def state(folder: Path) -> dict[str, int]:
    look: Callable[[Path], int] = lambda path: path.stat().st_mtime_ns  # noqa: E731
    return {str(path): look(path) for path in folder.rglob("*")}

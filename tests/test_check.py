"""pgbench check on runs with planted answers: each verdict, and what the command prints and exits with."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import planted
import pytest
from scipy.stats import t

from pgbench import store
from pgbench.cli import invoke
from pgbench.paired import baseline as baseline_file
from pgbench.paired.reading import read
from pgbench.records import Stack
from pgbench.registry import load_task

MANY = planted.textvqa(5000)
RIGHT = planted.gold("textvqa", MANY)
FEW = MANY[:50]
RIGHT_OF_FEW = {sample.id: RIGHT[sample.id] for sample in FEW}
IDS = list(RIGHT)
ANY = random.Random(0).sample(IDS, len(IDS))


def moved(before: Mapping[str, str], lost: int, gained: int) -> dict[str, str]:
    """Answers that lose and gain so many samples; 200 were wrong before."""
    after = dict(before)
    after.update({name: RIGHT[name] for name in ANY[:gained]})
    after.update(dict.fromkeys(ANY[200 : 200 + lost], "unlike"))
    return after


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5,000 samples: a baseline, 3.0 points fewer and 0.3 fewer, each with 8 % flips; and 50 samples."""
    out = tmp_path_factory.mktemp("runs")
    before = RIGHT | dict.fromkeys(ANY[:200], "unlike")
    planted.plant(out / "baseline", MANY, before)
    planted.plant(out / "drop3", MANY, moved(before, 275, 125))
    planted.plant(out / "drop03", MANY, moved(before, 208, 193))
    first, second = planted.flipped(RIGHT_OF_FEW, 5, 1)
    planted.plant(out / "few", FEW, first)
    planted.plant(out / "few-dropped", FEW, second)
    return out


Checked = tuple[int, dict[str, Any]]


@pytest.fixture
def checked(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command; its exit code and document."""

    def run(baseline: Path, candidate: Path, *more: str) -> Checked:
        capsys.readouterr()
        code = invoke(["check", "--baseline", str(baseline), "--candidate", str(candidate), "--json", *more])
        return code, json.loads(capsys.readouterr().out)

    return run


def only(document: Mapping[str, Any]) -> dict[str, Any]:
    (found,) = document["findings"]
    return dict(found)


def folder_of(place: Path) -> Path:
    (record,) = place.rglob("record.json")
    return record.parent


def test_three_points_on_5000_samples_are_a_regression(runs: Path, checked: Any) -> None:
    code, document = checked(runs / "baseline", runs / "drop3")
    found = only(document)
    assert (code, found["verdict"], found["measure"]["n"]) == (1, "regressed", 5000)
    assert found["measure"]["difference"] == pytest.approx(-0.03)
    assert found["measure"]["p_worse"] < 0.001
    assert found["measure"]["low"] < -0.03 < found["measure"]["high"] < -0.01


def test_three_tenths_of_a_point_are_ok(runs: Path, checked: Any) -> None:
    code, document = checked(runs / "baseline", runs / "drop03")
    found = only(document)
    assert (code, found["verdict"]) == (0, "ok")
    assert -0.01 < found["measure"]["low"] < found["measure"]["difference"] == pytest.approx(-0.003)


def test_the_bound_is_students_of_the_pictures_differences(runs: Path, checked: Any) -> None:
    found = only(checked(runs / "baseline", runs / "drop3")[1])["measure"]
    after = moved(RIGHT | dict.fromkeys(ANY[:200], "unlike"), 275, 125)
    right = [(after[name] == RIGHT[name]) - (name not in ANY[:200]) for name in IDS]
    sums = [right[at] + right[at + 1] for at in range(0, 5000, 2)]
    squares = sum((one + 2 * 0.03) ** 2 for one in sums)
    reach = t.ppf(0.95, 2499) * math.sqrt(2500 / 2499 * squares) / 5000
    assert (found["low"], found["high"]) == pytest.approx((-0.03 - reach, -0.03 + reach))


def test_the_way_back_is_an_improvement(runs: Path, checked: Any) -> None:
    code, document = checked(runs / "drop3", runs / "baseline")
    found = only(document)
    assert (code, found["verdict"]) == (0, "improved")
    assert found["measure"]["p_better"] < 0.001 < found["measure"]["p_worse"]


def test_50_samples_cannot_tell(
    runs: Path, checked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = planted.flipped(RIGHT_OF_FEW, 4, 2)  # 4 points; 3 points are one sample and a half
    planted.plant(tmp_path / "a", FEW, first)
    planted.plant(tmp_path / "b", FEW, second)
    for before, after in ((runs / "few", runs / "few-dropped"), (tmp_path / "a", tmp_path / "b")):
        code, document = checked(before, after)
        found = only(document)
        assert (code, found["verdict"]) == (0, "cannot tell")
        assert found["measure"]["needed"] > 50
        assert checked(before, after, "--strict")[0] == 3
    assert invoke(["check", "--baseline", str(before), "--candidate", str(after)]) == 0
    said = capsys.readouterr()
    assert "50 samples do not tell" in said.out
    assert "warning: 1 cannot tell; --strict" in said.err


@pytest.mark.parametrize("damage", ["record", "answers", "spec", "score"])
def test_a_broken_run_is_failed(damage: str, runs: Path, checked: Any, tmp_path: Path) -> None:
    shutil.copytree(runs / "few", tmp_path / "broken")
    folder = folder_of(tmp_path / "broken")
    if damage == "record":
        (folder / "record.json").unlink()
    elif damage == "answers":
        (samples,) = folder.glob("samples-*.jsonl")
        samples.write_text("".join(samples.read_text().splitlines(keepends=True)[:-2]))
    elif damage == "score":
        text = (folder / "record.json").read_text()
        value = store.read_record(folder)
        assert value is not None
        changed = text.replace(f"{value.scores['accuracy'].value}", "0.125", 1)
        assert changed != text
        (folder / "record.json").write_text(changed)
    else:
        (folder / "record.json").write_text("{")
        (folder / "spec.json").write_text("{")
    code, document = checked(runs / "few", tmp_path / "broken")
    verdicts = [one["verdict"] for one in document["findings"]]
    assert code == 3
    assert verdicts == (["failed", "missing"] if damage == "spec" else ["failed"])
    assert str(tmp_path) not in json.dumps(document)
    code, document = checked(tmp_path / "broken", runs / "few")
    assert code == 3
    assert document["findings"][0]["reason"].startswith("baseline: ")


def test_a_broken_run_is_not_mistaken_for_another_level(runs: Path, checked: Any, tmp_path: Path) -> None:
    """What is left over on both sides is a couple; a broken run of the cell leaves nothing over."""
    shutil.copytree(runs / "few", tmp_path / "out")
    (folder_of(tmp_path / "out") / "record.json").unlink()
    planted.plant(tmp_path / "out", FEW, RIGHT_OF_FEW, planted.checkpoint(quant="4bit"))
    code, document = checked(runs / "few", tmp_path / "out")
    assert (code, [one["verdict"] for one in document["findings"]]) == (3, ["failed", "new"])


def test_a_changed_prompt_is_incomparable(runs: Path, checked: Any, tmp_path: Path) -> None:
    task = load_task("textvqa")
    asked = replace(task, prompt=lambda sample, profile, variant: f"answer de {sample.question}")
    planted.plant(tmp_path, FEW, RIGHT_OF_FEW, task=asked)
    code, document = checked(runs / "few", tmp_path)
    found = only(document)
    assert (code, found["verdict"]) == (3, "incomparable")
    assert "prompts (50 of 50 differ" in found["reason"]
    assert "answer de what is word" in found["reason"]


def test_a_cell_without_candidate_is_missing_and_a_new_one_is_listed(
    runs: Path, checked: Any, tmp_path: Path
) -> None:
    pope = planted.pope(60)
    planted.plant(tmp_path, pope, planted.gold("pope", pope), task="pope")
    code, document = checked(runs / "few", tmp_path)
    assert (code, document["counts"]) == (3, {"missing": 1, "new": 1})
    assert "pope" in document["findings"][1]["cell"]
    assert document["hypotheses"] == 0


def test_one_run_of_a_task_is_compared_with_another_level(runs: Path, checked: Any, tmp_path: Path) -> None:
    four, eight = planted.checkpoint(quant="4bit"), planted.checkpoint(quant="8bit")
    planted.plant(tmp_path / "four", FEW, RIGHT_OF_FEW, four)
    code, document = checked(runs / "few", tmp_path / "four")
    found = only(document)
    assert (code, found["measure"]["n"]) == (0, 50)
    assert "changed: quant: none → 4bit" in found["notes"]
    for place, point in (("before", eight), ("after", four)):  # now each side has a level of its own as well
        planted.plant(tmp_path / place, FEW, RIGHT_OF_FEW)
        planted.plant(tmp_path / place, FEW, RIGHT_OF_FEW, point)
    code, document = checked(tmp_path / "before", tmp_path / "after")
    assert (code, document["counts"]) == (3, {"missing": 1, "ok": 1, "new": 1})


def test_two_runs_of_one_cell_are_said(runs: Path, checked: Any, tmp_path: Path) -> None:
    planted.plant(tmp_path / "two", FEW, RIGHT_OF_FEW, batch=32)
    planted.plant(tmp_path / "two", FEW, RIGHT_OF_FEW, batch=16)
    code, document = checked(runs / "few", tmp_path / "two")
    assert (code, document["counts"]) == (3, {"missing": 1, "new": 2})
    said = "runs of this cell: {} in the baseline, {} in the candidate; leave one on each side"
    assert document["findings"][0]["reason"] == said.format(1, 2)
    planted.plant(tmp_path / "one", FEW, RIGHT_OF_FEW, batch=16)
    code, document = checked(tmp_path / "two", tmp_path / "one")
    assert (code, document["counts"]) == (3, {"missing": 1, "ok": 1})
    assert document["findings"][0]["reason"] == said.format(2, 1)


def test_the_very_same_run_is_ok_by_identity(runs: Path, checked: Any, tmp_path: Path) -> None:
    """Fifty samples without a flip prove little, unless they are the same answers of the same stack."""
    code, document = checked(runs / "few", runs / "few", "--tolerance", "0")
    found = only(document)
    assert (code, found["verdict"], document["hypotheses"]) == (0, "ok", 0)
    assert "the very same run" in found["reason"]
    assert found["measure"]["n"] == 50
    newer = Stack("paligemma", planted.VERSIONS | {"torch": "9.9"}, device="cpu")
    first, _ = planted.flipped(RIGHT_OF_FEW, 5, 1)
    planted.plant(tmp_path, FEW, first, stack=newer)
    code, document = checked(runs / "few", tmp_path)
    found = only(document)
    assert (code, found["verdict"]) == (0, "cannot tell")
    assert found["measure"]["interval"] == "no difference seen"
    assert "changed: torch: 2.13.0 → 9.9" in found["notes"]
    assert not any("/" in note.split(":")[0] for note in found["notes"])


def test_equal_answers_of_many_samples_are_ok(runs: Path, checked: Any, tmp_path: Path) -> None:
    """The bound of what was not seen is within the tolerance, and the changed library is named."""
    some = {sample.id: RIGHT[sample.id] for sample in MANY[:800]}
    for name, torch in (("a", "2.13.0"), ("b", "2.14.0")):
        stack = Stack("paligemma", planted.VERSIONS | {"torch": torch}, device="cpu")
        planted.plant(tmp_path / name, MANY[:800], some, stack=stack)
    code, document = checked(tmp_path / "a", tmp_path / "b")
    found = only(document)
    assert (code, found["verdict"]) == (0, "ok")
    assert -0.01 < found["measure"]["low"] < 0


def test_failures_and_nonfinite_logits_fail(runs: Path, checked: Any, tmp_path: Path) -> None:
    first, _ = planted.flipped(RIGHT_OF_FEW, 5, 1)
    broken = {IDS[3]: "no picture", IDS[4]: "no picture"}
    planted.plant(tmp_path / "failures", FEW, first, failed=broken)
    code, document = checked(runs / "few", tmp_path / "failures")
    found = only(document)
    assert (code, found["verdict"]) == (3, "failed")
    assert "2 samples failed (none is allowed" in found["reason"]
    rules = tmp_path / "rules.yaml"
    rules.write_text("defaults: {require: {failures: 2}}\n")
    code, document = checked(runs / "few", tmp_path / "failures", "--rules", str(rules))
    found = only(document)
    assert (code, found["verdict"], found["measure"]["n"]) == (0, "cannot tell", 48)
    assert found["measure"]["failed"] == [0, 2]
    assert "2 samples that failed on one side are left out of both" in found["notes"]
    shutil.copytree(runs / "few", tmp_path / "nan")
    record = folder_of(tmp_path / "nan") / "record.json"
    record.write_text(record.read_text().replace('"nonfinite": 0', '"nonfinite": 7'))
    code, document = checked(runs / "few", tmp_path / "nan")
    assert (code, only(document)["reason"]) == (3, "7 samples met logits that are nan or inf")


def test_a_baseline_is_a_folder_a_run_or_a_file(runs: Path, checked: Any, tmp_path: Path) -> None:
    folder = folder_of(runs / "few")
    file = tmp_path / "baseline.json"
    baseline_file.save([read(folder)], file)
    codes = {}
    for place in (runs / "few", folder, folder / "record.json", file):
        code, document = checked(place, runs / "few-dropped")
        codes[place] = (code, only(document)["measure"]["difference"], only(document)["measure"]["low"])
    assert len(set(codes.values())) == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--tolerance", "-1"], "--tolerance: expected points from 0 to 100"),
        (["--alpha", "0.5"], "--alpha: expected a number above 0"),
        (["--alpha", "nan"], "--alpha: expected a number above 0"),
        (["--github", "maybe"], "unknown --github 'maybe'"),
        (["--rules", "no.yaml"], "there is no file no.yaml"),
    ],
)
def test_usage(flags: list[str], said: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = str(runs / "few")
    assert invoke(["check", "--baseline", few, "--candidate", few, *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_baseline_that_is_not_there_or_empty(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = str(runs / "few")
    assert invoke(["check", "--baseline", str(tmp_path / "no"), "--candidate", few]) == 2
    assert "there is no" in capsys.readouterr().err
    assert invoke(["check", "--baseline", str(tmp_path), "--candidate", few]) == 2
    assert "a baseline holds one or more" in capsys.readouterr().err
    assert invoke(["check", "--baseline", few, "--candidate", str(tmp_path)]) == 3
    (tmp_path / "text.json").write_text("[]")
    assert invoke(["check", "--baseline", str(tmp_path / "text.json"), "--candidate", few]) == 2


def test_flags_count_for_every_cell(runs: Path, checked: Any) -> None:
    assert only(checked(runs / "baseline", runs / "drop3", "--tolerance", "4")[1])["verdict"] == "ok"
    found = only(checked(runs / "baseline", runs / "drop3", "--alpha", "0.01", "--draws", "999")[1])
    assert found["verdict"] == "regressed"
    assert found["measure"]["alpha"] == 0.01
    assert found["measure"]["low"] < -0.038  # the bound is of 99 %


def test_an_alpha_that_no_p_can_be_below_is_said(runs: Path, checked: Any) -> None:
    """Everything wrong would pass: a million swaps know no p below a millionth."""
    code, document = checked(runs / "few", runs / "few-dropped", "--alpha", "1e-7")
    assert (code, len(document["warnings"])) == (0, 1)
    assert "alpha 1e-07 over a family of 1 is below any p" in document["warnings"][0]
    assert checked(runs / "few", runs / "few-dropped", "--alpha", "1e-5")[1]["warnings"] == []

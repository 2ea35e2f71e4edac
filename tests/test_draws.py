"""`--official-seed` against the official scripts' own runs, draw by draw."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import golden_cmmmu
import golden_mmmu
import mmmu_layout
import pytest
from agreement import FOLDER, golden
from pgbench_tasks.cmmmu import DISCIPLINES

from pgbench.cli import invoke
from pgbench.errors import DataError
from pgbench.metrics.draws import CMMMU_DISCIPLINES, cmmmu_draw, mmmu_draw, scienceqa_draw
from pgbench.metrics.scienceqa import LETTERS, official_letter
from pgbench.metrics.scoring import Row, score
from pgbench.types import Metric, Sample

Data = Mapping[str, Any]


@pytest.fixture(scope="module")
def mmmu() -> Data:
    return golden("mmmu", FOLDER)


@pytest.fixture(scope="module")
def cmmmu() -> Data:
    return golden("cmmmu", FOLDER)


def mmmu_rows(data: Data) -> list[Row]:
    """The cases last first: the metric has to find the published order by itself."""
    rows: list[Row] = []
    for position, case in enumerate(data["cases"]):
        subject = "_".join(case["id"].split("_")[1:-1])
        fields = {"position": position}
        one = replace(golden_mmmu.sample(case), groups={"subject": subject}, fields=fields)
        rows.append((one, case["prediction"]))
    return rows[::-1]


def cmmmu_rows(data: Data) -> list[Row]:
    rows: list[Row] = []
    for position, case in enumerate(data["cases"]):
        if case["mode"] == "response":
            one = golden_cmmmu.sample(case)
            groups = {"discipline": DISCIPLINES[case["reference"]["category"]]}
            fields = {**one.fields, "position": position}
            rows.append((replace(one, groups=groups, fields=fields), case["prediction"]))
    return rows[::-1]


def right(metric: Metric, rows: list[Row]) -> int:
    found = score(metric, rows)
    assert found.value is not None
    return round(found.value * found.n)


def test_mmmu_with_seed_42_is_the_official_run(mmmu: Data) -> None:
    official = mmmu["aggregate"]["all_cases_official_run_seed42"]
    found = score(mmmu_draw(42), mmmu_rows(mmmu))
    correct = sum(round(one["acc"] * one["num_example"]) for one in official["per_category"].values())
    value = found.value or 0.0
    assert value == correct / official["n"]
    assert round(value, 3) == official["print_results"]["Overall"]["acc"]
    assert (found.n, found.invalid) == (official["n"], sum(bool(c.get("random")) for c in mmmu["cases"]))


def test_each_letter_that_mmmu_draws_is_the_officials(mmmu: Data) -> None:
    """Were the drawn letter the reference, every draw would be right."""
    drawn = {
        position: case["expected"]["official_run_seed42"]
        for position, case in enumerate(mmmu["cases"])
        if case.get("random")
    }
    rows = [
        (replace(one, target=drawn.get(int(str(one.fields["position"])), one.target)), text)
        for one, text in mmmu_rows(mmmu)
    ]
    certain = sum(c["expected"]["correct"] for c in mmmu["cases"] if not c.get("random"))
    assert right(mmmu_draw(42), rows) == certain + len(drawn)
    assert right(mmmu_draw(43), rows) < certain + len(drawn)


def test_cmmmu_with_seed_42_is_the_official_run(cmmmu: Data) -> None:
    official = cmmmu["aggregate"]["response_all_cases_official_run_seed42"]["Overall"]
    found = score(cmmmu_draw(42), cmmmu_rows(cmmmu))
    assert (found.value, found.n) == (official["correct"] / official["num"], official["num"])
    others = {right(cmmmu_draw(seed), cmmmu_rows(cmmmu)) for seed in range(8)}
    assert len(others) > 1, "a draw that no seed changes would prove nothing"


def test_the_disciplines_are_those_that_the_task_names() -> None:
    assert tuple(DISCIPLINES.values()) == CMMMU_DISCIPLINES


def scienceqa_rows(data: Data) -> list[Row]:
    rows: list[Row] = []
    for position, case in enumerate(data["cases"]):
        record = case["reference"]
        letter, options = LETTERS[record["answer"]], tuple(record["choices"])
        one = Sample(case["id"], (), "", letter, options, fields={"position": position})
        rows.append((one, case["prediction"]))
    return rows


@pytest.mark.parametrize("seed", [3, 10])
def test_scienceqa_draws_as_its_script_does(seed: int) -> None:
    """The script's steps by themselves: seeded, no example sampled, one choice for each answer not read."""
    data = golden("scienceqa", FOLDER)
    rows = scienceqa_rows(data)
    before = random.getstate()
    try:
        random.seed(seed)
        random.sample(["1", "2"], 0)
        correct = 0
        for sample, text in rows:
            letter = official_letter(str(text or ""))
            choices = range(len(sample.options))
            known = letter is not None and letter in LETTERS[: len(choices)]
            said = LETTERS.index(str(letter)) if known else random.choice(choices)
            correct += LETTERS[said] == sample.target
    finally:
        random.setstate(before)
    assert right(scienceqa_draw(seed), rows[::-1]) == correct
    bounds = data["aggregate"]["bounds_all_cases"]
    assert bounds["min_correct"] <= correct <= bounds["max_correct"]


def test_a_drawn_score_has_no_interval_and_no_direction(mmmu: Data) -> None:
    found = score(mmmu_draw(42), mmmu_rows(mmmu))
    assert (found.low, found.high, found.stderr, found.interval, found.units) == (None, None, None, "none", 1)
    assert mmmu_draw(42).direction is None


def test_a_failed_sample_leaves_it_undefined(mmmu: Data) -> None:
    rows = mmmu_rows(mmmu)
    found = score(mmmu_draw(42), [(rows[0][0], None), *rows[1:]])
    assert (found.value, found.n, found.failed) == (None, len(rows), 1)
    assert score(mmmu_draw(42), []).value is None


def test_the_global_generator_is_left_alone(mmmu: Data) -> None:
    before = random.getstate()
    score(mmmu_draw(42), mmmu_rows(mmmu))
    assert random.getstate() == before


def test_a_sample_without_a_place_is_refused() -> None:
    with pytest.raises(DataError, match="field 'position' should be a whole number, got None"):
        score(mmmu_draw(42), [(Sample("a", (), "", "A", ("x", "y")), "")])


@pytest.fixture
def run(tmp_path: Path) -> list[str]:
    rows = [mmmu_layout.row(f"validation_{name}_{n}") for name in ("Math", "Art") for n in range(1, 7)]
    mmmu_layout.parquet(tmp_path / "data", rows)
    answers = [{"id": one["id"], "answer": "(B)" if n % 3 else "?"} for n, one in enumerate(rows)]
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    data = ["--data", str(tmp_path / "data"), "--predictions", str(tmp_path / "answers.json")]
    return ["run", "--task", "mmmu", "--backend", "replay", *data, "--out", str(tmp_path / "out"), "--json"]


def test_a_run_scores_the_draw_beside_its_expectation(
    run: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(run) == 0
    plain = json.loads(capsys.readouterr().out)["record"]
    assert invoke([*run, "--official-seed", "42"]) == 0
    drawn = json.loads(capsys.readouterr().out)["record"]
    assert drawn["spec"]["official_seed"] == 42
    assert drawn["key"] != plain["key"]
    assert drawn["scores"].keys() - plain["scores"].keys() == {"accuracy_seed_42"}
    # Art comes first, and answers 1 and 4 of either subject are no choice
    letters = random.Random(42)
    guesses = [letters.choice("ABCD") for _ in range(4)]
    assert drawn["scores"]["accuracy_seed_42"]["value"] == (8 + guesses.count("B")) / 12
    assert drawn["scores"]["accuracy"] == plain["scores"]["accuracy"]


def test_a_task_whose_script_never_guesses_refuses_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "--task", "textvqa", "--backend", "oracle", "--official-seed", "42"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "pgbench: textvqa has no official script that guesses; leave out --official-seed"

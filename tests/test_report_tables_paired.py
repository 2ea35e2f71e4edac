"""Tables whose answers were read: paired intervals, the best in bold, marks that Holm left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planted import checkpoint, flipped, gold, mmvp, plant, pope, spoiled, textvqa
from report_runs import noted

from pgbench import stats
from pgbench.errors import StoreError
from pgbench.records import Finding, Verdict
from pgbench.report.entries import Run, Wanted, of_run
from pgbench.report.gathering import gather
from pgbench.report.grid import Entry, Grid
from pgbench.report.layouts import Asked, grids
from pgbench.report.pairing import Answers
from pgbench.report.table import caveats
from pgbench.store import read_record

NAME = "google/paligemma-3b-mix-224"
SAMPLES = textvqa(1_000)
GOLD = gold("textvqa", SAMPLES)


def levels(out: Path, answers: Mapping[str, Mapping[str, str]], **more: Any) -> list[Run]:
    for quant, given in answers.items():
        failed = {"failed": {SAMPLES[0].id: "no image"}} if more.get("broken") == quant else {}
        plant(out, SAMPLES, given, checkpoint(NAME, quant=quant), **failed)
    return list(gather([out]).runs)


def paired(runs: list[Run], **asked: Any) -> Grid:
    (found,) = grids(runs, Asked(**{"layout": "quant", "published": False, **asked}), Answers({}))
    return found


def by_level(grid: Grid) -> dict[str, tuple[Entry, Entry]]:
    """Level -> its score and its difference."""
    return {row.heads[2]: (row.entries[0], row.entries[1]) for row in grid.rows}


def test_a_real_drop_is_marked_and_a_chance_one_is_not(tmp_path: Path) -> None:
    before, after = flipped(GOLD, flips=80, drop=40, seed=1)
    _, alike = flipped(before, flips=10, drop=0, seed=2)
    found = paired(levels(tmp_path, {"none": before, "8bit": alike, "4bit": after}))
    shown = by_level(found)
    assert shown["4bit"][1].mark == "*"
    assert shown["8bit"][1].mark == ""
    assert [level for level, (score, _) in shown.items() if score.bold] == ["bfloat16", "8bit"]
    low, high = (float(part) for part in shown["4bit"][1].interval.split(" to "))
    assert low < -4.0 < high < 0
    assert high - low < 5.0  # unpaired it would be about as wide as both of 2 x 1.3 points together
    assert any(
        "Holm over the family of 2 tested" in one and "random swaps, seed 0" in one for one in found.remarks
    )
    assert any(one.startswith("bold: the best") for one in found.remarks)
    assert not any("no significance is claimed" in one for one in found.remarks)


def test_marks_are_what_holm_leaves_of_a_familys_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = flipped(GOLD, flips=30, drop=12, seed=3)
    runs = levels(
        tmp_path, {"none": before, "8bit": after, "4bit": spoiled(before, 12, seed=9), "fp4": before}
    )
    found = paired(runs)
    shown = {
        level: delta.data for level, (_, delta) in by_level(found).items() if delta.data.get("p") is not None
    }
    raw = {level: float(str(one["p"])) for level, one in shown.items()}
    expected = dict(zip(raw, stats.holm(list(raw.values())), strict=True))
    assert len(raw) == 3
    assert {level: one["p_holm"] for level, one in shown.items()} == expected
    assert raw["fp4"] == 1.0
    assert expected != raw


def test_unequal_failures_are_in_no_comparison_and_say_so(tmp_path: Path) -> None:
    found = paired(levels(tmp_path, {"none": GOLD, "8bit": GOLD, "4bit": spoiled(GOLD, 100)}, broken="8bit"))
    score, delta = by_level(found)["8bit"]
    assert (delta.mark, delta.interval, score.bold) == ("", "", False)
    assert noted(found, delta) == ["not compared: other failed samples"]
    assert by_level(found)["4bit"][1].mark == "*"
    assert by_level(found)["bfloat16"][0].bold


def test_other_prompts_are_in_no_comparison_and_say_so(tmp_path: Path) -> None:
    runs = levels(tmp_path, {"none": GOLD, "8bit": spoiled(GOLD, 100)})
    folder = Path(next(run.place for run in runs if run.record.spec.checkpoint.quant == "8bit"))
    for path in folder.glob("samples-*.jsonl"):
        path.write_text(path.read_text().replace("answer en what", "answer en, what"))
    found = paired(runs)
    _, delta = by_level(found)["8bit"]
    assert delta.mark == ""
    assert not any(one.bold for one, _ in by_level(found).values())
    assert noted(found, delta)[0].startswith("not compared: other prompts")


def test_pairs_and_settings_are_paired_in_their_own_units(tmp_path: Path) -> None:
    asked = tuple(sample for sample in pope(300) if sample.groups["setting"] == "random")
    pairs = mmvp(60)
    yes, options = gold("pope", asked), gold("mmvp", pairs)
    for px, lost in ((224, 30), (448, 0)):
        point = checkpoint(f"google/paligemma-3b-mix-{px}")
        plant(tmp_path, asked, spoiled(yes, lost, text="no idea", seed=px), point, task="pope")
        plant(tmp_path, pairs, spoiled(options, lost, seed=px), point, task="mmvp")
    found = paired(list(gather([tmp_path]).runs), layout="resolution")
    high = found.rows[1].entries
    deltas = [entry for entry in high if "delta" in entry.data]
    assert len(deltas) == 2  # pairs, and a setting
    assert all(entry.interval and entry.mark == "*" for entry in deltas)
    assert any("family of 2" in one for one in found.remarks)


def test_an_answer_file_that_is_lost_is_an_error(tmp_path: Path) -> None:
    runs = levels(tmp_path, {"none": GOLD, "8bit": GOLD})
    for path in Path(runs[0].place).glob("samples-*.jsonl"):
        path.unlink()
    with pytest.raises(StoreError, match="answers"):
        paired(runs)
    assert grids(runs, Asked(layout="quant"))  # records alone do


def test_a_run_of_other_samples_is_not_the_best_of_them(tmp_path: Path) -> None:
    runs = levels(tmp_path, {"none": spoiled(GOLD, 50), "8bit": spoiled(GOLD, 51)})
    plant(tmp_path, SAMPLES[:10], GOLD, checkpoint("google/paligemma2-3b-mix-448"))
    found = paired(list(gather([tmp_path]).runs))
    assert [row.entries[0].bold for row in found.rows] == [True, True, False]
    assert "in no comparison for the best" in " ".join(noted(found, found.rows[2].entries[0]))
    assert len(runs) == 2


@pytest.mark.parametrize("first", ["8bit", "none"])
def test_of_equal_best_ones_the_first_decides_nothing(tmp_path: Path, first: str) -> None:
    """4bit loses to one of the two at the top on twenty samples, and differs from the other on many."""
    wrong = sorted(GOLD)
    one = {name: "unlike" if name in wrong[:40] else GOLD[name] for name in wrong}
    other = {name: "unlike" if name in wrong[100:140] else GOLD[name] for name in wrong}
    worse = {name: "unlike" if name in wrong[:60] else GOLD[name] for name in wrong}
    second = {"8bit": "none", "none": "8bit"}[first]
    found = paired(levels(tmp_path, {first: one, second: other, "4bit": worse}))
    assert [row.entries[0].bold for row in found.rows] == [True, True, False]


def test_the_family_says_which_swaps_were_drawn(tmp_path: Path) -> None:
    few, many = spoiled(GOLD, 4), spoiled(GOLD, 60)
    found = paired(levels(tmp_path, {"none": GOLD, "8bit": few, "4bit": many}))
    assert any(
        one.endswith("label swap by cluster: all swaps in 1; 9,999 random swaps, seed 0, in 1)")
        for one in found.remarks
    )


def test_a_mark_beside_an_interval_that_holds_0_is_explained(tmp_path: Path) -> None:
    lost = sorted(GOLD)[:14:2]  # seven clusters, all the same way: p = 2 / 2^7
    worse = {name: "unlike" if name in lost else text for name, text in GOLD.items()}
    found = paired(levels(tmp_path, {"none": GOLD, "8bit": worse}))
    _, delta = by_level(found)["8bit"]
    low, high = (float(part) for part in delta.interval.split(" to "))
    assert (delta.mark, low < 0 < high) == ("*", True)
    assert any(one.startswith("a marked difference whose interval holds 0") for one in found.remarks)


def test_a_larger_family_gets_finer_tests_than_an_earlier_table_asked_for(tmp_path: Path) -> None:
    runs = levels(tmp_path, {"none": GOLD, "8bit": spoiled(GOLD, 60)})
    one, other = (next(iter(of_run(run, Wanted()))) for run in runs)
    answers = Answers({})
    draws = [answers.verdict(one, other, family).draws for family in (1, 500, 3)]
    assert draws == [9_999, 100_000, 100_000]
    assert answers.verdict(other, one, 500).draws == 100_000


def test_the_best_is_the_lowest_where_low_is_good(tmp_path: Path) -> None:
    """Numbers without a direction, captions' lengths say, have no best."""
    runs = levels(tmp_path, {"none": GOLD, "8bit": spoiled(GOLD, 200)})

    class Backwards(Answers):
        way: str | None = "down"

        def direction(self, item: object) -> Any:
            return self.way

    answers = Backwards({})
    (found,) = grids(runs, Asked(layout="quant", published=False), answers)
    assert [row.entries[0].bold for row in found.rows] == [False, True]
    answers.way = None
    (found,) = grids(runs, Asked(layout="quant", published=False), answers)
    assert not any(row.entries[0].bold for row in found.rows)


def test_figures_get_the_paired_differences(tmp_path: Path) -> None:
    runs = levels(tmp_path, {"none": GOLD, "8bit": spoiled(GOLD, 20)})
    keys = {run.record.spec.checkpoint.quant: run.record.key for run in runs}
    spans = Answers({}).spans(runs, None)
    (span,) = spans.values()
    assert list(spans) == [(keys["none"], keys["8bit"])]
    assert span.value == pytest.approx(-0.02)
    assert span.low is not None
    assert span.low < -0.02


def test_records_of_equal_place_are_read_once(tmp_path: Path) -> None:
    runs = levels(tmp_path, {"none": GOLD, "8bit": GOLD, "4bit": spoiled(GOLD, 10)})
    count = []
    grids(runs, Asked(layout="quant"), Answers({}, lambda: count.append(1)))
    assert len(count) == 3
    record = read_record(Path(runs[0].place))
    assert record is not None
    assert replace(runs[0], record=record) == runs[0]
    assert json.loads((Path(runs[0].place) / "record.json").read_text())["key"] == record.key


def probed(run: Run, equal: float, n: int = 200, batch: int = 8) -> Run:
    """The same run, on a stack that the doctor has seen."""
    figures = {"equal": equal, "n": float(n), "batch": float(batch)}
    verdict = Verdict((Finding("batch", equal > 0.97, "some changed", figures),), 1.0)
    return replace(run, record=replace(run.record, stack=replace(run.record.stack, doctor=verdict)))


def noise(grid: Grid) -> list[str]:
    return [one for one in grid.remarks if "answers equal" in one or "no doctor verdict" in one]


def test_the_noise_floor_stands_with_differences(tmp_path: Path) -> None:
    runs = {
        run.record.spec.checkpoint.quant: run
        for run in levels(tmp_path, {"none": GOLD, "8bit": spoiled(GOLD, 20), "4bit": spoiled(GOLD, 40)})
    }
    seen = [probed(runs["none"], 1.0), probed(runs["4bit"], 0.985), runs["8bit"]]
    exact = "answers equal at batch 1 and batch 8: 100 % of 200 in bfloat16"
    found = noise(paired(seen))
    noisy = "answers equal at batch 1 and batch 8: 98.5 % of 200 in 4bit"
    assert found == [
        f"{exact}; none changed with the batch alone (pgbench doctor)",
        f"{noisy}; a difference of up to 1.5 points can be the batch's alone (pgbench doctor)",
        "no doctor verdict on 1 of 3 runs compared: what the batch alone changes is unknown",
    ]
    (unpaired,) = grids(seen, Asked(layout="quant", published=False))
    assert noise(unpaired) == found[:2]
    assert noise(paired(list(runs.values()))) == [
        "no doctor verdict on the runs compared: what the batch alone changes is unknown"
    ]
    assert noise(paired([runs["none"]])) == []  # nothing is held against anything


def test_a_run_on_a_stack_that_the_doctor_found_broken_says_so(tmp_path: Path) -> None:
    (run,) = levels(tmp_path, {"none": GOLD})
    broken = probed(run, 0.5)
    said = "BROKEN STACK: probe batch of pgbench doctor: some changed"
    assert said in caveats(broken.record)
    assert said not in caveats(run.record)
    (found,) = grids([broken], Asked(layout="quant", published=False))
    assert "BROKEN STACK: a probe of pgbench doctor failed" in found.warnings

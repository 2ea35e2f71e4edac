"""Comparison tables: every number in its place, nothing in a wrong one, and all that is said with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from planted import checkpoint
from report_runs import column, cost, entries, noted, record, run, score, texts

from pgbench.errors import UsageError
from pgbench.records import Data, Failure, PeakMemory, Stack
from pgbench.report import axes, deltas
from pgbench.report.entries import PEOPLE, Rating, Run
from pgbench.report.grid import Grid
from pgbench.report.layouts import Asked, grids
from pgbench.types import AdapterMode, AdapterOrder, Checkpoint

P1, P2 = "google/paligemma-3b-mix-224", "google/paligemma2-10b-mix-448"


def table(runs: Sequence[Run], **asked: Any) -> Grid:
    for side in ("rows", "columns"):
        if isinstance(asked.get(side), str):
            asked[side] = axes.parse([asked[side]], f"--{side}")
    if isinstance(asked.get("against"), str):
        asked["against"] = deltas.parse(asked["against"])
    (found,) = grids(runs, Asked(**{"published": False, **asked}))
    return found


def levels(point: str = P1, **more: Any) -> list[Run]:
    scores = {"none": 0.6004, "8bit": 0.5978, "4bit": 0.5872}
    return [run(value, checkpoint(point, quant=quant), **more) for quant, value in scores.items()]


def test_axes_nest_and_values_are_in_a_natural_order() -> None:
    runs = [*levels(P2), *levels(P1), *levels(P1, task="gqa", split="testdev")]
    found = table(runs[::-1], rows="model,resolution", columns="task,quant")
    heads = [one.heads for one in found.columns]
    quants = ["bfloat16", "8bit", "4bit"]
    assert heads == [(task, quant) for task in ("GQA", "TextVQA") for quant in quants]
    assert found.row_heads == ("model", "resolution")
    assert texts(found) == {
        ("google/paligemma-3b-mix", "224"): ["60.04", "59.78", "58.72"] * 2,
        ("google/paligemma2-10b-mix", "448"): ["", "", "", "60.04", "59.78", "58.72"],
    }
    assert found.rows[0].entries[0].interval == "59.04 to 61.04"


def test_every_axis_can_be_a_row() -> None:
    for axis in axes.AXES:
        found = table(levels()[:1], rows=axis, columns="task" if axis != "task" else "split")
        assert entries(found)[0].text == "60.04", axis


def test_two_runs_in_one_place_name_the_axis_that_tells_them_apart() -> None:
    with pytest.raises(UsageError, match=r"differ in quant; add quant to --rows or --columns"):
        table(levels(), rows="model", columns="task")
    limited = [run(0.5, place="a"), run(0.6, limit=10, place="b")]
    with pytest.raises(UsageError, match=r"^a and b fall into one place .*differ in limit; add limit"):
        table(limited)
    assert len(table(limited, rows="model,limit", columns="task").rows) == 2
    with pytest.raises(UsageError, match="they are the same run; name one of them only"):
        table([run(0.5, place="a"), run(0.5, place="b")])
    with pytest.raises(UsageError, match="task is named by --rows and by --columns"):
        table(levels(), rows="task,quant", columns="task")


def test_a_table_without_axes_of_its_own_shows_what_its_cells_differ_in() -> None:
    points = (checkpoint(P1), checkpoint(P1, protocol="paper"))
    found = table([run(0.5, point) for point in points])
    assert found.row_heads[-1] == "protocol"
    told = table([run(0.5, one) for one in (points[0], replace(points[1], id="other-224"))], rows="model")
    assert any("cells differ in what no axis shows: protocol (hf, paper)" in one for one in told.remarks)


def adapted(mode: AdapterMode = "merge", order: AdapterOrder | None = None, **more: Any) -> Checkpoint:
    more = {"adapter": "mine", "adapter_revision": "a" * 40} | more
    return replace(checkpoint(P1, **more), adapter_mode=mode, adapter_order=order)


def test_what_was_done_with_an_adapter_tells_cells_apart() -> None:
    found = table([run(0.5, adapted()), run(0.6, adapted("attach")), run(0.7, checkpoint(P1))])
    assert found.row_heads[-2:] == ("adapter", "adapter mode")
    assert {head[-2:]: value[0] for head, value in texts(found).items()} == {
        ("", ""): "70.00",
        ("mine", "merge"): "50.00",
        ("mine", "attach"): "60.00",
    }
    other = adapted(adapter_revision="b" * 40)
    with pytest.raises(UsageError, match="they differ in adapter_revision; add adapter_revision"):
        table([run(0.5, adapted()), run(0.6, other)])


def test_a_level_is_held_against_the_whole_adapter_whose_order_says_nothing() -> None:
    points = [adapted(), adapted(order="before", quant="8bit"), adapted(order="after", quant="4bit")]
    found = table(
        [run(0.5, points[0]), run(0.4, points[1])], rows="model", columns="quant", against="quant=none"
    )
    assert "-10.00" in [one.text for row in found.rows for one in row.entries]
    assert [axes.adapter_mode(point) for point in points] == ["merge", "merge", "merge after quantization"]
    assert axes.adapter_name(points[2]) == "mine (merge after quantization)"


def test_levels_are_ordered_from_the_finest_down() -> None:
    named = ["fp4", "quanto-int4", "torchao-fp8", "none", "4bit", "quanto-int8", "8bit", "torchao-int8"]
    expected = ["none", "8bit", "torchao-int8", "torchao-fp8", "quanto-int8", "4bit", "fp4", "quanto-int4"]
    assert axes.ordered("quant", named) == expected


def test_what_follows_from_the_checkpoint_or_the_split_is_no_hidden_difference() -> None:
    one, other = checkpoint(P1, revision="aaa"), checkpoint(P2, revision="bbb")
    drawn, more = (Data(digest, 9, 9, 9, 0, demo=False) for digest in ("1", "2"))
    apart = [run(0.5, one, data=drawn), run(0.5, other, data=drawn), run(0.5, one, split="test", data=more)]
    assert not any("no axis shows" in said for said in table(apart).remarks)
    hidden = [run(0.5, one, data=drawn), run(0.5, other, data=more)]
    assert any("no axis shows: data (1, 2)" in said for said in table(hidden).remarks)
    moved = [run(0.5, one), run(0.5, replace(one, revision="ccc", quant="4bit"))]
    assert any("no axis shows: revision (aaa, ccc)" in said for said in table(moved).remarks)


def test_runs_without_references_stand_below_the_table() -> None:
    own = levels(paid=cost(samples_per_second=20.0))
    none = Data("digest", 5_000, 5_000, 5_000, 5_000, demo=False)
    slow = cost(samples_per_second=1.0)
    bare = run({"accuracy": score(None)}, checkpoint(P1), split="test", data=none, paid=slow)
    found = table([*own, bare], costs=True)
    assert found.rows == table(own, costs=True).rows
    assert found.columns == table(own, costs=True).columns
    (told,) = [text for text in found.remarks if "without references" in text]
    assert told.endswith(f"in no column and no cost: textvqa test: {bare.place}")
    assert "undefined" in [one.text for one in entries(table([bare]))], "alone they are the table"
    lost = run({"accuracy": score(None)}, checkpoint(P1), split="test")
    assert "undefined" in [one.text for one in entries(table([*own, lost]))], "its samples have references"


def test_a_likelihood_never_shares_a_column_with_generated_answers() -> None:
    runs = [run(0.5), run(0.7, checkpoint(P2), mode="likelihood")]
    for asked in ({}, {"rows": "model,mode", "columns": "task"}, {"rows": "mode,model"}):
        found = table(runs, **asked)
        generated, likely = (
            next(i for i, one in enumerate(found.columns) if mode in one.heads)
            for mode in ("generate", "likelihood")
        )
        assert "mode" not in found.row_heads
        for row in found.rows:
            assert not (row.entries[generated].text and row.entries[likely].text)


def test_people_and_a_judge_never_share_a_column() -> None:
    rated = Rating("nes", PEOPLE, score(0.2, 50), "NES by 5 raters")
    judged = Rating("NES-proxy (j@1)", "NES-proxy (j@1)", score(0.3, 50), "a proxy")
    one = run({"chars": score(529.0, 100, number=True)}, task="docci", split="qual_dev", metric="chars")
    runs = [replace(one, ratings=(rated, judged))]
    for rows in ("model", "model,metric", "rater,metric"):
        found = table(runs, layout="docci", rows=rows)
        of_people = {
            i for row in found.rows for i, e in enumerate(row.entries) if e.data.get("rater") == PEOPLE
        }
        of_judge = {
            i for row in found.rows for i, e in enumerate(row.entries) if e.data.get("rater") == judged.rater
        }
        assert of_people, rows
        assert of_judge, rows
        assert not of_people & of_judge, rows


def test_differences_stand_beside_the_score_in_points() -> None:
    found = table(levels(), against="quant=none")
    delta = column(found, "TextVQA", "val", "accuracy", "Δ to bfloat16")
    assert [row.entries[delta].text for row in found.rows] == ["", "-0.26", "-1.32"]
    assert found.columns[delta].role == "delta"
    assert found.rows[2].entries[delta].data["delta"] == pytest.approx(-0.0132)
    aside = table(levels(), rows="model", columns="quant", against="quant=bf16")
    assert [one.heads[-1] for one in aside.columns][:5] == [
        "score",
        "score",
        "Δ to bfloat16",
        "score",
        "Δ to bfloat16",
    ]


def test_a_difference_is_of_the_same_questions_alone() -> None:
    other = run(0.5, checkpoint(P1, quant="8bit"), data=Data("other", 5_000, 5_000, 5_000, 0, demo=False))
    found = table([*levels()[:1], other], against="quant=none")
    assert not [one for one in found.columns if one.role == "delta"]
    (few,) = (run(0.5, checkpoint(P1, quant="8bit"), data=Data("digest", 5_000, 5_000, 100, 0, demo=False)),)
    found = table([*levels()[:1], few, *levels()[2:]], against="quant=none")
    entry = found.rows[1].entries[1]
    assert (entry.text, noted(found, entry)) == (
        "",
        ["no difference: 100 samples, 5,000 in the cell that it is held against"],
    )
    with pytest.raises(UsageError, match="another split are not held against each other"):
        deltas.parse("split=val")
    with pytest.raises(UsageError, match="unknown quant to hold cells against '3bit'"):
        table(levels(), against="quant=3bit")


def test_resolutions_are_told_apart_within_one_model() -> None:
    names = ("google/paligemma-3b-mix-224", "google/paligemma-3b-mix-448", "google/paligemma2-10b-mix-448")
    found = table(
        [run(0.5 + i / 100, checkpoint(name)) for i, name in enumerate(names)], against="resolution=224"
    )
    delta = next(i for i, one in enumerate(found.columns) if one.role == "delta")
    assert [row.entries[delta].text for row in found.rows] == ["", "+1.00", ""]
    assert "no cell with resolution=224" in noted(found, found.rows[2].entries[delta])[0]


def test_without_paired_nothing_is_called_significant_or_best() -> None:
    found = table(levels(), against="quant=none")
    assert not any(entry.bold or entry.mark for entry in entries(found))
    assert any("no significance is claimed" in one for one in found.remarks)


def test_footnotes_are_numbered_from_one_as_they_are_met() -> None:
    runs = [run(0.5, failures=(Failure("7", "no image"),)), run(0.5, checkpoint(P2), limit=9)]
    found = table([*runs, run(0.5, checkpoint("me/x-ft-textvqa-224"))], costs=True)
    met = [note for row in found.rows for entry in row.entries for note in sorted(entry.notes)]
    assert list(dict.fromkeys(met)) == sorted(set(met)) == list(range(1, len(found.footnotes) + 1))


def test_what_a_number_cannot_be_taken_for_is_marked_at_it_and_above() -> None:
    runs = [
        run(0.5, replace(checkpoint("tiny"), demo=True, resolution=8), data=Data("d", 9, 9, 9, 0, demo=True)),
        run(0.5, checkpoint(P1), data=Data("digest", 5_000, 5_000, 100, 0, demo=False), limit=100),
        run(0.5, checkpoint(P2), failures=(Failure("7", "no image"),)),
        run(0.5, replace(checkpoint("oracle"), backend="oracle", resolution=0)),
        run(0.5, checkpoint("me/b-ft-textvqa-224"), data=Data("d", 4_000, 5_000, 4_000, 0, demo=False)),
    ]
    found = table(runs)
    said = [word for note in found.footnotes for word in (note.split()[0],)]
    assert {"DEMO", "LIMITED", "1", "NO", "INCOMPLETE", "may"} <= set(said)
    heads = [one.split(":")[0].split(" runs")[0].split(" samples")[0] for one in found.warnings]
    assert heads[0].startswith("DEMO NUMBERS")
    assert {"LIMITED", "FAILED", "NO MODEL", "INCOMPLETE SPLIT", "CONTAMINATED"} <= set(heads)
    assert "(1 of 5 cells, see footnotes)" in found.warnings[0]


@pytest.mark.parametrize(
    ("point", "drawn", "expected"),
    [
        (checkpoint(P1), False, True),
        (checkpoint(P1), True, False),
        (replace(checkpoint(P1), demo=True), False, False),
        (replace(checkpoint(P1), backend="oracle"), False, False),
        (replace(checkpoint(P1), backend="replay"), False, True),
    ],
)
def test_what_saw_no_benchmark_is_not_called_contaminated(
    point: Checkpoint, drawn: bool, expected: bool
) -> None:
    found = table([run(0.5, point, data=Data("d", 5_000, 5_000, 5_000, 0, demo=drawn))])
    assert any("may have been trained on" in note for note in found.footnotes) == expected
    assert any("CONTAMINATED" in one for one in found.warnings) == expected


def test_n_and_failures_are_never_missing() -> None:
    alone = table([*levels()[:2], run(0.5, checkpoint(P1, quant="4bit"), failures=(Failure("7", "x"),))])
    n, failed = column(alone, "n"), column(alone, "failed")
    assert [(row.entries[n].text, row.entries[failed].text) for row in alone.rows] == [
        *[("5,000", "0")] * 2,
        ("5,000", "1"),
    ]
    several = table(
        [run(0.5), run(0.6, task="gqa", split="testdev", n=12_578), run(0.6, checkpoint(P2), n=40)]
    )
    assert any("textvqa v1 val: 5,000" in one and "gqa v1 testdev: 12,578" in one for one in several.remarks)
    odd = next(entry for entry in entries(several) if entry.data.get("n") == 40)
    assert "n = 40 here" in noted(several, odd)


def test_costs_are_of_the_rows_runs_and_compared_on_one_device_alone() -> None:
    found = table(levels(), costs=True)
    weights, memory, speed, load = (
        column(found, head) for head in ("weights", "peak memory", "samples/s", "load")
    )
    shown = [entry.text for entry in found.rows[0].entries]
    assert [shown[i] for i in (weights, memory, speed, load)] == ["3.00 GiB", "5.00 GiB", "20.0", "3.0 s"]
    assert not found.rows[0].entries[speed].notes
    cpu = Stack("paligemma", {}, device="cpu", threads=2)
    resident = cost(
        peak_memory=PeakMemory(7 << 30, "process resident"), reused=40, shared_load=True, halved=2
    )
    mixed = table(
        [*levels()[:2], run(0.5, checkpoint(P1, quant="4bit"), stack=cpu, paid=resident)], costs=True
    )
    last = mixed.rows[2].entries
    assert noted(mixed, mixed.rows[0].entries[speed]) == ["on NVIDIA H100"]
    assert "on cpu, 2 CPU threads" in noted(mixed, last[speed])
    assert "40 answers taken over from other cells, in no speed figure" in noted(mixed, last[speed])
    assert "2 batches did not fit into memory and went in parts" in noted(mixed, last[speed])
    assert "peak memory here: process resident" in noted(mixed, last[memory])
    assert "loaded by an earlier cell" in noted(mixed, last[load])[0]
    assert any("speeds are comparable on one device only; here are 2" in one for one in mixed.remarks)


def test_speeds_of_a_row_are_all_samples_by_all_their_time() -> None:
    quick, slow = cost(generated=100, samples_per_second=100.0), cost(generated=100, samples_per_second=10.0)
    runs = [run(0.5, paid=quick), run(0.6, task="gqa", split="testdev", paid=slow)]
    found = table(runs, costs=True)
    entry = found.rows[0].entries[column(found, "samples/s")]
    assert entry.data["value"] == pytest.approx(200 / 11)


def test_groups_metrics_and_tasks_can_be_chosen() -> None:
    groups = {"setting": {name: {"f1": score(0.9, 3_000)} for name in ("random", "popular")}}
    both = {"accuracy": score(0.8), "f1": score(0.7)}
    runs = [run(both, task="pope", split="test", groups=groups), *levels()]
    found = table(runs, tasks=("pope",), metrics=("f1",), groups=("setting",))
    heads = [one.heads[-1] for one in found.columns if one.role == "score"]
    assert heads == ["all", "random", "popular"]
    assert texts(found)[found.rows[0].heads][:3] == ["70.00", "90.00", "90.00"]
    for wrong, said in (
        ({"metrics": ("foo",)}, "unknown metric 'foo'"),
        ({"groups": ("colour",)}, "unknown group 'colour'.*setting"),
        ({"tasks": ("gqa",)}, "unknown task in .*'gqa'.*textvqa"),
    ):
        with pytest.raises(UsageError, match=said):
            table(runs, **wrong)


def test_training_runs_of_one_recipe_are_a_mean_with_its_sd() -> None:
    seeds = [
        run(value, checkpoint(f"me/seed{i}-224"), recipe="mine") for i, value in enumerate((0.60, 0.62, 0.64))
    ]
    found = table([*seeds, run(0.5, checkpoint(P2))], rows="replicate,resolution")
    shown = texts(found)
    assert shown["mine", "224"][0] == "62.00 ± 2.00"
    entry = next(row for row in found.rows if row.heads[0] == "mine").entries[0]
    assert noted(found, entry)[0].startswith("mean ± SD over 3 seeds")
    assert entry.data["sd"] == pytest.approx(0.02)
    assert shown["", "448"][0] == "50.00"
    assert "±" not in str(texts(table(seeds, rows="model")))


def test_a_number_that_is_no_fraction_is_never_in_percent() -> None:
    found = table(
        [run({"distribution": score(3.5, number=True)}, task="gqa", split="testdev", metric="distribution")]
    )
    assert found.rows[0].entries[0].text == "3.50"
    assert any("plain numbers: distribution" in one for one in found.remarks)


def test_an_undefined_score_is_said_and_has_no_difference() -> None:
    empty = record({"accuracy": score(None, 0)}, checkpoint(P1, quant="8bit"))
    found = table([*levels()[:1], Run("x", empty), *levels()[2:]], against="quant=none")
    assert [entry.text for entry in found.rows[1].entries][:2] == ["undefined", ""]
    assert "no difference: a score is undefined" in noted(found, found.rows[1].entries[1])


def test_no_run_is_an_error_of_one_line() -> None:
    with pytest.raises(UsageError, match=r"^there is no finished run in"):
        grids([], Asked())


def test_names_of_axes_are_checked() -> None:
    with pytest.raises(UsageError, match="unknown axis of --rows 'modle'; did you mean mode or model"):
        axes.parse(["modle"], "--rows")
    with pytest.raises(UsageError, match="--rows names task twice"):
        axes.parse(["task,model", "task"], "--rows")
    for text in ("quant", "quant=", "=none"):
        with pytest.raises(UsageError, match=r"--delta|axis of"):
            deltas.parse(text)
    assert axes.model_name(checkpoint("x-448px_448-y", resolution=448)) == "x-y"
    assert axes.model_name(checkpoint("224", resolution=224)) == "224"
    assert axes.ordered("params", ["10B", "3B", ""]) == ["", "3B", "10B"]

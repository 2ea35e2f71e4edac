"""Run folders as evidence, aligned sample by sample, and matched run by run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import planted
import pytest

from pgbench import store, units
from pgbench.check.words import cell_name
from pgbench.errors import DataError, StoreError, UsageError
from pgbench.paired import aligned, matching, reading
from pgbench.paired.evidence import Evidence
from pgbench.records import RunRecord
from pgbench.registry import load_task
from pgbench.samples import SAMPLES
from pgbench.types import DataSource, RunSpec

STORED = Path(__file__).parent / "records"
TASK_FILE = """\
import dataclasses
from pgbench.metrics import mean
from pgbench_tasks.textvqa import TASK as REAL

def both(unit):
    right = all(text in sample.target for sample, text in unit)
    return {{"sum": float(right), "n": 1.0, "invalid": 0.0}}

def half(sums):
    return mean(sums) / 2

(ACCURACY, *_) = REAL.metrics
PAIRS = dataclasses.replace(ACCURACY, name="pairs", stat=both, unit_of=lambda one: one.cluster, primary=False)
WHOLE = dataclasses.replace(PAIRS, name="whole", unit_of=lambda one: "all")
TASK = dataclasses.replace(REAL, name="mine", {changes})
"""


def task_file(folder: Path, changes: str) -> Path:
    path = folder / "mine.py"
    path.write_text(TASK_FILE.format(changes=changes))
    return path


def folder_of(out: Path, *arguments: object, **more: object) -> Path:
    return planted.plant(out, *arguments, **more).folder


def test_the_statistics_add_up_to_the_record(tmp_path: Path) -> None:
    samples = planted.pope(36)
    answers = planted.spoiled(planted.gold("pope", samples), 7, text="no")
    pope = load_task("pope")
    pope = replace(pope, metrics=tuple(one for one in pope.metrics if one.name in ("accuracy", "f1")))
    run = reading.read(folder_of(tmp_path, samples, answers, task=pope, failed={"popular-3": "no memory"}))
    assert list(run.units) == list(run.record.scores)
    f1 = run.units["f1"]
    total = {name: math.fsum(column) for name, column in f1.sums.items()}
    assert f1.reduce(total) == run.record.scores["f1"].value
    assert (f1.is_mean, f1.direction, len(f1.ids)) == (False, "up", 36)
    assert {len(column) for column in f1.sums.values()} == {36}
    assert [name for name, one in run.samples.items() if one.failed] == ["popular-3"]
    first = run.samples["random-0"]
    assert (first.cluster, first.groups) == ("picture 0", {"setting": "random"})
    assert [len(text) for text in (first.prompt, first.image, first.target)] == [12, 12, 12]
    assert first.prompt == reading.digest("answer en is there a 0?")


@pytest.mark.parametrize("schema", [1, 2])
def test_records_of_every_schema_can_be_paired(schema: int) -> None:
    run = reading.read(STORED / f"schema-{schema}")
    both = aligned.pair(run, run, run.record.primary)
    assert (both.n, both.clusters) == (4, run.record.scores["accuracy"].clusters)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    samples = planted.textvqa(12)
    return folder_of(tmp_path, samples, planted.spoiled(planted.gold("textvqa", samples), 3))


def edited(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def test_what_is_no_finished_run_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "record.json").unlink()
    with pytest.raises(StoreError, match=r"holds no finished run; name a run folder"):
        reading.read(folder)


def test_answers_that_are_lost_are_noticed(folder: Path) -> None:
    (folder / SAMPLES).write_text("")
    with pytest.raises(StoreError, match=r"holds 0 answers, its record 12; restore"):
        reading.read(folder)


def test_statistics_that_are_not_the_records_are_noticed(folder: Path) -> None:
    edited(folder / SAMPLES, lambda text: text.replace('"sum":1.0', '"sum":0.0', 1))
    said = r"statistics of accuracy give 0.6666666667 by this task, 0.75 by its record; use the textvqa v1"
    with pytest.raises(StoreError, match=said):
        reading.read(folder)


def test_a_later_version_of_a_task_counts_if_it_reduces_alike(tmp_path: Path) -> None:
    path = task_file(tmp_path, "metrics=(ACCURACY,)")
    samples = planted.textvqa(12)
    answers = planted.spoiled(planted.gold("textvqa", samples), 3)
    run = folder_of(tmp_path, samples, answers, task=load_task(str(path)))
    with pytest.raises(UsageError, match=r"name it with --task"):
        reading.read(run)
    task_file(tmp_path, "version=2, metrics=(ACCURACY,)")
    assert reading.read(run, {"mine": str(path)}).record.spec.version == 1
    task_file(tmp_path, "version=2, metrics=(dataclasses.replace(ACCURACY, reduce=half),)")
    with pytest.raises(StoreError, match=r"give 0.375 by this task, 0.75 by its record; use the mine v1"):
        reading.read(run, {"mine": str(path)})
    task_file(tmp_path, "version=2, metrics=(dataclasses.replace(ACCURACY, name='other'),)")
    with pytest.raises(StoreError, match=r"mine has no metric accuracy any more"):
        reading.read(run, {"mine": str(path)})


def test_units_of_several_samples(tmp_path: Path) -> None:
    """Pairs are kept, the run as one unit is not: there is nothing to pair."""
    path = task_file(tmp_path, "metrics=(ACCURACY, PAIRS, WHOLE)")
    samples = planted.textvqa(6)
    answers = planted.gold("textvqa", samples) | {"34603": "wrong"}
    run = folder_of(tmp_path, samples, answers, task=load_task(str(path)), failed={"34606": "no memory"})
    kept = {one.unit: one for one in units.read(run)}
    assert {one.metric for one in kept.values()} == {"pairs"}
    assert {name: one.sums["sum"] for name, one in kept.items()} == {
        "picture 0": 0.0,
        "picture 1": 1.0,
        "picture 2": 0.0,
    }
    assert set(kept["picture 0"].samples) == {"34602", "34603"}
    found = reading.read(run, {"mine": str(path)})
    assert list(found.units) == ["accuracy", "pairs"]
    assert found.members["pairs"]["picture 2"] == kept["picture 2"].samples


def test_runs_without_such_units_write_no_file(folder: Path) -> None:
    assert not (folder / units.UNITS).exists()
    assert list(units.read(folder)) == []


def test_an_older_run_of_pairs_says_what_to_do(tmp_path: Path) -> None:
    samples = planted.mmvp(4)
    run = folder_of(tmp_path, samples, planted.gold("mmvp", samples), task="mmvp")
    kept = (run / units.UNITS).read_bytes()
    (run / units.UNITS).unlink()
    with pytest.raises(
        StoreError, match=r"remove its record\.json and give its command again: the answers are kept"
    ):
        reading.read(run)
    (run / "record.json").unlink()
    assert folder_of(tmp_path, samples, no_answer, task="mmvp") == run
    assert (run / units.UNITS).read_bytes() == kept
    assert next(iter(reading.read(run).units)) == "pair_accuracy"


def no_answer(name: str) -> str:
    raise AssertionError(f"{name} was asked again")


HUGE = '{"metric":"a","unit":"b","samples":["c"],"sums":{"n":1%s}}' % ("0" * 400)


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"metric":"a","unit":"b","samples":[],"sums":{}}', HUGE, "\xff"]
)
def test_a_line_that_is_no_unit_is_refused(folder: Path, line: str) -> None:
    (folder / units.UNITS).write_text(line)
    with pytest.raises(StoreError, match=r"units.jsonl, line 1 is no unit of pgbench"):
        list(units.read(folder))


@pytest.mark.parametrize(
    "change",
    [lambda text: text.replace('"samples":["1"', '"samples":["9"', 1), lambda text: 2 * text],
    ids=["of a sample that is nowhere", "twice"],
)
def test_units_that_are_not_of_the_run_are_refused(tmp_path: Path, change: Callable[[str], str]) -> None:
    samples = planted.mmvp(4)
    run = folder_of(tmp_path, samples, planted.gold("mmvp", samples), task="mmvp")
    edited(run / units.UNITS, change)
    with pytest.raises(StoreError, match=r"of pair_accuracy twice, or with samples that are not in the run"):
        reading.read(run)


def test_a_record_without_its_primary_metric_is_refused(folder: Path) -> None:
    edited(folder / "record.json", lambda text: text.replace('"primary": "accuracy"', '"primary": "no"'))
    with pytest.raises(StoreError, match=r"no score of 'no', its primary metric; restore it"):
        reading.read(folder)


def two(tmp_path: Path, **more: object) -> tuple[Evidence, Evidence]:
    """Eight questions, two to a picture; the second run lost three and gained one."""
    samples = planted.textvqa(8)
    right = planted.gold("textvqa", samples)
    names = list(right)
    before = right | {names[7]: "wrong"}
    after = right | dict.fromkeys(names[:3], "wrong")
    one = folder_of(tmp_path / "before", samples, before)
    other = folder_of(tmp_path / "after", samples, after, **more)
    return reading.read(one), reading.read(other)


def test_clusters_stand_in_one_order_whatever_order_the_runs_had(tmp_path: Path) -> None:
    both = aligned.pair(*two(tmp_path, batch=3, seed=1), "accuracy")
    assert both.pair.names == ("invalid", "n", "sum")
    assert [list(row) for row in both.pair.before] == [[0, 2, 2], [0, 2, 2], [0, 2, 2], [0, 2, 1]]
    assert [list(row) for row in both.pair.after] == [[0, 2, 0], [0, 2, 1], [0, 2, 2], [0, 2, 2]]
    assert (both.n, both.clusters, len(both.ids), both.bounded) == (8, 4, 8, True)


def test_samples_can_be_left_out(tmp_path: Path) -> None:
    both = aligned.pair(*two(tmp_path), "accuracy", without={"34602", "34603", "34604"})
    assert [list(row) for row in both.pair.after] == [[0, 1, 1], [0, 2, 2], [0, 2, 2]]
    assert (both.n, both.clusters) == (5, 3)


def test_one_value_of_a_breakdown(tmp_path: Path) -> None:
    samples = planted.pope(18)
    pope = load_task("pope")
    pope = replace(pope, metrics=tuple(one for one in pope.metrics if one.name == "f1"))
    run = reading.read(folder_of(tmp_path, samples, planted.gold("pope", samples), task=pope))
    both = aligned.pair(run, run, "f1", group=("setting", "popular"))
    assert (both.n, set(both.ids)) == (6, {f"popular-{number}" for number in range(6)})
    with pytest.raises(DataError, match="share no scored sample of f1 in setting=none"):
        aligned.pair(run, run, "f1", group=("setting", "none"))


def test_a_pair_with_a_sample_left_out_is_left_out(tmp_path: Path) -> None:
    samples = planted.mmvp(6)
    run = reading.read(folder_of(tmp_path, samples, planted.gold("mmvp", samples), task="mmvp"))
    both = aligned.pair(run, run, "pair_accuracy", without={"3"})
    assert (sorted(both.ids), both.n, both.clusters) == (["pair 0", "pair 2"], 4, 2)


def test_a_metric_that_cannot_be_paired_is_named(tmp_path: Path) -> None:
    before, after = two(tmp_path)
    with pytest.raises(UsageError, match=r"unknown metric of .* 'acuracy'; did you mean accuracy"):
        aligned.pair(before, after, "acuracy")
    lacking = replace(after, units={"paper_accuracy": after.units["paper_accuracy"]})
    with pytest.raises(
        UsageError, match=r"accuracy of .* cannot be paired: .*; choose another one: paper_accuracy"
    ):
        aligned.pair(before, lacking, "accuracy")


@dataclass(frozen=True)
class Run:
    record: RunRecord


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    samples = planted.textvqa(2)
    return planted.plant(tmp_path_factory.mktemp("one"), samples, planted.gold("textvqa", samples)).record


def runs(record: RunRecord, *changes: dict[str, object]) -> list[Run]:
    return [Run(replace(record, spec=changed(record.spec, **change))) for change in changes]


def changed(spec: RunSpec, **change: object) -> RunSpec:
    fields = {name: value for name, value in change.items() if hasattr(spec, name)}
    point = {name: value for name, value in change.items() if name not in fields}
    return replace(spec, **fields, checkpoint=replace(spec.checkpoint, **point))  # type: ignore[arg-type]


Pairs: TypeAlias = list[tuple[int, int, tuple[str, ...]]]


def matched(before: list[Run], after: list[Run]) -> tuple[Pairs, list[int], list[int]]:
    found = matching.couples(before, after)
    pairs = [(before.index(one.before), after.index(one.after), one.differing) for one in found.pairs]
    return pairs, [before.index(run) for run in found.missing], [after.index(run) for run in found.new]


def test_runs_of_one_cell_belong_together(record: RunRecord) -> None:
    levels = runs(record, {"quant": "none"}, {"quant": "8bit"}, {"quant": "4bit"})
    later = runs(record, {"quant": "4bit", "revision": "1" * 40}, {"quant": "none", "revision": "1" * 40})
    assert matched(levels, later) == ([(0, 1, ()), (2, 0, ())], [1], [])


def test_what_is_left_over_alone_is_a_pair_whose_axes_are_named(record: RunRecord) -> None:
    before = runs(record, {}, {"split": "test"})
    after = runs(record, {"quant": "8bit", "resolution": 448})
    assert matched(before, after) == ([(0, 0, ("resolution", "quant"))], [1], [])
    after = runs(record, {"quant": "8bit"}, {"quant": "4bit"})
    assert matched(before, after) == ([], [0, 1], [0, 1])


def test_of_several_runs_of_one_cell_the_most_alike_belong_together(record: RunRecord) -> None:
    before = runs(record, {"limit": 50}, {}, {"batch": 16})
    after = runs(record, {"batch": 16}, {"limit": 50, "revision": "1" * 40}, {})
    assert matched(before, after) == ([(0, 1, ()), (1, 2, ()), (2, 0, ())], [], [])


def test_a_record_that_is_damaged_does_not_pass(folder: Path) -> None:
    document = json.loads((folder / "record.json").read_text())
    document["scores"]["accuracy"]["value"] = 0.9
    (folder / "record.json").write_text(json.dumps(document))
    assert store.read_record(folder) is not None
    with pytest.raises(StoreError, match=r"by this task, 0\.9 by its record"):
        reading.read(folder)


def test_clusters_that_a_first_schema_did_not_keep(tmp_path: Path) -> None:
    """Its lines name none: the sample or the picture is taken, whichever the record counts."""
    for per_image, alone in ((1, True), (2, False)):
        samples = planted.textvqa(6, per_image)
        run = folder_of(tmp_path / str(per_image), samples, planted.gold("textvqa", samples))
        edited(run / SAMPLES, lambda text: re.sub(r'"cluster":"[^"]*"', '"cluster":""', text))
        pictured = reading.read(run)
        edited(run / SAMPLES, lambda text: re.sub(r'"image":"[^"]*"', '"image":""', text))
        blind = reading.read(run)
        assert aligned.pair(pictured, blind, "accuracy").clusters == 6 // per_image
        if alone:
            assert aligned.pair(blind, blind, "accuracy").clusters == 6
        else:
            with pytest.raises(DataError, match="do not say which samples share a picture"):
                aligned.pair(blind, blind, "accuracy")


def test_what_was_done_with_an_adapter_names_a_cell() -> None:
    """Two runs that differ in it alone are no two runs of one cell."""
    plain = planted.checkpoint(adapter="mine", adapter_revision="a" * 40, adapter_mode="merge")
    merged = replace(plain, quant="8bit", adapter_order="before")
    ways = [plain, merged, replace(merged, adapter_order="after"), replace(plain, adapter_mode="attach")]
    spec = RunSpec("textvqa", 1, "default", "generate", "val", DataSource("hub", "x"), plain)
    cells = [matching.axes(replace(spec, checkpoint=way)) for way in ways]
    assert len({tuple(cell.values()) for cell in cells}) == len(ways)
    assert {name for name in cells[0] if cells[0][name] != cells[1][name]} == {"quant"}
    assert {name for name in cells[0] if cells[0][name] != cells[3][name]} == {"adapter_mode"}
    trained_again = replace(spec, checkpoint=replace(plain, adapter_revision="b" * 40))
    assert matching.axes(trained_again) == cells[0]
    chats = [replace(plain, chat_attention=how) for how in ("full", "causal")]
    assert len({tuple(matching.axes(replace(spec, checkpoint=chat)).values()) for chat in chats}) == 2


def test_a_gate_names_what_was_done_with_an_adapter() -> None:
    point = planted.checkpoint(adapter="mine", adapter_mode="attach", quant="torchao-int8")
    spec = RunSpec("textvqa", 1, "default", "generate", "val", DataSource("hub", "x"), point)
    assert cell_name(spec).endswith("224 px torchao-int8 adapter mine (attach)")

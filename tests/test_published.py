"""The published numbers: whole, joined by canonical key alone, never without what has to be said of them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pgbench.cli import invoke
from pgbench.metrics.pope import SETTINGS
from pgbench.published import Key, Match, column, contamination, find, key_of, rows
from pgbench.published.table import COLUMNS
from pgbench.registry import load_task, task_names
from pgbench.types import Checkpoint, DataSource, Kind, Profile, Quant, RunSpec

FOLDER = Path(__file__).parent.parent / "results" / "published"
SIDECARS = {"docci": {"nes"}}  # metrics of human ratings, which no answer alone has
MIX = Key("", "", "", family="paligemma", kind="mix", params="3B")


def values(found: tuple[Match, ...]) -> list[float]:
    return [match.row.value for match in found]


def ft(task: str, split: str, metric: str, **more: object) -> Key:
    """The key of a PaliGemma 1 transfer, tuned on the task itself unless told otherwise."""
    known = {"family": "paligemma", "kind": "ft", "tuned_on": task, "params": "3B", "resolution": 224}
    return Key(task, split, metric, **(known | more))  # type: ignore[arg-type]


# What the files hold


def test_every_row_is_there_with_its_source() -> None:
    assert len(rows()) == 918
    assert all(row.source.strip() and row.setting and row.precision for row in rows())


def test_a_file_is_one_benchmark() -> None:
    tables = {path: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.csv")}
    names = [{row["benchmark"] for row in csv.DictReader(io.StringIO(text))} for text in tables.values()]
    assert len(tables) == 56 == len(set().union(*names))
    assert all(len(found) == 1 for found in names)
    assert all(text.endswith("\n") and "\r" not in text for text in tables.values())


def test_no_row_is_there_twice() -> None:
    said = set(COLUMNS[: COLUMNS.index("note")]) - {"value"}
    cells = [tuple(str(getattr(row, name)) for name in sorted(said)) for row in rows()]
    assert [cell for cell, count in Counter(cells).items() if count > 1] == []


def test_the_readme_counts_rows_and_sources() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (\d+) \| ([^|]+) \|", text, re.MULTILINE)
    starts = {
        "P1": "PaliGemma paper ",
        "P2": "PaliGemma 2 paper ",
        "BV": "google-research/big_vision@",
        "G3": "Gemma 3 ",
        "HF blog": "HF blog ",
        "mix card": "HF model card google/",
        "Chat card": "HF model card BUAADreamer/",
        "LLaVA": "haotian-liu/LLaVA:",
        "mPLUG": "X-PLUG/",
        "VILA": "NVlabs/VILA@",
        "MMMU": "MMMU-Benchmark/",
        "CMMMU": "CMMMU-Benchmark/",
    }
    assert [name for _, name in table] == list(starts)
    found = [sum(row.source.startswith(starts[name]) for row in rows()) for _, name in table]
    assert [int(count) for count, _ in table] == found
    assert sum(found) == 918
    assert [name for name in COLUMNS if f"`{name}`" not in text] == []


def test_canonical_names_exist_in_the_tasks() -> None:
    odd = []
    for name in {row.task for row in rows()} - {None}:
        task = load_task(str(name))
        metrics = {metric.name for metric in task.metrics} | SIDECARS.get(task.name, set())
        for row in rows(task.name):
            fits = row.split in {*task.splits, None} and row.metric in metrics | {None}
            if not fits or row.variant not in {*task.variants, None}:
                odd.append((row.task, row.split, row.metric, row.variant))
    assert Counter(odd) == {}


def test_every_shipped_benchmark_has_published_rows() -> None:
    assert {row.task for row in rows()} - {None} == set(task_names()) - {"custom"}  # anybody's own questions


def test_groups_and_tunings_exist_in_the_tasks() -> None:
    assert {row.group for row in rows()} == {"", *(f"setting={setting}" for setting in SETTINGS)}
    assert {row.task for row in rows() if row.group} == {"pope"}
    assert {row.tuned_on for row in rows()} - {None} <= set(task_names())
    assert all(row.tuned_on == "vqav2" for row in rows("pope") if row.kind == "ft")


def test_the_kind_is_what_the_setting_says() -> None:
    for row in rows():
        tuned = re.fullmatch(r"fine-tuned( \(.+\))?|zero-shot \(\S.* transfer\)", row.setting)
        ours = row.model in ("PaliGemma", "PaliGemma 2")
        assert (row.kind == "ft") == bool(ours and tuned), row
        assert (row.kind == "mix") == (row.setting == "mix"), row


def test_what_is_missing_has_a_reason() -> None:
    for row in rows():
        if row.match != "exact" or None in (row.task, row.split, row.metric):
            assert len(row.reason) > 10, row
        if row.family and not row.kind and row.match != "none":
            assert "kind: none" in row.reason, row


def test_a_benchmark_without_a_task_says_so() -> None:
    assert Counter(row.match for row in rows() if row.task is None) == {"none": 588}
    (card,) = {row.reason for row in rows() if row.benchmark == "COCOcap"}
    assert card == "pgbench has no task for COCOcap"
    speed = {row.reason for row in rows() if row.benchmark in ("CPU speed", "model size")}
    assert len(speed) == 1
    assert "not a benchmark's score" in speed.pop()


def test_sweeps_and_minivals_without_a_split_join_nothing() -> None:
    sweep = [row for row in rows() if "lr sweep" in row.setting]
    assert len(sweep) == 63
    assert {row.match for row in sweep} == {"none"}
    minival = [row for row in rows() if row.published_split == "minival"]
    assert Counter(row.task for row in minival) == {"vqav2": 12, "gqa": 21, "scienceqa": 21}
    assert {row.match for row in minival if row.task == "vqav2" and row.kind} == {"exact", "likely"}
    assert {(row.split, row.match) for row in minival if row.task != "vqav2"} == {(None, "none")}


# The tables that people look for, by canonical key


@pytest.mark.parametrize(
    ("px", "pairs", "pope", "gqa"),
    [(224, 46.0, (88.0, 86.63, 85.67), 65.2), (448, 45.33, (89.37, 88.4, 87.47), 65.47)],
)
def test_the_mix_table(px: int, pairs: float, pope: tuple[float, float, float], gqa: float) -> None:
    mix = replace(MIX, resolution=px)
    mmvp = find(replace(mix, task="mmvp", split="test", metric="pair_accuracy", variant="plain"))
    assert values(mmvp) == [pairs]
    for setting, value in zip(SETTINGS, pope, strict=True):
        key = replace(mix, task="pope", split="test", metric="paper_accuracy", group=f"setting={setting}")
        (match,) = find(key)
        assert (match.row.value, match.agreement) == (value, "exact")
    (match,) = find(replace(mix, task="gqa", split="testdev", metric="accuracy"))
    assert (match.row.value, match.agreement) == (gqa, "likely")
    assert "testdev_balanced" in match.footnote


@pytest.mark.parametrize(("quant", "value"), [("none", 60.04), ("8bit", 59.78), ("4bit", 58.72)])
def test_the_quantization_table(quant: Quant, value: float) -> None:
    key = ft("textvqa", "val", "accuracy", family="paligemma2", quant=quant)
    (match,) = find(key)
    assert match.row.value == value
    assert match.row.scaled == pytest.approx(value / 100)
    assert match.agreement == "likely"
    assert "only the differences" in match.footnote
    assert "HF blog" in match.footnote


def test_fp4_is_not_nf4() -> None:
    assert find(ft("textvqa", "val", "accuracy", family="paligemma2", quant="fp4")) == ()


DOCCI = {
    ("MiniGPT-4", "7B"): (484, 5.6, 52.3),
    ("mPLUG-Owl2", "8B"): (459, 4.4, 48.4),
    ("InstructBLIP", "7B"): (510, 4.0, 42.6),
    ("LLaVA-1.5", "7B"): (395, 4.2, 40.6),
    ("VILA", "7B"): (871, 8.6, 28.6),
    ("PaliGemma", "3B"): (535, 8.9, 34.3),
    ("PaLI-5B", "5B"): (1065, 11.3, 32.9),
    ("PaliGemma 2", "3B"): (529, 7.7, 28.4),
    ("PaliGemma 2", "10B"): (521, 7.5, 20.3),
}


def test_the_docci_table() -> None:
    assert len(rows("docci")) == 27
    for place, metric in enumerate(("chars", "sentences", "nes")):
        found = column("docci", "qual_dev", metric)
        assert {(m.row.model, m.row.params): m.row.value for m in found} == {
            name: triple[place] for name, triple in DOCCI.items()
        }
        assert {match.agreement for match in found} == {"exact" if metric == "chars" else "likely"}


@pytest.mark.parametrize(("params", "nes"), [("3B", 28.4), ("10B", 20.3)])
def test_the_released_docci_checkpoints(params: str, nes: float) -> None:
    key = ft("docci", "qual_dev", "nes", family="paligemma2", params=params, resolution=448)
    (match,) = find(key)
    assert match.row.value == nes
    assert match.row.scaled == pytest.approx(nes / 100)
    (chars,) = find(replace(key, metric="chars"))
    assert chars.row.scaled == chars.row.value == DOCCI["PaliGemma 2", params][0]
    assert find(replace(key, metric="nes_proxy")) == ()
    assert find(replace(key, split="qual_test")) == ()


@pytest.mark.parametrize(("task", "value"), [("mmmu", 33.0), ("cmmmu", 29.0)])
def test_the_chat_rows(task: str, value: float) -> None:
    chat = Key(task, "val", "accuracy", family="paligemma", kind="chat", params="3B", resolution=448)
    (match,) = find(replace(chat, model="PaliGemma-3B-Chat-v0.2"))
    assert (match.row.value, match.agreement) == (value, "likely")
    assert "neither the prompt nor the scorer" in match.footnote
    for other in ({"model": "PaliGemma-3B-Chat-v0.1"}, {"resolution": 224}, {"params": "10B"}):
        assert find(replace(chat, **({"model": "PaliGemma-3B-Chat-v0.2"} | other))) == ()


@pytest.mark.parametrize(
    ("key", "published"),
    [
        (ft("vqav2", "test", "accuracy"), [83.19, 83.2]),
        (ft("vqav2", "test", "accuracy", resolution=448), [85.64, 85.6]),
        (ft("vqav2", "minival", "paper_accuracy"), [82.1, 82.1, 81.9]),
        (ft("vqav2", "minival", "paper_accuracy", family="paligemma2", resolution=448), [84.8, 84.8]),
        (ft("textvqa", "test", "accuracy"), [55.47, 55.5]),
        (ft("textvqa", "test", "accuracy", resolution=448), [73.15, 73.2]),
        (ft("textvqa", "test", "accuracy", resolution=896), [76.48, 76.5]),
        (ft("textvqa", "val", "paper_accuracy", resolution=448), [74.6]),
        (ft("textvqa", "val", "paper_accuracy", family="paligemma2", params="28B"), [64.7]),
        (ft("gqa", "testdev", "accuracy", resolution=448), [67.03, 67.0, 67.0]),
        (ft("gqa", "testdev", "accuracy", family="paligemma2", params="10B", resolution=448), [68.3]),
        (ft("scienceqa", "test", "paper_accuracy"), [95.39, 95.4, 95.4]),
        (ft("scienceqa", "test", "paper_accuracy", resolution=448), [95.93, 95.9, 95.9]),
        (ft("pope", "test", "paper_accuracy", tuned_on="vqav2"), [86.0]),
        (ft("pope", "test", "paper_accuracy", tuned_on="vqav2", group="setting=popular"), [85.87]),
        (ft("mmvp", "test", "pair_accuracy", tuned_on="vqav2", variant="plain"), [47.33, 47.3]),
        (Key("mmmu", "val", "accuracy", model="yi-vl-34b"), [45.9]),
        (Key("mmmu", "test", "accuracy", model="LLaVA-1.5-13B"), [33.6]),
        (Key("cmmmu", "test", "accuracy", model="Yi-VL-34B"), [36.5]),
        (Key("vqav2", "testdev", "accuracy", model="LLaVA-1.5", params="13B"), [80.0]),
        (Key("mmvp", "test", "pair_accuracy", model="GPT4-V"), [38.7]),
    ],
)
def test_cells_of_papers_and_leaderboards(key: Key, published: list[float]) -> None:
    assert values(find(key)) == published


def test_two_sources_of_one_cell_are_both_shown() -> None:
    found = find(Key("mmmu", "val", "accuracy", model="Yi-VL-6B"))
    assert [(match.row.value, match.agreement) for match in found] == [(39.1, "exact"), (36.8, "likely")]
    assert found[0].row.source != found[1].row.source


# What may not join


@pytest.mark.parametrize(
    "key",
    [
        ft("textvqa", "train", "paper_accuracy"),  # another split
        ft("vqav2", "val", "paper_accuracy"),  # published is minival, a part of it
        ft("textvqa", "test", "paper_accuracy"),  # the server's rule is the other one
        ft("textvqa", "test", "accuracy", tuned_on="vqav2"),
        ft("textvqa", "test", "accuracy", kind="mix"),
        ft("textvqa", "test", "accuracy", kind="pt"),
        ft("textvqa", "test", "accuracy", params=None),
        ft("textvqa", "test", "accuracy", params="10B"),
        ft("textvqa", "test", "accuracy", resolution=512),
        ft("textvqa", "test", "accuracy", family="paligemma2"),
        ft("textvqa", "test", "accuracy", quant="8bit"),
        ft("textvqa", "test", "accuracy", group="setting=random"),
        ft("pope", "test", "paper_accuracy"),  # the published one was tuned on VQAv2
        ft("mmvp", "test", "pair_accuracy", tuned_on="vqav2", variant="options"),
        ft("mmvp", "test", "pair_accuracy", tuned_on="vqav2", variant="plain_corrected"),
        Key("pope", "test", "accuracy", model="LLaVA-1.5", params="7B"),  # the column's metric is not stated
        Key("mmmu", "val", "accuracy", model=""),
        Key("nothing", "val", "accuracy", model="Yi-VL-6B"),
    ],
)
def test_another_key_finds_nothing(key: Key) -> None:
    assert find(key) == ()


def test_a_likely_number_never_comes_without_its_doubt() -> None:
    cells = {(row.task, row.split, row.metric, row.group) for row in rows() if row.match == "likely"}
    for task, split, metric, group in cells:
        found = column(str(task), str(split), str(metric), group)
        likely = [match for match in found if match.row.match == "likely"]
        assert likely
        assert list(found) == sorted(found, key=lambda match: match.agreement)  # exact ones first
        for match in likely:
            assert match.agreement == "likely"
            assert match.footnote.startswith(f"likely, not certain: {match.row.reason}")
    assert len(cells) > 8


def test_a_footnote_names_source_and_unstated_precision() -> None:
    (match,) = find(ft("textvqa", "val", "paper_accuracy", resolution=448))
    assert match.agreement == "exact"
    assert match.footnote == (
        "PaliGemma 2 paper arXiv 2412.03555v1 Table 15; fine-tuned; precision unstated; "
        "trained without the validation split (unreleased)"
    )


def test_doubts_that_the_run_itself_brings() -> None:
    key = ft("textvqa", "val", "paper_accuracy", resolution=448)
    (unknown,) = find(replace(key, tuned_on=None))
    assert (unknown.agreement, "tuned on is not known" in unknown.footnote) == ("likely", True)
    (worded,) = find(replace(key, official=True))
    assert (worded.agreement, "words of the benchmark's authors" in worded.footnote) == ("likely", True)


# From a run to its key


def spec(name: str, profile: Profile, **more: object) -> RunSpec:
    known = {"revision": None, "profile": profile, "resolution": 448}
    checkpoint = Checkpoint(id=name, **(known | more))  # type: ignore[arg-type]
    source = DataSource("hub", "google/docci")
    return RunSpec("docci", 1, "default", "generate", "qual_dev", source, checkpoint)


def test_a_run_finds_its_published_numbers() -> None:
    tuned = Profile("ft", "paligemma2", "docci")
    assert values(find(key_of(spec("google/paligemma2-10b-ft-docci-448", tuned), "nes"))) == [20.3]
    assert values(find(key_of(spec("some/folder/paligemma2-3b-ft-docci-448/", tuned), "chars"))) == [529]
    chat = replace(spec("BUAADreamer/PaliGemma-3B-Chat-v0.2", Profile("chat", "paligemma")), task="cmmmu")
    assert values(find(key_of(replace(chat, split="val"), "accuracy"))) == [29.0]


def test_a_folder_called_paligemma_is_no_ablation() -> None:
    """Rows of PaliGemma without a kind, multitask ablations, bear its bare name."""
    assert [row.kind for row in rows("gqa") if row.model == "PaliGemma"].count(None) == 2
    point = Checkpoint("my/paligemma", None, Profile("ft", "paligemma", "okvqa"), resolution=224)
    run = RunSpec("gqa", 1, "default", "generate", "testdev", DataSource("hub", "lmms-lab/GQA"), point)
    assert find(key_of(run, "accuracy")) == ()


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("my-model", {}),
        ("google/paligemma2-10b-ft-docci-448", {"adapter": "my/adapter"}),
        ("google/paligemma2-10b-ft-docci-448", {"demo": True}),
        ("google/paligemma2-10b-ft-docci-448", {"pixels_from": 224}),
        ("google/paligemma2-10b-ft-docci-448", {"quant": "8bit"}),
        ("google/paligemma2-10b-ft-docci-448", {"resolution": 0}),
    ],
)
def test_a_model_of_ones_own_finds_none(name: str, more: Mapping[str, object]) -> None:
    tuned = Profile("ft", "paligemma2", "docci")
    assert find(key_of(spec(name, tuned, **more), "nes")) == ()


@pytest.mark.parametrize(("scope", "wanted"), [("all", [59.78]), ("language", [])])
def test_quantized_in_part_is_another_model(scope: str, wanted: list[float]) -> None:
    tuned = Profile("ft", "paligemma2", "textvqa")
    run = spec("my/paligemma2-3b-ft-textvqa-224", tuned, resolution=224, quant="8bit", quant_scope=scope)
    assert values(find(key_of(replace(run, task="textvqa", split="val"), "accuracy"))) == wanted


def test_likelihoods_are_no_generated_answers() -> None:
    run = spec("google/paligemma2-10b-ft-docci-448", Profile("ft", "paligemma2", "docci"))
    assert find(key_of(replace(run, mode="likelihood"), "nes")) == ()


# What a checkpoint was trained on


@pytest.mark.parametrize(
    ("kind", "tuned_on", "task", "split", "wanted"),
    [
        ("ft", "vqav2", "vqav2", "val", "was in the training data"),
        ("ft", "vqav2", "vqav2", "minival", "was in the training data"),
        ("ft", "vqav2", "vqav2", "testdev", None),
        ("ft", "textvqa", "textvqa", "val", "arXiv:2407.07726"),
        ("ft", "textvqa", "textvqa", "test", None),
        ("ft", "textvqa", "vqav2", "val", None),
        ("ft", "docci", "docci", "test", "arXiv:2412.03555"),
        ("ft", "docci", "docci", "qual_dev", None),
        ("ft", "docci", "docci", "qual_test", None),
        ("ft", "gqa", "gqa", "testdev", None),
        ("ft", "gqa", "gqa", "val", "was in the training data"),
        ("ft", "scienceqa", "scienceqa", "test", None),
        ("ft", "vqav2", "pope", "test", "COCO val2014"),
        ("ft", "textvqa", "pope", "test", None),
        ("ft", None, "vqav2", "val", None),
        ("mix", None, "textvqa", "val", "suspect"),
        ("mix", None, "vqav2", "val", "suspect"),
        ("mix", None, "pope", "test", "suspect"),
        ("mix", None, "vqav2", "minival", "suspect"),
        ("mix", None, "gqa", "testdev", None),
        ("mix", None, "docci", "test", None),
        ("mix", None, "mmmu", "val", None),
        ("pt", None, "vqav2", "val", None),
        ("chat", None, "mmmu", "val", None),
        ("chat", None, "textvqa", "val", "tuned from a mix one"),  # and what mix saw, it saw
        ("chat", None, "pope", "test", "suspect"),
    ],
)
def test_contaminated_cells(
    kind: Kind, tuned_on: str | None, task: str, split: str, wanted: str | None
) -> None:
    said = contamination(Profile(kind, "paligemma", tuned_on), task, split)
    assert said is None if wanted is None else wanted in str(said)
    assert said is None or re.search(r"arXiv:\d{4}\.\d{5}", said)
    assert split in load_task(task).splits


# The command


def test_the_command_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["published", "--task", "docci", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [set(row) for row in document] == [set(COLUMNS)] * 27
    assert {row["value"] for row in document if row["metric"] == "nes"} == {
        nes for _, _, nes in DOCCI.values()
    }
    assert invoke(["published", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 918


def test_the_command_prints_a_table_with_its_notes(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["published", "--task", "gqa"]) == 0
    said = capsys.readouterr().out
    (line,) = re.findall(r".*PaliGemma +mix .*65\.2 %.*", said)
    assert line.startswith("gqa testdev accuracy ")
    source, reason = re.findall(r"\[(\d+)\]", line)
    assert f"\n[{source}] HF model card google/" in said
    assert f"\n[{reason}] the card says accuracy (test)" in said
    assert "nothing: GQA, minival, accuracy" in said


def test_the_command_names_the_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["published", "--task", "gqqa"]) == 2
    assert "did you mean gqa?" in capsys.readouterr().err

"""The tables by name: which tasks they are of, what stands beside whom, and what papers say without a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from planted import checkpoint
from report_runs import column, noted, run, score, texts

from pgbench.errors import UsageError
from pgbench.records import Data
from pgbench.report.entries import PEOPLE, Rating, Run
from pgbench.report.formats import FILES, renderer
from pgbench.report.grid import Grid
from pgbench.report.layouts import NAMES, Asked, chosen, grids, published

FT = "me/paligemma2-3b-ft-textvqa-224"
SETTINGS = ("random", "popular", "adversarial")


def layout(name: str, runs: list[Run], **asked: Any) -> Grid:
    (found,) = grids(runs, Asked(layout=name, **asked))
    return found


def quantized(point: str = FT, **more: Any) -> list[Run]:
    scores = {"none": 0.61, "8bit": 0.60, "4bit": 0.59}
    return [run(value, checkpoint(point, quant=quant), **more) for quant, value in scores.items()]


def mixes() -> list[Run]:
    found = []
    for px in (224, 448):
        point = checkpoint(f"google/paligemma-3b-mix-{px}")
        groups = {"setting": {one: {"paper_accuracy": score(0.8 + px / 10_000, 3_000)} for one in SETTINGS}}
        both = {"accuracy": score(0.5, 9_000), "paper_accuracy": score(0.6, 9_000)}
        found += [
            run(0.4, point, task="mmvp", split="test", metric="pair_accuracy", n=300, variant="plain"),
            run(both, point, task="pope", split="test", n=9_000, groups=groups),
            run(0.6, point, task="gqa", split="testdev", n=12_578),
        ]
    return found


def docci(*ratings: Rating) -> Run:
    both = {
        "chrf": score(0.3, 100),
        "chars": score(529.0, 100, number=True),
        "sentences": score(7.0, 100, number=True),
    }
    point = checkpoint("google/paligemma2-3b-ft-docci-448")
    point = replace(point, profile=replace(point.profile, tuned_on="docci"))
    made = run(both, point, task="docci", split="qual_dev", metric="chrf", n=100)
    return replace(made, ratings=ratings)


def published_rows(grid: Grid) -> dict[tuple[str, ...], list[str]]:
    return texts(replace(grid, rows=tuple(row for row in grid.rows if row.published)))


def test_quant_has_differences_costs_and_the_published_rows() -> None:
    found = layout("quant", [*quantized(), run(0.5, task="gqa", split="testdev")])
    assert found.row_heads == ("model", "resolution", "quant")
    delta = column(found, "TextVQA", "val", "accuracy", "Δ to bfloat16")
    own = [row for row in found.rows if not row.published]
    assert [row.entries[delta].text for row in own] == ["", "-1.00", "-2.00"]
    assert own[0].entries[column(found, "weights")].text == "3.00 GiB"
    said = [row for row in found.rows if row.published]
    assert [(row.heads[2], row.entries[0].text, row.entries[delta].text) for row in said] == [
        ("bfloat16", "60.04", ""),
        ("8bit", "59.78", "-0.26"),
        ("4bit", "58.72", "-1.32"),
    ]
    assert noted(found, said[0].entries[0])[0].startswith(
        "published; likely, not certain: neither the checkpoint"
    )


def test_published_numbers_can_be_columns_or_left_out() -> None:
    beside = layout("quant", quantized(), beside=True)
    at = column(beside, "TextVQA", "val", "accuracy", "published")
    assert beside.columns[at].role == "published"
    assert [row.entries[at].text for row in beside.rows] == ["60.04", "59.78", "58.72"]
    assert not published_rows(beside)
    without = layout("quant", quantized(), published=False)
    assert not published_rows(without)
    assert not any("published" in note for note in without.footnotes)


def test_no_published_number_stands_beside_what_it_is_no_comparison_for() -> None:
    drawn = Data("d", 5_000, 5_000, 5_000, 0, demo=True)
    assert not published_rows(layout("quant", quantized(data=drawn)))
    part = Data("digest", 5_000, 5_000, 100, 0, demo=False)
    limited = layout("quant", quantized(data=part, limit=100))
    said = [row for row in limited.rows if row.published]
    assert said
    for row in said:
        notes = noted(limited, row.entries[0])
        assert any("not of the full published split: no comparison" in one for one in notes)
    other = layout("quant", quantized(split="train"))
    assert not published_rows(other)


def test_resolution_is_of_three_tasks_and_the_settings_of_pope() -> None:
    found = layout("resolution", mixes())
    scores = [one.heads for one in found.columns if one.role == "score"]
    assert scores == [
        ("MMVP", "test", "pair_accuracy", "all", "score"),
        *(("POPE", "test", "paper_accuracy", one, "score") for one in SETTINGS),
        ("GQA", "testdev", "accuracy", "all", "score"),
    ]
    low, high = (row for row in found.rows if not row.published)
    assert [entry.text for entry in high.entries][:4] == ["40.00", "0.00", "84.48", "+2.24"]
    assert low.heads[:2] == ("google/paligemma-3b-mix", "224")
    assert not any(entry.text for entry in low.entries[1::2])
    assert next(iter(published_rows(found).values()))[::2] == ["46.00", "88.00", "86.63", "85.67", "65.20"]


def test_a_published_number_stands_below_its_own_variant() -> None:
    """The card's MMVP is of the plain question."""
    point = checkpoint("me/other-3b-mix-224", resolution=224)
    runs = [
        run(0.4, point, task="mmvp", split="test", metric="pair_accuracy", n=300, variant=variant)
        for variant in ("options", "plain")
    ]
    found = layout("resolution", runs)
    plain = next(i for i, one in enumerate(found.columns) if "plain" in one.heads)
    for row in found.rows:
        if row.published:
            assert [bool(entry.text) for entry in row.entries].index(True) == plain
    assert any(row.published for row in found.rows)
    assert not published_rows(layout("resolution", runs[:1]))


def test_docci_has_people_and_judges_apart() -> None:
    people = Rating("nes", PEOPLE, score(0.284, 700), "NES by 5 raters, n = 700 sentences")
    judged = Rating("NES-proxy (j@1)", "NES-proxy (j@1)", score(0.4, 700), "a proxy; over-states NES")
    found = layout("docci", [docci(people, judged)])
    heads = [one.heads[2] for one in found.columns]
    assert heads == ["#char", "#sent", "NES (people)", "NES-proxy (j@1)"]
    own = found.rows[0]
    assert [entry.text for entry in own.entries] == ["529.00", "7.00", "28.40", "40.00"]
    assert any("over-states NES" in one for one in noted(found, own.entries[3]))
    said = published_rows(found)
    assert said["PaliGemma 2 3B, fine-tuned", "448", "unstated"] == ["529", "7.7", "28.4", ""]
    assert len(said) == 9
    unrated = layout("docci", [docci()])
    assert [one.heads[-1] for one in unrated.columns] == ["#char", "#sent", "NES (people)", "n", "failed"]
    assert unrated.rows[0].entries[2].text == ""


def test_chat_is_of_both_benchmarks() -> None:
    point = checkpoint("BUAADreamer/PaliGemma-3B-Chat-v0.2", resolution=448)
    point = replace(point, profile=replace(point.profile, kind="chat", tuned_on=None))
    runs = [run(0.3, point, task=task, split="val", n=900, variant="first") for task in ("mmmu", "cmmmu")]
    found = layout("chat", runs)
    assert [one.heads[0] for one in found.columns] == ["MMMU", "CMMMU"]
    assert published_rows(found)[
        "PaliGemma-3B-Chat-v0.2, zero-shot (instruction-tuned)", "448", "unstated"
    ] == [
        "33.0",
        "29.0",
    ]


def test_paper_is_all_tasks_and_every_table_that_has_its_own() -> None:
    found = grids([*quantized(), *mixes()], Asked(layout="paper"))
    assert [one.name for one in found] == ["paper", "quant", "resolution"]
    assert {one.heads[0] for one in found[0].columns} >= {"TextVQA", "GQA", "POPE", "MMVP"}


def test_a_layout_without_its_tasks_says_what_is_there() -> None:
    with pytest.raises(
        UsageError, match=r"layout chat is of mmmu or cmmmu; here has textvqa \(3 runs\); leave out"
    ):
        grids(quantized(), Asked(layout="chat"), where="here")
    with pytest.raises(UsageError, match="unknown layout 'qaunt'; did you mean quant"):
        grids(quantized(), Asked(layout="qaunt"))
    gqa = quantized(task="gqa", split="testdev")
    assert layout("quant", gqa, tasks=("gqa",)).columns[0].heads[0] == "GQA"
    assert [one.record.spec.task for one in chosen([*quantized(), *gqa], Asked(layout="quant"))] == [
        "textvqa"
    ] * 3


def test_the_blogs_table_the_cards_table_and_docci_come_out_of_the_published_numbers() -> None:
    """What the README promises, number for number."""
    quant, resolution, captions, chat = published(Asked())
    assert list(texts(quant)) == [
        ("PaliGemma 2 3B, fine-tuned", "224", one) for one in ("bfloat16", "8bit", "4bit")
    ]
    assert list(texts(quant).values()) == [["60.04", ""], ["59.78", "-0.26"], ["58.72", "-1.32"]]
    assert texts(resolution) == {
        ("PaliGemma 3B, mix", "224"): ["46.00", "88.00", "86.63", "85.67", "65.20"],
        ("PaliGemma 3B, mix", "448"): ["45.33", "89.37", "88.40", "87.47", "65.47"],
    }
    assert [one.heads[-1] for one in captions.columns] == ["#char", "#sent", "NES (people)"]
    assert texts(captions)["PaliGemma 2 10B, fine-tuned", "448"] == ["521", "7.5", "20.3"]
    assert texts(captions)["MiniGPT-4 7B, zero-shot (instruction-tuned)", ""] == ["484", "5.6", "52.3"]
    assert len(captions.rows) == 9
    assert len(chat.rows) == 2
    for grid in (quant, resolution, captions, chat):
        assert all(
            entry.notes for row in grid.rows for entry in row.entries if entry.data.get("value") is not None
        )
        assert any("no run of pgbench is in this table" in one for one in grid.remarks)


@pytest.mark.parametrize("form", FILES)
def test_every_layout_renders_in_every_format(form: str) -> None:
    render = renderer(form)
    for name in NAMES:
        assert render(published(Asked(layout=name))).strip()
    runs = [*quantized(), *mixes(), docci()]
    for layout_name in (None, "quant", "resolution", "docci", "paper"):
        text = render(grids(runs, Asked(layout=layout_name, costs=True)))
        assert "61" in text or layout_name in ("resolution", "docci")


def test_latex_of_the_published_tables_has_its_numbers() -> None:
    text = renderer("latex")(published(Asked(layout="quant")))
    assert r"\label{tab:pgbench-quant-published}" in text  # not that of the same layout's table of runs
    for number in ("60.04", "59.78", "58.72", "$-$0.26", "$-$1.32"):
        assert number in text


def test_two_sources_that_agree_are_one_number_with_both_notes() -> None:
    """GQA at 224 px: 65.61 in big_vision's README, 65.6 in Table 1 of one paper and Table 15 of the next."""
    point = checkpoint("me/paligemma-3b-ft-gqa-224")
    point = replace(point, profile=replace(point.profile, tuned_on="gqa"))
    (found,) = grids([run(0.6, point, task="gqa", split="testdev", n=12_578)], Asked())
    said = {row.entries[0].text: noted(found, row.entries[0]) for row in found.rows if row.published}
    assert {"65.61", "65.6"} <= set(said)
    assert [("Table 1;" in one, "Table 15" in one) for one in said["65.6"]] == [(True, False), (False, True)]

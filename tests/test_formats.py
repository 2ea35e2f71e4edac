"""Tables as text: what stands where in each format."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pgbench.errors import UsageError
from pgbench.report import formats
from pgbench.report.formats import comma, heads, markdown, terminal, words
from pgbench.report.grid import Column, Entry, Grid, Role, Row
from pgbench.report.render import width


def score(value: float, **more: object) -> Entry:
    data = {
        "value": value / 100,
        "low": value / 100 - 0.014,
        "high": value / 100 + 0.014,
        "n": 5000,
        "failed": 0,
    }
    text = f"{value - 1.4:.2f} to {value + 1.4:.2f}"
    return replace(Entry(f"{value:.2f}", text, data=data), **more)  # type: ignore[arg-type]


def delta(value: float, mark: str = "", notes: tuple[int, ...] = ()) -> Entry:
    return Entry(f"{value:.2f}", mark=mark, notes=notes, data={"value": value / 100})


COUPLE: tuple[tuple[tuple[str], Role], ...] = ((("score",), "score"), (("Δ",), "delta"))
QUANT = Grid(
    name="quant",
    caption="TextVQA by level of quantization",
    row_heads=("checkpoint", "quant"),
    columns=(
        Column(("TextVQA", "score")),
        Column(("TextVQA", "Δ bf16"), "delta"),
        Column(("weights",), "cost", (3,)),
    ),
    rows=(
        Row(("mix-224", "bf16"), (score(60.04, bold=True), Entry(), Entry("5.83 GiB"))),
        Row(("mix-224", "8bit"), (score(59.78, bold=True), delta(-0.26), Entry("3.10 GiB"))),
        Row(("mix-224", "4bit"), (score(58.72), delta(-1.32, "*", (1,)), Entry("12.21 GiB"))),
        Row(("blog", "bf16"), (Entry("60.04"), Entry(), Entry()), (2,), published=True),
    ),
    footnotes=("one", "two", "three"),
    remarks=("Intervals: 95 %.",),
    warnings=("DEMO NUMBERS",),
)


@pytest.mark.parametrize("name", formats.FILES)
def test_every_format_takes_no_table_an_empty_one_and_one_without_heads(name: str) -> None:
    render = formats.renderer(name)
    bare = Grid("bare", "Bare", (), (Column(()),), (Row((), (Entry("1"),)),))
    for grids in ([], [replace(QUANT, rows=())], [replace(QUANT, columns=(), rows=())], [bare]):
        assert render(grids).isprintable() or "\n" in render(grids)


@pytest.mark.parametrize("name", formats.FILES)
def test_every_format_says_all_that_a_reader_needs(name: str) -> None:
    written = formats.renderer(name)([QUANT])
    for text in ("60.04", "59.78", "58.72", "GiB", "DEMO NUMBERS", "one", "two", "three", "58.64 to 61.44"):
        assert text in written, text


@pytest.mark.parametrize("name", formats.FILES)
def test_a_figure_never_stands_below_another_head(name: str) -> None:
    short = replace(QUANT, rows=(Row(("a", "b"), (Entry("1"),)),))
    with pytest.raises(ValueError, match="table 'quant': a row has 2 heads and 1 figures, expected 2 and 3"):
        formats.renderer(name)([short])


def test_an_unknown_format_is_an_error_that_names_the_others() -> None:
    with pytest.raises(UsageError, match="unknown format 'latx'; did you mean latex"):
        formats.renderer("latx")
    assert set(formats.SUFFIXES) == set(formats.FILES)


def test_the_bytes_are_the_same_in_every_process() -> None:
    code = (
        "import hashlib, test_formats as t; from pgbench.report import formats as f;"
        "print(hashlib.sha256(''.join(f.renderer(n)([t.QUANT]) for n in f.FILES).encode()).hexdigest())"
    )
    here = hashlib.sha256("".join(formats.renderer(n)([QUANT]) for n in formats.FILES).encode()).hexdigest()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent)}
        run = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == here


def test_a_list_of_formats_imports_no_template_engine() -> None:
    code = (
        "import sys; from pgbench.report import formats as f;"
        "print(f.renderer('html') and 'jinja2' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_terminal() -> None:
    assert formats.renderer("terminal")([QUANT]).splitlines() == [
        "TextVQA by level of quantization",
        "! DEMO NUMBERS",
        "",
        "                      ──────── TextVQA ─────────",
        "checkpoint  quant              score      Δ bf16  weights [3]",
        "─────────────────────────────────────────────────────────────",
        "mix-224     bf16              >60.04      –          5.83 GiB",
        "                      58.64 to 61.44",
        "            8bit              >59.78  -0.26          3.10 GiB",
        "                      58.38 to 61.18",
        "            4bit               58.72  -1.32* [1]    12.21 GiB",
        "                      57.32 to 60.12",
        "┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄",
        "blog        bf16 [2]           60.04      –                 –",
        "─────────────────────────────────────────────────────────────",
        "> stands where other formats print bold.",
        "Intervals: 95 %.",
        "[1] one",
        "[2] two",
        "[3] three",
    ]


def test_a_table_too_wide_for_the_terminal_goes_on_below() -> None:
    wide = replace(
        QUANT,
        columns=tuple(Column(("POPE", f"setting {i}")) for i in range(12)),
        rows=tuple(Row((f"检查点 {i}", "4bit"), tuple(score(60 + j) for j in range(12))) for i in range(2)),
    )
    for columns in (60, 80, 200):
        lines = terminal.render([wide], columns).splitlines()
        assert max(map(width, lines)) <= columns
        for j in range(12):
            assert sum(line.count(f"{60 + j}.00") for line in lines) == 2
            assert sum(line.count(f"setting {j}") for line in lines if f"setting {j}1" not in line) >= 1
    assert max(map(width, terminal.render([wide]).splitlines())) > 200


def test_one_figure_wider_than_the_terminal_is_whole() -> None:
    grid = Grid("x", "X", ("a",), (Column(("b",)),), (Row(("c",), (Entry("1" * 50),)),))
    assert "1" * 50 in terminal.render([grid], 20)


def test_wide_letters_are_aligned() -> None:
    rows = tuple(Row((name, "x"), (Entry("1.00"), Entry(), Entry())) for name in ("中文", "ab", "e\u0301"))
    lines = [line for line in terminal.render([replace(QUANT, rows=rows)]).splitlines() if "1.00" in line]
    assert {width(line.partition("1.00")[0]) for line in lines} == {width("checkpoint  quant  ") + len("s")}


def test_markdown() -> None:
    assert formats.renderer("markdown")([QUANT]).splitlines() == [
        "### TextVQA by level of quantization",
        "",
        "> **DEMO NUMBERS**",
        "",
        "| checkpoint | quant | TextVQA<br>score | TextVQA<br>Δ bf16 | weights<sup>3</sup> |",
        "| :-- | :-- | --: | --: | --: |",
        "| mix-224 | bf16 | **60.04**<br>58.64 to 61.44 | – | 5.83 GiB |",
        "| mix-224 | 8bit | **59.78**<br>58.38 to 61.18 | -0.26 | 3.10 GiB |",
        r"| mix-224 | 4bit | 58.72<br>57.32 to 60.12 | -1.32<sup>\*,1</sup> | 12.21 GiB |",
        "| *blog* | bf16<sup>2</sup> | 60.04 | – | – |",
        "",
        "1. one",
        "2. two",
        "3. three",
        "",
        "Intervals: 95 %.",
    ]


def test_markdown_leaves_plain_names_plain() -> None:
    plain = "google/paligemma-3b-mix-224 exact_match (vqa) 58.61 to 61.47, 95 %"
    assert markdown.escaped(plain) == plain


def rows_of(grids: list[Grid]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(formats.renderer("csv")(grids))))


def test_csv_has_a_line_for_each_figure() -> None:
    found = rows_of([QUANT])
    assert len(found) == 12
    assert list(found[0])[:12] == (
        "table|row checkpoint|row quant|column 1|column 2|role|published|value|low|high|n|failed".split("|")
    )
    worst = found[7]
    assert (worst["row quant"], worst["column 2"], worst["role"], worst["value"]) == (
        "4bit",
        "Δ bf16",
        "delta",
        "-0.0132",
    )
    assert (worst["text"], worst["mark"], worst["notes"], worst["warnings"]) == (
        "-1.32",
        "*",
        "one",
        "DEMO NUMBERS",
    )
    assert [row["notes"] for row in found[8:]] == ["three", "two", "two", "two | three"]
    assert [row["published"] for row in found[8:]] == ["false", "true", "true", "true"]
    assert (found[0]["bold"], found[6]["bold"]) == ("true", "false")
    assert float(found[0]["value"]) == 0.6004


def test_a_difference_stays_beside_its_score_on_a_narrow_terminal() -> None:
    """As long as the two fit."""
    pairs = tuple(Column((f"setting {i}", *name), role) for i in range(4) for name, role in COUPLE)
    rows = tuple(Row(row.heads, row.entries[:2] * 4) for row in QUANT.rows)
    wide = replace(QUANT, columns=pairs, rows=rows, footnotes=(), remarks=(), warnings=())
    for columns in range(50, 120):
        lines = terminal.render([wide], columns).splitlines()
        assert max(map(width, lines)) <= columns
        for line in lines:
            if "score" in line:
                assert line.count("score") == line.count("Δ")


def test_csv_of_several_tables_has_the_columns_of_all() -> None:
    other = Grid(
        "pope", "POPE", ("task", "task"), (Column(("a", "b", "c")),), (Row(("x", "y"), (score(1),)),)
    )
    found = rows_of([QUANT, other])
    assert [row["table"] for row in found] == ["quant"] * 12 + ["pope"]
    assert (found[-1]["row task"], found[-1]["row task 2"], found[-1]["column 3"]) == ("x", "y", "c")
    assert (found[0]["row task"], found[0]["column 3"]) == ("", "")


def test_csv_keeps_apart_what_has_one_name() -> None:
    entry = Entry("1.00", data={"published": "abc", "text": 3})
    (found,) = rows_of([Grid("x", "X", ("a",), (Column(("b",)),), (Row(("c",), (entry,)),))])
    assert (found["published"], found["data published"], found["text"], found["data text"]) == (
        "false",
        "abc",
        "1.00",
        "3",
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (-0.0132, -0.0132),
        (5000, 5000),
        (True, "true"),
        (None, ""),
        ("-1.32", "-1.32"),
        ("+1,234.5", "+1,234.5"),
        ("-2.10 to 0.30", "'-2.10 to 0.30"),
        ("=1+1", "'=1+1"),
        (" @x", "' @x"),
        ("\tx", r"'\tx"),
        ("a=b", "a=b"),
        (["=1", float("nan")], '["=1", null]'),
        ({"a": 1}, '{"a": 1}'),
    ],
)
def test_cells_of_csv(value: object, written: object) -> None:
    assert comma.cell(value) == written


def test_json() -> None:
    entry = Entry("1", data={"value": float("nan"), "many": (1, float("inf"), "x"), "odd": {1: object}})
    grid = replace(QUANT, rows=(Row(("a", "b"), (entry, Entry(), Entry()), (1,), True),))
    found = json.loads(formats.renderer("json")([grid]))
    assert (found["schema"], found["kind"], len(found["tables"])) == (1, "pgbench tables", 1)
    (table,) = found["tables"]
    assert table["footnotes"][2] == {"number": 3, "text": "three"}
    assert table["columns"][1] == {"heads": ["TextVQA", "Δ bf16"], "role": "delta", "notes": []}
    row = table["rows"][0]
    assert (row["heads"], row["published"], row["notes"]) == (["a", "b"], True, [1])
    assert row["entries"][0]["data"] == {
        "value": None,
        "many": [1, None, "x"],
        "odd": {"1": "<class 'object'>"},
    }


def test_heads_that_are_equal_below_equal_heads_are_one() -> None:
    columns = [
        Column(("a", "x"), notes=(2,)),
        Column(("a", "x"), notes=(1,)),
        Column(("b", "x")),
        Column(("n",)),
    ]
    assert heads.levels(columns) == (
        (heads.Head("a", 0, 2), heads.Head("b", 2, 1), heads.Head("", 3, 1)),
        (heads.Head("x", 0, 2, (1, 2)), heads.Head("x", 2, 1), heads.Head("n", 3, 1)),
    )


def test_lines_are_broken_where_words_end() -> None:
    assert words.wrapped("google/paligemma-3b-mix-224", 12) == ["google/", "paligemma-", "3b-mix-224"]
    assert words.wrapped("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]
    assert words.wrapped("", 10) == [""]
    assert words.wrapped("see arXiv:2407.07726", 16, names=False) == ["see", "arXiv:2407.07726"]
    assert max(width(line) for line in words.wrapped("中" * 30, 10)) <= 10

"""Tables for papers: what the LaTeX says, and that pdflatex sets it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from programs import compiled, needs_pdflatex
from test_formats import QUANT, score

from pgbench.report.formats import latex, points, tex
from pgbench.report.grid import Column, Entry, Grid, Row

LONG = Grid(
    "paper",
    "All of it",
    ("task", "checkpoint"),
    (Column(("score",)), Column(("n",), "count")),
    tuple(
        Row((f"task {i // 4}", f"checkpoint {i % 4}"), (score(30 + i), Entry(f"{37 * i:,}")))
        for i in range(60)
    ),
    footnotes=("a footnote",),
    warnings=("DEMO NUMBERS",),
)
WIDE = replace(
    QUANT,
    name="resolution",
    columns=tuple(
        Column(("POPE", setting, m)) for setting in ("random", "popular") for m in ("accuracy", "F1", "n")
    ),
    rows=tuple(Row((f"mix-{size}", "bf16"), tuple(score(80 + i) for i in range(6))) for size in (224, 448)),
)


def body(grid: Grid) -> list[str]:
    lines = latex.render([grid]).splitlines()
    return lines[lines.index(r"\toprule") : lines.index(r"\bottomrule") + 1]


def test_a_table() -> None:
    assert body(QUANT) == [
        r"\toprule",
        r" &  & \multicolumn{2}{c}{TextVQA} &  \\",
        r"\cmidrule(lr){3-4}",
        r"checkpoint & quant & score & $\Delta$ bf16 & weights\textsuperscript{3} \\",
        r"\midrule",
        r"mix-224 & bf16 & \textbf{60.04} & -- & \phantom{1}5.83 GiB \\[-2pt]",
        r" &  & {\scriptsize 58.64 to 61.44} &  &  \\",
        r" & 8bit & \textbf{59.78} & $-$0.26\phantom{\textsuperscript{{*},1}} & \phantom{1}3.10 GiB \\[-2pt]",
        r" &  & {\scriptsize 58.38 to 61.18} &  &  \\",
        r" & 4bit & 58.72 & $-$1.32\textsuperscript{{*},1} & 12.21 GiB \\[-2pt]",
        r" &  & {\scriptsize 57.32 to 60.12} &  &  \\",
        r"\midrule",
        r"blog & bf16\textsuperscript{2} & 60.04 & -- & -- \\",
        r"\bottomrule",
    ]


def test_what_is_said_around_it() -> None:
    lines = latex.render([QUANT]).splitlines()
    assert lines[:4] == [
        r"% Needs \usepackage{booktabs}, \usepackage{graphicx}.",
        r"\begin{table}[tbp]",
        r"\centering",
        r"\caption{TextVQA by level of quantization}",
    ]
    assert r"\label{tab:pgbench-quant}" in lines
    assert r"\parbox{\linewidth}{\centering\bfseries DEMO NUMBERS}\par\smallskip" in lines
    assert lines[-6:] == [
        r"Intervals: 95 \%.\par",
        r"\textsuperscript{1}~one\par",
        r"\textsuperscript{2}~two\par",
        r"\textsuperscript{3}~three",
        r"\end{minipage}",
        r"\end{table}",
    ]


def test_the_comment_on_top_says_what_is_needed() -> None:
    turned = replace(
        WIDE, columns=WIDE.columns * 3, rows=tuple(replace(r, entries=r.entries * 3) for r in WIDE.rows)
    )
    assert r"\begin{table}[tbp]" in latex.render([QUANT])
    assert r"\begin{table*}[tbp]" in latex.render([WIDE])
    assert r"\begin{sidewaystable}" in latex.render([turned])
    assert "rotating" not in latex.render([QUANT, WIDE]).splitlines()[0]
    assert "rotating" in latex.render([QUANT, turned]).splitlines()[0]
    assert "% A character that pdflatex has no letter for is written as its number: U+4E2D." in latex.render(
        [replace(QUANT, caption="中")]
    )


def test_a_long_table_comes_in_parts_of_a_page() -> None:
    written = latex.render([LONG, LONG])
    assert (
        written.count(r"\begin{table}") == written.count("a footnote") == written.count("DEMO NUMBERS") == 6
    )
    assert "(part 3 of 3)" in written
    labels = re.findall(r"\\label\{(.*?)\}", written)
    assert labels == ["tab:pgbench-paper", *(f"tab:pgbench-paper-{i}" for i in range(2, 7))]
    assert len(re.findall(r"checkpoint \d &", written)) == 120
    assert all(
        re.search(r"\\midrule\ntask \d+ & checkpoint", part) for part in written.split(r"\begin{table}")[1:]
    )


def test_groups_of_rows_are_set_apart_and_single_rows_are_not() -> None:
    def gaps(names: str) -> int:
        rows = tuple(Row((name, str(i)), (Entry(str(i)),)) for i, name in enumerate(names))
        return latex.render([Grid("x", "X", ("a", "b"), (Column(("c",)),), rows)]).count(r"\addlinespace")

    assert (gaps("abcd"), gaps("aabb"), gaps("aaab"), gaps("abbc")) == (0, 1, 1, 2)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a_b & 5% #1 $x^2$ {y}~", r"a\_b \& 5\% \#1 \$x\textasciicircum{}2\$ \{y\}\textasciitilde{}"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("[1em] *", "{[}1em{]} {*}"),
        ("a--b ?`x ''y'' ,,", "a-{}-b ?{}`x '{}'y'{}' ,{},"),
        ('say "x" (" and "', "say ``{}x{''} ({''} and {''}"),
        ("<|>", r"\textless{}\textbar{}\textgreater{}"),
        ("é Å ö ñ Č ł ß", r"\'{e} \r{A} \"{o} \~{n} \v{C} \l{} \ss{}"),
        ("e\u0301", r"\'{e}"),
        ("Δ ± ≤ … –", r"$\Delta$ $\pm$ $\leq$ \ldots{} --"),
        ("x中文y", "xU+4E2D U+6587y"),
        ("\x00\ud800", r"\textbackslash{}x00\textbackslash{}ud800"),
        ("x ::error::x", "x :{}:error:{}:x"),
    ],
)
def test_text_as_latex(text: str, written: str) -> None:
    assert tex.escaped(text) == written


@pytest.mark.parametrize("text", ["W" * 10_000, "中" * 10_000, "é" * 10_000, "\\" * 10_000])
def test_no_text_is_wider_than_tex_can_measure(text: str) -> None:
    assert len(tex.spelled(text)) <= 400
    assert max(map(len, re.split(r"\\allowbreak\{\}| ", tex.prose(text)))) <= 700


def test_a_minus_is_a_minus_and_a_hyphen_a_hyphen() -> None:
    assert tex.figure("-2.10 to -0.30") == "$-$2.10 to $-$0.30"
    assert tex.figure("4-bit") == "4-bit"


def test_decimal_points_stand_below_each_other() -> None:
    def first(*texts: str) -> list[str]:
        return [lines[0] for lines in points.column([Entry(text) for text in texts])]

    assert first("12.3", "9.9", "100") == [
        r"\phantom{1}12.3",
        r"\phantom{10}9.9",
        r"100\phantom{.3}",
    ]
    assert first("1,065", "484") == ["1,065", r"\phantom{1,}484"]
    assert first("-1.32", "0.26") == [r"$-$1.32", r"\phantom{$-$}0.26"]
    assert first("-1.3", "12.3") == ["$-$1.3", r"\phantom{$-$1}\llap{12}\rlap{.3}\phantom{.3}"]
    assert first("5.83 GiB", "3.4 MiB")[1] == r"\phantom{5}\llap{3}\rlap{.4 MiB}\phantom{.83 GiB}"
    assert first("failed", "", "1.0") == ["failed", "--", "1.0"]


@needs_pdflatex
def test_pages(tmp_path: Path) -> None:
    log = compiled(latex.render_document([QUANT, WIDE, LONG]), tmp_path)
    assert "Overfull" not in log
    assert "Float too large" not in log
    if shutil.which("pdftotext"):
        command = ["pdftotext", "-layout", str(tmp_path / "t.pdf"), "-"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for wanted in (
            "Table 1: TextVQA by level",
            "60.04",
            "−1.32",
            "12.21 GiB",
            "58.64 to 61.44",
            "DEMO NUMBERS",
        ):
            assert wanted in text
        assert len(re.findall(r"checkpoint \d", text)) == 60


@needs_pdflatex
def test_a_table_shrinks_to_its_column(tmp_path: Path) -> None:
    """A fragment in a paper of two columns, with the packages that its comment names."""
    fragment = latex.render([replace(QUANT, row_heads=("checkpoint " * 6, "quant"))])
    document = (
        r"\documentclass[twocolumn]{article}\usepackage{booktabs}\usepackage{graphicx}"
        "\n" + r"\begin{document}x" + fragment + r"\end{document}"
    )
    assert "Overfull" not in compiled(document, tmp_path)

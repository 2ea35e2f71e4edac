"""Hostile text in every place of a table is harmless in every format."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import unicodedata
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import hostile
import markdown_it
import pytest
from markdown_it.token import Token
from programs import compiled, needs_chromium, needs_pdflatex, opened

from pgbench.report import formats
from pgbench.report.formats import html, latex, words
from pgbench.report.grid import Grid

each = pytest.mark.parametrize("text", hostile.TEXTS.values(), ids=hostile.TEXTS)
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
LATEX = set(
    "begin end caption label centering small scriptsize vspace footnotesize bfseries raggedright par"
    " smallskip parbox linewidth resizebox ifdim width else fi toprule midrule bottomrule"
    " addlinespace cmidrule multicolumn textbf textsuperscript phantom llap rlap allowbreak"
    " textbackslash textasciicircum textasciitilde textless textgreater textbar ldots cdot times pm"
    " leq geq neq approx infty rightarrow leftarrow Delta alpha beta sigma mu circ dag ddag S P ss ae"
    " AE oe OE o O l L i copyright u r v H d c usepackage".split()
)
LINKS = "src href action formaction srcset style background data poster xlink:href ping manifest".split()
VARYING = {"wbr", "p"}  # breaks in names; lines of the methods


def shown_everywhere(text: str) -> None:
    """Nothing in it that a terminal, an editor or a build log obeys."""
    assert [letter for letter in set(text) - {"\n"} if unicodedata.category(letter) in HIDDEN] == []
    assert [line for line in text.split("\n") if line.lstrip().startswith("::")] == []
    assert "##[" not in text


@pytest.mark.parametrize("name", formats.FILES)
@each
def test_nothing_steers_a_terminal_or_a_build_log(name: str, text: str) -> None:
    written = formats.renderer(name)([hostile.grid(text), hostile.grid(text)])
    shown_everywhere(written)
    assert written.endswith("\n")
    assert written.encode()


@each
def test_csv_has_no_formula_and_keeps_its_columns(text: str) -> None:
    rows = list(csv.reader(io.StringIO(formats.renderer("csv")([hostile.grid(text)]))))
    assert len(rows) == 7
    assert len({len(row) for row in rows}) == 1
    assert len(set(rows[0])) == len(rows[0])
    number = re.compile(r"[+-]?\d+(\.\d+)?")
    cells = [cell for row in rows for cell in row if not number.fullmatch(cell)]
    assert [cell for cell in cells if cell.strip()[:1] in tuple("=+-@＝＋－＠\t\r") and cell.strip()] == []
    assert [row[rows[0].index("low")] for row in rows].count("-0.021") == 2
    assert [row[rows[0].index("text")] for row in rows].count("-1.32") == 2


@each
def test_json_has_all_of_it_as_it_came(text: str) -> None:
    written = formats.renderer("json")([hostile.grid(text)])
    assert written.isascii()
    (table,) = json.loads(written)["tables"]
    assert table["caption"] == table["rows"][1]["entries"][1]["data"][text] == text
    assert table["warnings"] == [text, f"not {text}"]


def tokens(written: str) -> Iterator[Token]:
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for token in parser.parse(written):
        yield token
        yield from token.children or ()


@each
def test_markdown_is_a_table_and_nothing_else(text: str) -> None:
    written = formats.renderer("markdown")([hostile.grid(text)])
    found = list(tokens(written))
    kinds = [token.type for token in found]
    known = "heading blockquote paragraph table thead tbody tr th td strong em ordered_list list_item".split()
    allowed = {f"{kind}_{end}" for kind in known for end in ("open", "close")}
    assert set(kinds) <= allowed | {"inline", "text", "text_special", "html_inline", "softbreak"}
    inline = {token.content for token in found if token.type == "html_inline"}
    assert inline <= {"<br>", "<sup>", "</sup>", "<span>", "</span>"}
    assert (kinds.count("heading_open"), kinds.count("tr_open")) == (1, 3)
    assert kinds.count("blockquote_open") == (2 if text.strip() else 1)
    assert (kinds.count("th_open"), kinds.count("td_open"), kinds.count("list_item_open")) == (5, 10, 2)
    plain = "".join(token.content for token in found if token.type in ("text", "text_special"))
    assert re.search(r"@[\w]|#\d|\{\{7|\{%", plain.replace("{{7*7}} {%", "")) is None
    assert re.search(r"(?<!\\):/|www\.|\{\{|\{%", written) is None
    if text.strip() and len(text) < 100:
        seen = words.shown(text).strip().replace("@", "@\u200b").replace("#", "#\u200b")
        assert seen.replace("$", "") in plain.replace("$", "")


@each
def test_latex_has_only_our_commands(text: str) -> None:
    written = latex.render([hostile.grid(text)])
    assert written.isascii()
    assert set(re.findall(r"\\([A-Za-z]+)", written)) <= LATEX
    kept = re.sub(r"\\[\\{}%$&#_]", "", written)
    assert kept.count("{") == kept.count("}")
    assert kept.count("$") % 2 == 0
    comments = [line for line in kept.split("\n") if "%" in line]
    assert all(line.startswith("% ") or line.endswith(("{!}{%", r"\end{tabular}%")) for line in comments)
    assert re.findall(r"\\label\{(.*?)\}", written) == [re.findall(r"\\label\{([a-z0-9:-]+)\}", written)[0]]
    lines = [line for line in written.split("\n") if line.endswith((r"\\", r"\\[-2pt]"))]
    assert len(lines) >= 6
    assert {re.sub(r"\\&", "", line).count("&") for line in lines} <= {4, 2, 3}
    assert [line for line in lines if line.startswith(("[", "*"))] == []


class Page(HTMLParser):
    """Elements, their attributes and their text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[str] = []
        self.text = self.style = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and data.strip():
            self.scripts.append(data)
        elif self.tags[-1:] == ["style"]:
            self.style += data
        else:
            self.text += data


def page(text: str) -> str:
    grids: tuple[Grid, ...] = (hostile.grid(text), hostile.grid(text))
    svg = "<svg xmlns='http://www.w3.org/2000/svg'/>"
    return html.render(html.Page(text, grids, (html.Figure(text, text, svg),), f"a\n{text}", text))


ELEMENTS = Counter(tag for tag in Page(page("plain")).tags if tag not in VARYING)


@each
def test_html_has_only_our_elements_and_asks_nobody(text: str) -> None:
    written = page(text)
    found = Page(written)
    if text.strip():  # what is empty has no element
        assert Counter(tag for tag in found.tags if tag not in VARYING) == ELEMENTS
    assert not [one for one in found.attributes if one[1].startswith("on")]
    links = [value for _, name, value in found.attributes if name in LINKS]
    assert [value[:26] for value in links] == ["data:image/svg+xml;base64,"]
    assert "@import" not in found.style
    assert "url(" not in found.style
    assert len(found.scripts) == 2
    assert json.loads(found.scripts[0])["tables"][0]["caption"] == text
    (policy,) = [value for _, _, value in found.attributes if "default-src" in value]
    digest = b64encode(hashlib.sha256(found.scripts[1].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith(f"; script-src 'sha256-{digest}'")
    assert words.shown(text) in found.text


@needs_pdflatex
def test_latex_with_hostile_text_compiles_and_reads_no_file(tmp_path: Path) -> None:
    """All of it in one document; what a name says is in the file's text, and nothing came of it."""
    log = compiled(latex.render_document([hostile.grid(text) for text in hostile.TEXTS.values()]), tmp_path)
    assert "/etc/passwd" not in log
    assert "Missing character" not in log
    assert "rerun" not in log.lower().replace("rerun to get cross-references right", "")


@needs_chromium
def test_a_browser_runs_nothing_of_it_and_asks_nobody(tmp_path: Path) -> None:
    text = " ".join(one for one in hostile.TEXTS.values() if len(one) < 200)
    (tmp_path / "page.html").write_text(html.render(html.Page("mine", (hostile.grid(text),))))
    dom, hosts = opened(tmp_path / "page.html", tmp_path)
    assert hosts == set()
    assert "<title>mine</title>" in dom
    assert re.search(r'<p class="filter">', dom), "our own script did not run"


@needs_chromium
def test_that_test_can_fail(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<title>mine</title>" + hostile.TEXTS["image"])
    dom, hosts = opened(tmp_path / "page.html", tmp_path)
    assert hosts == {"evil.example"}
    assert "pwned" in dom

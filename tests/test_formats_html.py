"""The HTML page: what is in it, and what a browser makes of it."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from programs import needs_chromium, opened
from test_formats import QUANT

from pgbench.report.formats import html
from pgbench.report.grid import Row

SVG = '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
PAGE = html.Page(
    "Quantization",
    (QUANT,),
    (html.Figure("pareto", "Accuracy against memory", SVG),),
    "Scores are means.\n\n@article{x,\n  title={y}}",
    "pgbench report results/runs",
)


def rows(page: str) -> list[str]:
    """The text of the rows of the bodies of all tables."""
    bodies = "".join(re.findall(r"(?s)<tbody>(.*?)</tbody>", page))
    cells = re.sub(r"</t[hd]>", "|", re.sub(r"<wbr>|<small>.*?</small>", "", bodies))
    return [re.sub(r"<[^>]*>", "", row) for row in re.findall(r"(?s)<tr[^>]*>(.*?)</tr>", cells)]


def test_a_page_has_tables_figures_methods_and_the_command() -> None:
    page = html.render(PAGE)
    assert rows(page) == [
        "mix-224|bf16|60.04|–|5.83 GiB|",
        "mix-224|8bit|59.78|-0.26|3.10 GiB|",
        "mix-224|4bit|58.72|-1.32*,1|12.21 GiB|",
        "blog|bf162|60.04|–|–|",
    ]
    assert '<th scope="colgroup" colspan="2" class="over">TextVQA</th>' in page
    assert "<b>60.04</b><small>58.64 to 61.44</small>" in page
    assert re.search(r'<tr class="published"><th scope="row" class="word first">blog', page)
    assert page.count("DEMO NUMBERS") == 2, "the banner, and the data"
    assert re.findall(r"<li>(\w+)</li>", page) == ["one", "two", "three"]
    assert "<p>  title={y}}</p>" in page
    assert "<code>pgbench report results/runs</code>" in page


def test_with_several_tables_each_says_what_it_cannot_be_taken_for() -> None:
    page = html.render(replace(PAGE, grids=(QUANT, replace(QUANT, warnings=("LIMITED",)))))
    banner = re.findall(r'(?s)<ul class="warnings".*?</ul>', page)
    assert [re.findall("<li>(.*)</li>", one) for one in banner] == [["DEMO NUMBERS", "LIMITED"]]
    assert re.findall(r'<p class="warning">(.*)</p>', page) == ["DEMO NUMBERS", "LIMITED"]


def test_grids_alone_are_a_page() -> None:
    page = html.render([QUANT])
    assert "<h1>TextVQA by level of quantization</h1>" in page
    assert "<h2" not in page, "one table is called as the page is"
    (name,) = set(re.findall(r'<section id="([^"]+)" aria-label="TextVQA by level of quantization">', page))
    assert f'aria-labelledby="{name}"' not in page
    assert html.render([QUANT, QUANT]).count("<h2") == 2
    assert "Methods" not in page
    assert "<figure>" not in page
    assert html.render([]).count("<table") == 0


def test_a_drawing_is_an_image_that_runs_nothing() -> None:
    page = html.render(PAGE)
    (source,) = re.findall(
        r'<img alt="Accuracy against memory" src="data:image/svg\+xml;base64,([^"]*)">', page
    )
    assert base64.b64decode(source).decode() == SVG
    assert "alert(1)" not in page
    assert "<svg" not in page


@pytest.mark.parametrize(("size", "width"), [('width="241.2pt"', ' width="482"'), ('width="9e9pt"', "")])
def test_a_drawing_is_as_large_as_a_screen_needs(size: str, width: str) -> None:
    caption = "Accuracy against weights. Scores: n = 40. Bars are intervals."
    page = html.render(replace(PAGE, figures=(html.Figure("a", caption, f"<?xml?><svg {size}/>"),)))
    (found,) = re.findall(r'<img alt="Accuracy against weights" src="[^"]*"([^>]*)>', page)
    assert found == width
    assert f"<figcaption>{caption}</figcaption>" in page


def test_a_warning_of_several_tables_is_on_top_once() -> None:
    grids = [replace(QUANT, warnings=(f"LIMITED runs ({n} of 9 cells, see footnotes)",)) for n in (1, 2)]
    top = html.render(grids).partition("<table")[0]
    assert top.count("<li>LIMITED runs</li>") == 1
    assert top.count("<li>") == 1


def test_the_data_of_the_tables_are_in_the_page() -> None:
    page = html.render(PAGE)
    (data,) = re.findall(r'(?s)<script type="application/json" id="data">(.*?)</script>', page)
    assert json.loads(data)["tables"][0]["rows"][2]["entries"][1]["data"] == {"value": -0.0132}


def with_script(page: str, script: str) -> str:
    """The page as if a reader had clicked; its policy would not let a script of ours in."""
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    return free.replace("</body>", f"<script>{script}</script></body>")


def clicked(tmp_path: Path, script: str) -> str:
    more = Row(
        ("ten", "bf16"), (replace(QUANT.rows[0].entries[0], text="9.00", data={}), *QUANT.rows[1].entries[1:])
    )
    page = html.render(replace(PAGE, grids=(replace(QUANT, rows=(*QUANT.rows[::-1], more)),)))
    (tmp_path / "page.html").write_text(with_script(page, script))
    return opened(tmp_path / "page.html", tmp_path)[0]


@needs_chromium
def test_rows_are_sorted_by_a_click(tmp_path: Path) -> None:
    """By exact values, missing ones last, and back to where they were."""
    score, weights = "document.querySelectorAll('button')[2]", "document.querySelectorAll('button')[4]"
    down = clicked(tmp_path, f"{score}.click();")
    assert [row.split("|")[2] for row in rows(down)] == ["60.04", "59.78", "58.72", "60.04", "9.00"]
    assert 'aria-sort="descending"' in down
    up = clicked(tmp_path, f"{score}.click();{score}.click();")
    assert [row.split("|")[2] for row in rows(up)] == ["58.72", "59.78", "60.04", "9.00", "60.04"]
    back = clicked(tmp_path, f"{weights}.click();{score}.click();{score}.click();{score}.click();")
    assert [row.split("|")[0] for row in rows(back)] == ["blog", "mix-224", "mix-224", "mix-224", "ten"]
    assert 'aria-sort="' not in back


@needs_chromium
def test_rows_are_filtered_and_counted(tmp_path: Path) -> None:
    script = "filter.value = '4BIT'; filter.dispatchEvent(new Event('input'));"
    page = clicked(tmp_path, script)
    assert len(re.findall(r"<tr[^>]* hidden=", page)) == 4
    assert ">1 of 5 rows</span>" in page

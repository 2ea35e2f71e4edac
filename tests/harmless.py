"""Whether text of others stayed text: each check reads a format with a parser of its own.

Where a format has a frame of ours, a check takes what the same command writes from plain records as well:
scripts, commands of LaTeX and links are the frame's, or they came from a record.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import unicodedata
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_ANNOTATION = re.compile(r"::(error|warning|notice) title=[^:,\r\n]*::[^\r\n]*")
_ACTIVE = {"iframe", "object", "embed", "form", "link", "base", "video", "audio"}
_SPACES = ("texttt", "textbf", "ldots", "allowbreak", "addlinespace", "midrule")
_ESCAPES = set(
    "textbackslash textasciitilde textasciicircum textless textgreater textbar textquotesingle".split()
)


def shown(text: str) -> str:
    """For a terminal, and for text files of lines: no control, invisible or direction-changing character."""
    steering = {letter for letter in text if unicodedata.category(letter) in HIDDEN and letter != "\n"}
    assert not steering, f"{sorted(map(hex, map(ord, steering)))} in {text[:2000]!r}"
    return text


def logged(text: str) -> str:
    """For the log of a CI: as `shown`, and no line is a command to it but those of `commands`."""
    assert "##[" not in text
    for line in shown(text).splitlines():
        assert not line.lstrip().startswith("::") or _ANNOTATION.fullmatch(line), line
    return text


class _Page(HTMLParser):
    """Elements, attributes that act, and what runs."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.acting: list[tuple[str, str, str | None]] = []
        self.scripts: list[str] = []
        self._running = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        kinds = dict(attrs)
        self._running = tag == "script" and kinds.get("type") != "application/json"
        self.acting += [
            (tag, name, value) for name, value in attrs if name.startswith("on") or _leads(name, value)
        ]

    def handle_endtag(self, tag: str) -> None:
        self._running = False

    def handle_data(self, data: str) -> None:
        if self._running:
            self.scripts.append(data)


def _leads(name: str, value: str | None) -> bool:
    if name == "style":
        return re.search(r"url\((?!#)|@import|expression", value or "") is not None
    return name in ("href", "src", "srcdoc", "action", "xlink:href") and not (value or "").startswith(
        ("#", "data:image/")
    )


def page(text: str, plain: str = "") -> None:
    """HTML: no script, no acting attribute and no element that loads but those of the frame."""
    found, frame = _Page(), _Page()
    found.feed(text)
    frame.feed(plain)
    assert set(found.scripts) <= set(frame.scripts)
    assert set(found.acting) <= set(frame.acting)
    for tag in ("script", *_ACTIVE):
        assert found.tags[tag] == 0 or frame.tags[tag], f"<{tag}>"
    shown(re.sub(r"\t", " ", text))


def drawing(data: bytes) -> None:
    """SVG: XML that is whole, without scripts, links or handlers."""
    tree = ElementTree.fromstring(data)
    assert b"<!ENTITY" not in data
    for element in tree.iter():
        tag = element.tag.rsplit("}", 1)[-1]
        assert tag not in {"script", "foreignObject", "a", "image"}, tag
        assert not [name for name in element.attrib if name.startswith("on")]
        links = [value for name, value in element.attrib.items() if name.endswith("href")]
        assert all(link.startswith("#") for link in links)


def junit(data: bytes) -> ElementTree.Element:
    """XML 1.0 without declarations of entities."""
    assert b"<!" not in data.replace(b"<![CDATA[", b"")
    return ElementTree.fromstring(data)


def sheet(text: str) -> list[list[str]]:
    """CSV: no cell that a spreadsheet would compute, and every row as long as the first that has its kind."""
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    for row in rows:
        for cell in row:
            computed = cell.lstrip(" \t\r\n")[:1] in ("=", "+", "-", "@") or cell[:1] in ("\t", "\r")
            assert not computed or re.fullmatch(r"[+-]?[\d.,]+([eE][+-]?\d+)?", cell), cell
            shown(cell)
    return rows


def tables(text: str, plain: str) -> None:
    """LaTeX: the commands of the frame, and those that write a letter as text; braces that balance."""
    letters = {*re.findall(r"\\([A-Za-z]+)", plain), *_ESCAPES, *_SPACES}
    more = set(re.findall(r"\\([A-Za-z]+)", text)) - letters
    assert not more, more
    bare = re.sub(r"\\[\\{}%$&#_]", "", text)
    assert bare.count("{") == bare.count("}")
    shown(text)


def compiled(text: str, work: Path) -> None:
    """Where a pdflatex is installed the tables become pages, and no file of the machine is in them."""
    if shutil.which("pdflatex") is None:
        return
    (work / "tables.tex").write_text(text, encoding="utf-8")
    command = [
        "pdflatex",
        "-no-shell-escape",
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-recorder",
        "tables.tex",
    ]
    done = subprocess.run(command, cwd=work, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert "/etc/passwd" not in (work / "tables.fls").read_text()


def markdown(text: str) -> None:
    """CommonMark with tables: no HTML that acts, no link, no picture."""
    from markdown_it import MarkdownIt

    shown(text)
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    parser = _Page()
    parser.feed(html)
    assert not {"script", "img", "a", "iframe"} & set(parser.tags), parser.tags
    assert not parser.acting, parser.acting


def commands(text: str) -> list[str]:
    """The commands in a log of GitHub."""
    return [line for line in logged(text).splitlines() if line.lstrip().startswith("::")]

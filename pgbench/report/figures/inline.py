"""SVG as it can stand inside a page beside other figures: no rule, id or script reaches out of it. Pure."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

from pgbench.report.render import printable

HEADER = '<?xml version="1.0" encoding="UTF-8"?>\n'
_ROOT = ' stroke-linejoin="round" stroke-linecap="butt"'  # what matplotlib's style sheet says of everything


def inlined(svg: str, name: str, title: str, alt: str) -> str:
    """The SVG without header, comments, metadata and style sheet; ids begin with the figure's name.

    Trap: matplotlib's sheet is `* {...}`, which would hold for the whole page, and its glyphs have the same
    ids in every figure. Styles become attributes, so that a page may forbid inline styles, and
    ids that nothing refers to are left out.
    """
    body = svg[svg.index("<svg") :]
    for pattern in (r"<!--.*?-->", r"<metadata>.*?</metadata>", r"<defs>\s*<style.*?</style>\s*</defs>"):
        body = re.sub(pattern, "", body, flags=re.DOTALL)
    used = set(re.findall(r'href="#([^"]*)"', body)) | set(re.findall(r"url\(#([^)]*)\)", body))
    body = re.sub(
        r'\sid="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", body
    )
    body = re.sub(r'href="#([^"]*)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r'\sstyle="([^"]*)"', lambda found: _attributes(found[1]), body)
    named = f'<title id="{name}-title">{_text(title)}</title>\n <desc id="{name}-desc">{_text(alt)}</desc>'
    role = f' role="img" aria-labelledby="{name}-title {name}-desc"{_ROOT}'
    body = re.sub(r"<svg([^>]*)>", lambda found: f"<svg{found[1]}{role}>\n {named}", body, count=1)
    return re.sub(r"\n\s*\n", "\n", body)


def _attributes(rules: str) -> str:
    parts = [rule.split(":", 1) for rule in rules.split(";") if rule.strip()]
    return "".join(f' {name.strip()}="{value.strip()}"' for name, value in parts)


def _text(text: str) -> str:
    """Text for XML, which has no place for control characters, escaped or not."""
    return escape(printable(text))

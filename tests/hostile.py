"""Text that tries to be more than text, and a grid that has it in every place."""

from __future__ import annotations

from pgbench.report.grid import Column, Entry, Grid, Row

TEXTS = {
    "script": "<script>alert(1)</script>",
    "image": "<img src=http://evil.example/x onerror=\"document.title='pwned'\">",
    "attribute": "\" onmouseover=\"document.title='pwned'\" x='",
    "data block": "</script><script>document.title='pwned'</script><!--",
    "style": "</style><style>@import url(http://evil.example/x.css);",
    "template": "{{7*7}} {% include '/etc/passwd' %} {#",
    "cdata": "]]> <![CDATA[ --> <!-- ?>",
    "input": "\\input{/etc/passwd}",
    "end of table": "\\end{table}\\end{document}",
    "write": "\\immediate\\write18{id} ^^5cinput{/etc/passwd} \\catcode`\\%=0",
    "row's option": "[1em] & x \\\\ * \\hline",
    "star": "*",
    "braces": "}{ {{ }} {",
    "per cent": "50 % % comment",
    "formula": "$x$ $$ \\(y\\) #1 ~a^b_c",
    "ligatures": "a--b---c ``d'' ,,e'' ?` !` << >> \"f\"",
    "cell": "=cmd|' /C calc'!A0",
    "plus": "+1+cmd|' /C calc'!A0",
    "minus": "-2+3+cmd|' /C calc'!A0",
    "at": "@SUM(1+1)*cmd|' /C calc'!A0",
    "tab": "\t=1+1",
    "return": "\r=1+1",
    "space": " =1+1",
    "wide sign": "\uff1d1+1",
    "ansi": "\x1b[31mred\x1b]0;title\x07\x1b[2J",
    "c1": "\x9b31m\x85",
    "command": "::error::x",
    "late command": "x\n::error file=a::y\r\n ::set-output name=z::1",
    "old command": "##[error]x ##[set-env name=A]b",
    "xml": "\x01\x08\x0b\x0c\x1f\x7f\ufffe\uffff",
    "bidi": "abc\u202edcba\u2066x\u2069\u200b\u00ad",
    "nul": "a\x00b",
    "surrogate": "a\ud800b\udfff",
    "lines": "one\ntwo\r\nthree\u2028four\u2029\x85five",
    "table cell": "a | b \\| c || `|`",
    "links": "[x](javascript:alert(1)) ![x](http://evil.example/x) <http://evil.example> [x]: http://evil.example",
    "bare links": "http://evil.example https://evil.example www.evil.example a@evil.example",
    "mentions": "@torvalds @org/team #1 org/repo#2 GH-3",
    "blocks": "# head\n> quote\n- item\n1. one\n```\ncode\n---\n    code",
    "list": "1. one",
    "bullet": "- one",
    "rule": "---",
    "emphasis": "**bold** _it_ __b__ ~~no~~ `code` \\",
    "html entity": "&lt;script&gt; &amp; &#60; &copy",
    "chinese": "中文的名字 한국어 العربية 🙂👩‍👩‍👧",
    "accents": "naïve café Ångström Łódź İstanbul ế q̈ ﬁ ½",
    "signs": "Δ − × ± ≤ → “x” ‘y’ … ² † § \u00a0 € ™",
    "long": "a" * 10_000,
    "wide": "W" * 2_000,  # 20,000 pt in one line: more than TeX counts, less than it overflows at
    "long words": "wor d" * 2_000,
    "long chinese": "中" * 10_000,
    "long signs": "\\" * 10_000,
    "empty": "",
    "blank": "   ",
}


def grid(text: str) -> Grid:
    """Two rows and three columns; `text` wherever a grid has text, beside a figure that is a number."""
    entry = Entry(text, text, True, text, (1,), {"value": 0.5, "unit": text, text: text, "many": [text, 1]})
    figure = Entry("-1.32", "-2.10 to 0.30", data={"value": -0.0132, "low": -0.021, "high": 0.003, "n": 50})
    return Grid(
        name=text,
        caption=text,
        row_heads=(text, text),
        columns=(
            Column((text, "one")),
            Column((text, text), "delta", (1, 2)),
            Column(("b", text), "published"),
        ),
        rows=(
            Row((text, text), (entry, figure, entry), (2,)),
            Row(("x", text), (figure, entry, Entry()), (), published=True),
        ),
        footnotes=(text, f"see {text}"),
        remarks=(text, f"and {text}"),
        warnings=(text, f"not {text}"),
    )

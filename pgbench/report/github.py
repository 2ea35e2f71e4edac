"""A check as GitHub shows it: annotations (workflow commands), and a Markdown summary of the step.

Source of the commands and their escapes: the toolkit's packages/core/src/command.ts (escapeData,
escapeProperty), https://github.com/actions/toolkit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pgbench.check.findings import STOPS, Check, Finding
from pgbench.check.words import figures
from pgbench.report.check_table import headline, legend, reasons
from pgbench.report.render import printable

SHOWN = 10  # annotations of a kind that GitHub shows of one step
MOST_ROWS = 1_000  # a summary of more than 1 MiB is refused whole
_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = {**_DATA, ":": "%3A", ",": "%2C"}


def commands(check: Check) -> list[str]:
    """One command a line, errors first; of each kind no more than GitHub shows."""
    errors = [one for one in check.findings if _is_error(one, check)]
    unsure = [one for one in check.findings if one.verdict == "cannot tell" and not check.strict]
    warnings = [_command("warning", one) for one in unsure]
    warnings += [command("warning", "pgbench check", text) for text in check.warnings]
    return [*_first([_command("error", one) for one in errors], "error"), *_first(warnings, "warning")]


def command(kind: str, title: str, text: str) -> str:
    r"""A workflow command that is one line whatever is in it.

    >>> command("error", "a: b, c", "50 %\n::error::x")
    '::error title=a%3A b%2C c::50 %25\\n::error::x'
    """
    head = _replaced(printable(title), _PROPERTY)
    return f"::{kind} title={head}::{_replaced(printable(text), _DATA)}"


def summary(check: Check) -> str:
    """Markdown for $GITHUB_STEP_SUMMARY: the table, then the reasons."""
    heads = ("verdict", "cell", "", "baseline", "candidate", "difference", "tolerance", "n")
    lines = [f"### pgbench {_plain(headline(check))}", "", _row(heads), _row(["---"] * 3 + ["---:"] * 5)]
    for one in check.findings[:MOST_ROWS]:
        numbers = figures(one.measure) if one.measure else ("",) * 5
        strong = f"**{one.verdict}**" if _is_error(one, check) else one.verdict
        lines.append(_row([strong, _plain(one.cell), _plain(one.what or "the cell"), *map(_plain, numbers)]))
    if (left := len(check.findings) - MOST_ROWS) > 0:
        lines += ["", f"{left:,} more findings are in the log."]
    said = [*legend(check), *reasons(check)]
    return "\n".join([*lines, "", *(f"- {_plain(text)}" for text in said[:MOST_ROWS]), ""])


def _is_error(one: Finding, check: Check) -> bool:
    return one.verdict in ("regressed", *STOPS) or (check.strict and one.verdict == "cannot tell")


def _command(kind: str, one: Finding) -> str:
    return command(kind, f"pgbench: {one.verdict}: {one.title}", one.reason)


def _first(found: list[str], kind: str) -> list[str]:
    if len(found) <= SHOWN:
        return found
    return [
        *found[: SHOWN - 1],
        command(kind, "pgbench check", f"{len(found) - SHOWN + 1:,} more, see the log"),
    ]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: whatever could mean something stands as a character reference,
    which by CommonMark (section 2.5) never does. A point between digits can mean nothing.

    >>> _plain("97.50 of www.x.y · a → b")
    '97.50 of www&#46;x&#46;y · a → b'
    """
    marks = r"(?<![0-9])\.|\.(?![0-9])|[^\w ,()/%+.·→-]|_"
    return re.sub(marks, lambda found: f"&#{ord(found[0])};", printable(text))


def _replaced(text: str, table: dict[str, str]) -> str:
    return "".join(table.get(letter, letter) for letter in text)

"""A check as JUnit XML: a test case for each finding, a suite for each cell.

Regressed is a failure; failed, missing and incomparable are errors; cannot tell is skipped, and a failure
where the check is strict; what was not judged is skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbench.check.findings import STOPS, Check, Finding
from pgbench.check.words import figures
from pgbench.report.check_table import one_change
from pgbench.report.render import printable

if TYPE_CHECKING:
    from junitparser.junitparser import FinalResult


def xml(check: Check) -> str:
    """The text of the file, with its XML declaration.

    Characters that XML 1.0 cannot hold (control characters, lone surrogates, U+FFFE) are shown escaped.
    """
    from junitparser import JUnitXml, TestCase, TestSuite

    whole = JUnitXml("pgbench check")
    suites: dict[str, TestSuite] = {}
    for one in check.findings:
        suite = suites.setdefault(one.cell, TestSuite(printable(one.cell)))
        case = TestCase(printable(one.what or "the cell"), printable(one.cell), 0)
        case.result = _results(one, strict=check.strict)
        case.system_out = printable(" · ".join([_numbers(one), *one_change(one.notes)]))
        suite.add_testcase(case)
    if check.warnings:
        suite = suites.setdefault("", TestSuite("pgbench check"))
        for text in check.warnings:
            suite.add_property("warning", printable(text))
    for suite in suites.values():
        whole.add_testsuite(suite)
    whole.update_statistics()  # type: ignore[no-untyped-call]
    written: bytes = whole.tostring()  # type: ignore[no-untyped-call]
    return f"<?xml version='1.0' encoding='UTF-8'?>\n{written.decode()}\n"


def _results(one: Finding, *, strict: bool) -> list[FinalResult]:
    from junitparser import Error, Failure, Skipped

    text = printable(f"{one.verdict}: {one.reason}")
    if one.verdict == "regressed" or (strict and one.verdict == "cannot tell"):
        return [Failure(text, one.verdict)]
    if one.verdict in STOPS:
        return [Error(text, one.verdict)]
    return [] if one.verdict in ("ok", "improved") else [Skipped(text, one.verdict)]


def _numbers(one: Finding) -> str:
    if one.measure is None:
        return one.reason
    names = ("baseline", "candidate", "difference", "tolerance", "n")
    shown = zip(names, figures(one.measure), strict=True)
    return ", ".join(f"{name} {figure}" for name, figure in shown if figure)

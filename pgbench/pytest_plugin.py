"""The gate in a test suite: a fixture, and one test item per verdict.

    def test_no_regression(pgbench_check):
        assert pgbench_check("baseline.json", "results/runs").exit_code == 0

    pytest --pgbench-baseline baseline.json --pgbench-candidate results/runs [--pgbench-rules rules.yaml]

pytest loads this file wherever pgbench is installed, so it imports nothing of pgbench until it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from pgbench.check.findings import Check, Finding


class Checker(Protocol):
    """What the fixture gives."""

    def __call__(
        self,
        baseline: str | Path,
        candidate: str | Path,
        rules: str | Path | None = None,
        strict: bool = False,
    ) -> Check: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """The flags, under a heading of their own in pytest --help."""
    group = parser.getgroup("pgbench", "pgbench: verdicts on a candidate as test items")
    for name, text in (
        ("baseline", "run folder, folder of run folders, or file of pgbench baseline save"),
        ("candidate", "the same, of what is judged"),
        ("rules", "YAML file of what is asked of which cells"),
    ):
        group.addoption(f"--pgbench-{name}", metavar="PATH", default=None, help=text)
    group.addoption("--pgbench-strict", action="store_true", help="cannot tell fails as well")


@pytest.fixture
def pgbench_check() -> Checker:
    """A function of baseline, candidate, rules and strict to the findings of a check; their `exit_code` is
    that of `pgbench check`. It raises the errors of the command (pgbench.errors)."""
    return _check


def _check(
    baseline: str | Path, candidate: str | Path, rules: str | Path | None = None, strict: bool = False
) -> Check:
    from pgbench.check.folders import check_folders

    asked = Path(rules) if rules is not None else None
    return check_folders(Path(baseline), Path(candidate), asked, strict=strict)


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Adds an item per verdict where the flags say so. Raises pytest.UsageError, except in a worker of xdist,
    whose session would end in a traceback: there the mistake is an item that fails."""
    if config.getoption("--pgbench-baseline") is config.getoption("--pgbench-candidate") is None:
        return
    verdicts: VerdictSet = VerdictSet.from_parent(session, name="pgbench", nodeid="pgbench")
    try:
        items += verdicts.of(_asked(config))
    except pytest.UsageError as error:
        if not hasattr(config, "workerinput"):
            raise
        items += verdicts.of(_mistaken(str(error)))


def _asked(config: pytest.Config) -> Check:
    """The check of the flags. Raises pytest.UsageError."""
    from pgbench.errors import PgbenchError

    names = ("baseline", "candidate", "rules", "strict")
    baseline, candidate, rules, strict = (config.getoption(f"--pgbench-{name}") for name in names)
    if baseline is None or candidate is None:
        raise pytest.UsageError("--pgbench-baseline and --pgbench-candidate stand together; one is missing")
    try:
        return _check(baseline, candidate, rules, strict)
    except PgbenchError as error:
        raise pytest.UsageError("\n".join(map(_shown, f"pgbench: {error}".split("\n")))) from error


def _mistaken(why: str) -> Check:
    from pgbench.check.findings import Check, Finding

    return Check((Finding("usage", "", "failed", why.replace("\n", "; ")),), 0)


class VerdictSet(pytest.Collector):
    """Where the verdicts hang, so that they are called pgbench::CELL."""

    def collect(self) -> list[pytest.Item]:
        return []  # they are known already

    def of(self, found: Check) -> list[VerdictItem]:
        return [VerdictItem.of(self, finding, found.strict) for finding in found]


class NotPassed(Exception):  # noqa: N818 - says what happened
    """A verdict that fails a check."""


class VerdictItem(pytest.Item):
    """One verdict; it passes, fails or is skipped as its words in docs/ci.md say."""

    finding: Finding
    strict: bool

    @classmethod
    def of(cls, parent: VerdictSet, finding: Finding, strict: bool) -> VerdictItem:
        """Names are escaped: pytest prints them as they are."""
        item: VerdictItem = cls.from_parent(parent, name=_shown(finding.title))
        item.finding, item.strict = finding, strict
        return item

    def runtest(self) -> None:
        from pgbench.check.findings import exit_code

        if exit_code([self.finding], strict=self.strict):
            raise NotPassed
        if self.finding.verdict not in ("ok", "improved"):
            pytest.skip(_shown(f"{self.finding.verdict}: {self.finding.reason}"))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        from pgbench.report.check_table import one_change, sentence

        if isinstance(excinfo.value, NotPassed):
            return "\n".join(map(_shown, [sentence(self.finding), *one_change(self.finding.notes)]))
        return str(excinfo.value)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


def _shown(text: str) -> str:
    """pytest prints names as they are."""
    from pgbench.report.render import printable

    return printable(text)

"""What a check found: one finding for each gated number or limit, and for each cell that has none. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias, get_args

from pgbench.errors import INCOMPLETE, OK, REGRESSED

Verdict: TypeAlias = Literal[  # the worst first: the order of every report
    "regressed",
    "failed",
    "missing",
    "incomparable",
    "cannot tell",
    "improved",
    "ok",
    "not compared",
    "ignored",
    "new",
]
Unit: TypeAlias = Literal["points", "number", "bytes", "samples/s"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
STOPS = ("failed", "missing", "incomparable")  # nothing can be said of the cell


@dataclass(frozen=True, slots=True)
class Measure:
    """The numbers behind a verdict. `difference` and its bounds are in the good direction: below 0 is worse.

    Fractions where the unit is points, and for a difference of bytes or samples/s (relative to the baseline).
    """

    unit: Unit
    before: float
    after: float
    difference: float
    tolerance: float
    low: float | None = None  # one-sided bounds at 1 - alpha
    high: float | None = None
    alpha: float | None = None
    p_worse: float | None = None  # adjusted by Holm over everything gated
    p_better: float | None = None
    n: int = 0  # samples on both sides
    clusters: int = 0
    failed: tuple[int, int] = (0, 0)  # samples without an answer, baseline and candidate
    interval: str = ""  # the kind of a pgbench.stats.Difference
    test: str = ""  # exact label swap | label swap
    draws: tuple[int, int] = (0, 0)  # of the bootstrap, of the test
    seed: int | None = None
    needed: int | None = None  # samples that would tell


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict with its reason. Texts are raw, as records have them; whoever writes a format escapes."""

    cell: str  # task, split, checkpoint, ...: what a person knows the cell by
    what: str  # a metric, "accuracy [setting=adversarial]", "peak memory"; "": the cell as a whole
    verdict: Verdict
    reason: str  # one sentence
    measure: Measure | None = None
    keys: tuple[str, str] = ("", "")  # the runs' keys, 8 digits; "" where there is none
    notes: tuple[str, ...] = ()  # what changed beside the numbers, and what they cannot be taken for

    @property
    def title(self) -> str:
        """What is judged, in one line."""
        return f"{self.cell}: {self.what}" if self.what else self.cell


@dataclass(frozen=True, slots=True)
class Check:
    """All findings, the worst first, and what was asked."""

    findings: tuple[Finding, ...]
    family: int  # hypotheses that Holm's adjustment is over
    warnings: tuple[str, ...] = ()  # rules that match nothing, runs that are in the way
    strict: bool = False

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    @property
    def counts(self) -> dict[Verdict, int]:
        """Verdict -> findings, the worst first, none that is 0."""
        found = Counter(one.verdict for one in self.findings)
        return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}

    @property
    def exit_code(self) -> int:
        """A regression is the more specific answer: 1 wins over 3."""
        return exit_code(self.findings, strict=self.strict)


def exit_code(findings: Iterable[Finding], *, strict: bool = False) -> int:
    """0 fine, 1 any regressed, 3 any failed, missing or incomparable; with `strict` also any cannot tell."""
    found = {one.verdict for one in findings}
    if "regressed" in found:
        return REGRESSED
    return INCOMPLETE if found & {*STOPS, *(("cannot tell",) if strict else ())} else OK


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first; equal ones stay in the order of the baseline."""
    return tuple(sorted(findings, key=lambda one: VERDICTS.index(one.verdict)))


def document(check: Check) -> dict[str, object]:
    """A check as JSON values."""
    return {
        "exit_code": check.exit_code,
        "strict": check.strict,
        "hypotheses": check.family,
        "counts": check.counts,
        "warnings": list(check.warnings),
        "findings": [asdict(one) for one in check.findings],
    }

"""What the doctor found, as a table. Pure."""

from __future__ import annotations

from pgbench.records import Finding, Stack, Verdict
from pgbench.report.table import Table
from pgbench.specs import called
from pgbench.types import Checkpoint

_SAID = {True: "ok", False: "BROKEN", None: "not applicable"}


def of_verdict(checkpoint: Checkpoint, stack: Stack, verdict: Verdict) -> Table:
    """A row per probe, in the order in which they were put."""
    return Table(
        title=(f"doctor · {called(checkpoint.id, checkpoint)} · {_level(checkpoint)}", _stack(stack)),
        columns=("probe", "", "found"),
        rows=tuple((finding.probe, _SAID[finding.passed], finding.said) for finding in verdict.findings),
        notes=(*_noise(verdict), _end(verdict)),
        left=3,
    )


def document(checkpoint: Checkpoint, verdict: Verdict) -> dict[str, object]:
    """The same for `--json`, with all figures."""
    broken = verdict.broken
    return {
        "checkpoint": called(checkpoint.id, checkpoint),
        "level": _level(checkpoint),
        "passed": broken is None,
        "broken": broken.probe if broken else None,
        "seconds": verdict.seconds,
        "findings": [
            {
                "probe": one.probe,
                "passed": one.passed,
                "said": one.said,
                "figures": dict(one.figures),
            }
            for one in verdict.findings
        ],
    }


def first_broken(finding: Finding) -> str:
    """One line on the probe that did not pass."""
    return f"probe {finding.probe} is broken: {finding.said}"


def _level(point: Checkpoint) -> str:
    return point.dtype if point.quant == "none" else f"{point.quant}, rest {point.dtype}"


def _stack(stack: Stack) -> str:
    shown = [f"{name} {stack.versions[name]}" for name in ("torch", "transformers") if name in stack.versions]
    attention = [f"{part} attention {kind}" for part, kind in stack.attention.items()]
    return " · ".join([stack.device_name or stack.device, *shown, *attention])


def _noise(verdict: Verdict) -> list[str]:
    """How far two equal runs can differ by the batch alone."""
    found = next((one.figures for one in verdict.findings if one.probe == "batch"), {})
    if not {"equal", "n"} <= found.keys():
        return []
    differing = 1 - found["equal"]
    return [f"noise floor: {differing:.1%} of {found['n']:,.0f} answers change with the batch alone"]


def _end(verdict: Verdict) -> str:
    count = len(verdict.findings)
    unasked = sum(one.passed is None for one in verdict.findings)
    if verdict.broken:
        return f"{first_broken(verdict.broken)} ({verdict.seconds:.0f} s)"
    rest = f", {unasked} not applicable" if unasked else ""
    return f"{count - unasked} of {count} probes passed{rest} ({verdict.seconds:.0f} s)"

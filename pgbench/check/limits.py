"""What is asked of a cell beside its scores: failures, invalid answers, memory and speed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pgbench.check.findings import Finding, Measure, Unit
from pgbench.check.rules import Terms
from pgbench.records import RunRecord


def unsound(record: RunRecord, terms: Terms) -> str:
    """Why a run cannot be judged; "" where it can."""
    failed = len(record.failures)
    if failed > terms.failures:
        first = record.failures[0]
        allowed = f"{terms.failures:,} allowed" if terms.failures else "none is allowed unless a rule says so"
        return f"{failed:,} samples failed ({allowed}), first {first.sample_id}: {first.reason}"
    if record.cost.nonfinite:
        return f"{record.cost.nonfinite:,} samples met logits that are nan or inf"
    if not record.scores[record.primary].n and record.data.unscored < record.data.selected:
        return "no sample was scored"
    return ""


def limits(before: RunRecord, after: RunRecord, terms: Terms, common: Finding) -> Iterator[Finding]:
    """A finding for each limit that the rules set."""
    if terms.invalid is not None:
        yield _invalid(before, after, terms.invalid, common)
    if terms.memory is not None:
        peaks = before.cost.peak_memory, after.cost.peak_memory
        why = _unlike(before, after) or _other("memory was measured", peaks[0].kind, peaks[1].kind)
        yield _relative(
            "peak memory", "bytes", (peaks[0].bytes, peaks[1].bytes), -1, terms.memory, why, common
        )
    if terms.speed is not None:
        rates = before.cost.samples_per_second or 0.0, after.cost.samples_per_second or 0.0
        why = _unlike(before, after) or _paced(before, after)
        yield _relative("samples/s", "samples/s", rates, 1, terms.speed, why, common)


def _invalid(before: RunRecord, after: RunRecord, limit: float, common: Finding) -> Finding:
    ours, theirs = (record.scores[before.primary] for record in (before, after))
    shares = [score.invalid / score.n for score in (ours, theirs)]
    rise = shares[1] - shares[0]
    failed = ours.failed, theirs.failed
    measure = Measure("points", shares[0], shares[1], -rise, limit, n=theirs.n, failed=failed)
    counts = (
        f"{ours.invalid:,} of {ours.n:,} answers could not be read, now {theirs.invalid:,} of {theirs.n:,}"
    )
    worse = rise > limit + 1e-12
    return replace(
        common,
        what="invalid answers",
        verdict="regressed" if worse else "ok",
        reason=f"{counts}; the share may rise by {100 * limit:.2f} points",
        measure=measure,
    )


def _relative(
    what: str, unit: Unit, sides: tuple[float, float], sign: int, limit: float, why: str, common: Finding
) -> Finding:
    """`sign` 1: more is better."""
    if not why and not all(sides):
        why = "it was not measured on both sides"
    if why:
        return replace(common, what=what, verdict="not compared", reason=why)
    change = sides[1] / sides[0] - 1
    worse = sign * change < -limit - 1e-12
    return replace(
        common,
        what=what,
        verdict="regressed" if worse else "ok",
        reason=f"{100 * change:+.1f} % of the baseline, {100 * limit:g} % allowed",
        measure=Measure(unit, sides[0], sides[1], sign * change, limit),
    )


def _unlike(before: RunRecord, after: RunRecord) -> str:
    """Speed and memory of different devices say nothing of the code."""
    ours, theirs = (record.stack.device_name or record.stack.device for record in (before, after))
    return _other("device", ours, theirs)


def _paced(before: RunRecord, after: RunRecord) -> str:
    sizes = (str(record.cost.batch_size) for record in (before, after))
    threads = (str(record.stack.threads) for record in (before, after))
    return _other("batch size", *sizes) or _other("CPU threads", *threads)


def _other(what: str, was: str, now: str) -> str:
    return f"{what}: {was or 'unknown'} there, {now or 'unknown'} here" if was != now else ""

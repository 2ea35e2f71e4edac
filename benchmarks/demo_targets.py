"""What the demo's checkpoints were to reach, and whether they did."""

from __future__ import annotations

from collections.abc import Iterator

from demo_found import KINDS, Found, cell_of, cells_of, change, pooled, score_of, task_of, titled

from pgbench.paired.compare import compare

SLACK = 0.05  # above chance, with shuffled pictures


def targets(found: Found) -> Iterator[tuple[str, str, bool]]:
    """What was to be reached, what was, and whether it is enough."""
    low, high = (found.route.pair[px] for px in sorted(found.route.pair))
    for name in ("colour", "shape", "yes/no", "counting"):
        value = pooled([one for one in cells_of(found.held, high) if task_of(one) != "textvqa"], KINDS[name])
        yield f"{name} (VQAv2, GQA, POPE) at least 80", str(value), bool(value and value.value >= 0.8)
    reading = score_of(found.held, "textvqa", high)
    yield "TextVQA at least 50", str(reading), reading.value >= 0.5
    row = compare(cell_of(found.held, "textvqa", low), cell_of(found.held, "textvqa", high)).rows[0]
    gain = row.difference
    enough = gain is not None and gain.value >= 0.1 and (gain.low or 0.0) > 0
    yield "TextVQA 10 above the lower resolution, interval without 0", change(row), enough
    loud = list(above_chance(found))
    yield "shuffled pictures: chance + 5 at most", ", ".join(loud) or "every score", not loud
    yield "should: TextVQA at least 70", str(reading), reading.value >= 0.7
    for task, least in (("mmvp", 0.5), ("scienceqa", 0.6)):
        value = score_of(found.held, task, high)
        yield f"should: {titled(task)} at least {100 * least:.0f}", str(value), value.value >= least
    for name, twin in _twins(found):
        behind = [titled(task) for task in found.route.tasks if _is_behind(found, task, name, twin)]
        yield (
            f"should: {twin} as good as {name}",
            f"behind in {', '.join(behind)}" if behind else "yes",
            not behind,
        )


def above_chance(found: Found) -> Iterator[str]:
    """Cells whose score with shuffled pictures is more than `SLACK` above chance."""
    for task in found.route.tasks:
        for name in found.route.checkpoints:
            if score_of(found.shuffled, task, name).value > found.blind[task].whole + SLACK:
                yield f"{titled(task)} {name}"


def _twins(found: Found) -> Iterator[tuple[str, str]]:
    """A checkpoint, and the one of the other family at its resolution."""
    for name in found.route.checkpoints:
        twin = name.replace("tiny-", "tiny2-", 1)
        if twin != name and twin in found.route.checkpoints:
            yield name, twin


def _is_behind(found: Found, task: str, name: str, twin: str) -> bool:
    """Each family is asked as its mix checkpoints are, so that prompts may differ (DOCCI)."""
    before, after = (cell_of(found.held, task, one) for one in (name, twin))
    gain = compare(before, after, anyway=True).rows[0].difference
    return gain is not None and gain.high is not None and gain.high < 0

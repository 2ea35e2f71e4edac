"""results/demo/README.md from the records beside it: scores by task and kind, effects, chance, targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from demo_found import (
    KINDS,
    POOLED,
    Found,
    Value,
    blind_of,
    cell_of,
    cells_of,
    change,
    of_score,
    p_of,
    points,
    pooled,
    score_of,
    titled,
)
from demo_targets import SLACK, targets

from pgbench.paired.compare import Row, compare


def page(found: Found) -> str:
    """The whole page, the same text for the same records."""
    parts = (
        _head(found),
        _by_task(found),
        _by_kind(found),
        _resolution(found),
        _quantization(found),
        _without_looking(found),
        _targets(found),
    )
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _head(found: Found) -> Iterator[str]:
    stack = found.held[0].record.stack
    names = ("pgbench", "torch", "transformers", "bitsandbytes")
    versions = ", ".join(f"{name} {stack.versions[name]}" for name in names if name in stack.versions)
    yield from (
        "# Demo results",
        "",
        "DEMO NUMBERS: drawn pictures and tiny checkpoints trained on drawings. They say nothing about",
        "PaliGemma. Made, as this page is, by `python benchmarks/demo_results.py WORK`.",
        "",
        "The scenes are of a split that no checkpoint was trained on. Scores in percent with 95 % intervals.",
        f"{versions}; CPU, one thread.",
        "",
        "| file | what it holds |",
        "|---|---|",
        "| `demo.yaml` | the sweep of `pgbench demo` |",
        "| `records.json` | its records and each sample's statistics, a file of `pgbench baseline save` |",
        "| `report.html`, `tables.md`, `tables.tex` | its tables |",
        "| `held-out.json` | more samples of each unquantized cell: the scores below |",
        "| `shuffled.json` | the same questions, each asked about another scene's picture |",
        "",
        "`pgbench check --baseline results/demo/records.json --candidate pgbench-demo/runs` holds your own",
        "demo against these records.",
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _by_task(found: Found) -> Iterator[str]:
    yield from ("## Held-out scenes, bfloat16", "")
    rows = []
    for task in found.route.tasks:
        cells = [cell_of(found.held, task, name) for name in found.route.checkpoints]
        first = cells[0].record
        shown = [str(of_score(cell.record.scores[cell.record.primary])) for cell in cells]
        n = f"{first.scores[first.primary].n:,}"
        rows.append((titled(task), first.primary, n, points(found.blind[task].whole), *shown))
    yield from _table(("task", "metric", "n", "chance", *found.route.checkpoints), rows)
    yield ""
    yield "Chance: the best answer without looking, one for each kind of question."


def _by_kind(found: Found) -> Iterator[str]:
    yield from ("## By kind of question", "", f"Over {', '.join(map(titled, POOLED))}.", "")
    rows = []
    for name, kinds in KINDS.items():
        values = [pooled(cells_of(found.held, one), kinds) for one in found.route.checkpoints]
        if (first := values[0]) is not None:
            shown = [str(value) for value in values]
            rows.append((name, f"{first.n:,}", points(blind_of(found, kinds)), *shown))
    yield from _table(("kind", "n", "chance", *found.route.checkpoints), rows)


def _resolution(found: Found) -> Iterator[str]:
    low, high = sorted(found.route.pair)
    yield from (
        f"## What the resolution does: {high} px against {low} px",
        "",
        "One recipe, paired by sample.",
        "",
    )
    rows = []
    for task in found.route.tasks:
        before, after = (cell_of(found.held, task, found.route.pair[px]) for px in (low, high))
        both = compare(before, after, by="asks" if task == "textvqa" else None)
        for row in (both.rows[0], *both.groups):
            name = f"{titled(task)}, {row.group}" if row.group else titled(task)
            rows.append((name, points(row.before), points(row.after), change(row), p_of(row)))
    yield from _table(("task", f"{low} px", f"{high} px", "difference", "p"), rows)


def _quantization(found: Found) -> Iterator[str]:
    levels = [level for level in found.route.quant if level != "none"]
    yield from ("## What quantization changes", "")
    yield f"Samples (MMVP: pairs) whose score moves, lost + gained, of {found.route.limit} a cell."
    yield ""
    heads = [f"{name}, {level}" for name in found.route.checkpoints for level in levels]
    rows = [
        (
            titled(task),
            *(
                _moved(_flips(found, task, name, level))
                for name in found.route.checkpoints
                for level in levels
            ),
        )
        for task in found.route.tasks
    ]
    yield from _table(("task", *heads), rows)


def _flips(found: Found, task: str, checkpoint: str, level: str) -> Row:
    before, after = (cell_of(found.swept, task, checkpoint, one) for one in ("none", level))
    return compare(before, after).rows[0]


def _moved(row: Row) -> str:
    return f"{row.fell} + {row.rose}" if row.flips else "0"


def _without_looking(found: Found) -> Iterator[str]:
    yield from ("## With shuffled pictures", "")
    yield "Every question is asked about another scene's picture; a score may be chance + 5 at most."
    yield ""
    rows = []
    for task in found.route.tasks:
        chance = found.blind[task].whole
        shown = [_above(score_of(found.shuffled, task, name), chance) for name in found.route.checkpoints]
        rows.append((titled(task), points(chance), *shown))
    yield from _table(("task", "chance", *found.route.checkpoints), rows)


def _above(score: Value, chance: float) -> str:
    return f"{score}{' **above**' if score.value > chance + SLACK else ''}"


def _targets(found: Found) -> Iterator[str]:
    yield from ("## Targets", "", "At the higher resolution, where no checkpoint is named.", "")
    rows = [(name, said, "met" if met else "**missed**") for name, said, met in targets(found)]
    yield from _table(("target", "found", ""), rows)

"""The tables that pgbench knows by name, and any other: which numbers, where, against which. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pgbench.errors import UsageError, unknown
from pgbench.published import Published
from pgbench.report import comparison, deltas, published_rows, saying
from pgbench.report.comparison import Plan
from pgbench.report.deltas import Against
from pgbench.report.entries import Item, Run, Wanted, of_run, replicates
from pgbench.report.grid import Grid
from pgbench.report.marks import Paired
from pgbench.report.published_rows import Place

_ROWS, _COLUMNS = ("model", "resolution", "quant"), ("task", "split", "metric")
_HEADS: Mapping[tuple[str, str], str] = {
    **{("task", title.lower()): title for title in ("TextVQA", "VQAv2", "GQA", "POPE", "MMVP", "DOCCI")},
    **{("task", title.lower()): title for title in ("ScienceQA", "MMMU", "CMMMU")},
    ("metric", "chars"): "#char",
    ("metric", "sentences"): "#sent",
    ("metric", "nes"): "NES (people)",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """A table by name. `tasks` empty: all. `lowest`: differences against the lowest resolution."""

    caption: str
    tasks: tuple[str, ...] = ()
    rows: tuple[str, ...] = _ROWS
    columns: tuple[str, ...] = _COLUMNS
    wanted: Mapping[str, Wanted] = field(default_factory=dict)  # by task; none: the primary metric
    against: Against | None = None
    lowest: bool = False
    costs: bool = False
    tables: tuple[Place, ...] = ()  # what is published of it
    chosen: Callable[[Published], bool] = lambda row: True


LAYOUTS: Mapping[str, Layout] = {
    "quant": Layout(
        "TextVQA by level of quantization",
        tasks=("textvqa",),
        against=Against("quant", "none", quiet=True),
        costs=True,
        tables=(("textvqa", "val", "accuracy", ""),),
        chosen=lambda row: row.family is not None and row.quant in ("none", "8bit", "4bit", "fp4"),
    ),
    "resolution": Layout(
        "MMVP, POPE and GQA by resolution",
        tasks=("mmvp", "pope", "gqa"),
        columns=(*_COLUMNS, "group"),
        wanted={"pope": Wanted(("paper_accuracy",), ("setting",), only_groups=True)},
        lowest=True,
        tables=(
            ("mmvp", "test", "pair_accuracy", ""),
            *(
                ("pope", "test", "paper_accuracy", f"setting={one}")
                for one in ("random", "popular", "adversarial")
            ),
            ("gqa", "testdev", "accuracy", ""),
        ),
        chosen=lambda row: row.kind == "mix",
    ),
    "docci": Layout(
        "Long captions of DOCCI: length, and sentences that the picture does not entail",
        tasks=("docci",),
        wanted={"docci": Wanted(("chars", "sentences"), ratings=True)},
        tables=tuple(("docci", "qual_dev", metric, "") for metric in ("chars", "sentences", "nes")),
    ),
    "chat": Layout(
        "MMMU and CMMMU",
        tasks=("mmmu", "cmmmu"),
        tables=(("mmmu", "val", "accuracy", ""), ("cmmmu", "val", "accuracy", "")),
        chosen=lambda row: "PaliGemma-3B-Chat" in row.source,
    ),
}
NAMES = (*LAYOUTS, "paper")
_ALL = Layout("All tasks, primary metrics")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the flags said; empty: as the layout has it."""

    layout: str | None = None
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    against: Against | None = None
    costs: bool | None = None
    published: bool = True
    beside: bool = False  # published numbers as columns
    caption: str = ""


def grids(
    runs: Sequence[Run],
    asked: Asked,
    paired: Paired | None = None,
    remarks: Sequence[str] = (),
    where: str = "",
) -> tuple[Grid, ...]:
    """The tables of some runs. `where`: what the runs were found in, for messages.

    Raises UsageError for a layout whose tasks are not there, for two runs in one place, and for an axis,
    metric or cell of comparison that is not there; StoreError where paired answers cannot be read.
    """
    if not runs:
        raise UsageError(f"there is no finished run in {where or 'what was named'}; pgbench run makes one")
    chosen = [run for run in runs if not asked.tasks or run.record.spec.task in asked.tasks]
    if not chosen:
        raise UsageError(unknown(f"task in {where or 'these runs'}", asked.tasks[0], _tasks(runs)))
    if asked.layout == "paper":
        names = [name for name, one in LAYOUTS.items() if _of(chosen, one)]
        whole = _grid(
            "paper", _ALL if asked.costs is not None else replace(_ALL, costs=True), chosen, asked, paired
        )
        bare = replace(asked, rows=(), columns=(), metrics=(), groups=(), against=None, caption="")
        parts = (_grid(name, LAYOUTS[name], _of(chosen, LAYOUTS[name]), bare, paired) for name in names)
        found = [one for one in (whole, *parts) if one.rows]
    else:
        layout = layout_of(asked.layout) if asked.layout else replace(_ALL, caption="Scores of all runs")
        if asked.layout and asked.tasks:
            layout = replace(layout, tasks=())
        own = _of(chosen, layout)
        if not own:
            raise UsageError(_without_tasks(asked.layout or "", layout, chosen, where))
        found = [_grid(asked.layout or "scores", layout, own, asked, paired)]
    return tuple(replace(one, remarks=(*one.remarks, *remarks)) for one in found)


def chosen(runs: Sequence[Run], asked: Asked) -> list[Run]:
    """The runs that the tables are of. Raises UsageError for a layout that is none."""
    own = [run for run in runs if not asked.tasks or run.record.spec.task in asked.tasks]
    if asked.layout in (None, "paper") or asked.tasks:
        return own
    return _of(own, layout_of(asked.layout or ""))


def published(asked: Asked) -> tuple[Grid, ...]:
    """The tables of what is published, without any run. Raises UsageError."""
    if asked.metrics or asked.groups or asked.tasks:
        raise UsageError("--published-only shows whole tables; leave out --metric, --by and --task")
    names = tuple(LAYOUTS) if asked.layout in (None, "paper") else (asked.layout or "",)
    return tuple(_published(name, layout_of(name), asked) for name in names)


def layout_of(name: str) -> Layout:
    """Raises UsageError for a name that is none."""
    if name not in LAYOUTS:
        raise UsageError(unknown("layout", name, NAMES))
    return LAYOUTS[name]


def _published(name: str, layout: Layout, asked: Asked) -> Grid:
    items = published_rows.of_tables(layout.tables, layout.chosen)
    plan = _plan(name, layout, asked, items)
    if asked.against is None and layout.lowest:
        plan = replace(plan, against=None)
    told = "published numbers only: no run of pgbench is in this table"
    caption = asked.caption or f"{layout.caption}, as published"
    rows = tuple(axis for axis in plan.rows if asked.rows or axis != "quant" or plan.against)
    first = {**plan.first, "model": [item.keys["model"] for item in items]}  # as the source has them
    plan = replace(
        plan, rows=rows, first=first, by_itself=False, costs=False, caption=caption, remarks=(told,)
    )
    found = comparison.grid(items, (), {}, plan, None)
    return replace(found, name=f"{name}-published")  # its label in a paper that has the table of runs too


def _of(runs: Sequence[Run], layout: Layout) -> list[Run]:
    return [run for run in runs if not layout.tasks or run.record.spec.task in layout.tasks]


def _grid(name: str, layout: Layout, runs: Sequence[Run], asked: Asked, paired: Paired | None) -> Grid:
    items = [item for run in runs for item in of_run(run, _wanted(layout, run, asked))]
    if not items:
        raise UsageError(_without_scores(name, runs, asked))
    items, unscored = saying.scored(items)
    if asked.groups and not any(item.keys["group"] for item in items):
        known = {group for run in runs for group in run.record.groups}
        raise UsageError(unknown("group", asked.groups[0], known))
    plan = _plan(name, layout, asked, items)
    if "replicate" in (*plan.rows, *plan.columns):
        items = replicates(items)
    found, beside = published_rows.beside(items) if asked.published else ([], {})
    if asked.published and not (asked.beside or asked.metrics):
        found = [*found, *published_rows.around(items, found, layout.tables, layout.chosen)]
    left = sorted({text for run in runs for text in run.remarks})
    first = {**plan.first, "model": [item.keys["model"] for item in found]}  # as their source has them
    return comparison.grid(
        items, found, beside, replace(plan, first=first, remarks=(*unscored, *left)), paired
    )


def _wanted(layout: Layout, run: Run, asked: Asked) -> Wanted:
    own = layout.wanted.get(run.record.spec.task, Wanted())
    if asked.metrics:
        own = replace(own, metrics=asked.metrics, ratings="nes" in asked.metrics)
    return replace(own, groups=asked.groups, only_groups=False) if asked.groups else own


def _plan(name: str, layout: Layout, asked: Asked, items: Sequence[Item]) -> Plan:
    """The flags before the layout's own wishes; an axis that a flag places leaves the other side."""
    rows = asked.rows or tuple(axis for axis in layout.rows if axis not in asked.columns)
    columns = asked.columns or tuple(axis for axis in layout.columns if axis not in asked.rows)
    if asked.groups and "group" not in (*rows, *columns):
        columns = (*columns, "group")
    if "replicate" in rows:
        rows = tuple(axis for axis in rows if axis not in ("model", "checkpoint"))
    against = asked.against or (deltas.lowest_resolution(items) if layout.lowest else layout.against)
    metrics = [*asked.metrics, *(one for want in layout.wanted.values() for one in want.metrics), "nes"]
    return Plan(
        name=name,
        caption=asked.caption or layout.caption,
        rows=rows,
        columns=columns,
        by_itself=not (asked.rows or asked.columns),
        against=against,
        costs=layout.costs if asked.costs is None else asked.costs,
        beside=asked.beside,
        first={
            "task": asked.tasks or layout.tasks,
            "metric": metrics,
            "group": [group for *_, group in layout.tables],
        },
        heads=_HEADS,
    )


def _tasks(runs: Sequence[Run]) -> list[str]:
    return sorted({run.record.spec.task for run in runs})


def _without_tasks(name: str, layout: Layout, runs: Sequence[Run], where: str) -> str:
    counts = Counter(run.record.spec.task for run in runs)
    there = ", ".join(
        f"{task} ({count:,} run{'s' if count > 1 else ''})" for task, count in sorted(counts.items())
    )
    needs = " or ".join(layout.tasks)
    hint = "leave out --layout, or choose with --task"
    return f"layout {name} is of {needs}; {where or 'there'} has {there}; {hint}"


def _without_scores(name: str, runs: Sequence[Run], asked: Asked) -> str:
    known = {metric for run in runs for metric in run.record.scores}
    if asked.metrics:
        return unknown("metric", asked.metrics[0], known)
    there = ", ".join(sorted(known))
    return f"table {name}: its runs have none of its metrics, only {there}; choose with --metric"

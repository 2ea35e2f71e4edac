"""`pgbench report`: finished runs, and published numbers, as tables for papers, pages and programs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgbench.cli import flags, streams
from pgbench.cli import report_flags as given
from pgbench.errors import UsageError

if TYPE_CHECKING:
    from pgbench.records import RunRecord
    from pgbench.report.entries import Run
    from pgbench.report.figures import Figure
    from pgbench.report.grid import Grid
    from pgbench.report.layouts import Asked
    from pgbench.report.pairing import Answers


def report(
    folders: given.Dirs = None,
    layout: given.Layout = None,
    rows: given.Rows = None,
    columns: given.Columns = None,
    metrics: given.Metrics = None,
    groups: given.By = None,
    tasks: given.Tasks = None,
    delta: given.Delta = None,
    paired: given.Paired = False,
    task_files: given.TaskFiles = None,
    costs: given.Costs = None,
    published: given.Published = True,
    beside: given.Beside = False,
    published_only: given.PublishedOnly = False,
    form: given.Format = None,
    out: given.Out = None,
    caption: given.Caption = "",
    figures: given.Figures = False,
    methods: given.Methods = False,
    standalone: given.Standalone = False,
    as_json: flags.Json = False,
) -> None:
    """Tables of finished runs: any axes, differences, intervals, costs, published numbers with footnotes."""
    from pgbench.report import axes, deltas, layouts

    form = "json" if as_json else form or _by_ending(out)
    _exist(form, layout)  # a wrong name costs no work
    asked = layouts.Asked(
        layout=layout,
        rows=axes.parse(rows or (), "--rows"),
        columns=axes.parse(columns or (), "--columns"),
        metrics=tuple(metrics or ()),
        groups=tuple(groups or ()),
        tasks=tuple(tasks or ()),
        against=deltas.parse(delta) if delta else None,
        costs=costs,
        published=published,
        beside=beside,
        caption=caption,
    )
    _check(folders, out, form, published_only=published_only, paired=paired, figures=figures, methods=methods)
    _check_document(form, standalone=standalone)
    width = _width(out)
    with streams.stdout_on_stderr():
        made = (
            _Made(layouts.published(asked))
            if published_only
            else _made(folders or [], asked, task_files or (), paired=paired, figures=figures)
        )
        text = _rendered(made, form, methods=methods, standalone=standalone, columns=width)
        if out is not None:
            _write(out, text, made.figures if figures and form != "html" else ())
    if out is None:
        print(text, end="")
    elif form != "json":
        from pgbench.report.render import printable

        print(printable(f"{_counted(made.grids)}: {out}"))


def _by_ending(out: Path | None) -> str:
    """The format that the name of the file asks for."""
    from pgbench.report.formats import SUFFIXES

    ending = out.suffix.lower() if out else ""
    return next((form for form, suffix in SUFFIXES.items() if suffix == ending), "terminal")


@dataclass(frozen=True, slots=True)
class _Made:
    grids: tuple[Grid, ...]
    records: tuple[RunRecord, ...] = ()
    figures: tuple[Figure, ...] = ()


def _check(
    folders: Sequence[Path] | None,
    out: Path | None,
    form: str,
    *,
    published_only: bool,
    paired: bool,
    figures: bool,
    methods: bool,
) -> None:
    """Flags that do not go together. Raises UsageError."""
    if published_only and folders:
        raise UsageError("--published-only reads no runs; leave out the folders, or the flag")
    if published_only and (paired or figures):
        raise UsageError("--published-only has no answers and no records; leave out --paired and --figures")
    if not published_only and not folders:
        raise UsageError("name folders that hold runs, results/runs say; --published-only needs none")
    if methods and (published_only or form == "csv"):
        raise UsageError("--methods tells how runs were made, in any format but csv; name folders of runs")
    if figures and form != "html" and out is None:
        raise UsageError("--figures writes files beside --out FILE, or into the page of --format html")
    if out is not None:
        from pgbench.durable import require_outside_runs

        if out.is_dir():
            raise UsageError(f"{out} is a folder; name a file with --out, {out / 'report.md'} say")
        require_outside_runs(out)


def _exist(form: str, layout: str | None) -> None:
    """Raises UsageError for a format or a layout that there is not."""
    from pgbench.report import formats, layouts

    formats.renderer(form)
    if layout is not None and layout != "paper":
        layouts.layout_of(layout)


def _check_document(form: str, *, standalone: bool) -> None:
    if standalone and form != "latex":
        raise UsageError("--standalone makes a document of --format latex; other formats need no more")


def _made(
    folders: Sequence[Path], asked: Asked, task_files: Sequence[str], *, paired: bool, figures: bool
) -> _Made:
    from pgbench.report import layouts
    from pgbench.report.gathering import gather

    with _bar("run", "reading") as step:
        rated = asked.layout in ("docci", "paper") or "nes" in asked.metrics
        recipes = "replicate" in (*asked.rows, *asked.columns)
        found = gather(folders, recipes=recipes, ratings=rated, watch=step)
    where = ", ".join(map(str, folders))
    if not found.runs:
        hint = f" ({len(found.unfinished):,} not finished)" if found.unfinished else ""
        raise UsageError(f"{where} holds no finished run{hint}; name a folder with some, results/runs say")
    runs = layouts.chosen(found.runs, asked)
    records = tuple(run.record for run in runs)
    with _bar("run", "answers") as step:
        answers = _answers(task_files, step) if paired else None
        grids = layouts.grids(found.runs, asked, answers, found.remarks, where)
        drawn = _figures(records, runs, asked, answers) if figures else ()
    return _Made(grids, records, drawn)


def _answers(task_files: Sequence[str], step: Callable[[], object]) -> Answers:
    from pgbench.report.pairing import Answers
    from pgbench.sweeping.reopening import named_files

    return Answers(named_files(task_files), step)


def _figures(
    records: Sequence[RunRecord], runs: Sequence[Run], asked: Asked, answers: Answers | None
) -> tuple[Figure, ...]:
    from pgbench.report.figures import draw
    from pgbench.report.known import tasks_of
    from pgbench.report.render import printable

    metric = asked.metrics[0] if asked.metrics else None
    spans = answers.spans(runs, metric) if answers else None
    drawn = draw(records, tasks=tasks_of(records), metric=metric, paired=spans)
    for one in drawn:
        if not one.svg:
            print(printable(f"{one.title}: {one.caption}"), file=sys.stderr)
    return drawn


def _rendered(made: _Made, form: str, *, methods: bool, standalone: bool, columns: int) -> str:
    """`columns`: of the terminal that it is printed to; 0: to none."""
    from pgbench.report import formats
    from pgbench.report.formats import documents, terminal

    told = _methods(made.records, form) if methods else ""
    if form == "html":
        return _page(made, told)
    if form == "json" and told:
        import json

        text = json.dumps({**documents.document(made.grids), "methods": told}, allow_nan=False, indent=1)
        return text.replace("##[", r"#\u0023[") + "\n"  # as documents.render does, and for its reason
    if standalone:
        from pgbench.report.formats import latex

        return latex.render_document(made.grids, told)
    shown = terminal.render(made.grids, columns) if form == "terminal" else formats.renderer(form)(made.grids)
    return f"{shown}\n{told}" if told else shown


def _page(made: _Made, methods: str) -> str:
    from pgbench.report.formats import html

    drawn = tuple(html.Figure(one.name, one.caption, one.svg) for one in made.figures if one.svg)
    title = made.grids[0].caption if len(made.grids) == 1 else "pgbench report"
    return html.render(html.Page(title, made.grids, drawn, methods, command()))


def _width(out: Path | None) -> int:
    """Columns of the terminal that the text goes to; 0: to none. Asked before stdout is led elsewhere."""
    import shutil

    return shutil.get_terminal_size().columns if out is None and sys.stdout.isatty() else 0


def _methods(records: Sequence[RunRecord], form: str) -> str:
    from pgbench.report import methods, methods_text
    from pgbench.report.known import tasks_of

    return methods_text.render(methods.of(records, tasks_of(records), command()), form)


def command() -> str:
    """This command, as another person would give it: of an absolute path only the name."""
    import shlex

    parts = [_named(part) for part in sys.argv[1:] if part != "--debug"]
    return shlex.join(["pgbench", *parts])


def _named(part: str) -> str:
    flag, equals, value = part.partition("=") if part.startswith("--") else ("", "", part)
    path = Path(value).expanduser()
    return f"{flag}{equals}{path.name or 'runs'}" if path.is_absolute() else part


def _write(out: Path, text: str, figures: Sequence[Figure]) -> None:
    from pgbench.durable import write_pieces

    write_pieces(out, [text.encode("utf-8", "backslashreplace")])
    if figures:
        from pgbench.report.figures import save

        save(figures, out.parent / f"{out.stem}-figures")


@contextlib.contextmanager
def _bar(unit: str, what: str) -> Iterator[Callable[[], object]]:
    """How many were read; how many there are is not known before."""
    from tqdm import tqdm

    with tqdm(unit=unit, desc=what, disable=None, file=sys.stderr, delay=2, leave=False) as bar:
        yield bar.update


def _counted(grids: Sequence[Grid]) -> str:
    rows = sum(len(grid.rows) for grid in grids)
    return f"{len(grids)} table{'s' if len(grids) != 1 else ''}, {rows:,} row{'s' if rows != 1 else ''}"

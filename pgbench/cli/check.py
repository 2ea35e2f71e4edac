"""`pgbench check`: is a candidate worse than its baseline? The gate of a CI."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgbench.cli import bars, flags, streams
from pgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from pgbench.check.findings import Check
    from pgbench.check.sides import Side

_SWITCH = ("auto", "on", "off")


def check(
    baseline: Annotated[
        Path, typer.Option(help="Run folder, folder of run folders, or file of pgbench baseline save.")
    ],
    candidate: Annotated[Path, typer.Option(help="The same, of what is judged.")],
    rules: Annotated[Path | None, typer.Option(help="YAML file of what is asked of which cells.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="cannot tell exits 3 as well.")] = False,
    tolerance: Annotated[
        float | None, typer.Option(help="Points that a score may drop, in every cell. [default: 1.0]")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Chance of a false alarm in the whole check. [default: 0.05]")
    ] = None,
    draws: Annotated[int, typer.Option(min=999, help="Label swaps drawn for a test.")] = 9999,
    seed: Annotated[
        int, typer.Option(min=0, help="Of these draws, and of the intervals' where they are bootstraps.")
    ] = 0,
    task: Annotated[
        list[str] | None, typer.Option(help="The file of a task that is not installed; may be given again.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML into this file.")] = None,
    github: Annotated[
        str, typer.Option(help="Annotations and step summary: auto (GITHUB_ACTIONS=true) | on | off")
    ] = "auto",
    summary: Annotated[Path | None, typer.Option(help="Write the Markdown summary into this file.")] = None,
    as_json: flags.Json = False,
) -> int:
    """Compare runs sample by sample; exit 1 for a regression, 3 where something cannot be judged."""
    from pgbench.check import asking, folders, gate
    from pgbench.durable import require_outside_runs
    from pgbench.sweeping.reopening import named_files

    on_github = _is_on(github)
    for flag, file in (("--junit", junit), ("--summary", summary)):
        if file is not None:
            require_outside_runs(file, flag)
    asked = asking.read(rules, tolerance, alpha)
    with streams.stdout_on_stderr():
        files = named_files(task or ())
        ours, theirs = _read(baseline, files), _read(candidate, files)
        folders.require_runs(ours, baseline)
        with bars.of_work(len(ours.runs), "score", "testing") as bar:
            found = gate.check(ours, theirs, asked, strict=strict, draws=draws, seed=seed, step=bar.update)
    _print(found, as_json=as_json, on_github=on_github)
    _write(found, junit, summary)
    return found.exit_code


def _read(place: Path, files: dict[str, str]) -> Side:
    from pgbench.check import folders

    with bars.of_work(folders.count(place), "run", "reading") as bar:
        return folders.read(place, files, bar.update)


def _is_on(switch: str) -> bool:
    if switch not in _SWITCH:
        raise UsageError(unknown("--github", switch, _SWITCH))
    return switch == "on" or (switch == "auto" and os.environ.get("GITHUB_ACTIONS") == "true")


def _write(found: Check, junit: Path | None, summary: Path | None) -> None:
    from pgbench.durable import write_pieces
    from pgbench.report import github
    from pgbench.report.junit import xml

    if junit is not None:
        write_pieces(junit, [xml(found).encode()])
    if summary is not None:
        write_pieces(summary, [github.summary(found).encode()])


def _print(found: Check, *, as_json: bool, on_github: bool) -> None:
    """Annotations go where no document is."""
    from pgbench.check.findings import document
    from pgbench.report import github
    from pgbench.report.check_table import of_check
    from pgbench.report.render import terminal

    if as_json:
        streams.print_json(document(found))
    else:
        print(terminal(of_check(found)))
    if on_github:
        for line in github.commands(found):
            print(line, file=sys.stderr if as_json else sys.stdout)
        if step := os.environ.get("GITHUB_STEP_SUMMARY"):
            _append(Path(step), github.summary(found))
    unsure = found.counts.get("cannot tell", 0)
    if unsure and not found.strict:
        print(f"pgbench: warning: {unsure:,} cannot tell; --strict makes this exit 3", file=sys.stderr)


def _append(file: Path, text: str) -> None:
    """GitHub's own file, which nobody asked for: other commands of the step write to it as well, and that it
    cannot be written is no verdict."""
    try:
        with file.open("a", encoding="utf-8") as summary:
            summary.write(text)
    except OSError as error:
        print(f"pgbench: warning: no step summary: {error.strerror or error}", file=sys.stderr)

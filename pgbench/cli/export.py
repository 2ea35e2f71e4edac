"""`pgbench export`: finished runs in the files of others."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from pgbench.cli import flags, streams
from pgbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from pgbench.exports import Output, Run

Pieces: TypeAlias = Callable[[], Iterable[bytes]]


def export(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold some.")],
    form: Annotated[
        str, typer.Option("--format", "-f", help="eval-results | model-index | lm-eval | every-eval-ever")
    ],
    out: Annotated[
        Path, typer.Option(help="A file (.yaml, .md, .json), or a folder where the format has several.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Only the runs of this checkpoint.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="For model cards: this metric.")] = None,
    task_id: Annotated[
        str | None, typer.Option(help="eval-results: the id of the data set's eval.yaml. [default: the task]")
    ] = None,
    source_url: Annotated[str | None, typer.Option(help="Where the runs can be looked at.")] = None,
    source_name: Annotated[str | None, typer.Option(help="The name of that place.")] = None,
    organization: Annotated[str | None, typer.Option(help="every-eval-ever: who ran the evaluation.")] = None,
    relationship: Annotated[
        str, typer.Option(help="Theirs to the model: first_party | third_party | collaborative | other")
    ] = "other",
    samples: Annotated[
        bool, typer.Option("--samples/--no-samples", help="every-eval-ever: a line for each answer too.")
    ] = True,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Demo, limited and incomplete runs too; the file says so.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    as_json: flags.Json = False,
) -> None:
    """Write finished runs for model cards, for readers of lm-evaluation-harness, or for Every Eval Ever."""
    from pgbench.exports import FORMATS, Asked, gather, outputs, write

    if form not in FORMATS:  # costs no reading
        raise UsageError(unknown("format", form, FORMATS))
    asked = Asked(metric, task_id, source_url, source_name, organization, relationship, samples)
    found, unfinished = gather(runs, model=model, anyway=anyway, of_hub=form == "eval-results")
    files = outputs(found, form, out, asked)
    with _counting() as counted:
        write([replace(file, pieces=counted(file.pieces)) for file in files], overwrite=overwrite)
    _tell(form, found, files, unfinished, as_json=as_json)


@contextlib.contextmanager
def _counting() -> Iterator[Callable[[Pieces], Pieces]]:
    """A bar on stderr, for the lines of many answers."""
    from tqdm import tqdm

    with tqdm(unit="line", desc="writing", delay=2, disable=None, file=sys.stderr) as bar:

        def counted(pieces: Pieces) -> Pieces:
            def each() -> Iterator[bytes]:
                for piece in pieces():
                    yield piece
                    bar.update()

            return each

        yield counted


def _tell(
    form: str, runs: Sequence[Run], files: Sequence[Output], unfinished: Sequence[str], *, as_json: bool
) -> None:
    from pgbench.exports.facts import marks
    from pgbench.report.render import printable
    from pgbench.report.table import by_mark

    if as_json:
        document = {"format": form, "files": [str(file.path) for file in files]}
        told = [{"run": run.place, "marks": marks(run.record)} for run in runs]
        streams.print_json({**document, "runs": told, "unfinished": list(unfinished)})
        return
    for file in files:
        print(printable(str(file.path)))
    for line in by_mark({run.place: marks(run.record) for run in runs}):
        print(printable(line))
    if unfinished:
        print(printable(f"left out, not finished: {', '.join(unfinished)}"))

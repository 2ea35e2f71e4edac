"""The command line: the only place that prints and exits. Heavy imports stay inside the commands.

Exit codes: 0 fine, 1 regression, 2 usage, 3 incomplete or failed.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from pgbench.cli import (
    baseline,
    bench,
    check,
    compare,
    data,
    demo,
    doctor,
    export,
    fetch,
    merge,
    nes,
    plan,
    published,
    report,
    rescore,
    run,
    score,
    show,
    status,
    streams,
    submit,
    sweep,
    tasks,
    worker,
)
from pgbench.errors import INCOMPLETE, OK, USAGE, PgbenchError

_INTERRUPTED = 130  # what typer returns, without a word, for a KeyboardInterrupt in a command

app = typer.Typer(
    name="pgbench",
    help="Evaluate and benchmark PaliGemma and PaliGemma 2.",
    epilog="python -m pgbench always works, also where PostgreSQL's pgbench comes first on the PATH.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("run", short_help="Run one checkpoint on one task, or go on with it.")(run.run)
app.command("demo", short_help="See all of it work, on drawings and tiny checkpoints.")(demo.demo)
app.command("sweep", short_help="Run checkpoints x levels x tasks, or go on with them.")(sweep.sweep)
app.command("status", short_help="How far a sweep is, while it runs and afterwards.")(status.status)
app.command("tasks", short_help="List the tasks, or show one of them fully.")(tasks.tasks)
app.command("show", short_help="Show a run again, its worst answers, a breakdown.")(show.show)
app.command("plan", short_help="Samples that show a drop; what a sweep will cost.")(plan.plan)
app.command("compare", short_help="Two runs of the same questions, sample by sample.")(compare.compare)
app.command("check", short_help="The gate of a CI: is a candidate worse than its baseline?")(check.check)
app.command("published", short_help="List published numbers with their sources.")(published.published)
app.command("report", short_help="Tables of runs and published numbers, for papers.")(report.report)
app.command("doctor", short_help="Probe the stack that a run would use.")(doctor.doctor)
app.command("bench", short_help="Speed, memory and loading of a checkpoint on this machine.")(bench.bench)
app.command("merge", short_help="Make records of shards that several machines answered.")(merge.merge)
app.command("score", short_help="Score answers made elsewhere.")(score.score)
app.command("rescore", short_help="Score stored answers again where a task has changed.")(rescore.rescore)
app.command("submit", short_help="Write the file that a test server takes.")(submit.submit)
app.command("export", short_help="Write runs for model cards, and for other evaluation tools.")(export.export)
app.command("fetch", short_help="Download for machines without a network, and verify.")(fetch.fetch)
app.command("worker", hidden=True)(worker.worker)
app.add_typer(baseline.app, name="baseline", short_help="baseline save: runs kept in one file for check.")
app.add_typer(data.app, name="data", short_help="data check: is a benchmark's data whole and readable?")
app.add_typer(nes.app, name="nes", short_help="nes sheet, score, judge: captions rated by people or a model.")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"pgbench {version('pgbench')}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version)] = False,
) -> None:
    """Evaluate and benchmark PaliGemma and PaliGemma 2."""


def main() -> None:
    """The console script."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments  # taken out here so that it works before and after the command's name
    signal.signal(signal.SIGTERM, _terminated)
    streams.open_all()
    code = invoke([argument for argument in arguments if argument != "--debug"], debug=debug)
    raise SystemExit(max(code, streams.flush()))


def invoke(arguments: list[str], *, debug: bool = False) -> int:
    """Run a command; every error becomes one line on stderr and an exit code."""
    try:
        returned = app(arguments or ["--help"], prog_name="pgbench", standalone_mode=False)
        if returned == _INTERRUPTED:
            return _say(KeyboardInterrupt(), "interrupted", INCOMPLETE, debug)
        return (returned if isinstance(returned, int) else OK) if arguments else USAGE
    except typer.Exit as leaving:
        return leaving.exit_code
    except KeyboardInterrupt as error:
        return _say(error, str(error) or "interrupted", INCOMPLETE, debug)
    except PgbenchError as error:
        return _say(error, str(error), error.exit_code, debug)
    except BrokenPipeError:
        return OK  # `streams.flush` sees to it
    except SystemExit as leaving:  # typer leaves with 1 then, which means a regression here
        if not isinstance(leaving.__context__, BrokenPipeError):
            raise
        streams.silence()
        return OK
    except OSError as error:
        return _say(
            error, f"{error.strerror or type(error).__name__}: {error.filename or ''}", INCOMPLETE, debug
        )
    except Exception as error:  # noqa: BLE001 - a defect of ours or a library's: one line, never exit code 1
        if (usage := getattr(error, "format_message", None)) is not None:  # typer's own usage errors
            command = getattr(getattr(error, "ctx", None), "command_path", None) or _command(arguments)
            return _say(error, f"{usage()} (see {command} --help)", USAGE, debug)
        text = f"unexpected {type(error).__name__}: {error} (--debug shows the traceback; please report it)"
        return _say(error, text, INCOMPLETE, debug)


def _command(arguments: list[str]) -> str:
    """The command that arguments begin with: an option without its value does not say whose it is."""
    found: object = typer.main.get_command(app)
    names = ["pgbench"]
    for word in arguments:
        found = getattr(found, "commands", {}).get(word)
        if found is None:
            break
        names.append(word)
    return " ".join(names)


def _say(error: BaseException, text: str, code: int, debug: bool) -> int:
    from pgbench.recipe.places import Mistakes
    from pgbench.report.render import printable

    if debug:
        import traceback

        traceback.print_exception(error)
    text, *more = text.split("\n") if isinstance(error, Mistakes) else [text]  # one line per mistake
    print(f"pgbench: {printable(' '.join(text.split()))}", file=sys.stderr)
    for line in more:
        print(printable(line), file=sys.stderr)
    return code


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt("terminated")

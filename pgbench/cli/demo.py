"""`pgbench demo`: all of pgbench on drawings and tiny checkpoints, in minutes, offline."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgbench.cli import bars, flags, stopping, streams
from pgbench.errors import INCOMPLETE, OK

if TYPE_CHECKING:
    from pgbench.demo.touring.damage import Damage
    from pgbench.demo.touring.gate import Post, Verdicts
    from pgbench.demo.touring.route import Route
    from pgbench.recipe.asked import AskedCell
    from pgbench.sweeping.work import Swept

_OUT = {False: Path("pgbench-demo"), True: Path("pgbench-demo-quick")}
_NEXT = """\
Next:
  pgbench run --task textvqa --model {example} --quant 4bit    # a real checkpoint on real data
  pgbench sweep my.yaml    # {recipe} with your checkpoints and without `source: demo`
  pgbench check --baseline baseline.json --candidate results/runs    # in your CI: docs/ci.md"""
_WRONG = "the gate did not say what it should: expected 0 for the run itself and 1 for the damaged checkpoint"


def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer cells and samples: two minutes.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Where everything goes. [default: pgbench-demo, or pgbench-demo-quick]"),
    ] = None,
    as_json: flags.Json = False,
) -> int:
    """Sweep, tables, report and gate on what pgbench ships; the same command again goes on."""
    from pgbench.demo.touring.route import FULL, QUICK

    return tour(QUICK if quick else FULL, out or _OUT[quick], as_json=as_json)


@dataclass(slots=True)
class _Told:
    """What is said, as text on the way or as one document at the end."""

    as_json: bool
    document: dict[str, object]

    def say(self, text: str = "") -> None:
        from pgbench.report.render import printable

        if not self.as_json:
            print("\n".join(printable(line) for line in text.split("\n")), flush=True)

    def shown(self, text: str) -> None:
        """A table, which is escaped already."""
        if not self.as_json:
            print(text, end="" if text.endswith("\n") else "\n", flush=True)


def tour(route: Route, out: Path, *, as_json: bool = False) -> int:
    """The exit code: 0 when everything went as it should, 3 otherwise."""
    from pgbench.durable import require_outside_runs

    require_outside_runs(out)
    told = _Told(as_json, {"demo": True, "out": str(out)})
    code = _stops(route, out, told)
    if as_json:
        streams.print_json({**told.document, "exit_code": code})
    return code


def _stops(route: Route, out: Path, told: _Told) -> int:
    from pgbench.demo.touring import route as routes
    from pgbench.engines.devices import usable_cores
    from pgbench.report.sweep_json import of_swept as as_document
    from pgbench.report.sweep_table import counted

    with streams.stdout_on_stderr():
        asked = routes.begin(route, out)
    told.say(f"1. A sweep of {len(asked)} cells: drawn pictures, tiny checkpoints trained on drawings.")
    told.say("   DEMO NUMBERS: they say nothing about PaliGemma.")
    workers = min(route.workers, usable_cores())
    engine = ("--engine", "local", "--workers", str(workers)) if workers > 1 else ()
    told.say(_typed("sweep", str(out / routes.RECIPE), "--out", str(out / "runs"), *engine))
    with streams.stdout_on_stderr():
        swept = _swept(asked, out / "runs", workers)
    told.document["sweep"] = as_document(swept)
    if not swept.whole:
        _say_unfinished(swept, told)
        return INCOMPLETE
    told.say(f"   {counted(swept)}")
    _tables(route, swept, out, told)
    code = _gate(route, swept, out, told)
    if code == OK:
        _say_next(out, told)
    return code


def _typed(*arguments: str) -> str:
    """A command as a user would give it."""
    return f"   $ {_line(*arguments)}"


def _line(*arguments: str) -> str:
    return shlex.join(["pgbench", *arguments])


def _swept(asked: Sequence[AskedCell], runs: Path, workers: int = 1) -> Swept:
    from pgbench.sweeping.work import sweep

    with stopping.at_batch_end() as stop, bars.of_sweep(len(asked)) as bar:
        if workers > 1:
            from pgbench.engines import local

            return local.sweep(asked, runs, watch=_watch(bar), stop=stop, workers=workers)
        return sweep(asked, runs, watch=_watch(bar), stop=stop)


def _watch(bar: Any) -> Any:
    """One bar for all: cells done, and how far the one at work is."""
    from pgbench.report.render import printable
    from pgbench.sweeping.state import model_name, task_name
    from pgbench.sweeping.work import Told, Watch

    class OneBar(Watch):
        @contextlib.contextmanager
        def cell(self, asked: AskedCell) -> Iterator[Any]:
            name = printable(f"{task_name(asked)} · {model_name(asked)} · {asked.model.quant}")
            bar.set_postfix_str(f"{name}: loading")
            yield lambda done, total: bar.set_postfix_str(f"{name}: {done:,} of {total:,}")

        def several(self, done: int, total: int) -> None:
            bar.set_postfix_str(f"{done:,} of {total:,} answers")

        def ended(self, told: Told) -> None:
            bar.update(1)

    return OneBar()


def _say_unfinished(swept: Swept, told: _Told) -> None:
    """What became of the cells, and how to go on."""
    from pgbench.report.render import printable, terminal
    from pgbench.report.sweep_table import counted, of_swept

    told.shown(terminal(of_swept(swept)))
    ended = f"{swept.stopped}; " if swept.stopped else ""
    broken = any(cell.state == "failed" for cell in swept.cells)
    step = "mend what failed, then give the same command" if broken else "the same command goes on"
    print(f"pgbench: {printable(ended + counted(swept))}; {step}", file=sys.stderr)


def _tables(route: Route, swept: Swept, out: Path, told: _Told) -> None:
    from pgbench.demo.touring import tables
    from pgbench.report.entries import Run
    from pgbench.report.formats import documents, terminal

    runs = [Run(str(cell.folder), cell.record) for cell in swept.cells if cell.record]
    with streams.stdout_on_stderr():
        shown = tables.tables(route, runs, out / "runs")
        files = tables.write(out, shown)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    told.say("\n2. What came out.")
    said: set[str] = set()
    for one in shown:
        told.say(f"   $ {one.command}")
        told.shown(terminal.render([replace(one.grid, remarks=_new(one.grid.remarks, said))], width))
    told.say("3. The same tables for a browser, a page and a paper:")
    for path in files.values():
        told.say(f"   {path}")
    told.document["tables"] = documents.document([one.grid for one in shown])
    told.document["commands"] = [one.command for one in shown]
    told.document["files"] = {form: str(path) for form, path in files.items()}


def _new(remarks: Sequence[str], said: set[str]) -> tuple[str, ...]:
    """Those that no table above said."""
    found = tuple(remark for remark in remarks if remark not in said)
    said.update(found)
    return found


def _gate(route: Route, swept: Swept, out: Path, told: _Told) -> int:
    from pgbench.demo.touring import gate

    with streams.stdout_on_stderr():
        post = gate.post(route, swept, out)
        gate.save(post)
        damage = gate.harm(route, post)
        again = _swept([post.candidate], post.runs)
    run = again.cells[0].folder
    if run is None or not again.whole:
        _say_unfinished(again, told)
        return INCOMPLETE
    with streams.stdout_on_stderr():
        verdicts = gate.judge(post, run)
    _say_gate(post, damage, run, verdicts, told)
    if verdicts.as_it_should:
        return OK
    print(f"pgbench: {_WRONG}", file=sys.stderr)
    return INCOMPLETE


def _say_gate(post: Post, damage: Damage, run: Path, verdicts: Verdicts, told: _Told) -> None:
    from pgbench.check.findings import document
    from pgbench.report.check_table import of_check
    from pgbench.report.render import terminal

    told.say("\n4. A gate: a run is kept as a baseline, and checked against itself.")
    told.say(_typed(*post.saving))
    told.say(_typed(*post.passing))
    told.shown(terminal(of_check(verdicts.itself)))
    told.say(f"   exit code {verdicts.itself.exit_code}\n")
    told.say(f"   Then its checkpoint with noise in {len(damage.tensors)} of its weight matrices")
    told.say(
        f"   ({damage.harm.size:g} standard deviations of each, seed {damage.harm.seed}): {post.checkpoint}"
    )
    told.say(_typed(*post.running))
    told.say(_typed(*post.failing(run)))
    told.shown(terminal(of_check(verdicts.damaged)))
    told.say(f"   exit code {verdicts.damaged.exit_code}\n")
    told.document["gate"] = {
        "baseline": str(post.baseline),
        "itself": document(verdicts.itself),
        "damage": {
            "checkpoint": str(post.checkpoint),
            "tensors": list(damage.tensors),
            "size": damage.harm.size,
            "seed": damage.harm.seed,
        },
        "damaged": document(verdicts.damaged),
        "commands": [_line(*one) for one in (post.saving, post.passing, post.running, post.failing(run))],
    }


def _say_next(out: Path, told: _Told) -> None:
    from pgbench.demo.touring.route import RECIPE
    from pgbench.profiles import EXAMPLE

    told.say(_NEXT.format(example=EXAMPLE, recipe=out / RECIPE))

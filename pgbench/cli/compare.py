"""`pgbench compare`: two runs of the same questions, sample by sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgbench.cli import bars, streams
from pgbench.cli.flags import Json
from pgbench.errors import OK, USAGE, DataError, PgbenchError

if TYPE_CHECKING:
    from pgbench.paired.compare import Comparison
    from pgbench.paired.examples import Example, Told
    from pgbench.paired.folders import Run
    from pgbench.paired.matching import Couple, Couples

EXAMPLES = 5  # flips each way
_MANY = 50_000  # samples of both runs


@dataclass(frozen=True, slots=True)
class _Asked:
    metrics: tuple[str, ...] | None
    by: str | None
    examples: int
    anyway: bool
    drop_failed: bool
    files: Mapping[str, str]


def compare(
    before: Annotated[
        Path, typer.Argument(metavar="A", help="A run folder, a folder of runs, or a baseline file.")
    ],
    after: Annotated[Path, typer.Argument(metavar="B", help="What it is compared with: B - A.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="Only this metric; may be given again. [default: all]")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Also each value of a breakdown, answer_type say.")] = None,
    examples: Annotated[
        int, typer.Option(min=0, help="Flips shown each way, of two runs: prompt, answers, references.")
    ] = EXAMPLES,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also what cannot be compared: shared samples, marked.")
    ] = False,
    drop_failed: Annotated[
        bool, typer.Option("--drop-failed", help="Leave out samples that failed on either side.")
    ] = False,
    task: Annotated[
        list[str] | None, typer.Option(help="The file of a task that is not installed; may be given again.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Compare runs of the same questions, paired by sample: change, interval, p, flips both ways."""
    from pgbench.paired.folders import runs_of
    from pgbench.paired.matching import Couple, Couples, couples, differing
    from pgbench.sweeping.reopening import named_files

    files = named_files(task or ())
    asked = _Asked(tuple(metric) if metric else None, by, examples, anyway, drop_failed, files)
    ours, theirs = runs_of(before, files), runs_of(after, files)
    found = couples(ours.runs, theirs.runs)
    if ours.single and theirs.single:  # whatever they are: the user chose them
        one, two = ours.runs[0], theirs.runs[0]
        found = Couples((Couple(one, two, differing(one.record, two.record)),), (), ())
    if len(found.pairs) == 1 and (ours.single or theirs.single):
        with bars.of_sweep(2) if _is_long(found.pairs[0]) else nullcontext() as bar:
            comparison = _compared(found.pairs[0].before, found.pairs[0].after, asked, bar)
            if bar is not None:
                bar.update()
        _tell([comparison], [], found, (), asked, as_json, alone=True)
        return OK
    if not found.pairs:
        raise DataError(_why_none(before, after, found))
    comparisons: list[Comparison] = []
    refused: list[str] = []
    with bars.of_sweep(len(found.pairs)) as bar:
        for couple in found.pairs:
            try:
                comparisons.append(_compared(couple.before, couple.after, asked))
            except PgbenchError as error:
                refused.append(str(error))
            bar.update()
    unfinished = (*ours.unfinished, *theirs.unfinished)
    _tell(comparisons, refused, found, unfinished, asked, as_json, alone=False)
    return USAGE if refused else OK


def _why_none(before: Path, after: Path, found: Couples[Run]) -> str:
    from pgbench.paired.matching import unclear

    left, right = unclear(found)
    if not left:
        return f"no run of {before} is of the task, variant, mode and split of a run of {after}"
    several, place = (right, left[0].place) if len(right) > 1 else (left, right[0].place)
    there = " or ".join(run.place for run in several[:2])
    return f"{place} could belong to {there}; name two run folders"


def _is_long(couple: Couple[Run]) -> bool:
    """Whether reading takes more than about two seconds."""
    return couple.before.record.data.selected + couple.after.record.data.selected > _MANY


def _compared(before: Run, after: Run, asked: _Asked, bar: Any = None) -> Comparison:
    from pgbench.paired import compare as pairs

    ours = before.read(asked.files)
    if bar is not None:
        bar.update()
    return pairs.compare(
        ours,
        after.read(asked.files),
        asked.metrics,
        asked.by,
        anyway=asked.anyway,
        drop_failed=asked.drop_failed,
    )


def _tell(
    comparisons: Sequence[Comparison],
    refused: Sequence[str],
    found: Couples[Run],
    unfinished: Sequence[str],
    asked: _Asked,
    as_json: bool,
    *,
    alone: bool,
) -> None:
    from pgbench.report.compare_table import document

    if as_json:
        documents = [{**document(one), "examples": _plain_examples(one, asked)} for one in comparisons]
        left = {"missing": [run.place for run in found.missing], "new": [run.place for run in found.new]}
        streams.print_json(
            {"comparisons": documents, "refused": list(refused), **left, "unfinished": list(unfinished)}
        )
    elif alone:
        _print_one(comparisons[0], asked)
    else:
        _print_many(comparisons, refused, found, unfinished, every=asked.metrics is not None)


def _print_one(comparison: Comparison, asked: _Asked) -> None:
    from pgbench.report.compare_table import by_group, of_comparison
    from pgbench.report.render import printable, terminal

    print(terminal(of_comparison(comparison)))
    if comparison.groups:
        print(f"\n{terminal(by_group(comparison))}")
    fell, rose = _examples(comparison, asked)
    row = comparison.rows[0]
    for word, some, all_of_them in (
        ("lost" if row.binary else "fell", fell, row.fell),
        ("gained" if row.binary else "rose", rose, row.rose),
    ):
        if some:
            print(f"\n{printable(row.metric)}, {word}: {len(some):,} of {all_of_them:,}")
            for example in some:
                print("\n".join(_lines(example, row.number)))


def _lines(example: Example, number: bool) -> Iterator[str]:
    from pgbench.report.render import printable

    several = f" ({len(example.samples)} samples)" if len(example.samples) > 1 else ""
    change = f"{example.change:+.4g}" if number else f"{100 * example.change:+.4g} points"
    kind = "unit" if several else "sample"
    yield f"  {kind} {printable(example.unit)}{several}  {change}"
    for told in example.samples:
        if told.before.output is None and told.after.output is None:
            yield "    its answers are not kept in a baseline file"
            continue
        yield f"    asked:  {printable(told.prompt)}"
        yield f"    before: {printable(_said(told, before=True))}"
        yield f"    after:  {printable(_said(told, before=False))}"
        yield f"    references: {printable(' | '.join(told.references))}"


def _said(told: Told, *, before: bool) -> str:
    said = told.before if before else told.after
    if said.error is not None:
        return f"failed: {said.error}"
    return "(not kept in a baseline file)" if said.output is None else said.output


def _examples(comparison: Comparison, asked: _Asked) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    from pgbench.paired.examples import examples

    return examples(comparison, comparison.rows[0], asked.examples)


def _plain_examples(comparison: Comparison, asked: _Asked) -> dict[str, object]:
    from pgbench.store import plain

    fell, rose = _examples(comparison, asked)
    return {"fell": [plain(one) for one in fell], "rose": [plain(one) for one in rose]}


def _print_many(
    comparisons: Sequence[Comparison],
    refused: Sequence[str],
    found: Couples[Run],
    unfinished: Sequence[str],
    *,
    every: bool,
) -> None:
    from pgbench.paired.matching import unclear
    from pgbench.report.compare_table import by_group, of_couples
    from pgbench.report.render import printable, terminal

    if comparisons:
        print(terminal(of_couples(comparisons, every=every)))
    for one in comparisons:
        if one.groups:
            print(f"\n{terminal(by_group(one))}")
    for reason in refused:
        print(printable(f"REFUSED: {reason}"))
    for side, runs, several in zip("AB", (found.missing, found.new), unclear(found), strict=True):
        for run in runs:
            word = "matched with none of several, in" if run in several else "only in"
            print(printable(f"{word} {side}: {run.place}"))
    for place in unfinished:
        print(printable(f"not finished: {place}"))

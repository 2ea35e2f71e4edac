"""`pgbench nes`: the non-entailment score of captions, by people or by a judge."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgbench.cli import flags, streams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgbench.nes.answers import Answers
    from pgbench.report.table import Table

app = typer.Typer(help="Non-entailment score (NES) of captions.", rich_markup_mode=None)

_Runs = Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders whose answers are captions.")]
_Pictures = Annotated[
    Path | None, typer.Option("--data", help="Folder of the pictures, for the image column.")
]
_Out = Annotated[Path, typer.Option(help="A new folder for the sheet, the raters' guide and the key.")]
_Sheet = Annotated[Path, typer.Argument(metavar="SHEETDIR", help="The folder that `nes sheet` made.")]
_Files = Annotated[list[Path], typer.Argument(metavar="RATINGS", help="One filled sheet a rater.")]
_Moved = Annotated[list[Path] | None, typer.Option("--run", help="Where a run of the sheet lies now.")]
_Judge = Annotated[str, typer.Option(help="Hub id or folder of an NLI checkpoint; or facts, for drawings.")]


@app.command("sheet")
def sheet(
    runs: _Runs, out: _Out, data: _Pictures = None, seed: flags.Seed = 0, as_json: flags.Json = False
) -> None:
    """Make a sheet for raters: the sentences of several runs, mixed and blinded, with the key apart."""
    from pgbench.metrics.docci import sentences
    from pgbench.nes import answers, pictures
    from pgbench.nes import sheet as sheets

    with streams.stdout_on_stderr():
        named = answers.read_all(runs)
        answers.require_captions(named)
        cut = [answers.captions(one, sentences) for one in named]
        found = pictures.find((caption.line for run in cut for caption in run.captions), data)
        made = sheets.build(cut, found, out, seed, _splitter())
        sheets.save(made, out)
    counts = {
        "sentences": len(made.rows),
        "captions": sum(len(run.captions) for run in cut),
        "runs": len(cut),
        "failed": sum(run.failed for run in cut),
        "empty": sum(run.empty for run in cut),
        "pictures_missing": len(found.missing),
        "pictures_reencoded": len(found.other),
    }
    if as_json:
        streams.print_json({"sheet": str(out / sheets.SHEET), "digest": made.key.digest, **counts})
    else:
        _tell_sheet(out, counts)


@app.command("score")
def score(folder: _Sheet, ratings: _Files, moved: _Moved = None, as_json: flags.Json = False) -> None:
    """NES by people: majority of the raters' files, stored beside each run's record."""
    from pgbench.nes import key as keys
    from pgbench.nes import rated, table
    from pgbench.nes import ratings as files
    from pgbench.store import plain

    with streams.stdout_on_stderr():
        key = keys.load(folder)
        raters = files.read(ratings, key.rows)
        runs = keys.runs_of(key, folder, moved or ())
        scores = rated.rate(key, runs, raters)
        whole = rated.together(scores)
        kept = [str(rated.save(one, runs[one.run].folder)) for one in scores]
    if as_json:
        told = {"agreement": plain(whole), "warnings": table.warnings(scores, runs), "kept": kept}
        streams.print_json({"runs": list(map(plain, scores)), **told})
    else:
        _print(table.of_people(scores, runs, whole), kept)


@app.command("judge")
def judge(
    runs: _Runs,
    judge: _Judge,
    revision: flags.Revision = None,
    device: flags.Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs a batch.")] = 16,
    as_json: flags.Json = False,
) -> None:
    """NES-proxy: an NLI checkpoint says which sentences the reference captions entail. No NES."""
    from tqdm import tqdm

    from pgbench.backends import nli
    from pgbench.demo.benchmarks import facts
    from pgbench.metrics.docci import sentences
    from pgbench.nes import answers, table
    from pgbench.nes import judge as judges
    from pgbench.store import plain

    with streams.stdout_on_stderr():
        found = answers.read_all(runs)
        answers.require_captions(found)
        cut = [answers.captions(one, sentences) for one in found]
        loaded = facts.judge_of(found, revision) if judge == facts.FLAG else nli.load(judge, revision, device)
        total = sum(len(caption.sentences) for run in cut for caption in run.captions)
        with tqdm(total=total, unit="sentence", desc="judging", disable=None, file=sys.stderr) as bar:
            scores = [
                judges.judge_run(run, loaded, sentences, _splitter(), batch_size, bar.update) for run in cut
            ]
        kept = [str(judges.save(one, run.folder)) for one, run in zip(scores, found, strict=True)]
    if as_json:
        told = {
            "caveat": judges.caveat(loaded.name),
            "warnings": table.warnings(scores, _by_key(found)),
            "kept": kept,
        }
        streams.print_json({"runs": list(map(plain, scores)), **told})
    else:
        _print(table.of_judge(scores, _by_key(found)), kept)


def _by_key(found: Sequence[Answers]) -> dict[str, Answers]:
    return {one.record.key: one for one in found}


def _splitter() -> str:
    from importlib.metadata import version

    return f"pysbd {version('pysbd')}"


def _tell_sheet(out: Path, counts: Mapping[str, int]) -> None:
    from pgbench.report.render import printable

    print(
        printable(
            f"{counts['sentences']:,} sentences of {counts['captions']:,} captions by {counts['runs']:,} runs"
        )
    )
    if counts["failed"] or counts["empty"]:
        print(f"without a sentence: {counts['failed']:,} failed samples, {counts['empty']:,} empty captions")
    if counts["pictures_missing"]:
        print(f"{counts['pictures_missing']:,} pictures not found; their rows hold the sample's id")
    if counts["pictures_reencoded"]:
        print(f"{counts['pictures_reencoded']:,} pictures found by name with other bytes than the run saw")
    print(printable(f"for the raters: {out / 'sheet.csv'}, {out / 'guide.txt'}"))
    print(printable(f"not for the raters: {out / 'key.json'}"))


def _print(table: Table, kept: Sequence[str]) -> None:
    from pgbench.report.render import printable, terminal

    print(terminal(table))
    for path in kept:
        print(printable(f"kept: {path}"))

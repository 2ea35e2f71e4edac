"""`pgbench plan`: how many samples show a drop, which drop so many samples show, what a sweep will cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgbench.cli import flags, streams
from pgbench.errors import OK, UsageError

if TYPE_CHECKING:
    from pgbench.flips import Flips, Stored
    from pgbench.power import Design

_FORMULA = "n = deff * (z(1 - alpha/2) * sqrt(m) + z(power) * sqrt(m - x^2))^2 / x^2 (Connor 1987)"
_POWER = 0.8
_NO_DEFF = (
    "clusters are not counted (--deff, or --clusters-of RUN): "
    "questions that share a picture need more samples"
)


@dataclass(frozen=True, slots=True)
class _Basis:
    """What an answer stands on, and where it comes from."""

    design: Design
    said: tuple[str, ...]
    stored: Stored | None = None
    task: str | None = None
    split: str | None = None
    size: int | None = None  # samples of the split, where that is known


def plan(
    sweep: Annotated[
        Path | None, typer.Argument(help="A sweep file: what its cells will cost.", show_default=False)
    ] = None,
    drop: Annotated[float | None, typer.Option(help="Points to be seen: 1 is 0.01 of accuracy.")] = None,
    samples: Annotated[int | None, typer.Option(help="Or: the samples there are.")] = None,
    runs: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--from", metavar="RUN RUN", help="Two stored runs: how often they differ."),
    ] = None,
    flip_rate: Annotated[
        float | None, typer.Option(help="Or assumed: share of samples that one gets right, the other wrong.")
    ] = None,
    spread: Annotated[
        float | None, typer.Option(help="Or assumed, graded scores: root mean square difference, 0.25 say.")
    ] = None,
    deff: Annotated[
        float | None, typer.Option(help="Design effect of clusters. [default: of the stored runs, else 1]")
    ] = None,
    clusters_of: Annotated[
        Path | None, typer.Option(metavar="RUN", help="With an assumed rate: the run to take clusters from.")
    ] = None,
    power: Annotated[float, typer.Option(help="Chance to see the drop.")] = _POWER,
    metric: Annotated[
        str | None,
        typer.Option(help="A metric of the stored runs that is a mean. [default: the primary one]"),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", "-t", help="To compare with the size of its split.")
    ] = None,
    split: flags.Split = None,
    out: Annotated[Path, typer.Option(help="Of a sweep: where its run folders are or go.")] = Path(
        "results/runs"
    ),
    as_json: flags.Json = False,
) -> int:
    """Samples needed to see a drop between two checkpoints, or the smallest drop that samples can show.

    Both answer the same questions (a paired comparison), two-sided, alpha 0.05. With a sweep file: the cells,
    samples and hours that it will take.
    """
    if sweep is not None:
        others = (drop, samples, runs, flip_rate, spread, clusters_of, task, split, metric, deff)
        if others != (None,) * len(others) or power != _POWER:
            raise UsageError("a sweep file is planned by itself; leave out the other flags, or the file")
        from pgbench.cli.plan_sweep import plan_sweep

        return plan_sweep(sweep, out, as_json=as_json)
    if (drop is None) == (samples is None):
        raise UsageError("name a sweep file, or one of --drop POINTS and --samples N: the other is computed")
    basis = _basis(runs, flip_rate, spread, clusters_of, metric, deff, power)
    if task is not None or split is not None:
        basis = _of_split(basis, task, split)
    document = _answer(basis, None if drop is None else drop / 100, samples)
    if as_json:
        streams.print_json(document)
    else:
        _print(document)
    return OK


def _basis(
    runs: tuple[Path, Path] | None,
    flip_rate: float | None,
    spread: float | None,
    clusters_of: Path | None,
    metric: str | None,
    deff: float | None,
    power: float,
) -> _Basis:
    from pgbench import flips

    if (runs, flip_rate, spread).count(None) != 2:
        raise UsageError("name one of --from RUN RUN, --flip-rate SHARE and --spread SIZE")
    if runs is not None:
        if clusters_of is not None:
            raise UsageError("--from gives the clusters as well; leave out --clusters-of")
        first, second = (flips.read(run, metric) for run in runs)
        return _measured(first, flips.between(first, second), deff, power)
    stored = flips.read(clusters_of, metric) if clusters_of is not None else None
    if metric is not None and stored is None:
        raise UsageError("--metric is of stored runs (--from, --clusters-of); leave it out")
    return _assumed(flip_rate, spread, stored, deff, power)


def _measured(first: Stored, found: Flips, deff: float | None, power: float) -> _Basis:
    from pgbench.power import Design

    measured = (
        f"measured over the {found.samples:,} samples of both runs: the second scores {found.lost:,} lower "
        f"and {found.gained:,} higher, {100 * found.change:+.2f} points"
    )
    said = [measured]
    if deff is None and found.deff is None:
        raise UsageError("the stored runs do not tell their design effect; name one with --deff")
    if deff is None and found.deff_of == "scores":
        said.append(
            "the design effect is the larger one of the two runs' scores: their clusters are not stored"
        )
    design = Design(found.moved, deff or found.deff or 1.0, found.binary, power)
    return _with_run(_Basis(design, tuple(said)), first)


def _assumed(
    flip_rate: float | None, spread: float | None, stored: Stored | None, deff: float | None, power: float
) -> _Basis:
    from pgbench.power import Design

    _require_share("--flip-rate", flip_rate)
    _require_share("--spread", spread)
    said = ["the differences are assumed, not measured"]
    known = stored.deff if stored is not None else None
    if deff is None and stored is not None:
        if known is None:
            raise UsageError(f"{stored.run} does not tell its design effect; name one with --deff")
        said.append("the design effect is that of the stored run's score")
    elif deff is None:
        said.append(_NO_DEFF)
    moved = (spread or 0.0) ** 2 if flip_rate is None else flip_rate
    design = Design(moved, deff if deff is not None else known or 1.0, flip_rate is not None, power)
    basis = _Basis(design, tuple(said))
    return basis if stored is None else _with_run(basis, stored)


def _require_share(flag: str, value: float | None) -> None:
    if value is not None and not 0 < value <= 1:
        raise UsageError(f"{flag}: expected a share above 0, at most 1, got {value:g}; 8 % is 0.08")


def _with_run(basis: _Basis, one: Stored) -> _Basis:
    spec = one.record.spec
    return replace(basis, stored=one, task=spec.task, split=spec.split, size=one.split_size)


def _of_split(basis: _Basis, name: str | None, split: str | None) -> _Basis:
    """With the size of a task's split. Raises UsageError."""
    from pgbench.registry import load_task
    from pgbench.sweeping import choices

    if basis.task is not None and name not in (None, basis.task):
        raise UsageError(f"the stored runs are of {basis.task}, --task {name}; leave one of them out")
    if (name or basis.task) is None:
        raise UsageError("--split needs --task")
    found = load_task(name or str(basis.task))
    chosen = choices.split(found, split or basis.split or "")
    return replace(basis, task=found.name, split=chosen, size=found.splits[chosen])


def _answer(basis: _Basis, drop: float | None, samples: int | None) -> dict[str, Any]:
    """One document: fractions, as everywhere."""
    from pgbench.power import few, samples_needed, smallest_drop

    design, size, stored = basis.design, basis.size, basis.stored
    count = samples_needed(design, drop) if drop is not None else samples or 0
    clusters = None if stored is None else count / stored.per_cluster
    return {
        "computed": "drop" if drop is None else "samples",
        "task": basis.task,
        "split": basis.split,
        "metric": None if stored is None else stored.metric,
        "drop": smallest_drop(design, count) if drop is None else drop,
        "samples": count,
        "clusters": None if clusters is None else round(clusters),
        "power": design.power,
        "alpha": design.alpha,
        "two_sided": True,
        "mean_squared_difference": design.moved,
        "flip_rate": design.moved if design.binary else None,
        "design_effect": design.deff,
        "largest_drop": design.largest,
        "split_samples": size,
        "split_shows": smallest_drop(design, size) if size is not None and size > 1 else None,
        "notes": [*basis.said, *few(design, count, clusters)],
        "formula": _FORMULA,
    }


def _print(document: dict[str, Any]) -> None:
    from pgbench.report.render import printable

    place = [str(document[name]) for name in ("task", "split", "metric") if document[name] is not None]
    print(printable(" · ".join([*place, f"paired, two-sided alpha {document['alpha']:g}"])))
    rate = document["flip_rate"]
    moved = document["mean_squared_difference"]
    differ = f"mean squared difference {moved:.4f}" if rate is None else f"flip rate {100 * rate:.2f} %"
    print(f"{differ} · design effect {document['design_effect']:.2f} · power {document['power']:g}\n")
    print(_sentence(document))
    size = document["split_samples"]
    if size is not None:
        least = document["split_shows"]
        shows = "no drop that is possible" if least is None else f"{100 * least:.2f} points or more"
        print(f"the whole split, {size:,} samples, shows {shows}")
    for note in document["notes"]:
        print(printable(f"note: {note}"))


def _sentence(document: dict[str, Any]) -> str:
    count = f"{document['samples']:,} samples"
    if document["clusters"] is not None:
        count += f" (about {document['clusters']:,} clusters)"
    if document["drop"] is None:
        return f"{count} show no drop that is possible: at most {100 * document['largest_drop']:.2f} points"
    if document["computed"] == "samples":
        return f"a drop of {100 * document['drop']:.2f} points needs {count}"
    return f"{count} show a drop of {100 * document['drop']:.2f} points or more"

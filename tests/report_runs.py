"""Runs of a report, made of one stored record and changed as a test needs them; and finished NES sidecars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from planted import checkpoint

from pgbench.nes import rated
from pgbench.nes.judge import NamedJudge, ProxyRun
from pgbench.nes.judge import save as save_proxy
from pgbench.nes.rated import RatedRun
from pgbench.nes.score import Rated, nes, share
from pgbench.records import Cost, Data, Failure, PeakMemory, RunRecord, Score, Stack
from pgbench.report.entries import Run
from pgbench.report.grid import Entry, Grid
from pgbench.types import Checkpoint, DataSource, RunSpec

VERSIONS = {"pgbench": "0.1.0", "task": "d16e57"}


def score(value: float | None, n: int = 5_000, *, failed: int = 0, number: bool = False) -> Score:
    low, high = (None, None) if value is None else (value - 0.01, value + 0.01)
    return Score(value, low, high, 0.005, n, n, n, 0, failed, "clustered t", number)


def cost(**more: object) -> Cost:
    found = Cost(3.0, 0.1, 3 << 30, PeakMemory(5 << 30, "device allocated"), 5_000, 20.0, 8, 0.4, 0.5, 0)
    return replace(found, **more)  # type: ignore[arg-type]


def record(
    value: float | Mapping[str, Score],
    point: Checkpoint | None = None,
    *,
    task: str = "textvqa",
    split: str = "val",
    metric: str = "accuracy",
    n: int = 5_000,
    groups: Mapping[str, Mapping[str, Mapping[str, Score]]] | None = None,
    stack: Stack | None = None,
    data: Data | None = None,
    paid: Cost | None = None,
    failures: tuple[Failure, ...] = (),
    **spec: object,
) -> RunRecord:
    """A finished run of the whole published split."""
    asked = RunSpec(
        task, 1, "default", "generate", split, DataSource("files", "f.json"), point or checkpoint(), batch=8
    )
    asked = replace(asked, **spec)  # type: ignore[arg-type]
    scores = {metric: score(value, n, failed=len(failures))} if isinstance(value, float) else dict(value)
    return RunRecord(
        schema=2,
        key=asked.key,
        spec=asked,
        stack=stack or Stack("paligemma", VERSIONS, device="cuda", device_name="NVIDIA H100"),
        data=data or Data("digest", n, n, n, 0, demo=False),
        scores=scores,
        groups=groups or {},
        cost=paid or cost(),
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T01:00:00+00:00",
        status="failures" if failures else "complete",
        primary=metric if metric in scores else next(iter(scores)),
        failures=failures,
    )


def run(*arguments: object, place: str = "", recipe: str = "", **more: object) -> Run:
    made = record(*arguments, **more)  # type: ignore[arg-type]
    return Run(place or f"runs/{made.key[:8]}", made, recipe)


def texts(grid: Grid) -> dict[tuple[str, ...], list[str]]:
    """Row heads -> what its entries show; of several rows with equal heads the last."""
    return {row.heads: [entry.text for entry in row.entries] for row in grid.rows}


def entries(grid: Grid) -> list[Entry]:
    return [entry for row in grid.rows for entry in row.entries]


def column(grid: Grid, *heads: str) -> int:
    """The position of the column with these heads."""
    return [one.heads for one in grid.columns].index(heads)


def noted(grid: Grid, entry: Entry) -> list[str]:
    """The footnotes of an entry."""
    return [grid.footnotes[note - 1] for note in entry.notes]


def rate(folder: Path, key: str, answers: str, *, bad: Sequence[bool]) -> Path:
    """People's sidecar: one sentence a picture, `bad` where it is not entailed."""
    rows = [
        Rated(str(place), 0, str(place), ("Contradiction" if one else "Entailment",))
        for place, one in enumerate(bad)
    ]
    found = RatedRun(
        schema=1,
        kind="nes",
        run=key,
        answers=answers,
        sheet="sheet",
        ratings="ratings!",
        splitter="pysbd",
        rule="majority of the raters",
        raters=("ann",),
        captions=len(bad),
        failed=0,
        empty=0,
        characters_per_caption=100.0,
        sentences_per_caption=1.0,
        nes=nes(rows),
        sentences=(),
    )
    return rated.save(found, folder)


def judge(folder: Path, key: str, answers: str, *, bad: Sequence[bool]) -> Path:
    """A judge's sidecar."""
    found = ProxyRun(
        schema=1,
        kind="nes-proxy",
        name="NES-proxy (judge@12345678)",
        judge=NamedJudge("judge", "1" * 40, "2" * 64, ("entailment",), 512, "cpu", {}),
        run=key,
        answers=answers,
        references="references",
        splitter="pysbd",
        rule="any window",
        batch=16,
        captions=len(bad),
        failed=0,
        empty=0,
        unreferenced=0,
        characters_per_caption=100.0,
        sentences_per_caption=1.0,
        share=share((str(place), one) for place, one in enumerate(bad)),
        labels={},
        windowed=0,
        cut=0,
        sentences=(),
    )
    return save_proxy(found, folder)

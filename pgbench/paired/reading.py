"""A run folder as evidence: its record, what each sample was asked, and the statistics of every unit."""

from __future__ import annotations

import hashlib
import itertools
import json
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from pgbench import store, units
from pgbench.errors import StoreError
from pgbench.paired.evidence import Asked, Evidence, Units
from pgbench.paired.metrics import is_single, metrics_of, require_same_score, units_of
from pgbench.records import RunRecord, SampleLine
from pgbench.samples import read_lines
from pgbench.types import Metric, Sums, Target

DIGITS = 12  # hexadecimal: 48 bits, so that of a million samples two differ with one digest in 2,000 runs


def read(folder: str | Path, files: Mapping[str, str] = {}) -> Evidence:
    """A finished run. `files`: the name of each task that is a file -> its path (`reopening.named_files`).

    Raises StoreError for a folder without a record, with fewer answers than its record counts, or whose
    statistics do not reduce to the record's own scores; UsageError for a task that is not at hand.
    """
    place, folder = str(folder), Path(folder)
    record = store.read_record(folder)
    if record is None:
        raise StoreError(f"{place} holds no finished run; name a run folder, results/runs/TASK/RUN")
    metrics = metrics_of(record, files)
    lines = list(read_lines(folder))
    if len(lines) != record.data.selected:
        raise StoreError(
            f"{place} holds {len(lines):,} answers, its record {record.data.selected:,}; "
            "restore the samples files"
        )
    found = {}
    for name, metric in metrics.items():
        if is_single(metric):
            scored = [line for line in lines if name in line.stats]
            columns = _columns([line.stats[name] for line in scored])
            found[name] = units_of(metric, [line.id for line in scored], columns)
    larger, members = _larger(folder, metrics, {line.id for line in lines})
    found |= larger
    for one in found.values():
        require_same_score(place, record, one)
    _require_primary(place, record, metrics, found)
    ordered = {name: found[name] for name in record.scores if name in found}
    return Evidence(place, record, _asked(lines, record), ordered, members)


def _columns(rows: Sequence[Sums]) -> dict[str, array[float]]:
    """Statistics of units as columns; what a unit does not name is 0."""
    names = dict.fromkeys(itertools.chain.from_iterable(rows))
    return {name: array("d", [sums.get(name, 0.0) for sums in rows]) for name in names}


def _larger(
    folder: Path, metrics: Mapping[str, Metric], ids: Collection[str]
) -> tuple[dict[str, Units], dict[str, dict[str, tuple[str, ...]]]]:
    """Metrics whose units are several samples, and which samples these are. `ids`: all samples there are."""
    sums: dict[str, list[Sums]] = {}
    members: dict[str, dict[str, tuple[str, ...]]] = {}
    for unit in units.read(folder):
        if unit.metric not in metrics:
            continue
        of_metric = members.setdefault(unit.metric, {})
        if unit.unit in of_metric or not all(name in ids for name in unit.samples):
            raise StoreError(
                f"{folder}: {units.UNITS} has {unit.unit!r} of {unit.metric} twice, or with samples that are "
                "not in the run; restore the file"
            )
        of_metric[unit.unit] = unit.samples
        sums.setdefault(unit.metric, []).append(unit.sums)
    columns = {name: _columns(rows) for name, rows in sums.items()}
    return {name: units_of(metrics[name], list(members[name]), one) for name, one in columns.items()}, members


def _require_primary(
    place: str, record: RunRecord, metrics: Mapping[str, Metric], found: Mapping[str, Units]
) -> None:
    """A run is compared by its primary metric at least. Raises StoreError."""
    name = record.primary
    if name not in record.scores:
        raise StoreError(f"{place}: its record has no score of {name!r}, its primary metric; restore it")
    if name in found or not record.scores[name].n:
        return
    if name in metrics and metrics[name].weighted is not None:  # has no units, whoever made the run
        return
    if name in metrics:
        raise StoreError(
            f"{place} was made before pgbench kept {units.UNITS}, which {name} is paired by; remove its "
            "record.json and give its command again: the answers are kept, none is generated"
        )
    raise StoreError(
        f"{place}: {record.spec.task} has no metric {name} any more; use the version that made the run, or "
        "run again"
    )


def _asked(lines: Sequence[SampleLine], record: RunRecord) -> dict[str, Asked]:
    clusters = _clusters(lines, record)
    return {
        line.id: Asked(
            prompt=digest(line.prompt.rstrip()),  # which protocol paper stores as it is
            image=line.image[:DIGITS],
            target=_target(line.target),
            cluster=cluster,
            groups=line.groups,
            failed=line.error is not None,
        )
        for line, cluster in zip(lines, clusters, strict=True)
    }


def _clusters(lines: Sequence[SampleLine], record: RunRecord) -> Iterable[str]:
    """Lines of schema 1 name none: there the picture is the cluster, or the sample, whichever there are as
    many of as the record counts clusters; "" where neither is."""
    if all(line.cluster for line in lines):
        return [line.cluster for line in lines]
    count = max((score.clusters for score in record.scores.values()), default=0)
    pictures = [line.image for line in lines]
    if "" not in pictures and len(set(pictures)) == count:
        return pictures
    return [line.id if count == len(lines) else "" for line in lines]


def digest(text: str) -> str:
    """Of a prompt; also of text that UTF-8 cannot hold."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:DIGITS]


def _target(target: Target) -> str:
    """A tuple and a text are told apart, and so are no references and an empty one."""
    return digest(json.dumps(target))

"""A baseline file: runs kept in one file of a few hundred kB that can be committed, without their answers.

    {"schema": 1, "digest": sha256, "runs": [
     {"record": ..., "clusters": [names], "groups": [breakdowns of a sample],
      "metrics": {name: statistics}, "samples": [
       [id, prompt, image, target, cluster, groups, failed, [numbers] or null], ...], one line each
      "units": {name: {"columns": statistics, "rows": [[unit, [samples], [numbers]], ...]}}}, ...]}

Clusters, groups and samples are numbers counted from 0. Statistics are name -> a number that all units have,
[place] in the numbers of each row, or [place, what is added to that]: columns that differ by a constant share
a place. `digest` is over the rest of the file as JSON with sorted names, so that line ends and layout do not
matter and figures do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pgbench.durable import read_json, write_pieces
from pgbench.errors import StoreError, UsageError
from pgbench.keys import json_key
from pgbench.paired.columns import Columns
from pgbench.paired.evidence import Evidence
from pgbench.paired.filed import Filed, Run, parsed
from pgbench.paired.metrics import is_single, metrics_of, require_same_score, units_of
from pgbench.records import RunRecord
from pgbench.specs import cell_name
from pgbench.store import READABLE, plain

SCHEMA = 1
_HEAD = '{"schema": '


def save(evidences: Iterable[Evidence], path: str | Path) -> None:
    """One file, the same bytes for the same runs in any order. Raises UsageError for two runs of one key,
    StoreError where the file cannot be written."""
    runs = sorted(evidences, key=lambda run: cell_of(run.record))
    keys = [run.record.key for run in runs]
    if repeated := [run.place for run in runs if keys.count(run.record.key) > 1]:
        raise UsageError(f"{' and '.join(repeated[:2])} are the same cell; keep one of them in a baseline")
    documents = [_document(run) for run in runs]
    digest = json_key({"schema": SCHEMA, "runs": documents})
    write_pieces(Path(path), (piece.encode() for piece in _pieces(digest, documents)))


def load(path: str | Path, files: Mapping[str, str] = {}) -> tuple[Evidence, ...]:
    """The runs of a baseline file. `files`: the name of each task that is a file -> its path.

    Raises StoreError for a file that is none, of another schema, was edited, or whose statistics do not
    reduce to its records' scores; UsageError for a task that is not at hand.
    """
    try:
        document = read_json(Path(path))
    except StoreError as error:
        raise StoreError(f"{error}; expected a run folder, or a file of pgbench baseline save") from error
    if not isinstance(document, dict) or not {"schema", "digest", "runs"} == document.keys():
        raise StoreError(f"{path} is no baseline file; make one with pgbench baseline save RUNS --out {path}")
    if document["schema"] != SCHEMA:
        raise StoreError(
            f"{path} has schema {document['schema']!r}; this pgbench reads schema {SCHEMA}, save it anew"
        )
    if document["digest"] != json_key({"schema": SCHEMA, "runs": document["runs"]}):
        raise StoreError(
            f"{path} was edited after it was saved (its digest does not fit); restore it, or save it anew"
        )
    runs = parsed(path, document).runs
    for run in runs:
        _require_readable(str(path), run.record)
    return tuple(_evidence(str(path), run, files) for run in runs)


def is_baseline(path: Path) -> bool:
    """Whether a file begins as a baseline file does."""
    try:
        with path.open("rb") as file:
            return file.read(len(_HEAD)) == _HEAD.encode()
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error


def cell_of(record: RunRecord) -> str:
    """The name of a run without its folder: task, cell and the first digits of its key."""
    return f"{record.spec.task}/{cell_name(record.spec)}-{record.key[:8]}"


def _document(run: Evidence) -> dict[str, Any]:
    clusters = _Numbers(one.cluster for one in run.samples.values())
    groups = _Numbers(json.dumps(dict(one.groups), sort_keys=True) for one in run.samples.values())
    numbers = {name: number for number, name in enumerate(run.samples)}
    singles = [name for name in run.units if name not in run.members]
    columns = Columns.of([run.units[name] for name in singles], list(run.samples))
    rows = [
        [
            *(name, one.prompt, one.image, one.target, clusters.of(one.cluster)),
            groups.of(json.dumps(dict(one.groups), sort_keys=True)),
            int(one.failed),
            numbers_of_one,
        ]
        for (name, one), numbers_of_one in zip(run.samples.items(), columns.rows(), strict=True)
    ]
    return {
        "record": plain(run.record),
        "clusters": clusters.names,
        "groups": [json.loads(text) for text in groups.names],
        "metrics": columns.statistics,
        "samples": rows,
        "units": {metric: _larger(run, metric, members, numbers) for metric, members in run.members.items()},
    }


def _larger(
    run: Evidence, metric: str, members: Mapping[str, Sequence[str]], numbers: Mapping[str, int]
) -> dict[str, Any]:
    units = run.units[metric]
    columns = Columns.of([units], units.ids)
    rows = [
        [name, [numbers[sample] for sample in members[name]], found]
        for name, found in zip(units.ids, columns.rows(), strict=True)
    ]
    return {"columns": columns.statistics[metric], "rows": rows}


class _Numbers:
    """Texts numbered in the order in which they are met."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.names = list(dict.fromkeys(texts))
        self._numbers = {name: number for number, name in enumerate(self.names)}

    def of(self, text: str) -> int:
        return self._numbers[text]


def _pieces(digest: str, documents: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """JSON with a line for each sample and unit, so that a diff shows which of them changed. Escaped to
    ASCII: names may hold what UTF-8 cannot, and marks that hide text in a review."""
    yield f'{_HEAD}{SCHEMA}, "digest": "{digest}", "runs": ['
    for place, run in enumerate(documents):
        yield (",\n{" if place else "\n{") + ",\n ".join(_fields(run)) + "}"
    yield "\n]}\n"


def _fields(run: Mapping[str, Any]) -> Iterator[str]:
    for name, value in run.items():
        if name == "samples":
            yield f'"samples": [\n{_lines(value)}]'
        elif name == "units":
            yield f'"units": {{{", ".join(_unit_lines(*one) for one in value.items())}}}'
        else:
            yield f"{_compact(name)}: {_compact(value)}"


def _unit_lines(metric: str, units: Mapping[str, Any]) -> str:
    columns, rows = _compact(units["columns"]), _lines(units["rows"])
    return f'{_compact(metric)}: {{"columns": {columns}, "rows": [\n{rows}]}}'


def _lines(rows: Sequence[object]) -> str:
    return ",\n".join(map(_compact, rows))


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _require_readable(path: str, record: RunRecord) -> None:
    if record.schema not in READABLE:
        raise StoreError(
            f"{path}: {cell_of(record)} has schema {record.schema!r}; this pgbench reads schemas "
            f"{' and '.join(map(str, READABLE))}, save it anew"
        )
    if record.primary not in record.scores:
        raise StoreError(f"{path}: {cell_of(record)} has no score of {record.primary!r}; save it anew")


def _evidence(path: str, run: Run, files: Mapping[str, str]) -> Evidence:
    record = run.record
    place = f"{path}: {cell_of(record)}"
    metrics = metrics_of(record, files)
    try:
        filed = Filed(run)
        samples = filed.samples()
        ids = list(samples)
        found = {
            name: units_of(metrics[name], *filed.single(name, ids))
            for name in run.metrics
            if name in metrics and is_single(metrics[name])
        }
        larger = [name for name in run.units if name in metrics]
        found |= {name: units_of(metrics[name], *filed.larger(name)) for name in larger}
        members = {name: filed.members(name, ids) for name in larger}
    except (LookupError, ValueError, OverflowError) as error:
        raise StoreError(
            f"{place} is damaged ({type(error).__name__}); restore {path}, or save it anew"
        ) from error
    for one in found.values():
        require_same_score(place, record, one)
    ordered = {name: found[name] for name in record.scores if name in found}
    return Evidence(place, record, samples, ordered, members)

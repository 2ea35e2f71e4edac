"""Finished cells as a table: a row per cell and metric."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pgbench.errors import StoreError
from pgbench.frame.folders import Errors, Reading
from pgbench.frame.typed import typed
from pgbench.records import RunRecord, Score
from pgbench.store import read_record
from pgbench.sweeping import state

if TYPE_CHECKING:
    import pandas

Row: TypeAlias = dict[str, object]

_INT64 = 1 << 63

# Column, type, and where it is in a record; "-": made here.
_TABLE = """
folder               string   -
key                  string   key
status               string   status
replicate            string   -
task                 string   spec.task
version              Int64    spec.version
variant              string   spec.variant
mode                 string   spec.mode
split                string   spec.split
model                string   spec.checkpoint.id
revision             string   spec.checkpoint.revision
family               string   spec.checkpoint.profile.family
kind                 string   spec.checkpoint.profile.kind
tuned_on             string   spec.checkpoint.profile.tuned_on
style                string   spec.checkpoint.profile.style
resolution           Int64    spec.checkpoint.resolution
dtype                string   spec.checkpoint.dtype
quant                string   spec.checkpoint.quant
quant_scope          string   spec.checkpoint.quant_scope
protocol             string   spec.checkpoint.protocol
pixels_from          Int64    spec.checkpoint.pixels_from
chat_attention       string   spec.checkpoint.chat_attention
attention            string   spec.checkpoint.attention
cache                string   spec.checkpoint.cache
adapter              string   spec.checkpoint.adapter
adapter_revision     string   spec.checkpoint.adapter_revision
adapter_mode         string   spec.checkpoint.adapter_mode
adapter_order        string   spec.checkpoint.adapter_order
backend              string   spec.checkpoint.backend
metric               string   -
is_primary           boolean  -
group                string   -
group_value          string   -
value                Float64  score.value
low                  Float64  score.low
high                 Float64  score.high
stderr               Float64  score.stderr
n                    Int64    score.n
units                Int64    score.units
clusters             Int64    score.clusters
invalid              Int64    score.invalid
failed               Int64    score.failed
interval             string   score.interval
number               boolean  score.number
demo                 boolean  -
limited              boolean  -
full                 boolean  data.full
failures             Int64    -
source               string   spec.source.name
source_id            string   spec.source.id
source_revision      string   spec.source.revision
images               string   spec.images
only_metric          string   spec.metric
primary              string   primary
data_digest          string   data.digest
peak_memory_kind     string   cost.peak_memory.kind
device               string   stack.device
device_name          string   stack.device_name
started              string   started
finished             string   finished
limit                Int64    spec.limit
seed                 Int64    spec.seed
official_seed        Int64    spec.official_seed
batch                Int64    spec.batch
max_new_tokens       Int64    spec.max_new_tokens
available            Int64    data.available
published            Int64    data.published
selected             Int64    data.selected
unscored             Int64    data.unscored
weight_bytes         Int64    cost.weight_bytes
peak_memory_bytes    Int64    cost.peak_memory.bytes
peak_memory_before   Int64    cost.peak_memory.before
generated            Int64    cost.generated
reused               Int64    cost.reused
halved               Int64    cost.halved
batch_size           Int64    cost.batch_size
nonfinite            Int64    cost.nonfinite
threads              Int64    stack.threads
load_seconds         Float64  cost.load_seconds
shared_load          boolean  cost.shared_load
warmup_seconds       Float64  cost.warmup_seconds
samples_per_second   Float64  cost.samples_per_second
batch_seconds_p50    Float64  cost.batch_seconds_p50
batch_seconds_p95    Float64  cost.batch_seconds_p95
demo_data            boolean  data.demo
demo_model           boolean  spec.checkpoint.demo
schema               Int64    schema
pgbench              string   -
task_digest          string   -
"""
_COLUMNS = [line.split() for line in _TABLE.strip().splitlines()]
_TYPES = {name: kind for name, kind, _ in _COLUMNS}
_SCORE = tuple(name for name, _, path in _COLUMNS if path.startswith("score."))
_GETTERS = {name: attrgetter(path) for name, _, path in _COLUMNS if path != "-" and name not in _SCORE}


def load(folder: str | Path, *, groups: bool = False, errors: Errors = "raise") -> pandas.DataFrame:
    """The finished cells below a folder: one row per cell and metric, from the records alone.

    What a number is of: `task`, `version`, `variant`, `split`, `model`, `revision`, `resolution`, `dtype`,
    `quant`, ...; the number: `metric`, `is_primary`, `value`, `low`, `high`, `stderr`, `n`, `clusters`,
    `invalid`, `failed`; what it cost: `samples_per_second`, `peak_memory_bytes`, `load_seconds` (paid by an
    earlier cell where `shared_load`), `reused` (answers taken over from other cells). `demo`, `limited` and
    `full` say what a number may be taken for. `replicate` names the recipe that a checkpoint is one training
    run of, where the latest sweep of the folder said so. docs/python.md has every column. Fractions, seconds
    and bytes.

    `groups=True` adds a row for each value of each breakdown; `group` and `group_value` are none in the
    other rows. `attrs["unfinished"]` lists run folders without a record, `attrs["skipped"]` what
    `errors="skip"` left out, with its reason. Folders are named relative to `folder`; a link is followed
    once, so that links in a circle do no harm.

    Raises UsageError for a folder that is not there, StoreError for a record that cannot be read.
    """
    reading = Reading.of(folder, errors)
    found = list(reading.each(lambda run: _cells(run, groups)))
    recipes = _Replicates(reading)
    rows = [
        {"folder": name, "replicate": recipes.of(reading.top / name), **row}
        for name, cells in found
        for row in cells or ()
    ]
    frame = typed({name: [row[name] for row in rows] for name in _TYPES}, _TYPES)
    frame.attrs = {"unfinished": [name for name, cells in found if cells is None], "skipped": reading.skipped}
    return frame


class _Replicates:
    """What the sweep.json two folders above a run says of it, each file read once."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._known: dict[Path, dict[str, str | None]] = {}

    def of(self, run: Path) -> str | None:
        place = run.resolve()
        out = place.parent.parent
        if out not in self._known:
            self._known[out] = self._read(out)
        return self._known[out].get(place.relative_to(out).as_posix())

    def _read(self, out: Path) -> dict[str, str | None]:
        try:
            return {str(cell.get("folder")): _text(cell.get("replicate")) for cell in state.read(out)}
        except StoreError as error:
            self._reading.refuse(state.FILE, error)
            return {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _cells(folder: Path, groups: bool) -> list[Row] | None:
    """The rows of a record; None for a run that has none yet."""
    record = read_record(folder)
    if record is None:
        return None
    shared = _shared(record)
    if any(type(value) is int and abs(value) >= _INT64 for value in shared.values()):
        raise StoreError(f"{folder / 'record.json'} holds a number that fits no column of 64 bits")
    return [
        shared
        | {name: getattr(score, name) for name in _SCORE}
        | {"metric": metric, "is_primary": metric == record.primary, "group": group, "group_value": value}
        for group, value, metric, score in _scores(record, groups)
    ]


def _shared(record: RunRecord) -> Row:
    """What all rows of a record have in common."""
    versions = record.stack.versions
    return {name: getter(record) for name, getter in _GETTERS.items()} | {
        "demo": record.data.demo or record.spec.checkpoint.demo,
        "limited": record.data.selected < record.data.available,
        "failures": len(record.failures),
        "pgbench": versions.get("pgbench"),
        "task_digest": versions.get("task"),
    }


def _scores(record: RunRecord, groups: bool) -> Iterator[tuple[str | None, str | None, str, Score]]:
    """(breakdown, its value, metric, score)."""
    for metric, score in record.scores.items():
        yield None, None, metric, score
    for group, values in record.groups.items() if groups else ():
        for value, scores in values.items():
            for metric, score in scores.items():
                yield group, value, metric, score

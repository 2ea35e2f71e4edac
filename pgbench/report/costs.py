"""What the cells of a row cost: weights, memory, speed, loading. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pgbench.records import RunRecord
from pgbench.report.axes import device
from pgbench.report.grid import Column, Entry
from pgbench.report.table import in_parts, size

HEADS = ("weights", "peak memory", "samples/s", "load")


def columns() -> tuple[Column, ...]:
    return tuple(Column((head,), "cost") for head in HEADS)


@dataclass(frozen=True, slots=True)
class Setting:
    """What the runs of a whole table were measured on; where they differ, each figure says its own."""

    devices: frozenset[str]
    kinds: frozenset[str]  # of peak memory
    batches: frozenset[int]


def setting(records: Sequence[RunRecord]) -> Setting:
    """Of all runs of a table."""
    return Setting(
        frozenset(name for record in records if (name := device(record))),
        frozenset(record.cost.peak_memory.kind for record in records),
        frozenset(record.cost.batch_size for record in records if record.cost.batch_size),
    )


def entries(records: Sequence[RunRecord], note: Callable[[str], int], table: Setting) -> tuple[Entry, ...]:
    """Of all runs of a row together: the most memory, all samples by all their time, the longest load."""
    if not records:
        return tuple(Entry() for _ in HEADS)
    return (
        _weights(records, note),
        _memory(records, note, table),
        _speed(records, note, table),
        _load(records, note),
    )


def remarks(records: Sequence[RunRecord]) -> list[str]:
    """What the cost columns are of."""
    table = setting(records)
    found = sorted(table.devices)
    told = [f"speed: samples/s without loading and warm-up{_together(len(records) > 1)}"]
    if len(found) == 1:
        told[0] += f", on {found[0]}"
    if len(found) > 1:
        told.append(f"speeds are comparable on one device only; here are {len(found)}, see footnotes")
    told.append(f"peak memory: {' or '.join(sorted(table.kinds))}; weights: bytes as stored")
    return told


def _together(several: bool) -> str:
    return ", of a row's runs all samples by all their time" if several else ""


def _weights(records: Sequence[RunRecord], note: Callable[[str], int]) -> Entry:
    sizes = sorted({record.cost.weight_bytes for record in records if record.cost.weight_bytes})
    notes = (
        (note("the runs of this row hold weights of different size: the largest"),) if len(sizes) > 1 else ()
    )
    return _bytes(sizes[-1] if sizes else 0, notes)


def _memory(records: Sequence[RunRecord], note: Callable[[str], int], table: Setting) -> Entry:
    peak = max((record.cost.peak_memory for record in records), key=lambda one: one.bytes)
    notes: tuple[int, ...] = (note(f"peak memory here: {peak.kind}"),) if len(table.kinds) > 1 else ()
    if not any(record.cost.generated for record in records):
        notes = (
            *notes,
            note("no sample was answered here: memory of a run that took its answers over"),
        )
    return _bytes(peak.bytes, notes, kind=peak.kind)


def _bytes(count: int, notes: tuple[int, ...], **more: object) -> Entry:
    return Entry(size(count) if count else "", notes=notes, data={"value": count, "unit": "bytes", **more})


def _speed(records: Sequence[RunRecord], note: Callable[[str], int], table: Setting) -> Entry:
    timed = [(record.cost.generated, rate) for record in records if (rate := record.cost.samples_per_second)]
    notes = []
    if taken := sum(record.cost.reused for record in records):
        notes.append(note(f"{taken:,} answers taken over from other cells, in no speed figure"))
    if parts := sum(record.cost.halved for record in records):
        notes.append(note(in_parts(parts)))
    if not timed:
        return Entry(notes=tuple(notes), data={"value": None, "unit": "samples/s"})
    names = sorted({name for record in records if (name := device(record))})
    if len(table.devices) > 1:
        notes.append(note(f"on {' and '.join(names) or 'a device that is not known'}"))
    batches = sorted({record.cost.batch_size for record in records if record.cost.batch_size})
    if len(table.batches) > 1:
        notes.append(note(f"in batches of {' and '.join(map(str, batches))}"))
    rate = sum(count for count, _ in timed) / sum(count / rate for count, rate in timed)
    data = {"value": rate, "unit": "samples/s", "devices": names, "batch_sizes": batches}
    return Entry(f"{rate:,.2f}" if rate < 10 else f"{rate:,.1f}", notes=tuple(sorted(set(notes))), data=data)


def _load(records: Sequence[RunRecord], note: Callable[[str], int]) -> Entry:
    own = [record for record in records if not record.cost.shared_load]
    notes = () if own else (note("loaded by an earlier cell of the same process, which paid this time"),)
    seconds = max(record.cost.load_seconds for record in own or records)
    return Entry(f"{seconds:.1f} s", notes=notes, data={"value": seconds, "unit": "s", "shared": not own})

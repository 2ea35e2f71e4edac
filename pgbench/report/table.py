"""One record as a table: what a person needs to believe or doubt its numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pgbench.errors import UsageError, unknown
from pgbench.published import contamination
from pgbench.records import Cost, RunRecord, Score
from pgbench.types import Checkpoint

SUBMIT_HINT = "; pgbench submit RUN writes a test server's file"
_KINDS = {
    "clustered t": "clustered t",
    "wilson": "Wilson over clusters where all of them agree",
    "bootstrap": "bootstrap over clusters",
}
_GIB, _MIB = 1 << 30, 1 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; the first `left` columns are words, the rest are figures."""

    title: tuple[str, ...]  # lines above
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]  # lines below
    left: int = 1


def of_record(record: RunRecord) -> Table:
    """Scores with their intervals and counts, then cost, then what the numbers cannot be compared with."""
    spec = record.spec
    rows = [row_of(name, score) for name, score in record.scores.items()]
    for group, values in record.groups.items():
        for value, scores in values.items():
            rows.append(row_of(f"{record.primary} [{group}={value}]", scores[record.primary]))
    selected = f"{record.data.selected:,} samples from {_source(record)}"
    return Table(
        title=(f"{spec.task} v{spec.version} · {spec.split} · {selected}", _checkpoint(record)),
        columns=("metric", "score", "95 % interval", "n", "clusters", "invalid", "failed"),
        rows=tuple(rows),
        notes=(
            _intervals(record),
            _speed(record.cost),
            _memory(record.cost),
            _stack(record),
            *remarks(record),
        ),
    )


def by_group(record: RunRecord, name: str) -> Table:
    """Every metric of one breakdown, a row for each value and metric; `of_record` shows the primary alone.

    Raises UsageError for a breakdown that the record does not have.
    """
    if name not in record.groups:
        raise UsageError(unknown(f"group of this {record.spec.task} run", name, record.groups))
    whole = of_record(record)
    rows = [
        (value, *row_of(metric, score))
        for value, scores in record.groups[name].items()
        for metric, score in scores.items()
    ]
    shown = [score for scores in record.groups[name].values() for score in scores.values()]
    return Table(
        title=whole.title,
        columns=(name, *whole.columns),
        rows=tuple(rows),
        notes=(_interval_kinds(shown), *caveats(record)),
        left=2,
    )


def size(count: int) -> str:
    """Bytes for people: 1.25 GiB, 3.4 MiB, 512 B."""
    if count >= _GIB:
        return f"{count / _GIB:.2f} GiB"
    return f"{count / _MIB:.1f} MiB" if count >= _MIB // 10 else f"{count} B"


def row_of(name: str, score: Score) -> tuple[str, ...]:
    """Name, value, interval, n, clusters, invalid and failed of one score, as text."""
    scale = 1 if score.number else 100
    value = "undefined" if score.value is None else f"{scale * score.value:.2f}"
    known = score.low is not None and score.high is not None
    interval = f"{scale * (score.low or 0.0):.2f} to {scale * (score.high or 0.0):.2f}" if known else "none"
    counts = (score.n, score.clusters, score.invalid, score.failed)
    return f"{name} (no %)" if score.number else name, value, interval, *(f"{count:,}" for count in counts)


def _source(record: RunRecord) -> str:
    source = record.spec.source
    if source.name == "hub" and not source.revision:
        return f"{source.id} (local copy of the hub's layout)"
    revision = f"@{source.revision[:8]}" if source.revision else ""
    return f"{source.id}{revision} ({source.name})"


def _checkpoint(record: RunRecord) -> str:
    point, stack = record.spec.checkpoint, record.stack
    parts = [f"{point.id}{_revision(point)}"]
    if point.resolution:
        parts += [f"{point.resolution} px", _level(point, record), stack.device_name or stack.device]
    parts.append(f"batch {record.spec.batch}")
    if point.profile.style != "paligemma":
        parts.append(f"prompt style {point.profile.style}")
    if point.adapter:
        order = f" {point.adapter_order} quantization" if point.adapter_order else ""
        version = f"@{point.adapter_revision[:8]}" if point.adapter_revision else ""
        parts.append(f"adapter {point.adapter}{version} ({point.adapter_mode}{order})")
    if point.protocol != "hf":
        parts.append(f"protocol {point.protocol}")
    if point.chat_attention:
        parts.append(f"{point.chat_attention} chat attention")
    return " · ".join(parts)


def _revision(point: Checkpoint) -> str:
    return f"@{point.revision[:8]}" if point.revision else ""


def _level(point: Checkpoint, record: RunRecord) -> str:
    proof = record.stack.quantization
    if proof is None or point.quant == "none":
        return point.dtype
    replaced = sum(group.count for group in proof.replaced)
    kind = f"{proof.quant_type}, " if proof.quant_type not in (None, point.quant) else ""
    scope = " of the language model" if point.quant_scope == "language" else ""
    return f"{point.quant} ({kind}{replaced} layers{scope}, rest {point.dtype})"


def _intervals(record: RunRecord) -> str:
    groups = (scores for values in record.groups.values() for scores in values.values())
    return _interval_kinds([*record.scores.values(), *(scores[record.primary] for scores in groups)])


def _interval_kinds(shown: Iterable[Score]) -> str:
    kinds = sorted({score.interval for score in shown} - {"none"})
    return f"intervals: {', '.join(_KINDS[kind] for kind in kinds)}" if kinds else "no intervals"


def _stack(record: RunRecord) -> str:
    stack = record.stack
    shown = [name for name in ("pgbench", "torch", "transformers", "bitsandbytes") if name in stack.versions]
    threads = [f"{stack.threads} CPU thread{'s' if stack.threads > 1 else ''}"] if stack.threads else []
    return " · ".join([*(f"{name} {stack.versions[name]}" for name in shown), *threads])


def _speed(cost: Cost) -> str:
    if cost.samples_per_second is None:
        return "no sample was timed" if cost.reused else "no sample was answered"
    rate = f"{cost.samples_per_second:,.1f} samples/s"
    p50, p95 = cost.batch_seconds_p50 or 0.0, cost.batch_seconds_p95 or 0.0
    batch = f"batch of {cost.batch_size}: p50 {p50:.3f} s, p95 {p95:.3f} s"
    shared = " (shared with an earlier cell)" if cost.shared_load else ""
    return f"{rate} · {batch} · load {cost.load_seconds:.1f} s{shared}"


def _memory(cost: Cost) -> str:
    weights = f"weights {size(cost.weight_bytes)} · " if cost.weight_bytes else ""
    peak = cost.peak_memory
    before = f", {size(peak.before)} of it before loading" if peak.before else ""
    return f"{weights}peak memory {size(peak.bytes)} ({peak.kind}{before})"


def remarks(record: RunRecord) -> list[str]:
    """How a record came to be, where that is not plain, and its caveats."""
    taken = f"{record.cost.reused:,} answers reused from other cells (in no speed figure)"
    said = [taken] if record.cost.reused else []
    said += [in_parts(record.cost.halved)] if record.cost.halved else []
    return [*said, *caveats(record)]


def in_parts(batches: int) -> str:
    """Batches that were halved for want of memory."""
    return f"{plural(batches, 'batch', 'es')} did not fit into memory and went in parts"


def caveats(record: RunRecord) -> list[str]:
    """What the numbers of a record cannot be taken for; empty for a full run that went well."""
    data, spec, found = record.data, record.spec, []
    if record.data.demo or spec.checkpoint.demo:
        found.append("DEMO NUMBERS: " + _demo(record) + "; they say nothing about PaliGemma")
    if record.stack.doctor and (broken := record.stack.doctor.broken):
        found.append(f"BROKEN STACK: probe {broken.probe} of pgbench doctor: {broken.said}")
    if spec.checkpoint.pixels_from is not None:
        found.append(f"ABLATION: pictures were reduced to {spec.checkpoint.pixels_from} px (--pixels-from)")
    if spec.mode == "likelihood":
        found.append("LIKELIHOODS of given texts: not comparable with scores of generated answers")
    if data.selected < data.available:
        found.append(f"LIMITED to {data.selected:,} of {data.available:,} samples (--limit {spec.limit})")
    if data.published is not None and data.available != data.published:
        found.append(
            f"INCOMPLETE SPLIT: {data.available:,} samples here, {data.published:,} as published; "
            "not comparable with published numbers"
        )
    if spec.checkpoint.backend in ("oracle", "replay"):
        found.append(f"NO MODEL: answers of the {spec.checkpoint.backend} backend")
    if data.unscored:
        sent = SUBMIT_HINT if data.unscored == data.selected else ""
        found.append(f"without references, answered and not scored: {data.unscored:,}{sent}")
    if record.cost.nonfinite:
        found.append(f"logits that are nan or inf met by samples: {record.cost.nonfinite:,}")
    if record.failures:
        first = record.failures[0]
        found.append(f"{len(record.failures):,} failed, first: {first.sample_id}: {first.reason}")
    return found


def plural(count: int, word: str, many: str = "s") -> str:
    """
    >>> plural(1, "cell"), plural(2000, "cell"), plural(2, "batch", "es")
    ('1 cell', '2,000 cells', '2 batches')
    """
    return f"{count:,} {word}{'' if count == 1 else many}"


def by_mark(runs: Mapping[str, Sequence[str]]) -> list[str]:
    """Each caveat once. `runs`: a run's name -> its caveats; of several runs their count stands first.

    >>> by_mark({"a": ["DEMO"], "b": ["DEMO", "LIMITED"]})
    ['all 2 runs: DEMO', 'b: LIMITED']
    """
    named: dict[str, list[str]] = {}
    for run, marks in runs.items():
        for mark in marks:
            named.setdefault(mark, []).append(run)
    return [f"{_whose(names, len(runs))}: {mark}" for mark, names in named.items()]


def _whose(names: Sequence[str], count: int) -> str:
    if len(names) == 1:
        return names[0]
    return f"all {count:,} runs" if len(names) == count else f"{len(names):,} of {count:,} runs"


def seen(record: RunRecord) -> str:
    """Why the samples may have been trained on; "": no reason known.

    With drawn pictures, a demo checkpoint or the oracle, which is no model, there is none.
    """
    spec = record.spec
    if record.data.demo or spec.checkpoint.demo or spec.checkpoint.backend == "oracle":
        return ""
    return contamination(spec.checkpoint.profile, spec.task, spec.split) or ""


def _demo(record: RunRecord) -> str:
    drawn, tiny = record.data.demo, record.spec.checkpoint.demo
    parts: Mapping[str, bool] = {"drawn images": drawn, "a tiny checkpoint trained on drawings": tiny}
    return " and ".join(name for name, there in parts.items() if there)

"""What goes with every number that leaves: its n, interval and failures, and what it cannot be taken for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from pgbench.errors import UsageError
from pgbench.records import RunRecord, Score
from pgbench.report.axes import adapter_name
from pgbench.report.table import caveats, seen
from pgbench.types import Checkpoint, Direction, RunSpec, Sums, Task


def barred(record: RunRecord) -> list[str]:
    """Why a run's numbers are not the benchmark's: demo, limited, another edition of the split, no model at
    all. Answers made elsewhere (the replay backend) and failures are named in the file, and bar nothing."""
    heads = ("DEMO NUMBERS", "LIMITED", "INCOMPLETE SPLIT")
    found = [text for text in caveats(record) if text.startswith(heads)]
    oracle = record.spec.checkpoint.backend == "oracle"
    return [*found, *(["NO MODEL: the oracle answers with the references"] if oracle else [])]


def marks(record: RunRecord) -> list[str]:
    """All that a reader of the number has to be told: `report.table.caveats`, and whether the checkpoint may
    have been trained on the split."""
    reason = seen(record)
    return [*caveats(record), *([f"CONTAMINATED: {reason}"] if reason else [])]


def counts(score: Score) -> dict[str, int]:
    """How many a score is of."""
    return {
        "n": score.n,
        "units": score.units,
        "clusters": score.clusters,
        "failed": score.failed,
        "invalid": score.invalid,
    }


def points(value: float, *, number: bool) -> float:
    """A value as model cards have it: a fraction in percent, two decimals; another number as it is."""
    return round(value if number else 100 * value, 2)


def told(record: RunRecord, metric: str) -> list[str]:
    """A score in words, for a format with one field of text: its unit, its counts, its interval, the cell."""
    score, spec = record.scores[metric], record.spec
    found = [
        f"{metric}, {'no percent' if score.number else 'in percent'}",
        f"n {score.n:,} of split {spec.split} of {spec.task} v{spec.version}{_variant(spec)}",
        f"{score.failed:,} failed, {score.invalid:,} invalid (both are wrong)",
    ]
    if score.low is not None and score.high is not None:
        low, high = (points(value, number=score.number) for value in (score.low, score.high))
        found.append(f"95 % interval {low:.2f} to {high:.2f} ({score.interval}, {score.clusters:,} clusters)")
    found.append(cell(spec.checkpoint))
    return [*found, f"pgbench {record.stack.versions.get('pgbench', 'of unknown version')}", *marks(record)]


def cell(point: Checkpoint) -> str:
    """What of a checkpoint was measured: 224 px, 4bit, bfloat16, ..."""
    parts = [f"{point.resolution} px"] if point.resolution else []
    parts += [point.quant] if point.quant != "none" else []
    parts.append(point.dtype)
    chosen = {
        "layers": point.quant_scope if point.quant != "none" else "all",
        "protocol": point.protocol if point.protocol != "hf" else "all",
        "pixels from": f"{point.pixels_from} px" if point.pixels_from else "all",
        "prompt style": point.profile.style if point.profile.style != "paligemma" else "all",
        "adapter": adapter_name(point) or "all",
        "chat attention": point.chat_attention if point.chat_attention == "causal" else "all",
    }
    return ", ".join([*parts, *(f"{name} {value}" for name, value in chosen.items() if value != "all")])


def conditions(record: RunRecord) -> dict[str, str]:
    """Every choice and circumstance, as text: for formats that have a field for whatever one likes."""
    spec, stack, data = record.spec, record.stack, record.data
    point = spec.checkpoint
    found: dict[str, object] = {
        "pgbench_key": record.key,
        "task_version": spec.version,
        "variant": spec.variant,
        "mode": spec.mode,
        "revision": point.revision,
        "resolution": point.resolution,
        "dtype": point.dtype,
        "quant": point.quant,
        "quant_scope": point.quant_scope if point.quant != "none" else None,
        "protocol": point.protocol,
        "pixels_from": point.pixels_from,
        "adapter": point.adapter,
        "adapter_revision": point.adapter_revision,
        "adapter_mode": point.adapter_mode,
        "adapter_order": point.adapter_order,
        "chat_attention": point.chat_attention,
        "kind": point.profile.kind,
        "tuned_on": point.profile.tuned_on,
        "prompt_style": point.profile.style,
        "backend": point.backend,
        "batch": spec.batch,
        "limit": spec.limit,
        "data_digest": data.digest,
        "data_revision": spec.source.revision,
        "samples_available": data.available,
        "samples_published": data.published,
        "device": stack.device_name or stack.device,
        "weight_bytes": record.cost.weight_bytes or None,
        "status": record.status,
        "notes": "; ".join(marks(record)) or None,
        **{f"version_{name}": value for name, value in sorted(stack.versions.items())},
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def task_of(record: RunRecord) -> Task | None:
    """The installed task of this name; None where there is none. A record chooses no file to be run."""
    from pgbench.registry import is_path, load_task

    name = record.spec.task
    try:
        return None if is_path(name) else load_task(name)
    except UsageError:
        return None


def directions(record: RunRecord) -> Mapping[str, Direction | None]:
    """Metric -> the better direction; a metric is missing where its task is."""
    task = task_of(record)
    return {metric.name: metric.direction for metric in task.metrics} if task else {}


def measures(record: RunRecord) -> dict[str, Callable[[Sums], float | None]]:
    """What a sample's own statistics are worth: of metrics that are a mean, and of the primary one where its
    task is at hand. Of other metrics a sample has no value: F1 is of a set. Lengths, and what is better
    low, are left out too: formats ask whether an answer is correct, which full marks say."""
    found: dict[str, Callable[[Sums], float | None]] = {}
    task = task_of(record)
    reduces = {metric.name: metric.reduce for metric in task.metrics} if task else {}
    ways = directions(record)
    for metric, score in record.scores.items():
        if score.value is not None and not score.number and ways.get(metric, "up") == "up":
            found[metric] = reduces.get(metric, _mean) if metric == record.primary else _mean
    return found


def _mean(sums: Sums) -> float | None:
    return sums["sum"] / sums["n"] if "sum" in sums and sums.get("n") else None


def hub_dataset(spec: RunSpec) -> str | None:
    """The hub id that a run's samples came from; None for files, also for a local copy of the hub's."""
    source = spec.source
    return source.id if source.name == "hub" and source.revision else None


def epoch(stamp: str) -> float:
    """A record's timestamp in seconds since 1970. Raises UsageError where it is none."""
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except ValueError as error:
        raise UsageError(
            f"the record's timestamp {stamp!r} is no ISO 8601; the record is not of pgbench"
        ) from error


def _variant(spec: RunSpec) -> str:
    return f", variant {spec.variant}" if spec.variant != "default" else ""

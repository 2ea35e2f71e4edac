"""What a bench measured, as a table and as JSON values. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import median

from pgbench.bench.figures import Bench, Refused, Row
from pgbench.report.table import Table, size
from pgbench.specs import called
from pgbench.types import Checkpoint

SCHEMA = 1
_COLUMNS = (
    *("level", "batch", "prefill samples/s", "FLOP/s", "of matmul", "decode tokens/s", "ms a token"),
    "peak memory",
)
_RULE = (
    "prefill: from prepared pictures and prompts on the host to the first token; decode: every row's tokens "
    "after that, none stops early; of matmul: FLOPs counted from the config over the measured matmul rate"
)


def of_benches(found: Sequence[Bench | Refused]) -> Table:
    """A row per level and batch size; medians."""
    first = next((one for one in found if isinstance(one, Bench)), None)
    return Table(
        title=(_subject(found[0]), *([_stack(first), _work(first)] if first else [])),
        columns=_COLUMNS,
        rows=tuple(line for one in found for line in _lines(one)),
        notes=(
            *(_level_note(one) for one in found if isinstance(one, Bench)),
            *(f"{level(one.checkpoint)}: {one.said}" for one in found if isinstance(one, Refused)),
            *(_RULE for _ in [0] if first),
            *(f"{level(one.checkpoint)}, batch {row.batch}: {row.said}" for one, row in _silent(found)),
        ),
        left=1,
    )


def document(found: Sequence[Bench | Refused], kept: Sequence[str]) -> dict[str, object]:
    """The same for `--json`: seconds, bytes, FLOPs and FLOP/s, shares as fractions. `kept`: files written."""
    return {"schema": SCHEMA, "levels": [_document(one) for one in found], "kept": list(kept)}


def level(point: Checkpoint) -> str:
    """The level as rows name it."""
    return point.dtype if point.quant == "none" else point.quant


def _document(one: Bench | Refused) -> dict[str, object]:
    point = one.checkpoint
    head: dict[str, object] = {
        "checkpoint": called(point.id, point),
        "revision": point.revision,
        "random": one.random,
        "resolution": point.resolution,
        "quant": point.quant,
        "quant_scope": point.quant_scope,
        "dtype": point.dtype,
        "failed": one.said if isinstance(one, Refused) else None,
    }
    return head if isinstance(one, Refused) else {**head, **_measured(one)}


def _measured(one: Bench) -> dict[str, object]:
    stack = one.stack
    return {
        "started": one.started,
        "device": stack.device_name or stack.device,
        "threads": stack.threads,
        "versions": dict(stack.versions),
        "attention": dict(stack.attention),
        "numerics": dict(stack.numerics),
        "weight_bytes": stack.weight_bytes,
        "work": asdict(one.work),
        "prompt_tokens": one.prompt,
        "load_seconds": one.load_seconds,
        "prepare_seconds": median(one.prepare),
        "matmul_flops_per_second": one.matmul,
        "matmul_of": one.matmul_of,
        "flops": {**asdict(one.flops), "prefill": one.flops.prefill},
        "rows": [_row(one, row) for row in one.rows],
    }


def _row(one: Bench, row: Row) -> dict[str, object]:
    seconds, step = row.prefill_seconds, row.step_seconds(one.work.new)
    return {
        "batch": row.batch,
        "failed": row.said or None,
        "prefill_seconds": seconds,
        "prefill_samples_per_second": row.batch / seconds if seconds else None,
        "prefill_tokens_per_second": row.batch * one.prompt / seconds if seconds else None,
        "prefill_flops_per_second": row.batch * one.flops.prefill / seconds if seconds else None,
        "matmul_share": one.share(row),
        "decode_step_seconds": step,
        "decode_tokens_per_second": row.batch / step if step else None,
        "peak_memory": asdict(row.peak) if row.peak else None,
        "all_prefill_seconds": list(row.prefill),
        "all_decode_seconds": list(row.decode),
    }


def _lines(one: Bench | Refused) -> list[tuple[str, ...]]:
    if isinstance(one, Refused):
        return [(level(one.checkpoint), *["-"] * (len(_COLUMNS) - 1))]
    return [(level(one.checkpoint), *_figures(one, row)) for row in one.rows]


def _figures(one: Bench, row: Row) -> tuple[str, ...]:
    seconds, step = row.prefill_seconds, row.step_seconds(one.work.new)
    if not seconds:
        return (f"{row.batch:,}", "no room", *["-"] * (len(_COLUMNS) - 3))
    share = one.share(row)
    return (
        f"{row.batch:,}",
        _figure(row.batch / seconds),
        _scaled(row.batch * one.flops.prefill / seconds),
        "-" if share is None else f"{100 * share:.1f} %",
        _figure(row.batch / step) if step else "-",
        _figure(1000 * step) if step else "-",
        size(row.peak.bytes) if row.peak else "-",
    )


def _figure(value: float) -> str:
    """Three digits that count.

    >>> _figure(1234.5), _figure(12.345), _figure(0.01234)
    ('1,234', '12.3', '0.0123')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _scaled(value: float) -> str:
    """With the prefix of its unit.

    >>> _scaled(5.13e12), _scaled(85.7e9), _scaled(2.5e14), _scaled(12.0)
    ('5.13 T', '85.7 G', '250 T', '12 ')
    """
    steps = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1.0, ""))
    unit, prefix = next((step for step in steps if value >= step[0]), steps[-1])
    return f"{_figure(value / unit)} {prefix}"


def _subject(one: Bench | Refused) -> str:
    point = one.checkpoint
    weights = f" · RANDOM WEIGHTS at the widths of {one.random}" if one.random else ""
    return f"bench · {called(point.id, point)} · {point.resolution} px{weights}"


def _stack(one: Bench) -> str:
    stack = one.stack
    shown = [f"{name} {stack.versions[name]}" for name in ("torch", "transformers") if name in stack.versions]
    attention = [f"{part} attention {kind}" for part, kind in stack.attention.items()]
    threads = [f"CPU threads {stack.threads}"] if stack.device == "cpu" else []
    return " · ".join([stack.device_name or stack.device, *threads, *shown, *attention])


def _work(one: Bench) -> str:
    return (
        f"each row: one picture of its own, {one.prompt:,} prompt tokens "
        f"({_scaled(one.flops.prefill)}FLOP, {one.flops.vision / one.flops.prefill:.0%} of it vision), "
        f"{one.work.new:,} new tokens · medians of {one.work.repeats} after a warm-up"
    )


def _level_note(one: Bench) -> str:
    return (
        f"{level(one.checkpoint)}: load {one.load_seconds:.1f} s · weights {size(one.stack.weight_bytes)} · "
        f"preparing {1000 * median(one.prepare):.1f} ms a sample in one thread · "
        f"matmul {_scaled(one.matmul)}FLOP/s ({one.matmul_of})"
    )


def _silent(found: Sequence[Bench | Refused]) -> list[tuple[Bench, Row]]:
    return [(one, row) for one in found if isinstance(one, Bench) for row in one.rows if row.said]

"""Speed at real widths with random weights: throughput, memory, share of the matmul rate, ratio to the loop.

    python benchmarks/engine_gpu.py                           both 3B families, 224 to 896 px, three levels
    python benchmarks/engine_gpu.py --names paligemma2-3b-448 --levels bf16
    python benchmarks/engine_gpu.py --names paligemma-3b-224/16x2 --batches 1 4 --samples 16      for a CPU

Every row is written to results/bench/engine_gpu.json as soon as it is known, beside those of earlier calls;
one that is there is not measured again (--again does). A row has what `pgbench bench` measures at each batch
size, the ratio to the loop of the model card on work like TextVQA's (engine.py), and, on a GPU, how long the
device was idle during a run by pgbench, as a profiler sees it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine import measured
from engine_cells import Asked, samples_of
from engine_sides import by_pgbench
from provenance import ROOT, provenance

from pgbench.backends.paligemma import engine as engine_of
from pgbench.backends.paligemma import widths
from pgbench.bench.figures import Bench, Refused, Work
from pgbench.bench.measure import measure
from pgbench.durable import write_json

NAMES = tuple(f"{family}-3b-{px}" for family in ("paligemma", "paligemma2") for px in (224, 448, 896))
LEVELS = {"bf16": "bfloat16", "8bit": "8bit", "4bit": "4bit"}  # as engine_cells names them
WRITTEN = "results/bench/engine_gpu.json"
TEXT, NEW = 16, 5  # tokens of a question and of an answer, as TextVQA's
QUESTIONS = 2  # an image: TextVQA has 1.6
LEAST_SHARE, LEAST_RATIO = 0.5, 8.0  # aims: in prefill at 448 px, and to the loop
_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")  # categories of a trace


def main(argv: Sequence[str]) -> int:
    given = arguments().parse_args(argv)
    out = Path(given.out)
    rows: dict[str, Any] = json.loads(out.read_text())["rows"] if out.exists() else {}
    for name in given.names:
        left = [level for level in given.levels if given.again or f"{name} {level}" not in rows]
        with tempfile.TemporaryDirectory(prefix="pgbench-gpu-") as top:
            folder = widths.folder(widths.widths(name), Path(top), vivid=True) if left else Path(top)
            for level in left:
                rows[f"{name} {level}"] = row = row_of(name, level, folder, Path(top), given)
                document = provenance("benchmarks/engine_gpu.py", WRITTEN)
                out.parent.mkdir(parents=True, exist_ok=True)
                write_json(out, {**document, "device": row["device"], "rows": rows})
                print(f"{name} {level}: {told(row)}", flush=True)
    return 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--names", nargs="+", default=list(NAMES), help="as pgbench bench --random takes them"
    )
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument(
        "--batches", nargs="+", type=int, default=[1, 8, 32], help="the last is the loop's rival"
    )
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="also what is there")
    parser.add_argument("--out", default=str(ROOT / WRITTEN))
    return parser


def row_of(name: str, level: str, folder: Path, work: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One checkpoint at one level."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    said = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu"}
    asked = Asked(name, LEVELS[level], QUESTIONS, given.samples, given.batches[-1], NEW, device)
    found = measure(engine_of(asked.model(folder)), Work(TEXT, NEW, given.repeats), given.batches, name=name)
    if isinstance(found, Refused):
        return {**said, "said": found.said}
    fits = [row.batch for row in found.rows if not row.said]
    if not fits:
        return {**said, **benched(found)}
    asked = replace(asked, batch=fits[-1])
    place = work / f"{level} runs"
    place.mkdir()
    against = measured(asked, place, rounds=1, folder=folder)
    kept = ("ratio", "ratio_cpu", "equal_share", "loop_microseconds", "samples", "batch", "load_of_machine")
    row = {**said, **benched(found), "loop": {key: against[key] for key in kept}}
    if device == "cpu":
        return row | {"inside_share": against["inside_share"]}
    return row | {"idle": idle(asked, folder, place)}  # calls return before a GPU is done


def benched(found: Bench) -> dict[str, Any]:
    """What `pgbench bench` measured."""
    return {
        "matmul_flops_per_second": found.matmul,
        "matmul_of": found.matmul_of,
        "prefill_flop_a_sample": found.flops.prefill,
        "prompt_tokens": found.prompt,
        "load_seconds": found.load_seconds,
        "attention": dict(found.stack.attention),
        "versions": dict(found.stack.versions),
        "batches": [_batch(found, number) for number in range(len(found.rows))],
    }


def _batch(found: Bench, number: int) -> dict[str, Any]:
    row = found.rows[number]
    if row.prefill_seconds is None:
        return {"batch": row.batch, "said": row.said}
    step = row.step_seconds(found.work.new)
    return {
        "batch": row.batch,
        "prefill_samples_per_second": row.batch / row.prefill_seconds,
        "prefill_share_of_matmul": found.share(row),
        "decode_tokens_per_second": row.batch / step if step else None,
        "peak_bytes": row.peak.bytes if row.peak else None,
    }


def idle(asked: Asked, folder: Path, work: Path) -> dict[str, float]:
    """How long nothing was on the device between the first and the last batch of a run by pgbench."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        by_pgbench(asked, folder, samples_of(asked), work / "profiled")
    trace = work / "trace.json"
    seen.export_chrome_trace(str(trace))
    spans = list(on_device(json.loads(trace.read_text())["traceEvents"]))
    trace.unlink()
    return gaps(spans)


def on_device(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, float]]:
    """Start and end in microseconds of what a device did."""
    for event in events:
        if event.get("ph") == "X" and event.get("cat") in _ON_DEVICE:
            yield event["ts"], event["ts"] + event["dur"]


def gaps(spans: Sequence[tuple[float, float]], skipped: float = 0.2) -> dict[str, float]:
    """The longest pause and the share of all pauses; the first share of the spans, loading and warming up, is
    left out."""
    ordered = sorted(spans)[int(len(spans) * skipped) :]
    longest = total = 0.0
    end = ordered[0][1] if ordered else 0.0
    for start, stop in ordered:
        longest, total = max(longest, start - end), total + max(0.0, start - end)
        end = max(end, stop)
    whole = end - ordered[0][0] if ordered else 0.0
    return {"longest_microseconds": longest, "idle_share": total / whole if whole else 0.0}


def told(row: Mapping[str, Any]) -> str:
    if "batches" not in row:
        return str(row["said"])
    shares = [one["prefill_share_of_matmul"] or 0.0 for one in row["batches"] if "said" not in one]
    best = (
        f"{max(shares):.1%} of the matmul rate in prefill (aim {LEAST_SHARE:.0%} at 448 px)" if shares else ""
    )
    loop = f", {row['loop']['ratio']} x the loop (aim {LEAST_RATIO:g})" if "loop" in row else ""
    pause = f", idle {row['idle']['idle_share']:.1%}" if "idle" in row else ""
    return f"{best}{loop}{pause}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

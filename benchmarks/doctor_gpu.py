"""The doctor on real widths with random weights: PaliGemma 3B and PaliGemma 2 3B without a checkpoint.

    python benchmarks/doctor_gpu.py                      all: 224, 448, 896 px, three levels, two protocols
    python benchmarks/doctor_gpu.py --random paligemma2-3b-448 --levels 4bit
    python benchmarks/doctor_gpu.py --divide 16 --layers 2     a small one, for a CPU

Every cell is written to results/bench/doctor.json as soon as it is known, beside those of earlier calls; one
that is there is not probed again (--again does). Exit code 1 where a probe is broken.

Widths and tokenizer: pgbench/backends/paligemma/widths.py. Answers of random weights are near ties, so that
the share that a batch changes is reported and not judged.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from pgbench.backends.paligemma.probes import examine
from pgbench.backends.paligemma.widths import folder, widths
from pgbench.types import Dtype, ModelRequest, ProtocolName, Quant

OUT = Path(__file__).parents[1] / "results" / "bench" / "doctor.json"
NAMES = tuple(f"{family}-3b-{px}" for family in ("paligemma", "paligemma2") for px in (224, 448, 896))
LEVELS: Mapping[str, tuple[Dtype, Quant]] = {
    "bf16": ("bfloat16", "none"),
    "8bit": ("bfloat16", "8bit"),
    "4bit": ("bfloat16", "4bit"),
}
PROTOCOLS: tuple[ProtocolName, ...] = ("hf", "paper")


def main(argv: Sequence[str]) -> int:
    asked = arguments().parse_args(argv)
    cells: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    broken = 0
    for name in asked.random or NAMES:
        wanted = itertools.product(asked.levels, asked.protocols)
        left = [one for one in wanted if asked.again or _key(name, *one, asked) not in cells]
        with tempfile.TemporaryDirectory(prefix="pgbench-random-") as top:
            if left:
                built = build(name, Path(top), asked.divide, asked.layers)
            for level, protocol in left:
                cell = probe(built, level, protocol, asked)
                cells[_key(name, level, protocol, asked)] = cell
                asked.out.parent.mkdir(parents=True, exist_ok=True)
                asked.out.write_text(json.dumps(cells, indent=1) + "\n")
                broken += cell["broken"] is not None
                print(name, level, protocol, cell["broken"] or "ok", f"{cell['seconds']:.0f} s", flush=True)
    return 1 if broken else 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--random", nargs="+", choices=NAMES, help="all of them, where none is named")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--divide", type=int, default=1, help="widths by so much; the vocabulary too")
    parser.add_argument("--layers", type=int, help="so many in each tower, instead of all")
    parser.add_argument("--again", action="store_true", help="also what is there")
    parser.add_argument("--out", type=Path, default=OUT)
    return parser


def _key(name: str, level: str, protocol: str, asked: argparse.Namespace) -> str:
    small = f" widths/{asked.divide}" if asked.divide > 1 else ""
    layers = f" {asked.layers} layers" if asked.layers else ""
    return f"{name} {level} {protocol}{small}{layers}"


def probe(folder: Path, level: str, protocol: str, asked: argparse.Namespace) -> dict[str, Any]:
    """One cell: what was asked, what stack it met, and every finding with its figures."""
    dtype, quant = LEVELS[level]
    request = ModelRequest(
        model=str(folder),
        dtype=dtype,
        quant=quant,
        protocol=cast(ProtocolName, protocol),
        device=asked.device,
    )
    checkpoint, stack, verdict = examine(request, samples=asked.samples, batch=asked.batch, equal=0.0)
    return {
        "resolution": checkpoint.resolution,
        "device": stack.device_name or stack.device,
        "versions": {name: stack.versions[name] for name in ("torch", "transformers", "bitsandbytes")},
        "code": stack.versions["pgbench code"],
        "weight_bytes": stack.weight_bytes,
        "attention": dict(stack.attention),
        "seconds": verdict.seconds,
        "broken": verdict.broken.probe if verdict.broken else None,
        "findings": [
            {"probe": one.probe, "passed": one.passed, "said": one.said, "figures": dict(one.figures)}
            for one in verdict.findings
        ],
    }


def build(name: str, top: Path, divide: int = 1, layers: int | None = None) -> Path:
    """A folder with random weights in bfloat16 and the processor of the shipped demo at this resolution."""
    return folder(replace(widths(name), divide=divide, layers=layers), top)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""The long proofs (`make prove`): kills, full size, batches, start-up, levels, doctor, speed, sweeps, gate.

Writes results/bench/prove.json. Exits 1 when a proof fails. Some of them, to a file of their own:

    python benchmarks/prove.py --only memory "do not fit" --out results/bench/prove_speed.json
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

from provenance import ROOT, provenance

from pgbench.durable import write_json

Figures: TypeAlias = dict[str, object]
Proof: TypeAlias = Callable[[Path], Figures]

WRITTEN = "results/bench/prove.json"


def proofs(kills: int, slow_kills: int, sweep_kills: int) -> Iterator[tuple[str, Proof]]:
    """The name of each proof, and the function that carries it out in an empty folder."""
    sys.path.insert(0, str(ROOT / "tests"))  # the proofs share kills.py with the tests
    import proofs as carried
    from doctor_proofs import whole
    from gate_simulation import simulated
    from million import million
    from reporting import compare_two, report_of_many
    from speed_proofs import flat_memory, out_of_memory, ratios

    yield "start-up", carried.start_up
    yield "VQAv2 from files, all questions, killed once", carried.whole_vqav2
    yield "a million samples, oracle", million
    yield "the gate, simulated", simulated
    yield "a report over 1,000 records", report_of_many
    yield "two runs of 5,000 samples compared", compare_two
    yield "killed, oracle on a slow task", partial(carried.killed_oracle, kills=slow_kills)
    for model in carried.SIGNS:
        yield f"killed, {model} in float32", partial(carried.killed_checkpoint, model=model, kills=kills)
        yield f"batch 1 and 32, {model} in float32", partial(carried.batches_agree, model=model)
        yield f"answers from the image, {model}", partial(carried.sees, model=model)
        for quant in ("none", "8bit", "4bit"):
            yield f"quantization {quant}, {model}", partial(carried.cell, model=model, quant=quant)
        yield f"the doctor on whole stacks, {model}", partial(whole, model=model)
        yield f"batches that do not fit, {model} in float32", partial(out_of_memory, model=model)
        yield f"memory of 500 and 20,000 samples, {model}", partial(flat_memory, model=model)
        for checkpoint in (model, f"{model}-448"):
            yield f"the loop of the model card, {checkpoint}", partial(ratios, checkpoint=checkpoint)
    yield from of_sweeps(sweep_kills)


def of_sweeps(kills: int) -> Iterator[tuple[str, Proof]]:
    import sweep_proofs as carried

    yield "12-cell sweep, killed", partial(carried.killed_sweep, kills=kills)
    yield "12-cell sweep, last lines torn", carried.torn_lines
    yield "12-cell sweep, disk full", carried.full_disks
    for engine in carried.ENGINES:
        yield f"12-cell sweep, {engine} workers killed", partial(carried.killed_worker, engine=engine)
    for level in carried.LEVELS:
        yield f"serial, local, ray and shards, {level}", partial(carried.engines_agree, level=level)


def carry_out(proof: Proof) -> Figures:
    """The figures of a proof; those of a run that broke say why."""
    before = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="pgbench-prove-") as work:
        try:
            found = proof(Path(work))
        except RuntimeError as error:
            found = {"error": str(error).replace(work, "WORK"), "passed": False}
    return {**found, "took_seconds": round(time.perf_counter() - before, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="of each checkpoint")
    parser.add_argument("--slow-kills", type=int, default=50, help="of the oracle")
    parser.add_argument("--sweep-kills", type=int, default=50, help="of the sweep of checkpoints")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="proofs whose name holds one of these")
    parser.add_argument("--out", default=WRITTEN, help=f"instead of {WRITTEN}; required by --only")
    asked = parser.parse_args()
    if asked.only and asked.out == WRITTEN:
        parser.error(f"--only goes with --out: {WRITTEN} holds all proofs")
    document: dict[str, object] = provenance("benchmarks/prove.py", asked.out)
    results: dict[str, Figures] = {}
    for name, proof in proofs(asked.kills, asked.slow_kills, asked.sweep_kills):
        if asked.only and not any(part in name for part in asked.only):
            continue
        results[name] = carry_out(proof)
        print(
            f"{'passed' if results[name]['passed'] else 'FAILED'}  {name}: {_told(results[name])}", flush=True
        )
    if not results:
        parser.error(f"no proof's name holds {' or '.join(asked.only)}")
    passed = all(found["passed"] for found in results.values())
    write_json(ROOT / asked.out, {**document, "passed": passed, "proofs": results})
    print(f"{'all passed' if passed else 'SOME FAILED'}; written to {asked.out}")
    return 0 if passed else 1


def _told(figures: Mapping[str, object]) -> str:
    return ", ".join(
        f"{name} {round(value, 4) if isinstance(value, float) else value}"
        for name, value in figures.items()
        if name != "passed"
    )


if __name__ == "__main__":
    sys.exit(main())

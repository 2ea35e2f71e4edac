"""The proofs of prove.py. Each returns its figures, "passed" among them, and raises RuntimeError where a
run does not end well."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TypeAlias

from kills import Command, differing, kill_repeatedly, slow_task  # tests/kills.py
from many import watched  # tests/many.py

from pgbench import store
from pgbench.profiles import SIGNS as SIGNS
from pgbench.records import RunRecord, essence
from pgbench.samples import files_of, read_lines
from pgbench.types import DataRequest

Figures: TypeAlias = dict[str, object]

SAMPLES = 200  # of the demo's val split
DEMO = ("--task", "textvqa", "--source", "demo")
HEAVY = ("torch", "transformers", "datasets", "pandas", "numpy", "PIL")
START_UP_SECONDS = 0.25  # on an idle core
STARTS = 7
KILLS_A_RUN = 10
LEAST_ACCURACY = 0.60
MOST_CHANCE = 0.25
ABOVE_CHANCE = 0.05  # that a model which answers from the image may keep when it is given another
MOST_BYTES_4BIT = 0.45  # of the same layers in bfloat16, quantization state included
SEED = 20
VQAV2_QUESTIONS = 214_354  # of the val split
MOST_BYTES_VQAV2 = 600 * 10**6
KILLED_BETWEEN = (0.2, 0.9)  # of the bytes of the whole run's answers


def killed_checkpoint(work: Path, model: str, kills: int) -> Figures:
    """SIGKILL at random moments of a run of a checkpoint in float32."""
    return _killed(model, (*DEMO, "--model", model, "--dtype", "float32", "--batch-size", "2"), work, kills)


def killed_oracle(work: Path, kills: int) -> Figures:
    """SIGKILL at random moments of the oracle on a task that takes its time."""
    return _killed("oracle", (*slow_task(work, 0.004), "--batch-size", "1"), work, kills)


def _killed(name: str, flags: tuple[str, ...], work: Path, kills: int) -> Figures:
    """In rounds of at most ten kills, each a run of its own; kills that hit nothing are made up for."""
    generator = random.Random(f"{SEED} {name}")
    whole = Command(flags, work / "whole")
    session = whole.finish()
    kept: list[list[int]] = []
    different: set[str] = set()
    landed = twice = 0
    while landed < kills and len(kept) < kills:
        command = Command(flags, work / f"round-{len(kept)}")
        found = kill_repeatedly(
            command, min(KILLS_A_RUN, kills - landed), SAMPLES, generator, session=session
        )
        landed += found.kills
        kept.append(found.kept)
        different.update(differing(whole.result(), command.result()))
        twice += len(command.ids()) - len(set(command.ids()))
    return {
        "kills": landed,
        "session_seconds": round(session, 2),
        "runs": len(kept),
        "answers_kept_after_each": kept,
        "samples": len(whole.ids()),
        "samples_twice": twice,
        "parts_that_differ": sorted(different),
        "passed": landed >= kills
        and not different
        and not twice
        and len(whole.ids()) == SAMPLES
        and all(numbers == sorted(numbers) for numbers in kept),
    }


def batches_agree(work: Path, model: str) -> Figures:
    """Batch 1 against batch 32 in float32."""
    answers = [_answers(work / str(size), model, size) for size in (1, 32)]
    one, many = answers
    equal = sum(text == many.get(name) for name, text in one.items())
    lengths = {length for _, length in one.values()}
    return {
        "samples": len(one),
        "equal_share": equal / len(one),
        "prompt_lengths": len(lengths),
        "different_answers": len({text for text, _ in one.values()}),
        "passed": equal == len(one) == len(many) == SAMPLES and len(lengths) > 1,
    }


def _answers(out: Path, model: str, size: int) -> dict[str, tuple[str, int]]:
    """Sample id -> answer and prompt length in tokens."""
    command = Command((*DEMO, "--model", model, "--dtype", "float32", "--batch-size", str(size)), out)
    command.finish()
    folder = command.folder()
    lines = read_lines(folder) if folder else ()
    return {line.id: (line.output, line.n_prompt) for line in lines}


SHUFFLED = """
import dataclasses, random
from pgbench_tasks.textvqa import TASK as TEXTVQA

def shuffled(request):
    found = TEXTVQA.sources["demo"](request)
    others = list(found.samples)
    random.Random("shuffled").shuffle(others)
    pairs = zip(found.samples, others, strict=True)
    mixed = tuple(dataclasses.replace(own, images=other.images) for own, other in pairs)
    return dataclasses.replace(found, samples=mixed)

TASK = dataclasses.replace(TEXTVQA, name="shuffled", sources={"demo": shuffled})
"""


def sees(work: Path, model: str) -> Figures:
    """Held-out accuracy in float32, and what is left of it with the images shuffled among the questions."""
    from pgbench.demo import signs

    (work / "shuffled.py").write_text(SHUFFLED)
    chance = signs.chance(signs.textvqa(DataRequest("val")).samples)
    found = {}
    for task in ("textvqa", str(work / "shuffled.py")):
        flags = ("--task", task, "--source", "demo", "--model", model, "--dtype", "float32")
        command = Command(flags, work / Path(task).stem)
        command.finish()
        found[task] = _record(command).scores["accuracy"].value or 0.0
    own, shuffled = found.values()
    return {
        "accuracy": own,
        "accuracy_images_shuffled": shuffled,
        "chance": chance,
        "n": SAMPLES,
        "passed": own >= LEAST_ACCURACY and chance <= MOST_CHANCE and shuffled <= chance + ABOVE_CHANCE,
    }


def start_up(work: Path) -> Figures:
    """`python -m pgbench --help`, several times; CPU seconds are what an idle core would take."""
    words = [sys.executable, "-X", "importtime", "-m", "pgbench", "--help"]
    imported = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    loaded = {line.rsplit("|", 1)[-1].strip() for line in imported.splitlines()}
    heavy = sorted(loaded.intersection(HEAVY))
    runs = [_timed() for _ in range(STARTS)]
    cpu = statistics.median(seconds for _, seconds in runs)
    return {
        "runs": STARTS,
        "wall_seconds_median": statistics.median(seconds for seconds, _ in runs),
        "cpu_seconds_median": cpu,
        "modules": len(loaded),
        "heavy_modules": heavy,
        "passed": "pgbench.cli" in loaded and not heavy and cpu < START_UP_SECONDS,
    }


def _timed() -> tuple[float, float]:
    """Wall and CPU seconds of one start."""
    before, spent = time.perf_counter(), os.times()
    subprocess.run([sys.executable, "-m", "pgbench", "--help"], stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    cpu = after.children_user - spent.children_user + after.children_system - spent.children_system
    return time.perf_counter() - before, cpu


def cell(work: Path, model: str, quant: str) -> Figures:
    """One checkpoint at one level of quantization: how well it answers, and what its layers really take."""
    command = Command((*DEMO, "--model", model, "--quant", quant), work)
    seconds = command.finish()
    record = _record(command)
    score, proof = record.scores[record.primary], record.stack.quantization
    replaced = sum(group.count for group in proof.replaced) if proof else 0
    ratio = proof.replaced_bytes / proof.replaced_bytes_bf16 if proof and replaced else None
    good = score.value is not None and score.value >= LEAST_ACCURACY
    return {
        "accuracy": score.value,
        "interval": [score.low, score.high],
        "n": score.n,
        "layers_replaced": replaced,
        "bytes_of_bf16": ratio,
        "weight_bytes": record.cost.weight_bytes,
        "seconds": round(seconds, 2),
        "cpu_capability": record.stack.numerics.get("cpu_capability", "none"),
        "passed": good and _small_enough(quant, ratio),
    }


def _small_enough(quant: str, ratio: float | None) -> bool:
    if quant == "none":
        return ratio is None
    return ratio is not None and ratio < (MOST_BYTES_4BIT if quant == "4bit" else 1.0)


def whole_vqav2(work: Path) -> Figures:
    """All questions of VQAv2's val split, drawn, from files: the oracle's run, and one killed on the way."""
    from vqav2_layout import generate  # tests/vqav2_layout.py

    folder = generate(work / "data", VQAV2_QUESTIONS)
    flags = ("--task", "vqav2", "--source", "files", "--data", str(folder), "--backend", "oracle")
    whole, killed = (Command((*flags, "--batch-size", "64"), work / name) for name in ("whole", "killed"))
    undisturbed = watched(whole)
    share = random.Random(SEED).uniform(*KILLED_BETWEEN)
    enough = share * _bytes(whole)
    first = watched(killed, lambda: _bytes(killed) > enough)
    kept = killed.kept()
    second = watched(killed)
    record, peak = _record(killed), max(one.peak_bytes for one in (undisturbed, first, second))
    equal = essence(_record(whole), ()) == essence(record, ())
    differing_answers = _differing_lines(whole, killed)
    return {
        "questions": record.scores["accuracy"].n,
        "accuracy": record.scores["accuracy"].value,
        "seconds": round(undisturbed.seconds, 1),
        "killed_at_share": round(share, 3),
        "answers_kept": kept,
        "seconds_after": round(second.seconds, 1),
        "peak_bytes": peak,
        "peak_bytes_of_the_record": record.cost.peak_memory.bytes,
        "differing_answers": differing_answers,
        "record_equal": equal,
        "passed": peak < MOST_BYTES_VQAV2
        and 0 < kept < VQAV2_QUESTIONS == record.scores["accuracy"].n
        and equal
        and not differing_answers,
    }


def _bytes(command: Command) -> int:
    """Of answers on disk."""
    folder = command.folder()
    return sum(path.stat().st_size for path in files_of(folder)) if folder else 0


def _differing_lines(left: Command, right: Command) -> int:
    """Answers that are not the same, both runs read line by line; raises ValueError for another number."""
    lines = [read_lines(folder) for one in (left, right) if (folder := one.folder())]
    record = _record(left)
    return sum(essence(record, [one]) != essence(record, [other]) for one, other in zip(*lines, strict=True))


def _record(command: Command) -> RunRecord:
    folder = command.folder()
    record = store.read_record(folder) if folder else None
    if record is None:
        raise RuntimeError("the run left no record")
    return record

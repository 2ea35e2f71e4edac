"""The proof of prove.py on the doctor: whole stacks pass every probe, by the command, on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

Figures: TypeAlias = dict[str, object]

LEVELS: Mapping[str, tuple[str, ...]] = {
    "float32": ("--dtype", "float32"),
    "bfloat16": ("--dtype", "bfloat16"),
    "8bit": ("--quant", "8bit"),
    "4bit": ("--quant", "4bit"),
}
PROTOCOLS = ("hf", "paper")


def whole(work: Path, model: str) -> Figures:
    """Every level under both protocols: seconds of the probes, and the share of answers that a batch changes.

    Raises RuntimeError where the command does not end well.
    """
    seconds: dict[str, float] = {}
    changed: dict[str, float] = {}
    broken: dict[str, str] = {}
    for level, flags in LEVELS.items():
        for protocol in PROTOCOLS:
            name = f"{level} {protocol}"
            found = examined(work, model, (*flags, "--protocol", protocol))
            seconds[name] = round(found["seconds"], 1)
            batch = next(one for one in found["findings"] if one["probe"] == "batch")
            changed[name] = 1 - batch["figures"]["equal"]
            if unsaid := [one["probe"] for one in found["findings"] if one["passed"] is not True]:
                broken[name] = unsaid[0]
    return {"seconds": seconds, "changed": changed, "broken": broken, "passed": not broken}


def examined(work: Path, model: str, flags: tuple[str, ...]) -> dict[str, Any]:
    """The document of `pgbench doctor`, which exits 0, or 1 where a probe is broken."""
    command = [sys.executable, "-m", "pgbench", "doctor", "--json", "--device", "cpu", "--model", model]
    done = subprocess.run([*command, *flags, "--out", str(work)], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pgbench doctor exited with {done.returncode}: {done.stderr.strip()[-300:]}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document

"""`pgbench doctor`: is this stack the one that PaliGemma was trained for?

Each probe asks the loaded backend as a run does and holds what comes against what must come; the page
docs/doctor.md says what each guards against. The order is from inputs to answers, so that the first broken
one is nearest to the cause.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pgbench.backends.paligemma import (
    probes_answers,
    probes_attention,
    probes_caps,
    probes_inputs,
    probes_paths,
    probes_weights,
)
from pgbench.backends.paligemma.checkpoint import Files
from pgbench.backends.paligemma.generate import PaliGemma
from pgbench.backends.paligemma.probes_patient import EQUAL, Patient
from pgbench.errors import PgbenchError, RunStopped, told
from pgbench.records import Finding, Stack, Verdict
from pgbench.types import Checkpoint, ModelRequest


@dataclass(frozen=True, slots=True)
class Probe:
    """One question to a stack. `run` raises only where it cannot be asked."""

    name: str
    guards: str  # what goes wrong unseen without it
    run: Callable[[Patient], Finding]


PROBES = (
    Probe("layout", "a missing newline, bos or image token", probes_inputs.layout),
    Probe("pixels", "another filter or backend of the image processor", probes_inputs.pixels),
    Probe("finite", "overflow, as in float16", probes_answers.finite),
    Probe("image", "a picture that does not arrive, or another row's", probes_inputs.image),
    Probe("attention", "a prefix that is causal in part or in whole", probes_attention.attention),
    Probe("padding", "right padding, attention to padding", probes_attention.padding),
    Probe("features", "features of another picture, or of another batch", probes_paths.features),
    Probe("soft-caps", "a kernel that ignores them, a protocol without them", probes_caps.caps),
    Probe("layers", "a wrong mask or kernel in some layers", probes_attention.each_layer),
    Probe("cache", "a cache that loses or mixes keys", probes_answers.cache),
    Probe("kernels", "an attention or a cache that is not what the stack says", probes_paths.kernels),
    Probe("leaving", "rows that are mixed when others have ended", probes_paths.leaving),
    Probe("likelihood", "tokens that see the answer they are asked for", probes_paths.likelihood),
    Probe("window", "a window where the protocol has none, or none where it has", probes_caps.window),
    Probe("quantized", "a level that was not applied, or ruins the model", probes_weights.quantized),
    Probe("batch", "answers that depend on their neighbours", probes_answers.batch),
    Probe("halves", "a batch that is broken by running out of memory", probes_paths.halves),
    Probe("reload", "weights that change when they are saved", probes_answers.reload),
)


def examine(
    request: ModelRequest,
    *,
    samples: int = 100,
    batch: int = 8,
    second: bool = True,
    equal: float = EQUAL,
    known: Callable[[Checkpoint, Stack], Verdict | None] = lambda checkpoint, stack: None,
    watch: Callable[[str], object] = lambda name: None,
) -> tuple[Checkpoint, Stack, Verdict]:
    """Load the checkpoint as a run would and put every probe to it: checkpoint, stack and verdict.

    `equal`: share of answers that has to be the same in a batch and alone; those of random weights are near
    ties, and nothing can be asked of them. `known`: a verdict that is there already, which is taken as it
    is. `watch` gets the name of each probe before it runs. Raises PgbenchError for what cannot be loaded,
    RunStopped for a probe that could not be carried out.
    """
    from pgbench.backends.paligemma import engine

    opened = engine(request)
    backend: Any = opened.load()
    patient = Patient(
        opened.checkpoint,
        backend,
        folder_of(backend),
        again_of(request, backend),
        samples,
        batch,
        second,
        equal,
    )
    try:
        stack = backend.describe()
        verdict = known(opened.checkpoint, stack) or _verdict(patient, watch)
        return opened.checkpoint, stack, verdict
    finally:
        patient.close()
        backend.close()


def _verdict(patient: Patient, watch: Callable[[str], object]) -> Verdict:
    before = time.perf_counter()
    findings: list[Finding] = []
    for probe in PROBES:
        watch(probe.name)
        try:
            findings.append(_finite(probe.run(patient)))
        except Exception as error:  # a stack may be broken in any way: what its first fault is has been said
            if (broken := Verdict(tuple(findings), 0.0).broken) is None:
                raise RunStopped(f"probe {probe.name} could not be carried out: {_reason(error)}") from error
            said = f"could not be carried out where {broken.probe} is broken: {_reason(error)}"
            findings.append(Finding(probe.name, None, said))
    return Verdict(tuple(findings), time.perf_counter() - before)


def _finite(finding: Finding) -> Finding:
    """Without figures that JSON has no numbers for: of a stack that computes nan there are some."""
    return replace(finding, figures={name: v for name, v in finding.figures.items() if math.isfinite(v)})


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, PgbenchError) else told(error)


def folder_of(backend: PaliGemma) -> Any:
    """Where the files of a loaded checkpoint lie."""
    opened = backend._opened
    if not isinstance(opened, Files):
        raise TypeError("the doctor needs a backend that was loaded from a folder")
    return opened.folder


def again_of(request: ModelRequest, backend: PaliGemma) -> Callable[..., PaliGemma]:
    """Loads the checkpoint again with the same kernels, whichever would be faster then."""
    stack, cache = backend.describe(), backend._loaded.cache
    attention: Any = stack.attention["text"]
    same = replace(request, attention=attention, cache=cache, threads=stack.threads)

    def load(**changes: Any) -> PaliGemma:
        from pgbench.backends.paligemma import engine

        found: Any = engine(replace(same, **changes)).load()
        backend: PaliGemma = found
        return backend

    return load

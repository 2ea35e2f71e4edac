"""Probe of quantization: the layers that should be are, and the logits say so."""

from __future__ import annotations

from pgbench.backends.paligemma.probes_answers import first_logits
from pgbench.backends.paligemma.probes_patient import Patient, apart, question
from pgbench.backends.paligemma.proof import prove
from pgbench.errors import CheckpointError
from pgbench.records import Finding, Quantization

_FEW = 8  # questions
# Distance of logits from those of the unquantized weights, over the spread of the latter.
_MOST = {"8bit": 0.3, "torchao-int8": 0.3, "quanto-int8": 0.3}
_MOST_AT_ALL = 1.0  # further than the logits are spread: another model


def quantized(patient: Patient) -> Finding:
    """Every layer is of the class that the level names, and the logits moved: not at all, or too far, is
    another model than the one asked for."""
    level = patient.checkpoint.quant
    try:
        proof = prove(patient.model, level, (), patient.checkpoint.quant_scope)
    except CheckpointError as error:
        return Finding("quantized", False, str(error), {})
    figures = _counts(proof)
    if level == "none":
        return Finding("quantized", True, f"none of {figures['unquantized']:.0f} layers, as asked", figures)
    counted = f"{figures['quantized']:.0f} layers are {level}, {figures['unquantized']:.0f} are not"
    if not patient.second:
        return Finding("quantized", None, f"{counted}; logits not compared, by --one-load", figures)
    asked = [question(patient, seed) for seed in range(80, 80 + _FEW)]
    plain, found = (first_logits(backend, asked) for backend in (patient.plain(), patient.backend))
    moved, most = apart(plain, found), _MOST.get(level, _MOST_AT_ALL)
    figures |= {"moved": moved, "most": most, "n": float(_FEW), "unquantized_bytes": _bytes(patient)}
    said = f"{counted}; logits {moved:.2g} of their spread from those of {patient.checkpoint.dtype}"
    passed = 0 < moved <= most
    return Finding(
        "quantized", passed, said if passed else f"{said}, expected above 0 and up to {most:g}", figures
    )


def _counts(proof: Quantization) -> dict[str, float]:
    return {
        "quantized": float(sum(group.count for group in proof.replaced)),
        "unquantized": float(sum(group.count for group in proof.skipped)),
    }


def _bytes(patient: Patient) -> float:
    """What the second copy of the weights took."""
    return float(patient.plain().describe().weight_bytes)

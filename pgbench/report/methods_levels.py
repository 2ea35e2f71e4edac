"""How weights were stored, and what proves it: sentences for the methods. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pgbench.records import ModuleGroup, Quantization, RunRecord
from pgbench.report import bibtex
from pgbench.report.methods_subjects import differing, joined
from pgbench.types import Quant

_LEVELS: tuple[Quant, ...] = ("none", "8bit", "4bit", "fp4")


def quantization(records: Sequence[RunRecord]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A sentence for each level that was run, with the BibTeX keys of its method."""
    for quant in _LEVELS:
        found = [
            record
            for record in records
            if record.spec.checkpoint.quant == quant
            and record.spec.checkpoint.backend not in ("oracle", "replay")
        ]
        if not found:
            continue
        levels = tuple(bibtex.OF_LEVEL.values())
        cited = [text for record in found for text in bibtex.of_model(record) if text in levels]
        yield joined(differing(found, _level)), bibtex.keys(cited)


def _level(record: RunRecord) -> str:
    point, proof = record.spec.checkpoint, record.stack.quantization
    if point.quant == "none":
        return f"Not quantized: weights in {point.dtype}"
    scope = "all linear layers" if point.quant_scope == "all" else "the linear layers of the language model"
    asked = f"Level {point.quant}: {scope} asked for, the rest in {point.dtype}"
    if proof is None or not proof.replaced:
        return f"{asked}; the record does not hold what was quantized"
    return f"{asked}; {_library(record)}{_proof(proof)}"


def _library(record: RunRecord) -> str:
    version = record.stack.versions.get("bitsandbytes")
    return f"by bitsandbytes {version}, " if version and bibtex.bitsandbytes(record) else ""


def _proof(proof: Quantization) -> str:
    kinds = ", ".join(dict.fromkeys(group.cls for group in proof.replaced))
    parts = [
        f"{_count(proof.replaced):,} linear layers found to be {kinds}",
        *([f"type {proof.quant_type}"] if proof.quant_type else []),
        *(["statistics quantized once more"] if proof.double_quant else []),
        *([f"computed in {proof.compute_dtype}"] if proof.compute_dtype else []),
        f"{_count(proof.skipped):,} left as they were{_names(proof.skipped)}",
    ]
    if proof.replaced_bytes and proof.replaced_bytes_bf16:
        share = proof.replaced_bytes / proof.replaced_bytes_bf16
        parts.append(f"the quantized layers take {100 * share:.1f} % of their bytes in bfloat16")
    return ", ".join([*parts, *proof.workarounds])


def _count(groups: Sequence[ModuleGroup]) -> int:
    return sum(group.count for group in groups)


def _names(groups: Sequence[ModuleGroup]) -> str:
    return f" ({', '.join(group.pattern for group in groups)})" if groups else ""

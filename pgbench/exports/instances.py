"""The answers of a run as instance-level lines of Every Eval Ever: one for each sample and metric."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from pgbench.exports import facts
from pgbench.exports.writing import as_json
from pgbench.records import RunRecord, SampleLine
from pgbench.samples import read_lines
from pgbench.types import Sums

Measures: TypeAlias = Mapping[str, Callable[[Sums], float | None]]

_FULL = 1 - 1e-9  # ten annotators of whom all agree add up to a little less than one


def there(folder: Path, record: RunRecord) -> bool:
    """Whether any answer has a score of its own; of MMVP's pairs none has. Raises StoreError."""
    measures = facts.measures(record)
    return any(True for line in read_lines(folder) for _ in _scores(line, measures))


class Lines:
    """The samples file of one run, counted and hashed while it is written."""

    def __init__(self, folder: Path, record: RunRecord, evaluation: str, model: str) -> None:
        self._folder, self._record, self._evaluation, self._model = folder, record, evaluation, model
        self._hash = hashlib.sha256()
        self._rows = 0

    def pieces(self) -> Iterator[bytes]:
        """The lines, in the order of the run. Raises StoreError for a damaged samples file."""
        self._hash, self._rows = hashlib.sha256(), 0
        measures = facts.measures(self._record)
        for line in read_lines(self._folder):
            for metric, score in _scores(line, measures):
                row = as_json(self._row(line, metric, score))
                self._hash.update(row)
                self._rows += 1
                yield row

    def about(self, place: str) -> dict[str, object]:
        """What the run's document says of the file."""
        return {
            "format": "jsonl",
            "file_path": place,
            "hash_algorithm": "sha256",
            "checksum": self._hash.hexdigest(),
            "total_rows": self._rows,
        }

    def _row(self, line: SampleLine, metric: str, score: float) -> dict[str, object]:
        references = [line.target] if isinstance(line.target, str) else list(line.target or ())
        asked = {"raw": line.prompt, "reference": references}
        about = {f"group_{name}": value for name, value in line.groups.items()}
        about |= {"metric": metric, "cluster": line.cluster, "image_sha256": line.image}
        return {
            "schema_version": "0.3.0",
            "evaluation_id": self._evaluation,
            "model_id": self._model,
            "evaluation_name": self._record.spec.task,
            "evaluation_result_id": metric,
            "sample_id": line.id,
            "sample_hash": hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest(),
            "interaction_type": "single_turn",
            "input": asked,
            "output": {"raw": [line.output]},
            "answer_attribution": [_attribution(line)],
            "evaluation": {"score": score, "is_correct": score >= _FULL},
            "token_usage": {
                "input_tokens": line.n_prompt,
                "output_tokens": line.tokens,
                "total_tokens": line.n_prompt + line.tokens,
            },
            "performance": {
                "latency_ms": 1000 * line.seconds,
                "additional_details": {"latency_of": "its batch", "batch_size": str(line.batch_size)},
            },
            "error": line.error,
            "metadata": {name: value for name, value in about.items() if value},
        }


def _attribution(line: SampleLine) -> dict[str, object]:
    """The metric itself reads the raw answer: nothing is taken out of it before."""
    return {
        "turn_idx": 0,
        "source": "output.raw",
        "extracted_value": line.output,
        "extraction_method": "none",
        "is_terminal": True,
    }


def _scores(line: SampleLine, measures: Measures) -> Iterator[tuple[str, float]]:
    for metric, measure in measures.items():
        if metric in line.stats and (score := measure(line.stats[metric])) is not None:
            yield metric, score

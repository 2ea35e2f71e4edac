"""Answers made elsewhere, by sample id, so that they are scored and stored like pgbench's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pgbench.backends import Engine, TextBackend, refuse_model
from pgbench.errors import DataError, SampleError, UsageError
from pgbench.keys import bytes_key
from pgbench.types import Checkpoint, ModelRequest, Prepared, Profile, Reply, Request

_IDS = ("id", "sample_id", "question_id", "questionId")
_ANSWERS = ("answer", "prediction", "output", "text", "response")


class Replay(TextBackend):
    """Looks the answer up. A sample without one is a failed sample."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        super().__init__("replay")
        self._answers = answers

    def prepare(self, request: Request) -> Prepared:
        if request.sample_id not in self._answers:
            raise SampleError(f"no prediction for sample {request.sample_id}")
        return super().prepare(request)

    def generate(self, batch: Sequence[Prepared]) -> Sequence[Reply]:
        return [Reply(text=self._answers[prepared.request.sample_id]) for prepared in batch]


def engine(request: ModelRequest) -> Engine:
    """Raises UsageError without --predictions or with a checkpoint, DataError for a file that holds none."""
    refuse_model(request, "replay")
    if request.predictions is None:
        raise UsageError("the replay backend needs --predictions FILE (JSON or JSON Lines)")
    path = Path(request.predictions)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read predictions {path}: {error.strerror}") from error
    answers = read_predictions(data, path.name)
    profile = Profile(kind="ft", family="paligemma2", style=request.style)
    checkpoint = Checkpoint(
        f"replay-{path.stem}", bytes_key([data]), profile, resolution=0, dtype="float32", backend="replay"
    )
    return Engine(checkpoint, lambda: Replay(answers))


def read_predictions(data: bytes, name: str) -> dict[str, str]:
    """Sample id -> answer, from a JSON array of records, a JSON object {id: answer} or JSON Lines.

    An id is the first of id, sample_id, question_id, questionId; an answer the first of answer,
    prediction, output, text, response: the names used by the benchmarks' own result files.
    Raises DataError, naming the record.
    """
    answers: dict[str, str] = {}
    for number, (sample, answer) in enumerate(_pairs(data, name), 1):
        if sample in answers:
            raise DataError(f"{name}: record {number} repeats the id {sample}")
        answers[sample] = answer
    if not answers:
        raise DataError(f"{name} holds no predictions")
    return answers


def _pairs(data: bytes, name: str) -> Iterator[tuple[str, str]]:
    document = _document(data, name)
    if isinstance(document, dict):
        for sample, answer in document.items():
            yield _pair({"id": sample, "answer": answer}, name, sample)
    else:
        for number, record in enumerate(document, 1):
            yield _pair(record, name, str(number))


def _document(data: bytes, name: str) -> dict[str, object] | list[object]:
    try:
        document = json.loads(data, object_pairs_hook=lambda pairs: _once(pairs, name))
    except (ValueError, RecursionError):
        document = [
            _json_line(raw, name, number) for number, raw in enumerate(data.splitlines(), 1) if raw.strip()
        ]
    if isinstance(document, dict) and not any(key in document for key in _IDS):
        return document
    return document if isinstance(document, list) else [document]


def _once(pairs: list[tuple[str, object]], name: str) -> dict[str, object]:
    """A JSON object whose keys differ; json would keep the last of two without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise DataError(f"{name} repeats the key {next(key for key in keys if keys.count(key) > 1)}")
    return found


def _json_line(raw: bytes, name: str, number: int) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: line {number} is not JSON: {error}") from error


def _pair(record: object, name: str, where: str) -> tuple[str, str]:
    if not isinstance(record, dict):
        raise DataError(f"{name}: record {where} is a {type(record).__name__}, expected an object")
    sample = next((record[key] for key in _IDS if key in record), None)
    answer = next((record[key] for key in _ANSWERS if key in record), None)
    if not isinstance(sample, str | int) or isinstance(sample, bool) or not isinstance(answer, str):
        raise DataError(
            f"{name}: record {where} needs one of {', '.join(_IDS)} and one of {', '.join(_ANSWERS)} (text); "
            f"it has {', '.join(map(str, record)) or 'nothing'}"
        )
    return str(sample), answer

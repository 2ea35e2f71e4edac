"""Answers made elsewhere, by sample id, so that they are scored and stored like pgbench's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pgbench.backends import Engine, TextBackend, refuse_model
from pgbench.errors import DataError, SampleError, UsageError
from pgbench.keys import bytes_key
from pgbench.submissions.read import Answers, read_predictions
from pgbench.types import Checkpoint, ModelRequest, Prepared, Profile, Reply, Request, Style


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
    """The answers of one file, read without knowing the task.

    Raises UsageError without --predictions or with a checkpoint, DataError for a file that holds none.
    """
    path = Path(required(request))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read predictions {path}: {error.strerror}") from error
    answers = Answers(read_predictions(data, path.name), path.stem, bytes_key([data]))
    return engine_of(answers, request.style)


def required(request: ModelRequest) -> str:
    """The file that --predictions named. Raises UsageError without one, or with a checkpoint."""
    refuse_model(request, "replay")
    if request.predictions is None:
        raise UsageError("the replay backend needs --predictions FILE (JSON or JSON Lines)")
    return request.predictions


def engine_of(answers: Answers, style: Style = "paligemma", name: str | None = None) -> Engine:
    """A backend that gives these answers; its checkpoint is called after `name` or the file."""
    profile = Profile(kind="ft", family="paligemma2", style=style)
    checkpoint = Checkpoint(
        f"replay-{name or answers.stem}",
        answers.revision,
        profile,
        resolution=0,
        dtype="float32",
        backend="replay",
    )
    return Engine(checkpoint, lambda: Replay(answers.by_id))

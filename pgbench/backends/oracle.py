"""Answers every request with what a perfect model would print: it shows the ceiling, and tries a task."""

from __future__ import annotations

from collections.abc import Sequence

from pgbench.backends import Engine, TextBackend, refuse_model
from pgbench.errors import UsageError
from pgbench.types import Checkpoint, Continuation, ModelRequest, Prepared, Profile, Reply

_NEVER = -100.0  # nats


class Oracle(TextBackend):
    """Prints `Task.gold`. It opens no image."""

    def generate(self, batch: Sequence[Prepared]) -> Sequence[Reply]:
        return [Reply(text=prepared.request.gold or "") for prepared in batch]

    def score(self, batch: Sequence[Prepared], continuations: Sequence[Sequence[str]]) -> Sequence[Reply]:
        """The right text is certain, the others next to impossible; each is one token and an end."""
        return [_certain(one, texts) for one, texts in zip(batch, continuations, strict=True)]


def _certain(prepared: Prepared, texts: Sequence[str]) -> Reply:
    gold = prepared.request.gold or ""
    found = tuple(Continuation(text, (0.0 if text == gold else _NEVER, 0.0)) for text in texts)
    return Reply(text=gold if len(texts) > 1 else "", likelihoods=found)


def engine(request: ModelRequest) -> Engine:
    """It is asked as a PaliGemma 2 mix checkpoint is. Raises UsageError for a named model or answers."""
    refuse_model(request, "oracle")
    if request.predictions is not None:
        raise UsageError("--predictions goes with --backend replay")
    profile = Profile(kind="mix", family="paligemma2", style=request.style)
    checkpoint = Checkpoint("oracle", None, profile, resolution=0, dtype="float32", backend="oracle")
    return Engine(checkpoint, lambda: Oracle("oracle"))

"""A batch that does not fit into memory is asked in halves; what was learned holds for the next ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from pgbench.errors import CheckpointError, OutOfMemory, UsageError
from pgbench.types import Prepared, Reply

Ask: TypeAlias = Callable[[Sequence[Prepared]], Sequence[Reply]]


class Fitting:
    """Of one loaded backend, for one session."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._most: int | None = None  # tokens that are asked at once; None: whatever a batch has

    def ask(self, asked: Sequence[Prepared]) -> list[tuple[Reply, int]]:
        """Each reply, in their order, with how many were asked together.

        Raises CheckpointError for a single request that does not fit.
        """
        if not asked:
            return []
        if self._most is None or len(asked) == 1 or tokens(asked) <= self._most:
            replies = self._tried(asked)
            if replies is not None:
                return [(reply, len(asked)) for reply in replies]
        middle = (len(asked) + 1) // 2
        parts = asked[:middle], asked[middle:]
        if self._most is None or tokens(asked) <= self._most:  # it was tried, and was too large
            self._most = max(map(tokens, parts))
        return [one for part in parts for one in self.ask(part)]

    def _tried(self, asked: Sequence[Prepared]) -> Sequence[Reply] | None:
        """None where memory is not enough. The error is dropped before the halves are asked: it holds on to
        what it was raised over."""
        try:
            replies = self._ask(asked)
        except OutOfMemory as error:
            if len(asked) > 1:
                return None
            raise CheckpointError(_advice(asked[0])) from error
        if len(replies) != len(asked):
            raise UsageError(
                f"the backend gave {len(replies)} replies to {len(asked)} requests; it has to be mended"
            )
        return replies


def tokens(asked: Sequence[Prepared]) -> int:
    """Of a batch, padding and new tokens included."""
    longest = max(one.length for one in asked)
    return len(asked) * (longest + max(one.request.max_new_tokens for one in asked))


def _advice(one: Prepared) -> str:
    return (
        f"out of memory with a single sample ({one.request.sample_id}, {one.length:,} tokens); "
        "take a checkpoint of fewer pixels or another level (--quant 8bit or 4bit), free the device, or "
        "spread the checkpoint over several (--device auto-map)"
    )

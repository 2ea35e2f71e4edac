"""Tells a picture that cannot be read from a data folder that has gone.

The first is a failed sample. The second (a disk unmounted, a file server away) would be thousands of them, in
a record that looks finished: so where a picture cannot be read, one that could be is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pgbench.batch import Cell
from pgbench.errors import DataError
from pgbench.types import Prepared, Request, Sample

_FEW = 5  # pictures looked at while none has been read yet

Attempt = Prepared | tuple[Request, str]  # or why it cannot be asked


class Witness:
    """Remembers a picture that could be read in this session."""

    def __init__(self, cell: Cell, planned: Sequence[Sequence[int]]) -> None:
        self._cell, self._planned = cell, planned
        self._missing = frozenset(cell.dataset.missing)  # from the start
        self._seen: Sample | None = None

    def heard(
        self, asked: Sequence[Sample], prepared: Sequence[Attempt], prepare: Callable[[int], Attempt]
    ) -> Sequence[Attempt]:
        """A batch as it was prepared; what can be read at a second look is prepared again, by its number.

        Raises DataError where pictures cannot be read any more, whatever the sample.
        """
        if not any(isinstance(item, tuple) for item in prepared):
            self._seen = asked[-1] if _was_read(prepared[-1]) else self._seen
            return prepared
        read = [sample for sample, item in zip(asked, prepared, strict=True) if _was_read(item)]
        failed = [number for number, item in enumerate(prepared) if isinstance(item, tuple)]
        looked = {number: _unread(asked[number]) for number in failed if self._can_be_there(asked[number])}
        if any(looked.values()):
            self._require_another(read)
        self._seen = read[-1] if read else self._seen
        again = {number for number, reason in looked.items() if reason is None}
        return [prepare(number) if number in again else item for number, item in enumerate(prepared)]

    def _can_be_there(self, sample: Sample) -> bool:
        return bool(sample.images) and sample.id not in self._missing

    def _require_another(self, read: Sequence[Sample]) -> None:
        before = [sample for sample in (self._seen, *read[-1:]) if sample]
        witnesses = before or self._few()
        reasons = [_unread(sample) for sample in witnesses]
        if all(reasons) and (before or len(reasons) == _FEW):
            first = witnesses[0]
            name = next(image.name for image in first.images)
            when = "read before, cannot be read any more" if before else "like all, cannot be read"
            raise DataError(
                f"the data folder has gone: {name} of sample {first.id}, {when} ({reasons[0]}); bring it back"
            )

    def _few(self) -> list[Sample]:
        """Samples from all over the plan."""
        batches = len(self._planned)
        chosen = range(batches) if batches < _FEW else [batches * number // _FEW for number in range(_FEW)]
        positions = [position for batch in chosen for position in self._planned[batch]]
        spread = positions[:: max(1, len(positions) // _FEW)][:_FEW]
        found = [self._cell.dataset.samples[position] for position in spread]
        return [sample for sample in found if self._can_be_there(sample)]


def _was_read(item: Attempt) -> bool:
    return isinstance(item, Prepared) and bool(item.image_key)


def _unread(sample: Sample) -> str | None:
    """Why the pictures of a sample cannot be read; None where they can."""
    try:
        for image in sample.images:
            image.read()
    except OSError as error:
        return error.strerror or type(error).__name__
    except Exception:  # noqa: BLE001 - a plugin's reader; no sign of a folder that has gone
        return None
    return None

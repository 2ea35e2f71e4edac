"""A wish to stop that is granted between batches, when all that was answered is on disk."""

from __future__ import annotations


class Stop:
    """Asked for at any moment, from a signal handler say; looked at where stopping costs nothing."""

    def __init__(self) -> None:
        self.reason = ""  # why to stop; "": go on

    def ask(self, reason: str) -> None:
        self.reason = reason

    def at_boundary(self, done: int, total: int) -> None:
        """Raises KeyboardInterrupt where it was asked for and answers are still missing."""
        if self.reason and done < total:
            raise KeyboardInterrupt(self.reason)

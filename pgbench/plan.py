"""Which samples run, and which parts of a run are whose: a pure function of the spec and the samples.

Clusters (images, pairs) are put in one fixed shuffled order, so that a limited run takes a prefix of what a
longer one takes and never cuts a cluster; inside a cluster samples keep their published order. In which order
the chosen ones are asked, and in which batches, batching.py says.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pgbench.types import Sample, cluster_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` parts of a run, counted from 0."""

    index: int = 0
    count: int = 1

    def of(self, batches: int) -> range:
        """The numbers of its batches: a contiguous range, so that few images are in two shards.

        Whole batches, not whole clusters: batch composition can move an answer below float32, and merged
        shards are to be what one process would have answered.
        """
        return range(batches * self.index // self.count, batches * (self.index + 1) // self.count)


WHOLE = Shard()


@dataclass(frozen=True, slots=True)
class Selection:
    """The samples of a run, in order, and what a single look at them told: 20 bytes a sample are kept."""

    positions: array[int]
    ids: array[int]  # hash() of each id, which differs between processes
    unscored: int  # samples that were published without references
    clusters: array[int] = field(default_factory=lambda: array("q"))  # where in `positions` each one begins
    widths: array[int] = field(default_factory=lambda: array("i"))  # of each sample; none was measured: empty


def order(samples: Sequence[Sample], *, seed: int, limit: int | None) -> array[int]:
    """Positions of the samples to run, in order (see `select`)."""
    return select(samples, seed=seed, limit=limit).positions


def select(
    samples: Sequence[Sample],
    *,
    seed: int,
    limit: int | None,
    measure: Callable[[Sample], int] | None = None,
) -> Selection:
    """The samples to run, with what `measure` says of each.

    A limit takes whole clusters while they fit, and always the first one: the result holds at most
    `limit` samples unless that first cluster alone is larger. Runs with a smaller limit nest in runs
    with a larger one.
    """
    import numpy as np

    seen = _Survey(samples, seed, measure if limit is None else None)
    starts = np.frombuffer(seen.starts, dtype=np.int64)
    sizes = np.diff(starts, append=len(seen.ids))
    ranks = np.frombuffer(seen.ranks, dtype=">u8").reshape(-1, 4)
    sequence = _sorted(ranks)
    if limit is not None:
        sequence = sequence[: _fitting(ranks[sequence], sizes[sequence], limit)]
    starts, sizes, ranks = starts[sequence], sizes[sequence], ranks[sequence]
    ends = np.cumsum(sizes)
    positions = (np.repeat(starts - (ends - sizes), sizes) + np.arange(sizes.sum())).astype(np.int64)
    widths = array(
        "i", np.frombuffer(seen.widths, dtype=np.intc)[positions].tobytes() if seen.widths else b""
    )
    if measure is not None and limit is not None and isinstance(samples, Sequence):
        widths = array("i", [measure(samples[position]) for position in positions.tolist()])
    first = np.append([True] * bool(len(ranks)), (ranks[1:] != ranks[:-1]).any(axis=1))  # of its cluster
    return Selection(
        array("q", positions.tobytes()),
        array("q", np.frombuffer(seen.ids, dtype=np.int64)[positions].tobytes()),
        int(np.frombuffer(seen.unscored, dtype=np.uint8)[positions].sum()),
        array("q", (ends - sizes)[first.astype(bool)].astype(np.int64).tobytes()),
        widths,
    )


class _Survey:
    """What is read off the samples as published; of each stretch of one cluster, its start and its rank."""

    def __init__(
        self, samples: Iterable[Sample], seed: int, measure: Callable[[Sample], int] | None = None
    ) -> None:
        self.ids, self.unscored, self.widths = array("q"), bytearray(), array("i")
        self.starts, self.ranks = array("q"), bytearray()  # 32 bytes each
        last = None
        for sample in samples:
            name = cluster_of(sample)
            if name != last:
                self.starts.append(len(self.ids))
                self.ranks += _rank(seed, name)
                last = name
            self.ids.append(hash(sample.id))
            self.unscored.append(sample.target is None)
            if measure is not None:
                self.widths.append(measure(sample))


def _sorted(ranks: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The rows of a table in their order; equal ones (stretches of one cluster) stay in theirs.

    The first eight bytes of a hash tell all but about one in 10^19 pairs apart, and sort ten times as fast.
    """
    import numpy as np

    first = ranks[:, 0].astype(np.uint64)
    sequence = np.argsort(first, kind="stable")
    alike = np.flatnonzero(first[sequence[1:]] == first[sequence[:-1]])
    if (ranks[sequence[alike + 1]] != ranks[sequence[alike]]).any():
        sequence = np.lexsort(tuple(ranks[:, column] for column in (3, 2, 1, 0)))
    return sequence


def _fitting(ranks: NDArray[np.uint64], sizes: NDArray[np.int64], limit: int) -> int:
    """How many stretches, in order, make whole clusters of at most `limit` samples, or the first cluster."""
    import numpy as np

    last = np.append((ranks[1:] != ranks[:-1]).any(axis=1), [True] * bool(len(ranks)))  # of its cluster
    ends = np.flatnonzero(last) + 1
    fit = int((np.cumsum(sizes)[ends - 1] <= limit).sum())
    return int(ends[max(fit, 1) - 1]) if len(ends) else 0


def _rank(seed: int, cluster: str) -> bytes:
    # published names may hold lone surrogates, which UTF-8 lacks
    return hashlib.sha256(f"{seed}:{cluster}".encode(errors="surrogatepass")).digest()

"""Which samples run, in which order and in which batches: a pure function of the spec and the samples.

Clusters (images, pairs) are put in one fixed shuffled order, so that a limited run is a prefix of a
longer one and never cuts a cluster; inside a cluster samples keep their published order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from pgbench.types import Sample, cluster_of


def order(samples: Iterable[Sample], *, seed: int, limit: int | None) -> list[int]:
    """Positions of the samples to run, in order.

    A limit takes whole clusters while they fit, and always the first one: the result holds at most
    `limit` samples unless that first cluster alone is larger. Runs with a smaller limit nest in runs
    with a larger one.
    """
    clusters: dict[str, list[int]] = {}
    for position, sample in enumerate(samples):
        clusters.setdefault(cluster_of(sample), []).append(position)
    chosen: list[int] = []
    for name in sorted(clusters, key=lambda name: _rank(seed, name)):
        if limit is not None and chosen and len(chosen) + len(clusters[name]) > limit:
            break
        chosen += clusters[name]
    return chosen


def batches(positions: Sequence[int], size: int) -> list[Sequence[int]]:
    """Consecutive batches of `size`; the last one may be shorter."""
    return [positions[start : start + size] for start in range(0, len(positions), size)]


def _rank(seed: int, cluster: str) -> bytes:
    # published names may hold lone surrogates, which UTF-8 lacks
    return hashlib.sha256(f"{seed}:{cluster}".encode(errors="surrogatepass")).digest()

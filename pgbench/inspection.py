"""A look at a benchmark's data before hours are spent on it: counts, references, every picture decoded."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from pgbench.errors import SampleError, told
from pgbench.sources.images import decode
from pgbench.types import Dataset, Image, Sample, cluster_of

THREADS = 4  # at most; Pillow decodes without the interpreter's lock
AHEAD = 4  # pictures a thread that are waiting, encoded: memory stays bounded whatever the split's size
Progress = Callable[[int, int], None]  # pictures done, of how many


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A picture that a run would fail on, and why."""

    sample_id: str
    image: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is in a data set. `pictures` are stored copies: a row of a parquet file has its own."""

    samples: int
    published: int | None  # None: not known
    pictures: int
    opened: int
    clusters: int
    unreferenced: int  # samples without references: run, not scored
    without_image: int  # samples that have no picture by nature
    blank_questions: tuple[str, ...]  # ids
    missing: tuple[str, ...]  # "id: image" of samples whose picture is not there
    unreadable: tuple[Unreadable, ...]
    digest: str

    @property
    def fine(self) -> bool:
        """Whether a full run would go through and count as one of the published split."""
        sized = self.published in (None, self.samples)
        return sized and not self.missing and not self.unreadable


@dataclass(slots=True)
class _Survey:
    """What one pass over the samples gathers, without a picture being opened."""

    clusters: set[str] = field(default_factory=set)
    unreferenced: int = 0
    without_image: int = 0
    blank: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    pictures: list[tuple[int, int]] = field(default_factory=list)  # sample, image of it
    seen: set[object] = field(default_factory=set)

    def add(self, index: int, sample: Sample, *, lost: bool) -> None:
        self.clusters.add(cluster_of(sample))
        self.unreferenced += sample.target is None
        self.without_image += not sample.images
        if not sample.question.strip():
            self.blank.append(sample.id)
        if lost:
            first = next((image.name for image in sample.images), "no image")
            self.missing.append(f"{sample.id}: {first}")
            return
        for place, image in enumerate(sample.images):
            key = stored_at(image)
            if key is None or key not in self.seen:
                self.pictures.append((index, place))
                self.seen.add(key)


def stored_at(image: Image) -> object:
    """Where a picture lies, so that one file is opened once; None where that cannot be told.

    The name alone will not do: each row of a parquet file holds a copy, and each may be damaged.
    """
    if not isinstance(image.read, functools.partial) or image.read.keywords:
        return None
    return (image.name, *map(str, image.read.args))


def inspect(
    dataset: Dataset, published: int | None, *, limit: int | None, progress: Progress = lambda done, of: None
) -> Inspection:
    """Survey the samples and decode every stored picture, or `limit` of them evenly spread.

    Pictures of samples that `dataset.missing` names are not tried.
    """
    survey, lost = _Survey(), set(dataset.missing)
    for index, sample in enumerate(dataset.samples):
        survey.add(index, sample, lost=sample.id in lost)
    chosen = spread(survey.pictures, limit)
    unreadable = tuple(one for one in _decoded(dataset.samples, chosen, progress) if one is not None)
    return Inspection(
        samples=len(dataset.samples),
        published=None if dataset.demo else published,
        pictures=len(survey.pictures),
        opened=len(chosen),
        clusters=len(survey.clusters),
        unreferenced=survey.unreferenced,
        without_image=survey.without_image,
        # a captioning task has no questions at all, which is no mistake
        blank_questions=tuple(survey.blank) if len(survey.blank) < len(dataset.samples) else (),
        missing=tuple(survey.missing),
        unreadable=unreadable,
        digest=dataset.digest,
    )


def spread(items: Sequence[tuple[int, int]], limit: int | None) -> Sequence[tuple[int, int]]:
    """At most `limit` items, evenly spread, the first among them.

    >>> spread([(0, 0), (1, 0), (2, 0), (3, 0)], 2)
    [(0, 0), (2, 0)]
    """
    if limit is None or limit >= len(items):
        return items
    return [items[place * len(items) // limit] for place in range(limit)]


def _decoded(
    samples: Sequence[Sample], chosen: Sequence[tuple[int, int]], progress: Progress
) -> Iterator[Unreadable | None]:
    """Verdicts in order. Only a window of pictures is in flight."""
    threads = min(THREADS, os.cpu_count() or 1)
    waiting: deque[Future[Unreadable | None]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for done, (index, place) in enumerate(chosen):
                sample = samples[index]  # read here: a lazy sequence need not be safe among threads
                waiting.append(pool.submit(try_picture, sample.id, sample.images[place]))
                if len(waiting) > threads * AHEAD:
                    yield waiting.popleft().result()
                    progress(done + 1 - len(waiting), len(chosen))
            while waiting:
                yield waiting.popleft().result()
                progress(len(chosen) - len(waiting), len(chosen))
        finally:
            for future in waiting:  # interrupted: what has not begun shall not begin
                future.cancel()


def try_picture(sample_id: str, image: Image) -> Unreadable | None:
    """Open and decode a picture as a run does."""
    try:
        decode(image.read())
    except SampleError as error:
        return Unreadable(sample_id, image.name, str(error))
    except OSError as error:
        return Unreadable(sample_id, image.name, error.strerror or str(error) or type(error).__name__)
    except Exception as error:  # noqa: BLE001 - a plugin's reader; a run records it as a failed sample too
        return Unreadable(sample_id, image.name, told(error))
    return None

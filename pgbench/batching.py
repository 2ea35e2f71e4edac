"""In which order the chosen samples are asked, and in which batches: a pure function of spec and samples.

The rule "longest first": clusters stand in the order of their longest prompt, so that the largest batch is
asked first and what does not fit into memory is known within the first minute; prompts of one length are
asked together, which spares padding; the samples of one cluster (an image's questions) stay together. Where
images have few tokens and many questions, padding is what costs: there the samples of a few neighbouring
clusters are sorted by length as well. A batch holds at most as many samples as the spec says, and at most as
many tokens, padding included, as that many prompts of a usual length have: fewer samples where prompts are
long.

Specs of before name no rule: their batches are filled in the shuffled order, as they were.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from pgbench.errors import UsageError, unknown
from pgbench.plan import Selection, select
from pgbench.types import RunSpec, Sample, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST_FIRST = "longest first"
USUAL = 64  # tokens of text in a prompt of usual length
_PATCH = 14  # px: of the vision tower of every released PaliGemma
_BLIND = 224  # px that a backend without pixels is taken to see: its plan is that of the smallest checkpoint
_BYTES = 4  # of UTF-8 in a token: about so many in English and in Chinese
_WINDOW = 8  # clusters that are sorted together: backends keep what they saw of twice as many images
_WORTH = 0.05  # of a window's tokens, to be spared: an image of several batches is encoded alone


class Batches(Sequence[Sequence[int]]):
    """Consecutive batches of positions, cut when they are asked for."""

    __slots__ = ("_end", "_positions", "_starts")

    def __init__(self, positions: Sequence[int], starts: Sequence[int], end: int | None = None) -> None:
        """`starts`: where each batch begins; `end`: where the last one ends, None: with the positions."""
        self._positions, self._starts = positions, starts
        self._end = len(positions) if end is None else end

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Sequence[int]: ...
    @overload
    def __getitem__(self, index: slice) -> Batches: ...
    def __getitem__(self, index: int | slice) -> Sequence[int] | Batches:
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            if step != 1:
                raise IndexError("batches are consecutive; a slice of them has no step")
            end = self._starts[last] if last < len(self) else self._end
            return Batches(self._positions, self._starts[first:last], end)
        number = range(len(self))[index]
        return self._positions[self._starts[number] : self.end(number)]

    def first(self, number: int) -> int:
        """How many samples stand before a batch."""
        return self._starts[number]

    def end(self, number: int) -> int:
        return self._starts[number + 1] if number + 1 < len(self._starts) else self._end

    def like(self, values: Sequence[int]) -> Batches:
        """Other values of the same samples, cut alike."""
        return Batches(values, self._starts, self._end)


def batches(positions: Sequence[int], size: int) -> Batches:
    """Consecutive batches of `size`; the last one may be shorter."""
    return Batches(positions, range(0, len(positions), size))


@dataclass(frozen=True, slots=True)
class Planned:
    """The batches of a run."""

    positions: Batches
    ids: Batches  # hash() of each id, which differs between processes
    alone: Batches  # 1 where the sample's cluster goes on in another batch
    width: int  # tokens of the longest prompt as it is estimated, new ones included; 0: not measured


def choose(spec: RunSpec, task: Task, samples: Sequence[Sample]) -> Selection:
    """The samples of a run, measured where its rule asks for it. Raises UsageError for an unknown rule."""
    if spec.batching not in (None, LONGEST_FIRST):
        raise UsageError(unknown("rule of batches", str(spec.batching), [LONGEST_FIRST]))
    measure = None if spec.batching is None else measured(spec, task)
    return select(samples, seed=spec.seed, limit=spec.limit, measure=measure)


def planned(spec: RunSpec, chosen: Selection) -> Planned:
    """The chosen samples in the order in which they are asked, in batches.

    Raises UsageError for a spec whose batch size is still to be found.
    """
    if spec.batch < 1:
        raise UsageError("the batch size is not known yet; run this cell once, or name a size")
    positions, ids, width = chosen.positions, chosen.ids, 0
    order: NDArray[np.int64] | None = None
    starts: Sequence[int] = range(0, len(positions), spec.batch)
    if spec.batching is not None and positions:
        rows = min(spec.batch, len(positions))  # numpy counts in 64 bits, whatever was asked for
        order, widths = _longest_first(chosen, rows, spec.max_new_tokens)
        positions, ids = _taken(positions, order), _taken(ids, order)
        usual = _image_tokens(spec) + USUAL + spec.max_new_tokens
        starts, width = _cut(widths, rows, spec.batch * usual), int(widths.max())
    plan = Batches(positions, starts)
    return Planned(
        plan, plan.like(ids), plan.like(_alone(chosen.clusters, order, starts, len(positions))), width
    )


def measured(spec: RunSpec, task: Task) -> Callable[[Sample], int]:
    """Tokens that a sample takes, as its text tells: no tokenizer is asked, so that the plan is the same
    wherever it is made."""
    image, new = _image_tokens(spec), spec.max_new_tokens
    profile, variant, prompt = spec.checkpoint.profile, spec.variant, task.prompt
    scored = task.likelihood if spec.mode == "likelihood" else None

    def width(sample: Sample) -> int:
        try:
            text = prompt(sample, profile, variant)
            size = len(text) if text.isascii() else _size(text)
            if scored is not None:
                size += max(map(_size, scored.continuations(sample, profile, variant)), default=0)
        except Exception:  # noqa: BLE001 - the task's code; it is told when this sample is asked
            size = 0
        return len(sample.images) * image + size // _BYTES + new

    return width


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _image_tokens(spec: RunSpec) -> int:
    return ((spec.checkpoint.resolution or _BLIND) // _PATCH) ** 2


def _longest_first(chosen: Selection, rows: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.intc]]:
    """The order as indexes of the selection, and the widths in it. `rows`: of a batch; `new`: tokens of each
    width that are no prompt's.

    Clusters of one length keep the shuffled order, prompts of one length in a sorted window that of clusters.
    """
    import numpy as np

    widths = np.frombuffer(chosen.widths, dtype=np.intc)
    starts = np.frombuffer(chosen.clusters, dtype=np.int64)
    sizes = np.diff(starts, append=len(widths))
    sequence = np.argsort(-np.maximum.reduceat(widths, starts), kind="stable")
    starts, sizes = starts[sequence], sizes[sequence]
    ends = np.cumsum(sizes)
    order = np.repeat(starts - (ends - sizes), sizes) + np.arange(len(widths))
    window = np.repeat(np.arange(len(sizes)) // _WINDOW, sizes)
    order = order[_sorted_windows(widths[order], window, rows, new)]
    return order, widths[order]


def _sorted_windows(
    widths: NDArray[np.intc], window: NDArray[np.int64], rows: int, new: int
) -> NDArray[np.int64]:
    """Where each sample comes from: windows are sorted by width where that is worth it, every second one from
    the shortest on, so that two of them meet at prompts of like length. `window`: of each sample, rising."""
    import numpy as np

    plain = np.arange(len(widths))
    by_length = np.lexsort((np.where(window % 2, widths, -widths), window))
    begins = np.flatnonzero(np.diff(window, prepend=-1))
    place = plain - begins[window]
    chunks = np.flatnonzero(place % rows == 0)
    counts, of = np.diff(chunks, append=len(widths)), window[chunks]

    def tokens(prompts: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.bincount(of, weights=np.maximum.reduceat(prompts, chunks) * counts).astype(np.float64)

    prompts = widths.astype(np.int64) - new
    before = tokens(prompts)
    worth = before - tokens(prompts[by_length]) >= np.maximum(_WORTH * before, 1)
    return np.where(worth[window], by_length, plain)


def _taken(values: array[int], order: NDArray[np.int64]) -> array[int]:
    import numpy as np

    return array("q", np.frombuffer(values, dtype=np.int64)[order].tobytes())


def _cut(widths: NDArray[np.intc], rows: int, tokens: int) -> array[int]:
    """Where batches begin: as many rows as may be, and as fit when all are as wide as the widest."""
    import numpy as np

    wide = np.flatnonzero(widths.astype(np.int64) * rows > tokens)
    calm = int(wide[-1]) + 1 if len(wide) else 0  # from here on every batch is full
    ahead = widths[: calm + rows].tolist()
    starts, begun = array("q"), 0
    while begun < calm:
        starts.append(begun)
        end, widest = begun + 1, ahead[begun]
        while end < min(begun + rows, len(ahead)) and (end - begun + 1) * max(widest, ahead[end]) <= tokens:
            end, widest = end + 1, max(widest, ahead[end])
        begun = end
    starts.extend(range(begun, len(widths), rows))
    return starts


def _alone(clusters: array[int], order: NDArray[np.int64] | None, starts: Sequence[int], count: int) -> bytes:
    """Of each sample as it is asked, 1 where its cluster is in more than one batch. `clusters`: where they
    begin in the selection; `order`: its indexes as they are asked, None: as they are."""
    import numpy as np

    if not count:
        return b""
    begins = np.asarray(clusters, dtype=np.int64)
    order = np.arange(count) if order is None else order
    batch = np.empty(count, dtype=np.int64)
    bounds = np.append(np.asarray(starts, dtype=np.int64), count)
    batch[order] = np.repeat(np.arange(len(starts)), bounds[1:] - bounds[:-1])
    cut = np.minimum.reduceat(batch, begins) != np.maximum.reduceat(batch, begins)
    sizes = np.append(begins[1:], count) - begins
    return np.repeat(cut, sizes)[order].astype(np.uint8).tobytes()

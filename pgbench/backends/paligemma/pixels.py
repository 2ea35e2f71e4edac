"""Pictures as TensorFlow resized them for PaliGemma, without TensorFlow.

big_vision (google-research/big_vision@0127fb6, pp/ops_image.py): tf.io.decode_image with three channels,
tf.image.resize with bilinear weights and each benchmark's antialias flag, clip to 0..255, a cast to uint8
that truncates, value_range(-1, 1). The cast makes the last bit of a float32 sum count, so that weights, sums
and roundings follow TensorFlow's kernels (tensorflow/core/kernels/image): resize_bilinear_op.cc without,
scale_and_translate_op.cc with antialias. The decoded picture comes from `decoding.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

Levels: TypeAlias = NDArray[np.uint8]  # [height, width, 3]
Values: TypeAlias = NDArray[np.float32]
Places: TypeAlias = NDArray[np.int64]

_HALF, _ONE = np.float32(0.5), np.float32(1)
ROWS = 32  # at a time: what is worked on stays in the cache, and a large picture stays bytes
_PIXEL = np.dtype("V12")  # three float32 that move together


@dataclass(frozen=True, slots=True)
class _Taps:
    """The source places that each of the output's lines is a sum of."""

    first: Places  # [output], of the first tap
    weights: Values  # [taps, output]; 0 where a line has fewer taps


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The two source places that each of the output's lines lies between."""

    below: Places  # [output]
    above: Places
    share: Values  # of `above`


def resize(picture: Levels, side: int, *, antialias: bool) -> Levels:
    """[height, width, 3] to [side, side, 3], bilinear: truncated as a cast to uint8 does."""
    return np.clip(bilinear(picture, side, antialias=antialias), 0, 255).astype(np.uint8)


def bilinear(picture: Levels, side: int, *, antialias: bool) -> Values:
    """The same, not truncated yet."""
    height, width, _ = picture.shape
    if antialias:
        found = _across(_down(picture, _taps(height, side)), _taps(width, side))
    else:
        found = _between(picture, _pairs(height, side), _pairs(width, side))
    return found.reshape(side, side, 3)


def value_range(picture: Levels) -> Values:
    """0..255 to -1..1 and channels first: [3, height, width]."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1) / np.float32(127.5) - _ONE)


def _taps(size: int, side: int) -> _Taps:
    """The triangle kernel, as wide as an output pixel where the picture shrinks; ComputeSpansCore.

    Taps outside of the picture are left out and the rest is normalised.
    """
    step = np.float32(1 / float(np.float32(side) / np.float32(size)))  # source pixels a line
    radius = max(step, _ONE)
    centre = (np.arange(side, dtype=np.float32) + _HALF) * step
    first = np.clip(np.ceil(centre - radius - _HALF).astype(np.int64), 0, size - 1)
    last = np.clip(np.floor(centre + radius - _HALF).astype(np.int64), 0, size - 1)
    rows, total = [], np.zeros(side, np.float32)
    for tap in range(int((last - first).max()) + 1):
        distance = np.abs((first + tap).astype(np.float32) + _HALF - centre) * (_ONE / radius)
        weight = np.where(first + tap <= last, np.maximum(_ONE - distance, 0), np.float32(0))
        rows.append(weight)
        total = total + weight
    return _Taps(first, np.stack(rows) * (_ONE / total))


def _down(picture: Levels, taps: _Taps) -> Values:
    """Rows first, as GatherSpans does: [height, width, 3] to [output, width * 3]."""
    height, width, _ = picture.shape
    lines = picture.reshape(height, width * 3)
    output = np.zeros((len(taps.first), width * 3), np.float32)
    for block in _blocks(len(taps.first)):
        first = taps.first[block]
        low = int(first[0])
        source = lines[low : int(first[-1]) + len(taps.weights)].astype(np.float32)
        for tap, weight in enumerate(taps.weights):
            line = source.take(first - low + tap, axis=0, mode="clip")
            line *= weight[block, None]
            output[block] += line
    return output


def _across(lines: Values, taps: _Taps) -> Values:
    """[rows, width * 3] to [rows, output * 3]."""
    output = np.zeros((len(lines), 3 * len(taps.first)), np.float32)
    weights = np.repeat(taps.weights, 3, axis=1)
    for block in _blocks(len(lines)):
        for tap, weight in enumerate(weights):
            column = _columns(lines[block], taps.first + tap)
            column *= weight
            output[block] += column
    return output


def _pairs(size: int, side: int) -> _Pairs:
    """Half-pixel centres; compute_interpolation_weights."""
    step = np.float32(size) / np.float32(side)
    place = (np.arange(side, dtype=np.float32) + _HALF) * step - _HALF
    floor = np.floor(place)
    below, above = np.maximum(floor, 0), np.minimum(np.ceil(place), size - 1)
    return _Pairs(below.astype(np.int64), above.astype(np.int64), place - floor)


def _between(picture: Levels, down: _Pairs, across: _Pairs) -> Values:
    """Columns first, then rows: [height, width, 3] to [output, output * 3]."""
    height, width, _ = picture.shape
    lines = picture.reshape(height, width * 3)
    share = np.repeat(across.share, 3)
    output = np.empty((len(down.share), 3 * len(across.share)), np.float32)
    for block in _blocks(len(down.share)):
        used, places = np.unique(np.concatenate([down.below[block], down.above[block]]), return_inverse=True)
        rows = lines[used].astype(np.float32)
        left = _columns(rows, across.below)
        mixed = left + (_columns(rows, across.above) - left) * share
        top, bottom = mixed[places].reshape(2, -1, output.shape[1])
        output[block] = top + (bottom - top) * down.share[block, None]
    return output


def _columns(lines: Values, places: Places) -> Values:
    """Pixels of every line: [rows, width * 3] to [rows, places * 3]; the last pixel for what is beyond it."""
    return lines.view(_PIXEL).take(places, axis=1, mode="clip").view(np.float32)


def _blocks(lines: int) -> Iterator[slice]:
    return (slice(start, start + ROWS) for start in range(0, lines, ROWS))

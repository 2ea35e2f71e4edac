"""Each picture read, hashed, decoded and resized once, though many questions are asked about it."""

from __future__ import annotations

import functools
import hashlib
import threading
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

from pgbench.backends.paligemma.once import Once
from pgbench.backends.paligemma.threads import usable
from pgbench.errors import SampleError, told
from pgbench.types import Image

KEPT = 16 << 20  # bytes of pixels that may always be kept,
FEW = 16  # and pictures that may, whatever their size: questions about one stand near each other
AT_ONCE = 4  # pictures that are decoded, where so many processors are left beside the model's
_NAMES = 256  # pictures whose hash is kept; some readers hold the encoded file
_LEVELS = 256
Pixels = Callable[[bytes], torch.Tensor]  # an encoded file -> [3, side, side]; raises SampleError


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Picture:
    """`key`: sha256 of the encoded file; pixels: [3, side, side] in float32, which nobody writes to; `rule`:
    what of the request decided how the file became pixels."""

    key: str
    pixels: torch.Tensor
    rule: str = ""


class Pictures:
    """Pictures of one checkpoint. Thread-safe: two who ask for one picture have it made once.

    Files are read by all who ask. What is made of them takes a processor, and Python's lock in part, so that
    more at once than there are processors to spare would only slow the model down.
    """

    def __init__(self, most: int = KEPT, at_once: int = AT_ONCE) -> None:
        """`most`: bytes of pixels that are kept for questions to come; `at_once`: pictures in the making."""
        self._free = threading.Semaphore(at_once)
        self._keys: Once[Hashable, str] = Once(_NAMES, lambda key: 1)
        self._made: Once[tuple[str, str], Picture] = Once(most, lambda one: one.pixels.nbytes)
        self._held = weakref.WeakValueDictionary[tuple[str, str], Picture]()  # by batches that wait

    def of(self, image: Image, pixels: Pixels, rule: str = "") -> Picture:
        """Raises SampleError for a file that cannot be read or decoded."""
        source = _source(image)
        read: list[bytes] = []

        def hashed() -> str:
            read.append(_read(image))
            return hashlib.sha256(read[0]).hexdigest()

        def made() -> Picture:
            data = read[0] if read else _read(image)
            if not read and hashlib.sha256(data).hexdigest() != key:
                self._keys.forget(source)
                raise SampleError(f"image {image.name} was changed while it was in use")
            try:
                with self._free:
                    found = self._held[key, rule] = Picture(key, pixels(data), rule)
            except SampleError as error:
                raise SampleError(f"image {image.name}: {error}") from error
            return found

        key = self._keys.get(source, hashed)
        return self._made.get((key, rule), lambda: self._held.get((key, rule)) or made())


def spare(threads: int) -> int:
    """Pictures that may be made at once beside a model with so many threads, none where it is on a GPU."""
    return max(1, min(AT_ONCE, usable() - threads))


def _source(image: Image) -> Hashable:
    """Equal for two readers of one file. Sources make a partial for every sample, and partials of equal
    parts are unequal."""
    read = image.read
    if not isinstance(read, functools.partial):
        return image
    parts = (image.name, read.func, read.args, tuple(sorted(read.keywords.items())))
    try:
        hash(parts)
    except TypeError:
        return image
    return parts


def _read(image: Image) -> bytes:
    try:
        return image.read()
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except Exception as error:  # noqa: BLE001 - a plugin's reader; one sample must not end the run
        reason = told(error)
    raise SampleError(f"cannot read image {image.name}: {reason}")


class Published:
    """The published image processor without what its calls cost beside the resize.

    It resizes with Pillow and then maps every level to a number: the numbers are asked of it once, in a
    table. Whether the table gives what it gives, bit for bit, is looked at on a few pictures; where it does
    not, the processor itself is asked every time (`direct` is False).
    """

    def __init__(self, processor: Any) -> None:
        """`processor`: of images, on Pillow."""
        self._processor = processor
        self._side = int(processor.size["height"])
        self._table = self._levels()
        self._one = bool((self._table == self._table[0]).all())
        self.direct = all(
            np.array_equal(self._looked_up(one), self._asked(one)) for one in _drawn(self._side)
        )

    def pixels(self, picture: Any) -> torch.Tensor:
        """An RGB picture as [3, side, side] in float32."""
        found = self._looked_up(picture) if self.direct else self._asked(picture)
        return torch.from_numpy(found)

    def _asked(self, picture: Any) -> NDArray[Any]:
        found: NDArray[Any] = self._processor(picture, return_tensors="np")["pixel_values"][0]
        return found

    def _looked_up(self, picture: Any) -> NDArray[Any]:
        resized = np.asarray(picture.resize((self._side, self._side), self._processor.resample))
        levels = resized.transpose(2, 0, 1)
        if self._one:  # for all channels, as published: one look-up instead of three and a copy
            found: NDArray[Any] = self._table[0].take(levels)
            return found
        return np.stack([row.take(level) for row, level in zip(self._table, levels, strict=True)])

    def _levels(self) -> NDArray[Any]:
        """[3, 256]: what each level becomes in each channel; pictures of the right size are not resized."""
        found = []
        for level in range(0, _LEVELS, self._side**2):
            flat = np.arange(level, level + self._side**2).clip(max=_LEVELS - 1).astype(np.uint8)
            grey = np.repeat(flat.reshape(self._side, self._side, 1), 3, axis=2)
            found.append(self._asked(Pillow.fromarray(grey)).reshape(3, -1))
        return np.concatenate(found, axis=1)[:, :_LEVELS]


def _drawn(side: int) -> list[Any]:
    """Noise: of the right size, larger and not square, and smaller."""
    noise = np.random.default_rng(0)
    sizes = ((side, side), (side + side // 3 + 1, side + side // 2), (side // 2 + 1, side // 3 + 1))
    return [Pillow.fromarray(noise.integers(0, _LEVELS, (*size, 3), dtype=np.uint8)) for size in sizes]

"""Encoded pictures as tf.io.decode_image gives them: what types.PAPER_RULE says.

TensorFlow decodes JPEG with libjpeg-turbo's fast integer DCT and smooth chroma, Pillow with the accurate one;
they differ by up to 2 of 255, in about half of a grey picture. Pillow's decoder can be told to take the fast
one, but leaves chroma blocky then, so that chroma is smoothed here. Transparency is dropped, as libpng does
when three channels are asked for (png_set_strip_alpha).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgbench.backends.paligemma.pixels import ROWS, Levels
from pgbench.errors import SampleError
from pgbench.sources.images import BROKEN, eight_bits_a_channel, opened, reason, upright

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageFile import ImageFile

_FAST = (1, 1)  # scale, and "draft" of Pillow's JpegDecode.c: JDCT_IFAST, no smooth chroma
_HALVED: Mapping[object, int] = {  # factors of light and chroma -> rows of light for one of chroma
    ((2, 1), (1, 1), (1, 1)): 1,
    ((2, 2), (1, 1), (1, 1)): 2,
}
_RGB_IDS = (82, 71, 66)  # a JPEG of red, green and blue, if it has no JFIF marker
_NARROW = 2  # columns of chroma that libjpeg repeats instead of smoothing (jdsample.c)
_BITS = 16  # of libjpeg's fixed point


def decode(data: bytes) -> Levels:
    """[height, width, 3] of the first frame, upright. Thread-safe.

    Raises SampleError with a one-line reason for what cannot be decoded.
    """
    from PIL.Image import DecompressionBombError

    image = opened(data)
    try:
        return np.asarray(upright(_rgb(image), of=image))
    except (DecompressionBombError, *BROKEN) as exc:
        raise SampleError(f"{image.format} image cannot be decoded: {reason(exc)}") from exc


def _rgb(image: ImageFile) -> Picture:
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile

    if not isinstance(image, JpegImageFile):
        return eight_bits_a_channel(image).convert("RGB")
    rows = _rows(image)
    if rows == 0:
        return image.convert("RGB")
    if rows > 0:
        image.draft("YCbCr", None)
    image.decoderconfig = _FAST
    return Image.fromarray(_smoothed(image, rows)) if rows > 0 else image.convert("RGB")


def _rows(image: Any) -> int:
    """How many rows of light share one of chroma, where chroma has half of the columns; -1 where it has all
    of the places, 0 where it is something else, which Pillow decodes in its own way."""
    factors = tuple((across, down) for _, across, down, _ in image.layer)
    if len(factors) in (1, 3) and len(set(factors)) == 1:
        return -1
    coloured = "jfif" in image.info or (
        image.info.get("adobe_transform") != 0 and tuple(layer[0] for layer in image.layer) != _RGB_IDS
    )
    return _HALVED.get(factors, 0) if coloured and image.width > 2 * _NARROW else 0


def _smoothed(image: ImageFile, rows: int) -> Levels:
    """RGB of a picture decoded as light and repeated chroma."""
    planes = np.asarray(image)
    height, width, _ = planes.shape
    small = planes[::rows, ::2, 1:].astype(np.int32) - 128  # before they are mixed or after: the same
    blue, red = (_down(small[..., channel], rows) for channel in (0, 1))
    found = np.empty_like(planes)
    for start in range(0, height, ROWS):
        block = slice(start, min(start + ROWS, height))
        found[block] = _mixed(
            planes[block, :, 0].astype(np.int32),
            _across(blue[block], rows)[:, :width],
            _across(red[block], rows)[:, :width],
        )
    return found


def _down(chroma: NDArray[np.int32], rows: int) -> NDArray[np.int32]:
    """Between rows, three parts of the nearer and one of the farther, undivided: [rows * height, width]."""
    if rows == 1:
        return chroma
    edged = np.pad(chroma, ((1, 1), (0, 0)), "edge")
    found = np.empty((2 * len(chroma), chroma.shape[1]), np.int32)
    found[0::2] = 3 * chroma + edged[:-2]
    found[1::2] = 3 * chroma + edged[2:]
    return found


def _across(chroma: NDArray[np.int32], rows: int) -> NDArray[np.int32]:
    """Between columns, with the roundings of h2v1_fancy_upsample and h2v2_fancy_upsample."""
    left, right, bits = (1, 2, 2) if rows == 1 else (8, 7, 4)
    edged = np.pad(chroma, ((0, 0), (1, 1)), "edge")
    nearer = 3 * chroma
    found = np.empty((len(chroma), 2 * chroma.shape[1]), np.int32)
    found[:, 0::2] = (nearer + edged[:, :-2] + left) >> bits
    found[:, 1::2] = (nearer + edged[:, 2:] + right) >> bits
    return found


def _mixed(light: NDArray[np.int32], blue: NDArray[np.int32], red: NDArray[np.int32]) -> Levels:
    """To RGB in the fixed point of jdcolor.c."""
    found = np.empty((*light.shape, 3), np.uint8)
    channels = (
        _fixed(1.402) * red,
        -_fixed(0.34414) * blue - _fixed(0.71414) * red,
        _fixed(1.772) * blue,
    )
    for place, part in enumerate(channels):
        part += 1 << (_BITS - 1)
        part >>= _BITS
        part += light
        found[..., place] = part.clip(0, 255, out=part)
    return found


def _fixed(factor: float) -> int:
    return int(factor * (1 << _BITS) + 0.5)

"""From an encoded file to the RGB pixels that a processor sees: what types.IMAGE_RULE says.

Rotation: the EXIF orientation is applied. Annotators saw the pictures in a browser, which turns them, and
`datasets` does the same when its Image feature decodes; PIL's own `open` does not, and neither does
tf.io.decode_image, with which PaliGemma was trained on pictures that had been turned beforehand
(google-research/big_vision@0127fb6, big_vision/datasets/textvqa/textvqa.py).
Transparency: composited on white, as transformers' `convert_to_rgb` does; PIL's `convert("RGB")` drops the
alpha and shows whatever colour lies beneath it.
"""

from __future__ import annotations

import importlib
import re
import struct
import warnings
import zlib
from io import BytesIO
from typing import TYPE_CHECKING

from pgbench.errors import SampleError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageFile import ImageFile

# EPS runs Ghostscript; the rest of Pillow's forty formats hold no benchmark picture and are attack surface.
FORMATS = {
    "JPEG": "PIL.JpegImagePlugin",
    "PNG": "PIL.PngImagePlugin",
    "WEBP": "PIL.WebPImagePlugin",
    "GIF": "PIL.GifImagePlugin",
    "BMP": "PIL.BmpImagePlugin",
    "TIFF": "PIL.TiffImagePlugin",
    "PPM": "PIL.PpmImagePlugin",
}
# Pillow 13 refuses above this by itself (2 * Image.MAX_IMAGE_PIXELS): 13,377 px squared, 537 MB of RGB.
MAX_PIXELS = 178_956_970
ORIENTATION = 0x0112  # the EXIF tag
WHITE = (255, 255, 255, 255)
PILLOW_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # as warnings.filters holds it
# What Pillow's plugins raise on bytes that are not what their header claims.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)


def decode(data: bytes) -> Picture:
    """The first frame of an encoded picture: upright, on white, mode RGB. Thread-safe.

    Raises SampleError with a one-line reason for what cannot be decoded, and for a declared size above
    MAX_PIXELS before anything is decoded.

    >>> decode(b"P6 2 1 255 ABCDEF").size
    (2, 1)
    """
    from PIL.Image import DecompressionBombError

    image = opened(data)
    try:
        image.load()
        return on_white(upright(image))
    except (DecompressionBombError, *BROKEN) as exc:  # a frame or tile may be larger than the picture
        raise SampleError(f"{image.format} image cannot be decoded: {reason(exc)}") from exc


def hush() -> None:
    """Let Pillow keep its warnings about broken metadata to itself, from the first picture on.

    They would run into the progress bar, and under -W error a picture would fail that decodes well: a score
    must not depend on that flag. The filter stays, since catch_warnings is not thread-safe.
    """
    if PILLOW_WARNINGS not in warnings.filters:
        warnings.filterwarnings("ignore", module=PILLOW_WARNINGS[3].pattern)


def opened(data: bytes) -> ImageFile:
    """The picture with its header read and its pixels still encoded. Raises SampleError.

    PIL.Image.open has a limit of its own, which is a global that anybody may have changed, and it mixes up a
    broken header with what is no picture; so this asks the same plugins in the same way.
    """
    from PIL import Image

    if not data:
        raise SampleError("the image file has 0 bytes")
    hush()
    for name, plugin in FORMATS.items():
        if name not in Image.OPEN:
            importlib.import_module(plugin)  # which puts it there
        factory, accept = Image.OPEN[name]
        if accept is None or accept(data[:16]) is True:
            return sized(factory, data, name)
    raise SampleError(f"not an image: {len(data)} bytes, none of {', '.join(FORMATS)}")


def sized(factory: object, data: bytes, name: str) -> ImageFile:
    from PIL import Image

    try:
        image: ImageFile = factory(BytesIO(data), "")  # type: ignore[operator]
    except Image.DecompressionBombError as exc:  # WebP's plugin allocates, hence checks, on opening
        raise SampleError(f"{name} image of more than {MAX_PIXELS:,} pixels, the limit") from exc
    except BROKEN as exc:
        raise SampleError(f"{name} image with a broken header: {reason(exc)}") from exc
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise SampleError(
            f"{name} image of {width} x {height} px, more than {MAX_PIXELS:,} pixels, the limit"
        )
    return image


def upright(image: Picture, *, of: Picture | None = None) -> Picture:
    """The picture turned as its EXIF orientation says; broken EXIF counts as none, as in browsers.

    `of`: the picture as it was opened, where `image` was made of it and lost the EXIF.
    """
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        turn = turns.get((of or image).getexif().get(ORIENTATION, 1))
    except BROKEN:
        return image
    return image if turn is None else image.transpose(turn)


def on_white(image: Picture) -> Picture:
    from PIL import Image

    image = eight_bits_a_channel(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
    ground = Image.new("RGBA", image.size, WHITE)
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def eight_bits_a_channel(image: Picture) -> Picture:
    """The picture, or one of 8 bits in the place of one of 16. Raises ValueError for floats."""
    if image.mode == "F":
        raise ValueError("its pixels are floats without a known range; expected 8 or 16 bits")
    return eight_bits(image) if image.mode.startswith("I") else image


def eight_bits(image: Picture) -> Picture:
    """16-bit grey as 8-bit L or LA. Pillow 13 clips at 255, which turns such a picture white.

    The high byte is kept: Pillow does so with 16-bit RGB, and libpng with png_set_strip_16.
    """
    import numpy as np
    from PIL import Image

    values = np.asarray(image)
    if values.size and (values.min() < 0 or values.max() > 0xFFFF):
        raise ValueError("its pixels are integers beyond 16 bits; expected 8 or 16 bits")
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    key = image.info.get("transparency")  # PNG's tRNS: one grey value that is transparent
    if key is not None:
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def reason(exc: BaseException) -> str:
    """One line, without addresses of objects in memory."""
    text = " ".join(str(exc).split()).split(" <_io")[0]
    return text or type(exc).__name__

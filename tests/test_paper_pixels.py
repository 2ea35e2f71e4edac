"""The paper protocol's decoder and resize on what the golden set does not hold."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Image as Picture

from pgbench.backends.paligemma import pixels
from pgbench.backends.paligemma.decoding import decode
from pgbench.backends.paligemma.pixels import Levels, resize
from pgbench.errors import SampleError

ORIENTATION = 0x0112


def drawn(height: int, width: int) -> Levels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(width: int, height: int) -> Picture:
    """Colours that change slowly: chroma that is repeated instead of smoothed is far off."""
    coarse = drawn(height // 8 + 2, width // 8 + 2)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(picture: Picture, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def by_pillow(data: bytes) -> Levels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(64, 48), (65, 49), (17, 33), (5, 5), (4, 9), (6, 1), (1, 1)])
def test_chroma_is_smoothed(size: tuple[int, int], sampling: str) -> None:
    """Pillow's accurate transform is near; its chroma under the fast one is 20 levels off and more."""
    data = encoded(smooth(*size), "JPEG", quality=90, subsampling=sampling)
    apart = np.abs(decode(data).astype(int) - by_pillow(data))
    assert decode(data).shape == (size[1], size[0], 3)
    assert apart.max() <= 8
    assert apart.mean() <= 2


@pytest.mark.parametrize(
    ("mode", "options"),
    [("CMYK", {}), ("RGB", {"keep_rgb": True}), ("RGB", {"subsampling": "4:1:1"})],
)
def test_other_jpegs_are_near_pillows(mode: str, options: dict[str, Any]) -> None:
    data = encoded(smooth(40, 24).convert(mode), "JPEG", quality=90, **options)
    assert np.abs(decode(data).astype(int) - by_pillow(data)).mean() <= 2


def test_a_jpeg_of_red_green_and_blue_has_no_chroma() -> None:
    """Without a JFIF marker the letters R, G and B as ids say so, though two of them have fewer places."""
    data = bytearray(encoded(smooth(40, 24), "JPEG", quality=90, subsampling="4:2:0"))
    del data[2:20]  # JFIF
    frame, scan = data.index(b"\xff\xc0") + 10, data.index(b"\xff\xda") + 5
    for number, letter in enumerate(b"RGB"):
        data[frame + 3 * number] = data[scan + 2 * number] = letter
    assert np.array_equal(decode(bytes(data)), by_pillow(bytes(data)))


def test_transparency_is_dropped() -> None:
    """png_set_strip_alpha, not white: what lies beneath shows."""
    picture = smooth(9, 7)
    clear = picture.copy()
    clear.putalpha(0)
    assert np.array_equal(decode(encoded(clear)), np.asarray(picture))
    grey = picture.convert("L")
    assert np.array_equal(decode(encoded(Image.merge("LA", (grey, grey)))), np.asarray(grey.convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pictures_are_turned_upright(kind: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture = smooth(32, 16)
    plain, turned = encoded(picture, kind), encoded(picture, kind, exif=exif)
    assert np.array_equal(decode(turned), np.rot90(decode(plain), 3))


def test_sixteen_bits_keep_the_high_byte() -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    assert np.array_equal(decode(encoded(Image.fromarray(levels)))[..., 0], levels >> 8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_broken_picture_is_a_failed_sample(kind: str) -> None:
    with pytest.raises(SampleError, match=f"{kind} image cannot be decoded"):
        decode(encoded(smooth(64, 64), kind)[:-200])


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(50, 90), (90, 50), (8, 8), (1, 3)])
def test_rows_at_a_time_do_not_matter(
    size: tuple[int, int], antialias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = drawn(*size)
    found = []
    for rows in (1, 7, 32, 1000):
        monkeypatch.setattr(pixels, "ROWS", rows)
        found.append(resize(picture, 33, antialias=antialias))
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_a_picture_of_the_models_size_stays_as_it_is() -> None:
    picture = drawn(28, 28)
    assert np.array_equal(resize(picture, 28, antialias=True), picture)
    assert np.array_equal(resize(picture, 28, antialias=False), picture)

"""Decoding: rotation, transparency, odd modes, and every kind of file that cannot be used."""

from __future__ import annotations

import random
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pgbench.errors import SampleError
from pgbench.sources import images
from pgbench.sources.images import decode

CORNERS = {(0, 0): (255, 0, 0), (1, 0): (0, 255, 0), (0, 1): (0, 0, 255), (1, 1): (250, 250, 0)}
# EXIF orientation -> where the stored picture's four corners belong when shown: (top left, top right, bottom
# left, bottom right) as indices into the stored ones. EXIF 2.32, table 6 (0th row, 0th column).
SHOWN = {
    0: (0, 1, 2, 3),
    1: (0, 1, 2, 3),
    2: (1, 0, 3, 2),
    3: (3, 2, 1, 0),
    4: (2, 3, 0, 1),
    5: (0, 2, 1, 3),
    6: (2, 0, 3, 1),
    7: (3, 1, 2, 0),
    8: (1, 3, 0, 2),
    9: (0, 1, 2, 3),
}


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def quadrants(width: int = 48, height: int = 32) -> Image.Image:
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for (column, row), colour in CORNERS.items():
        left, top = column * width // 2, row * height // 2
        draw.rectangle((left, top, left + width // 2 - 1, top + height // 2 - 1), fill=colour)
    return image


def corner_colours(image: Image.Image) -> list[int]:
    """Which of the four colours each corner is closest to: JPEG moves them a little."""
    width, height = image.size
    points = [(4, 4), (width - 5, 4), (4, height - 5), (width - 5, height - 5)]
    colours = np.array(list(CORNERS.values()), dtype=int)
    seen = [np.array(image.getpixel(point), dtype=int) for point in points]
    return [int(np.abs(colours - one).sum(1).argmin()) for one in seen]


def png(depth: int, colour: int, width: int, rows: list[bytes], extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + extra + body + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encoded(quadrants(), kind, exif=exif, **({} if kind == "TIFF" else {"quality": 95})))
    assert image.size == ((48, 32) if orientation not in (5, 6, 7, 8) else (32, 48))
    assert corner_colours(image) == list(SHOWN[orientation])
    assert image.mode == "RGB"


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense" * 9])
def test_broken_exif_is_ignored(exif: bytes) -> None:
    assert corner_colours(decode(encoded(quadrants(), "JPEG", exif=exif))) == [0, 1, 2, 3]


def rgba() -> Image.Image:
    image = Image.new("RGBA", (3, 1))
    for x, pixel in enumerate([(10, 20, 30, 255), (0, 0, 0, 0), (0, 0, 0, 128)]):
        image.putpixel((x, 0), pixel)
    return image


def palette() -> Image.Image:
    image = Image.frombytes("P", (3, 1), b"\0\1\2")
    image.putpalette([10, 20, 30, 0, 0, 0, 0, 0, 0])
    return image


PLTE = chunk(b"PLTE", bytes([10, 20, 30, 0, 0, 0, 0, 0, 0]))
INK, WHITE, HALF, BLACK = (10, 20, 30), (255, 255, 255), (127, 127, 127), (0, 0, 0)
TRANSPARENT = {  # three pixels: opaque, invisible over black, half seen where the mode has halves
    "RGBA": (encoded(rgba(), "PNG"), [INK, WHITE, HALF]),
    "WEBP": (encoded(rgba(), "WEBP", lossless=True, exact=True), [INK, WHITE, HALF]),
    "LA": (encoded(rgba().convert("LA"), "PNG"), [(18, 18, 18), WHITE, HALF]),
    "palette": (png(8, 3, 3, [b"\0\1\2"], PLTE + chunk(b"tRNS", b"\xff\0\x80")), [INK, WHITE, HALF]),
    "GIF": (encoded(palette(), "GIF", transparency=1, optimize=False), [INK, WHITE, BLACK]),
    "RGB key": (
        png(8, 2, 3, [bytes([*INK, 0, 0, 0, 1, 1, 1])], chunk(b"tRNS", bytes(6))),
        [INK, WHITE, (1,) * 3],
    ),
    "grey key": (png(8, 0, 3, [b"\7\0\1"], chunk(b"tRNS", bytes(2))), [(7,) * 3, WHITE, (1,) * 3]),
    "16-bit key": (png(16, 0, 3, [b"\7\0\0\0\0\1"], chunk(b"tRNS", bytes(2))), [(7,) * 3, WHITE, BLACK]),
}


@pytest.mark.parametrize("mode", TRANSPARENT)
def test_transparency_is_composited_on_white(mode: str) -> None:
    data, expected = TRANSPARENT[mode]
    image = decode(data)
    assert [image.getpixel((x, 0)) for x in range(3)] == expected


def test_transparency_equals_transformers() -> None:
    """Independent reference: what the processor would do with the same file."""
    transforms = pytest.importorskip("transformers.image_transforms")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 4), dtype=np.uint8))
    theirs = transforms.convert_to_rgb(image, return_numpy=True)
    assert np.array_equal(np.asarray(decode(encoded(image, "PNG"))), theirs)


def test_a_turned_picture_keeps_its_transparency() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode(encoded(palette(), "PNG", transparency=1, exif=exif))
    assert [turned.getpixel((0, y)) for y in range(3)] == [INK, WHITE, BLACK]


GREY16 = np.array([[0, 0x00FF, 0x0100, 0x7FFF, 0x8000, 0xFFFF]], dtype=np.uint16)


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(GREY16), "PNG"),
        encoded(Image.fromarray(GREY16), "TIFF"),
        encoded(Image.fromarray(GREY16.astype(np.int32)), "TIFF"),
        b"P5 6 1 65535\n" + GREY16.astype(">u2").tobytes(),
    ],
    ids=["png", "tiff", "tiff32", "pgm"],
)
def test_16_bit_grey_is_scaled_not_clipped(data: bytes) -> None:
    assert np.asarray(decode(data))[0, :, 0].tolist() == [0, 0, 1, 0x7F, 0x80, 0xFF]


MODES = "1 PNG,1 TIFF,1 BMP,L JPEG,L PPM,P PNG,P GIF,P BMP,CMYK JPEG,CMYK TIFF,YCbCr JPEG,YCbCr TIFF"


@pytest.mark.parametrize("pair", MODES.split(","))
def test_every_other_mode_becomes_rgb(pair: str) -> None:
    mode, kind = pair.split()
    image = decode(encoded(quadrants().convert(mode), kind))
    assert (image.mode, image.size) == ("RGB", (48, 32))
    if mode in ("CMYK", "YCbCr", "P"):
        assert corner_colours(image) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (Image.fromarray(np.ones((2, 2), dtype=np.float32)), "floats without a known range"),
        (Image.fromarray(np.full((2, 2), 70_000, dtype=np.int32)), "integers beyond 16 bits"),
    ],
)
def test_pixels_without_a_meaning_are_refused(image: Image.Image, said: str) -> None:
    with pytest.raises(SampleError, match=f"TIFF image .*{said}"):
        decode(encoded(image, "TIFF"))


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.abs(np.asarray(decode(data))[1, 1].astype(int) - (255, 0, 0)).max() < 5, kind


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes"),
        (b"not an image at all", "not an image: 19 bytes"),
        (b"\x89PNG\r\n\x1a\n", "PNG image with a broken header"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
        (b"\xff\xd8\xff", "JPEG image with a broken header"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "WEBP image with a broken header"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(data: bytes, said: str) -> None:
    with pytest.raises(SampleError, match=said) as caught:
        decode(data)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_truncated_files_are_refused(kind: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    assert decode(data).size == (64, 64)
    with pytest.raises(SampleError):
        decode(data[: len(data) // 2])


def bomb(kind: str) -> bytes:
    if kind == "PNG":
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 99))
    if kind == "PPM":
        return b"P6 100000 100000 255\n"
    if kind == "GIF":
        return b"GIF89a" + struct.pack("<HH", 65535, 65535) + encoded(Image.new("P", (1, 1)), "GIF")[10:]
    if kind == "BMP":
        small, large = struct.pack("<ii", 1, 1), struct.pack("<ii", 40_000, 40_000)
        return encoded(Image.new("RGB", (1, 1)), "BMP").replace(small, large)
    data = encoded(Image.new("RGB", (1, 1)), "JPEG")
    return data.replace(struct.pack(">BHH", 8, 1, 1), struct.pack(">BHH", 8, 65000, 65000))


@pytest.mark.parametrize("kind", ["PNG", "PPM", "GIF", "BMP", "JPEG"])
def test_a_bomb_is_refused_on_its_declared_size(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(self: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    with pytest.raises(SampleError, match=r"\d+ x \d+ px, more than 178,956,970 pixels"):
        decode(bomb(kind))


def test_a_webp_bomb_is_refused_too() -> None:
    riff = bytearray(encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 9)), "WEBP", lossless=True))
    at = riff.index(b"VP8L") + 9
    riff[at : at + 4] = struct.pack("<I", 16383 | 16383 << 14 | 1 << 28)
    with pytest.raises(SampleError, match=r"178,956,970|broken header"):
        decode(bytes(riff))


def test_the_limit_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 12)
    assert decode(encoded(Image.new("RGB", (4, 3)), "PNG")).size == (4, 3)
    with pytest.raises(SampleError, match="13 x 1 px, more than 12 pixels"):
        decode(encoded(Image.new("RGB", (13, 1)), "PNG"))


def test_a_large_legal_picture_warns_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's own open warns from MAX_IMAGE_PIXELS on; warnings are errors in this suite."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    data = encoded(quadrants(), "PNG")
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(BytesIO(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data).size == (48, 32)


def test_threads_see_what_one_thread_sees() -> None:
    files = [data for data, _ in TRANSPARENT.values()] * 12 + [
        b"",
        b"no",
    ] * 25

    def outcome(data: bytes) -> object:
        try:
            return decode(data).tobytes()
        except SampleError as exc:
            return str(exc)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, files)) == [outcome(data) for data in files]


def test_damaged_files_raise_sample_error_and_nothing_else() -> None:
    """400 files with bytes overwritten: each decodes or is refused in one line."""
    chance = random.Random(5)
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    sources = [encoded(noise, kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
    sources += [encoded(noise.convert("L"), kind) for kind in ("GIF", "BMP", "PPM")]
    refused: list[str] = []
    for turn in range(400):
        data = bytearray(sources[turn % len(sources)])
        for _ in range(chance.randint(1, 12)):
            data[chance.randrange(min(len(data), 400))] = chance.randrange(256)
        try:
            assert decode(bytes(data)).mode == "RGB"
        except SampleError as exc:
            refused.append(str(exc))
    assert 50 < len(refused) < 400
    assert not any("\n" in reason for reason in refused)

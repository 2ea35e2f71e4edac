"""Pixels of the paper protocol against what TensorFlow made of the same files.

tests/golden/pixels holds encoded pictures, and what tf.io.decode_image, tf.image.resize (bilinear) and the
cast to uint8 of TensorFlow 2.21 give; cases.json says which is which. PGBENCH_GOLDEN_PIXELS=DIR names another
set of the same form.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pgbench.backends.paligemma.decoding import decode
from pgbench.backends.paligemma.pixels import Levels, bilinear, resize, value_range

SHIPPED = Path(__file__).parent / "golden" / "pixels"
MOST, MEAN = 1, 0.25  # levels of 255, of lossless files
LOSSY_MOST, LOSSY_MEAN = 8, 0.55


@dataclass(frozen=True)
class Case:
    name: str
    picture: Levels
    resolution: int
    antialias: bool
    lossy: bool
    expected: Levels


Way = Callable[[Case], Levels]


def cases_of(folder: Path) -> list[Case]:
    listed = json.loads((folder / "cases.json").read_text(encoding="utf-8"))["cases"]
    return [
        Case(
            name=one["expected"],
            picture=decode((folder / one["input"]).read_bytes()),
            resolution=one["resolution"],
            antialias=one["antialias"],
            lossy=one["lossy"],
            expected=np.asarray(Image.open(folder / one["expected"]).convert("RGB")),
        )
        for one in listed
    ]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return cases_of(Path(os.environ.get("PGBENCH_GOLDEN_PIXELS", SHIPPED)))


def ours(case: Case) -> Levels:
    return resize(case.picture, case.resolution, antialias=case.antialias)


def other_flag(case: Case) -> Levels:
    return resize(case.picture, case.resolution, antialias=not case.antialias)


def rounded(case: Case) -> Levels:
    found = bilinear(case.picture, case.resolution, antialias=case.antialias)
    return np.rint(np.clip(found, 0, 255)).astype(np.uint8)


def bicubic(case: Case) -> Levels:
    size = (case.resolution, case.resolution)
    return np.asarray(Image.fromarray(case.picture).resize(size, Image.Resampling.BICUBIC))


def beyond(way: Way, cases: list[Case]) -> list[str]:
    """What is farther from TensorFlow than is allowed, and how far."""
    found = []
    for case in cases:
        apart = np.abs(way(case).astype(int) - case.expected)
        most, mean = (LOSSY_MOST, LOSSY_MEAN) if case.lossy else (MOST, MEAN)
        if apart.max() > most or apart.mean() > mean:
            found.append(f"{case.name}: {apart.max()} at most, {apart.mean():.3f} on average")
    return found


def test_pixels_are_those_of_tensorflow(cases: list[Case]) -> None:
    assert cases
    assert beyond(ours, cases) == []


@pytest.mark.parametrize("way", [bicubic, other_flag, rounded])
def test_another_resize_is_seen(way: Way, cases: list[Case]) -> None:
    assert beyond(way, cases)


def test_the_shipped_set_is_met_to_the_last_bit() -> None:
    """JPEG too: the decoder's transform and its chroma are libjpeg's, whatever Pillow does by default."""
    cases = cases_of(SHIPPED)
    assert len(cases) == 22
    assert {case.lossy for case in cases} == {case.antialias for case in cases} == {True, False}
    assert [case.name for case in cases if not np.array_equal(ours(case), case.expected)] == []


def test_levels_become_the_range_of_the_model() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    found = value_range(levels)
    assert found.shape == (3, 16, 16)
    assert found.dtype == np.float32
    assert np.array_equal(found[1].ravel(), np.arange(256, dtype=np.float32) / np.float32(127.5) - 1)
    assert (found.min(), found.max()) == (-1, 1)

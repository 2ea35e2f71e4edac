"""Probes of what the model is shown: tokens, pixels, and whether the picture arrives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

from pgbench.backends.paligemma.checkpoint import read_object
from pgbench.backends.paligemma.probes_patient import (
    Patient,
    apart,
    ask,
    picture,
    png,
    question,
    watch,
)
from pgbench.errors import SampleError, told
from pgbench.records import Finding
from pgbench.types import Pixels, Prepared

_PROMPTS = ("answer en what is it?", "", "two  blanks", "ünïcode 標識 🚏", "<loc0012> here", "a\nb")
# Siglip's processor, as in the published preprocessor_config.json: bicubic, 1/255, mean and deviation 0.5.
_PUBLISHED = {"resample": 3, "rescale_factor": 1 / 255, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_LEVEL = 127.5  # levels of 255 to one unit of a pixel value from -1 to 1
_EXACT = 0.01  # levels: rounding of float32
_PAPER_WORST, _PAPER_MEAN = 1.001, 0.25  # levels: what pixels.py keeps to against TensorFlow's own
_OWN = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.05, "8bit": 0.3, "4bit": 0.1, "fp4": 0.1}
_MOVED = 1e-3  # of the spread of the logits


def layout(patient: Patient) -> Finding:
    """Image tokens, bos, prefix, newline: exact ids and counts."""
    try:
        laid_out = list(_laid_out(patient))
    except (SampleError, KeyError) as error:  # token_type_ids, say, or a second control token
        return Finding("layout", False, f"a plain prompt cannot be prepared: {told(error)}")
    wrong = [said for prepared, count in laid_out if (said := _misplaced(patient, prepared, count))]
    tokens = _image_tokens(patient)
    figures = {"image_tokens": tokens, "prompts": len(_PROMPTS) + 1}
    if wrong:
        return Finding("layout", False, wrong[0], figures)
    what = "bos, turns" if patient.checkpoint.chat_attention else "bos, prefix, newline"
    return Finding("layout", True, f"{tokens} image tokens, {what}", figures)


def _laid_out(patient: Patient) -> Iterator[tuple[Prepared, int]]:
    """Prompts as prepared, with the number of pictures."""
    one, two = picture(patient, 1), picture(patient, 2)
    for prompt in _PROMPTS:
        yield ask(patient.backend, prompt, (one,)), 1
    yield ask(patient.backend, _PROMPTS[0], (one, two)), 2


def _image_tokens(patient: Patient) -> int:
    vision = patient.model.config.vision_config
    return int(vision.image_size // vision.patch_size) ** 2


def _misplaced(patient: Patient, prepared: Prepared, count: int) -> str:
    """What is wrong with one prompt; "" where nothing is."""
    inputs: Any = prepared.inputs
    image = patient.model.config.image_token_id
    behind = _behind_images(patient, prepared.request.prompt)
    wanted = [image] * (count * _image_tokens(patient)) + behind
    found = inputs.ids.tolist()
    if found == wanted:
        return ""
    name = repr(prepared.request.prompt)
    if found.count(image) != wanted.count(image):
        return f"{found.count(image)} image tokens for {count} pictures, expected {wanted.count(image)}"
    if found == wanted[:-1]:
        return f"the newline behind {name} is missing"
    place = next((n for n, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]), None)
    where = min(len(found), len(wanted)) if place is None else place
    return f"token {where} of {name} is {found[where : where + 1]}, expected {wanted[where : where + 1]}"


def _behind_images(patient: Patient, prompt: str) -> list[int]:
    """bos, prefix and newline, each tokenized by itself; of a chat checkpoint its turns."""
    words = patient.backend._loaded.processor.tokenizer
    parts: tuple[str, ...] = (prompt, "\n")
    if patient.checkpoint.chat_attention is not None:
        start, end = "<start_of_turn>", "<end_of_turn>"
        parts = (start, "user\n" + prompt.strip(), end, "\n", start, "model\n")
    ids = (words(part, add_special_tokens=False)["input_ids"] for part in parts)
    return [words.bos_token_id, *(token for part in ids for token in part)]


def pixels(patient: Patient) -> Finding:
    """What the protocol makes of pictures, computed a second time from the published numbers."""
    paper = patient.checkpoint.protocol == "paper"
    far = [
        np.abs(_prepared(patient, levels, flag) - (_bilinear if paper else _published)(patient, levels, flag))
        for levels in _pictures(patient.checkpoint.resolution)
        for flag in ((True, False) if paper else (True,))
    ]
    worst = max(float(one.max()) for one in far) * _LEVEL
    mean = max(float(one.mean()) for one in far) * _LEVEL
    limit = _PAPER_WORST if paper else _EXACT
    what = (
        "TensorFlow's bilinear, truncated" if paper else f"filter {_numbers(patient)['resample']} of Pillow"
    )
    return Finding(
        "pixels",
        worst <= limit and mean <= _PAPER_MEAN,
        f"at most {worst:.3g} of 255 from {what}, {mean:.2g} on average",
        {"worst_levels": worst, "mean_levels": mean, "limit_levels": limit},
    )


def _pictures(side: int) -> list[NDArray[np.uint8]]:
    """Fine noise: larger, not square, and smaller than the resolution. [height, width, 3]."""
    sizes = ((side * 2 + 3, side * 3 - 5), (side // 2 + 1, side // 3 + 1))
    found = []
    for seed, (height, width) in enumerate(sizes):
        data = random.Random(seed).randbytes(height * width * 3)
        found.append(np.frombuffer(data, np.uint8).reshape(height, width, 3))
    return found


def _prepared(patient: Patient, levels: NDArray[np.uint8], antialias: bool) -> NDArray[Any]:
    request = ask(patient.backend, "a", (png(Pillow.fromarray(levels), "noise.png"),)).request
    prepared = patient.backend.prepare(replace(request, pixels=Pixels(antialias, 32)))
    inputs: Any = prepared.inputs
    return np.asarray(inputs.pixels[0].double())


def _sides(patient: Patient) -> tuple[int, ...]:
    point = patient.checkpoint
    return (point.resolution,) if point.pixels_from is None else (point.pixels_from, point.resolution)


def _numbers(patient: Patient) -> dict[str, Any]:
    """What the checkpoint's own file says of pixels, not the processor that was loaded."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (patient.folder / name).is_file():
            found = read_object(patient.folder / name, patient.checkpoint.id)
            said = found.get("image_processor", found)
            return {key: said[key] if said.get(key) is not None else _PUBLISHED[key] for key in _PUBLISHED}
    return _PUBLISHED


def _published(patient: Patient, levels: NDArray[np.uint8], _antialias: bool) -> NDArray[Any]:
    said = _numbers(patient)
    resized: Any = levels
    for side in _sides(patient):
        resized = _resized(resized, side, said["resample"])
    values = resized * said["rescale_factor"]
    normal: NDArray[Any] = (values - np.array(said["image_mean"])) / np.array(said["image_std"])
    return normal.transpose(2, 0, 1)


def _resized(levels: NDArray[Any], side: int, filter_: int) -> NDArray[Any]:
    """Pillow's resize, with its integer weights and without its code: across, rounded, then down.

    Source: Resample.c. Filters that no PaliGemma was published with are left to Pillow.
    """
    if filter_ not in _KERNELS:
        return np.asarray(Pillow.fromarray(levels).resize((side, side), filter_))
    across, down = (_fixed(size, side, filter_) for size in (levels.shape[1], levels.shape[0]))
    found = _levels(np.einsum("bw,hwc->hbc", across, levels.astype(np.float64), optimize=True))
    return _levels(np.einsum("ah,hbc->abc", down, found.astype(np.float64), optimize=True))


def _levels(sums: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.floor((sums + _ONE // 2) / _ONE), 0, 255).astype(np.uint8)


def _fixed(size: int, side: int, filter_: int) -> NDArray[np.float64]:
    """[side, size]: weights of the source lines, whole numbers of 1 / _ONE: their sums are exact."""
    if size == side:
        return np.eye(size) * _ONE
    reach, kernel = _KERNELS[filter_]
    step = size / side
    wide = max(step, 1.0)
    centre = ((np.arange(side) + 0.5) * step)[:, None]
    lines = np.arange(size)[None]
    inside = (lines >= np.trunc(centre - reach * wide + 0.5)) & (
        lines < np.trunc(centre + reach * wide + 0.5)
    )
    weights = np.where(inside, kernel(np.abs(lines - centre + 0.5) / wide), 0.0)
    weights = weights / weights.sum(1, keepdims=True) * _ONE
    return np.asarray(np.trunc(weights + np.copysign(0.5, weights)))


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    near, far = (1.5 * x - 2.5) * x * x + 1, -0.5 * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1 - x, 0)


_KERNELS = {2: (1.0, _triangle), 3: (2.0, _cubic)}  # Pillow's number -> reach and weight
_ONE = 1 << 22  # its fixed point


def _bilinear(patient: Patient, levels: NDArray[np.uint8], antialias: bool) -> NDArray[Any]:
    """By matrices in float64; pixels.py goes tap by tap in float32."""
    found = levels.astype(np.float64)
    for side in _sides(patient):
        down, across = (_triangles(size, side, antialias) for size in found.shape[:2])
        found = np.floor(np.clip(np.einsum("ah,hwc,bw->abc", down, found, across, optimize=True), 0, 255))
    return found.transpose(2, 0, 1) / _LEVEL - 1


def _triangles(size: int, side: int, antialias: bool) -> NDArray[np.float64]:
    """[side, size]: the weight of each source line in each line; edges repeat without antialias."""
    step = size / side
    centre = (np.arange(side) + 0.5) * step - 0.5
    if not antialias:
        centre = np.clip(centre, 0, size - 1)
    radius = max(step, 1.0) if antialias else 1.0
    weights = np.maximum(1 - np.abs(np.arange(size)[None] - centre[:, None]) / radius, 0)
    return np.asarray(weights / weights.sum(1, keepdims=True))


def image(patient: Patient) -> Finding:
    """Each row's picture stands at its image tokens, and another picture moves the logits."""
    rows = max(2, patient.batch)
    asked = [question(patient, 1 + row, words=3 + row % 7) for row in range(rows)]
    seen = watch(patient.backend, asked)
    token = patient.model.config.image_token_id
    features = [_features(patient, prepared) for prepared in asked]
    own, other = [], []
    for row, ids in enumerate(seen.inputs[0]["input_ids"].cpu()):
        at = seen.embeds[0][row, ids == token]
        own.append(_distance(at, features[row]))
        other.append(min(_distance(at, one) for two, one in enumerate(features) if two != row))
    swapped = _with_pixels(asked[0], asked[1])
    moved = apart(seen.logits[0][0], watch(patient.backend, [swapped, *asked[1:]]).logits[0][0])
    figures = {"own": max(own), "other": min(other), "moved": moved}
    limit = patient.limit(_OWN)
    if not (max(own) <= limit and max(own) < min(other)):
        said = f"features at the image tokens are {max(own):.2g} from the row's own picture, limit {limit:g}"
    elif not moved > _MOVED:
        said = (
            f"another picture moves the logits by {moved:.2g} of their spread, expected more than {_MOVED:g}"
        )
    else:
        said = f"own picture at its tokens, another moves the logits by {moved:.2g} of their spread"
        return Finding("image", True, said, figures)
    return Finding("image", False, said, figures)


def _features(patient: Patient, prepared: Prepared) -> torch.Tensor:
    """[image tokens, width] of a question's picture, looked at alone."""
    loaded = patient.backend._loaded
    inputs: Any = prepared.inputs
    with torch.inference_mode():
        found = loaded.model.get_image_features(inputs.pixels.to(loaded.device, loaded.dtype)).pooler_output
    return found.reshape(-1, found.shape[-1]).float().cpu()


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm()) if one.shape == other.shape else float("inf")


def _with_pixels(prepared: Prepared, other: Prepared) -> Prepared:
    inputs: Any = prepared.inputs
    theirs: Any = other.inputs
    return replace(prepared, inputs=replace(inputs, pictures=theirs.pictures))

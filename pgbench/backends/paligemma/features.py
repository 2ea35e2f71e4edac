"""What the vision tower makes of pictures, once for each picture.

Benchmarks ask many questions about one picture (GQA 32, POPE 18, VQAv2 5). The text model takes features in
the place of pixels where transformers has `mm_encoder_outputs` (since 5.18); before that every row brings its
pixels. What a picture gives may differ in its last bits by what is computed beside it, below float32, so that
what is computed together is decided by the plan and never by what happens to be kept:

- the different pictures of a batch are one group, in the order of its rows;
- a picture whose questions go on in another batch (`Request.alone`) is computed by itself, and kept for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pgbench.backends.paligemma.once import Once
from pgbench.backends.paligemma.pictures import Picture


@dataclass(frozen=True, slots=True)
class Inputs:
    """One prompt, unpadded. ids and types: [length]; `alone`: its pictures are computed by themselves."""

    ids: torch.Tensor
    types: torch.Tensor
    pictures: tuple[Picture, ...]
    alone: bool = False

    @property
    def pixels(self) -> torch.Tensor:
        """[images, 3, side, side] in float32."""
        return torch.stack([one.pixels for one in self.pictures])


def left_padded(rows: Sequence[Inputs], pad: int) -> dict[str, torch.Tensor]:
    """[rows, longest] ids, mask and types, as the model takes them.

    Few operations, and most of them numpy's: torch gives Python's lock away at every one, and beside a
    thread that prepares the next batch waits for it longer than the operation takes.
    """
    ids, types = (
        torch.cat(column).numpy() for column in ([row.ids for row in rows], [row.types for row in rows])
    )
    lengths = np.array([row.ids.numel() for row in rows])
    longest = int(lengths.max())
    there = np.arange(longest) >= longest - lengths[:, None]
    found = {name: np.full(there.shape, value) for name, value in (("input_ids", pad), ("token_type_ids", 0))}
    found["input_ids"][there], found["token_type_ids"][there] = ids, types
    found["attention_mask"] = there.astype(np.int64)
    return {name: torch.from_numpy(array) for name, array in found.items()}


def sizes(config: Any, dtype: torch.dtype) -> tuple[int, int]:
    """Bytes of one picture's pixels, in float32, and of its features, in the model's dtype."""
    vision, text = config.vision_config, config.text_config
    tokens = (vision.image_size // vision.patch_size) ** 2
    return 3 * vision.image_size**2 * 4, tokens * int(text.hidden_size) * dtype.itemsize


class Features:
    """Features of pictures, for one loaded model; called from one thread."""

    def __init__(self, model: Any, most: int) -> None:
        """`most`: bytes that are kept on the device for batches to come."""
        self.reused = "mm_encoder_outputs" in inspect.signature(model.forward).parameters
        self._kept: Once[tuple[str, str], torch.Tensor] = Once(most, lambda one: one.nbytes)

    def inputs(
        self, model: Any, rows: Sequence[Inputs], device: torch.device, dtype: torch.dtype
    ) -> dict[str, Any]:
        """What stands for the pictures of a batch among the model's keywords."""
        if not self.reused:
            pixels = torch.cat([row.pixels for row in rows]).to(device, dtype)
            return {"pixel_values": pixels}
        with torch.inference_mode():
            found = self.of(model, rows, device, dtype)
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=found)}}

    def of(
        self, model: Any, rows: Sequence[Inputs], device: torch.device, dtype: torch.dtype
    ) -> torch.Tensor:
        """[images, image tokens, width], in the order of the rows."""
        asked = [((row.alone, one.key, one.rule), one) for row in rows for one in row.pictures]
        different = dict(asked)
        together = {name: one for name, one in different.items() if not name[0]}
        alone = {name: one for name, one in different.items() if name[0]}

        def look(pictures: Sequence[Picture]) -> torch.Tensor:
            return _looked_at(model, pictures, device, dtype)

        def by_itself(picture: Picture) -> torch.Tensor:
            # a copy: of a view, the cache would hold more than it counts
            return self._kept.get(_name(picture), lambda: look([picture]).clone())

        parts = [look([*together.values()])] if together else []
        parts += map(by_itself, alone.values())
        found = parts[0] if len(parts) == 1 else torch.cat(parts)
        places = {name: place for place, name in enumerate((*together, *alone))}
        wanted = [places[name] for name, _ in asked]
        if wanted == [*range(len(found))]:
            return found
        return found.index_select(0, torch.tensor(wanted, device=found.device))

    def forget(self) -> None:
        """Let go of what is kept: it would be computed again, bit for bit."""
        self._kept.clear()


def _name(picture: Picture) -> tuple[str, str]:
    return picture.key, picture.rule


def _looked_at(
    model: Any, pictures: Sequence[Picture], device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """[images, image tokens, width], computed in one pass."""
    first, *others = (one.pixels for one in pictures)
    pixels = (torch.stack([first, *others]) if others else first[None]).to(device, dtype)  # one is not copied
    found: torch.Tensor = model.get_image_features(pixels).pooler_output
    return found

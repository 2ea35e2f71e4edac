"""The attention of each layer of the text model, computed a second time from what went into it.

From queries, keys and values as the projections give them, the rotation and the score's scale to what the
layer hands to its output projection: softmax over every key that the protocol lets a token see. What a mask,
a kernel or a cache makes of it shows as a distance, whatever a config says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from pgbench.backends.paligemma.probes_patient import Hook, Patient, wanted_types
from pgbench.types import Prepared

Rows: TypeAlias = list[torch.Tensor]
# Distance of a layer's output from the same attention in float32; measured at most 2e-6 in float32 and
# 0.02 in 16 bits, where scores are rounded before the softmax. A causal layer is off by about 1.
ASTRAY = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.1}


@dataclass(slots=True)
class Layer:
    """One attention module and what passed through it, an entry for each forward pass, on its device."""

    module: Any
    queries: Rows = field(default_factory=list)  # [rows, places looked at, width]
    keys: Rows = field(default_factory=list)  # [rows, length, width]
    values: Rows = field(default_factory=list)
    outputs: Rows = field(default_factory=list)  # [rows, places looked at, width], into the output projection
    turns: list[tuple[torch.Tensor, torch.Tensor]] = field(
        default_factory=list
    )  # cosine, sine: [rows, length, head]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a batch, padded on the left."""

    number: int
    padding: int  # places
    length: int  # padding included
    types: torch.Tensor  # [length without padding]: 0 where attention goes both ways, 1 where it is causal

    def hidden(self, at: Sequence[int]) -> torch.Tensor:
        """[places, keys]: what a token may not see, of the tokens without the padding."""
        keys = torch.arange(len(self.types))
        queries = torch.tensor([place - self.padding for place in at])[:, None]
        both = (self.types[None] == 0) & (self.types[queries[:, 0]][:, None] == 0)
        return (keys[None] > queries) & ~both


@contextlib.contextmanager
def layers(patient: Patient, places: Sequence[int] | None = None, passes: int = 2) -> Iterator[list[Layer]]:
    """Look into every layer; `places`: of the first pass, counted from its end, all where None."""
    found = [
        Layer(module)
        for path, module in patient.text.named_modules()
        if path.rpartition(".")[2] == "self_attn"
    ]
    handles = []
    for layer in found:
        attention = layer.module
        handles += [
            attention.register_forward_pre_hook(_turning(layer, passes), with_kwargs=True),
            attention.q_proj.register_forward_hook(_leaving(layer.queries, passes, places)),
            attention.k_proj.register_forward_hook(_leaving(layer.keys, passes, None)),
            attention.v_proj.register_forward_hook(_leaving(layer.values, passes, None)),
            attention.o_proj.register_forward_pre_hook(_entering(layer.outputs, passes, places)),
        ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def boosted(patient: Patient, factors: Sequence[float]) -> list[Hook]:
    """Hooks that multiply the queries of each layer, so that its scores reach a cap."""

    def times(factor: float) -> Callable[..., torch.Tensor]:
        return lambda _module, _args, output: output * factor

    modules = [m for path, m in patient.text.named_modules() if path.rpartition(".")[2] == "q_proj"]
    return [(module, times(factor)) for module, factor in zip(modules, factors, strict=True)]


def row_of(patient: Patient, batch: Sequence[Prepared], number: int) -> Row:
    """A row of a batch that is padded on the left."""
    longest = max(prepared.length for prepared in batch)
    return Row(number, longest - batch[number].length, longest, wanted_types(patient, batch[number]))


def scores(layer: Layer, row: Row, places: Sequence[int]) -> torch.Tensor:
    """[heads, places, keys] of the first pass: before any cap; keys without the padding."""
    return _scores(layer, row, [row.length - place for place in places], step=0)


def astray(
    layer: Layer,
    row: Row,
    places: Sequence[int],
    *,
    cap: float | None,
    step: int = 0,
    sees: int | None = None,
) -> float:
    """How far the layer's output is from the same attention computed here, at the worst of the places.

    `places`: as given to `layers`; at `step` 1 the one new token, which sees all. `sees`: so many of the
    last keys alone. A distance is over the length of what was expected; nan stays nan.
    """
    at = [row.length - place for place in places] if step == 0 else [row.length]
    found = _scores(layer, row, at, step)
    if cap is not None:
        found = cap * torch.tanh(found / cap)
    if step == 0:
        found.masked_fill_(row.hidden(at).to(found.device), -torch.inf)
    if sees is not None:
        found[..., : max(0, found.shape[-1] - sees)] = -torch.inf
    heads, queries, _ = found.shape
    values = _repeat(_all(layer.values, row, step), heads, layer.module.head_dim)
    expected = (found.softmax(-1) @ values).transpose(0, 1).reshape(queries, -1)
    output = layer.outputs[step][row.number].float()
    return float(((output - expected).norm(dim=-1) / expected.norm(dim=-1)).max())


def _scores(layer: Layer, row: Row, at: Sequence[int], step: int) -> torch.Tensor:
    width = layer.module.head_dim
    queries = _heads(layer.queries[step][row.number], width)
    cosine, sine = (_turns(layer, row, step, part) for part in (0, 1))
    queries = _turned(queries, cosine[list(at)], sine[list(at)])
    keys = _heads(_all(layer.keys, row, step), width)
    keys = _turned(keys, cosine[row.padding :], sine[row.padding :])
    return queries @ _spread(keys, len(queries)).transpose(1, 2) * layer.module.scaling


def _turns(layer: Layer, row: Row, step: int, part: int) -> torch.Tensor:
    """[length, head], of the first pass and those after it; one row stands for all where they are alike."""
    tensors = [turn[part] for turn in layer.turns[: step + 1]]
    return torch.cat([one[min(row.number, len(one) - 1)] for one in tensors]).float()


def _all(kept: Rows, row: Row, step: int) -> torch.Tensor:
    """[keys, width] of a row without its padding, of the first pass and those after it."""
    return torch.cat([one[row.number] for one in kept[: step + 1]])[row.padding :]


def _heads(flat: torch.Tensor, width: int) -> torch.Tensor:
    """[places, heads * width] to [heads, places, width] in float32."""
    return flat.float().view(len(flat), -1, width).transpose(0, 1)


def _spread(shared: torch.Tensor, heads: int) -> torch.Tensor:
    """Keys or values that several heads share, repeated for each."""
    return shared.repeat_interleave(heads // len(shared), dim=0)


def _repeat(flat: torch.Tensor, heads: int, width: int) -> torch.Tensor:
    return _spread(_heads(flat, width), heads)


def _turned(part: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotary positions, halves of a head paired (arXiv:2104.09864 as Gemma has it)."""
    first, second = part.chunk(2, dim=-1)
    return part * cosine + torch.cat([-second, first], dim=-1) * sine


def _turning(layer: Layer, passes: int) -> Callable[..., None]:
    def look(_module: object, _args: object, kwargs: dict[str, Any]) -> None:
        if len(layer.turns) < passes:
            cosine, sine = kwargs["position_embeddings"]
            layer.turns.append((cosine.detach(), sine.detach()))

    return look


def _leaving(kept: Rows, passes: int, places: Sequence[int] | None) -> Callable[..., None]:
    def look(_module: object, _args: object, output: torch.Tensor) -> None:
        if len(kept) < passes:
            kept.append(_chosen(output, places if not kept else None))

    return look


def _entering(kept: Rows, passes: int, places: Sequence[int] | None) -> Callable[..., None]:
    def look(_module: object, args: tuple[torch.Tensor, ...]) -> None:
        if len(kept) < passes:
            kept.append(_chosen(args[0], places if not kept else None))

    return look


def _chosen(tensor: torch.Tensor, places: Sequence[int] | None) -> torch.Tensor:
    """Some places counted from the end: 1 is the last."""
    if places is None:
        return tensor.detach()
    return tensor.detach()[:, [tensor.shape[1] - place for place in places]]

"""Where the weights lie: on one device, or with --device auto-map wherever there is room (accelerate).

What no device has room for stays in the computer's memory, then in the checkpoint's own files, and is brought
to a device each time it is needed: slow, and the same answers. Nothing is written anywhere for that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pgbench.errors import CheckpointError, UsageError
from pgbench.records import PeakMemory
from pgbench.types import Checkpoint, ModelRequest

AUTO_MAP = "auto-map"
_ELSEWHERE = ("cpu", "disk")  # where weights wait to be brought to a device
_BUDGET = re.compile(r"\s*(cpu|[0-9]+)\s*=\s*([0-9]+(?:\.[0-9]+)?\s*[KMGT]i?B)\s*")


def entrance(request: ModelRequest) -> str:
    """The device that inputs go to."""
    return "auto" if request.device == AUTO_MAP else request.device


def max_memory(request: ModelRequest) -> dict[int | str, str] | None:
    """What --max-memory allows each device: 0=20GiB,cpu=60GiB. Raises UsageError."""
    if request.max_memory is None:
        return None
    if request.device != AUTO_MAP:
        raise UsageError(f"--max-memory goes with --device {AUTO_MAP}, not with {request.device}")
    parts = [(_BUDGET.fullmatch(part), part) for part in request.max_memory.split(",")]
    for found, part in parts:
        if found is None:
            raise UsageError(
                f"--max-memory: got {part!r}, expected a device and its limit, as 0=20GiB,cpu=60GiB"
            )
    return {
        int(found[1]) if found[1].isdecimal() else found[1]: found[2].replace(" ", "")
        for found, _ in parts
        if found
    }


def options(request: ModelRequest, device: torch.device) -> dict[str, Any]:
    """What from_pretrained is told about devices."""
    if request.device != AUTO_MAP:
        return {"device_map": {"": device}}
    budget = max_memory(request)
    return {"device_map": "auto"} | ({"max_memory": budget} if budget else {})


def placed(model: Any, request: ModelRequest) -> dict[str, str]:
    """Module -> device, cpu or disk, as it came out; empty where one device was asked for."""
    if request.device != AUTO_MAP:
        return {}
    found = getattr(model, "hf_device_map", None) or {"": model.device}  # it has none where all lies together
    return {name: f"cuda:{where}" if isinstance(where, int) else str(where) for name, where in found.items()}


def offloaded(placement: Mapping[str, str]) -> list[str]:
    """Modules whose weights wait elsewhere than on the device that computes with them."""
    waiting = _ELSEWHERE if _gpus(placement) else ("disk",)
    return [name for name, where in placement.items() if where in waiting]


def require_resident(checkpoint: Checkpoint, placement: Mapping[str, str]) -> None:
    """An adapter is not put into weights that wait elsewhere. Raises CheckpointError."""
    if checkpoint.adapter and (waiting := offloaded(placement)):
        raise CheckpointError(
            f"--adapter needs all of {checkpoint.id} on devices; {len(waiting)} parts do not fit, first: "
            f"{waiting[0] or 'all of it'}; raise --max-memory, or merge the adapter beforehand"
        )


def no_room(checkpoint: Checkpoint, why: str) -> CheckpointError:
    """Of a quantized model: what is quantized cannot wait elsewhere."""
    return CheckpointError(
        f"{checkpoint.id} as --quant {checkpoint.quant} does not lie on devices as a whole, which it has to; "
        f"raise --max-memory, or use --quant none ({why})"
    )


def peak(used: Sequence[torch.device]) -> PeakMemory | None:
    """What torch allocated at most, over all GPUs in use; None without one."""
    if not used:
        return None
    return PeakMemory(sum(map(torch.cuda.max_memory_allocated, used)), "device allocated")


def gpus(device: torch.device, placement: Mapping[str, str]) -> tuple[torch.device, ...]:
    """The GPUs in use."""
    found = _gpus(placement) or ([str(device)] if device.type == "cuda" else [])
    return tuple(torch.device(name) for name in found)


def _gpus(placement: Mapping[str, str]) -> list[str]:
    return sorted({where for where in placement.values() if where not in _ELSEWHERE})

"""What decides between kernels and is in no record: two machines of one stack can still add differently.

It is part of request keys, so that no answer is taken over from another kind of processor; a run may go on
there, which its record does not hide (`cpu_capability`).
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch
from PIL import features

# How names of environment variables begin that these libraries read: torch, oneDNN (which knows all of its
# own by two names), MKL, OpenBLAS, FBGEMM, cuBLAS, cuDNN and bitsandbytes. Some are harmless; new ones come.
_SETTINGS = (
    *("ATEN_", "TORCH_", "DISABLE_ADDMM", "ONEDNN_", "DNNL_", "MKL_", "OPENBLAS_", "FBGEMM_"),
    *("CUBLAS", "CUDNN_", "NVIDIA_TF32", "BNB_"),
)
_DECODERS = ("jpg", "libjpeg_turbo", "jpg_2000", "webp", "libtiff", "avif")  # one Pillow is built with many


def machine(device: torch.device) -> dict[str, object]:
    """The processor, where it computes, and switches of libraries."""
    return {
        "processor": _processor() if device.type == "cpu" else "",
        "settings": {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)},
        "build": torch.__config__.show(),  # one version is built with MKL and with OpenBLAS
        "decoders": {name: features.version(name) for name in _DECODERS},
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "mkldnn": torch.backends.mkldnn.enabled,
        "reduced": [
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        ],
        "attention": [
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
            torch.backends.cuda.cudnn_sdp_enabled(),
            torch.backends.cuda.math_sdp_enabled(),
        ],
    }


def _processor() -> str:
    """The model's name; kernels are chosen by what it can do, and by the size of its caches."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{platform.machine()} {next(named, platform.processor())}"

"""What decides between kernels and is in no record: two machines of one stack can still add differently.

It is part of request keys, so that no answer is taken over from another kind of processor; a run may go on
there, which its record does not hide (`cpu_capability`).
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

_SETTINGS = (  # read by torch, oneDNN, MKL, cuBLAS and bitsandbytes
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE"),
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG"),
    *("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_BLAS_PREFER_CUBLASLT", "BNB_CUDA_VERSION"),
)


def machine(device: torch.device) -> dict[str, object]:
    """The processor, where it computes, and switches of libraries."""
    return {
        "processor": _processor() if device.type == "cpu" else "",
        "settings": {name: os.environ[name] for name in _SETTINGS if name in os.environ},
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

"""What the backends for GPUs have in common."""

from __future__ import annotations

import torch

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
OLDEST_CAPABILITY = (8, 0)


def tf32_allowed() -> bool:
    """Whether float32 is multiplied through TF32: torch's own switch (torch.backends.cuda.matmul)."""
    # the new name of allow_tf32: reading that one raises where a program has set this one
    return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")


def why_not_capable(device: torch.device) -> str | None:
    """Why an NVIDIA GPU is too old for the kernels, or None."""
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) >= OLDEST_CAPABILITY:
        return None
    return f"it needs compute capability {OLDEST_CAPABILITY[0]}.{OLDEST_CAPABILITY[1]} or newer, {device} has {major}.{minor}"

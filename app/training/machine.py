"""What the machine that trains can do, and what it must be told to do it fast."""

import ctypes
import os

import torch

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER, _LARGEST = -1, 2**31 - 1


def computes_in_bfloat16(device: torch.device) -> bool:
    """Tell whether matrix products in bfloat16 are faster on a device than in float32.

    A CPU without instructions for it emulates them, which took 12 to 60 times as long in the
    segmenter's largest layers (AVX2).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("bf16"))


def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed tensors for the next ones.

    glibc gives memory of this size back at once and asks for it anew, and the system clears
    every page again: 600,000 page faults a step of phase two, a third of its time. The process
    stays as large as its largest step, which it reaches every few seconds anyway.

    Call it before the first tensor is made. Does nothing where the C library is another.

    Returns
    -------
    bool
        Whether the C library did as it was told.
    """
    # PyTorch asks for large pages where this is set, at its first allocation.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        adjust = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(adjust(_M_MMAP_THRESHOLD, _LARGEST) and adjust(_M_TRIM_THRESHOLD, _NEVER))

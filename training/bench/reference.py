"""A plain reference of a machine's speed, by which speeds on several machines can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import TypedDict

import torch

PRODUCT_SIZE = 1024  # rows and columns of both matrices
FFT_SIZE, N_FFTS = 2048, 4096
_N_RUNS = 9


class Reference(TypedDict):
    """The medians of nine runs, in single precision, with as many threads as PyTorch has in this process."""

    product_gflops: float  # 10^9 operations a second, a multiplication and an addition being two
    fft_mb_s: float  # 10^6 bytes of samples a second


def measure_reference(device: str = "cpu") -> Reference:
    """Return how fast PyTorch multiplies two matrices, and transforms frames of samples."""
    matrix = torch.rand(PRODUCT_SIZE, PRODUCT_SIZE, device=device)
    frames = torch.rand(N_FFTS, FFT_SIZE, device=device)
    product_s = _run_s(lambda: matrix @ matrix, device)
    fft_s = _run_s(lambda: torch.fft.rfft(frames), device)
    return {
        "product_gflops": 2e-9 * PRODUCT_SIZE**3 / product_s,
        "fft_mb_s": 1e-6 * frames.numel() * frames.element_size() / fft_s,
    }


def _run_s(work: Callable[[], object], device: str) -> float:
    """Return the seconds of one run, after a first one that is not counted."""
    took_s = []
    for _ in range(1 + _N_RUNS):
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        took_s.append(time.perf_counter() - began)
    return median(took_s[1:])

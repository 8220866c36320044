"""What the numbers were measured on, and how fast it multiplies and moves bytes."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from delf.pools import available_cores
from delf.verification import single_threaded_products

PACKAGES = ("delf-retrieval", "numpy", "onnxruntime", "openvino", "torch", "opencv-python-headless", "faiss-cpu",
            "pillow", "scikit-image", "scipy", "asmk")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd")


def describe() -> dict[str, Any]:
    """The processor, memory, system, versions, and measured rates of one core.

    load: the one-minute load average before anything ran; more than a little says that others use the machine.
    gigaflops: of a float32 matrix product. gigabytes: a second, copied.
    """
    cpu, flags = _cpu()
    return {"cpu": cpu, "cores": available_cores(), "flags": [flag for flag in FLAGS if flag in flags],
            "memory_gib": _memory(), "system": platform.platform(terse=True), "python": platform.python_version(),
            "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
            "versions": {name: found for name in PACKAGES if (found := _version(name))},
            "gigaflops": round(matrix_rate() / 1e9, 1), "gigabytes": round(copy_rate() / 1e9, 1)}


def matrix_rate(side: int = 1024, rounds: int = 5) -> float:
    """Floating-point operations a second of a float32 matrix product on one core: the best of some rounds."""
    left = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    out = np.empty_like(left)
    with single_threaded_products():
        return 2 * side**3 / _best(lambda: np.matmul(left, left.T, out=out), rounds)


def copy_rate(size: int = 1 << 28, rounds: int = 3) -> float:
    """Bytes a second that one core reads and writes again: the best of some rounds, on more than a cache holds."""
    source = np.zeros(size, np.uint8)
    target = np.ones_like(source)
    return 2 * size / _best(lambda: np.copyto(target, source), rounds)


def _best(work: Any, rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        start = time.thread_time()  # others may use the machine as well
        work()
        seconds.append(time.thread_time() - start)
    return min(seconds)


def _cpu() -> tuple[str, set[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), set()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {key.strip(): value.strip() for key, value in values.items()}
    return values.get("model name", platform.machine()), set(values.get("flags", values.get("Features", "")).split())


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

"""What a measurement was made on; without it a time means nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch


def describe() -> dict[str, Any]:
    """The processor, the threads, and the versions that matter."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "matrix_instructions": sorted(_cpu_flags() & {"amx_bf16", "amx_tile", "avx512_bf16"}),
        "load_before": load(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def load() -> float | None:
    """The average number of processes that wanted to run in the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _cpu_model() -> str:
    names = {
        line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")
    }
    return ", ".join(sorted(names)) or platform.processor() or "unknown"


def _cpu_flags() -> set[str]:
    flags = [line for line in _cpu_lines() if line.startswith("flags")]
    return set(flags[0].partition(":")[2].split()) if flags else set()

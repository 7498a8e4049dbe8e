"""Which blocks, warps and stages a kernel is launched with: looked up, never searched for.

The table lies in `configurations.json`, made by `bench/tune.py`. Nothing is tuned at the first
call.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch

PASSES = ("forward", "dq", "dkdv")
DTYPES = ("bfloat16", "float16", "float32")
HEAD_DIMS = (16, 32, 64, 80, 96, 128, 192, 256)
FAMILIES = ("sm_80", "sm_90", "sm_100", "gfx942")


@dataclass(frozen=True)
class Configuration:
    """How a kernel is launched: rows and columns at a time, warps, and stages of the pipeline."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


def block_d(head_dim: int) -> int:
    """The head_dim that a kernel works with: a power of two, of at least 16.

    >>> [block_d(d) for d in (8, 64, 80, 192)]
    [16, 64, 128, 256]
    """
    return max(16, 1 << (head_dim - 1).bit_length())


@cache
def table() -> dict[str, Any]:
    """The table: family, pass, `half` or `float32`, and padded head_dim."""
    text = files(__package__).joinpath("configurations.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@cache
def choose(family: str, pass_name: str, dtype: str, head_dim: int) -> Configuration:
    """The configuration of a kernel; that of the next larger head_dim if there is none.

    >>> choose("sm_90", "forward", "float16", 80) == choose("sm_90", "forward", "bfloat16", 128)
    True
    """
    kind = "float32" if dtype == "float32" else "half"
    rows = table()["families"][family][pass_name][kind]
    sizes = sorted(int(size) for size in rows)
    size = next(size for size in sizes if size >= min(head_dim, sizes[-1]))
    return Configuration(*rows[str(size)])


@cache
def family_of(device: torch.device) -> str:
    """The family of a device: that of the table which is nearest below it.

    >>> family_of(torch.device("cpu"))
    'sm_90'
    """
    if device.type != "cuda":
        return "sm_90"  # interpreted, where any will do
    if torch.version.hip is not None:
        return "gfx942"
    major, minor = torch.cuda.get_device_capability(device)
    known = [(int(name[3:-1]), int(name[-1]), name) for name in FAMILIES if name[:2] == "sm"]
    below = [one for one in known if one[:2] <= (major, minor)]
    return max(below or known)[2] if below else "sm_80"


def is_tuned(family: str) -> bool:
    """Whether the family's configurations were measured on hardware."""
    return bool(table()["families"][family]["tuned"])

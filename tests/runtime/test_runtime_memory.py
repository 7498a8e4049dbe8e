"""Memory follows the tiles, never the square of the length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import resource, sys
import numpy as np, torch
from attnloom.runtime.attention import attention
from attnloom.runtime.plan import Plan
from runtime_helpers import window_layout

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

n, heads = int(sys.argv[1]), 4
plan = Plan.from_layouts([window_layout(n, 256, 16)], np.zeros((1, heads), dtype=np.int64))
query, key, value = (torch.randn(1, heads, n, 64, requires_grad=True) for _ in range(3))
before = peak()
output = attention(query, key, value, plan)
forward = peak()
output.backward(torch.ones_like(output))
assert output.isfinite().all() and query.grad.isfinite().all()
tensor = query.numel() * 4 / 2**20
print(tensor, forward - before, peak() - before, peak())
"""


def megabytes(length: int) -> list[float]:
    """Of one tensor, what the forward pass and both passes added, and the peak of the process."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(length)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
    )  # fmt: skip
    return [float(word) for word in done.stdout.split()]


def test_work_fits_in_a_few_tensors_of_the_size_of_the_query() -> None:
    tensor, forward, both, _ = megabytes(16384)
    assert forward < 4 * tensor + 100
    # Three gradients, their float32 sums, copies of the inputs; a score matrix were 4096.
    assert both < 14 * tensor + 150


@pytest.mark.slow
def test_a_hundred_thousand_tokens_need_few_gigabytes() -> None:
    tensor, forward, both, peak = megabytes(131072)
    print(f"one tensor {tensor:.0f} MB, forward {forward:.0f}, both {both:.0f}, peak {peak:.0f}")
    assert forward < 4 * tensor
    assert peak < 4096

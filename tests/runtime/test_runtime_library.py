"""The bundled patterns, from the file to the gradients, against their definition."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from runtime_helpers import assert_as_good_as_dense, inputs, results, wishes_for

import attnloom


def inputs_for(pattern: attnloom.Pattern, n: int) -> dict[str, Any]:
    """Run-time inputs of every kind at any length."""
    given = {
        "tokens": lambda: [0, n // 2] if n > 1 else [0],
        "segments": lambda: np.arange(n) // 30,
        "links": lambda: [[i // 2, i // 3] if i % 5 else [] for i in range(n)],
    }
    return {name: given[kind]() for name, kind in pattern.inputs.items()}


def check(name: str, n: int, head_dim: int = 32, heads: int = 2) -> None:
    pattern = attnloom.load(name)
    where: dict[str, Any] = {"inputs": inputs_for(pattern, n), "layer": 1, "layers": 4}
    masks = [pattern.mask(n, head=head, heads=heads, **where) for head in range(heads)]
    dense = np.stack(masks)
    plan = pattern.compile(n, heads=heads, **where)
    length = dense.shape[-1]
    tensors = inputs((1, heads, length, head_dim), 1, length, torch.float32)
    allowed = torch.from_numpy(dense[None])
    wishes = wishes_for(tensors[0], allowed)
    got = results(partial(attnloom.attention, plan=plan, return_lse=True), tensors, wishes)
    assert_as_good_as_dense(got, tensors, allowed, head_dim**-0.5, wishes)


@pytest.mark.parametrize("name", ["longformer", "bigbird", "mistral", "dinat", "hymba"])
def test_pattern_runs_as_it_is_defined(name: str) -> None:
    check(name, 700)


@pytest.mark.slow
@pytest.mark.parametrize("head_dim", [16, 64, 128])
@pytest.mark.parametrize("n", [1, 63, 100, 1000])
@pytest.mark.parametrize("name", attnloom.bundled())
def test_every_bundled_pattern_runs_as_it_is_defined(name: str, n: int, head_dim: int) -> None:
    check(name, n, head_dim)

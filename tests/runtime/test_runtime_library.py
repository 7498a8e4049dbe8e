"""The bundled patterns, from the file to the gradients, against their definition."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from runtime_helpers import assert_as_good_as_dense, inputs, results, wishes_for

import attnloom


def check(name: str, n: int, heads: int = 2) -> None:
    pattern = attnloom.load(name)
    plan = pattern.compile(n, heads=heads)
    dense = np.stack([pattern.mask(n, head=head, heads=heads) for head in range(heads)])[None]
    length = dense.shape[-1]
    tensors = inputs((1, heads, length, 32), 1, length, torch.float32)
    allowed = torch.from_numpy(dense)
    wishes = wishes_for(tensors[0], allowed)
    got = results(partial(attnloom.attention, plan=plan, return_lse=True), tensors, wishes)
    assert_as_good_as_dense(got, tensors, allowed, 32**-0.5, wishes)


@pytest.mark.parametrize("name", ["longformer", "bigbird", "mistral", "dinat", "hymba"])
def test_pattern_runs_as_it_is_defined(name: str) -> None:
    check(name, 700)


@pytest.mark.slow
@pytest.mark.parametrize("n", [128, 512, 700])
@pytest.mark.parametrize(
    "name", [name for name in attnloom.bundled() if not attnloom.load(name).inputs]
)
def test_every_bundled_pattern_runs_as_it_is_defined(name: str, n: int) -> None:
    check(name, n)

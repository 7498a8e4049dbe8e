"""Plans from dense masks, grids of blocks and block masks: the pairs that these mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_helpers import dense_attention, inputs, relations
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import attnloom
from attnloom import Plan


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_plan_of_a_mask_reads_what_the_mask_says(data: st.DataObject) -> None:
    queries, keys = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    masks = np.stack([data.draw(relations(queries, keys)) for _ in range(4)]).reshape(
        2, 2, queries, keys
    )
    block = data.draw(st.sampled_from([(16, 32), (128, 128), (64, 8)]))
    mask = torch.from_numpy(masks)
    assert torch.equal(Plan.from_mask(mask, block=block).to_dense(), mask)
    assert torch.equal(Plan.from_mask(mask[0], block=block).to_dense()[0], mask[0])
    assert torch.equal(Plan.from_mask(mask[0, 0], block=block).to_dense()[0, 0], mask[0, 0])


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_plan_of_blocks_reads_the_pairs_of_the_blocks(data: st.DataObject) -> None:
    queries, keys = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 150))
    block = (16, 32)
    shape = (2, -(-queries // 16), -(-keys // 32))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    blocks = torch.from_numpy(rng.random(shape) < 0.4)
    dense = blocks.repeat_interleave(16, 1).repeat_interleave(32, 2)[:, :queries, :keys]
    plan = Plan.from_blocks(blocks, block, (queries, keys))
    assert torch.equal(plan.to_dense()[0], dense)


@pytest.mark.parametrize("n", [64, 130, 200])
@pytest.mark.parametrize("name", ["causal", "window", "by head", "by document", "nothing"])
def test_plan_of_a_block_mask_reads_what_its_function_says(name: str, n: int) -> None:
    doc = torch.arange(n) // 37  # looked up, and so asked of no token that is not there
    functions = {
        "causal": (lambda b, h, q, k: q >= k, None, None),
        "window": (lambda b, h, q, k: (q - k).abs() <= 9, None, None),
        "by head": (lambda b, h, q, k: (q - k).abs() <= 5 + 30 * h, None, 2),
        "by document": (lambda b, h, q, k: (doc[q] == doc[k]) & (k % (b + 1) == 0), 2, 2),
        "nothing": (lambda b, h, q, k: q > k + n, None, None),
    }
    function, batch, heads = functions[name]
    made = create_block_mask(function, batch, heads, n, n, device="cpu", BLOCK_SIZE=32)
    plan = Plan.from_block_mask(made, heads=2)
    b, h, q, k = torch.meshgrid(
        *(torch.arange(size) for size in (batch or 1, 2, n, n)), indexing="ij"
    )
    assert torch.equal(plan.to_dense(), function(b, h, q, k))
    assert len(plan.layouts) <= (batch or 1) * (heads or 1)


def test_attention_of_an_imported_plan_is_that_of_flex_attention() -> None:
    n = 130

    def prefix(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return (k <= q) | (k < 20)

    made = create_block_mask(prefix, None, None, n, n, device="cpu", BLOCK_SIZE=64)
    plan = Plan.from_block_mask(made, heads=2)
    query, key, value = (x.detach() for x in inputs((2, 2, n, 16), 2, n, torch.float32))
    found = attnloom.attention(query, key, value, plan)
    torch.testing.assert_close(found, flex_attention(query, key, value, block_mask=made))
    expected = dense_attention(query, key, value, plan.to_dense(), 0.25)[0]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["longformer", "gpt_oss", "bigbird"])
def test_plan_survives_the_way_to_flex_attention_and_back(name: str) -> None:
    plan = attnloom.load(name).compile(300, heads=2, block=64)
    again = Plan.from_block_mask(plan.to_flex().block_mask, heads=2)
    assert torch.equal(again.to_dense(), plan.to_dense())


def test_one_mask_may_serve_several_heads_and_come_from_numpy() -> None:
    mask = np.tri(100, dtype=bool)
    plan = Plan.from_mask(mask, heads=3, block=(32, 64))
    assert (plan.num_heads, len(plan.layouts)) == (3, 1)
    assert np.array_equal(plan.to_dense()[0, 2].numpy(), mask)
    assert np.array_equal(Plan.from_mask(mask, block=32).to_dense()[0, 0].numpy(), mask)
    blocks = np.tri(3, dtype=bool)
    plan = Plan.from_blocks(blocks, 16, heads=2)
    expected = np.kron(blocks, np.ones((16, 16), dtype=bool))
    assert np.array_equal(plan.to_dense()[0, 1].numpy(), expected)
    plan = Plan.from_blocks(blocks, 16, (40, 45), heads=2)
    assert np.array_equal(plan.to_dense()[0, 1].numpy(), expected[:40, :45])


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(TypeError, match=r"got torch\.float32; write mask == 0 if it is added"):
        Plan.from_mask(torch.ones(3, 3))
    with pytest.raises(TypeError, match="blocks must be a boolean tensor, got list"):
        Plan.from_blocks([[True]], 64)
    with pytest.raises(ValueError, match="heads must be those of mask, 2, got 3"):
        Plan.from_mask(torch.ones(2, 3, 3, dtype=torch.bool), heads=3)
    with pytest.raises(TypeError, match="as create_block_mask makes it, got function"):
        Plan.from_block_mask(lambda b, h, q, k: q >= k)
    with pytest.raises(ValueError, match=r"mask must have shape \(queries, keys\)"):
        Plan.from_mask(torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"blocks must have shape \(..., 2, 1\)"):
        Plan.from_blocks(torch.ones(1, 1, dtype=torch.bool), (64, 128), (100, 100))
    made = create_block_mask(lambda b, h, q, k: q >= k, None, 2, 64, 64, device="cpu")
    with pytest.raises(ValueError, match="heads must be those of the block mask, 2, got 3"):
        Plan.from_block_mask(made, heads=3)

"""Plans as FlexAttention's block masks: those that `create_block_mask` finds, asking every pair."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

import attnloom
from attnloom.compiler.grid import grid_of
from attnloom.compiler.parts import HeadLayout
from attnloom.compiler.passes import OPTIONAL
from attnloom.runtime.plan import Plan

TEXTS = [
    "window(each_side=9); global(every 37)",
    "window(each_side=5, dilation=4)",
    "random(links=3, seed=2)",
    "memory(3); window(each_side=2)",
    "when head == 0 { only causal }; stride(7)",
    "none",
    "full",
]


def found_by_asking(masks: np.ndarray, block: tuple[int, int]) -> BlockMask:
    """The block mask of dense masks `(batch, heads, queries, keys)`."""
    dense = torch.from_numpy(masks)
    return create_block_mask(
        lambda b, h, q, k: dense[b, h, q, k], *masks.shape, device="cpu", BLOCK_SIZE=block
    )


def assert_same(one: BlockMask, other: BlockMask) -> None:
    assert one.shape == other.shape
    assert one.BLOCK_SIZE == other.BLOCK_SIZE
    for name in ("kv", "full_kv", "q", "full_q"):
        counts = getattr(one, f"{name}_num_blocks"), getattr(other, f"{name}_num_blocks")
        assert torch.equal(*counts), name
        columns = getattr(one, f"{name}_indices"), getattr(other, f"{name}_indices")
        used = torch.arange(columns[0].shape[-1]) < counts[0][..., None]
        assert torch.equal(columns[0][used], columns[1][used]), name


def inputs_of(pattern: attnloom.Pattern, n: int) -> dict[str, Any]:
    given = {
        "tokens": lambda: "3..9",
        "segments": lambda: np.arange(n) // 90,
        "links": lambda: [[i // 2, i // 3] if i % 5 else [] for i in range(n)],
    }
    return {name: given[kind]() for name, kind in pattern.inputs.items()}


@pytest.mark.parametrize("name", attnloom.bundled())
def test_bundled_patterns_have_the_blocks_that_asking_every_pair_finds(name: str) -> None:
    pattern, n = attnloom.load(name), 500
    where: dict[str, Any] = {"layer": 1, "layers": 4, "inputs": inputs_of(pattern, n)}
    masks = np.stack([pattern.mask(n, head=h, heads=2, **where) for h in range(2)])[None]
    wanted = found_by_asking(masks, (128, 128))
    plan = pattern.compile(n, heads=2, **where)
    assert_same(plan.to_flex().block_mask, wanted)
    # And so has the plan itself, in the order of positions without packing.
    plain = pattern.compile(n, heads=2, without=("order", "pack"), **where)
    assert plain.num_gathered == 0
    assert all(len(layout.parts) == 1 for layout in plain.layouts)
    heads = [plain.layouts[index].parts[0] for index in plain.layout_of_head[0].tolist()]
    for part, partial, full in zip(
        heads, wanted.kv_num_blocks[0], wanted.full_kv_num_blocks[0], strict=True
    ):
        is_full = part.forward.mask_ids == -1
        per_row = [
            np.bincount(part.forward.tile_rows()[chosen], minlength=len(full)).tolist()
            for chosen in (~is_full, is_full)
        ]
        assert per_row == [partial.tolist(), full.tolist()]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("block", [(128, 128), (32, 16), (64, 128)])
def test_mask_mod_is_the_relation(text: str, block: tuple[int, int]) -> None:
    pattern = attnloom.parse(f"pattern p {{ {text} }}")
    masks = np.stack([pattern.mask(200, head=h, heads=2) for h in range(2)])[None]
    flex = pattern.compile(200, heads=2, block=block).to_flex()
    wanted = found_by_asking(masks, block)
    assert_same(flex.block_mask, wanted)
    _, heads, queries, keys = masks.shape
    asked = create_block_mask(
        flex.mask_mod, None, heads, queries, keys, device="cpu", BLOCK_SIZE=block
    )
    assert_same(asked, wanted)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_gives_the_same_results() -> None:
    pattern = attnloom.parse("pattern p { window(each_side=4, dilation=3); global(every 41) }")
    plan = pattern.compile(256, heads=2)
    query, key, value = torch.randn(3, 1, 2, 256, 16)
    wanted = attnloom.attention(query, key, value, plan)
    flex = plan.to_flex()
    torch.testing.assert_close(
        flex_attention(query, key, value, block_mask=flex.block_mask), wanted
    )


def test_batch_elements_have_their_own_blocks() -> None:
    pattern = attnloom.parse("pattern p { input doc: segments; same(doc) }")
    given = np.arange(600).reshape(2, 300) // [[50], [70]]
    masks = np.stack([pattern.mask(300, inputs={"doc": given}, element=b)[None] for b in (0, 1)])
    flex = pattern.compile(300, inputs={"doc": given}, block=64).to_flex()
    assert_same(flex.block_mask, found_by_asking(masks, (64, 64)))
    asked = create_block_mask(flex.mask_mod, 2, 1, 300, 300, device="cpu", BLOCK_SIZE=64)
    assert_same(asked, flex.block_mask)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(TEXTS), st.integers(1, 120), st.sets(st.sampled_from(OPTIONAL)),
    st.sampled_from([(8, 8), (16, 32), (4, 12), (64, 64)]),
)  # fmt: skip
def test_grid_has_the_tiles_of_the_pattern(
    text: str, n: int, without: set[str], block: tuple[int, int]
) -> None:
    if "37" in text:
        n = max(n, 38)
    pattern = attnloom.parse(f"pattern p {{ {text} }}")
    mask = pattern.mask(n)
    (head,), _ = pattern.head_layouts(n, block=block, without=without)
    grid = grid_of(head)
    assert np.array_equal(grid.to_dense(), mask)
    for row in range(grid.num_query_blocks):
        for column in range(grid.num_kv_blocks):
            tile = mask[row * block[0] : (row + 1) * block[0], column * block[1] :][:, : block[1]]
            at = slice(*grid.row_offsets[row : row + 2])
            here = grid.column_indices[at] == column
            assert here.sum() == tile.any()
            if tile.size == block[0] * block[1]:
                assert (grid.mask_ids[at][here] == -1).any() == tile.all()
    assert HeadLayout.of(grid).fault() is None


# --- words and pictures --------------------------------------------------------------------------


def test_picture_of_a_short_plan_is_exact() -> None:
    plan = attnloom.parse("pattern p { causal }").compile(4)
    assert repr(plan).splitlines()[1:] == ["██", "████", "██████", "████████"]


@pytest.mark.parametrize("text", ["window(each_side=700)", "stride(64)", "global(every 900)"])
def test_picture_of_a_long_plan_is_near_the_exact_one(text: str) -> None:
    from attnloom.compiler.pictures import mean_of_head, mean_of_mask

    pattern = attnloom.parse(f"pattern p {{ {text} }}")
    (head,), _ = pattern.head_layouts(8192)
    wanted = mean_of_mask(pattern.mask(8192), 16)
    found = mean_of_head(head, 16)
    assert np.abs(found - wanted).max() < 0.15
    assert abs(found.mean() - wanted.mean()) < 0.003
    assert ((found > 0) == (wanted > 0)).all()


def test_description_has_every_layout_and_who_follows_it() -> None:
    text = "pattern p { when head < 2 { causal } else { window(each_side=3) } }"
    plan = attnloom.parse(text).compile(64, heads=4, block=16)
    lines = plan.describe().splitlines()
    assert "layout 0: heads 0, 1" in lines
    assert "layout 1: heads 2, 3" in lines
    assert f"  reads {64 * 65 // 2:,} of 4,096 pairs (50.781%)" in lines
    many = attnloom.parse("pattern p { random(links=2) }").compile(64, heads=6)
    assert many.describe().endswith("and 2 more layouts")
    batch = attnloom.parse("pattern p { input d: segments; same(d) }").compile(
        8, inputs={"d": np.array([[0] * 8, [1] * 4 + [2] * 4])}
    )
    assert "layout 1: 1 of 2 heads of all batch elements" in batch.describe()


def test_plan_of_other_lengths_can_be_shown() -> None:
    layout = HeadLayout.of(grid_of(attnloom.parse("pattern p { full }").head_layouts(8)[0][0]))
    plan = Plan.from_layouts([layout], [[0]])
    assert "every head" in plan.describe()

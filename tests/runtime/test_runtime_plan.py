"""Plans: what they hold, what they count, and how they are copied."""

from __future__ import annotations

import copy
import io
import pickle
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_helpers import inputs, layout_of, plan_of, relations, results, window, wishes_for

from attnloom.compiler.layout import BlockLayout
from attnloom.compiler.parts import HeadLayout, row_block
from attnloom.runtime.attention import attention
from attnloom.runtime.plan import Plan

TILES = st.sampled_from([(128, 128), (64, 32), (16, 64), (24, 12)])


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_dense_matrix_of_a_plan_is_that_of_its_layouts(data: st.DataObject) -> None:
    query_len, kv_len = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300))
    dense = np.stack([data.draw(relations(query_len, kv_len)) for _ in range(2)])[None]
    plan = plan_of(dense, *data.draw(TILES))
    assert (plan.to_dense().numpy() == dense).all()
    assert plan.reads == dense.sum()
    assert plan.density == dense.mean()


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_rows_of_tiles_hold_every_pair_once(data: st.DataObject) -> None:
    query_len, kv_len = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    dense = data.draw(relations(query_len, kv_len))
    layout = HeadLayout.of(layout_of(dense, *data.draw(TILES)))
    found = np.zeros((query_len, kv_len), dtype=int)
    for rows in layout.row_blocks():
        keys, reads = row_block(layout.halves, rows)
        assert (np.diff(keys) > 0).all()
        found[rows, keys] += reads
    assert (found == dense).all()
    assert layout.reads == dense.sum()


def test_transposed_layout_swaps_queries_and_keys() -> None:
    dense = window(200, 300, 30, marks=[5], causal=True)
    (part,) = HeadLayout.of(layout_of(dense, 64, 32)).parts
    assert (part.transposed.to_dense() == dense.T).all()


def test_tiles_are_counted_for_every_head_and_batch_element() -> None:
    # Of 2 x 2 tiles a causal layout has one full and two partial, a full one has four full.
    causal, full = np.tril(np.ones((256, 256), bool)), np.ones((256, 256), bool)
    plan = Plan.from_layouts([layout_of(causal), layout_of(full)], [[0, 0, 1], [1, 1, 1]])
    assert (plan.num_full, plan.num_partial, plan.num_tiles) == (2 * 1 + 4 * 4, 2 * 2, 22)
    assert plan.reads == 2 * 256 * 257 // 2 + 4 * 256**2
    assert (plan.num_heads, plan.batch_size) == (3, 2)


def test_plan_without_batch_serves_any_batch() -> None:
    assert plan_of(window(10, 10, 1)[None, None]).batch_size is None


def test_plan_says_what_it_is() -> None:
    layout = layout_of(np.tril(np.ones((200, 200), dtype=bool)))
    description = {"pattern": "causal", "params": {"n": 200}, "secret": 7}
    plan = Plan.from_layouts([layout], [[0, 0]], memory=8, description=description)
    assert repr(plan).splitlines()[0] == (
        "Plan(causal, n=200, length 200 (8 memory), 2 heads, 1 layout, 6 of 8 tiles of 128x128 "
        f"(0 full, 6 partial), density 0.5025, {plan.num_bytes / 1024:.1f} KiB on cpu)"
    )


def test_plan_shows_both_lengths_where_they_differ() -> None:
    assert "length 10 queries x 20 keys" in repr(plan_of(window(10, 20, 1)[None, None]))


def test_plan_does_not_copy_a_writable_layout() -> None:
    layout = layout_of(window(300, 300, 5))
    plan = Plan.from_layouts([layout], [[0]])
    assert layout.masks.ctypes.data in [x.data_ptr() for x in plan.operands("cpu").tensors]


def test_layout_that_may_not_be_written_is_copied() -> None:
    layout = layout_of(window(300, 300, 5))
    layout.masks.setflags(write=False)
    assert Plan.from_layouts([layout], [[0]]).reads == layout.reads()


def test_plan_on_its_device_is_itself() -> None:
    plan = plan_of(window(10, 10, 1)[None, None])
    assert plan.to("cpu") is plan


def test_plan_moves_to_another_device_as_a_whole() -> None:
    plan = plan_of(window(300, 300, 5)[None, None], 64, 64)
    moved = plan.to("meta")
    assert moved.device.type == "meta"
    assert moved.layouts == plan.layouts


def copied_by_pickle(plan: Plan) -> Plan:
    copied: Plan = pickle.loads(pickle.dumps(plan))
    return copied


def copied_by_torch(plan: Plan) -> Plan:
    file = io.BytesIO()
    torch.save(plan, file)
    file.seek(0)
    loaded: Plan = torch.load(file, weights_only=False)
    return loaded


@pytest.mark.parametrize("copied", [copied_by_pickle, copied_by_torch, copy.copy])
def test_copied_plan_gives_the_same_bits(copied: object) -> None:
    assert callable(copied)
    dense = np.stack([window(300, 300, 20, marks=[0]), window(300, 300, 3, causal=True)])[None]
    plan = plan_of(dense)
    tensors = inputs((1, 2, 300, 16), 1, 300, torch.float32)
    wishes = wishes_for(tensors[0], torch.from_numpy(dense))
    expected = results(partial(attention, plan=plan, return_lse=True), tensors, wishes)
    assert plan.num_tiles
    other = copied(plan)
    assert other is not plan
    assert repr(other) == repr(plan)
    got = results(partial(attention, plan=other, return_lse=True), tensors, wishes)
    assert all(torch.equal(got[name], expected[name]) for name in got)


def test_pickle_holds_the_layouts_and_nothing_derived() -> None:
    plan = plan_of(window(3000, 3000, 200)[None, None])
    size = len(pickle.dumps(plan))
    assert plan.reads == plan.to_dense().sum()
    assert len(pickle.dumps(plan)) == size < plan.num_bytes + 3000


def test_deep_copy_of_a_model_shares_the_plan() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plan = plan_of(window(50, 50, 3)[None, None])
            self.project = torch.nn.Linear(16, 16)

    model = Model()
    other = copy.deepcopy(model)
    assert other.plan is model.plan
    assert other.project.weight is not model.project.weight


LAYOUT = layout_of(window(300, 200, 5), 64, 32)


@pytest.mark.parametrize(
    ("layouts", "choice", "options", "error", "message"),
    [
        ([], [[0]], {}, ValueError, "layouts must hold at least one layout, got none"),
        (
            [LAYOUT, layout_of(window(300, 200, 5), 64, 64)], [[0, 1]], {}, ValueError,
            "layouts must agree in block_n: layout 0 has 32, layout 1 has 64",
        ),
        (
            [LAYOUT, layout_of(window(301, 200, 5), 64, 32)], [[0, 1]], {}, ValueError,
            "layouts must agree in query_len: layout 0 has 300, layout 1 has 301",
        ),
        (
            [LAYOUT, "causal"], [[0, 1]], {}, TypeError,
            "layouts must hold BlockLayouts or HeadLayouts, got str",
        ),
        ([LAYOUT], [[0.0]], {}, TypeError, "layout_of_head must hold integers, got float64"),
        (
            [LAYOUT], [0, 0], {}, ValueError,
            "layout_of_head must have shape (batch or 1, heads), got (2,)",
        ),
        (
            [LAYOUT], np.zeros((0, 3), int), {}, ValueError,
            "layout_of_head must have shape (batch or 1, heads), got (0, 3)",
        ),
        ([LAYOUT], [[0, 1]], {}, ValueError, "indices from 0 to 0, got 0 to 1"),
        ([LAYOUT], [[-1, 0]], {}, ValueError, "indices from 0 to 0, got -1 to 0"),
        ([LAYOUT], [[0]], {"memory": 201}, ValueError, "memory must be from 0 to 200, got 201"),
        ([LAYOUT], [[0]], {"memory": -1}, ValueError, "memory must be from 0 to 200, got -1"),
        (
            [replace(LAYOUT, query_len=0)], [[0]], {}, ValueError,
            "layouts must have queries and keys, got 0 x 200",
        ),
    ],
)  # fmt: skip
def test_layouts_that_make_no_plan_are_refused(
    layouts: list[BlockLayout],
    choice: object,
    options: dict[str, int],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Plan.from_layouts(layouts, choice, **options)

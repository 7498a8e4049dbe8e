"""What the kernels are handed says the same as the plan, whoever reads it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_helpers import plan_of, relations, window
from test_runtime_parts import PATTERNS, length_of, pattern

import attnloom
from attnloom.compiler.model import CostModel
from attnloom.runtime.executable import Executable, Pass, PassSizes
from attnloom.runtime.plan import Plan


def executable_of(plan: Plan) -> Executable:
    return Executable.of(plan.layouts, plan.layout_of_head.numpy())


def row_of(code: int, step: int, size: int, lists: np.ndarray) -> np.ndarray:
    if code >= 0:
        return code + step * np.arange(size)
    return lists[-1 - code : -1 - code + size]


def mask_of(code: int, tables: Pass, sizes: PassSizes) -> np.ndarray:
    """A tile's mask, pair by pair."""
    rows, columns = sizes.tile_rows, sizes.tile_columns
    found = np.zeros((rows, columns), dtype=bool)
    for r in range(rows):
        for c in range(columns):
            if code == 0:
                found[r, c] = True
            elif code < 0:
                least, most, num_rows, num_columns = tables.bands[-1 - code].tolist()
                found[r, c] = least <= r - c <= most and r < num_rows and c < num_columns
            else:
                word = int(tables.masks[code - 1, r, c // 32])
                found[r, c] = bool(word >> (c % 32) & 1)
    return found


def dense_of(
    executable: Executable, turned: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often each pair of a head counts, and how often each row is written, and joined."""
    tables = executable.transposed if turned else executable.forward
    sizes = executable.transposed_sizes if turned else executable.forward_sizes
    lengths = (executable.query_len, executable.kv_len)
    num_rows, num_columns = lengths[::-1] if turned else lengths
    records, tiles, lists = (x.numpy() for x in (tables.records, tables.tiles, tables.lists))
    heads = 1 if executable.is_uniform else int(records[:, 0].max()) + 1
    pairs = np.zeros((heads, num_rows, num_columns), dtype=int)
    written = np.zeros((heads, num_rows), dtype=int)
    merged = np.zeros((heads, num_rows), dtype=int)
    in_slot: dict[int, tuple[int, int]] = {}
    masks: dict[int, np.ndarray] = {}
    for head, code, step, first, num_even, num_listed, slot, _ in records.tolist():
        rows = row_of(code, step, sizes.tile_rows, lists)
        for number, tile in enumerate(tiles[first : first + num_even + num_listed].tolist()):
            mask, column = tile >> 32, tile & 0xFFFFFFFF
            column -= (column >> 31) << 32
            assert (column < 0) == (number >= num_even)
            if mask not in masks:
                masks[mask] = mask_of(mask, tables, sizes)
            columns = row_of(column, step, sizes.tile_columns, lists)
            for r, c in zip(*np.nonzero(masks[mask]), strict=True):
                if 0 <= rows[r] < num_rows:
                    assert 0 <= columns[c] < num_columns
                    pairs[head, rows[r], columns[c]] += 1
        for local, row in enumerate(rows):
            if 0 <= row < num_rows:
                if slot < 0:
                    written[head, row] += 1
                else:
                    assert slot < sizes.num_slots
                    in_slot[slot * sizes.tile_rows + local] = head, int(row)
    joined = []
    for head, code, step, count, source, slot, *_ in tables.merges.tolist():
        rows = row_of(code, step, sizes.tile_rows, lists)
        table = tables.sources[source : source + count * sizes.tile_rows].view(count, -1).numpy()
        for local, row in enumerate(rows):
            if 0 <= row < num_rows:
                merged[head, row] += 1
                for one in table[:, local]:
                    if one >= 0:
                        joined.append(slot * sizes.tile_rows + int(one))
                        assert in_slot[joined[-1]] == (head, row)
    assert sorted(joined) == sorted(in_slot)
    return pairs, written, merged


def check(plan: Plan) -> None:
    executable = executable_of(plan)
    expected = plan.to_dense().numpy()
    expected = expected.reshape(-1, *expected.shape[2:])
    for turned in (False, True):
        pairs, written, merged = dense_of(executable, turned)
        wanted = expected.transpose(0, 2, 1) if turned else expected
        if executable.is_uniform:
            assert (wanted == wanted[0]).all()
            wanted = wanted[:1]
        # A row that is both written and joined would be written twice.
        assert (written + merged == 1).all()
        assert (pairs == wanted).all()


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("block", [16, 20])
def test_orders_lists_and_parts_are_compiled_away(name: str, block: int) -> None:
    check(pattern(name).compile(length_of(name, 150), heads=2, block=block))


@settings(max_examples=25)
@given(st.data(), st.integers(1, 90), st.integers(1, 90))
def test_any_relation_is_kept_pair_by_pair(
    data: st.DataObject, query_len: int, kv_len: int
) -> None:
    heads = [data.draw(relations(query_len, kv_len)) for _ in range(2)]
    sizes = data.draw(st.tuples(st.sampled_from([5, 16, 32]), st.sampled_from([16, 24, 64])))
    check(plan_of(np.stack(heads)[None], *sizes))


def test_plan_for_a_batch_names_its_elements() -> None:
    dense = np.stack([window(70, 70, reach)[None].repeat(2, 0) for reach in (3, 40)])
    executable = executable_of(plan_of(dense, 16, 16))
    assert executable.fixed_batch
    check(plan_of(dense, 16, 16))


def test_long_rows_and_columns_are_split_and_joined() -> None:
    model = CostModel(processors=400)
    plan = pattern("scattered globals").compile(400, heads=1, block=16, model=model)
    executable = executable_of(plan)
    assert executable.forward_sizes.num_slots > 2
    assert executable.transposed_sizes.num_slots > 2
    check(plan)


def test_partial_tiles_of_windows_are_bands_and_residues_are_even() -> None:
    dilated = attnloom.parse("pattern p { window(each_side=64, dilation=8) }")
    executable = executable_of(dilated.compile(4096, block=64, without=["pack"]))
    assert not executable.forward.masks.any()  # one that stands for none
    assert set(executable.forward.records[:, 2].tolist()) == {8}
    assert not executable.forward_sizes.has_lists


def test_records_come_longest_first() -> None:
    plan = pattern("scattered globals").compile(600, heads=2, block=16)
    records = executable_of(plan).forward.records
    lengths = records[:, 4] + records[:, 5]
    assert lengths[0] == lengths.max()
    assert lengths[-1] == lengths.min()


def test_operands_and_back_are_the_same() -> None:
    executable = executable_of(pattern("random links").compile(150, heads=2, block=16))
    tensors, sizes = executable.operands()
    again = Executable.from_operands(tensors, sizes)
    assert again.forward_sizes == executable.forward_sizes
    assert again.transposed_sizes == executable.transposed_sizes
    assert torch.equal(again.transposed.tiles, executable.transposed.tiles)
    assert (again.query_len, again.is_uniform) == (executable.query_len, executable.is_uniform)

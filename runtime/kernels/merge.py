"""The second pass for rows whose result comes in several parts: joined in a fixed order."""

import triton
import triton.language as tl

from attnloom.runtime.kernels.forward import finish
from attnloom.runtime.kernels.tiles import LN_2, locate


@triton.jit
def _rows_of_merge(record, first_row, lists, length, BLOCK_M: tl.constexpr):
    """The positions of a merge, and which of them there are."""
    code = tl.load(record + 1)
    numbers = first_row + tl.arange(0, BLOCK_M)
    if code >= 0:
        rows = code + tl.load(record + 2) * numbers
    else:
        rows = tl.load(lists + (-1 - code) + numbers)
    return rows, (rows >= 0) & (rows < length)


@triton.jit
def merge_outputs_kernel(
    partial_o, partial_lse, o, lse, merges, lists, sources, sinks,
    query_len, num_heads, num_merges, replicas, num_slots,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, TILE_M: tl.constexpr,
    SINKS: tl.constexpr,
):  # fmt: skip
    """Outputs are joined by their lse."""
    SPLIT: tl.constexpr = TILE_M // BLOCK_M
    pid = tl.program_id(0)
    first_row = pid % SPLIT * BLOCK_M
    batch, head, replica, record = locate(pid // SPLIT, merges, num_merges, replicas, 1, num_heads)
    rows, there = _rows_of_merge(record, first_row, lists, query_len, BLOCK_M)
    base = (replica * num_slots + tl.load(record + 5)) * TILE_M
    source = sources + tl.load(record + 4) + first_row + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    acc = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    row_max = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    row_sum = tl.zeros([BLOCK_M], dtype=tl.float32)
    for number in range(0, tl.load(record + 3)):
        found = tl.load(source + number * TILE_M)  # [M]
        given = found >= 0
        at = base + found
        logs = tl.load(partial_lse + at, mask=given, other=float("-inf"))
        mask = given[:, None] & (d < HEAD_DIM)[None, :]
        part = tl.load(partial_o + at[:, None] * HEAD_DIM + d[None, :], mask=mask, other=0.0)
        new_max = tl.maximum(row_max, logs)
        shift = tl.where(new_max == float("-inf"), 0.0, new_max)
        shrink, weight = tl.exp2(row_max - shift), tl.exp2(logs - shift)
        acc = acc * shrink[:, None] + part * weight[:, None]
        row_sum = row_sum * shrink + weight
        row_max = new_max
    output, logs = finish(acc, row_max, row_sum, sinks, head, SINKS)
    numbers = (batch.to(tl.int64) * num_heads + head) * query_len + rows
    mask = there[:, None] & (d < HEAD_DIM)[None, :]
    tl.store(o + numbers[:, None] * HEAD_DIM + d[None, :], output.to(o.dtype.element_ty), mask=mask)
    tl.store(lse + numbers, logs * LN_2, mask=there)


@triton.jit
def merge_sums_kernel(
    partial, result, merges, lists, sources, length, num_heads, num_merges, replicas, num_slots,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, TILE_M: tl.constexpr,
):  # fmt: skip
    """Gradients are added up."""
    SPLIT: tl.constexpr = TILE_M // BLOCK_M
    pid = tl.program_id(0)
    first_row = pid % SPLIT * BLOCK_M
    batch, head, replica, record = locate(pid // SPLIT, merges, num_merges, replicas, 1, num_heads)
    rows, there = _rows_of_merge(record, first_row, lists, length, BLOCK_M)
    base = (replica * num_slots + tl.load(record + 5)) * TILE_M
    source = sources + tl.load(record + 4) + first_row + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    acc = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    for number in range(0, tl.load(record + 3)):
        found = tl.load(source + number * TILE_M)  # [M]
        mask = (found >= 0)[:, None] & (d < HEAD_DIM)[None, :]
        acc += tl.load(
            partial + (base + found)[:, None] * HEAD_DIM + d[None, :], mask=mask, other=0.0
        )
    numbers = (batch.to(tl.int64) * num_heads + head) * length + rows
    mask = there[:, None] & (d < HEAD_DIM)[None, :]
    tl.store(
        result + numbers[:, None] * HEAD_DIM + d[None, :],
        acc.to(result.dtype.element_ty), mask=mask,
    )  # fmt: skip

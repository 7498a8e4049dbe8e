"""The forward pass: for the rows of a record, the output and the lse."""

import triton
import triton.language as tl

from attnloom.runtime.kernels.tiles import (
    LN_2,
    LOG2_E,
    apply_mask,
    leave_flags,
    load_rows,
    locate,
    offsets,
    positions_of,
    tanh,
)


@triton.jit
def exponents_of(scores, scale, softcap, slope, rows, columns,
                 SOFTCAP: tl.constexpr, ALIBI: tl.constexpr):  # fmt: skip
    """Scores with all that changes them, times log2(e)."""  # [M, N]
    scores = scores * scale
    if SOFTCAP:
        scores = softcap * tanh(scores / softcap)
    if ALIBI:
        apart = tl.abs(rows[:, None] - columns[None, :])
        scores = scores - slope * apart.to(tl.float32)
    return scores * LOG2_E


@triton.jit
def _join_tiles(
    acc, row_max, row_sum, q, rows, k_head, v_head, stride_kn, stride_kd, stride_vn, stride_vd,
    first, count, step, bound, first_row,
    tiles, lists, masks, bands, scale, softcap, slope,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, LISTED: tl.constexpr, WITHIN: tl.constexpr,
    WIDE: tl.constexpr, PLAIN: tl.constexpr, SOFTCAP: tl.constexpr, ALIBI: tl.constexpr,
    KEY_LENGTHS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Join some tiles of a record, with lists or without, to the result so far."""
    SPLIT: tl.constexpr = TILE_N // BLOCK_N
    local = tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    numbers = (d < HEAD_DIM)[None, :]
    if not LISTED:
        k_local = offsets(local * step, stride_kn, WIDE)[:, None] + d[None, :] * stride_kd
        v_local = offsets(local * step, stride_vn, WIDE)[:, None] + d[None, :] * stride_vd
    for at in range(0, count * SPLIT):
        tile = tl.load(tiles + first + at // SPLIT)
        mask = (tile >> 32).to(tl.int32)
        code = tile.to(tl.int32)
        first_column = (at % SPLIT) * BLOCK_N
        if LISTED:
            columns = tl.load(lists + (-1 - code) + first_column + local)  # [N]
            there = (columns >= 0) & (columns < bound)
            k = tl.load(
                k_head + offsets(columns, stride_kn, WIDE)[:, None] + d[None, :] * stride_kd,
                mask=there[:, None] & numbers, other=0.0,
            )  # fmt: skip
            v = tl.load(
                v_head + offsets(columns, stride_vn, WIDE)[:, None] + d[None, :] * stride_vd,
                mask=there[:, None] & numbers, other=0.0,
            )  # fmt: skip
        else:
            start = code + step * first_column
            columns = start + step * local
            k_tile = k_head + start.to(tl.int64) * stride_kn
            v_tile = v_head + start.to(tl.int64) * stride_vn
            if WITHIN:
                if HEAD_DIM == BLOCK_D:
                    k = tl.load(k_tile + k_local)
                    v = tl.load(v_tile + v_local)
                else:
                    k = tl.load(k_tile + k_local, mask=numbers, other=0.0)
                    v = tl.load(v_tile + v_local, mask=numbers, other=0.0)
            else:
                there = (columns < bound)[:, None] & numbers
                k = tl.load(k_tile + k_local, mask=there, other=0.0)
                v = tl.load(v_tile + v_local, mask=there, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)  # [M, N]
        if not PLAIN:
            scores = exponents_of(scores, scale, softcap, slope, rows, columns, SOFTCAP, ALIBI)
        if mask != 0:
            scores = apply_mask(
                scores, mask, first_row, first_column, masks, bands,
                BLOCK_M, BLOCK_N, TILE_M, TILE_N,
            )  # fmt: skip
        if KEY_LENGTHS:
            scores = tl.where((columns < bound)[None, :], scores, float("-inf"))
        if PLAIN:
            # The scale is positive: it may come after the maximum, and then costs nothing.
            factor = scale * LOG2_E
            new_max = tl.maximum(row_max, tl.max(scores, 1) * factor)
            shift = tl.where(new_max == float("-inf"), 0.0, new_max)
            weights = tl.exp2(scores * factor - shift[:, None])
        else:
            new_max = tl.maximum(row_max, tl.max(scores, 1))
            shift = tl.where(new_max == float("-inf"), 0.0, new_max)
            weights = tl.exp2(scores - shift[:, None])
        shrink = tl.exp2(row_max - shift)
        row_sum = row_sum * shrink + tl.sum(weights, 1)
        acc = acc * shrink[:, None]
        acc = tl.dot(weights.to(v.dtype), v, acc, input_precision=PRECISION)
        row_max = new_max
    return acc, row_max, row_sum


@triton.jit
def finish(acc, row_max, row_sum, sinks, head, SINKS: tl.constexpr):
    """The output and the lse in base 2, with a sink's share of the weights if there is one."""
    if SINKS:
        sink = tl.load(sinks + head).to(tl.float32) * LOG2_E
        new_max = tl.maximum(row_max, sink)
        shift = tl.where(new_max == float("-inf"), 0.0, new_max)
        shrink = tl.exp2(row_max - shift)
        row_sum = row_sum * shrink + tl.exp2(sink - shift)
        acc = acc * shrink[:, None]
        row_max = new_max
    some = row_sum > 0
    # NaN is not above 0, but must be seen.
    some = some | (row_sum != row_sum)
    safe = tl.where(some, row_sum, 1.0)
    output = acc / safe[:, None]
    lse = tl.where(some, row_max + tl.log2(safe), float("-inf"))
    return output, lse


@triton.jit
def forward_kernel(
    flags, q, k, v, o, lse, partial_o, partial_lse,
    records, tiles, lists, masks, bands, slopes, sinks, key_lengths,
    stride_qb, stride_qh, stride_qn, stride_qd,
    stride_kb, stride_kh, stride_kn, stride_kd,
    stride_vb, stride_vh, stride_vn, stride_vd,
    scale, softcap, query_len, kv_len, num_heads, group, num_records, replicas, chunk, num_slots,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, HAS_LISTS: tl.constexpr, STRIDED: tl.constexpr,
    WITHIN: tl.constexpr, WIDE: tl.constexpr, PLAIN: tl.constexpr, SOFTCAP: tl.constexpr,
    ALIBI: tl.constexpr,
    SINKS: tl.constexpr, KEY_LENGTHS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program: `BLOCK_M` rows of one record, for one head of one batch element."""
    SPLIT: tl.constexpr = TILE_M // BLOCK_M
    pid = tl.program_id(0)
    first_row = pid % SPLIT * BLOCK_M
    batch, head, replica, record = locate(
        pid // SPLIT, records, num_records, replicas, chunk, num_heads
    )
    # Neighbours are neighbours in memory, unless a part has an order of its own.
    step = tl.load(record + 2) if STRIDED else 1
    first = tl.load(record + 3)
    num_even = tl.load(record + 4)
    rows = positions_of(tl.load(record + 1), step, first_row, lists, BLOCK_M)  # [M]
    there = (rows >= 0) & (rows < query_len)
    wide_batch, wide_head = batch.to(tl.int64), head.to(tl.int64)
    q_head = q + wide_batch * stride_qb + wide_head * stride_qh
    k_head = k + wide_batch * stride_kb + wide_head // group * stride_kh
    v_head = v + wide_batch * stride_vb + wide_head // group * stride_vh
    queries = load_rows(q_head, rows, there, stride_qn, stride_qd, HEAD_DIM, BLOCK_D, WIDE)
    bound = kv_len
    if KEY_LENGTHS:
        bound = tl.minimum(kv_len, tl.load(key_lengths + batch))
    slope = 0.0
    if ALIBI:
        slope = tl.load(slopes + head).to(tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    row_max = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    row_sum = tl.zeros([BLOCK_M], dtype=tl.float32)
    acc, row_max, row_sum = _join_tiles(
        acc, row_max, row_sum, queries, rows, k_head, v_head,
        stride_kn, stride_kd, stride_vn, stride_vd,
        first, num_even, step, bound, first_row,
        tiles, lists, masks, bands, scale, softcap, slope,
        HEAD_DIM, BLOCK_D, BLOCK_M, BLOCK_N, TILE_M, TILE_N, False, WITHIN, WIDE,
        PLAIN, SOFTCAP, ALIBI, KEY_LENGTHS, PRECISION,
    )  # fmt: skip
    if HAS_LISTS:
        acc, row_max, row_sum = _join_tiles(
            acc, row_max, row_sum, queries, rows, k_head, v_head,
            stride_kn, stride_kd, stride_vn, stride_vd,
            first + num_even, tl.load(record + 5), step, bound, first_row,
            tiles, lists, masks, bands, scale, softcap, slope,
            HEAD_DIM, BLOCK_D, BLOCK_M, BLOCK_N, TILE_M, TILE_N, True, WITHIN, WIDE,
            PLAIN, SOFTCAP, ALIBI, KEY_LENGTHS, PRECISION,
        )  # fmt: skip
    leave_flags(flags, acc, BLOCK_M)
    slot = tl.load(record + 6)
    d = tl.arange(0, BLOCK_D)
    if slot >= 0:
        # A sink counts once, when the parts are merged.
        output, logs = finish(acc, row_max, row_sum, sinks, head, False)
        slots = (replica * num_slots + slot) * TILE_M + first_row + tl.arange(0, BLOCK_M)  # [M]
        slot_pointers = partial_o + slots[:, None] * HEAD_DIM + d[None, :]
        tl.store(slot_pointers, output, mask=(d < HEAD_DIM)[None, :])
        tl.store(partial_lse + slots, logs)
    else:
        output, logs = finish(acc, row_max, row_sum, sinks, head, SINKS)
        numbers = (wide_batch * num_heads + head) * query_len + rows
        pointers = o + numbers[:, None] * HEAD_DIM + d[None, :]
        mask = there[:, None] & (d < HEAD_DIM)[None, :]
        tl.store(pointers, output.to(o.dtype.element_ty), mask=mask)
        tl.store(lse + numbers, logs * LN_2, mask=there)

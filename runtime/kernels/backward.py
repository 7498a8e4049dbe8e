"""The backward pass: statistics of queries, then `dq` by queries, then `dk` and `dv` by keys.

Weights are computed again from the lse, `p = exp(scores - lse)`. Then `dv = p^T do`,
`ds = p * (do v^T - delta)`, `dq = scale * ds k` and `dk = scale * ds^T q`, where
`delta = sum(do * o) - dlse`. No two programs write to the same place.
"""

import triton
import triton.language as tl

from attnloom.runtime.kernels.tiles import (
    LOG2_E,
    apply_mask,
    leave_flags,
    load_rows,
    locate,
    offsets,
    positions_of,
    tanh,
)

STATS = tl.constexpr(4)
"""Numbers for each query: the lse in base 2, or infinity where there is none, so that all weights
are 0; `delta`; and two that fill up 16 bytes, which are copied at once."""


@triton.jit
def statistics_kernel(
    o, do, lse, d_lse, stats, stride_db, stride_dh, stride_dn, stride_dd, stride_lb, stride_lh,
    stride_ln, query_len, num_heads,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """`STATS` numbers for each query."""
    num_blocks = tl.cdiv(query_len, BLOCK_M)
    pid = tl.program_id(0)
    rows = pid % num_blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    both = (pid // num_blocks).to(tl.int64)
    batch, head = both // num_heads, both % num_heads
    there = rows < query_len
    gradients = load_rows(
        do + batch * stride_db + head * stride_dh, rows, there, stride_dn, stride_dd,
        HEAD_DIM, BLOCK_D, WIDE,
    )  # fmt: skip
    outputs = load_rows(
        o + both * query_len * HEAD_DIM, rows, there, HEAD_DIM, 1, HEAD_DIM, BLOCK_D, WIDE
    )
    total = tl.sum(gradients.to(tl.float32) * outputs.to(tl.float32), 1)
    lse_base = d_lse + batch * stride_lb + head * stride_lh
    total -= tl.load(lse_base + offsets(rows, stride_ln, WIDE), mask=there, other=0.0)
    logs = tl.load(lse + both * query_len + rows, mask=there, other=float("-inf")) * LOG2_E
    logs = tl.where(logs == float("-inf"), float("inf"), logs)
    fields = tl.arange(0, STATS)[None, :]
    found = tl.where(fields == 0, logs[:, None], tl.where(fields == 1, total[:, None], 0.0))
    pointers = stats + (both * query_len + rows)[:, None] * STATS + fields
    tl.store(pointers, found, mask=there[:, None])


@triton.jit
def weights_of(scores, lse, rows, columns, scale, softcap, slope,
               PLAIN: tl.constexpr, SOFTCAP: tl.constexpr, ALIBI: tl.constexpr):  # fmt: skip
    """Exponents of weights, and what the softcap multiplies gradients by."""
    if PLAIN:
        exponents = scores * (scale * LOG2_E) - lse
        slopes = 1.0
    else:
        scores = scores * scale
        slopes = 1.0
        if SOFTCAP:
            share = tanh(scores / softcap)
            scores = softcap * share
            slopes = 1.0 - share * share
        if ALIBI:
            scores = scores - slope * tl.abs(rows - columns).to(tl.float32)
        exponents = scores * LOG2_E - lse
    return exponents, slopes


@triton.jit
def _add_keys(
    dq, q, do, lse, delta, rows, k_head, v_head, stride_kn, stride_kd, stride_vn, stride_vd,
    first, count, step, bound, first_row, tiles, lists, masks, bands, scale, softcap, slope,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, LISTED: tl.constexpr, WITHIN: tl.constexpr,
    WIDE: tl.constexpr, PLAIN: tl.constexpr, SOFTCAP: tl.constexpr, ALIBI: tl.constexpr,
    KEY_LENGTHS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add what some tiles of a record give to `dq`."""
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
            there = ((columns >= 0) & (columns < bound))[:, None] & numbers
            k_offsets = offsets(columns, stride_kn, WIDE)[:, None] + d[None, :] * stride_kd
            v_offsets = offsets(columns, stride_vn, WIDE)[:, None] + d[None, :] * stride_vd
            k = tl.load(k_head + k_offsets, mask=there, other=0.0)
            v = tl.load(v_head + v_offsets, mask=there, other=0.0)
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
        exponents, slopes = weights_of(
            scores, lse[:, None], rows[:, None], columns[None, :], scale, softcap, slope,
            PLAIN, SOFTCAP, ALIBI,
        )  # fmt: skip
        if mask != 0:
            exponents = apply_mask(
                exponents, mask, first_row, first_column, masks, bands,
                BLOCK_M, BLOCK_N, TILE_M, TILE_N,
            )  # fmt: skip
        if KEY_LENGTHS:
            exponents = tl.where((columns < bound)[None, :], exponents, float("-inf"))
        p = tl.exp2(exponents)
        dp = tl.dot(do, tl.trans(v), input_precision=PRECISION)
        ds = p * (dp - delta[:, None]) * slopes
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision=PRECISION)
    return dq


@triton.jit
def query_gradient_kernel(
    flags, q, k, v, do, stats, dq, partial,
    records, tiles, lists, masks, bands, slopes, key_lengths,
    stride_qb, stride_qh, stride_qn, stride_qd,
    stride_kb, stride_kh, stride_kn, stride_kd,
    stride_vb, stride_vh, stride_vn, stride_vd,
    stride_db, stride_dh, stride_dn, stride_dd,
    scale, softcap, query_len, kv_len, num_heads, group, num_records, replicas, chunk, num_slots,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, HAS_LISTS: tl.constexpr, STRIDED: tl.constexpr,
    WITHIN: tl.constexpr, WIDE: tl.constexpr, PLAIN: tl.constexpr, SOFTCAP: tl.constexpr,
    ALIBI: tl.constexpr,
    KEY_LENGTHS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program: `BLOCK_M` queries of one record, for one head of one batch element."""
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
    do_head = do + wide_batch * stride_db + wide_head * stride_dh
    queries = load_rows(q_head, rows, there, stride_qn, stride_qd, HEAD_DIM, BLOCK_D, WIDE)
    gradients = load_rows(do_head, rows, there, stride_dn, stride_dd, HEAD_DIM, BLOCK_D, WIDE)
    numbers = (wide_batch * num_heads + head) * query_len + rows
    logs = tl.load(stats + numbers * STATS, mask=there, other=float("inf"))
    deltas = tl.load(stats + numbers * STATS + 1, mask=there, other=0.0)
    bound = kv_len
    if KEY_LENGTHS:
        bound = tl.minimum(kv_len, tl.load(key_lengths + batch))
    slope = 0.0
    if ALIBI:
        slope = tl.load(slopes + head).to(tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    acc = _add_keys(
        acc, queries, gradients, logs, deltas, rows, k_head, v_head,
        stride_kn, stride_kd, stride_vn, stride_vd, first, num_even, step, bound, first_row,
        tiles, lists, masks, bands, scale, softcap, slope,
        HEAD_DIM, BLOCK_D, BLOCK_M, BLOCK_N, TILE_M, TILE_N, False, WITHIN, WIDE,
        PLAIN, SOFTCAP, ALIBI, KEY_LENGTHS, PRECISION,
    )  # fmt: skip
    if HAS_LISTS:
        acc = _add_keys(
            acc, queries, gradients, logs, deltas, rows, k_head, v_head,
            stride_kn, stride_kd, stride_vn, stride_vd,
            first + num_even, tl.load(record + 5), step, bound, first_row,
            tiles, lists, masks, bands, scale, softcap, slope,
            HEAD_DIM, BLOCK_D, BLOCK_M, BLOCK_N, TILE_M, TILE_N, True, WITHIN, WIDE,
            PLAIN, SOFTCAP, ALIBI, KEY_LENGTHS, PRECISION,
        )  # fmt: skip
    leave_flags(flags, acc, BLOCK_M)
    acc = acc * scale
    slot = tl.load(record + 6)
    d = tl.arange(0, BLOCK_D)
    if slot >= 0:
        slots = (replica * num_slots + slot) * TILE_M + first_row + tl.arange(0, BLOCK_M)
        slot_pointers = partial + slots[:, None] * HEAD_DIM + d[None, :]
        tl.store(slot_pointers, acc, mask=(d < HEAD_DIM)[None, :])
    else:
        pointers = dq + numbers[:, None] * HEAD_DIM + d[None, :]
        mask = there[:, None] & (d < HEAD_DIM)[None, :]
        tl.store(pointers, acc.to(dq.dtype.element_ty), mask=mask)


@triton.jit
def _add_queries(
    dk, dv, k, v, keys, q_head, do_head, stats_head,
    stride_qn, stride_qd, stride_dn, stride_dd,
    first, count, step, bound, query_len, first_row,
    tiles, lists, masks, bands, scale, softcap, slope,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, LISTED: tl.constexpr, WITHIN: tl.constexpr,
    WIDE: tl.constexpr, PLAIN: tl.constexpr, SOFTCAP: tl.constexpr, ALIBI: tl.constexpr,
    KEY_LENGTHS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add what the queries of some tiles of a record give to `dk` and `dv`."""
    SPLIT: tl.constexpr = TILE_N // BLOCK_N
    local = tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    numbers = (d < HEAD_DIM)[None, :]
    fields = tl.arange(0, STATS)[None, :]
    if not LISTED:
        stats_local = (local * step * STATS)[:, None] + fields
        q_local = offsets(local * step, stride_qn, WIDE)[:, None] + d[None, :] * stride_qd
        d_local = offsets(local * step, stride_dn, WIDE)[:, None] + d[None, :] * stride_dd
    for at in range(0, count * SPLIT):
        tile = tl.load(tiles + first + at // SPLIT)
        mask = (tile >> 32).to(tl.int32)
        code = tile.to(tl.int32)
        first_column = (at % SPLIT) * BLOCK_N
        if LISTED:
            columns = tl.load(lists + (-1 - code) + first_column + local)  # [N]
            exists = (columns >= 0) & (columns < query_len)
            there = exists[:, None] & numbers
            q_offsets = offsets(columns, stride_qn, WIDE)[:, None] + d[None, :] * stride_qd
            d_offsets = offsets(columns, stride_dn, WIDE)[:, None] + d[None, :] * stride_dd
            q = tl.load(q_head + q_offsets, mask=there, other=0.0)
            do = tl.load(do_head + d_offsets, mask=there, other=0.0)
            both = tl.load(
                stats_head + (columns * STATS)[:, None] + fields, mask=exists[:, None], other=0.0
            )
        else:
            start = code + step * first_column
            columns = start + step * local
            q_tile = q_head + start.to(tl.int64) * stride_qn
            do_tile = do_head + start.to(tl.int64) * stride_dn
            if WITHIN:
                both = tl.load(stats_head + start * STATS + stats_local)
                if HEAD_DIM == BLOCK_D:
                    q = tl.load(q_tile + q_local)
                    do = tl.load(do_tile + d_local)
                else:
                    q = tl.load(q_tile + q_local, mask=numbers, other=0.0)
                    do = tl.load(do_tile + d_local, mask=numbers, other=0.0)
            else:
                exists = columns < query_len
                there = exists[:, None] & numbers
                both = tl.load(
                    stats_head + start * STATS + stats_local, mask=exists[:, None], other=0.0
                )
                q = tl.load(q_tile + q_local, mask=there, other=0.0)
                do = tl.load(do_tile + d_local, mask=there, other=0.0)
        logs = tl.sum(tl.where(fields == 0, both, 0.0), 1)
        deltas = tl.sum(tl.where(fields == 1, both, 0.0), 1)
        scores = tl.dot(k, tl.trans(q), input_precision=PRECISION)  # [M, N]
        exponents, slopes = weights_of(
            scores, logs[None, :], keys[:, None], columns[None, :], scale, softcap, slope,
            PLAIN, SOFTCAP, ALIBI,
        )  # fmt: skip
        if mask != 0:
            exponents = apply_mask(
                exponents, mask, first_row, first_column, masks, bands,
                BLOCK_M, BLOCK_N, TILE_M, TILE_N,
            )  # fmt: skip
        if KEY_LENGTHS:
            exponents = tl.where((keys < bound)[:, None], exponents, float("-inf"))
        p = tl.exp2(exponents)
        dv = tl.dot(p.to(do.dtype), do, dv, input_precision=PRECISION)
        dp = tl.dot(v, tl.trans(do), input_precision=PRECISION)
        ds = p * (dp - deltas[None, :]) * slopes
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION)
    return dk, dv


@triton.jit
def key_gradient_kernel(
    flags, q, k, v, do, stats, dk, dv, partial_dk, partial_dv,
    records, tiles, lists, masks, bands, slopes, key_lengths,
    stride_qb, stride_qh, stride_qn, stride_qd,
    stride_kb, stride_kh, stride_kn, stride_kd,
    stride_vb, stride_vh, stride_vn, stride_vd,
    stride_db, stride_dh, stride_dn, stride_dd,
    scale, softcap, query_len, kv_len, num_heads, num_query_heads, group, shared, num_records,
    replicas, chunk, num_slots,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, HAS_LISTS: tl.constexpr, STRIDED: tl.constexpr,
    WITHIN: tl.constexpr, WIDE: tl.constexpr, PLAIN: tl.constexpr, SOFTCAP: tl.constexpr,
    ALIBI: tl.constexpr,
    KEY_LENGTHS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program: `BLOCK_M` keys of one record, for one of the `num_heads` heads of results.

    `group` query heads are added up in one result; `shared` results are of one head of keys.
    """
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
    bound = kv_len
    if KEY_LENGTHS:
        bound = tl.minimum(kv_len, tl.load(key_lengths + batch))
    there = (rows >= 0) & (rows < kv_len)
    wide_batch, wide_head = batch.to(tl.int64), head.to(tl.int64)
    k_head = k + wide_batch * stride_kb + wide_head // shared * stride_kh
    v_head = v + wide_batch * stride_vb + wide_head // shared * stride_vh
    read = there & (rows < bound)
    keys = load_rows(k_head, rows, read, stride_kn, stride_kd, HEAD_DIM, BLOCK_D, WIDE)
    values = load_rows(v_head, rows, read, stride_vn, stride_vd, HEAD_DIM, BLOCK_D, WIDE)
    acc_k = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    acc_v = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    for number in range(0, group):
        query_head = wide_head * group + number
        q_head = q + wide_batch * stride_qb + query_head * stride_qh
        do_head = do + wide_batch * stride_db + query_head * stride_dh
        flat = (wide_batch * num_query_heads + query_head) * query_len
        slope = 0.0
        if ALIBI:
            slope = tl.load(slopes + query_head).to(tl.float32)
        acc_k, acc_v = _add_queries(
            acc_k, acc_v, keys, values, rows, q_head, do_head, stats + flat * STATS,
            stride_qn, stride_qd, stride_dn, stride_dd,
            first, num_even, step, bound, query_len, first_row,
            tiles, lists, masks, bands, scale, softcap, slope,
            HEAD_DIM, BLOCK_D, BLOCK_M, BLOCK_N, TILE_M, TILE_N, False, WITHIN, WIDE,
            PLAIN, SOFTCAP, ALIBI, KEY_LENGTHS, PRECISION,
        )  # fmt: skip
        if HAS_LISTS:
            acc_k, acc_v = _add_queries(
                acc_k, acc_v, keys, values, rows, q_head, do_head, stats + flat * STATS,
                stride_qn, stride_qd, stride_dn, stride_dd,
                first + num_even, tl.load(record + 5), step, bound, query_len, first_row,
                tiles, lists, masks, bands, scale, softcap, slope,
                HEAD_DIM, BLOCK_D, BLOCK_M, BLOCK_N, TILE_M, TILE_N, True, WITHIN, WIDE,
                PLAIN, SOFTCAP, ALIBI, KEY_LENGTHS, PRECISION,
            )  # fmt: skip
    # A sum of both is NaN if one of them is; and where it is for another reason, nothing is lost.
    leave_flags(flags, acc_k + acc_v, BLOCK_M)
    acc_k = acc_k * scale
    slot = tl.load(record + 6)
    d = tl.arange(0, BLOCK_D)
    if slot >= 0:
        slots = (replica * num_slots + slot) * TILE_M + first_row + tl.arange(0, BLOCK_M)
        slot_pointers = slots[:, None] * HEAD_DIM + d[None, :]
        tl.store(partial_dk + slot_pointers, acc_k, mask=(d < HEAD_DIM)[None, :])
        tl.store(partial_dv + slot_pointers, acc_v, mask=(d < HEAD_DIM)[None, :])
    else:
        numbers = (wide_batch * num_heads + head) * kv_len + rows
        pointers = numbers[:, None] * HEAD_DIM + d[None, :]
        mask = there[:, None] & (d < HEAD_DIM)[None, :]
        tl.store(dk + pointers, acc_k.to(dk.dtype.element_ty), mask=mask)
        tl.store(dv + pointers, acc_v.to(dv.dtype.element_ty), mask=mask)

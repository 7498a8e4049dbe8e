"""Rows whose result is NaN, again: one key at a time, so that what is not read has no effect.

The fast kernels multiply weights of 0 with whatever a tile holds, and 0 times NaN or infinity is
NaN. They leave flags at rows whose result holds one; programs without flags end here at once. What
is NaN by the definition stays NaN.
"""

import triton
import triton.language as tl

from attnloom.runtime.kernels.backward import STATS, weights_of
from attnloom.runtime.kernels.forward import finish
from attnloom.runtime.kernels.tiles import FAR, LN_2, load_rows, locate, positions_of

ROWS = tl.constexpr(16)
"""Rows at a time."""


@triton.jit
def _reads(mask, rows, column, masks, bands, TILE_M: tl.constexpr, TILE_N: tl.constexpr):
    """Which rows of a tile read one of its columns."""  # [ROWS]
    if mask < 0:
        band = bands + (-1 - mask) * 4
        apart = rows - column
        inside = (rows < tl.load(band + 2)) & (column < tl.load(band + 3))
        found = (inside & (apart >= tl.load(band)) & (apart <= tl.load(band + 1))).to(tl.int32)
    elif mask > 0:
        WORDS: tl.constexpr = (TILE_N + 31) // 32
        word = (mask - 1) * (TILE_M * WORDS) + rows * WORDS + column // 32
        found = (tl.load(masks + word) >> (column % 32)) & 1
    else:
        found = (rows < FAR).to(tl.int32)
    return found != 0


@triton.jit
def _position(tile, step, number, lists):
    """The position of one column of a tile."""
    code = tile.to(tl.int32)
    if code >= 0:
        found = code + step * number
    else:
        found = tl.load(lists + (-1 - code) + number)
    return found


@triton.jit
def _row(base, position, exists, stride, stride_d, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """One row of a matrix, in float32."""  # [BLOCK_D]
    d = tl.arange(0, BLOCK_D)
    pointers = base + position.to(tl.int64) * stride + d * stride_d
    return tl.load(pointers, mask=(exists & (d < HEAD_DIM)) != 0, other=0.0).to(tl.float32)


@triton.jit
def repair_forward_kernel(
    flags, q, k, v, o, lse, partial_o, partial_lse,
    records, tiles, lists, masks, bands, slopes, sinks, key_lengths,
    stride_qb, stride_qh, stride_qn, stride_qd,
    stride_kb, stride_kh, stride_kn, stride_kd,
    stride_vb, stride_vh, stride_vn, stride_vd,
    scale, softcap, query_len, kv_len, num_heads, group, num_records, replicas, chunk, num_slots,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, PLAIN: tl.constexpr, SOFTCAP: tl.constexpr,
    ALIBI: tl.constexpr, SINKS: tl.constexpr, KEY_LENGTHS: tl.constexpr,
):  # fmt: skip
    """The rows of one program of `forward_kernel`."""
    pid = tl.program_id(0)
    if tl.max(tl.load(flags + pid * BLOCK_M + tl.arange(0, BLOCK_M)), 0) != 0:
        SPLIT: tl.constexpr = TILE_M // BLOCK_M
        batch, head, replica, record = locate(
            pid // SPLIT, records, num_records, replicas, chunk, num_heads
        )
        code, step, first = tl.load(record + 1), tl.load(record + 2), tl.load(record + 3)
        count = tl.load(record + 4) + tl.load(record + 5)
        slot = tl.load(record + 6)
        wide_batch, wide_head = batch.to(tl.int64), head.to(tl.int64)
        k_head = k + wide_batch * stride_kb + wide_head // group * stride_kh
        v_head = v + wide_batch * stride_vb + wide_head // group * stride_vh
        bound = kv_len
        if KEY_LENGTHS:
            bound = tl.minimum(kv_len, tl.load(key_lengths + batch))
        slope = 0.0
        if ALIBI:
            slope = tl.load(slopes + head).to(tl.float32)
        d = tl.arange(0, BLOCK_D)
        for below in range(0, BLOCK_M // ROWS):
            first_row = pid % SPLIT * BLOCK_M + below * ROWS
            rows = positions_of(code, step, first_row, lists, ROWS)
            there = (rows >= 0) & (rows < query_len)
            local = first_row + tl.arange(0, ROWS)
            queries = load_rows(
                q + wide_batch * stride_qb + wide_head * stride_qh, rows, there,
                stride_qn, stride_qd, HEAD_DIM, BLOCK_D, True,
            ).to(tl.float32)  # fmt: skip
            acc = tl.zeros([ROWS, BLOCK_D], dtype=tl.float32)
            row_max = tl.full([ROWS], float("-inf"), dtype=tl.float32)
            row_sum = tl.zeros([ROWS], dtype=tl.float32)
            for at in range(0, count):
                tile = tl.load(tiles + first + at)
                mask = (tile >> 32).to(tl.int32)
                for number in range(0, TILE_N):
                    column = _position(tile, step, number, lists)
                    exists = (column >= 0) & (column < bound)
                    reads = _reads(mask, local, number, masks, bands, TILE_M, TILE_N) & exists
                    key = _row(k_head, column, exists, stride_kn, stride_kd, HEAD_DIM, BLOCK_D)
                    value = _row(v_head, column, exists, stride_vn, stride_vd, HEAD_DIM, BLOCK_D)
                    exponents, _ = weights_of(
                        tl.sum(queries * key[None, :], 1), 0.0, rows, column,
                        scale, softcap, slope, PLAIN, SOFTCAP, ALIBI,
                    )  # fmt: skip
                    exponents = tl.where(reads, exponents, float("-inf"))
                    new_max = tl.maximum(row_max, exponents)
                    shift = tl.where(new_max == float("-inf"), 0.0, new_max)
                    weights = tl.where(reads, tl.exp2(exponents - shift), 0.0)
                    shrink = tl.exp2(row_max - shift)
                    row_sum = row_sum * shrink + weights
                    more = tl.where(reads[:, None], weights[:, None] * value[None, :], 0.0)
                    acc = acc * shrink[:, None] + more
                    row_max = new_max
            if slot >= 0:
                output, logs = finish(acc, row_max, row_sum, sinks, head, False)
                slots = (replica * num_slots + slot) * TILE_M + local
                slot_pointers = partial_o + slots[:, None] * HEAD_DIM + d[None, :]
                tl.store(slot_pointers, output, mask=(d < HEAD_DIM)[None, :])
                tl.store(partial_lse + slots, logs)
            else:
                output, logs = finish(acc, row_max, row_sum, sinks, head, SINKS)
                numbers = (wide_batch * num_heads + head) * query_len + rows
                pointers = o + numbers[:, None] * HEAD_DIM + d[None, :]
                inside = there[:, None] & (d < HEAD_DIM)[None, :]
                tl.store(pointers, output.to(o.dtype.element_ty), mask=inside)
                tl.store(lse + numbers, logs * LN_2, mask=there)


@triton.jit
def repair_query_gradient_kernel(
    flags, q, k, v, do, stats, dq, partial,
    records, tiles, lists, masks, bands, slopes, key_lengths,
    stride_qb, stride_qh, stride_qn, stride_qd,
    stride_kb, stride_kh, stride_kn, stride_kd,
    stride_vb, stride_vh, stride_vn, stride_vd,
    stride_db, stride_dh, stride_dn, stride_dd,
    scale, softcap, query_len, kv_len, num_heads, group, num_records, replicas, chunk, num_slots,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, PLAIN: tl.constexpr, SOFTCAP: tl.constexpr,
    ALIBI: tl.constexpr, KEY_LENGTHS: tl.constexpr,
):  # fmt: skip
    """The rows of one program of `query_gradient_kernel`."""
    pid = tl.program_id(0)
    if tl.max(tl.load(flags + pid * BLOCK_M + tl.arange(0, BLOCK_M)), 0) != 0:
        SPLIT: tl.constexpr = TILE_M // BLOCK_M
        batch, head, replica, record = locate(
            pid // SPLIT, records, num_records, replicas, chunk, num_heads
        )
        code, step, first = tl.load(record + 1), tl.load(record + 2), tl.load(record + 3)
        count = tl.load(record + 4) + tl.load(record + 5)
        slot = tl.load(record + 6)
        wide_batch, wide_head = batch.to(tl.int64), head.to(tl.int64)
        k_head = k + wide_batch * stride_kb + wide_head // group * stride_kh
        v_head = v + wide_batch * stride_vb + wide_head // group * stride_vh
        bound = kv_len
        if KEY_LENGTHS:
            bound = tl.minimum(kv_len, tl.load(key_lengths + batch))
        slope = 0.0
        if ALIBI:
            slope = tl.load(slopes + head).to(tl.float32)
        d = tl.arange(0, BLOCK_D)
        for below in range(0, BLOCK_M // ROWS):
            first_row = pid % SPLIT * BLOCK_M + below * ROWS
            rows = positions_of(code, step, first_row, lists, ROWS)
            there = (rows >= 0) & (rows < query_len)
            local = first_row + tl.arange(0, ROWS)
            queries = load_rows(
                q + wide_batch * stride_qb + wide_head * stride_qh, rows, there,
                stride_qn, stride_qd, HEAD_DIM, BLOCK_D, True,
            ).to(tl.float32)  # fmt: skip
            gradients = load_rows(
                do + wide_batch * stride_db + wide_head * stride_dh, rows, there,
                stride_dn, stride_dd, HEAD_DIM, BLOCK_D, True,
            ).to(tl.float32)  # fmt: skip
            numbers = (wide_batch * num_heads + head) * query_len + rows
            logs = tl.load(stats + numbers * STATS, mask=there, other=float("inf"))
            deltas = tl.load(stats + numbers * STATS + 1, mask=there, other=0.0)
            acc = tl.zeros([ROWS, BLOCK_D], dtype=tl.float32)
            for at in range(0, count):
                tile = tl.load(tiles + first + at)
                mask = (tile >> 32).to(tl.int32)
                for number in range(0, TILE_N):
                    column = _position(tile, step, number, lists)
                    exists = (column >= 0) & (column < bound)
                    reads = _reads(mask, local, number, masks, bands, TILE_M, TILE_N) & exists
                    key = _row(k_head, column, exists, stride_kn, stride_kd, HEAD_DIM, BLOCK_D)
                    value = _row(v_head, column, exists, stride_vn, stride_vd, HEAD_DIM, BLOCK_D)
                    exponents, inner = weights_of(
                        tl.sum(queries * key[None, :], 1), logs, rows, column,
                        scale, softcap, slope, PLAIN, SOFTCAP, ALIBI,
                    )  # fmt: skip
                    dp = tl.sum(gradients * value[None, :], 1)
                    ds = tl.exp2(exponents) * (dp - deltas) * inner
                    acc += tl.where(reads[:, None], ds[:, None] * key[None, :], 0.0)
            acc = acc * scale
            if slot >= 0:
                slots = (replica * num_slots + slot) * TILE_M + local
                slot_pointers = partial + slots[:, None] * HEAD_DIM + d[None, :]
                tl.store(slot_pointers, acc, mask=(d < HEAD_DIM)[None, :])
            else:
                pointers = dq + numbers[:, None] * HEAD_DIM + d[None, :]
                inside = there[:, None] & (d < HEAD_DIM)[None, :]
                tl.store(pointers, acc.to(dq.dtype.element_ty), mask=inside)


@triton.jit
def repair_key_gradient_kernel(
    flags, q, k, v, do, stats, dk, dv, partial_dk, partial_dv,
    records, tiles, lists, masks, bands, slopes, key_lengths,
    stride_qb, stride_qh, stride_qn, stride_qd,
    stride_kb, stride_kh, stride_kn, stride_kd,
    stride_vb, stride_vh, stride_vn, stride_vd,
    stride_db, stride_dh, stride_dn, stride_dd,
    scale, softcap, query_len, kv_len, num_heads, num_query_heads, group, shared, num_records,
    replicas, chunk, num_slots,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, PLAIN: tl.constexpr, SOFTCAP: tl.constexpr,
    ALIBI: tl.constexpr, KEY_LENGTHS: tl.constexpr,
):  # fmt: skip
    """The rows of one program of `key_gradient_kernel`."""
    pid = tl.program_id(0)
    if tl.max(tl.load(flags + pid * BLOCK_M + tl.arange(0, BLOCK_M)), 0) != 0:
        SPLIT: tl.constexpr = TILE_M // BLOCK_M
        batch, head, replica, record = locate(
            pid // SPLIT, records, num_records, replicas, chunk, num_heads
        )
        code, step, first = tl.load(record + 1), tl.load(record + 2), tl.load(record + 3)
        count = tl.load(record + 4) + tl.load(record + 5)
        slot = tl.load(record + 6)
        wide_batch, wide_head = batch.to(tl.int64), head.to(tl.int64)
        bound = kv_len
        if KEY_LENGTHS:
            bound = tl.minimum(kv_len, tl.load(key_lengths + batch))
        d = tl.arange(0, BLOCK_D)
        for below in range(0, BLOCK_M // ROWS):
            first_row = pid % SPLIT * BLOCK_M + below * ROWS
            rows = positions_of(code, step, first_row, lists, ROWS)
            there = (rows >= 0) & (rows < kv_len)
            given = there & (rows < bound)
            local = first_row + tl.arange(0, ROWS)
            keys = load_rows(
                k + wide_batch * stride_kb + wide_head // shared * stride_kh, rows, given,
                stride_kn, stride_kd, HEAD_DIM, BLOCK_D, True,
            ).to(tl.float32)  # fmt: skip
            values = load_rows(
                v + wide_batch * stride_vb + wide_head // shared * stride_vh, rows, given,
                stride_vn, stride_vd, HEAD_DIM, BLOCK_D, True,
            ).to(tl.float32)  # fmt: skip
            acc_k = tl.zeros([ROWS, BLOCK_D], dtype=tl.float32)
            acc_v = tl.zeros([ROWS, BLOCK_D], dtype=tl.float32)
            for member in range(0, group):
                query_head = wide_head * group + member
                q_head = q + wide_batch * stride_qb + query_head * stride_qh
                do_head = do + wide_batch * stride_db + query_head * stride_dh
                flat = (wide_batch * num_query_heads + query_head) * query_len
                slope = 0.0
                if ALIBI:
                    slope = tl.load(slopes + query_head).to(tl.float32)
                for at in range(0, count):
                    tile = tl.load(tiles + first + at)
                    mask = (tile >> 32).to(tl.int32)
                    for number in range(0, TILE_N):
                        column = _position(tile, step, number, lists)
                        exists = (column >= 0) & (column < query_len)
                        reads = _reads(mask, local, number, masks, bands, TILE_M, TILE_N)
                        reads = reads & exists & given
                        query = _row(
                            q_head, column, exists, stride_qn, stride_qd, HEAD_DIM, BLOCK_D
                        )
                        gradient = _row(
                            do_head, column, exists, stride_dn, stride_dd, HEAD_DIM, BLOCK_D
                        )
                        own = stats + (flat + column) * STATS
                        logs = tl.load(own, mask=exists, other=float("inf"))
                        delta = tl.load(own + 1, mask=exists, other=0.0)
                        exponents, inner = weights_of(
                            tl.sum(keys * query[None, :], 1), logs, rows, column,
                            scale, softcap, slope, PLAIN, SOFTCAP, ALIBI,
                        )  # fmt: skip
                        p = tl.exp2(exponents)
                        dp = tl.sum(values * gradient[None, :], 1)
                        ds = p * (dp - delta) * inner
                        acc_v += tl.where(reads[:, None], p[:, None] * gradient[None, :], 0.0)
                        acc_k += tl.where(reads[:, None], ds[:, None] * query[None, :], 0.0)
            acc_k = acc_k * scale
            if slot >= 0:
                slots = (replica * num_slots + slot) * TILE_M + local
                slot_offsets = slots[:, None] * HEAD_DIM + d[None, :]
                tl.store(partial_dk + slot_offsets, acc_k, mask=(d < HEAD_DIM)[None, :])
                tl.store(partial_dv + slot_offsets, acc_v, mask=(d < HEAD_DIM)[None, :])
            else:
                numbers = (wide_batch * num_heads + head) * kv_len + rows
                own_offsets = numbers[:, None] * HEAD_DIM + d[None, :]
                inside = there[:, None] & (d < HEAD_DIM)[None, :]
                tl.store(dk + own_offsets, acc_k.to(dk.dtype.element_ty), mask=inside)
                tl.store(dv + own_offsets, acc_v.to(dv.dtype.element_ty), mask=inside)

"""What all kernels share: which record a program has, its positions, and the masks of tiles."""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
FIELDS = tl.constexpr(8)
WORD = tl.constexpr(32)
FAR = tl.constexpr(1 << 20)


@triton.jit
def locate(pid, records, num_records, replicas, chunk, num_heads):
    """The batch element, the head, the replica of the records, and the record of a program.

    Heads are taken `chunk` at a time, the records in order within, so that the keys of a chunk stay
    in the cache; see `attnloom.runtime.executable.Pass`.
    """
    per_batch = num_records * replicas
    batch = pid // per_batch
    within = pid % per_batch
    per_chunk = num_records * chunk
    head = within // per_chunk * chunk + within % chunk
    record = records + (within % per_chunk) // chunk * FIELDS
    named = tl.load(record)
    replica = batch.to(tl.int64) * replicas + head
    return batch + named // num_heads, head + named % num_heads, replica, record


@triton.jit
def positions_of(code, step, first, lists, SIZE: tl.constexpr):
    """The positions of a row of tiles from number `first` on, -1 for none."""  # [SIZE]
    numbers = first + tl.arange(0, SIZE)
    if code >= 0:
        found = code + step * numbers
    else:
        found = tl.load(lists + (-1 - code) + numbers)
    return found


@triton.jit
def offsets(positions, stride, WIDE: tl.constexpr):
    """How far positions lie from the first; in 64 bits if that may be far."""
    if WIDE:
        return positions.to(tl.int64) * stride
    else:
        return positions * stride


@triton.jit
def load_rows(base, positions, there, stride, stride_d, HEAD_DIM: tl.constexpr,
              BLOCK_D: tl.constexpr, WIDE: tl.constexpr):  # fmt: skip
    """The rows of a matrix at some positions, 0 where there is none."""  # [SIZE, BLOCK_D]
    d = tl.arange(0, BLOCK_D)
    pointers = base + offsets(positions, stride, WIDE)[:, None] + d[None, :] * stride_d
    mask = there[:, None] & (d < HEAD_DIM)[None, :]
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def apply_mask(scores, mask, first_row, first_column, masks, bands,
               BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
               TILE_M: tl.constexpr, TILE_N: tl.constexpr):  # fmt: skip
    """Scores with minus infinity for pairs that do not count; `mask` is not 0."""  # [M, N]
    rows = first_row + tl.arange(0, BLOCK_M)
    columns = first_column + tl.arange(0, BLOCK_N)
    if mask < 0:
        band = bands + (-1 - mask) * 4
        least = tl.load(band)
        most = tl.load(band + 1)
        # Far away on either side, so that two comparisons are enough for each pair.
        rows = tl.where(rows < tl.load(band + 2), rows, FAR)
        columns = tl.where(columns < tl.load(band + 3), columns, 2 * FAR)
        above = rows[:, None] >= (columns + least)[None, :]
        below = rows[:, None] <= (columns + most)[None, :]
        scores = tl.where(above & below, scores, float("-inf"))
    else:
        WORDS: tl.constexpr = (TILE_N + WORD - 1) // WORD
        first_word = (mask - 1) * (TILE_M * WORDS) + rows * WORDS + first_column // WORD
        if BLOCK_N < WORD:
            word = tl.load(masks + first_word)  # [M]
            bits = word[:, None] >> (columns % WORD)[None, :]
        else:
            numbers = tl.arange(0, BLOCK_N)
            # A thread has columns that lie in eights: it shifts by its place once for each word.
            place = (numbers % 8)[None, :]
            eight = (numbers % WORD // 8 * 8)[None, :]
            bits = tl.load(masks + first_word)[:, None] >> place
            for number in tl.static_range(1, BLOCK_N // WORD):
                more = tl.load(masks + first_word + number)[:, None] >> place
                bits = tl.where((numbers // WORD == number)[None, :], more, bits)
            bits = bits >> eight
        scores = tl.where((bits & 1) != 0, scores, float("-inf"))
    return scores


@triton.jit
def leave_flags(flags, acc, BLOCK_M: tl.constexpr):
    """Tell which rows of a result hold a NaN; see `attnloom.runtime.kernels.repair`."""
    own = flags + tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    tl.store(own, tl.max((acc != acc).to(tl.int32), 1))


@triton.jit
def tanh(x):
    """Hyperbolic tangent, exact to float32 for small arguments too."""
    t = tl.exp2(tl.abs(x) * (-2.0 * LOG2_E))
    large = (1.0 - t) / (1.0 + t)
    square = x * x
    small = x * (1.0 + square * (-1.0 / 3.0 + square * (2.0 / 15.0 - square * (17.0 / 315.0))))
    return tl.where(tl.abs(x) < 0.1, small, tl.where(x < 0, -large, large))

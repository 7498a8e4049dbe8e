"""Oracles of the runtime tests: simple, slow, and independent of what they test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from hypothesis import strategies as st

from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.runtime.plan import Plan


def layout_of(dense: np.ndarray, block_m: int = 128, block_n: int = 128) -> BlockLayout:
    """The layout of a boolean matrix, tile by tile."""
    query_len, kv_len = dense.shape
    row_offsets, columns, mask_ids, masks, known = [0], [], [], [], {}
    for top in range(0, query_len, block_m):
        for left in range(0, kv_len, block_n):
            tile = np.zeros((block_m, block_n), dtype=bool)
            part = dense[top : top + block_m, left : left + block_n]
            tile[: part.shape[0], : part.shape[1]] = part
            if not tile.any():
                continue
            columns.append(left // block_n)
            if tile.all():
                mask_ids.append(FULL)
                continue
            packed = np.packbits(tile, axis=-1, bitorder="little")
            if packed.tobytes() not in known:
                known[packed.tobytes()] = len(masks)
                masks.append(packed)
            mask_ids.append(known[packed.tobytes()])
        row_offsets.append(len(columns))
    width = -(-block_n // 8)
    return BlockLayout(
        query_len, kv_len, block_m, block_n,
        np.array(row_offsets, np.int64),
        np.array(columns, np.int32),
        np.array(mask_ids, np.int32),
        np.array(masks, np.uint8).reshape(len(masks), block_m, width),
    )  # fmt: skip


def window_layout(n: int, reach: int, num_marks: int, block: int = 128) -> BlockLayout:
    """The layout of a window with marks at the front, tile by tile, without the whole matrix."""
    row_offsets, columns, mask_ids, masks, known = [0], [], [], [], {}
    blocks = -(-n // block)
    for row in range(blocks):
        i = np.arange(row * block, (row + 1) * block)[:, None]
        near = range(
            max(0, (i[0, 0] - reach) // block), min(blocks, (i[-1, 0] + reach) // block + 1)
        )
        for column in sorted({0, *near}) if row * block >= num_marks else range(blocks):
            j = np.arange(column * block, (column + 1) * block)
            tile = (abs(i - j) <= reach) | (i < num_marks) | (j < num_marks)
            tile &= (i < n) & (j < n)
            packed = np.packbits(tile, axis=-1, bitorder="little")
            if packed.tobytes() not in known:
                known[packed.tobytes()] = FULL if tile.all() else len(masks)
                masks += [] if tile.all() else [packed]
            columns.append(column)
            mask_ids.append(known[packed.tobytes()])
        row_offsets.append(len(columns))
    return BlockLayout(
        n, n, block, block,
        np.array(row_offsets, np.int64),
        np.array(columns, np.int32),
        np.array(mask_ids, np.int32),
        np.array(masks, np.uint8),
    )  # fmt: skip


def plan_of(dense: np.ndarray, block_m: int = 128, block_n: int = 128) -> Plan:
    """The plan of boolean matrices `(batch or 1, heads, query_len, kv_len)`; equal ones shared."""
    layouts: list[BlockLayout] = []
    known: dict[bytes, int] = {}
    choice = np.zeros(dense.shape[:2], dtype=np.int64)
    for b, h in np.ndindex(*dense.shape[:2]):
        name = dense[b, h].tobytes()
        if name not in known:
            known[name] = len(layouts)
            layouts.append(layout_of(dense[b, h], block_m, block_n))
        choice[b, h] = known[name]
    return Plan.from_layouts(layouts, choice)


def dense_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, allowed: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masked attention on the whole matrix, differentiable; for finite inputs."""
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    nothing = ~allowed.any(-1, keepdim=True)
    scores = (query @ key.mT * scale).masked_fill(~allowed & ~nothing, -torch.inf)
    output = (torch.softmax(scores, -1) @ value).masked_fill(nothing, 0)
    return output, torch.logsumexp(scores, -1).masked_fill(nothing[..., 0], -torch.inf)


def inputs(
    shape: Sequence[int], kv_heads: int, kv_len: int, dtype: torch.dtype, seed: int = 0
) -> list[torch.Tensor]:
    """Query, key and value that want gradients; `shape` is the query's."""
    generator = torch.Generator().manual_seed(seed)
    batch, _, _, head_dim = shape
    shapes = [tuple(shape), *[(batch, kv_heads, kv_len, head_dim)] * 2]
    tensors = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    return [x.to(dtype).requires_grad_() for x in tensors]


def window(
    query_len: int, kv_len: int, reach: int, marks: Sequence[int] = (), causal: bool = False
) -> np.ndarray:
    """Each query reads the keys within reach and the marks; the marks read all."""
    i, j = np.arange(query_len)[:, None], np.arange(kv_len)
    dense = (abs(i - j) <= reach) | np.isin(i, marks) | np.isin(j, marks)
    return dense & (j <= i) if causal else dense


KINDS = (
    "window", "globals", "blocks", "random", "strided", "tiles", "causal", "all",
    "empty rows", "empty columns", "nothing",
)  # fmt: skip


@st.composite
def relations(draw: st.DrawFn, query_len: int, kv_len: int) -> np.ndarray:
    """Boolean matrices of the kinds that patterns are made of."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    return relation(kinds, query_len, kv_len, rng)


def relation(
    kinds: Sequence[str], query_len: int, kv_len: int, rng: np.random.Generator
) -> np.ndarray:
    """The kinds put one upon the other."""
    i, j = np.arange(query_len)[:, None], np.arange(kv_len)
    dense = np.zeros((query_len, kv_len), dtype=bool)
    for kind in kinds:
        size = int(rng.integers(1, 200))
        if kind == "window":
            dense |= (i - j <= size) & (j - i <= int(rng.integers(0, 200)))
        elif kind == "globals":
            dense |= np.isin(i, rng.integers(0, query_len, 3)) | np.isin(
                j, rng.integers(0, kv_len, 6)
            )
        elif kind == "blocks":
            dense |= i // size == j // size
        elif kind == "random":
            dense |= rng.random((query_len, kv_len)) < 1 / size
        elif kind == "strided":
            dense |= (i - j) % size == 0
        elif kind == "tiles":
            dense |= rng.random((query_len // 64 + 1, kv_len // 64 + 1))[i // 64, j // 64] < 0.3
        elif kind == "causal":
            dense &= j <= i
        elif kind == "all":
            dense[:] = True
        elif kind == "empty rows":
            dense[rng.random(query_len) < 0.3] = False
        elif kind == "empty columns":
            dense[:, rng.random(kv_len) < 0.3] = False
        else:
            dense[:] = False
    return dense


ROUNDING = {torch.float64: 5000, torch.float32: 16, torch.bfloat16: 4, torch.float16: 4}
"""Roundings allowed in a result of size 1. Dense attention in float64 is the measure itself, and
has no error of its own to compare with; the others have."""

Attend = Callable[..., tuple[torch.Tensor, torch.Tensor]]


def results(
    attend: Attend, tensors: Sequence[torch.Tensor], wishes: Sequence[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Output, lse and gradients of `attend(query, key, value)`, the gradients for the `wishes`."""
    query, key, value = (x.detach().requires_grad_() for x in tensors)
    output, lse = attend(query, key, value)
    targets = [(x, wish.to(x.dtype)) for x, wish in zip((output, lse), wishes, strict=True)]
    gradients = torch.autograd.grad(
        [x for x, _ in targets], (query, key, value), [wish for _, wish in targets]
    )
    names = ("output", "lse", "d_query", "d_key", "d_value")
    return dict(zip(names, (output.detach(), lse.detach(), *gradients), strict=True))


def wishes_for(query: torch.Tensor, allowed: torch.Tensor, seed: int = 1) -> list[torch.Tensor]:
    """Gradients of the output, and of the lse where it is finite."""
    generator = torch.Generator().manual_seed(seed)
    d_output = torch.randn(query.shape, generator=generator, dtype=torch.float64)
    d_lse = torch.randn(query.shape[:-1], generator=generator, dtype=torch.float64)
    return [d_output.to(query.dtype), d_lse.masked_fill(~allowed.any(-1), 0)]


def assert_as_good_as_dense(
    got: dict[str, torch.Tensor],
    tensors: Sequence[torch.Tensor],
    allowed: torch.Tensor,
    scale: float,
    wishes: Sequence[torch.Tensor],
) -> None:
    """The errors are at most twice those of dense attention in the same dtype, plus rounding.

    Errors are taken against dense attention in float64 on the same numbers.
    """

    def dense(*x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return dense_attention(*x, allowed, scale)

    exact = results(dense, [x.double() for x in tensors], wishes)
    usual = results(dense, tensors, wishes)
    # Scores' gradients, whose terms may cancel: nothing of a sum is as exact as its terms.
    d_scores = (
        wishes[0].double()
        @ tensors[2].double().repeat_interleave(tensors[0].shape[1] // tensors[2].shape[1], 1).mT
    ).abs().max() * abs(scale)
    for name, x in got.items():
        assert x.dtype == (tensors[0].dtype if name != "lse" else lse_dtype(tensors[0].dtype))
        assert (torch.isneginf(x) == torch.isneginf(exact[name])).all(), name
        assert not x.isnan().any(), name
        error, usual_error = (
            (y.double() - exact[name]).nan_to_num(0, 0, 0).abs().max() for y in (x, usual[name])
        )
        largest = exact[name].nan_to_num(0, 0, 0).abs().max()
        sizes = 1 + largest + (d_scores if name in ("d_query", "d_key") else 0)
        budget = 2 * usual_error + ROUNDING[x.dtype] * torch.finfo(x.dtype).eps * sizes
        assert error <= budget, f"{name}: {error:.3g} > {budget:.3g}"


def lse_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


@contextmanager
def fresh_memory_is_nan() -> Iterator[None]:
    """What `torch.empty` gives is NaN, so that what is not written shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)

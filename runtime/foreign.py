"""Plans from what others describe attention with: dense masks, grids of blocks, block masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from attnloom.compiler.layout import BlockLayout
from attnloom.runtime.plan import Plan
from attnloom.runtime.rows import Ints, layout_of_tiles

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

Bools = NDArray[np.bool_]

_PAIRS_AT_ONCE = 1 << 22


def plan_from_mask(
    mask: torch.Tensor | Bools, block: int | tuple[int, int], heads: int | None
) -> Plan:
    """See `Plan.from_mask`."""
    dense = _with_heads(mask, "mask", heads)
    query_len, kv_len = dense.shape[2:]
    block_m, block_n = _sides(block)
    rows, columns = -(-query_len // block_m), -(-kv_len // block_n)

    def layout(one: Bools) -> BlockLayout:
        padded = np.zeros((rows * block_m, columns * block_n), dtype=np.bool_)
        padded[:query_len, :kv_len] = one
        tiles = padded.reshape(rows, block_m, columns, block_n).transpose(0, 2, 1, 3)
        row, column = np.nonzero(tiles.any((2, 3)))
        return layout_of_tiles(query_len, kv_len, row, column, tiles[row, column])

    return _plan_of(dense, layout, mask)


def plan_from_blocks(
    blocks: torch.Tensor | Bools,
    block: int | tuple[int, int],
    lengths: tuple[int, int] | None,
    heads: int | None,
) -> Plan:
    """See `Plan.from_blocks`."""
    used = _with_heads(blocks, "blocks", heads)
    sides = _sides(block)
    whole = used.shape[2] * sides[0], used.shape[3] * sides[1]
    query_len, kv_len = whole if lengths is None else lengths
    wanted = -(-query_len // sides[0]), -(-kv_len // sides[1])
    if used.shape[2:] != wanted:
        raise ValueError(
            f"blocks must have shape (..., {wanted[0]}, {wanted[1]}) for lengths {lengths} in "
            f"blocks of {sides}, got {tuple(blocks.shape)}"
        )

    def layout(one: Bools) -> BlockLayout:
        row, column = np.nonzero(one)
        masks = _inside(row, column, sides, (query_len, kv_len))
        return layout_of_tiles(query_len, kv_len, row, column, masks)

    return _plan_of(used, layout, blocks)


def plan_from_block_mask(block_mask: BlockMask, heads: int | None) -> Plan:
    """See `Plan.from_block_mask`."""
    if not hasattr(block_mask, "kv_num_blocks"):
        raise TypeError(
            "block_mask must be a BlockMask of FlexAttention, as create_block_mask makes it, "
            f"got {type(block_mask).__name__}"
        )
    batch, num_heads = block_mask.kv_num_blocks.shape[:2]
    if heads is None:
        heads = num_heads
    elif num_heads not in (1, heads):
        raise ValueError(f"heads must be those of the block mask, {num_heads}, got {heads}")
    block = cast(tuple[int, int], tuple(block_mask.BLOCK_SIZE))
    lengths = cast(tuple[int, int], tuple(block_mask.seq_lengths))
    layouts: list[BlockLayout] = []
    known: dict[bytes, int] = {}
    chosen = np.zeros((batch, heads), dtype=np.int64)
    for element, head in np.ndindex(batch, num_heads):
        found = _layout_of(block_mask, element, head, block, lengths)
        number = known.setdefault(found.fingerprint(), len(layouts))
        if number == len(layouts):
            layouts.append(found)
        chosen[element, head:] = number
    return Plan.from_layouts(layouts, chosen, device=block_mask.kv_num_blocks.device)


def _layout_of(
    block_mask: BlockMask,
    element: int,
    head: int,
    block: tuple[int, int],
    lengths: tuple[int, int],
) -> BlockLayout:
    row, column = _listed(block_mask.kv_num_blocks, block_mask.kv_indices, element, head)
    masks = _inside(row, column, block, lengths)
    masks &= _asked(block_mask, element, head, row, column, block, lengths)
    if block_mask.full_kv_num_blocks is not None and block_mask.full_kv_indices is not None:
        full = _listed(block_mask.full_kv_num_blocks, block_mask.full_kv_indices, element, head)
        masks = np.concatenate([masks, _inside(*full, block, lengths)])
        row, column = np.concatenate([row, full[0]]), np.concatenate([column, full[1]])
    some = masks.any((1, 2))
    order = np.flatnonzero(some)[np.lexsort((column[some], row[some]))]
    return layout_of_tiles(*lengths, row[order], column[order], masks[order])


def _listed(
    counts: torch.Tensor, columns: torch.Tensor, element: int, head: int
) -> tuple[Ints, Ints]:
    """The rows and columns of the blocks that are listed for a head."""
    number = counts[element, head].cpu().numpy()
    of_row = columns[element, head].cpu().numpy()
    row, place = np.nonzero(np.arange(of_row.shape[1]) < number[:, None])
    return row, of_row[row, place].astype(np.int64)


def _asked(
    block_mask: BlockMask,
    element: int,
    head: int,
    row: Ints,
    column: Ints,
    block: tuple[int, int],
    lengths: tuple[int, int],
) -> Bools:
    """What the function of a block mask says of the pairs of some blocks."""
    device = block_mask.kv_num_blocks.device
    # It may be written for one pair at a time.
    ask: Callable[..., Any] = torch.vmap(block_mask.mask_mod)
    found = np.zeros((len(row), *block), dtype=np.bool_)
    for some in _chunks(len(row), block[0] * block[1]):
        query = row[some, None, None] * block[0] + np.arange(block[0])[:, None]
        key = column[some, None, None] * block[1] + np.arange(block[1])
        # Beyond the sequence nothing is asked: it may look something up.
        pairs = [np.minimum(x, n - 1) for x, n in zip((query, key), lengths, strict=True)]
        query, key = (x.reshape(-1) for x in np.broadcast_arrays(*pairs))
        where = (np.full_like(query, element), np.full_like(query, head), query, key)
        answers = ask(*(torch.from_numpy(x.copy()).to(device) for x in where))
        found[some] = answers.cpu().numpy().reshape(-1, *block)
    return found


def _chunks(count: int, size: int) -> Iterator[slice]:
    step = max(1, _PAIRS_AT_ONCE // size)
    for first in range(0, count, step):
        yield slice(first, min(first + step, count))


def _inside(row: Ints, column: Ints, block: tuple[int, int], lengths: tuple[int, int]) -> Bools:
    """The pairs of some blocks that lie within the lengths, `(count, block_m, block_n)`."""
    query = row[:, None] * block[0] + np.arange(block[0]) < lengths[0]
    key = column[:, None] * block[1] + np.arange(block[1]) < lengths[1]
    return np.asarray(query[:, :, None] & key[:, None, :])


def _sides(block: int | tuple[int, int]) -> tuple[int, int]:
    """Queries and keys of a block."""
    return (block, block) if isinstance(block, int) else block


def _with_heads(mask: torch.Tensor | Bools, name: str, heads: int | None) -> Bools:
    """A mask as `(batch, heads, ..., ...)`."""
    if not isinstance(mask, (torch.Tensor, np.ndarray)):
        raise TypeError(f"{name} must be a boolean tensor, got {type(mask).__name__}")
    if mask.dtype not in (torch.bool, np.bool_):
        raise TypeError(
            f"{name} must be a boolean tensor, true where something is read, got {mask.dtype}; "
            f"write {name} == 0 if it is added to scores, {name} != 0 if it holds 0 and 1"
        )
    if mask.ndim not in (2, 3, 4) or 0 in mask.shape:
        raise ValueError(
            f"{name} must have shape (queries, keys), with heads and then a batch in front if they "
            f"differ, got {tuple(mask.shape)}"
        )
    dense = mask.cpu().numpy() if isinstance(mask, torch.Tensor) else mask
    dense = dense.reshape((1,) * (4 - dense.ndim) + dense.shape)
    if heads is not None and dense.shape[1] not in (1, heads):
        raise ValueError(f"heads must be those of {name}, {dense.shape[1]}, got {heads}")
    wanted = dense.shape[1] if heads is None else heads
    return np.broadcast_to(dense, (len(dense), wanted, *dense.shape[2:]))


def _plan_of(
    dense: Bools, layout: Callable[[Bools], BlockLayout], given: torch.Tensor | Bools
) -> Plan:
    """The plan of `(batch, heads, ..., ...)`, where it was given; equal ones share a layout."""
    layouts: list[BlockLayout] = []
    known: dict[bytes, int] = {}
    chosen = np.zeros(dense.shape[:2], dtype=np.int64)
    for element, head in np.ndindex(*chosen.shape):
        one = dense[element, head]
        number = known.setdefault(one.tobytes(), len(layouts))
        if number == len(layouts):
            layouts.append(layout(one))
        chosen[element, head] = number
    device = given.device if isinstance(given, torch.Tensor) else torch.device("cpu")
    return Plan.from_layouts(layouts, chosen, device=device)

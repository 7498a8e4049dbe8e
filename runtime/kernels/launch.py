"""Launches the kernels: sizes, memory for results and partial results, and grids."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton

from attnloom.runtime.executable import Executable, PassSizes
from attnloom.runtime.kernels.backward import (
    key_gradient_kernel,
    query_gradient_kernel,
    statistics_kernel,
)
from attnloom.runtime.kernels.configurations import Configuration, block_d, choose, family_of
from attnloom.runtime.kernels.forward import forward_kernel
from attnloom.runtime.kernels.merge import merge_outputs_kernel, merge_sums_kernel
from attnloom.runtime.kernels.repair import (
    repair_forward_kernel,
    repair_key_gradient_kernel,
    repair_query_gradient_kernel,
)
from attnloom.runtime.modifiers import Modifiers

_CACHE_BYTES = 24 << 20
"""Keys and values that are worked on at a time; about half of a large GPU's cache."""

_MERGE_ROWS = 32
_STATISTICS_ROWS = 64


def forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    plan: Executable,
    modifiers: Modifiers,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, contiguous, and the lse."""
    batch, heads, query_len, head_dim = query.shape
    output = query.new_empty(query.shape)
    lse = query.new_empty(query.shape[:-1], dtype=torch.float32)
    sizes, tables = plan.forward_sizes, plan.forward
    replicas, batches = _replicas(plan, batch, heads)
    slots = batches * replicas * sizes.num_slots * sizes.tile_rows
    partial = query.new_empty((slots, head_dim), dtype=torch.float32)
    partial_lse = query.new_empty((slots,), dtype=torch.float32)
    blocks = _blocks("forward", query, sizes)
    slopes, sinks, key_lengths = _optional(modifiers, query)
    with _on(query):
        _launch(
            forward_kernel, repair_forward_kernel,
            sizes.num_records * replicas * batches, sizes, blocks,
            {
                **_constants(sizes, modifiers, query, key, value),
                "SINKS": modifiers.sinks is not None,
            },
            query, key, value, output, lse, partial, partial_lse,
            tables.records, tables.tiles, tables.lists, tables.masks, tables.bands,
            slopes, sinks, key_lengths,
            *query.stride(), *key.stride(), *value.stride(),
            modifiers.scale, modifiers.softcap, query_len, key.shape[2], heads,
            heads // key.shape[1], sizes.num_records, replicas,
            _chunk(replicas, key, heads // key.shape[1]), sizes.num_slots,
        )  # fmt: skip
        if sizes.num_merges:
            rows = min(_MERGE_ROWS, sizes.tile_rows)
            grid = (sizes.num_merges * (sizes.tile_rows // rows) * replicas * batches,)
            merge_outputs_kernel[grid](
                partial, partial_lse, output, lse, tables.merges, tables.lists, tables.sources,
                sinks, query_len, heads, sizes.num_merges, replicas, sizes.num_slots,
                HEAD_DIM=head_dim, BLOCK_D=block_d(head_dim), BLOCK_M=rows,
                TILE_M=sizes.tile_rows, SINKS=modifiers.sinks is not None,
            )  # fmt: skip
    return output, lse


def backward(
    d_output: torch.Tensor,
    d_lse: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    plan: Executable,
    modifiers: Modifiers,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of query, key and value, contiguous."""
    batch, heads, query_len, head_dim = query.shape
    stats = lse.new_empty((*lse.shape, 4))
    output, lse = output.contiguous(), lse.contiguous()
    with _on(query):
        statistics_kernel[(batch * heads * triton.cdiv(query_len, _STATISTICS_ROWS),)](
            output, d_output, lse, d_lse, stats, *d_output.stride(), *d_lse.stride(),
            query_len, heads,
            HEAD_DIM=head_dim, BLOCK_D=block_d(head_dim), BLOCK_M=_STATISTICS_ROWS,
            WIDE=_is_wide(d_output, output),
        )  # fmt: skip
        d_query = _query_gradient(d_output, query, key, value, stats, plan, modifiers)
        d_key, d_value = _key_gradients(d_output, query, key, value, stats, plan, modifiers)
    return d_query, d_key, d_value


def _query_gradient(
    d_output: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    stats: torch.Tensor,
    plan: Executable,
    modifiers: Modifiers,
) -> torch.Tensor:
    batch, heads, query_len, head_dim = query.shape
    sizes, tables = plan.forward_sizes, plan.forward
    d_query = query.new_empty(query.shape)
    replicas, batches = _replicas(plan, batch, heads)
    slots = batches * replicas * sizes.num_slots * sizes.tile_rows
    partial = query.new_empty((slots, head_dim), dtype=torch.float32)
    blocks = _blocks("dq", query, sizes)
    slopes, _, key_lengths = _optional(modifiers, query)
    _launch(
        query_gradient_kernel, repair_query_gradient_kernel,
        sizes.num_records * replicas * batches, sizes, blocks,
        _constants(sizes, modifiers, query, key, value, d_output),
        query, key, value, d_output, stats, d_query, partial,
        tables.records, tables.tiles, tables.lists, tables.masks, tables.bands,
        slopes, key_lengths,
        *query.stride(), *key.stride(), *value.stride(), *d_output.stride(),
        modifiers.scale, modifiers.softcap, query_len, key.shape[2], heads,
        heads // key.shape[1], sizes.num_records, replicas,
        _chunk(replicas, key, heads // key.shape[1]), sizes.num_slots,
    )  # fmt: skip
    if sizes.num_merges:
        _merge_sums(partial, d_query, plan.forward, sizes, replicas, batches)
    return d_query


def _key_gradients(
    d_output: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    stats: torch.Tensor,
    plan: Executable,
    modifiers: Modifiers,
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, heads, query_len, head_dim = query.shape
    kv_heads, kv_len = key.shape[1:3]
    sizes, tables = plan.transposed_sizes, plan.transposed
    # Heads that follow different layouts cannot be added up underway: only afterwards.
    result_heads = kv_heads if plan.is_uniform else heads
    group, shared = heads // result_heads, result_heads // kv_heads
    shape = (batch, result_heads, kv_len, head_dim)
    dtype = key.dtype if shared == 1 else torch.float32
    d_key, d_value = (key.new_empty(shape, dtype=dtype) for _ in range(2))
    replicas, batches = _replicas(plan, batch, result_heads)
    slots = batches * replicas * sizes.num_slots * sizes.tile_rows
    partials = [key.new_empty((slots, head_dim), dtype=torch.float32) for _ in range(2)]
    blocks = _blocks("dkdv", query, sizes)
    slopes, _, key_lengths = _optional(modifiers, query)
    _launch(
        key_gradient_kernel, repair_key_gradient_kernel,
        sizes.num_records * replicas * batches, sizes, blocks,
        _constants(sizes, modifiers, query, key, value, d_output),
        query, key, value, d_output, stats, d_key, d_value, *partials,
        tables.records, tables.tiles, tables.lists, tables.masks, tables.bands,
        slopes, key_lengths,
        *query.stride(), *key.stride(), *value.stride(), *d_output.stride(),
        modifiers.scale, modifiers.softcap, query_len, kv_len, result_heads, heads, group, shared,
        sizes.num_records, replicas, _chunk(replicas, query, 1), sizes.num_slots,
    )  # fmt: skip
    if sizes.num_merges:
        for partial, result in zip(partials, (d_key, d_value), strict=True):
            _merge_sums(partial, result, tables, sizes, replicas, batches)
    if shared > 1:
        grouped = (batch, kv_heads, shared, kv_len, head_dim)
        d_key, d_value = (x.view(grouped).sum(2).to(key.dtype) for x in (d_key, d_value))
    return d_key, d_value


def _merge_sums(
    partial: torch.Tensor,
    result: torch.Tensor,
    tables: Any,
    sizes: PassSizes,
    replicas: int,
    batches: int,
) -> None:
    rows = min(_MERGE_ROWS, sizes.tile_rows)
    _, heads, length, head_dim = result.shape
    merge_sums_kernel[(sizes.num_merges * (sizes.tile_rows // rows) * replicas * batches,)](
        partial, result, tables.merges, tables.lists, tables.sources,
        length, heads, sizes.num_merges, replicas, sizes.num_slots,
        HEAD_DIM=head_dim, BLOCK_D=block_d(head_dim), BLOCK_M=rows, TILE_M=sizes.tile_rows,
    )  # fmt: skip


class _Blocks:
    """What one launch works on at a time, within the tiles of the plan."""

    def __init__(self, configuration: Configuration, head_dim: int, sizes: PassSizes) -> None:
        self.constants = {
            "HEAD_DIM": head_dim,
            "BLOCK_D": block_d(head_dim),
            "BLOCK_M": min(configuration.block_m, sizes.tile_rows),
            "BLOCK_N": min(configuration.block_n, sizes.tile_columns),
            "TILE_M": sizes.tile_rows,
            "TILE_N": sizes.tile_columns,
        }
        self.options = {
            "num_warps": configuration.num_warps,
            "num_stages": configuration.num_stages,
            "enable_fp_fusion": True,
        }


def _blocks(pass_name: str, query: torch.Tensor, sizes: PassSizes) -> _Blocks:
    family = family_of(query.device)
    dtype = str(query.dtype).removeprefix("torch.")
    return _Blocks(choose(family, pass_name, dtype, query.shape[3]), query.shape[3], sizes)


def _constants(
    sizes: PassSizes, modifiers: Modifiers, *tensors: torch.Tensor
) -> dict[str, bool | str]:
    """The flags of a launch."""
    uses_tf32 = torch.get_float32_matmul_precision() != "highest"
    has_lengths = modifiers.key_lengths is not None
    return {
        "HAS_LISTS": sizes.has_lists,
        "STRIDED": sizes.strided,
        "WITHIN": sizes.within and not has_lengths,
        "WIDE": _is_wide(*tensors),
        "PLAIN": not modifiers.softcap and modifiers.alibi_slopes is None and modifiers.scale > 0,
        "SOFTCAP": modifiers.softcap > 0,
        "ALIBI": modifiers.alibi_slopes is not None,
        "KEY_LENGTHS": has_lengths,
        "PRECISION": "tf32" if uses_tf32 else "ieee",
    }


def _is_wide(*tensors: torch.Tensor) -> bool:
    """Whether the rows of a head may lie further apart than 32 bits can say."""
    return any(abs(x.shape[2] * x.stride(2)) >= 1 << 30 for x in tensors)


def _replicas(plan: Executable, batch: int, heads: int) -> tuple[int, int]:
    """How often the records are executed for one batch element, and for how many elements."""
    return (heads if plan.is_uniform else 1), (1 if plan.fixed_batch else batch)


def _launch(
    kernel: Any,
    repair: Any,
    count: int,
    sizes: PassSizes,
    blocks: _Blocks,
    constants: dict[str, bool | str],
    *arguments: Any,
) -> None:
    """Launch a kernel for so many records, and the one that repairs what it could not do."""
    grid = (count * (sizes.tile_rows // blocks.constants["BLOCK_M"]),)
    flags = arguments[0].new_empty((count * sizes.tile_rows,), dtype=torch.int32)
    kernel[grid](flags, *arguments, **blocks.constants, **constants, **blocks.options)
    known = {**blocks.constants, **constants}
    own = {name: x for name, x in known.items() if name in repair.arg_names}
    repair[grid](flags, *arguments, **own)


def _chunk(replicas: int, read: torch.Tensor, group: int) -> int:
    """Heads that are worked on together: as many as the cache holds what they read of."""
    of_head = 2 * read.shape[2] * read.shape[3] * read.element_size() / group
    most = max(1.0, _CACHE_BYTES / of_head)
    return max(n for n in range(1, replicas + 1) if replicas % n == 0 and n <= most)


def _optional(modifiers: Modifiers, query: torch.Tensor) -> Sequence[torch.Tensor]:
    """Tensors for the kernels, which take some tensor even where they read none."""
    given = modifiers.alibi_slopes, modifiers.sinks, modifiers.key_lengths
    return [query if x is None else x.contiguous() for x in given]


def _on(query: torch.Tensor) -> AbstractContextManager[Any]:
    """The device of a tensor as the current one: kernels go where it is."""
    return torch.cuda.device(query.device) if query.is_cuda else nullcontext()

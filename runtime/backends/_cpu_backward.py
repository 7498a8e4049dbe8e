"""The backward pass over the pieces of a layout, with batched matrix products.

For each piece the weights are computed again from the lse, `p = exp(scale * q k^T - lse)`, and then
`dv = p^T do`, `ds = p * (do v^T - delta)`, `dq = scale * ds k` and `dk = scale * ds^T q`, where
`delta = sum(do * o) - dlse`. Sums over queries are added up in a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from attnloom.runtime.backends._cpu_forward import sliding
from attnloom.runtime.backends._cpu_pieces import Chunk, Heads, Prepared, additive, long_mask
from attnloom.runtime.pieces import Band, LongRows

_LOG2_E = math.log2(math.e)

_PAIRS = 1 << 20
"""Pairs of one chunk: its scores and their gradients should stay in the cache."""


class BackwardPass:
    """One call: the tensors, in float32 or float64, and what to do with each piece.

    `query` is taken times `scale * log2(e)`, and the lse in base 2, for the exponential function
    of base 2 is the faster one. The sums in `d_query` and `d_key` still lack their factors.

    Shapes:
        query, d_output, d_query: `(batch, heads, query_len, head_dim)`
        key, value: `(batch, kv_heads, kv_len, head_dim)`
        d_key, d_value: the same, filled up to whole blocks
        lse, delta: `(batch, heads, query_len)`
    """

    def __init__(
        self,
        d_output: torch.Tensor,
        delta: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        lse: torch.Tensor,
        scale: float,
        padded_len: int,
    ) -> None:
        exact = lse.dtype
        self.scale = scale
        self.query = query.to(exact) * (scale * _LOG2_E)
        self.key, self.value, self.d_output = key.to(exact), value.to(exact), d_output.to(exact)
        self.delta = delta
        # A query that reads nothing has no weights: exp2(-inf) rather than exp2(+inf).
        self.lse = (lse * _LOG2_E).masked_fill_(lse == -torch.inf, torch.inf)
        self.d_query = torch.zeros_like(self.query)
        padded = (*key.shape[:2], padded_len, key.shape[3])
        self.d_key = key.new_zeros(padded, dtype=exact)
        self.d_value = key.new_zeros(padded, dtype=exact)

    def run(self, prepared: Prepared, groups: Sequence[Heads]) -> None:
        """Add up what the pieces of a layout give, for all heads that follow it."""
        long_lse = self.lse
        if prepared.pieces.long_rows:
            rows = torch.cat([torch.from_numpy(part.rows) for part in prepared.pieces.long_rows])
            self.lse = self.lse.index_fill(2, rows, torch.inf)
        for heads in groups:
            for band, mask in prepared.bands():
                self._band(heads, band, mask)
            for part, keys in prepared.shared():
                self._shared(heads, slice(part.first_row, part.stop_row), keys)
        for chunk in prepared.chunks(self.query.shape[-1]):
            for heads in groups:
                self._chunk(heads, chunk, prepared.pieces.block_n)
        self.lse = long_lse
        for long in prepared.pieces.long_rows:
            allowed = long_mask(long)
            for heads in groups:
                self._long_rows(heads, long, allowed)

    def gradients(
        self, dtype: torch.dtype, kv_len: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The sums with their factors, in the dtype of the inputs."""
        d_query = self.d_query.mul_(self.scale).to(dtype)
        d_key = self.d_key[:, :, :kv_len].mul_(1 / _LOG2_E)
        d_value = self.d_value[:, :, :kv_len]
        contiguous = torch.contiguous_format
        return (
            d_query,
            d_key.to(dtype, memory_format=contiguous).contiguous(),
            d_value.to(dtype, memory_format=contiguous).contiguous(),
        )

    def _band(self, heads: Heads, band: Band, mask: torch.Tensor | None) -> None:
        key, value = heads.of_key(self.key), heads.of_key(self.value)
        num_heads = len(key)
        step = max(1, _PAIRS // (num_heads * band.rows * band.num_keys))
        for start in range(0, band.num_units, step):
            units = min(step, band.num_units - start)
            first = band.first_row + start * band.rows
            rows = slice(first, first + units * band.rows)
            first_key = band.first_key + start * band.rows
            window = (first_key, units, band.rows, band.num_keys)
            shape = (units, band.rows)
            d_query, d_key, d_value = _gradients(
                *(
                    _flat(heads.of_query(x)[:, rows].unflatten(1, shape))
                    for x in (self.query, self.d_output, self.lse, self.delta)
                ),
                _flat(sliding(key, *window)),
                _flat(sliding(value, *window)),
                mask,
            )
            heads.of_query(self.d_query)[:, rows].unflatten(1, shape).add_(
                d_query.unflatten(0, (num_heads, units))
            )
            for total, part in ((self.d_key, d_key), (self.d_value, d_value)):
                _add_sliding(
                    heads.of_key(total), part.unflatten(0, (num_heads, units)), first_key, band.rows
                )

    def _shared(self, heads: Heads, rows: slice, keys: torch.Tensor) -> None:
        key, value = (heads.of_key(x)[:, keys] for x in (self.key, self.value))
        d_key, d_value = torch.zeros_like(key), torch.zeros_like(value)
        step = max(1, _PAIRS // (len(key) * len(keys)))
        for start in range(rows.start, rows.stop, step):
            part = slice(start, min(start + step, rows.stop))
            few = (heads.of_query(x)[:, part] for x in self._of_queries())
            d_query, more_key, more_value = _gradients(*few, key, value, None)
            heads.of_query(self.d_query)[:, part].add_(d_query)
            d_key += more_key
            d_value += more_value
        heads.of_key(self.d_key).index_add_(1, keys, d_key)
        heads.of_key(self.d_value).index_add_(1, keys, d_value)

    def _of_queries(self) -> tuple[torch.Tensor, ...]:
        return self.query, self.d_output, self.lse, self.delta

    def _chunk(self, heads: Heads, chunk: Chunk, block_n: int) -> None:
        shape = (chunk.num_units, -1)
        query, d_output, lse, delta = (
            heads.of_query(x).index_select(1, chunk.rows) for x in self._of_queries()
        )
        if chunk.num_valid < len(chunk.rows):
            # Rows over the end were clipped to the last row, which must count once.
            again = torch.zeros(len(chunk.rows), dtype=torch.bool)
            again[1:] = chunk.rows[1:] == chunk.rows[:-1]
            lse = lse.masked_fill(again, torch.inf)
        key, value = (
            x[:, chunk.keys] if isinstance(chunk.keys, slice) else x.index_select(1, chunk.keys)
            for x in (heads.of_key(self.key), heads.of_key(self.value))
        )
        num_heads = len(query)
        mask = chunk.mask
        if mask is not None and num_heads > 1:
            mask = mask.repeat(num_heads, 1, 1)
        d_query, d_key, d_value = _gradients(
            *(_flat(x.unflatten(1, shape)) for x in (query, d_output, lse, delta, key, value)),
            mask,
        )
        heads.of_query(self.d_query).index_add_(
            1, chunk.rows, d_query.reshape(num_heads, len(chunk.rows), -1)
        )
        for total, part in ((self.d_key, d_key), (self.d_value, d_value)):
            blocks = heads.of_key(total).unflatten(1, (-1, block_n))
            blocks.index_add_(
                1, chunk.blocks, part.reshape(num_heads, len(chunk.blocks), block_n, -1)
            )

    def _long_rows(self, heads: Heads, long: LongRows, allowed: torch.Tensor | None) -> None:
        rows = torch.from_numpy(long.rows)
        few = [heads.of_query(x).index_select(1, rows) for x in self._of_queries()]
        step = max(1, _PAIRS // (len(rows) * len(few[0])))
        for start in range(long.first_key, long.stop_key, step):
            keys = slice(start, min(start + step, long.stop_key))
            mask = None
            if allowed is not None:
                mask = additive(
                    allowed[:, keys.start - long.first_key : keys.stop - long.first_key]
                )
            d_query, d_key, d_value = _gradients(
                *few, heads.of_key(self.key)[:, keys], heads.of_key(self.value)[:, keys], mask
            )
            heads.of_query(self.d_query).index_add_(1, rows, d_query)
            heads.of_key(self.d_key)[:, keys].add_(d_key)
            heads.of_key(self.d_value)[:, keys].add_(d_value)


def _gradients(
    query: torch.Tensor,
    d_output: torch.Tensor,
    lse: torch.Tensor,
    delta: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of a batch of dense pieces, without the factors of query and key.

    Shapes:
        query, d_output: `(pieces, rows, head_dim)`; lse, delta: `(pieces, rows)`
        key, value: `(pieces, keys, head_dim)`; mask: broadcast to `(pieces, rows, keys)`
    """
    weights = torch.bmm(query, key.mT)
    if mask is not None:
        weights.add_(mask)
    weights.sub_(lse[..., None]).exp2_()
    d_scores = torch.bmm(d_output, value.mT).sub_(delta[..., None]).mul_(weights)
    return (
        torch.bmm(d_scores, key),
        torch.bmm(d_scores.mT, query),
        torch.bmm(weights.mT, d_output),
    )


def _flat(x: torch.Tensor) -> torch.Tensor:
    """`(heads, units, ...)` as `(heads * units, ...)`; a view for one head."""
    return x[0] if len(x) == 1 else x.flatten(0, 1)


def _add_sliding(total: torch.Tensor, parts: torch.Tensor, first: int, step: int) -> None:
    """Add overlapping pieces `(heads, units, length, d)` to the rows that `sliding` viewed."""
    units, length = parts.shape[1:3]
    for start in range(0, length, step):
        stop = min(start + step, length)
        sliding(total, first + start, units, step, stop - start).add_(parts[:, :, start:stop])

"""The backward pass over the pieces of a layout, with batched matrix products.

For each piece the weights are computed again from the lse, `p = exp(scale * q k^T - lse)`, and then
`dv = p^T do`, `ds = p * (do v^T - delta)`, `dq = scale * ds k` and `dk = scale * ds^T q`, where
`delta = sum(do * o) - dlse`. Sums over queries are added up in a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from attnloom.runtime.backends._cpu_heads import EVERY, Heads, chosen, sliding
from attnloom.runtime.backends._cpu_pieces import Chunk, Prepared, additive, long_mask
from attnloom.runtime.backends._cpu_plan import PreparedPart
from attnloom.runtime.pieces import Band, LongRows

_LOG2_E = math.log2(math.e)

_SHARED_SPLIT = 1 << 11
"""Shared keys in one product; the rest of a chunk is queries."""

_PAIRS = 1 << 21
"""Pairs of one chunk. Larger chunks leave the cache, and smaller ones mean more meetings of the
threads, each of which waits for the slowest."""


class Queries(NamedTuple):
    """What the backward pass knows of each query.

    Shapes:
        query, d_output: `(batch, heads, query_len, head_dim)`
        lse, delta: `(batch, heads, query_len)`
    """

    query: torch.Tensor
    d_output: torch.Tensor
    lse: torch.Tensor
    delta: torch.Tensor

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Queries:
        """The same change made to each of them."""
        return Queries(*map(change, self))


class BackwardPass:
    """One call: the tensors, in float32 or float64, and what to do with each piece.

    `query` is taken times `scale * log2(e)`, and the lse in base 2, for the exponential function
    of base 2 is the faster one. The sums in `d_query` and `d_key` still lack their factors.

    Shapes, all contiguous:
        d_query: like `query`; key, value: `(batch, kv_heads, kv_len, head_dim)`
        d_key, d_value: the same, filled up to whole tiles
    """

    def __init__(
        self, queries: Queries, key: torch.Tensor, value: torch.Tensor, scale: float, block_n: int
    ) -> None:
        self.queries, self.key, self.value, self.scale = queries, key, value, scale
        self.block_n = block_n
        self.d_query = torch.zeros_like(queries.query)
        padded_len = -(-key.shape[2] // block_n) * block_n
        padded = (*key.shape[:2], padded_len, key.shape[3])
        self.d_key, self.d_value = (key.new_zeros(padded) for _ in range(2))
        # Memory for scores, kept from chunk to chunk, for fresh memory costs more than the work.
        self.scratch = [key.new_empty(0), key.new_empty(0)]

    @classmethod
    def of(
        cls, queries: Queries, key: torch.Tensor, value: torch.Tensor, scale: float, block_n: int
    ) -> BackwardPass:
        """The pass for tensors of any dtype, with tiles of `block_n` keys."""
        exact = queries.lse.dtype
        queries = queries.map(lambda x: x.to(exact).contiguous())
        queries = queries._replace(
            query=queries.query * (scale * _LOG2_E),
            # A query that reads nothing has no weights: exp2(-inf) rather than exp2(+inf).
            lse=(queries.lse * _LOG2_E).masked_fill_(queries.lse == -torch.inf, torch.inf),
        )
        key, value = key.to(exact).contiguous(), value.to(exact).contiguous()
        return cls(queries, key, value, scale, block_n)

    def run(self, parts: Sequence[PreparedPart], groups: Sequence[Heads]) -> None:
        """Add up what the parts of a layout give, for all heads that follow it."""
        for part in parts:
            if part.order is None or part.places is None:
                self.run_pieces(part.prepared, groups)
                continue
            for heads in groups:
                self._part(heads, part.prepared, part.order, part.places)

    def _part(
        self, heads: Heads, prepared: Prepared, order: torch.Tensor, places: torch.Tensor
    ) -> None:
        """Add up what one part gives in an order of its own."""
        queries = self.queries.map(lambda x: heads.of_query(x).index_select(1, order)[None])
        key, value = (heads.of_key(x).index_select(1, order)[None] for x in (self.key, self.value))
        inner = BackwardPass(queries, key, value, self.scale, self.block_n)
        inner.run_pieces(prepared, [EVERY])
        heads.of_query(self.d_query).add_(inner.d_query[0].index_select(1, places))
        for total, own in ((self.d_key, inner.d_key), (self.d_value, inner.d_value)):
            heads.of_key(total)[:, : len(places)].add_(own[0].index_select(1, places))

    def run_pieces(self, prepared: Prepared, groups: Sequence[Heads]) -> None:
        """Add up what the pieces of a part give that is in no order of its own."""
        queries, long_rows = self.queries, prepared.pieces.long_rows
        if long_rows:
            # Their rows are void elsewhere: no weights.
            rows = torch.cat([torch.from_numpy(long.rows) for long in long_rows])
            queries = queries._replace(lse=queries.lse.index_fill(2, rows, torch.inf))
        for heads in groups:
            for band, mask in prepared.bands():
                self._band(heads, queries, band, mask)
            for shared, keys in prepared.shared():
                self._shared(heads, queries, slice(shared.first_row, shared.stop_row), keys)
        for chunk in prepared.chunks(self.key.shape[-1]):
            for heads in groups:
                self._chunk(heads, queries, chunk)
        for long in long_rows:
            allowed = long_mask(long)
            for heads in groups:
                self._long_rows(heads, long, allowed)

    def gradients(
        self, dtype: torch.dtype, kv_len: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The sums with their factors, in the dtype of the inputs."""
        return (
            self.d_query.mul_(self.scale).to(dtype),
            self.d_key[:, :, :kv_len].mul_(1 / _LOG2_E).to(dtype).contiguous(),
            self.d_value[:, :, :kv_len].to(dtype).contiguous(),
        )

    def _band(self, heads: Heads, queries: Queries, band: Band, mask: torch.Tensor | None) -> None:
        queries = queries.map(heads.of_query)
        key, value = heads.of_key(self.key), heads.of_key(self.value)
        num_heads = len(key)
        step = max(1, _PAIRS // (num_heads * band.rows * band.num_keys))
        for start in range(0, band.num_units, step):
            units = min(step, band.num_units - start)
            first = band.first_row + start * band.rows
            rows = slice(first, first + units * band.rows)
            first_key = band.first_key + start * band.rows
            window = (first_key, units, band.rows, band.num_keys)
            by_unit = (units, band.rows)
            d_query, d_key, d_value = self._gradients(
                queries.map(lambda x: _flat(torch.unflatten(x[:, rows], 1, by_unit))),  # noqa: B023
                _flat(sliding(key, *window)),
                _flat(sliding(value, *window)),
                mask,
            )
            heads.of_query(self.d_query)[:, rows].add_(
                d_query.reshape(num_heads, units * band.rows, -1)
            )
            for total, part in ((self.d_key, d_key), (self.d_value, d_value)):
                by_head = torch.unflatten(part, 0, (num_heads, units))
                _add_sliding(heads.of_key(total), by_head, first_key, band.rows)

    def _shared(self, heads: Heads, queries: Queries, rows: slice, keys: torch.Tensor) -> None:
        queries = queries.map(heads.of_query)
        d_query = heads.of_query(self.d_query)
        for some_keys in torch.split(keys, _SHARED_SPLIT):
            key, value = (
                heads.of_key(x).index_select(1, some_keys) for x in (self.key, self.value)
            )
            d_key, d_value = torch.zeros_like(key), torch.zeros_like(value)
            step = max(1, _PAIRS // (len(key) * len(some_keys)))
            for start in range(rows.start, rows.stop, step):
                some = slice(start, min(start + step, rows.stop))
                few = queries.map(lambda x: x[:, some])  # noqa: B023
                more_query, more_key, more_value = self._gradients(few, key, value, None)
                d_query[:, some].add_(more_query)
                d_key += more_key
                d_value += more_value
            heads.of_key(self.d_key).index_add_(1, some_keys, d_key)
            heads.of_key(self.d_value).index_add_(1, some_keys, d_value)

    def _chunk(self, heads: Heads, queries: Queries, chunk: Chunk) -> None:
        shape = (chunk.num_units, -1)
        few = queries.map(lambda x: heads.of_query(x).index_select(1, chunk.rows))
        # Rows over the end were clipped to the last row, which must count once.
        few.lse[:, chunk.num_valid :] = torch.inf
        key, value = (chosen(heads.of_key(x), chunk.keys) for x in (self.key, self.value))
        num_heads = len(key)
        mask = chunk.mask
        if mask is not None and num_heads > 1:
            mask = mask.repeat(num_heads, 1, 1)
        d_query, d_key, d_value = self._gradients(
            few.map(lambda x: _flat(torch.unflatten(x, 1, shape))),
            _flat(torch.unflatten(key, 1, shape)),
            _flat(torch.unflatten(value, 1, shape)),
            mask,
        )
        heads.of_query(self.d_query).index_add_(
            1, chunk.rows, d_query.reshape(num_heads, len(chunk.rows), -1)
        )
        by_block = (num_heads, len(chunk.blocks), chunk.block_n, -1)
        for total, part in ((self.d_key, d_key), (self.d_value, d_value)):
            blocks = torch.unflatten(heads.of_key(total), 1, (-1, chunk.block_n))
            blocks.index_add_(1, chunk.blocks, part.reshape(by_block))

    def _long_rows(self, heads: Heads, long: LongRows, allowed: torch.Tensor | None) -> None:
        rows = torch.from_numpy(long.rows)
        few = self.queries.map(lambda x: heads.of_query(x).index_select(1, rows))
        key, value = heads.of_key(self.key), heads.of_key(self.value)
        step = max(1, _PAIRS // (len(rows) * len(key)))
        for start in range(long.first_key, long.stop_key, step):
            keys = slice(start, min(start + step, long.stop_key))
            mask = None
            if allowed is not None:
                first = keys.start - long.first_key
                mask = additive(allowed[:, first : keys.stop - long.first_key])
            d_query, d_key, d_value = self._gradients(few, key[:, keys], value[:, keys], mask)
            heads.of_query(self.d_query).index_add_(1, rows, d_query)
            heads.of_key(self.d_key)[:, keys].add_(d_key)
            heads.of_key(self.d_value)[:, keys].add_(d_value)

    def _gradients(
        self, queries: Queries, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The gradients of a batch of dense pieces, without the factors of query and key.

        Shapes:
            queries: `(pieces, rows, head_dim)` and `(pieces, rows)`
            key, value: `(pieces, keys, head_dim)`; mask: broadcast to `(pieces, rows, keys)`
        """
        weights, d_scores = self._scores(*queries.lse.shape, key.shape[1])
        torch.bmm(queries.query, key.mT, out=weights)
        if mask is not None:
            weights.add_(mask)
        weights.sub_(queries.lse[..., None]).exp2_()
        torch.bmm(queries.d_output, value.mT, out=d_scores)
        d_scores.sub_(queries.delta[..., None]).mul_(weights)
        return (
            torch.bmm(d_scores, key),
            torch.bmm(d_scores.mT, queries.query),
            torch.bmm(weights.mT, queries.d_output),
        )

    def _scores(self, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Two tensors of a shape, whose values are left from the last time."""
        size = math.prod(shape)
        if self.scratch[0].numel() < size:
            self.scratch = [x.new_empty(size) for x in self.scratch]
        weights, d_scores = (x[:size].view(shape) for x in self.scratch)
        return weights, d_scores


def _flat(x: torch.Tensor) -> torch.Tensor:
    """`(heads, units, ...)` as `(heads * units, ...)`; a view for one head."""
    return x[0] if len(x) == 1 else x.flatten(0, 1)


def _add_sliding(total: torch.Tensor, parts: torch.Tensor, first: int, step: int) -> None:
    """Add overlapping pieces `(heads, units, length, d)` to the rows that `sliding` viewed."""
    units, length = parts.shape[1:3]
    for start in range(0, length, step):
        stop = min(start + step, length)
        sliding(total, first + start, units, step, stop - start).add_(parts[:, :, start:stop])

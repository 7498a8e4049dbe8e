"""The forward pass over the pieces of a layout, with PyTorch's fused attention for the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch

from attnloom.runtime.backends._cpu_pieces import (
    CHUNK_ELEMENTS,
    Chunk,
    Heads,
    Prepared,
    additive,
    long_mask,
)
from attnloom.runtime.pieces import Band, LongRows

# Unlike the public function it also gives the lse, by which pieces are merged.
_fused = cast(Any, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default)

_LONG_SPLIT = 2048
"""Keys of a long row that one thread takes in one go."""


class ForwardPass:
    """One call: the tensors, and what to do with each piece.

    Shapes:
        query, output: `(batch, heads, query_len, head_dim)`; lse: `(batch, heads, query_len)`
        key, value: `(batch, kv_heads, kv_len, head_dim)`
    """

    def __init__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> None:
        self.query, self.key, self.value, self.scale = query, key, value, scale
        exact = torch.float64 if query.dtype == torch.float64 else torch.float32
        self.output = query.new_empty(query.shape)
        self.lse = query.new_empty(query.shape[:-1], dtype=exact)

    def run(self, prepared: Prepared, groups: Sequence[Heads], wide: Sequence[Heads]) -> None:
        """Run all pieces of a layout, for all heads that follow it.

        Args:
            prepared: the pieces.
            groups: the heads in small groups, whose tensors fit the cache.
            wide: the same heads in large groups.
        """
        late = []
        for heads in groups:
            for band, mask in prepared.bands():
                self._band(heads, band, mask, prepared)
            for part, keys in prepared.shared():
                if not part.merges:
                    self._fresh_shared(heads, slice(part.first_row, part.stop_row), keys)
            for start, stop in prepared.pieces.bare.tolist():
                heads.of_query(self.output)[:, start:stop] = 0
                heads.of_query(self.lse)[:, start:stop] = -torch.inf
            # Now, while the keys are in the cache; written later, over what others say.
            late += [
                (heads, torch.from_numpy(long.rows), *self._long_rows(heads, long))
                for long in prepared.pieces.long_rows
            ]
        for chunk in prepared.chunks(self.query.shape[-1]):
            for heads in wide:
                self._chunk(heads, chunk)
        for heads, rows, part, part_lse in late:
            heads.of_query(self.output).index_copy_(1, rows, part)
            heads.of_query(self.lse).index_copy_(1, rows, part_lse)

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fused attention over `(heads, units, rows, head_dim)`; the mask is `(units or 1, ...)`.

        A row that reads nothing gives output 0, and an lse of 0 where it should be -inf.
        """
        if mask is not None:
            mask = mask.to(self.lse.dtype).expand(*query.shape[:2], -1, -1)
        if len(query) > 1:
            return cast(
                tuple[torch.Tensor, torch.Tensor],
                _fused(query, key, value, 0.0, False, attn_mask=mask, scale=self.scale),
            )
        # The result lies in memory as (first, rows, second, head_dim): with the units first it
        # needs no turning.
        output, lse = _fused(
            query.transpose(0, 1),
            key.transpose(0, 1),
            value.transpose(0, 1),
            0.0,
            False,
            attn_mask=None if mask is None else mask.transpose(0, 1),
            scale=self.scale,
        )
        return output.transpose(0, 1), lse.transpose(0, 1)

    def _band(
        self, heads: Heads, band: Band, mask: torch.Tensor | None, prepared: Prepared
    ) -> None:
        query, key, value = self._heads(heads)
        output, lse = heads.of_query(self.output), heads.of_query(self.lse)
        step = max(1, CHUNK_ELEMENTS // (len(query) * band.rows * query.shape[-1]))
        silent = None
        if band.mask is not None and not band.mask.any(1).all():
            silent = torch.from_numpy(~band.mask.any(1))
        for start in range(0, band.num_units, step):
            units = min(step, band.num_units - start)
            first = band.first_row + start * band.rows
            rows = slice(first, first + units * band.rows)
            first_key = band.first_key + start * band.rows
            part, part_lse = self._attend(
                query[:, rows].unflatten(1, (units, band.rows)),
                sliding(key, first_key, units, band.rows, band.num_keys),
                sliding(value, first_key, units, band.rows, band.num_keys),
                mask,
            )
            if silent is not None:
                part_lse = part_lse.masked_fill(silent, -torch.inf)
            part, part_lse = part.flatten(1, 2), part_lse.flatten(1, 2)
            for own, keys in _by_shared(rows, prepared):
                place = slice(own.start - first, own.stop - first)
                if keys is None:
                    output[:, own] = part[:, place]
                    lse[:, own] = part_lse[:, place]
                else:
                    self._with_shared(heads, own, part[:, place], part_lse[:, place], keys)

    def _heads(self, heads: Heads) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return heads.of_query(self.query), heads.of_key(self.key), heads.of_key(self.value)

    def _fresh_shared(self, heads: Heads, rows: slice, keys: torch.Tensor) -> None:
        query, key, value = self._heads(heads)
        part, part_lse = self._attend(
            query[:, None, rows], key[:, None, keys], value[:, None, keys], None
        )
        heads.of_query(self.output)[:, rows] = part[:, 0]
        heads.of_query(self.lse)[:, rows] = part_lse[:, 0]

    def _with_shared(
        self,
        heads: Heads,
        rows: slice,
        parts: torch.Tensor,
        part_lses: torch.Tensor,
        keys: torch.Tensor,
    ) -> None:
        """Write a result joined by a few more keys: cheaper here than as a second result."""
        query, key, value = self._heads(heads)
        outputs, lses = heads.of_query(self.output)[:, rows], heads.of_query(self.lse)[:, rows]
        exact = self.lse.dtype
        for number, (part, part_lse) in enumerate(zip(parts, part_lses, strict=True)):
            few_keys = key[number, keys].to(exact) * self.scale
            few_values = value[number, keys].to(exact)
            own = query[number, rows].to(exact)
            # The result so far takes part as one more key, whose score is its lse.
            scores = part_lse.new_empty(len(keys) + 1, len(part))
            torch.mm(few_keys, own.t(), out=scores[:-1])
            scores[-1] = part_lse
            weights = torch.softmax(scores, 0)
            # The lse by way of the largest weight, for it cannot underflow.
            torch.sub(scores.amax(0), weights.amax(0).log_(), out=lses[number])
            output = outputs[number]
            if output.dtype == exact:
                torch.mul(part, weights[-1, :, None], out=output)
                output.addmm_(weights[:-1].t(), few_values)
            else:
                joined = torch.mm(weights[:-1].t(), few_values)
                output.copy_(joined.addcmul_(part, weights[-1, :, None]))

    def _chunk(self, heads: Heads, chunk: Chunk) -> None:
        query, key, value = self._heads(heads)
        output, lse = heads.of_query(self.output), heads.of_query(self.lse)
        shape = (chunk.num_units, -1)
        part, part_lse = self._attend(
            query.index_select(1, chunk.rows).unflatten(1, shape),
            _chosen(key, chunk.keys).unflatten(1, shape),
            _chosen(value, chunk.keys).unflatten(1, shape),
            chunk.mask,
        )
        part, part_lse = part.flatten(1, 2), part_lse.flatten(1, 2)
        if chunk.silent is not None:
            part_lse = part_lse.masked_fill(chunk.silent, -torch.inf)
        rows = chunk.rows
        if chunk.num_valid < len(rows):
            # Only the last unit can hang over the end; what hangs over is clipped to the last row.
            valid = _first_occurrences(rows)
            rows, part, part_lse = rows[valid], part[:, valid], part_lse[:, valid]
        if chunk.merges:
            part, part_lse = _merged(output[:, rows], lse[:, rows], part, part_lse)
        output.index_copy_(1, rows, part)
        lse.index_copy_(1, rows, part_lse)

    def _long_rows(self, heads: Heads, long: LongRows) -> tuple[torch.Tensor, torch.Tensor]:
        """The output and lse of the long rows, `(heads, num_rows, head_dim)`."""
        query, key, value = self._heads(heads)
        allowed = long_mask(long)
        rows = torch.from_numpy(long.rows)
        few = query.index_select(1, rows)[:, None]
        length = long.stop_key - long.first_key
        even = length // _LONG_SPLIT * _LONG_SPLIT
        parts = []
        for start, stop, size in ((0, even, _LONG_SPLIT), (even, length, length - even)):
            if start == stop:
                continue
            keys = slice(long.first_key + start, long.first_key + stop)
            splits = ((stop - start) // size, size)
            mask = silent = None
            if allowed is not None:
                split = allowed[:, start:stop].unflatten(1, splits).transpose(0, 1)
                mask, silent = additive(split), ~split.any(-1)
            part, part_lse = self._attend(
                few.expand(-1, splits[0], -1, -1),
                key[:, keys].unflatten(1, splits),
                value[:, keys].unflatten(1, splits),
                mask,
            )
            parts.append(
                (part, part_lse if silent is None else part_lse.masked_fill(silent, -torch.inf))
            )
        scores = torch.cat([part_lse for _, part_lse in parts], 1)
        weights = torch.softmax(scores, 1)[..., None]
        values = torch.cat([part for part, _ in parts], 1).to(weights.dtype)
        return (weights * values).sum(1).to(query.dtype), torch.logsumexp(scores, 1)


def sliding(x: torch.Tensor, first: int, num_units: int, step: int, length: int) -> torch.Tensor:
    """Overlapping views of rows: `(heads, rows, d)` as `(heads, num_units, length, d)`."""
    strides = (x.stride(0), step * x.stride(1), x.stride(1), x.stride(2))
    size = (len(x), num_units, length, x.shape[2])
    return x.as_strided(size, strides, x.storage_offset() + first * x.stride(1))


def _by_shared(rows: slice, prepared: Prepared) -> Iterator[tuple[slice, torch.Tensor | None]]:
    """Cut rows of a band where the list of shared keys that join it changes."""
    start = rows.start
    for part, keys in prepared.shared():
        if not part.merges or part.stop_row <= start or part.first_row >= rows.stop:
            continue
        if start < part.first_row:
            yield slice(start, part.first_row), None
        start = min(part.stop_row, rows.stop)
        yield slice(max(part.first_row, rows.start), start), keys
    if start < rows.stop:
        yield slice(start, rows.stop), None


def _chosen(x: torch.Tensor, keys: torch.Tensor | slice) -> torch.Tensor:
    return x[:, keys] if isinstance(keys, slice) else x.index_select(1, keys)


def _first_occurrences(rows: torch.Tensor) -> torch.Tensor:
    """The places of the rows that differ from all before; equal rows stand together."""
    fresh = torch.ones(len(rows), dtype=torch.bool)
    fresh[1:] = rows[1:] != rows[:-1]
    return fresh.nonzero()[:, 0]


def _merged(
    old: torch.Tensor, old_lse: torch.Tensor, new: torch.Tensor, new_lse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two results over different keys as the result over all of them."""
    lse = torch.logaddexp(old_lse, new_lse)
    # Where neither has read anything, any weight will do but NaN.
    shift = lse.masked_fill(lse == -torch.inf, 0.0)
    old_weight, new_weight = ((x - shift).exp_()[..., None] for x in (old_lse, new_lse))
    return (old * old_weight + new * new_weight).to(old.dtype), lse

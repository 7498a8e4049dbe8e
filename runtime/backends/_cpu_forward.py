"""The forward pass over the pieces of a layout, with PyTorch's fused attention for the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch

from attnloom.runtime.backends._cpu_heads import Heads, chosen, sliding
from attnloom.runtime.backends._cpu_pieces import (
    CHUNK_ELEMENTS,
    Chunk,
    Prepared,
    additive,
    long_mask,
)
from attnloom.runtime.pieces import Band, LongRows

# Unlike the public function it also gives the lse, by which pieces are merged.
_fused = cast(Any, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default)

_LONG_SPLIT = 2048
"""Keys of a long row that one thread takes in one go."""


class Part(NamedTuple):
    """A result over some of the keys, `(heads, ..., rows, head_dim)` and `(heads, ..., rows)`."""

    output: torch.Tensor
    lse: torch.Tensor

    def silenced(self, silent: torch.Tensor | None) -> Part:
        """The part with an lse of -inf for the rows that read nothing."""
        if silent is None:
            return self
        return Part(self.output, self.lse.masked_fill(silent, -torch.inf))

    def flat(self) -> Part:
        """The units of rows put one after the other: `(heads, units * rows, ...)`."""
        return Part(self.output.flatten(1, 2), self.lse.flatten(1, 2))

    def rows(self, which: slice | torch.Tensor) -> Part:
        """Some of the rows of a flat part."""
        return Part(self.output[:, which], self.lse[:, which])


class ForwardPass:
    """One call: the tensors, and what to do with each piece.

    Shapes, all contiguous:
        query, output: `(batch, heads, query_len, head_dim)`; lse: `(batch, heads, query_len)`
        key, value: `(batch, kv_heads, kv_len, head_dim)`
    """

    def __init__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> None:
        self.query, self.key, self.value, self.scale = query, key, value, scale
        self.exact = torch.float64 if query.dtype == torch.float64 else torch.float32
        self.output = query.new_empty(query.shape)
        self.lse = query.new_empty(query.shape[:-1], dtype=self.exact)

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
            for shared, keys in prepared.shared():
                if not shared.merges:
                    self._fresh_shared(heads, slice(shared.first_row, shared.stop_row), keys)
            of_heads = self._results(heads)
            for start, stop in prepared.pieces.bare.tolist():
                of_heads.output[:, start:stop] = 0
                of_heads.lse[:, start:stop] = -torch.inf
            # Now, while the keys are in the cache; written later, over what others say.
            late += [
                (of_heads, torch.from_numpy(long.rows), self._long_rows(heads, long))
                for long in prepared.pieces.long_rows
            ]
        for chunk in prepared.chunks(self.query.shape[-1]):
            for heads in wide:
                self._chunk(heads, chunk)
        for of_heads, rows, part in late:
            of_heads.output.index_copy_(1, rows, part.output)
            of_heads.lse.index_copy_(1, rows, part.lse)

    def _inputs(self, heads: Heads) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return heads.of_query(self.query), heads.of_key(self.key), heads.of_key(self.value)

    def _results(self, heads: Heads) -> Part:
        return Part(heads.of_query(self.output), heads.of_query(self.lse))

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> Part:
        """Fused attention over `(heads, units, rows, head_dim)`; the mask is `(units or 1, ...)`.

        A row that reads nothing gives output 0, and an lse of 0 where it should be -inf.
        """
        if mask is not None:
            mask = mask.to(self.exact).expand(*query.shape[:2], -1, -1)
        if len(query) > 1:
            return Part(*_fused(query, key, value, 0.0, False, attn_mask=mask, scale=self.scale))
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
        return Part(output.transpose(0, 1), lse.transpose(0, 1))

    def _band(
        self, heads: Heads, band: Band, mask: torch.Tensor | None, prepared: Prepared
    ) -> None:
        query, key, value = self._inputs(heads)
        of_heads = self._results(heads)
        step = max(1, CHUNK_ELEMENTS // (len(query) * band.rows * query.shape[-1]))
        silent = None
        if band.mask is not None and not band.mask.any(1).all():
            silent = ~torch.from_numpy(band.mask.any(1))
        for start in range(0, band.num_units, step):
            units = min(step, band.num_units - start)
            first = band.first_row + start * band.rows
            rows = slice(first, first + units * band.rows)
            window = (band.first_key + start * band.rows, units, band.rows, band.num_keys)
            few = torch.unflatten(query[:, rows], 1, (units, band.rows))
            part = self._attend(few, sliding(key, *window), sliding(value, *window), mask)
            part = part.silenced(silent).flat()
            for own, keys in _by_shared(rows, prepared):
                own_part = part.rows(slice(own.start - first, own.stop - first))
                if keys is None:
                    of_heads.output[:, own] = own_part.output
                    of_heads.lse[:, own] = own_part.lse
                else:
                    self._with_shared(heads, own, own_part, keys)

    def _fresh_shared(self, heads: Heads, rows: slice, keys: torch.Tensor) -> None:
        query, key, value = self._inputs(heads)
        part = self._attend(query[:, None, rows], key[:, None, keys], value[:, None, keys], None)
        of_heads = self._results(heads)
        of_heads.output[:, rows] = part.output[:, 0]
        of_heads.lse[:, rows] = part.lse[:, 0]

    def _with_shared(self, heads: Heads, rows: slice, parts: Part, keys: torch.Tensor) -> None:
        """Write a result joined by a few more keys: cheaper here than as a second result."""
        query, key, value = self._inputs(heads)
        of_rows = self._results(heads).rows(rows)
        for number, (part, part_lse) in enumerate(zip(*parts, strict=True)):
            few_keys = key[number, keys].to(self.exact) * self.scale
            few_values = value[number, keys].to(self.exact)
            own = query[number, rows].to(self.exact)
            # The result so far takes part as one more key, whose score is its lse.
            scores = part_lse.new_empty(len(keys) + 1, len(part))
            torch.mm(few_keys, own.t(), out=scores[:-1])
            scores[-1] = part_lse
            weights = torch.softmax(scores, 0)
            # The lse by way of the largest weight, for it cannot underflow.
            torch.sub(scores.amax(0), weights.amax(0).log_(), out=of_rows.lse[number])
            output = of_rows.output[number]
            if output.dtype == self.exact:
                torch.mul(part, weights[-1, :, None], out=output)
                output.addmm_(weights[:-1].t(), few_values)
            else:
                joined = torch.mm(weights[:-1].t(), few_values)
                output.copy_(joined.addcmul_(part, weights[-1, :, None]))

    def _chunk(self, heads: Heads, chunk: Chunk) -> None:
        query, key, value = self._inputs(heads)
        shape = (chunk.num_units, -1)
        part = self._attend(
            torch.unflatten(query.index_select(1, chunk.rows), 1, shape),
            torch.unflatten(chosen(key, chunk.keys), 1, shape),
            torch.unflatten(chosen(value, chunk.keys), 1, shape),
            chunk.mask,
        )
        valid = slice(chunk.num_valid)
        rows, part = chunk.rows[valid], part.flat().silenced(chunk.silent).rows(valid)
        of_heads = self._results(heads)
        if chunk.merges:
            part = _merged(of_heads.rows(rows), part)
        of_heads.output.index_copy_(1, rows, part.output)
        of_heads.lse.index_copy_(1, rows, part.lse)

    def _long_rows(self, heads: Heads, long: LongRows) -> Part:
        """The result for the long rows: each thread takes some of the keys."""
        query, key, value = self._inputs(heads)
        allowed = long_mask(long)
        few = query.index_select(1, torch.from_numpy(long.rows))[:, None]
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
                split = torch.unflatten(allowed[:, start:stop], 1, splits).transpose(0, 1)
                mask, silent = additive(split), ~split.any(-1)
            part = self._attend(
                few.expand(-1, splits[0], -1, -1),
                torch.unflatten(key[:, keys], 1, splits),
                torch.unflatten(value[:, keys], 1, splits),
                mask,
            )
            parts.append(part.silenced(silent))
        scores = torch.cat([part.lse for part in parts], 1)
        weights = torch.softmax(scores, 1)[..., None]
        values = torch.cat([part.output for part in parts], 1).to(weights.dtype)
        output = (weights * values).sum(1).to(query.dtype)
        return Part(output, torch.logsumexp(scores, 1))


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


def _merged(old: Part, new: Part) -> Part:
    """Two results over different keys as the result over all of them."""
    lse = torch.logaddexp(old.lse, new.lse)
    # Where neither has read anything, any weight will do but NaN.
    shift = lse.masked_fill(lse == -torch.inf, 0.0)
    old_weight, new_weight = ((part.lse - shift).exp_()[..., None] for part in (old, new))
    output = old.output * old_weight + new.output * new_weight
    return Part(output.to(old.output.dtype), lse)

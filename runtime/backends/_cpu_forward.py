"""The forward pass over the pieces of a layout, with PyTorch's fused attention for the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch

from attnloom.runtime.backends._cpu_heads import EVERY, Heads, chosen, sliding
from attnloom.runtime.backends._cpu_pieces import (
    CHUNK_ELEMENTS,
    Chunk,
    Prepared,
    additive,
    long_mask,
)
from attnloom.runtime.backends._cpu_plan import PreparedPart
from attnloom.runtime.pieces import Band, LongRows

# Unlike the public function it also gives the lse, by which pieces are merged.
_fused = cast(Any, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default)

_FEW_KEYS = 64
"""Shared keys up to which plain products beat the fused attention, whose result must be merged."""

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

    def run(self, parts: Sequence[PreparedPart], groups: Sequence[Heads]) -> None:
        """Run all parts of a layout, for all heads that follow it."""
        if len(parts) == 1 and parts[0].order is None:
            self.run_pieces(parts[0].prepared, groups)
            return
        for heads in groups:
            of_heads = self._results(heads)
            for number, part in enumerate(parts):
                result = self._part(heads, part)
                result = _merged(of_heads, result) if number else result
                of_heads.output.copy_(result.output)
                of_heads.lse.copy_(result.lse)

    def _part(self, heads: Heads, part: PreparedPart) -> Part:
        """The result of one part, worked out in its order, and brought back from there."""
        query, key, value = (
            (x if part.order is None else x.index_select(1, part.order))[None].contiguous()
            for x in self._inputs(heads)
        )
        inner = ForwardPass(query, key, value, self.scale)
        inner.run_pieces(part.prepared, [EVERY])
        result = Part(inner.output[0], inner.lse[0])
        return result if part.places is None else result.rows(part.places)

    def run_pieces(self, prepared: Prepared, groups: Sequence[Heads]) -> None:
        """Run all pieces of a part that is in no order of its own."""
        for heads in groups:
            for band, mask in prepared.bands():
                self._band(heads, band, mask)
            for shared, keys in prepared.shared():
                rows = slice(shared.first_row, shared.stop_row)
                if shared.merges and len(keys) <= _FEW_KEYS:
                    self._join_few(heads, rows, keys)
                else:
                    self._shared(heads, rows, keys, shared.merges)
            of_heads = self._results(heads)
            for start, stop in prepared.pieces.bare.tolist():
                of_heads.output[:, start:stop] = 0
                of_heads.lse[:, start:stop] = -torch.inf
        for chunk in prepared.chunks(self.query.shape[-1]):
            for heads in groups:
                self._chunk(heads, chunk)
        for long in prepared.pieces.long_rows:
            for heads in groups:
                self._long_rows(heads, long)

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
        return Part(*_fused(query, key, value, 0.0, False, attn_mask=mask, scale=self.scale))

    def _band(self, heads: Heads, band: Band, mask: torch.Tensor | None) -> None:
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
            query_, output, lse = (
                torch.unflatten(x[:, rows], 1, (units, band.rows)) for x in (query, *of_heads)
            )
            part = self._attend(query_, sliding(key, *window), sliding(value, *window), mask)
            output.copy_(part.output)
            lse.copy_(part.silenced(silent).lse)

    def _shared(self, heads: Heads, rows: slice, keys: torch.Tensor, merges: bool) -> None:
        query, key, value = self._inputs(heads)
        part = self._attend(query[:, None, rows], key[:, None, keys], value[:, None, keys], None)
        of_rows = self._results(heads).rows(rows)
        part = _merged(of_rows, part.flat()) if merges else part.flat()
        of_rows.output.copy_(part.output)
        of_rows.lse.copy_(part.lse)

    def _join_few(self, heads: Heads, rows: slice, keys: torch.Tensor) -> None:
        """Join what some rows have read so far with a few more keys: cheaper than by merging."""
        query, key, value = self._inputs(heads)
        few_keys, few_values = (x.index_select(1, keys).to(self.exact) for x in (key, value))
        # What was read so far takes part as one more key, whose score is its lse.
        few_keys = torch.nn.functional.pad(few_keys * self.scale, (0, 0, 0, 1))
        step = max(1, CHUNK_ELEMENTS // (len(query) * max(query.shape[-1], len(keys))))
        for start in range(rows.start, rows.stop, step):
            some = slice(start, min(start + step, rows.stop))
            output, lse = self._results(heads).rows(some)
            scores = torch.bmm(few_keys, query[:, some].to(self.exact).mT)
            scores[:, -1] = lse
            weights = torch.softmax(scores, 1)
            # The lse by way of the largest weight, for it cannot underflow.
            torch.sub(scores.amax(1), weights.amax(1).log_(), out=lse)
            of_new, of_old = weights[:, :-1].mT, weights[:, -1, :, None]
            if output.dtype == self.exact:
                output.mul_(of_old).baddbmm_(of_new, few_values)
            else:
                output.copy_(torch.bmm(of_new, few_values).addcmul_(output, of_old))

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

    def _long_rows(self, heads: Heads, long: LongRows) -> None:
        """Compute the long rows, over what others say: each thread takes some of the keys."""
        query, key, value = self._inputs(heads)
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
        silent = (scores == -torch.inf).all(1, keepdim=True)
        weights = torch.softmax(scores, 1).masked_fill_(silent, 0)[..., None]
        values = torch.cat([part.output for part in parts], 1).to(weights.dtype)
        of_heads = self._results(heads)
        output = (weights * values).sum(1).to(query.dtype)
        of_heads.output.index_copy_(1, rows, output)
        of_heads.lse.index_copy_(1, rows, torch.logsumexp(scores, 1))


def _merged(old: Part, new: Part) -> Part:
    """Two results over different keys as the result over all of them."""
    lse = torch.logaddexp(old.lse, new.lse)
    # Where neither has read anything, any weight will do but NaN.
    shift = lse.masked_fill(lse == -torch.inf, 0.0)
    old_weight, new_weight = ((part.lse - shift).exp_()[..., None] for part in (old, new))
    output = old.output * old_weight + new.output * new_weight
    return Part(output.to(old.output.dtype), lse)

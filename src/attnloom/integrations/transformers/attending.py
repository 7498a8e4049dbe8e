"""One call of a layer's attention, along a registered pattern."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from attnloom.integrations.transformers.masks import MaskInfo
from attnloom.nn.attention import takes_lengths
from attnloom.nn.padding import RealFirst, inputs_of, packed_inputs
from attnloom.nn.plans import Plans
from attnloom.runtime.attention import attention
from attnloom.runtime.decoding import Decoder
from attnloom.runtime.modifiers import Modifiers
from attnloom.runtime.row_attention import attention_rows

_LEAST_HORIZON = 256


class Scores(NamedTuple):
    """What a model does with its scores."""

    scale: float | None
    softcap: float | None
    sinks: torch.Tensor | None
    alibi_slopes: torch.Tensor | None

    @property
    def options(self) -> dict[str, Any]:
        """As arguments of attention."""
        return self._asdict()


class Call(NamedTuple):
    """What a layer asks for.

    Shapes:
        query: `(batch, heads, count, head_dim)`, of the new tokens
        key, value: `(batch, kv_heads, length, head_dim)`, of all tokens so far, or more
    """

    name: str
    plans: Plans
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    info: MaskInfo
    scores: Scores
    is_causal: bool
    inputs: Mapping[str, Any] | None
    backend: str

    def whole(self) -> torch.Tensor:
        """Attention of sequences from their beginning."""
        length, keys = self.query.shape[2], self.key.shape[2]
        if keys < length or self.info.q_length != length:
            raise ValueError(
                f"{self.name}: {length} queries and {keys} keys are not of one sequence"
            )
        if keys > length and not self.is_causal:
            raise ValueError(
                f"{self.name}: {length} queries and {keys} keys, as in cross-attention, which a "
                "pattern does not describe"
            )
        # A static cache has room for tokens to come.
        call = self._replace(key=self.key[:, :, :length], value=self.value[:, :, :length])
        packing = self.info.packing(length)
        return call._attend() if packing is None else call._padded(packing)

    def _padded(self, packing: RealFirst) -> torch.Tensor:
        """The same for sequences with padding, where it gives 0."""
        query, key, value = (_packed(x, packing) for x in (self.query, self.key, self.value))
        inputs = packed_inputs(self.inputs or {}, packing)
        call = self._replace(query=query, key=key, value=value, inputs=inputs)
        if takes_lengths(self.plans, query.device, self.backend):
            output = call._attend(packing.lengths)
        else:
            output = torch.zeros_like(query)
            for length, some in packing.by_length():
                tokens = length - self.plans.memory(length)
                output[some, :, :length] = self._replace(
                    query=query[some, :, :length],
                    key=key[some, :, :length],
                    value=value[some, :, :length],
                    inputs=inputs_of(inputs, some, tokens),
                )._attend()
        return packing.unpack(output.transpose(1, 2)).transpose(1, 2)

    def _attend(self, key_lengths: torch.Tensor | None = None) -> torch.Tensor:
        """The same for sequences that are all real, or as far as `key_lengths` say."""
        plans, length, device = self.plans, self.query.shape[2], str(self.query.device)
        if self.inputs or plans.pattern.inputs:
            plan = plans.of_inputs(length, device, self.inputs or {}, is_causal=self.is_causal)
        else:
            if self.is_causal:
                plans.check_causal(operator.index(length))
            plan = plans.of_length(length, device)
        output: torch.Tensor = attention(
            self.query, self.key, self.value, plan,
            backend=self.backend, key_lengths=key_lengths, **self.scores.options,
        )  # fmt: skip
        return output

    def continued(self) -> torch.Tensor:
        """Attention of new tokens over a cache that has all keys."""
        offset, count = self.info.offset, self.query.shape[2]
        length = offset + count
        if not self.is_causal or self.plans.pattern.inputs:
            why = "has run-time inputs" if self.is_causal else "is no decoder's"
            raise ValueError(f"{self.name}: a cache cannot be used, for the pattern {why}")
        if self.key.shape[2] < length:
            raise ValueError(
                f"{self.name}: the cache should hold {length} keys, and has {self.key.shape[2]}"
            )
        reader = self.plans.reader(max(_LEAST_HORIZON, 1 << (length - 1).bit_length()))
        packing = self.info.packing(length)
        if packing is None or self.info.padding is None:
            positions, slots = np.arange(offset, length)[None], None
        else:
            real = self.info.padding[:, :length].cpu().numpy() != 0
            positions = np.where(real, real.cumsum(1) - 1, -1)[:, -count:]
            slots = packing.order.cpu().numpy()
        modifiers = Modifiers.of(self.query, **self.scores.options)
        return attention_rows(
            self.query, self.key, self.value, reader, positions, modifiers, slots=slots
        )

    def with_decoder(self, decoder: Decoder) -> torch.Tensor:
        """Attention of new tokens over a `PatternCache`, which holds what is needed."""
        if self.inputs:
            raise ValueError("pattern_inputs: a cache has no room for inputs of the pattern")
        info, count, real = self.info, self.query.shape[2], None
        if info.padding is not None:
            real = info.padding[:, info.offset : info.offset + count].cpu().numpy() != 0
        if decoder.is_empty and count > 1:
            # The beginning is attention like any other, by the plan of its length.
            output = self.whole()
            decoder.append(self.key, self.value, real=real)
            return output
        return decoder.step(self.query, self.key, self.value, real=real, **self.scores.options)


def _packed(x: torch.Tensor, packing: RealFirst) -> torch.Tensor:
    return packing.pack(x.transpose(1, 2)).transpose(1, 2)

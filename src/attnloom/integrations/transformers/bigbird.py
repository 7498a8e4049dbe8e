"""`convert_bigbird`: the block-sparse attention of BigBird along plans.

Transformers lists the blocks that a block reads and lets some of them count more than once: outside
of training the random blocks are all block 0, and at 1,024, 3,072 and 4,096 tokens a random block
may be one of the window. What counts `k` times is in `k` plans, whose results are put together.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.integrations.transformers.swapping import refuse_weights, swap
from attnloom.runtime.attention import attention
from attnloom.runtime.plan import Plan

Bools = NDArray[np.bool_]

_KEPT = 8
_OLD_LENGTHS = (1024, 3072, 4096)
_OLD_REACH = 1024


def convert_bigbird(model: nn.Module) -> nn.Module:
    """Swap the block-sparse attention of a BigBird for ours, in place.

    The weights stay where they are, under the same names, and outputs and gradients are the same;
    NumPy's random state is left alone. Short inputs turn the model to full attention for good, as
    they do without this.

    Returns:
        The model.

    Raises:
        ValueError: there is no such attention in the model.
    """
    return swap(model, ("BigBirdBlockSparseAttention",), BigBirdAttention, "block-sparse BigBird")


@dataclass(frozen=True)
class Counted:
    """A plan whose pairs count so many times."""

    plan: Plan
    times: int


class BigBirdAttention(nn.Module):
    """What `BigBirdBlockSparseAttention` of Transformers does, with its weights and signature."""

    def __init__(self, old: Any) -> None:
        super().__init__()
        self.query, self.key, self.value = old.query, old.key, old.value
        self.num_heads, self.head_dim = old.num_attention_heads, old.attention_head_size
        self.block_size, self.num_random_blocks = old.block_size, old.num_random_blocks
        # In a tuple, so that it is no part of this module: it draws the random blocks.
        self._old = (old,)
        self._plans: OrderedDict[tuple[object, ...], list[Counted]] = OrderedDict()
        self.train(old.training)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": OrderedDict()}

    def forward(
        self,
        hidden_states: torch.Tensor,
        band_mask: torch.Tensor | None = None,
        from_mask: torch.Tensor | None = None,
        to_mask: torch.Tensor | None = None,
        from_blocked_mask: torch.Tensor | None = None,
        to_blocked_mask: torch.Tensor | None = None,
        **given: Any,
    ) -> tuple[torch.Tensor, None]:
        refuse_weights(0.0, given.get("output_attentions"))
        batch, length, _ = hidden_states.shape
        if length % self.block_size:
            raise ValueError(
                f"the length must be a multiple of the block size, {self.block_size}, got {length}"
            )
        query, key, value = (
            one(hidden_states).view(batch, length, self.num_heads, self.head_dim).transpose(1, 2)
            for one in (self.query, self.key, self.value)
        )
        real = None if to_mask is None else to_mask[:, 0, 0] != 0
        plans = self.counted(length, real, hidden_states.device)
        output = attend_counted(query, key, value, plans).transpose(1, 2).flatten(2)
        if real is not None:
            output = output * real[..., None].to(output.dtype)
        return output, None

    def counted(
        self, length: int, real: torch.Tensor | None, device: torch.device
    ) -> list[Counted]:
        """The plans of a length, and of the real tokens of each sequence `(batch, length)`."""
        there = None if real is None or bool(real.all()) else real.cpu().numpy()
        name = (length, str(device), self.training, None if there is None else there.tobytes())
        if name in self._plans:
            self._plans.move_to_end(name)
            return self._plans[name]
        counts = self.block_counts(length)
        found: list[Counted] = []
        levels = [counts >= level for level in range(1, int(counts.max()) + 1)]
        for number, level in enumerate(levels):
            if number and np.array_equal(level, levels[number - 1]):
                found[-1] = Counted(found[-1].plan, found[-1].times + 1)
            else:
                found.append(Counted(_plan_of(level, self.block_size, there, device), 1))
        self._plans[name] = found
        if len(self._plans) > _KEPT:
            self._plans.popitem(last=False)
        return found

    def block_counts(self, length: int) -> NDArray[np.int64]:
        """How often each block reads each block, `(heads, blocks, blocks)`."""
        blocks = length // self.block_size
        counts = np.zeros((self.num_heads, blocks, blocks), dtype=np.int64)
        row = np.arange(1, blocks - 1)
        for key in (0 * row, row - 1, row, row + 1, 0 * row + blocks - 1):
            counts[:, row, key] = 1
        drawn = self._drawn(length)
        head = np.arange(self.num_heads)[:, None, None]
        np.add.at(counts, (head, row[None, :, None], drawn), 1)
        counts[:, [0, -1]] = 1
        return counts

    def _drawn(self, length: int) -> NDArray[np.int64]:
        """The random blocks of the blocks between the first and the last, `(heads, rows, many)`."""
        size, many = self.block_size, self.num_random_blocks
        if not self.training:
            return np.zeros((self.num_heads, length // size - 2, many), dtype=np.int64)
        (old,) = self._old
        before = np.random.get_state()
        training = old.training
        try:
            old.training = True
            np.random.seed(old.seed)
            if length in _OLD_LENGTHS:
                most = old.max_seqlen
                drawn = [
                    old._bigbird_block_rand_mask(most, most, size, size, many, last_idx=_OLD_REACH)
                    for _ in range(self.num_heads)
                ]
                drawn = [one[: length // size - 2] for one in drawn]
            else:
                stops, numbers = old._get_rand_attn_plan(length, size, many)
                drawn = old._bigbird_block_rand_mask_with_head(
                    from_seq_length=length, to_seq_length=length, from_block_size=size,
                    to_block_size=size, num_heads=self.num_heads, plan_from_length=stops,
                    plan_num_rand_blocks=numbers,
                )  # fmt: skip
        finally:
            old.training = training
            np.random.set_state(before)
        return np.stack(drawn).astype(np.int64)


def attend_counted(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plans: list[Counted]
) -> torch.Tensor:
    """Attention in which a pair counts as often as the plans that have it say."""
    if len(plans) == 1 and plans[0].times == 1:
        return attention(query, key, value, plans[0].plan)
    parts = [attention(query, key, value, one.plan, return_lse=True) for one in plans]
    times = torch.tensor([one.times for one in plans], device=query.device)
    sums = torch.stack([lse for _, lse in parts], -1) + times.log().to(parts[0][1].dtype)
    # A query that reads nothing in any plan gives 0, as in each of them.
    nothing = torch.isneginf(sums).all(-1, keepdim=True)
    weights = sums.masked_fill(nothing, 0).softmax(-1)
    joined = [output * weights[..., at, None] for at, (output, _) in enumerate(parts)]
    return cast(torch.Tensor, sum(joined)).to(query.dtype)


def _plan_of(used: Bools, size: int, there: Bools | None, device: torch.device) -> Plan:
    """The plan of blocks that read blocks, `(heads, blocks, blocks)`, as far as keys are there."""
    layouts: list[BlockLayout] = []
    known: dict[tuple[bytes, bytes], int] = {}
    rows = [None] if there is None else list(there)
    numbers = np.zeros((len(rows), len(used)), dtype=np.int64)
    for element, row in enumerate(rows):
        for head, one in enumerate(used):
            name = (one.tobytes(), b"" if row is None else row.tobytes())
            if name not in known:
                known[name] = len(layouts)
                layouts.append(_layout_of(one, size, row))
            numbers[element, head] = known[name]
    return Plan.from_layouts(layouts, numbers, device=device)


def _layout_of(used: Bools, size: int, there: Bools | None) -> BlockLayout:
    blocks = len(used)
    keys = np.ones((blocks, size), dtype=np.bool_) if there is None else there.reshape(blocks, size)
    used = used & keys.any(1)
    row, column = np.nonzero(used)
    partial = np.flatnonzero(~keys.all(1))
    number = np.full(blocks, FULL, dtype=np.int32)
    number[partial] = np.arange(len(partial))
    packed = np.packbits(keys[partial], axis=-1, bitorder="little")
    return BlockLayout(
        blocks * size, blocks * size, size, size,
        row_offsets=np.searchsorted(row, np.arange(blocks + 1)).astype(np.int64),
        column_indices=column.astype(np.int32),
        mask_ids=number[column],
        masks=np.ascontiguousarray(np.repeat(packed[:, None], size, axis=1)),
    )  # fmt: skip

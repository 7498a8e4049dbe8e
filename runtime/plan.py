"""Plans: the block layouts of a pattern, as tensors on one device, ready to be executed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from attnloom.compiler.layout import FULL, BlockLayout


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    """The array as a tensor, sharing its memory where NumPy allows writing."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


@dataclass(frozen=True, eq=False)
class PlanLayout:
    """A `BlockLayout` as tensors. See there for the meaning and the shapes of the fields."""

    query_len: int
    kv_len: int
    block_m: int
    block_n: int
    row_offsets: torch.Tensor
    column_indices: torch.Tensor
    mask_ids: torch.Tensor
    masks: torch.Tensor

    @classmethod
    def from_layout(cls, layout: BlockLayout, device: torch.device | str = "cpu") -> PlanLayout:
        """The layout on a device. On the CPU the tensors share the layout's memory."""
        return cls(
            layout.query_len,
            layout.kv_len,
            layout.block_m,
            layout.block_n,
            _tensor(layout.row_offsets).to(device),
            _tensor(layout.column_indices).to(device),
            _tensor(layout.mask_ids).to(device),
            _tensor(layout.masks).to(device),
        )

    def to(self, device: torch.device | str) -> PlanLayout:
        """The same layout on another device."""
        moved = (tensor.to(device) for tensor in self.tensors)
        return PlanLayout(self.query_len, self.kv_len, self.block_m, self.block_n, *moved)

    def __reduce__(self) -> tuple[object, ...]:
        # Without what is made on demand.
        sizes = self.query_len, self.kv_len, self.block_m, self.block_n
        return PlanLayout, (*sizes, *self.tensors)

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.row_offsets, self.column_indices, self.mask_ids, self.masks

    @property
    def num_query_blocks(self) -> int:
        return -(-self.query_len // self.block_m)

    @property
    def num_kv_blocks(self) -> int:
        return -(-self.kv_len // self.block_n)

    @cached_property
    def block_layout(self) -> BlockLayout:
        """The layout as NumPy arrays; they share the memory of tensors on the CPU."""
        arrays = (tensor.cpu().numpy() for tensor in self.tensors)
        return BlockLayout(self.query_len, self.kv_len, self.block_m, self.block_n, *arrays)

    @cached_property
    def transposed(self) -> PlanLayout:
        """The layout of the transposed matrix (rows are keys), made on first use."""
        return PlanLayout.from_layout(self.block_layout.transpose(), self.row_offsets.device)

    @cached_property
    def reads(self) -> int:
        """The number of pairs that are read."""
        if not len(self.masks):
            return len(self.column_indices) * self.block_m * self.block_n
        return self.block_layout.reads()

    def row_of_tiles(self, number: int) -> tuple[slice, torch.Tensor, torch.Tensor]:
        """The queries of a row of tiles, the keys of its tiles, and who reads what.

        Returns:
            The range of queries, the keys in ascending order, and bool `(queries, keys)`.
        """
        start, stop = self.row_offsets[number : number + 2].tolist()
        first = number * self.block_m
        rows = slice(first, min(first + self.block_m, self.query_len))
        within = torch.arange(self.block_n, device=self.row_offsets.device)
        keys = self.column_indices[start:stop, None].long() * self.block_n + within
        mask_ids = self.mask_ids[start:stop].long()
        reads = within.new_ones(stop - start, self.block_m, self.block_n, dtype=torch.bool)
        partial = mask_ids != FULL
        packed = self.masks[mask_ids[partial]]
        shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)
        bits = (packed[..., None] >> shifts & 1).bool().flatten(-2)
        reads[partial] = bits[..., : self.block_n]
        exist = keys.flatten() < self.kv_len
        by_query = reads.transpose(0, 1).flatten(1)[: rows.stop - first]
        return rows, keys.flatten()[exist], by_query[:, exist]

    def to_dense(self) -> torch.Tensor:
        """The matrix itself, bool `(query_len, kv_len)`; for small lengths."""
        dense = self.masks.new_zeros(self.query_len, self.kv_len, dtype=torch.bool)
        for number in range(self.num_query_blocks):
            rows, keys, reads = self.row_of_tiles(number)
            dense[rows, keys] = reads
        return dense


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """What to compute, for every head: immutable, independent of the values, and reusable.

    Layouts that several heads share are stored once: head `h` of batch element `b` follows
    `layouts[layout_of_head[b, h]]`. A plan that is the same for every batch element has one row
    and serves any batch.

    >>> import numpy as np
    >>> causal = np.tril(np.ones((4, 4), dtype=bool))
    >>> masks = np.packbits(causal[None], axis=-1, bitorder="little")
    >>> layout = BlockLayout(4, 4, 4, 4, np.array([0, 1]), np.array([0], np.int32),
    ...                      np.array([0], np.int32), masks)
    >>> plan = Plan.from_layouts([layout], np.zeros((1, 2), dtype=np.int64))
    >>> plan.num_heads, plan.reads, plan.density
    (2, 20, 0.625)

    Shapes:
        layout_of_head: int64 `(batch or 1, num_heads)`
    """

    layouts: tuple[PlanLayout, ...]
    layout_of_head: torch.Tensor
    memory: int = 0
    description: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def from_layouts(
        cls,
        layouts: Sequence[BlockLayout],
        layout_of_head: ArrayLike,
        *,
        memory: int = 0,
        device: torch.device | str = "cpu",
        description: Mapping[str, object] | None = None,
    ) -> Plan:
        """Put the layouts of a compiled pattern on a device.

        Args:
            layouts: the distinct layouts, all of the same lengths and tile sizes.
            layout_of_head: integers `(batch or 1, num_heads)`, indices into `layouts`.
            memory: how many of the tokens, at the front, are memory tokens.
            device: where the tensors live.
            description: facts to keep with the plan; `pattern`, `params` and `n` are shown.

        Raises:
            ValueError: the layouts differ in shape, or an index is out of range.
            TypeError: `layout_of_head` is not made of integers.
        """
        choice = np.asarray(layout_of_head)
        _check_layouts(layouts, choice, memory)
        return cls(
            tuple(PlanLayout.from_layout(layout, device) for layout in layouts),
            _tensor(choice.astype(np.int64)).to(device),
            memory,
            dict(description or {}),
        )

    def to(self, device: torch.device | str) -> Plan:
        """The plan on a device; itself when it is already there."""
        if torch.device(device) == self.device:
            return self
        moved = tuple(layout.to(device) for layout in self.layouts)
        return Plan(moved, self.layout_of_head.to(device), self.memory, self.description)

    def __deepcopy__(self, memo: dict[int, object]) -> Plan:
        return self  # immutable, so a copied model may share it

    def __reduce__(self) -> tuple[object, ...]:
        # Without what is made on demand.
        return Plan, (self.layouts, self.layout_of_head, self.memory, dict(self.description))

    @property
    def device(self) -> torch.device:
        return self.layout_of_head.device

    @property
    def query_len(self) -> int:
        """The number of queries, memory tokens included."""
        return self.layouts[0].query_len

    @property
    def kv_len(self) -> int:
        """The number of keys, memory tokens included."""
        return self.layouts[0].kv_len

    @property
    def block_m(self) -> int:
        """Queries in a tile."""
        return self.layouts[0].block_m

    @property
    def block_n(self) -> int:
        """Keys in a tile."""
        return self.layouts[0].block_n

    @property
    def num_heads(self) -> int:
        return self.layout_of_head.shape[1]

    @property
    def batch_size(self) -> int | None:
        """The batch the plan is made for, or `None` when it serves any batch."""
        rows = self.layout_of_head.shape[0]
        return None if rows == 1 else rows

    def to_dense(self) -> torch.Tensor:
        """The relation, bool `(batch or 1, num_heads, query_len, kv_len)`; for small lengths."""
        matrices = torch.stack([layout.to_dense() for layout in self.layouts])
        return matrices[self.layout_of_head]

    def _heads(self) -> Iterator[tuple[PlanLayout, int]]:
        """Each layout with the number of (batch element, head) pairs that follow it."""
        counts = torch.bincount(self.layout_of_head.flatten(), minlength=len(self.layouts))
        return zip(self.layouts, counts.tolist(), strict=True)

    @cached_property
    def reads(self) -> int:
        """Pairs read, summed over the heads and the rows of `layout_of_head`."""
        return sum(layout.reads * count for layout, count in self._heads())

    @property
    def density(self) -> float:
        """The part of all pairs that is read, in `[0, 1]`."""
        return self.reads / (self.layout_of_head.numel() * self.query_len * self.kv_len)

    @cached_property
    def num_full(self) -> int:
        """Full tiles, summed over the heads and the rows of `layout_of_head`."""
        return sum(int((layout.mask_ids == FULL).sum()) * count for layout, count in self._heads())

    @cached_property
    def num_partial(self) -> int:
        """Partial tiles, summed likewise."""
        return self.num_tiles - self.num_full

    @cached_property
    def num_tiles(self) -> int:
        """Tiles that are computed, summed likewise."""
        return sum(len(layout.column_indices) * count for layout, count in self._heads())

    @property
    def num_bytes(self) -> int:
        """Bytes held on the device, without transposed layouts, which are made on demand."""
        return self.layout_of_head.nbytes + sum(
            tensor.nbytes for layout in self.layouts for tensor in layout.tensors
        )

    def __repr__(self) -> str:
        blocks = self.layouts[0].num_query_blocks * self.layouts[0].num_kv_blocks
        every = blocks * self.layout_of_head.numel()
        lengths = (
            f"{self.query_len}"
            if self.query_len == self.kv_len
            else (f"{self.query_len} queries x {self.kv_len} keys")
        )
        facts = [
            *_described(self.description),
            f"length {lengths}" + (f" ({self.memory} memory)" if self.memory else ""),
            f"{self.num_heads} heads" + (f", batch {self.batch_size}" if self.batch_size else ""),
            f"{len(self.layouts)} layout{'s' * (len(self.layouts) != 1)}",
            f"{self.num_tiles} of {every} tiles of {self.block_m}x{self.block_n} "
            f"({self.num_full} full, {self.num_partial} partial)",
            f"density {self.density:.4g}",
            f"{self.num_bytes / 1024:.1f} KiB on {self.device}",
        ]
        return f"Plan({', '.join(facts)})"


def _described(description: Mapping[str, object]) -> Iterator[str]:
    """The pattern's name and parameters, as far as the caller has given them."""
    pattern, params = description.get("pattern"), description.get("params")
    if isinstance(pattern, str) and "\n" not in pattern:
        yield pattern
    if isinstance(params, Mapping):
        yield from (f"{name}={value}" for name, value in params.items())


def _check_layouts(layouts: Sequence[BlockLayout], choice: NDArray[Any], memory: int) -> None:
    """Raise unless the arguments of `Plan.from_layouts` fit together."""
    if not layouts:
        raise ValueError("layouts must hold at least one layout, got none")
    for layout in layouts:
        if not isinstance(layout, BlockLayout):
            raise TypeError(f"layouts must hold BlockLayouts, got {type(layout).__name__}")
    first = layouts[0]
    if first.query_len < 1 or first.kv_len < 1:
        raise ValueError(
            f"layouts must have queries and keys, got {first.query_len} x {first.kv_len}"
        )
    for number, layout in enumerate(layouts):
        for name in ("query_len", "kv_len", "block_m", "block_n"):
            expected, got = getattr(first, name), getattr(layout, name)
            if got != expected:
                raise ValueError(
                    f"layouts must agree in {name}: layout 0 has {expected}, "
                    f"layout {number} has {got}"
                )
    if not np.issubdtype(choice.dtype, np.integer):
        raise TypeError(f"layout_of_head must hold integers, got {choice.dtype}")
    if choice.ndim != 2 or 0 in choice.shape:
        raise ValueError(
            f"layout_of_head must have shape (batch or 1, heads), got {tuple(choice.shape)}"
        )
    if choice.min() < 0 or choice.max() >= len(layouts):
        raise ValueError(
            f"layout_of_head must hold indices from 0 to {len(layouts) - 1}, "
            f"got {choice.min()} to {choice.max()}"
        )
    shorter = min(first.query_len, first.kv_len)
    if not 0 <= memory <= shorter:
        raise ValueError(f"memory must be from 0 to {shorter}, got {memory}")

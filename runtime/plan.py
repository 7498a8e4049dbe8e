"""Plans: the block layouts of a pattern, as tensors on one device, ready to be executed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from attnloom.compiler.layout import BlockLayout
from attnloom.compiler.parts import HeadLayout
from attnloom.runtime import backends, describe

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

    from attnloom.runtime.flex import Flex

if TYPE_CHECKING:
    from attnloom.runtime.decoding import Decoder


class Operands(NamedTuple):
    """A plan as the arguments of an operator: tensors on its device, and integers."""

    tensors: tuple[torch.Tensor, ...]
    sizes: tuple[int, ...]


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

    layouts: tuple[HeadLayout, ...]
    layout_of_head: torch.Tensor
    memory: int = 0
    description: Mapping[str, object] = field(default_factory=dict)
    _operands: dict[str, Operands] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        # Made now, for in a graph there is no time: nothing but kernels may run.
        name = backends.choose(self.device.type)
        if backends.is_operator(name):
            self.operands(name)

    @classmethod
    def from_layouts(
        cls,
        layouts: Sequence[BlockLayout | HeadLayout],
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
            tuple(
                HeadLayout.of(layout) if isinstance(layout, BlockLayout) else layout
                for layout in layouts
            ),
            torch.from_numpy(choice.astype(np.int64)).to(device),
            memory,
            dict(description or {}),
        )

    @classmethod
    def load(cls, path: str | PathLike[str], *, device: torch.device | str = "cpu") -> Plan:
        """Read a plan that `save` wrote.

        Nothing in the file is trusted: it is checked before it can reach a kernel.

        Raises:
            PlanFileError: the file is damaged, of a newer version, or holds no single plan; a
                `ValueError`.
            OSError: the file cannot be read.
        """
        from attnloom.runtime.plan_file import PlanFileError, read_plans

        stack = read_plans(path, device=device)
        if len(stack) > 1:
            raise PlanFileError(
                path, f"it holds the plans of {len(stack)} layers; use PlanStack.load"
            )
        return stack[0]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the plan to a safetensors file, with the pattern's text and parameters.

        The file is replaced at once or, if anything fails, left as it was.

        Raises:
            OSError: the file cannot be written.
        """
        from attnloom.runtime.plan_file import write_plans
        from attnloom.runtime.plan_stack import PlanStack

        write_plans(PlanStack((self,), (0,)), path)

    def to(self, device: torch.device | str) -> Plan:
        """The plan on a device; itself when it is already there."""
        if torch.device(device) == self.device:
            return self
        return Plan(self.layouts, self.layout_of_head.to(device), self.memory, self.description)

    def operands(self, backend: str) -> Operands:
        """The plan as a backend wants it, made once."""
        found = self._operands.get(backend)
        if found is None:
            found = backends.load(backend).operands(self.layouts, self.layout_of_head)
            self._operands[backend] = found
        return found

    @classmethod
    def from_mask(
        cls,
        mask: torch.Tensor | NDArray[np.bool_],
        *,
        block: int | tuple[int, int] = 128,
        heads: int | None = None,
    ) -> Plan:
        """The plan of a dense mask, true where a query reads a key; for those who have one already.

        >>> plan = Plan.from_mask(torch.ones(300, 300, dtype=torch.bool).tril())
        >>> plan.reads
        45150

        Args:
            mask: bool `(queries, keys)`, `(heads, queries, keys)` or `(batch, heads, ...)`.
            block: queries and keys of a tile.
            heads: how many heads there are, if the mask is the same for all.
        """
        from attnloom.runtime.foreign import plan_from_mask

        return plan_from_mask(mask, block, heads)

    @classmethod
    def from_blocks(
        cls,
        blocks: torch.Tensor | NDArray[np.bool_],
        block: int | tuple[int, int],
        lengths: tuple[int, int] | None = None,
        *,
        heads: int | None = None,
    ) -> Plan:
        """The plan of blocks that read blocks, as other block-sparse libraries have them.

        >>> Plan.from_blocks(torch.ones(3, 3, dtype=torch.bool).tril(), 64).reads
        24576

        Args:
            blocks: bool `(query blocks, key blocks)`, with heads and a batch as in `from_mask`.
            block: queries and keys of a block.
            lengths: how many queries and keys there are, if the last blocks are cut short.
            heads: how many heads there are, if the blocks are the same for all.
        """
        from attnloom.runtime.foreign import plan_from_blocks

        return plan_from_blocks(blocks, block, lengths, heads)

    @classmethod
    def from_block_mask(cls, block_mask: BlockMask, *, heads: int | None = None) -> Plan:
        """The plan of a FlexAttention `BlockMask`; its `mask_mod` is asked of the partial blocks.

        Args:
            block_mask: what `create_block_mask` makes.
            heads: how many heads there are, if the block mask is the same for all.
        """
        from attnloom.runtime.foreign import plan_from_block_mask

        return plan_from_block_mask(block_mask, heads)

    def decoder(self, *, undo: int = 0) -> Decoder:
        """A decoder for sequences that grow token by token, up to the length of this plan.

        Args:
            undo: how many tokens its `take_back` may take back; so many more keys are kept.

        Raises:
            ValueError: the plan is not causal.
        """
        from attnloom.runtime.decoding import Decoder
        from attnloom.runtime.row_reader import RowReader

        return Decoder(RowReader(self), undo=undo)

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
        matrices = np.stack([layout.to_dense() for layout in self.layouts])
        return torch.from_numpy(matrices).to(self.device)[self.layout_of_head]

    def to_flex(self) -> Flex:
        """The plan for PyTorch's `flex_attention`: `(block_mask, mask_mod)`.

        The block mask has the blocks of the plain grid, in the order of positions, whatever order
        the plan computes in. It is what `create_block_mask(mask_mod, ...)` would find, at the cost
        of the tiles alone; FlexAttention's own arrays grow with the square of the length, though.

        >>> import attnloom
        >>> plan = attnloom.load("longformer").compile(4096, heads=2)
        >>> plan.to_flex().block_mask.shape
        (1, 2, 4096, 4096)
        """
        from attnloom.runtime.flex import to_flex

        return to_flex(self)

    @cached_property
    def uses(self) -> tuple[int, ...]:
        """How many (batch element, head) pairs follow each layout."""
        counts = torch.bincount(self.layout_of_head.flatten().cpu(), minlength=len(self.layouts))
        return tuple(counts.tolist())

    def _heads(self) -> Iterator[tuple[HeadLayout, int]]:
        return zip(self.layouts, self.uses, strict=True)

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
        return sum(layout.num_full * count for layout, count in self._heads())

    @property
    def num_partial(self) -> int:
        """Tiles with a mask, summed likewise."""
        return self.num_tiles - self.num_full

    @cached_property
    def num_gathered(self) -> int:
        """Tiles with listed keys, full or not, summed likewise."""
        return sum(layout.num_gathered * count for layout, count in self._heads())

    @cached_property
    def num_tiles(self) -> int:
        """Tiles that are computed in the forward pass, summed likewise."""
        return sum(layout.num_tiles * count for layout, count in self._heads())

    @property
    def num_bytes(self) -> int:
        """Bytes of the layouts, for the forward and the backward pass."""
        return self.layout_of_head.nbytes + sum(layout.num_bytes for layout in self.layouts)

    def describe(self) -> str:
        """What is computed, layout by layout, with the expected gain and a picture of each.

        >>> import attnloom
        >>> plan = attnloom.load("longformer").compile(65536)
        >>> print("\\n".join(plan.describe().splitlines()[2:8]))  # doctest: +ELLIPSIS
        layout 0: every head
          reads 33,684,734 of 4,294,967,296 pairs (0.784%)
          part 0: order identity; 3,572 of 262,144 blocks in use
            forward: 3,572 tiles (1,534 full, 2,038 partial), 6 masks, ... work items, 1 split
            backward: 3,572 tiles (1,534 full, 2,038 partial), 6 masks, ... work items, 1 split
          predicted: 49.7 times as fast as dense attention (default model)
        """
        return describe.describe(self)

    def __repr__(self) -> str:
        return f"{describe.one_line(self)}\n{describe.picture(self.layouts[0])}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How notebooks and Hypothesis show it: not field by field."""
        printer.text(repr(self))


def _check_layouts(layouts: Sequence[object], choice: NDArray[Any], memory: int) -> None:
    """Raise unless the arguments of `Plan.from_layouts` fit together."""
    if not layouts:
        raise ValueError("layouts must hold at least one layout, got none")
    for layout in layouts:
        if not isinstance(layout, (BlockLayout, HeadLayout)):
            found = type(layout).__name__
            raise TypeError(f"layouts must hold BlockLayouts or HeadLayouts, got {found}")
    first = cast(HeadLayout, layouts[0])
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

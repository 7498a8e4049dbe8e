"""What Transformers says of a call in place of a mask: offsets, padding, and what else is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from attnloom.nn.padding import RealFirst

_PLAIN = {
    "causal_mask_function",
    "bidirectional_mask_function",
    "sliding_window_overlay.<locals>.inner_mask",
    "sliding_window_bidirectional_overlay.<locals>.inner_mask",
    "chunked_overlay.<locals>.inner_mask",
}
"""What a model says of its own windows and chunks. The pattern stands in for them."""

_NO_TENSOR = (
    "a registered pattern has no mask: this model has attention of its own, which no "
    "implementation replaces"
)


@dataclass
class MaskInfo:
    """Handed to every layer where other implementations have a mask.

    `q_offset` is how many tokens came before those of this call, `kv_offset` how many of them the
    cache has dropped.

    Shapes:
        padding: bool `(batch, q_offset + q_length)`, or more; `None` where nothing is padding
    """

    q_length: int
    kv_length: int
    q_offset: int | torch.Tensor
    kv_offset: int
    padding: torch.Tensor | None
    foreign: str | None
    _packing: dict[int, RealFirst | None] = field(default_factory=dict)

    # `generate` with a static cache asks for the mask ahead of the model, as if for a tensor.
    ndim = 4

    def contiguous(self) -> MaskInfo:
        return self

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{_NO_TENSOR} (it wants `mask.{name}`)")

    def __radd__(self, scores: object) -> Any:
        raise TypeError(f"{_NO_TENSOR} (it adds the mask to its scores)")

    @property
    def offset(self) -> int:
        """How many tokens came before those of this call."""
        return self.q_offset if isinstance(self.q_offset, int) else int(self.q_offset)

    def packing(self, length: int) -> RealFirst | None:
        """Where the real ones of the first `length` tokens are; `None` when all are real."""
        if self.padding is None:
            return None
        if torch.compiler.is_compiling():  # where nothing can be asked of the values
            return RealFirst.of(self.padding[:, :length])
        if length not in self._packing:
            padding = self.padding[:, :length]
            self._packing[length] = None if bool(padding.all()) else RealFirst.of(padding)
        return self._packing[length]


def mask_info(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | torch.Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: torch.Tensor | MaskInfo | None = None,
    **_: Any,
) -> MaskInfo:
    """What Transformers calls for a mask; the signature is its own."""
    if isinstance(attention_mask, MaskInfo):
        return attention_mask
    if isinstance(q_offset, torch.Tensor):
        # A static cache counts on in place, before the layers look.
        q_offset = q_offset.clone()
    foreign = None
    if mask_function is not None and not torch.compiler.is_compiling():
        foreign = next(_foreign(mask_function), None)
    return MaskInfo(q_length, kv_length, q_offset, kv_offset, attention_mask, foreign)


def _foreign(function: Callable[..., Any]) -> Iterator[str]:
    """The conditions of a mask that are neither causality nor the model's own window."""
    name = getattr(function, "__qualname__", repr(function))
    if name == "and_masks.<locals>.and_mask":
        for cell in function.__closure__ or ():
            for part in cell.cell_contents:
                yield from _foreign(part)
    elif name not in _PLAIN:
        yield name

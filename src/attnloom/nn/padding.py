"""Padding: batches of sequences of several lengths, and the tokens that are not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class RealFirst:
    """Where the real tokens of a batch go when they are moved to the front, in their order.

    A pattern speaks of real tokens: token 0 is the first real one, and what is padding is not
    there. So a sequence gives the same results however it is padded.

    >>> packing = RealFirst.of(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]]))
    >>> packing.pack(torch.tensor([[8, 9, 1, 2], [3, 4, 5, 6]])).tolist()
    [[1, 2, 0, 0], [3, 4, 5, 0]]
    >>> packing.lengths.tolist()
    [2, 3]

    Shapes:
        order: int64 `(batch, length)`; place `p` of a packed sequence holds token `order[p]`
        lengths: int64 `(batch,)`
    """

    order: torch.Tensor
    lengths: torch.Tensor

    @classmethod
    def of(cls, mask: torch.Tensor) -> RealFirst:
        """From a mask `(batch, length)` that is not 0 at real tokens."""
        real = mask != 0
        return cls(torch.argsort(~real, dim=1, stable=True), real.sum(1))

    def behind(self, memory: int) -> RealFirst:
        """The same with so many memory tokens, all real, in front."""
        first = torch.arange(memory, device=self.order.device).expand(len(self.order), -1)
        return RealFirst(torch.cat([first, self.order + memory], 1), self.lengths + memory)

    def by_length(self) -> Iterator[tuple[int, torch.Tensor]]:
        """The lengths that there are, but 0, and which elements of the batch have each."""
        for length in sorted(set(self.lengths.tolist()) - {0}):
            yield length, torch.nonzero(self.lengths == length)[:, 0]

    def pack(self, x: torch.Tensor) -> torch.Tensor:
        """`(batch, length, ...)` with the real tokens first, and 0 behind them."""
        there = torch.arange(x.shape[1], device=x.device) < self.lengths[:, None]
        return _picked(x, self.order, there)

    def unpack(self, x: torch.Tensor) -> torch.Tensor:
        """The tokens back where they were, and 0 where there is padding."""
        at = torch.argsort(self.order, dim=1)
        return _picked(x, at, at < self.lengths[:, None])


def _picked(x: torch.Tensor, places: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    shape = (*places.shape, *(1,) * (x.dim() - 2))
    found = x.gather(1, places.view(shape).expand(x.shape))
    # Not by a product: what is not there may be anything.
    return found.masked_fill(~there.view(shape), 0)


def packed_inputs(inputs: Mapping[str, Any], packing: RealFirst) -> dict[str, Any]:
    """Run-time inputs of a padded batch, as arrays, with the real tokens first.

    Raises:
        ValueError: an input does not say which tokens of the padded batch it means.
    """
    order = packing.order.cpu().numpy()
    found: dict[str, Any] = {}
    for name, value in inputs.items():
        if isinstance(value, str):  # it speaks of real tokens already
            found[name] = value
            continue
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        if not isinstance(array, np.ndarray) or array.shape != order.shape:
            shape = getattr(array, "shape", type(array).__name__)
            raise ValueError(
                f"inputs[{name!r}] must have shape {order.shape} where tokens are padding, "
                f"as a mask or as ids, got {shape}"
            )
        found[name] = np.take_along_axis(array, order, axis=1)
    return found


def inputs_of(inputs: Mapping[str, Any], elements: torch.Tensor, tokens: int) -> dict[str, Any]:
    """The packed inputs of some batch elements that have so many tokens."""
    rows = elements.cpu().numpy()
    return {
        name: value[rows, :tokens] if isinstance(value, np.ndarray) else value
        for name, value in inputs.items()
    }

"""Rows of tensors on their way between processes, with gradients that go the other way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.autograd.function import once_differentiable


class ExchangeError(RuntimeError):
    """Nothing came: another process has ended, or is too late; see the cause."""


@dataclass(frozen=True, eq=False)
class Route:
    """Who sends how many rows to whom: `sent` and `received`, process by process."""

    sent: tuple[int, ...]
    received: tuple[int, ...]
    group: dist.ProcessGroup | None

    @property
    def back(self) -> Route:
        return Route(self.received, self.sent, self.group)

    def start(self, rows: torch.Tensor) -> Travel:
        """Send the first `sent[0]` rows to process 0, and so on; what comes, process by process."""
        rows = rows.contiguous()
        found = rows.new_empty((sum(self.received), *rows.shape[1:]))
        with _Explained(self.group):
            work = dist.all_to_all_single(
                found, rows, list(self.received), list(self.sent), group=self.group, async_op=True
            )
        return Travel(self, rows, found, work)


@dataclass(frozen=True, eq=False)
class Travel:
    """Rows under way; what is sent is kept until they have arrived."""

    route: Route
    rows: torch.Tensor
    found: torch.Tensor
    work: Any

    def end(self) -> torch.Tensor:
        """Wait, and have what came."""
        if self.work is not None:
            with _Explained(self.route.group):
                self.work.wait()
        return self.found


class _Explained:
    """Says which process got nothing, and what that may mean."""

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, RuntimeError) and not isinstance(error, ExchangeError):
            rank, ranks = dist.get_rank(self.group), dist.get_world_size(self.group)
            raise ExchangeError(
                f"process {rank} of {ranks} waited in vain for the others: one of them has ended, "
                f"has raised, or is later than the timeout of the process group ({error})"
            ) from error


class _Box:
    """Where the two ends of an exchange find what is under way: there, and back again."""

    travel: Travel | None = None


@dataclass(frozen=True, eq=False)
class Pick:
    """Rows that are taken from a tensor, some of them several times.

    Gradients are summed in one order, whatever the device: `rounds` has, for rows that are taken
    about equally often, where their gradients lie, padded with one beyond, and which rows they are.

    Shapes:
        index: int64 `(num_taken,)`; rounds: pairs of int64 `(num, times)` and `(num,)`
    """

    index: torch.Tensor
    rounds: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    @classmethod
    def of(cls, index: NDArray[np.int64], device: torch.device) -> Pick:
        """The rows at an index."""
        order = np.argsort(index, kind="stable")
        rows, first, times = np.unique(index[order], return_index=True, return_counts=True)
        rounds = []
        width = 1
        while width // 2 < times.max(initial=0):
            some = np.flatnonzero((times > width // 2) & (times <= width))
            if len(some):
                at = first[some, None] + np.arange(width)
                there = np.arange(width) < times[some, None]
                where = np.append(order, len(index))[np.where(there, at, len(index))]
                rounds.append((torch.from_numpy(where).to(device), torch.from_numpy(rows[some])))
            width *= 2
        return cls(
            torch.from_numpy(index).to(device),
            tuple((where, some.to(device)) for where, some in rounds),
        )


class _Taken(torch.autograd.Function):
    """Rows at an index; `rounds` are those of a `Pick`, one after the other."""

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, index: torch.Tensor, *rounds: torch.Tensor
    ) -> torch.Tensor:
        ctx.count = rows.shape[0]
        ctx.save_for_backward(*rounds)
        return rows.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,), rounds = grads, ctx.saved_tensors
        total = grad.new_zeros((ctx.count, *grad.shape[1:]))
        padded = torch.cat([grad, grad.new_zeros((1, *grad.shape[1:]))])
        exact = torch.float64 if grad.dtype == torch.float64 else torch.float32
        for where, rows in zip(rounds[::2], rounds[1::2], strict=True):
            found = padded[where].sum(1, dtype=exact).to(grad.dtype)
            total.index_copy_(0, rows, found)
        return total, *(None,) * (1 + len(rounds))


class _Started(torch.autograd.Function):
    """Rows leave; their gradients, which `_Arrived` sends, come back."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, route: Route, box: _Box) -> torch.Tensor:
        ctx.box = box
        box.travel = route.start(rows)
        return box.travel.found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        assert ctx.box.travel is not None
        return ctx.box.travel.end(), None, None


class _Arrived(torch.autograd.Function):
    """Rows are there; their gradients leave, and what else is to be done goes on meanwhile."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, route: Route, box: _Box) -> torch.Tensor:
        ctx.route, ctx.box = route, box
        assert box.travel is not None
        box.travel.end()
        box.travel = None
        return rows.view_as(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        ctx.box.travel = ctx.route.back.start(grads[0])
        return grads[0], None, None


class _AtOnce(torch.autograd.Function):
    """Both ends together: for a graph, which knows no boxes."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        sent: Sequence[int],
        received: Sequence[int],
        group: dist.ProcessGroup | None,
    ) -> torch.Tensor:
        ctx.sent, ctx.received, ctx.group = sent, received, group
        found = rows.new_empty((sum(received), *rows.shape[1:]))
        dist.all_to_all_single(found, rows.contiguous(), list(received), list(sent), group=group)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        grad = grads[0].contiguous()
        found = grad.new_empty((sum(ctx.sent), *grad.shape[1:]))
        dist.all_to_all_single(found, grad, list(ctx.sent), list(ctx.received), group=ctx.group)
        return found, None, None, None


class Exchange:
    """Rows that travel from when it is made until `end` is called, whatever is done meanwhile.

    The gradients travel likewise: they leave when the backward pass comes to `end`, and are waited
    for where this was made. In a graph under `torch.compile` nothing is done meanwhile.
    """

    def __init__(self, rows: torch.Tensor, route: Route) -> None:
        self._route, self._box = route, _Box()
        if torch.compiler.is_compiling():
            self._rows = _at_once(rows, route)
        else:
            self._rows = cast(Any, _Started).apply(rows, route, self._box)

    def end(self) -> torch.Tensor:
        """What came, process by process."""
        if torch.compiler.is_compiling():
            return self._rows
        return cast(torch.Tensor, cast(Any, _Arrived).apply(self._rows, self._route, self._box))


def _at_once(rows: torch.Tensor, route: Route) -> torch.Tensor:
    found = cast(Any, _AtOnce).apply(rows, route.sent, route.received, route.group)
    return cast(torch.Tensor, found)


def exchange(rows: torch.Tensor, route: Route) -> torch.Tensor:
    """What comes when rows are sent along a route; differentiable."""
    return Exchange(rows, route).end()


def taken(rows: torch.Tensor, pick: Pick) -> torch.Tensor:
    """Rows at an index; differentiable, with the same bits in every run."""
    rounds = [tensor for pair in pick.rounds for tensor in pair]
    return cast(torch.Tensor, cast(Any, _Taken).apply(rows, pick.index, *rounds))


class _Tied(torch.autograd.Function):
    """A tensor as it is, which has another one in its history."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        ctx.shape, ctx.dtype = other.shape, other.dtype
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return grads[0], grads[0].new_zeros(ctx.shape, dtype=ctx.dtype)


def tied(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """`x` itself; its backward pass goes through `other`, so that no process leaves one out."""
    return cast(torch.Tensor, cast(Any, _Tied).apply(x, other))

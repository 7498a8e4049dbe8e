"""The problems that GPUs are compared on: each a pattern, and the same as FlexAttention's mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

import attnloom
from attnloom import Pattern
from attnloom.runtime.plan import Plan

Mask = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""`mask_mod` of FlexAttention: from batch element, head, query and key, whether the query reads."""


@dataclass(frozen=True)
class Case:
    """A problem, and how many times faster than FlexAttention it should be, both passes together.

    `mask` makes FlexAttention's mask from `reach`; random links cannot be written as one, but are
    taken from the plan, at most `links` for each query.
    """

    name: str
    text: str
    mask: Callable[[int], Mask]
    length: int
    reach: int = 0
    heads: int = 8
    kv_heads: int = 8
    head_dim: int = 128
    target: float | None = None
    links: int = 0
    is_causal: bool = False

    @property
    def pattern(self) -> Pattern:
        reach = f"(r = {self.reach})" if self.reach else ""
        return attnloom.parse(f"pattern p{reach} {{ {self.text} }}", name=self.name)

    def flex_mask(self, plan: Plan) -> Mask:
        """The mask, on the device of the plan."""
        near = self.mask(self.reach)
        if not self.links:
            return near
        far = torch.from_numpy(far_links(plan, self.reach, self.links)).to(plan.device)

        def mask(
            b: torch.Tensor, h: torch.Tensor, i: torch.Tensor, j: torch.Tensor
        ) -> torch.Tensor:
            found = near(b, h, i, j)
            for number in range(self.links):
                found = found | (far[h, i, number] == j)
            return found

        return mask


def far_links(plan: Plan, reach: int, most: int) -> np.ndarray:
    """The keys of each query that lie beyond its window, `(heads, length, most)`, -1 for none."""
    length = plan.query_len
    numbers = plan.layout_of_head[0].tolist()
    found = np.full((len(numbers), length, most), -1, dtype=np.int64)
    for head, number in enumerate(numbers):
        for half in plan.layouts[number].halves:
            query, key = half.reads_of(np.arange(length))
            far = np.abs(query - key) > reach
            query, key = query[far], key[far]
            counts = np.bincount(query, minlength=length)
            order = np.argsort(query, kind="stable")
            rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
            used = (found[head] >= 0).sum(1)
            found[head, query[order], used[query[order]] + rank] = key[order]
    return found


def _causal(_: int) -> Mask:
    return lambda b, h, i, j: j <= i


def _last(reach: int) -> Mask:
    return lambda b, h, i, j: (j <= i) & (i - j < reach)


def _each_side(reach: int) -> Mask:
    return lambda b, h, i, j: (i - j).abs() <= reach


def _longformer(reach: int) -> Mask:
    return lambda b, h, i, j: ((i - j).abs() <= reach) | (i < 16) | (j < 16)


def _dilated(reach: int) -> Mask:
    return lambda b, h, i, j: ((i - j) % 8 == 0) & ((i - j).abs() <= 8 * reach)


def _scattered(reach: int) -> Mask:
    return lambda b, h, i, j: ((i - j).abs() <= reach) | (i % 256 == 0) | (j % 256 == 0)


K = 1 << 10
LONGFORMER = "window(each_side=r); global(first 16)"
CASES: tuple[Case, ...] = (
    Case("causal", "window(last=16777216)", _causal, 16 * K, target=1.0, is_causal=True),
    Case("sliding window", "window(last=r)", _last, 64 * K, 4096, target=1.0),
    Case("longformer 64k", LONGFORMER, _longformer, 64 * K, 256, target=1.5),
    Case("longformer 64k grouped", LONGFORMER, _longformer, 64 * K, 256, 32, 8, target=1.5),
    Case("longformer 256k", LONGFORMER, _longformer, 256 * K, 256, target=1.5),
    Case("longformer 256k grouped", LONGFORMER, _longformer, 256 * K, 256, 32, 8, target=1.5),
    Case("dilated window", "window(each_side=r, dilation=8)", _dilated, 64 * K, 256, target=4.0),
    Case(
        "scattered globals", "window(each_side=r); global(every 256)", _scattered, 64 * K, 256,
        target=3.0,
    ),
    Case(
        "window and random", "window(each_side=r); random(links=3, seed=1)", _each_side, 64 * K,
        256, target=8.0, links=3,
    ),
)  # fmt: skip
"""What is compared, with the targets for an H200 in bfloat16."""

"""NATTEN's own masks: window, dilation and stride in one, two and three axes.

NATTEN has no wheel without CUDA; without a GPU its source installs as plain Python, with
`pip install --no-build-isolation --no-deps natten==0.21.7`.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from oracle_helpers import Mask, mask_of, needed

import attnloom

NATTEN = "natten"


def natten_mask(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    step: tuple[int, ...],
    causal: tuple[bool, ...] | None = None,
) -> Mask:
    flex = needed("natten.backends.flex", NATTEN)
    found = flex.get_na_flex_mask(
        "cpu", len(shape), shape, kernel, stride, step, causal or (False,) * len(shape)
    )
    n = int(np.prod(shape))
    rows, keys = torch.arange(n)[:, None], torch.arange(n)[None, :]
    zero = torch.zeros((), dtype=torch.long)
    return np.asarray(found.mask_mod(zero, zero, rows, keys).numpy())


ONE_AXIS = [(9, 3), (12, 4), (16, 7), (7, 7), (20, 1), (15, 6), (21, 5)]


@pytest.mark.parametrize(
    ("n", "taps", "step"),
    # NATTEN refuses windows larger than a residue class.
    [(n, taps, step) for n, taps in ONE_AXIS for step in (1, 2, 3) if n // step >= taps],
)
def test_one_axis(against: Any, n: int, taps: int, step: int) -> None:
    theirs = natten_mask((n,), (taps,), (1,), (step,))
    against(NATTEN).masks("1-D", mask_of("natten_1d", n, taps=taps, step=step), theirs)


@pytest.mark.parametrize(
    ("height", "width", "taps"), [(6, 6, 3), (5, 8, 4), (7, 9, 7), (4, 4, 2), (9, 6, 5)]
)
def test_two_axes(against: Any, height: int, width: int, taps: int) -> None:
    theirs = natten_mask((height, width), (taps, taps), (1, 1), (1, 1))
    n = height * width
    against(NATTEN).masks("2-D", mask_of("nat", n, width=width, taps=taps), theirs)
    against(NATTEN).masks("2-D", mask_of("dinat", n, width=width, taps=taps), theirs)
    for step in (2, 3):
        if min(height, width) // step >= taps:
            theirs = natten_mask((height, width), (taps, taps), (1, 1), (step, step))
            ours = mask_of("dinat", n, width=width, taps=taps, step=step, layer=1)
            against(NATTEN).masks("2-D, dilated", ours, theirs)


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [
        ((4, 3, 5), (3, 2, 3)),
        ((3, 4, 4), (1, 3, 4)),
        ((5, 3, 3), (4, 3, 1)),
        ((2, 2, 6), (2, 1, 5)),
    ],
)
def test_three_axes(
    against: Any, shape: tuple[int, int, int], kernel: tuple[int, int, int]
) -> None:
    theirs = natten_mask(shape, kernel, (1, 1, 1), (1, 1, 1))
    ours = mask_of(
        "natten_3d", int(np.prod(shape)), height=shape[1], width=shape[2], frames=kernel[0],
        rows=kernel[1], cells=kernel[2],
    )  # fmt: skip
    against(NATTEN).masks("3-D", ours, theirs)


@pytest.mark.parametrize(("height", "width", "taps"), [(8, 8, 4), (9, 7, 5), (6, 10, 6), (5, 5, 3)])
def test_two_axes_in_strides(against: Any, height: int, width: int, taps: int) -> None:
    for skip in range(1, taps + 1):
        theirs = natten_mask((height, width), (taps, taps), (skip, skip), (1, 1))
        ours = mask_of("gna", height * width, width=width, taps=taps, skip=skip)
        against(NATTEN).masks("2-D, strided", ours, theirs)


@pytest.mark.parametrize(
    ("shape", "kernel", "stride"),
    [
        ((4, 6, 5), (3, 2, 2), (2, 1, 1)),
        ((5, 4, 4), (2, 3, 3), (1, 2, 2)),
        ((6, 5, 7), (4, 4, 4), (4, 3, 3)),
    ],
)
def test_three_axes_in_strides(
    against: Any,
    shape: tuple[int, int, int],
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
) -> None:
    theirs = natten_mask(shape, kernel, stride, (1, 1, 1))
    ours = mask_of(
        "gna_3d", int(np.prod(shape)), height=shape[1], width=shape[2], frames=kernel[0],
        taps=kernel[1], skip_frames=stride[0], skip=stride[1],
    )  # fmt: skip
    against(NATTEN).masks("3-D, strided", ours, theirs)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_every_option_on_every_axis(against: Any, axes: int) -> None:
    """Drawn windows, each axis with a dilation, a stride and a direction of its own."""
    draw = random.Random(axes)
    names = ("frames", "rows", "columns")[-axes:] if axes > 1 else ("keys",)
    for _ in range(100):
        shape = tuple(draw.randint(2, {1: 40, 2: 10, 3: 6}[axes]) for _ in range(axes))
        step = tuple(draw.randint(1, size // 2) for size in shape)
        kernel = tuple(draw.randint(2, size // d) for size, d in zip(shape, step, strict=True))
        stride = tuple(draw.randint(1, k) for k in kernel)
        causal = tuple(draw.random() < 0.4 for _ in shape)
        body = " & ".join(
            f"neighborhood({name}={k}, dilation={d}, stride={s}, causal={str(c).lower()})"
            for name, k, d, s, c in zip(names, kernel, step, stride, causal, strict=True)
        )
        if axes > 1:
            body = f"grid({', '.join(map(str, shape))}) {{ {body} }}"
        ours = attnloom.parse(f"pattern p {{ {body} }}").mask(int(np.prod(shape)))
        theirs = natten_mask(shape, kernel, stride, step, causal)
        against(NATTEN).masks(f"{axes}-D, every option on its own axis", ours, theirs)

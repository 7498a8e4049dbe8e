"""What the authors of a pattern define in more than a line, written anew."""

from __future__ import annotations

import numpy as np
from pattern_masks import Mask, axis_keys, by_cells, causal, ij


def strided(n: int, step: int) -> Mask:
    i, j = ij(n)
    return (j <= i) & ((i - j < step) | ((i - j) % step == 0))


def fixed(n: int, step: int, summary: int) -> Mask:
    i, j = ij(n)
    return (j <= i) & ((i // step == j // step) | (j % step >= step - summary))


def streaming(n: int, sinks: int, recent: int) -> Mask:
    i, j = ij(n)
    return (j <= i) & ((j < sinks) | (i - j < recent))


def one_bit(n: int) -> Mask:
    """The numbers differ in one binary digit, or not at all."""
    return np.array([[(a ^ b).bit_count() <= 1 for b in range(n)] for a in range(n)])


def longnet(n: int, w: int, head: int, heads: int) -> Mask:
    found = np.zeros((n, n), dtype=bool)
    for level, ratio in enumerate((1, 2, 4, 6, 12)):
        size = w << level
        offset = head // -(-heads // ratio)
        for start in range(0, n, size):
            sampled = np.arange(start + offset, min(start + size, n), ratio)
            found[np.ix_(sampled, sampled)] = True
    return found & causal(n)


def radial(n: int, frames: int, frame: int, size: int) -> Mask:
    """The authors' loop over pairs of frames, without their rounding to blocks."""
    found = np.zeros((n, n), dtype=bool)
    video = frames * frame
    for i in range(n):
        for j in range(n):
            if max(i, j) >= video:
                found[i, j] = True
                continue
            apart = abs(i // frame - j // frame)
            length = 2 ** frame.bit_length() / 2 ** apart.bit_length()
            width = frame if apart <= 1 else max(length, size)
            kept = length >= size or apart % int(size / length) == 0
            near = abs(i % frame - j % frame) <= width
            found[i, j] = j < frame or (near and kept)
    return found


def deepspeed_fixed(n: int, local: int, wide: int, kind: int, rows: bool) -> Mask:
    """DeepSpeed's layout of blocks, window after window."""
    found = np.zeros((n, n), dtype=bool)
    first = local - (1 + kind) * wide
    for start in range(0, n, local):
        window = slice(start, min(start + local, n))
        found[window, window] = True
        at = start + first if start + local <= n else min(start + first, n - wide)
        summary = slice(max(at, 0), at + wide)
        found[:, summary] = True
        if rows:
            found[summary, :] = True
    return found


def block_diffusion(n: int, size: int) -> Mask:
    half = n // 2
    label = [("noised", p // size) for p in range(half)]
    label += [("clean", p // size) for p in range(n - half)]
    allowed = {
        ("noised", "noised"): lambda a, b: a == b,
        ("noised", "clean"): lambda a, b: b < a,
        ("clean", "clean"): lambda a, b: b <= a,
        ("clean", "noised"): lambda a, b: False,
    }
    return np.array([[allowed[a[0], b[0]](a[1], b[1]) for b in label] for a in label])


def etc(n: int, hubs: int, reach: int, hard_down: bool, hard_up: bool, ids: list[int]) -> Mask:
    found = np.zeros((n, n), dtype=bool)
    for i in range(n):
        for j in range(n):
            own = ids[i] == ids[j]
            match (i < hubs, j < hubs):
                case (True, True):
                    found[i, j] = True
                case (True, False):
                    found[i, j] = own or not hard_down
                case (False, True):
                    found[i, j] = own or not hard_up
                case _:
                    found[i, j] = abs(i - j) <= reach
    return found


def dflash(n: int, context: int, size: int) -> Mask:
    """Block after block; the anchor of block b is token b + 1 of the text."""
    found = np.zeros((n, n), dtype=bool)
    for block, start in enumerate(range(context, n, size)):
        rows = slice(start, start + size)
        found[rows, rows] = True
        found[rows, : min(block + 1, context)] = True
    return found


def gna(n: int, width: int, keys: int, skip: int) -> Mask:
    """A window no larger than the picture, a stride no larger than the window."""
    height = -(-n // width)
    rows, columns = min(keys, height), min(keys, width)

    def reads(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return b[0] in axis_keys(a[0], height, rows, skip=min(skip, rows)) and b[1] in axis_keys(
            a[1], width, columns, skip=min(skip, columns)
        )

    return by_cells(n, (width,), reads)


def gna_3d(n: int, height: int, width: int, keys: tuple[int, ...], skips: tuple[int, ...]) -> Mask:
    sizes = (-(-n // (height * width)), height, width)

    def reads(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        axes = zip(a, b, sizes, keys, skips, strict=True)
        return all(y in axis_keys(x, size, k, skip=skip) for x, y, size, k, skip in axes)

    return by_cells(n, (height, width), reads)


def halonet(n: int, width: int, size: int, halo: int) -> Mask:
    def grown(x: int) -> range:
        start = x - x % size
        return range(start - halo, start + size + halo)

    return by_cells(n, (width,), lambda a, b: b[0] in grown(a[0]) and b[1] in grown(a[1]))


def maxvit(n: int, width: int, size: int) -> Mask:
    """Cells that are whole steps apart, `size` of them on each axis."""
    height = -(-n // width)
    down, right = -(-height // size), -(-width // size)
    return by_cells(
        n, (width,), lambda a, b: a[0] % down == b[0] % down and a[1] % right == b[1] % right
    )


def sliding_tile(n: int, high: int, wide: int, size: int) -> Mask:
    """Windows of one row and three columns of tiles, and text behind."""
    text = high * wide * size
    return np.array(
        [
            [
                max(i, j) >= text
                or (
                    i // size // wide == j // size // wide
                    and j // size % wide in axis_keys(i // size % wide, wide, 3)
                )
                for j in range(n)
            ]
            for i in range(n)
        ]
    )

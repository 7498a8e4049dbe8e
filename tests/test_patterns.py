"""The bundled patterns against the papers: each is compared with a definition written anew here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attnloom

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "patterns").glob("*.attn"))
Mask = NDArray[np.bool_]
Place = dict[str, int]
Definition = Callable[..., Any]
"""Called with `n`, and with what it names of `head`, `heads`, `layer` and `layers`."""


# --- definitions ---------------------------------------------------------------------------------


def ij(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Query numbers down, key numbers across."""
    i, j = np.ogrid[:n, :n]
    return i, j


def query(n: int) -> NDArray[np.int64]:
    return ij(n)[0]


def key(n: int) -> NDArray[np.int64]:
    return ij(n)[1]


def back(n: int) -> NDArray[np.int64]:
    """How far the key is behind the query."""
    return query(n) - key(n)


def whole(n: int, *tokens: int) -> Mask:
    """Rows and columns of some tokens."""
    i, j = ij(n)
    return np.isin(i, tokens) | np.isin(j, tokens)


def band(n: int, back: int, ahead: int) -> Mask:
    i, j = ij(n)
    return (i - j <= back) & (j - i <= ahead)


def causal(n: int) -> Mask:
    return np.tri(n, dtype=bool)


def last(n: int, keys: int) -> Mask:
    return band(n, keys - 1, 0)


def same(n: int, label: Callable[[Any], Any]) -> Mask:
    """Query and key have the same label."""
    i, j = ij(n)
    return np.asarray(label(i) == label(j))


def strided(n: int, step: int) -> Mask:
    i, j = ij(n)
    return (j <= i) & ((i - j < step) | ((i - j) % step == 0))


def fixed(n: int, step: int, summary: int) -> Mask:
    i, j = ij(n)
    return (j <= i) & ((i // step == j // step) | (j % step >= step - summary))


def streaming(n: int, sinks: int, recent: int) -> Mask:
    i, j = ij(n)
    return (j <= i) & ((j < sinks) | (i - j < recent))


def of_blocks(n: int, size: int, block_mask: Callable[[int], Any]) -> Mask:
    """Every pair of blocks as all its pairs of tokens."""
    blocks = np.asarray(block_mask(-(-n // size)), dtype=bool)
    return blocks.repeat(size, 0).repeat(size, 1)[:n, :n]


def with_memory(tokens: Any, m: int, reads: bool = True, read: bool = True) -> Mask:
    """Memory tokens in front of a mask."""
    n = len(tokens)
    found = np.zeros((m + n, m + n), dtype=bool)
    found[m:, m:] = tokens
    found[:m] |= reads
    found[:, :m] |= read
    return found


def cells(n: int, *shape: int) -> list[tuple[int, ...]]:
    """The coordinates of the first n cells, the last axis fastest; the first axis has no end."""
    found = []
    for position in range(n):
        place = []
        for size in reversed(shape):
            place.append(position % size)
            position //= size
        found.append((position, *reversed(place)))
    return found


def by_cells(n: int, shape: tuple[int, ...], test: Callable[..., bool]) -> Mask:
    """The pairs of cells that pass a test on their coordinates."""
    place = cells(n, *shape)
    return np.array([[test(a, b) for b in place] for a in place], dtype=bool)


def axis_keys(x: int, size: int, keys: int, step: int = 1, skip: int = 1) -> list[int]:
    """NATTEN's window on one axis: of `keys` cells in steps, moving in strides of `skip`."""
    row = range(x % step, size, step)
    taken = min(keys, len(row))
    at = row.index(x)
    first_of_group = at - at % skip
    leader = min(first_of_group + skip // 2, len(row) - 1)
    start = min(max(leader - taken // 2, 0), len(row) - taken)
    return list(row[start : start + taken])


def neighborhood(
    n: int, shape: tuple[int, ...], keys: tuple[int, ...], step: int = 1, skip: int = 1
) -> Mask:
    """NATTEN's window on each axis; `shape` is all axes but the first."""
    row = int(np.prod(shape))
    sizes = (-(-n // row), *shape)
    return by_cells(
        n,
        shape,
        lambda a, b: all(
            y in axis_keys(x, size, k, step, skip)
            for x, y, size, k in zip(a, b, sizes, keys, strict=True)
        ),
    )


def tiles(n: int, width: int, down: int, right: int, moved: int = 0) -> Mask:
    return by_cells(
        n,
        (width,),
        lambda a, b: (
            (a[0] - moved) // down == (b[0] - moved) // down
            and (a[1] - moved) // right == (b[1] - moved) // right
        ),
    )


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


# --- inputs --------------------------------------------------------------------------------------


def thirds(n: int) -> list[int]:
    """Ids of uneven segments."""
    return [3 * t // (n + 1) + (t > n // 2) for t in range(n)]


def of_thirds(n: int) -> Mask:
    return same(n, np.array(thirds(n)).__getitem__)


def parents(n: int, root: int) -> list[list[int]]:
    """The ancestors of each node of a tree in which node t hangs on a node before it."""
    found: list[list[int]] = []
    for t in range(n):
        parent = root + (t - root) // 2 if t > root else None
        found.append([] if parent is None or parent == t else [*found[parent], parent])
    return found


def diagonals(n: int, *distances: int) -> list[list[int]]:
    return [[i - d for d in distances if i >= d] for i in range(n)]


def listed(links: list[list[int]]) -> Mask:
    found = np.zeros((len(links), len(links)), dtype=bool)
    for i, keys in enumerate(links):
        found[i, keys] = True
    return found


# --- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A pattern with parameters, at a head and a layer, and what it should be at length n."""

    name: str
    params: dict[str, Any]
    definition: Definition
    at: Place = field(default_factory=dict)
    inputs: Callable[[int], dict[str, Any]] | None = None

    def found(self, n: int) -> Mask:
        inputs = self.inputs(n) if self.inputs else None
        return attnloom.load(self.name, **self.params).mask(n, inputs=inputs, **self.at)


def case(
    name: str,
    params: dict[str, Any],
    definition: Definition,
    inputs: Callable[[int], dict[str, Any]] | None = None,
    **at: int,
) -> Case:
    return Case(name, params, definition, at, inputs)


# Sizes are small enough for every part of a pattern to be met.
CASES = [
    case("bert", {}, lambda n: np.ones((n, n))),
    case("decoder", {}, causal),
    # windows
    case("local", {"reach": 2}, lambda n: band(n, 2, 2)),
    case("mistral", {"recent": 4}, lambda n: last(n, 4)),
    case(
        "longformer_dilated", {"back": 3, "dilated": 1},
        lambda n: last(n, 7) & same(n, lambda t: t % 2),
        heads=2,
    ),
    case("longformer_dilated", {"back": 3, "dilated": 1}, lambda n: last(n, 4), head=1),
    *[
        case(
            "alibi", {"bias": 1},
            lambda n, slope=slope: (back(n) >= 0) & (-slope * back(n) >= -1),
            head=head, heads=8,
        )
        for head, slope in enumerate(0.5 ** np.arange(1, 9))
    ],
    case("natten_1d", {"taps": 4}, lambda n: neighborhood(n, (), (4,))),
    case("natten_1d", {"taps": 3, "step": 2}, lambda n: neighborhood(n, (), (3,), step=2)),
    # chunks
    case("llama4_chunked", {"size": 5}, lambda n: causal(n) & same(n, lambda t: t // 5)),
    case(
        "transformer_xl", {"segment": 3},
        lambda n: causal(n) & of_blocks(n, 3, lambda b: band(b, 1, 0)),
    ),
    case(
        "transformer_xl", {"segment": 2, "past": 3},
        lambda n: causal(n) & of_blocks(n, 2, lambda b: band(b, 3, 0)),
    ),
    case(
        "blockbert", {"parts": 3, "own": 1, "each": 1},
        lambda n: same(n, lambda t: t // -(-n // 3)),
    ),
    case(
        "blockbert", {"parts": 2, "own": 2, "each": 2},
        lambda n: of_blocks(n, -(-n // 2), lambda b: back(b) != 0),
        head=3,
    ),
    # grids
    case("nat", {"width": 4, "taps": 3}, lambda n: neighborhood(n, (4,), (3, 3))),
    case("nat", {"width": 3, "taps": 4}, lambda n: neighborhood(n, (3,), (4, 4))),
    case(
        "dinat", {"width": 4, "taps": 3, "step": 2},
        lambda n: neighborhood(n, (4,), (3, 3), step=2),
        layer=1,
    ),
    case("dinat", {"width": 5, "taps": 3}, lambda n: neighborhood(n, (5,), (3, 3)), layer=2),
    case(
        "natten_3d", {"height": 2, "width": 3, "frames": 2, "rows": 1, "cells": 2},
        lambda n: neighborhood(n, (2, 3), (2, 1, 2)),
    ),
    case("gna", {"width": 5, "taps": 3, "skip": 2}, lambda n: gna(n, 5, 3, 2)),
    case("gna", {"width": 4, "taps": 4, "skip": 3}, lambda n: gna(n, 4, 4, 3)),
    case("gna", {"width": 6, "taps": 3, "skip": 1}, lambda n: neighborhood(n, (6,), (3, 3))),
    case(
        "gna_3d",
        {"height": 3, "width": 3, "frames": 2, "taps": 2, "skip_frames": 2, "skip": 1},
        lambda n: gna_3d(n, 3, 3, (2, 2, 2), (2, 1, 1)),
    ),
    case(
        "gna_3d",
        {"height": 2, "width": 4, "frames": 3, "taps": 3, "skip_frames": 1, "skip": 2},
        lambda n: gna_3d(n, 2, 4, (3, 3, 3), (1, 2, 2)),
    ),
    case(
        "sasa", {"width": 4, "reach": 1},
        lambda n: by_cells(n, (4,), lambda a, b: abs(a[0] - b[0]) <= 1 >= abs(a[1] - b[1])),
    ),
    case("halonet", {"width": 5, "size": 2, "halo": 1}, lambda n: halonet(n, 5, 2, 1)),
    case("halonet", {"width": 3, "size": 1, "halo": 0}, np.eye),
    case(
        "swin", {"width": 6, "size": 3},
        lambda n: tiles(n, 6, min(3, -(-n // 6)), min(3, -(-n // 6))),
    ),
    case(
        "swin", {"width": 6, "size": 3},
        lambda n: tiles(n, 6, 3, 3, 1) if n > 18 else tiles(n, 6, -(-n // 6), -(-n // 6)), layer=1,
    ),
    case("swin_shifted", {"width": 5, "size": 3, "moved": 2}, lambda n: tiles(n, 5, 3, 3, 2)),
    case("axial", {"width": 4}, lambda n: same(n, lambda t: t // 4) | same(n, lambda t: t % 4)),
    case("cswin", {"width": 4, "strip": 2}, lambda n: tiles(n, 4, n, 2), heads=2),
    case("cswin", {"width": 4, "strip": 2}, lambda n: tiles(n, 4, 2, 4), head=1, heads=2),
    case("maxvit", {"width": 6, "size": 2}, lambda n: tiles(n, 6, 2, 2)),
    case("maxvit", {"width": 6, "size": 2}, lambda n: maxvit(n, 6, 2), layer=1),
    case(
        "sliding_tile",
        {"deep": 1, "high": 2, "wide": 3, "size": 2, "frames": 1, "rows": 1, "columns": 3},
        lambda n: sliding_tile(n, 2, 3, 2),
    ),
    case(
        "svg_spatial", {"prompt": 2, "frame": 3, "frames_wide": 1, "size": 2},
        lambda n: band(n, 1, 1) | whole(n, 0, 1),
    ),
    case(
        "svg_temporal", {"prompt": 1, "frames": 2, "frame": 4, "frames_wide": 1},
        lambda n: whole(n, 0) | (abs((query(n) - 1) % 4 - (key(n) - 1) % 4) < 2),
    ),
    # strides
    case("sparse_transformer_strided", {"step": 4}, lambda n: strided(n, 4)),
    case("sparse_transformer_strided", {"step": 1}, lambda n: strided(n, 1)),
    case("sparse_transformer_fixed", {"step": 4, "summary": 2}, lambda n: fixed(n, 4, 2)),
    case("sparse_transformer_fixed", {"step": 3, "summary": 9}, lambda n: fixed(n, 3, 9)),
    case("logsparse", {}, lambda n: np.isin(back(n), [0, 1, 2, 4, 8, 16])),
    case(
        "power_attention", {"size": 2, "recent": 2, "sinks": 1},
        lambda n: causal(n)
        & of_blocks(n, 2, lambda b: np.isin(back(b), [0, 1, 2, 4, 8]) | (key(b) < 1)),
    ),
    case("longnet", {"segment": 2}, lambda n: longnet(n, 2, 0, 4), heads=4),
    case("longnet", {"segment": 3}, lambda n: longnet(n, 3, 3, 4), head=3, heads=4),
    case("longnet", {"segment": 1}, lambda n: longnet(n, 1, 11, 12), head=11, heads=12),
    case(
        "pixelfly", {"size": 2, "wide": 1},
        lambda n: of_blocks(n, 2, lambda b: one_bit(b) | whole(b, 0)),
    ),
    case("radial", {"frames": 4, "frame": 4, "size": 2}, lambda n: radial(n, 4, 4, 2)),
    case("radial", {"frames": 9, "frame": 3, "size": 5}, lambda n: radial(n, 9, 3, 5)),
    case(
        "deepspeed_fixed", {"size": 2, "local": 4, "wide": 1, "kinds": 2},
        lambda n: of_blocks(n, 2, lambda b: deepspeed_fixed(b, 4, 1, 1, False)), head=3,
    ),
    case(
        "deepspeed_fixed", {"size": 1, "local": 4, "wide": 2, "rows": True},
        lambda n: deepspeed_fixed(n, 4, 2, 0, True) if n > 1 else np.ones((1, 1)),
    ),
    # globals
    case("longformer", {"reach": 3}, lambda n: band(n, 3, 3) | whole(n, 0)),
    case(
        "longformer", {"reach": 1, "cls": "[0, -1]"},
        lambda n: band(n, 1, 1) | whole(n, 0, n - 1),
    ),
    case("cls_star", {}, lambda n: np.eye(n, dtype=bool) | whole(n, 0)),
    case(
        "bslongformer", {"size": 2, "hubs": 2},
        lambda n: of_blocks(n, 2, lambda b: band(b, 1, 1) | whole(b, 0, 1)),
    ),
    case("memory_transformer", {"slots": 3}, lambda n: np.ones((n + 3, n + 3))),
    case("memory_bottleneck", {"slots": 2}, lambda n: whole(n + 2, 0, 1)),
    case(
        "star_transformer", {},
        lambda n: with_memory(np.isin((back(n)) % n, [0, 1, n - 1]), 1),
    ),
    case("streaming_llm", {"sinks": 2, "recent": 3}, lambda n: streaming(n, 2, 3)),
    case("streaming_llm", {"sinks": 0, "recent": 1}, np.eye),
    case("a_shape", {"sinks": 3, "recent": 2}, lambda n: streaming(n, 3, 2)),
    case(
        "tri_shape", {"sinks": 1, "recent": 2, "tail": 3},
        lambda n: streaming(n, 1, 2) | (causal(n) & (query(n) >= n - 3)),
    ),
    case("duo_attention", {"dense": 1}, causal),
    case(
        "duo_attention", {"dense": 1, "sinks": 1, "recent": 3},
        lambda n: streaming(n, 1, 3),
        head=1,
    ),
    case(
        "vertical_slash", {"sinks": 1, "recent": 2},
        lambda n: streaming(n, 1, 2)
        | (causal(n) & (np.isin(back(n), [5, 7]) | (key(n) == n // 2))),
        inputs=lambda n: {"vertical": [n // 2], "slash": diagonals(n, 5, 7)},
    ),
    case(
        "gist", {"prompt": 3, "gists": 2},
        lambda n: causal(n) & ~((query(n) >= 5) & (key(n) < 3)),
    ),
    case(
        "bigbird_etc", {"slots": 2, "size": 3},
        lambda n: with_memory(of_blocks(n, 3, lambda b: band(b, 1, 1)), 2),
    ),
    case(
        "etc", {"hubs": 3, "reach": 1},
        lambda n: etc(n, 3, 1, False, False, thirds(n)),
        inputs=lambda n: {"sentence": thirds(n)},
    ),
    case(
        "etc",
        {"hubs": 2, "reach": 2, "hard_down": True},
        lambda n: etc(n, 2, 2, True, False, thirds(n)),
        inputs=lambda n: {"sentence": thirds(n)},
    ),
    case(
        "etc",
        {"hubs": 4, "reach": 0, "hard_up": True},
        lambda n: etc(n, 4, 0, False, True, thirds(n)),
        inputs=lambda n: {"sentence": thirds(n)},
    ),
    case(
        "longt5_tglobal", {"reach": 2, "size": 4},
        lambda n: with_memory(band(n, 2, 2), n // 4, reads=False),
    ),
    *[
        case(
            "longformer_qa",
            {"reach": 1},
            lambda n, q=question: band(n, 1, 1) | whole(n, 0, *(t for t in q if t < n)),
            inputs=lambda n, q=question: {"question": [t for t in q if t < n]},
        )
        for question in ([], [0, 1, 2], [2, 5, 6])
    ],
    # random
    case(
        "deepspeed_variable", {"size": 2, "local": 2},
        lambda n: same(n, lambda t: t // 4) | (key(n) < 2),
    ),
    case(
        "deepspeed_variable", {"size": 1, "local": 3, "rows": True},
        lambda n: same(n, lambda t: t // 3) | whole(n, 0),
    ),
    # data
    case("prefix_lm", {"prefix": 4}, lambda n: causal(n) | (key(n) < 4)),
    case(
        "packing", {},
        lambda n: causal(n) & of_thirds(n),
        inputs=lambda n: {"document": thirds(n)},
    ),
    case(
        "shared_prefix", {"prefix": 3},
        lambda n: causal(n) & ((key(n) < 3) | of_thirds(n)),
        inputs=lambda n: {"response": thirds(n)},
    ),
    case("block_causal", {"size": 3}, lambda n: of_blocks(n, 3, causal)),
    case(
        "dflash", {"context": 5, "size": 3},
        lambda n: dflash(n, 5, 3),
        inputs=lambda n: {"before": [range(min(n, 5, (t - 5) // 3 + 1)) for t in range(n)]},
    ),
    case("block_diffusion", {"size": 3}, lambda n: block_diffusion(n, 3)),
    case("block_diffusion", {"size": 1}, lambda n: block_diffusion(n, 1)),
    case(
        "tree", {"context": 2},
        lambda n: causal(n) & ((key(n) < 2) | listed(parents(n, 2)) | np.eye(n, dtype=bool)),
        inputs=lambda n: {"ancestors": parents(n, 2)},
    ),
    *[
        case(
            "gemma3_vision", {"recent": 2},
            lambda n, keys=keys: (back(n) < (keys or n))
            & (causal(n) | (of_thirds(n) & (query(n) % 4 > 0) & (key(n) % 4 > 0))),
            inputs=lambda n: {"picture": [t for t in range(n) if t % 4], "number": thirds(n)},
            layer=layer,
        )
        for layer, keys in ((4, 2), (5, 0))
    ],
    # stacks
    *[
        case(
            name, {"recent": 3},
            lambda n, dense=layer in full: causal(n) if dense else last(n, 3),
            layer=layer,
            layers=12,
        )
        for name, full in {
            "gemma2": (1, 3, 5, 7, 9, 11), "gemma3": (5, 11), "gpt_oss": (1, 3, 5, 7, 9, 11),
            "gpt_neo": (0, 2, 4, 6, 8, 10), "command_a": (3, 7, 11), "olmo3": (3, 7, 11),
            "exaone4": (3, 7, 11), "yoco": (6, 7, 8, 9, 10, 11), "gemma3n": (4, 9),
            "cwm": (0, 4, 8), "ettin": (0, 3, 6, 9),
        }.items()
        for layer in range(12)
    ],
    *[
        case(
            "mimo_v2_flash", {"back": 2},
            lambda n, dense=layer in (0, 5, 11): causal(n) if dense else last(n, 3),
            layer=layer,
            layers=12,
        )
        for layer in range(12)
    ],
    *[
        case(
            "embedding_gemma", {"reach": 2},
            lambda n, dense=layer in (5, 11): band(n, 2, 2) | dense,
            layer=layer,
            layers=12,
        )
        for layer in range(12)
    ],
    *[
        case(
            "llama4", {"size": 3},
            lambda n, dense=layer == 3: causal(n) & (dense or same(n, lambda t: t // 3)),
            layer=layer,
        )
        for layer in range(5)
    ],
    *[
        case(
            "modernbert", {"reach": 2},
            lambda n, dense=layer % 3 == 0: band(n, 2, 2) | dense,
            layer=layer,
            layers=22,
        )
        for layer in (0, 1, 2, 3, 20, 21)
    ],
    *[
        case(
            "hymba", {"slots": 2, "recent": 3},
            lambda n, dense=layer in (0, 15, 31): causal(n + 2)
            & (last(n + 2, 3) | (key(n + 2) < 2) | dense),
            layer=layer, layers=32,
        )
        for layer in (0, 1, 14, 15, 16, 30, 31)
    ],
    *[
        case(
            "pegasus_x", {"size": 4, "slots": 2},
            lambda n, half=2 * (layer % 2): with_memory(same(n, lambda t: (t + half) // 4), 2),
            layer=layer,
        )
        for layer in range(2)
    ],
    *[
        case(
            "vitdet", {"width": 4, "size": 2},
            lambda n, dense=layer % 3 == 2: tiles(n, 4, 2, 2) | dense,
            layer=layer,
        )
        for layer in range(6)
    ],
    *[
        case("timesformer", {"frame": 3}, lambda n, d=label: same(n, d), layer=layer)
        for layer, label in enumerate((lambda t: t % 3, lambda t: t // 3))
    ],
    *[
        case(
            "butterfly",
            {},
            lambda n, digit=layer: (back(n) == 0)
            | ((query(n) ^ key(n)) == 1 << digit % max(1, (n - 1).bit_length())),
            layer=layer,
        )
        for layer in range(6)
    ],
    *[
        case(
            "phi3_small", {"size": 2, "recent": 2, "period": 4},
            lambda n, h=head: causal(n)
            & of_blocks(n, 2, lambda b: last(b, 2) | ((key(b) + 2 * h + 1) % 4 == 0)),
            head=head, heads=2,
        )
        for head in range(2)
    ],
    case("phi3_small", {"size": 2, "recent": 1}, causal, layer=1),
    *[
        case(
            "longformer_lm", {"lowest": 2, "highest": 11},
            lambda n, keys=keys: last(n, 1 + keys),
            layer=layer, layers=4,
        )
        for layer, keys in enumerate((2, 5, 8, 11))
    ],
]  # fmt: skip


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


@pytest.mark.parametrize("one", CASES, ids=[f"{c.name}-{i}" for i, c in enumerate(CASES)])
def test_pattern_is_what_the_paper_says(one: Case) -> None:
    for n in (1, 2, 3, 5, 8, 17, 25, 32):
        found = one.found(n)
        wanted = np.broadcast_to(one.definition(n), found.shape).astype(bool)
        assert np.array_equal(found, wanted), f"n = {n}"


def test_every_pattern_without_random_links_is_in_the_table() -> None:
    drawn = {"bigbird", "random_links", "exphormer"}
    assert {one.name for one in CASES} == set(NAMES) - drawn


def test_memory_stands_in_front_of_the_tokens() -> None:
    for name in ("memory_transformer", "memory_bottleneck", "hymba", "pegasus_x", "bigbird_etc"):
        bound = attnloom.load(name, slots=3).bind(5)
        assert (bound.memory, bound.tokens) == (3, 5)


# --- patterns with random links ------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 8, 24, 39, 40])
@pytest.mark.parametrize("head", [0, 1])
def test_bigbird_adds_random_blocks_that_are_not_read_anyway(n: int, head: int) -> None:
    size, picks = 4, 2
    blocks = -(-n // size)
    pattern = attnloom.load("bigbird", size=size, picks=picks)
    token_mask = pattern.mask(n, head=head, heads=2)
    found = token_mask[::size, ::size]
    assert np.array_equal(token_mask, of_blocks(n, size, lambda _: found))
    extra_of(found, band(blocks, 1, 1) | whole(blocks, 0, blocks - 1), picks)


@pytest.mark.parametrize("n", [1, 7, 40])
def test_random_links_are_so_many_besides_the_token_itself(n: int) -> None:
    for picks in (0, 3, 9):
        extra_of(attnloom.load("random_links", picks=picks).mask(n), np.eye(n, dtype=bool), picks)


@pytest.mark.parametrize("n", [1, 7, 40])
def test_bigbird_etc_draws_blocks_outside_of_the_window(n: int) -> None:
    found = attnloom.load("bigbird_etc", slots=2, size=3, picks=2).mask(n)[2:, 2:][::3, ::3]
    extra_of(found, band(len(found), 1, 1), 2)


def test_deepspeed_variable_draws_the_same_blocks_for_all_heads() -> None:
    pattern = attnloom.load("deepspeed_variable", size=1, local=1, picks=3)
    masks = [pattern.mask(32, head=head, heads=2) for head in (0, 1)]
    assert np.array_equal(*masks)
    assert (masks[0].sum(1) >= 3).all()
    assert (masks[0].sum(1) <= 5).all()


def test_exphormer_joins_the_graph_an_expander_and_virtual_nodes() -> None:
    graph = diagonals(30, 3)
    pattern = attnloom.load("exphormer", rings=2, hubs=1)
    found = pattern.mask(30, inputs={"graph": graph})
    alone = pattern.mask(30, inputs={"graph": [[]] * 30})
    assert np.array_equal(found[1:, 1:], alone[1:, 1:] | listed(graph))
    assert np.array_equal(alone, alone.T)
    assert alone[0].all()
    degrees = (alone[1:, 1:] & ~np.eye(30, dtype=bool)).sum(1)
    assert degrees.min() >= 2
    assert degrees.max() <= 4


def extra_of(found: Mask, fixed_part: Mask, picks: int) -> None:
    """Beside its fixed part every row has so many links, or all that are left."""
    assert not (fixed_part & ~found).any()
    extra = (found & ~fixed_part).sum(1)
    assert np.array_equal(extra, np.minimum(picks, (~fixed_part).sum(1)))


@pytest.mark.parametrize("name", ["bigbird", "random_links"])
def test_links_are_drawn_anew_for_each_head_and_seed(name: str) -> None:
    size = {"size": 1} if name == "bigbird" else {}
    masks = [attnloom.load(name, **size).mask(64, head=h, heads=2) for h in (0, 1)]
    masks.append(attnloom.load(name, seed=1, **size).mask(64, head=0, heads=2))
    assert len({mask.tobytes() for mask in masks}) == 3

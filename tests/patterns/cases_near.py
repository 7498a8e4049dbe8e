"""Patterns of windows, chunks and grids."""

from __future__ import annotations

import numpy as np
from pattern_case import case
from pattern_masks import (
    back,
    band,
    by_cells,
    causal,
    key,
    last,
    neighborhood,
    of_blocks,
    query,
    same,
    tiles,
    whole,
)
from pattern_papers import gna, gna_3d, halonet, maxvit, sliding_tile

# Sizes are small enough for every part of a pattern to be met.
NEAR = [
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
]  # fmt: skip

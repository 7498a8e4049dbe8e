"""Patterns of strides, global tokens and what the data say."""

from __future__ import annotations

import numpy as np
from pattern_case import case
from pattern_masks import (
    back,
    band,
    causal,
    diagonals,
    key,
    listed,
    of_blocks,
    of_thirds,
    parents,
    query,
    same,
    thirds,
    whole,
    with_memory,
)
from pattern_papers import (
    block_diffusion,
    deepspeed_fixed,
    dflash,
    etc,
    fixed,
    longnet,
    one_bit,
    radial,
    streaming,
    strided,
)

# Sizes are small enough for every part of a pattern to be met.
FAR = [
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
]  # fmt: skip

"""Patterns that differ from layer to layer."""

from __future__ import annotations

from pattern_case import case
from pattern_masks import back, band, causal, key, last, of_blocks, query, same, tiles, with_memory

# Sizes are small enough for every part of a pattern to be met.
STACKS = [
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

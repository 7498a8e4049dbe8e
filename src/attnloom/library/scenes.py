"""Where each bundled pattern is looked at: in full for its analysis, and small for its picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import attnloom
from attnloom import Pattern

Given = Callable[[int], Any]
"""A run-time input for a length."""


@dataclass(frozen=True)
class Scene:
    """A length, a number of heads and layers, values for parameters, and run-time inputs.

    Without a number of layers the pattern is repeated as often as is needed.
    """

    n: int
    heads: int = 1
    layers: int | None = None
    params: Mapping[str, int] = field(default_factory=dict)
    given: Mapping[str, Given] = field(default_factory=dict)

    @property
    def inputs(self) -> dict[str, Any]:
        return {name: value(self.n) for name, value in self.given.items()}

    def pattern(self, name: str) -> Pattern:
        return attnloom.load(name, **self.params)

    def words(self) -> str:
        """The scene as a caption says it.

        >>> Scene(4096, heads=2, params={"reach": 3}).words()
        '4,096 tokens, 2 heads, reach = 3'
        """
        parts = [f"{self.n:,} tokens"]
        parts += [f"{self.heads} heads"] if self.heads > 1 else []
        parts += [f"{self.layers} layers"] if self.layers is not None else []
        parts += [f"{name} = {value:,}" for name, value in self.params.items()]
        return ", ".join(parts)

    def options(self) -> str:
        """The scene as options of the command line.

        >>> Scene(4096, layers=26, params={"recent": 512}).options()
        '-n 4096 --layers 26 --set recent=512'
        """
        words = [f"-n {self.n}"]
        words += [f"--heads {self.heads}"] if self.heads > 1 else []
        words += [f"--layers {self.layers}"] if self.layers is not None else []
        words += [f"--set {name}={value}" for name, value in self.params.items()]
        return " ".join(words)


@dataclass(frozen=True)
class Scenes:
    """The two scenes of a pattern; `given` says in words what its run-time inputs are."""

    full: Scene
    small: Scene
    given: str = ""


def scenes(name: str) -> Scenes:
    """Where a bundled pattern is looked at.

    >>> scenes("mistral").full.words(), scenes("mistral").small.words()
    ('16,384 tokens', '32 tokens, recent = 8')
    """
    return _SCENES[name]


USUAL = 16384
"""The length at which most patterns are analysed, long enough for windows of 4096."""


def _segments(*shares: float) -> Given:
    """Segments that end after these shares of the tokens, numbered from 0."""
    return lambda n: [sum(t >= share * n for share in shares) for t in range(n)]


def _tokens(*shares: tuple[float, float]) -> Given:
    return lambda n: [t for a, b in shares for t in range(int(a * n), int(b * n))]


def _diagonals(*shares: float) -> Given:
    """Links to the keys that are so far back."""
    return lambda n: [[i - int(one * n) for one in shares if i >= int(one * n)] for i in range(n)]


def _tree(context: int) -> Given:
    """The ancestors of each node of a binary tree behind the context."""

    def ancestors(n: int) -> list[list[int]]:
        found: list[list[int]] = []
        for t in range(n):
            parent = context + (t - context - 1) // 2
            found.append([*found[parent], parent] if t > context else [])
        return found

    return ancestors


def _anchors(context: int, size: int) -> Given:
    """The text before each block's anchor; the anchors are spread evenly over the text."""

    def before(n: int) -> list[range]:
        blocks = -(-(n - context) // size)
        ends = [(t - context) // size + 1 for t in range(context, n)]
        return [range(0)] * context + [range(context * end // blocks) for end in ends]

    return before


def _binary(n: int) -> list[list[int]]:
    """The neighbours of each node in a binary tree."""
    return [
        [one for one in ({(t - 1) // 2} if t else set()) | {2 * t + 1, 2 * t + 2} if one < n]
        for t in range(n)
    ]


def _of(
    small: int,
    full: int = USUAL,
    *,
    heads: int = 1,
    layers: int | None = None,
    few: int = 1,
    first: int | None = None,
    published: Mapping[str, int] | None = None,
    given: Mapping[str, Given] | None = None,
    said: str = "",
    **params: int,
) -> Scenes:
    """Scenes at two lengths.

    Args:
        small: tokens of the picture, for which `params` are.
        full: tokens of the analysis, with the published values, or `published` instead.
        heads: how many in the analysis; `few` in the picture.
        layers: how many in the analysis; `first` in the picture.
        few: see `heads`.
        first: see `layers`.
        published: see `full`.
        given: the run-time inputs, in both.
        said: what the inputs are, in words.
        params: see `small`.
    """
    inputs = given or {}
    return Scenes(
        Scene(full, heads, layers, published or {}, inputs),
        Scene(small, few, first, params, inputs),
        said,
    )


_GRID = 56 * 56
_PICTURES = ((0.1, 0.1 + 1 / 4), (0.6, 0.6 + 1 / 4))

_SCENES = {
    # dense
    "bert": _of(32, 512),
    "decoder": _of(32),
    # windows
    "alibi": _of(32, heads=8, few=8, bias=1),
    "local": _of(32, reach=4),
    "longformer_dilated": _of(32, 4096, heads=12, few=2, back=6, dilated=1),
    "mistral": _of(32, recent=8),
    "natten_1d": _of(32, 4096, taps=7),
    # chunks
    "blockbert": _of(32, 512, heads=12, few=3, parts=3, own=1, each=1),
    "llama4_chunked": _of(32, size=12),
    "transformer_xl": _of(32, segment=6),
    # grids
    "axial": _of(36, 4096, width=6),
    "cswin": _of(36, _GRID, heads=2, few=2, width=6, strip=2),
    "dinat": _of(
        64, 28 * 28, layers=6, first=2, published={"width": 28, "step": 4},
        width=8, taps=3, step=2,
    ),
    "gna": _of(
        64, 4096, published={"width": 64, "taps": 20, "skip": 4}, width=8, taps=4, skip=2
    ),
    "gna_3d": _of(
        64, 4096,
        published={"height": 16, "width": 16, "frames": 9, "taps": 8, "skip_frames": 8, "skip": 4},
        height=4, width=4, frames=3, taps=3, skip_frames=2, skip=2,
    ),
    "halonet": _of(64, _GRID, width=8, size=4, halo=1),
    "maxvit": _of(36, _GRID, layers=2, first=2, width=6, size=2),
    "nat": _of(64, _GRID, width=8, taps=3),
    "natten_3d": _of(
        64, 4096,
        published={"height": 16, "width": 16, "frames": 9, "rows": 8, "cells": 8},
        height=4, width=4, frames=3, rows=3, cells=3,
    ),
    "sasa": _of(64, _GRID, width=8, reach=1),
    "sliding_tile": _of(
        62, 115_200 + 256, deep=2, high=3, wide=5, size=2, frames=2, rows=3, columns=3
    ),
    "svg_spatial": _of(52, 17_776, prompt=4, frame=12, frames_wide=1, size=2),
    "svg_temporal": _of(
        52, 4000, published={"prompt": 100, "frame": 300},
        prompt=4, frames=4, frame=12, frames_wide=1,
    ),
    "swin": _of(36, _GRID, layers=4, first=2, width=6, size=3),
    "swin_shifted": _of(36, _GRID, width=6, size=3, moved=1),
    # strides
    "deepspeed_fixed": _of(32, heads=4, few=2, size=1, local=4, kinds=2),
    "logsparse": _of(32),
    "longnet": _of(48, 1024, heads=4, few=2, published={"segment": 32}, segment=3),
    "pixelfly": _of(32, 4096, size=2),
    "power_attention": _of(64, size=2, recent=3),
    "radial": _of(
        66, 512 + 32, published={"frames": 8, "frame": 64, "size": 8}, frames=8, frame=8, size=2
    ),
    "sparse_transformer_fixed": _of(32, step=8, summary=2),
    "sparse_transformer_strided": _of(32, step=6),
    # globals
    "a_shape": _of(32, sinks=3, recent=8),
    "bigbird_etc": _of(32, slots=2, size=2, picks=1),
    "bslongformer": _of(32, size=2),
    "cls_star": _of(32, 512),
    "duo_attention": _of(32, heads=32, few=2, dense=1, sinks=2, recent=6),
    "etc": _of(
        32, hubs=4, reach=2, given={"sentence": _segments(0.25, 0.5, 0.75)},
        said="`sentence`: four sentences of the same length",
    ),
    "gist": _of(32, prompt=10, gists=2),
    "longformer": _of(32, reach=3),
    "longformer_qa": _of(
        32, reach=3, given={"question": lambda n: range(1, 5)}, said="`question`: tokens 1 to 4"
    ),
    "longt5_tglobal": _of(32, reach=3, size=8),
    "memory_bottleneck": _of(32, slots=4),
    "memory_transformer": _of(32, slots=4),
    "star_transformer": _of(32),
    "streaming_llm": _of(32, sinks=2, recent=6),
    "tri_shape": _of(32, sinks=3, recent=8, tail=4),
    "vertical_slash": _of(
        32, 4096, sinks=2, recent=3,
        given={"vertical": lambda n: [n // 3, n // 2], "slash": _diagonals(0.25, 0.4)},
        said="`vertical`: the tokens at a third and at half of the text; `slash`: a quarter and "
        "two fifths of the length back",
    ),
    # random
    "bigbird": _of(32, 4096, heads=2, few=2, size=2, picks=2),
    "deepspeed_variable": _of(32, size=2, local=2),
    "exphormer": _of(
        32, 4096, rings=1, given={"graph": _binary}, said="`graph`: a binary tree"
    ),
    "random_links": _of(32, 4096, heads=2, few=2, picks=3),
    # data
    "block_causal": _of(32, published={"size": 1560}, size=6),
    "block_diffusion": _of(32, 2048, size=4),
    "dflash": Scenes(
        Scene(1024 + 512, given={"before": _anchors(1024, 16)}),
        Scene(16 + 16, params={"context": 16, "size": 4}, given={"before": _anchors(16, 4)}),
        "`before`: the text up to anchors at equal distances",
    ),
    "gemma3_vision": _of(
        32, 4096, layers=34, first=6, recent=6,
        given={"picture": _tokens(*_PICTURES), "number": _segments(0.5)},
        said="`picture`: two spans of a quarter of the text each, `number`ed by its halves",
    ),
    "packing": _of(
        32, given={"document": _segments(0.25, 0.35, 0.75)},
        said="`document`: four documents, which end after 25, 35, 75 and 100 % of the tokens",
    ),
    "prefix_lm": _of(32, prefix=10),
    "shared_prefix": _of(
        32, prefix=8, given={"response": _segments(0.25, 0.5, 0.75)},
        said="`response`: the prefix and three responses, a quarter of the tokens each",
    ),
    "tree": Scenes(
        Scene(256 + 63, given={"ancestors": _tree(256)}),
        Scene(10 + 22, params={"context": 10}, given={"ancestors": _tree(10)}),
        "`ancestors`: of a binary tree that follows the context",
    ),
    # stacks
    "butterfly": _of(32, 1024, layers=10, first=5),
    "command_a": _of(32, layers=64, first=4, recent=8),
    "cwm": _of(32, layers=64, first=4, recent=8),
    "embedding_gemma": _of(32, 2048, layers=24, first=6, reach=4),
    "ettin": _of(32, layers=22, first=3, recent=8),
    "exaone4": _of(32, layers=64, first=4, recent=8),
    "gemma2": _of(32, layers=26, first=2, recent=8),
    "gemma3": _of(32, layers=26, first=6, recent=8),
    "gemma3n": _of(32, layers=35, first=5, recent=8),
    "gpt_neo": _of(32, layers=24, first=2, recent=8),
    "gpt_oss": _of(32, layers=24, first=2, recent=8),
    "hymba": _of(32, layers=32, first=5, slots=3, recent=8),
    "llama4": _of(32, layers=48, first=4, size=10),
    "longformer_lm": _of(32, layers=12, first=4, lowest=2, highest=14),
    "mimo_v2_flash": _of(32, layers=48, first=6, back=7),
    "modernbert": _of(32, layers=22, first=3, reach=3),
    "olmo3": _of(32, layers=32, first=4, recent=8),
    "pegasus_x": _of(32, 4096, layers=16, first=2, size=8, slots=2),
    "phi3_small": _of(32, heads=32, few=2, layers=32, first=2, size=2, recent=3, period=4),
    "timesformer": _of(32, 8 * 196, layers=2, first=2, frame=8),
    "vitdet": _of(64, 4096, layers=12, first=3, width=8, size=3),
    "yoco": _of(32, layers=24, first=4, recent=8),
}  # fmt: skip

"""attention-gym's masks (meta-pytorch): every one that is a pattern of ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from oracle_helpers import mask_mod, mask_of, needed

import attnloom

GYM = "attn-gym"


def gym() -> Any:
    needed("attn_gym", GYM)
    return needed("attn_gym.masks", GYM)


@pytest.mark.parametrize("n", [1, 9, 32])
def test_causal(against: Any, n: int) -> None:
    against(GYM).masks("causal", mask_of("decoder", n), mask_mod(gym().causal_mask, n))


@pytest.mark.parametrize("window", [0, 1, 5, 40])
def test_sliding_window_has_one_key_more_than_its_number(against: Any, window: int) -> None:
    """`window_size=w` is a distance: w keys behind the token, and itself."""
    for n in (1, 9, 32):
        theirs = mask_mod(gym().generate_sliding_window(window), n)
        ours = attnloom.parse("pattern p(w: int) { window(last=w + 1) }", w=window).mask(n)
        against(GYM).masks("sliding window", ours, theirs)
        if window:
            ours = mask_of("mistral", n, recent=window + 1)
            against(GYM).masks("sliding window", ours, theirs)


@pytest.mark.parametrize(("window", "step"), [(4, 2), (6, 3), (7, 2), (5, 1), (3, 8)])
def test_dilated_window_counts_its_number_before_the_steps(
    against: Any, window: int, step: int
) -> None:
    """The number is a distance in tokens, where Longformer's is one of steps: w // step of them."""
    pattern = attnloom.parse(
        "pattern p(w: int, s: int) { window(each_side=w // s, dilation=s) }", w=window, s=step
    )
    for n in (1, 9, 32):
        theirs = mask_mod(gym().generate_dilated_sliding_window(window, step), n)
        against(GYM).masks("dilated window", pattern.mask(n), theirs)
        behind = mask_of("longformer_dilated", n, back=window // step, step=step)
        against(GYM).masks("dilated window", behind, theirs & np.tri(n, dtype=bool))


@pytest.mark.parametrize("reach", [1, 3, 12])
@pytest.mark.parametrize("hubs", [[], [0], [0, 8], [3, 4, 15]])
def test_global_sliding_window_is_longformer(against: Any, reach: int, hubs: list[int]) -> None:
    n = 16
    is_global = torch.zeros(n, dtype=torch.bool)
    is_global[hubs] = True
    theirs = mask_mod(gym().generate_global_sliding_window(reach, is_global), n)
    ours = mask_of("longformer", n, reach=reach, cls=str(hubs))
    against(GYM).masks("global sliding window", ours, theirs)
    if 0 in hubs:
        ours = mask_of("longformer_qa", n, reach=reach, inputs={"question": hubs})
        against(GYM).masks("global sliding window", ours, theirs)


@pytest.mark.parametrize("prefix", [0, 1, 7, 16])
def test_prefix_lm(against: Any, prefix: int) -> None:
    theirs = mask_mod(gym().generate_prefix_lm_mask(prefix), 16)
    against(GYM).masks("prefix LM", mask_of("prefix_lm", 16, prefix=prefix), theirs)


@pytest.mark.parametrize("lengths", [(16,), (5, 11), (1, 7, 8), (3, 3, 3, 3, 4)])
def test_packed_documents(against: Any, lengths: tuple[int, ...]) -> None:
    offsets = torch.tensor([0, *np.cumsum(lengths)])
    document = [number for number, length in enumerate(lengths) for _ in range(length)]
    ours = mask_of("packing", 16, inputs={"document": document})
    for theirs in (
        gym().generate_doc_mask_mod(gym().causal_mask, offsets),
        gym().generate_packed_causal_doc_mask_mod(offsets),
    ):
        against(GYM).masks("packed documents", ours, mask_mod(theirs, 16))


@pytest.mark.parametrize("lengths", [(6, 4, 6), (1, 15), (4, 3, 3, 3, 3), (16,)])
def test_shared_prefix(against: Any, lengths: tuple[int, ...]) -> None:
    """All answers share the first document."""
    offsets = torch.tensor([0, *np.cumsum(lengths)])
    shared = torch.zeros(len(lengths), dtype=torch.long)
    theirs = mask_mod(gym().generate_shared_prefix_mask_mod(offsets, shared), 16)
    response = [number for number, length in enumerate(lengths) for _ in range(length)]
    ours = mask_of("shared_prefix", 16, prefix=lengths[0], inputs={"response": response})
    against(GYM).masks("shared prefix", ours, theirs)


@pytest.mark.parametrize(("half", "size"), [(8, 4), (12, 3), (10, 4), (5, 1), (6, 6), (7, 9)])
def test_block_diffusion(against: Any, half: int, size: int) -> None:
    theirs = mask_mod(gym().generate_block_diffusion_mask(half, size), 2 * half)
    ours = mask_of("block_diffusion", 2 * half, size=size)
    against(GYM).masks("block diffusion", ours, theirs)


@pytest.mark.parametrize(("side", "taps"), [(6, 3), (7, 5), (8, 7), (5, 5), (4, 1), (9, 3)])
def test_natten(against: Any, side: int, taps: int) -> None:
    """Square pictures and odd windows, for which this mask is NATTEN's."""
    theirs = mask_mod(gym().generate_natten(side, side, taps, taps), side**2)
    ours = mask_of("nat", side**2, width=side, taps=taps)
    against(GYM).masks("NATTEN, 2-D", ours, theirs)


STA_2D = [
    # canvas and kernel in tiles (height, width), tile, text
    ((4, 5), (3, 3), (2, 2), 0),
    ((3, 6), (1, 3), (2, 3), 4),
    ((5, 5), (5, 3), (1, 2), 3),
    ((4, 6), (2, 4), (2, 1), 5),
]
STA_3D = [
    ((3, 3, 4), (3, 3, 3), (1, 2, 2), 0),
    ((4, 2, 3), (3, 1, 3), (2, 1, 2), 5),
    ((2, 3, 3), (1, 3, 1), (1, 1, 3), 2),
    ((4, 4, 4), (2, 3, 4), (1, 2, 1), 3),
]


@pytest.mark.parametrize(("canvas", "kernel", "tile", "text"), STA_2D + STA_3D)
def test_sliding_tile(
    against: Any,
    canvas: tuple[int, ...],
    kernel: tuple[int, ...],
    tile: tuple[int, ...],
    text: int,
) -> None:
    def in_cells(tiles: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(count * side for count, side in zip(tiles, tile, strict=True))

    cells = int(np.prod(tile))
    n = int(np.prod(canvas)) * cells + text
    generate = getattr(gym(), f"generate_sta_mask_mod_{len(canvas)}d")
    theirs = mask_mod(generate(in_cells(canvas), in_cells(kernel), tile, text), n)
    deep, high, wide = (1, *canvas)[-3:]
    frames, rows, columns = (1, *kernel)[-3:]
    ours = mask_of(
        "sliding_tile", n, deep=deep, high=high, wide=wide, size=cells, frames=frames, rows=rows,
        columns=columns,
    )  # fmt: skip
    against(GYM).masks(f"sliding tile attention, {len(canvas)}-D", ours, theirs)


@pytest.mark.parametrize(
    ("prompt", "frames", "frame", "wide"), [(2, 4, 8, 1), (3, 5, 6, 2), (1, 3, 5, 3)]
)
def test_sparse_videogen(against: Any, prompt: int, frames: int, frame: int, wide: int) -> None:
    n = prompt + frames * frame
    for size in (1, 4, 16):
        theirs = gym().generate_spatial_head_mask_mod(prompt, frames, frame, wide, False, size)
        ours = mask_of("svg_spatial", n, prompt=prompt, frame=frame, frames_wide=wide, size=size)
        against(GYM).masks("Sparse VideoGen, spatial heads", ours, mask_mod(theirs, n))
    theirs = gym().generate_temporal_head_mask_mod(prompt, frames, frame, wide)
    ours = mask_of("svg_temporal", n, prompt=prompt, frames=frames, frame=frame, frames_wide=wide)
    against(GYM).masks("Sparse VideoGen, temporal heads", ours, mask_mod(theirs, n))


@pytest.mark.parametrize("context", [0, 1, 6])
@pytest.mark.parametrize("parents", [[-1, 0, 1, 1, 3, 3, 0], [-1], [-1, 0, 1, 2], [-1, 0, 0, 0]])
def test_tree(against: Any, context: int, parents: list[int]) -> None:
    """The rows of a tree; the text before it is causal."""
    jetspec = needed("attn_gym.masks.jetspec", GYM)
    ancestors = jetspec.build_tree_ancestor_matrix(parents, device="cpu")
    rows = jetspec.generate_jetspec_tree_causal_mask_mod(context, ancestors)
    n = context + len(parents)
    theirs = np.tri(n, dtype=bool)
    theirs[context:] = mask_mod(rows, len(parents), n)
    links: list[list[int]] = [[] for _ in range(n)]
    for node in range(len(parents)):
        found = np.flatnonzero(ancestors[node].numpy())
        links[context + node] = [context + int(key) for key in found if key != node]
    ours = mask_of("tree", n, context=context, inputs={"ancestors": links})
    against(GYM).masks("tree", ours, theirs)


def test_selected_tiles_are_links_over_blocks(against: Any) -> None:
    """Video sparse attention chooses tiles from the data: links, as for any such pattern."""
    size, tiles, most = 3, 6, 2
    chosen = torch.randperm(tiles * tiles, generator=torch.Generator().manual_seed(0))
    picks = chosen.view(tiles, tiles).argsort(-1)[:, :most]
    theirs = mask_mod(gym().generate_vsa_mask_mod(picks[None, None], size), size * tiles)
    links = [
        [int(tile) * size + offset for tile in picks[i // size] for offset in range(size)]
        for i in range(size * tiles)
    ]
    ours = attnloom.parse("pattern p { input picks: links\n links(picks) }").mask(
        size * tiles, inputs={"picks": links}
    )
    against(GYM).masks("video sparse attention, given its choice", ours, theirs)

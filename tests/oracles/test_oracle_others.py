"""DeepSpeed's block layouts, and small attention packages, from their outputs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle_helpers import Mask, attend, mask_of, needed, randomize, states

import attnloom

# --- DeepSpeed -----------------------------------------------------------------------------------


def deepspeed() -> Any:
    """DeepSpeed's module of layouts alone: importing the package would start its runtime."""
    found = importlib.util.find_spec("deepspeed")
    if found is None:
        pytest.skip("deepspeed is not installed; see docs/library.md")
    (folder,) = found.submodule_search_locations or ()
    path = Path(folder) / "ops" / "sparse_attention" / "sparsity_config.py"
    if not path.exists():
        pytest.skip("this DeepSpeed has no sparse attention; 0.18.3 has")
    name = "deepspeed_sparsity_config"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def tokens_of(layout: torch.Tensor, size: int) -> Mask:
    return np.asarray(layout.numpy() > 0).repeat(size, 0).repeat(size, 1)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("blocks", [3, 6, 9])
@pytest.mark.parametrize(("window", "hubs"), [(3, 1), (1, 2), (3, 3)])
def test_deepspeed_bslongformer(
    against: Any, size: int, blocks: int, window: int, hubs: int
) -> None:
    """A window of an even number of blocks is that of the next odd one."""
    config = deepspeed().BSLongformerSparsityConfig(
        num_heads=1, block=size, num_sliding_window_blocks=window,
        global_block_indices=list(range(hubs)),
    )  # fmt: skip
    n = size * blocks
    theirs = tokens_of(config.make_layout(n)[0], size)
    ours = mask_of("bslongformer", n, size=size, reach=window // 2, hubs=hubs)
    against("deepspeed").masks("BSLongformer", ours, theirs)


@pytest.mark.parametrize("blocks", [3, 4, 7, 8, 11])
@pytest.mark.parametrize(
    ("local", "wide", "kinds"), [(4, 1, 1), (4, 1, 4), (4, 2, 2), (2, 1, 2), (3, 3, 1)]
)
@pytest.mark.parametrize("rows", [False, True])
def test_deepspeed_fixed(
    against: Any, blocks: int, local: int, wide: int, kinds: int, rows: bool
) -> None:
    heads, size = 5, 2
    config = deepspeed().FixedSparsityConfig(
        num_heads=heads, block=size, different_layout_per_head=True, num_local_blocks=local,
        num_global_blocks=wide, horizontal_global_attention=rows,
        num_different_global_patterns=kinds,
    )  # fmt: skip
    layout = config.make_layout(size * blocks)
    for head in range(heads):
        ours = mask_of(
            "deepspeed_fixed", size * blocks, size=size, local=local, wide=wide, kinds=kinds,
            rows=rows, head=head, heads=heads,
        )  # fmt: skip
        against("deepspeed").masks("Fixed", ours, tokens_of(layout[head], size))


@pytest.mark.parametrize("blocks", [2, 5, 8])
@pytest.mark.parametrize(("local", "hubs"), [(4, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("rows", [False, True])
def test_deepspeed_variable(against: Any, blocks: int, local: int, hubs: int, rows: bool) -> None:
    """Without random blocks: DeepSpeed draws them with Python's global generator."""
    config = deepspeed().VariableSparsityConfig(
        num_heads=1, block=2, local_window_blocks=[local], global_block_indices=list(range(hubs)),
        horizontal_global_attention=rows,
    )  # fmt: skip
    theirs = tokens_of(config.make_layout(2 * blocks)[0], 2)
    ours = mask_of("deepspeed_variable", 2 * blocks, size=2, local=local, hubs=hubs, rows=rows)
    against("deepspeed").masks("Variable", ours, theirs)


# --- outputs of small packages -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "past", "n"), [(4, 1, 16), (4, 2, 24), (3, 0, 12), (8, 1, 64), (2, 3, 10)]
)
def test_local_attention_with_looking_back_is_transformer_xl(
    against: Any, window: int, past: int, n: int
) -> None:
    package = needed("local_attention", "local-attention")
    layer = package.LocalAttention(
        window_size=window, causal=True, look_backward=past, look_forward=0, dropout=0.0,
        use_rotary_pos_emb=False,
    )  # fmt: skip
    parts = [states(1, 2, n, 8, seed=seed) for seed in range(3)]
    ours = attend(*parts, attnloom.load("transformer_xl", segment=window, past=past or 1))
    if not past:
        ours = attend(*parts, attnloom.load("llama4_chunked", size=window))
    against("local-attention").outputs("causal, with segments before", ours, layer(*parts), 1e-12)


@pytest.mark.parametrize(("window", "n"), [(4, 16), (3, 12), (8, 64)])
def test_local_attention_with_an_exact_window_has_one_key_more(
    against: Any, window: int, n: int
) -> None:
    """`exact_windowsize` is a distance: `window_size` keys behind the token, and itself."""
    package = needed("local_attention", "local-attention")
    layer = package.LocalAttention(
        window_size=window, causal=True, look_backward=1, dropout=0.0, exact_windowsize=True,
        use_rotary_pos_emb=False,
    )  # fmt: skip
    parts = [states(1, 2, n, 8, seed=seed) for seed in range(3)]
    ours = attend(*parts, attnloom.load("mistral", recent=window + 1))
    against("local-attention").outputs("causal, exact window", ours, layer(*parts), 1e-12)


@pytest.mark.parametrize(
    ("height", "width", "size", "halo"), [(8, 8, 4, 2), (6, 9, 3, 1), (4, 8, 4, 3), (6, 6, 2, 1)]
)
def test_halonet_layer(against: Any, height: int, width: int, size: int, halo: int) -> None:
    """The package masks what the halo has beyond the border; relative positions are set to 0."""
    package = needed("halonet_pytorch", "halonet-pytorch")
    layer: Any = randomize(
        package.HaloAttention(dim=12, block_size=size, halo_size=halo, dim_head=8, heads=2)
    )
    for positions in layer.rel_pos_emb.parameters():
        positions.zero_()
    image = states(1, 12, height, width)
    theirs = layer(image).flatten(2).transpose(1, 2)
    tokens = image.flatten(2).transpose(1, 2)
    query, (key, value) = layer.to_q(tokens), layer.to_kv(tokens).chunk(2, dim=-1)
    parts = [part.view(1, -1, 2, 8).transpose(1, 2) for part in (query, key, value)]
    pattern = attnloom.load("halonet", width=width, size=size, halo=halo)
    ours = layer.to_out(attend(*parts, pattern).transpose(1, 2).flatten(2))
    against("halonet-pytorch").outputs("HaloAttention", ours, theirs, 1e-12)

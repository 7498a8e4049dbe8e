"""Whole attention layers of Transformers: outputs from their weights, computed by our plans.

All in float64; where a layer takes its softmax in float32, that is how far outputs agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from oracle_helpers import (
    attend,
    heads_of,
    joined,
    mask_of,
    needed,
    randomize,
    softmax_over,
    states,
)

import attnloom

FLOAT32 = 1e-5
"""Outputs are up to about 10: a few units in the last place of float32."""

FLOAT64 = 1e-12

OUTSIDE = attnloom.parse(
    """use longformer
    pattern p(reach: int) {
        input hubs: tokens
        input valid: tokens
        longformer(reach=reach, cls=hubs) & broadcast(valid) & collect(valid)
    }
    """,
    name="p.attn",
    reach=2,
)
"""Longformer among the tokens that are not padding."""


# --- Longformer ----------------------------------------------------------------------------------

LONGFORMER_SETTINGS: list[tuple[int, int, Sequence[int], int]] = [
    # window (both sides; 2 fails in Transformers), length, global tokens, padded ones at the end
    (4, 16, [], 0),
    (4, 16, [0], 0),
    (4, 32, [0, 7, 8], 0),
    (8, 24, [0, 23], 0),
    (10, 20, [1, 2, 3, 4], 0),
    (6, 24, [0, 5], 5),
    (4, 16, [0], 15),
    (16, 48, [0, 1, 20], 9),
]


@pytest.mark.parametrize(("window", "n", "hubs", "padded"), LONGFORMER_SETTINGS)
def test_longformer_layer_with_its_global_projections(
    against: Any, window: int, n: int, hubs: Sequence[int], padded: int
) -> None:
    """Two attentions: by the pattern, and for global tokens again with projections of their own."""
    transformers = needed("transformers")
    from transformers.models.longformer import modeling_longformer as longformer

    config = transformers.LongformerConfig(
        vocab_size=32, hidden_size=24, num_hidden_layers=1, num_attention_heads=3,
        intermediate_size=8, attention_window=[window], max_position_embeddings=64,
    )  # fmt: skip
    layer: Any = randomize(longformer.LongformerSelfAttention(config, 0))
    theirs = longformer_output(layer, states(1, n, 24), hubs, padded)
    ours = our_longformer(layer, states(1, n, 24), window // 2, hubs, padded)
    against("transformers").outputs("Longformer: layer from its weights", ours, theirs, FLOAT32)


@pytest.mark.parametrize(("window", "n", "hubs", "padded"), LONGFORMER_SETTINGS)
def test_led_layer_is_that_of_longformer(
    against: Any, window: int, n: int, hubs: Sequence[int], padded: int
) -> None:
    transformers = needed("transformers")
    from transformers.models.led import modeling_led as led

    config = transformers.LEDConfig(
        vocab_size=32, d_model=24, encoder_attention_heads=3, attention_window=[window],
        encoder_layers=1, decoder_layers=1,
    )  # fmt: skip
    layer: Any = randomize(led.LEDEncoderSelfAttention(config, 0))
    theirs = longformer_output(layer, states(1, n, 24), hubs, padded)
    ours = our_longformer(layer, states(1, n, 24), window // 2, hubs, padded)
    against("transformers").outputs("LED: encoder layer from its weights", ours, theirs, FLOAT32)


def longformer_output(
    layer: Any, hidden: torch.Tensor, hubs: Sequence[int], padded: int
) -> torch.Tensor:
    """Transformers' own: above 0 the mask means global, below 0 padding."""
    n = hidden.shape[1]
    mask = torch.zeros(1, n, dtype=hidden.dtype)
    mask[0, list(hubs)] = 10000.0
    mask[0, n - padded :] = -10000.0
    result = layer(
        hidden,
        attention_mask=mask,
        is_index_masked=mask < 0,
        is_index_global_attn=mask > 0,
        is_global_attn=bool((mask > 0).any()),
    )
    output = result[0] if isinstance(result, tuple) else result
    return torch.as_tensor(output)


def our_longformer(
    layer: Any, hidden: torch.Tensor, reach: int, hubs: Sequence[int], padded: int
) -> torch.Tensor:
    n = hidden.shape[1]
    valid = list(range(n - padded))
    hubs = [t for t in hubs if t in valid]
    inputs = {"hubs": hubs, "valid": valid}
    local = [heads_of(part(hidden), 3) for part in (layer.query, layer.key, layer.value)]
    found = attend(*local, OUTSIDE.with_params(reach=reach), inputs=inputs)
    if hubs:
        parts = (layer.query_global, layer.key_global, layer.value_global)
        everything = [heads_of(part(hidden), 3) for part in parts]
        dense = OUTSIDE.with_params(reach=n)
        found[:, :, hubs] = attend(*everything, dense, inputs=inputs)[:, :, hubs]
    return joined(found)


# --- BigBird -------------------------------------------------------------------------------------

WITH_PLAN = attnloom.parse(
    """use bigbird
    pattern p(size: int) {
        input plan: links
        bigbird(size=size, picks=0) | links(plan)
    }
    """,
    name="p.attn",
    size=4,
)
"""BigBird with random blocks that are given, not drawn."""


def bigbird_layer(size: int, picks: int, most: int, seed: int = 0) -> Any:
    transformers = needed("transformers")
    from transformers.models.big_bird import modeling_big_bird as bigbird

    config = transformers.BigBirdConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, block_size=size, num_random_blocks=picks,
        max_position_embeddings=most, attention_type="block_sparse",
    )  # fmt: skip
    return randomize(bigbird.BigBirdBlockSparseAttention(config, seed))


def bigbird_output(
    layer: Any, hidden: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray[Any, Any]]:
    """Transformers' own output, its probabilities, and its plan: random blocks by head and row."""
    from transformers import BigBirdModel

    plans: list[Any] = []
    original = layer._create_rand_mask_from_inputs

    def recording(*given: Any, **named: Any) -> Any:
        plans.append(given[2])
        return original(*given, **named)

    layer._create_rand_mask_from_inputs = recording
    ones = torch.ones(1, hidden.shape[1], dtype=hidden.dtype)
    blocked, band, rows, keys = BigBirdModel.create_masks_for_block_sparse_attn(ones, size)
    state = np.random.get_state()
    output, weights = layer(hidden, band, rows, keys, blocked, blocked, output_attentions=True)
    np.random.set_state(state)
    return output, weights, plans[-1][0].numpy()


def counts_of(fixed: Any, plan: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """How often each query weighs each key: once by the pattern, and once for each random block."""
    counts = fixed.astype(int)
    for row, picks in enumerate(plan):
        for block in picks:
            counts[(row + 1) * size : (row + 2) * size, block * size : (block + 1) * size] += 1
    return counts


@pytest.mark.parametrize(
    ("size", "blocks", "picks"), [(4, 13, 2), (2, 12, 1), (8, 20, 3), (1, 14, 2)]
)
def test_bigbird_in_training_by_its_own_plan(
    against: Any, size: int, blocks: int, picks: int
) -> None:
    """No block is drawn twice or read anyway at these lengths, so that the plan is a set."""
    n = size * blocks
    for seed in range(3):
        layer = bigbird_layer(size, picks, 4096, seed).train()
        hidden = states(1, n, 16, seed=seed)
        output, weights, plan = bigbird_output(layer, hidden, size)
        parts = [heads_of(part(hidden), 2) for part in (layer.query, layer.key, layer.value)]
        found = []
        for head in range(2):
            links = [[] for _ in range(n)]
            for i in range(size, n - size):
                for block in plan[head, i // size - 1]:
                    links[i] += range(block * size, (block + 1) * size)
            pattern, inputs = WITH_PLAN.with_params(size=size), {"plan": links}
            ours = pattern.mask(n, inputs=inputs)
            fixed = mask_of("bigbird", n, size=size, picks=0)
            assert counts_of(fixed, plan[head], size).max() == 1
            against("transformers").masks("BigBird: by its own plan", ours, weights[0, head] > 0)
            found.append(
                attend(*(part[:, head : head + 1] for part in parts), pattern, inputs=inputs)
            )
        ours = joined(torch.cat(found, dim=1))
        against("transformers").outputs("BigBird: layer, own plan", ours, output, FLOAT64)


@pytest.mark.parametrize(("size", "blocks", "picks"), [(4, 13, 2), (2, 12, 3), (8, 16, 1)])
def test_bigbird_asked_for_answers_reads_its_first_block_again_and_again(
    against: Any, size: int, blocks: int, picks: int
) -> None:
    """Out of training Transformers draws no blocks: every plan is of block 0, which then counts."""
    n = size * blocks
    layer = bigbird_layer(size, picks, 4096)
    hidden = states(1, n, 16)
    output, weights, plan = bigbird_output(layer, hidden, size)
    assert not plan.any()
    ours = mask_of("bigbird", n, size=size, picks=0)
    for head in range(2):
        against("transformers").masks("BigBird: without random blocks", ours, weights[0, head] > 0)
    counts = counts_of(ours, plan[0], size)
    parts = [heads_of(part(hidden), 2) for part in (layer.query, layer.key, layer.value)]
    found = joined(softmax_over(*parts, counts))
    against("transformers").outputs(
        "BigBird: layer, repeated blocks counted", found, output, FLOAT64
    )
    # As a set it is another function: the repeated block is what makes the difference.
    assert (
        joined(attend(*parts, attnloom.load("bigbird", size=size, picks=0))) - output
    ).abs().max() > 0.01


def test_bigbird_at_1024_tokens_counts_blocks_that_its_plan_repeats(against: Any) -> None:
    """At 1024, 3072 and 4096 tokens plans may draw a block twice, or one that is read anyway."""
    size, picks, n = 64, 3, 1024
    layer = bigbird_layer(size, picks, n).train()
    hidden = states(1, n, 16)
    output, weights, plan = bigbird_output(layer, hidden, size)
    fixed = mask_of("bigbird", n, size=size, picks=0)
    parts = [heads_of(part(hidden), 2) for part in (layer.query, layer.key, layer.value)]
    found = []
    most = 0
    for head in range(2):
        counts = counts_of(fixed, plan[head], size)
        most = max(most, int(counts.max()))
        against("transformers").masks("BigBird: by its own plan", counts > 0, weights[0, head] > 0)
        found.append(softmax_over(*(part[:, head : head + 1] for part in parts), counts))
    assert most > 1
    ours = joined(torch.cat(found, dim=1))
    against("transformers").outputs(
        "BigBird: layer, repeated blocks counted", ours, output, FLOAT64
    )


# --- others --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("radius", "n"), [(3, 20), (1, 9), (4, 37), (7, 8), (5, 5)])
def test_longt5_local_layer(against: Any, radius: int, n: int) -> None:
    transformers = needed("transformers")
    from transformers.models.longt5 import modeling_longt5 as longt5

    config = transformers.LongT5Config(d_model=16, d_kv=8, num_heads=2, local_radius=radius)
    layer: Any = randomize(longt5.LongT5LocalAttention(config))
    hidden = states(1, n, 16)
    block = radius + 1
    mask = longt5._get_local_attention_mask(torch.ones(1, n), block, hidden.device)
    theirs = layer(hidden, mask=mask)[0]
    parts = [heads_of(part(hidden), 2) for part in (layer.q, layer.k, layer.v)]
    ours = layer.o(joined(attend(*parts, attnloom.load("local", reach=radius), scale=1.0)))
    against("transformers").outputs("LongT5: local layer", ours, theirs, FLOAT32)


@pytest.mark.parametrize(("radius", "size", "n"), [(3, 4, 20), (2, 4, 19), (4, 8, 40), (7, 16, 17)])
def test_longt5_transient_global_layer(against: Any, radius: int, size: int, n: int) -> None:
    """Block sizes that are powers of two: Transformers numbers blocks by sums of 1 / size."""
    transformers = needed("transformers")
    from transformers.models.longt5 import modeling_longt5 as longt5

    config = transformers.LongT5Config(
        d_model=16, d_kv=8, num_heads=2, local_radius=radius, global_block_size=size
    )
    layer: Any = randomize(longt5.LongT5TransientGlobalAttention(config, True))
    for bias in (layer.relative_attention_bias, layer.global_relative_attention_bias):
        bias.weight.zero_()  # positions are no part of the pattern
    hidden = states(1, n, 16)
    theirs = layer(hidden, mask=torch.ones(1, n))[0]

    number = torch.arange(n).div(size, rounding_mode="floor").clamp(max=n // size - 1)
    sums = torch.zeros(1, n // size, 16, dtype=hidden.dtype).index_add_(1, number, hidden)
    summaries = layer.global_input_layer_norm(sums)
    everything = torch.cat([summaries, hidden], dim=1)
    parts = [heads_of(part(everything), 2) for part in (layer.q, layer.k, layer.v)]
    pattern = attnloom.load("longt5_tglobal", reach=radius, size=size)
    found = attend(*parts, pattern, memory=n // size, scale=1.0)
    ours = layer.o(joined(found))[:, n // size :]
    against("transformers").outputs("LongT5: transient global layer", ours, theirs, FLOAT32)


@pytest.mark.parametrize(("size", "slots", "n"), [(4, 2, 16), (4, 1, 8), (6, 3, 24), (5, 2, 20)])
@pytest.mark.parametrize("layer", [0, 1])
def test_pegasus_x_layer(against: Any, size: int, slots: int, n: int, layer: int) -> None:
    """Blocks of odd size cannot be staggered by half: Transformers pads one token too few."""
    transformers = needed("transformers")
    from transformers.models.pegasus_x import modeling_pegasus_x as pegasus

    if layer and size % 2:
        size += 1
        n = 4 * size
    config = transformers.PegasusXConfig(
        vocab_size=32, d_model=16, encoder_attention_heads=2, encoder_ffn_dim=8, block_size=size,
        num_global_tokens=slots,
    )  # fmt: skip
    one: Any = randomize(pegasus.PegasusXEncoderLayer(bool(layer), config))
    seen = {}
    inner = one.self_attn.forward

    def recording(**given: Any) -> Any:
        seen["result"] = inner(**given)
        return seen["result"]

    one.self_attn.forward = recording
    tokens, hubs = states(1, n, 16, seed=2), states(1, slots, 16, seed=3)
    one(tokens, hubs, torch.zeros(1, n, dtype=tokens.dtype))
    local, top = seen["result"][:2]
    if layer:
        local = one.unpad_local_tokens(local, size)
    theirs = torch.cat([top, local], dim=1)

    normed = [one.global_self_attn_layer_norm(hubs), one.self_attn_layer_norm(tokens)]
    everything = torch.cat(normed, dim=1)
    attention = one.self_attn
    parts = [
        heads_of(part(everything), 2)
        for part in (attention.q_proj, attention.k_proj, attention.v_proj)
    ]
    pattern = attnloom.load("pegasus_x", size=size, slots=slots)
    ours = attention.out_proj(joined(attend(*parts, pattern, memory=slots, layer=layer)))
    against("transformers").outputs("PEGASUS-X: encoder attention", ours, theirs, FLOAT64)


@pytest.mark.parametrize(
    ("chunk", "before", "n"), [(4, 1, 24), (4, 2, 32), (2, 1, 2), (8, 1, 64), (1, 3, 9)]
)
def test_reformer_local_layer_is_transformer_xl(
    against: Any, chunk: int, before: int, n: int
) -> None:
    transformers = needed("transformers")
    from transformers.models.reformer import modeling_reformer as reformer

    config = transformers.ReformerConfig(
        hidden_size=16, num_attention_heads=2, attention_head_size=8, local_attn_chunk_length=chunk,
        local_num_chunks_before=before, local_num_chunks_after=0, is_decoder=True,
        local_attention_probs_dropout_prob=0.0, attn_layers=["local"],
    )  # fmt: skip
    layer: Any = randomize(reformer.LocalSelfAttention(config, 0))
    hidden = states(1, n, 16)
    theirs = layer(hidden, attention_mask=torch.ones(1, n)).hidden_states
    parts = [heads_of(part(hidden), 2) for part in (layer.query, layer.key, layer.value)]
    ours = joined(attend(*parts, attnloom.load("transformer_xl", segment=chunk, past=before)))
    against("transformers").outputs("Reformer: local layer", ours, theirs, FLOAT64)

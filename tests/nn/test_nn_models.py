"""`Encoder` and `Decoder`, and layers that go on token by token."""

from __future__ import annotations

import copy

import pytest
import torch
from nn_helpers import seeded, states

import attnloom
from attnloom import PatternAttention
from attnloom.nn import Decoder, Encoder, Rope

CAUSAL = {
    "sinks": attnloom.load("streaming_llm", sinks=2, recent=6),
    "layers": attnloom.load("gemma3", recent=4),
    "memory": attnloom.parse("pattern p { memory(3); window(last=5); only causal }"),
    "full": attnloom.load("decoder"),
}


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", CAUSAL)
def test_steps_of_a_layer_give_the_rows_of_the_whole(name: str, padded: bool) -> None:
    layer = PatternAttention(
        32, 4, CAUSAL[name], num_kv_heads=2, qk_norm=torch.nn.RMSNorm, rope=Rope(8),
        layer=5, layers=6,
    )  # fmt: skip
    layer = seeded(layer)  # type: ignore[assignment]
    memory = 3 if name == "memory" else 0
    x = states(2, memory + 30, 32)
    mask = None
    if padded:
        mask = torch.ones(2, 30, dtype=torch.long)
        mask[1, :11] = 0
    whole = layer(x, attention_mask=mask)
    decoder = layer.decoder(memory + 30)
    if mask is not None:
        mask = torch.cat([torch.ones(2, memory, dtype=torch.long), mask], 1)
    parts = [slice(0, 20), *(slice(t, t + 1) for t in range(20, memory + 30))]
    outputs = [
        layer.step(x[:, one], decoder, attention_mask=None if mask is None else mask[:, one])
        for one in parts
    ]
    # The angles are worked out in float32.
    torch.testing.assert_close(torch.cat(outputs, 1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CAUSAL)
def test_generation_gives_what_the_whole_model_gives(name: str) -> None:
    model = Decoder(50, 32, 6 if name == "layers" else 2, 4, CAUSAL[name], num_kv_heads=2)
    seeded(model)
    ids = torch.randint(1, 50, (2, 9), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    found = model.generate(ids, 24, attention_mask=mask)
    assert found.shape == (2, 33)
    with torch.no_grad():
        for _ in range(24):
            best = model(ids, attention_mask=mask)[:, -1:].argmax(-1)
            ids, mask = torch.cat([ids, best], 1), torch.cat([mask, torch.ones_like(best)], 1)
    assert torch.equal(found, ids)
    assert len(set(found[0].tolist())) > 5


def test_decoder_needs_a_causal_pattern_and_padding_in_front() -> None:
    model = Decoder(50, 32, 1, 4, attnloom.load("longformer", reach=2))
    ids = torch.ones(1, 9, dtype=torch.long)
    with pytest.raises(ValueError, match="some query reads a later key"):
        model(ids)
    model = Decoder(50, 32, 1, 4, CAUSAL["sinks"])
    mask = torch.ones(1, 9, dtype=torch.bool)
    mask[0, 8] = False
    with pytest.raises(ValueError, match="attention_mask must have its padding first"):
        model.generate(ids, 2, attention_mask=mask)


@pytest.mark.parametrize("memory", [False, True])
def test_encoder_sees_as_far_as_hops_say(memory: bool) -> None:
    body = "memory(2); window(each_side=3)" if memory else "window(each_side=3)"
    pattern = attnloom.parse(f"pattern p {{ {body} }}")
    model = Encoder(20, 32, 2, 4, pattern)
    seeded(model)
    ids = torch.arange(2, 20).repeat(3)[None]
    other = ids.clone()
    other[0, 20] = 1
    changed = (model(ids) != model(other)).any(-1)[0]
    # Two layers of a window of 3 reach 6 tokens; with memory any token is two hops away.
    expected = torch.ones_like(changed) if memory else (torch.arange(54) - 20).abs() <= 6
    assert torch.equal(changed, expected)


def test_padding_and_inputs_reach_every_layer() -> None:
    pattern = attnloom.parse(
        "pattern p { input doc: segments; window(each_side=2); only same(doc) }"
    )
    model = Encoder(20, 32, 2, 4, pattern)
    seeded(model)
    ids = torch.randint(1, 20, (2, 16), generator=torch.Generator().manual_seed(2))
    doc = (torch.arange(16) // 5).expand(2, -1)
    mask = torch.ones_like(ids)
    mask[0, :6] = 0
    output = model(ids, attention_mask=mask, inputs={"doc": doc})
    alone = model(ids[:1, 6:], inputs={"doc": doc[:1, 6:]})
    torch.testing.assert_close(output[0, 6:], alone[0], atol=1e-5, rtol=1e-5)


def test_decoder_reads_packed_documents_each_for_itself() -> None:
    model = Decoder(50, 32, 2, 4, attnloom.load("packing"))
    seeded(model)
    ids = torch.randint(50, (1, 30), generator=torch.Generator().manual_seed(4))
    document = (torch.arange(30) >= 12).long()[None]
    found = model(ids, inputs={"document": document})
    other = ids.clone()
    other[0, :12] += 1
    other %= 50
    changed = model(other, inputs={"document": document})
    assert torch.equal(found[:, 12:], changed[:, 12:])
    assert not torch.equal(found[:, :12], changed[:, :12])
    with pytest.raises(ValueError, match="inputs of a decoder must come without attention_mask"):
        model(ids, inputs={"document": document}, attention_mask=torch.ones(1, 30))
    ahead = Decoder(50, 32, 2, 4, attnloom.parse("pattern p { input doc: segments; same(doc) }"))
    with pytest.raises(ValueError, match="some query reads a later key"):
        ahead(ids, inputs={"doc": document})


def test_models_learn_and_can_be_copied() -> None:
    torch.manual_seed(0)
    model = Decoder(16, 32, 2, 2, CAUSAL["memory"])
    ids = torch.arange(40).remainder(7).expand(4, -1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        scores = model(ids)[:, :-1]
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < 1.5 < losses[0]
    twin = copy.deepcopy(model)
    assert torch.equal(twin.generate(ids[:1, :10], 20)[0], torch.arange(30).remainder(7))

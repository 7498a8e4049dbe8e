"""Generation along a registered pattern, with and without caches, against eager attention."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="transformers is not installed; see docs/models.md")

from integration_helpers import (
    CAUSAL,
    DECODER,
    DECODERS,
    HEADS,
    LAYERS,
    both,
    cache_of,
    model_of,
    outputs,
    padding,
    words,
)

import attnloom
from attnloom.integrations.transformers import PatternCache, use


def greedy(model: Any, ids: torch.Tensor, mask: torch.Tensor, count: int) -> torch.Tensor:
    """Generation without any cache: the whole sequence anew for every token."""
    for _ in range(count):
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        logits = outputs(model, ids, mask, position_ids=positions, use_cache=False)
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], 1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
    return ids


def generate(model: Any, ids: torch.Tensor, mask: torch.Tensor, count: int, kind: str) -> Any:
    return model.generate(
        ids, attention_mask=mask, max_new_tokens=count, min_new_tokens=count, do_sample=False,
        **cache_of(kind, model, ids.shape[1] + count),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["pattern", "dynamic", "static", "none"])
@pytest.mark.parametrize("pattern", CAUSAL)
@pytest.mark.parametrize("name", ["Llama", "Gemma3Text", "Mistral", "Gemma2", "GptOss"])
def test_generation_gives_the_tokens_of_eager_attention(name: str, pattern: str, kind: str) -> None:
    if kind == "static" and name != "Llama":
        pytest.skip("a static cache of such a model drops keys by its own window")
    ours, eager = both(model_of(name, "ForCausalLM", DECODERS[name]), CAUSAL[pattern])
    mask = padding([12, 5], 12, "left")
    ids = words(2, 12) * mask
    with torch.no_grad():
        wanted = greedy(eager, ids, mask, 20)
        assert torch.equal(generate(ours, ids, mask, 20, kind), wanted)


@pytest.mark.parametrize("kind", ["pattern", "dynamic"])
@pytest.mark.parametrize("pattern", ["sinks", "heads"])
def test_generation_of_two_hundred_tokens_gives_those_of_eager_attention(
    pattern: str, kind: str
) -> None:
    chosen = (
        CAUSAL["sinks"]
        if pattern == "sinks"
        else attnloom.load("duo_attention", dense=2, sinks=2, recent=6)
    )
    ours, eager = both(model_of("Llama", "ForCausalLM", DECODER), chosen)
    mask = padding([16, 9], 16, "left")
    ids = words(2, 16) * mask
    with torch.no_grad():
        wanted = greedy(eager, ids, mask, 200)
        assert torch.equal(generate(ours, ids, mask, 200, kind), wanted)
    assert min(len(set(row.tolist())) for row in wanted[:, 16:]) > 10


def test_cache_holds_as_many_keys_as_the_analysis_predicts() -> None:
    pattern = attnloom.load("streaming_llm", sinks=2, recent=5)
    predicted = pattern.analyze(300, layers=1).cost.cache
    assert predicted is not None
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, pattern)
    cache = PatternCache(model, 300)
    ids = words(2, 200)
    with torch.no_grad():
        for first in range(0, 200, 1):
            model(ids[:, first : first + 1], past_key_values=cache)
            assert cache.num_kept == [[min(first + 1, predicted.keys)] * 2] * LAYERS
    # Keys and values of two sequences and two heads, in float64.
    assert cache.num_bytes == LAYERS * 2 * 2 * 2 * predicted.keys * 8 * 8
    assert cache.get_seq_length() == 200
    cache.reset()
    assert cache.num_kept == [[]] * LAYERS
    assert cache.num_bytes == 0


@pytest.mark.slow
def test_cache_stays_the_same_over_ten_thousand_steps() -> None:
    model = model_of("Llama", "ForCausalLM", {**DECODER, "num_hidden_layers": 1})
    use(model, attnloom.load("streaming_llm", sinks=2, recent=5))
    cache = PatternCache(model, 10_000)
    ids, sizes = words(1, 10_000), set()
    with torch.no_grad():
        for first in range(10_000):
            model(ids[:, first : first + 1], past_key_values=cache)
            sizes.add((cache.num_bytes, *cache.num_kept[0]))
    assert max(sizes) == (2 * 2 * 7 * 8 * 8, 7, 7)
    assert len(sizes) <= 7


def test_streaming_heads_keep_few_keys_beside_heads_that_read_everything() -> None:
    pattern = attnloom.load("duo_attention", dense=2, sinks=2, recent=5)
    ours, eager = both(model_of("Llama", "ForCausalLM", DECODER), pattern)
    mask = padding([20, 11], 20, "left")
    ids = words(2, 20) * mask
    cache = PatternCache(ours, 100)
    with torch.no_grad():
        wanted = greedy(eager, ids, mask, 40)
        found = ours.generate(
            ids, attention_mask=mask, max_new_tokens=40, min_new_tokens=40, do_sample=False,
            past_key_values=cache,
        )  # fmt: skip
    assert torch.equal(found, wanted)
    # Of the four heads that query, two read each head of the keys.
    predicted = pattern.analyze(59, layers=1, heads=HEADS).cost.cache
    assert predicted is not None
    assert cache.num_kept == [[predicted.keys, 7]] * LAYERS == [[59, 7]] * LAYERS


@pytest.mark.parametrize("kind", ["pattern", "dynamic"])
@pytest.mark.parametrize("way", ["assistant", "lookup"])
@pytest.mark.parametrize("name", ["sinks", "heads"])
def test_assisted_generation_gives_the_same_tokens(name: str, way: str, kind: str) -> None:
    patterns = {
        "sinks": CAUSAL["sinks"],
        "heads": attnloom.load("duo_attention", dense=2, sinks=2, recent=6),
    }
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, patterns[name])
    helper = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # it guesses right now and then
        for weight in helper.parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight.add_(0.03 * noise)
    ids = words(1, 16)
    options = {"max_new_tokens": 50, "min_new_tokens": 50, "do_sample": False,
               "attention_mask": torch.ones_like(ids)}  # fmt: skip
    extra = {"assistant_model": helper} if way == "assistant" else {"prompt_lookup_num_tokens": 4}
    wanted = model.generate(ids, use_cache=False, **options)
    counts: list[int] = []
    model.register_forward_hook(lambda _, __, found: counts.append(found.logits.shape[1]))
    cache = cache_of(kind, model, 70)
    assert torch.equal(model.generate(ids, **cache, **extra, **options), wanted)
    assert max(counts) > 1  # several tokens in a step
    if kind == "pattern" and name == "sinks":
        # What the next token reads of those before it: the sinks and four more.
        assert cache["past_key_values"].num_kept == [[6, 6]] * LAYERS


def test_cache_goes_back_as_far_as_it_was_told_to_record() -> None:
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, CAUSAL["sinks"])
    ids = words(2, 40)
    with torch.no_grad():
        whole = outputs(model, ids, None, use_cache=False)
        cache = PatternCache(model, 40)
        cache.activate_past_recording()
        model(ids[:, :20], past_key_values=cache)
        model(words(2, 8, seed=9), past_key_values=cache)
        cache.crop(-8)
        assert cache.get_seq_length() == 20
        found = outputs(model, ids[:, 20:], None, past_key_values=cache)
    torch.testing.assert_close(found, whole[:, 20:], atol=2e-5, rtol=2e-5)


def test_prompt_may_come_in_pieces() -> None:
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, CAUSAL["layers and heads"])
    ids = words(2, 40)
    with torch.no_grad():
        whole = outputs(model, ids, None, use_cache=False)
        for kind in ("pattern", "dynamic"):
            cache = cache_of(kind, model, 40)["past_key_values"]
            parts = [
                outputs(model, ids[:, a:b], None, past_key_values=cache)
                for a, b in ((0, 11), (11, 12), (12, 33), (33, 40))
            ]
            torch.testing.assert_close(torch.cat(parts, 1), whole, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", ["sinks", "layers and heads"])
def test_cache_serves_the_next_turn_of_a_talk(name: str) -> None:
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, CAUSAL[name])
    cache, ids = PatternCache(model, 80), words(2, 10)
    for turn in range(3):
        mask = torch.ones_like(ids)
        found = model.generate(
            ids, attention_mask=mask, max_new_tokens=9, min_new_tokens=9, do_sample=False,
            past_key_values=cache,
        )  # fmt: skip
        assert torch.equal(found, generate(model, ids, mask, 9, "none"))
        ids = torch.cat([found, words(2, 5, seed=turn)], 1)


@pytest.mark.parametrize("lengths", [[10, 10], [10, 4]])
@pytest.mark.parametrize("name", ["sinks", "layers and heads"])
def test_beam_search_reorders_the_cache(name: str, lengths: list[int]) -> None:
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, CAUSAL[name])
    mask = padding(lengths, 10, "left")
    ids = words(2, 10) * mask
    found = [
        model.generate(
            ids, attention_mask=mask, max_new_tokens=15, num_beams=3, do_sample=False,
            **cache_of(kind, model, 25),
        )
        for kind in ("none", "pattern")
    ]  # fmt: skip
    assert torch.equal(*found)

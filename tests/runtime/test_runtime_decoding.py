"""Decoding token by token against the whole sequence, and the keys that are kept meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_helpers import dense_attention, plan_of, relations, window

import attnloom
from attnloom.runtime.decoding import Decoder, attention_step
from attnloom.runtime.plan import Plan
from attnloom.runtime.row_reader import RowReader, last_readers, reads_ahead
from attnloom.runtime.rows import plan_of_rows

HEADS, DIM = 4, 8


def tensors(n: int, batch: int = 2, kv_heads: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [
        torch.randn(batch, heads, n, DIM, generator=generator, dtype=torch.float64)
        for heads in (HEADS, kv_heads, kv_heads)
    ]


def whole(query: Any, key: Any, value: Any, plan: Plan, scale: float = DIM**-0.5) -> torch.Tensor:
    return dense_attention(query, key, value, plan.to_dense(), scale)[0]


CAUSAL = {
    name: attnloom.load(name, **params)
    for name, params in {
        "mistral": {"recent": 9},
        "streaming_llm": {"sinks": 3, "recent": 7},
        "gpt_oss": {"recent": 6},
        "decoder": {},
        "sparse_transformer_strided": {},
        "sparse_transformer_fixed": {},
        "longformer_dilated": {},
        "logsparse": {},
        "transformer_xl": {},
        "llama4_chunked": {},
        "hymba": {},
    }.items()
}
CAUSAL |= {
    "per head": attnloom.parse(
        "pattern p { when head < 2 { window(last=5) } else { random(links=3) }; only causal }"
    ),
    "memory": attnloom.parse("pattern p { memory(3); window(last=4); only causal }"),
    "empty rows": attnloom.parse("pattern p { window(last=5); never collect(every 3 from 1) }"),
    "never reads itself": attnloom.parse("pattern p { window(last=5) - self }"),
}
N = 150


def plan_for(name: str, n: int = N) -> Plan:
    return CAUSAL[name].compile(n, heads=HEADS, block=32)


@pytest.mark.parametrize("name", CAUSAL)
def test_steps_of_one_token_give_the_rows_of_the_whole(name: str) -> None:
    plan = plan_for(name)
    query, key, value = tensors(plan.query_len)
    expected = whole(query, key, value, plan)
    decoder, reader = plan.decoder(), RowReader(plan)
    for t in range(plan.query_len):
        now = slice(t, t + 1)
        output = decoder.step(query[:, :, now], key[:, :, now], value[:, :, now])
        torch.testing.assert_close(output, expected[:, :, now])
        assert decoder.num_kept.max() <= decoder.reader.most_live
        past = key[:, :, : t + 1], value[:, :, : t + 1]
        output = attention_step(query[:, :, now], *past, plan, t, reader=reader)
        torch.testing.assert_close(output, expected[:, :, now])
    assert decoder.position.tolist() == [plan.query_len] * 2


@pytest.mark.parametrize("name", CAUSAL)
def test_pieces_of_any_size_give_the_rows_of_the_whole(name: str) -> None:
    plan = plan_for(name)
    query, key, value = tensors(plan.query_len, kv_heads=4)
    expected = whole(query, key, value, plan)
    decoder, start = plan.decoder(), 0
    for size in (140 if name == "decoder" else 40, 1, 5, 1, 1, 2, 70, 1, 1, 200):
        now = slice(start, min(start + size, plan.query_len))
        output = decoder.step(query[:, :, now], key[:, :, now], value[:, :, now])
        torch.testing.assert_close(output, expected[:, :, now])
        past = slice(0, now.stop)
        output = attention_step(query[:, :, now], key[:, :, past], value[:, :, past], plan, start)
        torch.testing.assert_close(output, expected[:, :, now])
        start = now.stop
        if start == plan.query_len:
            break


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_causal_relation_can_be_decoded(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 120))
    dense = data.draw(relations(n, n)) & np.tri(n, dtype=bool)
    other = data.draw(relations(n, n)) & np.tri(n, dtype=bool)
    plan = plan_of(np.stack([dense, dense, other, other])[None], 16, 32)
    query, key, value = tensors(n)
    expected = whole(query, key, value, plan)
    decoder, start = plan.decoder(), 0
    while start < n:
        now = slice(start, min(n, start + data.draw(st.sampled_from([1, 1, 1, 2, 7, 50]))))
        if data.draw(st.booleans()):
            output = decoder.step(query[:, :, now], key[:, :, now], value[:, :, now])
            torch.testing.assert_close(output, expected[:, :, now])
        else:
            decoder.append(key[:, :, now], value[:, :, now])
        start = now.stop
        # Exactly those that are read from now on, and the last token's own reads while it is there.
        for head, mask in enumerate((dense, other)):
            kept = decoder.num_kept[:, head]
            assert (kept >= mask[start:, :start].any(0).sum()).all()
            assert (kept <= mask[start - 1 :, :start].any(0).sum()).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_last_readers_are_those_of_the_mask(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 150))
    dense = data.draw(relations(n, n))
    plan = plan_of(dense[None, None], 16, 32)
    wanted = np.where(dense.any(0), n - 1 - dense[::-1].argmax(0), -1)
    assert last_readers(plan.layouts[0]).tolist() == wanted.tolist()
    assert reads_ahead(plan.layouts[0]) == np.triu(dense, 1).any()
    rows = np.array(data.draw(st.lists(st.integers(-1, n - 1), min_size=1, max_size=40)))
    found = plan_of_rows(plan, rows[None]).to_dense()[0, 0].numpy()
    assert np.array_equal(found, dense[rows] & (rows >= 0)[:, None])
    reads = RowReader(plan).reads(rows[None])
    unfolded = np.zeros((len(rows), n), dtype=bool)
    used = reads.keys[0] >= 0
    unfolded[:, reads.keys[0, used]] = reads.allowed[0, 0][:, used]
    assert np.array_equal(unfolded, found)


@pytest.mark.parametrize("name", attnloom.bundled())
def test_last_readers_of_packed_and_ordered_plans_are_those_of_the_mask(name: str) -> None:
    pattern = attnloom.load(name)
    if pattern.inputs:
        pytest.skip("it has inputs")
    plan = pattern.compile(400, heads=2, layer=1, layers=2, block=(16, 32))
    for number, layout in enumerate(plan.layouts):
        dense = layout.to_dense()
        n = len(dense)
        wanted = np.where(dense.any(0), n - 1 - dense[::-1].argmax(0), -1)
        assert last_readers(layout).tolist() == wanted.tolist(), number
        assert reads_ahead(layout) == np.triu(dense, 1).any()


EXPECTED_KEPT = {"mistral": 9, "streaming_llm": 10, "gpt_oss": 6}


@pytest.mark.parametrize("name", EXPECTED_KEPT)
def test_decoder_keeps_as_many_keys_as_the_analysis_predicts(name: str) -> None:
    cache = CAUSAL[name].analyze(N, layers=1).cost.cache
    assert cache is not None
    decoder = plan_for(name).decoder()
    assert decoder.reader.most_live == cache.keys == EXPECTED_KEPT[name]
    query, key, value = tensors(N, batch=1)
    for t in range(N):
        now = slice(t, t + 1)
        decoder.step(query[:, :, now], key[:, :, now], value[:, :, now])
        assert (decoder.num_kept == min(t + 1, cache.keys)).all()


@pytest.mark.parametrize("name", ["sparse_transformer_strided", "logsparse", "llama4_chunked"])
def test_room_of_a_decoder_is_what_the_analysis_predicts(name: str) -> None:
    cache = CAUSAL[name].analyze(N, layers=1).cost.cache
    assert cache is not None
    assert plan_for(name).decoder().reader.most_live == cache.keys


def test_room_stays_the_same_over_ten_thousand_steps() -> None:
    plan = attnloom.load("streaming_llm", sinks=4, recent=28).compile(10_000)
    decoder = plan.decoder()
    key = torch.randn(1, 1, 1, 16, generator=torch.Generator().manual_seed(0))
    decoder.step(key, key, key)
    for t in range(1, 10_000):
        output = decoder.step(key * (t % 7), key + t, key + t)
        if t == 32:
            place = decoder.stores[0].keys.data_ptr()
    assert decoder.stores[0].keys.data_ptr() == place
    assert decoder.num_bytes == 2 * 32 * 16 * 4  # keys and values of 32 tokens in float32
    seen = torch.tensor([0, *range(1, 4), *range(9972, 10_000)])
    past = (key + seen[:, None] * (seen[:, None] > 0))[0, 0]
    weights = (past @ (key * (9999 % 7))[0, 0, 0] * 0.25).softmax(0)
    torch.testing.assert_close(output[0, 0, 0], weights @ past)


def dense_of_heads(pattern: attnloom.Pattern, n: int, kv_heads: int) -> Any:
    """Who reads whom in any query head of each head of the keys, `(kv_heads, n, n)`."""
    masks = np.stack([pattern.mask(n, head=head, heads=HEADS) for head in range(HEADS)])
    return masks.reshape(kv_heads, -1, *masks.shape[1:]).any(1)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize(
    "pattern",
    [
        attnloom.load("duo_attention", dense=1, sinks=2, recent=5),
        attnloom.load("duo_attention", dense=2, sinks=2, recent=5),
        attnloom.parse("pattern p { window(last=2 + 3 * head); only causal }"),
        attnloom.parse(
            """pattern p {
                when head % 2 == 0 { window(last=4) } else { random(links=2, seed=3) | self }
                only causal
            }"""
        ),
        attnloom.parse(
            "pattern p { when head == 3 { window(last=9) } else { none }; only causal }"
        ),
    ],
    ids=["duo 1", "duo 2", "windows", "random", "one head alone"],
)
def test_each_head_keeps_what_it_needs(pattern: attnloom.Pattern, kv_heads: int) -> None:
    n = 60
    plan = pattern.compile(n, heads=HEADS, block=16)
    query, key, value = tensors(n, kv_heads=kv_heads)
    expected = whole(query, key, value, plan)
    masks, decoder = dense_of_heads(pattern, n, kv_heads), plan.decoder()
    most = np.zeros(kv_heads, dtype=int)
    for t in range(n):
        now = slice(t, t + 1)
        output = decoder.step(query[:, :, now], key[:, :, now], value[:, :, now])
        torch.testing.assert_close(output, expected[:, :, now])
        live = masks[:, t:, : t + 1].any(1).sum(-1)
        assert (decoder.num_kept == live).all()
        most = np.maximum(most, live)
    assert decoder.num_kept.shape == (2, kv_heads)
    if kv_heads == HEADS:
        cache = pattern.analyze(n, layers=1, heads=HEADS).cost.cache
        assert cache is not None
        assert most.max() == cache.keys


def test_streaming_heads_take_constant_room_beside_heads_that_read_everything() -> None:
    pattern = attnloom.load("duo_attention", dense=1, sinks=4, recent=12)
    sizes = {}
    for n in (256, 1024):
        decoder = pattern.compile(2 * n, heads=HEADS).decoder()
        query, key, value = tensors(n + 1, batch=1, kv_heads=4)
        decoder.step(query[:, :, :n], key[:, :, :n], value[:, :, :n])
        assert decoder.num_kept.tolist() == [[n, 15, 15, 15]]  # of which the next token makes 16
        sizes[n] = [store.num_bytes for store in decoder.stores]
    assert sizes[256] == [2 * 256 * DIM * 8, 2 * 3 * 16 * DIM * 8]
    assert sizes[1024] == [2 * 1024 * DIM * 8, 2 * 3 * 16 * DIM * 8]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_tokens_that_were_taken_back_leave_no_trace(data: st.DataObject) -> None:
    name = data.draw(
        st.sampled_from(["streaming_llm", "per head", "memory", "decoder", "empty rows"])
    )
    n, undo = 50, data.draw(st.integers(0, 12))
    plan = plan_for(name, n)
    query, key, value = tensors(plan.query_len)
    expected = whole(query, key, value, plan)
    decoder, start = plan.decoder(undo=undo), 0
    for _ in range(data.draw(st.integers(1, 20))):
        now = slice(start, min(n, start + data.draw(st.sampled_from([1, 1, 2, 5, 20]))))
        if now.start == now.stop:
            break
        wrong = [torch.randn_like(x[:, :, now]) for x in (key, value)]
        keep = data.draw(st.integers(max(0, now.stop - now.start - undo), now.stop - now.start))
        keys, values = (
            torch.cat([x[:, :, start : start + keep], other[:, :, keep:]], 2)
            for x, other in zip((key, value), wrong, strict=True)
        )
        output = decoder.step(query[:, :, now], keys, values)
        right = slice(start, start + keep)
        torch.testing.assert_close(output[:, :, :keep], expected[:, :, right])
        decoder.take_back(now.stop - now.start - keep)
        if data.draw(st.booleans()):
            decoder.settle()
        start += keep
        assert decoder.position.tolist() == [start] * 2
        assert decoder.num_kept.max() <= decoder.reader.most_live + undo


def test_settling_gives_the_room_back() -> None:
    plan = attnloom.load("streaming_llm", sinks=2, recent=6).compile(2000, heads=HEADS)
    query, key, value = tensors(1001, batch=1)
    decoder = plan.decoder(undo=2000)
    decoder.step(*(x[:, :, :1000] for x in (query, key, value)))
    assert decoder.num_kept.tolist() == [[1000, 1000]]
    decoder.take_back(0)
    decoder.settle()
    # The next token reads itself, the sinks and five more.
    assert decoder.num_kept.tolist() == [[7, 7]]
    assert decoder.num_bytes <= 2 * 2 * 8 * DIM * 8
    output = decoder.step(*(x[:, :, 1000:] for x in (query, key, value)))
    expected = whole(query, key, value, plan_of(plan.to_dense().numpy()[:, :, :1001, :1001]))
    torch.testing.assert_close(output, expected[:, :, 1000:])


def test_what_is_forgotten_cannot_be_taken_back() -> None:
    plan = plan_for("mistral", 30)
    query, key, value = tensors(30)
    decoder = plan.decoder(undo=2)
    decoder.step(query[:, :, :20], key[:, :, :20], value[:, :, :20])
    with pytest.raises(ValueError, match=r"3 tokens cannot be taken back.*undo=3"):
        decoder.take_back(3)
    decoder.take_back(2)
    with pytest.raises(ValueError, match="count must be at least 0, got -1"):
        decoder.take_back(-1)
    with pytest.raises(ValueError, match="undo must be at least 0, got -1"):
        plan.decoder(undo=-1)


def test_padded_sequences_are_decoded_each_from_its_own_start() -> None:
    plan = plan_for("streaming_llm")
    query, key, value = tensors(60, batch=3)
    starts = [0, 13, 60]
    real = np.arange(60)[None] >= np.array(starts)[:, None]
    decoder = plan.decoder()
    outputs = [
        decoder.step(
            query[:, :, now], key[:, :, now], value[:, :, now], real=real[:, now]
        )
        for now in (slice(0, 30), *(slice(t, t + 1) for t in range(30, 60)))
    ]  # fmt: skip
    output = torch.cat(outputs, 2)
    for element, start in enumerate(starts):
        alone = [x[element : element + 1, :, start:] for x in (query, key, value)]
        assert (output[element, :, :start] == 0).all()
        if start < 60:
            short = plan_for("streaming_llm", 60 - start)
            torch.testing.assert_close(output[element, :, start:], whole(*alone, short)[0])
    assert decoder.position.tolist() == [60, 47, 0]


def test_sequences_can_be_selected_and_repeated() -> None:
    plan = plan_for("mistral")
    query, key, value = tensors(40)
    decoder = plan.decoder()
    first = slice(0, 25)
    decoder.step(query[:, :, first], key[:, :, first], value[:, :, first])
    order = torch.tensor([1, 0, 1])
    decoder.select(order)
    for t in range(25, 40):
        now = slice(t, t + 1)
        rows = [x[order][:, :, now] for x in (query, key, value)]
        expected = whole(query, key, value, plan_for("mistral", 40))[order][:, :, now]
        torch.testing.assert_close(decoder.step(*rows), expected)


def test_what_a_key_holds_that_is_not_read_makes_no_difference() -> None:
    plan = plan_for("mistral", 30)
    query, key, value = tensors(30)
    expected = whole(query, key, value, plan)
    junk_key, junk_value = key.clone(), value.clone()
    junk_key[:, :, :5] = junk_value[:, :, :5] = torch.nan
    decoder = plan.decoder()
    for t in range(30):
        now = slice(t, t + 1)
        output = decoder.step(query[:, :, now], junk_key[:, :, now], junk_value[:, :, now])
        if t >= 5 + 8:
            torch.testing.assert_close(output, expected[:, :, now])


def test_scale_is_that_of_attention() -> None:
    plan = plan_for("mistral", 20)
    query, key, value = tensors(20)
    output = plan.decoder().step(query, key, value, scale=0.7)
    torch.testing.assert_close(output, whole(query, key, value, plan, 0.7))


def modified(kind: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(8)
    return {
        "softcap": {"softcap": 1.5},
        "alibi": {"alibi_slopes": torch.rand(HEADS, generator=generator, dtype=torch.float64)},
        "sinks": {"sinks": torch.randn(HEADS, generator=generator, dtype=torch.float64)},
        "all": {
            "softcap": 2.0, "scale": 0.9,
            "alibi_slopes": torch.rand(HEADS, generator=generator, dtype=torch.float64),
            "sinks": torch.randn(HEADS, generator=generator, dtype=torch.float64),
        },
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["softcap", "alibi", "sinks", "all"])
@pytest.mark.parametrize("name", ["streaming_llm", "empty rows", "memory", "per head"])
def test_scores_are_modified_as_in_attention(name: str, kind: str) -> None:
    plan = plan_for(name, 40)
    query, key, value = tensors(plan.query_len)
    options = modified(kind)
    expected = attnloom.attention(query, key, value, plan, backend="reference", **options)
    decoder, start = plan.decoder(), 0
    for size in (5, 1, 1, 20, *[1] * 40):
        now = slice(start, min(start + size, plan.query_len))
        if start >= plan.query_len:
            break
        step = query[:, :, now], key[:, :, now], value[:, :, now]
        torch.testing.assert_close(decoder.step(*step, **options), expected[:, :, now])
        past = slice(0, now.stop)
        output = attention_step(
            query[:, :, now], key[:, :, past], value[:, :, past], plan, start, **options
        )
        torch.testing.assert_close(output, expected[:, :, now])
        start = now.stop


def test_steps_can_be_differentiated() -> None:
    plan = plan_for("streaming_llm", 20)
    inputs = [x.requires_grad_() for x in tensors(20)]
    query, key, value = inputs
    found = attention_step(query[:, :, 12:], key, value, plan, 12)
    expected = whole(query, key, value, plan)[:, :, 12:]
    wishes = torch.randn(found.shape, dtype=found.dtype)
    for one, other in zip(
        torch.autograd.grad(found, inputs, wishes),
        torch.autograd.grad(expected, inputs, wishes),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_plan_that_reads_ahead_cannot_be_decoded() -> None:
    plan = plan_of(window(20, 20, 3)[None, None].repeat(4, 1))
    with pytest.raises(ValueError, match="plan must be causal"):
        plan.decoder()


def test_wrong_steps_are_refused() -> None:
    plan = plan_for("mistral", 20)
    query, key, value = tensors(20)
    with pytest.raises(ValueError, match="the plan has 20 positions, got a query at 20"):
        attention_step(query[:, :, :2], key, value, plan, 19)
    with pytest.raises(ValueError, match="key 10 is read, and not among the 10 given"):
        attention_step(query[:, :, :1], key[:, :, :10], value[:, :, :10], plan, 10)
    with pytest.raises(ValueError, match="query must have the 4 heads of the plan, got 2"):
        attention_step(query[:, :2], key, value, plan, 0)
    decoder: Decoder = plan.decoder()
    with pytest.raises(ValueError, match="key must have a divisor of 4 heads, got 3"):
        decoder.append(query[:, :3], query[:, :3])
    decoder.step(query, key, value)
    with pytest.raises(TypeError, match=r"dtype torch\.float64 as before, got torch\.float32"):
        decoder.step(query.float(), key.float(), value.float())
    with pytest.raises(ValueError, match="a sequence grows to 21 tokens, and the plan is for 20"):
        decoder.step(query[:, :, :1], key[:, :, :1], value[:, :, :1])
    decoder.reset()
    assert decoder.is_empty
    decoder.step(query[:1], key[:1], value[:1])

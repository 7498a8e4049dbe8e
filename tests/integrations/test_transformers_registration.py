"""Registered patterns in models of Transformers, against eager attention over dense masks."""

from __future__ import annotations

import copy
import io
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo.testing

pytest.importorskip("transformers", reason="transformers is not installed; see docs/models.md")

from integration_helpers import (
    BOTH_WAYS,
    CAUSAL,
    DECODER,
    DECODERS,
    ENCODERS,
    both,
    cache_of,
    model_of,
    outputs,
    padding,
    step,
    use_eager,
    words,
)

import attnloom
from attnloom.integrations.transformers import attending, register, use


@pytest.mark.parametrize("side", [None, "left", "right"])
@pytest.mark.parametrize("pattern", CAUSAL)
@pytest.mark.parametrize("name", DECODERS)
def test_decoder_gives_what_eager_attention_gives_in_a_step_of_training(
    name: str, pattern: str, side: str | None
) -> None:
    ours, eager = both(model_of(name, "ForCausalLM", DECODERS[name]), CAUSAL[pattern])
    compare(ours, eager, side, use_cache=False)


@pytest.mark.parametrize("side", [None, "left", "right"])
@pytest.mark.parametrize("pattern", BOTH_WAYS)
@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_gives_what_eager_attention_gives_in_a_step_of_training(
    name: str, pattern: str, side: str | None
) -> None:
    ours, eager = both(model_of(name, "ForMaskedLM", ENCODERS[name]), BOTH_WAYS[pattern])
    compare(ours, eager, side)


def compare(ours: Any, eager: Any, side: str | None, **given: Any) -> None:
    n, lengths = 23, [23, 9, 1]
    ids = words(3, n)
    mask = None if side is None else padding(lengths, n, side)
    real = torch.ones(3, n, dtype=torch.bool) if mask is None else mask.bool()
    if mask is not None:
        ids = ids * mask
    # The wave of positions and the norms are worked out in float32 by some models.
    found, wanted = (outputs(model, ids, mask, **given) for model in (ours, eager))
    assert not found.isnan().any()
    torch.testing.assert_close(found[real], wanted[real], atol=2e-5, rtol=2e-5)
    for one, other in zip(step(ours, ids, mask), step(eager, ids, mask), strict=True):
        torch.testing.assert_close(one, other, atol=5e-5, rtol=5e-4)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["Llama", "Bert"])
def test_sequences_of_several_lengths_may_be_read_at_once(
    name: str, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU."""
    monkeypatch.setattr(attending, "takes_lengths", lambda plans, *_: plans.keeps_growing)
    if name == "Bert":
        model, pattern = model_of(name, "ForMaskedLM", ENCODERS[name]), BOTH_WAYS["longformer"]
    else:
        model, pattern = model_of(name, "ForCausalLM", DECODERS[name]), CAUSAL["sinks"]
    ours, eager = both(model, pattern)
    compare(ours, eager, side)


@pytest.mark.parametrize("name", ["Llama", "Bert"])
def test_pattern_is_what_changes_the_result(name: str) -> None:
    options = DECODERS[name] if name in DECODERS else ENCODERS[name]
    head = "ForCausalLM" if name in DECODERS else "ForMaskedLM"
    model, ids = model_of(name, head, options), words(1, 30)
    full = outputs(model, ids, None)
    use(model, attnloom.load("decoder" if name in DECODERS else "bert"))
    torch.testing.assert_close(outputs(model, ids, None), full, atol=1e-5, rtol=1e-5)
    use(model, CAUSAL["sinks"])
    assert (outputs(model, ids, None) - full).abs().max() > 0.01


@pytest.mark.parametrize("side", [None, "left", "right"])
def test_slopes_of_alibi_can_be_given_to_the_model(side: str | None) -> None:
    slopes = torch.tensor([0.5, 0.25, 0.125, 0.0625], dtype=torch.float64)
    ours = model_of("Llama", "ForCausalLM", DECODER)
    eager = copy.deepcopy(ours)
    use(ours, CAUSAL["sinks"])
    use_eager(eager, CAUSAL["sinks"], slopes)
    ids = words(2, 30)
    mask = None if side is None else padding([30, 11], 30, side)
    real = torch.ones(2, 30, dtype=torch.bool) if mask is None else mask.bool()
    wanted = outputs(eager, ids, mask, use_cache=False)
    found = outputs(ours, ids, mask, use_cache=False, alibi_slopes=slopes)
    torch.testing.assert_close(found[real], wanted[real], atol=2e-5, rtol=2e-5)
    if side is None:
        for kind in ("pattern", "dynamic"):
            cache = cache_of(kind, ours, 30)["past_key_values"]
            with torch.no_grad():
                parts = [
                    outputs(ours, ids[:, a:b], None, past_key_values=cache, alibi_slopes=slopes)
                    for a, b in ((0, 12), (12, 13), (13, 14), (14, 30))
                ]
            torch.testing.assert_close(torch.cat(parts, 1), wanted, atol=2e-5, rtol=2e-5)


def test_inputs_are_given_to_the_model() -> None:
    pattern = attnloom.parse(
        "pattern p { input doc: segments; window(each_side=4); only same(doc) }"
    )
    model = model_of("Bert", "Model", ENCODERS["Bert"])
    eager = copy.deepcopy(model)
    ids, mask = words(2, 20), padding([20, 12], 20, "left")
    doc = (torch.arange(20) // 6).expand(2, -1)
    use_eager(eager, pattern, doc=doc)
    use(model, pattern)
    found = outputs(model, ids, mask, pattern_inputs={"doc": doc})
    wanted = outputs(eager, ids, mask)
    torch.testing.assert_close(found[mask.bool()], wanted[mask.bool()], atol=1e-6, rtol=1e-6)
    with pytest.raises(ValueError, match="'doc' is missing"):
        model(ids)


def _outputs(ids: torch.Tensor, file: bytes, answers: Any) -> None:
    torch.set_num_threads(1)
    register(CAUSAL["sinks"], "attnloom")
    model = torch.load(io.BytesIO(file), weights_only=False)
    answers.put(model(ids).logits.detach().numpy())


def test_model_can_be_copied_and_saved_and_sent_to_another_process(tmp_path: Path) -> None:
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, CAUSAL["sinks"])
    ids = words(2, 20)
    expected = outputs(model, ids, None)
    assert torch.equal(outputs(copy.deepcopy(model), ids, None), expected)
    other = model_of("Llama", "ForCausalLM", DECODER, seed=1)
    use(other, CAUSAL["sinks"])
    other.load_state_dict(model.state_dict())
    assert torch.equal(outputs(other, ids, None), expected)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(
        tmp_path, attn_implementation="attnloom", dtype=torch.float64
    )
    assert torch.equal(outputs(again, ids, None), expected)
    file = io.BytesIO()
    torch.save(model, file)
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_outputs, args=(ids, file.getvalue(), answers))
    process.start()
    found = torch.from_numpy(answers.get(timeout=300))
    process.join()
    assert process.exitcode == 0
    torch.testing.assert_close(found, expected)


def test_autocast_reaches_the_pattern() -> None:
    model = model_of("Llama", "ForCausalLM", DECODER).float()
    use(model, CAUSAL["sinks"])
    ids = words(2, 20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = model(ids, labels=ids)
    lowered.loss.backward()
    assert lowered.logits.dtype == torch.bfloat16
    exact = outputs(model, ids, None)
    assert (lowered.logits.float() - exact).norm() < 0.05 * exact.norm()


def test_two_names_serve_two_models() -> None:
    names = [register(CAUSAL[one], f"pattern:{one}") for one in ("sinks", "gemma")]
    models = [model_of("Llama", "ForCausalLM", DECODER) for _ in names]
    ids = words(1, 20)
    for model, name in zip(models, names, strict=True):
        model.set_attn_implementation(name)
    found = [outputs(model, ids, None) for model in models]
    assert (found[0] - found[1]).abs().max() > 0.01


@pytest.mark.parametrize("name", ["Llama", "Bert"])
def test_model_is_one_graph_for_each_length(name: str) -> None:
    torch._dynamo.reset()
    graphs = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    if name == "Bert":
        model, pattern = model_of(name, "ForMaskedLM", ENCODERS[name]), BOTH_WAYS["longformer"]
    else:
        model, pattern = model_of(name, "ForCausalLM", DECODERS[name]), CAUSAL["gemma"]
    use(model, pattern)
    compiled = torch.compile(model, fullgraph=True, backend=graphs)
    options = {} if name == "Bert" else {"use_cache": False}
    for n in (20, 33, 20):
        ids = words(2, n)
        found, wanted = (outputs(one, ids, None, **options) for one in (compiled, model))
        torch.testing.assert_close(found, wanted)
    assert graphs.frame_count == 2


def test_packed_sequences_are_refused_in_a_graph_too() -> None:
    torch._dynamo.reset()
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, CAUSAL["sinks"])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    whole = torch.arange(20)[None]
    compiled(words(1, 20), position_ids=whole, use_cache=False)
    with pytest.raises(RuntimeError, match="packed sequences"):
        compiled(words(1, 20), position_ids=whole % 8, use_cache=False)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(reentrant: bool) -> None:
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, CAUSAL["gemma"])
    ids = words(2, 20)
    expected = step(model, ids, None)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    for one, other in zip(step(model, ids, None), expected, strict=True):
        torch.testing.assert_close(one, other)

"""What registered patterns refuse in models of Transformers, and what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="transformers is not installed; see docs/models.md")

import transformers
from integration_helpers import (
    BOTH_WAYS,
    CAUSAL,
    COMMON,
    DECODER,
    DECODERS,
    HEADS,
    LAYERS,
    WORDS,
    model_of,
    words,
)

import attnloom
from attnloom.integrations.transformers import PatternCache, register, use
from attnloom.integrations.transformers.masks import mask_info


@pytest.mark.parametrize("name", ["sdpa", "eager", "org/kernel", "flash_mine", "paged|x", ""])
def test_names_of_transformers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name must not be"):
        register(CAUSAL["sinks"], name)


def test_patterns_that_read_ahead_are_refused_in_decoders() -> None:
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, BOTH_WAYS["longformer"])
    with pytest.raises(ValueError, match=r"some query reads a later key.*`only causal`"):
        model(words(1, 20))


def test_patterns_that_read_ahead_by_their_inputs_are_refused_in_decoders() -> None:
    pattern = attnloom.parse(
        "pattern p { input hub: tokens; window(last=3); broadcast(hub) & where(j <= i + 4) }"
    )
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, pattern)
    hub = torch.zeros(2, 20, dtype=torch.bool)
    model(words(2, 20), pattern_inputs={"hub": hub}, use_cache=False)
    hub[1, 5] = True
    with pytest.raises(ValueError, match="some query reads a later key"):
        model(words(2, 20), pattern_inputs={"hub": hub}, use_cache=False)


def test_patterns_that_depend_on_the_length_are_refused_in_generation() -> None:
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, attnloom.parse("pattern p { window(last=max(2, n // 4)) }"))
    model(words(1, 20))
    with pytest.raises(ValueError, match="must not depend on the length"):
        model.generate(words(1, 20), max_new_tokens=3, do_sample=False)


def test_cache_that_drops_keys_by_the_window_of_the_model_is_refused() -> None:
    model = model_of("Mistral", "ForCausalLM", DECODERS["Mistral"])
    use(model, CAUSAL["sinks"])
    with pytest.raises(ValueError, match=r"the cache has dropped \d+ keys"):
        model.generate(words(1, 20), max_new_tokens=3, do_sample=False)


def test_masks_of_four_dimensions_are_refused() -> None:
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, CAUSAL["sinks"])
    with pytest.raises(ValueError, match=r"handed on one of shape \(1, 1, 20, 20\)"):
        model(words(1, 20), attention_mask=torch.zeros(1, 1, 20, 20, dtype=torch.float64))


def test_packed_sequences_are_refused() -> None:
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, CAUSAL["sinks"])
    positions = torch.tensor([[*range(8), *range(12)]])
    with pytest.raises(ValueError, match="the model asks for more than a window"):
        model(words(1, 20), position_ids=positions, use_cache=False)


def test_dropout_of_weights_is_refused() -> None:
    model = model_of("Bert", "Model", {**COMMON, "attention_probs_dropout_prob": 0.1}).train()
    use(model, BOTH_WAYS["longformer"])
    with pytest.raises(
        ValueError, match=r"is not supported, got 0\.1; make the model with attention_probs_dropout"
    ):
        model(words(1, 20))
    model.eval()(words(1, 20))


def test_models_with_attention_of_their_own_are_refused() -> None:
    config = transformers.LongformerConfig(
        **{**COMMON, "attention_window": 8, "max_position_embeddings": 64}
    )
    with pytest.raises(ValueError, match="LongformerModel has attention of its own"):
        use(transformers.LongformerModel(config), BOTH_WAYS["longformer"])


def test_cross_attention_is_refused_and_the_encoder_is_served() -> None:
    config = transformers.BartConfig(
        vocab_size=WORDS, d_model=32, encoder_layers=LAYERS, decoder_layers=1, dropout=0.0,
        encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, encoder_ffn_dim=32,
        decoder_ffn_dim=32, max_position_embeddings=64, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1, num_hidden_layers=LAYERS,
    )  # fmt: skip
    model = transformers.BartModel(config).double().eval()
    use(model, attnloom.load("decoder"))
    with pytest.raises(ValueError, match="may be cross-attention"):
        model(words(1, 20), decoder_input_ids=words(1, 20))


def test_cache_of_a_model_without_a_pattern_is_refused() -> None:
    model = model_of("Llama", "ForCausalLM", DECODER)
    with pytest.raises(ValueError, match="model must run a registered pattern"):
        PatternCache(model)


def test_cache_refuses_to_grow_beyond_its_length_and_to_go_back() -> None:
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, CAUSAL["sinks"])
    cache = PatternCache(model, 20)
    model(words(1, 20), past_key_values=cache)
    with pytest.raises(ValueError, match="a sequence grows to 21 tokens"):
        model(words(1, 1), past_key_values=cache)
    with pytest.raises(ValueError, match=r"3 tokens cannot be taken back.*activate_past_recording"):
        cache.crop(-3)
    with pytest.raises(ValueError, match="must be minus the number of tokens, got 3"):
        cache.crop(3)


@pytest.mark.parametrize(
    ("name", "what"),
    [("GptOss", "has sinks.*as s_aux"), ("Gemma2", "has attn_logit_softcapping.*as softcap")],
)
def test_scores_of_a_model_that_does_not_hand_on_what_changes_them_are_refused(
    name: str, what: str
) -> None:
    model = model_of(name, "ForCausalLM", DECODERS[name])
    use(model, CAUSAL["sinks"])
    attend = transformers.AttentionInterface._global_mapping["attnloom"]

    def forgetful(*tensors: Any, s_aux: Any = None, softcap: Any = None, **given: Any) -> Any:
        return attend(*tensors, **given)

    transformers.AttentionInterface.register("attnloom_forgetful", forgetful)
    transformers.AttentionMaskInterface.register("attnloom_forgetful", mask_info)
    model(words(1, 20))
    model.set_attn_implementation("attnloom_forgetful")
    with pytest.raises(ValueError, match=what):
        model(words(1, 20))


@pytest.mark.parametrize("argument", ["alibi", "indices", "block_indices", "sinks"])
def test_arguments_that_change_the_result_are_refused(argument: str) -> None:
    model = model_of("Llama", "ForCausalLM", DECODER)
    use(model, CAUSAL["sinks"])
    with pytest.raises(ValueError, match=rf"\({argument}\), which is not supported"):
        model(words(1, 20), **{argument: torch.zeros(4)})


@pytest.mark.parametrize(
    ("name", "options", "what"),
    [
        ("Bloom", {"hidden_size": 32, "n_layer": 1, "n_head": 4}, "adds the mask"),
        ("Mpt", {"d_model": 32, "n_layers": 1, "n_heads": 4, "max_seq_len": 64}, "wants `mask.to`"),
    ],
)
def test_models_with_alibi_and_attention_of_their_own_are_refused(
    name: str, options: dict[str, Any], what: str
) -> None:
    make, config = getattr(transformers, f"{name}Model"), getattr(transformers, f"{name}Config")
    model = make(config(vocab_size=WORDS, **options))
    with pytest.raises(ValueError, match=f"{name}Model has attention of its own"):
        use(model, CAUSAL["sinks"])
    register(CAUSAL["sinks"])
    model = make(config(vocab_size=WORDS, attn_implementation="attnloom", **options))
    with pytest.raises((TypeError, AttributeError), match=f"attention of its own.*{what}"):
        model(words(1, 20))

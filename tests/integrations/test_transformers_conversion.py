"""Longformer, LED and BigBird with their attention swapped for ours: the same outputs."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="transformers is not installed; see docs/models.md")

import transformers
from integration_helpers import COMMON, HEADS, LAYERS, NO_DROPOUT, WORDS, words

from attnloom.integrations.transformers import convert_bigbird, convert_longformer
from attnloom.integrations.transformers.bigbird import BigBirdAttention
from attnloom.integrations.transformers.longformer import LongformerAttention


def strong(model: Any, seed: int = 0) -> Any:
    """With large random weights, so that every key matters."""
    generator = torch.Generator().manual_seed(seed)
    model = model.eval()
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(0.3 * noise + (1 if weight.dim() == 1 else 0))
    return model


def longformer() -> Any:
    config = transformers.LongformerConfig(
        **{**COMMON, **NO_DROPOUT, "max_position_embeddings": 100},
        attention_window=[4, 8, 4, 6], sep_token_id=2,
    )  # fmt: skip
    return strong(transformers.LongformerModel(config, add_pooling_layer=False))


def led() -> Any:
    config = transformers.LEDConfig(
        vocab_size=WORDS, d_model=32, encoder_layers=LAYERS, decoder_layers=1, dropout=0.0,
        encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, encoder_ffn_dim=32,
        decoder_ffn_dim=32, max_encoder_position_embeddings=100, attention_window=[4, 8, 4, 6],
        max_decoder_position_embeddings=100, attention_dropout=0.0, activation_dropout=0.0,
    )  # fmt: skip
    return strong(transformers.LEDModel(config))


def masks(kind: str, batch: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The attention mask and the global attention mask of a case."""
    real = torch.ones(batch, n, dtype=torch.long)
    hub = torch.zeros(batch, n, dtype=torch.long)
    if kind in ("one", "right", "left", "gap"):
        hub[:, 0] = 1
    if kind in ("ragged", "padded global", "left", "right"):
        hub[0, [2, 5, 6]] = 1
        hub[1, n - 1] = 1
    if kind in ("right", "padded global"):
        real[0, n - 5 :] = 0
        real[2, 3:] = 0
    if kind == "padded global":
        hub[0, n - 2] = 1
    if kind == "left":
        real[0, :4] = 0
        real[2, : n - 2] = 0
    if kind == "gap":
        real[1, 7:12] = 0
        real[0, n - 4 :] = 0
    if kind == "one token":
        real[:, 1:] = 0
        hub[1, 0] = 1
    return real, hub


KINDS = (
    "none", "one", "ragged", "right", "left", "gap", "padded global", "one token",
)  # fmt: skip


def run(model: Any, ids: torch.Tensor, real: torch.Tensor, hub: torch.Tensor) -> torch.Tensor:
    arguments: dict[str, Any] = {"attention_mask": real, "global_attention_mask": hub}
    if isinstance(model, transformers.LEDModel):
        found = model(ids, decoder_input_ids=ids[:, :3], **arguments).encoder_last_hidden_state
    else:
        found = model(ids, **arguments).last_hidden_state
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [longformer, led])
@pytest.mark.parametrize("n", [24, 45])
def test_longformer_gives_the_same_outputs_and_gradients(make: Any, kind: str, n: int) -> None:
    theirs = make()
    ours = convert_longformer(copy.deepcopy(theirs))
    assert [key for key, _ in ours.state_dict().items()] == list(theirs.state_dict())
    swapped = [one for one in ours.modules() if isinstance(one, LongformerAttention)]
    assert len(swapped) == LAYERS
    ids = words(3, n)
    real, hub = masks(kind, 3, n)
    outputs = [run(model, ids, real, hub) for model in (ours, theirs)]
    # In float32: in float64 their gradients are NaN where there is padding.
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)
    wishes = torch.randn(outputs[0].shape, generator=torch.Generator().manual_seed(1))
    gradients = []
    for model, output in zip((ours, theirs), outputs, strict=True):
        (output * wishes).sum().backward()
        gradients.append({k: p.grad for k, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        other = gradients[1][name]
        torch.testing.assert_close(gradient, other, atol=1e-4 * (1 + other.abs().max()), rtol=1e-4)


def test_longformer_refuses_dropout_and_weights() -> None:
    options = {**COMMON, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.1}
    config = transformers.LongformerConfig(**options, attention_window=4, sep_token_id=2)
    model = convert_longformer(transformers.LongformerModel(config)).train()
    with pytest.raises(ValueError, match="dropout of attention weights is not supported"):
        model(words(1, 8))
    with pytest.raises(ValueError, match="there are no attention weights"):
        model.eval()(words(1, 8), output_attentions=True)


def test_model_without_longformer_attention_is_refused() -> None:
    model = transformers.BertModel(transformers.BertConfig(**COMMON))
    with pytest.raises(ValueError, match="model must be a Longformer or LED of Transformers"):
        convert_longformer(model)
    with pytest.raises(ValueError, match="model must be a block-sparse BigBird of Transformers"):
        convert_bigbird(model)


# --- BigBird -------------------------------------------------------------------------------------


def bigbird(size: int = 4, picks: int = 2, most: int = 256) -> Any:
    config = transformers.BigBirdConfig(
        **{**COMMON, **NO_DROPOUT, "max_position_embeddings": most, "sep_token_id": 2},
        block_size=size, num_random_blocks=picks, attention_type="block_sparse",
    )  # fmt: skip
    return strong(transformers.BigBirdModel(config, add_pooling_layer=False)).double()


def both_bigbirds(ids: torch.Tensor, real: torch.Tensor, train: bool, **options: Any) -> None:
    theirs = bigbird(**options)
    ours = convert_bigbird(copy.deepcopy(theirs))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert sum(isinstance(one, BigBirdAttention) for one in ours.modules()) == LAYERS
    outputs = [
        model.train(train)(ids, attention_mask=real).last_hidden_state for model in (ours, theirs)
    ]
    torch.testing.assert_close(*outputs, atol=1e-6, rtol=1e-6)
    wishes = torch.randn(outputs[0].shape, generator=torch.Generator().manual_seed(1)).double()
    gradients = []
    for model, output in zip((ours, theirs), outputs, strict=True):
        (output * wishes).sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6 * (1 + other.abs().max()), rtol=1e-5)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("side", ["none", "right", "left", "not whole blocks"])
@pytest.mark.parametrize(("picks", "n"), [(2, 48), (3, 60), (1, 64)])
def test_bigbird_gives_the_same_outputs_and_gradients(
    train: bool, side: str, picks: int, n: int
) -> None:
    real = torch.ones(3, n, dtype=torch.long)
    if side == "right":
        real[0, 30:] = real[1, n - 1 :] = 0
    elif side == "left":
        real[0, :17] = 0
    ids = words(3, n if side != "not whole blocks" else n - 3)
    both_bigbirds(ids, real[:, : ids.shape[1]], train, picks=picks)


@pytest.mark.parametrize("train", [False, True])
def test_bigbird_counts_blocks_that_its_old_plans_repeat(train: bool) -> None:
    ids = words(1, 1024)
    both_bigbirds(ids, torch.ones_like(ids), train, size=64, picks=3, most=1024)
    layer = next(one for one in convert_bigbird(bigbird(64, 3, 1024)).train(train).modules()
                 if isinstance(one, BigBirdAttention))  # fmt: skip
    assert layer.block_counts(1024)[:, 1:-1].max() == (2 if train else 4)


def test_bigbird_leaves_the_random_state_of_numpy_alone() -> None:
    model = convert_bigbird(bigbird()).train()
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    model(words(1, 48))
    assert np.random.rand() == expected


def test_short_input_turns_bigbird_to_full_attention_as_it_does_without_us() -> None:
    theirs = bigbird()
    ours = convert_bigbird(copy.deepcopy(theirs))
    for ids in (words(1, 12), words(1, 48)):
        outputs = [model(ids).last_hidden_state for model in (ours, theirs)]
        torch.testing.assert_close(*outputs, atol=1e-6, rtol=1e-6)


def test_converted_models_can_be_copied_and_pickled() -> None:
    import pickle

    for model, ids in ((convert_bigbird(bigbird()), words(2, 48)),
                       (convert_longformer(longformer()), words(2, 24))):  # fmt: skip
        expected = model(ids).last_hidden_state
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            torch.testing.assert_close(twin(ids).last_hidden_state, expected)

"""Models with random weights, and eager attention over the dense masks of patterns."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

import attnloom
from attnloom.integrations.transformers import PatternCache, use

LAYERS, HEADS, WIDTH, WORDS = 4, 4, 32, 61

COMMON: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "max_position_embeddings": 512, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": None,
}  # fmt: skip
DECODER = {**COMMON, "num_key_value_heads": 2, "head_dim": 8}

DECODERS: dict[str, dict[str, Any]] = {
    "Llama": DECODER,
    "Gemma3Text": {**DECODER, "sliding_window": 5, "query_pre_attn_scalar": 8},
    "Mistral": {**DECODER, "sliding_window": 7},
    "Qwen3": DECODER,
    "Gemma2": {**DECODER, "sliding_window": 5, "query_pre_attn_scalar": 8,
               "attn_logit_softcapping": 2.0},
    "GptOss": {**DECODER, "sliding_window": 6, "num_local_experts": 2, "num_experts_per_tok": 1},
}  # fmt: skip
NO_DROPOUT = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
ENCODERS: dict[str, dict[str, Any]] = {
    "ModernBert": {**COMMON, "local_attention": 8, "global_attn_every_n_layers": 2},
    "Bert": {**COMMON, **NO_DROPOUT},
    "Roberta": {**COMMON, **NO_DROPOUT},
}


def model_of(name: str, head: str, options: Mapping[str, Any], seed: int = 0) -> Any:
    """A model in float64 whose random weights are large enough for every key to matter."""
    import transformers

    config = getattr(transformers, f"{name}Config")(**options)
    model = getattr(transformers, f"{name.removesuffix('Text')}{head}")(config).double().eval()
    if name == "GptOss":  # the fast way is not for float64
        model.set_experts_implementation("eager")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            weight.copy_(0.25 * noise + (1 if weight.dim() == 1 else 0))
    return model


def use_eager(
    model: Any, pattern: attnloom.Pattern, slopes: torch.Tensor | None = None, **inputs: Any
) -> None:
    """Have a model run its own eager attention over the dense mask of each layer of a pattern.

    With slopes, how far apart two real tokens are is taken off their score.
    """
    import transformers

    def mask(attention_mask: Any = None, **given: Any) -> Any:
        if attention_mask is None:
            return torch.ones(given["batch_size"], given["q_length"], dtype=torch.bool)
        return attention_mask

    def attend(
        module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **given: Any
    ) -> Any:
        real = attention_mask if attention_mask is not None else torch.ones(query.shape[0::2])
        allowed = dense(pattern, real, module.layer_idx, **inputs).to(query.device)
        # Finite in float32 as well, in which models work the softmax out.
        bias = torch.zeros(allowed.shape, dtype=query.dtype).masked_fill(~allowed, -1e30)
        if slopes is not None:
            places = (real != 0).cumsum(1)
            far = (places[:, None, :, None] - places[:, None, None]).abs()
            bias = bias - slopes[:, None, None] * far
        eager = sys.modules[type(module).__module__].eager_attention_forward
        return eager(module, query, key, value, bias, **given)

    transformers.AttentionInterface.register("dense_oracle", attend)
    transformers.AttentionMaskInterface.register("dense_oracle", mask)
    model.set_attn_implementation("dense_oracle")


def dense(pattern: attnloom.Pattern, real: torch.Tensor, layer: int, **inputs: Any) -> torch.Tensor:
    """Who reads whom in a padded batch, the pattern being of the real tokens of each element."""
    batch, length = real.shape
    found = np.zeros((batch, HEADS, length, length), dtype=bool)
    for element, row in enumerate(real.numpy() != 0):
        slots = np.flatnonzero(row)
        own = {name: value[element : element + 1, row] for name, value in inputs.items()}
        for head in range(HEADS):
            if len(slots):
                mask = pattern.mask(
                    len(slots), head=head, heads=HEADS, layer=layer, layers=LAYERS, inputs=own
                )
                found[element, head][np.ix_(slots, slots)] = mask
    return torch.from_numpy(found)


def words(batch: int, length: int, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, WORDS, (batch, length), generator=generator)


def padding(lengths: list[int], length: int, side: str) -> torch.Tensor:
    mask = torch.zeros(len(lengths), length, dtype=torch.long)
    for row, real in zip(mask, lengths, strict=True):
        row[slice(length - real, None) if side == "left" else slice(0, real)] = 1
    return mask


BOTH_WAYS = {
    "longformer": attnloom.load("longformer", reach=3),
    "end": attnloom.parse("pattern p { window(each_side=2); global(-1) }"),
    "layers": attnloom.parse(
        """pattern p {
            when layer % 2 == 0 { window(each_side=2) } else { random(links=5) | self }
        }"""
    ),
}
CAUSAL = {
    "sinks": attnloom.load("streaming_llm", sinks=2, recent=5),
    "gemma": attnloom.load("gemma3", recent=4),
    "layers and heads": attnloom.parse(
        """pattern p {
            when layer < layers - 1 { window(last=4); global(first 1) } else { full }
            when head == 1 { random(links=2, seed=7) }
            only causal
        }"""
    ),
}


def outputs(model: Any, ids: torch.Tensor, mask: torch.Tensor | None, **given: Any) -> torch.Tensor:
    found = model(ids, attention_mask=mask, **given)
    logits = found.logits if hasattr(found, "logits") else found.last_hidden_state
    assert isinstance(logits, torch.Tensor)
    return logits


def step(model: Any, ids: torch.Tensor, mask: torch.Tensor | None) -> list[torch.Tensor]:
    """The gradients of one step of training, over the real tokens."""
    model.train().zero_grad()
    logits = outputs(model, ids, mask)
    if mask is not None:
        logits = logits[mask.bool()]
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, -2)[:, :WORDS], ids[ids > 0][: len(logits.flatten(0, -2))]
    )
    loss.backward()
    model.eval()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def both(model: Any, pattern: attnloom.Pattern) -> tuple[Any, Any]:
    """The model with the pattern, and another with eager attention over the dense masks."""
    other = copy.deepcopy(model)
    use_eager(other, pattern)
    use(model, pattern)
    return model, other


def cache_of(kind: str, model: Any, length: int) -> dict[str, Any]:
    """What a model is told to use a kind of cache."""
    import transformers

    if kind == "pattern":
        return {"past_key_values": PatternCache(model, length)}
    if kind == "dynamic":
        return {"past_key_values": transformers.DynamicCache()}
    if kind == "static":
        return {"cache_implementation": "static", "disable_compile": True}
    return {"use_cache": False}

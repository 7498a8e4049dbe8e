"""What a registered pattern refuses, because it would get it wrong without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from attnloom.integrations.transformers.masks import MaskInfo
from attnloom.runtime.sharded import ShardedPlan

_REFUSED = {
    "position_bias": "adds a bias to its scores",
    "alibi": "adds a bias to its scores",
    "sinks": "has sinks of its own kind",
    "indices": "chooses the keys itself",
    "block_indices": "chooses the keys itself",
    "head_mask": "masks heads",
    "cu_seq_lens_q": "packs several sequences into one",
    "cu_seqlens": "packs several sequences into one",
}
"""Arguments that change the result, and what a model that gives them does."""

_DROPOUT = ("attention_probs_dropout_prob", "attn_pdrop", "attention_dropout", "attn_dropout")
"""What models call the dropout of attention weights."""

_HANDED_ON = {"sinks": "s_aux", "attn_logit_softcapping": "softcap"}
"""What an attention module has that changes its scores, and the argument it is handed on as."""


def checked(
    name: str,
    module: torch.nn.Module,
    query: torch.Tensor,
    info: MaskInfo | torch.Tensor | None,
    dropout: float,
    given: Mapping[str, Any],
) -> MaskInfo:
    """What is known of the call, once it is certain that nothing else is asked for.

    Raises:
        ValueError: something is.
    """
    what = type(module).__name__
    for argument, doing in _REFUSED.items():
        if given.get(argument) is not None:
            raise ValueError(f"{name}: {what} {doing} ({argument}), which is not supported")
    for attribute, argument in _HANDED_ON.items():
        if getattr(module, attribute, None) is not None and given.get(argument) is None:
            raise ValueError(
                f"{name}: {what} has {attribute}, and did not hand it on as {argument}"
            )
    config = getattr(module, "config", None)
    if dropout:
        option = next((one for one in _DROPOUT if hasattr(config, one)), "attention_dropout")
        raise ValueError(
            f"{name}: dropout of attention weights is not supported, got {dropout}; make the "
            f"model with {option}=0, as in from_pretrained(..., {option}=0)"
        )
    if given.get("output_attentions"):
        raise ValueError(f"{name}: there are no attention weights to give out")
    in_decoder = getattr(module, "is_decoder", False) is True
    if "Cross" in what or (in_decoder and getattr(config, "is_encoder_decoder", False)):
        raise ValueError(
            f"{name}: {what} may be cross-attention, which a pattern does not describe; "
            "choose it for the encoder alone"
        )
    if info is None and not getattr(module, "is_causal", False):
        # Such as of pictures: models without masks.
        return MaskInfo(query.shape[2], query.shape[2], 0, 0, None, None)
    if not isinstance(info, MaskInfo):
        shown = "none" if info is None else f"one of shape {tuple(info.shape)}"
        raise ValueError(
            f"{name}: a mask (batch, length) can be given, and the model has handed on "
            f"{shown}; say other things in the pattern"
        )
    if info.foreign is not None:
        raise ValueError(
            f"{name}: the model asks for more than a window ({info.foreign}), as for packed "
            "sequences or pictures; say it in the pattern, with an input"
        )
    if info.kv_offset:
        raise ValueError(
            f"{name}: the cache has dropped {info.kv_offset} keys by the model's own "
            "window; give past_key_values, a PatternCache or a DynamicCache() of no model"
        )
    return info


def check_positions(info: MaskInfo, positions: torch.Tensor | None) -> None:
    """In a graph, have positions that start anew, as of packed sequences, raise when it runs.

    Outside of one, Transformers has told by itself; while it traces, it does not look.
    """
    if torch.compiler.is_compiling() and info.padding is None and positions is not None:
        together = (positions.diff(dim=-1) == 1).all()
        torch._assert_async(together, "packed sequences: say it in the pattern, with an input")


def of_layer(
    name: str, module: torch.nn.Module, sharded_plan: ShardedPlan | Sequence[ShardedPlan]
) -> ShardedPlan:
    """The part of a layer's plan, of one for all layers or of one for each."""
    if isinstance(sharded_plan, ShardedPlan):
        return sharded_plan
    layer: int | None = getattr(module, "layer_idx", None)
    if layer is None or not layer < len(sharded_plan):
        raise ValueError(
            f"{name}: sharded_plan is of {len(sharded_plan)} layers, and this is layer {layer}"
        )
    return sharded_plan[layer]


def checked_part(
    name: str,
    info: MaskInfo | torch.Tensor | None,
    shared: ShardedPlan,
    positions: torch.Tensor | None,
) -> MaskInfo | torch.Tensor | None:
    """What is known of a call for a part of a sequence, whose positions may jump.

    Raises:
        ValueError: tokens are padding, or have other positions than those of the part.
    """
    if not isinstance(info, MaskInfo):
        return info
    if info.padding is not None:
        raise ValueError(f"{name}: padding over several processes is not supported")
    if info.offset:
        raise ValueError(f"{name}: a cache over several processes is not supported")
    if positions is None:
        return info
    if torch.compiler.is_compiling():
        torch._assert_async((positions == shared.positions).all(), _POSITIONS)
    elif positions.shape[-1] != shared.local_len or bool((positions != shared.positions).any()):
        raise ValueError(f"{name}: {_POSITIONS}")
    if info.foreign is not None and info.foreign.startswith("packed_sequence_mask_function"):
        return replace(info, foreign=None)  # so it takes positions that jump
    return info


_POSITIONS = "position_ids must be those of the part: position_ids=sharded.positions[None]"

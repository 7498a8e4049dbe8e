"""`register`: a pattern as an attention implementation of Transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from attnloom.integrations.transformers.attending import Call, Scores
from attnloom.integrations.transformers.checks import (
    check_positions,
    checked,
    checked_part,
    of_layer,
)
from attnloom.integrations.transformers.masks import MaskInfo, mask_info
from attnloom.nn.plans import Plans, no_pattern
from attnloom.pattern import Pattern
from attnloom.runtime.decoding import Decoder
from attnloom.runtime.sharded import ShardedPlan
from attnloom.runtime.sharded_attention import attention as divided_attention

Inputs = Mapping[str, Any]


def register(
    pattern: Pattern,
    name: str = "attnloom",
    *,
    block: int | tuple[int, int] = 128,
    backend: str = "auto",
) -> str:
    """Make a pattern an attention implementation, for `attn_implementation=name`.

    The layer of the pattern is the layer of the model. The pattern says all of who reads whom: a
    window or chunks that the model has by itself no longer count. In a decoder it must be causal.
    Padding is respected, and the pattern speaks of the real tokens: its token 0 is the first of
    them. Run-time inputs are given to the model, `model(ids, pattern_inputs={...})`.

    Capped scores (Gemma-2) and attention sinks (gpt-oss) are worked out as the model has them, and
    so is ALiBi where `alibi_slopes` are given to the model, one for each head. A call that would be
    wrong is refused: scores with a bias, dropout of weights, packed sequences, masks with four
    dimensions, caches that have dropped keys, cross-attention. Registering a name again takes
    effect in models that have it already.

    Args:
        pattern: who reads whom.
        name: what Transformers calls it.
        block: as in `Pattern.compile`.
        backend: as in `attnloom.attention`.

    Returns:
        The name.

    Raises:
        ValueError: the name belongs to Transformers, or has a meaning there.
    """
    if not isinstance(pattern, Pattern):
        raise TypeError(no_pattern(pattern))
    if not name or "/" in name or "|" in name or "flash" in name or name == "eager":
        raise ValueError(f"name must not be one that means something to Transformers, got {name!r}")
    taken = AttentionInterface._global_mapping.get(name)
    if taken is not None and not isinstance(taken, Registered):
        raise ValueError(f"name must not be taken, and {name!r} is an implementation already")
    AttentionInterface.register(name, Registered(pattern, name, block, backend))
    AttentionMaskInterface.register(name, mask_info)
    return name


def use(model: Any, pattern: Pattern, name: str = "attnloom", **options: Any) -> None:
    """Register a pattern and have a model use it.

    Raises:
        ValueError: the model has attention of its own, and would go on with it; for Longformer, LED
            and BigBird see `convert_longformer` and `convert_bigbird`.
    """
    if not model._can_set_attn_implementation():
        raise ValueError(
            f"{type(model).__name__} has attention of its own, which no implementation replaces; "
            "for Longformer, LED and BigBird there are convert_longformer and convert_bigbird"
        )
    model.set_attn_implementation(register(pattern, name, **options))
    config = model.config.get_text_config()
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    for layer in range(layers):
        # Now, for in a graph that is traced there is no time.
        AttentionInterface._global_mapping[name].plans_of(layer, layers, heads)


class Registered:
    """A registered pattern: the attention function, and the plans it has made.

    Called by every layer of a model, with queries `(batch, heads, q_length, head_dim)` and the keys
    of all tokens so far.
    """

    def __init__(
        self, pattern: Pattern, name: str, block: int | tuple[int, int], backend: str
    ) -> None:
        self.pattern, self.name, self.block, self.backend = pattern, name, block, backend
        self._plans: dict[tuple[int, int, int], Plans] = {}

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: MaskInfo | torch.Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        softcap: float | None = None,
        s_aux: torch.Tensor | None = None,
        alibi_slopes: torch.Tensor | None = None,
        pattern_inputs: Inputs | None = None,
        sharded_plan: ShardedPlan | Sequence[ShardedPlan] | None = None,
        **given: Any,
    ) -> tuple[torch.Tensor, None]:
        info = attention_mask
        if sharded_plan is not None:
            shared = of_layer(self.name, module, sharded_plan)
            info = checked_part(self.name, info, shared, given.get("position_ids"))
        info = checked(
            self.name, module, query, info, dropout,
            {**given, "softcap": softcap, "s_aux": s_aux},
        )  # fmt: skip
        scores = Scores(scaling, softcap, s_aux, alibi_slopes)
        plans = self.plans(module, query.shape[1])
        is_causal = given.get("is_causal")
        is_causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
        if sharded_plan is not None:
            if is_causal and not self.pattern.inputs:
                plans.check_causal(shared.division.length)
            output = divided_attention(
                query, key, value, shared, backend=self.backend, **scores.options
            )
            return output.transpose(1, 2).contiguous(), None
        decoder: Decoder | None = getattr(key, "attnloom_decoder", None)
        call = Call(
            self.name, plans, query, key, value, info, scores,
            is_causal or decoder is not None, pattern_inputs, self.backend,
        )  # fmt: skip
        if decoder is not None:
            output = call.with_decoder(decoder)
        elif info.offset:
            output = call.continued()
        else:
            check_positions(info, given.get("position_ids"))
            output = call.whole()
        return output.transpose(1, 2).contiguous(), None

    def plans(self, module: torch.nn.Module, heads: int) -> Plans:
        """The plans of the layer that a module belongs to."""
        layer = getattr(module, "layer_idx", None)
        layers = getattr(getattr(module, "config", None), "num_hidden_layers", None)
        return self.plans_of(layer, layers, heads)

    def plans_of(self, layer: int | None, layers: int | None, heads: int) -> Plans:
        """The plans of a layer; those of all layers are the same if the pattern has it so."""
        probe = self._plans.get((0, 0, heads))
        if probe is None:
            probe = self._plans[0, 0, heads] = Plans(self.pattern, heads, block=self.block)
        if not probe.depends_on_layer:
            return probe
        if layer is None or layers is None:
            raise ValueError(
                f"{self.name}: the pattern's layers differ, and the model does not number its own"
            )
        place = (layer + 1, layers, heads)
        if place not in self._plans:
            self._plans[place] = Plans(
                self.pattern, heads, layer=layer, layers=layers, block=self.block
            )
        return self._plans[place]

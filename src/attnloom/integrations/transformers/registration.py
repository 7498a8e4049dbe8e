"""`register`: a pattern as an attention implementation of Transformers."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface

from attnloom.integrations.transformers.checks import check_positions, checked
from attnloom.integrations.transformers.masks import MaskInfo, mask_info
from attnloom.nn.attention import takes_lengths
from attnloom.nn.padding import RealFirst, inputs_of, packed_inputs
from attnloom.nn.plans import Plans, no_pattern
from attnloom.pattern import Pattern
from attnloom.runtime.attention import attention
from attnloom.runtime.decoding import Decoder
from attnloom.runtime.modifiers import Modifiers
from attnloom.runtime.row_attention import attention_rows

_LEAST_HORIZON = 256

Inputs = Mapping[str, Any]
Heads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


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


class Scores(NamedTuple):
    """What a model does with its scores."""

    scale: float | None
    softcap: float | None
    sinks: torch.Tensor | None
    alibi_slopes: torch.Tensor | None

    @property
    def options(self) -> dict[str, Any]:
        """As arguments of attention."""
        return self._asdict()


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
        **given: Any,
    ) -> tuple[torch.Tensor, None]:
        info = checked(
            self.name, module, query, attention_mask, dropout,
            {**given, "softcap": softcap, "s_aux": s_aux},
        )  # fmt: skip
        plans = self.plans(module, query.shape[1])
        heads = (query, key, value)
        scores = Scores(scaling, softcap, s_aux, alibi_slopes)
        is_causal = given.get("is_causal")
        is_causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
        decoder: Decoder | None = getattr(key, "attnloom_decoder", None)
        if decoder is not None:
            if pattern_inputs:
                raise ValueError("pattern_inputs: a cache has no room for inputs of the pattern")
            output = self._with_decoder(decoder, plans, heads, info, scores)
        elif info.offset:
            output = self._continued(plans, heads, info, scores, is_causal)
        else:
            check_positions(info, given.get("position_ids"))
            output = self._whole(plans, heads, info, scores, is_causal, pattern_inputs)
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

    def _whole(
        self,
        plans: Plans,
        heads: Heads,
        info: MaskInfo,
        scores: Scores,
        is_causal: bool,
        inputs: Inputs | None,
    ) -> torch.Tensor:
        """Attention of sequences from their beginning."""
        query, key, value = heads
        length = query.shape[2]
        if key.shape[2] < length or info.q_length != length:
            raise ValueError(
                f"{self.name}: {length} queries and {key.shape[2]} keys are not of one sequence"
            )
        if key.shape[2] > length:
            # A static cache has room for tokens to come.
            if not is_causal:
                raise ValueError(
                    f"{self.name}: {length} queries and {key.shape[2]} keys, as in "
                    "cross-attention, which a pattern does not describe"
                )
            key, value = key[:, :, :length], value[:, :, :length]
        packing = info.packing(length)
        if packing is None:
            return self._attend(plans, (query, key, value), scores, is_causal, inputs)
        query, key, value = (_packed(x, packing) for x in (query, key, value))
        given = packed_inputs(inputs or {}, packing)
        if takes_lengths(plans, query.device, self.backend):
            output = self._attend(
                plans, (query, key, value), scores, is_causal, given, packing.lengths
            )
            return packing.unpack(output.transpose(1, 2)).transpose(1, 2)
        output = torch.zeros_like(query)
        for real in sorted(set(packing.lengths.tolist())):
            if real == 0:
                continue
            elements = torch.nonzero(packing.lengths == real)[:, 0]
            tokens = real - plans.memory(real)
            some = query[elements, :, :real], key[elements, :, :real], value[elements, :, :real]
            own = inputs_of(given, elements, tokens)
            found = self._attend(plans, some, scores, is_causal, own)
            output[elements, :, :real] = found
        return packing.unpack(output.transpose(1, 2)).transpose(1, 2)

    def _attend(
        self,
        plans: Plans,
        heads: Heads,
        scores: Scores,
        is_causal: bool,
        inputs: Inputs | None,
        key_lengths: torch.Tensor | None = None,
    ) -> torch.Tensor:
        query, key, value = heads
        length, device = query.shape[2], str(query.device)
        if is_causal and not self.pattern.inputs:
            plans.check_causal(operator.index(length))
        if inputs or self.pattern.inputs:
            plan = plans.of_inputs(length, device, inputs or {})
        else:
            plan = plans.of_length(length, device)
        output: torch.Tensor = attention(
            query, key, value, plan,
            backend=self.backend, key_lengths=key_lengths, **scores.options,
        )  # fmt: skip
        return output

    def _continued(
        self,
        plans: Plans,
        heads: Heads,
        info: MaskInfo,
        scores: Scores,
        is_causal: bool,
    ) -> torch.Tensor:
        """Attention of new tokens over a cache that has all keys."""
        query, key, value = heads
        count, length = query.shape[2], info.offset + query.shape[2]
        if not is_causal or self.pattern.inputs:
            why = "has run-time inputs" if is_causal else "is no decoder's"
            raise ValueError(f"{self.name}: a cache cannot be used, for the pattern {why}")
        if key.shape[2] < length:
            raise ValueError(
                f"{self.name}: the cache should hold {length} keys, and has {key.shape[2]}"
            )
        reader = plans.reader(max(_LEAST_HORIZON, 1 << (length - 1).bit_length()))
        modifiers = Modifiers.of(query, **scores.options)
        packing = info.packing(length)
        if packing is None:
            positions = np.arange(info.offset, length)[None]
            return attention_rows(query, key, value, reader, positions, modifiers)
        assert info.padding is not None
        real = info.padding[:, :length].cpu().numpy() != 0
        positions = np.where(real, real.cumsum(1) - 1, -1)[:, -count:]
        slots = packing.order.cpu().numpy()
        return attention_rows(query, key, value, reader, positions, modifiers, slots=slots)

    def _with_decoder(
        self,
        decoder: Decoder,
        plans: Plans,
        heads: Heads,
        info: MaskInfo,
        scores: Scores,
    ) -> torch.Tensor:
        """Attention of new tokens over a `PatternCache`, which holds what is needed."""
        query, key, value = heads
        count, real = query.shape[2], None
        if info.padding is not None:
            real = info.padding[:, info.offset : info.offset + count].cpu().numpy() != 0
        if decoder.is_empty and count > 1:
            # The beginning is attention like any other, by the plan of its length.
            output = self._whole(plans, heads, info, scores, True, None)
            decoder.append(key, value, real=real)
            return output
        return decoder.step(query, key, value, real=real, **scores.options)


def _packed(x: torch.Tensor, packing: RealFirst) -> torch.Tensor:
    return packing.pack(x.transpose(1, 2)).transpose(1, 2)

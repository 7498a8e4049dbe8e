"""`PatternCache`: a cache of Transformers that keeps only the keys its pattern can still read."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin

from attnloom.integrations.transformers.registration import Registered
from attnloom.runtime.decoding import Decoder
from attnloom.runtime.row_reader import RowReader


class PatternCacheLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, kept by a `Decoder`, which the attention of the layer asks."""

    is_compileable = False
    is_croppable = True
    is_sliding = False
    supports_early_init = False

    def __init__(self, reader: RowReader) -> None:
        super().__init__()
        self.decoder = Decoder(reader)
        self.seen = 0
        self.record_past = False

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The new keys and values; the attention function finds the decoder on them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.decoder.undo = self.get_max_length() if self.record_past else 0
        self.seen += key_states.shape[-2]
        marked: Any = key_states.view_as(key_states)
        marked.attnloom_decoder = self.decoder
        return marked, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.seen + query_length, 0

    def get_seq_length(self) -> int:
        return self.seen

    def get_max_length(self) -> int:
        return self.decoder.reader.plan.kv_len

    @property
    def num_kept(self) -> list[int]:
        """How many keys each head keeps, of the sequence of which it keeps most."""
        return [int(kept) for kept in self.decoder.num_kept.max(0, initial=0)]

    @property
    def num_bytes(self) -> int:
        return self.decoder.num_bytes

    def reset(self) -> None:
        self.decoder.reset()
        self.seen = 0

    def offload(self) -> None:
        raise NotImplementedError("a PatternCache is small, and stays where it is")

    def activate_past_recording(self) -> None:
        """Have every token be kept until the next `crop`, as assisted generation needs it."""
        self.record_past = True

    def crop(self, tokens_to_remove: int) -> None:
        """Take the last tokens back, and forget what is not needed without them.

        Args:
            tokens_to_remove: minus how many.
        """
        if tokens_to_remove > 0:
            raise ValueError(
                f"tokens_to_remove must be minus the number of tokens, got {tokens_to_remove}"
            )
        if self.is_initialized:
            try:
                self.decoder.take_back(-tokens_to_remove)
            except ValueError as error:
                raise ValueError(
                    f"{-tokens_to_remove} tokens cannot be taken back, for what was read before "
                    "them has been forgotten; call activate_past_recording() before they come"
                ) from error
            self.decoder.settle()
            self.seen += tokens_to_remove

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        self.decoder.select(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        batch = len(self.decoder.position)
        self.decoder.select(torch.arange(batch).repeat_interleave(repeats))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        chosen = indices.nonzero()[:, 0] if indices.dtype == torch.bool else indices
        self.decoder.select(chosen)


class PatternCache(Cache):  # type: ignore[misc]
    """A cache for `generate` of a model that runs a registered pattern.

    It holds the keys and values that later tokens may read and no others: with sinks and a window
    its size is constant, whatever is generated. What it will hold is what `Pattern.analyze` says.

    Args:
        model: a model whose attention is a registered pattern.
        max_length: the most tokens of a sequence, the prompt included, and with it what assisted
            generation looks ahead; as many as the model has positions, when not given.

    Raises:
        ValueError: the model runs no registered pattern, or its pattern cannot be decoded.
    """

    def __init__(self, model: Any, max_length: int | None = None) -> None:
        config = model.config.get_text_config(decoder=True)
        name = config._attn_implementation
        registered = AttentionInterface._global_mapping.get(name)
        if not isinstance(registered, Registered):
            raise ValueError(f"model must run a registered pattern, and its attention is {name!r}")
        length = config.max_position_embeddings if max_length is None else max_length
        layers, heads = config.num_hidden_layers, config.num_attention_heads
        readers = [
            registered.plans_of(layer, layers, heads).reader(length) for layer in range(layers)
        ]
        super().__init__(layers=[PatternCacheLayer(reader) for reader in readers])

    @property
    def num_kept(self) -> list[list[int]]:
        """How many keys each layer holds of a sequence, in each head of the keys."""
        return [layer.num_kept for layer in self.layers]

    @property
    def num_bytes(self) -> int:
        """Bytes of all keys and values, and of the room that is left for more."""
        return sum(layer.num_bytes for layer in self.layers)

"""Swapping the attention modules of a model for ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn


def swap(
    model: nn.Module, names: Sequence[str], make: Callable[[Any], nn.Module], what: str
) -> nn.Module:
    """Replace the modules of some classes by what is made of them, in place.

    Raises:
        ValueError: there is none in the model.
    """
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child).__name__ in names
    ]
    if not places:
        raise ValueError(
            f"model must be a {what} of Transformers, and {type(model).__name__} has no "
            f"{' or '.join(names)}"
        )
    for parent, name, child in places:
        setattr(parent, name, make(child))
    return model


def refuse_weights(dropout: float, output_attentions: bool | None) -> None:
    """Raise where a call asks for the weights of attention, which are never formed."""
    if dropout:
        raise ValueError(
            f"dropout of attention weights is not supported, got {dropout}; set "
            "attention_probs_dropout_prob (LED: attention_dropout) to 0 before training"
        )
    if output_attentions:
        raise ValueError("there are no attention weights to give out")

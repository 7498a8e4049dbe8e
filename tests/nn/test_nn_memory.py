"""`MemoryTokens`: put in front, taken off, carried on."""

from __future__ import annotations

import pytest
import torch
from nn_helpers import dense_mask, densely, seeded, states

import attnloom
from attnloom import MemoryTokens, PatternAttention


def test_memory_is_put_in_front_and_taken_off_again() -> None:
    memory = MemoryTokens(3, 8)
    x = torch.randn(2, 5, 8)
    whole = memory(x)
    assert whole.shape == (2, 8, 8)
    state, tokens = memory.split(whole)
    assert torch.equal(tokens, x)
    assert torch.equal(state, memory.tokens.expand(2, -1, -1))


def test_memory_learns_and_is_carried_from_piece_to_piece() -> None:
    pattern = attnloom.parse("pattern p { memory(3); window(each_side=1) }")
    memory = seeded(MemoryTokens(3, 16))
    layer = seeded(PatternAttention(16, 2, pattern))
    assert isinstance(memory, MemoryTokens)
    assert isinstance(layer, PatternAttention)
    first, second = states(2, 2, 6, 16).requires_grad_()
    state, _ = memory.split(layer(memory(first)))
    _, output = memory.split(layer(memory(second, state)))
    mask = dense_mask(pattern, 6, 2)
    state_by_hand = densely(layer, torch.cat([memory.tokens.expand(2, -1, -1), first], 1), mask)
    by_hand = densely(layer, torch.cat([state_by_hand[:, :3], second], 1), mask)[:, 3:]
    torch.testing.assert_close(output, by_hand)
    # The first piece reaches the second through the memory alone.
    wishes = states(*output.shape, seed=3)
    found = torch.autograd.grad((output * wishes).sum(), (first, memory.tokens), retain_graph=True)
    wanted = torch.autograd.grad((by_hand * wishes).sum(), (first, memory.tokens))
    assert (found[0] != 0).all(-1).all()
    torch.testing.assert_close(found, wanted)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="num_tokens must be at least 1, got 0"):
        MemoryTokens(0, 8)
    memory = MemoryTokens(2, 8)
    with pytest.raises(ValueError, match=r"x must have shape \(batch, n, 8\), got \(2, 5, 9\)"):
        memory(torch.randn(2, 5, 9))
    with pytest.raises(ValueError, match=r"state must have shape \(2, 2, 8\), got \(1, 2, 8\)"):
        memory(torch.randn(2, 5, 8), torch.randn(1, 2, 8))
    with pytest.raises(ValueError, match=r"2 \+ n"):
        memory.split(torch.randn(2, 2, 8))

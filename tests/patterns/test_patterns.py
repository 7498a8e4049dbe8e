"""The bundled patterns against the papers: each is compared with a definition written anew here."""

from __future__ import annotations

import numpy as np
import pytest
from cases_far import FAR
from cases_near import NEAR
from cases_stacks import STACKS
from pattern_case import Case
from pattern_masks import Mask, band, diagonals, listed, of_blocks, whole

import attnloom

NAMES = attnloom.bundled()
CASES = [*NEAR, *FAR, *STACKS]


@pytest.mark.parametrize("one", CASES, ids=[f"{c.name}-{i}" for i, c in enumerate(CASES)])
def test_pattern_is_what_the_paper_says(one: Case) -> None:
    for n in (1, 2, 3, 5, 8, 17, 25, 32):
        found = one.found(n)
        wanted = np.broadcast_to(one.definition(n), found.shape).astype(bool)
        assert np.array_equal(found, wanted), f"n = {n}"


def test_every_pattern_without_random_links_is_in_the_table() -> None:
    drawn = {"bigbird", "random_links", "exphormer"}
    assert {one.name for one in CASES} == set(NAMES) - drawn


def test_memory_stands_in_front_of_the_tokens() -> None:
    for name in ("memory_transformer", "memory_bottleneck", "hymba", "pegasus_x", "bigbird_etc"):
        bound = attnloom.load(name, slots=3).bind(5)
        assert (bound.memory, bound.tokens) == (3, 5)


# --- patterns with random links ------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 8, 24, 39, 40])
@pytest.mark.parametrize("head", [0, 1])
def test_bigbird_adds_random_blocks_that_are_not_read_anyway(n: int, head: int) -> None:
    size, picks = 4, 2
    blocks = -(-n // size)
    pattern = attnloom.load("bigbird", size=size, picks=picks)
    token_mask = pattern.mask(n, head=head, heads=2)
    found = token_mask[::size, ::size]
    assert np.array_equal(token_mask, of_blocks(n, size, lambda _: found))
    extra_of(found, band(blocks, 1, 1) | whole(blocks, 0, blocks - 1), picks)


@pytest.mark.parametrize("n", [1, 7, 40])
def test_random_links_are_so_many_besides_the_token_itself(n: int) -> None:
    for picks in (0, 3, 9):
        extra_of(attnloom.load("random_links", picks=picks).mask(n), np.eye(n, dtype=bool), picks)


@pytest.mark.parametrize("n", [1, 7, 40])
def test_bigbird_etc_draws_blocks_outside_of_the_window(n: int) -> None:
    found = attnloom.load("bigbird_etc", slots=2, size=3, picks=2).mask(n)[2:, 2:][::3, ::3]
    extra_of(found, band(len(found), 1, 1), 2)


def test_deepspeed_variable_draws_the_same_blocks_for_all_heads() -> None:
    pattern = attnloom.load("deepspeed_variable", size=1, local=1, picks=3)
    masks = [pattern.mask(32, head=head, heads=2) for head in (0, 1)]
    assert np.array_equal(*masks)
    assert (masks[0].sum(1) >= 3).all()
    assert (masks[0].sum(1) <= 5).all()


def test_exphormer_joins_the_graph_an_expander_and_virtual_nodes() -> None:
    graph = diagonals(30, 3)
    pattern = attnloom.load("exphormer", rings=2, hubs=1)
    found = pattern.mask(30, inputs={"graph": graph})
    alone = pattern.mask(30, inputs={"graph": [[]] * 30})
    assert np.array_equal(found[1:, 1:], alone[1:, 1:] | listed(graph))
    assert np.array_equal(alone, alone.T)
    assert alone[0].all()
    degrees = (alone[1:, 1:] & ~np.eye(30, dtype=bool)).sum(1)
    assert degrees.min() >= 2
    assert degrees.max() <= 4


def extra_of(found: Mask, fixed_part: Mask, picks: int) -> None:
    """Beside its fixed part every row has so many links, or all that are left."""
    assert not (fixed_part & ~found).any()
    extra = (found & ~fixed_part).sum(1)
    assert np.array_equal(extra, np.minimum(picks, (~fixed_part).sum(1)))


@pytest.mark.parametrize("name", ["bigbird", "random_links"])
def test_links_are_drawn_anew_for_each_head_and_seed(name: str) -> None:
    size = {"size": 1} if name == "bigbird" else {}
    masks = [attnloom.load(name, **size).mask(64, head=h, heads=2) for h in (0, 1)]
    masks.append(attnloom.load(name, seed=1, **size).mask(64, head=0, heads=2))
    assert len({mask.tobytes() for mask in masks}) == 3

"""Random links: pinned for ever, stable when the sequence grows, as random as they should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations

import numpy as np
import oracle_draws as oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, chisquare

import attnloom
from attnloom.compiler import draws
from attnloom.compiler.runs import Runs

UNLIKELY = 1e-4
"""Draws are pinned, so a test that passes once passes for ever: an error of theory fails by far."""


def row(pattern: attnloom.Pattern, i: int, n: int, head: int = 0, layer: int = 0) -> list[int]:
    """The keys of one query."""
    return [j for start, stop in pattern.row(i, n, head, layer) for j in range(start, stop)]


# --- the generator -------------------------------------------------------------------------------

# From the file `kat_vectors` of Random123 (Salmon et al. 2011): counter, key, words.
KNOWN_ANSWERS = [
    (
        (0, 0, 0, 0),
        (0, 0),
        [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_generator_gives_the_known_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], words: list[int]
) -> None:
    assert [int(word) for word in draws.philox(counter, key)] == words
    assert oracle.philox(counter, key) == words


@given(st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6))
def test_generator_of_arrays_is_the_generator_of_numbers(words: list[int]) -> None:
    c0, c1, c2, c3, k0, k1 = words
    arrays = draws.philox((c0, np.array([c1, 0]), c2, c3), (k0, k1))
    for at, second in enumerate((c1, 0)):
        wanted = oracle.philox((c0, second, c2, c3), (k0, k1))
        assert [int(np.broadcast_to(word, 2)[at]) for word in arrays] == wanted


# --- pinned draws --------------------------------------------------------------------------------

# seed, head, layer, n, query, links, keys
PINNED_LINKS = [
    (0, 0, 0, 1000, 0, 4, [399, 693, 735, 972]),
    (0, 0, 0, 1000, 999, 4, [324, 333, 612, 927]),
    (0, 3, 0, 1000, 17, 4, [145, 215, 369, 933]),
    (2024, 1, 7, 1000, 17, 4, [362, 723, 791, 862]),
    (2**40 + 7, 0, 0, 97, 5, 6, [9, 30, 32, 43, 74, 84]),
    (2**63 - 1, 63, 0, 97, 96, 6, [19, 28, 34, 43, 70, 91]),
]


@pytest.mark.parametrize(("seed", "head", "layer", "n", "query", "links", "keys"), PINNED_LINKS)
def test_links_are_pinned(
    seed: int, head: int, layer: int, n: int, query: int, links: int, keys: list[int]
) -> None:
    text = f"pattern p {{ random(links={links}, seed={seed}, per_layer=true) }}"
    assert row(attnloom.parse(text), query, n, head, layer) == keys
    assert sorted(oracle.draw(range(n), links, seed, query, head, layer)) == keys


# With `only causal`, seed 5 and 3 links.
PINNED_PREFIXES = {2: [0, 1, 2], 3: [0, 1, 3], 40: [10, 11, 19], 41: [4, 9, 19]}


@pytest.mark.parametrize("n", [42, 100, 1001])
def test_links_of_prefixes_are_pinned(n: int) -> None:
    pattern = attnloom.parse("pattern p { only causal; random(links=3, seed=5) }")
    assert {i: row(pattern, i, n) for i in PINNED_PREFIXES} == PINNED_PREFIXES


# seed, head, layer, n, token, neighbours
PINNED_RINGS = [
    (0, 0, 0, 50, 0, [6, 17, 31, 32]),
    (9, 2, 0, 50, 49, [0, 10, 12, 37]),
    (2**40 + 7, 1, 3, 50, 7, [31, 33, 40, 45]),
]


@pytest.mark.parametrize(("seed", "head", "layer", "n", "token", "keys"), PINNED_RINGS)
def test_rings_are_pinned(
    seed: int, head: int, layer: int, n: int, token: int, keys: list[int]
) -> None:
    text = f"pattern p {{ expander(degree=4, seed={seed}, per_layer=true) }}"
    assert row(attnloom.parse(text), token, n, head, layer) == keys
    rings = oracle.rings(4, n, seed, head, layer)
    assert sorted(j for i, j in rings if i == token) == keys


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300), st.integers(0, 40), st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1)
)
def test_links_are_those_of_the_definition(n: int, links: int, seed: int, head: int) -> None:
    offsets, keys = draws.links(seed, 3, head, links, n, None)
    for i in {0, n // 2, n - 1}:
        drawn = keys[offsets[i] : offsets[i + 1]].tolist()
        assert drawn == sorted(oracle.draw(range(n), links, seed, i, head, 3))


# --- what a row has ------------------------------------------------------------------------------

# Bodies, and how many tokens must be there for the row of query `i` to be complete.
GROWING: list[tuple[str, Callable[[int], int]]] = [
    ("only causal; random(links=3)", lambda i: i + 1),
    ("only causal; random(links=20, seed=8)", lambda i: i + 1),
    ("only where(j < i); ~random(links=3)", lambda i: i + 1),
    ("only where(j <= i + 2) & where(j < 40); random(links=2)", lambda i: i + 3),
    (
        "only causal | broadcast(first 5); random(links=3, outside=window(last=3))",
        lambda i: max(i + 1, 5),
    ),
    (
        "let some = random(links=2, seed=1); only causal; window(last=2); some",
        lambda i: i + 1,
    ),
]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(GROWING), st.integers(0, 60), st.integers(0, 40), st.integers(0, 40))
def test_row_stays_as_it_is_when_the_sequence_grows(
    growing: tuple[str, Callable[[int], int]], i: int, more: int, still_more: int
) -> None:
    body, complete = growing
    pattern = attnloom.parse(f"pattern p {{ {body} }}")
    n = complete(i) + more
    assert row(pattern, i, n) == row(pattern, i, n + still_more)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.integers(1, 60), st.integers(0, 30), st.integers(0, 59))
def test_row_of_a_block_stays_as_it_is_once_the_block_is_whole(
    size: int, n: int, more: int, i: int
) -> None:
    pattern = attnloom.parse(f"pattern p {{ only causal; blocks({size}) {{ random(links=2) }} }}")
    if i < n // size * size:
        assert row(pattern, i, n) == row(pattern, i, n + more)


@pytest.mark.parametrize("links", [0, 1, 5, 17, 18, 100])
def test_query_with_too_few_candidates_takes_them_all(links: int) -> None:
    pattern = attnloom.parse(f"pattern p {{ only causal; random(links={links}) }}")
    for i in range(18):
        keys = row(pattern, i, 18)
        assert len(keys) == min(links, i + 1)
        assert set(keys) <= set(range(i + 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 50), st.integers(0, 20), st.booleans(), st.integers(0, 9))
def test_nothing_is_drawn_outside(n: int, links: int, is_causal: bool, reach: int) -> None:
    only = "only causal" if is_causal else "only full"
    rest = f"window(each_side={reach}) | global(0)"
    pattern = attnloom.parse(f"pattern p {{ {only}; random(links={links}, outside={rest}) }}")
    for i in range(n):
        stop = i + 1 if is_causal else n
        candidates = {j for j in range(stop) if abs(i - j) > reach and i and j}
        keys = row(pattern, i, n)
        assert set(keys) <= candidates
        assert len(keys) == min(links, len(candidates))


@pytest.mark.parametrize("call", ["random(links=3{})", "expander(degree=4{})"])
def test_draws_are_shared_as_asked(call: str) -> None:
    def masks(options: str) -> list[NDArray[np.bool_]]:
        pattern = attnloom.parse(f"pattern p {{ {call.format(options)} }}")
        places = [(0, 0), (1, 0), (0, 1), (1, 1)]
        return [pattern.mask(50, head, layer, 2, 2) for head, layer in places]

    def groups(options: str) -> int:
        return len({mask.tobytes() for mask in masks(options)})

    assert groups("") == 2
    assert groups(", per_head=false") == 1
    assert groups(", per_layer=true") == 4
    assert groups(", per_head=false, per_layer=true") == 2
    first, second, third, _ = masks("")
    assert (first == third).all()
    assert (first != second).any()
    # What is shared is the draw of head 0 and layer 0.
    assert (masks(", per_head=false")[1] == first).all()


@pytest.mark.parametrize("n", [1, 2, 3, 10, 501])
def test_rings_pass_through_all_tokens(n: int) -> None:
    following = draws.cycle(7, 0, 0, 0, n)
    token, seen = 0, set()
    for _ in range(n):
        seen.add(token)
        token = int(following[token])
    assert token == 0
    assert len(seen) == n
    mask = attnloom.parse("pattern p { expander(degree=2, seed=7) }").mask(n)
    assert (mask == mask.T).all()
    assert (mask.sum(1) == min(2, n - 1 or 1)).all()


# --- how random they are -------------------------------------------------------------------------


def assert_uniform(counts: NDArray[np.int64], expected: NDArray[np.float64] | None = None) -> None:
    """Neither too far from what is expected nor too near to it."""
    found = chisquare(counts, expected).pvalue
    assert UNLIKELY < found < 1 - UNLIKELY


@pytest.mark.parametrize("n", [7, 100, 1000, 4096, 9973, 100_000, 1_000_000])
def test_every_key_is_as_likely(n: int) -> None:
    heads = max(1, 20_000 // n)
    keys = np.concatenate([draws.links(1, 0, head, 1, n, None)[1] for head in range(heads)])
    bins = min(n, 1000)
    of_bin = np.bincount(np.arange(n) * bins // n, minlength=bins)
    counts = np.bincount(keys * bins // n, minlength=bins)
    assert_uniform(counts, of_bin * (len(keys) / n))


@pytest.mark.parametrize("size", [2, 3, 6, 7, 17])
def test_every_candidate_of_a_prefix_is_as_likely(size: int) -> None:
    queries = np.full(20_000, size - 1)
    candidates = np.full(20_000, size)
    places = np.concatenate(
        [draws.places(2, 0, head, queries[:1], 1, candidates[:1]) for head in range(4000)]
    )
    assert_uniform(np.bincount(places[:, 0], minlength=size))


@pytest.mark.parametrize("n", [3000, 200_003])
def test_prefixes_are_drawn_from_evenly(n: int) -> None:
    prefixes = Runs.one_each(np.zeros(n, dtype=np.int64), np.arange(1, n + 1))
    offsets, keys = draws.links(3, 0, 0, 1, n, prefixes)
    assert (np.diff(offsets) == 1).all()
    bins = 20
    start = np.ceil(np.arange(bins + 1)[None] * np.arange(1, n + 1)[:, None] / bins)
    shares = np.diff(start, axis=1) / np.arange(1, n + 1)[:, None]
    counts = np.bincount(keys * bins // np.arange(1, n + 1), minlength=bins)
    assert_uniform(counts, shares.sum(0))


@pytest.mark.parametrize(("n", "links"), [(4, 2), (5, 2), (5, 3), (6, 5), (7, 2)])
def test_every_set_of_keys_is_as_likely(n: int, links: int) -> None:
    counts = Counter(dict.fromkeys(combinations(range(n), links), 0))
    for head in range(2000):
        _, keys = draws.links(4, 0, head, links, n, None)
        counts.update(map(tuple, keys.reshape(n, links).tolist()))
    assert len(counts) == len(list(combinations(range(n), links)))
    assert_uniform(np.array(list(counts.values())))


@pytest.mark.parametrize("n", [1000, 100_000])
def test_links_of_two_heads_seeds_layers_and_neighbours_are_independent(n: int) -> None:
    def bins(seed: int = 5, layer: int = 0, head: int = 0) -> NDArray[np.int64]:
        return draws.links(seed, layer, head, 1, n, None)[1] * 8 // n

    first = bins()
    others = [bins(head=1), bins(seed=6), bins(layer=1), np.roll(first, 1), bins(seed=2**32 + 5)]
    for other in others:
        table = np.zeros((8, 8))
        np.add.at(table, (first, other), 1)
        assert UNLIKELY < chi2_contingency(table).pvalue < 1 - UNLIKELY


def test_first_and_second_link_are_independent_but_for_being_distinct() -> None:
    n, rows = 10, 50_000
    queries, candidates = np.arange(rows), np.full(rows, n)
    first, second = draws.places(6, 0, 0, queries, 2, candidates).T
    table = np.zeros((n, n))
    np.add.at(table, (first, second), 1)
    assert not table.diagonal().any()
    assert_uniform(table[~np.eye(n, dtype=bool)])


@pytest.mark.parametrize("n", [5, 6])
def test_every_ring_is_as_likely(n: int) -> None:
    counts: Counter[tuple[int, ...]] = Counter()
    for head in range(3000):
        counts[tuple(draws.cycle(8, 0, head, 0, n).tolist())] += 1
    # Cyclic orders of n tokens: (n - 1)!
    assert len(counts) == {5: 24, 6: 120}[n]
    assert_uniform(np.array(list(counts.values())))


def test_a_million_queries_draw_what_they_should() -> None:
    n = 1_000_000
    offsets, keys = draws.links(0, 0, 0, 3, n, None)
    assert (np.diff(offsets) == 3).all()
    rows = keys.reshape(n, 3)
    assert (np.diff(rows, axis=1) > 0).all()
    assert rows.min() >= 0
    assert rows.max() < n
    for i in (0, 1, 777_777, n - 1):
        assert rows[i].tolist() == sorted(oracle.draw(range(n), 3, 0, i, 0, 0))

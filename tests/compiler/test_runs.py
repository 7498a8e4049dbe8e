"""Rows of ranges and token sets against Python's sets."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from region_model import token_sets

from attnloom.compiler.runs import Runs, intersection, union
from attnloom.compiler.tokens import Stretch, TokenSet

Rows = list[set[int]]
ranges = st.tuples(st.integers(0, 3), st.integers(-9, 20), st.integers(-9, 20))


@st.composite
def drawn_runs(draw: st.DrawFn) -> tuple[Runs, Rows]:
    listed = draw(st.lists(ranges, max_size=8))
    rows: Rows = [set() for _ in range(4)]
    for row, start, stop in listed:
        rows[row] |= set(range(start, stop))
    parts = [list(part) for part in zip(*listed, strict=True)] or [[], [], []]
    return Runs.of_ranges(4, *parts), rows


def sets(runs: Runs) -> Rows:
    found: Rows = []
    for row in range(runs.num_rows):
        last = None
        elements: set[int] = set()
        for start, stop in runs.row(row):
            assert start < stop
            assert last is None or last < start
            elements |= set(range(start, stop))
            last = stop
        found.append(elements)
    return found


@settings(deadline=None)
@given(drawn_runs(), drawn_runs(), drawn_runs())
def test_runs_are_sets(a: tuple[Runs, Rows], b: tuple[Runs, Rows], c: tuple[Runs, Rows]) -> None:
    assert sets(a[0]) == a[1]
    assert a[0].lengths().tolist() == [len(row) for row in a[1]]
    three = list(zip(a[1], b[1], c[1], strict=True))
    assert sets(union([a[0], b[0], c[0]])) == [x | y | z for x, y, z in three]
    assert sets(intersection([a[0], b[0], c[0]])) == [x & y & z for x, y, z in three]
    inside = set(range(-3, 12))
    assert sets(a[0].clipped(-3, 12)) == [x & inside for x in a[1]]
    assert sets(a[0].complement(-3, 12)) == [inside - x for x in a[1]]
    assert sets(a[0].shifted(5)) == [{e + 5 for e in x} for x in a[1]]


@settings(deadline=None)
@given(drawn_runs())
def test_pick_counts_through_each_row(drawn: tuple[Runs, Rows]) -> None:
    runs, rows = drawn
    if not any(rows):
        return
    most = max(map(len, rows))
    picked = runs.pick(np.tile(np.arange(most), (4, 1)))
    for row, elements in enumerate(rows):
        assert picked[row, : len(elements)].tolist() == sorted(elements)


@settings(deadline=None)
@given(st.data())
def test_token_sets_are_sets(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 40))
    a, b = data.draw(token_sets(n)), data.draw(token_sets(n))
    every = np.arange(-3, n + 3)

    def elements(tokens: TokenSet) -> set[int]:
        starts, stops = tokens.runs
        listed = {p for s, e in zip(starts, stops, strict=True) for p in range(s, e)}
        assert set(every[tokens.contains(every)].tolist()) == listed
        assert len(tokens) == len(listed)
        assert bool(tokens) == bool(listed)
        below = tokens.count_below(every).tolist()
        assert below == [sum(e < p for e in listed) for p in every]
        return listed

    x, y = elements(a), elements(b)
    assert elements(a | b) == x | y
    assert elements(a & b) == x & y
    assert elements(a - b) == x - y
    assert elements(a.complement()) == set(range(n)) - x
    size = data.draw(st.integers(1, 4))
    length = n * size - data.draw(st.integers(0, size - 1))
    blocks = elements_of_blocks(a.in_blocks(size, length))
    assert blocks == {t for t in range(length) if t // size in x}


def elements_of_blocks(tokens: TokenSet) -> set[int]:
    positions = np.arange(tokens.length)
    return set(positions[tokens.contains(positions)].tolist())


def test_token_set_says_what_it_is() -> None:
    assert str(TokenSet.of(9, Stretch(0, 4), Stretch(8, 9))) == "{0..4, 8}"
    assert str(TokenSet.of(640, Stretch(63, 640, 64))) == "every 64 from 63"
    assert str(TokenSet.of(9)) == "{}"
    many = TokenSet.of(100, *(Stretch(p, p + 1) for p in range(0, 100, 3)))
    assert str(many) == "{0, 3, 6, 9, 12, 15, 18, ..., 34 tokens}"

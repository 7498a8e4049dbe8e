"""Tiles on which a condition is said to look the same, against the condition itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnloom.compiler.arithmetic import OPERATIONS, BadValue
from attnloom.compiler.expressions import Expression, number, operation
from attnloom.compiler.regions import MIXED, Tiles
from attnloom.compiler.regions.condition import Condition

QUERY, KEY = Expression("i"), Expression("j")
NUMBERS = ("+", "-", "*", "^", "min", "max", "negative", "abs")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


def expressions() -> st.SearchStrategy[Expression]:
    """Numbers made of the two positions."""

    def larger(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        by_number = st.tuples(
            st.sampled_from(["//", "%", "ceil_div"]),
            inner,
            st.integers(-9, 9).filter(bool).map(number),
        ).map(lambda t: operation(t[0], t[1:]))
        both = st.sampled_from(NUMBERS).flatmap(
            lambda name: st.tuples(*[inner] * OPERATIONS[name].least).map(
                lambda operands: operation(name, operands)
            )
        )
        root = inner.map(lambda x: operation("log2", (operation("max", (number(1), x)),)))
        return by_number | both | root

    leaves = st.sampled_from([QUERY, KEY]) | st.integers(-9, 40).map(number)
    return st.recursive(leaves, larger, max_leaves=6)


@st.composite
def conditions(draw: st.DrawFn) -> Expression:
    parts = [
        operation(draw(st.sampled_from(COMPARISONS)), (draw(expressions()), draw(expressions())))
        for _ in range(draw(st.integers(1, 3)))
    ]
    parts = [operation("not", (part,)) if draw(st.booleans()) else part for part in parts]
    if len(parts) == 1:
        return parts[0]
    return operation(draw(st.sampled_from(["and", "or"])), (parts[0], *parts[1:2]))


def every_tile(start: int, stop: int, height: int, width: int) -> Tiles:
    rows, columns = np.meshgrid(
        np.arange(start, stop, height), np.arange(start, stop, width), indexing="ij"
    )
    return Tiles(rows.reshape(-1), columns.reshape(-1), height, width, start)


@settings(max_examples=150, deadline=None)
@given(
    conditions(),
    st.integers(1, 70),
    st.integers(-5, 0),
    st.sampled_from([(4, 4), (8, 3), (1, 16), (16, 16)]),
    st.sampled_from([1, 3]),
)
def test_tiles_that_are_said_to_look_the_same_do(
    condition: Expression, length: int, start: int, sizes: tuple[int, int], block: int
) -> None:
    try:
        condition.checked_bounds(length)
    except BadValue:
        return
    region = Condition(condition, length, block, length)
    tiles = every_tile(start, length + 5, *sizes)
    dense = region.dense(tiles)
    _, group = np.unique(region.signature(tiles), axis=0, return_inverse=True)
    for number_of_group in range(int(group.max()) + 1):
        alike = dense[group.reshape(-1) == number_of_group]
        assert (alike == alike[0]).all()


@pytest.mark.parametrize(
    ("text_of", "condition", "most"),
    [
        (
            "residues",
            operation("==", tuple(operation("%", (x, number(8))) for x in (QUERY, KEY))),
            1,
        ),
        (
            "distance",
            operation("<", (operation("abs", (operation("-", (QUERY, KEY)),)), number(99))),
            12,
        ),
        (
            "segments",
            operation(
                "and",
                (
                    operation("==", tuple(operation("//", (x, number(640))) for x in (QUERY, KEY))),
                    operation(
                        "==",
                        (
                            operation("%", (operation("%", (QUERY, number(640))), number(16))),
                            number(3),
                        ),
                    ),
                ),
            ),
            1,
        ),
    ],
)
def test_regular_conditions_have_few_looks_at_any_length(
    text_of: str, condition: Expression, most: int
) -> None:
    for length in (1 << 10, 1 << 12):
        region = Condition.of(condition, length)
        tiles = every_tile(0, length // 128 * 128, 32, 32)
        mixed = tiles.select(region.classify(tiles) == MIXED)
        assert 0 < len(np.unique(region.signature(mixed), axis=0)) <= most, text_of

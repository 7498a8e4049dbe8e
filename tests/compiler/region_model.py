"""Regions against dense matrices: what every region must answer, asked in the slow way."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from hypothesis import strategies as st

from attnloom.compiler.arithmetic import BadValue
from attnloom.compiler.expressions import Expression, number, operation
from attnloom.compiler.primitives import primitives
from attnloom.compiler.primitives.base import BadArgument, Context, Kind, Primitive
from attnloom.compiler.regions import Region, both, square
from attnloom.compiler.tiling import tile
from attnloom.compiler.tokens import Stretch, TokenSet
from attnloom.compiler.zones import TooComplex

TILES = ((4, 4), (8, 8), (16, 16), (16, 8), (4, 16), (5, 5), (7, 3), (32, 32))


def dense_of(primitive: Primitive, n: int) -> np.ndarray:
    """The definition, on all pairs."""
    i, j = np.arange(n)[:, None], np.arange(n)
    return np.array(np.broadcast_to(primitive.allows(i, j, n), (n, n)))


def region_of(primitive: Primitive, n: int) -> Region:
    return both(primitive.region(n), square(n))


def check_region(region: Region, dense: np.ndarray, tiles: tuple[int, int]) -> None:
    """Everything that a region within `0..n` answers is what the matrix says."""
    n = len(dense)
    i, j = np.arange(n)[:, None], np.arange(n)
    assert np.array_equal(region.contains(i, j), dense)
    layout = tile(region, 0, n, *tiles)
    assert np.array_equal(layout.to_dense(), dense)
    assert layout.reads() == dense.sum()
    assert np.array_equal(dense_of_runs(region, n), dense)
    turned = region.transposed()
    assert np.array_equal(turned.contains(i, j), dense.T)
    assert np.array_equal(tile(turned, 0, n, *tiles).to_dense(), dense.T)
    try:
        zones = region.zones(0, n)
    except TooComplex:
        return
    assert np.array_equal(zones.to_dense(), dense)
    assert zones.count() == dense.sum()


def check_blocks(region: Region, dense: np.ndarray, size: int, length: int) -> None:
    """The same of the region read over blocks."""
    lifted = both(region.in_blocks(size, length), square(length))
    tokens = dense.repeat(size, 0).repeat(size, 1)[:length, :length]
    check_region(lifted, tokens, (16, 16))


def dense_of_runs(region: Region, n: int) -> np.ndarray:
    """The matrix as the rows say, which must be sorted, disjoint and not touching."""
    runs = region.runs(np.arange(n))
    dense = np.zeros((n, n), dtype=bool)
    for row in range(n):
        last = -1
        for start, stop in runs.row(row):
            assert last < start < stop
            dense[row, start:stop] = True
            last = stop
    return dense


# --- strategies ----------------------------------------------------------------------------------


def token_sets(n: int) -> st.SearchStrategy[TokenSet]:
    stretch = st.tuples(
        st.integers(0, n), st.integers(0, n + 3), st.integers(1, 7), st.integers(1, 7)
    ).map(lambda t: Stretch(t[0], max(t[0], t[1]), t[2], min(t[2], t[3])))
    runs = st.lists(st.booleans(), min_size=n, max_size=n).map(
        lambda bits: TokenSet.of_mask(np.array(bits, dtype=bool))
    )
    listed = st.lists(stretch, max_size=3).map(lambda parts: TokenSet.of(n, *parts))
    return st.one_of(listed, runs)


def expressions(n: int) -> st.SearchStrategy[Expression]:
    """Numbers that depend on `i` and `j`."""
    i, j = Expression("i"), Expression("j")
    leaf = st.one_of(
        st.sampled_from([i, j, operation("-", (i, j))]), st.integers(-n, n).map(number)
    )

    def deeper(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        small = st.integers(-3, 3).map(number)
        divisor = st.integers(1, 9).map(number)
        return st.one_of(
            st.builds(_operation, st.sampled_from(["+", "-"]), inner, inner),
            st.builds(_operation, st.sampled_from(["//", "%"]), inner, divisor),
            st.builds(_operation, st.just("*"), inner, st.one_of(small, inner)),
            st.builds(_operation, st.sampled_from(["min", "max", "^"]), inner, inner),
            st.builds(_operation, st.just("abs"), inner),
        )

    return st.recursive(leaf, deeper, max_leaves=5)


def _operation(name: str, *operands: Expression) -> Expression:
    return operation(name, operands)


def conditions(n: int) -> st.SearchStrategy[Expression]:
    """Conditions on `i` and `j` that have a value for all positions."""
    compared = st.builds(
        _operation, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), expressions(n),
        expressions(n),
    )  # fmt: skip
    joined = st.recursive(
        compared,
        lambda inner: st.one_of(
            st.builds(_operation, st.sampled_from(["and", "or"]), inner, inner),
            st.builds(_operation, st.just("not"), inner),
        ),
        max_leaves=3,
    )
    return joined.filter(lambda condition: _has_value(condition, n))


def _has_value(condition: Expression, n: int) -> bool:
    try:
        condition.checked_bounds(n)
    except BadValue:
        return False
    return True


@st.composite
def key_lists(draw: st.DrawFn, n: int) -> tuple[np.ndarray, np.ndarray]:
    rows = draw(st.lists(st.lists(st.integers(0, n - 1), max_size=3), min_size=n, max_size=n))
    offsets = np.cumsum([0, *map(len, rows)])
    return offsets, np.array([key for row in rows for key in row], dtype=np.int64)


@st.composite
def calls(draw: st.DrawFn, n: int) -> Primitive:
    """Any primitive in any of its forms, with values in reach of `n`."""
    kinds = [one for choices in primitives().values() for one in choices]
    kind = draw(st.sampled_from(sorted(kinds, key=lambda one: one.__qualname__)))
    form = draw(st.sampled_from(kind.forms))
    options = [name for name in form.options if draw(st.booleans())]
    shape = None
    if kind.in_grid:
        least = 3 if "frames" in form.names else 2
        axes = draw(st.integers(least, 3)) if len(form.names) < 2 else least
        shape = tuple(draw(st.lists(st.integers(1, 6), min_size=axes, max_size=axes)))
    arguments = kind.arguments()
    values: dict[str, Any] = {}
    for name in (*form.names, *options):
        argument = arguments[name]
        match argument.kind:
            case Kind.NUMBER if name == "seed":
                values[name] = draw(st.integers(0, 3))
            case Kind.NUMBER:
                low = argument.least if argument.least is not None else -4
                values[name] = draw(st.integers(low, low + n + 3))
            case Kind.FLAG:
                values[name] = draw(st.booleans())
            case Kind.TOKENS:
                values[name] = draw(token_sets(n))
            case Kind.NUMBERS:
                values[name] = tuple(draw(st.lists(st.integers(0, n + 2), max_size=4)))
            case Kind.RELATION:
                values[name] = region_of(draw(calls(n)), n)
            case Kind.SEGMENTS:
                ids = draw(st.lists(st.integers(-2, 4), min_size=n, max_size=n))
                values[name] = np.array(sorted(ids) if draw(st.booleans()) else ids)
            case Kind.LINKS:
                values[name] = draw(key_lists(n))
            case Kind.CONDITION:
                values[name] = draw(conditions(n))

    def candidates(outside: Region | None) -> Any:
        return None if outside is None else outside.runs(np.arange(n)).complement(0, n)

    context = Context(n, draw(st.integers(0, 2)), draw(st.integers(0, 2)), candidates, shape)
    try:
        return kind.of(values, context)
    except BadArgument:
        # An even width or an odd degree: one more mends it. A stride must stay within the window.
        mended = {
            name: value + 1 if name in ("width", "degree") else value
            for name, value in values.items()
        }
        if "stride" in mended:
            axes = ("keys", "frames", "rows", "columns")
            mended["stride"] = min(values[name] for name in axes if name in values)
        return kind.of(mended, context)


def shown(primitive: Primitive) -> str:
    """A primitive with its fields, for the messages of failing tests."""
    fields = {field.name: getattr(primitive, field.name) for field in dataclasses.fields(primitive)}
    return f"{primitive.name} {fields}"

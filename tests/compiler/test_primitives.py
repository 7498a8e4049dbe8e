"""Every primitive: its definition against the table of the language, its fast form against both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from region_model import (
    TILES,
    calls,
    check_blocks,
    check_region,
    dense_of,
    dense_of_runs,
    region_of,
    shown,
)

from attnloom.compiler.primitives import primitives
from attnloom.compiler.primitives.base import BadArgument, Context, Kind, Primitive
from attnloom.compiler.primitives.whole import Causal
from attnloom.compiler.regions import both, either, minus, square
from attnloom.compiler.regions.same import Same
from attnloom.compiler.runs import Runs
from attnloom.compiler.tokens import Stretch, TokenSet
from attnloom.compiler.vocabulary import reserved


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_fast_form_is_the_definition(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 40))
    primitive = data.draw(calls(n))
    note(shown(primitive))
    dense = dense_of(primitive, n)
    check_region(region_of(primitive, n), dense, data.draw(st.sampled_from(TILES)))
    size = data.draw(st.integers(1, 5))
    length = n * size - data.draw(st.integers(0, size - 1))
    check_blocks(region_of(primitive, n), dense, size, length)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_regions_join_as_sets_do(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 32))
    drawn = [data.draw(calls(n)) for _ in range(3)]
    for primitive in drawn:
        note(shown(primitive))
    (a, b, c), (x, y, z) = [region_of(p, n) for p in drawn], [dense_of(p, n) for p in drawn]
    region, dense = data.draw(
        st.sampled_from(
            [
                (either(a, b), x | y),
                (both(a, b), x & y),
                (minus(a, b), x & ~y),
                (both(either(a, b), c), (x | y) & z),
                (minus(either(a, b), c), (x | y) & ~z),
                (either(both(a, b), minus(c, a)), (x & y) | (z & ~x)),
                (minus(a, minus(b, c)), x & ~(y & ~z)),
            ]
        )
    )
    check_region(region, dense, data.draw(st.sampled_from(TILES)))
    check_blocks(region, dense, 3, 3 * n - 1)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_neighborhoods_of_many_groups_are_their_definition(data: st.DataObject) -> None:
    """So many that their boxes are made of digits, on one axis or on the inner one of two."""
    stride = data.draw(st.integers(1, 4))
    keys = data.draw(st.integers(stride, 3 * stride + 2))
    options = {
        "stride": stride,
        "dilation": data.draw(st.integers(1, 2)),
        "causal": data.draw(st.booleans()),
    }
    extent = stride * data.draw(st.integers(30, 60))
    one_axis, of_cells = primitives()["neighborhood"]
    rows = data.draw(st.integers(0, 2))
    if rows:
        primitive = of_cells.of({"columns": keys, **options}, context(extent, (rows, extent)))
        n = rows * extent
    else:
        n = extent + data.draw(st.integers(0, 3))
        primitive = one_axis.of({"keys": keys, **options}, context(n))
    note(shown(primitive))
    wanted, region = dense_of(primitive, n), region_of(primitive, n)
    assert np.array_equal(region.contains(np.arange(n)[:, None], np.arange(n)), wanted)
    assert np.array_equal(dense_of_runs(region, n), wanted)
    assert region.zones(0, n).count() == wanted.sum()


@given(
    st.lists(st.integers(-1, 6), min_size=1, max_size=24),
    st.sampled_from([(4, 4), (8, 16), (5, 5)]),
    st.booleans(),
)
def test_same_joins_equal_ids_that_leave_numbers_out(
    ids: list[int], tiles: tuple[int, int], causal: bool
) -> None:
    values = np.array(ids)
    dense = (values[:, None] == values) & (values >= 0)
    region = both(Same(values), square(len(ids)))
    check_region(region, dense, tiles)
    if causal:
        band = Causal().region(len(ids))
        check_region(both(region, band), np.tril(dense), tiles)


@pytest.mark.slow
@settings(max_examples=4000, deadline=None)
@given(st.data())
def test_fast_form_is_the_definition_at_length(data: st.DataObject) -> None:
    test_fast_form_is_the_definition.hypothesis.inner_test(data)
    test_regions_join_as_sets_do.hypothesis.inner_test(data)


# The table of the language, pair by pair, in Python's own integers.
Rule = Callable[[int, int, int], bool]
TOKENS = (1, 4, 5)


def ring_steps(n: int, left: int, right: int, dilation: int) -> set[int]:
    return {step * dilation % n for step in range(-right, left + 1)}


def natten(i: int, n: int, keys: int, dilation: int, stride: int = 1) -> set[int]:
    members = list(range(i % dilation, n, dilation))
    if len(members) <= keys:
        return set(members)
    first = members.index(i) // stride * stride + stride // 2 - keys // 2
    first = min(max(first, 0), len(members) - keys)
    return set(members[first : first + keys])


TABLE: list[tuple[str, dict[str, Any], Rule]] = [
    ("full", {}, lambda i, j, n: True),
    ("none", {}, lambda i, j, n: False),
    ("self", {}, lambda i, j, n: i == j),
    ("causal", {}, lambda i, j, n: j <= i),
    ("window", {"each_side": 2}, lambda i, j, n: abs(i - j) <= 2),
    ("window", {"each_side": 0}, lambda i, j, n: i == j),
    ("window", {"left": 3, "right": 1}, lambda i, j, n: i - 3 <= j <= i + 1),
    ("window", {"last": 3}, lambda i, j, n: 0 <= i - j < 3),
    ("window", {"last": 0}, lambda i, j, n: False),
    ("window", {"width": 5}, lambda i, j, n: abs(i - j) <= 2),
    (
        "window",
        {"each_side": 2, "dilation": 3},
        lambda i, j, n: (i - j) % 3 == 0 and abs(i - j) // 3 <= 2,
    ),
    (
        "window",
        {"left": 1, "right": 2, "dilation": 2},
        lambda i, j, n: (i - j) % 2 == 0 and -2 <= (i - j) // 2 <= 1,
    ),
    (
        "window",
        {"each_side": 2, "wrap": True},
        lambda i, j, n: min((i - j) % n, (j - i) % n) <= 2,
    ),
    (
        "window",
        {"last": 3, "dilation": 5, "wrap": True},
        lambda i, j, n: (i - j) % n in ring_steps(n, 2, 0, 5),
    ),
    ("neighborhood", {"keys": 3}, lambda i, j, n: j in natten(i, n, 3, 1)),
    ("neighborhood", {"keys": 4}, lambda i, j, n: j in natten(i, n, 4, 1)),
    (
        "neighborhood",
        {"keys": 3, "dilation": 2},
        lambda i, j, n: j in natten(i, n, 3, 2),
    ),
    ("neighborhood", {"keys": 3, "stride": 2}, lambda i, j, n: j in natten(i, n, 3, 1, 2)),
    ("neighborhood", {"keys": 4, "stride": 4}, lambda i, j, n: j in natten(i, n, 4, 1, 4)),
    (
        "neighborhood",
        {"keys": 5, "stride": 3, "dilation": 2},
        lambda i, j, n: j in natten(i, n, 5, 2, 3),
    ),
    (
        "neighborhood",
        {"keys": 3, "dilation": 2, "causal": True},
        lambda i, j, n: i - j in (0, 2, 4),
    ),
    (
        "neighborhood",
        {"keys": 4, "stride": 2, "causal": True},
        lambda i, j, n: j <= i and min(i // 2 * 2 + 1, n - 1) - j < 4,
    ),
    ("stride", {"step": 3}, lambda i, j, n: (i - j) % 3 == 0),
    ("chunks", {"size": 4}, lambda i, j, n: i // 4 == j // 4),
    ("offsets", {"base": 2}, lambda i, j, n: abs(i - j) in {0, 1, 2, 4, 8, 16}),
    ("offsets", {"base": 3}, lambda i, j, n: abs(i - j) in {0, 1, 3, 9, 27}),
    ("offsets", {"distances": (0, 1, 6)}, lambda i, j, n: abs(i - j) in {0, 1, 6}),
]


@pytest.mark.parametrize(
    ("name", "values", "rule"), TABLE, ids=[f"{one[0]}-{at}" for at, one in enumerate(TABLE)]
)
@pytest.mark.parametrize("n", [1, 2, 5, 6, 13, 20])
def test_definition_is_the_table(name: str, values: dict[str, Any], rule: Rule, n: int) -> None:
    primitive = primitives()[name][0].of(values, context(n))
    wanted = [[rule(i, j, n) for j in range(n)] for i in range(n)]
    assert dense_of(primitive, n).tolist() == wanted


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("global", lambda i, j: i in TOKENS or j in TOKENS),
        ("broadcast", lambda i, j: j in TOKENS),
        ("collect", lambda i, j: i in TOKENS),
    ],
)
def test_token_sets_read_and_are_read(name: str, rule: Callable[[int, int], bool]) -> None:
    tokens = TokenSet.of(9, Stretch(1, 2), Stretch(4, 6))
    primitive = primitives()[name][0].of({"tokens": tokens}, context(9))
    assert dense_of(primitive, 9).tolist() == [[rule(i, j) for j in range(9)] for i in range(9)]


GRID: list[tuple[str, dict[str, Any], Callable[[tuple[int, ...], tuple[int, ...]], bool]]] = [
    ("near", {"reach": 1}, lambda a, b: abs(a[0] - b[0]) <= 1 and abs(a[1] - b[1]) <= 1),
    (
        "near",
        {"rows": 0, "columns": 2},
        lambda a, b: a[0] == b[0] and abs(a[1] - b[1]) <= 2,
    ),
    ("row", {}, lambda a, b: a[0] == b[0]),
    ("column", {}, lambda a, b: a[1] == b[1]),
    (
        "tile",
        {"rows": 2, "columns": 3},
        lambda a, b: a[0] // 2 == b[0] // 2 and a[1] // 3 == b[1] // 3,
    ),
    (
        "tile",
        {"rows": 2, "columns": 2, "shift": 1},
        lambda a, b: (a[0] - 1) // 2 == (b[0] - 1) // 2 and (a[1] - 1) // 2 == (b[1] - 1) // 2,
    ),
    (
        "neighborhood",
        {"rows": 3, "columns": 3},
        lambda a, b: b[0] in natten(a[0], 4, 3, 1) and b[1] in natten(a[1], 5, 3, 1),
    ),
    (
        "neighborhood",
        {"rows": 2, "columns": 2, "dilation": 2},
        lambda a, b: b[0] in natten(a[0], 4, 2, 2) and b[1] in natten(a[1], 5, 2, 2),
    ),
    (
        "neighborhood",
        {"rows": 2, "columns": 3, "stride": 2},
        lambda a, b: b[0] in natten(a[0], 4, 2, 1, 2) and b[1] in natten(a[1], 5, 3, 1, 2),
    ),
    ("neighborhood", {"rows": 3}, lambda a, b: b[0] in natten(a[0], 4, 3, 1)),
    (
        "neighborhood",
        {"columns": 2, "causal": True},
        lambda a, b: a[1] - b[1] in (0, 1),
    ),
]


@pytest.mark.parametrize(
    ("name", "values", "rule"), GRID, ids=[f"{one[0]}-{at}" for at, one in enumerate(GRID)]
)
@pytest.mark.parametrize("n", [1, 11, 20, 24])
def test_cells_of_a_grid_are_where_they_should_be(
    name: str, values: dict[str, Any], rule: Any, n: int
) -> None:
    primitive = primitives()[name][-1].of(values, context(n, (4, 5)))
    wanted = [
        [i < 20 and j < 20 and rule(divmod(i, 5), divmod(j, 5)) for j in range(n)] for i in range(n)
    ]
    assert dense_of(primitive, n).tolist() == wanted


def test_frames_of_a_grid_are_its_slowest_axis() -> None:
    def cell(p: int) -> tuple[int, int, int]:
        return p // 6, p // 3 % 2, p % 3

    primitive = primitives()["near"][0].of(
        {"frames": 1, "rows": 0, "columns": 1}, context(24, (4, 2, 3))
    )
    wanted = [
        [
            all(abs(a - b) <= r for a, b, r in zip(cell(i), cell(j), (1, 0, 1), strict=True))
            for j in range(24)
        ]
        for i in range(24)
    ]
    assert dense_of(primitive, 24).tolist() == wanted


def context(n: int, shape: tuple[int, ...] | None = None) -> Context:
    def candidates(outside: object) -> Runs | None:
        return None

    return Context(n, 0, 0, candidates, shape)


@pytest.mark.parametrize(
    ("name", "values", "argument"),
    [
        ("window", {"each_side": -1}, "each_side"),
        ("window", {"width": 4}, "width"),
        ("window", {"last": 3, "dilation": 0}, "dilation"),
        ("stride", {"step": 0}, "step"),
        ("chunks", {"size": 0}, "size"),
        ("neighborhood", {"keys": 0}, "keys"),
        ("neighborhood", {"keys": 3, "stride": 4}, "stride"),
        ("expander", {"degree": 3}, "degree"),
        ("random", {"links": -1}, "links"),
        ("random", {"links": 1, "seed": 1 << 64}, "seed"),
        ("offsets", {"distances": (0, -1)}, "distances"),
        ("offsets", {"base": 1}, "base"),
    ],
)
def test_value_that_makes_no_sense_is_refused(
    name: str, values: dict[str, Any], argument: str
) -> None:
    with pytest.raises(BadArgument) as error:
        primitives()[name][0].of(values, context(9))
    assert error.value.name == argument
    assert f"`{argument}`" in error.value.message or argument == "distances"


ALL = [
    pytest.param(one, id=one.__qualname__) for choices in primitives().values() for one in choices
]


@pytest.mark.parametrize("primitive", ALL)
def test_primitive_declares_itself(primitive: type[Primitive]) -> None:
    """What documentation, checks and strategies derive from is there and agrees."""
    arguments = primitive.arguments()
    assert primitive.__doc__
    assert primitive.forms
    for form in primitive.forms:
        assert form.text.startswith(primitive.name)
        assert form.meaning
        assert set(form.names) | set(form.options) <= set(arguments)
        assert form.positional <= len(form.names)
        assert all(arguments[name].is_optional for name in form.options)
    needed = set.intersection(*(set(form.names) for form in primitive.forms))
    assert needed == {name for name, one in arguments.items() if not one.is_optional}
    assert all(one.kind is not Kind.CONTEXT for one in arguments.values())
    assert primitive.in_grid or reserved(primitive.name) == "a primitive"


def test_a_primitive_is_found_by_its_file() -> None:
    assert set(primitives()) == {
        "full", "none", "self", "causal", "window", "neighborhood", "global", "broadcast",
        "collect", "random", "expander", "stride", "chunks", "offsets", "same", "links", "where",
        "near", "row", "column", "tile",
    }  # fmt: skip

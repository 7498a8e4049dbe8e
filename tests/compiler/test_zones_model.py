"""Zones against the naive model: boolean matrices, made from the definition of digits."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from attnloom.compiler import places, zone_arrays, zone_domain, zone_rows, zone_simplify, zones
from attnloom.compiler.zones import Bounds, TooComplex, Zones

Dense = NDArray[np.bool_]

CHAINS = [(1,), (1, 2), (1, 3), (1, 4), (1, 5), (1, 6), (1, 2, 4), (1, 2, 6), (1, 4, 12), (1, 40)]
"""Any two of these meet in one test: some are chains together, others not (4 and 6, 5 and 2)."""

Box = list[Bounds]


@dataclass(frozen=True)
class Sketch:
    """A union of boxes as data, from which both the relation and the model are made."""

    start: int
    stop: int
    chain: tuple[int, ...]
    boxes: tuple[tuple[Bounds, ...], ...]

    def zones(self) -> Zones:
        union = Zones.empty(self.start, self.stop)
        for box in self.boxes:
            union = union | Zones.digits(self.start, self.stop, self.chain, box)
        return union

    def dense(self) -> Dense:
        size = self.stop - self.start
        found = np.zeros((size, size), dtype=np.bool_)
        for i in range(size):
            for j in range(size):
                pair = self.start + i, self.start + j
                found[i, j] = any(self._holds(box, *pair) for box in self.boxes)
        return found

    def _holds(self, box: tuple[Bounds, ...], i: int, j: int) -> bool:
        for t, zone in enumerate(box):
            x, y = i // self.chain[t], j // self.chain[t]
            if t + 1 < len(self.chain):
                base = self.chain[t + 1] // self.chain[t]
                x, y = x % base, y % base
            for bounds, value in ((zone.i, x), (zone.j, y), (zone.d, x - y)):
                if bounds is not None and not bounds[0] <= value <= bounds[1]:
                    return False
        return True


@st.composite
def ranges(draw: st.DrawFn, low: int, high: int) -> tuple[int, int] | None:
    """A range that may be free, reach beyond the digit's values, or be empty."""
    if draw(st.integers(0, 2)) == 0:
        return None
    first = draw(st.integers(low - 1, high + 1))
    return first, draw(st.integers(first - 1, high + 2))


@st.composite
def sketches(draw: st.DrawFn, start: int, stop: int) -> Sketch:
    chain = draw(st.sampled_from(CHAINS))
    values = [(0, above // place - 1) for place, above in pairwise(chain)]
    values.append((start // chain[-1], stop // chain[-1]))
    boxes = []
    for _ in range(draw(st.integers(0, 4))):
        box = []
        for low, high in values:
            i, j = draw(ranges(low, high)), draw(ranges(low, high))
            box.append(Bounds(i=i, j=j, d=draw(ranges(low - high, high - low))))
        boxes.append(tuple(box))
    return Sketch(start, stop, chain, tuple(boxes))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Sketch, Sketch]:
    """Two relations over one domain, which may begin before zero and may be empty."""
    start = draw(st.integers(-9, 3))
    stop = start + draw(st.integers(0, 16))
    return draw(sketches(start, stop)), draw(sketches(start, stop))


singles = pairs().map(lambda pair: pair[0])

FEWER = settings(max_examples=60, deadline=None)


def check(found: Zones, expected: Dense) -> None:
    """The matrix is right, the count is right, and the boxes are in order."""
    assert np.array_equal(found.to_dense(), expected)
    assert found.count() == np.count_nonzero(expected)
    assert found.is_empty() == (not expected.any()) == (not found)
    for box in found.boxes:
        alone = Zones(found.start, found.stop, found.places, box[None].copy())
        assert is_tight(alone)


def is_tight(zones: Zones) -> bool:
    """Whether each bound of a single box is attained, digit by digit."""
    for i1, i2, j1, j2, d1, d2 in zones.boxes[0].tolist():
        inside = [(i, j) for i in range(i1, i2 + 1) for j in range(j1, j2 + 1) if d1 <= i - j <= d2]
        rows, columns = {i for i, _ in inside}, {j for _, j in inside}
        steps = {i - j for i, j in inside}
        if (min(rows), max(rows), min(columns), max(columns)) != (i1, i2, j1, j2):
            return False
        if (min(steps), max(steps)) != (d1, d2):
            return False
    return True


def product(a: Dense, b: Dense) -> Dense:
    return (a.astype(np.int64) @ b.astype(np.int64)) > 0


OPERATIONS: dict[str, tuple[Callable[[Zones, Zones], Zones], Callable[[Dense, Dense], Dense]]] = {
    "union": (lambda a, b: a | b, lambda a, b: a | b),
    "intersection": (lambda a, b: a & b, lambda a, b: a & b),
    "difference": (lambda a, b: a - b, lambda a, b: a & ~b),
    "composition": (lambda a, b: a.compose(b), product),
    "complement": (lambda a, b: ~a, lambda a, b: ~a),
    "transpose": (lambda a, b: a.transpose(), lambda a, b: a.T),
    "simplify": (lambda a, b: (a | b).simplify(), lambda a, b: a | b),
    "disjoint": (lambda a, b: (a | b).disjoint(), lambda a, b: a | b),
}


@pytest.mark.parametrize("name", OPERATIONS)
@given(pair=pairs())
@FEWER
def test_operation_acts_on_the_matrices(name: str, pair: tuple[Sketch, Sketch]) -> None:
    a, b = pair
    on_zones, on_matrices = OPERATIONS[name]
    check(on_zones(a.zones(), b.zones()), on_matrices(a.dense(), b.dense()))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
@given(pair=pairs())
@settings(max_examples=1000, deadline=None)
def test_operation_acts_on_very_many_matrices(name: str, pair: tuple[Sketch, Sketch]) -> None:
    a, b = pair
    on_zones, on_matrices = OPERATIONS[name]
    check(on_zones(a.zones(), b.zones()), on_matrices(a.dense(), b.dense()))


@given(pair=pairs())
@FEWER
def test_equality_and_inclusion_compare_the_pairs(pair: tuple[Sketch, Sketch]) -> None:
    a, b = (sketch.zones() for sketch in pair)
    dense_a, dense_b = (sketch.dense() for sketch in pair)
    assert a.equals(b) == np.array_equal(dense_a, dense_b)
    assert a.issubset(b) == (not (dense_a & ~dense_b).any())
    assert (a & b).issubset(a)
    assert (a - b | a & b).equals(a)


@given(pair=pairs())
@FEWER
def test_boxes_of_a_disjoint_union_share_no_pair(pair: tuple[Sketch, Sketch]) -> None:
    union = (pair[0].zones() | pair[1].zones()).disjoint()
    covered = np.zeros_like(pair[0].dense(), dtype=np.int64)
    for box in union.boxes:
        covered += Zones(union.start, union.stop, union.places, box[None].copy()).to_dense()
    assert covered.max(initial=0) <= 1


@given(sketch=singles)
@FEWER
def test_rows_and_columns_are_those_of_the_matrix(sketch: Sketch) -> None:
    found, dense = sketch.zones(), sketch.dense()
    for at, position in enumerate(range(sketch.start, sketch.stop)):
        for runs, line in (
            (found.row(position), dense[at]),
            (found.column(position), dense[:, at]),
        ):
            listed = [x for start, stop in runs for x in range(start, stop)]
            assert listed == [sketch.start + x for x in np.flatnonzero(line)]
            assert all(stop < start for (_, stop), (start, _) in pairwise(runs))
        assert found.row_count(position) == dense[at].sum()
        assert found.column_count(position) == dense[:, at].sum()


@given(sketch=singles)
@FEWER
def test_counts_of_all_rows_and_their_extremes_are_exact(sketch: Sketch) -> None:
    found, dense = sketch.zones(), sketch.dense()
    positions = np.arange(sketch.start, sketch.stop)
    assert np.array_equal(found.row_counts(positions), dense.sum(1))
    assert np.array_equal(found.column_counts(positions[::-1]), dense.sum(0)[::-1])
    if not len(positions):
        with pytest.raises(ValueError, match="empty domain"):
            found.max_row_count()
        return
    for (count, row), sums, best in (
        (found.max_row_count(), dense.sum(1), max),
        (found.min_row_count(), dense.sum(1), min),
        (found.max_column_count(), dense.sum(0), max),
        (found.min_column_count(), dense.sum(0), min),
    ):
        assert count == best(sums.tolist()) == sums[row - sketch.start]


@given(sketch=singles)
@FEWER
def test_row_segments_give_every_row_length(sketch: Sketch) -> None:
    found, dense = sketch.zones(), sketch.dense()
    if len(found.places) > 1:
        with pytest.raises(TooComplex):
            found.row_segments()
        return
    lengths = [
        length + slope * (row - start)
        for start, stop, length, slope in found.row_segments()
        for row in range(start, stop)
    ]
    assert lengths == dense.sum(1).tolist()


@given(sketch=singles)
@FEWER
def test_first_pair_is_the_smallest_and_a_sample_is_a_pair(sketch: Sketch) -> None:
    found, listed = sketch.zones(), np.argwhere(sketch.dense()) + sketch.start
    if not len(listed):
        assert found.first_pair() is None
        assert found.sample_pair() is None
        return
    assert found.first_pair() == tuple(listed[0])
    sample = found.sample_pair()
    assert sample is not None
    assert bool(found.contains(*sample))


@given(sketch=singles, offset=st.integers(-7, 7))
@FEWER
def test_shifted_pairs_move_with_their_domain(sketch: Sketch, offset: int) -> None:
    moved = sketch.zones().shifted(offset)
    assert (moved.start, moved.stop) == (sketch.start + offset, sketch.stop + offset)
    check(moved, sketch.dense())


@given(sketch=singles, start=st.integers(-12, 6), size=st.integers(0, 20))
@FEWER
def test_restricting_keeps_the_pairs_of_both_domains(sketch: Sketch, start: int, size: int) -> None:
    dense = sketch.dense()
    expected = np.zeros((size, size), dtype=np.bool_)
    for i in range(start, start + size):
        for j in range(start, start + size):
            if sketch.start <= min(i, j) and max(i, j) < sketch.stop:
                expected[i - start, j - start] = dense[i - sketch.start, j - sketch.start]
    check(sketch.zones().restricted(start, start + size), expected)


@given(sketch=singles, size=st.integers(1, 4), start=st.integers(-12, 3), length=st.integers(0, 20))
@FEWER
def test_a_relation_of_blocks_holds_all_their_tokens(
    sketch: Sketch, size: int, start: int, length: int
) -> None:
    dense = sketch.dense()
    expected = np.zeros((length, length), dtype=np.bool_)
    for i in range(length):
        for j in range(length):
            block_i, block_j = (start + i) // size, (start + j) // size
            if sketch.start <= min(block_i, block_j) and max(block_i, block_j) < sketch.stop:
                expected[i, j] = dense[block_i - sketch.start, block_j - sketch.start]
    check(sketch.zones().blocks(size, start, start + length), expected)


@given(sketch=singles, data=st.data())
@FEWER
def test_contains_broadcasts_like_numpy(sketch: Sketch, data: st.DataObject) -> None:
    positions = st.lists(st.integers(sketch.start - 3, sketch.stop + 3), max_size=5)
    rows = np.array(data.draw(positions), dtype=np.int64)
    columns = np.array(data.draw(positions), dtype=np.int64)
    found = sketch.zones().contains(rows[:, None], columns)
    assert found.shape == (len(rows), len(columns))
    dense = sketch.dense()
    for (a, i), (b, j) in ((x, y) for x in enumerate(rows) for y in enumerate(columns)):
        inside = sketch.start <= min(i, j) and max(i, j) < sketch.stop
        assert found[a, b] == (inside and dense[i - sketch.start, j - sketch.start])


@given(
    first=st.none() | st.integers(-20, 20),
    last=st.none() | st.integers(-20, 20),
    step=st.integers(1, 9),
    start=st.integers(-9, 3),
    length=st.integers(0, 40),
)
@settings(max_examples=150, deadline=None)
@example(first=-40, last=40, step=2, start=-7, length=40)
def test_band_holds_every_step_from_first_to_last(
    first: int | None, last: int | None, step: int, start: int, length: int
) -> None:
    anchor = first if first is not None else last if last is not None else 0
    wanted = {
        d
        for d in range(-length, length + 1)
        if (d - anchor) % step == 0
        and (first is None or d >= first)
        and (last is None or d <= last)
    }
    positions = range(start, start + length)
    expected = np.array([[i - j in wanted for j in positions] for i in positions], dtype=np.bool_)
    check(
        Zones.band(start, start + length, first, last, step=step), expected.reshape(length, length)
    )


@given(
    start=st.integers(-9, 3),
    length=st.integers(0, 20),
    period=st.integers(1, 9),
    residues=st.tuples(st.integers(0, 8), st.integers(0, 8)),
)
@FEWER
def test_periodic_lines_follow_the_remainder(
    start: int, length: int, period: int, residues: tuple[int, int]
) -> None:
    first, last = residues
    stop = start + length
    read = [first <= i % period <= last for i in range(start, stop)]
    expected = np.repeat(np.array(read, dtype=np.bool_)[:, None], length, axis=1)
    check(Zones.periodic_rows(start, stop, period, first, last), expected)
    check(Zones.periodic_columns(start, stop, period, first, last), expected.T)


@given(
    start=st.integers(-9, 3),
    length=st.integers(0, 20),
    runs=st.lists(st.tuples(st.integers(-12, 25), st.integers(-12, 25)), max_size=4),
)
@FEWER
def test_rows_and_columns_of_runs_ignore_order_overlap_and_what_lies_outside(
    start: int, length: int, runs: list[tuple[int, int]]
) -> None:
    stop = start + length
    chosen = [any(a <= i < b for a, b in runs) for i in range(start, stop)]
    expected = np.repeat(np.array(chosen, dtype=np.bool_)[:, None], length, axis=1)
    check(Zones.rows(start, stop, runs), expected)
    check(Zones.columns(start, stop, runs), expected.T)


@given(
    start=st.integers(-9, 3),
    length=st.integers(0, 20),
    size=st.integers(1, 25),
    reach=st.integers(0, 2),
)
@FEWER
def test_chunks_compare_chunk_numbers(start: int, length: int, size: int, reach: int) -> None:
    positions = range(start, start + length)
    expected = [[abs(i // size - j // size) <= reach for j in positions] for i in positions]
    found = Zones.chunks(start, start + length, size, d=(-reach, reach))
    check(found, np.array(expected, dtype=np.bool_).reshape(length, length))


LAYERS = {
    "window": lambda n: Zones.zone(-4, n, d=(-2, 2)),
    "causal window with memory": lambda n: (
        Zones.zone(-4, n, d=(0, 3)) | Zones.rows(-4, n, [(-4, 0)]) | Zones.columns(-4, n, [(-4, 0)])
    ),
    "strided": lambda n: Zones.zone(-4, n, d=(0, 3)) | Zones.band(-4, n, 0, None, step=7),
    "fixed": lambda n: (
        (Zones.chunks(-4, n, 8) | Zones.periodic_columns(-4, n, 8, 6, 7))
        & Zones.band(-4, n, 0, None)
    ),
    "two dilations": lambda n: (
        Zones.band(-4, n, -1, 1)
        | Zones.band(-4, n, -60, 60, step=6)
        | Zones.band(-4, n, -25, 25, step=5)
    ),
    "grid and window": lambda n: (
        Zones.digits(-4, n, (1, 9), [Bounds(d=(-1, 1)), Bounds(d=(-1, 1))])
        | Zones.band(-4, n, 1, 2)
    ),
    "chunks that do not divide": lambda n: Zones.chunks(-4, n, 6) | Zones.chunks(-4, n, 4),
    "scattered globals": lambda n: (
        Zones.rows(-4, n, [(p, p + 1) for p in range(1, n, 13)])
        | Zones.columns(-4, n, [(p, p + 1) for p in range(1, n, 11)])
        | Zones.band(-4, n, 0, 1)
    ),
}


@pytest.mark.parametrize("n", [50, 67])
@pytest.mark.parametrize("name", LAYERS)
def test_stack_of_layers_equals_the_power_of_the_matrix(name: str, n: int) -> None:
    layer = LAYERS[name](n) | Zones.zone(-4, n, d=(0, 0))
    dense = layer.to_dense()
    reached, expected = layer, dense
    for _ in range(5):
        reached, expected = layer @ reached, product(dense, expected)
        check(reached, expected)


def test_upper_layer_comes_first_in_a_composition() -> None:
    reads_next = Zones.zone(0, 9, d=(-1, -1))
    only_row_3 = Zones.rows(0, 9, [(3, 4)])
    assert only_row_3.compose(reads_next).row_count(3) == 8  # every key but 0 is someone's next
    assert reads_next.compose(only_row_3).first_pair() == (2, 0)  # 2 reads 3, which reads all


def test_relation_that_needs_no_digits_is_brought_to_one() -> None:
    strided = Zones.band(0, 1000, 0, 9) | Zones.band(0, 1000, 0, None, step=10)
    reached = strided @ strided
    assert reached.places == (1, 10)
    assert reached.simplify().boxes.tolist() == [[[0, 999, 0, 999, 0, 999]]]


def test_places_above_the_domain_are_dropped() -> None:
    assert Zones.chunks(0, 100, 128).places == (1,)
    assert Zones.chunks(100, 200, 128).places == (1, 128)


@pytest.mark.parametrize(
    "module", [places, zone_arrays, zone_domain, zone_rows, zone_simplify, zones]
)
def test_examples_in_docstrings_run(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]

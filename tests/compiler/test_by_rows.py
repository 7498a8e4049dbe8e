"""All rows of a region, piece by piece."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from region_model import calls, dense_of, region_of

from attnloom.compiler import by_rows as module
from attnloom.compiler.analysis.table import MAX_RANGES, Table
from attnloom.compiler.by_rows import by_rows
from attnloom.compiler.expressions import Expression, number, operation
from attnloom.compiler.limits import TooLarge
from attnloom.compiler.regions import Band, Bands, Condition, Region
from attnloom.compiler.runs import Ints, Runs


@given(st.data())
def test_pieces_are_the_rows_in_order(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 40))
    primitive = data.draw(calls(n))
    region, dense = region_of(primitive, n), dense_of(primitive, n)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FIRST_ROWS", data.draw(st.integers(1, 9)))
        patch.setattr(module, "_RANGES_AT_ONCE", data.draw(st.integers(1, 60)))
        for rows, runs in by_rows(region, 0, n):
            for place, row in enumerate(rows.tolist()):
                keys = [np.arange(start, stop) for start, stop in runs.row(place)]
                assert np.array_equal(np.concatenate([[], *keys]), np.flatnonzero(dense[row]))
            seen += rows.tolist()
    assert seen == list(range(n))


class Refusing(Bands):
    """Takes three rows at once."""

    def runs(self, rows: Ints) -> Runs:
        if len(rows) > 3:
            raise TooLarge("more than three")
        return super().runs(rows)


def test_rows_are_asked_in_smaller_pieces_when_they_are_too_many() -> None:
    region: Region = Refusing((Band(0, 99, 0, 99, 0, 5),))
    pieces = [len(rows) for rows, _ in by_rows(region, 0, 20)]
    assert sum(pieces) == 20
    assert max(pieces) <= 3


def test_condition_is_not_asked_for_all_pairs_of_a_long_sequence() -> None:
    condition = operation("==", (operation("%", (Expression("i"), number(7))), Expression("j")))
    with pytest.raises(TooLarge, match="the condition would be asked"):
        next(by_rows(Condition.of(condition, 1 << 20), 0, 1 << 20))


def test_table_of_too_many_ranges_is_refused_before_it_is_made() -> None:
    n = 1 << 18
    every_other = Bands.of(Band(0, n - 1, 0, n - 1, step=2, d1=0, d2=4000))
    begin = time.process_time()
    with pytest.raises(TooLarge, match=f"more than {MAX_RANGES:,} ranges"):
        Table.of(every_other, 0, n)
    assert time.process_time() - begin < 1

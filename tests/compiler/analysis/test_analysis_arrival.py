"""Arrival as it is drawn, against products of dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from dense_oracle import union
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from programs import Program, programs

import attnloom
from attnloom.compiler.analysis import arrival as module
from attnloom.compiler.analysis.arrival import MOST_LAYERS, arrival


@settings(max_examples=25, deadline=None)
@given(programs(most=30), st.sampled_from([3, 7, 99]))
def test_stretches_learn_of_sources_as_products_of_the_layers_say(
    program: Program, cells: int
) -> None:
    try:
        pattern = attnloom.parse(program.text, **program.params)
        layers = [
            union(pattern, program.n, program.heads, layer, program.layers, program.inputs)
            for layer in range(program.layers)
        ]
        stack = pattern.analyze(
            program.n, heads=program.heads, layers=program.layers, inputs=program.inputs
        ).stack
    except attnloom.PatternError:
        assume(False)
    found = arrival(stack, cells)
    assert found is not None
    size = stack.length
    knows = np.eye(size, dtype=bool)
    after = np.zeros((size, size), dtype=int)
    for number, reads in enumerate(layers[:MOST_LAYERS], start=1):
        grown = knows | ((reads.astype(np.int64) @ knows.astype(np.int64)) > 0)
        after[grown & ~knows] = number
        knows = grown
    for row, (start, stop) in enumerate(
        zip(found.edges[:-1] - stack.start, found.edges[1:] - stack.start, strict=True)
    ):
        for column, source in enumerate((found.sources - stack.start).tolist()):
            own = after[start:stop, source]
            assert found.known[row, column] == np.count_nonzero(own)
            mean = own[own > 0].mean() if own.any() else 0
            assert found.layers[row, column] == pytest.approx(mean)
    assert found.last == after[:, found.sources - stack.start].max()
    assert found.method.is_exact == (len(found.sources) == size)


def test_layers_are_followed_until_nothing_is_new() -> None:
    window = attnloom.parse("pattern p { window(each_side=4) }")
    found = arrival(window.analyze(41).stack, 41)
    assert found is not None
    assert (found.last, found.followed) == (10, None)
    far = arrival(window.analyze(1000).stack, 10)
    assert far is not None
    assert (far.last, far.followed) == (MOST_LAYERS, MOST_LAYERS)


def test_too_much_work_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_WORK", 10)
    assert arrival(attnloom.parse("pattern p { full }").analyze(40).stack, 40) is None

"""Random programs: every engine agrees with dense matrices and networkx."""

from __future__ import annotations

from dataclasses import replace

import dense_oracle as oracle
import numpy as np
import pytest
from hypothesis import assume, given, settings
from programs import Program, programs

import attnloom
from attnloom import PatternError
from attnloom.compiler.analysis import reach as reach_module
from attnloom.compiler.analysis.cache import cache
from attnloom.compiler.analysis.figures import Pair
from attnloom.compiler.analysis.intended import intended
from attnloom.compiler.analysis.reach import Reach
from attnloom.compiler.analysis.report import Report
from attnloom.compiler.analysis.routes import route
from attnloom.compiler.analysis.stack import Stack
from attnloom.compiler.analysis.tiles import tiles
from attnloom.compiler.analysis.work import num_reads, work


def analyzed(program: Program) -> tuple[attnloom.Pattern, Report]:
    """The report of a program that has a meaning for all its heads and layers."""
    try:
        pattern = attnloom.parse(program.text, **program.params)
        report = pattern.analyze(
            program.n, heads=program.heads, layers=program.layers, inputs=program.inputs
        )
        report.stack  # noqa: B018 - binds all heads and layers
    except PatternError:
        assume(False)
    return pattern, report


def layers_of(pattern: attnloom.Pattern, program: Program) -> list[oracle.Matrix]:
    return [
        oracle.union(pattern, program.n, program.heads, layer, program.layers, program.inputs)
        for layer in range(program.layers)
    ]


def meant(report: Report, layers: list[oracle.Matrix]) -> oracle.Matrix:
    """The intended pairs as a matrix; by the definition where that is simple."""
    stack, pairs = report.stack, report.intended
    positions = np.arange(stack.start, stack.stop)
    found = pairs.region.contains(positions[:, None], positions)
    if pairs.holds_all_reads and pairs.block == 1:
        is_causal = not any(np.triu(reads, 1).any() for reads in layers)
        assert is_causal == pairs.is_causal
        expected = oracle.meant_pairs(layers)
        if pairs.reads_ahead or all(kind.has_zones for kind in stack.kinds):
            assert (found == expected).all()
        elif not is_causal:  # without a closed form it is not looked at closely
            assert (found == oracle.other_pairs(stack.length)).all()
    return found


def engines(report: Report) -> list[Reach]:
    """The best engine, and the search from all positions."""
    best = Reach(report.stack, report.intended, report.note)
    searched = Reach(report.stack, report.intended, report.note)
    vars(searched)["_closed"] = "not asked"
    vars(searched)["_by_reads"] = None
    return [best, searched] if report.intended.total else [best]


def check_hops(program: Program) -> None:
    pattern, report = analyzed(program)
    layers = layers_of(pattern, program)
    pairs = meant(report, layers)
    assert report.intended.total == pairs.sum()
    if report.stack.is_uniform:
        apart = oracle.distances(layers[0])
        connected = [apart <= number + 1 for number in range(program.layers)]
    else:
        apart, connected = oracle.fewest(layers)
    finite = apart[pairs & np.isfinite(apart)]
    start = report.stack.start

    def check_pair(pair: Pair | None, expected: float) -> None:
        assert pair is not None
        assert pairs[pair.target - start, pair.source - start]
        assert apart[pair.target - start, pair.source - start] == expected

    for engine in engines(report):
        hops, coverage = engine.hops, engine.coverage
        assert hops.method.is_exact
        assert hops.unreachable == np.isinf(apart[pairs]).sum()
        assert {step.first: step.pairs for step in hops.steps if step.pairs} == {
            int(one): int((finite == one).sum()) for one in np.unique(finite)
        }
        assert (hops.worst or 0) == (finite.max() if len(finite) else 0)
        if len(finite):
            assert hops.mean == pytest.approx(finite.mean())
            check_pair(hops.worst_pair, finite.max())
        if hops.unreachable:
            check_pair(hops.unreachable_pair, np.inf)
        expected = [one[pairs].mean() if pairs.any() else 1.0 for one in connected]
        assert coverage.shares == pytest.approx(expected)
        complete = [number + 1 for number, one in enumerate(connected) if one[pairs].all()]
        assert coverage.full_layer == (complete[0] if complete else None)
        for known, field in zip(connected, coverage.fields, strict=False):
            sizes = np.sort(known.sum(1))
            middle = sizes[(len(sizes) - 1) // 2]
            assert (field.least, field.median, field.most) == (sizes[0], middle, sizes[-1])


def test_fields_grow_beyond_the_documents_over_memory() -> None:
    pattern = attnloom.parse("pattern p {\ninput doc: segments\nmemory(1)\nsame(doc)\n}")
    report = pattern.analyze(9, layers=3, inputs={"doc": [0] * 4 + [1] * 5})
    assert report.coverage.full_layer == 1
    assert [field.least for field in report.coverage.fields] == [5, 10, 10]


@settings(max_examples=40)
@given(programs(most=40))
def test_hops_and_coverage_agree_with_networkx(program: Program) -> None:
    check_hops(program)


@pytest.mark.slow
@settings(max_examples=1500)
@given(programs(most=200))
def test_hops_and_coverage_of_longer_programs_agree_with_networkx(program: Program) -> None:
    check_hops(program)


@settings(max_examples=40)
@given(programs(most=40))
def test_route_is_shortest_and_every_read_is_allowed(program: Program) -> None:
    pattern, report = analyzed(program)
    layers = layers_of(pattern, program)
    stack = report.stack
    apart = oracle.distances(layers[0]) if stack.is_uniform else oracle.fewest(layers)[0]
    for target in range(0, stack.length, max(1, stack.length // 4)):
        for source in range(0, stack.length, max(1, stack.length // 3)):
            found = route(stack, Pair(source + stack.start, target + stack.start))
            if found is None:
                assert np.isinf(apart[target, source])
                continue
            assert found.hops == apart[target, source]
            here, above = source + stack.start, -1
            for read in found.reads:
                assert read.source == here
                reads = layers[0] if read.layer is None else layers[read.layer]
                assert reads[read.target - stack.start, read.source - stack.start]
                assert read.rule.statement in " ".join(program.text.split())
                if read.layer is not None:
                    assert read.layer > above
                    above = read.layer
                here = read.target
            assert here == target + stack.start


@settings(max_examples=40)
@given(programs(most=40))
def test_work_cache_and_tiles_agree_with_dense_masks(program: Program) -> None:
    pattern, report = analyzed(program)
    program = replace(program, layers=report.stack.layers)
    stack = report.stack
    masks = [
        [
            pattern.mask(
                program.n, head=head, heads=program.heads, layer=layer, layers=program.layers,
                inputs=program.inputs,
            )
            for head in range(program.heads)
        ]
        for layer in range(program.layers)
    ]  # fmt: skip
    counted = masks[:1] if stack.is_uniform else masks
    found = work(stack)
    assert found.reads == num_reads(stack) == sum(int(one.sum()) for row in counted for one in row)
    assert found.pairs == stack.length**2 * len(counted) * program.heads
    unions = [np.logical_or.reduce(row) for row in counted]
    for kind in found.kinds:
        per_query = np.sort(unions[kind.layers[0]].sum(1))
        per_key = np.sort(unions[kind.layers[0]].sum(0))
        for spread, sizes in ((kind.per_query, per_query), (kind.per_key, per_key)):
            assert spread is not None
            assert (spread.least, spread.most) == (sizes[0], sizes[-1])
            assert spread.median == sizes[(len(sizes) - 1) // 2]
            assert spread.mean == pytest.approx(sizes.mean())
            assert spread.num_zero == (sizes == 0).sum()
    silent = any((one.sum(1) == 0).any() for row in masks for one in row)
    assert (found.empty_row is not None) == silent
    for size in (4, 16):
        touched = tiles(stack, found.reads, size)
        assert touched.touched == sum(oracle.num_tiles(one, size) for row in counted for one in row)
    if report.intended.is_causal and report.intended.block == 1:
        assert cache(stack).keys == max(oracle.live_keys(one) for row in counted for one in row)


@settings(max_examples=25)
@given(programs(most=30))
def test_search_of_a_few_positions_counts_what_the_search_of_all_counts(program: Program) -> None:
    _, report = analyzed(program)
    assume(report.intended.total and report.stack.is_uniform)
    (_, searched) = engines(report)
    space = searched.space
    seeds = np.arange(0, space.length, 3)
    every = list(reach_module.search.readers(space, np.arange(space.length), report.note))
    some = list(reach_module.search.readers(space, seeds, report.note))
    whole = reach_module.joined(every).reached
    part = reach_module.joined(some).reached
    assert (part == whole[: len(part), ::3]).all()
    walked = [searched.walked(int(seed)).reached[:, 0] for seed in seeds]
    if space.block == 1:
        assert [int(one[-1]) for one in walked] == part[-1].tolist()


@settings(max_examples=15)
@given(programs(most=40))
def test_stack_knows_equal_layers(program: Program) -> None:
    pattern, report = analyzed(program)
    layers = layers_of(pattern, program)
    stack = report.stack
    for one in range(program.layers):
        for other in range(one):
            if stack.order[one] == stack.order[other]:
                assert (layers[one] == layers[other]).all()
    assert isinstance(stack, Stack)
    assert intended(stack).total == report.intended.total

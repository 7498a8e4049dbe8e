"""Hubs, cuts and capacities: closed forms, networkx, and samples against exact answers."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
from dense_oracle import Matrix, distances, meant_pairs, other_pairs, parse
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from networkx.algorithms.connectivity import minimum_st_node_cut
from programs import Program, programs

import attnloom
from attnloom import PatternError
from attnloom.compiler.analysis import traffic as traffic_module
from attnloom.compiler.analysis.brandes import loads_of_all, routes_to
from attnloom.compiler.analysis.figures import Pair
from attnloom.compiler.analysis.flow import state_flow, token_flow
from attnloom.compiler.analysis.hubs import hubs
from attnloom.compiler.analysis.lanes import Ends, Lanes, Runs
from attnloom.compiler.analysis.narrow import far_ends, single_points, token_cut, without
from attnloom.compiler.analysis.profile import _by_matching, crossing, states_across
from attnloom.compiler.analysis.report import Report
from attnloom.compiler.analysis.spectrum import spectral_gap
from attnloom.compiler.analysis.two_hops import two_hop_routes
from attnloom.compiler.zones import Bounds, TooComplex, Zones


def graph_of(reads: Matrix) -> nx.DiGraph:
    return nx.from_numpy_array(reads.T & ~np.eye(len(reads), dtype=bool), create_using=nx.DiGraph)


def loads_by_networkx(reads: Matrix) -> np.ndarray:
    """Betweenness by the number of pairs that are at least two hops apart."""
    apart = distances(reads)
    relayed = (np.isfinite(apart) & (apart >= 2)).sum()
    found = nx.betweenness_centrality(graph_of(reads), normalized=False)
    return np.array([found[v] for v in range(len(reads))]) / max(relayed, 1)


def load_of(report: Report, token: int) -> float:
    assert report.hubs.traffic is not None
    return next(one.share for one in report.hubs.traffic.loads if one.token == token)


# --- hubs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "w", "g"), [(40, 3, 1), (100, 8, 2), (64, 1, 5), (4096, 256, 1)])
def test_window_and_globals_have_the_known_loads(n: int, w: int, g: int) -> None:
    report = parse(f"window(each_side={w})\nglobal(first {g})").analyze(n)
    local = n - g
    relayed = (local - w) * (local - w - 1)
    each = sum((local - d) / (g + max(0, 2 * w - d + 1)) for d in range(w + 1, local))
    assert load_of(report, 0) == pytest.approx(2 * each / relayed)
    found = report.hubs.traffic
    assert found is not None
    assert found.method.is_exact
    assert found.fewest_routes == g
    needing = (local - 2 * w) * (local - 2 * w - 1)
    assert found.fewest_share == pytest.approx(needing / (n * (n - 1)))
    assert report.hubs.dependent_share == pytest.approx(needing / (n * (n - 1)))
    assert report.hubs.without is not None
    assert report.hubs.without.worst == -(-(local - 1) // w)
    assert report.hubs.without.total == local * (local - 1)


@pytest.mark.parametrize(("n", "g"), [(12, 1), (40, 3)])
def test_globals_alone_share_everything_evenly(n: int, g: int) -> None:
    report = parse(f"global(first {g})").analyze(n)
    assert report.hubs.traffic is not None
    assert [one.share for one in report.hubs.traffic.loads] == pytest.approx([1 / g] * g)
    assert report.hubs.traffic.rest == pytest.approx(0)
    assert report.hubs.dependent_share == pytest.approx((n - g) * (n - g - 1) / (n * (n - 1)))
    assert report.hubs.vital == ((0,) if g == 1 else ())


def test_path_carries_most_in_the_middle() -> None:
    n = 41
    report = parse("window(each_side=1)").analyze(n)
    relayed = n * (n - 1) - 2 * (n - 1)
    assert report.hubs.traffic is not None
    top = report.hubs.traffic.loads[0]
    assert (top.token, top.share) == (n // 2, pytest.approx(2 * 20 * 20 / relayed))


def test_sinks_before_a_causal_window_relay_nothing() -> None:
    report = parse("only causal\nwindow(last=9)\nbroadcast(first 2)").analyze(80)
    assert report.hubs.relay_nothing
    assert report.hubs.dependent_share == 0
    assert report.warnings[0].code == "W110"
    midway = parse("only causal\nwindow(last=9)\nglobal([0, 40])").analyze(80)
    assert not midway.hubs.relay_nothing


@settings(max_examples=40)
@given(programs(most=30))
def test_loads_and_dependence_agree_with_networkx(program: Program) -> None:
    try:
        pattern = attnloom.parse(program.text, **program.params)
        report = pattern.analyze(program.n, heads=program.heads, inputs=program.inputs)
        report.stack  # noqa: B018 - binds all heads
    except PatternError:
        assume(False)
    reads = np.logical_or.reduce(
        [
            pattern.mask(program.n, head=head, heads=program.heads, inputs=program.inputs)
            for head in range(program.heads)
        ]
    )
    assume(report.intended.holds_all_reads and report.intended.block == 1)
    found = report.hubs
    assert found.traffic is not None
    start = report.stack.start
    if report.hops.worst is not None and report.hops.worst > 1:
        expected = loads_by_networkx(reads)
        assert found.traffic.method.is_exact
        for load in found.traffic.loads:
            assert load.share == pytest.approx(expected[load.token - start], abs=1e-9)
        assert found.traffic.at_most == pytest.approx(max(expected), abs=1e-9) or (
            found.traffic.at_most >= max(expected)
        )
    if not found.count or found.without is None:
        return
    named = [one - start for one in hubs(report.stack).positions(10**6)]
    others = np.setdiff1d(np.arange(len(reads)), named)
    left = reads[np.ix_(others, others)]
    apart, closer = distances(left), distances(reads)[np.ix_(others, others)]
    pairs = np.tri(len(left), k=-1, dtype=bool) if report.intended.is_causal else other_pairs(
        len(left)
    )  # fmt: skip
    if report.intended.reads_ahead:
        pairs = meant_pairs([reads])[np.ix_(others, others)]
    finite = apart[pairs & np.isfinite(apart)]
    assert found.without.unreachable == np.isinf(apart[pairs]).sum()
    assert (found.without.worst or 0) == (finite.max() if len(finite) else 0)
    if found.dependent_share is not None:
        assert found.is_dependence_exact
        more = (apart[pairs] > closer[pairs]).sum()
        assert found.dependent_share == pytest.approx(more / report.hops.total)


@st.composite
def zones(draw: st.DrawFn) -> Zones:
    n = draw(st.integers(3, 20))

    def span(low: int, high: int) -> tuple[int, int] | None:
        ends = draw(st.none() | st.tuples(st.integers(low, high), st.integers(low, high)))
        return None if ends is None else (min(ends), max(ends))

    count = draw(st.integers(1, 4))
    return Zones.union(
        0, n, [Bounds(span(0, n - 1), span(0, n - 1), span(-n + 1, n - 1)) for _ in range(count)]
    )


@given(zones())
def test_two_hop_routes_in_closed_form_are_a_matrix_product(reads: Zones) -> None:
    size = reads.stop
    itself = Zones.zone(0, size, d=(0, 0))
    others = reads - itself
    pairs = (others @ others) - reads - itself
    assume(pairs)
    links = others.to_dense().astype(int)
    routes = links @ links
    apart = pairs.to_dense()
    try:
        found = two_hop_routes(reads, pairs)
    except TooComplex:
        assume(False)
    assert found.num_pairs == apart.sum()
    assert found.fewest == routes[apart].min()
    assert found.num_fewest == (routes[apart] == found.fewest).sum()
    for token in range(size):
        through = np.outer(links[:, token], links[token]) & apart
        expected = (through[apart] / routes[apart]).sum() / apart.sum()
        assert found.share_through(token, reads) == pytest.approx(expected)


@pytest.mark.parametrize(("body", "n"), [
    ("window(each_side=3)\nglobal(5)\nrandom(links=1)", 90),
    ("only causal\nwindow(last=4)\nrandom(links=1)", 80),
    ("window(last=2)", 60),
])  # fmt: skip
def test_routes_followed_from_every_reader_add_up_to_the_loads(body: str, n: int) -> None:
    pattern = parse(body)
    report = pattern.analyze(n)
    reads = pattern.mask(n)
    total, relayed = np.zeros(n), 0
    for reader in range(n):
        passed, pairs = routes_to(report.stack.kinds[0].tokens, report.intended, reader)
        total, relayed = total + passed, relayed + pairs
    expected = loads_by_networkx(reads)
    assert total / relayed == pytest.approx(expected, abs=1e-9)
    wanted = np.tri(n, k=-1, dtype=bool) if report.intended.is_causal else other_pairs(n)
    assert loads_of_all(reads, wanted)[0] == pytest.approx(expected, abs=1e-9)


def test_sampled_pairs_estimate_the_loads_of_all_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = parse("window(each_side=4)\nglobal([0, 100])\nrandom(links=2)")
    exact = pattern.analyze(600).hubs.traffic
    monkeypatch.setattr(traffic_module, "_MOST_DENSE", 0)
    guess = pattern.analyze(600).hubs.traffic
    assert exact is not None
    assert guess is not None
    assert exact.method.is_exact
    assert guess.method.engine == "pairs"
    shares = {one.token: one.share for one in exact.loads}
    assert {one.token for one in guess.loads[:2]} == {0, 100}
    for one in guess.loads[:2]:
        assert one.low <= shares[one.token] <= one.high


def test_no_token_exceeds_what_its_reads_and_readers_allow() -> None:
    pattern = attnloom.load("sparse_transformer_strided", step=200)
    found = pattern.analyze(40_000).hubs.traffic
    assert found is not None
    assert found.method.engine == "degrees"
    assert found.at_most is not None
    assert found.at_most < 0.01
    pattern = attnloom.load("sparse_transformer_strided", step=12)
    report = pattern.analyze(300)
    bound = traffic_module._bound(report.hops, report.work.kinds[0])
    assert bound is not None
    assert max(loads_by_networkx(pattern.mask(300))) < bound


# --- cuts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "w"), [(30, 1), (50, 3), (80, 7)])
def test_window_is_parted_by_as_many_tokens_as_it_reaches(n: int, w: int) -> None:
    report = parse(f"window(each_side={w})").analyze(n)
    cut = report.narrow.token_cut
    assert cut is not None
    assert (cut.at_least, cut.at_most, cut.method.engine) == (w, w, "lanes")


@pytest.mark.parametrize(("n", "w", "g"), [(60, 4, 1), (90, 5, 6)])
@pytest.mark.parametrize("end", ["first", "last"])
def test_globals_add_to_the_cut_of_a_window(n: int, w: int, g: int, end: str) -> None:
    report = parse(f"window(each_side={w})\nglobal({end} {g})").analyze(n)
    cut = report.narrow.token_cut
    assert cut is not None
    assert cut.at_least == cut.at_most == g + w


@pytest.mark.parametrize(
    ("prefix", "g", "rest", "layers"), [(6, 2, 9, 4), (3, 5, 9, 3), (9, 1, 4, 7)]
)
def test_gist_tokens_carry_one_state_each_in_each_layer(
    prefix: int, g: int, rest: int, layers: int
) -> None:
    n = prefix + g + rest
    body = f"only causal\nfull\nnever where(i >= {prefix + g} and j < {prefix})"
    report = parse(body).analyze(n, layers=layers)
    stack = report.stack
    ends = Ends(((0, prefix),), ((prefix + g, n),))
    cut = token_cut(stack, report.intended, ends)
    assert cut is not None
    assert cut.at_least == cut.at_most == g
    assert set(cut.tokens) == set(range(prefix, prefix + g))
    sources, targets = np.arange(prefix), np.arange(prefix + g, n)
    assert state_flow(stack, sources, targets) == min(prefix, rest, g * (layers - 1))


@pytest.mark.parametrize(
    ("n", "w", "g", "layers"), [(40, 2, 1, 3), (60, 3, 2, 4), (50, 6, 0, 2), (30, 9, 3, 5)]
)
def test_halves_of_a_window_with_globals_have_the_known_capacity(
    n: int, w: int, g: int, layers: int
) -> None:
    body = f"window(each_side={w})" + (f"\nglobal(first {g})" if g else "")
    report = parse(body).analyze(n, layers=layers)
    sources, targets = (g, n // 2), (n // 2, n)
    expected = min(n // 2 - g, n - n // 2, w * layers + g * (layers - 1))
    lanes = Lanes.between(
        report.stack, Ends((sources,), (targets,)), list(range(g)), is_causal=False
    )
    assert lanes is not None
    assert lanes.capacity(layers) == (expected, expected)
    assert state_flow(report.stack, np.arange(*sources), np.arange(*targets)) == expected


@pytest.mark.parametrize(("n", "w", "layers"), [(40, 3, 3), (30, 5, 9)])
def test_causal_sinks_add_no_capacity(n: int, w: int, layers: int) -> None:
    report = parse(f"only causal\nwindow(last={w + 1})\nbroadcast(first 2)").analyze(
        n, layers=layers
    )
    sources, targets = np.arange(2, n // 2), np.arange(n // 2, n)
    expected = min(len(sources), len(targets), w * layers)
    assert state_flow(report.stack, sources, targets) == expected


def test_far_states_of_the_published_longformer() -> None:
    report = attnloom.load("longformer").analyze(4096, layers=12)
    assert report.narrow.capacity is not None
    assert report.narrow.capacity.at_least == report.narrow.capacity.at_most == 11
    assert report.narrow.squeeze == pytest.approx((4096 - 514) / 11)


@st.composite
def ended(draw: st.DrawFn) -> tuple[Report, Ends]:
    """A pattern of windows and globals over some layers, and two ends in it."""
    n, w = draw(st.integers(10, 50)), draw(st.integers(0, 6))
    tokens = draw(st.lists(st.integers(0, n - 1), max_size=3, unique=True))
    kind = draw(st.sampled_from(["global", "broadcast", "collect"]))
    body = draw(st.sampled_from(["only causal\n", ""])) + f"window(each_side={w})"
    body += f"\n{kind}({tokens})" if tokens else ""
    layers = draw(st.integers(1, 6))
    report = parse(body).analyze(n, layers=layers)
    cuts = sorted(draw(st.lists(st.integers(0, n), min_size=4, max_size=4, unique=True)))
    first: Runs = without(((cuts[0], cuts[1]),), tokens)
    second: Runs = without(((cuts[2], cuts[3]),), tokens)
    assume(first and second)
    if not report.intended.is_causal and draw(st.booleans()):
        first, second = second, first
    return report, Ends(first, second)


def positions(runs: Runs) -> np.ndarray:
    return np.concatenate([np.arange(start, stop) for start, stop in runs])


def shortcut() -> tuple[Report, Ends]:
    """A token that relays nothing by itself, but shortens the way on behind it."""
    body = "only causal\nwindow(each_side=1)\nbroadcast([2])"
    return parse(body).analyze(10, layers=3), Ends(((0, 1),), ((4, 5),))


@example(shortcut())
@given(ended())
def test_lanes_bound_the_flow_and_meet_it_where_they_say_so(case: tuple[Report, Ends]) -> None:
    report, ends = case
    stack = report.stack
    lanes = Lanes.between(
        stack, ends, hubs(stack).positions(99), is_causal=report.intended.is_causal
    )
    assert lanes is not None
    sources, targets = positions(ends.sources), positions(ends.targets)
    flow = token_flow(stack.kinds[0].tokens, sources, targets)
    assert (flow.routes is None) == lanes.is_direct
    if flow.routes is not None:
        assert lanes.at_least <= flow.routes
        assert lanes.at_most is None or flow.routes <= lanes.at_most
        assert len(flow.cut or ()) == flow.routes
        assert len(lanes.cut) == (lanes.at_most or 0)
        for cut in [flow.cut or ()] + [lanes.cut] * (lanes.at_most is not None):
            graph = graph_of(parse_matrix(report))
            graph.remove_nodes_from(cut)
            reached = set().union(*(nx.descendants(graph, int(one)) for one in sources))
            assert not reached & set(targets.tolist())
    bounds = lanes.capacity(stack.layers)
    if bounds is not None:
        assert bounds[0] <= state_flow(stack, sources, targets) <= bounds[1]


def parse_matrix(report: Report) -> Matrix:
    stack = report.stack
    every = np.arange(stack.start, stack.stop)
    return stack.kinds[0].region.contains(every[:, None], every)


@pytest.mark.parametrize("body", [
    "window(each_side=3)\nglobal(0)",
    "window(each_side=2)\nrandom(links=1)",
    "only causal\nwindow(last=4)\nrandom(links=2)",
    "stride(3)\nwindow(last=2)",
])  # fmt: skip
def test_flow_is_the_minimum_cut_of_networkx(body: str) -> None:
    pattern = parse(body)
    report = pattern.analyze(40)
    graph = graph_of(pattern.mask(40))
    for source, target in [(0, 39), (5, 35), (38, 1), (10, 30), (3, 4)]:
        flow = token_flow(report.stack.kinds[0].tokens, np.array([source]), np.array([target]))
        if graph.has_edge(source, target):
            assert flow.routes is None
        elif not nx.has_path(graph, source, target):
            assert flow.routes == 0
        else:
            assert flow.routes == len(minimum_st_node_cut(graph, source, target))


@pytest.mark.parametrize("n", [24, 37])
def test_flow_through_blocks_is_that_through_their_tokens(n: int) -> None:
    pattern = parse("blocks(4) { window(each_side=1); random(links=1, seed=3) }")
    layer = pattern.analyze(n).stack.kinds[0]
    assert layer.grain.block == 4
    for sources, targets in [([0], [n - 1]), ([1, 2], [n - 9]), ([n - 1, n - 5], [0, 9])]:
        ends = np.array(sources), np.array(targets)
        of_blocks, of_tokens = token_flow(layer.grain, *ends), token_flow(layer.tokens, *ends)
        assert of_blocks.routes == of_tokens.routes
        assert len(of_blocks.cut or ()) == (of_blocks.routes or 0)


@pytest.mark.parametrize("body", [
    "window(last=2)", "global(7)", "only causal\nwindow(last=3)\nnever where(i == 9 and j < 8)",
    "only causal\nwindow(last=4)",
])  # fmt: skip
def test_single_points_are_the_tokens_without_which_a_pair_is_lost(body: str) -> None:
    n = 20
    pattern = parse(body)
    report = pattern.analyze(n)
    graph = graph_of(pattern.mask(n))
    for source, target in [(0, n - 1), (2, 17), (6, 12)]:
        found = single_points(report.stack, Pair(source, target), None)
        if not nx.has_path(graph, source, target):
            assert found is None
            continue
        expected = [
            v for v in range(n)
            if v not in (source, target)
            and not nx.has_path(graph.subgraph(set(graph) - {v}), source, target)
        ]  # fmt: skip
        assert sorted(found or ()) == expected


@pytest.mark.parametrize(("body", "n"), [
    ("window(each_side=3)\nglobal(0)", 30), ("memory(2)\nwindow(each_side=3)", 23),
    ("only causal\nwindow(last=4)\nbroadcast(first 2)", 30), ("stride(3)", 20), ("full", 12),
    ("window(each_side=4)\nglobal([3, 14, 29])", 30), ("window(last=3)\nrandom(links=2)", 26),
])  # fmt: skip
def test_profile_counts_what_crosses_every_boundary(body: str, n: int) -> None:
    report = parse(body).analyze(n)
    stack = report.stack
    reads = parse_matrix(report)
    places = np.arange(stack.start + 1, stack.stop)
    at = places - stack.start
    expected = [(int(reads[p:, :p].sum()), int(reads[:p, p:].sum())) for p in at]
    assert list(zip(*crossing(stack.kinds[0], places), strict=True)) == expected
    found = report.narrow.profile
    assert found is not None
    assert list(zip(found.forward, found.backward, strict=True)) == expected
    for place in places[::4].tolist():
        states = states_across(stack.kinds[0], place, hubs(stack))
        assert states == _by_matching(stack.kinds[0], place)


def test_profile_of_blocks_is_that_of_their_tokens() -> None:
    report = parse("blocks(4) { window(last=2); random(links=70) }").analyze(402)
    layer = report.stack.kinds[0]
    reads = parse_matrix(report)
    places = np.arange(4, 402, 4)
    expected = [(int(reads[p:, :p].sum()), int(reads[:p, p:].sum())) for p in places]
    assert layer.grain.block == 4
    assert not layer.has_zones
    assert list(zip(*crossing(layer, places), strict=True)) == expected


@pytest.mark.parametrize(("w", "n"), [(3, 40), (7, 100)])
def test_middle_of_a_window_is_crossed_by_a_triangle(w: int, n: int) -> None:
    found = parse(f"window(each_side={w})").analyze(n).narrow.profile
    assert found is not None
    middle = len(found.places) // 2
    assert found.forward[middle] == found.backward[middle] == w * (w + 1) // 2
    assert found.states == w


# --- spectral gap --------------------------------------------------------------------------------


def test_spectral_gaps_of_known_graphs() -> None:
    def gap(body: str, n: int) -> float | None:
        return spectral_gap(parse(body).analyze(n).stack.kinds[0])

    assert gap("full", 30) == pytest.approx(30)
    assert gap("window(each_side=1)", 30) == pytest.approx(2 - 2 * math.cos(math.pi / 30))
    assert gap("global(0)", 30) == pytest.approx(1)
    assert gap("chunks(5)", 30) == pytest.approx(0, abs=1e-9)
    window = gap("window(each_side=4)", 27)
    assert window is not None
    assert gap("window(each_side=4)\nglobal(first 3)", 30) == pytest.approx(3 + window)
    assert gap("causal", 30) is None


def test_far_ends_leave_hubs_out() -> None:
    stack = parse("window(each_side=1)\nglobal([0, 2, 79])").analyze(80).stack
    assert far_ends(stack) == Ends(((1, 2), (3, 10)), ((70, 79),))
    assert far_ends(parse("full").analyze(5).stack) is None


def test_pairs_that_are_never_connected_have_no_share_in_the_traffic() -> None:
    report = parse("window(each_side=4) & chunks(8)").analyze(64)
    assert report.hops.worst == 2
    assert report.hops.unreachable
    found = traffic_module._of_pairs(report.stack.kinds[0], report.intended)
    assert 0 < found.method.samples < traffic_module._PAIRS
    assert sum(load.share for load in found.loads) + (found.rest or 0) == pytest.approx(1)
    exact = report.hubs.traffic
    assert exact is not None
    shares = {one.token: one.share for one in exact.loads}
    assert all(one.low <= shares.get(one.token, one.low) <= one.high for one in found.loads)
    alone = parse("self").analyze(64)
    nothing = traffic_module._of_pairs(alone.stack.kinds[0], alone.intended)
    assert nothing.loads == ()

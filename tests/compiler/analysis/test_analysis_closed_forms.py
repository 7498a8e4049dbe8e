"""Closed forms of hops, reads and receptive fields, over many parameters.

Every formula is compared over all pairs: as the number of pairs that it says are so far apart.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from dense_oracle import parse
from numpy.typing import NDArray

import attnloom
from attnloom.compiler.analysis.report import Report

Ints = NDArray[np.int64]
Formula = Callable[[Ints, Ints], NDArray[np.float64]]

LENGTHS = (2, 3, 7, 16, 61, 120)


def ceil(a: Ints | float, b: int) -> Ints:
    return -(-np.asarray(a) // b)


def check_hops(report: Report, formula: Formula, *, causal: bool = False) -> None:
    """The histogram, the worst and the mean are those of a formula for query i and key j."""
    n = report.stack.tokens
    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    pairs = (j < i) if causal else (i != j)
    expected = np.broadcast_to(np.asarray(formula(i, j), dtype=float), (n, n))[pairs]
    finite = expected[np.isfinite(expected)]
    hops = report.hops
    assert hops.method.is_exact
    assert hops.total == pairs.sum()
    assert {step.first: step.pairs for step in hops.steps if step.pairs} == Counter(
        finite.astype(int).tolist()
    )
    assert hops.unreachable == len(expected) - len(finite)
    if len(finite):
        assert hops.worst == finite.max()
        assert hops.mean == pytest.approx(finite.mean())
        pair = hops.worst_pair
        assert pair is not None
        value = np.asarray(formula(np.array([[pair.target]]), np.array([[pair.source]])))
        assert value.item() == hops.worst


def is_in(tokens: range | list[int]) -> Callable[[Ints], NDArray[np.bool_]]:
    return lambda positions: np.isin(positions, list(tokens))


@pytest.mark.parametrize("n", LENGTHS)
def test_full_attention_is_one_hop(n: int) -> None:
    report = parse("full").analyze(n)
    assert report.work.reads == n * n
    check_hops(report, lambda i, j: np.ones_like(i + j))
    causal = parse("causal").analyze(n)
    assert causal.work.reads == n * (n + 1) // 2
    check_hops(causal, lambda i, j: np.ones_like(i + j), causal=True)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("w", [1, 2, 5, 16, 200])
def test_window_hops_are_the_distance_over_the_reach(n: int, w: int) -> None:
    report = parse("window(each_side=w)".replace("w)", f"{w})")).analyze(n, layers=6)
    clamped = min(w, n - 1)
    assert report.work.reads == n * (2 * clamped + 1) - clamped * (clamped + 1)
    check_hops(report, lambda i, j: ceil(abs(i - j), w))
    assert report.hops.worst == -(-(n - 1) // w)
    steps = -(-(n - 1) // w)
    total = 2 * sum((n - 1 - k * w) * (n - k * w) // 2 for k in range(steps))
    assert report.hops.mean == pytest.approx(total / (n * (n - 1)))
    for layer, field in enumerate(report.coverage.fields, 1):
        sizes = [min(n - 1, i + layer * w) - max(0, i - layer * w) + 1 for i in range(n)]
        ordered = sorted(sizes)
        assert (field.least, field.most) == (ordered[0], ordered[-1])
        assert field.median == ordered[(n - 1) // 2]
        assert sizes[field.at_most] == field.most
        assert sizes[field.at_least] == field.least


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("w", [1, 2, 5])
def test_ring_hops_go_the_shorter_way_round(n: int, w: int) -> None:
    report = parse(f"window(each_side={w}, wrap=true)").analyze(n)
    check_hops(report, lambda i, j: ceil(np.minimum(abs(i - j), n - abs(i - j)), w))
    assert report.hops.worst == -(-(n // 2) // w)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("w", [1, 3, 8])
def test_causal_window_counts_the_token_itself(n: int, w: int) -> None:
    report = parse(f"window(last={w + 1})").analyze(n, layers=4)
    back = min(w, n - 1)
    assert report.work.reads == n * (back + 1) - back * (back + 1) // 2
    check_hops(report, lambda i, j: ceil(i - j, w), causal=True)
    for layer, field in enumerate(report.coverage.fields, 1):
        sizes = [min(i, layer * w) + 1 for i in range(n)]
        assert (field.least, field.most) == (min(sizes), max(sizes))
        assert field.mean == pytest.approx(np.mean(sizes))
    assert report.cost.cache is not None
    assert report.cost.cache.keys == min(w + 1, n)


@pytest.mark.parametrize(("n", "step", "taps"), [(40, 3, 2), (61, 7, 1), (100, 4, 5)])
def test_dilation_alone_splits_the_tokens_into_residues(n: int, step: int, taps: int) -> None:
    report = parse(f"window(each_side={taps}, dilation={step})").analyze(n)
    assert report.work.reads == n + 2 * sum(max(n - k * step, 0) for k in range(1, taps + 1))

    def hops(i: Ints, j: Ints) -> NDArray[np.float64]:
        d = abs(i - j)
        return np.where(d % step == 0, ceil(d, step * taps), np.inf)

    check_hops(report, hops)
    pair = report.hops.unreachable_pair
    assert pair is not None
    assert (pair.source - pair.target) % step


@pytest.mark.parametrize("n", [30, 97])
@pytest.mark.parametrize(("w", "step", "taps"), [(1, 4, 3), (3, 10, 1), (2, 7, 2), (5, 3, 4)])
def test_causal_window_and_dilation_take_the_best_number_of_long_steps(
    n: int, w: int, step: int, taps: int
) -> None:
    body = f"only causal\nwindow(last={w + 1})\nwindow(each_side={taps}, dilation={step})"

    def hops(i: Ints, j: Ints) -> NDArray[np.float64]:
        d = i - j
        best = np.full(d.shape, np.inf)
        for a in range(n // step + 1):
            cost = ceil(d - a * step, w) + -(-a // taps)
            best = np.where(a * step <= d, np.minimum(best, cost), best)
        return best

    check_hops(parse(body).analyze(n), hops, causal=True)


@pytest.mark.parametrize(("n", "w", "g"), [(20, 2, 1), (60, 5, 3), (120, 8, 1), (120, 1, 7)])
@pytest.mark.parametrize("end", ["first", "last"])
def test_globals_bring_everything_within_two_hops(n: int, w: int, g: int, end: str) -> None:
    report = parse(f"window(each_side={w})\nglobal({end} {g})").analyze(n)
    local = n - g
    assert report.work.reads == n * n - (local - w) * (local - w - 1)
    tokens = is_in(range(g) if end == "first" else range(n - g, n))

    def hops(i: Ints, j: Ints) -> NDArray[np.float64]:
        return np.where((abs(i - j) > w) & ~tokens(i) & ~tokens(j), 2, 1)

    check_hops(report, hops)
    assert report.hops.mean == pytest.approx(1 + (local - w) * (local - w - 1) / (n * (n - 1)))
    assert report.coverage.full_layer == 2


def test_scattered_globals_count_what_they_share_once() -> None:
    n, w, tokens = 200, 4, [3, 50, 51, 120, 199]
    report = parse(f"window(each_side={w})\nglobal({tokens})").analyze(n)
    touching = sum(
        (i in tokens or j in tokens) for i in range(n) for j in range(n) if abs(i - j) <= w
    )
    window = n * (2 * w + 1) - w * (w + 1)
    assert report.work.reads == window + 2 * len(tokens) * n - len(tokens) ** 2 - touching
    inside = is_in(tokens)
    check_hops(report, lambda i, j: np.where((abs(i - j) <= w) | inside(i) | inside(j), 1, 2))


@pytest.mark.parametrize("n", [24, 100])
@pytest.mark.parametrize("w", [1, 3, 9])
@pytest.mark.parametrize("tokens", [[0], [5, 17], [2, 3, 20]])
def test_broadcast_tokens_must_first_learn_and_collectors_must_pass_on(
    n: int, w: int, tokens: list[int]
) -> None:
    def by_way(near: Callable[[Ints, Ints], Ints]) -> Formula:
        def hops(i: Ints, j: Ints) -> NDArray[np.float64]:
            over = np.min([1 + ceil(abs(near(i, j) - p), w) for p in tokens], axis=0)
            return np.minimum(ceil(abs(i - j), w), over)

        return hops

    window = f"window(each_side={w})"
    report = parse(f"{window}\nbroadcast({tokens})").analyze(n)
    check_hops(report, by_way(lambda i, j: j))
    report = parse(f"{window}\ncollect({tokens})").analyze(n)
    check_hops(report, by_way(lambda i, j: i))


@pytest.mark.parametrize(("n", "w", "g"), [(30, 3, 2), (100, 9, 4)])
def test_causal_prefix_globals_only_bring_themselves_near(n: int, w: int, g: int) -> None:
    report = parse(f"only causal\nwindow(last={w + 1})\nbroadcast(first {g})").analyze(n)
    check_hops(report, lambda i, j: np.where(j < g, 1, ceil(i - j, w)), causal=True)
    spread = report.work.per_query
    assert spread is not None
    sizes = [min(i + 1, g + w + 1) for i in range(n)]
    assert (spread.least, spread.most, spread.mean * n) == (1, g + w + 1, sum(sizes))


@pytest.mark.parametrize(("n", "w", "p"), [(40, 3, 11), (80, 5, 64), (50, 1, 0)])
def test_causal_global_in_the_midst_shortens_what_passes_it(n: int, w: int, p: int) -> None:
    def hops(i: Ints, j: Ints) -> NDArray[np.float64]:
        near = ceil(i - j, w)
        over = np.maximum(1, (j != p).astype(int) + (i != p).astype(int))
        return np.where((j <= p) & (p <= i), np.minimum(near, over), near)

    report = parse(f"only causal\nwindow(last={w + 1})\nglobal({p})").analyze(n)
    check_hops(report, hops, causal=True)


@pytest.mark.parametrize(("n", "step"), [(16, 4), (100, 7), (60, 60)])
def test_sparse_transformer_strided(n: int, step: int) -> None:
    merged = parse(f"only causal\nwindow(last={step + 1})\nstride({step})").analyze(n)
    near = lambda d: (d <= step) | (d % step == 0)  # noqa: E731
    check_hops(merged, lambda i, j: np.where(near(i - j), 1, 2), causal=True)
    lengths = [min(i, step) + 1 + i // step - (i >= step) for i in range(n)]
    assert merged.work.reads == sum(lengths)
    layers = f"only causal\nwhen layer == 0 {{ window(last={step + 1}) }} else {{ stride({step}) }}"
    for body in (layers, layers.replace("== 0", "!= 0")):
        coverage = parse(body).analyze(n, layers=2).coverage
        assert coverage.full_layer in ((1, 2) if n <= step + 1 else (2,))


@pytest.mark.parametrize(("block", "columns"), [(4, 1), (8, 3)])
def test_sparse_transformer_fixed_depends_on_the_order_of_layers(block: int, columns: int) -> None:
    n = 6 * block
    own, summary = f"chunks({block})", f"where(j % {block} >= {block - columns})"
    merged = parse(f"only causal\n{own}\n{summary}").analyze(n)

    def hops(i: Ints, j: Ints) -> NDArray[np.float64]:
        return np.where((i // block == j // block) | (j % block >= block - columns), 1, 2)

    check_hops(merged, hops, causal=True)
    stack = "only causal\nwhen layer == 0 { %s } else { %s }"
    good = parse(stack % (own, summary)).analyze(n, layers=2)
    assert good.coverage.full_layer == 2
    swapped = parse(stack % (summary, own)).analyze(n, layers=2)
    assert swapped.coverage.full_layer is None
    i, j = np.indices((n, n))
    lost = (j < i) & (i // block != j // block) & (j % block < block - columns)
    assert swapped.hops.unreachable == lost.sum()


@pytest.mark.parametrize("n", [2, 9, 64, 100, 127])
def test_powers_of_two_take_as_many_hops_as_the_distance_has_ones(n: int) -> None:
    report = parse("only causal\noffsets(base=2)").analyze(n)
    ones = np.array([bin(d).count("1") for d in range(n)])
    check_hops(report, lambda i, j: ones[np.maximum(i - j, 0)], causal=True)
    assert report.hops.worst == int(math.log2(n))
    spread = report.work.per_query
    assert spread is not None
    assert spread.mean * n == pytest.approx(sum(1 + i.bit_length() for i in range(n)))


@pytest.mark.parametrize("n", [5, 33, 100])
def test_distances_on_an_infinite_line_are_lower_bounds(n: int) -> None:
    apart = np.arange(n)
    bound = np.array([bin(int(d) ^ 3 * int(d)).count("1") for d in apart])  # signed digits
    report = parse("offsets(base=2)").analyze(n)
    counts = Counter(bound[abs(i - j)] for i in range(n) for j in range(n) if i != j)
    within = np.cumsum([step.pairs for step in report.hops.steps])
    for hops, reached in enumerate(within, 1):
        assert reached <= sum(count for least, count in counts.items() if least <= hops)


@pytest.mark.parametrize(("n", "size"), [(20, 4), (50, 7)])
def test_chunks_alone_never_meet(n: int, size: int) -> None:
    report = parse(f"chunks({size})").analyze(n)
    assert report.work.reads == n // size * size**2 + (n % size) ** 2
    check_hops(report, lambda i, j: np.where(i // size == j // size, 1.0, np.inf))


@pytest.mark.parametrize(("height", "width", "r"), [(4, 5, 1), (6, 6, 2), (3, 9, 1)])
def test_grid_hops_are_chebyshev_distances_over_the_radius(height: int, width: int, r: int) -> None:
    report = parse(f"grid({height}, {width}) {{ near({r}) }}").analyze(height * width)

    def hops(i: Ints, j: Ints) -> Ints:
        rows, columns = abs(i // width - j // width), abs(i % width - j % width)
        return ceil(np.maximum(rows, columns), r)

    check_hops(report, hops)


@pytest.mark.parametrize(("n", "w", "period"), [(60, 4, 3), (100, 3, 6)])
def test_one_full_layer_among_local_ones_makes_one_hop(n: int, w: int, period: int) -> None:
    body = f"when layer % {period} == {period - 1} {{ causal }} else {{ window(last={w + 1}) }}"
    report = parse(body).analyze(n, layers=period)
    assert [step.first for step in report.hops.steps] == [1]
    coverage = report.coverage
    i, j = np.indices((n, n))
    arrival = np.minimum(ceil(i - j, w), period)[j < i]
    assert coverage.shares == pytest.approx(
        [(arrival <= layer).mean() for layer in range(1, period + 1)]
    )
    assert coverage.full_layer == min(-(-(n - 1) // w), period)


def test_seed_facts() -> None:
    """Position 0 to 1000: two hops over a global token, hundreds without."""
    with_global = parse("window(each_side=4)\nglobal(500)").analyze(1001, pair=(0, 1000))
    assert with_global.route is not None
    assert [(one.source, one.target, one.rule.name) for one in with_global.route.reads] == [
        (0, 500, "global"),
        (500, 1000, "global"),
    ]
    without = parse("window(each_side=4)").analyze(1001, pair=(0, 1000))
    assert without.route is not None
    assert without.route.hops == 250


def test_tens_of_thousands_of_hops_are_binned_between_exact_ends() -> None:
    n = 200_000
    hops = parse("window(each_side=2)").analyze(n).hops
    assert hops.worst == (n - 1 + 1) // 2
    assert sum(step.pairs or 0 for step in hops.steps) == n * (n - 1)
    distance = np.arange(1, n)
    pairs = 2 * (n - distance)
    exact = float((ceil(distance, 2) * pairs).sum() / pairs.sum())
    assert hops.mean_low is not None
    assert hops.mean_high is not None
    assert hops.mean_low <= exact <= hops.mean_high
    assert hops.mean_high - hops.mean_low < 8
    for step in hops.steps[::1000]:
        within = (distance > 2 * (step.first - 1)) & (distance <= 2 * step.last)
        assert step.pairs == pairs[within].sum()


@pytest.mark.parametrize("name", ["longformer", "mistral", "streaming_llm", "bigbird"])
def test_million_tokens_of_a_bundled_pattern_keep_their_contract(name: str) -> None:
    report = attnloom.load(name).analyze(2**20)
    expected = {"longformer": 2, "mistral": 257, "streaming_llm": 1030, "bigbird": 2}
    assert report.hops.worst == expected[name]
    assert report.hops.method.is_exact

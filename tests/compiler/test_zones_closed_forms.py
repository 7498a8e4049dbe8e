"""Zones against closed forms, from a few tokens to a thousand million."""

from __future__ import annotations

from collections.abc import Iterable
from math import isqrt

import numpy as np
import pytest

from attnloom.compiler.zones import Bounds, Zones

LENGTHS = [1, 2, 3, 7, 64, 1_000, 4_096, 10**6, 10**9]


def triangle(m: int) -> int:
    """Pairs j < i among m + 1 tokens; nothing when there are none."""
    return m * (m + 1) // 2 if m > 0 else 0


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def itself(n: int) -> Zones:
    return Zones.zone(0, n, d=(0, 0))


def causal(n: int) -> Zones:
    return Zones.band(0, n, 0, None)


def lines(n: int, tokens: Iterable[int]) -> Zones:
    """The tokens read all and are read by all."""
    runs = [(token, token + 1) for token in tokens]
    return Zones.rows(0, n, runs) | Zones.columns(0, n, runs)


def hop_histogram(links: Zones) -> dict[int, int]:
    """How many ordered pairs of different tokens need 1, 2, ... hops."""
    step = itself(links.stop) | links
    reached, known, histogram = step, links.stop, {}
    while (count := reached.count()) > known:
        histogram[len(histogram) + 1] = count - known
        known, reached = count, step @ reached
    return histogram


def within(links: Zones, layers: int) -> Zones:
    """The pairs connected within so many layers, by squaring."""
    power, result = itself(links.stop) | links, itself(links.stop)
    while layers:
        result = result @ power if layers & 1 else result
        layers, power = layers >> 1, power @ power
    return result


def worst_hops(links: Zones) -> int:
    """The fewest layers after which another one changes nothing; by squaring and bisection."""
    powers = [itself(links.stop) | links]
    while not (powers[-1] @ powers[-1]).equals(powers[-1]):
        powers.append(powers[-1] @ powers[-1])
    final, reached, layers = powers[-1], itself(links.stop), 0
    for exponent in reversed(range(len(powers))):
        farther = reached @ powers[exponent]
        if not farther.equals(final):
            reached, layers = farther, layers + 2**exponent
    return layers + 1


@pytest.mark.parametrize("n", LENGTHS)
def test_full_and_causal_attention(n: int) -> None:
    full = Zones.everything(0, n)
    assert full.count() == n * n
    assert causal(n).count() == n * (n + 1) // 2
    assert hop_histogram(full) == ({1: n * (n - 1)} if n > 1 else {})
    assert hop_histogram(causal(n)) == ({1: triangle(n - 1)} if n > 1 else {})
    assert causal(n).max_row_count() == (n, n - 1)
    assert causal(n).min_row_count() == (1, 0)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("reach", [0, 1, 5, 256, 10**8])
def test_window_counts_and_growth(n: int, reach: int) -> None:
    window = Zones.zone(0, n, d=(-reach, reach))
    w = min(reach, n - 1)
    assert window.count() == n * (2 * w + 1) - w * (w + 1)
    middle = n // 2
    crossing = window & Zones.zone(0, n, i=(middle, n), j=(0, middle - 1))
    if w <= min(middle, n - middle):
        assert crossing.count() == w * (w + 1) // 2
    for layers in (1, 2, 7):
        field = within(window, layers)
        for i in {0, n // 3, n - 1}:
            expected = min(n - 1, i + layers * reach) - max(0, i - layers * reach) + 1
            assert field.row_count(i) == expected
            assert field.column_count(i) == expected


@pytest.mark.parametrize(
    ("n", "w"), [(2, 1), (65, 64), (4_096, 64), (10**6, 64), (10**9, 64), (10**9, 7)]
)
def test_window_needs_distance_over_reach_hops(n: int, w: int) -> None:
    assert worst_hops(Zones.zone(0, n, d=(-w, w))) == ceil_div(n - 1, w)
    assert worst_hops(Zones.zone(0, n, d=(0, w))) == ceil_div(n - 1, w)


@pytest.mark.parametrize(("n", "w"), [(10, 3), (1_000, 77), (10**6, 90_001), (10**9, 10**8 + 7)])
def test_sum_of_window_hops(n: int, w: int) -> None:
    histogram = hop_histogram(Zones.zone(0, n, d=(-w, w)))
    last = ceil_div(n - 1, w)
    total = sum(hops * pairs for hops, pairs in histogram.items())
    assert total == 2 * sum(triangle(n - 1 - k * w) for k in range(last))
    assert max(histogram) == last


@pytest.mark.parametrize(("n", "w"), [(9, 2), (64, 5), (1_001, 100), (10**6, 64), (10**9, 12_345)])
def test_ring_window_goes_the_shorter_way_round(n: int, w: int) -> None:
    def ring(reach: int) -> Zones:
        bounds = [Bounds(d=(-reach, reach)), Bounds(d=(n - reach, n)), Bounds(d=(-n, reach - n))]
        return Zones.union(0, n, bounds)

    assert ring(w).count() == n * min(n, 2 * w + 1)
    assert within(ring(w), 3).equals(ring(3 * w))
    assert worst_hops(ring(w)) == ceil_div(n // 2, w)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("w", [1, 4, 511])
def test_causal_window(n: int, w: int) -> None:
    window, reach = Zones.zone(0, n, d=(0, w)), min(w, n - 1)
    assert window.count() == n * (reach + 1) - reach * (reach + 1) // 2
    for layers in (1, 3, 10):
        field = within(window, layers)
        assert field.equals(Zones.zone(0, n, d=(0, layers * w)))
        assert field.row_count(n - 1) == min(n - 1, layers * w) + 1


@pytest.mark.parametrize("n", [30, 1_000, 999_983, 10**6, 10**9])
@pytest.mark.parametrize(("step", "taps"), [(3, 2), (5, 1), (7, 20), (64, 40)])
def test_dilated_window_stays_on_its_residue(n: int, step: int, taps: int) -> None:
    dilated = Zones.band(0, n, -taps * step, taps * step, step=step)
    assert dilated.count() == n + 2 * sum(max(0, n - k * step) for k in range(1, taps + 1))
    twice = Zones.band(0, n, -2 * taps * step, 2 * taps * step, step=step)
    assert (dilated @ dilated).equals(twice)
    residues = min(n, step)
    sizes = [ceil_div(n - residue, step) for residue in range(residues)]
    component = Zones.band(0, n, None, None, step=step)
    assert component.count() == sum(size * size for size in sizes)
    assert (component @ component).equals(component)
    assert worst_hops(dilated) == max(1, ceil_div(ceil_div(n, step) - 1, taps))


@pytest.mark.parametrize(("step", "taps"), [(10, 4), (30, 2), (25, 24)])
@pytest.mark.parametrize("n", [400, 10**6, 10**6 + 3])
def test_causal_window_with_dilation_takes_the_best_mix(n: int, step: int, taps: int) -> None:
    w = 4
    layer = Zones.zone(0, n, d=(0, w)) | Zones.band(0, n, 0, taps * step, step=step)
    distance = np.arange(min(n, 4_000))
    hops = np.full(len(distance), n)
    for a in range(int(distance[-1]) // step + 1):
        rest = distance - a * step
        mixed = -(-rest // w) + ceil_div(a, taps)
        hops = np.where(rest >= 0, np.minimum(hops, mixed), hops)
    for layers in (1, 2, 5):
        assert np.array_equal(
            within(layer, layers).contains(n - 1, n - 1 - distance), hops <= layers
        )


@pytest.mark.parametrize("n", [100, 4_096, 10**6, 10**9])
@pytest.mark.parametrize(("w", "g"), [(3, 1), (8, 4), (0, 2)])
@pytest.mark.parametrize("place", ["prefix", "suffix"])
def test_window_with_globals_at_one_end(n: int, w: int, g: int, place: str) -> None:
    tokens = range(g) if place == "prefix" else range(n - g, n)
    window, rest = Zones.zone(0, n, d=(-w, w)), n - g
    layer = window | lines(n, tokens)
    links = n * n - (rest - w) * (rest - w - 1)
    assert layer.count() == links
    far = (rest - w) * (rest - w - 1)
    assert hop_histogram(layer) == {1: links - n, 2: far}
    assert (layer @ layer).equals(Zones.everything(0, n))
    needed = ~lines(n, tokens) - within(window, 2)
    assert needed.count() == (rest - 2 * w) * (rest - 2 * w - 1)


@pytest.mark.parametrize("n", [4_096, 10**6, 10**9])
def test_hop_histogram_of_all_pairs_with_window_and_prefix_globals(n: int) -> None:
    w, g = 256, 4
    far = (n - g - w) * (n - g - w - 1)
    layer = Zones.zone(0, n, d=(-w, w)) | lines(n, range(g))
    assert layer.num_boxes == 3
    assert hop_histogram(layer) == {1: n * (n - 1) - far, 2: far}


@pytest.mark.parametrize("n", [1_000, 10**6, 10**9])
@pytest.mark.parametrize("g", [1, 8, 64])
def test_window_with_scattered_globals(n: int, g: int) -> None:
    w = 5
    tokens = [n * (2 * k + 1) // (2 * g) for k in range(g)]
    window, hubs = Zones.zone(0, n, d=(-w, w)), lines(n, tokens)
    touching = sum(2 * w + 1 for _ in tokens) * 2 - sum(
        abs(p - q) <= w for p in tokens for q in tokens
    )
    links = n * (2 * w + 1) - w * (w + 1) + 2 * g * n - g * g - touching
    layer = window | hubs
    assert layer.count() == links
    assert hop_histogram(layer) == {1: links - n, 2: n * n - links}
    assert layer.max_row_count() == (n, tokens[0])
    assert layer.min_row_count()[0] == w + 1 + g  # token 0 has no left side, and globals are far


@pytest.mark.parametrize("n", [60, 10**6])
def test_tokens_that_only_broadcast_or_only_collect(n: int) -> None:
    w, tokens = 2, [n // 5, n // 2, n - 3]
    window = Zones.zone(0, n, d=(-w, w))
    runs = [(token, token + 1) for token in tokens]
    near = np.unique(
        np.concatenate([np.arange(min(n, 60)), [t + k for t in tokens for k in (-2, 0, 1)]])
    )
    i, j = near[:, None], near[None, :]
    direct = -(-abs(i - j) // w)
    # j must first tell a token that all read ...
    read = 1 + np.min([-(-abs(j - p) // w) for p in tokens], axis=0) + 0 * i
    # ... or a token that reads all must tell i.
    told = 1 + np.min([-(-abs(i - p) // w) for p in tokens], axis=0) + 0 * j
    for layer, relayed in (
        (window | Zones.columns(0, n, runs), read),
        (window | Zones.rows(0, n, runs), told),
    ):
        hops = np.minimum(direct, relayed)
        for layers in (1, 2, 4):
            assert np.array_equal(within(layer, layers).contains(i, j), hops <= layers)


@pytest.mark.parametrize("n", [50, 10**6, 10**9])
@pytest.mark.parametrize(("w", "g"), [(4, 1), (16, 4)])
def test_causal_window_with_sinks(n: int, w: int, g: int) -> None:
    window = Zones.zone(0, n, d=(0, w))
    layer = window | (Zones.columns(0, n, [(0, g)]) & causal(n))
    for i in {0, 1, g, g + w, g + w + 1, n // 2, n - 1}:
        assert layer.row_count(i) == min(i + 1, g + w + 1)
    assert layer.max_row_count()[0] == g + w + 1
    # A sink is read at once but relays nothing: hops are 1 for it, ceil((i - j)/w) for the rest.
    for layers in (2, 5):
        expected = within(window, layers) | (Zones.columns(0, n, [(0, g)]) & causal(n))
        assert within(layer, layers).equals(expected)


@pytest.mark.parametrize(("n", "worst"), [(4_096, 2), (10**6, 245), (10**9, 244_141)])
def test_causal_window_with_memory_tokens(n: int, worst: int) -> None:
    """Memory helps pairs that have a memory token between them, or at an end, and no others."""
    w, num_layers = 512, 64
    tokens = [k * n // 8 for k in range(8)]
    layer = Zones.zone(0, n, d=(0, w)) | (lines(n, tokens) & causal(n))
    reached = layer
    for _ in range(num_layers - 1):
        reached = layer @ reached
        assert reached.num_boxes <= 17
    gaps = [after - token for token, after in zip(tokens, [*tokens[1:], n], strict=True)]
    missing = sum(triangle(gap - 1 - num_layers * w - 1) for gap in gaps)
    assert reached.count() == n * (n + 1) // 2 - missing
    assert worst_hops(layer) == worst


@pytest.mark.parametrize(
    ("n", "stride", "histogram"),
    [
        (10**6, 1_000, {1: 1_498_000_500, 2: 498_501_499_500}),
        (999_983, 1_000, None),
        (10**9, 31_623, None),
        (100, 9, None),
    ],
)
def test_strided_pattern_reaches_all_in_two(
    n: int, stride: int, histogram: dict[int, int] | None
) -> None:
    near = Zones.zone(0, n, d=(0, stride))
    far = Zones.band(0, n, 0, None, step=stride)
    layer = near | far
    links = sum(
        # row i: min(i, l) + 1 + i // l - [i >= l], summed over blocks of l rows
        min(stride, n - b * stride) * (b - (b > 0))
        for b in range(ceil_div(n, stride))
    )
    links += n * (stride + 1) - triangle(stride)
    assert layer.count() == links
    expected = {1: links - n, 2: triangle(n - 1) - (links - n)}
    assert hop_histogram(layer) == expected
    assert histogram in (None, expected)
    assert (near @ far).equals(causal(n))
    assert (far @ near).equals(causal(n))
    for i in {0, 1, stride - 1, stride, n // 2, n - 1}:
        assert layer.row_count(i) == min(i, stride) + 1 + i // stride - (i >= stride)
    assert layer.max_row_count()[0] == min(n - 1, stride) + 1 + (n - 1) // stride - (n > stride)


@pytest.mark.parametrize(
    ("n", "size", "c"), [(40, 8, 2), (10**6, 1_000, 8), (10**9 + 5, 4_096, 16)]
)
def test_fixed_pattern_depends_on_the_order_of_its_layers(n: int, size: int, c: int) -> None:
    block = Zones.chunks(0, n, size) & causal(n)
    summary = Zones.periodic_columns(0, n, size, size - c, size - 1) & causal(n)
    layer = block | summary
    assert hop_histogram(layer).keys() == {1, 2}
    assert (layer @ layer).equals(causal(n))
    # Summaries of the block layer below reach every later block whose summary is complete.
    whole = summary @ block
    earlier = Zones.chunks(0, n, size, d=(1, n))
    assert earlier.issubset(whole)
    missed = earlier - (block @ summary)
    assert missed.equals(earlier - Zones.periodic_columns(0, n, size, size - c, size - 1))


@pytest.mark.parametrize("n", [2, 17, 128, 700])
def test_power_of_two_offsets_take_as_many_hops_as_bits(n: int) -> None:
    offsets = [0] + [2**k for k in range(n.bit_length()) if 2**k < n]
    layer = Zones.union(0, n, [Bounds(d=(offset, offset)) for offset in offsets])
    assert worst_hops(layer) == n.bit_length() - 1
    histogram: dict[int, int] = {}
    for distance in range(1, n):
        histogram[distance.bit_count()] = histogram.get(distance.bit_count(), 0) + n - distance
    assert hop_histogram(layer) == histogram
    assert layer.row_counts(np.arange(n)).tolist() == [1 + i.bit_length() for i in range(n)]


@pytest.mark.parametrize("n", [1, 63, 64, 65, 10**6, 10**9 + 7])
@pytest.mark.parametrize("b", [1, 64, 100])
def test_blocks_never_see_each_other(n: int, b: int) -> None:
    blocks = Zones.chunks(0, n, b)
    assert blocks.count() == n // b * b * b + (n % b) ** 2
    assert (blocks @ blocks).equals(blocks)
    assert blocks.max_row_count()[0] == min(n, b)
    assert blocks.min_row_count()[0] == (n % b or min(n, b))


@pytest.mark.parametrize(("height", "width"), [(5, 7), (1_000, 777), (31_623, 31_000)])
@pytest.mark.parametrize("r", [1, 3])
def test_grid_window_grows_with_the_larger_distance(height: int, width: int, r: int) -> None:
    n = height * width

    def near(reach: int) -> Zones:
        around = Bounds(d=(-reach, reach))
        return Zones.digits(0, n, (1, width), [around, around])

    def line(length: int) -> int:
        w = min(r, length - 1)
        return length * (2 * w + 1) - w * (w + 1)

    assert near(r).count() == line(height) * line(width)
    assert within(near(r), 4).equals(near(4 * r))
    assert worst_hops(near(r)) == ceil_div(max(height, width) - 1, r)
    assert near(r).min_row_count() == ((min(r, height - 1) + 1) * (min(r, width - 1) + 1), 0)


def test_volume_window_multiplies_over_its_axes() -> None:
    t, h, w = 100, 200, 300
    near = Bounds(d=(-2, 2))
    volume = Zones.digits(0, t * h * w, (1, w, w * h), [near, near, near])
    assert volume.count() == (5 * t - 6) * (5 * h - 6) * (5 * w - 6)
    assert volume.max_row_count() == (125, 2 + 2 * w + 2 * w * h)
    assert worst_hops(volume) == ceil_div(w - 1, 2)


@pytest.mark.parametrize("n", [64, 10**6, 10**9])
def test_full_layer_on_top_of_local_layers(n: int) -> None:
    w, k = 3, 4
    local = Zones.zone(0, n, d=(0, w))
    below = within(local, k - 1)
    assert below.equals(Zones.zone(0, n, d=(0, (k - 1) * w)))
    assert (causal(n) @ below).equals(causal(n))  # arrival min(ceil(D / w), k)


@pytest.mark.parametrize("size", [2, 16, 1_000])
def test_hops_between_dense_blocks_are_those_of_the_block_numbers(size: int) -> None:
    blocks, n = 60, 60 * size - 1
    quotient = Zones.band(0, blocks, -1, 1) | lines(blocks, [7])
    tokens = quotient.blocks(size, 0, n)
    for _ in range(2):
        quotient, tokens = quotient @ quotient, tokens @ tokens
        assert tokens.equals(quotient.blocks(size, 0, n))


def test_row_lengths_of_a_window_with_globals_are_a_few_straight_lines() -> None:
    n = 10**9
    layer = Zones.zone(0, n, d=(-10, 10)) | lines(n, [0])
    segments = layer.row_segments()
    assert len(segments) <= 6
    for row, length in ((0, n), (1, 12), (2, 13), (10, 21), (11, 22), (n - 11, 22), (n - 1, 12)):
        ((first, slope, at),) = [(a, s, c) for a, b, c, s in segments if a <= row < b]
        assert at + slope * (row - first) == length


def test_counts_beyond_64_bits_are_exact() -> None:
    n = 2**41
    assert Zones.everything(0, n).count() == 2**82
    assert Zones.band(0, n, None, None, step=2**20).count() == n * 2**21
    assert causal(n).count() == n * (n + 1) // 2
    assert isqrt(Zones.everything(-n, n).count()) == 2 * n


def test_bounds_of_any_size_are_clipped() -> None:
    huge = 10**40
    assert Zones.zone(0, 10, i=(-huge, huge), d=(0, huge)).equals(causal(10))
    assert Zones.zone(0, 10, d=(huge, 2 * huge)).is_empty()
    assert Zones.band(0, 10, -huge, huge, step=huge).equals(itself(10))

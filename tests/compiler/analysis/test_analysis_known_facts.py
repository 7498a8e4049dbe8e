"""Known results about attention graphs, found through the masks and graphs that patterns give.

What the report does not offer (routes of many layers, rollouts of even attention, resistances) is
worked out here from `Pattern.mask` and `attnloom.graph`, so that these agree with the literature.
"""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
from dense_oracle import distances, parse
from numpy.typing import NDArray

import attnloom

Floats = NDArray[np.float64]


def uniform(body: str, n: int) -> Floats:
    """Attention that is spread evenly over what is read."""
    reads = parse(body).mask(n).astype(float)
    return reads / reads.sum(1, keepdims=True)


def resistances(body: str, n: int) -> Floats:
    """Between all pairs, each joined pair of tokens one ohm."""
    graph = attnloom.graph(parse(body), n).to_undirected()
    joined = nx.to_numpy_array(graph, nodelist=range(n), weight=None)
    inverse = np.linalg.pinv(np.diag(joined.sum(1)) - joined)
    own = np.diag(inverse)
    return np.asarray(own[:, None] + own[None, :] - 2 * inverse)


def kirchhoff(body: str, n: int) -> float:
    return float(np.triu(resistances(body, n), 1).sum())


def spectrum(body: str, n: int) -> Floats:
    graph = attnloom.graph(parse(body), n).to_undirected()
    return np.sort(nx.laplacian_spectrum(graph, weight=None))


def fidelity(body: str, n: int) -> float:
    """The least that the last token can have of any token, at its best layer."""
    step, power, best = uniform(body, n), np.eye(n), np.zeros(n)
    for _ in range(4 * n):
        best = np.maximum(best, power[-1])
        power = power @ step
    return float(best.min())


# --- full and causal -----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 8, 25])
def test_full_attention_resists_nothing(n: int) -> None:
    assert resistances("full", n)[0, 1] == pytest.approx(2 / n)
    assert kirchhoff("full", n) == pytest.approx(n - 1)
    assert spectrum("full", n)[1] == pytest.approx(n)


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_routes_of_causal_layers_are_binomial(layers: int) -> None:
    n = 12
    routes = np.linalg.matrix_power(parse("causal").mask(n).astype(object), layers)
    for i in range(n):
        for j in range(i + 1):
            assert routes[i, j] == math.comb(i - j + layers - 1, layers - 1)


def test_rollout_of_two_causal_layers_is_harmonic() -> None:
    n = 20
    found = np.linalg.matrix_power(uniform("causal", n), 2)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n + 1))])
    for i in range(n):
        for j in range(i + 1):
            assert found[i, j] == pytest.approx((harmonic[i + 1] - harmonic[j]) / (i + 1))


@pytest.mark.parametrize("n", [4, 9, 30])
def test_fidelity_of_causal_attention_is_that_of_one_layer(n: int) -> None:
    assert fidelity("causal", n) == pytest.approx(1 / n)


@pytest.mark.parametrize("n", [4, 6, 12, 20])
def test_fidelity_of_a_chain_is_a_central_binomial(n: int) -> None:
    m = n - 2
    assert fidelity("window(last=2)", n) == pytest.approx(math.comb(2 * m, m) / 4**m)


@pytest.mark.parametrize(("w", "alpha", "layers"), [(4, 0.0, 6), (8, 0.5, 5), (3, 0.25, 9)])
def test_look_back_of_a_window_grows_with_the_layers(w: int, alpha: float, layers: int) -> None:
    """Mean and variance of how far back the mass lies, for a residual share `alpha`."""
    n = (layers + 2) * w + 5
    step = alpha * np.eye(n) + (1 - alpha) * uniform(f"window(last={w + 1})", n)
    row = np.linalg.matrix_power(step, layers)[-1]
    back = (n - 1) - np.arange(n)
    mean = float(row @ back)
    assert mean == pytest.approx(layers * (1 - alpha) * w / 2)
    second = (1 - alpha) * w * (2 * w + 1) / 6
    assert float(row @ (back - mean) ** 2) == pytest.approx(
        layers * (second - ((1 - alpha) * w / 2) ** 2)
    )


@pytest.mark.parametrize(("w", "expected"), [(1, "chain"), (2, "none"), (5, "none")])
def test_only_a_chain_has_dominators(w: int, expected: str) -> None:
    graph = attnloom.graph(parse(f"window(last={w + 1})"), 15)
    above = nx.immediate_dominators(graph, 0)
    for i in range(1, 15):
        assert above[i] == (i - 1 if expected == "chain" else 0)
    points = parse(f"window(last={w + 1})").analyze(15, pair=(0, 14)).narrow.single_points
    assert points == (tuple(range(1, 14)) if expected == "chain" else ())


# --- windows and globals -------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 12, 31])
def test_path_resists_as_it_is_long(n: int) -> None:
    i, j = np.indices((n, n))
    assert resistances("window(each_side=1)", n) == pytest.approx(abs(i - j))
    assert kirchhoff("window(each_side=1)", n) == pytest.approx((n**3 - n) / 6)
    assert spectrum("window(each_side=1)", n)[1] == pytest.approx(2 - 2 * math.cos(math.pi / n))


@pytest.mark.parametrize(("n", "w", "g"), [(20, 2, 1), (31, 4, 3), (16, 1, 2)])
def test_globals_shift_the_spectrum_of_the_window(n: int, w: int, g: int) -> None:
    window = spectrum(f"window(each_side={w})", n - g)
    body = f"window(each_side={w})\nglobal(first {g})"
    assert spectrum(body, n)[1] == pytest.approx(g + window[1])
    assert kirchhoff(body, n) == pytest.approx(g + n * (1 / (window[1:] + g)).sum())


@pytest.mark.parametrize(("n", "g"), [(10, 1), (14, 3), (20, 5)])
def test_globals_alone_are_a_complete_split_graph(n: int, g: int) -> None:
    body, local = f"global(first {g})", n - g
    expected = np.sort([0.0] + [g] * (local - 1) + [n] * g)
    assert spectrum(body, n) == pytest.approx(expected, abs=1e-8)
    apart = resistances(body, n)
    assert apart[n - 1, n - 2] == pytest.approx(2 / g)
    if g > 1:
        assert apart[0, 1] == pytest.approx(2 / n)
    assert kirchhoff(body, n) == pytest.approx(g + n * (local - 1) / g)
    graph = attnloom.graph(parse(body), n)
    assert nx.node_connectivity(graph, n - 1, n - 2) == g
    report = parse(body).analyze(n, pair=(n - 2, n - 1))
    assert report.narrow.token_cut is not None
    assert report.narrow.token_cut.at_most == g
    assert report.narrow.single_points == ((0,) if g == 1 else ())


@pytest.mark.parametrize(("n", "w", "g"), [(24, 2, 1), (30, 4, 2)])
def test_cut_of_far_tokens_is_the_window_and_the_globals(n: int, w: int, g: int) -> None:
    body = f"window(each_side={w})\nglobal(first {g})"
    report = parse(body).analyze(n, pair=(g, n - 1))
    assert report.narrow.token_cut is not None
    assert report.narrow.token_cut.at_most == g + w
    alone = parse(f"window(each_side={w})").analyze(n, pair=(0, n - 1))
    assert alone.narrow.token_cut is not None
    assert alone.narrow.token_cut.at_most == w


# --- blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_distances_lie_between_those_of_any_and_of_full_blocks(seed: int) -> None:
    size, n = 4, 32
    body = f"window(each_side=3)\nrandom(links=2, seed={seed})\nchunks({size})"
    reads = parse(body).mask(n)
    tiles = reads.reshape(n // size, size, n // size, size)
    lower, upper = distances(tiles.any((1, 3))), distances(tiles.all((1, 3)))
    apart = distances(reads)
    blocks = np.arange(n) // size
    other = blocks[:, None] != blocks
    assert (lower[blocks[:, None], blocks] <= apart)[other].all()
    assert (apart <= upper[blocks[:, None], blocks])[other].all()


@pytest.mark.parametrize("seed", range(4))
def test_dense_blocks_are_as_far_apart_as_their_quotient(seed: int) -> None:
    size, count = 3, 9
    inner = f"window(each_side=1)\nrandom(links=1, seed={seed})"
    whole = parse(f"blocks({size}) {{\n{inner}\n}}").analyze(size * count)
    quotient = parse(inner).mask(count)
    apart = distances(quotient)
    blocks = np.arange(size * count) // size
    expected = np.maximum(apart[blocks[:, None], blocks], 1)
    np.fill_diagonal(expected, 0)
    mean = expected.sum() / (size * count * (size * count - 1))
    assert whole.hops.mean == pytest.approx(mean)
    assert whole.hops.worst == expected.max()

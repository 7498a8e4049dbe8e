"""Searches: samples and their intervals, bounds, blocks, deep graphs; against the exact answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from dense_oracle import distances, other_pairs, parse

import attnloom
from attnloom.compiler.analysis import reach, search
from attnloom.compiler.analysis.figures import Hops
from attnloom.compiler.analysis.report import Report
from attnloom.compiler.analysis.sampling import Estimate, draw

RANDOM = {
    "window and links": "window(each_side=8)\nrandom(links=2)",
    "links alone": "random(links=3, seed=5)",
    "causal": "only causal\nwindow(last=16)\nrandom(links=2)",
    "expander": "expander(degree=4)",
    "with memory": "memory(2)\nonly causal\nwindow(last=8)\nrandom(links=1)",
}


def sampled(report: Report, monkeypatch: pytest.MonkeyPatch) -> Hops:
    """The hops when too little work is allowed to search from every position."""
    monkeypatch.setattr(reach, "_EXACT_WORK", 1)
    return report.hops


@pytest.mark.parametrize("name", RANDOM)
def test_sample_is_within_its_bounds_of_the_exact_answer(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = parse(RANDOM[name])
    exact = pattern.analyze(3000).hops
    guess = sampled(pattern.analyze(3000, samples=128), monkeypatch)
    assert exact.method.is_exact
    assert not guess.method.is_exact
    assert guess.method.samples == 128
    assert guess.worst is not None
    assert exact.worst is not None
    assert guess.worst <= exact.worst
    assert guess.worst_at_most is None or guess.worst_at_most >= exact.worst
    assert guess.unreachable in (None, exact.unreachable)
    assert guess.mean == pytest.approx(exact.mean, rel=0.02)
    shares = {step.first: step.share for step in exact.steps}
    inside = [step.low <= shares[step.first] <= step.high for step in guess.steps]
    assert sum(inside) >= 0.8 * len(inside)
    for step in guess.steps:
        assert step.share == pytest.approx(shares[step.first], abs=0.05)
    pair = guess.worst_pair
    assert pair is not None
    assert pattern.analyze(3000, pair=(pair.source, pair.target)).route is not None


def test_interval_of_the_mean_covers_it_about_as_often_as_it_says() -> None:
    """Of 200 samples of 40 of a million numbers, 95 % should cover their mean; 90 % must."""
    generator = np.random.default_rng(1)
    numbers = generator.integers(1, 9, size=10**6).astype(float)
    guesses = [Estimate.of(generator.choice(numbers, 40), 1, 8) for _ in range(200)]
    covered = sum(one.low <= numbers.mean() <= one.high for one in guesses)
    assert 180 <= covered <= 199
    assert all(abs(one.value - numbers.mean()) <= one.margin for one in guesses)


def test_positions_are_drawn_in_proportion_to_their_pairs() -> None:
    drawn = draw(np.array([0, 1, 0, 3]), 4000)
    counts = np.bincount(drawn, minlength=4)
    assert counts[0] == counts[2] == 0
    assert counts[3] / counts[1] == pytest.approx(3, rel=0.15)
    assert (drawn == draw(np.array([0, 1, 0, 3]), 4000)).all()


def test_closed_part_bounds_what_random_links_can_only_shorten() -> None:
    body = "window(each_side=5)\nglobal(0)\nrandom(links=2)"
    hops = parse(body).analyze(50_000).hops
    assert (hops.worst, hops.unreachable, hops.method.engine) == (2, 0, "zones and reads")
    exact = parse(body).analyze(600)
    apart = distances(parse(body).mask(600))[other_pairs(600)]
    assert [step.pairs for step in exact.hops.steps] == [(apart == 1).sum(), (apart == 2).sum()]


def test_window_alone_bounds_the_hops_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    hops = sampled(parse("window(each_side=10)\nrandom(links=1)").analyze(2001), monkeypatch)
    assert hops.worst_at_most == 200
    assert hops.unreachable == 0


@pytest.mark.parametrize("body", [
    "blocks(4) { window(each_side=1); random(links=1) }",
    "blocks(5) { random(links=1) } | blocks(5) { window(last=2) } - blocks(5) { self }",
    "blocks(3) { transpose(random(links=2)) } & ~blocks(3) { global(2) }",
    "blocks(2) { blocks(3) { expander(degree=2) } }",
])  # fmt: skip
@pytest.mark.parametrize("n", [23, 60])
def test_tokens_of_blocks_are_as_far_apart_as_their_blocks(body: str, n: int) -> None:
    pattern = parse(body)
    report = pattern.analyze(n)
    vars(report._reach)["_closed"] = "not asked"
    vars(report._reach)["_by_reads"] = None
    apart = distances(pattern.mask(n))[other_pairs(n)]
    assert report.hops.method.engine == "blocks"
    found = {step.first: step.pairs for step in report.hops.steps}
    assert found == {int(h): (apart == h).sum() for h in np.unique(apart[np.isfinite(apart)])}
    assert report.hops.unreachable == np.isinf(apart).sum()


def test_blocks_that_only_look_back_are_causal_by_blocks() -> None:
    report = parse("blocks(8) { causal }").analyze(30)
    assert report.intended.is_causal
    assert report.intended.block == 8
    i, j = np.indices((30, 30))
    assert report.hops.total == ((i // 8 >= j // 8) & (i != j)).sum()
    assert report.hops.unreachable == 0
    chunks = parse("blocks(8) { self }").analyze(30)
    assert not chunks.intended.is_causal


@pytest.mark.parametrize(
    ("text", "ahead"),
    [
        ("causal\nbroadcast(first 9)", lambda i, j: j < 9),
        ("causal\nbroadcast(0) ", lambda i, j: i < 0),
        ("causal\nwhere(i // 5 == 1 and j // 5 == 1)", lambda i, j: (i // 5 == 1) & (j // 5 == 1)),
        # What is read ahead leads farther ahead, so there is no order.
        ("causal\nwhere(j == i + 1)", lambda i, j: i >= 0),
        ("causal\nbroadcast(20)", lambda i, j: i >= 0),
    ],
)
def test_what_a_prefix_reads_ahead_is_meant_to_meet_and_no_more(
    text: str, ahead: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> None:
    report = parse(text).analyze(30)
    i, j = np.indices((30, 30))
    assert report.hops.total == ((j < i) | (ahead(i, j) & (i != j))).sum()
    assert report.intended.reads_ahead == (0 < report.hops.total - 435 < 435)


def test_very_many_hops_are_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 700
    keys = [[min(i + 1, n - 1)] for i in range(n)]
    pattern = parse("input next: links\nlinks(next)")
    monkeypatch.setattr(search, "_DEEP_WORK", 1)
    report = pattern.analyze(n, inputs={"next": keys})
    hops = report.hops
    assert not hops.method.is_exact
    assert hops.method.samples == 8
    # Whoever is read first hears of everyone behind, one hop after the other.
    assert hops.worst is not None
    assert hops.worst > 300
    assert hops.unreachable_pair is None
    assert hops.unreachable is None


def test_position_and_head_of_random_links_matter() -> None:
    one = attnloom.load("random_links").analyze(512)
    several = attnloom.load("random_links").analyze(512, heads=4)
    assert len(several.stack.kinds[0].bounds) == 4
    assert several.hops.mean is not None
    assert one.hops.mean is not None
    assert several.hops.mean < one.hops.mean
    assert several.work.pairs == 4 * one.work.pairs


@pytest.mark.slow
@pytest.mark.parametrize(("links", "share"), [(2, 0.7968), (3, 0.9405), (4, 0.9802)])
def test_random_reads_reach_the_share_that_solves_the_fixed_point(links: int, share: float) -> None:
    """With r random reads and nothing else, S = 1 - exp(-r S) of all is heard of, in the end."""
    hops = parse(f"random(links={links})").analyze(300_000, samples=64).hops
    assert 1 - hops.unreachable_share == pytest.approx(share, abs=0.005)


@pytest.mark.slow
def test_mean_field_of_window_and_random_links() -> None:
    """c_l = 1 - exp(-sum of b_t (1 + 2w(l - t)) / n), each new token drawing r more."""
    n, w, r = 1_000_000, 64, 3
    coverage = parse(f"window(each_side={w})\nrandom(links={r})").analyze(n, layers=5).coverage
    covered, fresh = [0.0, 1 / n], [1.0]
    for layer in range(1, 6):
        fresh.append(r * n * (covered[-1] - covered[-2]))
        covered.append(1 - np.exp(-sum(
            b * (1 + 2 * w * (layer - t)) / n for t, b in enumerate(fresh)
        )))  # fmt: skip
    assert coverage.shares == pytest.approx(covered[2:], rel=0.05)

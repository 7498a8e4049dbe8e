"""`attnloom.equivalent`: what is proved is so at lengths that the proof has not looked at."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st

import attnloom
from attnloom import testing
from attnloom.compiler.horizon import MOST_LENGTHS, Unbounded, horizon
from attnloom.compiler.logic import same_by_logic
from attnloom.equivalence import difference, equivalent
from attnloom.testing.strategies import inputs_of


def parse(body: str, name: str = "p") -> attnloom.Pattern:
    return attnloom.parse(f"pattern {name} {{ {body} }}")


SAME = [
    ("window(last=4097)", "only causal; window(each_side=4096)"),
    ("window(width=9)", "window(left=4, right=4)"),
    ("chunks(16)", "where(i // 16 == j // 16)"),
    ("chunks(16)", "blocks(16) { self }"),
    ("blocks(4) { blocks(3) { causal } }", "blocks(12) { causal }"),
    ("blocks(4) { window(each_side=1) }", "where(abs(i // 4 - j // 4) <= 1)"),
    ("blocks(5) { window(last=2) }", "where(0 <= i // 5 - j // 5 and i // 5 - j // 5 <= 1)"),
    ("stride(5) & causal", "where(j % 5 == i % 5 and j <= i)"),
    ("global(first 3 | -1)", "where(i < 3 or j < 3 or i == n - 1 or j == n - 1)"),
    ("every_third", "where(j % 3 == 1)"),
    ("grid(4, 5) { row }", "chunks(5) & where(i < 20 and j < 20)"),
    ("neighborhood(keys=3)",
     "window(each_side=1) | collect(0) & broadcast(first 3) | collect(-1) & broadcast(last 3)"),
    ("neighborhood(keys=3, causal=true)", "window(last=3)"),
    ("neighborhood(keys=2, stride=2)", "chunks(2) | collect(-1) & broadcast(last 2)"),
    ("offsets([0, 2])", "self | window(each_side=1, dilation=2)"),
    ("when n > 40 { full } else { full }", "full"),
    ("memory(2); window(last=3)", "memory(2); window(left=2, right=0)"),
]  # fmt: skip


def test_difference_is_shown_among_no_more_tokens_than_it_needs() -> None:
    p, q = (parse(f"window(last={keys})") for keys in (301, 300))
    found = equivalent(p, q).case
    assert found is not None
    assert (found.n, found.pair) == (301, (300, 0))


@pytest.mark.parametrize(("one", "other"), SAME)
def test_same_set_of_pairs_is_proved_at_all_lengths(one: str, other: str) -> None:
    p, q = (
        parse(body.replace("every_third", "broadcast(every 3 from 1)")) for body in (one, other)
    )
    found = equivalent(p, q)
    assert found
    assert found.is_proved
    assert "proved" in str(found)


DIFFERENT = [
    # The length is the shortest at which they differ, and found by the proof where it is long.
    ("window(last=1200)", "window(last=1201)", 1201),
    ("global(first 3)", "global(first 4)", 4),
    ("when n > 1700 { full } else { causal }", "causal", 1701),
    # Constants that add up: no single one of them is the length.
    ("where(j >= 500 and i - j >= 700)", "none", 1201),
    ("where(j >= 500 and i - j >= 700 and n - i >= 300)", "none", 1500),
    pytest.param(
        "blocks(2) { where(j >= 300 and i - j >= 400) }", "none", 1401, marks=pytest.mark.slow
    ),
    ("blocks(7) { causal }", "blocks(8) { causal }", 8),
    ("window(last=3)", "memory(1); window(last=3)", 1),
    ("random(links=3, seed=1)", "random(links=3, seed=2)", 4),
]


@pytest.mark.parametrize(("one", "other", "n"), DIFFERENT)
def test_difference_is_shown_at_a_length_where_both_masks_show_it(
    one: str, other: str, n: int
) -> None:
    found = equivalent(parse(one), parse(other))
    assert not found
    assert found.case is not None
    assert found.case.n == n
    if found.case.pair is not None:
        i, j = found.case.pair
        p, q = (parse(body).mask(found.case.n)[i, j] for body in (one, other))
        assert (p, q) == (found.case.in_first, not found.case.in_first)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("random(links=2) | chunks(3)", "chunks(3) | random(links=2)"),
        ("input t: tokens; ~(global(t) | causal)", "input t: tokens; ~causal - global(t)"),
        ("full; never random(links=1) | self", "full; never self; never random(links=1)"),
        ("transpose(broadcast(0) | causal)", "transpose(causal) | transpose(broadcast(0))"),
        ("transpose(transpose(window(last=2)))", "window(last=1 + 1)"),
    ],
)  # fmt: skip
def test_same_combination_of_parts_is_proved_whatever_the_parts(one: str, other: str) -> None:
    found = equivalent(parse(one), parse(other), heads=2)
    assert found
    assert "combination of the same parts" in str(found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("window(each_side=1, wrap=true)", "where((i - j) % n <= 1 or (j - i) % n <= 1)"),
        ("offsets(base=2)", "offsets([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512])"),
        ("input t: tokens; global(t)", "input t: tokens; broadcast(t) | collect(t)"),
    ],
)
def test_what_is_only_tested_says_so(one: str, other: str) -> None:
    found = equivalent(parse(one), parse(other))
    assert found
    assert not found.is_proved
    assert "tested, at 53 lengths up to 1,000: `" in str(found)


def test_heads_and_layers_are_compared_one_by_one() -> None:
    p, q = parse("when head == 3 and layer == 1 { full } else { self }"), parse("self", "q")
    assert equivalent(p, q, heads=3, layers=2)
    found = equivalent(p, q, heads=4, layers=2)
    assert str(found) == (
        "p and q differ at n = 2, head 3 of 4, layer 1 of 2: query 0 reads key 1 in p and not in q"
    )


def test_inputs_are_for_one_length() -> None:
    p, q = parse("input t: tokens; global(t)"), parse("global(3)", "q")
    assert equivalent(p, q, n=9, inputs={"t": [3]})
    assert not equivalent(p, q, n=9, inputs={"t": [2]})
    with pytest.raises(TypeError, match="inputs are for one length"):
        equivalent(p, q, inputs={"t": [2]})


@st.composite
def _twins(draw: Any) -> tuple[attnloom.Pattern, attnloom.Pattern]:
    """A random pattern, and the same with one of its numbers spoilt."""
    pattern = draw(testing.patterns())
    numbers = list(re.finditer(r"\b\d+\b", pattern.text))
    assume(numbers)
    one = draw(st.sampled_from(numbers))
    text = pattern.text[: one.start()] + str(int(one[0]) + 1) + pattern.text[one.end() :]
    note(text)
    try:
        other = attnloom.parse(text)
    except attnloom.PatternError:
        assume(False)
    assume(pattern.inputs == other.inputs)
    return pattern, other


@settings(max_examples=12)
@given(_twins(), st.sampled_from([41, 47, 90, 141]), st.data())
def test_what_is_proved_of_random_patterns_holds_far_beyond(
    twins: tuple[attnloom.Pattern, attnloom.Pattern], n: int, data: st.DataObject
) -> None:
    check_far_beyond(twins, n, data, most_lengths=150)


@pytest.mark.slow
@settings(max_examples=60)
@given(_twins(), st.sampled_from([41, 47, 90, 141]), st.data())
def test_what_is_proved_by_many_lengths_holds_far_beyond(
    twins: tuple[attnloom.Pattern, attnloom.Pattern], n: int, data: st.DataObject
) -> None:
    check_far_beyond(twins, n, data, most_lengths=MOST_LENGTHS)


def check_far_beyond(
    twins: tuple[attnloom.Pattern, attnloom.Pattern],
    n: int,
    data: st.DataObject,
    most_lengths: int,
) -> None:
    if not same_by_logic(*(one._typed for one in twins)):
        try:
            asked = [horizon(one._typed, 0, 1, 0, 1) for one in twins]
        except Unbounded:
            assume(False)
        assume(len((asked[0] | asked[1]).lengths() or ()) <= most_lengths)
    found = equivalent(*twins)
    inputs = data.draw(inputs_of(twins[0], n))
    try:
        masks = [one.mask(n, inputs=inputs) for one in twins]
    except attnloom.PatternError:
        assume(False)
    if found.is_proved and found:
        np.testing.assert_array_equal(*masks)
    elif found.case is not None and found.case.pair is not None:
        reads = [_reads(one, found.case) for one in twins]
        assert reads == [found.case.in_first, not found.case.in_first]


def _reads(pattern: attnloom.Pattern, case: Any) -> bool:
    bound = pattern.bind(case.n, **case.where)
    i, j = (np.array([one]) for one in case.pair)
    return bool(bound.relation.allows(i, j)[0])


@settings(max_examples=10)
@given(testing.patterns(), testing.patterns(), st.integers(1, 24), st.data())
def test_difference_of_two_bound_patterns_is_that_of_their_masks(
    p: attnloom.Pattern, q: attnloom.Pattern, n: int, data: st.DataObject
) -> None:
    bound = [one.bind(n, inputs=data.draw(inputs_of(one, n))) for one in (p, q)]
    assume(bound[0].memory == bound[1].memory)
    memory = bound[0].memory
    places = np.arange(-memory, n)
    masks = [one.relation.allows(places[:, None], places) for one in bound]
    more = masks[0] & ~masks[1]
    found = difference(*bound)
    assert (found is None) == (not more.any())
    if found is not None:
        assert more[found[0] + memory, found[1] + memory]

"""Contracts on random programs: every answer is that of dense matrices, and what it shows is so."""

from __future__ import annotations

import operator
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import dense_oracle as oracle
import numpy as np
import pytest
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st
from programs import Program, programs

import attnloom
from attnloom.compiler.analysis.contracts import FLOW, Answer, Outcome
from attnloom.compiler.vocabulary import METRICS, PROPERTIES
from attnloom.contracts import with_contract

SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

# Of one head of one layer, by definition.
NUMBERS: dict[str, Callable[[oracle.Matrix], float]] = {
    "reads": lambda reads: int(reads.sum()),
    "density": lambda reads: reads.sum() / reads.size,
    "reads_per_token": lambda reads: int(reads.sum(1).max()),
    "readers_per_token": lambda reads: int(reads.sum(0).max()),
    "kv_cache": oracle.live_keys,
}
FACTS: dict[str, Callable[[oracle.Matrix], bool]] = {
    "causal": lambda reads: not np.triu(reads, 1).any(),
    "symmetric": lambda reads: bool((reads == reads.T).all()),
    "no_empty_rows": lambda reads: bool(reads.any(1).all()),
    "star": lambda reads: bool(
        ((reads | np.eye(len(reads), dtype=bool)).all(0)
         & (reads | np.eye(len(reads), dtype=bool)).all(1)).any()
    ),
}  # fmt: skip


def checked(program: Program, pattern: attnloom.Pattern) -> Outcome:
    (found,) = pattern.check(
        program.n, heads=program.heads, layers=program.layers, inputs=program.inputs
    )
    return found


def loaded(program: Program) -> tuple[attnloom.Pattern, dict[tuple[int, int], oracle.Matrix]]:
    """The pattern, and what each head of each layer reads."""
    try:
        pattern = attnloom.parse(program.text, **program.params)
        masks = {
            (layer, head): pattern.mask(
                program.n, head, layer, program.heads, program.layers, program.inputs
            )
            for layer in range(program.layers)
            for head in range(program.heads)
        }
    except attnloom.PatternError:
        assume(False)
    return pattern, masks


@settings(max_examples=25)
@given(programs(20), st.sampled_from(sorted(NUMBERS)), st.sampled_from(sorted(SIGNS)), st.data())
def test_number_of_each_head_is_compared_exactly(
    program: Program, metric: str, sign: str, data: st.DataObject
) -> None:
    note(repr(program))
    pattern, masks = loaded(program)
    values = {place: NUMBERS[metric](reads) for place, reads in masks.items()}
    near = int(data.draw(st.sampled_from(sorted(values.values()))))
    wanted = max(0, near + data.draw(st.integers(-1, 1)))
    outcome = checked(program, with_contract(pattern, metric, sign, wanted))
    note(f"{outcome.text}: {outcome.answer}, {outcome.words}")
    holds = {place: SIGNS[sign](value, wanted) for place, value in values.items()}
    if metric == "kv_cache":
        for place, reads in masks.items():
            holds[place] &= FACTS["causal"](reads)
    assert outcome.answer is (Answer.HOLDS if all(holds.values()) else Answer.FAILS)
    if outcome.fails:
        assert (outcome.layer, outcome.head) == next(
            place for place, is_so in holds.items() if not is_so
        )


@settings(max_examples=20)
@given(programs(20), st.sampled_from(sorted(FACTS)))
def test_property_of_each_head_is_as_in_its_mask(program: Program, name: str) -> None:
    note(repr(program))
    pattern, masks = loaded(program)
    outcome = checked(program, with_contract(pattern, name))
    holds = {place: FACTS[name](reads) for place, reads in masks.items()}
    assert outcome.answer is (Answer.HOLDS if all(holds.values()) else Answer.FAILS)
    if outcome.fails:
        assert not holds[outcome.layer, outcome.head]  # type: ignore[index]


@settings(max_examples=25)
@given(programs(16), st.sampled_from(["hops", "coverage_layer", "unreachable", "connected"]))
def test_flow_is_that_of_heads_together_and_layers_in_order(program: Program, name: str) -> None:
    note(repr(program))
    pattern, masks = loaded(program)
    layers = [
        np.logical_or.reduce([masks[layer, head] for head in range(program.heads)])
        for layer in range(program.layers)
    ]
    alike = len({reads.tobytes() for reads in layers}) == 1
    each = {place: reads.tobytes() for place, reads in masks.items()}
    report = pattern.analyze(
        program.n, heads=program.heads, layers=program.layers, inputs=program.inputs
    )
    # What is alike by its heads together may differ head by head, and is then taken in order.
    same_heads = all(
        sorted(each[layer, head] for head in range(program.heads))
        == sorted(each[0, head] for head in range(program.heads))
        for layer in range(program.layers)
    )
    assume(alike == same_heads)
    assume(report.stack.is_uniform == alike)
    if alike:
        apart, arrival = oracle.distances(layers[0]), oracle.distances(layers[0])
    else:
        apart, connected = oracle.fewest(layers)
        arrival = np.where(connected[-1], len(layers) - np.sum(connected, 0) + 1.0, np.inf)
    positions = np.arange(report.stack.start, report.stack.stop)
    pairs = report.intended.region.contains(positions[:, None], positions)
    wanted: float = {
        "hops": apart[pairs].max(initial=0),
        "coverage_layer": arrival[pairs].max(initial=0 if alike else 1),
        "unreachable": np.isinf(apart[pairs]).sum(),
        "connected": np.inf if np.isinf(apart[pairs]).any() else 0,
    }[name]
    if name == "connected":
        assert checked(program, with_contract(pattern, name)).fails == np.isinf(wanted)
        return
    if np.isinf(wanted):
        assert checked(program, with_contract(pattern, name, "<=", 10**9)).fails
        return
    assert not checked(program, with_contract(pattern, name, "==", int(wanted))).fails
    assert checked(program, with_contract(pattern, name, "<", int(wanted))).fails
    assert checked(program, with_contract(pattern, name, ">", int(wanted))).fails


def outcomes(body: str, n: int, **where: Any) -> dict[str, Outcome]:
    found = oracle.parse(body).check(n, **where)
    return {one.text: one for one in found}


def test_route_of_a_pair_that_is_too_far_is_shown_read_by_read() -> None:
    found = outcomes("window(each_side=64); expect hops <= 2", 700)["hops <= 2"]
    assert found.answer is Answer.FAILS
    pair, words, stops = found.words.replace(": ", " takes ").split(" takes ")
    ends = [int(one) for one in pair.split(" -> ")]
    assert abs(ends[0] - ends[1]) > 64 * 10
    assert words == "11 hops"
    shown = stops.split(" -> ")
    assert [int(shown[0]), int(shown[-1])] == ends
    assert "..." in shown
    start = [int(one) for one in shown[: shown.index("...")]]
    assert all(0 < abs(b - a) <= 64 for a, b in pairwise(start))


def test_long_sequence_is_checked_in_closed_form() -> None:
    body = "window(each_side=256); global(0); expect hops <= 2; expect density < 1"
    found = outcomes(body, 10**9)
    assert all(one.answer is Answer.HOLDS for one in found.values())


def test_density_is_compared_without_rounding() -> None:
    found = outcomes("full; never collect(0) & broadcast(0); expect density < 1", 10**9)
    assert found["density < 1"].answer is Answer.HOLDS


def test_mean_is_compared_without_rounding() -> None:
    """One pair of a thousand million tokens needs two hops."""
    body = "full; never collect(0) & broadcast(1); expect mean_hops == 1; expect mean_hops > 1"
    found = outcomes(body, 10**9)
    assert found["mean_hops == 1"].answer is Answer.FAILS
    assert found["mean_hops > 1"].answer is Answer.HOLDS


def test_contract_of_some_heads_is_about_each_of_them_alone() -> None:
    body = """
        when head % 2 == 0 { window(each_side=1); expect hops == n - 1 } else { full }
        expect hops == 1
    """
    found = outcomes(body, 9, heads=4)
    assert {one.answer for one in found.values()} == {Answer.HOLDS}


def test_contract_that_no_head_states_is_absent() -> None:
    body = "full; when head == 7 { expect reads == 0 }"
    assert outcomes(body, 9, heads=7)["reads == 0"].answer is Answer.ABSENT
    found = outcomes(body, 9, heads=8)["reads == 0"]
    assert (found.answer, found.head, found.layer) == (Answer.FAILS, 7, 0)


def test_layers_that_differ_are_taken_in_order() -> None:
    body = """
        when layer % 6 == 5 { full } else { window(last=4) }
        only causal
        expect coverage_layer <= 6
    """
    assert outcomes(body, 100, layers=12)["coverage_layer <= 6"].answer is Answer.HOLDS
    assert outcomes(body, 100, layers=5)["coverage_layer <= 6"].answer is Answer.FAILS


def test_number_of_a_contract_may_differ_from_head_to_head() -> None:
    body = "window(last=1 + head); expect reads_per_token == 1 + head"
    assert outcomes(body, 9, heads=5)["reads_per_token == 1 + head"].answer is Answer.HOLDS
    wrong = outcomes("window(last=1 + head); expect reads_per_token == 3", 9, heads=5)
    assert wrong["reads_per_token == 3"].words == "token 0 reads 1 key: 0"


@pytest.mark.parametrize("name", [*METRICS, *PROPERTIES])
def test_every_metric_and_property_is_evaluated_at_any_length(name: str) -> None:
    ask = f"{name} >= 0" if name in METRICS else name
    for n in (1, 2, 9, 40):
        found = outcomes(f"window(last=3); broadcast(0); only causal; expect {ask}", n)[ask]
        # In a causal pattern no token but a single one both reads and is read by all.
        expected = n == 1 if name in ("symmetric", "star") else True
        assert found.answer is (Answer.HOLDS if expected else Answer.FAILS), (n, found)
        assert bool(found.words) is not expected
    assert name in FLOW or name in NUMBERS or name in FACTS or name == "prefix_stable"


@settings(max_examples=25)
@given(programs(12))
def test_prefix_is_stable_if_its_mask_is_the_corner_of_longer_ones(program: Program) -> None:
    note(repr(program))
    assume(not program.inputs)
    pattern, _ = loaded(program)
    outcome = checked(program, with_contract(pattern, "prefix_stable"))
    assert outcome.answer is (Answer.FAILS if _changes(pattern, program) else Answer.HOLDS)


def _changes(pattern: attnloom.Pattern, program: Program) -> bool:
    """Whether a mask differs from the corner of a longer one, or has none to be the corner of."""
    for layer in range(program.layers):
        for head in range(program.heads):
            at = {
                "head": head, "heads": program.heads, "layer": layer, "layers": program.layers,
            }  # fmt: skip
            try:
                short, *more = (
                    pattern.bind(n, **at)
                    for n in (program.n, program.n + 1, program.n + 2, 2 * program.n)
                )
            except attnloom.PatternError:
                return True
            for long in more:
                if long.memory != short.memory:
                    return True
                corner = pattern.mask(long.tokens, **at)[: short.length]
                mask = np.zeros_like(corner)
                mask[:, : short.length] = pattern.mask(short.tokens, **at)
                if (corner != mask).any():
                    return True
    return False


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("only causal; window(last=3); random(links=2, seed=5)", None),
        (
            "self; random(links=2, seed=n)",
            "token 0 reads 0 to 1 among 2 tokens, and 0 to 2 among 3",
        ),
        ("only causal; broadcast(last 1)", "token 1 reads 1 among 2 tokens, and nothing among 3"),
        ("memory(n); self", "there are 2 memory tokens among 2 tokens, and 3 among 3"),
        ("self; when n > 3 { full }", "token 0 reads 0 among 2 tokens, and 0 to 3 among 4"),
    ],
)
def test_prefix_that_is_not_stable_is_shown_by_a_query(body: str, words: str | None) -> None:
    (found,) = outcomes(f"{body}; expect prefix_stable", 2).values()
    assert found.words == (words or "")
    assert found.answer is (Answer.FAILS if words else Answer.HOLDS)


def test_prefix_is_not_decided_where_inputs_are_for_one_length() -> None:
    text = "pattern p { input q: tokens; only causal; broadcast(q | last 1); expect prefix_stable }"
    (found,) = attnloom.parse(text).check(4, inputs={"q": [1]})
    assert (found.answer, found.words) == (Answer.OPEN, "its inputs are for one length")
    steady = attnloom.parse(text.replace(" | last 1", ""))
    assert steady.check(4, inputs={"q": [1]})[0].answer is Answer.HOLDS


@pytest.mark.parametrize("body", ["window(last=9)", "random(links=3)", "chunks(100); self"])
def test_prefix_of_a_long_sequence_is_stable_by_its_zones_or_rows(body: str) -> None:
    right = f"only causal; {body}; never where(i >= n); expect prefix_stable"
    (found,) = outcomes(right, 5000).values()
    assert found.answer is Answer.HOLDS
    wrong = f"only causal; {body}; never where(j < n // 2500); expect prefix_stable"
    (found,) = outcomes(wrong, 5000).values()
    assert found.answer is Answer.FAILS
    assert found.words.endswith("among 10000")


def test_what_lies_within_the_bounds_of_a_sample_is_not_decided() -> None:
    body = "window(last=2); random(links=3, seed=1)"
    hops = oracle.parse(body).analyze(60_000, samples=4).hops
    assert not hops.method.is_exact
    assert hops.mean_low is not None
    assert hops.mean_high is not None
    for wanted, answer in (
        (f"hops <= {hops.worst}", Answer.OPEN),
        (f"hops < {hops.worst}", Answer.FAILS),
        (f"mean_hops < {int(hops.mean_low)}", Answer.FAILS),
        (f"mean_hops > {int(hops.mean_high) + 1}", Answer.FAILS),
    ):
        found = oracle.parse(f"{body}; expect {wanted}").check(60_000, samples=4)[0]
        assert found.answer is answer, found


def test_pattern_without_meaning_is_an_error_also_without_contracts() -> None:
    with pytest.raises(attnloom.PatternError):
        oracle.parse("global(9)").check(9)


def test_contract_without_a_number_is_an_error() -> None:
    with pytest.raises(attnloom.PatternError, match="division-by-zero"):
        oracle.parse("full; expect reads == 4 // (n - 9)").check(9)

"""The assertions: what they accept, and what they say when they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import attnloom
from attnloom import testing
from attnloom.testing.execution import random_qkv


def parse(body: str) -> attnloom.Pattern:
    return attnloom.parse(f"pattern p {{ {body} }}")


Check = Callable[[attnloom.Pattern], Any]

CASES: list[tuple[str, Check, str, str, str]] = [
    ("max_hops", lambda p: testing.assert_max_hops(p, 2, 40),
     "window(each_side=2); global(0)", "window(each_side=16)",
     "`hops <= 2` fails: 33 -> 0 takes 3 hops: 33 -> "),
    ("connected", lambda p: testing.assert_connected(p, 10),
     "window(last=2)", "chunks(5)", "token 0 never learns of token 5"),
    ("causal", lambda p: testing.assert_causal(p, 10),
     "window(last=3)", "window(each_side=3)", "token 0 reads token 1, which comes later"),
    ("no_empty_rows", lambda p: testing.assert_no_empty_rows(p, 10),
     "self", "self; never collect(4)", "token 4 reads nothing"),
    ("reads", lambda p: testing.assert_reads_at_most(p, 28, 10),
     "window(each_side=1)", "window(each_side=1) | broadcast(0)", "36 pairs are read"),
    ("prefix", lambda p: testing.assert_prefix_stable(p, 10),
     "only causal; random(links=2)", "random(links=2); never where(j > i)", " tokens"),
    ("contracts", lambda p: testing.assert_contracts(p, 10),
     "full; expect hops <= 1", "self; expect hops <= 1", "`hops <= 1` fails: token "),
]  # fmt: skip


@pytest.mark.parametrize(("check", "good", "bad", "words"), [one[1:] for one in CASES],
                         ids=[one[0] for one in CASES])  # fmt: skip
def test_assertion_accepts_what_is_so_and_explains_what_is_not(
    check: Check, good: str, bad: str, words: str
) -> None:
    check(parse(good))
    with pytest.raises(AssertionError) as caught:
        check(parse(bad))
    assert words in str(caught.value)
    assert str(caught.value).startswith("p at n = ")


def test_small_pattern_is_drawn_in_the_message() -> None:
    with pytest.raises(AssertionError, match=r"\n\n█ █ ·\n█ █ █\n· █ █$"):
        testing.assert_causal(parse("window(each_side=1)"), 3)


def test_head_and_layer_that_fail_are_named() -> None:
    pattern = parse("when head == 2 and layer == 1 { full } else { causal }")
    testing.assert_causal(pattern, 3, heads=2, layers=2)
    with pytest.raises(AssertionError, match="head 2 of layer 1"):
        testing.assert_causal(pattern, 3, heads=3, layers=2)


def test_own_contracts_do_not_matter_to_other_assertions() -> None:
    testing.assert_causal(parse("causal; expect reads == 0"), 4)
    with pytest.raises(AssertionError, match="`reads == 0` fails: 10 pairs are read"):
        testing.assert_contracts(parse("causal; expect reads == 0"), 4)


def test_subset_shows_a_pair_that_is_missing() -> None:
    testing.assert_subset(parse("window(last=3)"), parse("window(each_side=3)"), 1000)
    with pytest.raises(AssertionError, match="query 4 reads key 0 in p and not in q"):
        testing.assert_subset(
            parse("window(last=5)"), attnloom.parse("pattern q { window(last=4) }"), 1000
        )


def test_equivalence_shows_the_pair_and_both_patterns() -> None:
    p, q = parse("window(last=3)"), attnloom.parse("pattern q { window(last=2) }")
    with pytest.raises(AssertionError) as caught:
        testing.assert_equivalent(p, q)
    assert str(caught.value) == (
        "p and q differ at n = 3: query 2 reads key 0 in p and not in q\n\n"
        "p:\n█ · ·\n█ █ ·\n█ █ █\n\nq:\n█ · ·\n█ █ ·\n· █ █"
    )


def test_equivalence_at_a_length_says_nothing_of_others() -> None:
    p, q = parse("window(each_side=9)"), parse("full")
    testing.assert_equivalent(p, q, n=10)
    with pytest.raises(AssertionError, match="differ at n = 11"):
        testing.assert_equivalent(p, q, n=11)


@settings(max_examples=10)
@given(st.data())
def test_binding_stands_for_all_it_holds(data: st.DataObject) -> None:
    binding = data.draw(testing.bindings(attnloom.load("longformer_qa")))
    testing.assert_contracts(binding)
    testing.assert_max_hops(binding, 2)
    with pytest.raises(TypeError, match="a binding has its own length"):
        testing.assert_connected(binding, 9)
    with pytest.raises(TypeError, match="at which length"):
        testing.assert_connected(binding.pattern)


@settings(max_examples=4)
@given(st.data())
def test_every_drawn_plan_executes_like_the_definition(data: st.DataObject) -> None:
    check_execution(data)


@pytest.mark.slow
@settings(max_examples=200)
@given(st.data())
def test_many_drawn_plans_execute_like_the_definition(data: st.DataObject) -> None:
    check_execution(data)


def check_execution(data: st.DataObject) -> None:
    plan = data.draw(testing.plans())
    testing.assert_executes_like_reference(plan, data.draw(testing.qkv(plan)))


@settings(max_examples=8)
@given(st.data())
def test_every_drawn_binding_compiles_to_its_own_pairs(data: st.DataObject) -> None:
    binding = data.draw(testing.bindings(data.draw(testing.patterns()), max_layers=2))
    testing.assert_compiles(binding, block=data.draw(st.sampled_from([16, 128])))


def test_wrong_executor_is_shown_by_the_place_where_it_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from attnloom.runtime.backends import cpu

    plan = attnloom.load("local", reach=3).compile(40, heads=2)
    forward = cpu.forward

    def off(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        output, lse = forward(*arguments)
        output[0, 1, 17, 3] += 0.01
        return output, lse

    tensors = random_qkv(plan, seed=3)
    testing.assert_executes_like_reference(plan, tensors)
    monkeypatch.setattr(cpu, "forward", off)
    with pytest.raises(
        AssertionError, match="cpu: output at batch element 0, head 1, position 17, component 3"
    ):
        testing.assert_executes_like_reference(plan, tensors, backward=False)


def test_wrong_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from attnloom.runtime.backends import cpu

    plan = attnloom.load("local", reach=3).compile(40)
    backward = cpu.backward

    def off(*arguments: Any) -> tuple[torch.Tensor, ...]:
        d_query, d_key, d_value = backward(*arguments)
        return d_query, d_key * 1.001, d_value

    monkeypatch.setattr(cpu, "backward", off)
    with pytest.raises(AssertionError, match="cpu: the gradient of key at"):
        testing.assert_executes_like_reference(plan)


def test_wrong_plan_is_shown_by_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    binding = testing.Binding(parse("window(last=3)"), 20)
    testing.assert_compiles(binding)
    wrong = parse("window(last=4)").compile(20)
    monkeypatch.setattr(testing.Binding, "compile", lambda *_, **__: wrong)
    with pytest.raises(AssertionError, match="the plan has the pair of query 3 and key 0"):
        testing.assert_compiles(binding)

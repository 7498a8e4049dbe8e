"""Laws of relations, on random patterns: what must be the same however a pattern is written.

Two ways are compared, and each by its definition, its closed form, and by `equivalent`, which must
prove what holds whatever the parts are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

import attnloom
from attnloom import testing
from attnloom.compiler import typed
from attnloom.compiler.dependence import depends_on_head, depends_on_layer
from attnloom.equivalence import difference, equivalent
from attnloom.testing.strategies import inputs_of

Tree = typed.Node


class Made:
    """Makes patterns out of others, as typed trees: their texts may clash, their trees cannot."""

    def __init__(self, parts: list[attnloom.Pattern]) -> None:
        self.place = parts[0]._typed.place
        self.inputs = tuple(
            {one.name: one for part in parts for one in part._typed.inputs}.values()
        )
        self.parts = [typed.PatternCall(self.place, part._typed, {}) for part in parts]

    def join(self, operator: str, *parts: Tree) -> Tree:
        return typed.Combined(self.place, operator, parts)

    def no(self, part: Tree) -> Tree:
        return typed.Inverted(self.place, part)  # type: ignore[arg-type]

    def turn(self, part: Tree) -> Tree:
        return typed.Transposed(self.place, part)  # type: ignore[arg-type]

    def number(self, value: int) -> typed.Constant:
        return typed.Constant(self.place, value)

    def body(self, *adds: Tree, only: tuple[Tree, ...] = (), never: tuple[Tree, ...] = (),
             when: tuple[typed.Choice, ...] = ()) -> typed.Body:  # fmt: skip
        return typed.Body(self.place, adds, only, never, when, (), ())  # type: ignore[arg-type]

    def blocks(self, size: int, part: Tree) -> Tree:
        return typed.InBlocks(self.place, self.number(size), self.body(part))

    def choose(self, condition: Tree, then: Tree, otherwise: Tree) -> typed.Choice:
        return typed.Choice(self.place, condition, self.body(then), self.body(otherwise))  # type: ignore[arg-type]

    def pattern(self, body: typed.Body | Tree) -> attnloom.Pattern:
        whole = body if isinstance(body, typed.Body) else self.body(body)
        return attnloom.Pattern(typed.Pattern(self.place, "made", (), self.inputs, whole, ""))


Law = Callable[[Made, Tree, Tree, Tree], tuple[Any, Any]]

LAWS: dict[str, Law] = {
    "transpose twice": lambda m, a, b, c: (m.turn(m.turn(a)), a),
    "transpose of a union": lambda m, a, b, c: (
        m.turn(m.join("|", a, b)), m.join("|", m.turn(b), m.turn(a))),
    "transpose of a complement": lambda m, a, b, c: (m.turn(m.no(a)), m.no(m.turn(a))),
    "complement twice": lambda m, a, b, c: (m.no(m.no(a)), a),
    "De Morgan, union": lambda m, a, b, c: (
        m.no(m.join("|", a, b)), m.join("&", m.no(a), m.no(b))),
    "De Morgan, intersection": lambda m, a, b, c: (
        m.no(m.join("&", a, b)), m.join("|", m.no(a), m.no(b))),
    "difference": lambda m, a, b, c: (m.join("-", a, b), m.join("&", a, m.no(b))),
    "absorption": lambda m, a, b, c: (m.join("&", a, m.join("|", a, b)), a),
    "distribution": lambda m, a, b, c: (
        m.join("&", a, m.join("|", b, c)), m.join("|", m.join("&", a, b), m.join("&", a, c))),
    "only is an intersection": lambda m, a, b, c: (m.body(a, only=(b,)), m.join("&", a, b)),
    "never is a difference": lambda m, a, b, c: (m.body(a, never=(b,)), m.join("-", a, b)),
    "two onlys": lambda m, a, b, c: (
        m.body(a, only=(b, c)), m.body(a, only=(m.join("&", c, b),))),
    "two nevers": lambda m, a, b, c: (
        m.body(a, never=(b, c)), m.body(a, never=(m.join("|", b, c),))),
    "never after only": lambda m, a, b, c: (
        m.body(a, only=(b,), never=(c,)), m.body(a, only=(m.join("-", b, c),))),
    "statements in any order": lambda m, a, b, c: (m.body(a, b, c), m.body(c, a, b)),
    "a branch either way": lambda m, a, b, c: (
        m.body(when=(m.choose(m.number(1), a, b),)), m.body(when=(m.choose(m.number(0), c, a),))),
}  # fmt: skip
"""Of three relations, two ways to write a fourth."""

# `when` is a condition for the proof, whose value it does not look at.
NOT_PROVED = {"a branch either way"}


SHARED = (
    "window(last=3)", "window(each_side=2); global(0)", "chunks(4)", "stride(3)", "causal", "self",
    "broadcast(first 2)", "random(links=2, per_head=false)", "blocks(3) { window(each_side=1) }",
)  # fmt: skip
"""Bodies that are the same for all heads."""


@st.composite
def parts(draw: Any, count: int) -> list[attnloom.Pattern]:
    """Patterns that can be called."""
    found = [draw(testing.patterns()) for _ in range(count)]
    names: dict[str, str] = {}
    for one in found:
        assume("memory" not in one.text)
        for name, kind in one.inputs.items():
            assume(names.setdefault(name, kind) == kind)
    return found


def assert_same(
    p: attnloom.Pattern, q: attnloom.Pattern, n: int, inputs: dict[str, Any], **where: int
) -> None:
    """Two patterns are the same at a length, by definition and in closed form."""
    a, b = p.bind(n, inputs=inputs, **where), q.bind(n, inputs=inputs, **where)
    places = np.arange(n)
    masks = [one.relation.allows(places[:, None], places) for one in (a, b)]
    np.testing.assert_array_equal(*masks)
    assert difference(a, b) is None
    assert difference(b, a) is None


def check_law(name: str, data: st.DataObject, most: int) -> None:
    found = data.draw(parts(3))
    n = data.draw(st.integers(1, most))
    made = Made(found)
    one, other = (made.pattern(side) for side in LAWS[name](made, *made.parts))
    assert_same(one, other, n, data.draw(inputs_of(one, n)), head=1, heads=2, layer=1, layers=2)


@settings(max_examples=12, phases=[Phase.generate, Phase.shrink])
@given(st.sampled_from(sorted(LAWS)), st.data())
def test_laws_of_relations_hold(name: str, data: st.DataObject) -> None:
    check_law(name, data, 20)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
@settings(max_examples=150, phases=[Phase.generate, Phase.shrink])
@given(st.data())
def test_law_of_relations_holds_of_many_patterns(name: str, data: st.DataObject) -> None:
    check_law(name, data, 60)


@pytest.mark.parametrize("name", sorted(set(LAWS) - NOT_PROVED))
def test_law_is_proved_for_parts_of_any_kind(name: str) -> None:
    texts = ("random(links=2, seed=1)", "input t: tokens; global(t)", "expander(degree=2)")
    made = Made([attnloom.parse(f"pattern p {{ {text} }}") for text in texts])
    proof = equivalent(*(made.pattern(side) for side in LAWS[name](made, *made.parts)))
    assert proof
    assert proof.is_proved


@settings(max_examples=12, phases=[Phase.generate, Phase.shrink])
@given(testing.patterns(), st.integers(1, 5), st.integers(1, 5), st.integers(1, 40))
def test_blocks_of_blocks_are_blocks(
    pattern: attnloom.Pattern, inner: int, outer: int, n: int
) -> None:
    assume(not pattern.inputs and "memory" not in pattern.text)
    made = Made([pattern])
    (part,) = made.parts
    assert_same(
        made.pattern(made.blocks(outer, made.blocks(inner, part))),
        made.pattern(made.blocks(outer * inner, part)), n, {},
    )  # fmt: skip
    assert_same(made.pattern(made.blocks(1, part)), pattern, n, {})


@settings(max_examples=12, phases=[Phase.generate, Phase.shrink])
@given(testing.patterns(), st.integers(1, 6), st.integers(2, 40))
def test_block_holds_all_pairs_of_its_tokens_or_none(
    pattern: attnloom.Pattern, size: int, n: int
) -> None:
    assume(not pattern.inputs and "memory" not in pattern.text)
    made = Made([pattern])
    mask = made.pattern(made.blocks(size, made.parts[0])).mask(n)
    count = -(-n // size)
    of_blocks = made.pattern(made.parts[0]).mask(count)
    own = np.arange(n) // size
    np.testing.assert_array_equal(mask, of_blocks[own[:, None], own])


@settings(max_examples=12, phases=[Phase.generate, Phase.shrink])
@given(testing.patterns(), st.integers(1, 24), st.data())
def test_heads_and_layers_differ_only_where_the_text_asks_for_them(
    pattern: attnloom.Pattern, n: int, data: st.DataObject
) -> None:
    inputs = data.draw(inputs_of(pattern, n))
    masks = {
        (layer, head): pattern.mask(n, head, layer, 3, 3, inputs)
        for layer in range(3)
        for head in range(3)
    }
    for (layer, head), mask in masks.items():
        if not depends_on_head(pattern._typed):
            np.testing.assert_array_equal(mask, masks[layer, 0])
        if not depends_on_layer(pattern._typed):
            np.testing.assert_array_equal(mask, masks[0, head])


@settings(max_examples=12, phases=[Phase.generate, Phase.shrink])
@given(st.lists(st.sampled_from(SHARED), min_size=2, max_size=2), st.integers(1, 24))
def test_heads_may_change_places(texts: list[str], n: int) -> None:
    """Two heads with their patterns exchanged are the same layer."""
    made = Made([attnloom.parse(f"pattern p {{ {text} }}") for text in texts])
    a, b = made.parts
    is_first = typed.Operation(
        made.place, "==", (typed.Variable(made.place, "head"), made.number(0))
    )
    one = made.pattern(made.body(when=(made.choose(is_first, a, b),)))
    other = made.pattern(made.body(when=(made.choose(is_first, b, a),)))
    for head in range(2):
        np.testing.assert_array_equal(one.mask(n, head, heads=2), other.mask(n, 1 - head, heads=2))
    reports = [p.analyze(n, heads=2).hops for p in (one, other)]
    assert reports[0].worst == reports[1].worst
    assert reports[0].unreachable == reports[1].unreachable


@settings(max_examples=12, phases=[Phase.generate, Phase.shrink])
@given(st.lists(st.sampled_from(SHARED), min_size=2, max_size=2, unique=True), st.integers(2, 24))
def test_two_layers_are_the_product_of_their_relations(texts: list[str], n: int) -> None:
    made = Made([attnloom.parse(f"pattern p {{ {text} }}") for text in texts])
    a, b = made.parts
    is_lower = typed.Operation(
        made.place, "==", (typed.Variable(made.place, "layer"), made.number(0))
    )
    stack = made.pattern(made.body(when=(made.choose(is_lower, a, b),)))
    lower, upper = (
        stack.mask(n, 0, layer, 1, 2).astype(int) + np.eye(n, dtype=int) for layer in range(2)
    )
    assume(((lower > 0) != (upper > 0)).any())
    report = stack.analyze(n, layers=2)
    connected = (upper @ lower) > 0
    places = np.arange(n)
    meant = report.intended.region.contains(places[:, None], places)
    if report.intended.total:
        share = (connected & meant).sum() / meant.sum()
        assert report.coverage.shares[-1] == pytest.approx(share)


@settings(max_examples=12, phases=[Phase.generate, Phase.shrink])
@given(st.data())
def test_window_grows_with_its_reach_and_with_the_sequence(data: st.DataObject) -> None:
    """Metamorphic: more sight never loses a pair, and a pair never goes when tokens are added."""
    kind = data.draw(
        st.sampled_from(["each_side={}", "last={}", "left={}, right=2", "width=2*{}+1"])
    )
    reach, n = data.draw(st.integers(0, 9)), data.draw(st.integers(1, 40))
    step = data.draw(st.integers(1, 3))
    near, far = (
        attnloom.parse(f"pattern p {{ window({kind.format(r)}, dilation={step}) }}")
        for r in (reach, reach + 1)
    )
    testing.assert_subset(near, far, n)
    np.testing.assert_array_equal(near.mask(n + 3)[:n, :n], near.mask(n))
    behind = attnloom.parse(f"pattern p {{ only causal; {near.text[12:-2]} }}")
    testing.assert_prefix_stable(behind, n)

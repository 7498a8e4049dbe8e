"""Strategies for Hypothesis: patterns, lengths, parameters, inputs, plans and tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hypothesis import note, reject
from hypothesis import strategies as st

from attnloom.compiler import typed
from attnloom.compiler.evaluate import Environment, Value
from attnloom.compiler.problems import Problem
from attnloom.grammar import PatternError
from attnloom.pattern import Pattern
from attnloom.testing.bodies import Writer
from attnloom.testing.drawn import Binding, DrawnPattern
from attnloom.testing.pieces import Place
from attnloom.testing.programs import write

if TYPE_CHECKING:
    from attnloom.runtime.plan import Plan
    from attnloom.testing.execution import Tensors

Draw = Callable[[st.SearchStrategy[Any]], Any]

_TILES = (16, 32, 64, 128)
_NEAR = 16
"""A parameter is mostly drawn so near to the lower end of its range."""


@st.composite
def sources(draw: Draw, *, least_n: int = 1) -> str:
    """The text of a pattern file: a few well-formed patterns that use the whole language.

    Args:
        draw: given by Hypothesis.
        least_n: the shortest sequence for which the main pattern is meant: the positions that it
            names are there in it and in every longer one.
    """
    heads = draw(st.integers(1, 3))
    return write(Writer(draw, least_n, heads)).text


@st.composite
def patterns(draw: Draw, *, least_n: int = 1) -> DrawnPattern:
    """A random pattern; shown as the call of `attnloom.parse` that makes it.

    Arguments as in `sources`. A smaller pattern is a simpler one: `self` at last.
    """
    text = draw(sources(least_n=least_n))
    try:
        return DrawnPattern.parse(text)
    except PatternError:  # it nests deeper than files may
        reject()


@st.composite
def lengths(draw: Draw, min_n: int = 1, max_n: int = 512) -> int:
    """Numbers of tokens, both ends included: short ones, any, and those around whole tiles."""
    near = st.sampled_from(_TILES).flatmap(
        lambda tile: st.integers(1, max(1, max_n // tile)).flatmap(
            lambda count: st.sampled_from([0, -1, 1]).map(lambda more: tile * count + more)
        )
    )
    short = st.integers(min_n, min(max_n, min_n + _NEAR))
    found: int = draw(st.one_of(short, st.integers(min_n, max_n), near))
    return min(max(found, min_n), max_n)


@st.composite
def token_sets(draw: Draw, n: int | None = None) -> str:
    """Token sets as the language writes them, such as `first 4` or `every 8 | -1`.

    Args:
        draw: given by Hypothesis.
        n: positions are there in a sequence of that length; in every sequence when not given.
    """
    writer = Writer(draw, n or 1, 1)
    return writer.token_set(Place(n or 1), 2).text


@st.composite
def settings_of(draw: Draw, pattern: Pattern) -> dict[str, Any]:
    """Values for the parameters of a pattern that have a range, or are true or false."""
    found: dict[str, Any] = {}
    known: dict[str, Value] = {}
    for one in pattern._typed.parameters:
        if one.type is typed.Type.CONDITION:
            found[one.name] = draw(st.booleans())
        elif one.type is typed.Type.NUMBER and one.low is not None and one.high is not None:
            try:
                environment = Environment({}, known, {})
                low, high = environment.number(one.low), environment.number(one.high) - 1
            except Problem:  # it depends on the length
                continue
            if low <= high:
                near = st.integers(low, min(low + _NEAR, high))
                found[one.name] = draw(near | st.integers(low, high))
        if one.name in found:
            known[one.name] = int(found[one.name])
    return found


@st.composite
def inputs_of(draw: Draw, pattern: Pattern, n: int) -> dict[str, Any]:
    """Run-time inputs of a pattern for one batch element, in lists."""
    token = st.integers(0, n - 1)
    kinds: dict[str, Callable[[], Any]] = {
        "tokens": lambda: sorted(draw(st.sets(token, max_size=8))),
        "segments": lambda: _documents(draw, n),
        "links": lambda: _links(draw, n),
    }
    return {name: kinds[kind]() for name, kind in pattern.inputs.items()}


def _documents(draw: Draw, n: int) -> list[int]:
    """Mostly one after another, as in packing; now and then mixed."""
    if n <= 64 and draw(st.integers(0, 3)) == 3:
        return list(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    cuts = sorted(draw(st.sets(st.integers(1, n - 1), max_size=4))) if n > 1 else []
    ends = [*cuts, n]
    return [
        number
        for number, (start, stop) in enumerate(zip([0, *ends], ends, strict=False))
        for _ in range(start, stop)
    ]


def _links(draw: Draw, n: int) -> list[list[int]]:
    """A few keys for a few queries."""
    rows: list[list[int]] = [[] for _ in range(n)]
    token = st.integers(0, n - 1)
    for query, key in draw(st.lists(st.tuples(token, token), max_size=min(2 * n, 32), unique=True)):
        rows[query].append(key)
    return [sorted(row) for row in rows]


@st.composite
def bindings(
    draw: Draw,
    pattern: Pattern,
    *,
    lengths: st.SearchStrategy[int] | None = None,
    max_heads: int = 4,
    max_layers: int = 4,
    settings: Mapping[str, st.SearchStrategy[Any]] | None = None,
) -> Binding:
    """All that a pattern is looked at with; only what gives it a meaning.

    Args:
        draw: given by Hypothesis.
        pattern: the pattern; its parameters are drawn within their declared ranges.
        lengths: the lengths to draw from; short ones when not given.
        max_heads: most heads.
        max_layers: most layers.
        settings: strategies for parameters, in place of their ranges.
    """
    n = draw(_lengths(max_n=64) if lengths is None else lengths)
    chosen = {**draw(settings_of(pattern)), **{k: draw(one) for k, one in (settings or {}).items()}}
    heads, layers = draw(st.integers(1, max_heads)), draw(st.integers(1, max_layers))
    try:
        bound = pattern.with_params(**chosen) if chosen else pattern
        inputs = draw(inputs_of(bound, n))
        found = Binding(bound, n, heads, layers, chosen, inputs)
        for layer in range(layers):
            for head in range(heads):
                found.bind(head, layer)
    except PatternError:
        reject()
    return found


_lengths = lengths


@st.composite
def plans(draw: Draw, *, max_n: int = 64, max_heads: int = 3) -> Plan:
    """Plans of random patterns, with tiles of several sizes and some passes left out."""
    from attnloom.compiler.passes import OPTIONAL

    pattern = draw(patterns())
    found: Binding = draw(
        bindings(pattern, lengths=st.integers(1, max_n), max_heads=max_heads, max_layers=2)
    )
    layer = draw(st.integers(0, found.layers - 1))
    block = draw(st.sampled_from([16, 32, 64, 128]))
    without = draw(st.sets(st.sampled_from(sorted(OPTIONAL)), max_size=2))
    without = sorted(without)
    try:
        plan = found.compile(layer, block=block, without=without)
    except PatternError:
        reject()
    place = f"n={found.n}, heads={found.heads}, layer={layer}, layers={found.layers}"
    more = f"inputs={found.inputs}, block={block}, without={without}"
    note(f"plan = {found.pattern!r}.compile({place}, {more})")
    return plan


@st.composite
def qkv(
    draw: Draw,
    plan: Plan,
    *,
    max_batch: int = 2,
    head_dims: tuple[int, ...] = (16, 32),
) -> Tensors:
    """Query, key and value that fit a plan; shown as the call that makes them again.

    Args:
        draw: given by Hypothesis.
        plan: the plan.
        max_batch: most batch elements, where the plan does not say how many.
        head_dims: head dimensions to draw from.
    """
    from attnloom.testing.execution import random_qkv

    groups = [one for one in range(1, plan.num_heads + 1) if plan.num_heads % one == 0]
    return random_qkv(
        plan,
        seed=draw(st.integers(0, 99)),
        batch=plan.batch_size or draw(st.integers(1, max_batch)),
        num_kv_heads=draw(st.sampled_from(groups[::-1])),
        head_dim=draw(st.sampled_from(head_dims)),
    )

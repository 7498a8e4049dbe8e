"""Assertions about patterns that say why they fail: a pair, its route, and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attnloom.compiler.analysis import growing
from attnloom.compiler.analysis.contracts import Answer
from attnloom.contracts import Case, with_contract
from attnloom.equivalence import Equivalence, difference, equivalent
from attnloom.pattern import Pattern
from attnloom.render import exact_text
from attnloom.testing.drawn import Binding

__tracebackhide__ = True  # pytest then shows the test that fails, and not this module

_DRAWN = 32
"""Positions up to which a message draws the pattern."""


@dataclass(frozen=True, eq=False)
class _Place:
    """A pattern, and what it is looked at with."""

    pattern: Pattern
    n: int
    heads: int = 1
    layers: int = 1
    inputs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, pattern: Pattern | Binding, n: int | None, where: Mapping[str, Any]) -> _Place:
        if isinstance(pattern, Binding):
            if n is not None or where:
                raise TypeError("a binding has its own length, heads, layers and inputs")
            given: dict[str, Any] = {
                "heads": pattern.heads,
                "layers": pattern.layers,
                "inputs": pattern.inputs,
            }
            return cls(pattern.pattern, pattern.n, **given)
        if n is None:
            raise TypeError("n is missing: at which length?")
        return cls(pattern, n, **where)

    @property
    def words(self) -> str:
        case = Case(self.n, self.heads, self.layers, {}, self.inputs)
        return f"{self.pattern.name} at {case.words(self.pattern)}"

    def at(self, head: int, layer: int) -> dict[str, Any]:
        """The arguments of `Pattern.bind`."""
        return {
            "head": head,
            "heads": self.heads,
            "layer": layer,
            "layers": self.layers,
            "inputs": self.inputs,
        }

    def picture(self, head: int = 0, layer: int = 0) -> str:
        """The pattern as `█ ·`, where it is small."""
        if self.n > _DRAWN:
            return ""
        mask = self.pattern.mask(self.n, **self.at(head, layer))
        return "\n\n" + exact_text(mask) if len(mask) <= _DRAWN else ""


def _hold(place: _Place, metric: str, sign: str | None = None, wanted: int = 0) -> None:
    """Evaluate a contract that is not in the text.

    Raises:
        AssertionError: it is broken, or not decided.
    """
    only = with_contract(place.pattern, metric, sign, wanted)
    (found,) = only.check(place.n, heads=place.heads, layers=place.layers, inputs=place.inputs)
    if found.answer is Answer.HOLDS:
        return
    where = "" if found.head is None else f", head {found.head} of layer {found.layer}"
    picture = place.picture(found.head or 0, found.layer or 0)
    raise AssertionError(
        f"{place.words}{where}: `{found.text}` {found.answer.value}: {found.words}{picture}"
    )


def assert_max_hops(
    pattern: Pattern | Binding, most: int, n: int | None = None, **where: Any
) -> None:
    """Every token learns of every other one it is meant to, by at most so many reads.

    `where` has `heads`, `layers` and `inputs`, as in `Pattern.check`; likewise for all assertions
    of this module. Instead of a pattern and a length there may be a `Binding`.

    >>> import attnloom
    >>> assert_max_hops(attnloom.load("longformer", reach=1), 2, n=10**6)
    >>> assert_max_hops(attnloom.load("local", reach=1), 1, n=3)
    Traceback (most recent call last):
    ...
    AssertionError: local at n = 3, reach = 1: `hops <= 1` fails: 2 -> 0 takes 2 hops: 2 -> 1 -> 0
    <BLANKLINE>
    █ █ ·
    █ █ █
    · █ █
    """
    _hold(_Place.of(pattern, n, where), "hops", "<=", most)


def assert_connected(pattern: Pattern | Binding, n: int | None = None, **where: Any) -> None:
    """Every token can learn of every other one that it is meant to."""
    _hold(_Place.of(pattern, n, where), "connected")


def assert_causal(pattern: Pattern | Binding, n: int | None = None, **where: Any) -> None:
    """No query reads a later key."""
    _hold(_Place.of(pattern, n, where), "causal")


def assert_no_empty_rows(pattern: Pattern | Binding, n: int | None = None, **where: Any) -> None:
    """Every query reads some key."""
    _hold(_Place.of(pattern, n, where), "no_empty_rows")


def assert_reads_at_most(
    pattern: Pattern | Binding, most: int, n: int | None = None, **where: Any
) -> None:
    """No head of any layer reads more pairs."""
    _hold(_Place.of(pattern, n, where), "reads", "<=", most)


def assert_contracts(pattern: Pattern | Binding, n: int | None = None, **where: Any) -> None:
    """All that the pattern's own `expect` statements say is so."""
    place = _Place.of(pattern, n, where)
    outcomes = place.pattern.check(
        place.n, heads=place.heads, layers=place.layers, inputs=place.inputs
    )
    broken = [one for one in outcomes if one.fails]
    if broken:
        lines = [f"  `{one.text}` fails: {one.words}" for one in broken]
        first = broken[0]
        picture = place.picture(first.head or 0, first.layer or 0)
        raise AssertionError("\n".join([f"{place.words}:", *lines]) + picture)


def assert_equivalent(p: Pattern, q: Pattern, n: int | None = None, **where: Any) -> Equivalence:
    """Two patterns are the same set of pairs, at a length or at all lengths.

    Args:
        p: one pattern.
        q: the other one.
        n: the length; without it, `attnloom.equivalent` decides for all.
        where: `heads`, `layers` and `inputs`; the inputs only with a length.

    Returns:
        What `attnloom.equivalent` found: whether it is proved, or only tested.

    Raises:
        AssertionError: they differ; the message names a pair.
    """
    found = equivalent(p, q, n=n, **where)
    if not found:
        raise AssertionError(str(found) + _both(p, q, found))
    return found


def _both(p: Pattern, q: Pattern, found: Equivalence) -> str:
    """Both patterns where they differ, one above the other, where they are small."""
    case = found.case
    if case is None or case.n > _DRAWN or case.pair is None:
        return ""
    where = case.where
    return "".join(f"\n\n{one.name}:\n{exact_text(one.mask(case.n, **where))}" for one in (p, q))


def assert_subset(p: Pattern, q: Pattern, n: int, **where: Any) -> None:
    """Every pair of one pattern is a pair of the other, in each head and layer."""
    place = _Place.of(p, n, where)
    for layer in range(place.layers):
        for head in range(place.heads):
            at = place.at(head, layer)
            pair = difference(p.bind(n, **at), q.bind(n, **at))
            if pair is not None:
                raise AssertionError(
                    f"{place.words}, head {head} of layer {layer}: query {pair[0]} reads key "
                    f"{pair[1]} in {p.name} and not in {q.name}{place.picture(head, layer)}"
                )


def assert_prefix_stable(
    pattern: Pattern | Binding, n: int | None = None, *, longer: int = 0, **where: Any
) -> None:
    """No row changes when the sequence grows: what a decoder has cached stays right.

    The sequence of `n` tokens is compared with one of `longer` tokens, by default one more, two
    more and twice as many. Run-time inputs have a length of their own, so there may be none.
    """
    place = _Place.of(pattern, n, where)
    if place.pattern.inputs:
        raise TypeError(f"{place.pattern.name} has inputs, which are for one length")
    for layer in range(place.layers):
        for head in range(place.heads):
            at = place.at(head, layer)
            short = place.pattern.bind(place.n, **at)
            for length in [longer] if longer else growing.longer(place.n):
                words = growing.change(short, place.pattern.bind(length, **at))
                if words:
                    raise AssertionError(f"{place.words}, head {head} of layer {layer}: {words}")


def assert_compiles(binding: Binding, layer: int = 0, **options: Any) -> None:
    """The plan of a layer computes exactly the pairs of the pattern, for every head.

    `options` are those of `Pattern.compile`.
    """
    plan = binding.compile(layer, **options)
    dense = plan.to_dense().cpu().numpy()[0]
    for head in range(binding.heads):
        wanted = binding.mask(head, layer)
        wrong = np.argwhere(dense[head] != wanted)
        if len(wrong):
            i, j = wrong[0].tolist()
            has = "has" if dense[head, i, j] else "lacks"
            raise AssertionError(
                f"{binding!r}: the plan {has} the pair of query {i} and key {j} in head {head} "
                f"of layer {layer}"
            )

"""Complexity: the order of the number of pairs, in the parameters that the pattern itself names.

Every primitive has a product of the length and of its arguments as they are written; numbers are
left out, unions add up, and an intersection costs no more than its cheapest part. The result is an
upper bound on the growth, read off the text, not a measurement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from attnloom.compiler import typed
from attnloom.compiler.primitives.cells import AXES

Chooser = Callable[[typed.Choice], Iterable[typed.Body | None]]
"""The branch of a `when` that holds, or both where that is not known."""


@dataclass(frozen=True)
class Term:
    """A product: `n` to a power, times factors, over divisors; in the order of its writing.

    >>> print(Term(1, ("reach",)), Term(1, ("count(cls)",), is_count_first=True))
    n*reach count(cls)*n
    >>> print(Term(2, (), ("step",)))
    n**2/step
    """

    power: int
    factors: tuple[str, ...] = ()
    divisors: tuple[str, ...] = ()
    is_count_first: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        length = [_raised("n", self.power)] if self.power else []
        factors = [_raised(one, times) for one, times in Counter(self.factors).items()]
        parts = factors + length if self.is_count_first else length + factors
        return "/".join(["*".join(parts) or "1", *self.divisors])

    def times(self, *factors: str) -> Term:
        return replace(self, factors=self.factors + factors)


def complexity(pattern: typed.Pattern, choose: Chooser) -> str:
    """The order of the pairs of a pattern, such as `O(n*reach + count(cls)*n)`."""
    return f"O({' + '.join(map(str, simplified(_Walk(choose).body(pattern.body)))) or '1'})"


def simplified(terms: Iterable[Term]) -> list[Term]:
    """Each term once, without those that another one always exceeds.

    >>> [str(term) for term in simplified([Term(1), Term(1, ("reach",)), Term(1, ("reach",))])]
    ['n*reach']
    """
    different = list(dict.fromkeys(terms))
    return [
        term
        for term in different
        if not any(_exceeds(other, term) for other in different if other != term)
    ]


def _exceeds(other: Term, term: Term) -> bool:
    """Whether a term is at most another one; every factor is at most `n`, and at least 1."""
    if other.divisors:
        return False
    if other == Term(2):  # all pairs
        return True
    missing = list(term.factors)
    for factor in other.factors:
        if factor in missing:
            missing.remove(factor)
    return term.power + len(missing) <= other.power


@dataclass(frozen=True)
class _Walk:
    """Adds up the terms of a body; `names` are the arguments that a called pattern was given."""

    choose: Chooser
    names: Mapping[str, tuple[typed.Node, _Walk]] = field(default_factory=dict)
    extents: tuple[str, ...] = ()

    def body(self, body: typed.Body) -> list[Term]:
        bodies = list(self._chosen(body))
        found = [term for one in bodies for node in one.adds for term in self.relation(node)]
        for only in (node for one in bodies for node in one.onlys):
            found = _cheaper([found, self.relation(only)])
        for memory in (node for one in bodies for node in one.memory):
            slots = self._factors(memory.slots)
            found.append(Term(1, slots, is_count_first=True))
        return found

    def _chosen(self, body: typed.Body) -> Iterator[typed.Body]:
        yield body
        for choice in body.choices:
            for branch in self.choose(choice):
                if branch is not None:
                    yield from self._chosen(branch)

    def relation(self, node: typed.Node) -> list[Term]:
        match node:
            case typed.Call():
                return self._call(node)
            case typed.Combined(operator="|", parts=parts):
                return [term for part in parts for term in self.relation(part)]
            case typed.Combined(operator="&", parts=parts):
                return _cheaper([*self._axes(parts), *(self.relation(part) for part in parts)])
            case typed.Combined(parts=(first, *_)) | typed.Transposed(part=first):
                return self.relation(first)
            case typed.InBlocks(block_size=size, body=body):
                # A pair of blocks is size**2 pairs of tokens, and there are n / size blocks.
                width = self._factors(size)
                return [
                    replace(term, power=term.power, factors=width * (2 - term.power) + term.factors)
                    for term in self.body(body)
                    if term.power <= 2
                ]
            case typed.InGrid(shape=shape, body=body):
                extents = tuple(self._text(one) for one in shape)
                return replace(self, extents=extents).body(body)
            case typed.PatternCall(pattern=pattern, arguments=arguments):
                inner = replace(self, names={}, extents=())
                defaults = {
                    one.name: (one.default, inner)
                    for one in pattern.parameters
                    if one.default is not None
                }
                given = {name: (argument, self) for name, argument in arguments.items()}
                return replace(inner, names={**defaults, **given}).body(pattern.body)
        return [Term(2)]

    def _call(self, call: typed.Call) -> list[Term]:
        given = call.arguments
        name = call.primitive.name
        numbers = [one for one in given if one in _COUNTED.get(name, ())]
        match name:
            case "none":
                return []
            case "self":
                return [Term(1)]
            case "global" | "broadcast" | "collect":
                count = self._count(given["tokens"])
                return [replace(count, power=count.power + 1, is_count_first=True)]
            case "window":
                return [Term(1, self._factors(given[one])) for one in numbers]
            case "stride":
                return [Term(2, (), self._factors(given["step"]))]
            case "offsets":
                return [Term(1, ("log(n)",) if "base" in given else ())]
            case "same":
                return [Term(1, (f"longest({_plain(given['segments'])})",))]
            case "links":
                return [Term(0, (f"count({_plain(given['lists'])})",))]
            case "neighborhood" if self.extents and len(numbers) == 1:
                return self._axes([call])[0]
            case "row" if self.extents:
                return [Term(1, _symbols(self.extents[-1]))]
            case "column" if self.extents:
                return [Term(1, _symbols(self.extents[-2]))]
        if numbers:
            term = Term(1)
            for one in numbers:
                term = term.times(*self._factors(given[one]))
            if "reach" in numbers:  # as far on every axis
                term = term.times(*self._factors(given["reach"]) * (len(self.extents) - 1))
            return [term]
        return [Term(2)]

    def _axes(self, parts: Iterable[typed.Node]) -> list[list[Term]]:
        """What neighbourhoods on one axis each leave together: their keys, and the other axes."""
        axes = AXES[-len(self.extents) :] if self.extents else ()
        keys: dict[str, typed.Node] = {}
        for part in parts:
            if isinstance(part, typed.Call) and part.primitive.name == "neighborhood":
                on = [name for name in axes if name in part.arguments]
                if len(on) == 1:
                    keys[on[0]] = part.arguments[on[0]]
        if not keys:
            return []
        factors = [
            self._factors(keys[name]) if name in keys else _symbols(extent)
            for name, extent in zip(axes, self.extents, strict=True)
        ]
        return [[Term(1, tuple(chain.from_iterable(factors)))]]

    def _count(self, tokens: typed.Node) -> Term:
        """How many tokens a set has."""
        match tokens:
            case typed.Position():
                return Term(0)
            case typed.Ends(count=count):
                return Term(0, self._factors(count))
            case typed.Progression(stop=None, step=step):
                return Term(1, (), self._factors(step))
            case typed.Given(name=name):
                if name not in self.names:
                    return Term(0, (f"count({name})",))
                argument, caller = self.names[name]
                return caller._count(argument)
        parts = list(_all(tokens))
        if any(isinstance(one, (typed.Given, typed.TokenInput, typed.Variable)) for one in parts):
            return Term(0, (f"count({_plain(tokens)})",))
        endless = (one.stop is None for one in parts if isinstance(one, typed.Progression))
        return Term(int(any(endless)))

    def _factors(self, node: typed.Node) -> tuple[str, ...]:
        return _symbols(self._text(node))

    def _text(self, node: typed.Node) -> str:
        """An argument as it is written, or as the caller has written it."""
        if isinstance(node, typed.Given) and node.name in self.names:
            argument, caller = self.names[node.name]
            return caller._text(argument)
        if not any(
            isinstance(one, (typed.Given, typed.Variable, typed.Count)) for one in _all(node)
        ):
            return "1"
        return _plain(node)


_COUNTED = {
    "window": ("each_side", "left", "right", "last", "width"),
    "neighborhood": ("keys", "frames", "rows", "columns"),
    "random": ("links",),
    "expander": ("degree",),
    "chunks": ("size",),
    "near": ("reach", "frames", "rows", "columns"),
    "tile": ("frames", "rows", "columns"),
}
"""The arguments that multiply the length, for each primitive that has such."""


def _cheaper(found: list[list[Term]]) -> list[Term]:
    """Of several upper bounds the one of the lowest power of `n`."""
    return min(found, key=lambda terms: max((term.power for term in terms), default=0))


def _raised(symbol: str, power: int) -> str:
    return symbol if power == 1 else f"{symbol}**{power}"


def _symbols(text: str) -> tuple[str, ...]:
    """A text as a factor; none if it is a number."""
    if text.replace("_", "").isdigit():
        return ()
    return (text if text.isidentifier() or text.endswith(")") else f"({text})",)


def _plain(node: typed.Node) -> str:
    return " ".join(node.place.text.split())


def _all(node: typed.Node) -> Iterator[typed.Node]:
    yield node
    for child in node.children:
        yield from _all(child)

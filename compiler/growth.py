"""Growing sequences: what a pattern says of the first tokens when more of them follow."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler import typed
from attnloom.compiler.bound import Bound
from attnloom.compiler.counting import count
from attnloom.compiler.primitives.base import Primitive
from attnloom.compiler.primitives.tokens import Global
from attnloom.compiler.regions import Band, Bands, both
from attnloom.compiler.relation import Leaf, Relation, Union

_LOCAL = {
    "full", "none", "self", "causal", "window", "global", "broadcast", "collect", "stride",
    "chunks", "offsets", "same", "links", "where",
}  # fmt: skip
"""Primitives that say of a pair the same at any length, if their arguments do."""


@lru_cache(maxsize=256)
def keeps_growing(pattern: typed.Pattern) -> bool:
    """Whether more tokens at the end change nothing among those that were there, for certain.

    Then the mask of `n` tokens is the corner of the mask of any more, which is what decoding token
    by token and padding at the end rely on. It is told from the text alone, so a pattern that does
    keep may be taken for one that does not. It must not ask for `n`, count tokens or count from the
    end, go around, fill a grid, or draw from keys that are yet to come. Inputs are taken to say the
    same of the first tokens.
    """
    return all(map(_keeps, _values(pattern, ()))) and _keeps_body(pattern.body, draws=False)


def keeps_rows(pattern: typed.Pattern) -> bool:
    """Whether no query reads other keys when more tokens follow, for certain.

    >>> import attnloom
    >>> [keeps_rows(attnloom.load(name)._typed) for name in ("streaming_llm", "local")]
    [True, False]
    """
    return keeps_growing(pattern) and any(map(_is_causal, pattern.body.onlys))


def reads_ahead(bound: Bound) -> bool:
    """Whether some query reads a later key.

    >>> import attnloom
    >>> [reads_ahead(attnloom.load(name).bind(10**6)) for name in ("mistral", "longformer")]
    [False, True]
    """
    start, stop = -bound.memory, bound.tokens
    later = Band(i1=start, i2=stop - 1, j1=start, j2=stop - 1, d1=start - stop, d2=-1)
    return count(both(bound.region, Bands.of(later)), start, stop) > 0


def global_tokens(bound: Bound) -> NDArray[np.int64]:
    """The tokens of the `global(...)` statements, ascending.

    >>> import attnloom
    >>> global_tokens(attnloom.load("longformer", cls=[0, 5]).bind(16)).tolist()
    [0, 5]
    """
    tokens = np.arange(bound.tokens, dtype=np.int64)
    found = np.zeros(bound.tokens, dtype=np.bool_)
    for statement in bound.statements:
        if statement.kind == "add" and statement.relation is not None:
            for primitive in _joined(statement.relation):
                if isinstance(primitive, Global):
                    found |= primitive.tokens.contains(tokens)
    return tokens[found]


def _joined(relation: Relation) -> Iterator[Primitive]:
    """The primitives whose union a relation is, as far as it is one."""
    if isinstance(relation, Leaf):
        yield relation.primitive
    elif isinstance(relation, Union):
        for part in relation.parts:
            yield from _joined(part)


def _values(pattern: typed.Pattern, given: Collection[str]) -> Iterator[typed.Node]:
    """The defaults of the parameters that are not given."""
    for parameter in pattern.parameters:
        if parameter.name not in given and parameter.default is not None:
            yield parameter.default


def _keeps_body(body: typed.Body, *, draws: bool) -> bool:
    """`draws` says that an `only` around keeps what is drawn to the keys before the query."""
    draws = draws or any(map(_is_causal, body.onlys))
    contracts = set(map(id, body.contracts))
    return all(_keeps(part, draws=draws) for part in body.children if id(part) not in contracts)


def _is_causal(only: typed.Node) -> bool:
    return isinstance(only, typed.Call) and only.primitive.name == "causal"


def _keeps(node: typed.Node, *, draws: bool = False) -> bool:
    match node:
        case typed.Body():
            return _keeps_body(node, draws=draws)
        case typed.Variable(name="n") | typed.Count() | typed.Ends(end="last") | typed.InGrid():
            return False
        case typed.Position(from_end=True):
            return False
        case typed.PatternCall(pattern=pattern, arguments=arguments):
            given = (*arguments.values(), *_values(pattern, arguments.keys()))
            return all(map(_keeps, given)) and _keeps_body(pattern.body, draws=False)
        case typed.Call():
            name = node.primitive.name
            if not (name in _LOCAL or (name == "random" and draws)):
                return False
            if "wrap" in node.arguments:
                flag = node.arguments["wrap"]
                if not (isinstance(flag, typed.Constant) and not flag.value):
                    return False
    return all(_keeps(child, draws=draws) for child in node.children)

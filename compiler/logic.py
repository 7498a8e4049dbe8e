"""A pattern as a formula of its parts, to prove that two are the same set whatever the parts are.

Two patterns that are the same combination of the same primitives denote the same pairs at every
length, for every head and layer and for all run-time inputs: `~(A | B)` and `~A & ~B`, whatever `A`
and `B` are. Parts are compared by how they are written, with numbers worked out as far as they are
known; so not all that is equal is found to be.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from attnloom.compiler import typed
from attnloom.compiler.arithmetic import OPERATIONS, BadValue, apply
from attnloom.compiler.regions.base import Bools
from attnloom.compiler.runs import Ints

MOST_PARTS = 12
"""Different parts of two patterns up to which all their combinations are looked at."""

_ANY_ORDER = frozenset({"+", "*", "==", "!=", "and", "or", "min", "max", "^"})

Formula = tuple[Hashable, ...]
"""`("all",)`, `("part", name)`, `("not", a)`, `("and", a, ...)` or `("or", a, ...)`."""

ALL: Formula = ("all",)
NOTHING: Formula = ("not", ALL)


def same_by_logic(p: typed.Pattern, q: typed.Pattern) -> bool:
    """Whether two patterns are the same combination of the same parts.

    >>> import attnloom
    >>> p, q = (attnloom.parse(f"pattern p {{ random(links=2); {rest} }}")._typed
    ...         for rest in ("never stride(3) | chunks(4)", "never stride(3); never chunks(4)"))
    >>> same_by_logic(p, q)
    True
    """
    first, second = (_Reader.of(one).pattern(one) for one in (p, q))
    if first is None or second is None or first[1] != second[1]:
        return False
    parts = sorted({*_parts(first[0]), *_parts(second[0])}, key=repr)
    if len(parts) > MOST_PARTS:
        return first[0] == second[0]
    # Column `k` of all combinations: whether part `k` holds the pair.
    cases = np.arange(1 << len(parts))
    holds = {part: (cases >> number) % 2 == 1 for number, part in enumerate(parts)}
    return bool((_value(first[0], holds, cases) == _value(second[0], holds, cases)).all())


def _parts(formula: Formula) -> Iterator[Hashable]:
    if formula[0] == "part":
        yield formula[1]
    elif formula[0] != "all":
        for one in formula[1:]:
            assert isinstance(one, tuple)
            yield from _parts(one)


def _value(formula: Formula, holds: Mapping[Hashable, Bools], cases: Ints) -> Bools:
    match formula:
        case ("all",):
            return np.ones(len(cases), dtype=np.bool_)
        case ("part", name):
            return holds[name]
        case ("not", tuple(part)):
            return ~_value(part, holds, cases)
        case (operator, *parts):
            join = np.logical_and if operator == "and" else np.logical_or
            start = np.full(len(cases), operator == "and", dtype=np.bool_)
            for one in parts:
                assert isinstance(one, tuple)
                start = join(start, _value(one, holds, cases))
            return start
    raise AssertionError(formula)


def _not(part: Formula) -> Formula:
    return ("not", part)


@dataclass(frozen=True, eq=False)
class _Reader:
    """Reads typed expressions where names have the values that `names` gives."""

    names: Mapping[str, Hashable]
    around: tuple[Hashable, ...] = ()
    """The blocks and grids around, outermost first."""

    drawn_from: Hashable = ()
    """What the `only`s around say: random links are drawn from what they leave."""

    is_transposed: bool = False
    _known: dict[int, Formula] = field(default_factory=dict)

    @classmethod
    def of(cls, pattern: typed.Pattern) -> _Reader:
        """For the body of a pattern, its parameters having their defaults."""
        names: dict[str, Hashable] = {}
        reader = cls(names)
        for one in pattern.parameters:
            assert one.default is not None
            names[one.name] = reader.term(one.default)
        return reader

    def pattern(self, pattern: typed.Pattern) -> tuple[Formula, Hashable] | None:
        """The formula of a pattern, and its memory with all that memory depends on."""
        body = self.body(pattern.body)
        memory = [
            (guard, tuple(map(self.term, one.children)))
            for guard, inner in self._bodies(pattern.body, ())
            for one in inner.memory
        ]
        if not memory:
            return body, ()
        return body, (tuple(memory), self._onlys(pattern.body))

    # --- relations ---

    def body(self, body: typed.Body) -> Formula:
        """The formula of a body, branches guarded by their conditions."""
        reader = replace(self, drawn_from=(self.drawn_from, self._onlys(body)), _known={})
        adds: list[Formula] = []
        kept: list[Formula] = []
        for guard, inner in self._bodies(body, ()):
            absent = _not(("and", *guard))
            adds += [("and", *guard, reader.relation(one)) for one in inner.adds]
            kept += [("or", absent, reader.relation(one)) for one in inner.onlys]
            kept += [_not(("and", *guard, reader.relation(one))) for one in inner.nevers]
        return ("and", ("or", *adds), *kept)

    def _onlys(self, body: typed.Body) -> Hashable:
        return tuple(
            (guard, self.relation(one))
            for guard, inner in self._bodies(body, ())
            for one in inner.onlys
        )

    def _bodies(
        self, body: typed.Body, guard: tuple[Formula, ...]
    ) -> Iterator[tuple[tuple[Formula, ...], typed.Body]]:
        """A body and its branches, each with the conditions under which it holds."""
        yield guard, body
        for choice in body.choices:
            holds: Formula = ("part", ("when", self._place, self.term(choice.condition)))
            yield from self._bodies(choice.then, (*guard, holds))
            if choice.otherwise is not None:
                yield from self._bodies(choice.otherwise, (*guard, _not(holds)))

    @property
    def _place(self) -> Hashable:
        """Where numbers such as `n` are read: the blocks around."""
        return self.around

    def relation(self, node: typed.Node) -> Formula:
        if id(node) not in self._known:
            self._known[id(node)] = self._relation(node)
        return self._known[id(node)]

    def _relation(self, node: typed.Node) -> Formula:
        match node:
            case typed.Combined(operator=operator, parts=parts):
                found = [self.relation(part) for part in parts]
                if operator == "-":
                    return ("and", found[0], _not(found[1]))
                return ("or" if operator == "|" else "and", *found)
            case typed.Inverted(part=part):
                return _not(self.relation(part))
            case typed.Transposed(part=part):
                turned = replace(self, is_transposed=not self.is_transposed, _known={})
                return turned.relation(part)
            case typed.InBlocks(block_size=size, body=body):
                around = (*self.around, ("blocks", self.term(size)))
                return replace(self, around=around, _known={}).body(body)
            case typed.InGrid(shape=shape, body=body):
                around = (*self.around, ("grid", *map(self.term, shape)))
                return replace(self, around=around, _known={}).body(body)
            case typed.PatternCall(pattern=pattern, arguments=arguments):
                names: dict[str, Hashable] = {}
                inner = replace(self, names=names, drawn_from=(), _known={})
                for one in pattern.parameters:
                    given = arguments.get(one.name)
                    if given is not None:
                        names[one.name] = self.term(given)
                    else:
                        assert one.default is not None
                        names[one.name] = inner.term(one.default)
                return inner.body(pattern.body)
            case typed.Call():
                return self._call(node)
        raise AssertionError(node)

    def _call(self, node: typed.Call) -> Formula:
        name = node.primitive.name
        if name == "full":
            return ALL
        if name == "none":
            return NOTHING
        arguments = tuple((key, self.term(one)) for key, one in sorted(node.arguments.items()))
        # What reads the same both ways has one name.
        turned = self.is_transposed and name not in _SYMMETRIC
        drawn = self.drawn_from if node.primitive.is_drawn else ()
        return ("part", (name, arguments, self.around, turned, drawn))

    # --- numbers and token sets ---

    def term(self, node: typed.Node) -> Hashable:
        """A number, condition, token set or argument as a value that equals what is alike."""
        match node:
            case typed.Constant(value=value):
                return value
            case typed.Given(name=name):
                return self.names[name]
            case typed.Variable(name=name):
                return ("variable", name)
            case typed.Operation(name=name, operands=operands):
                return self._operation(name, [self.term(one) for one in operands])
            case typed.InputName(name=name) | typed.TokenInput(name=name):
                return ("input", name)
            case typed.Position(from_end=from_end):
                return ("position", from_end, *map(self.term, node.children))
            case typed.Progression(start=start, stop=stop, step=step):
                end = None if stop is None else self.term(stop)
                return ("range", self.term(start), end, self.term(step))
            case typed.Ends(end=end, count=count):
                return (end, self.term(count))
            case typed.Combined(operator=operator, parts=parts) if not _is_relation(node):
                found = [self.term(one) for one in parts]
                return (operator, *(sorted(found, key=repr) if operator != "-" else found))
            case typed.Count() | typed.NumberList():
                return (type(node).__name__, *map(self.term, node.children))
        return self.relation(node)

    def _operation(self, name: str, operands: list[Hashable]) -> Hashable:
        if all(isinstance(one, int) for one in operands) and name in OPERATIONS:
            try:
                return apply(name, operands)  # type: ignore[arg-type]
            except BadValue:
                pass  # it has no value, and says so where it is bound
        if name in _ANY_ORDER:
            operands = sorted(operands, key=repr)
        return (name, *operands)


_SYMMETRIC = frozenset(
    {"self", "global", "stride", "chunks", "offsets", "same", "row", "column", "near", "tile",
     "expander"}
)  # fmt: skip


def _is_relation(node: typed.Combined) -> bool:
    """Whether a combination joins relations, not token sets."""
    relations = (typed.Call, typed.Inverted, typed.Transposed, typed.InBlocks, typed.InGrid,
                 typed.PatternCall)  # fmt: skip
    first: typed.Node = node
    while isinstance(first, typed.Combined) and first.parts:
        first = first.parts[0]
    return isinstance(first, relations)

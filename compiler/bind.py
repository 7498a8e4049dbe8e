"""From a typed pattern to the relation that it denotes at a length, for one head and layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from attnloom.compiler import typed
from attnloom.compiler.bound import Bound, Statement
from attnloom.compiler.evaluate import Environment, Unread, Value, too_large, too_small
from attnloom.compiler.limits import MAX_LENGTH, MAX_PIECES, TooLarge
from attnloom.compiler.primitives.base import BadArgument, Context, Kind
from attnloom.compiler.problems import Problem, Problems, diagnostic
from attnloom.compiler.regions import Region
from attnloom.compiler.relation import (
    Complement,
    Difference,
    Intersection,
    Leaf,
    OfBlocks,
    Relation,
    Transposed,
    Union,
    WithMemory,
)
from attnloom.compiler.runs import Ints, Runs, intersection
from attnloom.compiler.zones import TooComplex

Prefix = Callable[[], Ints]
"""How many of the first keys each query may read, `(length,)`."""


def parameters(
    pattern: typed.Pattern, given: Mapping[str, Value | typed.Node], environment: Environment
) -> dict[str, Value]:
    """The values of all parameters: those given, and the defaults of the others.

    Raises:
        Problem: a default has no value.
    """
    found: dict[str, Value] = {}
    here = replace(environment, parameters=found, _known={})
    for parameter in pattern.parameters:
        value = given.get(parameter.name)
        if isinstance(value, typed.Node):
            found[parameter.name] = _value(environment, parameter.type, value)
        elif value is not None:
            found[parameter.name] = value
        else:
            assert parameter.default is not None
            found[parameter.name] = _value(here, parameter.type, parameter.default)
    return found


def _value(environment: Environment, kind: typed.Type, node: typed.Node) -> Value:
    if kind is typed.Type.TOKENS:
        return Unread(node, environment)
    return environment.number(node)  # type: ignore[arg-type]


def bind(
    pattern: typed.Pattern,
    variables: Mapping[str, int],
    given: Mapping[str, Value],
    inputs: Mapping[str, Any],
) -> Bound:
    """The relation of a pattern.

    Args:
        pattern: what to bind.
        variables: `n`, `head`, `heads`, `layer` and `layers`.
        given: values of parameters; the others have their defaults.
        inputs: the value of every input, as `attnloom.compiler.inputs` reads them.

    Raises:
        PatternError: some value makes no sense here; all that is found is reported.
    """
    problems = Problems()
    environment = Environment(variables, {}, inputs)
    found = None
    try:
        values = parameters(pattern, given, environment)
        binder = _Binder(replace(environment, parameters=values, _known={}), problems)
        found = binder.pattern(pattern)
    except Problem as problem:
        problems.add(problem.diagnostic)
    problems.throw()
    assert found is not None
    return found


@dataclass(frozen=True, eq=False)
class _Binder:
    """Evaluates relations in one environment, each node once."""

    environment: Environment
    problems: Problems
    prefix: Prefix | None = None
    """What `only`s around say, if they keep the first keys."""

    shape: tuple[int, ...] | None = None
    _known: dict[int, Relation] = field(default_factory=dict)

    @property
    def length(self) -> int:
        return self.environment.length

    # --- bodies ---

    def pattern(self, pattern: typed.Pattern) -> Bound:
        chosen = list(self._chosen(pattern.body))
        memories = [one for body in chosen for one in body.memory]
        tokens, statements, is_causal = self._joined(chosen)
        memory, reads, is_read = self._memory(memories)
        relation: Relation = tokens
        if memory:
            relation = WithMemory(self.length, tokens, memory, reads, is_read, is_causal)
            text = " ".join(memories[0].place.text.split())
            statements = [Statement("memory", text, None), *statements]
        return Bound(pattern.name, self.length, memory, relation, tuple(statements))

    def _chosen(self, body: typed.Body) -> Iterator[typed.Body]:
        """The body and those of its branches that hold here."""
        yield body
        for choice in body.choices:
            try:
                holds = self.environment.number(choice.condition)
            except Problem as problem:
                self.problems.add(problem.diagnostic)
                continue
            branch = choice.then if holds else choice.otherwise
            if branch is not None:
                yield from self._chosen(branch)

    def _joined(self, bodies: list[typed.Body]) -> tuple[Relation, list[Statement], bool]:
        """The relation of a body; its statements; and whether it keeps the first keys only."""
        onlys = self._relations([node for body in bodies for node in body.onlys])
        prefixes = [relation for _, relation in onlys if relation.is_prefix]
        inner = self
        if prefixes:
            inner = replace(self, prefix=self._narrowed(prefixes), _known={})
            # What the other `only`s draw, they draw from the same keys.
            onlys = [
                (node, relation if relation.is_prefix else inner.relation(node))
                for node, relation in onlys
            ]
        adds = inner._relations([node for body in bodies for node in body.adds])
        nevers = inner._relations([node for body in bodies for node in body.nevers])
        found: Relation = Union(self.length, tuple(relation for _, relation in adds))
        if len(adds) == 1:
            found = adds[0][1]
        if onlys:
            found = Intersection(self.length, (found, *(relation for _, relation in onlys)))
        if nevers:
            taken = Union(self.length, tuple(relation for _, relation in nevers))
            found = Difference(self.length, found, taken)
        statements = [
            Statement(kind, " ".join(node.place.text.split()), relation)
            for kind, part in (("only", onlys), ("add", adds), ("never", nevers))
            for node, relation in part
        ]
        return found, statements, bool(prefixes)

    def _narrowed(self, prefixes: list[Relation]) -> Prefix:
        outer, rows = self.prefix, self.length

        def lengths() -> Ints:
            every = np.arange(rows, dtype=np.int64)
            found = [relation.region.runs(every).lengths() for relation in prefixes]
            if outer is not None:
                found.append(outer())
            return reduce(np.minimum, found)

        return lengths

    def _relations(self, nodes: list[typed.Relation]) -> list[tuple[typed.Relation, Relation]]:
        """The relations that have a value; the problems of the others are noted."""
        found = []
        for node in nodes:
            try:
                found.append((node, self.relation(node)))
            except Problem as problem:
                self.problems.add(problem.diagnostic)
        return found

    def _memory(self, memories: list[typed.Memory]) -> tuple[int, bool, bool]:
        """How many memory tokens there are, whether they read, and whether they are read."""
        if not memories:
            return 0, True, True
        first, *others = memories
        for other in others:
            self.problems.add(
                diagnostic(
                    "memory-varies",
                    other.place,
                    "two `memory` statements hold at once",
                    "the second",
                    hints=["`else { ... }` around one of them"],
                    notes=[first.place.note("the first")],
                    expected=["one `memory` statement"],
                )
            )
        slots = self.environment.number(first.slots)
        if slots < 0:
            message = f"`memory` takes a number of tokens of at least 0, got {slots}"
            raise too_small(first.slots, slots, 0, message)
        if slots + self.length > MAX_LENGTH:
            raise too_large(first, TooLarge(f"more than {MAX_LENGTH:,} tokens"))
        reads, is_read = (self.environment.number(one) for one in (first.reads, first.is_read))
        return slots, bool(reads), bool(is_read)

    # --- relations ---

    def relation(self, node: typed.Node) -> Relation:
        """The value of a relation.

        Raises:
            Problem: it has none here.
        """
        if id(node) not in self._known:
            try:
                self._known[id(node)] = self._relation(node)
            except (TooLarge, TooComplex) as error:
                raise too_large(node, TooLarge(str(error))) from None
        return self._known[id(node)]

    def _relation(self, node: typed.Node) -> Relation:
        match node:
            case typed.Call():
                return self._call(node)
            case typed.Combined(operator=operator, parts=parts):
                relations = tuple(self.relation(part) for part in parts)
                if operator == "-":
                    return Difference(self.length, *relations)
                kind = Union if operator == "|" else Intersection
                return kind(self.length, relations)
            case typed.Inverted(part=part):
                return Complement(self.length, self.relation(part))
            case typed.Transposed(part=part):
                return Transposed(self.length, self.relation(part))
            case typed.InBlocks():
                return self._in_blocks(node)
            case typed.InGrid(shape=shape, body=body):
                extents = tuple(self.environment.number(one) for one in shape)
                for extent, written in zip(extents, shape, strict=True):
                    if extent < 1:
                        message = f"a grid has at least 1 cell on every axis, got {extent}"
                        raise too_small(written, extent, 1, message)
                return self._body(replace(self, shape=extents, _known={}), body)
            case typed.PatternCall(pattern=pattern, arguments=arguments):
                values = parameters(pattern, arguments, self.environment)
                environment = replace(self.environment, parameters=values, _known={})
                closed = _Binder(environment, self.problems)
                return self._body(closed, pattern.body)
        raise AssertionError(node)

    def _body(self, binder: _Binder, body: typed.Body) -> Relation:
        found, _, _ = binder._joined(list(binder._chosen(body)))
        return found

    def _in_blocks(self, node: typed.InBlocks) -> Relation:
        size = self.environment.number(node.block_size)
        if size < 1:
            message = f"a block has at least 1 token, got {size}"
            raise too_small(node.block_size, size, 1, message)
        count = -(-self.length // size)
        variables = {**self.environment.variables, "n": count}
        environment = replace(self.environment, variables=variables, in_blocks=True, _known={})
        prefix = self._prefix_of_blocks(size) if self.prefix is not None else None
        inner = _Binder(environment, self.problems, prefix)
        return OfBlocks(self.length, self._body(inner, node.body), size)

    def _prefix_of_blocks(self, size: int) -> Prefix:
        """A block may read the blocks of which one of its tokens may read a token."""
        outer, length = self.prefix, self.length
        assert outer is not None

        def lengths() -> Ints:
            longest = np.maximum.reduceat(outer(), np.arange(0, length, size))
            return -(-longest // size)

        return lengths

    def _call(self, node: typed.Call) -> Relation:
        values = {
            name: self._argument(node, name, argument) for name, argument in node.arguments.items()
        }
        variables = self.environment.variables
        context = Context(
            self.length, variables["head"], variables["layer"], self._candidates, self.shape
        )
        try:
            return Leaf(self.length, node.primitive.of(values, context))
        except BadArgument as error:
            argument = node.arguments.get(error.name)
            value = values.get(error.name)
            if argument is not None and error.least is not None and value is not None:
                raise too_small(argument, int(value), error.least, error.message) from None
            place = node.place if argument is None else argument.place
            is_number = isinstance(value, int)
            raise Problem(
                diagnostic(
                    "bad-value",
                    place,
                    error.message,
                    f"this is {value}" if is_number else "",
                    hints=error.hints,
                    found=str(value) if is_number else None,
                    expected=[error.expected],
                )
            ) from None

    def _argument(self, call: typed.Call, name: str, node: typed.Node) -> Any:
        kind = call.primitive.arguments()[name].kind
        environment = self.environment
        match kind:
            case Kind.NUMBER:
                return environment.number(node)  # type: ignore[arg-type]
            case Kind.FLAG:
                return bool(environment.number(node))  # type: ignore[arg-type]
            case Kind.TOKENS:
                return environment.tokens(node)
            case Kind.NUMBERS:
                assert isinstance(node, typed.NumberList)
                return environment.numbers(node, MAX_PIECES)
            case Kind.RELATION:
                return self.relation(node).region
            case Kind.CONDITION:
                return environment.condition(node)  # type: ignore[arg-type]
            case _:
                assert isinstance(node, typed.InputName)
                return environment.inputs[node.name]

    def _candidates(self, outside: Region | None) -> Runs | None:
        """The keys that random links may choose from, for all queries; `None` for all keys."""
        if self.prefix is None and outside is None:
            return None
        rows = np.arange(self.length, dtype=np.int64)
        found = []
        if self.prefix is not None:
            found.append(Runs.one_each(np.zeros_like(rows), self.prefix()))
        if outside is not None:
            found.append(outside.runs(rows).complement(0, self.length))
        return intersection(found)

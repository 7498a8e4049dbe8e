"""From the syntax tree of a file to typed patterns; every mistake in it is reported at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

from attnloom.compiler import typed
from attnloom.compiler.limits import MAX_DEPTH, MAX_NODES
from attnloom.compiler.problems import Place, Problem, Problems, diagnostic, too_deep
from attnloom.compiler.scope import Scope
from attnloom.compiler.terms import Terms
from attnloom.compiler.typed import Type
from attnloom.compiler.vocabulary import (
    INPUT_TYPES,
    METRICS,
    PARAMETER_TYPES,
    PROPERTIES,
    reserved,
)
from attnloom.grammar import syntax
from attnloom.grammar.diagnostics import did_you_mean
from attnloom.grammar.formatter import format_statement
from attnloom.grammar.source import Span

Use = Callable[[syntax.Use, syntax.File], Mapping[str, typed.Pattern]]
"""Gives the patterns of a used file; raises a `Problem` where the `use` itself is wrong."""


def elaborate(file: syntax.File, use: Use) -> typed.Program:
    """The typed patterns of a file.

    Raises:
        PatternError: names, types, or arguments are wrong; all that is found is reported.
    """
    problems = Problems()
    found = _File(file, use, problems).program()
    problems.throw()
    assert found is not None
    return found


class _File:
    """Elaborates one file."""

    def __init__(self, file: syntax.File, use: Use, problems: Problems) -> None:
        self._file = file
        self._problems = problems
        self._patterns = self._own_patterns()
        self._used, is_complete = self._used_patterns(use)
        self._found: dict[str, typed.Pattern | None] = {}
        self._open: list[str] = []
        self._terms = Terms(
            file.source, problems, self._pattern, lambda: {*self._patterns, *self._used}, self._body
        )  # fmt: skip
        self._terms.may_lack_names = not is_complete
        self._called: list[dict[str, typed.Input]] = []

    def program(self) -> typed.Program | None:
        try:
            for name in self._patterns:
                self._own_pattern(name)
        except Problem as problem:  # too deep to go on
            self._problems.add(problem.diagnostic)
        if self._problems:
            return None
        found = {name: pattern for name, pattern in self._found.items() if pattern is not None}
        patterns = {name: found[name] for name in self._patterns}
        main = patterns.get("main", list(patterns.values())[-1])
        return typed.Program(patterns, main)

    def _place(self, node: syntax.Node) -> Place:
        return Place(self._file.source, node.span)

    def _name_place(self, node: syntax.Pattern | syntax.Parameter | syntax.Let) -> Place:
        return Place(self._file.source, node.name_span)

    # --- which patterns there are ---

    def _own_patterns(self) -> dict[str, syntax.Pattern]:
        found: dict[str, syntax.Pattern] = {}
        for pattern in self._file.patterns:
            if pattern.name in found:
                first = self._name_place(found[pattern.name])
                self._duplicate("pattern", pattern.name, self._name_place(pattern), first)
            elif not self._is_taken(pattern.name, self._name_place(pattern)):
                found[pattern.name] = pattern
        return found or {self._file.patterns[-1].name: self._file.patterns[-1]}

    def _used_patterns(self, use: Use) -> tuple[dict[str, typed.Pattern], bool]:
        """The patterns of used files by name, and whether every file was there."""
        is_complete = True
        found: dict[str, typed.Pattern] = {}
        first: dict[str, Place] = {}
        for one in self._file.uses:
            try:
                patterns = use(one, self._file)
            except Problem as problem:
                self._problems.add(problem.diagnostic)
                is_complete = False
                continue
            for name, pattern in patterns.items():
                place = self._place(one)
                if name in self._patterns:
                    own = self._name_place(self._patterns[name])
                    self._duplicate("pattern", name, place, own)
                elif name in found and found[name] is not pattern:
                    self._duplicate("pattern", name, place, first[name])
                else:
                    found[name], first[name] = pattern, place
        return found, is_complete

    def _duplicate(self, what: str, name: str, place: Place, first: Place) -> None:
        self._problems.add(
            diagnostic(
                "duplicate-name",
                place,
                f"there are two {what}s called `{name}`",
                "defined again",
                hints=[f"another name, such as `{name}2`"],
                notes=[first.note("first defined here")],
                found=name,
                expected=["a new name"],
            )
        )

    def _is_taken(self, name: str, place: Place) -> bool:
        meaning = reserved(name)
        if meaning is None:
            return False
        self._problems.add(
            diagnostic(
                "name-taken",
                place,
                f"`{name}` is {meaning} and cannot be another name",
                "taken",
                hints=[f"another name, such as `my_{name}`"],
                found=name,
                expected=["a name that is not taken"],
            )
        )
        return True

    def _pattern(self, name: str, place: Place) -> typed.Pattern | None:
        """A pattern that is called; `None` when it is wrong, which has been reported."""
        if name not in self._patterns:
            found: typed.Pattern | None = self._used[name]
        else:
            if name in self._open:
                circle = " -> ".join([*self._open[self._open.index(name) :], name])
                message = f"the pattern `{name}` calls itself"
                hints = ["a pattern of its own for what both need, called by each: `base`"]
                raise Problem(
                    diagnostic(
                        "pattern-cycle", place, message, circle,
                        hints=hints, found=name, expected=["a pattern that does not call this one"],
                    )
                )  # fmt: skip
            found = self._own_pattern(name)
        if found is None:
            return None
        memory = next(_memories(found.body), None)
        if memory is not None:
            message = f"`{name}` has memory tokens, so it cannot be called"
            raise Problem(
                diagnostic(
                    "memory-in-call",
                    place,
                    message,
                    "has memory",
                    hints=["`memory(...)` in the pattern that calls"],
                    notes=[memory.place.note("its memory")],
                    found=name,
                    expected=["a pattern without memory"],
                )
            )
        for one in found.inputs:
            self._take_over(one, place)
        return found

    def _take_over(self, one: typed.Input, place: Place) -> None:
        """An input of a called pattern is an input of the calling one."""
        own = self._called[-1].setdefault(one.name, one)
        if own.type is not one.type:
            message = f"the input `{one.name}` is {own.type.value} here, and {one.type.value} there"
            raise Problem(
                diagnostic(
                    "duplicate-name",
                    place,
                    message,
                    "calls a pattern with another input of this name",
                    hints=[f"another name, such as `my_{one.name}`"],
                    notes=[own.place.note("here"), one.place.note("there")],
                    found=one.name,
                    expected=[f"inputs called `{one.name}` of one kind"],
                )
            )

    # --- one pattern ---

    def _own_pattern(self, name: str) -> typed.Pattern | None:
        if name in self._found:
            return self._found[name]
        self._open.append(name)
        try:
            self._found[name] = self._elaborated(self._patterns[name])
        finally:
            self._open.pop()
        return self._found[name]

    def _elaborated(self, pattern: syntax.Pattern) -> typed.Pattern:
        place = self._name_place(pattern)
        inputs: dict[str, typed.Input] = {}
        parameters: dict[str, typed.Parameter] = {}
        taken: dict[str, Place] = {}
        for parameter in pattern.parameters:
            if self._is_new(parameter, taken):
                parameters[parameter.name] = self._parameter(parameter, parameters)
        for statement in pattern.body:
            if isinstance(statement, syntax.Input) and self._is_new(statement, taken):
                found = self._input(statement)
                if found is not None:
                    inputs[statement.name] = found
        self._called.append(inputs)
        scope = Scope(parameters, inputs)
        body = self._body(pattern.body, place, scope, outermost=True, taken=taken)
        self._called.pop()
        if body.size > MAX_NODES:
            raise Problem(
                diagnostic(
                    "too-much-work",
                    place,
                    f"the pattern has {body.size:,} expressions, counted once for each use of a "
                    f"`let` or called pattern; at most {MAX_NODES:,} are allowed",
                    "too large",
                    hints=["fewer uses of each `let`"],
                    found=f"{body.size:,}",
                    expected=[f"at most {MAX_NODES:,}"],
                )
            )
        if body.depth > MAX_DEPTH:
            raise Problem(too_deep(place))
        return typed.Pattern(
            place, pattern.name, tuple(parameters.values()), tuple(inputs.values()), body,
            self._doc(pattern),
        )  # fmt: skip

    def _is_new(
        self, node: syntax.Parameter | syntax.Input | syntax.Let, taken: dict[str, Place]
    ) -> bool:
        """Whether a name is free, and from now on it is not."""
        place = Place(self._file.source, node.name_span)
        if self._is_taken(node.name, place):
            return False
        if node.name in taken:
            self._duplicate("name", node.name, place, taken[node.name])
            return False
        taken[node.name] = place
        return True

    def _parameter(
        self, parameter: syntax.Parameter, before: Mapping[str, typed.Parameter]
    ) -> typed.Parameter:
        place = self._name_place(parameter)
        scope = Scope(dict(before), {})
        found = self._parameter_type(parameter, scope)
        kind = found or Type.NUMBER
        low = high = None
        if parameter.low is not None and parameter.high is not None:
            low = self._terms.number(parameter.low, scope)
            high = self._terms.number(parameter.high, scope)
            if kind is not Type.NUMBER:
                self._problems.add(
                    diagnostic(
                        "wrong-type",
                        place,
                        f"only numbers have a range, and `{parameter.name}` is {kind.value}",
                        f"this is {kind.value}",
                        hints=[f"`{parameter.name}: int in 0..8`"],
                        found=kind.value,
                        expected=[Type.NUMBER.value],
                    )
                )
        default = None
        if parameter.default is not None and found is not None:
            default = self._terms.wanted(parameter.default, scope, kind)
        return typed.Parameter(place, parameter.name, kind, low, high, default)

    def _parameter_type(self, parameter: syntax.Parameter, scope: Scope) -> Type | None:
        """The type that is written, or that of the default; `None` when it is wrong."""
        if parameter.kind is not None:
            if parameter.kind in PARAMETER_TYPES:
                return PARAMETER_TYPES[parameter.kind]
            assert parameter.kind_span is not None
            self._unknown_kind("parameter", parameter.kind, parameter.kind_span, PARAMETER_TYPES)
            return None
        if parameter.default is None:
            self._problems.add(
                diagnostic(
                    "bad-argument",
                    self._name_place(parameter),
                    f"`{parameter.name}` has neither a type nor a default",
                    "what is it?",
                    hints=[f"`{parameter.name}: int`", f"`{parameter.name} = 1`"],
                    expected=sorted(PARAMETER_TYPES),
                )
            )
            return None
        found = self._terms.term(parameter.default, scope).type
        if found in PARAMETER_TYPES.values():
            return cast(Type, found)
        if found is not None:
            self._terms.fail(
                "wrong-type",
                self._place(parameter.default),
                f"a parameter is a number, true or false, or a token set, not {found.value}",
                f"this is {found.value}",
                hints=[
                    f"`let {parameter.name} = {self._place(parameter.default).text}` in the body"
                ],
                found=found.value,
                expected=sorted(PARAMETER_TYPES),
            )
        return None

    def _unknown_kind(self, what: str, kind: str, span: Span, known: Mapping[str, Type]) -> None:
        names = {"integer": "int", "number": "int", "boolean": "bool", "flag": "bool"}
        hints = did_you_mean(kind, known) or tuple(f"`{name}`" for name in known)
        if kind in names and names[kind] in known:
            hints = (f"`{names[kind]}`",)
        listed = ", ".join(f"`{name}`" for name in known)
        self._problems.add(
            diagnostic(
                "unknown-kind",
                Place(self._file.source, span),
                f"no kind of {what} is called `{kind}`",
                f"one of {listed}",
                hints=hints,
                found=kind,
                expected=known,
            )
        )

    def _input(self, one: syntax.Input) -> typed.Input | None:
        if one.kind not in INPUT_TYPES:
            self._unknown_kind("input", one.kind, one.kind_span, INPUT_TYPES)
            return None
        return typed.Input(self._place(one), one.name, INPUT_TYPES[one.kind])

    def _doc(self, pattern: syntax.Pattern) -> str:
        """The comment right above a pattern."""
        source = self._file.source
        line, _ = source.location(pattern.span.start)
        lines = {source.location(c.span.start)[0]: c for c in self._file.comments if c.alone}
        found: list[str] = []
        while line - 1 in lines:
            line -= 1
            found.append(lines[line].text.removeprefix("#").removeprefix(" "))
        return "\n".join(reversed(found)).strip()

    # --- bodies ---

    def _body(
        self,
        statements: Sequence[syntax.Statement],
        place: Place,
        scope: Scope,
        *,
        outermost: bool = False,
        inside_when: bool = False,
        taken: dict[str, Place] | None = None,
    ) -> typed.Body:
        lets: dict[str, syntax.Let] = {}
        taken = dict(taken or {})
        for names in scope.names:
            taken |= {name: self._name_place(let) for name, let in names.lets.items()}
        for name, parameter in scope.parameters.items():
            taken.setdefault(name, parameter.place)
        for name, one in scope.inputs.items():
            taken.setdefault(name, one.place)
        for statement in statements:
            if isinstance(statement, syntax.Let) and self._is_new(statement, taken):
                lets[statement.name] = statement
        inner = scope.within(lets)
        adds: list[typed.Relation] = []
        onlys: list[typed.Relation] = []
        nevers: list[typed.Relation] = []
        choices: list[typed.Choice] = []
        memory: list[typed.Memory] = []
        contracts: list[typed.Contract] = []
        lists = {syntax.Add: adds, syntax.Only: onlys, syntax.Never: nevers}
        for statement in statements:
            match statement:
                case syntax.Add() | syntax.Only() | syntax.Never():
                    relation = self._terms.relation(statement.value, inner)
                    if relation is not None:
                        lists[type(statement)].append(relation)
                case syntax.Let(name=name):
                    if name in lets:
                        self._terms.term(syntax.Name(statement.name_span, name), inner)
                case syntax.When():
                    choice = self._choice(statement, inner, outermost or inside_when)
                    if choice is not None:
                        choices.append(choice)
                case syntax.Memory():
                    if self._belongs(statement, "memory", outermost or inside_when):
                        found = self._memory(statement, inner)
                        if found is not None and memory:
                            first = memory[0].place
                            self._duplicate("statement", "memory", self._place(statement), first)
                        elif found is not None:
                            memory.append(found)
                case syntax.Input():
                    self._belongs(statement, "input", outermost)
                case syntax.Expect():
                    if self._belongs(statement, "expect", outermost or inside_when):
                        contract = self._contract(statement, inner)
                        if contract is not None:
                            contracts.append(contract)
        return typed.Body(
            place, tuple(adds), tuple(onlys), tuple(nevers), tuple(choices), tuple(memory),
            tuple(contracts),
        )  # fmt: skip

    def _belongs(self, statement: syntax.Statement, word: str, holds: bool) -> bool:
        """Report a statement that only the body of the pattern may have."""
        if not holds:
            self._problems.add(
                diagnostic(
                    "misplaced-statement",
                    self._place(statement),
                    f"`{word}` stands in the body of the pattern itself",
                    "not inside of `when`" if word == "input" else "not inside of this body",
                    hints=[f"`{word}` outside of these braces"],
                    found=word,
                    expected=["a relation, `only`, `never`, `let` or `when`"],
                )
            )
        return holds

    def _choice(
        self, when: syntax.When, scope: Scope, is_pattern_level: bool
    ) -> typed.Choice | None:
        place = self._place(when)
        condition = self._terms.condition(when.condition, scope)
        then = self._body(when.then, place, scope, inside_when=is_pattern_level)
        otherwise = None
        if when.otherwise is not None:
            otherwise = self._body(when.otherwise, place, scope, inside_when=is_pattern_level)
        if condition is None:
            return None
        found = typed.Choice(place, condition, then, otherwise)
        varying = _varying(condition, scope)
        memory = next((one for one in _memories_of_choice(found)), None)
        if varying is not None and memory is not None:
            self._memory_varies(memory, varying)
        return found

    def _memory_varies(
        self, memory: typed.Memory, varying: typed.Variable | typed.TokenInput
    ) -> None:
        of_input = isinstance(varying, typed.TokenInput)
        all_of_them = "all batch elements" if of_input else "all heads and layers"
        self._problems.add(
            diagnostic(
                "memory-varies",
                memory.place,
                f"the number of memory tokens must be the same for {all_of_them}",
                f"here it depends on `{varying.name}`",
                hints=["`when n > 4096 { ... }`, or a parameter, may change it"],
                notes=[varying.place.note("this is what it depends on")],
                found=varying.name,
                expected=[f"one number for {all_of_them}"],
            )
        )

    def _memory(self, statement: syntax.Memory, scope: Scope) -> typed.Memory | None:
        place = self._place(statement)
        yes = typed.Constant(place, 1)
        values: dict[str, typed.Number | None] = {"reads": yes, "read": yes}
        given: dict[str, Place] = {}
        for number, argument in enumerate(statement.arguments):
            name = argument.name or ("slots" if number == 0 else None)
            if name not in ("slots", "reads", "read") or name in given:
                names = ("slots", "reads", "read")
                self._terms.fail(
                    "bad-argument",
                    self._place(argument),
                    f"the argument `{name}` is given twice"
                    if name in given
                    else "`memory` has no such argument",
                    "not an argument of `memory`",
                    hints=did_you_mean(argument.name or "", names) or [_MEMORY_USAGE],
                    found=argument.name,
                    expected=names,
                )
                self._terms.term(argument.value, scope)
                continue
            given[name] = self._place(argument)
            kind = Type.NUMBER if name == "slots" else Type.CONDITION
            value = self._terms.wanted(argument.value, scope, kind)
            values[name] = cast("typed.Number | None", value)
        if "slots" not in given:
            self._terms.fail(
                "bad-argument",
                place,
                "`memory` needs the number of memory tokens",
                "how many?",
                hints=[_MEMORY_USAGE],
                expected=["slots"],
            )
            return None
        slots, reads, is_read = values["slots"], values["reads"], values["read"]
        if slots is None or reads is None or is_read is None:
            return None
        found = typed.Memory(place, slots, reads, is_read)
        varying = _varying(slots, scope)
        if varying is not None:
            self._memory_varies(found, varying)
        return found

    def _contract(self, statement: syntax.Expect, scope: Scope) -> typed.Contract | None:
        place = Place(self._file.source, statement.metric_span)
        name = statement.metric
        value = None
        if statement.value is not None:
            value = self._terms.number(statement.value, scope)
        if name not in METRICS and name not in PROPERTIES:
            known = [*METRICS, *PROPERTIES]
            self._terms.fail(
                "unknown-metric",
                place,
                f"nothing that is measured is called `{name}`",
                "not a metric or property",
                hints=did_you_mean(name, known) or ["one of " + ", ".join(sorted(known))],
                found=name,
                expected=known,
            )
            return None
        if name in METRICS and statement.operator is None:
            self._terms.fail(
                "bad-argument",
                place,
                f"`{name}` is a number, so a contract compares it",
                "compared with what?",
                hints=[f"`expect {name} <= 2`"],
                found=name,
                expected=["a comparison"],
            )
            return None
        if name in PROPERTIES and statement.operator is not None:
            self._terms.fail(
                "bad-argument",
                place,
                f"`{name}` holds or does not, so a contract just names it",
                "not a number",
                hints=[f"`expect {name}`"],
                found=statement.operator,
                expected=["a new line"],
            )
            return None
        if statement.operator is not None and value is None:
            return None
        text = format_statement(statement).removeprefix("expect ")
        return typed.Contract(self._place(statement), name, statement.operator, value, text)


_MEMORY_USAGE = "`memory(8)`, `memory(8, reads=false)`, or `memory(8, read=false)`"


def _memories(body: typed.Body) -> Iterator[typed.Memory]:
    yield from body.memory
    for choice in body.choices:
        yield from _memories_of_choice(choice)


def _memories_of_choice(choice: typed.Choice) -> Iterator[typed.Memory]:
    yield from _memories(choice.then)
    if choice.otherwise is not None:
        yield from _memories(choice.otherwise)


def _varying(
    node: typed.Node, scope: Scope, seen: set[str] | None = None
) -> typed.Variable | typed.TokenInput | None:
    """The head, layer or input that a number depends on, if it does; each parameter once."""
    seen = set() if seen is None else seen
    if isinstance(node, typed.TokenInput):
        return node
    if isinstance(node, typed.Variable):
        return node if node.name in ("head", "layer") else None
    parts: Sequence[typed.Node] = node.children
    if isinstance(node, typed.Given):
        default = scope.parameters[node.name].default
        parts = () if default is None or node.name in seen else (default,)
        seen.add(node.name)
    return next((found for one in parts if (found := _varying(one, scope, seen))), None)


def contracts_of(pattern: typed.Pattern) -> list[typed.Contract]:
    """Every contract of a pattern, also those inside of `when`."""

    def walk(body: typed.Body) -> Iterator[typed.Contract]:
        yield from body.contracts
        for choice in body.choices:
            yield from walk(choice.then)
            if choice.otherwise is not None:
                yield from walk(choice.otherwise)

    return list(walk(pattern.body))

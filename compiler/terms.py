"""Elaborating expressions: names resolved, types found, and what is wrong said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from attnloom.compiler import typed
from attnloom.compiler.arithmetic import FUNCTIONS, OPERATIONS
from attnloom.compiler.limits import MAX_DEPTH, MAX_NODES, MAX_NUMBER
from attnloom.compiler.matching import match_form
from attnloom.compiler.primitives import primitives
from attnloom.compiler.primitives.base import Kind, Primitive
from attnloom.compiler.problems import Place, Problem, Problems, diagnostic, too_deep
from attnloom.compiler.scope import BROKEN, Names, Scope, Term
from attnloom.compiler.typed import Type
from attnloom.compiler.vocabulary import CONSTRUCTS, POSITIONS, VARIABLES
from attnloom.grammar import syntax
from attnloom.grammar.diagnostics import Note, did_you_mean
from attnloom.grammar.source import Source, Span

_KINDS = {
    Kind.NUMBER: Type.NUMBER,
    Kind.FLAG: Type.CONDITION,
    Kind.TOKENS: Type.TOKENS,
    Kind.RELATION: Type.RELATION,
    Kind.SEGMENTS: Type.SEGMENTS,
    Kind.LINKS: Type.LINKS,
    Kind.CONDITION: Type.CONDITION,
}
_SETS = (Type.TOKENS, Type.RELATION)


class Terms:
    """Elaborates the expressions of one file."""

    def __init__(
        self,
        source: Source,
        problems: Problems,
        pattern: Callable[[str, Place], typed.Pattern | None],
        pattern_names: Callable[[], Iterable[str]],
        body: Callable[[Sequence[syntax.Statement], Place, Scope], typed.Body],
    ) -> None:
        self._source = source
        self._problems = problems
        self._pattern = pattern
        self._pattern_names = pattern_names
        self._body = body
        self._depth = 0
        self.may_lack_names = False
        """Whether a `use` has failed: what is not known may be defined there."""

    def place(self, node: syntax.Node) -> Place:
        return Place(self._source, node.span)

    def place_of_name(self, span: Span) -> Place:
        return Place(self._source, span)

    def fail(
        self,
        slug: str,
        place: Place,
        message: str,
        label: str = "",
        *,
        hints: Iterable[str] = (),
        notes: Iterable[Note] = (),
        found: str | None = None,
        expected: Iterable[str] = (),
    ) -> Term:
        """Report a problem; the expression it is about is broken."""
        self._problems.add(
            diagnostic(
                slug, place, message, label,
                hints=hints, notes=notes, found=found, expected=expected,
            )
        )  # fmt: skip
        return BROKEN

    # --- with a wanted type ---

    def wanted(self, expr: syntax.Expr, scope: Scope, type_: Type) -> typed.Measured | None:
        """An expression that must have a type, or `None` if it has not."""
        return self._coerced(self.term(expr, scope), expr, type_)

    def number(self, expr: syntax.Expr, scope: Scope) -> typed.Number | None:
        return cast("typed.Number | None", self.wanted(expr, scope, Type.NUMBER))

    def condition(self, expr: syntax.Expr, scope: Scope) -> typed.Number | None:
        return cast("typed.Number | None", self.wanted(expr, scope, Type.CONDITION))

    def tokens(self, expr: syntax.Expr, scope: Scope) -> typed.Tokens | None:
        return cast("typed.Tokens | None", self.wanted(expr, scope, Type.TOKENS))

    def relation(self, expr: syntax.Expr, scope: Scope) -> typed.Relation | None:
        return cast("typed.Relation | None", self.wanted(expr, scope, Type.RELATION))

    def _coerced(self, term: Term, expr: syntax.Expr, wanted: Type) -> typed.Measured | None:
        if term.type is wanted:
            return cast(typed.Measured, term.node)
        if term.type is None:
            return None
        if term.type is Type.NUMBER and wanted is Type.TOKENS:
            from_end = isinstance(expr, syntax.Unary) and expr.operator == "-"
            return typed.Position(self.place(expr), cast(typed.Number, term.node), from_end)
        place = self.place(expr)
        self.fail(
            "wrong-type",
            place,
            f"expected {wanted.value}, found {term.type.value}",
            f"this is {term.type.value}",
            hints=_conversion(term.type, wanted, place.text),
            found=term.type.value,
            expected=[wanted.value],
        )
        return None

    # --- any type ---

    def term(self, expr: syntax.Expr, scope: Scope) -> Term:
        """An expression with the type it has by itself."""
        if self._depth >= MAX_DEPTH:
            place = self.place(expr)
            raise Problem(too_deep(place))
        self._depth += 1
        try:
            found = self._term(expr, scope)
            if isinstance(found.node, typed.Measured) and found.node.size > MAX_NODES:
                return self._too_large(expr, found.node.size)
            return found
        except Problem as problem:
            if problem.diagnostic.slug == "too-deep":
                raise
            self._problems.add(problem.diagnostic)
            return BROKEN
        finally:
            self._depth -= 1

    def _too_large(self, expr: syntax.Expr, size: int) -> Term:
        shown = f"{size:,}" if size < 10**15 else "very many"
        return self.fail(
            "too-much-work",
            self.place(expr),
            f"this stands for {shown} expressions, counted once for each use of a `let` or called "
            f"pattern; at most {MAX_NODES:,} are allowed",
            "too large",
            hints=["fewer uses of each `let`"],
            found=shown,
            expected=[f"at most {MAX_NODES:,}"],
        )

    def _term(self, expr: syntax.Expr, scope: Scope) -> Term:
        place = self.place(expr)
        match expr:
            case syntax.Number(value=value):
                if not -MAX_NUMBER < value < MAX_NUMBER:
                    return self.fail(
                        "number-too-large",
                        place,
                        "the number is beyond 64 bits",
                        "too large",
                        hints=["a smaller number, such as `2**40`"],
                        expected=["a number within 64 bits"],
                    )
                return Term(Type.NUMBER, typed.Constant(place, value))
            case syntax.Boolean(value=value):
                return Term(Type.CONDITION, typed.Constant(place, int(value)))
            case syntax.Name(name=name):
                return self._name(name, place, scope)
            case syntax.Call():
                return self._call(expr, scope)
            case syntax.Unary(operator="-", operand=operand):
                return self._operation(
                    "negative", [operand], Type.NUMBER, Type.NUMBER, place, scope
                )
            case syntax.Unary(operator="not", operand=operand):
                kind = Type.CONDITION
                return self._operation("not", [operand], kind, kind, place, scope)
            case syntax.Unary(operand=operand):
                part = self.relation(operand, scope)
                return Term(Type.RELATION, typed.Inverted(place, part)) if part else BROKEN
            case syntax.Binary():
                return self._binary(expr, scope)
            case syntax.Compare():
                return self._compare(expr, scope)
            case syntax.Interval(start=first, stop=last):
                start, stop = self.number(first, scope), self.number(last, scope)
                if start is None or stop is None:
                    return BROKEN
                one = typed.Constant(place, 1)
                return Term(Type.TOKENS, typed.Progression(place, start, stop, one))
            case syntax.Ends(end=end, count=amount):
                count = self.number(amount, scope)
                return Term(Type.TOKENS, typed.Ends(place, end, count)) if count else BROKEN
            case syntax.Every():
                return self._every(expr, scope)
            case syntax.Listing(items=items):
                parts = [self.tokens(item, scope) for item in items]
                if None in parts:
                    return BROKEN
                known = tuple(part for part in parts if part is not None)
                return Term(Type.TOKENS, typed.Combined(place, "|", known))

    def _every(self, expr: syntax.Every, scope: Scope) -> Term:
        place = self.place(expr)
        step = self.number(expr.step, scope)
        start: typed.Number | None = typed.Constant(place, 0)
        if expr.start is not None:
            start = self.number(expr.start, scope)
        if step is None or start is None:
            return BROKEN
        return Term(Type.TOKENS, typed.Progression(place, start, None, step))

    def _operation(
        self,
        name: str,
        operands: Sequence[syntax.Expr],
        takes: Type,
        gives: Type,
        place: Place,
        scope: Scope,
    ) -> Term:
        found = [self.wanted(operand, scope, takes) for operand in operands]
        if None in found:
            return BROKEN
        nodes = tuple(cast(typed.Number, node) for node in found)
        return Term(gives, typed.Operation(place, name, nodes))

    def _binary(self, expr: syntax.Binary, scope: Scope) -> Term:
        place, operator = self.place(expr), expr.operator
        both = [expr.left, expr.right]
        if operator in ("and", "or"):
            kind = Type.CONDITION
            return self._operation(operator, both, kind, kind, place, scope)
        if operator not in ("|", "&", "-"):
            return self._operation(operator, both, Type.NUMBER, Type.NUMBER, place, scope)
        left, right = (self.term(operand, scope) for operand in both)
        if left.type is None or right.type is None:
            return BROKEN
        types = {left.type, right.type}
        if operator == "-" and types == {Type.NUMBER}:
            nodes = (cast(typed.Number, left.node), cast(typed.Number, right.node))
            return Term(Type.NUMBER, typed.Operation(place, operator, nodes))
        if not types <= {*_SETS, Type.NUMBER} or types >= set(_SETS):
            return self._mismatch(expr, left, right)
        kind = Type.RELATION if Type.RELATION in types else Type.TOKENS
        parts = [
            self._coerced(term, operand, kind)
            for term, operand in zip((left, right), both, strict=True)
        ]
        if None in parts:
            return BROKEN
        known = tuple(part for part in parts if part is not None)
        return Term(kind, typed.Combined(place, operator, known))

    def _mismatch(self, expr: syntax.Binary, left: Term, right: Term) -> Term:
        assert left.type is not None
        assert right.type is not None
        kinds = f"{left.type.value} and {right.type.value}"
        sets = "token sets or two relations" + (" or two numbers" if expr.operator == "-" else "")
        hints = []
        for term, other, operand in ((left, right, expr.left), (right, left, expr.right)):
            if other.type in _SETS:
                hints += _conversion(cast(Type, term.type), other.type, self.place(operand).text)
        if Type.CONDITION in (left.type, right.type):
            word = {"|": "or", "&": "and", "-": "and not"}[expr.operator]
            hints.append(f"conditions are joined with `{word}`")
        return self.fail(
            "wrong-type",
            self.place(expr),
            f"`{expr.operator}` joins two {sets}, not {kinds}",
            kinds,
            hints=dict.fromkeys(hints),
            notes=[
                self.place(expr.left).note(f"this is {left.type.value}"),
                self.place(expr.right).note(f"this is {right.type.value}"),
            ],
            found=kinds,
            expected=[sets],
        )

    def _compare(self, expr: syntax.Compare, scope: Scope) -> Term:
        operands = [self.number(operand, scope) for operand in expr.operands]
        if None in operands:
            return BROKEN
        place = self.place(expr)
        found: typed.Number | None = None
        for at, operator in enumerate(expr.operators):
            pair = cast("tuple[typed.Number, ...]", tuple(operands[at : at + 2]))
            one = typed.Operation(place, operator, pair)
            found = one if found is None else typed.Operation(place, "and", (found, one))
        return Term(Type.CONDITION, found)

    # --- names ---

    def _name(self, name: str, place: Place, scope: Scope) -> Term:
        lets = scope.find(name)
        if lets is not None:
            return self._let(name, lets, scope)
        if name in scope.parameters:
            return Term(scope.parameters[name].type, typed.Given(place, name))
        if name in scope.inputs:
            return self._input(name, place, scope)
        if name in VARIABLES:
            return Term(Type.NUMBER, typed.Variable(place, name))
        if name in POSITIONS:
            if scope.in_condition:
                return Term(Type.NUMBER, typed.Variable(place, name))
            return self.fail(
                "misplaced-name",
                place,
                f"`{name}` ({POSITIONS[name]}) has a meaning only inside of `where(...)`",
                "not inside of `where`",
                hints=["`where(j <= i)`"],
                found=name,
                expected=["a number"],
            )
        if name in primitives():
            return self._primitive(name, (), place, place, scope)
        if name in self._pattern_names():
            return self._pattern_call(name, (), place, place, scope)
        if name in FUNCTIONS or name in CONSTRUCTS:
            return self.fail(
                "bad-argument",
                place,
                f"`{name}` needs its arguments in parentheses",
                "arguments are missing",
                hints=[_USAGE[name]],
                found=name,
                expected=["`(`"],
            )
        return self._unknown(name, place, scope)

    def _unknown(self, name: str, place: Place, scope: Scope) -> Term:
        if self.may_lack_names:
            return BROKEN
        candidates = [
            *scope.known(), *VARIABLES, *primitives(), *FUNCTIONS, *CONSTRUCTS,
            *self._pattern_names(),
        ]  # fmt: skip
        return self.fail(
            "unknown-name",
            place,
            f"nothing is called `{name}`",
            "not a primitive, a pattern, or a name of this pattern",
            hints=did_you_mean(name, candidates) or _FOREIGN.get(name) or [_LET.format(name)],
            found=name,
            expected=["a name that is defined"],
        )

    def _let(self, name: str, lets: Names, scope: Scope) -> Term:
        """The value of a `let` where it is used: in `blocks` it is read over blocks."""
        key = name, scope.in_blocks
        if key in lets.terms:
            return lets.terms[key]
        if name in lets.open:
            circle = [*lets.open[lets.open.index(name) :], name]
            return self.fail(
                "let-cycle",
                self.place_of_name(lets.lets[name].name_span),
                f"the value of `{name}` needs `{name}` itself",
                "defined by itself: " + " -> ".join(circle),
                hints=[f"`let {name} = ...` of something else"],
                found=name,
                expected=["a value that does not need itself"],
            )
        written = lets.scope
        assert written is not None
        if scope.in_blocks > written.in_blocks:
            written = replace(written, in_blocks=scope.in_blocks, grid_axes=0)
        lets.open.append(name)
        try:
            lets.terms[key] = self.term(lets.lets[name].value, written)
        finally:
            lets.open.pop()
        return lets.terms[key]

    def _input(self, name: str, place: Place, scope: Scope) -> Term:
        found = scope.inputs[name]
        if scope.in_blocks:
            return self.fail(
                "misplaced-name",
                place,
                f"`{name}` is about tokens, and inside of `blocks` positions are blocks",
                "an input of tokens",
                hints=["join it outside of the `blocks { ... }`"],
                notes=[found.place.note("declared here")],
                found=name,
                expected=["a relation of blocks"],
            )
        if found.type is Type.TOKENS:
            return Term(Type.TOKENS, typed.TokenInput(place, name))
        return Term(found.type, typed.InputName(place, name, found.type))

    # --- calls ---

    def _call(self, call: syntax.Call, scope: Scope) -> Term:
        name, place = call.name, self.place(call)
        own = self.place_of_name(call.name_span)
        if call.body is not None and name not in ("blocks", "grid"):
            self.fail(
                "needs-body",
                own,
                f"`{name}` takes no body in braces",
                "only `blocks` and `grid` do",
                hints=[_USAGE["blocks"], _USAGE["grid"]],
                found="{",
                expected=["a new line"],
            )
        is_own = scope.find(name) is not None
        is_own = is_own or name in scope.parameters or name in scope.inputs
        if is_own or name in VARIABLES or name in POSITIONS:
            return self.fail(
                "wrong-type",
                own,
                f"`{name}` is a name for a value and cannot be called",
                "not a function",
                hints=[f"`{name}`"],
                found=name,
                expected=["a primitive, a function or a pattern"],
            )
        if name in FUNCTIONS:
            return self._function(call, scope)
        match name:
            case "count":
                return self._count(call, scope)
            case "transpose":
                (part,) = self._positional(call, 1) or (None,)
                relation = self.relation(part, scope) if part is not None else None
                if relation is None:
                    return BROKEN
                return Term(Type.RELATION, typed.Transposed(place, relation))
            case "blocks":
                return self._blocks(call, scope)
            case "grid":
                return self._grid(call, scope)
        if name in primitives():
            return self._primitive(name, call.arguments, own, place, scope)
        if name in self._pattern_names():
            return self._pattern_call(name, call.arguments, own, place, scope)
        return self._unknown(name, own, scope)

    def _positional(self, call: syntax.Call, *counts: int) -> tuple[syntax.Expr, ...] | None:
        """The arguments of a call that takes so many of them, without names."""
        named = next((one for one in call.arguments if one.name is not None), None)
        if named is not None:
            self.fail(
                "bad-argument",
                self.place(named),
                f"the arguments of `{call.name}` have no names",
                f"`{named.name}=` does not belong here",
                hints=[_USAGE[call.name]],
                found=named.name,
                expected=["a value without a name"],
            )
            return None
        if len(call.arguments) not in counts:
            wanted = " or ".join(map(str, counts))
            if len(counts) > 2:
                wanted = f"{counts[0]} to {counts[-1]}"
            self.fail(
                "bad-argument",
                self.place(call),
                f"`{call.name}` takes {wanted} argument{'s' * (counts != (1,))}, "
                f"got {len(call.arguments)}",
                f"{len(call.arguments)} of them",
                hints=[_USAGE[call.name]],
                found=str(len(call.arguments)),
                expected=[wanted],
            )
            return None
        return tuple(one.value for one in call.arguments)

    def _function(self, call: syntax.Call, scope: Scope) -> Term:
        operation = OPERATIONS[call.name]
        operands = self._positional(call, *range(operation.least, operation.most + 1))
        if operands is None:
            return BROKEN
        place = self.place(call)
        return self._operation(call.name, operands, Type.NUMBER, Type.NUMBER, place, scope)

    def _count(self, call: syntax.Call, scope: Scope) -> Term:
        (part,) = self._positional(call, 1) or (None,)
        tokens = self.tokens(part, scope) if part is not None else None
        if tokens is None:
            return BROKEN
        return Term(Type.NUMBER, typed.Count(self.place(call), tokens))

    def _blocks(self, call: syntax.Call, scope: Scope) -> Term:
        place = self.place(call)
        (expr,) = self._positional(call, 1) or (None,)
        size = self.number(expr, scope) if expr is not None else None
        if call.body is None:
            return self._no_body(call)
        inner = replace(scope, in_blocks=scope.in_blocks + 1, grid_axes=0)
        body = self._body(call.body, place, inner)
        if size is None:
            return BROKEN
        return Term(Type.RELATION, typed.InBlocks(place, size, body))

    def _grid(self, call: syntax.Call, scope: Scope) -> Term:
        place = self.place(call)
        extents = self._positional(call, 2, 3)
        shape = [self.number(one, scope) for one in extents or ()]
        if call.body is None:
            return self._no_body(call)
        inner = replace(scope, grid_axes=len(shape) or 2)
        body = self._body(call.body, place, inner)
        if not shape or None in shape:
            return BROKEN
        known = tuple(one for one in shape if one is not None)
        return Term(Type.RELATION, typed.InGrid(place, known, body))

    def _no_body(self, call: syntax.Call) -> Term:
        return self.fail(
            "needs-body",
            self.place(call),
            f"`{call.name}` needs a body in braces",
            "`{ ... }` is missing",
            hints=[_USAGE[call.name]],
            found=call.name,
            expected=["`{`"],
        )

    def _primitive(
        self,
        name: str,
        arguments: Sequence[syntax.Argument],
        own: Place,
        place: Place,
        scope: Scope,
    ) -> Term:
        choices = primitives()[name]
        primitive = choices[-1] if scope.grid_axes else choices[0]
        if primitive.in_grid and not scope.grid_axes:
            return self.fail(
                "misplaced-name",
                own,
                f"`{name}` has a meaning only in the body of a `grid`",
                "not in a grid",
                hints=[f"`grid(h, w) {{ {primitive.forms[0].text} }}`"],
                found=name,
                expected=["the body of a `grid`"],
            )
        matched = match_form(primitive, arguments, place, self.place)
        found = self._arguments(primitive, matched, scope)
        if found is None:
            return BROKEN
        return Term(Type.RELATION, typed.Call(place, primitive, found))

    def _arguments(
        self, primitive: type[Primitive], matched: Mapping[str, syntax.Argument], scope: Scope
    ) -> dict[str, typed.Node] | None:
        found: dict[str, typed.Node | None] = {}
        kinds = primitive.arguments()
        for name, argument in matched.items():
            kind = kinds[name].kind
            here = replace(scope, in_condition=True) if kind is Kind.CONDITION else scope
            if kind is Kind.NUMBERS:
                found[name] = self._numbers(argument.value, scope)
            else:
                found[name] = self.wanted(argument.value, here, _KINDS[kind])
        if None in found.values():
            return None
        return {name: node for name, node in found.items() if node is not None}

    def _numbers(self, expr: syntax.Expr, scope: Scope) -> typed.NumberList | None:
        """A list whose items are numbers or ranges of them, perhaps under a name."""
        if isinstance(expr, syntax.Name) and (lets := scope.find(expr.name)) is not None:
            assert lets.scope is not None
            expr, scope = lets.lets[expr.name].value, lets.scope
        if not isinstance(expr, syntax.Listing):
            self.fail(
                "wrong-type",
                self.place(expr),
                "expected a list of numbers",
                "not a list",
                hints=[f"`[{self.place(expr).text}]`"],
                expected=["a list of numbers"],
            )
            return None
        items: list[typed.Number | typed.Progression | None] = []
        for item in expr.items:
            if isinstance(item, syntax.Interval):
                items.append(cast("typed.Progression | None", self.term(item, scope).node))
            else:
                items.append(self.number(item, scope))
        if None in items:
            return None
        known = tuple(item for item in items if item is not None)
        return typed.NumberList(self.place(expr), known)

    def _pattern_call(
        self,
        name: str,
        arguments: Sequence[syntax.Argument],
        own: Place,
        place: Place,
        scope: Scope,
    ) -> Term:
        pattern = self._pattern(name, own)
        found: dict[str, typed.Node] = {}
        places: dict[str, Place] = {}
        is_sound = pattern is not None
        for number, argument in enumerate(arguments):
            parameter = None
            if pattern is not None:
                parameter = self._parameter(pattern, number, argument)
                if parameter is not None and parameter.name in found:
                    self.fail(
                        "bad-argument",
                        self.place(argument),
                        f"the argument `{parameter.name}` is given twice",
                        "the second time",
                        hints=[f"`{name}({parameter.name}=...)`"],
                        notes=[places[parameter.name].note("the first time")],
                        found=parameter.name,
                        expected=["each argument once"],
                    )
                    parameter = None
            if parameter is None:
                self.term(argument.value, scope)
                is_sound = False
                continue
            value = self.wanted(argument.value, scope, parameter.type)
            is_sound = is_sound and value is not None
            if value is not None:
                found[parameter.name], places[parameter.name] = value, self.place(argument)
        if pattern is None:
            return BROKEN
        for parameter in pattern.parameters:
            if parameter.default is None and parameter.name not in found and is_sound:
                return self.fail(
                    "bad-argument",
                    place,
                    f"`{name}` needs a value for `{parameter.name}`",
                    f"`{parameter.name}` is missing",
                    hints=[f"`{name}({parameter.name}=...)`"],
                    notes=[parameter.place.note("this parameter has no default")],
                    expected=[parameter.name],
                )
        if scope.in_blocks and pattern.inputs:
            return self.fail(
                "misplaced-name",
                own,
                f"`{name}` has inputs of tokens, and inside of `blocks` positions are blocks",
                "has inputs",
                hints=["join it outside of the `blocks { ... }`"],
                notes=[pattern.inputs[0].place.note("declared here")],
                found=name,
                expected=["a pattern without inputs"],
            )
        if not is_sound:
            return BROKEN
        return Term(Type.RELATION, typed.PatternCall(place, pattern, found))

    def _parameter(
        self, pattern: typed.Pattern, number: int, argument: syntax.Argument
    ) -> typed.Parameter | None:
        """The parameter that an argument of a call is for."""
        names = [one.name for one in pattern.parameters]
        if argument.name is None:
            if number < len(names):
                return pattern.parameters[number]
            self.fail(
                "bad-argument",
                self.place(argument),
                f"`{pattern.name}` has {len(names)} parameter{'s' * (len(names) != 1)}",
                "an argument too many",
                hints=[f"`{pattern.name}({', '.join(f'{one}=...' for one in names)})`"],
                found=self.place(argument).text,
                expected=names or ["`)`"],
            )
            return None
        found = pattern.parameter(argument.name)
        if found is None:
            hints = did_you_mean(argument.name, names) or tuple(f"`{one}=...`" for one in names)
            hints = hints or (f"`{pattern.name}`",)
            listed = ", ".join(f"`{one}`" for one in names) or "none"
            self.fail(
                "bad-argument",
                self.place(argument),
                f"`{pattern.name}` has no parameter called `{argument.name}`",
                f"its parameters: {listed}",
                hints=hints,
                notes=[pattern.place.note("the pattern")],
                found=argument.name,
                expected=names or ["no argument"],
            )
        return found


_USAGE = {
    "abs": "`abs(i - j)`",
    "blocks": "`blocks(64) { window(each_side=1) }`",
    "ceil_div": "`ceil_div(n, 64)`",
    "count": "`count(first 4)`",
    "grid": "`grid(32, 32) { near(1) }`",
    "isqrt": "`isqrt(n)`",
    "log2": "`log2(n)`",
    "max": "`max(1, n // 64)`",
    "min": "`min(n, 512)`",
    "transpose": "`transpose(causal)`",
}

_LET = "`let {} = ...`"

_FOREIGN = {
    "all": ("`full`",),
    "any": ("`full`",),
    "bidirectional": ("`full`",),
    "cls": ("token 0 is written `0`",),
    "dense": ("`full`",),
    "dilated": ("`window(each_side=r, dilation=d)`",),
    "diagonal": ("`self`",),
    "document": ("`input doc: segments`, and then `same(doc)`",),
    "empty": ("`none`",),
    "k": ("the key is written `j`",),
    "kv_idx": ("the key is written `j`",),
    "local": ("`window(each_side=r)`",),
    "q": ("the query is written `i`",),
    "q_idx": ("the query is written `i`",),
    "seq_len": ("the number of tokens is `n`",),
    "length": ("the number of tokens is `n`",),
    "sink": ("`broadcast(first 4)`",),
    "sinks": ("`broadcast(first 4)`",),
    "sliding_window": ("`window(last=k)` looks back, `window(each_side=r)` both ways",),
    "strided": ("`stride(s)`",),
    "xor": ("exclusive or is written `^`",),
}


def _conversion(found: Type, wanted: Type, text: str) -> list[str]:
    """What to type to make one type of another."""
    shown = text if len(text) <= 40 and "\n" not in text else "..."
    match (found, wanted):
        case (Type.TOKENS | Type.NUMBER, Type.RELATION):
            return [
                f"`global({shown})`: they read all and are read by all",
                f"`broadcast({shown})`: they are read by all",
            ]
        case (Type.CONDITION, Type.RELATION):
            return [f"`where({shown})`"]
        case (Type.SEGMENTS, Type.RELATION):
            return [f"`same({shown})`"]
        case (Type.LINKS, Type.RELATION):
            return [f"`links({shown})`"]
        case (Type.TOKENS, Type.NUMBER):
            return [f"`count({shown})`"]
        case (Type.NUMBER, Type.CONDITION):
            return [f"`{shown} != 0`"]
    return [f"for example {_EXAMPLES[wanted]}"]


_EXAMPLES = {
    Type.NUMBER: "`64`",
    Type.CONDITION: "`head == 0`",
    Type.TOKENS: "`first 4`",
    Type.RELATION: "`window(each_side=64)`",
    Type.SEGMENTS: "`doc` after `input doc: segments`",
    Type.LINKS: "`picks` after `input picks: links`",
}

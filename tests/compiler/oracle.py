"""A second meaning of the language, from its reference alone: pair by pair, in plain Python.

It walks the syntax tree and knows nothing of the compiler. A relation is a set of pairs `(i, j)`
over the positions `0 .. n`; memory comes into play at the very end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from typing import Any

from oracle_primitives import OF_CELLS, PRIMITIVES, Arguments, everything, such_that
from oracle_values import (
    COMPARISONS,
    CONDITION,
    NUMBER,
    TOKENS,
    Given,
    Named,
    NamedTokens,
    Pairs,
    Scope,
    Unsettled,
    View,
    condition,
    kind_of,
    number,
)

from attnloom.grammar import parse, parse_expression
from attnloom.grammar.syntax import (
    Add,
    Argument,
    Binary,
    Call,
    Compare,
    Expr,
    Input,
    Memory,
    Name,
    Never,
    Node,
    Only,
    Pattern,
    Statement,
    Unary,
    When,
    children,
)

# --- relations -----------------------------------------------------------------------------------


def relation(expr: Expr, scope: Scope, view: View) -> Pairs:
    match expr:
        case Unary(operator="~", operand=operand):
            return everything(view.n) - relation(operand, scope, view)
        case Binary(operator=sign, left=left, right=right):
            a, b = relation(left, scope, view), relation(right, scope, view)
            return a | b if sign == "|" else a & b if sign == "&" else a - b
        case Name(name=name):
            found = scope.find(name)
            if isinstance(found, Named):
                return relation(found.value, found.scope, view)
            return _called(name, (), None, scope, view)
        case Call(name=name, arguments=arguments, body=body):
            return _called(name, arguments, body, scope, view)
    raise AssertionError(expr)


def _called(
    name: str,
    arguments: Sequence[Argument],
    body: Sequence[Statement] | None,
    scope: Scope,
    view: View,
) -> Pairs:
    if name in scope.patterns:
        return _pattern_call(scope.patterns[name], arguments, scope, view)
    arguments_of = Arguments(arguments, scope, view, relation)
    if scope.in_grid and name in OF_CELLS:
        return OF_CELLS[name](arguments_of)
    if name == "blocks":
        assert body is not None
        return _blocks(arguments_of.number("size"), body, scope, view)
    if name == "grid":
        assert body is not None
        return body_of(body, replace(scope, in_grid=True), replace(view, grid=arguments_of.shape()))
    return PRIMITIVES[name](arguments_of)


# --- bodies, blocks and calls --------------------------------------------------------------------


def taken(
    statements: Sequence[Statement], scope: Scope, view: View
) -> Iterator[tuple[Statement, Scope]]:
    """The statements of a body and of the branches that `when` chooses, and their scopes."""
    inner = scope.inside(statements)
    for one in statements:
        if isinstance(one, When):
            chosen = one.then if condition(one.condition, inner, view) else one.otherwise
            yield from taken(chosen or (), inner, view)
        else:
            yield one, inner


def body_of(statements: Sequence[Statement], scope: Scope, view: View) -> Pairs:
    """`((all expressions) & (all onlys)) - (all nevers)`."""
    found = list(taken(statements, scope, view))
    prefix = prefix_of_onlys(found, view)
    if prefix is not None:
        shorter = tuple(min(pair) for pair in zip(view.drawable, prefix, strict=True))
        view = replace(view, drawable=shorter)
    pairs: Pairs = set()
    for one, inner in found:
        if isinstance(one, Add):
            pairs |= relation(one.value, inner, view)
    for one, inner in found:
        if isinstance(one, Only):
            pairs &= relation(one.value, inner, view)
    for one, inner in found:
        if isinstance(one, Never):
            pairs -= relation(one.value, inner, view)
    return pairs


def _blocks(size: int, body: Sequence[Statement], scope: Scope, view: View) -> Pairs:
    number_of_blocks = -(-view.n // size)
    drawable = [0] * number_of_blocks
    for i, keys in enumerate(view.drawable):
        drawable[i // size] = max(drawable[i // size], -(-keys // size))
    inner = replace(view, n=number_of_blocks, drawable=tuple(drawable), grid=())
    pairs = body_of(body, replace(scope, in_grid=False), inner)
    return such_that(view.n, lambda i, j: (i // size, j // size) in pairs)


def _pattern_call(
    pattern: Pattern, arguments: Sequence[Argument], scope: Scope, view: View
) -> Pairs:
    inner = _scope_of_call(pattern, arguments, scope, view)
    return body_of(pattern.body, inner, replace(view, drawable=(view.n,) * view.n, grid=()))


def _scope_of_call(
    pattern: Pattern, arguments: Sequence[Argument], scope: Scope, view: View
) -> Scope:
    in_order = (one.name for one in pattern.parameters)
    given = {
        next(in_order) if one.name is None else one.name: Named(one.value, scope)
        for one in arguments
    }
    return _parameters(pattern, given, scope, view)


def _parameters(pattern: Pattern, given: Mapping[str, Named], scope: Scope, view: View) -> Scope:
    """The scope of a pattern's body: its parameters have their values, token sets as written."""
    names: dict[str, Named | int | bool | Given] = {}
    inner = replace(scope, names=names, in_grid=False)
    for one in pattern.parameters:
        default = None if one.default is None else Named(one.default, inner)
        value = given.get(one.name, default)
        assert value is not None, one.name
        kind = one.kind
        if kind is None:
            # A type that is omitted is that of the default.
            assert default is not None
            kinds = {NUMBER: "int", CONDITION: "bool", TOKENS: "tokens"}
            kind = kinds[kind_of(default.value, inner)]
        if kind == "int":
            names[one.name] = number(value.value, value.scope, view)
        elif kind == "bool":
            names[one.name] = condition(value.value, value.scope, view)
        else:
            names[one.name] = NamedTokens(value.value, value.scope)
    return inner


# --- prefixes ------------------------------------------------------------------------------------

Prefix = tuple[int, ...] | None
"""For each query how many keys, from 0 on; None when rows are not known to be prefixes."""


def prefix_of_onlys(found: Sequence[tuple[Statement, Scope]], view: View) -> Prefix:
    """What the `only` statements whose rows are prefixes leave; None when there are none."""
    known: list[tuple[int, ...]] = []
    for one, scope in found:
        if isinstance(one, Only):
            prefix = prefix_of(one.value, scope, view)
            if prefix is not None:
                known.append(prefix)
            elif _has_rule(one.value, scope) and _has_prefixes(
                relation(one.value, scope, view), view.n
            ):
                raise Unsettled("an `only` whose rows are prefixes, but does not say so")
    return tuple(map(min, *known, known[0])) if known else None


def _has_rule(expr: Expr, scope: Scope) -> bool:
    """Whether it depends on a `where` if an expression is a prefix."""
    match expr:
        case Binary(operator="|" | "&", left=left, right=right):
            return _has_rule(left, scope) or _has_rule(right, scope)
        case Name(name=name) | Call(name=name):
            found = scope.find(name)
            if isinstance(found, Named):
                return _has_rule(found.value, found.scope)
            inner = scope.patterns[name].body if name in scope.patterns else ()
            if isinstance(expr, Call):
                inner += expr.body or ()
            rules = {"where", *scope.patterns}
            return name == "where" or any(_mentions(one, rules) for one in inner)
    return False


def _has_prefixes(pairs: Pairs, n: int) -> bool:
    rows = [{j for j in range(n) if (i, j) in pairs} for i in range(n)]
    return all(row == set(range(len(row))) for row in rows)


def prefix_of(expr: Expr, scope: Scope, view: View) -> Prefix:
    match expr:
        case Binary(operator="|" | "&" as sign, left=left, right=right):
            a, b = prefix_of(left, scope, view), prefix_of(right, scope, view)
            if a is None or b is None:
                return None
            return tuple(map(max if sign == "|" else min, a, b))
        case Name(name=name):
            found = scope.find(name)
            if isinstance(found, Named):
                return prefix_of(found.value, found.scope, view)
            return _prefix_of_call(name, (), None, scope, view)
        case Call(name=name, arguments=arguments, body=body):
            return _prefix_of_call(name, arguments, body, scope, view)
    return None


def _prefix_of_call(
    name: str,
    arguments: Sequence[Argument],
    body: Sequence[Statement] | None,
    scope: Scope,
    view: View,
) -> Prefix:
    given = Arguments(arguments, scope, view, relation)
    if name == "causal":
        return tuple(range(1, view.n + 1))
    if name == "broadcast":
        count = len(given.tokens())
        return (count,) * view.n if given.tokens() == set(range(count)) else None
    if name == "where":
        return _prefix_of_rule(arguments[0].value, scope, view)
    if name == "blocks" and body is not None:
        size = given.number("size")
        inner = replace(view, n=-(-view.n // size), drawable=(0,) * -(-view.n // size), grid=())
        prefix = _prefix_of_body(body, replace(scope, in_grid=False), inner)
        return prefix and tuple(min(prefix[i // size] * size, view.n) for i in range(view.n))
    if name == "grid" and body is not None:
        return _prefix_of_body(
            body, replace(scope, in_grid=True), replace(view, grid=given.shape())
        )
    if name in scope.patterns:
        pattern = scope.patterns[name]
        return _prefix_of_body(pattern.body, _scope_of_call(pattern, arguments, scope, view), view)
    return None


def _prefix_of_body(statements: Sequence[Statement], scope: Scope, view: View) -> Prefix:
    found = list(taken(statements, scope, view))
    if any(isinstance(one, Never) for one, _ in found):
        return None
    each: list[Prefix] = []
    for one, inner in found:
        if isinstance(one, Only):
            each.append(prefix_of(one.value, inner, view))
    total = tuple([0] * view.n)
    for one, inner in found:
        if isinstance(one, Add):
            prefix = prefix_of(one.value, inner, view)
            if prefix is None:
                return None
            total = tuple(map(max, total, prefix))
    for only in each:
        if only is None:
            return None
        total = tuple(map(min, total, only))
    return total


def _prefix_of_rule(rule: Expr, scope: Scope, view: View, negated: bool = False) -> Prefix:
    """Joins of comparisons of `i`, and of upper bounds on `j` or `j - i`, with numbers."""
    match rule:
        case Unary(operator="not", operand=operand):
            return _prefix_of_rule(operand, scope, view, not negated)
        case Binary(operator="and" | "or" as sign, left=left, right=right):
            sides = [side for side in (left, right) if _mentions(side, "ij")]
            decided = [condition(side, scope, view) for side in (left, right) if side not in sides]
            if (sign == "or") in decided:
                return None
            each = [_prefix_of_rule(side, scope, view, negated) for side in sides]
            return _joined(each, all_of=(sign == "and") != negated)
        case Compare(operators=signs, operands=operands):
            links = zip(signs, pairwise(operands), strict=True)
            each = [
                _prefix_of_comparison(NEGATED[one] if negated else one, left, right, scope, view)
                for one, (left, right) in links
            ]
            return _joined(each, all_of=not negated)
    return None


NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def _joined(each: Sequence[Prefix], all_of: bool) -> Prefix:
    known = [one for one in each if one is not None]
    if not known or len(known) < len(each):
        return None
    choose = min if all_of else max
    return tuple(choose(row) for row in zip(*known, strict=True))


def _prefix_of_comparison(sign: str, left: Expr, right: Expr, scope: Scope, view: View) -> Prefix:
    a, b = _linear(left, scope, view), _linear(right, scope, view)
    if a is None or b is None:
        return None
    by_i, by_j, rest = (x - y for x, y in zip(a, b, strict=True))
    is_upper = (by_j > 0 and sign in ("<", "<=")) or (by_j < 0 and sign in (">", ">="))
    is_of_i_alone = by_j == 0 and by_i != 0
    if not (is_of_i_alone or (is_upper and by_i in (0, -by_j))):
        return None
    return tuple(
        sum(COMPARISONS[sign](by_i * i + by_j * j + rest, 0) for j in range(view.n))
        for i in range(view.n)
    )


def _linear(expr: Expr, scope: Scope, view: View) -> tuple[int, ...] | None:
    """The factors of `i`, of `j` and of 1, for a sum of multiples of `i` and `j`."""
    if not _mentions(expr, "ij"):
        return 0, 0, number(expr, scope, view)
    match expr:
        case Name(name=name):
            return int(name == "i"), int(name == "j"), 0
        case Unary(operator="-", operand=operand):
            inner = _linear(operand, scope, view)
            return inner and tuple(-one for one in inner)
        case Binary(operator="+" | "-" as sign, left=left, right=right):
            a, b = _linear(left, scope, view), _linear(right, scope, view)
            factor = 1 if sign == "+" else -1
            return a and b and tuple(x + factor * y for x, y in zip(a, b, strict=True))
        case Binary(operator="*", left=left, right=right):
            if _mentions(left, "ij"):
                left, right = right, left
            b = _linear(right, scope, view)
            if b is None or _mentions(left, "ij"):
                return None
            return tuple(number(left, scope, view) * one for one in b)
    return None


def _mentions(node: Node, names: Collection[str]) -> bool:
    if isinstance(node, (Name, Call)) and node.name in names:
        return True
    return any(_mentions(child, names) for child in children(node))


# --- the whole -----------------------------------------------------------------------------------


def pairs(
    text: str,
    n: int,
    head: int = 0,
    heads: int = 1,
    layer: int = 0,
    layers: int = 1,
    params: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    element: int = 0,
) -> tuple[int, Pairs]:
    """The number of memory tokens and the pairs, memory first, of the main pattern of a text."""
    file = parse(text)
    patterns = {one.name: one for one in file.patterns}
    main = patterns.get("main", file.patterns[-1])
    for use in file.uses:
        patterns |= _bundled(use.target)
    kinds = _kinds_of_inputs(file.patterns)
    given = {
        name: Given(kinds[name], input_of(kinds[name], value, n, element))
        for name, value in (inputs or {}).items()
    }
    root = Scope(patterns, given)
    view = View(n, head, heads, layer, layers, (n,) * n)
    values = {name: Named(_as_expr(value), root) for name, value in (params or {}).items()}
    scope = _parameters(main, values, root, view)
    found = list(taken(main.body, scope, view))
    memory, of_memory = _memory(found, view)
    of_tokens = body_of(main.body, scope, view)
    return memory, of_memory | {(i + memory, j + memory) for i, j in of_tokens}


def _bundled(name: str) -> dict[str, Pattern]:
    text = files("attnloom.patterns").joinpath(f"{name}.attn").read_text(encoding="utf-8")
    return {one.name: one for one in parse(text).patterns}


def _memory(found: Sequence[tuple[Statement, Scope]], view: View) -> tuple[int, Pairs]:
    """The number of memory tokens, and the pairs with memory."""
    statements = [(one, scope) for one, scope in found if isinstance(one, Memory)]
    if not statements:
        return 0, set()
    ((statement, scope),) = statements
    given = Arguments(statement.arguments, scope, view, relation)
    m = given.number("tokens", least=0)
    reads, read = given.flag("reads", True), given.flag("read", True)
    pairs = such_that(m + view.n, lambda i, j: (i < m and reads) or (j < m and read))
    if prefix_of_onlys(found, view) is not None:
        pairs = {(i, j) for i, j in pairs if i >= m or j <= i}
    return m, pairs


def _as_expr(value: Any) -> Expr:
    """A value given from outside as an expression of the language."""
    if isinstance(value, range):
        value = f"{value.start}..{value.stop}"
    return parse_expression(str(value).lower() if isinstance(value, bool) else str(value))


def _kinds_of_inputs(patterns: Sequence[Pattern]) -> dict[str, str]:
    return {
        one.name: one.kind for pattern in patterns for one in pattern.body if isinstance(one, Input)
    }


def input_of(kind: str, value: Any, n: int, element: int) -> Any:
    """What an input is for one batch element."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if kind == "links":
        return _links_of(value, element)
    if _is_batch(value):
        value = value[element]
    if kind == "tokens" and value and isinstance(value[0], bool):
        return {t for t in range(n) if value[t]}
    return list(value) if kind == "segments" else set(value)


def _is_batch(value: Sequence[Any]) -> bool:
    return bool(value) and isinstance(value[0], (list, tuple))


def _links_of(value: Any, element: int) -> Pairs:
    if isinstance(value, list) and value and (isinstance(value[0], tuple) or _is_batch(value[0])):
        value = value[element]
    if isinstance(value, tuple):
        offsets, keys = value
        rows = pairwise(offsets)
        return {(i, int(j)) for i, (start, stop) in enumerate(rows) for j in keys[start:stop]}
    return {(i, j) for i, keys in enumerate(value) for j in keys}

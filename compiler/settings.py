"""Values for the parameters of a pattern that come from outside: from Python or a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from attnloom.compiler import typed
from attnloom.compiler.evaluate import Environment
from attnloom.compiler.problems import Place, Problem, Problems, diagnostic
from attnloom.compiler.scope import Scope
from attnloom.compiler.terms import Terms
from attnloom.compiler.tokens import TokenSet
from attnloom.compiler.typed import Type
from attnloom.grammar import PatternError, Source, Span, parse_expression
from attnloom.grammar.diagnostics import did_you_mean


def read_settings(pattern: typed.Pattern, given: Mapping[str, Any]) -> typed.Pattern:
    """The pattern with some parameters set: what is given becomes their default.

    A token set may be an integer, a range, a list of integers, or text in the language's own
    spelling; so may any value be text. Negative positions count from the end.

    Raises:
        PatternError: a parameter is not known, not given although it has no default, or a value is
            not of its type; all that is wrong is reported.
    """
    problems = Problems()
    names = [one.name for one in pattern.parameters]
    listed = ", ".join(f"`{name}`" for name in names) or "none"
    for name in given:
        if name not in names:
            problems.add(
                diagnostic(
                    "bad-argument",
                    pattern.place,
                    f"`{pattern.name}` has no parameter called `{name}`",
                    f"its parameters: {listed}",
                    hints=did_you_mean(name, names),
                    found=name,
                    expected=names,
                )
            )
    parameters = []
    for one in pattern.parameters:
        default = one.default
        if one.name in given:
            try:
                default = _read(one, given[one.name])
            except Problem as problem:
                problems.add(problem.diagnostic)
            except PatternError as error:
                for found in error.diagnostics:
                    problems.add(found)
        elif default is None:
            problems.add(
                diagnostic(
                    "bad-argument",
                    one.place,
                    f"`{pattern.name}` needs a value for `{one.name}`",
                    "has no default",
                    expected=[one.name],
                )
            )
        parameters.append(replace(one, default=default))
    problems.throw()
    return replace(pattern, parameters=tuple(parameters))


def _read(parameter: typed.Parameter, value: Any) -> typed.Node:
    """A value as a typed expression, by way of how the language writes it."""
    text = value if isinstance(value, str) else _written(value)
    if text is None:
        wanted = {
            Type.NUMBER: "an integer",
            Type.CONDITION: "true or false",
            Type.TOKENS: "a token set: an integer, a range, a list, or text such as 'first 4'",
        }[parameter.type]
        found = type(value).__name__
        raise Problem(
            diagnostic(
                "wrong-type",
                parameter.place,
                f"`{parameter.name}` takes {wanted}, got {found}",
                f"given {found}",
                found=found,
                expected=[wanted],
            )
        )
    return _read_text(parameter, text)


def _written(value: Any) -> str | None:
    """How the language writes a value of Python, if it has it."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, range) and value.step == 1:
        return f"{value.start}..{value.stop}"
    if isinstance(value, (Sequence, np.ndarray, range)):
        items = [_written(item) for item in value]
        if None not in items:
            return f"[{', '.join(map(str, items))}]"
    return None


def _read_text(parameter: typed.Parameter, text: str) -> typed.Node:
    name = f"<{parameter.name}>"
    expr = parse_expression(text, name)
    problems = Problems()

    def no_body(*_: Any) -> typed.Body:
        raise Problem(diagnostic("wrong-type", parameter.place, "a value has no body"))

    terms = Terms(Source(name, text), problems, lambda name, place: None, lambda: (), no_body)
    found = terms.wanted(expr, Scope({}, {}), parameter.type)
    problems.throw()
    assert found is not None
    return found


def read_tokens(name: str, text: str, length: int) -> TokenSet:
    """A token set in the language's own spelling, at a length.

    Raises:
        PatternError: the text is not a token set.
    """
    place = Place(Source(f"<{name}>", text), Span(0, len(text)))
    parameter = typed.Parameter(place, name, Type.TOKENS, None, None, None)
    node = _read_text(parameter, text)
    try:
        return Environment({"n": length}, {}, {}).tokens(node)
    except Problem as problem:
        raise PatternError([problem.diagnostic]) from None

"""Matching the arguments of a call with the form of a primitive that it means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from attnloom.compiler.primitives.base import Form, Primitive
from attnloom.compiler.problems import Place, Problem, diagnostic
from attnloom.grammar.diagnostics import did_you_mean
from attnloom.grammar.syntax import Argument, Node

PlaceOf = Callable[[Node], Place]
"""Gives the place of a syntax node."""


def match_form(
    primitive: type[Primitive], arguments: Sequence[Argument], place: Place, place_of: PlaceOf
) -> dict[str, Argument]:
    """The arguments of a primitive by name.

    Raises:
        Problem: no form of the primitive takes these arguments.
    """
    positional = [one for one in arguments if one.name is None]
    named = _named(arguments, place_of)
    if primitive.name == "window" and positional and not named:
        raise _ambiguous_window(positional, place, place_of)
    known = {name for form in primitive.forms for name in (*form.names, *form.options)}
    for name, argument in named.items():
        if name not in known:
            raise _unknown(primitive, argument, known, place_of)
    for form in primitive.forms:
        found = _matched(form, positional, named)
        if found is not None:
            return found
    raise _no_form(primitive, positional, named, place, place_of)


def _named(arguments: Sequence[Argument], place_of: PlaceOf) -> dict[str, Argument]:
    """The arguments that have a name, each once, and after those that have none."""
    found: dict[str, Argument] = {}
    for one in arguments:
        if one.name is None:
            if found:
                raise Problem(
                    diagnostic(
                        "bad-argument",
                        place_of(one),
                        "an argument without a name comes after one with a name",
                        "name this one, or put it first",
                        hints=[f"`...={place_of(one).text}`"],
                        expected=["an argument with a name"],
                    )
                )
            continue
        if one.name in found:
            raise Problem(
                diagnostic(
                    "bad-argument",
                    place_of(one),
                    f"the argument `{one.name}` is given twice",
                    "the second time",
                    hints=[f"`{place_of(one).text}` only"],
                    notes=[place_of(found[one.name]).note("the first time")],
                    found=one.name,
                    expected=["each argument once"],
                )
            )
        found[one.name] = one
    return found


def _matched(
    form: Form, positional: Sequence[Argument], named: dict[str, Argument]
) -> dict[str, Argument] | None:
    if len(positional) > form.positional:
        return None
    found = dict(zip(form.names, positional, strict=False))
    if set(found) & set(named):
        return None
    found.update(named)
    names = set(form.names)
    return found if names <= set(found) <= names | set(form.options) else None


def _ambiguous_window(positional: Sequence[Argument], place: Place, place_of: PlaceOf) -> Problem:
    text = place_of(positional[0].value).text
    hints = [
        f"`window(each_side={text})` is as many on each side: {_twice(text)} keys",
        f"`window(width={text})` is as many in all, if odd: {text} keys",
        f"`window(last={text})` is the last ones, the query itself included: {text} keys",
        f"`window(left={text}, right=0)` is as many before the query: {_twice(text, 1)} keys",
    ]
    return Problem(
        diagnostic(
            "ambiguous-window",
            place,
            f"`window({text})` can mean several windows",
            "how many keys are these?",
            hints=hints,
            found=text,
            expected=["each_side", "width", "last", "left and right"],
        )
    )


def _twice(text: str, factor: int = 2) -> str:
    """`factor * text + 1`, worked out if the text is a number.

    >>> _twice("512"), _twice("reach")
    ('1025', '2*reach+1')
    """
    if text.isdigit() and len(text) < 18:
        return str(factor * int(text) + 1)
    return f"{factor}*{text}+1" if factor > 1 else f"{text}+1"


def _unknown(
    primitive: type[Primitive], argument: Argument, known: Iterable[str], place_of: PlaceOf
) -> Problem:
    assert argument.name is not None
    hints = did_you_mean(argument.name, known) or tuple(_spellings(primitive))
    return Problem(
        diagnostic(
            "bad-argument",
            place_of(argument),
            f"`{primitive.name}` has no argument called `{argument.name}`",
            "not an argument",
            hints=hints,
            found=argument.name,
            expected=sorted(known),
        )
    )


def _no_form(
    primitive: type[Primitive],
    positional: Sequence[Argument],
    named: dict[str, Argument],
    place: Place,
    place_of: PlaceOf,
) -> Problem:
    given = [*(place_of(one).text for one in positional), *(f"{name}=..." for name in named)]
    shown = f"`{primitive.name}({', '.join(given)})`" if given else f"`{primitive.name}` alone"
    forms = primitive.forms
    if len(forms) == 1:
        (form,) = forms
        missing = [name for name in form.names[len(positional) :] if name not in named]
        most = form.positional
        if missing:
            label = f"`{missing[0]}` is missing"
        elif len(positional) > most:
            label = f"takes {most or 'no'} argument{'s' * (most != 1)} without a name"
        else:
            label = "these arguments do not go together"
    else:
        label = "none of its forms has just these arguments" if given else "arguments are missing"
    return Problem(
        diagnostic(
            "bad-argument",
            place,
            f"{shown} is not a form of `{primitive.name}`",
            label,
            hints=_spellings(primitive),
            found=", ".join(given) or "no arguments",
            expected=[form.text for form in forms],
        )
    )


def _spellings(primitive: type[Primitive]) -> list[str]:
    return [f"`{form.text}`: {form.meaning}" for form in primitive.forms]

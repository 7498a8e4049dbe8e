"""What is wrong with new names, with `use`, and with the head of a pattern."""

from __future__ import annotations

import re

from lark import Token

from attnloom.grammar.diagnostics import Diagnostic, Note
from attnloom.grammar.lexer import span_of_token
from attnloom.grammar.source import Span
from attnloom.grammar.spot import Spot
from attnloom.grammar.words import (
    EXPRESSION_STARTS,
    KEYWORD_TYPES,
    STATEMENT_WORDS,
    listed,
    quoted,
)

_NEW_NAMES = {"PATTERN": "my_pattern", "LET": "part", "INPUT": "question"}
_KINDS = {
    "parameters": ("int", "bool", "tokens"),
    "body": ("tokens", "segments", "links"),
}
_CLOSE_IT = "and close it with `}`"


# --- names ---------------------------------------------------------------------------------------


def reserved(spot: Spot) -> Diagnostic | None:
    """A word of the language where a new name must stand: `let first = 3`."""
    if not _wants_name(spot) or spot.kind not in KEYWORD_TYPES:
        return None
    return spot.says(
        "reserved-word",
        f"{spot.found} is a word of the language and cannot be a name",
        "choose another name",
        spot.replace(f"{spot.token}_"),
    )


def bad_name(spot: Spot) -> Diagnostic | None:
    """A new name that begins with a digit, or has `-`, `.` or a blank in it."""
    if _wants_name(spot) and spot.kind == "NUMBER":
        hint = spot.replace(f"{_NEW_NAMES.get(spot.head.type, 'n')[0]}{spot.token}")
        message = f"{spot.found} is no name: names begin with a letter"
        return spot.says("bad-name", message, "begins with a digit", hint)
    introduces = spot.near(-2).type
    if introduces not in _NEW_NAMES or spot.before.type != "NAME":
        return None
    if spot.kind in ("NAME", "NUMBER", *KEYWORD_TYPES):
        wanted = {"PATTERN": ("LPAR", "LBRACE"), "LET": ("EQUAL",), "INPUT": ("COLON",)}
        if spot.near(1).type not in wanted[introduces]:
            return None
        stop = spot.span.stop
    elif spot.kind == "MINUS" or spot.token == ".":
        signs = re.match(r"[\w.-]+", spot.source.text[spot.span.start :])
        stop = spot.span.start + len(signs[0] if signs else spot.token)
    else:
        return None
    return not_one_word(spot, Span(span_of_token(spot.before).start, stop), "a name")


def not_one_word(spot: Spot, whole: Span, what: str) -> Diagnostic:
    """Several words, or one with signs in it, where a name must stand."""
    text = spot.source.slice(whole)
    return spot.says(
        "bad-name",
        f"{what} is one word of letters, digits and `_`",
        "not one word",
        spot.rewrite((whole, "_".join(re.sub("[-.]", " ", text).split()))),
        span=whole,
        found=quoted(text),
    )


def nameless(spot: Spot) -> Diagnostic | None:
    """`pattern {`, `let = 3`, `input: tokens`, and `window(=3)`."""
    if spot.kind == "EQUAL" and spot.room == "arguments" and not spot.part:
        message = "the name of an argument stands before `=`"
        return spot.says("missing-name", message, "no name before this", spot.replace(""))
    if spot.room == "parameters" and not spot.part and spot.kind in ("COLON", "EQUAL", "IN"):
        message = "a parameter begins with its name"
        return spot.says("missing-name", message, "no name before this", spot.insert("reach"))
    if len(spot.statement) != 1 or spot.head.type not in _NEW_NAMES or not _wants_name(spot):
        return None
    fits = spot.kind in ("LBRACE", "LPAR", "EQUAL", "COLON", "SEP", "$END", "RBRACE")
    name = _NEW_NAMES[spot.head.type]
    return spot.says(
        "missing-name",
        f"`{spot.head}` is followed by a name",
        "a name must come before this" if fits else "not a name",
        spot.insert(f" {name}") if fits else f"choose a name such as `{name}`",
    )


def _wants_name(spot: Spot) -> bool:
    """Whether only a new name can stand here."""
    introduced = spot.before.type in _NEW_NAMES or spot.room == "parameters"
    return introduced and "NAME" in spot.accepted and not spot.wants_operand and not _is_type(spot)


def _is_type(spot: Spot) -> bool:
    return spot.before.type == "COLON"


def unknown_type(spot: Spot) -> Diagnostic | None:
    """A word of the language, a value or a type with arguments after `:`."""
    kinds = _KINDS.get(spot.room)
    after_type = spot.room == "parameters" and spot.kinds(-2, "COLON", "NAME")
    is_type = _is_type(spot) and "NAME" in spot.accepted
    if kinds is None or not (is_type or (after_type and spot.kind in ("LSQB", "LPAR", "BAR"))):
        return None
    name = spot.near(-3 if after_type else -2)
    listing = f"the types are {listed([f'`{one}`' for one in kinds], 'and')}"
    if spot.room == "parameters" and spot.kind in ("NUMBER", "TRUE", "FALSE"):
        kind = "int" if spot.kind == "NUMBER" else "bool"
        start = span_of_token(spot.before).start
        hint = spot.rewrite((Span(start, spot.span.stop), f": {kind} = {spot.token}"))
        message = f"the value of `{name}` follows `=`, and its type `:`"
        return spot.says("equals-sign", message, "not a type", hint)
    slug = "reserved-word" if spot.kind in KEYWORD_TYPES else "syntax"
    return spot.says(slug, f"the type of `{name}` is one word", "not a type", listing)


# --- use -----------------------------------------------------------------------------------------


def target(spot: Spot) -> Diagnostic | None:
    """`use` with a path that has no quotes, with several files, or with none."""
    if spot.head.type != "USE" or spot.kind == "USE":
        return None
    if len(spot.statement) == 1 and spot.kind in ("SEP", "$END"):
        return _no_target(spot)
    whole = _rest_of_line(spot, 1 - len(spot.statement))
    path = spot.source.slice(whole)
    if re.fullmatch(r"[\w./\\:~-]+", path) and not path.isidentifier() and not path.isdecimal():
        return spot.says(
            "missing-quotes",
            "the path of a file stands in quotes",
            'write `"` around it',
            spot.rewrite((whole, f'"{path}"')),
            span=whole,
            found=quoted(path),
        )
    if len(spot.statement) == 1:
        return _no_target(spot)
    rest = _rest_of_line(spot, 0)
    if spot.kind in ("PATTERN", "USE"):
        label = "`;` or a new line must come before this"
        return spot.says("syntax", "`use` ends with its line", label, spot.insert(";"))
    if spot.kind == "COMMA":
        other = spot.source.slice(spot.rest(1))
        return spot.says(
            "foreign-operator",
            "`use` names one file or pattern",
            "a second one needs its own `use`",
            spot.rewrite((rest, f"; use {other}")) if other else spot.remove(),
        )
    if spot.kind in ("STRING", "OPEN_STRING", "QUOTED"):
        return None
    return spot.says(
        "syntax",
        f"`use` gives no other name and ends with its line; found {spot.found}",
        "the line should end before this",
        spot.rewrite((Span(span_of_token(spot.before).stop, rest.stop), "")),
    )


def _no_target(spot: Spot) -> Diagnostic | None:
    """Something else than a name or a text after `use`, or nothing."""
    if spot.kind in ("UNKNOWN", "QUOTED", "OPEN_STRING", "FLOAT"):
        return None
    if spot.kind in KEYWORD_TYPES:
        message = f"{spot.found} is a word of the language, and no bundled pattern"
        hint = spot.replace(f'"{spot.token}.attn"')
        return spot.says("reserved-word", message, "not the name of a pattern", hint)
    message = "`use` is followed by a file or by the name of a bundled pattern"
    hints = ('a file: `use "other.attn"`', "a bundled pattern: `use longformer`")
    ends = spot.kind in ("SEP", "$END")
    slug, label = ("missing-operand", "nothing to use") if ends else ("syntax", "neither of both")
    return spot.says(slug, message, label, *hints)


def _rest_of_line(spot: Spot, first: int) -> Span:
    """From the token `first` after the spot to the last one on the line."""
    at = spot.at + first
    line = spot.line_of(spot.tokens[at])
    on_line = [one for one in spot.tokens[at:] if one.strip() and spot.line_of(one) == line]
    if not on_line:
        return spot.span
    return Span(span_of_token(on_line[0]).start, span_of_token(on_line[-1]).stop)


def misplaced(spot: Spot) -> Diagnostic | None:
    """`use` below a pattern or in one, and statements outside of every pattern."""
    if spot.start != "file" or spot.statement:
        return None
    if spot.kind == "USE":
        first = next(one for one in spot.tokens if one.type == "PATTERN")
        return spot.says(
            "misplaced-statement",
            "`use` stands at the top of the file, before the first pattern",
            "too late for `use`",
            f"move `{spot.source.slice(spot.rest())}` to the top of the file",
            notes=[Note("the first pattern", span_of_token(first), spot.source)],
        )
    starts = EXPRESSION_STARTS | STATEMENT_WORDS | {"LBRACE"}
    if spot.room != "file" or spot.kind not in starts:
        return None
    ends = [one for one in spot.tokens[: spot.at] if one.type == "RBRACE"][-1:]
    is_early = any(not spot.source.line(spot.line_of(one)).startswith("}") for one in ends)
    return spot.says(
        "misplaced-statement",
        f"{spot.found} stands outside of every pattern",
        "in no pattern",
        "move it into the braces of a pattern: `pattern my_pattern { ... }`",
        "or remove the `}` that ends the pattern too early" if is_early else None,
        notes=[Note("the pattern ends here", span_of_token(one), spot.source) for one in ends],
    )


# --- patterns ------------------------------------------------------------------------------------


def head_of_pattern(spot: Spot) -> Diagnostic | None:
    """What stands between the name, or the parameters, of a pattern and its body."""
    if spot.head.type != "PATTERN" or spot.room != "file" or len(spot.statement) < 2:
        return None
    name = spot.statement[1]
    if spot.kind == "LSQB":
        whole = spot.rest()
        hint = spot.rewrite((whole, f"({spot.source.slice(whole)[1:-1]})"))
        message = "parameters stand in parentheses"
        return spot.says("missing-parentheses", message, "write `(`", hint)
    message = f"the body of `pattern {name}` starts with `{{`"
    return missing_brace(spot, message)


def missing_brace(spot: Spot, message: str) -> Diagnostic:
    """A body must start here, and something else does: `:`, its first statement, or nothing."""
    start = span_of_token(spot.before).stop
    line = spot.line_of(spot.before)
    if spot.kind in ("SEP", "$END"):
        label, hint = "`{` must come before this", spot.insert(" {")
        return spot.says("missing-brace", message, label, hint, _CLOSE_IT)
    replaces = spot.kind not in EXPRESSION_STARTS | STATEMENT_WORDS or spot.token in ("then", "do")
    first = 1 if replaces else 0
    body = spot.rest(first)
    label = "write `{`" if replaces else "`{` must come before this"
    if spot.kind == "RBRACE":
        return spot.says("missing-brace", message, label, spot.rewrite((spot.span, "{")))
    if spot.near(first).type in ("LBRACE", "THEN"):
        return spot.says("missing-brace", message, label, spot.remove())
    if body == Span(body.start, body.start) or spot.line_of(spot.near(first)) != line:
        stop = spot.span.stop if replaces else start
        hint = spot.rewrite((Span(start, stop), " {"))
        return spot.says("missing-brace", message, label, hint, _CLOSE_IT)
    inside = spot.source.slice(body)
    hint = spot.rewrite((Span(start, body.stop), f" {{ {inside} }}"))
    return spot.says("missing-brace", message, label, hint or "close it with `}`")


def parameter(spot: Spot) -> Diagnostic | None:
    """`int reach`, `reach: int 3`, `reach: int = 3 in 1..9`, `reach: int in [1, 9]`."""
    if spot.room != "parameters":
        return None
    if spot.kind == "COMMA" and not spot.part:
        message = "nothing stands before this `,`"
        return spot.says("missing-operand", message, "a parameter must come first", spot.remove())
    if not spot.part:
        return None
    kinds = [token.type for token in spot.part]
    first = spot.part[0]
    if kinds == ["NAME"] and spot.kind == "NAME" and first in _KINDS["parameters"]:
        whole = Span(span_of_token(first).start, spot.span.stop)
        return spot.says(
            "foreign-word",
            "the type of a parameter comes after its name",
            "the name must come first",
            spot.rewrite((whole, f"{spot.token}: {first}")),
        )
    if kinds == ["NAME"] and spot.token in _KINDS["parameters"]:
        message = f"the type of `{first}` follows `:`"
        return spot.says("syntax", message, "write `:` before this", spot.insert(":"))
    if spot.kind == "COMPARISON" and spot.token != "==" and "IN" in spot.accepted:
        message = "the range of a parameter is written `in LOW..HIGH`"
        return spot.says("syntax", message, "not a range", "write it like `reach: int in 1..9`")
    if "EQUAL" in spot.accepted and spot.kind in ("NUMBER", "TRUE", "FALSE", "MINUS"):
        message = f"the value of `{first}` follows `=`"
        return spot.says("equals-sign", message, "write `=` before this", spot.insert(" ="))
    if spot.kind == "IN" and "EQUAL" in kinds:
        return _limits_after_value(spot, spot.part[kinds.index("EQUAL")])
    if "IN" in kinds and "DOTDOT" not in kinds and spot.kind != "SEP":
        return _limits(spot, span_of_token(spot.part[kinds.index("IN")]).stop)
    if spot.kind in ("NAME", "SEP", *KEYWORD_TYPES) and "COMMA" in spot.accepted:
        message, label = "`,` stands between parameters", "`,` must come before this"
        hint = spot.replace(",") if spot.token == ";" else spot.insert(",")
        return spot.says("missing-comma", message, label, hint)
    return None


def _limits_after_value(spot: Spot, equal: Token) -> Diagnostic:
    start = span_of_token(equal).start
    value = spot.source.slice(Span(start, span_of_token(spot.before).stop))
    limits = spot.rest()
    return spot.says(
        "syntax",
        "the range of a parameter comes before its value",
        "comes after the value",
        spot.rewrite((Span(start, limits.stop), f"{spot.source.slice(limits)} {value}")),
    )


def _limits(spot: Spot, start: int) -> Diagnostic:
    """`in [1, 9]`, `in range(1, 9)`, `in 1-9`, `in 1:9` and `in 1 to 9`."""
    stop = span_of_token(spot.before).stop
    if spot.kind in ("COLON", "NAME") and spot.kinds(1, "NUMBER"):
        stop = span_of_token(spot.near(1)).stop
    whole = Span(start, stop)
    ends = re.fullmatch(r"\D*(\d+)\s*(?:,|-|:|to)\s*(\d+)[\])]?", spot.source.slice(whole))
    return spot.says(
        "syntax",
        "the range of a parameter is written `LOW..HIGH`, and HIGH is not in it",
        "`..` must come before this",
        spot.rewrite((whole, f" {ends[1]}..{ends[2]}")) if ends else None,
        None if ends else "write it like `reach: int in 1..9`",
    )

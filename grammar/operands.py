"""Expressions: two without an operator, an operator without two, and signs that mean nothing."""

from __future__ import annotations

from lark import Token

from attnloom.grammar.definitions import not_one_word
from attnloom.grammar.diagnostics import Diagnostic
from attnloom.grammar.foreign import NOTHING
from attnloom.grammar.lexer import span_of_token
from attnloom.grammar.source import Span
from attnloom.grammar.spot import MOST_DIGITS, Spot
from attnloom.grammar.words import (
    BODIES,
    CLOSERS,
    ENDS,
    EXPRESSION_STARTS,
    INFIX,
    KEYWORD_TYPES,
    OPERAND_STARTS,
    VARIABLES,
    quoted,
)

_RANGES = ("FIRST", "LAST", "EVERY")
_LOOSE = INFIX - {"PLUS", "MINUS", "STAR", "FLOOR", "PERCENT", "POWER", "DOTDOT"}
_OF_TOKENS = ("global", "broadcast", "collect")


# --- signs ---------------------------------------------------------------------------------------


def equals(spot: Spot) -> Diagnostic | None:
    """`=` where a comparison needs `==`, and `==` where a value is given."""
    if spot.token == "==" and "EQUAL" in spot.accepted and "COMPARISON" not in spot.accepted:
        message = "a value is given with `=`; `==` compares"
        return spot.says("equals-sign", message, "write `=`", spot.replace("="))
    if spot.kind != "EQUAL" or not spot.ends_operand:
        return None
    kinds = [token.type for token in spot.part]
    if spot.room == "arguments" and not spot.is_condition:
        if len(kinds) > 1 and set(kinds) <= {"NAME", "MINUS"}:
            whole = Span(span_of_token(spot.part[0]).start, span_of_token(spot.before).stop)
            return not_one_word(spot, whole, "the name of an argument")
        message = "only a name can be given a value"
        return spot.says("equals-sign", message, "no name before this", spot.replace("=="))
    message = "`=` gives a name its value; a comparison is written `==`"
    return spot.says("equals-sign", message, "write `==`", spot.replace("=="))


def colon(spot: Spot) -> Diagnostic | None:
    """`0:4`, `window(each_side: 3)` and other uses of `:`."""
    if spot.kind != "COLON":
        return None
    if spot.room == "arguments" and len(spot.part) == 1 and spot.part[0].isidentifier():
        message = f"the value of `{spot.before}` follows `=`"
        return spot.says("foreign-operator", message, "write `=`", spot.tight("="))
    nothing_before = spot.wants_operand and spot.kinds(1, "NUMBER")
    if (spot.ends_operand or nothing_before) and spot.near(1).type in (*OPERAND_STARTS, "MINUS"):
        text = ".." if spot.ends_operand else "0.."
        message = "a range of tokens is written `START..STOP`"
        return spot.says("foreign-operator", message, "write `..`", spot.replace(text))
    if spot.ends_operand and spot.near(1).type in CLOSERS:
        message = "a range of tokens is written `START..STOP`"
        return spot.says("foreign-operator", message, "write `..`", spot.replace("..n"))
    return None


def braces(spot: Spot) -> Diagnostic | None:
    """`{0, 5}` for a list, and `blocks {` for `blocks(size) {`."""
    if spot.kind not in ("LBRACE", "THEN"):
        return None
    if spot.wants_operand and spot.room not in ("body", "file"):
        return _list(spot)
    if spot.wants_operand and spot.before.type in (*INFIX, "EQUAL"):
        return _list(spot)
    if spot.before.type == "NAME" and spot.ends_operand:
        return _no_arguments(spot)
    if not spot.statement:
        message = "`{` stands behind something: `pattern`, `when`, `else` or a call"
        hint = "a choice: `when head < 2 { ... }`, or blocks: `blocks(64) { ... }`"
        return spot.says("syntax", message, "nothing stands before this", hint)
    if spot.before.type in ("ONLY", "NEVER"):
        message = f"`{spot.before}` is followed by an expression, not by a body"
        return spot.says("syntax", message, "write `(`", _in_parentheses(spot))
    return _no_body(spot)


def _no_arguments(spot: Spot) -> Diagnostic:
    """`blocks { ... }`, and `window{each_side=3}`."""
    message = f"the arguments of `{spot.before}` stand in parentheses"
    if spot.kinds(1, "NAME", "EQUAL"):
        hint = _in_parentheses(spot)
        return spot.says("missing-parentheses", message, "write `(`", hint)
    if spot.before not in BODIES:
        return _no_body(spot)
    label = "`(...)` must come before this"
    return spot.says("missing-parentheses", message, label, spot.insert(BODIES[spot.before]))


def _no_body(spot: Spot) -> Diagnostic:
    return spot.says(
        "syntax",
        "a body follows `pattern`, `when`, `else` or a call such as `blocks(64)`",
        "no body can stand here",
        "end the line before `{`, or write what the body belongs to: `when head < 2 { ... }`",
    )


def _in_parentheses(spot: Spot) -> str | None:
    """The line with parentheses in place of the braces that open at the spot."""
    inside = spot.rest(1, commas=True)
    closing = span_of_token(spot.tokens[_closing(spot)])
    whole = Span(spot.span.start, closing.stop)
    return spot.rewrite((whole, f"({spot.source.slice(inside)})"))


def _closing(spot: Spot) -> int:
    """The position of the first closing bracket from the spot on, or of the end of the line."""
    at = spot.at
    while spot.tokens[at].type not in (*CLOSERS, "SEP", "$END"):
        at += 1
    return at


def _list(spot: Spot) -> Diagnostic:
    closing = spot.tokens[_closing(spot)]
    hint = None
    if closing.type == "RBRACE":
        whole = Span(spot.span.start, span_of_token(closing).stop)
        hint = spot.rewrite((whole, f"[{spot.source.slice(whole)[1:-1].strip()}]"))
    message = "a list of tokens stands in `[` and `]`"
    return spot.says("foreign-operator", message, "write `[`", hint or "write it like `[0, 5]`")


def comma(spot: Spot) -> Diagnostic | None:
    """`(0, 5)`, and commas between statements."""
    if spot.kind != "COMMA" or not (spot.ends_operand or spot.before.type == "RBRACE"):
        return None
    if spot.room == "file" and spot.start == "file":
        message = "patterns stand one after another without `,`"
        return spot.says("foreign-operator", message, "leave it out", spot.replace(""))
    if spot.room == "group":
        opening = span_of_token(spot.tokens[spot.brackets[-1]])
        closing = span_of_token(spot.tokens[_closing(spot)])
        message = "a list stands in `[` and `]`; parentheses hold one expression"
        return spot.says(
            "foreign-operator",
            message,
            "a second item",
            spot.rewrite((opening, "["), (closing, "]")),
        )
    message = "`,` stands between arguments and items of a list only"
    hints = [spot.replace(" |"), spot.replace(";") if spot.start == "file" else None]
    if spot.head.type in ("WHEN", "LET"):
        hints = [spot.replace(" and")] if spot.head.type == "WHEN" else hints[1:]
    return spot.says("foreign-operator", message, "not between brackets", *hints)


def semicolon(spot: Spot) -> Diagnostic | None:
    """`[0; 1]` and `f(a; b)`."""
    if spot.token != ";" or spot.room not in ("arguments", "list", "group"):
        return None
    ours = " |" if spot.room == "group" else ","
    message = "`;` stands between statements, and none are inside these brackets"
    return spot.says("foreign-operator", message, f"write `{ours.strip()}`", spot.replace(ours))


def range_of_range(spot: Spot) -> Diagnostic | None:
    """`0..64..8`, a range with a step elsewhere."""
    if spot.kind != "DOTDOT" or not spot.ends_operand:
        return None
    step = spot.source.slice(spot.rest(1, until=_LOOSE))
    whole = Span(spot.span.start, spot.rest(1, until=_LOOSE).stop)
    return spot.says(
        "foreign-operator",
        "a range has a start and a stop, and no step",
        "a second `..`",
        spot.rewrite((whole, f" & every {step}")) if step else "write `0..64 & every 8`",
    )


# --- two operands --------------------------------------------------------------------------------


def side_by_side(spot: Spot) -> Diagnostic | None:
    """Two operands with nothing between them."""
    starts = spot.kind in EXPRESSION_STARTS - {"MINUS"} or spot.kind == "WORD"
    if not spot.ends_operand or not starts:
        return None
    if "FROM" in spot.accepted and spot.kind in ("NAME", "NUMBER"):
        return _missing_from(spot)
    if spot.room in ("list", "arguments"):
        return _missing_comma(spot)
    is_argument = spot.kind in ("NUMBER", "LSQB", *_RANGES) or spot.near(1).type == "EQUAL"
    if spot.before.type == "NAME" and is_argument:
        return _missing_parentheses(spot)
    if spot.kind == "NOT":
        message = "`not` stands before a condition, not between two"
        hints = [spot.insert(" and")]
        return spot.says("missing-operator", message, "an operator must come before this", *hints)
    return _missing_operator(spot)


def _missing_from(spot: Spot) -> Diagnostic:
    """`every 64 starting 63` and `every 64 63`."""
    message = "the first token of `every` follows `from`"
    if spot.kind == "NAME":
        hint = spot.replace("from")
        return spot.says("foreign-word", message, "write `from`", hint)
    return spot.says("missing-operator", message, "write `from` before this", spot.insert(" from"))


def _missing_comma(spot: Spot) -> Diagnostic:
    what = "arguments" if spot.room == "arguments" else "the items of a list"
    message, label = f"`,` stands between {what}", "`,` must come before this"
    if spot.token == "x" and spot.kinds(-1, "NUMBER", "NAME", "NUMBER"):
        return spot.says("missing-comma", message, "write `,`", spot.tight(", "))
    other = _one_argument(spot) if spot.room == "arguments" else None
    return spot.says("missing-comma", message, label, other, spot.insert(","))


def _one_argument(spot: Spot) -> str | None:
    """What two operands in the parentheses of a call may be, other than two arguments."""
    whole = Span(span_of_token(spot.before).start, spot.span.stop)
    if spot.kinds(-1, "NAME", "NAME", "EQUAL"):
        return spot.rewrite((whole, f"{spot.before}_{spot.token}"))
    if spot.kinds(-1, "NUMBER", "NAME") and len(spot.part) == 1:
        return spot.rewrite((whole, f"{spot.token}={spot.before}"))
    if spot.callee in _OF_TOKENS:
        return spot.insert(" |")
    return spot.insert(" and") if spot.callee == "where" else None


def _missing_parentheses(spot: Spot) -> Diagnostic:
    """`window 512`, `global first 4`, `global[0]`."""
    name = spot.before
    rest = spot.rest(until=INFIX - {"MINUS", "DOTDOT"}, commas=True)
    value = spot.source.slice(rest)
    whole = Span(span_of_token(name).stop, rest.stop)
    is_tight = span_of_token(name).stop == spot.span.start
    if spot.kind == "LSQB" and ("=" in value or (is_tight and "," not in value)):
        value = value[1:-1]
    hints = [spot.rewrite((whole, f"({value})"))]
    if name == "window" and value.isdecimal() and len(value) <= MOST_DIGITS:
        readings = (f"each_side={value}", f"last={value}", f"width={int(value) | 1}")
        hints = [spot.rewrite((whole, f"({reading})")) for reading in readings]
    return spot.says(
        "missing-parentheses",
        f"the arguments of `{name}` stand in parentheses",
        "write `(` before this" if spot.kind != "LSQB" else "write `(`",
        *hints,
    )


def _missing_operator(spot: Spot) -> Diagnostic:
    before = spot.before
    between = "and" if spot.is_condition else "|"
    hints: list[str | None] = []
    if before.type == "NUMBER" and spot.kind in ("NAME", "LPAR"):
        if spot.kind == "NAME" and spot.token not in VARIABLES:
            hints = [spot.remove()]
        else:
            between = "*"
    if before != "where":
        hints.insert(0, spot.insert(f" {between}"))
    if before.type == "NAME":
        rest = spot.rest(until=frozenset() if before == "where" else INFIX)
        whole = Span(span_of_token(before).stop, rest.stop)
        hints.append(spot.rewrite((whole, f"({spot.source.slice(rest)})")))
    return spot.says(
        "missing-operator",
        f"nothing joins {quoted(before)} and {spot.found}",
        "an operator must come before this",
        *hints,
    )


# --- no operand ----------------------------------------------------------------------------------


def loose_operand(spot: Spot) -> Diagnostic | None:
    """`~first 4` and `a | not b`, which need parentheses."""
    if not spot.wants_operand or spot.kind not in (*_RANGES, "NOT") or spot.kind in spot.accepted:
        return None
    until = INFIX if spot.kind != "NOT" else frozenset({"AND", "OR"})
    operand = spot.rest(until=until)
    return spot.says(
        "missing-parentheses",
        f"{spot.found} after `{spot.before}` needs parentheses",
        "write `(` before this",
        spot.rewrite((operand, f"({spot.source.slice(operand)})")),
    )


def missing_operand(spot: Spot) -> Diagnostic | None:
    """An operator, `=`, `,` or a word such as `first` without what must follow it."""
    if not spot.wants_operand or spot.kind in EXPRESSION_STARTS:
        return None
    before = spot.before
    if spot.kinds(-1, "PLUS", "PLUS") and spot.near(1).type in ENDS:
        return _step(spot, spot.near(-2), spot.before)
    if spot.kinds(-2, "MINUS", "MINUS") and spot.kind in ENDS:
        return _step(spot, spot.near(-3), spot.near(-2))
    if spot.kind == "PLUS":
        message = "there is no sign `+` before a number"
        hint = spot.rewrite((Span(spot.span.start, span_of_token(spot.near(1)).start), ""))
        return spot.says("foreign-operator", message, "leave it out", hint)
    if spot.kinds(-1, "STAR", "STAR") or spot.kinds(-1, "COMPARISON", "EQUAL"):
        return _split_operator(spot)
    if before.type == "EQUAL" and spot.kind == "EQUAL":
        return _split_operator(spot)
    if before.type == "COMMA" or (before.type in ("LPAR", "LSQB") and spot.kind == "COMMA"):
        message = "nothing stands between the commas" if before == "," else "a list starts with `,`"
        return spot.says("missing-operand", message, "an item must come before this", spot.remove())
    if spot.kinds(-1, "LPAR", "RPAR"):
        message, label = "nothing stands between the parentheses", "an expression must come first"
        return spot.says("missing-operand", message, label, *NOTHING)
    if spot.kind == "DOTDOT":
        message = "a range has a start: `0..4`"
        return spot.says("missing-operand", message, "the start is missing", spot.replace("0.."))
    if before.type == "DOTDOT":
        message, label = "a range has a stop: `0..4`", "the stop must come first"
        last = "9" if spot.room == "parameters" else "n"
        return spot.says("missing-operand", message, label, spot.insert(last))
    if spot.kind in INFIX and before.type not in INFIX | {"EQUAL"}:
        message = f"nothing stands to the left of {spot.found}"
        return spot.says("missing-operand", message, "the left side is missing", spot.remove())
    if before.type in INFIX | {"TILDE", "EQUAL"}:
        return _nothing_follows(spot)
    if before.type in KEYWORD_TYPES:
        return _after_word(spot)
    return None


def _nothing_follows(spot: Spot) -> Diagnostic:
    """An operator or `=` is the last of its line, or is followed by another operator."""
    before = spot.before
    side = "the value after" if before.type == "EQUAL" else "the right side of"
    if before.type == "EQUAL":
        is_tight = span_of_token(spot.near(-2)).stop == span_of_token(before).start
        hint = spot.insert("1" if is_tight and spot.room == "arguments" else " 1")
    elif before.type in ("MINUS", "TILDE") and not _ends_operand(spot.near(-2)):
        hint = spot.insert("1" if before.type == "MINUS" else "causal")
    else:
        hint = spot.insert(" 2") if before.type == "COMPARISON" else spot.remove(before)
    return spot.says(
        "missing-operand",
        f"{side} `{before}` is missing",
        f"{spot.found} follows this",
        hint,
        span=span_of_token(before),
    )


def _ends_operand(token: Token) -> bool:
    return token.type in ("NAME", "NUMBER", "TRUE", "FALSE", "RPAR", "RSQB", "RBRACE")


def _step(spot: Spot, name: Token, sign: Token) -> Diagnostic:
    """`x++` and `x--`."""
    start = span_of_token(sign).start
    message = f"`{sign}{sign}` is no operator of the language: a name keeps its value"
    return spot.says(
        "foreign-operator",
        message,
        "not an operator",
        f"give the new value a new name: `let new_{name} = {name} {sign} 1`",
        span=Span(start, start + 2),
        found=f"`{sign}{sign}`",
    )


_AFTER = {
    "FIRST": "4",
    "LAST": "4",
    "EVERY": "64",
    "FROM": "0",
    "IN": "1..9",
    "ONLY": "causal",
    "NEVER": "self",
    "NOT": "causal",
}


def _after_word(spot: Spot) -> Diagnostic | None:
    word = spot.before
    if word.type not in _AFTER:
        return None
    example = _AFTER[word.type]
    goes_on = word.type == "NOT" and spot.kind != "SEP"
    return spot.says(
        "missing-operand",
        f"`{word}` is followed by {'a number' if example[0].isdigit() else 'an expression'}",
        f"{spot.found} follows this" if goes_on else "this comes too early",
        spot.insert(f" {example}"),
        span=span_of_token(word) if goes_on else None,
    )


def start(spot: Spot) -> Diagnostic | None:
    """`first 4 from 2`: only `every` has a start."""
    if spot.kind != "FROM" or not spot.ends_operand:
        return None
    hint = None
    first, value = spot.near(1), spot.before
    if (
        spot.kinds(-2, "FIRST", "NUMBER", "FROM", "NUMBER")
        and len(first + value) <= 2 * MOST_DIGITS
    ):
        whole = Span(span_of_token(spot.near(-2)).start, span_of_token(first).stop)
        if first.isdecimal() and value.isdecimal():
            hint = spot.rewrite((whole, f"{first}..{int(first) + int(value)}"))
    return spot.says(
        "syntax",
        "`from` follows `every` and its step: `every 64 from 63`",
        "no `every` before this",
        hint or "a range has two ends: `2..6`",
    )


def _split_operator(spot: Spot) -> Diagnostic:
    whole = Span(span_of_token(spot.before).start, spot.span.stop)
    ours = f"{spot.before}{spot.token}"
    ours = ours if ours in ("**", "==", "<=", ">=", "!=") else str(spot.before)
    return spot.says(
        "foreign-operator",
        f"the operator `{ours}` is written without a blank",
        f"write `{ours}`",
        spot.rewrite((whole, ours)),
        span=whole,
        found=quoted(spot.source.slice(whole)),
    )


def word_as_value(spot: Spot) -> Diagnostic | None:
    """A word of the language where a value must stand: `global(memory)`."""
    if not spot.wants_operand or spot.kind not in KEYWORD_TYPES or spot.kind in INFIX:
        return None
    if spot.is_first_on_line(spot.token) and spot.before.type in INFIX | {"EQUAL"}:
        return spot.says(
            "missing-operand",
            f"nothing follows `{spot.before}` on its line",
            "the rest is missing after this",
            spot.insert(" 1") if spot.before.type == "EQUAL" else spot.remove(spot.before),
            span=span_of_token(spot.before),
        )
    if spot.kinds(-1, "EVERY", "FROM"):
        return _after_word(spot)
    return spot.says(
        "reserved-word",
        f"{spot.found} is a word of the language and has no value",
        "not a value",
        f"for a name of your own write `{spot.token}_`",
    )

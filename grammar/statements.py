"""Statements that begin well and go on wrong: `let x 3`, `expect hops = 2`, `when head < 2:`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from lark import Token

from attnloom.grammar.definitions import missing_brace, not_one_word
from attnloom.grammar.diagnostics import Diagnostic
from attnloom.grammar.foreign import INFIX_WORDS
from attnloom.grammar.lexer import span_of_token
from attnloom.grammar.source import Span
from attnloom.grammar.spot import Spot
from attnloom.grammar.words import BODIES, ENDS, EXPRESSION_STARTS, STATEMENT_WORDS, quoted

_WORDS = (*sorted(word.lower() for word in STATEMENT_WORDS), "pattern", "use", "else")
_LONGEST_WORD = 12
_INPUTS = ("tokens", "segments", "links")


def misspelt(spot: Spot) -> Diagnostic | None:
    """`wehn head < 2 {`, `patern p {`, `Only causal`."""
    word = spot.head
    if word.type != "NAME" or len(spot.statement) > 1 or spot.room not in ("file", "body"):
        return None
    goes_on = not spot.statement or spot.kind in EXPRESSION_STARTS
    if spot.start != "file" or not goes_on or len(word) > _LONGEST_WORD:
        return None
    near = difflib.get_close_matches(word.lower(), _WORDS, n=1, cutoff=0.7)
    if not near:
        return None
    return spot.says(
        "misspelt-word",
        f"`{word}` is no word of the language",
        f"did you mean `{near[0]}`?",
        spot.replace(near[0], word),
        span=span_of_token(word),
        found=quoted(word),
        expected=(f"`{near[0]}`",),
    )


def missing_let(spot: Spot) -> Diagnostic | None:
    """`x = 3`, `x: int = 3`, and `question: tokens` without `input`."""
    if spot.room != "body" or [token.type for token in spot.statement] != ["NAME"]:
        return None
    name = span_of_token(spot.head)
    start = Span(name.start, name.start)
    word, type_after = "let", Span(spot.span.start, span_of_token(spot.near(1)).stop)
    if spot.kind == "COLON" and spot.near(1) in _INPUTS:
        word, hint = "input", spot.rewrite((start, "input "))
    elif spot.head in _INPUTS and spot.kind == "NAME" and spot.near(1).type == "SEP":
        whole = Span(name.start, spot.span.stop)
        word, hint = "input", spot.rewrite((whole, f"input {spot.token}: {spot.head}"))
    elif spot.kind == "COLON" and spot.kinds(1, "NAME", "EQUAL"):
        hint = spot.rewrite((start, "let "), (type_after, ""))
    elif spot.kind == "EQUAL":
        hint = spot.rewrite((start, "let "))
    else:
        return None
    what = "an input is declared" if word == "input" else f"a value is given to `{spot.head}`"
    return spot.says(
        "missing-let",
        f"{what} with `{word}`",
        f"`{word}` must come before this",
        hint,
        span=name,
        found=f"`{spot.head}` and {spot.found}",
        expected=(f"`{word}`",),
    )


def let(spot: Spot) -> Diagnostic | None:
    """What follows the name after `let`."""
    if spot.head.type != "LET" or len(spot.statement) != 2 or spot.room != "body":
        return None
    name = spot.statement[1]
    if spot.kind in ENDS:
        message, label = f"`let {name}` needs a value", "the value must come before this"
        return spot.says("missing-operand", message, label, spot.insert(" = 1"))
    if spot.kind == "LPAR":
        message, label = "a name has no parameters; a pattern has", "names have no parameters"
        hint = f"write a pattern of its own: `pattern {name}(x: int) {{ ... }}`"
        return spot.says("syntax", message, label, hint)
    if spot.kind in EXPRESSION_STARTS:
        message, label = f"the value of `{name}` follows `=`", "write `=` before this"
        return spot.says("equals-sign", message, label, spot.insert(" ="))
    if spot.kind == "COLON" and spot.kinds(1, "NAME", "EQUAL"):
        stop = span_of_token(spot.near(1)).stop
        message, label = "`let` gives a name a value, not a type", "leave the type out"
        return spot.says("syntax", message, label, spot.rewrite((Span(spot.span.start, stop), "")))
    if spot.kind == "COMMA":
        message, label = "`let` gives a value to one name", "a second name"
        return spot.says("syntax", message, label, f"use a line for each: `let {name} = ...`")
    return None


def declaration(spot: Spot) -> Diagnostic | None:
    """What follows the name after `input`."""
    if spot.head.type != "INPUT" or spot.room != "body" or len(spot.statement) < 2:
        return None
    name = spot.statement[1]
    if len(spot.statement) == 4 and spot.kind == "EQUAL":
        return spot.says(
            "syntax",
            "an input has no value in the file: it is given when the pattern is compiled or called",
            "inputs have no default",
            spot.rewrite((Span(span_of_token(spot.before).stop, spot.rest(1).stop), "")),
        )
    if len(spot.statement) == 4 and spot.kind == "COMMA":
        message, label = f"the input `{name}` has one kind", "a second kind"
        hint = spot.rewrite((Span(spot.span.start, spot.rest(1).stop), ""))
        return spot.says("syntax", message, label, hint)
    if len(spot.statement) > 2:
        return None
    if name in _INPUTS and spot.kind == "NAME":
        whole = Span(span_of_token(name).start, spot.span.stop)
        hint = spot.rewrite((whole, f"{spot.token}: {name}"))
        name = spot.token
    elif spot.near(1) in _INPUTS:
        hint = spot.rewrite((Span(span_of_token(name).stop, spot.span.stop), ":"))
    elif spot.token in _INPUTS:
        hint = spot.insert(":")
    else:
        hint = spot.insert(": tokens") if spot.kind in ENDS else f"write `input {name}: tokens`"
    return spot.says(
        "syntax",
        f"the kind of the input `{name}` follows its name and `:`",
        "`:` and a kind must come before this" if name is not spot.token else "this is the name",
        hint,
        "the kinds are `tokens`, `segments` and `links`",
    )


def stray_colon(spot: Spot) -> Diagnostic | None:
    """`only: causal`."""
    if spot.kind != "COLON" or spot.before.type not in ("ONLY", "NEVER", "EXPECT"):
        return None
    message = f"`{spot.before}` is followed by what it speaks of, without `:`"
    return spot.says("foreign-operator", message, "leave it out", spot.remove())


# --- expect --------------------------------------------------------------------------------------


def contract(spot: Spot) -> Diagnostic | None:
    """What follows `expect`: a metric, a comparison and one value, or a property."""
    if spot.head.type != "EXPECT" or spot.room != "body":
        return None
    if len(spot.statement) == 1:
        message = "`expect` is followed by a metric or a property"
        hints = ["a metric: `expect hops <= 2`", "a property: `expect connected`"]
        if spot.kind in ENDS:
            return spot.says("missing-operand", message, "nothing is expected", *hints)
        turned = _turned(spot) if spot.kinds(0, "NUMBER", "COMPARISON", "NAME") else None
        hints = [turned] if turned else hints
        return spot.says("syntax", message, "neither a metric nor a property", *hints)
    if len(spot.statement) == 2:
        return _after_metric(spot)
    if spot.ends_operand and spot.kind in ("COMPARISON", "AND", "OR", "COMMA"):
        message = "a contract compares one metric with one value"
        if spot.kind == "COMPARISON":
            whole = Span(span_of_token(spot.before).stop, spot.rest(1).stop)
            hint = spot.rewrite((whole, ""))
            return spot.says("syntax", message, "a second comparison", hint)
        return spot.says("syntax", message, "a second contract", _another_contract(spot))
    return None


def _after_metric(spot: Spot) -> Diagnostic | None:
    metric = spot.statement[1]
    message = f"the metric `{metric}` is compared with a value"
    if spot.kind == "EQUAL":
        return spot.says("equals-sign", message, "write `==`", spot.replace("=="))
    if spot.kind in ("COMMA", "AND", "OR"):
        hint = _another_contract(spot)
        return spot.says("syntax", "`expect` states one contract", "a second contract", hint)
    if spot.token in INFIX_WORDS:
        ours = INFIX_WORDS[spot.token]
        return spot.says("foreign-word", message, f"write `{ours}`", spot.replace(ours))
    words = _words(spot)
    if words:
        whole = Span(span_of_token(metric).start, span_of_token(words[-1]).stop)
        return not_one_word(spot, whole, "the name of a metric")
    if spot.kind in ("NUMBER", "MINUS"):
        label = "a comparison must come before this"
        return spot.says("missing-operator", message, label, spot.insert(" <="))
    if spot.kinds(0, "LPAR", "NAME", "RPAR"):
        whole = Span(span_of_token(metric).start, span_of_token(spot.near(2)).stop)
        hint = spot.rewrite((whole, str(spot.near(1))))
        return spot.says("syntax", "a metric stands without parentheses", "leave this out", hint)
    return spot.says("syntax", message, "not a comparison", f"write `expect {metric} <= 2`")


def _words(spot: Spot) -> Sequence[Token]:
    """The words at the spot, `-` between them, if the name of a metric can end after them."""
    at = spot.at
    while spot.tokens[at].type == "NAME" or spot.kinds(at - spot.at, "MINUS", "NAME"):
        at += 1
    ends = spot.tokens[at].type in ("COMPARISON", "EQUAL", *ENDS)
    return spot.tokens[spot.at : at] if ends else ()


def _turned(spot: Spot) -> str | None:
    """`2 >= hops` the other way round, and `1 <= hops <= 2` as two contracts."""
    turned = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
    value, sign, metric = (spot.near(at) for at in range(3))
    ours = f"{metric} {turned.get(str(sign), str(sign))} {value}"
    whole = Span(spot.span.start, span_of_token(metric).stop)
    if spot.near(3).type == "COMPARISON":
        second = spot.rest(3)
        ours += f"; expect {metric} {spot.source.slice(second)}"
        whole = Span(whole.start, second.stop)
    return spot.rewrite((whole, ours))


def _another_contract(spot: Spot) -> str | None:
    rest = spot.rest(1)
    whole = Span(span_of_token(spot.before).stop, rest.stop)
    return spot.rewrite((whole, f"; expect {spot.source.slice(rest)}"))


# --- when ----------------------------------------------------------------------------------------


def condition(spot: Spot) -> Diagnostic | None:
    """What follows `when` and its condition, and `else`."""
    if spot.room != "body" or spot.head.type != "WHEN":
        return None
    if spot.before.type == "ELSE":
        return _otherwise(spot)
    if spot.before.type == "WHEN" and spot.kind in ("THEN", "COLON", *ENDS):
        message, label = "`when` is followed by a condition", "a condition must come before this"
        return spot.says("missing-operand", message, label, spot.insert(" head < 2"))
    is_word = spot.token in ("then", "do")
    opens = spot.kind in ("COLON", *ENDS) or is_word
    if not spot.ends_operand or not (opens or _starts_body(spot)):
        return None
    if spot.token == ";" and spot.near(1) == "{":
        message, label = "the condition of `when` is followed by `{`", "leave it out"
        return spot.says("syntax", message, label, spot.remove())
    return missing_brace(spot, "the body of `when` starts with `{`")


def _starts_body(spot: Spot) -> bool:
    """Whether the token begins the body, as no `{` follows on the line that could."""
    line = spot.line_of(spot.token)
    later = (one for one in spot.tokens[spot.at :] if spot.line_of(one) == line)
    starts = spot.kind in STATEMENT_WORDS or spot.kind in EXPRESSION_STARTS - {"MINUS", "NOT"}
    return starts and not any(one == "{" for one in later)


def _otherwise(spot: Spot) -> Diagnostic:
    message = "`else` is followed by `{` or by `when`"
    if spot.kind in EXPRESSION_STARTS and not _starts_body(spot):
        label = "`when` must come before this"
        return spot.says("missing-brace", message, label, spot.insert(" when"))
    return missing_brace(spot, message)


def lone_else(spot: Spot) -> Diagnostic | None:
    """`else` that follows no body of a `when`."""
    if spot.kind != "ELSE":
        return None
    if spot.before == ";" and spot.near(-2).type == "RBRACE":
        message, label = "`else` follows its `when` without `;`", "`;` ended the `when`"
        return spot.says("missing-else", message, label, spot.remove(spot.before))
    if spot.before.type == "RBRACE" and spot.head.type == "WHEN":
        message, label = "a `when` has one `else`", "the second `else`"
        hint = "for another condition write `else when head < 4 { ... }` before the last `else`"
        return spot.says("missing-else", message, label, hint)
    if spot.statement:
        return None
    message, label = "`else` follows the `}` of a `when`", "no `when` ends right before this"
    example = "begin with `when`: `when head < 2 { ... } else { ... }`"
    if spot.near(1).type != "WHEN":
        return spot.says("missing-else", message, label, example)
    without = spot.rewrite((Span(spot.span.start, span_of_token(spot.near(1)).start), ""))
    return spot.says("missing-else", message, label, without or example)


# --- calls ---------------------------------------------------------------------------------------


def memory(spot: Spot) -> Diagnostic | None:
    """`memory 4` and `memory = 4`."""
    if spot.before.type != "MEMORY" or len(spot.statement) != 1 or spot.room != "body":
        return None
    value = spot.rest(1 if spot.kind in ("EQUAL", "COLON") else 0, commas=True)
    whole = Span(span_of_token(spot.before).stop, value.stop)
    if spot.kind == "LSQB":
        value = Span(value.start + 1, value.stop - 1)
    return spot.says(
        "missing-parentheses",
        "the number of memory tokens stands in parentheses",
        "`(` must come before this" if spot.kind in ENDS else "write `(`",
        spot.rewrite((whole, f"({spot.source.slice(value) or 4})")),
        None if value.stop > value.start else "write `memory(4)`",
    )


def body_of_call(spot: Spot) -> Diagnostic | None:
    """`blocks(64):` and `grid(8, 8) near(1)`, whose bodies stand in braces."""
    if spot.room != "body" or spot.before.type != "RPAR" or not spot.ends_operand:
        return None
    has_body = spot.head in BODIES
    if spot.kind == "COLON" or (has_body and spot.kind in EXPRESSION_STARTS):
        return missing_brace(spot, "a body stands in `{` and `}`")
    return None


def same_line(spot: Spot) -> Diagnostic | None:
    """Two statements on one line without `;`."""
    if not spot.statement or spot.room not in ("file", "body"):
        return None
    starts = STATEMENT_WORDS | {"USE"} | (frozenset() if spot.ends_operand else EXPRESSION_STARTS)
    if "SEP" not in spot.accepted or spot.kind not in starts:
        return None
    message = f"{spot.found} starts a statement, and the one before has not ended"
    label = "`;` or a new line must come before this"
    return spot.says("missing-operator", message, label, spot.insert(";"))

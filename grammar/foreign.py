"""Words and signs of other languages, and how ours says the same."""

from __future__ import annotations

from attnloom.grammar.diagnostics import Diagnostic
from attnloom.grammar.lexer import span_of_token
from attnloom.grammar.source import Span
from attnloom.grammar.spot import MOST_DIGITS, Spot
from attnloom.grammar.words import CLOSERS, EXPRESSION_STARTS, listed, quoted

ELSE_WHEN = frozenset({"elif", "elsif", "elseif", "elsewhen"})

STATEMENTS: dict[str, str] = {
    "if": "when",
    **dict.fromkeys(("switch", "match", "case"), "when"),
    "unless": "when not",
    **dict.fromkeys(ELSE_WHEN, "else when"),
    **dict.fromkeys(("def", "fn", "fun", "func", "function", "proc", "class"), "pattern"),
    **dict.fromkeys(("import", "include", "require", "using", "load"), "use"),
    **dict.fromkeys(("var", "val", "const", "auto", "set", "define", "int", "bool"), "let"),
    **dict.fromkeys(("assert", "ensure", "check", "verify", "invariant", "contract"), "expect"),
    **dict.fromkeys(("exclude", "remove", "deny", "forbid", "except", "without"), "never"),
    **dict.fromkeys(("keep", "restrict", "limit", "filter"), "only"),
}
"""The first word of a statement elsewhere -> the words of ours that say the same."""

_ADDS = ("return", "yield", "add", "allow", "union", "emit", "with")
_LOOPS = ("for", "foreach", "while", "loop", "repeat", "do")

EXPLAINED: dict[str, str] = {
    **dict.fromkeys(_ADDS, "an expression alone adds its links: `window(each_side=8)`"),
    **dict.fromkeys(_LOOPS, "a relation speaks of all tokens at once: `stride(64)`"),
    **dict.fromkeys(("pass", "continue", "break"), "a body without statements is `{}`"),
    **dict.fromkeys(("begin", "end", "endif", "fi", "done"), "a body stands in `{` and `}`"),
    "param": "parameters stand behind the name: `pattern p(reach: int = 8) { ... }`",
}
"""The first word of a statement elsewhere for which ours has none -> what to do instead."""

RESERVED = frozenset(
    {*("if", "unless", "switch", "for", "foreach", "while", "return", "import"), *ELSE_WHEN}
    | {"def", "fn", "func", "function"}
)
"""Words that start no statement of ours even where the rest of it would fit: `if (...) { ... }`."""

VALUES: dict[str, tuple[str, ...]] = {
    "True": ("true",),
    "False": ("false",),
    "None": ("[]", "none"),
    "null": ("[]", "none"),
}
"""A value elsewhere -> ours; these are no names here, wherever they stand."""

NOTHING = ("no tokens are written `[]`", "no links are written `none`")

INFIX_WORDS: dict[str, str] = {
    "xor": "^",
    **dict.fromkeys(("mod", "modulo"), "%"),
    "div": "//",
    "times": "*",
    **dict.fromkeys(("is", "eq", "equals"), "=="),
    **dict.fromkeys(("isnt", "ne"), "!="),
    **{"lt": "<", "le": "<=", "gt": ">", "ge": ">="},
    **dict.fromkeys(("to", "upto", "until", "thru", "through"), ".."),
    **dict.fromkeys(("union", "plus"), "|"),
    **dict.fromkeys(("intersect", "intersection"), "&"),
    **dict.fromkeys(("minus", "except", "without", "excluding"), "-"),
}
"""A word between two operands elsewhere -> our operator."""

_SIGNS: dict[str, str] = {
    "<>": "!=",
    "!==": "!=",
    "=<": "<=",
    "===": "==",
    "/": "//",
    "..<": "..",
}
"""An operator elsewhere -> ours, wherever it stands."""


def comment(spot: Spot) -> Diagnostic | None:
    """`// text` and `/* text */`, which are no comments here."""
    slashes = spot.token
    if slashes not in ("/*", "*/"):
        line = spot.line_of(spot.token)
        floors = (one for one in spot.tokens[: spot.at + 1] if one.type == "FLOOR")
        first = next((one for one in floors if spot.line_of(one) == line), None)
        if first is None:
            return None
        are_words = spot.before.type == "NAME" and spot.kind not in ("SEP", "$END", *CLOSERS)
        if not (first is spot.token or spot.is_first_on_line(first) or are_words):
            return None
        slashes = first
    edits = [(span_of_token(slashes), "" if slashes == "*/" else "#")]
    end = next((one for one in spot.tokens[spot.at :] if one == "*/"), None)
    if slashes == "/*" and end is not None and spot.line_of(end) == spot.line_of(slashes):
        start = len(spot.source.text[: span_of_token(end).start].rstrip(" "))
        edits.append((Span(start, span_of_token(end).stop), ""))
    return spot.says(
        "foreign-operator",
        f"`{slashes}` is no comment here: comments start with `#`",
        "a comment starts with `#`",
        spot.rewrite(*edits),
        span=span_of_token(slashes),
        found=quoted(slashes),
        expected=("`#`",),
    )


def value(spot: Spot) -> Diagnostic | None:
    """`True`, `None` and the like."""
    if spot.kind != "NAME" or spot.token not in VALUES:
        return None
    ours = [f"`{one}`" for one in VALUES[spot.token]]
    if len(ours) == 1:
        message = f"{spot.found} is written {ours[0]}"
        hints = [spot.replace(VALUES[spot.token][0])]
    else:
        message = f"there is no {spot.found} in the language"
        hints = [*NOTHING]
    return spot.says("foreign-word", message, f"write {listed(ours)}", *hints)


def statement(spot: Spot) -> Diagnostic | None:
    """A statement that begins as in another language: `if`, `def`, `return`, `for`."""
    word = spot.head
    if word.type == "FROM" and not spot.statement and spot.kinds(1, "NAME"):
        return _import(spot)
    if word.type != "NAME" or spot.start != "file" or spot.room not in ("file", "body"):
        return None
    follows = spot.kind in EXPRESSION_STARTS or spot.kind in ("STRING", "QUOTED", "LBRACE")
    if len(spot.statement) > 1 or (spot.statement and not follows):
        return None
    if word in STATEMENTS:
        ours = STATEMENTS[word]
        message = f"`{word}` is no word of the language; `{ours}` is"
        if word in ("int", "bool"):
            message = "a value is given to a name with `let`, and its type shows by itself"
        return spot.says(
            "foreign-word",
            message,
            f"write `{ours}`",
            _use_at_the_top(spot) if ours == "use" and spot.room == "body" else None,
            None if ours == "use" and spot.room == "body" else _replace_head(spot, ours),
            span=span_of_token(word),
            found=quoted(word),
            expected=(f"`{ours}`",),
        )
    if word in EXPLAINED:
        return spot.says(
            "foreign-word",
            f"there is no `{word}` in the language",
            "not a word of the language",
            spot.remove(word) if word in _ADDS and spot.statement else None,
            EXPLAINED[word],
            span=span_of_token(word),
            found=quoted(word),
        )
    return None


def _import(spot: Spot) -> Diagnostic:
    """`from longformer import longformer`."""
    whole = Span(spot.span.start, spot.rest().stop)
    message = "patterns of other files are made known with `use`"
    hint = spot.rewrite((whole, f"use {spot.near(1)}"))
    return spot.says("foreign-word", message, "write `use`", hint, expected=("`use`",))


def _use_at_the_top(spot: Spot) -> str:
    return f"write `use {spot.source.slice(spot.rest())}` at the top of the file"


def _replace_head(spot: Spot, ours: str) -> str | None:
    """The line with our word first, and without the types that C writes before a name."""
    head = span_of_token(spot.head)
    if ours == "let" and spot.token in ("int", "bool", "auto", "mut"):
        return spot.rewrite((Span(head.start, spot.span.stop), ours))
    return spot.rewrite((head, ours))


def else_when(spot: Spot) -> Diagnostic | None:
    """`} elif ... {` and `} else if ... {`."""
    is_elif = spot.before.type == "RBRACE" and spot.head.type == "WHEN" and spot.token in ELSE_WHEN
    is_else_if = spot.before.type == "ELSE" and spot.token in ("if", *ELSE_WHEN)
    if not (is_elif or is_else_if):
        return None
    return spot.says(
        "foreign-word",
        f"{spot.found} is no word of the language: another condition starts with `else when`",
        "write `else when`" if is_elif else "write `when`",
        spot.replace("else when" if is_elif else "when"),
        expected=("`else when`",) if is_elif else None,
    )


def infix_word(spot: Spot) -> Diagnostic | None:
    """`a xor b`, `n mod 2`, `0 to 4`."""
    if not spot.ends_operand or spot.kind != "NAME" or spot.token not in INFIX_WORDS:
        return None
    ours = INFIX_WORDS[spot.token]
    return spot.says(
        "foreign-word",
        f"{spot.found} is no operator of the language; `{ours}` is",
        f"write `{ours}`",
        spot.tight("..") if ours == ".." else spot.replace(ours),
    )


def choice(spot: Spot) -> Diagnostic | None:
    """A condition inside an expression: `x if c else y`, `c ? x : y`, `let x = when c { ... }`."""
    if not is_choice(spot):
        return None
    return spot.says(
        "foreign-operator" if spot.token == "?" else "foreign-word",
        "`when` chooses between statements; nothing chooses between values",
        "a choice inside an expression",
        "choose between statements: `when head < 2 { causal } else { full }`",
    )


def is_choice(spot: Spot) -> bool:
    if spot.kind == "WHEN":
        return spot.room != "parameters" and spot.before.type in ("EQUAL", "LPAR", "ONLY", "NEVER")
    if not spot.ends_operand:
        return False
    is_ternary = spot.token == "?" and spot.near(1).type in EXPRESSION_STARTS
    return is_ternary or spot.token in _IF or spot.before in _IF


_IF = ("if", "unless")
_SIMPLE = ("NUMBER", "NAME")


def membership(spot: Spot) -> Diagnostic | None:
    """`x in 0..4` as a condition."""
    if not spot.ends_operand or not (spot.kind == "IN" or spot.kinds(0, "NOT", "IN")):
        return None
    hint = None
    if spot.kinds(-1, "NAME", "IN"):
        start, ours = span_of_token(spot.before).start, None
        if spot.near(2).type == "DOTDOT" and spot.near(3).type in _SIMPLE:
            stop = span_of_token(spot.near(3)).stop
            ours = f"{spot.near(1)} <= {spot.before} < {spot.near(3)}"
        elif spot.near(1).type == "LSQB":
            whole = spot.rest(1)
            stop = whole.stop
            items = spot.source.slice(whole)[1:-1].split(",")
            if len(items) <= 4 and all(item.strip().isalnum() for item in items):
                ours = " or ".join(f"{spot.before} == {item.strip()}" for item in items)
        hint = spot.rewrite((Span(start, stop), ours)) if ours else None
    return spot.says(
        "foreign-word",
        "`in` is no comparison of the language",
        "not an operator",
        hint or "compare with both ends: `0 <= i < 4`",
    )


def operator(spot: Spot) -> Diagnostic | None:
    """An operator that only other languages have."""
    if spot.kind != "FOREIGN":
        return None
    sign = str(spot.token)
    if sign in _SIGNS:
        ours = _SIGNS[sign]
        return _foreign(spot, f"`{ours}`", spot.replace(ours))
    if sign[0] in "&|" and sign.strip("&|") == "":
        words = ("and", "&") if sign[0] == "&" else ("or", "|")
        first, second = words if spot.is_condition else words[::-1]
        kind = "relations" if spot.is_condition else "conditions"
        return _foreign(spot, f"`{first}`", spot.replace(first), f"between {kind} write `{second}`")
    if sign == "!":
        after = " " if spot.source.text[spot.span.stop : spot.span.stop + 1] != " " else ""
        first, second = (f"not{after}", "~") if spot.is_condition else ("~", "not")
        kind = "a relation" if spot.is_condition else "a condition"
        return _foreign(
            spot, f"`{first.strip()}`", spot.replace(first), f"before {kind} write `{second}`"
        )
    if sign.startswith("...") or sign == "..=":
        return _dots(spot)
    if sign in ("<<", ">>"):
        power = "* 2 **" if sign == "<<" else "// 2 **"
        hint = spot.replace(power)
        if sign == "<<" and spot.before == "1":
            whole = Span(span_of_token(spot.before).start, spot.span.stop)
            hint = spot.rewrite((whole, "2 **"))
        return _foreign(spot, f"`{power}`", hint)
    if sign == ":=":
        return _foreign(spot, "`=`", _with_let(spot))
    if sign in ("->", "=>"):
        return _arrow(spot)
    return _augmented(spot)


def _foreign(spot: Spot, ours: str, *hints: str | None) -> Diagnostic:
    return spot.says(
        "foreign-operator",
        f"{spot.found} is no operator of the language; {ours} is",
        f"write {ours}",
        *hints,
    )


def _dots(spot: Spot) -> Diagnostic:
    """`0...4` and `0..=4` are ranges elsewhere; `...` alone stands for nothing."""
    if not spot.ends_operand:
        message = f"{spot.found} stands for nothing here"
        return spot.says("foreign-operator", message, "leave this out", spot.remove())
    last = spot.near(1)
    hint = spot.replace("..")
    if spot.token == "..=" and last.isdecimal() and len(last) <= MOST_DIGITS:
        whole = Span(spot.span.start, span_of_token(last).stop)
        hint = spot.rewrite((whole, f"..{int(last) + 1}"))
    message = "a range is written `START..STOP`, and STOP is not in it"
    return spot.says("foreign-operator", message, "write `..`", hint)


def _with_let(spot: Spot) -> str | None:
    """The line with `=`, and with `let` in front where it is missing."""
    is_bare = spot.room == "body" and len(spot.statement) == 1
    start = span_of_token(spot.head).start
    return spot.rewrite((spot.span, "="), *([(Span(start, start), "let ")] if is_bare else []))


def _arrow(spot: Spot) -> Diagnostic:
    if spot.head.type == "PATTERN" and spot.room == "file":
        stop = spot.rest(1).stop
        ours = "" if spot.source.text[stop:].lstrip().startswith("{") else " {"
        return spot.says(
            "foreign-operator",
            "a pattern has no type of result",
            "leave it out",
            spot.rewrite((Span(span_of_token(spot.before).stop, stop), ours)),
        )
    if spot.room == "arguments" and len(spot.part) == 1 and spot.part[0].isidentifier():
        return _foreign(spot, "`=`", spot.tight("="))
    if spot.token == "=>":
        return _foreign(spot, "`>=`", spot.replace(">="))
    return spot.says(
        "foreign-operator",
        f"{spot.found} is no operator of the language",
        "not an operator",
        "that query 3 reads key 7 is written `where(i == 3 and j == 7)`",
    )


def _augmented(spot: Spot) -> Diagnostic:
    """`x |= y`: names keep their value, and links add up by themselves."""
    operator = str(spot.token)[:-1]
    value = spot.source.slice(spot.rest(1))
    is_bare = spot.room == "body" and len(spot.statement) == 1
    whole = Span(span_of_token(spot.head).start, spot.rest(1).stop)
    name = str(spot.head)
    return spot.says(
        "foreign-operator",
        f"{spot.found} is no operator of the language: a name keeps its value",
        "not an operator",
        spot.rewrite((whole, value)) if is_bare and operator == "|" and value else None,
        f"give the new value a new name: `let new_{name} = {name} {operator} {value or '...'}`"
        if is_bare
        else spot.replace(operator),
    )

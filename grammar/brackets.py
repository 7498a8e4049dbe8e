"""Brackets that do not match: closed twice, never, or by another kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from lark import Token

from attnloom.grammar.diagnostics import Diagnostic, Note
from attnloom.grammar.lexer import span_of_token
from attnloom.grammar.source import Span
from attnloom.grammar.spot import Spot
from attnloom.grammar.words import CLOSERS, OPENERS, SIGNS

_ROUND = ("LPAR", "LSQB")
_BRACES = ("LBRACE", "THEN")


def unmatched(spot: Spot) -> Diagnostic | None:
    """A closing bracket without its opening one, or one of another kind."""
    if spot.kind not in CLOSERS or spot.kind in spot.accepted or spot.head.type == "PATTERN":
        return None
    opened = [spot.tokens[at] for at in spot.brackets]
    if any(OPENERS[token.type] == spot.kind for token in _within_reach(opened, spot.kind)):
        return None
    if opened and opened[-1].type in _ROUND:
        opening = opened[-1]
        ours = _closing(opening)
        return spot.says(
            "unmatched-bracket",
            f"{spot.found} does not close `{opening}`",
            f"write `{ours}`",
            spot.replace(ours),
            notes=[Note("opened here", span_of_token(opening), spot.source)],
        )
    ends_pattern = spot.kind == "RBRACE" and spot.before.type in ("RBRACE", "SEP")
    last = next((one for one in reversed(spot.tokens[: spot.at]) if one.type == "RBRACE"), None)
    note = Note("the pattern ends here", span_of_token(last), spot.source) if last else None
    return spot.says(
        "unmatched-bracket",
        f"{spot.found} closes nothing: no `{_opening(spot.kind)}` is open here",
        "closes nothing",
        spot.remove(),
        notes=[note] if note and ends_pattern else [],
    )


def unclosed(spot: Spot) -> Diagnostic | None:
    """`(` or `[` that is still open where its statement ends."""
    if not spot.brackets or spot.room not in ("parameters", "arguments", "group", "list"):
        return None
    opening = spot.tokens[spot.brackets[-1]]
    ends = spot.kind in ("SEP", "$END") and spot.token != ";"
    ends |= spot.kind in CLOSERS and spot.kind != OPENERS[opening.type]
    ends |= spot.kind in _BRACES and not spot.wants_operand
    ends |= (
        spot.ends_operand
        and spot.is_first_on_line(spot.token)
        and spot.brackets[-1] not in _pairs(spot.tokens)
    )
    if not ends:
        return None
    missing = "".join(map(_closing, reversed(_left_open(spot))))
    hint = None if spot.wants_operand else spot.insert(missing)
    return spot.says(
        "unclosed-bracket",
        f"`{opening}` is never closed",
        f"`{_closing(opening)}` is missing",
        hint or f"close it with `{_closing(opening)}`",
        span=span_of_token(opening),
        notes=_limit(spot, opening, "it should be closed before this"),
    )


def open_body(spot: Spot) -> Diagnostic | None:
    """A pattern or the end of the file where the body before is still open."""
    starts_pattern = spot.kind == "PATTERN" and not spot.statement
    if spot.room != "body" or not (spot.kind == "$END" or starts_pattern):
        return None
    if starts_pattern and spot.brackets[-1] in _pairs(spot.tokens):
        return _nested(spot)
    opening, wrong_end = _suspect(spot)
    missing = "}" * len(spot.brackets)
    last = _last_on_line(spot, opening)
    if last is not opening and last is not spot.tokens[-3]:
        missing = "}"
    if last is not opening:
        stop = span_of_token(last).stop
        hint = spot.rewrite((Span(stop, stop), f" {missing}"))
    elif wrong_end is not None:
        hint = f"write `}}` before the `}}` of line {spot.line_of(wrong_end)}"
    elif starts_pattern:
        hint = f"write `{missing}` before `pattern {spot.near(1)}`"
    else:
        hint = f"end the file with `{missing}`"
    return spot.says(
        "unclosed-bracket",
        "`{` is never closed",
        "`}` is missing",
        hint or "write `}`",
        span=span_of_token(opening),
        notes=_limit(spot, opening, "it should be closed before this"),
        expected=("`}`",),
    )


def _nested(spot: Spot) -> Diagnostic:
    inner = str(spot.near(1)) if spot.near(1).type == "NAME" else "inner"
    at = max(at for at in range(spot.at) if spot.tokens[at].type == "PATTERN")
    outer = spot.tokens[at + 1]
    return spot.says(
        "nested-pattern",
        "a pattern cannot stand inside another",
        f"starts inside `{outer}`",
        f"move it before `pattern {outer}`, and call it here: `{inner}()`",
        notes=[Note("the pattern around it", span_of_token(outer), spot.source)],
    )


def _within_reach(opened: Sequence[Token], closer: str) -> Sequence[Token]:
    """The open brackets that a closer may mean: `)` and `]` mean none outside of their body."""
    if closer == "RBRACE":
        return opened
    first = max((at for at, token in enumerate(opened) if token.type in _BRACES), default=-1)
    return opened[first + 1 :]


def _left_open(spot: Spot) -> Sequence[Token]:
    """The round brackets that must be closed before the spot, outermost first."""
    opened = _within_reach([spot.tokens[at] for at in spot.brackets], "RPAR")
    fitting = [at for at, token in enumerate(opened) if OPENERS[token.type] == spot.kind]
    return opened[fitting[-1] + 1 :] if fitting else opened


def _opening(closer: str) -> str:
    return next(SIGNS[opener] for opener, its_closer in OPENERS.items() if its_closer == closer)


def _closing(opening: Token) -> str:
    return SIGNS[OPENERS[opening.type]]


def _limit(spot: Spot, opening: Token, label: str) -> list[Note]:
    """A note where the bracket should be closed at the latest, if that is another line."""
    if not spot.token or spot.token.isspace() or spot.line_of(opening) == spot.line_of(spot.token):
        return []
    return [Note(label, spot.span, spot.source)]


def _pairs(tokens: Sequence[Token]) -> dict[int, int]:
    """The position of each bracket that is closed, with that of the bracket that closes it."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    for at, token in enumerate(tokens):
        if token.type in OPENERS:
            opened.append(at)
        elif token.type == "SEP" and token != ";":
            # No line ends inside of brackets: the lexer knows that these are never closed.
            while opened and tokens[opened[-1]].type in _ROUND:
                opened.pop()
        elif token.type in CLOSERS:
            reach = _within_reach([tokens[one] for one in opened], token.type)
            if not any(OPENERS[one.type] == token.type for one in reach):
                continue
            while OPENERS[tokens[last := opened.pop()].type] != token.type:
                pass
            pairs[last] = at
    return pairs


def _suspect(spot: Spot) -> tuple[Token, Token | None]:
    """The brace that is most likely unclosed, and the `}` that closed it instead of another.

    That is the innermost brace, unless the indentation tells better: a `}` that stands further left
    than the line of the `{` it closes was meant for another.
    """
    indent_of = _indents(spot)
    opened: list[tuple[Token, int]] = []
    for token in spot.tokens[: spot.at]:
        if token.type in _BRACES:
            opened.append((token, indent_of(token)))
        elif token.type == "RBRACE" and opened:
            opening, indent = opened.pop()
            if spot.is_first_on_line(token) and indent_of(token) < indent:
                return opening, token
    return opened[-1][0], None


def _last_on_line(spot: Spot, opening: Token) -> Token:
    """The last token on the line of a bracket, which may be that bracket."""
    line = spot.line_of(opening)
    return [one for one in spot.tokens if one.strip() and spot.line_of(one) == line][-1]


def _indents(spot: Spot) -> Callable[[Token], int]:
    """How far right the line of a token begins; each line is looked at once."""

    @cache
    def of_line(number: int) -> int:
        line = spot.source.line(number)
        return len(line) - len(line.lstrip())

    return lambda token: of_line(spot.line_of(token))

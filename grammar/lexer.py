"""From characters to the tokens that the grammar reads: limits, comments, and line breaks.

A line break ends a statement, except inside `(` and `[` (a `{` in there makes it count again),
after an operator, `,`, `=` or `:`, and before a line that starts with an operator or `{`. `;`
always does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from lark import Token

from attnloom.grammar.diagnostics import Diagnostic, PatternError
from attnloom.grammar.source import Source, Span
from attnloom.grammar.syntax import Comment
from attnloom.grammar.words import CLOSERS, INFIX, KEYWORD_TYPES, OPENERS, STATEMENT_WORDS

MAX_BYTES = 1_000_000
MAX_TOKENS = 40_000
MAX_BRACKETS = 100

# Controls, line separators and the bidirectional overrides that make a text look other than it is.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_BYTE_ORDER_MARK = "\ufeff"

# Beyond these a statement cannot end, nor start.
_GOES_ON_AFTER = INFIX | {"COMMA", "EQUAL", "COLON", "NOT", "TILDE"}
_GOES_ON_BEFORE = INFIX | {"LBRACE"}


@dataclass(frozen=True)
class Tokens:
    """The tokens of a source, ending in `$END`, and its comments."""

    tokens: list[Token]
    comments: tuple[Comment, ...]


class KeepAll:
    """Lark's post-lexer: keeps the terminals that no rule mentions; the work is done afterwards."""

    always_accept = (
        "NEWLINE",
        "SEMICOLON",
        "COMMENT",
        "FLOAT",
        "FOREIGN",
        "OPEN_STRING",
        "QUOTED",
        "UNKNOWN",
    )

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        return stream


def checked_source(text: str, name: str) -> Source:
    """The text as a source, without a byte order mark.

    Raises:
        PatternError: it is too large, or holds characters that hide something.
    """
    source = Source(name, text.removeprefix(_BYTE_ORDER_MARK))
    if len(text) > MAX_BYTES:
        raise too_large(name)
    hidden = _HIDDEN.search(source.text)
    if hidden:
        char = hidden[0]
        shown = f"U+{ord(char):04X}"
        what = "is not text" if "\ud800" <= char <= "\udfff" else "cannot be seen"
        raise PatternError(
            [
                Diagnostic(
                    "hidden-character",
                    f"the character {shown} {what} and is not allowed in a pattern file",
                    f"{shown} here",
                    Span(*hidden.span()),
                    source,
                    hints=("remove this character",),
                    found=shown,
                )
            ]
        )
    return source


def too_large(name: str) -> PatternError:
    return PatternError(
        [
            Diagnostic(
                "too-large",
                f"a pattern file has at most {MAX_BYTES:,} bytes, and this one is larger",
                "",
                Span(0, 0),
                Source(name, ""),
                hints=("give long lists of links at run time: `input picks: links`",),
            )
        ]
    )


def arrange(stream: Iterable[Token], source: Source) -> Tokens:
    """Take comments out, decide which line breaks separate statements, and tell THEN from `{`.

    Raises:
        PatternError: there are too many tokens, or brackets nest too deeply.
    """
    raw, comments = _split(stream, source)
    found: list[Token] = []
    open_brackets: list[Token] = []
    when_levels: list[int] = []
    separator: Token | None = None
    for at, token in enumerate(raw):
        kind = token.type
        before = found[-1].type if found else "SEP"
        if kind == "NEWLINE":
            separator = separator or token
            continue
        if kind == "SEMICOLON" and not _in_parentheses(open_brackets):
            separator = token
            continue
        if separator is not None and separator.type == "NEWLINE":
            if _in_parentheses(open_brackets):
                # A word that only starts statements: the bracket before it was never closed.
                if not (kind in STATEMENT_WORDS | {"USE", "PATTERN"} and _next(raw, at) != "EQUAL"):
                    separator = None
                while separator and _in_parentheses(open_brackets):
                    open_brackets.pop()
            elif before in _GOES_ON_AFTER or kind in _GOES_ON_BEFORE:
                separator = None
            elif kind == "ELSE" and before == "RBRACE":
                separator = None
        if separator is not None and before not in ("SEP", "LBRACE", "THEN"):
            found.append(_separator(separator))
            while when_levels and when_levels[-1] >= len(open_brackets):
                when_levels.pop()
            before = "SEP"
        separator = None

        if kind == "WHEN" and before in ("SEP", "LBRACE", "THEN", "ELSE"):
            when_levels.append(len(open_brackets))
        elif kind == "LBRACE" and when_levels and when_levels[-1] == len(open_brackets):
            when_levels.pop()
            token = Token.new_borrow_pos("THEN", "{", token)
        elif kind == "SEMICOLON":
            token = _separator(token)
        elif kind == "PATTERN" and before == "SEP":
            open_brackets.clear()
        if token.type in OPENERS:
            open_brackets.append(token)
            if len(open_brackets) > MAX_BRACKETS:
                raise _too_deep(token, source)
        elif token.type in CLOSERS:
            _close(open_brackets, token.type)
        found.append(token)
    end = span_of_token(found[-1]).stop if found else 0
    if found and found[-1].type != "SEP":
        found.append(Token("SEP", "", start_pos=end, end_pos=end))
    found.append(Token("$END", "", start_pos=end, end_pos=end))
    return Tokens(found, comments)


def _split(stream: Iterable[Token], source: Source) -> tuple[list[Token], tuple[Comment, ...]]:
    raw: list[Token] = []
    comments: list[Comment] = []
    line_start = True
    for number, token in enumerate(stream):
        if number >= MAX_TOKENS:
            raise _too_many(token, source)
        if token.type == "COMMENT":
            comments.append(Comment(span_of_token(token), token.rstrip(), alone=line_start))
            continue
        line_start = token.type == "NEWLINE"
        raw.append(token)
    return raw, tuple(comments)


def span_of_token(token: Token) -> Span:
    return Span(cast(int, token.start_pos), cast(int, token.end_pos))


def _separator(token: Token) -> Token:
    start = cast(int, token.start_pos)
    return Token("SEP", str(token), start_pos=start, end_pos=start + 1)


def _next(raw: list[Token], at: int) -> str:
    return raw[at + 1].type if at + 1 < len(raw) else "$END"


def _in_parentheses(open_brackets: list[Token]) -> bool:
    return bool(open_brackets) and open_brackets[-1].type in ("LPAR", "LSQB")


def _close(open_brackets: list[Token], closer: str) -> None:
    """Drop the bracket that `closer` closes, with unclosed ones inside; a stray one closes none."""
    for at in range(len(open_brackets) - 1, -1, -1):
        kind = open_brackets[at].type
        if OPENERS[kind] == closer:
            del open_brackets[at:]
            return
        if closer != "RBRACE" and kind in ("LBRACE", "THEN"):
            return


def _too_many(token: Token, source: Source) -> PatternError:
    return PatternError(
        [
            Diagnostic(
                "too-large",
                f"a pattern file has at most {MAX_TOKENS:,} words and signs",
                "the limit is reached here",
                span_of_token(token),
                source,
                hints=("give long lists of links at run time: `input picks: links`",),
            )
        ]
    )


def _too_deep(token: Token, source: Source) -> PatternError:
    return PatternError(
        [
            Diagnostic(
                "too-deep",
                f"brackets nest at most {MAX_BRACKETS} deep",
                f"this is number {MAX_BRACKETS + 1}",
                span_of_token(token),
                source,
                hints=("name an inner part: `let part = ...`",),
            )
        ]
    )


def is_keyword(token: Token) -> bool:
    return token.type in KEYWORD_TYPES

"""From characters to the tokens that the grammar reads: limits, comments, and line breaks.

A line break ends a statement, except inside `(` and `[` (a `{` in there makes it count again),
after an operator, `,`, `=`, `:` or `else`, and before a line that starts with an operator or `{`.
`;` always does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from lark import Token

from attnloom.grammar.diagnostics import Diagnostic, PatternError
from attnloom.grammar.limits import (
    MAX_BRACKETS,
    MAX_BYTES,
    MAX_TOKENS,
    too_large,
    too_many_brackets,
    too_many_tokens,
)
from attnloom.grammar.source import Source, Span
from attnloom.grammar.syntax import Comment
from attnloom.grammar.words import CLOSERS, INFIX, KEYWORD_TYPES, OPENERS, STATEMENT_WORDS

# Controls, line separators and the bidirectional overrides that make a text look other than it is.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_BYTE_ORDER_MARK = "\ufeff"

# Beyond these a statement cannot end, nor start.
_GOES_ON_AFTER = INFIX | {"COMMA", "EQUAL", "COLON", "ELSE", "NOT", "TILDE"}
_GOES_ON_BEFORE = INFIX | {"LBRACE"}
_STATEMENT_STARTS = ("SEP", "LBRACE", "THEN")


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
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise too_large(name)
    source = Source(name, text.removeprefix(_BYTE_ORDER_MARK))
    hidden = _HIDDEN.search(source.text)
    if hidden:
        raise PatternError([_hidden(hidden[0], Span(*hidden.span()), source)])
    return source


def _hidden(char: str, span: Span, source: Source) -> Diagnostic:
    shown = f"U+{ord(char):04X}"
    title = unicodedata.name(char, "").lower()
    what = "is not text" if char == "\0" or "\ud800" <= char <= "\udfff" else "cannot be seen"
    named = f"{shown} ({title})" if title else shown
    return Diagnostic(
        "hidden-character",
        f"the character {named} {what} and is not allowed in a pattern file",
        f"{shown} here",
        span,
        source,
        hints=("remove this character",),
        found=shown,
        expected=("characters that can be seen",),
    )


def arrange(stream: Iterable[Token], source: Source) -> Tokens:
    """Take comments out, decide which line breaks separate statements, and tell THEN from `{`.

    Raises:
        PatternError: there are too many tokens, or brackets nest too deeply.
    """
    raw, comments = _split(stream, source)
    arranger = _Arranger(source)
    for at, token in enumerate(raw):
        arranger.feed(token, raw, at)
    return Tokens(arranger.ended(), comments)


def _split(stream: Iterable[Token], source: Source) -> tuple[list[Token], tuple[Comment, ...]]:
    raw: list[Token] = []
    comments: list[Comment] = []
    line_start = True
    num_tokens = 0
    for token in stream:
        if token.type == "NEWLINE":
            line_start = True
            raw.append(token)
            continue
        num_tokens += 1
        if num_tokens > MAX_TOKENS:
            raise too_many_tokens(source, span_of_token(token))
        if token.type == "COMMENT":
            comments.append(Comment(span_of_token(token), token.rstrip(), alone=line_start))
        else:
            line_start = False
            raw.append(token)
    return raw, tuple(comments)


class _Arranger:
    """Passes tokens on with separators in place of line breaks, and with THEN and WORD told apart.

    Unbalanced brackets are the parser's to report; here they only must not mislead what follows.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: list[Token] = []
        self._brackets: list[Token] = []
        self._calls: list[bool] = []  # of each bracket: is it the `(` of a call?
        self._whens: list[int] = []  # the number of brackets around each `when` without its `{`
        self._pending: Token | None = None  # a line break or `;` that may become a separator

    def feed(self, token: Token, raw: Sequence[Token], at: int) -> None:
        kind = token.type
        if kind == "NEWLINE":
            self._pending = self._pending or token
            return
        if kind == "SEMICOLON" and not self._in_parentheses():
            self._pending = token
            return
        before = self._separate(kind, raw, at)
        if kind == "SEMICOLON":
            token = _separator(token)
        elif kind == "LBRACE" and self._whens and self._whens[-1] == len(self._brackets):
            self._whens.pop()
            token = Token.new_borrow_pos("THEN", "{", token)
        elif kind == "WHEN" and (before in _STATEMENT_STARTS or before == "ELSE"):
            self._whens.append(len(self._brackets))
        elif kind == "PATTERN" and before == "SEP":
            del self._brackets[:], self._calls[:]
        elif kind in KEYWORD_TYPES and self._names_argument(before) and _next(raw, at) == "EQUAL":
            token = Token.new_borrow_pos("WORD", str(token), token)
        if token.type in OPENERS:
            self._open(token)
        elif token.type in CLOSERS:
            self._close(token.type)
        self._found.append(token)

    def ended(self) -> list[Token]:
        """All tokens, the last statement closed like every other."""
        end = span_of_token(self._found[-1]).stop if self._found else 0
        if self._found and self._found[-1].type not in _STATEMENT_STARTS:
            self._found.append(Token("SEP", "", start_pos=end, end_pos=end))
        self._found.append(Token("$END", "", start_pos=end, end_pos=end))
        return self._found

    def _separate(self, kind: str, raw: Sequence[Token], at: int) -> str:
        """Turn what is pending into a separator if it is one; the type of the token before."""
        before = self._found[-1].type if self._found else "SEP"
        pending, self._pending = self._pending, None
        if pending is None or before in _STATEMENT_STARTS:
            return before
        if pending.type == "NEWLINE":
            if self._in_parentheses():
                starts_statement = kind in STATEMENT_WORDS or kind in ("USE", "PATTERN")
                if not starts_statement or _next(raw, at) == "EQUAL":
                    return before
                # Such words stand in no brackets: those around were never closed.
                while self._in_parentheses():
                    self._brackets.pop()
                    self._calls.pop()
            elif _goes_on(before, kind):
                return before
        self._found.append(_separator(pending))
        while self._whens and self._whens[-1] >= len(self._brackets):
            self._whens.pop()
        return "SEP"

    def _in_parentheses(self) -> bool:
        return bool(self._brackets) and self._brackets[-1].type in ("LPAR", "LSQB")

    def _names_argument(self, before: str) -> bool:
        return before in ("LPAR", "COMMA") and self._calls[-1:] == [True]

    def _open(self, token: Token) -> None:
        kinds = [one.type for one in self._found[-2:]]
        self._calls.append(
            token.type == "LPAR" and kinds[-1:] in (["NAME"], ["MEMORY"]) and kinds[0] != "PATTERN"
        )
        self._brackets.append(token)
        if len(self._brackets) > MAX_BRACKETS:
            raise too_many_brackets(self._source, span_of_token(token))

    def _close(self, closer: str) -> None:
        """Drop the bracket that `closer` closes, and unclosed ones inside; a stray one none."""
        for at in range(len(self._brackets) - 1, -1, -1):
            kind = self._brackets[at].type
            if OPENERS[kind] == closer:
                del self._brackets[at:], self._calls[at:]
                return
            if closer != "RBRACE" and kind in ("LBRACE", "THEN"):
                return


def _goes_on(before: str, kind: str) -> bool:
    """Whether a statement goes on over the line break between two tokens."""
    if kind == "ELSE":
        return before == "RBRACE"
    return before in _GOES_ON_AFTER or kind in _GOES_ON_BEFORE


def span_of_token(token: Token) -> Span:
    return Span(cast(int, token.start_pos), cast(int, token.end_pos))


def _separator(token: Token) -> Token:
    start = cast(int, token.start_pos)
    return Token("SEP", str(token), start_pos=start, end_pos=start + 1)


def _next(raw: Sequence[Token], at: int) -> str:
    """The type of the next token that is not a line break."""
    while at + 1 < len(raw):
        at += 1
        if raw[at].type != "NEWLINE":
            return raw[at].type
    return "$END"

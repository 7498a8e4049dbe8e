"""The place where the parser stopped, and what can be seen from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from lark import Token

from attnloom.grammar.diagnostics import Diagnostic, Note
from attnloom.grammar.lexer import span_of_token
from attnloom.grammar.source import Source, Span
from attnloom.grammar.words import CLOSERS, OPENERS, expectations, quoted

Start = Literal["file", "expression"]
Room = Literal["file", "body", "parameters", "arguments", "group", "list"]

MOST_DIGITS = 18
"""The longest number that a hint reckons with."""

_LONGEST_LINE = 72
_NOTHING = Token("", "")
_ENDS_OPERAND = CLOSERS | {"SEP", "COMMA", "LBRACE", "THEN"}

Edit = tuple[Span, str]
"""A span of the source and the text to put in its place."""


def _ends(span: Span) -> tuple[int, int]:
    return span.start, span.stop


def _around(edits: Sequence[Span], tokens: Sequence[Span]) -> Span:
    """From the first token to the last one, or to those that are near the edits."""
    start, stop = min(one.start for one in edits), max(one.stop for one in edits)
    first, last = tokens[0].start if tokens else start, tokens[-1].stop if tokens else stop
    if max(last, stop) - min(first, start) > _LONGEST_LINE:
        near = (_LONGEST_LINE - (stop - start)) // 2
        first = min((one.start for one in tokens if one.start >= start - near), default=start)
        last = max((one.stop for one in tokens if one.stop <= stop + near), default=stop)
    return Span(min(first, start), max(last, stop))


@dataclass(frozen=True)
class Spot:
    """`tokens[at]` does not fit, and any terminal in `accepted` would have."""

    source: Source
    tokens: Sequence[Token]
    at: int
    accepted: frozenset[str]
    start: Start = "file"

    # --- tokens ---

    def near(self, offset: int) -> Token:
        """The token `offset` after the spot (before it if negative); one without a type beyond."""
        at = self.at + offset
        return self.tokens[at] if 0 <= at < len(self.tokens) else _NOTHING

    def kinds(self, first: int, *types: str) -> bool:
        """Whether the tokens from offset `first` on have these types."""
        return all(self.near(first + at).type == kind for at, kind in enumerate(types))

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    @property
    def kind(self) -> str:
        return self.token.type

    @property
    def before(self) -> Token:
        return self.near(-1)

    @cached_property
    def span(self) -> Span:
        return span_of_token(self.token)

    @property
    def is_at_end(self) -> bool:
        """Whether nothing more comes: the end itself, or the line break that is put before it."""
        return self.kind == "$END" or (self.kind == "SEP" and not self.token)

    def line_of(self, token: Token) -> int:
        return self.source.location(span_of_token(token).start)[0]

    def is_first_on_line(self, token: Token) -> bool:
        at = span_of_token(token).start
        while at > 0 and self.source.text[at - 1] in " \t":
            at -= 1
        return at == 0 or self.source.text[at - 1] in "\r\n"

    # --- surroundings ---

    @cached_property
    def brackets(self) -> tuple[int, ...]:
        """The positions of the brackets that are open here, innermost last."""
        opened: list[int] = []
        for at, token in enumerate(self.tokens[: self.at]):
            if token.type in OPENERS:
                opened.append(at)
            elif token.type in CLOSERS and opened:
                opened.pop()
        return tuple(opened)

    @cached_property
    def room(self) -> Room:
        """Between which kind of brackets the spot lies."""
        if not self.brackets:
            return "file"
        at = self.brackets[-1]
        kinds = [token.type for token in self.tokens[max(0, at - 2) : at + 1]]
        match kinds:
            case [*_, "LBRACE" | "THEN"]:
                return "body"
            case [*_, "LSQB"]:
                return "list"
            case ["PATTERN", "NAME", "LPAR"]:
                return "parameters"
            case [*_, "NAME" | "MEMORY", "LPAR"]:
                return "arguments"
            case _:
                return "group"

    @cached_property
    def statement(self) -> Sequence[Token]:
        """The tokens before the spot that belong to the same statement, pattern head or `use`."""
        depth = 0
        first = self.at
        while first > 0:
            kind = self.tokens[first - 1].type
            if depth == 0 and (kind in ("SEP", "LBRACE", "THEN") or self._ends_pattern(first - 1)):
                break
            depth += (kind in CLOSERS) - (kind in OPENERS and depth > 0)
            first -= 1
            if kind == "PATTERN":
                break
        return self.tokens[first : self.at]

    def _ends_pattern(self, at: int) -> bool:
        return self.tokens[at].type == "RBRACE" and not self.brackets

    @property
    def head(self) -> Token:
        """The first token of the statement, which may be the spot's own."""
        return self.statement[0] if self.statement else self.token

    @cached_property
    def part(self) -> Sequence[Token]:
        """The tokens between the innermost bracket, or the last `,` in it, and the spot."""
        depth = 0
        first = self.at
        stop = self.at - len(self.statement)
        if self.room not in ("file", "body"):
            stop = self.brackets[-1] + 1
        while first > stop and not (depth == 0 and self.tokens[first - 1].type == "COMMA"):
            kind = self.tokens[first - 1].type
            depth += (kind in CLOSERS) - (kind in OPENERS)
            first -= 1
        return self.tokens[first : self.at]

    @property
    def callee(self) -> str:
        """The name of the call in whose arguments the spot lies, or nothing."""
        return str(self.tokens[self.brackets[-1] - 1]) if self.room == "arguments" else ""

    @cached_property
    def is_condition(self) -> bool:
        """Whether numbers are compared here, not relations combined."""
        callees = {str(self.tokens[at - 1]) for at in self.brackets if at > 0}
        return (
            self.head.type == "WHEN"
            or "where" in callees
            or any(token.type in ("COMPARISON", "AND", "OR", "NOT") for token in self.statement)
        )

    @property
    def ends_operand(self) -> bool:
        """Whether an operand stands complete before the spot."""
        return "PLUS" in self.accepted

    @property
    def wants_operand(self) -> bool:
        """Whether an operand may come."""
        return "NUMBER" in self.accepted

    def rest(
        self, first: int = 0, *, until: frozenset[str] = frozenset(), commas: bool = False
    ) -> Span:
        """From the token `first` after the spot to the end of what belongs to it.

        That is before the end of the line, a bracket that closes what is around it, a body, a `,`
        (unless `commas`), or a type in `until`.
        """
        at = self.at + first
        start = stop = span_of_token(self.tokens[at]).start
        depth = 0
        while at < len(self.tokens) - 1:
            kind = self.tokens[at].type
            goes_on = commas and kind == "COMMA"
            if depth == 0 and (kind in _ENDS_OPERAND or kind in until) and not goes_on:
                break
            depth += (kind in OPENERS) - (kind in CLOSERS)
            stop = span_of_token(self.tokens[at]).stop
            at += 1
        return Span(start, stop)

    # --- words for a message ---

    @cached_property
    def expected(self) -> tuple[str, ...]:
        """What could have come instead, in words."""
        if self.start == "file":
            return expectations(self.accepted)
        words = expectations(self.accepted - {"SEP", "$END"})
        return (*words, "the end of the text") if "$END" in self.accepted else words

    @property
    def found(self) -> str:
        """The token in words."""
        if self.is_at_end:
            return "the end of the file" if self.start == "file" else "the end of the text"
        if self.kind == "SEP" and self.token != ";":
            return "the end of the line"
        return quoted(self.token)

    # --- hints ---

    def rewrite(self, *edits: Edit) -> str | None:
        """The line of the edits as it reads afterwards, without its comment, as a hint.

        Of a long line only what is near the edits. None if even that is too long for a hint, or if
        the edits lie on several lines.
        """
        lines = {self.source.location(offset)[0] for span, _ in edits for offset in _ends(span)}
        if len(lines) != 1:
            return None
        number = lines.pop()
        spans = [span_of_token(one) for one in self.tokens if one.strip()]
        inside = [span for span in spans if self.source.location(span.start)[0] == number]
        whole = _around([span for span, _ in edits], inside)
        text = self.source.slice(whole)
        for span, new in sorted(edits, reverse=True):
            text = text[: span.start - whole.start] + new + text[span.stop - whole.start :]
        text = text.strip()
        return f"write `{text}`" if 0 < len(text) <= 2 * _LONGEST_LINE else None

    def replace(self, text: str, token: Token | None = None) -> str | None:
        """A hint to write another text in place of the token."""
        return self.rewrite((self.span if token is None else span_of_token(token), text))

    def tight(self, text: str) -> str | None:
        """A hint to write another text in place of the token and the blanks around it."""
        start, stop = span_of_token(self.before).stop, span_of_token(self.near(1)).start
        return self.rewrite((Span(start, stop), text))

    def insert(self, text: str) -> str | None:
        """A hint to write a text right after the token before."""
        stop = span_of_token(self.before).stop
        return self.rewrite((Span(stop, stop), text))

    def remove(self, token: Token | None = None) -> str | None:
        """A hint to leave out the token, and the blanks before it."""
        span = self.span if token is None else span_of_token(token)
        start = len(self.source.text[: span.start].rstrip(" \t"))
        hint = self.rewrite((Span(start, span.stop), ""))
        return hint if hint and hint != "write ``" else "remove " + quoted(self.source.slice(span))

    # --- the result ---

    def says(
        self,
        slug: str,
        message: str,
        label: str,
        *hints: str | None,
        span: Span | None = None,
        notes: Sequence[Note] = (),
        found: str | None = None,
        expected: Sequence[str] | None = None,
    ) -> Diagnostic:
        """A diagnostic at the spot, or at `span`; hints that are None are left out."""
        return Diagnostic(
            slug,
            message,
            label,
            self.span if span is None else span,
            self.source,
            hints=tuple(hint for hint in hints if hint is not None) or (self._example(),),
            notes=tuple(notes),
            found=self.found if found is None else found,
            expected=self.expected if expected is None else tuple(expected),
        )

    def _example(self) -> str:
        """A hint where none is better."""
        if len(self.expected) == 1 and self.expected[0].startswith("`"):
            return f"write {self.expected[0]} here"
        return _EXAMPLES[self.room if self.start == "file" or self.room != "file" else "text"]


_EXAMPLES = {
    "file": "a file looks like `pattern my_pattern { window(each_side=64) }`",
    "body": "a statement looks like `window(each_side=64)` or `only causal`",
    "parameters": "a parameter looks like `reach: int in 1..9 = 8`",
    "arguments": "arguments look like `window(left=8, right=0)`",
    "group": "parentheses hold one expression: `(a | b)`",
    "list": "a list looks like `[0, 5, 9..12]`",
    "text": "a value looks like `64`, `true` or `first 4 | [9, 12]`",
}

"""From text to the syntax tree of a whole file, or a `PatternError` that says what to type."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from lark import Lark, UnexpectedToken

from attnloom.grammar.build import Build
from attnloom.grammar.diagnostics import PatternError
from attnloom.grammar.lexer import KeepAll, Tokens, arrange, checked_source, span_of_token
from attnloom.grammar.limits import MAX_STACK, check_depth, too_deep
from attnloom.grammar.mistakes import explain, no_pattern
from attnloom.grammar.reading import text_of
from attnloom.grammar.source import Source, Span
from attnloom.grammar.spelling import is_misspelt
from attnloom.grammar.spot import Spot, Start
from attnloom.grammar.syntax import Expr, File, Node


def read(path: str | Path) -> File:
    """The syntax tree of the pattern file at a path.

    Raises:
        PatternError: it cannot be read, is too large, or is not a pattern file.
    """
    return parse(text_of(path), str(path))


def parse(text: str, name: str = "<text>") -> File:
    """The syntax tree of a pattern file.

    Raises:
        PatternError: the text is not a pattern file.
    """
    source = checked_source(text, name)
    tree, tokens = _parsed(source, "file")
    file = cast(File, tree)
    if not file.patterns:
        raise PatternError([no_pattern(source)])
    return replace(file, span=Span(0, len(source.text)), source=source, comments=tokens.comments)


def parse_expression(text: str, name: str = "<text>") -> Expr:
    """The syntax tree of one expression, such as the value given for a parameter.

    >>> parse_expression("first 4")
    Ends(end='first', count=Number(value=4))

    Raises:
        PatternError: the text is not an expression.
    """
    tree, _ = _parsed(checked_source(text, name), "expression")
    return cast(Expr, tree)


@cache
def _lark() -> Lark:
    """The parser, built once, when the first text is parsed."""
    return Lark(
        files("attnloom.grammar").joinpath("attn.lark").read_text(encoding="utf-8"),
        parser="lalr",
        lexer="basic",
        start=["file", "expression"],
        postlex=KeepAll(),
        transformer=Build(),
        maybe_placeholders=True,
    )


def _parsed(source: Source, start: Start) -> tuple[Node, Tokens]:
    machine: Any = _lark().parse_interactive(source.text, start=start)
    arranged = arrange(machine.lexer_thread.lex(machine.parser_state), source)
    tokens = arranged.tokens
    stack = machine.parser_state.state_stack
    before, tree = [], None
    for at, token in enumerate(tokens):
        before = stack.copy()
        fits = not (token.type in ("NAME", "NUMBER") and is_misspelt(tokens, at))
        try:
            tree = machine.feed_token(token) if fits else None
        except UnexpectedToken:
            fits = False
        if not fits:
            # The parser may have gone some way on with the token, and forgotten on that way what
            # could have come instead.
            stack[:] = before
            spot = Spot(source, tokens, at, frozenset(machine.accepts()), start)
            raise PatternError([explain(spot)])
        if len(stack) > MAX_STACK:
            raise too_deep(source, span_of_token(token))
    node = cast(Node, tree)
    check_depth(node, source)
    return node, arranged

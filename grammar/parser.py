"""From text to the syntax tree of a whole file, or a `PatternError` that says what to type."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from lark import Lark, Token, UnexpectedToken

from attnloom.grammar.build import Build
from attnloom.grammar.diagnostics import Diagnostic, PatternError
from attnloom.grammar.lexer import KeepAll, arrange, checked_source, span_of_token
from attnloom.grammar.source import Source, Span
from attnloom.grammar.syntax import Expr, File
from attnloom.grammar.words import expectations, listed


def parse(text: str, name: str = "<text>") -> File:
    """The syntax tree of a pattern file.

    Raises:
        PatternError: the text is not a pattern file.
    """
    source = checked_source(text, name)
    tokens = arrange(_lark().lex(source.text), source)
    tree = cast(File, _run(tokens.tokens, source, "file"))
    if not tree.patterns:
        raise PatternError(
            [Diagnostic("empty-file", "the file holds no pattern", "", Span(0, 0), source)]
        )
    return replace(tree, span=Span(0, len(source.text)), source=source, comments=tokens.comments)


def parse_expression(text: str, name: str = "<text>") -> Expr:
    """The syntax tree of one expression, such as the value given for a parameter.

    Raises:
        PatternError: the text is not an expression.
    """
    source = checked_source(text, name)
    tokens = arrange(_lark().lex(source.text), source)
    return cast(Expr, _run(tokens.tokens, source, "expression"))


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


def _run(tokens: list[Token], source: Source, start: str) -> Any:
    machine = _lark().parse_interactive(start=start)
    result = None
    for token in tokens:
        try:
            result = machine.feed_token(token)
        except UnexpectedToken as error:
            expected = expectations(error.expected)
            raise PatternError(
                [
                    Diagnostic(
                        "syntax",
                        f"expected {listed(expected)}, found `{token}`",
                        "",
                        span_of_token(token),
                        source,
                    )
                ]
            ) from None
    return result


def read(path: str | Path) -> File:
    return parse(Path(path).read_text(), str(path))

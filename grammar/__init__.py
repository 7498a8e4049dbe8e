"""How a pattern is written: text to syntax tree and back, and what is said when it is wrong."""

from attnloom.grammar.diagnostics import (
    Diagnostic,
    InternalError,
    Note,
    PatternError,
    did_you_mean,
    register,
    render,
    to_json,
)
from attnloom.grammar.formatter import format_expr, format_file, format_source, format_statement
from attnloom.grammar.parser import parse, parse_expression, read
from attnloom.grammar.source import Source, Span
from attnloom.grammar.syntax import File, Pattern

__all__ = [
    "Diagnostic",
    "File",
    "InternalError",
    "Note",
    "Pattern",
    "PatternError",
    "Source",
    "Span",
    "did_you_mean",
    "format_expr",
    "format_file",
    "format_source",
    "format_statement",
    "parse",
    "parse_expression",
    "read",
    "register",
    "render",
    "to_json",
]

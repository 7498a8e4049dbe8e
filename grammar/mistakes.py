"""From the place where the parser stopped to what a user did, and what to type instead.

Each rule knows one mistake and says nothing about others; the first that knows the mistake at hand
speaks. What no rule knows is told as the parser sees it: found this, expected that.
"""

from __future__ import annotations

from collections.abc import Callable

from attnloom.grammar import brackets, definitions, foreign, operands, spelling, statements
from attnloom.grammar.diagnostics import Diagnostic
from attnloom.grammar.source import Source, Span
from attnloom.grammar.spot import Spot
from attnloom.grammar.words import listed

Rule = Callable[[Spot], Diagnostic | None]

RULES: tuple[Rule, ...] = (
    # Single tokens: whatever is around them, they are wrong.
    foreign.comment,
    definitions.target,
    definitions.bad_name,
    spelling.number,
    spelling.name,
    spelling.string,
    foreign.value,
    foreign.operator,
    spelling.character,
    # Words at the beginning of a statement.
    foreign.else_when,
    foreign.statement,
    foreign.choice,
    statements.misspelt,
    # Brackets.
    brackets.unmatched,
    brackets.unclosed,
    brackets.open_body,
    # What surrounds statements.
    definitions.misplaced,
    definitions.reserved,
    definitions.unknown_type,
    definitions.nameless,
    definitions.head_of_pattern,
    definitions.parameter,
    # Statements.
    statements.missing_let,
    statements.let,
    statements.declaration,
    statements.stray_colon,
    statements.contract,
    statements.condition,
    statements.lone_else,
    statements.memory,
    statements.body_of_call,
    statements.same_line,
    # Expressions.
    foreign.membership,
    foreign.infix_word,
    operands.equals,
    operands.colon,
    operands.braces,
    operands.comma,
    operands.semicolon,
    operands.range_of_range,
    operands.start,
    operands.side_by_side,
    operands.loose_operand,
    operands.word_as_value,
    operands.missing_operand,
)


def explain(spot: Spot) -> Diagnostic:
    """The diagnostic for the place where the parser stopped."""
    for rule in RULES:
        if (diagnostic := rule(spot)) is not None:
            return diagnostic
    return _plain(spot)


def _plain(spot: Spot) -> Diagnostic:
    """What the parser found and expected."""
    message = f"expected {listed(spot.expected)}, found {spot.found}"
    return spot.says("syntax", message, "does not fit here")


def no_pattern(source: Source) -> Diagnostic:
    """A file that holds comments or `use`, and no pattern."""
    end = len(source.text.rstrip())
    return Diagnostic(
        "empty-file",
        "the file holds no pattern",
        "a pattern should follow" if end else "",
        Span(end, end),
        source,
        hints=("write `pattern my_pattern { window(each_side=64) }`",),
        found="the end of the file",
        expected=("`pattern`",),
    )

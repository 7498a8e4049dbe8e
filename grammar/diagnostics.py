"""What a user is told about a pattern file: data first, text and JSON derived from it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from attnloom.grammar.snippet import escaped, snippet
from attnloom.grammar.source import Source, Span

SLUGS: dict[str, str] = {}
"""Every slug a diagnostic may carry, with its meaning in one line."""

_LONGEST_GUESS = 64


def register(slug: str, meaning: str) -> str:
    """Make a slug known and return it; each is registered once, at import.

    Raises:
        InternalError: the slug is not kebab-case, or it is taken with another meaning.
    """
    if not all(part.isalnum() and part.islower() for part in slug.split("-")):
        raise InternalError(f"a slug is kebab-case, got {slug!r}")
    if SLUGS.setdefault(slug, meaning) != meaning:
        raise InternalError(f"the slug {slug!r} is registered twice")
    return slug


@dataclass(frozen=True)
class Note:
    """A second place that explains the first ("first defined here")."""

    label: str
    span: Span
    source: Source


@dataclass(frozen=True)
class Diagnostic:
    """One problem in a pattern file.

    `slug` is stable kebab-case; `message` is one sentence; `label` stands under the caret; `hints`
    are things one can type; `found` and `expected` serve programs.
    """

    slug: str
    message: str
    label: str
    span: Span
    source: Source
    hints: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    found: str | None = None
    expected: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.slug not in SLUGS:
            raise InternalError(f"the slug {self.slug!r} is not registered")


class PatternError(ValueError):
    """A pattern file is wrong; `diagnostics` lists every problem, `str(error)` shows them."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        return "\n\n".join(render(diagnostic) for diagnostic in self.diagnostics)


class InternalError(AssertionError):
    """A bug in attnloom, never the user's mistake."""

    def __str__(self) -> str:
        return f"{super().__str__()} (this is a bug in attnloom: please report it)"


def render(diagnostic: Diagnostic) -> str:
    """A diagnostic as plain text, ready for any terminal.

    >>> source = Source("longformer.attn", "pattern p {\\n    windw(width=513)\\n}")
    >>> print(render(Diagnostic(
    ...     "foreign-word", "`windw` is no word of the language", "not a word",
    ...     Span(16, 21), source, hints=("did you mean `window`?",),
    ...     notes=(Note("in this pattern", Span(8, 9), source),),
    ... )))
    error[foreign-word]: `windw` is no word of the language
      --> longformer.attn:2:5
       |
     2 |     windw(width=513)
       |     ^^^^^ not a word
       |
     1 | pattern p {
       |         - in this pattern
       |
    help: did you mean `window`?
    """
    shown: list[Diagnostic | Note] = [diagnostic, *diagnostic.notes]
    digits = max(len(str(one.source.location(one.span.start)[0])) for one in shown)
    gutter = " " * (digits + 2) + "|"
    rows = [f"error[{diagnostic.slug}]: {escaped(diagnostic.message)}"]
    rows.append(f"{' ' * (digits + 1)}--> {_place(diagnostic.source, diagnostic.span)}")
    if diagnostic.source.text:
        rows.append(gutter)
        rows += _picture(diagnostic, digits, "^")
    for note in diagnostic.notes:
        rows.append(gutter)
        if note.source != diagnostic.source:
            rows.append(f"{' ' * (digits + 1)}::: {_place(note.source, note.span)}")
        rows += _picture(note, digits, "-")
    if diagnostic.hints:
        rows.append(gutter)
        rows += [f"help: {escaped(hint)}" for hint in diagnostic.hints]
    return "\n".join(rows)


def _place(source: Source, span: Span) -> str:
    line, column = source.location(span.start)
    return f"{escaped(source.name)}:{line}:{column}"


def _picture(one: Diagnostic | Note, digits: int, mark: str) -> list[str]:
    """The line of a span with its number, and the marks below it."""
    line, _ = one.source.location(one.span.start)
    text, before, width = snippet(one.source, one.span)
    under = f"{' ' * before}{mark * width} {escaped(one.label)}"
    return [
        f" {line:>{digits}} | {text}".rstrip(),
        f"{' ' * (digits + 2)}| {under}".rstrip(),
    ]


def to_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """A diagnostic as plain data: offsets 0-based and half-open, lines and columns 1-based."""
    return {
        "slug": diagnostic.slug,
        "message": diagnostic.message,
        **_json_place(diagnostic),
        "found": diagnostic.found,
        "expected": list(diagnostic.expected),
        "hints": list(diagnostic.hints),
        "notes": [_json_place(note) for note in diagnostic.notes],
    }


def _json_place(one: Diagnostic | Note) -> dict[str, Any]:
    start = one.source.location(one.span.start)
    stop = one.source.location(one.span.stop)
    return {
        "label": one.label,
        "file": one.source.name,
        "span": {"start": one.span.start, "stop": one.span.stop},
        "start": {"line": start[0], "column": start[1]},
        "stop": {"line": stop[0], "column": stop[1]},
    }


def did_you_mean(name: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """Hints that name the candidates closest to a misspelt name, at most two.

    >>> did_you_mean("windw", ["window", "global"])
    ('did you mean `window`?',)
    """
    if len(name) > _LONGEST_GUESS:
        return ()
    by_lower = {candidate.lower(): candidate for candidate in sorted(candidates, reverse=True)}
    close = difflib.get_close_matches(name.lower(), by_lower, n=2, cutoff=0.6)
    return tuple(f"did you mean `{by_lower[one]}`?" for one in close)


for _slug, _meaning in {
    "bad-name": "a name that begins with a digit, or has blanks or signs in it",
    "bad-number": "a number is not written as the language writes numbers",
    "bad-string": "a quoted text is not closed, or stands where none can",
    "cannot-read": "the file is missing, is a folder, or may not be read",
    "empty-file": "a file without any pattern",
    "equals-sign": "`=` where a comparison needs `==`, or the reverse",
    "float-number": "a number with a fractional part or an exponent",
    "foreign-operator": "an operator or sign of another language",
    "foreign-word": "a word of another language where ours has its own",
    "hidden-character": "a control character, or one that changes how the text is shown",
    "misspelt-word": "a word of the language, misspelt",
    "misplaced-statement": "a statement where it cannot stand",
    "missing-brace": "`:` or nothing where a body in braces must come",
    "missing-comma": "two items without a comma between them",
    "missing-else": "`else` without its `when`",
    "missing-let": "a value given to a name without `let`",
    "missing-name": "a definition without its name",
    "missing-operand": "an operator, `=` or a word without what must stand beside it",
    "missing-operator": "two expressions with nothing between them",
    "missing-parentheses": "an argument, or an operand, that needs parentheses",
    "missing-quotes": "the path of a file without quotes",
    "nested-pattern": "a pattern that starts inside the body of another",
    "not-text": "the file is not UTF-8 text",
    "number-too-long": "a number with too many digits",
    "reserved-word": "a word of the language where a name must stand",
    "syntax": "any other text that does not fit the grammar",
    "too-deep": "nesting beyond the limit",
    "too-large": "a text beyond the limit of size",
    "unclosed-bracket": "an opening bracket that is never closed",
    "unknown-character": "a character that the language does not use",
    "unmatched-bracket": "a closing bracket without its opening one",
}.items():
    register(_slug, _meaning)

SYNTAX_SLUGS = frozenset(SLUGS)
"""The slugs of this layer: what can be said about a file without knowing what its names mean."""

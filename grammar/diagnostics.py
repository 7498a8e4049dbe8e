"""What a user is told about a pattern file: data first, text and JSON derived from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attnloom.grammar.source import Source, Span


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


class PatternError(ValueError):
    """A pattern file is wrong; `diagnostics` lists every problem, `str(error)` shows them."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(self.diagnostics)


class InternalError(AssertionError):
    """A bug in attnloom, never the user's mistake."""

"""Where text came from: spans, sources, and the one place that turns offsets into lines."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property

_LINE_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range `[start, stop)` of 0-based character offsets."""

    start: int
    stop: int

    def __or__(self, other: Span) -> Span:
        """The smallest span that covers both."""
        return Span(min(self.start, other.start), max(self.stop, other.stop))


@dataclass(frozen=True)
class Source:
    """The text of one pattern file and the name it is shown under.

    Lines end in LF, CR LF, or a lone CR.
    """

    name: str
    text: str = field(repr=False)

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(found.end() for found in _LINE_BREAK.finditer(self.text))]

    def location(self, offset: int) -> tuple[int, int]:
        """The 1-based line and column of a character offset.

        >>> Source("x.attn", "one\\ntwo").location(5)
        (2, 2)
        """
        offset = max(0, min(offset, len(self.text)))
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a 1-based line, without its line break."""
        start = self._line_starts[number - 1]
        stop = self._line_starts[number] if number < len(self._line_starts) else len(self.text)
        return self.text[start:stop].rstrip("\r\n")

    def slice(self, span: Span) -> str:
        """The text that a span covers.

        >>> Source("x.attn", "one two").slice(Span(4, 7))
        'two'
        """
        return self.text[span.start : span.stop]

    @property
    def num_lines(self) -> int:
        return len(self._line_starts)

"""One line of a source as a terminal shows it: tabs expanded, controls escaped, width counted."""

from __future__ import annotations

import unicodedata

from attnloom.grammar.source import Source, Span

TAB = 4
WIDTH = 96
"""Terminal columns of a source line that are shown at most; longer ones are cut around the span."""
_LEAD = 32
_MOST_CHARACTERS = 4 * WIDTH
_CUT = "..."


def escaped(text: str) -> str:
    r"""The text with everything that is not plainly visible written as an escape.

    >>> escaped("a\x1b[31m")
    'a\\x1b[31m'
    """
    return text if text.isprintable() else "".join(_shown(char) for char in text)


def snippet(source: Source, span: Span) -> tuple[str, int, int]:
    """The first line of a span as shown, the columns before the marks, and how many marks.

    A span that goes on to further lines is marked to the end of its first one; an empty span gets
    one mark.
    """
    line, column = source.location(span.start)
    text = source.line(line)
    start = min(column - 1, len(text))
    stop = min(start + max(span.stop - span.start, 0), len(text))

    # A long line is cut before it is measured, so the work does not grow with the line.
    first = max(0, start - _LEAD) if len(text) > WIDTH else 0
    cells = [_CUT] if first else []
    column = before = after = len(_CUT) if first else 0
    for at in range(first, len(text)):
        cell = _cell(text[at], column)
        width = _width(cell)
        if len(text) - first > WIDTH and (
            column + width > WIDTH - len(_CUT) or at - first > _MOST_CHARACTERS
        ):
            cells.append(_CUT)
            break
        cells.append(cell)
        column += width
        if at < start:
            before = column
        if at < stop:
            after = column
    return "".join(cells), before, max(1, after - before)


def _cell(char: str, column: int) -> str:
    return " " * (TAB - column % TAB) if char == "\t" else _shown(char)


def _shown(char: str) -> str:
    if char.isprintable():
        return char
    return char.encode("unicode_escape").decode("ascii")


def _width(text: str) -> int:
    """Terminal columns: wide characters take two, combining marks none."""
    return sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if char.isascii():
        return 1
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1

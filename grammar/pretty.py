"""Documents: text with places where a line may break, laid out within a width.

The algorithm is Wadler's ("A prettier printer"), as an explicit stack: a group is printed flat if
what follows, up to the next place where the line may break, fits; else its own breaks are taken.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Break:
    """A line break, or `flat` where the group around it fits."""

    flat: str = " "


@dataclass(frozen=True, slots=True)
class HardBreak:
    """A line break always; `blank` puts an empty line in between."""

    blank: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Breaks inside belong together: all are taken or none."""

    part: Doc


@dataclass(frozen=True, slots=True)
class Nest:
    """Lines that begin inside are indented by one more step."""

    part: Doc


@dataclass(frozen=True, slots=True)
class Trailing:
    """A part with a comment after it, which does not count for the width.

    The comment stands `offset` columns right of the indentation if that leaves two spaces and the
    part is one line, else two spaces after the part.
    """

    part: Doc
    text: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class _Tail:
    """The comment of a `Trailing`, with the number of lines there were when its part began."""

    text: str
    offset: int
    num_lines: int


Doc = str | Break | HardBreak | Group | Nest | Trailing | _Tail | tuple["Doc", ...]

_Item = tuple[int, bool, Doc]  # indentation, flat, document


def layout(doc: Doc, *, width: int, step: int = 4) -> str:
    """The text of a document.

    >>> layout(Group(("f(", Nest((Break(""), "a,", Break(), "b")), Break(""), ")")), width=5)
    'f(\\n    a,\\n    b\\n)'
    """
    lines: list[str] = []
    line: list[str] = []
    column = 0
    todo: list[_Item] = [(0, False, doc)]
    while todo:
        indent, flat, item = todo.pop()
        match item:
            case str():
                line.append(item)
                column += len(item)
            case tuple():
                todo.extend((indent, flat, part) for part in reversed(item))
            case Nest(part):
                todo.append((indent + step, flat, part))
            case Group(part):
                fits = flat or _fits(width - column, (indent, True, part), todo)
                todo.append((indent, fits, part))
            case Trailing(part, text, offset):
                todo.append((indent, flat, _Tail(text, offset, len(lines))))
                todo.append((indent, flat, part))
            case _Tail(text, offset, num_lines):
                wanted = indent + offset if num_lines == len(lines) else 0
                line.append(" " * max(2, wanted - column) + text)
            case Break(text) if flat:
                line.append(text)
                column += len(text)
            case Break() | HardBreak():
                lines.append("".join(line).rstrip())
                if isinstance(item, HardBreak) and item.blank:
                    lines.append("")
                line = [" " * indent]
                column = indent
    lines.append("".join(line).rstrip())
    return "\n".join(lines)


def _fits(room: int, first: _Item, rest: list[_Item]) -> bool:
    """Whether `first` and what follows it fits, up to the next place where the line can break."""
    todo = [first]
    at = len(rest)
    while room >= 0:
        if not todo:
            if at == 0:
                return True
            at -= 1
            todo.append(rest[at])
        indent, flat, item = todo.pop()
        match item:
            case str():
                room -= len(item)
            case tuple():
                todo.extend((indent, flat, part) for part in reversed(item))
            case Nest(part) | Group(part) | Trailing(part):
                todo.append((indent, flat, part))
            case Break(text) if flat:
                room -= len(text)
            case Break() | HardBreak():
                return True
            case _Tail():
                pass
    return False

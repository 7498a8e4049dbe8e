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
    """Text at the end of a line that does not count for the width, at `column` if it gets there."""

    text: str
    column: int = 0


Doc = str | Break | HardBreak | Group | Nest | Trailing | tuple["Doc", ...]

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
            case Trailing(text, wanted):
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
            case Nest(part) | Group(part):
                todo.append((indent, flat, part))
            case Break(text) if flat:
                room -= len(text)
            case Break() | HardBreak():
                return True
    return False

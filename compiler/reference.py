"""The table of primitives, as the documentation shows it."""

from __future__ import annotations

from attnloom.compiler.primitives import primitives
from attnloom.compiler.primitives.base import Kind, Primitive

ORDER = (
    "full", "none", "self", "causal", "window", "neighborhood", "global", "broadcast", "collect",
    "random", "expander", "stride", "chunks", "offsets", "same", "links", "where",
    "near", "row", "column", "tile",
)  # fmt: skip
"""How the table is sorted; primitives that are not named come after these."""


def primitive_table() -> str:
    """A Markdown table of every form of every primitive, and one of the options.

    >>> print(primitive_table().splitlines()[2])
    | `full` | all pairs |
    """
    known = primitives()
    names = [name for name in ORDER if name in known]
    names += [name for name in known if name not in ORDER]
    found = [one for name in names for one in known[name] if not one.in_grid]
    cells = [one for name in names for one in known[name] if one.in_grid]
    return "\n\n".join(
        [
            _table("primitive", found),
            "Inside of a `grid`:",
            _table("primitive", cells),
            "Options, which any form of a primitive takes:",
            _options([*found, *cells]),
        ]
    )


def _table(head: str, listed: list[type[Primitive]]) -> str:
    rows = [f"| {head} | pairs (i reads j) |", "| --- | --- |"]
    for primitive in listed:
        rows += [
            f"| `{_escaped(form.text)}` | {_escaped(form.meaning)} |" for form in primitive.forms
        ]
    return "\n".join(rows)


def _options(listed: list[type[Primitive]]) -> str:
    rows = ["| primitive | option | takes | default |", "| --- | --- | --- | --- |"]
    seen: set[tuple[str, str]] = set()
    for primitive in listed:
        arguments = primitive.arguments()
        for form in primitive.forms:
            for name in form.options:
                if (primitive.name, name) in seen:
                    continue
                seen.add((primitive.name, name))
                one = arguments[name]
                takes = one.kind.value
                if one.kind is Kind.NUMBER and one.least is not None:
                    takes += f", at least {one.least}"
                default = "nothing" if one.default is None else str(one.default).lower()
                rows.append(f"| `{primitive.name}` | `{name}` | {takes} | {default} |")
    return "\n".join(rows)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")

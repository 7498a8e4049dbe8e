"""What a pattern file says of itself in its comment: a title, what it is for, and its family."""

from __future__ import annotations

from attnloom.pattern import Pattern

FAMILIES = (
    "dense", "windows", "chunks", "grids", "strides", "globals", "random", "data", "stacks",
)  # fmt: skip
"""By what their patterns go, in the order of the gallery."""


def title(pattern: Pattern) -> str:
    """The first line of a pattern's comment: what it is, by whom, and where it is published."""
    return pattern.doc.strip().split("\n")[0]


def family(pattern: Pattern) -> str:
    """What a pattern's comment says after `Family:`, or nothing.

    >>> import attnloom
    >>> family(attnloom.load("mistral"))
    'windows'
    """
    said = (line.removeprefix("Family:") for line in pattern.doc.split("\n") if "Family:" in line)
    return next(said, "").strip()


def use(pattern: Pattern) -> str:
    """What a pattern is for: its comment without the title and the family.

    >>> import attnloom
    >>> use(attnloom.load("longformer")).split(":")[0]
    'For long documents'
    """
    lines = pattern.doc.strip().split("\n")[1:]
    return "\n".join(line for line in lines if not line.startswith("Family:")).strip()


def is_causal(pattern: Pattern) -> bool:
    """Whether the pattern promises that it is causal.

    >>> import attnloom
    >>> is_causal(attnloom.load("mistral")), is_causal(attnloom.load("longformer"))
    (True, False)
    """
    return "causal" in pattern.contracts

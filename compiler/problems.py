"""What is said about a pattern that reads well but means nothing: slugs, places, collecting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from attnloom.compiler.limits import MAX_DEPTH
from attnloom.grammar.diagnostics import Diagnostic, Note, PatternError, register
from attnloom.grammar.source import Source, Span


@dataclass(frozen=True)
class Place:
    """A piece of a pattern file."""

    source: Source = field(repr=False)
    span: Span

    def note(self, label: str) -> Note:
        """A second place for a diagnostic: "first defined here"."""
        return Note(label, self.span, self.source)

    @property
    def text(self) -> str:
        """What stands there."""
        return self.source.slice(self.span)


def diagnostic(
    slug: str,
    place: Place,
    message: str,
    label: str = "",
    *,
    hints: Iterable[str] = (),
    notes: Iterable[Note] = (),
    found: str | None = None,
    expected: Iterable[str] = (),
) -> Diagnostic:
    """A diagnostic at a place; what is found is what stands there, unless it is given."""
    text = " ".join(place.text.split())
    shown = text if len(text) <= _LONGEST_FOUND else text[:_LONGEST_FOUND] + "..."
    return Diagnostic(
        slug, message, label, place.span, place.source,
        hints=tuple(hints), notes=tuple(notes),
        found=shown if found is None else found, expected=tuple(expected),
    )  # fmt: skip


def too_deep(place: Place) -> Diagnostic:
    """Expressions, or what they refer to, nest beyond the limit."""
    return diagnostic(
        "too-deep",
        place,
        f"expressions, `let`s and calls nest at most {MAX_DEPTH} deep",
        "this is deeper",
        hints=["a list, `[a, b, c]`, nests less than `a | b | c`"],
        expected=[f"at most {MAX_DEPTH} deep"],
    )


_LONGEST_FOUND = 60


class Problem(Exception):
    """One diagnostic on its way to whoever collects them; never leaves the compiler."""

    def __init__(self, found: Diagnostic) -> None:
        super().__init__(found)
        self.diagnostic = found


class Problems:
    """Collects diagnostics, each once, so that all are reported together."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, Span, str], Diagnostic] = {}

    def add(self, found: Diagnostic) -> None:
        name = (found.slug, found.source.name, found.span, found.message)
        self._found.setdefault(name, found)

    def __bool__(self) -> bool:
        return bool(self._found)

    def throw(self) -> None:
        """Raise what was collected, in the order of the text, if anything was.

        Raises:
            PatternError: something was.
        """
        if self._found:
            order = sorted(self._found.values(), key=lambda one: (one.source.name, one.span))
            raise PatternError(order)


for _slug, _meaning in {
    "ambiguous-window": "a bare `window(512)`, which systems read in different ways",
    "bad-argument": "an argument that is missing, not known, given twice, or not of this form",
    "bad-value": "a value outside of what an argument, operator or function accepts",
    "broken-contract": "what `expect` says is not so at this length",
    "division-by-zero": "`//` or `%` by zero",
    "duplicate-name": "a name that is defined twice",
    "let-cycle": "a `let` that needs itself",
    "memory-in-call": "a call of a pattern that has memory tokens of its own",
    "memory-varies": "a number of memory tokens that differs between heads or layers",
    "misplaced-name": "a name that means something only inside of another construct",
    "name-taken": "a name of the language given to something else",
    "needs-body": "`blocks` or `grid` without a body, or a body after anything else",
    "number-too-large": "a number beyond 64 bits",
    "pattern-cycle": "a pattern that calls itself",
    "position-outside": "a token position outside of the sequence",
    "too-much-work": "more work or memory than the documented limits allow",
    "unknown-kind": "a kind of parameter or input that does not exist",
    "unknown-metric": "a contract about something that is not measured",
    "unknown-name": "a name that is not defined",
    "use-cycle": "files that use each other in a circle",
    "use-escapes": "a `use` that leaves the folder of its file",
    "use-needs-file": "a quoted `use` in a text that is not a file",
    "use-not-found": "a `use` of a file or bundled pattern that does not exist",
    "wrong-type": "a relation where a number is expected, or the like",
}.items():
    register(_slug, _meaning)

__all__ = ["Diagnostic", "PatternError", "Place", "Problem", "Problems", "diagnostic", "too_deep"]

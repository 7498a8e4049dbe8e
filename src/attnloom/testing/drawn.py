"""What the strategies draw, in forms that show how to make the same again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

import attnloom
from attnloom.compiler.analysis.contracts import Outcome
from attnloom.compiler.bound import Bound
from attnloom.contracts import Case
from attnloom.pattern import Pattern

if TYPE_CHECKING:
    import numpy as np

    from attnloom.runtime.plan import Plan


@dataclass(frozen=True, eq=False, repr=False)
class DrawnPattern(Pattern):
    """A pattern that is shown as the call that makes it.

    >>> DrawnPattern.parse("pattern p { full }")
    attnloom.parse('''pattern p { full }''')
    """

    @classmethod
    def parse(cls, text: str) -> DrawnPattern:
        """The main pattern of a text.

        Raises:
            PatternError: the text is wrong.
        """
        return cls(attnloom.parse(text)._typed)

    def __repr__(self) -> str:
        lines = "\n" if "\n" in self.text else ""
        return f"attnloom.parse('''{lines}{self.text}''')"


@dataclass(frozen=True, repr=False)
class Binding:
    """What a pattern is looked at with: length, heads, layers, parameters, and inputs.

    `pattern` has its parameters set already; `settings` are those that were drawn. `inputs` are of
    one batch element.
    """

    pattern: Pattern = field(repr=False)
    n: int
    heads: int = 1
    layers: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def bind(self, head: int = 0, layer: int = 0) -> Bound:
        """As `Pattern.bind` does."""
        return self.pattern.bind(self.n, **self._place(head, layer))

    def mask(self, head: int = 0, layer: int = 0) -> NDArray[np.bool_]:
        """As `Pattern.mask` does."""
        return self.pattern.mask(self.n, **self._place(head, layer))

    def compile(self, layer: int = 0, **options: Any) -> Plan:
        """As `Pattern.compile` does, for all heads."""
        return self.pattern.compile(
            self.n, heads=self.heads, layer=layer, layers=self.layers, inputs=self.inputs, **options
        )

    def check(self) -> list[Outcome]:
        """As `Pattern.check` does, for all heads and layers."""
        return self.pattern.check(self.n, heads=self.heads, layers=self.layers, inputs=self.inputs)

    @property
    def case(self) -> Case:
        """The same without the pattern, for a command line."""
        return Case(self.n, self.heads, self.layers, self.settings, self.inputs)

    def __repr__(self) -> str:
        """Without what is as it is anyway."""
        shown = [f"n={self.n}"]
        shown += [
            f"{name}={value}"
            for name, value in (("heads", self.heads), ("layers", self.layers))
            if value > 1
        ]
        shown += [
            f"{name}={dict(value)!r}"
            for name, value in (("settings", self.settings), ("inputs", self.inputs))
            if value
        ]
        return f"Binding({self.pattern.name}, {', '.join(shown)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How notebooks and Hypothesis show it: not field by field."""
        printer.text(repr(self))

    def _place(self, head: int, layer: int) -> dict[str, Any]:
        return {
            "head": head,
            "heads": self.heads,
            "layer": layer,
            "layers": self.layers,
            "inputs": self.inputs,
        }

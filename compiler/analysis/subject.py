"""What is analysed: a pattern with its parameters and inputs, at a length, in so many layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from attnloom.compiler import typed
from attnloom.compiler.analysis.complexity import complexity
from attnloom.compiler.analysis.hubs import hubs
from attnloom.compiler.analysis.stack import Removed, Stack
from attnloom.compiler.bind import bind, parameters
from attnloom.compiler.bound import Bound
from attnloom.compiler.dependence import depends_on_head, depends_on_layer
from attnloom.compiler.evaluate import Environment
from attnloom.compiler.problems import Problem
from attnloom.compiler.tokens import TokenSet


@dataclass(frozen=True, eq=False)
class Subject:
    """A pattern, and where it is looked at.

    `layers` is `None` when no number was asked for; `inputs` are those of one batch element, as
    `attnloom.compiler.inputs` reads them.
    """

    pattern: typed.Pattern
    tokens: int
    heads: int
    layers: int | None
    inputs: Mapping[str, Any]
    removed: Removed | None = None

    @cached_property
    def stack(self) -> Stack:
        """The pattern bound for all heads and layers, without what is taken away.

        Raises:
            PatternError: it has no meaning here.
        """
        return self.whole if self.removed is None else self.whole.without(self.removed)

    @cached_property
    def whole(self) -> Stack:
        """The pattern bound for all heads and layers.

        Raises:
            PatternError: it has no meaning here.
        """
        return Stack.of(
            self._bind,
            heads=self.heads,
            layers=self.layers,
            varies_by_head=depends_on_head(self.pattern),
            varies_by_layer=self.depends_on_layer,
        )

    @property
    def depends_on_layer(self) -> bool:
        return depends_on_layer(self.pattern)

    def at(self, tokens: int) -> Subject | None:
        """The same at another length; `None` if inputs or removed tokens are for this one."""
        if self.pattern.inputs or self.removed is not None:
            return None
        return replace(self, tokens=tokens)

    def without(self, tokens: TokenSet | None) -> Subject:
        """The same with some tokens taken away; `None` for all hubs."""
        removed = hubs(self.whole) if tokens is None else Removed(tokens, ())
        return replace(self, removed=removed)

    def complexity(self, layer: int) -> str:
        """The order of the pairs in a layer, in the pattern's own parameters."""
        variables = self._variables(0, layer)
        environment = Environment(variables, {}, self.inputs)
        values = parameters(self.pattern, {}, environment)
        environment = replace(environment, parameters=values, _known={})

        def choose(choice: typed.Choice) -> Iterable[typed.Body | None]:
            try:
                holds = environment.number(choice.condition)
            except (KeyError, Problem):  # of a called pattern, whose parameters are not ours
                return choice.then, choice.otherwise
            return (choice.then if holds else choice.otherwise,)

        return complexity(self.pattern, choose)

    def _bind(self, head: int, layer: int) -> Bound:
        return bind(self.pattern, self._variables(head, layer), {}, self.inputs)

    def _variables(self, head: int, layer: int) -> dict[str, int]:
        return {
            "n": self.tokens,
            "head": head,
            "heads": self.heads,
            "layer": layer,
            "layers": self.layers or 1,
        }

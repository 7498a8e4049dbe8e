"""Broken contracts as diagnostics: what fails, at which setting, and the command that shows it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from attnloom.compiler import typed
from attnloom.compiler.analysis.contracts import Answer, Outcome
from attnloom.compiler.problems import Diagnostic, diagnostic
from attnloom.pattern import Pattern

_MOST_SHOWN = 60
"""Characters of a value beyond which a message leaves the rest out."""


@dataclass(frozen=True)
class Case:
    """What a pattern is checked with; `settings` are the parameters that were given values."""

    n: int
    heads: int = 1
    layers: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def check(self, pattern: Pattern) -> list[Outcome]:
        """Every contract of a pattern in this case.

        Raises:
            PatternError: the pattern has no meaning in this case.
        """
        chosen = pattern.with_params(**self.settings) if self.settings else pattern
        return chosen.check(self.n, heads=self.heads, layers=self.layers, inputs=self.inputs)

    def words(self, pattern: Pattern, outcome: Outcome | None = None) -> str:
        """The case as a message says it.

        >>> import attnloom
        >>> Case(700, heads=2, settings={"reach": 64}).words(attnloom.load("longformer"))
        'n = 700, reach = 64, cls = 0, 2 heads'
        """
        values = {**pattern.params, **self.settings, **self.inputs}
        parts = [f"n = {self.n}"]
        parts += [f"{name} = {_shortened(spelt(value))}" for name, value in values.items()]
        for name, count in (("head", self.heads), ("layer", self.layers)):
            which = None if outcome is None else getattr(outcome, name)
            if count > 1:
                parts.append(f"{count} {name}s" if which is None else f"{name} {which} of {count}")
        return ", ".join(parts)

    def command(self, file: str) -> str:
        """The command line that checks a file in this case.

        >>> Case(7, layers=2, settings={"r": 3}, inputs={"q": [0, 2]}).command("mine.attn")
        "attnloom check mine.attn -n 7 --layers 2 --set r=3 --input 'q=[0, 2]'"
        """
        words = ["attnloom", "check", file, "-n", str(self.n)]
        for option, count in (("--heads", self.heads), ("--layers", self.layers)):
            words += [option, str(count)] if count > 1 else []
        for name, value in self.settings.items():
            words += ["--set", f"{name}={spelt(value)}"]
        for name, value in self.inputs.items():
            words += ["--input", f"{name}={spelt(value)}"]
        return shlex.join(words)

    def to_dict(self) -> dict[str, Any]:
        """The case as plain values, for JSON."""
        return {
            "n": self.n,
            "heads": self.heads,
            "layers": self.layers,
            "settings": {name: spelt(value) for name, value in self.settings.items()},
            "inputs": {name: spelt(value) for name, value in self.inputs.items()},
        }


@dataclass(frozen=True)
class Finding:
    """What is found about a contract in one case or in several: the case that tells most."""

    outcome: Outcome
    case: Case

    @property
    def fails(self) -> bool:
        return self.outcome.fails

    def diagnose(self, pattern: Pattern, file: str) -> Diagnostic:
        """A broken contract as a diagnostic; the hint is a command that shows it again."""
        outcome = self.outcome
        return diagnostic(
            "broken-contract",
            outcome.contract.place,
            f"`{outcome.text}` fails at {self.case.words(pattern, outcome)}",
            outcome.words,
            hints=[f"`{self.case.command(file)}`"],
            found=outcome.words,
            expected=[outcome.text],
        )

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain values, for JSON."""
        return {
            "text": self.outcome.text,
            "answer": self.outcome.answer.name.lower(),
            "words": self.outcome.words,
            "head": self.outcome.head,
            "layer": self.outcome.layer,
            "case": self.case.to_dict(),
        }


_ORDER = (Answer.FAILS, Answer.OPEN, Answer.HOLDS, Answer.ABSENT)


def check_case(pattern: Pattern, case: Case) -> list[Finding]:
    """Every contract of a pattern in a case.

    Raises:
        PatternError: the pattern has no meaning there.
    """
    return [Finding(outcome, case) for outcome in case.check(pattern)]


def combined(found: Iterable[Sequence[Finding]]) -> list[Finding]:
    """For each contract the first case in which it fails, else is not decided, else holds."""
    return [
        min(column, key=lambda finding: _ORDER.index(finding.outcome.answer))
        for column in zip(*found, strict=True)
    ]


def with_contracts(pattern: Pattern, kept: Callable[[typed.Contract], bool]) -> Pattern:
    """The pattern with some of its contracts only.

    >>> import attnloom
    >>> with_contracts(attnloom.load("longformer"), lambda one: one.operator is None).contracts
    ['symmetric', 'no_empty_rows']
    """

    def chosen(body: typed.Body) -> typed.Body:
        choices = tuple(
            replace(
                one,
                then=chosen(one.then),
                otherwise=None if one.otherwise is None else chosen(one.otherwise),
            )
            for one in body.choices
        )
        return replace(body, contracts=tuple(filter(kept, body.contracts)), choices=choices)

    return Pattern(replace(pattern._typed, body=chosen(pattern._typed.body)))


def with_contract(
    pattern: Pattern, metric: str, sign: str | None = None, wanted: int = 0
) -> Pattern:
    """The pattern with one contract in place of its own: a property, or a metric and a number."""
    bare = with_contracts(pattern, lambda _: False)._typed
    value = None if sign is None else typed.Constant(bare.place, wanted)
    text = metric if sign is None else f"{metric} {sign} {wanted:,}"
    contract = typed.Contract(bare.place, metric, sign, value, text)
    return Pattern(replace(bare, body=replace(bare.body, contracts=(contract,))))


def spelt(value: Any) -> str:
    """A value as the command line takes it.

    >>> spelt(True), spelt([[0, 1], []]), spelt("first 2"), spelt(range(2, 5))
    ('true', '[[0, 1], []]', 'first 2', '2..5')
    """
    if isinstance(value, range) and value.step == 1:
        return f"{value.start}..{value.stop}"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."

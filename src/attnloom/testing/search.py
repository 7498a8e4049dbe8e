"""The search for a setting in which a contract is broken, and the smallest such setting."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, given, reject, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from attnloom.compiler.dependence import depends_on_head, depends_on_layer
from attnloom.compiler.elaborate import contracts_of
from attnloom.contracts import Case, Finding, check_case, combined, with_contracts
from attnloom.grammar import PatternError
from attnloom.pattern import Pattern
from attnloom.testing.strategies import Draw, inputs_of, lengths, settings_of

MAX_N = 256
"""The longest sequence that is drawn, unless others are asked for."""

_MOST_PLACES = 4
"""Most heads, and most layers."""

_MOST_TRIES = 256
"""Cases that are looked at to shorten one."""


@dataclass(frozen=True)
class Search:
    """What is drawn: how many settings, and what all of them share.

    `lengths` are the only ones to draw, or empty; `heads` and `layers` are fixed unless `None`;
    `settings` and `inputs` are given to all.
    """

    examples: int = 500
    seed: int = 0
    max_n: int = MAX_N
    lengths: Sequence[int] = ()
    heads: int | None = None
    layers: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def run(self, pattern: Pattern) -> Result:
        """Draw settings until each contract has failed, or all have been drawn."""
        hunt = _Hunt(pattern)
        while not hunt.is_over:
            try:
                self._test(pattern, hunt)()
            except _BrokenError:
                # What is given is for the lengths that it is given for.
                hunt.go_on(may_shorten=not self.lengths and not self.inputs)
            except Unsatisfiable:
                break
            else:
                break
        findings = [hunt.best[key] for key in hunt.keys if key in hunt.best]
        return Result(tuple(findings), hunt.tried, hunt.meaningless)

    def cases(self, pattern: Pattern) -> st.SearchStrategy[Case]:
        """The settings of this search for a pattern; small ones are simpler."""
        return _cases(pattern, self)

    def _test(self, pattern: Pattern, hunt: _Hunt) -> Any:
        quiet = settings(
            max_examples=self.examples,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            print_blob=False,
        )
        return quiet(seed(self.seed)(given(self.cases(pattern))(hunt.look_at)))


@dataclass(frozen=True)
class Result:
    """What a search found: for each contract the smallest case that breaks it, if there is one.

    `tried` settings gave the pattern a meaning, and `meaningless` ones did not.
    """

    findings: tuple[Finding, ...]
    tried: int
    meaningless: int

    @property
    def broken(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.fails)


class _BrokenError(AssertionError):
    """A contract fails in the case at hand."""


class _Hunt:
    """Looks at cases for a contract that fails; once one does, for simpler cases of that one.

    `best` has the finding that tells most about each contract, by the identity of the contract;
    the hunt goes on for those that are not known to be broken.
    """

    def __init__(self, pattern: Pattern) -> None:
        self.whole = pattern
        self.keys = [id(one) for one in contracts_of(pattern._typed)]
        self.best: dict[int, Finding] = {}
        self.hunted = set(self.keys)
        self.tried = 0
        self.meaningless = 0
        self.is_over = False
        self._begin()

    def _begin(self) -> None:
        self.pattern = with_contracts(self.whole, lambda one: id(one) in self.hunted)
        self.found: Finding | None = None
        self.drawn = [0, 0]

    def go_on(self, *, may_shorten: bool) -> None:
        """Hunt for the other contracts: the case at hand is the smallest that breaks this one."""
        assert self.found is not None
        key = id(self.found.outcome.contract)
        self.best[key] = self._shortened(self.found) if may_shorten else self.found
        self.hunted.discard(key)
        self.is_over = not self.hunted
        self._begin()

    def look_at(self, case: Case) -> None:
        """Raise if a contract that is hunted for fails."""
        try:
            findings = check_case(self.pattern, case)
        except PatternError:
            self._count(1)
            reject()
        self._count(0)
        for finding in findings:
            key = id(finding.outcome.contract)
            if finding.fails:
                if self.found is None:
                    contract = finding.outcome.contract
                    self.pattern = with_contracts(self.whole, partial(operator.is_, contract))
                self.found = finding
                raise _BrokenError
            self.best[key] = combined([[self.best.get(key, finding)], [finding]])[0]

    def _shortened(self, found: Finding) -> Finding:
        """The same without the positions that it does not need.

        A shorter sequence needs shorter inputs, which are drawn after it, so that simpler draws
        alone do not always lead there.
        """
        tries, position = 0, found.case.n
        while tries < _MOST_TRIES and position > 0 and found.case.n > 1:
            tries, position = tries + 1, position - 1
            shorter = self._failing(_without(found.case, position, self.whole.inputs))
            if shorter is not None:  # those that were needed before may not be now
                found, position = shorter, shorter.case.n
        return found

    def _failing(self, case: Case) -> Finding | None:
        try:
            findings = check_case(self.pattern, case)
        except PatternError:
            return None
        return next((one for one in findings if one.fails), None)

    def _count(self, which: int) -> None:
        """Cases that are drawn, not those that make one simpler; most of all rounds."""
        if self.found is None:
            self.drawn[which] += 1
            self.tried = max(self.tried, self.drawn[0])
            self.meaningless = max(self.meaningless, self.drawn[1])


def _without(case: Case, position: int, kinds: Mapping[str, str]) -> Case:
    """A case in which a position is taken out of the sequence and of its inputs.

    >>> _without(Case(3, inputs={"t": [0, 2], "l": [[2], [1], []]}), 1,
    ...          {"t": "tokens", "l": "links"}).inputs
    {'t': [0, 1], 'l': [[1], []]}
    """

    def kept(positions: Sequence[int]) -> list[int]:
        return [one - (one > position) for one in positions if one != position]

    def row(values: Sequence[Any]) -> list[Any]:
        return [*values[:position], *values[position + 1 :]]

    ways: dict[str, Callable[[Any], list[Any]]] = {
        "tokens": kept,
        "segments": row,
        "links": lambda rows: [kept(keys) for keys in row(rows)],
    }
    inputs = {name: ways[kinds[name]](value) for name, value in case.inputs.items()}
    return replace(case, n=case.n - 1, inputs=inputs)


@st.composite
def _cases(draw: Draw, pattern: Pattern, search: Search) -> Case:
    n = draw(st.sampled_from(sorted(search.lengths)) if search.lengths
             else lengths(max_n=search.max_n))  # fmt: skip
    heads, layers = search.heads, search.layers
    if heads is None:
        heads = draw(st.integers(1, _MOST_PLACES)) if depends_on_head(pattern._typed) else 1
    if layers is None:
        layers = draw(st.integers(1, _MOST_PLACES)) if depends_on_layer(pattern._typed) else 1
    drawn = draw(settings_of(pattern))
    inputs = draw(inputs_of(pattern, n))
    return Case(n, heads, layers, {**drawn, **search.settings}, {**inputs, **search.inputs})

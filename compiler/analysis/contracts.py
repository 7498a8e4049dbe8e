"""Contracts: whether what `expect` says of a pattern is so, and if not, what shows it.

A contract is about one head of one layer, that pattern as often repeated as is needed, and must
hold for every head and layer that it is stated for. How information flows (`FLOW`) is more than
that: there the heads of a layer are united and layers that differ are taken in order, unless the
contract is stated for some heads or layers only.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction
from functools import cached_property
from typing import Any

from attnloom.compiler import typed
from attnloom.compiler.analysis.cache import cache
from attnloom.compiler.analysis.figures import Hops
from attnloom.compiler.analysis.growing import change, longer
from attnloom.compiler.analysis.intended import is_causal
from attnloom.compiler.analysis.metrics import Figure, metric, verdict
from attnloom.compiler.analysis.report import Options, Report
from attnloom.compiler.analysis.stack import Layer, Stack, fingerprint
from attnloom.compiler.analysis.subject import Subject
from attnloom.compiler.analysis.words import Words
from attnloom.compiler.bind import bind, parameters
from attnloom.compiler.bound import Bound
from attnloom.compiler.dependence import depends_on_head, depends_on_layer
from attnloom.compiler.evaluate import Environment
from attnloom.compiler.growth import keeps_rows
from attnloom.compiler.problems import PatternError, Problem

FLOW = frozenset(
    {"hops", "mean_hops", "coverage_layer", "unreachable", "token_cut", "hub_load", "connected"}
)
"""What is about the flow of information through all heads and layers."""

COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

_ROUNDING = 1e-9
"""How far a load, which is a sum of many floating-point shares, may be off."""


class Answer(Enum):
    """What is found about a contract; the value is how a report says it."""

    HOLDS = "holds"
    FAILS = "fails"
    OPEN = "is not decided"
    """Only bounds are known, and the contract speaks of a number between them."""

    ABSENT = "is not stated here"
    """It stands in a `when` that holds for no head and layer."""


@dataclass(frozen=True)
class Outcome:
    """What is found about a contract at a length.

    `words` say what shows that it fails, or why it is not decided. `head` and `layer` are where,
    `None` when it is about all of them.
    """

    contract: typed.Contract
    answer: Answer
    words: str = ""
    head: int | None = None
    layer: int | None = None

    @property
    def text(self) -> str:
        return self.contract.text

    @property
    def fails(self) -> bool:
        return self.answer is Answer.FAILS


@dataclass(frozen=True, eq=False)
class Setting:
    """A pattern with what it is looked at with: `inputs` are those of one batch element."""

    pattern: typed.Pattern
    tokens: int
    heads: int = 1
    layers: int = 1
    inputs: Mapping[str, Any] = field(default_factory=dict)
    samples: int = Options.samples

    @property
    def places(self) -> Iterator[tuple[int, int]]:
        """Every head of every layer: layer and head."""
        return ((layer, head) for layer in range(self.layers) for head in range(self.heads))

    def variables(self, head: int, layer: int) -> dict[str, int]:
        return {
            "n": self.tokens,
            "head": head,
            "heads": self.heads,
            "layer": layer,
            "layers": self.layers,
        }

    def environment(self, head: int, layer: int) -> Environment:
        """What numbers of the pattern are evaluated with, for a head of a layer."""
        bare = Environment(self.variables(head, layer), {}, self.inputs)
        return replace(bare, parameters=parameters(self.pattern, {}, bare), _known={})

    def bind(self, head: int, layer: int) -> Bound:
        return bind(self.pattern, self.variables(head, layer), {}, self.inputs)


def check(setting: Setting) -> list[Outcome]:
    """Evaluate every contract of a pattern, in the order of the text.

    Raises:
        PatternError: the pattern has no meaning at this setting, or a contract has none.
    """
    judge = _Judge(setting)
    try:
        stated = judge.stated()
    except Problem as problem:
        raise PatternError([problem.diagnostic]) from None
    return [judge.outcome(contract, places) for contract, places in stated]


Places = list[tuple[int, int, int | None]]
"""Where a contract is stated: layer, head, and the number that it compares with there."""


@dataclass(frozen=True, eq=False)
class _Judge:
    """Evaluates contracts at one setting; what several of them ask for is worked out once."""

    setting: Setting
    _bounds: dict[tuple[int, int], Bound] = field(default_factory=dict)
    _reports: dict[Hashable, Report] = field(default_factory=dict)

    def stated(self) -> list[tuple[typed.Contract, Places]]:
        """All contracts, and the places for which each is stated."""
        found: dict[int, tuple[typed.Contract, Places]] = {}
        for contract in _contracts(self.setting.pattern.body):
            found[id(contract)] = (contract, [])
        for layer, head in self.setting.places:
            environment = self.setting.environment(head, layer)
            for contract in _in_force(self.setting.pattern.body, environment):
                wanted = None if contract.value is None else environment.number(contract.value)
                found[id(contract)][1].append((layer, head, wanted))
        self.whole  # noqa: B018 - that the pattern has a meaning is found out first
        return list(found.values())

    def outcome(self, contract: typed.Contract, places: Places) -> Outcome:
        """What is found about a contract: the first place where it fails, if there is one."""
        if not places:
            return Outcome(contract, Answer.ABSENT)
        is_everywhere = len(places) == self.setting.heads * self.setting.layers
        undecided = None
        seen: set[Hashable] = set()
        for layer, head, wanted in places:
            of_all = contract.metric in FLOW and is_everywhere
            name = None if of_all else self._name(head, layer)
            if (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            if contract.metric == "prefix_stable":
                answer, words = self._grown(head, layer)
            else:
                report = self.whole if of_all else self._alone(head, layer)
                answer, words = _judged(contract, report, wanted)
            where = (None, None) if of_all else (head, layer)
            found = Outcome(contract, answer, words, *where)
            if found.fails:
                return found
            if answer is Answer.OPEN:
                undecided = undecided or found
        return undecided or Outcome(contract, Answer.HOLDS)

    def _grown(self, head: int, layer: int) -> tuple[Answer, str]:
        """Whether the keys of all queries stay as they are when more tokens follow."""
        if keeps_rows(self.setting.pattern):
            return Answer.HOLDS, ""
        if self.setting.inputs:
            return Answer.OPEN, "its inputs are for one length"
        for tokens in longer(self.setting.tokens):
            try:
                grown = replace(self.setting, tokens=tokens).bind(head, layer)
            except PatternError as error:
                return Answer.FAILS, f"among {tokens} tokens: {error.diagnostics[0].message}"
            words = change(self._bound(head, layer), grown)
            if words:
                return Answer.FAILS, words
        return Answer.HOLDS, ""

    @cached_property
    def whole(self) -> Report:
        """All heads and layers; layers that are alike are repeated as often as is needed."""
        stack = Stack.of(
            self._bound,
            heads=self.setting.heads,
            layers=self.setting.layers,
            varies_by_head=depends_on_head(self.setting.pattern),
            varies_by_layer=depends_on_layer(self.setting.pattern),
        )
        if stack.is_uniform:
            stack = replace(stack, order=(0,), is_counted=False)
        return self._report(stack)

    def _alone(self, head: int, layer: int) -> Report:
        """One head of one layer, repeated as often as is needed."""
        name = self._name(head, layer)
        if name not in self._reports:
            bound = self._bound(head, layer)
            kind = Layer((bound,), (1,))
            stack = Stack(bound.name, bound.tokens, bound.memory, 1, (kind,), (0,), False)
            self._reports[name] = self._report(stack)
        return self._reports[name]

    def _report(self, stack: Stack) -> Report:
        setting = self.setting
        subject = _Given(
            setting.pattern, setting.tokens, setting.heads, setting.layers, setting.inputs,
            given=stack,
        )  # fmt: skip
        return Report(subject, Options(samples=setting.samples))

    def _name(self, head: int, layer: int) -> Hashable:
        """A name that places with equal relations share."""
        return fingerprint(self._bound(head, layer).region)

    def _bound(self, head: int, layer: int) -> Bound:
        pattern = self.setting.pattern
        head = head if depends_on_head(pattern) else 0
        layer = layer if depends_on_layer(pattern) else 0
        if (head, layer) not in self._bounds:
            self._bounds[head, layer] = self.setting.bind(head, layer)
        return self._bounds[head, layer]


@dataclass(frozen=True, eq=False)
class _Given(Subject):
    """A subject whose stack is at hand."""

    given: Stack | None = None

    @cached_property
    def whole(self) -> Stack:
        assert self.given is not None
        return self.given

    def at(self, tokens: int) -> Subject | None:
        """Nothing: the stack is for this length."""
        return None


def _contracts(body: typed.Body) -> Iterator[typed.Contract]:
    """All contracts of a body and its branches."""
    yield from body.contracts
    for choice in body.choices:
        for branch in (choice.then, choice.otherwise):
            if branch is not None:
                yield from _contracts(branch)


def _in_force(body: typed.Body, environment: Environment) -> Iterator[typed.Contract]:
    """The contracts of a body and of those of its branches that hold."""
    yield from body.contracts
    for choice in body.choices:
        branch = choice.then if environment.number(choice.condition) else choice.otherwise
        if branch is not None:
            yield from _in_force(branch, environment)


def _judged(contract: typed.Contract, report: Report, wanted: int | None) -> tuple[Answer, str]:
    """Whether a contract holds of a stack, and what shows it if it does not."""
    words = Words(report)
    try:
        if contract.operator is None:
            found = verdict(report, contract.metric)
            if found.holds is None:
                return Answer.OPEN, "nothing was found against it, in a sample"
            return (Answer.HOLDS, "") if found.holds else (
                Answer.FAILS, words.against(contract.metric, found)
            )  # fmt: skip
        assert wanted is not None
        figure, low, high = _measured(report, contract.metric, wanted)
    except PatternError as error:
        return Answer.OPEN, error.diagnostics[0].message
    if low is None or high is None:
        return Answer.OPEN, words.unknown(contract.metric)
    if low > high:  # the number makes no sense here, and so none will do
        return Answer.FAILS, words.about(contract.metric, figure)
    answer = _compared(contract.operator, low, high, wanted)
    if answer is Answer.HOLDS:
        return answer, ""
    if answer is Answer.OPEN:
        return answer, f"it is between {_number(low)} and {_number(high)}"
    return answer, words.about(contract.metric, figure)


Number = Fraction | float
"""A number: exact, or infinite."""


def _compared(sign: str, low: Number, high: Number, wanted: int) -> Answer:
    """Whether a comparison holds of a number that lies within `low..high`.

    >>> [_compared("<", low, 8, 9).name for low in (3, 8)], _compared("==", 3, 9, 5).name
    (['HOLDS', 'HOLDS'], 'OPEN')
    """
    compare = COMPARE[sign]
    ends = {compare(low, wanted), compare(high, wanted)}
    if low != high and sign in ("==", "!=") and low <= wanted <= high:
        return Answer.OPEN
    if len(ends) == 2:
        return Answer.OPEN
    return Answer.HOLDS if ends.pop() else Answer.FAILS


def _measured(
    report: Report, name: str, wanted: int
) -> tuple[Figure, Number | None, Number | None]:
    """A metric and its bounds as exact as they are known; `None` where nothing is.

    A lower bound above the upper one says that the number makes no sense for the pattern.
    """
    if name == "kv_cache":
        stack = report.stack
        with report.limits():
            if not is_causal(stack):
                return Figure.unknown(report.hops.method), math.inf, -math.inf
            kept = cache(stack)
        return Figure.exact(kept.keys, kept.method, token=kept.at), *_twice(kept.keys)
    figure = metric(report, name)
    if name == "density":
        return figure, *_twice(Fraction(report.work.reads, report.work.pairs))
    if name == "mean_hops":
        return figure, *_mean(report.hops)
    if name == "token_cut" and figure.value is None and not report.hops.worst:
        return figure, math.inf, math.inf  # no two tokens are apart, so nothing parts them
    if name == "hub_load" and figure.value is not None:
        return figure, _snapped(figure.low, wanted), _snapped(figure.high, wanted)
    if figure.value is None:
        return figure, None, None
    return figure, figure.low, figure.high


def _snapped(value: float, wanted: int) -> float:
    """A rounded number that is as good as the one it is compared with is that one."""
    return wanted if abs(value - wanted) <= _ROUNDING * max(1, wanted) else value


def _twice(value: Number) -> tuple[Number, Number]:
    return value, value


def _mean(hops: Hops) -> tuple[Number | None, Number | None]:
    """The mean of the hops of connected pairs: 0 if no pair is meant to meet, else infinite."""
    if not hops.total:
        return 0, 0
    if hops.worst is None:
        return math.inf, math.inf
    if hops.method.is_exact and all(step.first == step.last for step in hops.steps):
        pairs = [step.pairs for step in hops.steps]
        if None not in pairs:
            total = sum(step.first * (step.pairs or 0) for step in hops.steps)
            return _twice(Fraction(total, sum(filter(None, pairs))))
    return hops.mean_low, hops.mean_high


def _number(value: Number) -> str:
    """A bound for people."""
    return f"{float(value):.6g}" if math.isfinite(value) else "any number"

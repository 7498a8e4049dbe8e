"""What shows that a contract fails, in words: a pair and its route, a token and what it reads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from attnloom.compiler.analysis.figures import Pair
from attnloom.compiler.analysis.metrics import Figure
from attnloom.compiler.analysis.properties import Verdict, causal
from attnloom.compiler.analysis.report import Report
from attnloom.compiler.analysis.routes import route
from attnloom.compiler.analysis.rules import rule_of
from attnloom.compiler.analysis.stack import Layer
from attnloom.compiler.runs import Ints

_MOST_SHOWN = 7
"""Positions of a route, or ranges of keys, that are shown before some are left out."""


@dataclass(frozen=True, eq=False)
class Words:
    """Puts the findings of one report in words."""

    report: Report

    def name(self, position: int | None) -> str:
        """A token by its number, memory as `m0`."""
        return "?" if position is None else str(self.report.stack.name_of(position))

    def pair(self, pair: Pair) -> str:
        return f"{self.name(pair.source)} -> {self.name(pair.target)}"

    # --- properties ---

    def against(self, name: str, found: Verdict) -> str:
        """What shows that a property does not hold."""
        if name == "connected":
            return self._never(found.pair)
        if name == "causal":
            return self._ahead(found.pair)
        if name == "symmetric" and found.pair is not None:
            source, target = self.name(found.pair.source), self.name(found.pair.target)
            return (
                f"token {target} reads token {source}{self._rule(found.pair)}, "
                f"and token {source} does not read token {target}"
            )
        if name == "no_empty_rows":
            return f"token {self.name(found.token)} reads nothing"
        return f"no token reads all others and is read by them{self._nearest()}"

    def _never(self, pair: Pair | None) -> str:
        if pair is None:
            return "some tokens never learn of others"
        return f"token {self.name(pair.target)} never learns of token {self.name(pair.source)}"

    def _ahead(self, pair: Pair | None) -> str:
        if pair is None:
            return "a token reads a later one"
        target, source = self.name(pair.target), self.name(pair.source)
        return f"token {target} reads token {source}, which comes later{self._rule(pair)}"

    def _rule(self, pair: Pair) -> str:
        """By which statement the target reads the source, in brackets."""
        for kind in self.report.stack.kinds:
            if kind.region.contains(_one(pair.target), _one(pair.source))[0]:
                rule = rule_of(kind, pair.target, pair.source)
                return f" (by `{' '.join(rule.statement.split())}`)"
        return ""

    def _nearest(self) -> str:
        """What the token that comes closest to the centre of a star lacks."""
        stack = self.report.stack
        if stack.length > _MOST_LOOKED_AT or len(stack.kinds) > 1:
            return ""
        grain = stack.kinds[0].tokens
        reads = grain.table.row_totals(np.ones(grain.length, dtype=np.int64))
        readers = grain.table.key_totals(np.ones(grain.length, dtype=np.int64))
        best = int((reads + readers).argmax())
        return (
            f"; token {self.name(best + stack.start)} comes closest, it reads {reads[best]} "
            f"and is read by {readers[best]} of {stack.length}"
        )

    # --- metrics ---

    def about(self, name: str, figure: Figure) -> str:
        """What a metric is, and what shows it."""
        value = figure.value
        if name == "kv_cache" and value is None:
            found = causal(self.report.stack)
            return f"it is not causal, so no cache is enough: {self._ahead(found.pair)}"
        match name:
            case "hops":
                return self._hops(figure)
            case "coverage_layer":
                return self._coverage(figure)
            case "unreachable":
                example = "" if figure.pair is None else f", such as {self.pair(figure.pair)}"
                never = "never meets" if value == 1 else "never meet"
                return f"{_many(value, 'pair')} {never}{example}"
            case "reads":
                return f"{_many(value, 'pair')} {'is' if value == 1 else 'are'} read"
            case "density":
                work = self.report.work
                return f"{work.reads:,} of {work.pairs:,} pairs are read, {_float(value)}"
            case "mean_hops":
                return f"it is {_float(value)}"
            case "reads_per_token":
                keys = self._keys(figure.token)
                return f"token {self.name(figure.token)} reads {_many(value, 'key')}{keys}"
            case "readers_per_token":
                readers = _many(value, "query", "queries")
                return f"token {self.name(figure.token)} is read by {readers}"
            case "token_cut":
                return self._cut(figure)
            case "hub_load":
                token = "a token" if figure.token is None else f"token {self.name(figure.token)}"
                return f"{token} carries {_float(value)} % of what is relayed"
            case _:
                assert name == "kv_cache"
                return f"at token {self.name(figure.token)}, {_many(value, 'key')} must be kept"

    def unknown(self, name: str) -> str:
        """Why a metric has no number here."""
        if name == "token_cut" and not self.report.stack.is_uniform:
            return "`token_cut` is about one kind of layer, and these layers differ"
        if name == "hub_load":
            return "what tokens relay could not be worked out"
        return "it could not be worked out"

    def _hops(self, figure: Figure) -> str:
        if figure.value is None or math.isinf(figure.value):
            return self._never(figure.pair)
        if figure.pair is None:
            return "no pair is meant to meet, so 0 hops are enough"
        hops = _many(figure.value, "hop")
        return f"{self.pair(figure.pair)} takes {hops}{self._route(figure.pair)}"

    def _route(self, pair: Pair) -> str:
        report = self.report
        if report.hops.worst is None or pair != report.hops.worst_pair:
            return ""
        with report.limits():
            found = route(report.stack, pair) if report.hops.worst <= _MOST_LOOKED_AT else None
        if found is None:
            return ""
        stops = [self.name(pair.source), *(self.name(read.target) for read in found.reads)]
        if len(stops) > _MOST_SHOWN:
            stops[_MOST_SHOWN - 2 : -1] = ["..."]
        return f": {' -> '.join(stops)}"

    def _coverage(self, figure: Figure) -> str:
        if not self.report.stack.is_counted:
            return self._hops(figure)
        if figure.value is None or math.isinf(figure.value):
            layers = self.report.stack.layers
            pair = figure.pair
            if pair is None:
                return f"it is not complete after {layers} layers"
            return (
                f"after all {layers} layers token {self.name(pair.target)} "
                f"has not learnt of token {self.name(pair.source)}"
            )
        return f"it is complete after layer {_count(figure.value)}"

    def _cut(self, figure: Figure) -> str:
        cut = self.report.narrow.token_cut
        if cut is None or figure.pair is None or cut.is_direct:
            return "no loss of other tokens parts any two"
        shown = [self.name(one) for one in cut.tokens[:_MOST_SHOWN]]
        rest = ", ..." if len(cut.tokens) > _MOST_SHOWN else ""
        which = f" ({', '.join(shown)}{rest})" if shown else ""
        return f"the loss of {_many(figure.value, 'token')}{which} parts {self.pair(figure.pair)}"

    def _keys(self, token: int | None) -> str:
        """The keys that a token reads, as ranges like those of the language."""
        if token is None:
            return ""
        layers: list[Layer] = list(self.report.stack.kinds)
        row = max(
            (layer.region.runs(_one(token)).row(0) for layer in layers),
            key=lambda runs: sum(stop - start for start, stop in runs),
        )
        shown = [
            self.name(start)
            if stop == start + 1
            else f"{self.name(start)} to {self.name(stop - 1)}"
            for start, stop in row[:_MOST_SHOWN]
        ]
        return f": {', '.join(shown)}{', ...' if len(row) > _MOST_SHOWN else ''}"


_MOST_LOOKED_AT = 10_000
"""Positions, or hops, up to which all are looked at for the sake of an explanation."""


def _one(position: int) -> Ints:
    return np.array([position], dtype=np.int64)


def _many(value: float | None, one: str, more: str = "") -> str:
    """A number of things.

    >>> _many(1, "key"), _many(4096, "query", "queries")
    ('1 key', '4,096 queries')
    """
    return f"{_count(value)} {one if value == 1 else more or one + 's'}"


def _count(value: float | None) -> str:
    return "?" if value is None else f"{int(value):,}" if math.isfinite(value) else "no number of"


def _float(value: float | None) -> str:
    return "?" if value is None else f"{value:.6g}"

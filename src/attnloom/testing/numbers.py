"""Random numbers and conditions of the language."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from hypothesis import strategies as st

from attnloom.testing.pieces import (
    AND,
    ATOM,
    COMPARISON,
    CONDITION,
    MOST,
    NOT,
    NUMBER,
    OR,
    POWER,
    PRODUCT,
    SIGN,
    SUM,
    UNION,
    XOR,
    Piece,
    Place,
    Signature,
)  # fmt: skip

T = TypeVar("T")


@st.composite
def _piece(
    draw: Callable[[st.SearchStrategy[Any]], Any], writer: NumberWriter, make: Callable[[], T]
) -> T:
    """What `make` draws with a writer."""
    outer, writer.draw = writer.draw, draw
    try:
        return make()
    finally:
        writer.draw = outer


class NumberWriter:
    """Writes numbers and conditions; every choice is drawn, the simplest first."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any], n: int, heads: int) -> None:
        self.draw = draw
        self.n = n
        self.heads = heads
        self.names = 0
        self.patterns: list[Signature] = []
        self.used: list[str] = []
        self.inputs: list[tuple[str, str]] = []
        self.room = 0
        self.has_faults = False

    def token_set(self, place: Place, depth: int) -> Piece:
        """A token set, for those who know how to write one."""
        raise NotImplementedError

    # --- choices ---

    def integer(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def one_in(self, count: int) -> bool:
        """True once in so many times; false is the simpler choice."""
        return self.integer(0, count - 1) == count - 1

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices; the first is the simplest."""
        return choices[self.integer(0, len(choices) - 1)]

    def repeated(self, low: int, high: int, make: Callable[[], T]) -> Iterator[T]:
        """What `make` draws, at least `low` times and at most `high`.

        Whether to go on is asked together with every turn, so that Hypothesis can take one out.
        """

        def turn(is_certain: bool) -> tuple[T] | None:
            goes_on = self.integer(0, 2) or is_certain
            return (make(),) if goes_on else None

        for number in range(high):
            found = self.draw(_piece(self, partial(turn, number < low)))
            if found is None:
                return
            yield found[0]

    def fresh(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    # --- texts ---

    def within(self, piece: Piece, level: int) -> str:
        """The text of an operand: in parentheses where it needs them, and sometimes where not."""
        bare = piece.level >= level and not self.one_in(12)
        return piece.text if bare else f"({piece.text})"

    def joined(self, operator: str, level: int, left: Piece, right: Piece, **bounds: Any) -> Piece:
        """A binary expression; all but `**` associate to the left."""
        a, b = (SIGN + 1, SIGN) if operator == "**" else (level, level + 1)
        gap = "\n    " if self.one_in(40) else " "
        text = f"{self.within(left, a)} {operator}{gap}{self.within(right, b)}"
        return Piece(text, level, needs=left.needs | right.needs, **bounds)

    def spelt(self, value: int) -> str:
        """A number that is not negative, as it may be written."""
        forms: list[Callable[[int], str]] = [str, str, str, hex, bin, oct, "{:_}".format]
        return self.pick(forms)(value) if self.one_in(8) else str(value)

    # --- numbers ---

    def literal(self, value: int) -> Piece:
        if value < 0:
            return Piece(f"-{self.spelt(-value)}", SIGN, value, value)
        return Piece(self.spelt(value), ATOM, value, value)

    def number(self, place: Place, depth: int) -> Piece:
        """Any number that has a value, and is not too large."""
        if depth <= 0 or self.one_in(4):
            return self.leaf(place)
        kind = self.pick(
            ["+", "-", "*", "//", "%", "min", "abs", "^", "max", "**", "neg", "log2", "isqrt",
             "ceil_div", "count"]
        )  # fmt: skip
        if kind == "count":
            those = self.token_set(replace(place, in_rule=False), depth - 1)
            return Piece(f"count({those.text})", ATOM, 0, MOST, needs=those.needs)
        left = self.number(place, depth - 1)
        found = self.calculated(kind, place, depth, left)
        return left if max(abs(found.low), abs(found.high)) > 2**40 else found

    def calculated(self, kind: str, place: Place, depth: int, a: Piece) -> Piece:
        if kind == "neg":
            return Piece(f"-{self.within(a, SIGN)}", SIGN, -a.high, -a.low, needs=a.needs)
        if kind == "abs":
            low = 0 if a.low <= 0 <= a.high else min(abs(a.low), abs(a.high))
            high = max(abs(a.low), abs(a.high))
            return Piece(f"abs({a.text})", ATOM, low, high, needs=a.needs)
        if kind == "isqrt":
            text = f"isqrt({a.text})" if a.low >= 0 else f"isqrt(abs({a.text}))"
            return Piece(text, ATOM, 0, max(abs(a.low), abs(a.high)), needs=a.needs)
        if kind == "log2":
            text = f"log2({a.text})" if a.low >= 1 else f"log2(max(1, {a.text}))"
            return Piece(text, ATOM, 0, 64, needs=a.needs)
        if kind in ("//", "%", "ceil_div"):
            return self.divided(kind, a, self.divisor(place, depth - 1))
        if kind == "**":
            power = self.integer(0, 3)
            ends = [a.low**power, a.high**power, 0]
            b = self.literal(power)
            return self.joined("**", POWER, a, b, low=min(ends), high=max(ends))
        b = self.number(place, depth - 1)
        if kind in ("min", "max"):
            texts = [a.text, b.text]
            if self.one_in(4):
                texts.append(texts[self.integer(0, 1)])
            choose = min if kind == "min" else max
            low, high = choose(a.low, b.low), choose(a.high, b.high)
            return Piece(f"{kind}({', '.join(texts)})", ATOM, low, high, needs=a.needs | b.needs)
        if kind == "+":
            return self.joined("+", SUM, a, b, low=a.low + b.low, high=a.high + b.high)
        if kind == "-":
            return self.joined("-", SUM, a, b, low=a.low - b.high, high=a.high - b.low)
        if kind == "*":
            ends = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
            return self.joined("*", PRODUCT, a, b, low=min(ends), high=max(ends))
        assert kind == "^"
        bits = max(abs(value).bit_length() for value in (a.low, a.high, b.low, b.high))
        low = 0 if a.low >= 0 and b.low >= 0 else -(2**bits)
        return self.joined("^", XOR, a, b, low=low, high=2**bits)

    def divisor(self, place: Place, depth: int) -> Piece:
        """A number that is never 0."""
        if depth <= 0 or not self.one_in(4):
            value = self.pick([2, 3, 4, 5, 7, 8, 16, 1, -1, -2, -3])
            return self.literal(value)
        one = self.number(place, depth)
        if one.low > 0 or one.high < 0:
            return one
        return Piece(f"max(1, {one.text})", ATOM, 1, max(1, one.high), needs=one.needs)

    def divided(self, kind: str, a: Piece, b: Piece) -> Piece:
        if kind == "%":
            most = max(abs(b.low), abs(b.high))
            low, high = (0, most) if b.low > 0 else (-most, 0)
            return self.joined("%", PRODUCT, a, b, low=low, high=high)
        most = max(abs(a.low), abs(a.high))
        low = 0 if a.low >= 0 and b.low > 0 else -most - 1
        if kind == "//":
            return self.joined("//", PRODUCT, a, b, low=low, high=most + 1)
        text = f"ceil_div({a.text}, {b.text})"
        return Piece(text, ATOM, low, most + 1, needs=a.needs | b.needs)

    def leaf(self, place: Place) -> Piece:
        """A number without an operator; in a rule mostly the query or the key."""
        if place.in_rule and not self.one_in(3):
            return Piece(self.pick(["i", "j"]), ATOM, 0, MOST)
        known = place.names(NUMBER)
        if known and self.one_in(3):
            return self.pick(known)
        variables = [
            Piece("n", ATOM, 1, MOST),
            Piece("head", ATOM, 0, 3),
            Piece("heads", ATOM, 1, 4),
            Piece("layer", ATOM, 0, 3),
            Piece("layers", ATOM, 1, 4),
        ]
        if self.one_in(3):
            return self.pick(variables)
        return self.literal(self.integer(0, 8) if not self.one_in(6) else self.integer(0, MOST))

    def sized(self, place: Place, low: int, high: int) -> Piece:
        """A number in `low .. high`, both included: mostly a literal."""
        choice = self.integer(0, 7)
        if choice == 7 and self.room > 0:
            any_ = self.number(replace(place, in_rule=False), 2)
            span = high - low + 1
            text = f"{self.within(any_, PRODUCT)} % {span}"
            level = PRODUCT
            if low:
                text, level = f"{low} + {text}", SUM
            return Piece(text, level, low, high, needs=any_.needs)
        fitting = [one for one in place.names(NUMBER) if low <= one.low and one.high <= high]
        if choice >= 5 and fitting:
            return self.pick(fitting)
        return self.literal(self.integer(low, high))

    # --- conditions ---

    def condition(self, place: Place, depth: int) -> Piece:
        kind = self.integer(0, 9)
        if depth <= 0 or kind <= 5:
            return self.comparison(place, min(depth + 1, 3))
        if kind == 6:
            known = place.names(CONDITION)
            return self.pick(known) if known else Piece(self.pick(["true", "false"]))
        left = self.condition(place, depth - 1)
        if kind == 7:
            return Piece(f"not {self.within(left, NOT)}", NOT, needs=left.needs)
        right = self.condition(place, depth - 1)
        if kind == 8:
            return self.joined("and", AND, left, right)
        return self.joined("or", OR, left, right)

    def comparison(self, place: Place, depth: int) -> Piece:
        if place.in_rule and not self.one_in(3):
            return self.usual_rule(place)
        left = self.number(place, depth)
        low, high = max(left.low, -2 * MOST), min(left.high, 2 * MOST)
        if low < high and not self.one_in(4):
            right = self.literal(self.integer(low, high))
        else:
            right = self.number(place, depth - 1)
        operator = self.pick(["<", "<=", ">", ">=", "==", "!="])
        parts = [self.within(left, UNION), operator, self.within(right, UNION)]
        needs = left.needs | right.needs
        if self.one_in(6):
            third = self.number(place, depth - 1)
            parts += [self.pick(["<", "<=", "!="]), self.within(third, UNION)]
            needs |= third.needs
        return Piece(" ".join(parts), COMPARISON, needs=needs)

    def usual_rule(self, place: Place) -> Piece:
        """Conditions on `i` and `j` as patterns have them."""
        c, d = self.sized(place, 1, 9), self.sized(place, 0, 12)
        a, b = self.within(c, SIGN), self.within(d, SUM)
        text = self.pick(
            [
                f"j <= i + {b}",
                f"i - j < {b}",
                f"0 <= i - j < {b}",
                f"abs(i - j) <= {b}",
                f"(i - j) % {a} == 0",
                f"j % {a} == i % {a}",
                f"i // {a} >= j // {a}",
                f"j % {a} >= {a} - 1",
                f"2 * i - 3 * j > {b}",
                f"i + j <= {b} + n",
                f"i ^ j < {b}",
                f"(i * j + {b}) % {a} == 0",
                f"i // {a} - j // {a} == {b}",
                f"i % {a} < j % {a}",
                f"min(i, j) < {b}",
                f"max(i, j) - min(i, j) > {b}",
                f"j >= n - {b}",
                "i != j",
                f"{b} < j",
            ]
        )
        return Piece(text, COMPARISON, needs=c.needs | d.needs)

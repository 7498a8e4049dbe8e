"""Random programs of the whole language, well-formed and small, for tests of the compiler.

`programs()` draws a `Program`: a text and what its main pattern is bound to. A name that a program
uses is known with what must hold where it is used (`Known`), a number with its bounds (`Piece`), so
that nearly every program has a meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st

T = TypeVar("T")

MOST = 96
"""The largest `n` of a program."""


@dataclass(frozen=True)
class Program:
    """A text and what its main pattern is bound to."""

    text: str
    n: int
    head: int
    heads: int
    layer: int
    layers: int
    params: dict[str, Any]
    inputs: dict[str, Any]
    batch: int

    def __repr__(self) -> str:
        where = f"n={self.n}, head={self.head}/{self.heads}, layer={self.layer}/{self.layers}"
        given = f"params={self.params}, inputs={self.inputs}"
        return f"\n{self.text}\n{where}, {given}, batch={self.batch}"


# Levels of expressions, loosest first, as in Python; an operand that is looser gets parentheses.
OR, AND, NOT, COMPARISON, UNION, XOR, INTERSECTION, RANGE, SUM, PRODUCT, SIGN, POWER, ATOM = range(
    13
)


@dataclass(frozen=True)
class Piece:
    """The text of an expression, how tightly it holds together, and a number's bounds."""

    text: str
    level: int = ATOM
    low: int = 0
    high: int = 0
    needs: Needs = field(default_factory=lambda: Needs())
    is_number: bool = False


@dataclass(frozen=True)
class Needs:
    """What must hold where an expression is used: so many positions; tokens, a grid around."""

    positions: int = 1
    tokens: bool = False
    grid: int = 0

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            max(self.positions, other.positions),
            self.tokens or other.tokens,
            max(self.grid, other.grid),
        )


NUMBER, CONDITION, TOKENS, RELATION = "number", "condition", "tokens", "relation"
PREFIX = "prefix"
"""A relation whose rows are prefixes."""


@dataclass(frozen=True)
class Known:
    """A name that may be used: a `let`, a parameter or an input of tokens."""

    kind: str
    piece: Piece


@dataclass(frozen=True)
class Signature:
    """A pattern that may be called: its parameters with bounds, and whether it has inputs."""

    name: str
    parameters: tuple[Parameter, ...]
    inputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Parameter:
    name: str
    kind: str
    low: int
    high: int
    has_default: bool
    anywhere: bool = False
    """Whether its tokens are there in any sequence, so that it can be read over blocks."""


@dataclass(frozen=True)
class Place:
    """Where an expression stands: positions there are at least, names, the grid, `where` or not."""

    least: int
    known: tuple[Known, ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()
    grid: int = 0
    in_blocks: bool = False
    in_rule: bool = False

    def names(self, kind: str) -> list[Piece]:
        return [one.piece for one in self.known if one.kind == kind]

    def with_names(self, known: Sequence[Known]) -> Place:
        return replace(self, known=self.known + tuple(known))

    def blocks(self, least: int) -> Place:
        """The place in the body of `blocks` here."""
        kept = tuple(
            one
            for one in self.known
            if one.piece.needs.positions <= least
            and not one.piece.needs.tokens
            and not one.piece.needs.grid
        )
        return replace(self, least=least, known=kept, inputs=(), grid=0, in_blocks=True)


BUNDLED = (
    Signature("bert", (), ()),
    Signature("cls_star", (), ()),
    Signature("local", (Parameter("reach", NUMBER, 1, 9, True),), ()),
    Signature("gemma3", (Parameter("recent", NUMBER, 1, 9, True),), ()),
    Signature("mistral", (Parameter("recent", NUMBER, 2, 9, True),), ()),
    Signature(
        "streaming_llm",
        (Parameter("sinks", NUMBER, 0, 4, True), Parameter("recent", NUMBER, 1, 9, True)),
        (),
    ),
    Signature(
        "longformer",
        (Parameter("reach", NUMBER, 1, 9, True), Parameter("cls", TOKENS, 0, 0, True)),
        (),
    ),
    Signature(
        "bigbird",
        (
            Parameter("size", NUMBER, 1, 9, True),
            Parameter("picks", NUMBER, 0, 3, True),
            Parameter("seed", NUMBER, 0, 9, True),
        ),
        (),
    ),
    Signature("sparse_transformer_strided", (Parameter("step", NUMBER, 1, 9, True),), ()),
    Signature(
        "sparse_transformer_fixed",
        (Parameter("step", NUMBER, 1, 9, True), Parameter("summary", NUMBER, 1, 4, True)),
        (),
    ),
)

CONTRACTS = (
    "hops <= 3",
    "mean_hops < 4",
    "reads == n * n",
    "density < 1",
    "reads_per_token <= n",
    "readers_per_token >= 0",
    "coverage_layer <= 5",
    "unreachable == 0",
    "token_cut >= 1",
    "hub_load < 10",
    "kv_cache <= n + 3",
    "causal",
    "connected",
    "symmetric",
    "no_empty_rows",
    "star",
)


class Writer:
    """Writes one program; every choice is drawn."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any], n: int, heads: int) -> None:
        self.draw = draw
        self.n = n
        self.heads = heads
        self.names = 0
        self.patterns: list[Signature] = []
        self.used: list[str] = []
        self.inputs: list[tuple[str, str]] = []
        self.room = 0

    # --- choices ---

    def integer(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def one_in(self, count: int) -> bool:
        """True once in so many times; false is the simpler choice."""
        return self.integer(0, count - 1) == count - 1

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices; the first is the simplest."""
        return choices[self.integer(0, len(choices) - 1)]

    def some(self, low: int, high: int) -> range:
        return range(self.integer(low, high))

    def fresh(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    # --- texts ---

    def within(self, piece: Piece, level: int) -> str:
        """The text of an operand: in parentheses where it needs them, and sometimes where not."""
        bare = piece.level >= level and not self.one_in(12)
        return piece.text if bare else f"({piece.text})"

    def joined(self, operator: str, level: int, left: Piece, right: Piece, **bounds: int) -> Piece:
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

    # --- token sets ---

    def token_set(self, place: Place, depth: int) -> Piece:
        if depth > 0 and self.one_in(4):
            left, right = self.token_set(place, depth - 1), self.token_set(place, depth - 1)
            operator = self.pick(["|", "-", "&"])
            level = {"|": UNION, "&": INTERSECTION, "-": SUM}[operator]
            if operator == "-" and left.is_number and right.is_number:
                left = Piece(f"[{left.text}]", ATOM, needs=left.needs)
            return self.joined(operator, level, left, right)
        kind = self.integer(0, 9)
        if kind <= 1:
            return self.position(place)
        if kind == 2:
            start = self.sized(place, -2, 12)
            stop = self.sized(place, 1, MOST)
            if self.one_in(2):
                stop = Piece("n", ATOM) if self.one_in(2) else self.sized(place, 4, 20)
            text = f"{self.within(start, SUM)}..{self.within(stop, SUM)}"
            return Piece(text, RANGE, needs=start.needs | stop.needs)
        if kind <= 5:
            count = self.sized(place, 0, 6)
            end = self.pick(["first", "last"])
            return Piece(f"{end} {self.within(count, SUM)}", RANGE, needs=count.needs)
        if kind == 6:
            step = self.sized(place, 1, 9)
            if self.one_in(2):
                start = self.sized(place, 0, 9)
                text = f"every {self.within(step, SUM)} from {self.within(start, SUM)}"
                return Piece(text, RANGE, needs=step.needs | start.needs)
            return Piece(f"every {self.within(step, SUM)}", RANGE, needs=step.needs)
        if kind == 7:
            items = [self.token_set(place, depth - 1) for _ in self.some(0, 4)]
            needs = Needs()
            for one in items:
                needs |= one.needs
            return Piece(f"[{', '.join(one.text for one in items)}]", ATOM, needs=needs)
        known = place.names(TOKENS)
        return self.pick(known) if known else self.position(place)

    def position(self, place: Place) -> Piece:
        """One token, which is there; once in a long while it is not."""
        kind = self.integer(0, 5)
        if kind <= 2:
            value = self.integer(0, min(place.least - 1, 9) if kind else place.least - 1)
            if self.one_in(400):
                value = place.least + self.integer(0, 9)
            return Piece(self.spelt(value), ATOM, needs=Needs(value + 1), is_number=True)
        if kind == 3:
            value = self.integer(1, min(place.least, 5))
            return Piece(f"-{value}", SIGN, needs=Needs(value), is_number=True)
        if kind == 4:
            any_ = self.number(replace(place, in_rule=False), 1)
            text = f"{self.within(any_, PRODUCT)} % n"
            return Piece(text, PRODUCT, needs=any_.needs, is_number=True)
        text = self.pick(["n // 2", "n - 1", "isqrt(n) - 1", "max(0, n - 3)"])
        return Piece(text, SUM, is_number=True)

    # --- relations ---

    def relation(self, place: Place, depth: int) -> Piece:
        self.room -= 1
        choice = self.integer(0, 23)
        if depth <= 0 or self.room <= 0 or choice <= 9:
            return self.primitive(place, depth)
        if choice <= 13:
            operator = self.pick(["|", "&", "-", "|"])
            level = {"|": UNION, "&": INTERSECTION, "-": SUM}[operator]
            left, right = self.relation(place, depth - 1), self.relation(place, depth - 1)
            return self.joined(operator, level, left, right)
        if choice == 14:
            one = self.relation(place, depth - 1)
            return Piece(f"~{self.within(one, SIGN)}", SIGN, needs=one.needs)
        if choice == 15:
            one = self.relation(place, depth - 1)
            return Piece(f"transpose({one.text})", ATOM, needs=one.needs)
        if choice <= 18:
            return self.blocks(place, depth)
        if choice <= 21:
            return self.grid(place, depth)
        return self.call(place, depth)

    def primitive(self, place: Place, depth: int) -> Piece:
        known = place.names(RELATION)
        if known and self.one_in(5):
            return self.pick(known)
        if place.grid and self.one_in(2):
            return self.of_cells(place)
        inputs = [one for one in place.inputs if one[1] != "tokens"]
        if inputs and self.one_in(3):
            name, kind = self.pick(inputs)
            form = f"same({name})" if kind == "segments" else f"links({name})"
            return Piece(form, ATOM, needs=Needs(tokens=True))
        kinds: list[Callable[[], Piece]] = [
            lambda: self.window(place),
            lambda: self.window(place),
            lambda: self.of_tokens(place, depth),
            lambda: self.of_tokens(place, depth),
            lambda: self.where(place),
            lambda: self.where(place),
            lambda: self.random(place, depth),
            lambda: self.random(place, depth),
            lambda: self.simple(place),
            lambda: self.steps(place),
            lambda: self.steps(place),
            lambda: self.neighborhood(place),
            lambda: self.expander(place),
        ]
        return self.pick(kinds)()

    def simple(self, place: Place) -> Piece:
        return Piece(self.pick(["self", "causal", "none", "full"]))

    def arguments(self, name: str, given: Sequence[tuple[str | None, Piece]]) -> Piece:
        """A call; arguments with names come in any order, after those without."""
        order = [one for one in given if one[0] is None]
        named = [one for one in given if one[0] is not None]
        order += self.draw(st.permutations(named)) if self.one_in(4) else named
        needs = Needs()
        for _, piece in given:
            needs |= piece.needs
        texts = [piece.text if key is None else f"{key}={piece.text}" for key, piece in order]
        return Piece(f"{name}({', '.join(texts)})", ATOM, needs=needs)

    def flag(self, place: Place) -> Piece:
        known = place.names(CONDITION)
        if known and self.one_in(4):
            return self.pick(known)
        if self.one_in(6):
            return self.comparison(replace(place, in_rule=False), 1)
        return Piece(self.pick(["true", "false"]))

    def window(self, place: Place) -> Piece:
        kind = self.integer(0, 3)
        given: list[tuple[str | None, Piece]]
        if kind == 0:
            given = [("each_side", self.sized(place, 0, 8))]
        elif kind == 1:
            given = [("left", self.sized(place, 0, 9)), ("right", self.sized(place, 0, 6))]
        elif kind == 2:
            given = [("last", self.sized(place, 0, 12))]
        else:
            given = [("width", self.literal(2 * self.integer(0, 6) + 1))]
        if self.one_in(4):
            given.append(("dilation", self.sized(place, 1, 5)))
        if self.one_in(4):
            given.append(("wrap", Piece("true") if self.one_in(2) else self.flag(place)))
        if self.one_in(12):
            key, _ = given[0]
            given[0] = (key, self.literal(2 * self.integer(0, 60) + 1))
        return self.arguments("window", given)

    def of_tokens(self, place: Place, depth: int) -> Piece:
        name = self.pick(["global", "broadcast", "collect"])
        those = self.token_set(place, min(depth, 2))
        return self.arguments(name, [(None, those)])

    def where(self, place: Place) -> Piece:
        rule = self.condition(replace(place, in_rule=True), 2)
        return Piece(f"where({rule.text})", ATOM, needs=rule.needs)

    def shared(self, place: Place) -> list[tuple[str | None, Piece]]:
        given: list[tuple[str | None, Piece]] = []
        if self.one_in(5):
            given.append(("per_head", self.flag(place)))
        if self.one_in(5):
            given.append(("per_layer", self.flag(place)))
        return given

    def seed(self, place: Place) -> list[tuple[str | None, Piece]]:
        if self.one_in(6):
            return [("seed", self.literal(self.integer(0, 2**63 - 1)))]
        return [("seed", self.sized(place, 0, 3))] if self.one_in(2) else []

    def random(self, place: Place, depth: int) -> Piece:
        most = 5 if not self.one_in(8) else 40
        given: list[tuple[str | None, Piece]] = [("links", self.sized(place, 0, most))]
        given += self.seed(place)
        if self.one_in(3):
            given.append(("outside", self.relation(place, min(depth - 1, 1))))
        return self.arguments("random", given + self.shared(place))

    def expander(self, place: Place) -> Piece:
        degree = self.literal(2 * self.integer(0, 3))
        given: list[tuple[str | None, Piece]] = [("degree", degree)]
        return self.arguments("expander", given + self.seed(place) + self.shared(place))

    def steps(self, place: Place) -> Piece:
        kind = self.integer(0, 3)
        if kind == 0:
            return self.arguments("stride", [(None, self.sized(place, 1, 9))])
        if kind == 1:
            return self.arguments("chunks", [(None, self.sized(place, 1, 12))])
        if kind == 2:
            return self.arguments("offsets", [("base", self.sized(place, 2, 5))])
        items = [self.distance(place) for _ in self.some(1, 4)]
        needs = Needs()
        for one in items:
            needs |= one.needs
        return Piece(f"offsets([{', '.join(one.text for one in items)}])", ATOM, needs=needs)

    def distance(self, place: Place) -> Piece:
        if self.one_in(4):
            start, stop = self.sized(place, 0, 6), self.sized(place, 0, 14)
            text = f"{self.within(start, SUM)}..{self.within(stop, SUM)}"
            return Piece(text, RANGE, needs=start.needs | stop.needs)
        return self.sized(place, 0, 16 if not self.one_in(6) else 2 * MOST)

    def neighborhood(self, place: Place) -> Piece:
        if place.grid:
            return self.of_cells(place)
        given: list[tuple[str | None, Piece]] = [("keys", self.sized(place, 1, 9))]
        if self.one_in(3):
            given.append(("dilation", self.sized(place, 1, 4)))
        return self.arguments("neighborhood", given)

    def of_cells(self, place: Place) -> Piece:
        kind = self.pick(["near", "row", "column", "tile", "neighborhood", "near"])
        axes: list[tuple[str | None, Piece]]
        if kind == "near":
            count = place.grid if self.one_in(2) else 1
            axes = [(None, self.sized(place, 0, 3)) for _ in range(count)]
        elif kind == "tile":
            axes = [(None, self.sized(place, 1, 4)) for _ in range(place.grid)]
            if self.one_in(3):
                axes.append(("shift", self.sized(place, -3, 5)))
        elif kind == "neighborhood":
            axes = [(None, self.sized(place, 1, 4)) for _ in range(place.grid)]
            if self.one_in(3):
                axes.append(("dilation", self.sized(place, 1, 3)))
        else:
            return Piece(kind, ATOM, needs=Needs(grid=place.grid))
        found = self.arguments(kind, axes)
        return replace(found, needs=found.needs | Needs(grid=place.grid))

    def blocks(self, place: Place, depth: int) -> Piece:
        size = self.sized(place, 1, 6 if not self.one_in(5) else self.n + 2)
        least = -(-place.least // max(size.high, 1))
        inside = self.body(place.blocks(least), depth - 1)
        # Its names are read over blocks, of which there are at least so many.
        outer = Needs(positions=place.least) if inside.needs.positions > 1 else Needs()
        return Piece(f"blocks({size.text}) {inside.text}", ATOM, needs=size.needs | outer)

    def grid(self, place: Place, depth: int) -> Piece:
        shape = [self.sized(place, 1, 7) for _ in range(2)]
        if self.one_in(2):
            shape.insert(0, self.sized(place, 1, 4))
        known = tuple(one for one in place.known if one.piece.needs.grid in (0, len(shape)))
        inside = self.body(replace(place, grid=len(shape), known=known), depth - 1)
        needs = replace(inside.needs, grid=place.grid if inside.needs.grid else 0)
        for one in shape:
            needs |= one.needs
        return Piece(f"grid({', '.join(one.text for one in shape)}) {inside.text}", needs=needs)

    def call(self, place: Place, depth: int) -> Piece:
        """A call of a pattern of this file, or of a bundled one."""
        mine = [one for one in self.patterns if not (one.inputs and place.in_blocks)]
        if not mine or self.one_in(8):
            chosen = self.pick(BUNDLED)
            if chosen.name not in self.used:
                self.used.append(chosen.name)
        else:
            chosen = self.pick(mine)
            self.inputs += [one for one in chosen.inputs if one not in self.inputs]
        given: list[tuple[str | None, Piece]] = []
        by_name = self.integer(0, 2)
        for parameter in chosen.parameters:
            if parameter.has_default and self.one_in(2):
                by_name = 0
                continue
            key = parameter.name if not by_name else None
            given.append((key, self.argument(parameter, place, depth)))
        needs = Needs(tokens=bool(chosen.inputs))
        if not given and not self.one_in(3):
            return Piece(chosen.name, ATOM, needs=needs)
        found = self.arguments(chosen.name, given)
        return replace(found, needs=found.needs | needs)

    def argument(self, parameter: Parameter, place: Place, depth: int) -> Piece:
        if parameter.kind == NUMBER:
            return self.sized(place, parameter.low, parameter.high)
        if parameter.kind == CONDITION:
            return self.flag(place)
        return self.token_set(place.blocks(1) if parameter.anywhere else place, min(depth, 1))

    def prefix(self, place: Place, depth: int) -> Piece:
        """A relation whose rows are prefixes, and that says so."""
        kind = self.integer(0, 8)
        known = place.names(PREFIX)
        if known and self.one_in(4):
            return self.pick(known)
        if kind <= 3 or depth <= 0:
            return Piece("causal")
        if kind == 4:
            count = self.sized(place, 0, 12)
            those = Piece(f"first {self.within(count, SUM)}", RANGE, needs=count.needs)
            return self.arguments("broadcast", [(None, those)])
        if kind == 5:
            return self.prefix_rule(place)
        if kind == 6:
            size = self.sized(place, 1, 6)
            inner = place.blocks(-(-place.least // max(size.high, 1)))
            inside = self.prefix(inner, depth - 1)
            text = f"blocks({size.text}) {{ {inside.text} }}"
            return Piece(text, ATOM, needs=size.needs | replace(inside.needs, positions=1))
        left, right = self.prefix(place, depth - 1), self.prefix(place, depth - 1)
        if kind == 7:
            return self.joined("|", UNION, left, right)
        return self.joined("&", INTERSECTION, left, right)

    def prefix_rule(self, place: Place) -> Piece:
        c = self.sized(place, 0, 9)
        text = self.within(c, PRODUCT)
        rule = self.pick(
            [
                "j <= i",
                "i >= j",
                f"j < i + {text}",
                f"j - {text} <= i",
                f"j <= {text}",
                f"{text} > j",
                f"j <= i and j < {text}",
                f"j <= i or j < {text}",
                f"i - j >= {text}",
            ]
        )
        return Piece(f"where({rule})", ATOM, needs=c.needs)

    # --- bodies ---

    def let(self, place: Place, depth: int) -> tuple[Known, str]:
        kind = self.integer(0, 6)
        if kind <= 2:
            name, is_prefix = self.fresh("part"), kind == 0 and self.one_in(2)
            piece = self.prefix(place, depth) if is_prefix else self.relation(place, depth)
            known = Known(PREFIX if is_prefix else RELATION, replace(piece, text=name, level=ATOM))
        elif kind <= 4:
            name, piece = self.fresh("some"), self.token_set(place, 2)
            if piece.is_number:
                piece = Piece(f"[{piece.text}]", ATOM, needs=piece.needs)
            known = Known(TOKENS, replace(piece, text=name, level=ATOM))
        elif kind == 5:
            name, piece = self.fresh("size"), self.number(place, 2)
            if self.one_in(2):
                piece = self.sized(place, 1, 6)
            known = Known(NUMBER, replace(piece, text=name, level=ATOM))
        else:
            name, piece = self.fresh("is_so"), self.condition(place, 1)
            known = Known(CONDITION, replace(piece, text=name, level=ATOM))
        return known, f"let {name} = {piece.text}"

    def restriction(self, place: Place, depth: int) -> Piece:
        """What stands after `only`: most often it leaves much."""
        choice = self.integer(0, 5)
        if choice <= 1:
            return self.prefix(place, 2)
        if choice == 2:
            wide = self.literal(self.integer(4, 40))
            return self.arguments("window", [("each_side", wide)])
        if choice == 3:
            one = self.primitive(place, 0)
            return Piece(f"~{self.within(one, SIGN)}", SIGN, needs=one.needs)
        return self.relation(place, min(depth, 2))

    def body(self, place: Place, depth: int, extra: Sequence[str] = ()) -> Piece:
        """Statements in braces, in any order."""
        statements = list(extra)
        needs = Needs()
        for _ in self.some(0, 2 if depth > 1 else 1):
            known, text = self.let(place, min(depth, 2))
            place = place.with_names([known])
            needs |= known.piece.needs
            statements.append(text)
        for _ in self.some(1, 3) if not self.one_in(15) else range(0):
            one = self.relation(place, depth)
            needs |= one.needs
            statements.append(one.text)
        for word in ("only", "never"):
            if self.one_in(3):
                for _ in self.some(1, 2):
                    if word == "only" or self.one_in(3):
                        one = self.restriction(place, depth)
                    else:
                        one = self.primitive(place, 0)
                    needs |= one.needs
                    statements.append(f"{word} {one.text}")
        if depth > 0 and self.one_in(4):
            one = self.when(place, depth)
            needs |= one.needs
            statements.append(one.text)
        if self.one_in(2):
            statements = self.draw(st.permutations(statements))
        if self.one_in(10):
            statements.insert(0, "# any order\n    # will do")
        return Piece(self.braces(statements), needs=needs)

    def braces(self, statements: Sequence[str]) -> str:
        if not statements:
            return "{}" if self.one_in(2) else "{ }"
        if any("#" in one for one in statements) or not self.one_in(3):
            lines = "\n".join(statements).replace("\n", "\n    ")
            return f"{{\n    {lines}\n}}"
        return f"{{ {'; '.join(statements)} }}"

    def when(self, place: Place, depth: int) -> Piece:
        choice = self.condition(place, 1)
        then = self.body(place, depth - 1)
        needs = choice.needs | then.needs
        text = f"when {choice.text} {then.text}"
        if self.one_in(2):
            if depth > 1 and self.one_in(3):
                other = self.when(place, depth - 1)
            else:
                other = self.body(place, depth - 1)
            needs |= other.needs
            text += f" else {other.text}"
        return Piece(text, needs=needs)

    # --- patterns ---

    def pattern(self, name: str, is_main: bool, depth: int) -> str:
        self.inputs = []
        place = Place(self.n if is_main else 1)
        parameters: list[Parameter] = []
        declared: list[str] = []
        for _ in self.some(0, 2):
            parameter, known, text = self.parameter(place, is_main)
            place = place.with_names([known])
            parameters.append(parameter)
            declared.append(text)
        inputs: list[tuple[str, str]] = []
        extra: list[str] = []
        for _ in self.some(1, 2) if self.one_in(3) else range(0):
            kind = self.pick(["tokens", "segments", "links"])
            given = self.fresh("given")
            inputs.append((given, kind))
            extra.append(f"input {given}: {kind}")
            if kind == "tokens":
                known = Known(TOKENS, Piece(given, needs=Needs(tokens=True)))
                place = place.with_names([known])
        place = replace(place, inputs=tuple(inputs))
        if is_main and self.one_in(4):
            extra.append(self.memory(place))
        if self.one_in(8):
            extra.append(f"expect {self.pick(CONTRACTS)}")
        inside = self.body(place, depth, extra)
        inputs += self.inputs
        head = f"({', '.join(declared)})" if declared or self.one_in(9) else ""
        self.patterns.append(Signature(name, tuple(parameters), tuple(inputs)))
        return f"pattern {name}{head} {inside.text}"

    def parameter(self, place: Place, is_main: bool) -> tuple[Parameter, Known, str]:
        name = self.fresh("arg")
        kind = self.pick([NUMBER, TOKENS, CONDITION])
        has_default = is_main or not self.one_in(3)
        if kind == NUMBER:
            low = self.integer(0, 2)
            high = low + self.integer(0, 6)
            default = self.sized(place, low, high)
            span = f" in {low}..{high + 1}" if self.one_in(2) else ""
            typed = f": int{span}" if span or not has_default or self.one_in(2) else ""
            known = Known(NUMBER, Piece(name, ATOM, low, high))
            parameter = Parameter(name, kind, low, high, has_default)
        elif kind == CONDITION:
            default = self.flag(place)
            typed = ": bool" if not has_default or self.one_in(2) else ""
            known = Known(CONDITION, Piece(name))
            parameter = Parameter(name, kind, 0, 1, has_default)
        else:
            anywhere = self.one_in(2)
            default = self.token_set(place.blocks(1) if anywhere else place, 1)
            bare = has_default and not default.is_number
            typed = ": tokens" if not bare or self.one_in(2) else ""
            known = Known(TOKENS, Piece(name, needs=Needs(tokens=not anywhere)))
            parameter = Parameter(name, kind, 0, 0, has_default, anywhere)
        return parameter, known, name + typed + (f" = {default.text}" if has_default else "")

    def memory(self, place: Place) -> str:
        given: list[tuple[str | None, Piece]] = [(None, self.literal(self.integer(0, 4)))]
        if self.one_in(3):
            given.append(("reads", self.flag(place)))
        if self.one_in(3):
            given.append(("read", self.flag(place)))
        statement = self.arguments("memory", given).text
        if self.one_in(4):
            choice = self.pick(["n > 7", "n % 2 == 0", "true", "heads > 1"])
            return f"when {choice} {{ {statement} }}"
        return statement


# --- values --------------------------------------------------------------------------------------


def digits(draw: Callable[[Any], Any], count: int, base: int) -> list[int]:
    """So many digits below `base`, drawn as one number."""
    number = draw(st.integers(0, base**count - 1))
    return [number // base**at % base for at in range(count)]


def input_values(writer: Writer, inputs: Sequence[tuple[str, str]], n: int, batch: int) -> Any:
    """Values of all inputs; of a batch of two, at least the first is given for each element."""
    found: dict[str, Any] = {}
    for at, (name, kind) in enumerate(inputs):
        batched = at == 0 if batch > 1 else writer.one_in(4)
        found[name] = input_value(writer, kind, n, batch, batched or writer.one_in(2))
    return found


def input_value(writer: Writer, kind: str, n: int, batch: int, batched: bool) -> Any:
    each = [_element(writer, kind, n) for _ in range(batch if batched else 1)]
    if kind == "tokens":
        if writer.one_in(2):
            masks = np.array([[t in one for t in range(n)] for one in each])
            return masks if batched else masks[0]
        lists = [sorted(one) for one in each]
        return lists if batched else lists[0]
    if kind == "segments":
        return np.array(each) if batched else np.array(each[0])
    if writer.one_in(2):
        each = [_compressed(one) for one in each]
    return each if batched else each[0]


def _element(writer: Writer, kind: str, n: int) -> Any:
    if kind == "tokens":
        return {t for t, one in enumerate(digits(writer.draw, n, 3)) if one == 1}
    if kind == "segments":
        return [one - 1 for one in digits(writer.draw, n, 4)]
    keys = digits(writer.draw, 2 * n, n + 1)
    return [[key for key in keys[2 * i : 2 * i + 2] if key < n] for i in range(n)]


def _compressed(rows: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    offsets = np.cumsum([0, *map(len, rows)])
    return offsets, np.array([key for row in rows for key in row], dtype=np.int64)


def param_value(writer: Writer, parameter: Parameter, n: int) -> Any:
    if parameter.kind == NUMBER:
        return writer.integer(parameter.low, parameter.high)
    if parameter.kind == CONDITION:
        return writer.one_in(2)
    if parameter.anywhere:
        return writer.pick(["first 2", "every 3 | last 1", -1, 0, range(3), [0, -1]])
    start = writer.integer(0, n - 1)
    return writer.pick(
        [start, range(start, start + 3), [start, n - 1], "first 2", "every 3 | last 1", -1]
    )


@st.composite
def programs(draw: Callable[[Any], Any], most: int = MOST) -> Program:
    """A program with what its main pattern is bound to; `n` is at most `most`."""
    n = draw(st.integers(1, most))
    heads, layers = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    writer = Writer(draw, n, heads)
    texts = []
    for _ in writer.some(0, 2):
        writer.room = 5
        texts.append(writer.pattern(writer.fresh("other"), False, 2))
    name = writer.pick(["main", "final"])
    writer.room = 12
    texts.append(writer.pattern(name, True, 3))
    if name == "main" and writer.one_in(2):
        texts = draw(st.permutations(texts))
    main = writer.patterns[-1]
    batch = writer.integer(1, 2) if main.inputs else 1
    return Program(
        text="\n\n".join([f"use {one}" for one in writer.used] + texts) + "\n",
        n=n,
        head=draw(st.integers(0, heads - 1)),
        heads=heads,
        layer=draw(st.integers(0, layers - 1)),
        layers=layers,
        params={
            one.name: param_value(writer, one, n) for one in main.parameters if writer.one_in(3)
        },
        inputs=input_values(writer, main.inputs, n, batch),
        batch=batch,
    )

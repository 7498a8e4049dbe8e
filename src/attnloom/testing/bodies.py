"""Random statements, bodies and patterns of the language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from hypothesis import strategies as st

from attnloom.testing.pieces import (
    ATOM,
    CONDITION,
    CONTRACTS,
    INTERSECTION,
    NUMBER,
    PREFIX,
    PRODUCT,
    RANGE,
    RELATION,
    SIGN,
    SUM,
    TOKENS,
    UNION,
    Known,
    Needs,
    Parameter,
    Piece,
    Place,
    Signature,
)  # fmt: skip
from attnloom.testing.relations import RelationWriter


class Writer(RelationWriter):
    """Writes patterns; every choice is drawn."""

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

    def exception(self, place: Place, depth: int) -> Piece:
        """What stands after `never`: most often it takes little."""
        return self.restriction(place, depth) if self.one_in(3) else self.primitive(place, 0)

    def body(self, place: Place, depth: int, extra: Sequence[str] = ()) -> Piece:
        """Statements in braces, in any order."""
        statements = list(extra)
        needs = Needs()
        lets = self.repeated(0, 2 if depth > 1 else 1, lambda: self.let(place, min(depth, 2)))
        for known, text in lets:
            place = place.with_names([known])
            needs |= known.piece.needs
            statements.append(text)
        adds = self.repeated(1, 3, lambda: self.relation(place, depth))
        for one in adds if not self.one_in(15) else ():
            needs |= one.needs
            statements.append(one.text)
        for word in ("only", "never"):
            if self.one_in(3):
                take = self.restriction if word == "only" else self.exception
                for one in self.repeated(1, 2, partial(take, place, depth)):
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
        found = self.repeated(0, 2, lambda: self.parameter(place, is_main))
        for parameter, known, text in found:
            place = place.with_names([known])
            parameters.append(parameter)
            declared.append(text)
        inputs: list[tuple[str, str]] = []
        extra: list[str] = []
        kinds = self.repeated(1, 2, lambda: self.pick(["tokens", "segments", "links"]))
        for kind in kinds if self.one_in(3) else ():
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

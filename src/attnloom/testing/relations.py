"""Random token sets and relations of the language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from attnloom.compiler.primitives.cells import AXES
from attnloom.testing.numbers import NumberWriter
from attnloom.testing.pieces import (
    ATOM,
    BUNDLED,
    CONDITION,
    INTERSECTION,
    MOST,
    NUMBER,
    PRODUCT,
    RANGE,
    RELATION,
    SIGN,
    SUM,
    TOKENS,
    UNION,
    Needs,
    Parameter,
    Piece,
    Place,
)  # fmt: skip


class RelationWriter(NumberWriter):
    """Writes token sets and relations."""

    def body(self, place: Place, depth: int, extra: Sequence[str] = ()) -> Piece:
        """Statements in braces, for those who know how to write them."""
        raise NotImplementedError

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
            items = list(self.repeated(0, 4, lambda: self.token_set(place, depth - 1)))
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
            if self.has_faults and self.one_in(400):
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
        # First what takes fewest choices: Hypothesis prefers it to all else.
        kinds: list[Callable[[], Piece]] = [
            lambda: self.simple(place),
            lambda: self.window(place),
            lambda: self.window(place),
            lambda: self.of_tokens(place, depth),
            lambda: self.of_tokens(place, depth),
            lambda: self.where(place),
            lambda: self.where(place),
            lambda: self.random(place, depth),
            lambda: self.random(place, depth),
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
        items = list(self.repeated(1, 4, lambda: self.distance(place)))
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
        return self.nearest(place, [("keys", self.sized(place, 1, 9))])

    def nearest(self, place: Place, axes: list[tuple[str | None, Piece]]) -> Piece:
        """A neighbourhood with so many keys on its axes."""
        given = list(axes)
        if self.one_in(3):
            given.append(("dilation", self.sized(place, 1, 4)))
        if self.one_in(3):
            given.append(("stride", self.sized(place, 1, min(piece.low for _, piece in axes))))
        if self.one_in(5):
            given.append(("causal", Piece("true") if self.one_in(2) else self.flag(place)))
        return self.arguments("neighborhood", given)

    def of_cells(self, place: Place) -> Piece:
        kind = self.pick(["near", "row", "column", "tile", "neighborhood", "neighborhood"])
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
            if self.one_in(2):
                axes = [(self.pick(AXES[-place.grid :]), self.sized(place, 1, 5))]
            found = self.nearest(place, axes)
            return replace(found, needs=found.needs | Needs(grid=place.grid))
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

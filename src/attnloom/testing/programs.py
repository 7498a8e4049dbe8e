"""Random programs of the whole language, well-formed and small.

`programs()` draws a `Program`: a text and what its main pattern is bound to. A name that a program
uses is known with what must hold where it is used (`Known`), a number with its bounds (`Piece`), so
that nearly every program has a meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from attnloom.testing.bodies import Writer
from attnloom.testing.pieces import CONDITION, MOST, NUMBER, Parameter, Signature


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


@dataclass(frozen=True)
class Written:
    """A text with the parameters and inputs of its main pattern."""

    text: str
    main: Signature


def write(writer: Writer) -> Written:
    """Some patterns, the main one last or called `main`."""

    def other() -> str:
        writer.room = 5
        return writer.pattern(writer.fresh("other"), False, 2)

    texts = list(writer.repeated(0, 2, other))
    name = writer.pick(["main", "final"])
    writer.room = 12
    texts.append(writer.pattern(name, True, 3))
    if name == "main" and writer.one_in(2):
        texts = writer.draw(st.permutations(texts))
    text = "\n\n".join([f"use {one}" for one in writer.used] + texts) + "\n"
    return Written(text, writer.patterns[-1])


@st.composite
def programs(draw: Callable[[Any], Any], most: int = MOST, *, has_faults: bool = False) -> Program:
    """A program with what its main pattern is bound to; `n` is at most `most`.

    With `has_faults` a position lies outside of the sequence once in a long while.
    """
    n = draw(st.integers(1, most))
    heads, layers = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    writer = Writer(draw, n, heads)
    writer.has_faults = has_faults
    written = write(writer)
    main = written.main
    batch = writer.integer(1, 2) if main.inputs else 1
    return Program(
        text=written.text,
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

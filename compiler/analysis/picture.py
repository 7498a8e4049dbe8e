"""The square of a layer as cells, each with the share of its pairs that every rule makes.

Exact, from all rows, where they are few ranges; else from rows drawn at random in each row of
cells, which is unbiased and cannot alias with what the pattern repeats.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.analysis.figures import Method
from attnloom.compiler.analysis.stack import Layer
from attnloom.compiler.limits import TooLarge
from attnloom.compiler.regions import Band, Bands, Condition, Region, both, either, minus
from attnloom.compiler.relation import Leaf, OfBlocks, Relation, Union
from attnloom.compiler.runs import Ints
from attnloom.compiler.zones import TooComplex

Floats = NDArray[np.float64]

_MOST_RANGES = 1 << 20
_PROBE = 128
_MOST_ASKED = 1 << 18
_ROWS_AT_ONCE = 1 << 16
_MOST_RULES = 8


@dataclass(frozen=True, eq=False)
class Picture:
    """Positions `start..stop` of queries and keys, in square cells.

    Shapes:
        shares: `(num_rules, num_cells, num_cells)`, query before key; over all rules the density
    """

    rules: tuple[str, ...]
    shares: Floats
    start: int
    stop: int
    method: Method


def rules_of(layer: Layer) -> dict[str, Region]:
    """What each statement of a layer makes, in any head; a pair belongs to the first that does."""
    found: dict[str, Region] = {}
    for bound in layer.bounds:
        inside = Bands.of(Band(0, bound.tokens - 1, 0, bound.tokens - 1))
        for statement in bound.statements:
            if statement.kind == "memory":
                region: Region = minus(bound.region, inside)
            elif statement.kind == "add" and statement.relation is not None:
                for name, part in _named(" ".join(statement.text.split()), statement.relation):
                    region = both(bound.region, inside, part.region)
                    found[name] = either(found[name], region) if name in found else region
                continue
            else:
                continue
            name = " ".join(statement.text.split())
            found[name] = either(found[name], region) if name in found else region
    names = list(found)
    if len(names) > _MOST_RULES:
        rest = either(*(found.pop(name) for name in names[_MOST_RULES - 1 :]))
        found["others"] = rest
    if layer.removed is not None:
        gone = layer.removed.links(layer.start, layer.stop)
        found = {name: minus(region, gone) for name, region in found.items()}
    return found


def _named(text: str, relation: Relation) -> Iterator[tuple[str, Relation]]:
    """A statement, or its parts by their primitives where it is a union, perhaps of blocks."""
    match relation:
        case Leaf():
            yield text, relation
        case Union(parts=parts):
            for part in parts:
                yield from _named(_name(part), part)
        case OfBlocks(part=Union(parts=parts), size=size):
            for part in parts:
                for name, one in _named(_name(part), part):
                    yield f"{name} of blocks of {size}", replace(relation, part=one)
        case _:
            yield text, relation


def _name(relation: Relation) -> str:
    """What a part of a statement is called: its primitive, or the first of several."""
    if isinstance(relation, Leaf):
        return relation.primitive.name
    names = [_name(child) for child in relation.children]
    return names[0] if names else "pairs"


def picture(layer: Layer, cells: int, start: int, stop: int) -> Picture | None:
    """The picture of a part of the square of a layer; `None` if even a few rows are too much."""
    rules = rules_of(layer)
    cells = min(cells, stop - start)
    edges = np.arange(cells + 1, dtype=np.int64) * (stop - start) // cells + start
    shares = np.zeros((len(rules), cells, cells))
    try:
        rows, is_exact = _rows(layer.region, edges)
        known = None
        for number, region in enumerate(rules.values()):
            own = region if known is None else minus(region, known)
            known = region if known is None else either(known, region)
            shares[number] = _shares(own, rows, edges)
    except (TooLarge, TooComplex):
        return None
    method = Method("rows") if is_exact else Method("rows", False, len(rows))
    return Picture(tuple(rules), shares, start, stop, method)


def _rows(region: Region, edges: Ints) -> tuple[Ints, bool]:
    """The rows to look at, and whether these are all."""
    start, stop = int(edges[0]), int(edges[-1])
    generator = np.random.default_rng(20202)
    is_asked = any(isinstance(leaf, Condition) for leaf in region.leaves())
    if is_asked and stop - start > _MOST_ASKED:
        raise TooLarge(f"a condition would be asked for rows of {stop - start:,} pairs")
    probe = np.unique(generator.integers(start, stop, _PROBE // 16 if is_asked else _PROBE))
    each = max(1.0, len(region.runs(probe).starts) / len(probe))
    if is_asked:  # of every key, whatever it answers
        each = max(each, (stop - start) / 64)
    if each * (stop - start) <= _MOST_RANGES:
        return np.arange(start, stop, dtype=np.int64), True
    count = int(max(1, _MOST_RANGES / each // (len(edges) - 1)))
    sizes = np.diff(edges)
    drawn = edges[:-1, None] + (generator.random((len(sizes), count)) * sizes[:, None]).astype(int)
    return np.unique(drawn), False


def _shares(region: Region, rows: Ints, edges: Ints) -> Floats:
    """How much of each cell the rows hold, by the ends of their ranges."""
    cells, start = len(edges) - 1, int(edges[0])
    width = np.diff(edges)
    partial, whole = np.zeros(cells * (cells + 1)), np.zeros(cells * (cells + 1))
    row_cell = np.searchsorted(edges, rows, side="right") - 1
    for part, of_part in _parts(rows, row_cell):
        runs = region.runs(part)
        for ends, sign in ((runs.stops, 1.0), (runs.starts, -1.0)):
            at = np.clip(ends, start, int(edges[-1]))
            column = np.minimum(np.searchsorted(edges, at, side="right") - 1, cells)
            code = of_part[runs.rows] * (cells + 1) + column
            partial += sign * np.bincount(code, weights=at - edges[column], minlength=len(partial))
            whole += sign * np.bincount(code, minlength=len(whole))
    # An end fills all cells before its own, and a part of its own.
    before = np.cumsum(whole.reshape(cells, -1)[:, ::-1], axis=1)[:, ::-1]
    filled = partial.reshape(cells, -1)[:, :cells] + before[:, 1:] * width
    num_rows = np.bincount(row_cell, minlength=cells)
    return np.asarray(filled / np.maximum(num_rows[:, None] * width, 1))


def _parts(rows: Ints, cells: Ints) -> Iterator[tuple[Ints, Ints]]:
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows[first : first + _ROWS_AT_ONCE], cells[first : first + _ROWS_AT_ONCE]

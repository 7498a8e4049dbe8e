"""Regions: the fast form of a relation, of which tiles, rows and counts are asked.

A region says the same as the `allows` of the primitives that it was made from, for whole tiles and
rows at once. Positions are token numbers; memory tokens stand at negative ones. `base.py` has the
questions, `joining.py` the operators, and every other file one kind of leaf.
"""

from attnloom.compiler.regions.axes import Columns, Rows
from attnloom.compiler.regions.bands import Band, Bands
from attnloom.compiler.regions.base import EMPTY, FULL, MIXED, Nothing, Region, Tiles
from attnloom.compiler.regions.boxes import Boxes
from attnloom.compiler.regions.condition import Condition
from attnloom.compiler.regions.joining import (
    both,
    either,
    minus,
    square,
    token_columns,
    token_rows,
)
from attnloom.compiler.regions.links import Links
from attnloom.compiler.regions.same import Same

__all__ = [
    "EMPTY",
    "FULL",
    "MIXED",
    "Band",
    "Bands",
    "Boxes",
    "Columns",
    "Condition",
    "Links",
    "Nothing",
    "Region",
    "Rows",
    "Same",
    "Tiles",
    "both",
    "either",
    "minus",
    "square",
    "token_columns",
    "token_rows",
]

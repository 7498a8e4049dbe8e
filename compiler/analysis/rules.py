"""Which rule made a link: the statement of the pattern, and the primitive in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnloom.compiler.analysis.stack import Layer
from attnloom.compiler.relation import Leaf, OfBlocks, Relation, Transposed, Union
from attnloom.compiler.runs import Ints


@dataclass(frozen=True)
class Rule:
    """Why a query reads a key: a primitive's name where one explains it, and the statement."""

    name: str
    statement: str


def rule_of(layer: Layer, query: int, key: int) -> Rule:
    """The first rule by which any head of a layer links a query to a key that it reads."""
    i, j = np.array([query], dtype=np.int64), np.array([key], dtype=np.int64)
    for bound in layer.bounds:
        if not bound.relation.allows(i, j)[0]:
            continue
        for statement in bound.statements:
            if statement.kind == "memory" and min(query, key) < 0:
                return Rule("memory", statement.text)
            relation = statement.relation
            if statement.kind != "add" or relation is None or min(query, key) < 0:
                continue
            if relation.allows(i, j)[0]:
                return Rule(_primitive(relation, i, j) or statement.text, statement.text)
    raise AssertionError(f"{query} does not read {key}")


def _primitive(relation: Relation, i: Ints, j: Ints) -> str | None:
    """The primitive that links the two by itself, if there is one."""
    match relation:
        case Leaf(primitive=primitive):
            return primitive.name
        case Union(parts=parts):
            return next((_primitive(one, i, j) for one in parts if one.allows(i, j)[0]), None)
        case Transposed(part=part):
            return _primitive(part, j, i)
        case OfBlocks(part=part, size=size):
            return _primitive(part, i // size, j // size)
    return None

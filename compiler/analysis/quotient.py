"""Blocks in place of tokens, for patterns that are made of whole blocks."""

from __future__ import annotations

from dataclasses import replace

from attnloom.compiler.regions import Region, either
from attnloom.compiler.relation import (
    Complement,
    Difference,
    Intersection,
    OfBlocks,
    Relation,
    Transposed,
    Union,
)


def quotient(relations: tuple[Relation, ...]) -> tuple[int, Region] | None:
    """The size of the blocks that several relations are made of, and which read which in any."""
    found = _alike(relations)
    if found is None:
        return None
    size, blocks = found
    return size, either(*(relation.region for relation in blocks))


def of_blocks(relation: Relation) -> tuple[int, Relation] | None:
    """The size of the blocks that a relation is made of, and the relation of the blocks."""
    match relation:
        case OfBlocks(part=part, size=size):
            inner = of_blocks(part)
            return (size, part) if inner is None else (size * inner[0], inner[1])
        case Union(parts=parts) | Intersection(parts=parts) if parts:
            found = _alike(parts)
            if found is None:
                return None
            size, blocks = found
            return size, replace(relation, length=blocks[0].length, parts=blocks)
        case Difference(part=part, taken=taken):
            found = _alike((part, taken))
            if found is None:
                return None
            size, (kept, without) = found
            return size, Difference(kept.length, kept, without)
        case Complement(part=part) | Transposed(part=part):
            one = of_blocks(part)
            if one is None:
                return None
            return one[0], replace(relation, length=one[1].length, part=one[1])
    return None


def _alike(parts: tuple[Relation, ...]) -> tuple[int, tuple[Relation, ...]] | None:
    """The relations of blocks of several relations, if the blocks are of one size."""
    found = [of_blocks(part) for part in parts]
    known = [one for one in found if one is not None]
    if len(known) < len(found) or len({size for size, _ in known}) > 1:
        return None
    return known[0][0], tuple(blocks for _, blocks in known)

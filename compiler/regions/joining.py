"""Union, intersection and difference of regions, made as simple as is cheap."""

from __future__ import annotations

from collections.abc import Iterable

from attnloom.compiler.regions.axes import Columns, Rows
from attnloom.compiler.regions.bands import Band, Bands
from attnloom.compiler.regions.base import Both, Either, Minus, Nothing, Region
from attnloom.compiler.tokens import TokenSet

_MOST_BANDS = 64
"""Bands up to which an intersection is worked out band by band."""

_FEW_RUNS = 4
"""Runs of a token set up to which its rows and columns are bands."""


def square(length: int) -> Bands:
    """All pairs of positions `0..length`."""
    return Bands((Band(0, length - 1, 0, length - 1, 1 - length, length - 1),))


def either(*parts: Region) -> Region:
    """The union.

    >>> either(square(4), square(9), Nothing()).bands[0].i2
    8
    """
    flat = list(_flattened(parts, Either))
    kept: list[Region] = [part for part in flat if not isinstance(part, (Bands, Nothing))]
    bands: dict[int, list[Band]] = {}
    for part in flat:
        if isinstance(part, Bands):
            bands.setdefault(part.block, []).extend(part.bands)
    kept = _joined_axes(list(dict.fromkeys(kept)))
    merged = (Bands.of(*own, block=block) for block, own in bands.items())
    kept = [*(one for one in merged if one.bands), *kept]
    if not kept:
        return Nothing()
    return kept[0] if len(kept) == 1 else Either(tuple(kept))


def both(*parts: Region) -> Region:
    """The intersection."""
    flat = list(dict.fromkeys(_flattened(parts, Both)))
    if any(isinstance(part, Nothing) for part in flat):
        return Nothing()
    met: dict[int, Bands] = {}
    rest: list[Region] = []
    for part in flat:
        if not isinstance(part, Bands):
            rest.append(part)
        elif part.block not in met:
            met[part.block] = part
        elif len(met[part.block].bands) * len(part.bands) <= _MOST_BANDS:
            pairs = ((a, b) for a in met[part.block].bands for b in part.bands)
            found = (a.meet(b) for a, b in pairs)
            own = (band for band in found if band is not None)
            met[part.block] = Bands.of(*own, block=part.block)
        else:
            rest.append(part)
    if not all(part.bands for part in met.values()):
        return Nothing()
    parts = (*met.values(), *rest)
    if len(parts) == 1:
        return parts[0]
    # Parts of a union are cut to size one by one, which keeps bands exact.
    if len(parts) == 2 and isinstance(parts[1], Either) and isinstance(parts[0], Bands):
        return either(*(both(part, parts[0]) for part in parts[1].parts))
    return Both(parts)


def minus(part: Region, taken: Region) -> Region:
    """The difference."""
    if isinstance(part, Nothing) or isinstance(taken, Nothing):
        return part
    return Minus(part, taken)


def token_rows(tokens: TokenSet) -> Region:
    """All pairs of tokens whose query is in a set; as bands where they are few."""
    length = tokens.length
    if not _is_few(tokens):
        return Rows(tokens)
    pairs = zip(*(ends.tolist() for ends in tokens.runs), strict=True)
    return Bands.of(*(Band(start, stop - 1, 0, length - 1) for start, stop in pairs))


def token_columns(tokens: TokenSet) -> Region:
    """All pairs of tokens whose key is in a set."""
    found = token_rows(tokens)
    return found.transposed() if isinstance(found, Bands) else Columns(tokens)


def _is_few(tokens: TokenSet) -> bool:
    if tokens.stretches is None:
        return len(tokens.runs[0]) <= _FEW_RUNS
    return sum(one.num_runs for one in tokens.stretches) <= _FEW_RUNS


def _flattened(parts: Iterable[Region], kind: type[Either] | type[Both]) -> Iterable[Region]:
    for part in parts:
        if isinstance(part, kind):
            yield from part.parts
        else:
            yield part


def _joined_axes(parts: list[Region]) -> list[Region]:
    """The same union with one `Rows` and one `Columns` at the most."""
    found: list[Region] = []
    for kind in (Rows, Columns):
        own = [part for part in parts if isinstance(part, kind)]
        if own:
            tokens = own[0].tokens
            for part in own[1:]:
                tokens = tokens | part.tokens
            found.append(kind(tokens))
    return found + [part for part in parts if not isinstance(part, (Rows, Columns))]

"""normalise: parts of a union that lie inside another one are dropped."""

from __future__ import annotations

from dataclasses import replace

from attnloom.compiler.passes.draft import Draft, DraftPart
from attnloom.compiler.regions import Bands, Boxes, Region, either
from attnloom.compiler.regions.base import Either
from attnloom.compiler.zones import TooComplex, Zones

_MOST_BOXES = 256


def normalise(draft: Draft) -> Draft:
    """The same pairs from fewer parts.

    >>> from attnloom.compiler.model import CostModel
    >>> from attnloom.compiler.regions import Band, Bands, Boxes, both, square
    >>> from attnloom.compiler.zones import Zones
    >>> window = both(Bands.of(Band(d1=-9, d2=9)), square(64))
    >>> union = either(window, Boxes(Zones.chunks(0, 64, 4)))
    >>> draft = Draft(union, 0, 64, 16, 16, 1, CostModel(), True)
    >>> [type(one).__name__ for one in normalise(draft).region.leaves()]  # the chunks have gone
    ['Bands']
    """
    region = _without_covered(draft.region, draft.start, draft.stop)
    return replace(draft, region=region, parts=(DraftPart(region),))


def _without_covered(region: Region, start: int, stop: int) -> Region:
    if not isinstance(region, Either):
        return region
    forms = [_form(part, start, stop) for part in region.parts]
    kept = list(range(len(forms)))
    for at, form in enumerate(forms):
        if form is None:
            continue
        for other in kept:
            cover = forms[other]
            if other == at or cover is None:
                continue
            try:
                if form.issubset(cover):
                    kept.remove(at)
                    break
            except TooComplex:
                continue
    return either(*(region.parts[at] for at in kept)) if len(kept) < len(forms) else region


def _form(region: Region, start: int, stop: int) -> Zones | None:
    """The normal form of a part, if it is at hand."""
    if not all(isinstance(leaf, (Bands, Boxes)) for leaf in region.leaves()):
        return None
    try:
        form = region.zones(start, stop)
    except TooComplex:
        return None
    return form if form.num_boxes <= _MOST_BOXES else None

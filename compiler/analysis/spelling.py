"""Numbers of a report in words: shares that never round to all, and how they were found."""

from __future__ import annotations

import math

from attnloom.compiler.analysis.figures import Method


def share(value: float) -> str:
    """A share of 1 in percent; only what is all reads as 100 %, and only what is nothing as 0.

    >>> share(0.12178), share(0.99998), share(1.0), share(0.0)
    ('12.2 %', '99.9980 %', '100 %', '0 %')
    """
    if value in (0.0, 1.0):
        return f"{100 * value:.0f} %"
    if not 0 < value < 1:  # more than all, as waste may be
        return f"{100 * value:,.0f} %"
    if value < 0.1:
        return f"{100 * value:.3g} %"
    digits = 1 if value < 0.999 else min(9, 1 - math.floor(math.log10(1 - value)) - 2)
    return f"{100 * value:.{digits}f} %"


def decimal(value: float) -> str:
    """A number with four digits, more where these would make it whole, or all before the point.

    >>> decimal(1.87843), decimal(343.504), decimal(15625.4), decimal(2.0), decimal(1.99951)
    ('1.878', '343.5', '15,625', '2', '1.99951')
    """
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    found = f"{value:.4g}"
    return f"{value:.7g}" if value != int(value) and "." not in found else found


def ranges(numbers: tuple[int, ...]) -> str:
    """Ascending numbers, neighbours together.

    >>> ranges((0, 1, 2, 5, 7, 8))
    '0..2, 5, 7..8'
    """
    found: list[list[int]] = []
    for one in numbers:
        if found and found[-1][1] == one - 1:
            found[-1][1] = one
        else:
            found.append([one, one])
    return ", ".join(str(a) if a == b else f"{a}..{b}" for a, b in found)


def how(method: Method, margin: float | None = None) -> str:
    """How a number was found: exact, sampled (and how far off it may be), or within bounds.

    >>> how(Method("zones")), how(Method("search", False, 256), 0.0005)
    ('exact, zones', 'sampled (256 readers, +-0.0005), search')
    """
    if method.is_exact:
        return f"exact, {method.engine}"
    if not method.samples:
        return f"bounds, {method.engine}"
    what = "pairs" if method.engine == "pairs" else "readers"
    off = f", +-{margin:.2g}" if margin is not None else ""
    return f"sampled ({method.samples:,} {what}{off}), {method.engine}"

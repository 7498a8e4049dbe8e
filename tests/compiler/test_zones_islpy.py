"""Zones against the integer set library, which decides the same questions in another way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from attnloom.compiler.zones import Bounds, Zones

isl = pytest.importorskip("islpy", reason="the integer set library is not installed")


def as_map(zones: Zones) -> isl.Map:
    """The same relation in the library's own notation, digits as existential variables."""
    union = isl.Map("{ [i] -> [j] : false }")
    for box in zones.boxes.tolist():
        names, constraints = [], []
        for t, (i1, i2, j1, j2, d1, d2) in enumerate(box):
            names += [f"a{t}", f"b{t}"]
            constraints += [f"{i1} <= a{t} <= {i2}", f"{j1} <= b{t} <= {j2}"]
            constraints += [f"{d1} <= a{t} - b{t} <= {d2}"]
        for variable, digit in (("i", "a"), ("j", "b")):
            terms = [f"{place} {digit}{t}" for t, place in enumerate(zones.places)]
            constraints.append(f"{variable} = {' + '.join(terms)}")
        condition = " and ".join(constraints)
        union = union.union(
            isl.Map(f"{{ [i] -> [j] : exists ({', '.join(names)} : {condition}) }}")
        )
    return union


def lines(n: int, tokens: list[int]) -> Zones:
    runs = [(token, token + 1) for token in tokens]
    return Zones.rows(0, n, runs) | Zones.columns(0, n, runs)


N = 10**6 + 7
PATTERNS: dict[str, Callable[[], Zones]] = {
    "window": lambda: Zones.zone(0, N, d=(-64, 64)),
    "memory": lambda: (
        Zones.zone(0, N, d=(0, 512)) | (lines(N, [0, N // 3, N - 9]) & Zones.band(0, N, 0, None))
    ),
    "strided": lambda: Zones.zone(0, N, d=(0, 999)) | Zones.band(0, N, 0, None, step=1000),
    "offset": lambda: Zones.band(0, N, 3, None, step=250),
    "grid": lambda: Zones.digits(0, N, (1, 1000), [Bounds(d=(-1, 1)), Bounds(d=(-2, 2))]),
    "four": lambda: Zones.chunks(0, N, 4),
    "six": lambda: Zones.chunks(0, N, 6),
}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("window", "window"),
        ("memory", "memory"),
        ("memory", "strided"),
        ("strided", "strided"),
        ("offset", "window"),
        ("grid", "window"),
        ("four", "six"),
    ],
)
def test_both_agree_at_a_million_tokens(first: str, second: str) -> None:
    a, b = PATTERNS[first](), PATTERNS[second]()
    map_a, map_b = as_map(a), as_map(b)
    assert as_map(a @ b).is_equal(map_a.apply_range(map_b))
    assert as_map(a | b).is_equal(map_a.union(map_b))
    assert as_map(a & b).is_equal(map_a.intersect(map_b))
    assert as_map(a - b).is_equal(map_a.subtract(map_b))
    assert as_map(a.transpose()).is_equal(map_a.reverse())
    assert a.issubset(b) == map_a.is_subset(map_b)
    assert a.simplify().equals(a)

"""What zones refuse, how fast they refuse it, and how small unions stay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from attnloom.compiler.zones import Bounds, TooComplex, Zones


@contextmanager
def seconds(limit: float) -> Iterator[None]:
    """The body must end well within a time that only runaway work would need."""
    begin = time.perf_counter()
    yield
    assert time.perf_counter() - begin < limit


def lines(n: int, tokens: list[int]) -> Zones:
    runs = [(token, token + 1) for token in tokens]
    return Zones.rows(0, n, runs) | Zones.columns(0, n, runs)


def scattered(n: int, num: int) -> list[int]:
    """Tokens at uneven distances, none within 600 of another."""
    return [k * (n // num) + (k * k) % 97 for k in range(num)]


def random_boxes(num: int, size: float, seed: int) -> Zones:
    """Boxes without any pattern over three digits."""
    draw, limits = np.random.default_rng(seed), (1_000, 100, 10)
    union = []
    for _ in range(num):
        box = []
        for limit in limits:
            reach = max(1, int(size * limit))
            i, j, extra = (int(x) for x in draw.integers(0, limit, 3))
            box.append(Bounds(i=(i, i + reach), j=(j, j + reach), d=(i - j - extra, i - j + extra)))
        union.append(Zones.digits(0, 10**6, (1, 1_000, 100_000), box))
    while len(union) > 1:  # pairwise, so that few unions are large
        union = [a | b for a, b in zip(union[::2], union[1::2], strict=False)] + union[
            len(union) // 2 * 2 :
        ]
    return union[0]


def test_many_scattered_rows_and_columns_are_counted_quickly() -> None:
    n, w = 10**6, 256
    tokens = scattered(n, 256)
    layer = Zones.zone(0, n, d=(-w, w)) | lines(n, tokens)
    g, near = len(tokens), sum(2 * w + 1 - max(0, w - token) for token in tokens)
    expected = n * (2 * w + 1) - w * (w + 1) + 2 * g * n - g * g - (2 * near - g)
    with seconds(5):
        assert layer.num_boxes == 2 * g + 1
        assert layer.count() == expected
        assert layer.max_row_count() == (n, tokens[0])
        assert (layer @ layer).equals(Zones.everything(0, n))


def test_very_many_documents_are_no_problem() -> None:
    n, size, w = 400_000, 10, 3
    with seconds(20):
        documents = Zones.union(
            0, n, [Bounds(i=(a, a + size - 1), j=(a, a + size - 1)) for a in range(0, n, size)]
        )
        assert documents.num_boxes == n // size
        assert documents.count() == n * size
        assert documents.equals(Zones.chunks(0, n, size))
        window = Zones.zone(0, n, d=(-w, w))
        crossing = (n // size - 1) * w * (w + 1)
        assert (documents | window).count() == n * size + crossing
        assert (window - documents).count() == crossing
        assert (documents @ documents).num_boxes == documents.num_boxes


@pytest.mark.parametrize("n", [10**6, 999_983])
@pytest.mark.parametrize(
    ("make", "num_layers", "limit"),
    [
        (lambda n: Zones.zone(0, n, d=(0, 1000)) | Zones.band(0, n, 0, None, step=1000), 12, 8),
        (lambda n: Zones.zone(0, n, d=(-128, 128)) | dilated(n, 1_000, 4), 12, 60),
        (lambda n: Zones.zone(0, n, d=(0, 128)) | dilated(n, 1_000, 4), 12, 60),
        (lambda n: Zones.chunks(0, n, 512) | Zones.zone(0, n, d=(-3, 3)), 24, 20),
        (lambda n: Zones.zone(0, n, d=(-64, 64)) | lines(n, scattered(n, 8)), 12, 20),
        (lambda n: Zones.digits(0, n, (1, 777), [Bounds(d=(-1, 1))] * 2), 24, 8),
    ],
    ids=["strided", "dilated", "dilated causal", "chunks", "globals", "grid"],
)
def test_deep_stacks_stay_small(
    make: Callable[[int], Zones], num_layers: int, limit: int, n: int
) -> None:
    layer = make(n) | Zones.zone(0, n, d=(0, 0))
    reached, count = layer, layer.count()
    with seconds(20):
        for _ in range(num_layers - 1):
            before, count = count, (reached := layer @ reached).count()
            assert before <= count
            assert reached.num_boxes <= limit


def dilated(n: int, step: int, taps: int) -> Zones:
    return Zones.band(0, n, -step * taps, step * taps, step=step)


def test_layers_with_two_dilations_are_smaller_after_simplify() -> None:
    n = 999_983
    layer = Zones.zone(0, n, d=(-16, 16)) | dilated(n, 64, 2) | dilated(n, 1_024, 2)
    simple = layer.simplify()
    assert simple.equals(layer)
    assert simple.places == (1,)
    assert simple.num_boxes == 9  # the window and eight other differences
    assert dilated(n, 64, 2).simplify().num_boxes < 5  # alone, digits are better


def test_places_without_common_multiple_fall_back_to_single_differences() -> None:
    n = 10**6
    both = dilated(n, 1_000, 4) | dilated(n, 729, 3)
    assert both.count() == n + 2 * sum(
        n - d for d in (*range(1_000, 5_000, 1_000), 729, 1_458, 2_187)
    )


TOO_COMPLEX: dict[str, Callable[[], object]] = {
    "complement of a fine grid": lambda: ~lines(10**6, scattered(10**6, 600)),
    "coprime chunks": lambda: Zones.chunks(0, 10**12, 10**6) @ Zones.chunks(0, 10**12, 999_983),
    "coprime chunks, huge": lambda: Zones.chunks(0, 2**50, 2**27) | Zones.chunks(0, 2**50, 3**17),
    "thousands of rows through thousands of columns": lambda: (
        lines(10**9, scattered(10**9, 3_000)) @ lines(10**9, scattered(10**9, 3_000))
    ),
    "a row of very many runs": lambda: Zones.band(0, 10**9, None, None, step=2).row(0),
    "a large dense matrix": lambda: Zones.everything(0, 10**5).to_dense(),
    "random boxes": lambda: [a @ a - a for a in [random_boxes(400, 0.5, seed=1)] for _ in range(3)],
    "row segments of digits": lambda: Zones.band(0, 10**6, None, None, step=9).row_segments(),
    "positions beyond 2**52": lambda: Zones.everything(0, 2**53),
    "places beyond 2**52": lambda: Zones.chunks(0, 2**52, 2**51).blocks(4, 0, 2**52),
}


@pytest.mark.parametrize("name", TOO_COMPLEX)
def test_what_would_take_too_long_is_refused_quickly(name: str) -> None:
    with seconds(20), pytest.raises(TooComplex):
        TOO_COMPLEX[name]()


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "domains": (lambda: Zones.empty(0, 9) | Zones.empty(0, 8), r"0\.\.9 and 0\.\.8"),
    "backwards": (lambda: Zones.everything(3, 2), "runs backwards"),
    "places": (lambda: Zones.digits(0, 9, (1, 4, 6), [Bounds()] * 3), r"\(1, 4, 6\)"),
    "zones": (lambda: Zones.digits(0, 9, (1, 4), [Bounds()]), "2 places need as many zones, not 1"),
    "step": (lambda: Zones.band(0, 9, 0, 3, step=0), "step must be at least 1, got 0"),
    "size": (lambda: Zones.everything(0, 9).blocks(0, 0, 9), "size must be at least 1, got 0"),
    "row": (lambda: Zones.everything(0, 9).row(9), r"position 9 is outside 0\.\.9"),
    "column": (lambda: Zones.everything(0, 9).column_count(-1), r"position -1 is outside 0\.\.9"),
    "rows": (
        lambda: Zones.everything(0, 9).row_counts(np.array([0, 12])),
        r"position 12 is outside 0\.\.9",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_named(name: str) -> None:
    mistake, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        mistake()


def test_boxes_cannot_be_changed() -> None:
    zones = Zones.zone(0, 9, d=(0, 2))
    with pytest.raises(ValueError, match="read-only"):
        zones.boxes[0, 0, 0] = 3


def test_picture_of_a_long_relation_is_its_name() -> None:
    assert str(Zones.band(0, 10**6, 0, None)) == "Zones(0, 1000000, places=(1,), 1 boxes)"

"""Matrices of bits against matrices of booleans."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from attnloom.compiler import bits
from attnloom.compiler.alike import by_first_use

sizes = st.integers(1, 70)


def drawn(num: int, height: int, width: int, seed: int) -> np.ndarray:
    """Boolean matrices, some of them equal and some empty."""
    chance = np.random.default_rng(seed)
    found = chance.random((num, height, width)) < chance.choice([0.02, 0.5, 1.0], (num, 1, 1))
    return found[chance.integers(num, size=num)]


def packed(matrices: np.ndarray) -> np.ndarray:
    return np.packbits(matrices, axis=-1, bitorder="little")


@given(st.integers(1, 9), sizes, sizes, st.integers(0, 99), st.sampled_from([1, 300, 1 << 17]))
def test_everything_is_as_with_booleans(
    num: int, height: int, width: int, seed: int, piece: int
) -> None:
    matrices = drawn(num, height, width, seed)
    masks = packed(matrices)
    masks.flags.writeable = False
    with mock.patch.object(bits, "_PIECE", piece):
        check_all(masks, matrices)


def check_all(masks: np.ndarray, matrices: np.ndarray) -> None:
    width = matrices.shape[2]
    assert np.array_equal(bits.turned(masks, width), packed(matrices.transpose(0, 2, 1)))
    assert bits.num_set(masks).tolist() == matrices.sum((1, 2)).tolist()
    assert np.array_equal(bits.rows_used(masks), matrices.any(2))
    assert np.array_equal(bits.columns_used(masks, width), matrices.any(1))
    first, number = bits.different(masks)
    names = [matrix.tobytes() for matrix in matrices]
    known = list(dict.fromkeys(names))
    assert number.tolist() == [known.index(name) for name in names]
    assert first.tolist() == [names.index(name) for name in known]


@given(
    st.lists(st.tuples(st.integers(-9, 80), st.integers(-9, 80)), min_size=1),
    sizes,
    st.sampled_from([1, 40, 1 << 17]),
)
def test_ranges_are_cut_off_at_the_row(ends: list[tuple[int, int]], width: int, piece: int) -> None:
    first, stop = np.array(ends).T
    wanted = (np.arange(width) >= first[:, None]) & (np.arange(width) < stop[:, None])
    with mock.patch.object(bits, "_PIECE", piece):
        assert np.array_equal(bits.ranges(first, stop, width), packed(wanted))


def test_matrices_that_differ_in_the_highest_bits_have_different_sums() -> None:
    masks = np.zeros((257, 128, 16), dtype=np.uint8)
    masks[np.arange(256), np.arange(256) // 2, np.arange(256) % 2 * 8 + 7] = 1 << 7
    rows = bits.words(masks.reshape(257, -1))
    assert len(np.unique(bits._sums(rows))) == 257


def test_matrices_with_equal_sums_are_told_apart(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    class Zeros:
        def integers(self, *_: object, size: int, dtype: type) -> np.ndarray:
            return np.zeros(size, dtype)

    monkeypatch.setattr(np.random, "default_rng", lambda _: Zeros())
    masks = np.array([[[1]], [[2]], [[1]]], dtype=np.uint8)
    first, number = bits.different(masks)
    assert (first.tolist(), number.tolist()) == ([0, 1], [0, 1, 0])


def test_no_matrices_have_no_sets() -> None:
    first, number = bits.different(np.zeros((0, 4, 1), dtype=np.uint8))
    assert (len(first), len(number)) == (0, 0)


@given(st.lists(st.integers(0, 9)))
def test_numbers_are_renumbered_by_first_use(numbers: list[int]) -> None:
    used, new = by_first_use(np.array(numbers, dtype=np.int64), 10)
    known = list(dict.fromkeys(numbers))
    assert used.tolist() == known
    assert new.tolist() == [known.index(number) for number in numbers]

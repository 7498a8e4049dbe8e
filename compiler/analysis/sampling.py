"""Samples that stand for all, and how far off they may be.

Positions are drawn with probabilities in proportion to their intended pairs, with replacement, by a
fixed seed. Then the mean over the drawn positions of "the share of my pairs that ..." has the share
of all pairs as its expectation, and so has the mean distance. Only positions are sampled: links
that the pattern draws are what they are, and how other seeds would do is another question.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.analysis.figures import CONFIDENCE
from attnloom.compiler.runs import Ints

Floats = NDArray[np.float64]

_SEED = 20201
_NORMAL = 1.959963984540054
"""The quantile of the normal distribution for 95 % in the middle."""


@dataclass(frozen=True)
class Estimate:
    """A mean of samples, and its interval `low..high` by Student's t distribution.

    `margin` is wider: half of the interval by the empirical Bernstein bound, which holds for any
    distribution on the range of the samples (Maurer & Pontil 2009, arXiv:0907.3740).
    """

    value: float
    low: float
    high: float
    margin: float

    @classmethod
    def of(cls, samples: Floats, least: float, most: float) -> Estimate:
        """From independent samples, all within `least..most`.

        >>> found = Estimate.of(np.array([1.0, 2.0, 2.0, 3.0]), 0, 4)
        >>> found.value, round(found.high, 2)
        (2.0, 3.3)
        """
        count = len(samples)
        value = float(samples.mean())
        if count < 2:
            return cls(value, least, most, most - least)
        deviation = float(samples.std(ddof=1))
        half = _student(count - 1) * deviation / math.sqrt(count)
        rest = math.log(4 / (1 - CONFIDENCE))
        margin = deviation * math.sqrt(2 * rest / count) + (most - least) * 7 * rest / (
            3 * (count - 1)
        )
        return cls(
            value, max(least, value - half), min(most, value + half), min(margin, most - least)
        )


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, to three digits from four degrees of freedom on.

    Cornish and Fisher's expansion around the normal quantile.

    >>> round(_student(10), 3), round(_student(1000), 3)
    (2.228, 1.962)
    """
    z, v = _NORMAL, freedom
    found = z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    found += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    exact = {1: 12.706, 2: 4.303, 3: 3.182}
    return exact.get(freedom, found)


def draw(weights: Ints, count: int) -> Ints:
    """Positions drawn with replacement, in proportion to their weights; the same every time."""
    generator = np.random.default_rng(_SEED)
    total = np.cumsum(weights)
    points = generator.integers(0, int(total[-1]), size=count)
    return np.searchsorted(total, points, side="right").astype(np.int64)

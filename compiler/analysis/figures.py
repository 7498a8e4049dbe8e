"""What an analysis finds: numbers that say how they were found and which pair shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from attnloom.compiler.analysis.spread import Spread

Note = Callable[[str], None]
"""Told in a few words what is worked out next."""

CONFIDENCE = 0.95
"""Of every interval that comes from samples."""


@dataclass(frozen=True)
class Pair:
    """Information flows from `source` to `target`: the target reads it, perhaps over others."""

    source: int
    target: int


@dataclass(frozen=True)
class Method:
    """How something was found.

    `samples` counts the tokens that stand for all when it is not exact; `note` says why no exact
    way was taken, or what the bounds are.
    """

    engine: str
    is_exact: bool = True
    samples: int = 0
    note: str = ""

    def __str__(self) -> str:
        if self.is_exact:
            return f"{self.engine}, exact"
        if self.samples:
            return f"{self.engine}, sampled ({self.samples:,} readers)"
        return f"{self.engine}, bounds"


@dataclass(frozen=True)
class Step:
    """A bar of the hop histogram: the pairs that are `first` to `last` hops apart.

    `share` is of all intended pairs, within `low..high`; `pairs` is `None` when it was sampled.
    """

    first: int
    last: int
    share: float
    pairs: int | None
    low: float
    high: float

    @classmethod
    def exact(cls, first: int, last: int, pairs: int, total: int) -> Step:
        share = pairs / total
        return cls(first, last, share, pairs, share, share)

    @property
    def name(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True)
class Hops:
    """How far intended pairs are apart, in reads.

    For one kind of layer that is as often repeated as is needed, the distance in the graph. For a
    stack of several kinds, the fewest reads on a route through its layers in their order.

    `worst` and `mean` are over the pairs that are connected, `None` if there are none;
    `worst_at_most` is certain also where `worst` is only the worst that was seen. `unreachable`
    pairs are intended and never connected; `None` where it is not known.
    """

    total: int
    steps: tuple[Step, ...]
    worst: int | None
    worst_at_most: int | None
    worst_pair: Pair | None
    mean: float | None
    mean_low: float | None
    mean_high: float | None
    unreachable: int | None
    unreachable_share: float
    unreachable_pair: Pair | None
    method: Method

    @classmethod
    def nothing(cls, method: Method) -> Hops:
        """No pair is intended."""
        return cls(0, (), None, None, None, None, None, None, 0, 0.0, None, method)


@dataclass(frozen=True)
class Coverage:
    """What has been learnt after each layer.

    `shares[k]` is the share of intended pairs that are connected after `k + 1` layers, and
    `fields[k]` the spread of the receptive fields then, the token itself counted. `full_layer` is
    the layer after which every intended pair is connected, `None` if none of those looked at is.
    """

    shares: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    full_layer: int | None
    fields: tuple[Spread, ...]
    method: Method
    missing_pair: Pair | None = field(default=None)
    """A pair that is not connected after the last layer."""

    @classmethod
    def nothing(cls, layers: int, method: Method) -> Coverage:
        """No pair is intended, so none is missing after the first layer."""
        full = (1.0,) * layers
        return cls(full, full, full, 1, (), method)

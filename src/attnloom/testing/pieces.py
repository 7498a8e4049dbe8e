"""What random programs are written with: pieces of text, and what is known where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

MOST = 96
"""The largest `n` of a program, unless it is told otherwise."""

# Levels of expressions, loosest first, as in Python; an operand that is looser gets parentheses.
OR, AND, NOT, COMPARISON, UNION, XOR, INTERSECTION, RANGE, SUM, PRODUCT, SIGN, POWER, ATOM = range(
    13
)


@dataclass(frozen=True)
class Piece:
    """The text of an expression, how tightly it holds together, and a number's bounds."""

    text: str
    level: int = ATOM
    low: int = 0
    high: int = 0
    needs: Needs = field(default_factory=lambda: Needs())
    is_number: bool = False


@dataclass(frozen=True)
class Needs:
    """What must hold where an expression is used: so many positions; tokens, a grid around."""

    positions: int = 1
    tokens: bool = False
    grid: int = 0

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            max(self.positions, other.positions),
            self.tokens or other.tokens,
            max(self.grid, other.grid),
        )


NUMBER, CONDITION, TOKENS, RELATION = "number", "condition", "tokens", "relation"
PREFIX = "prefix"
"""A relation whose rows are prefixes."""


@dataclass(frozen=True)
class Known:
    """A name that may be used: a `let`, a parameter or an input of tokens."""

    kind: str
    piece: Piece


@dataclass(frozen=True)
class Signature:
    """A pattern that may be called: its parameters with bounds, and whether it has inputs."""

    name: str
    parameters: tuple[Parameter, ...]
    inputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Parameter:
    name: str
    kind: str
    low: int
    high: int
    has_default: bool
    anywhere: bool = False
    """Whether its tokens are there in any sequence, so that it can be read over blocks."""


@dataclass(frozen=True)
class Place:
    """Where an expression stands: positions there are at least, names, the grid, `where` or not."""

    least: int
    known: tuple[Known, ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()
    grid: int = 0
    in_blocks: bool = False
    in_rule: bool = False

    def names(self, kind: str) -> list[Piece]:
        return [one.piece for one in self.known if one.kind == kind]

    def with_names(self, known: Sequence[Known]) -> Place:
        return replace(self, known=self.known + tuple(known))

    def blocks(self, least: int) -> Place:
        """The place in the body of `blocks` here."""
        kept = tuple(
            one
            for one in self.known
            if one.piece.needs.positions <= least
            and not one.piece.needs.tokens
            and not one.piece.needs.grid
        )
        return replace(self, least=least, known=kept, inputs=(), grid=0, in_blocks=True)


BUNDLED = (
    Signature("bert", (), ()),
    Signature("cls_star", (), ()),
    Signature("local", (Parameter("reach", NUMBER, 1, 9, True),), ()),
    Signature("gemma3", (Parameter("recent", NUMBER, 1, 9, True),), ()),
    Signature("mistral", (Parameter("recent", NUMBER, 2, 9, True),), ()),
    Signature(
        "streaming_llm",
        (Parameter("sinks", NUMBER, 0, 4, True), Parameter("recent", NUMBER, 1, 9, True)),
        (),
    ),
    Signature(
        "longformer",
        (Parameter("reach", NUMBER, 1, 9, True), Parameter("cls", TOKENS, 0, 0, True)),
        (),
    ),
    Signature(
        "bigbird",
        (
            Parameter("size", NUMBER, 1, 9, True),
            Parameter("picks", NUMBER, 0, 3, True),
            Parameter("seed", NUMBER, 0, 9, True),
        ),
        (),
    ),
    Signature("sparse_transformer_strided", (Parameter("step", NUMBER, 1, 9, True),), ()),
    Signature(
        "sparse_transformer_fixed",
        (Parameter("step", NUMBER, 1, 9, True), Parameter("summary", NUMBER, 1, 4, True)),
        (),
    ),
)

CONTRACTS = (
    "hops <= 3",
    "mean_hops < 4",
    "reads == n * n",
    "density < 1",
    "reads_per_token <= n",
    "readers_per_token >= 0",
    "coverage_layer <= 5",
    "unreachable == 0",
    "token_cut >= 1",
    "hub_load < 10",
    "kv_cache <= n + 3",
    "causal",
    "connected",
    "symmetric",
    "no_empty_rows",
    "star",
    "prefix_stable",
)

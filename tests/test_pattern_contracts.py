"""What the bundled patterns promise: contracts against masks, at short lengths, drawn parameters.

A contract is evaluated here on the dense mask, by the plainest definition there is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import attnloom
from attnloom.compiler import typed
from attnloom.compiler.analysis.contracts import Answer
from attnloom.compiler.evaluate import Environment

NAMES = attnloom.bundled()

Mask = NDArray[np.bool_]
Place = dict[str, int]

COMPARE = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def hops(mask: Mask) -> float:
    """Layers until every pair that can be meant to meet has met; the residual stream is kept."""
    n = len(mask)
    intended = ~np.eye(n, dtype=bool)
    if not np.triu(mask, 1).any():
        intended = np.tri(n, k=-1, dtype=bool)
    step = mask | np.eye(n, dtype=bool)
    reached = np.eye(n, dtype=bool)
    for layer in range(n + 1):
        if (reached | ~intended).all():
            return layer
        reached = (step.astype(np.int64) @ reached.astype(np.int64)) > 0
    return float("inf")


def kv_cache(mask: Mask) -> int:
    """Most keys that must be at hand: those so far that this query or a later one reads."""
    return max(int(mask[t:, : t + 1].any(0).sum()) for t in range(len(mask)))


METRICS: dict[str, Callable[[Mask], float]] = {
    "reads": lambda mask: int(mask.sum()),
    "reads_per_token": lambda mask: int(mask.sum(1).max()),
    "readers_per_token": lambda mask: int(mask.sum(0).max()),
    "hops": hops,
    "kv_cache": kv_cache,
}
PROPERTIES: dict[str, Callable[[Mask], bool]] = {
    "causal": lambda mask: not np.triu(mask, 1).any(),
    "symmetric": lambda mask: np.array_equal(mask, mask.T),
    "no_empty_rows": lambda mask: bool(mask.any(1).all()),
    "star": lambda mask: bool((mask.all(0) & mask.all(1)).any()),
}


def contracts_at(body: typed.Body, environment: Environment) -> Iterator[typed.Contract]:
    """The contracts of a body and of the branches that hold."""
    yield from body.contracts
    for choice in body.choices:
        branch = choice.then if environment.number(choice.condition) else choice.otherwise
        if branch is not None:
            yield from contracts_at(branch, environment)


def check_contracts(pattern: attnloom.Pattern, n: int, place: Place, inputs: dict[str, Any]) -> int:
    """Hold all contracts of a pattern against its mask. Returns how many there were."""
    mask = pattern.mask(n, inputs=inputs, **place)
    variables = {"n": n, **place}
    plain = {k: int(v) for k, v in pattern.params.items() if isinstance(v, int)}
    environment = Environment(variables, plain, {})
    found = list(contracts_at(pattern._typed.body, environment))
    for contract in found:
        if contract.metric == "prefix_stable":
            for more in (1, 2, n):
                # What is listed token by token goes on as it ends; sets of tokens stay.
                grown = {
                    name: value if pattern.inputs[name] == "tokens" else value + value[-1:] * more
                    for name, value in inputs.items()
                }
                longer = pattern.mask(n + more, inputs=grown, **place)
                corner = longer[: len(mask)]
                assert np.array_equal(corner, np.pad(mask, ((0, 0), (0, more)))), contract.text
        elif contract.operator is None:
            assert PROPERTIES[contract.metric](mask), contract.text
        else:
            assert contract.value is not None
            value, wanted = METRICS[contract.metric](mask), environment.number(contract.value)
            assert COMPARE[contract.operator](value, wanted), f"{contract.text}: {value}, {wanted}"
    return len(found)


@st.composite
def settings_of(draw: st.DrawFn, name: str) -> dict[str, int]:
    """Parameters within their declared ranges: near the lower end, or the highest there is."""
    found: dict[str, int] = {}
    for one in attnloom.load(name)._typed.parameters:
        if one.type is typed.Type.CONDITION:
            found[one.name] = draw(st.booleans())
        elif one.low is not None and one.high is not None:
            nothing = Environment({}, {}, {})
            low, high = nothing.number(one.low), nothing.number(one.high)
            near = st.integers(low, min(low + 8, high - 1))
            found[one.name] = draw(near | st.just(high - 1))
        else:
            assert one.type is typed.Type.TOKENS, f"{name}: {one.name} has no range"
    return found


@st.composite
def inputs_of(draw: st.DrawFn, pattern: attnloom.Pattern, n: int) -> dict[str, Any]:
    tokens = st.integers(0, n - 1)
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "tokens": st.lists(tokens, unique=True),
        "segments": st.lists(st.integers(0, 3), min_size=n, max_size=n),
        "links": st.lists(st.lists(tokens, unique=True, max_size=3), min_size=n, max_size=n),
    }
    return {name: draw(kinds[kind]) for name, kind in pattern.inputs.items()}


@pytest.mark.parametrize("name", NAMES)
@given(st.data())
@settings(max_examples=25)
def test_contracts_hold_at_all_lengths_and_parameters(name: str, data: st.DataObject) -> None:
    pattern = attnloom.load(name, **data.draw(settings_of(name)))
    n = data.draw(st.integers(1, 20))
    heads, layers = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 7))
    place = {
        "head": data.draw(st.integers(0, heads - 1)), "heads": heads,
        "layer": data.draw(st.integers(0, layers - 1)), "layers": layers,
    }  # fmt: skip
    inputs = data.draw(inputs_of(pattern, n))
    check_contracts(pattern, n, place, inputs)
    found = pattern.check(n, heads=heads, layers=layers, inputs=inputs)
    assert {one.answer for one in found} <= {Answer.HOLDS, Answer.ABSENT}, found


@pytest.mark.parametrize("name", NAMES)
def test_contracts_hold_at_a_length_beyond_the_smallest(name: str) -> None:
    pattern = attnloom.load(name)
    place = {"head": 0, "heads": 1, "layer": 0, "layers": 1}
    kinds: dict[str, Any] = {"tokens": [], "segments": [0] * 40, "links": [[]] * 40}
    inputs = {key: kinds[kind] for key, kind in pattern.inputs.items()}
    assert check_contracts(pattern, 40, place, inputs), "a pattern states something"

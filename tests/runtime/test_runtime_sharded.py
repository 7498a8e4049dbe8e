"""Attention over several processes: the results of one, and only what is needed travels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.multiprocessing as mp
from hypothesis import given
from hypothesis import strategies as st
from sharded_processes import Case, work

import attnloom
from attnloom.compiler.sharding import Division, by_cost, contiguous, head_tail

TEXTS = [
    "window(each_side=5); global(0..3)",
    "window(each_side=3); global(every 29)",
    "window(last=7); collect([3, 60])",
    "causal",
    "full",
    "random(links=2)",
    "memory(3); window(each_side=9)",
    "window(each_side=4, dilation=3)",
    "none",
    "when head == 0 { window(last=9) } else { stride(7) }",
]


def run(ranks: int, folder: Path, task: str, argument: Any = None) -> None:
    """Start processes and wait; what went wrong in one is shown."""
    try:
        mp.spawn(work, (ranks, str(folder), task, argument), nprocs=ranks, join=True)
    except Exception:
        errors = [path.read_text() for path in sorted(folder.glob("error-*"))]
        pytest.fail("\n".join(errors) or "a process ended without a word")


# --- who has what, without processes -------------------------------------------------------------


owners = st.sampled_from(["contiguous", "head_tail", "cost", "any"])


def owner_of(kind: str, units: int, ranks: int, seed: int) -> np.ndarray:
    chance = np.random.default_rng(seed)
    if kind == "cost":
        return by_cost(chance.random(units) ** 4, ranks)
    if kind == "any":
        rest = chance.integers(0, ranks, units - ranks)
        return chance.permutation(np.concatenate([np.arange(ranks), rest]))
    return contiguous(units, ranks) if kind == "contiguous" else head_tail(units, ranks)


@given(
    st.sampled_from(TEXTS), st.integers(61, 150), st.sampled_from([4, 8, 16]),
    st.integers(1, 4), owners, st.integers(0, 99),
)  # fmt: skip
def test_every_pair_is_computed_once_by_who_has_the_keys(
    text: str, n: int, block: int, ranks: int, kind: str, seed: int
) -> None:
    grids, _ = attnloom.parse(f"pattern p {{ {text} }}").layouts(n, heads=2, block=block)
    units = grids[0].num_query_blocks
    if kind == "head_tail" and units < 2 * ranks:
        kind = "contiguous"
    division = Division.of(grids, owner_of(kind, units, ranks, seed), ranks)
    found = [np.zeros((grid.query_len, grid.kv_len), dtype=int) for grid in grids]
    everything = np.concatenate([division.positions(rank) for rank in range(ranks)])
    assert np.array_equal(np.sort(everything), np.arange(grids[0].query_len))
    for rank in range(ranks):
        own = division.positions(rank)
        sent = [division.sent(other, rank) for other in range(ranks) if other != rank]
        assert np.array_equal(np.concatenate([*sent, own[:0]]), division.needed(rank))
        columns = np.concatenate([division.units(rank), division.needed(rank)])
        keys = (columns[:, None] * block + np.arange(block)).reshape(-1)
        near, far = division.layouts(rank), division.long_layouts(rank)
        for table, short, long in zip(found, near, far, strict=True):
            i, j = np.nonzero(short.to_dense())
            np.add.at(table, (own[i], keys[j]), 1)
            if len(division.long):
                i, j = np.nonzero(long.to_dense())
                np.add.at(table, (division.long[i], own[j]), 1)
    for grid, table in zip(grids, found, strict=True):
        assert np.array_equal(table, grid.to_dense())


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.integers(1, 6))
def test_stretches_of_equal_cost_leave_nobody_out(costs: list[float], ranks: int) -> None:
    if len(costs) < ranks:
        return
    owner = by_cost(np.array(costs), ranks)
    assert np.array_equal(np.unique(owner), np.arange(ranks))
    assert (np.diff(owner) >= 0).all()


def test_traffic_of_window_and_globals_does_not_grow_with_the_length() -> None:
    pattern = attnloom.load("longformer", reach=64, cls=range(4))
    received = []
    for n in (4096, 16384, 65536):
        grids, _ = pattern.layouts(n, block=32)
        division = Division.of(grids, contiguous(n // 32, 4), 4)
        assert division.long.tolist() == [0, 1, 2, 3]
        received.append(division.received_tokens().tolist())
    # A halo of 64 on each side, and the unit of the global tokens.
    assert received == [[64, 160, 160, 96]] * 3


def test_causal_rows_are_even_from_head_and_tail() -> None:
    grids, _ = attnloom.parse("pattern p { causal }").layouts(4096, block=32)
    tiles = [
        Division.of(grids, owner, 4).tiles() for owner in (contiguous(128, 4), head_tail(128, 4))
    ]
    assert tiles[0].max() > 1.7 * tiles[0].mean()
    assert tiles[1].max() < 1.01 * tiles[1].mean()


# --- with processes ------------------------------------------------------------------------------


def cases() -> list[Case]:
    some: list[Case] = [
        {"text": f"pattern p {{ {text} }}", "n": n}
        for text, n in zip(TEXTS, (100, 131, 64, 77, 90, 128, 75, 101, 64, 97), strict=True)
    ]
    first = some[0]
    return [
        *some,
        {**first, "kv_heads": 1},
        {**first, "dtype": "float32"},
        *({**some[3], "n": 150, "balance": kind} for kind in ("contiguous", "head_tail", "cost")),
        {"name": "packing", "n": 150},
    ]


@pytest.mark.parametrize("ranks", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_results_are_those_of_one_process(ranks: int, tmp_path: Path) -> None:
    run(ranks, tmp_path, "check_cases", cases())


def test_another_plan_and_bad_calls_are_refused_in_every_process(tmp_path: Path) -> None:
    run(2, tmp_path, "check_refusals")


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_results_of_bundled_patterns_are_those_of_one_process(ranks: int, tmp_path: Path) -> None:
    every = [{"name": name, "n": n} for n in (200, 333) for name in attnloom.bundled()]
    run(ranks, tmp_path, "check_cases", every)

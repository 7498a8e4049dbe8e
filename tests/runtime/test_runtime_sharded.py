"""Attention over several processes: the results of one, and only what is needed travels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from sharded_processes import Case, Processes

import attnloom
from attnloom.compiler.balance import (
    Network,
    by_cost,
    contiguous,
    divide,
    divide_heads,
    head_tail,
)
from attnloom.compiler.grid import grid_of
from attnloom.compiler.model import CostModel
from attnloom.compiler.sharding import Division
from attnloom.runtime.sharded import overlap_pays
from attnloom.testing.programs import Program, programs

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


DILATED = "window(each_side=24, dilation=4)"
"""Divided by residues if exchanges cost much, with units that are not full."""

SLOW = Network(bytes_per_second=1e5)


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


def keys_in(division: Division, slots: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The place at each slot; far beyond at an empty one."""
    found = np.full(slots.max(initial=0) + division.unit + 1, 1 << 40)
    found[slots] = places
    return found


@given(
    st.sampled_from(TEXTS), st.integers(61, 150), st.sampled_from([4, 8, 16]),
    st.integers(1, 4), owners, st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_every_pair_is_computed_once_by_who_has_the_keys(
    text: str, n: int, block: int, ranks: int, kind: str, reorder: bool, seed: int
) -> None:
    heads, _ = attnloom.parse(f"pattern p {{ {text} }}").head_layouts(n, heads=2, block=block)
    orders = [part.order for head in heads for part in head.parts if reorder]
    order = next((one for one in orders if one is not None), None)
    grids = [grid_of(head, order) for head in heads]
    units = grids[0].num_query_blocks
    if kind == "head_tail" and units < 2 * ranks:
        kind = "contiguous"
    division = Division.of(grids, owner_of(kind, units, ranks, seed), ranks, order)
    found = [np.zeros((grid.query_len, grid.kv_len), dtype=int) for grid in grids]
    everything = np.concatenate([division.positions(rank) for rank in range(ranks)])
    assert np.array_equal(np.sort(everything), np.arange(heads[0].query_len))
    for rank in range(ranks):
        own = division.places_of(division.units(rank))
        received = division.received(rank)
        sent = [division.sent(other) for other in range(ranks)]
        cuts = [np.split(places, np.cumsum(counts)[:-1]) for places, counts in sent]
        assert np.array_equal(np.concatenate([cut[rank] for cut in cuts]), received)
        assert np.array_equal(division.received_counts(rank), [len(cut[rank]) for cut in cuts])
        assert len(received) == division.received_tokens()[rank]
        slots = division.own_slots(rank)
        near = keys_in(division, np.arange(len(own)) if slots is None else slots, own)
        needed = division.needed(rank)
        far = keys_in(division, division.slots(needed, received), received)
        both = np.concatenate([own, received])
        every = keys_in(division, division.slots(division.all_units(rank), both), both)
        far_rows = [near[:0]]
        for unit in division.far_units(rank):
            start = int(np.searchsorted(division.units(rank), unit)) * block
            far_rows.append(near[start : start + block])
        far_queries = np.append(np.concatenate(far_rows), 1 << 40)
        together = [np.zeros_like(table) for table in found]
        apart = [np.zeros_like(table) for table in found]
        for table, layout in zip(together, division.all_layouts(rank), strict=True):
            i, j = np.nonzero(layout.to_dense())
            np.add.at(table, (near[i], every[j]), 1)
        for table, layout in zip(apart, division.near_layouts(rank), strict=True):
            i, j = np.nonzero(layout.to_dense())
            np.add.at(table, (near[i], near[j]), 1)
        for table, layout in zip(apart, division.far_layouts(rank), strict=True):
            i, j = np.nonzero(layout.to_dense())
            np.add.at(table, (far_queries[i], far[j]), 1)
        for table, one, other in zip(found, together, apart, strict=True):
            assert np.array_equal(one, other)
            table += one
        if len(division.long):
            for table, layout in zip(found, division.long_layouts(rank), strict=True):
                i, j = np.nonzero(layout.to_dense())
                np.add.at(table, (division.long[i], near[j]), 1)
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
    # A halo of 64 on each side, and the four global tokens.
    assert received == [[64, 132, 132, 68]] * 3


def test_overlap_is_for_keys_that_take_as_long_as_a_merge() -> None:
    grids, _ = attnloom.parse("pattern p { window(last=2048) }").layouts(1 << 16, block=128)
    division = divide(grids, 4, "contiguous")
    fast = Network(bytes_per_second=1e15, latency=0.0)
    assert overlap_pays(division, [8], CostModel(), Network())
    assert not overlap_pays(division, [8], CostModel(), fast)
    alone = divide(attnloom.parse("pattern p { self }").layouts(1 << 12)[0], 4)
    assert not overlap_pays(alone, [8], CostModel(), Network())


def test_positions_of_one_residue_stay_together() -> None:
    pattern = attnloom.parse("pattern p { window(each_side=64, dilation=8) }")
    heads, _ = pattern.head_layouts(4099, block=64)
    apart, together = (divide_heads(heads, 4, reorder=reorder) for reorder in (False, True))
    assert apart.received_tokens().tolist() == [512, 1024, 1024, 512]
    # Three residues of 8 have a token more than the others, so a process ends within a residue.
    assert together.received_tokens().tolist() == [64, 128, 128, 64]
    whole, _ = pattern.head_layouts(4096, block=64)
    assert divide_heads(whole, 4).received_tokens().tolist() == [0] * 4
    assert np.unique(divide_heads(whole, 4).positions(1) % 8).tolist() == [2, 3]
    stride, _ = attnloom.parse("pattern p { stride(64) }").head_layouts(4096, block=32)
    assert divide_heads(stride, 4).received_tokens().tolist() == [0] * 4
    assert divide_heads(stride, 4, reorder=False).received_tokens().tolist() == [3072] * 4


def test_cost_model_weighs_tiles_against_traffic() -> None:
    grids, _ = attnloom.parse("pattern p { causal }").layouts(8192, block=128)
    # Neighbours receive as much in all, but the first of them nothing.
    assert np.array_equal(divide(grids, 4).owner, head_tail(64, 4))
    window, _ = attnloom.parse("pattern p { window(last=512) }").layouts(8192, block=128)
    assert np.array_equal(divide(window, 4, network=SLOW).owner, contiguous(64, 4))


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
        *(
            {**some[3], "n": 150, "options": {"balance": kind}}
            for kind in ("contiguous", "head_tail", "cost")
        ),
        *(
            {
                "text": f"pattern p {{ {text} }}",
                "n": 201,
                "options": {"overlap": overlap, "network": SLOW},
            }
            for text in (TEXTS[0], TEXTS[5], DILATED)
            for overlap in (True, False)
        ),
        {"text": f"pattern p {{ {DILATED} }}", "n": 201, "options": {"reorder": False}},
        {"name": "packing", "n": 150},
    ]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    yield from started(2, tmp_path_factory)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    yield from started(3, tmp_path_factory)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    yield from started(4, tmp_path_factory)


def started(ranks: int, factory: pytest.TempPathFactory) -> Iterator[Processes]:
    processes = Processes(ranks, factory.mktemp("processes"))
    yield processes
    processes.stop()


def test_results_are_those_of_one_process(three: Processes) -> None:
    three.run("check_cases", cases()[::3])


@pytest.mark.slow
@pytest.mark.parametrize("ranks", ["two", "three", "four"])
def test_results_of_all_cases_are_those_of_one_process(
    ranks: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(ranks).run("check_cases", cases())


def test_modifiers_of_scores_have_their_meaning(three: Processes) -> None:
    text = "pattern p { window(each_side=9); global(0..1) }"
    case = {"text": text, "n": 140, "heads": 4, "kv_heads": 2}
    sinks, lengths = torch.tensor([0.5, -1.0, 2.0, 0.0]), torch.tensor([140, 71])
    three.run(
        "check_cases",
        [
            {**case, "numbers": {"scale": 0.3, "softcap": 2.0}},
            {**case, "modifiers": {"sinks": sinks}},
            *(
                {**case, "modifiers": {"key_lengths": lengths}, "options": options}
                for options in (
                    {"overlap": True}, {"overlap": False}, {"balance": "head_tail", "overlap": True}
                )
            ),
            {"text": "pattern p { none }", "n": 140, "modifiers": {"sinks": sinks[:2]}},
            {**case, "dtype": "bfloat16", "options": {"overlap": True}},
        ],
    )  # fmt: skip


def test_measured_traffic_of_window_and_globals_does_not_grow(three: Processes) -> None:
    case = {"name": "longformer", "params": {"reach": 16, "cls": range(3)}, "block": 16}
    found = three.run("check_cases", [{**case, "n": n} for n in (480, 960, 1440)])
    for of_rank in found:
        assert of_rank[0][0] > 0
        assert of_rank == [of_rank[0]] * 3


def test_another_plan_and_bad_calls_are_refused_in_every_process(two: Processes) -> None:
    two.run("check_refusals")


def test_what_is_not_finite_stays_with_those_who_read_it(two: Processes) -> None:
    two.run("check_special_values")


def test_layers_that_differ_are_divided_alike(two: Processes) -> None:
    two.run("check_stack")


def test_it_is_one_graph_under_compile(two: Processes) -> None:
    two.run("check_compiled")


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_training_is_that_of_one_process(way: str, two: Processes) -> None:
    two.run("check_training", way)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_training_on_a_mesh_of_two_dimensions_is_that_of_one_process(
    way: str, four: Processes
) -> None:
    four.run("check_training", way)


@pytest.mark.parametrize("what", ["ends", pytest.param("is late", marks=pytest.mark.slow)])
def test_process_that_waits_in_vain_says_so(
    what: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for processes in started(2, tmp_path_factory):
        said = processes.run("check_peer", what)[0]
        assert said.startswith("ExchangeError: process 0 of 2 waited in vain for the others: "), (
            said
        )


def drawn(count: int) -> list[Case]:
    """Programs of the whole language, the same in every run."""
    found: list[Case] = []

    @seed(count)
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(programs(40))
    def collect(program: Program) -> None:
        found.append(
            {
                "text": program.text, "n": program.n, "heads": program.heads,
                "layer": program.layer, "layers": program.layers, "params": program.params,
                "inputs": program.inputs, "block": 4, "options": {"overlap": len(found) % 2 == 0},
            }
        )  # fmt: skip

    collect()
    return found


@pytest.mark.parametrize(
    ("ranks", "count"),
    [("two", 25), *(pytest.param(one, 250, marks=pytest.mark.slow) for one in ("two", "three"))],
)
def test_results_of_drawn_patterns_are_those_of_one_process(
    ranks: str, count: int, request: pytest.FixtureRequest
) -> None:
    done = request.getfixturevalue(ranks).run("check_programs", drawn(count))
    assert done[0] > count // 4


@pytest.mark.slow
@pytest.mark.parametrize("ranks", ["two", "three", "four"])
def test_results_of_bundled_patterns_are_those_of_one_process(
    ranks: str, request: pytest.FixtureRequest
) -> None:
    every = [
        {"name": name, "n": n, "options": {"overlap": n == 333}}
        for n in (200, 333)
        for name in attnloom.bundled()
    ]
    request.getfixturevalue(ranks).run("check_cases", every)

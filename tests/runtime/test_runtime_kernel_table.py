"""The table of configurations, and what counts as a fault of a kernel; without triton."""

from __future__ import annotations

import doctest
from dataclasses import replace

import pytest
import torch

from attnloom.runtime.kernels import configurations
from attnloom.runtime.kernels.ahead import TILE, Compiled, Variant, spill_budget, variants
from attnloom.runtime.kernels.configurations import (
    DTYPES,
    FAMILIES,
    HEAD_DIMS,
    PASSES,
    choose,
    family_of,
    is_tuned,
    table,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kernel_of_every_family_has_a_configuration(family: str) -> None:
    for pass_name in PASSES:
        for dtype in DTYPES:
            for head_dim in (1, *HEAD_DIMS):
                chosen = choose(family, pass_name, dtype, head_dim)
                for block in (chosen.block_m, chosen.block_n):
                    assert TILE % block == 0
                    assert block >= 16
                assert chosen.num_warps in (1, 2, 4, 8)
                assert 1 <= chosen.num_stages <= 5


def test_table_says_what_was_measured() -> None:
    assert set(table()["families"]) == set(FAMILIES)
    for family in FAMILIES:
        if not is_tuned(family):
            assert "not measured" in table()["families"][family]["note"]


def test_examples_of_the_table_print_what_they_show() -> None:
    assert doctest.testmod(configurations).failed == 0


@pytest.mark.parametrize(
    ("capability", "family"),
    [((8, 0), "sm_80"), ((8, 9), "sm_80"), ((9, 0), "sm_90"), ((10, 0), "sm_100"),
     ((12, 0), "sm_100"), ((7, 5), "sm_80")],
)  # fmt: skip
def test_device_has_the_family_next_below(
    capability: tuple[int, int], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.version, "hip", None)
    assert family_of.__wrapped__(torch.device("cuda")) == family


def a_variant(**changes: object) -> Variant:
    found = next(one for one in variants(["sm_90"]) if one.pass_name == "forward")
    return replace(found, **changes)


def test_kernel_within_all_limits_has_no_fault() -> None:
    assert not Compiled(a_variant(), 255, 0, 227 << 10, 1, 1, 1).faults


def test_spills_shared_memory_and_missing_instructions_are_faults() -> None:
    budget = spill_budget(a_variant())
    bad = Compiled(a_variant(), 255, budget + 1, (227 << 10) + 1, 1, 0, 1, ("said by ptxas",))
    assert len(bad.faults) == 4
    in_float32 = replace(bad, variant=a_variant(dtype="float32"), shared_bytes=0, notes=())
    assert not in_float32.faults


def test_target_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match=r"target must be one of sm_80.*got 'sm_70'"):
        list(variants(["sm_70"]))

"""The comparison on GPUs: its problems are what they say, and without a GPU it says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import attention, tune
from bench.cases import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mask_for_flex_attention_is_the_pattern(case: Case) -> None:
    small = replace(case, length=600, reach=min(case.reach, 9), heads=2, kv_heads=1)
    plan = small.pattern.compile(600, heads=2)
    mask = small.flex_mask(plan)
    i, j = torch.arange(600)[:, None], torch.arange(600)
    for head in range(2):
        expected = torch.from_numpy(small.pattern.mask(600, head=head, heads=2))
        assert torch.equal(mask(torch.tensor(0), torch.tensor(head), i, j), expected)


@pytest.mark.parametrize("script", [attention, tune])
def test_without_a_gpu_nothing_is_measured_and_that_is_said(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert script.main([]) == 3
    said = capsys.readouterr()
    assert not said.out
    assert "needs a CUDA device" in said.err


def test_plot_has_a_group_of_bars_for_each_problem(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    times = {"attnloom": {"median": 1.0}, "FlexAttention": {"median": 2.5}}
    results = [{"case": name, "forward_ms": times, "backward_ms": times} for name in ("a", "b")]
    assert attention._over_ours(results[0], "FlexAttention") == 2.5
    attention.plot(results, tmp_path / "times.png")
    assert (tmp_path / "times.png").stat().st_size > 1000


def test_candidates_are_blocks_of_a_tile() -> None:
    for kind in tune.KINDS:
        for pass_name in tune.PASSES:
            for head_dim in tune.SIZES:
                found = list(tune.candidates(pass_name, kind, head_dim))
                assert found
                assert all(128 % one.block_m == 128 % one.block_n == 0 for one in found)

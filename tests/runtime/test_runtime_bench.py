"""The measurement on the CPU still runs, and checks what it measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip


def test_bench_gives_times_and_the_machine_as_json() -> None:
    small = ("--length", "700", "--reach", "50", "--rounds", "2", "--without-flex", "--json")
    done = bench("cpu", *small)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {"cpu", "cores", "threads", "torch"} <= result["machine"].keys()
    assert result["problem"]["length"] == 700
    for dtype in ("float32", "bfloat16"):
        facts = result["dtypes"][dtype]
        for direction in ("forward_ms", "backward_ms"):
            times = facts[direction]
            assert times.keys() == {"attnloom", "dense"}
            assert all(0 < x["least"] <= x["median"] <= x["most"] for x in times.values())
        assert facts["met"] is None
    assert "gradient of value in bfloat16: error" in done.stderr


def test_bench_that_does_not_exist_is_refused() -> None:
    done = bench("gpus")
    assert done.returncode == 2
    assert "there is no measurement `gpus`" in done.stderr


@pytest.mark.slow
def test_bench_beside_flex_attention() -> None:
    done = bench("--length", "1024", "--rounds", "2", "--dtype", "float32", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)["dtypes"]["float32"]
    assert facts["forward_ms"].keys() == {
        "attnloom", "FlexAttention 128", "FlexAttention 64", "dense",
    }  # fmt: skip
    assert facts["over_flex"] > 0

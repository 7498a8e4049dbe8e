"""The measurement over processes still runs, and compares what it measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = ("--length", "1024", "--reach", "32", "--marks", "4", "--rounds", "2", "--json")


def bench(*arguments: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "distributed", *SMALL, *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_bench_counts_bytes_as_worked_out_by_hand() -> None:
    result = bench("--without-torch")
    ways = result["ways"]
    assert ways.keys() == {"attnloom", "attnloom without overlap", "gather all"}
    number = 4 * 64 * 4  # heads, numbers of each, bytes
    assert ways["gather all"]["forward_bytes"] == 512 * 2 * number
    # Process 1: the halo and the globals of process 0, and its long queries.
    assert ways["attnloom"]["forward_bytes"] == (32 + 4) * 2 * number + 4 * number
    for facts in ways.values():
        for times in (facts["forward_ms"], facts["backward_ms"]):
            assert 0 < times["least"] <= times["median"] <= times["most"]
    assert {"cpu", "cores", "torch"} <= result["machine"].keys()


@pytest.mark.slow
def test_bench_beside_torchs_own() -> None:
    result = bench()
    facts = result["ways"]["torch"]
    assert facts["forward_bytes"] == result["ways"]["gather all"]["forward_bytes"]
    assert ("backward_bytes" in facts) != ("no_backward" in facts)

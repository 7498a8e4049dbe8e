"""The examples run; what they say beforehand is checked, and in the slow tests what they find."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def train(folder: Path, *options: str) -> dict[str, dict[str, Any]]:
    """The results of the long-context example, by pattern."""
    command = [sys.executable, str(EXAMPLES / "train_longcontext.py"), "--out", str(folder)]
    subprocess.run([*command, "--threads", "1", *options], check=True, capture_output=True)
    report = json.loads((folder / "longcontext.json").read_text(encoding="utf-8"))
    assert (folder / "longcontext.png").stat().st_size > 1000
    steps = report["settings"]["steps"]
    assert all(len(curve) == steps for curve in report["curves"].values())
    return {row["pattern"]: row for row in report["results"]}


def test_long_context_example_runs_and_predicts(tmp_path: Path) -> None:
    options = ("--steps", "2", "--length", "96", "--batch", "2")
    found = train(tmp_path, *options, "--patterns", "local", "local + memory")
    local, memory = found["local"], found["local + memory"]
    # The first question stands 46 tokens after the letter, and a window reaches 8.
    assert (local["hops"], local["can_solve"]) == (6, False)
    assert (memory["hops"], memory["can_solve"]) == (2, True)


@pytest.mark.slow
def test_long_context_example_learns_what_the_hops_allow_and_nothing_else(tmp_path: Path) -> None:
    found = train(tmp_path)
    assert [row["can_solve"] for row in found.values()] == [False, True, True, True]
    for row in found.values():
        # One letter in sixteen is right by chance.
        assert row["right"] > 0.9 if row["can_solve"] else row["right"] < 0.2


def losses(processes: int, *options: str) -> list[float]:
    """What the context-parallel example reports, step by step."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), str(EXAMPLES / "train_context_parallel.py")]
    done = subprocess.run(
        [*command, "--steps", "3", "--length", "301", *options],
        check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return [float(line.split()[-1]) for line in done.stdout.splitlines()]


def test_context_parallel_example_learns_as_one_process_does() -> None:
    alone = losses(1)
    assert alone[2] < alone[0]
    assert losses(2) == pytest.approx(alone, abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "options"), [(2, ["--fsdp"]), (4, ["--data", "2"])])
def test_context_parallel_example_learns_the_same_in_other_ways(
    processes: int, options: list[str]
) -> None:
    assert losses(processes, *options) == pytest.approx(losses(1), abs=2e-5)

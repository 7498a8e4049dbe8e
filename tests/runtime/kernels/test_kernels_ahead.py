"""Kernels are compiled for GPUs that are not there, in a process that does not interpret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

CODE = """
import dataclasses, json, sys
from attnloom.runtime.kernels.ahead import Variant, compile_ahead
from attnloom.runtime.kernels.configurations import choose
target, pass_name, head_dim, *flags = sys.argv[1:]
chosen = choose(target, pass_name, "bfloat16", int(head_dim))
found = compile_ahead(Variant(target, pass_name, "bfloat16", int(head_dim), tuple(flags), chosen))
print(json.dumps({**dataclasses.asdict(found), "faults": found.faults}))
"""


def compiled(*arguments: str) -> dict[str, Any]:
    environment = {**os.environ}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_forward_pass_for_hopper_uses_its_matrix_instructions() -> None:
    found = compiled("sm_90", "forward", "64")
    assert not found["faults"]
    assert found["matrix"] >= 8
    assert found["async_copies"] > 0
    assert 100 < found["registers"] <= 255


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
@pytest.mark.parametrize("pass_name", ["forward", "dq", "dkdv"])
def test_all_flags_compile_together(target: str, pass_name: str) -> None:
    found = compiled(target, pass_name, "80", "lists", "strided", "modifiers")
    assert found["instructions"] > 1000
    assert found["matrix"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("pass_name", ["forward", "dq", "dkdv"])
def test_kernels_that_repair_compile(pass_name: str) -> None:
    assert not compiled("sm_90", pass_name, "128", "repair", "modifiers")["faults"]

"""`attnloom kernels`: what it prints, and when it fails. Nothing is compiled here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from attnloom.cli import kernels as command
from attnloom.runtime.kernels import ahead
from attnloom.runtime.kernels.ahead import OTHERS, PASSES, Compiled, Variant


def compiled(variant: Variant) -> Compiled:
    """A kernel without faults."""
    return Compiled(variant, 200, 0, 1 << 16, 3000, 24, 40)


@pytest.fixture
def with_triton(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Variant], Compiled]], None]:
    """Pretend that triton is there, and compiles to what a function says."""

    def pretend(compile_one: Callable[[Variant], Compiled]) -> None:
        def compile_all(wanted: Sequence[Variant], _: int | None = None) -> Iterator[Compiled]:
            return map(compile_one, wanted)

        monkeypatch.setattr(command, "find_spec", lambda name: name)
        monkeypatch.setattr(command, "_versions", lambda: {"triton": "0"})
        monkeypatch.setattr(ahead, "compile_all", compile_all)
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    return pretend


def test_table_has_a_row_for_each_kernel(run: Any, with_triton: Any) -> None:
    with_triton(compiled)
    lines = run("kernels", "--target", "sm_90, sm_80").stdout.splitlines()
    assert len(lines) == 1 + 2 * 6 + 1
    assert lines[0].split()[:3] == ["target", "pass", "dtype"]
    assert lines[4].split()[:4] == ["sm_90", "forward", "bfloat16", "128"]
    assert lines[-1] == "all 12 kernels are within their budgets"


def test_everything_is_more_than_the_few(run_json: Any, with_triton: Any) -> None:
    with_triton(compiled)
    few = run_json("kernels", "--target", "sm_90")["kernels"]
    every = run_json("kernels", "--target", "sm_90", "--all")["kernels"]
    assert len(every) == 3 * 3 * 8 * 5 + 3
    assert {one["pass"] for one in few} == {*PASSES, *OTHERS}


def test_fault_is_named_and_fails(run: Any, with_triton: Any) -> None:
    with_triton(lambda variant: replace(compiled(variant), spill_bytes=4000))
    said = run("kernels", "--target", "sm_90", status=1).stdout
    assert "FAILED sm_90 dq bfloat16 128 +lists: 4000 bytes of stack, at most 16" in said
    assert "within their budgets" not in said


def test_faults_are_data_too(run_json: Any, with_triton: Any) -> None:
    with_triton(lambda variant: replace(compiled(variant), matrix=0))
    data = run_json("kernels", "--target", "sm_90", status=1)
    assert data["versions"] == {"triton": "0"}
    for one in data["kernels"]:
        assert one["faults"] == ["no matrix instructions"] * (one["pass"] in PASSES)


def test_unknown_target_is_wrong_usage(run: Any, with_triton: Any) -> None:
    with_triton(compiled)
    said = run("kernels", "--target", "sm_70", status=2).stderr
    assert "target must be one of sm_80, sm_90, sm_100, gfx942, got 'sm_70'" in said


def test_missing_triton_and_the_interpreter_are_explained(
    run: Any, with_triton: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    assert "pip install 'attnloom[triton]'" in run("kernels", status=1).stderr
    with_triton(compiled)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "unset it" in run("kernels", status=1).stderr

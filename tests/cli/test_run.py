"""`run`: attention on random tensors, checked against the definition."""

from __future__ import annotations

import pytest
import torch

import attnloom
from attnloom.cli.oracle import expected, sample_rows

SMALL = ("run", "longformer", "-n", "200", "--set", "reach=9", "--head-dim", "16")


def test_check_passes_and_says_so(run) -> None:
    text = run(*SMALL, "--check").stdout
    assert "over all rows" in text
    assert text.rstrip().endswith("ok")


def test_json_has_every_figure(run_json) -> None:
    data = run_json(*SMALL, "--check")
    assert data.keys() >= {
        "backend", "device", "dtype", "seconds", "plan_seconds", "max_abs_error", "tolerance",
        "output_shape", "output_finite",
    }  # fmt: skip
    assert data["backend"] == "cpu"
    assert data["output_shape"] == [1, 4, 200, 16]
    assert data["output_finite"] is True
    assert data["max_abs_error"] <= data["tolerance"]


def test_gradients_are_checked_with_backward(run_json) -> None:
    data = run_json(*SMALL, "--check", "--backward", "--heads", "4", "--kv-heads", "2")
    assert data["gradient_errors"].keys() == {"query", "key", "value"}
    for name, error in data["gradient_errors"].items():
        assert error <= data["gradient_tolerances"][name]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_every_dtype_stays_within_its_tolerance(run_json, dtype: str) -> None:
    data = run_json(*SMALL, "--check", "--dtype", dtype, "--backend", "reference")
    assert data["dtype"] == dtype
    assert data["backend"] == "reference"


def test_memory_tokens_make_the_tensors_longer(run_json) -> None:
    data = run_json("run", "memory_transformer", "-n", "50", "--set", "slots=6", "--check")
    assert data["output_shape"][2] == 56
    assert data["memory"] == 6


def test_input_reaches_the_plan(run_json) -> None:
    words = ("run", "longformer_qa", "-n", "100", "--set", "reach=3", "--check")
    few = run_json(*words, "--input", "question=0..2")
    assert few["density"] < run_json(*words, "--input", "question=0..20")["density"]


def test_long_sequence_is_checked_on_a_sample(run, run_json) -> None:
    words = ("run", "longformer", "-n", "5000", "--heads", "1", "--head-dim", "16", "--check")
    result = run(*words)
    assert "256 of 5,000 rows" in result.stdout
    data = run_json(*words, "--backward")
    assert (data["rows_checked"], data["rows"]) == (256, 5000)


def test_same_seed_gives_the_same_error(run_json) -> None:
    first, second, other = (
        run_json(*SMALL, "--check", "--seed", seed)["max_abs_error"] for seed in "112"
    )
    assert first == second != other


@pytest.mark.parametrize("backward", [False, True])
def test_wrong_attention_fails_the_check(run, run_json, monkeypatch, backward: bool) -> None:
    """A backend that lets every query read one key too many."""
    right = attnloom.attention

    def wrong(query, key, value, plan, **options):  # type: ignore[no-untyped-def]
        return right(query, key, value, plan, **options) + 1e-3 * value[:, :, -1:]

    monkeypatch.setattr(attnloom, "attention", wrong)
    words = (*SMALL, "--check", *(["--backward"] if backward else []))
    assert "FAILED" in run(*words, status=1).stdout
    data = run_json(*words, status=1)
    assert data["max_abs_error"] > data["tolerance"]


def test_output_that_is_not_finite_fails(run, run_json, monkeypatch) -> None:
    monkeypatch.setattr(attnloom, "attention", lambda query, *_, **__: query * float("nan"))
    assert "NOT FINITE" in run(*SMALL, status=1).stdout
    assert run_json(*SMALL, "--check", status=1)["max_abs_error"] is None


def test_heads_must_be_shared_evenly(run) -> None:
    assert "--kv-heads" in run(*SMALL, "--heads", "4", "--kv-heads", "3", status=2).stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_device_and_backend_are_explained(run, run_json) -> None:
    assert "no CUDA device" in run(*SMALL, "--device", "cuda", status=1).stderr
    message = run_json(*SMALL, "--backend", "triton", status=1)["diagnostics"][0]["message"]
    assert "triton" in message


def test_oracle_agrees_with_dense_attention_of_torch() -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 4, 30, 8, dtype=torch.float64, requires_grad=True)
    key, value = (
        torch.randn(2, 2, 30, 8, dtype=torch.float64, requires_grad=True) for _ in range(2)
    )
    mask = torch.rand(4, 30, 30) < 0.3
    mask |= torch.eye(30, dtype=torch.bool)
    dense = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, enable_gqa=True
    )
    rows = sample_rows(30, 16, seed=0)
    output_grad = torch.randn(2, 4, len(rows), 8, dtype=torch.float64)
    (dense[:, :, rows] * output_grad).sum().backward()

    found = expected(query, key, value, output_grad, rows, lambda head, at: mask[head, at])
    torch.testing.assert_close(found.output, dense[:, :, rows].detach())
    torch.testing.assert_close(found.query_grad, query.grad)
    torch.testing.assert_close(found.key_grad, key.grad)
    torch.testing.assert_close(found.value_grad, value.grad)


def test_oracle_gives_zero_for_a_row_that_reads_nothing() -> None:
    query = torch.ones(1, 1, 2, 4)
    none = torch.zeros(2, 2, dtype=torch.bool)
    found = expected(query, query, query, query, torch.arange(2), lambda head, at: none[at])
    assert not found.output.any()
    assert not found.key_grad.any()


def test_sampled_rows_are_distinct_and_hold_both_ends() -> None:
    rows = sample_rows(10_000, 256, seed=3)
    assert len(rows.unique()) == 256
    assert {0, 31, 9_968, 9_999} <= set(rows.tolist())

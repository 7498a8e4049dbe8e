"""`shard`: figures that can be worked out by hand."""

from __future__ import annotations

import pytest


def test_window_and_globals_travel_as_worked_out_by_hand(run_json) -> None:
    # A halo of 64 keys on each side, and the four global tokens.
    facts = run_json(
        "shard", "longformer", "-n", "4096", "--ranks", "4", "--block", "32",
        "--set", "reach=64", "--set", "cls=0..4", "--head-dim", "8",
    )  # fmt: skip
    assert facts["tokens"] == {"min": 1024, "mean": 1024, "max": 1024}
    assert facts["received_tokens"] == {"min": 64, "mean": 99, "max": 132}
    assert facts["long_queries"] == 4
    key, query, answer = 2 * 8 * 2, 8 * 2, 9 * 4  # 8 numbers of 2 bytes; 9 of 4
    # Process 1: keys from both sides and the long queries; then gradients of what it gave.
    assert facts["bytes"]["max"] == 132 * key + 4 * query + 128 * key + 4 * answer
    assert facts["bytes"]["all_gather"] == 2 * 3072 * key
    assert facts["tiles"]["uneven"] < 1.1
    assert facts["per_rank"]["received_tokens"] == [64, 132, 132, 68]
    assert max(facts["per_rank"]["bytes"]) == facts["bytes"]["max"]
    assert facts["per_rank"]["tokens"] == [1024] * 4


def test_heads_count_for_work_as_for_traffic(run_json) -> None:
    options = ("shard", "mistral", "-n", "65536", "--ranks", "4", "--heads")
    few, many = (run_json(*options, heads)["predicted"] for heads in ("1", "8"))
    assert many["alone_seconds"] == 8 * few["alone_seconds"]
    assert abs(many["speedup"] / few["speedup"] - 1) < 1e-9


def test_one_process_receives_nothing(run_json) -> None:
    facts = run_json("shard", "bert", "-n", "300", "--ranks", "1")
    assert facts["received_tokens"]["max"] == facts["bytes"]["max"] == 0
    assert facts["bytes"]["of_all_gather"] == 0
    assert facts["predicted"]["speedup"] == 1


def test_causal_rows_are_divided_evenly(run_json) -> None:
    facts = run_json("shard", "decoder", "-n", "65536", "--ranks", "8")
    assert facts["tiles"]["uneven"] < 1.1


def test_units_grow_with_very_long_sequences(run_json) -> None:
    facts = run_json("shard", "longformer", "-n", str(1 << 24), "--ranks", "64")
    assert facts["block"] == 256
    assert facts["received_tokens"]["max"] == 2 * 256 + 1


def test_a_dilated_window_is_divided_by_residues(run_json, tmp_path) -> None:
    path = tmp_path / "dilated.attn"
    path.write_text("pattern dilated { window(each_side=64, dilation=8) }")
    options = ("-n", "4096", "--ranks", "4", "--block", "64")
    facts = run_json("shard", str(path), *options)
    assert facts["order"] == "residues of 8"
    assert facts["received_tokens"]["max"] == facts["bytes"]["max"] == 0
    facts = run_json("shard", str(path), *options, "--no-reorder")
    assert facts["order"] == "positions"
    assert facts["received_tokens"]["max"] == 2 * 64 * 8


def test_more_processes_than_units_are_a_usage_error(run) -> None:
    assert "smaller block" in run("shard", "bert", "-n", "200", "--ranks", "8", status=2).stderr


def test_it_prints_what_travels(run) -> None:
    text = run("shard", "mistral", "-n", "16384", "--ranks", "2").stdout
    assert "keys of 0 to 4,095 tokens" in text
    assert "of all-gather or ring" in text


@pytest.mark.slow
def test_the_longest_sequences_are_divided_over_many_processes_in_seconds(run_json) -> None:
    facts = run_json("shard", "longformer", "-n", str(1 << 27), "--ranks", "1024")
    assert facts["received_tokens"]["max"] == 2 * 256 + 1
    assert facts["seconds"] < 10

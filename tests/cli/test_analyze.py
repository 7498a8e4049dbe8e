"""`analyze`: its text, its JSON, its options, and what it says while it works."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import attnloom
from attnloom.cli import progress
from attnloom.cli.progress import Progress
from attnloom.compiler.analysis.as_text import as_text

KEYS = {
    "pattern", "n", "memory", "layers", "causal", "work", "reach", "route", "hubs", "narrow",
    "cost", "warnings", "method",
}  # fmt: skip
LABEL = re.compile(r"\[(exact|sampled \([\d,]+ (readers|pairs)|bounds|upper bound|unknown)\b.*\]$")


@pytest.mark.parametrize(
    "words",
    [
        ("longformer", "-n", "4096", "--layers", "12"),
        ("streaming_llm", "-n", "4096"),
        ("gemma3", "-n", "5000", "--layers", "6"),
        ("random_links", "-n", "3000", "--heads", "2"),
        ("memory_transformer", "-n", "100"),
        ("swin", "-n", "4096"),
    ],
)
def test_every_line_with_a_number_says_how_it_was_found(run, words: tuple[str, ...]) -> None:
    lines = run("analyze", *words).stdout.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("Work"))
    assert at >= 2
    for line in lines[at:]:
        assert LABEL.search(line) or line.endswith("nothing to warn of"), line
    titles = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert titles == [
        one for one in ("Pattern", "Work", "Reach", "Route", "Hubs", "Narrow", "Cost", "Warn")
        if one in titles
    ]  # fmt: skip


def test_text_has_the_figures_of_the_published_pattern(run) -> None:
    text = run("analyze", "longformer", "-n", "4096", "--layers", "12").stdout
    for fact in (
        "reads 2,043,134 of 16,777,216 pairs (12.2 %)",
        "[i-256, i+256] (513 keys)",
        "1: 12.2 %   2: 87.8 %",
        "mean 1.878, worst 2",
        "0 (87.4 %)",
        "without hubs: mean 5.842, worst 16",
        "257 (0, 2..258)",
        "in 12 layers: 11",
        "O(n*reach + count(cls)*n)",
        "W201",
    ):
        assert fact in text


def test_json_has_the_keys_of_the_report_and_no_others_of_its_own(run_json) -> None:
    data = run_json("analyze", "mistral", "-n", "10000")
    report = attnloom.load("mistral").analyze(10000).to_dict()
    assert data.keys() >= KEYS
    assert {key: data[key] for key in report} == report
    assert data.keys() - report.keys() == {"ok", "diagnostics"}
    assert data["method"]["exact"] is True


def test_text_of_the_command_is_that_of_the_report(run) -> None:
    report = attnloom.load("mistral").analyze(1000)
    assert run("analyze", "mistral", "-n", "1000").stdout == f"{report}\n"
    assert str(report).splitlines() == list(map(str, as_text(report)))


def test_pair_shows_the_reason_for_each_step(run, run_json, write: Callable[..., Path]) -> None:
    path = write("pattern p { window(each_side=4)\nglobal(501) }")
    text = run("analyze", path, "-n", "1001", "--pair", "0", "1000").stdout
    assert "0 -> 1000: 2 hops" in text
    assert "0 -> 501 by global -> 1000 by global" in text
    route = run_json(
        "analyze", path, "-n", "1001", "--pair", "0", "1000", "--without", "globals"
    )["route"]  # fmt: skip
    assert route["hops"] == len(route["path"]) == 250


def test_pair_of_a_stack_tells_arrival_from_hops(run_json, write: Callable[..., Path]) -> None:
    path = write("pattern p { when layer == 3 { causal } else { window(last=11) } }")
    route = run_json("analyze", path, "-n", "200", "--layers", "4", "--pair", "0", "20")["route"]
    assert (route["hops"], route["arrival_layer"]) == (1, 2)


def test_memory_tokens_have_names(run_json) -> None:
    words = ("analyze", "memory_transformer", "-n", "64", "--pair", "m9", "3")
    assert run_json(*words)["route"]["source"] == "m9"


def test_cut_between_named_sets(run_json, write: Callable[..., Path]) -> None:
    path = write("pattern p { window(each_side=3) }")
    words = ("--from", "0..10", "--to", "last 20", "--layers", "4")
    narrow = run_json("analyze", path, "-n", "100", *words)["narrow"]
    assert narrow["token_cut"] == 3
    assert narrow["token_cut_ends"] == {"from": [[0, 9]], "to": [[80, 99]]}


def test_heads_are_united(run_json, write: Callable[..., Path]) -> None:
    path = write("pattern p { when head == 0 { window(last=2) } else { causal } }")
    assert run_json("analyze", path, "-n", "50")["reach"]["worst_hops"] == 49
    assert run_json("analyze", path, "-n", "50", "--heads", "2")["reach"]["worst_hops"] == 1


def test_strict_fails_on_warnings_and_not_on_notes(run, write: Callable[..., Path]) -> None:
    apart = write("pattern p { chunks(64) }")
    run("analyze", apart, "-n", "512")
    assert "--strict" in run("analyze", apart, "-n", "512", "--strict", status=1).stderr
    star = run("analyze", write("pattern q { full }"), "-n", "512", "--strict")
    assert "I401" in star.stdout


def test_strict_json_is_not_ok(run_json, write: Callable[..., Path]) -> None:
    data = run_json("analyze", write("pattern p { chunks(64) }"), "-n", "512", "--strict", status=1)
    assert data["warnings"][0]["code"] == "W101"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--from", "0..3"), "--from and --to belong together"),
        (("--from", "0..3", "--to", "70..80"), "--from and --to must hold a token"),
        (("--pair", "0", "64"), "--pair wants a token below 64, got '64'"),
        (("--pair", "m0", "6"), "--pair wants a token below 64, got 'm0'"),
        (("--samples", "1"), "--samples"),
        (("--layers", "0"), "--layers"),
    ],
)
def test_wrong_option_is_named(run, words: tuple[str, ...], message: str) -> None:
    assert message in run("analyze", "local", "-n", "64", *words, status=2).stderr


def test_unknown_tokens_are_a_diagnostic(run_json) -> None:
    data = run_json("analyze", "local", "-n", "64", "--without", "globbals", status=1)
    assert data["diagnostics"][0]["slug"] == "unknown-name"


# --- progress ------------------------------------------------------------------------------------


def noted(monkeypatch: pytest.MonkeyPatch, patience: float, work: float, **options: Any) -> None:
    monkeypatch.setattr(progress, "PATIENCE", patience)
    with Progress(**options) as shown:
        shown.note("counting sheep")
        time.sleep(work)


def test_long_work_is_told_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    noted(monkeypatch, 0.01, 0.3)
    said = capsys.readouterr()
    assert said.err.count("counting sheep ... (") == 1
    assert said.out == ""


def test_short_work_is_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    noted(monkeypatch, 5, 0.01)
    noted(monkeypatch, 0.01, 0.1, is_shown=False)
    assert capsys.readouterr() == ("", "")

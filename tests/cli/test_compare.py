"""`compare` and `sweep`: rows side by side, differences, combinations, and the picture."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

import attnloom
from attnloom.compiler.analysis.facts import facts


def test_rows_are_the_facts_of_each_pattern(run_json) -> None:
    data = run_json("compare", "longformer", "mistral", "-n", "2000", "--layers", "3")
    reports = [attnloom.load(name).analyze(2000, layers=3) for name in ("longformer", "mistral")]
    expected = [facts(report) for report in reports]
    assert [row["name"] for row in data["rows"]] == [one.name for one in expected[0]]
    for row, *found in zip(data["rows"], *expected, strict=True):
        assert row["values"] == [one.value for one in found]
        assert row["how"] == [one.label for one in found]
    assert [one["pattern"] for one in data["reports"]] == ["longformer", "mistral"]


def test_differences_are_to_the_first(run_json) -> None:
    names = ("local", "local:reach=20", "local:reach=40")
    data = run_json("compare", *names, "-n", "500", "--set", "reach=10")
    reads = next(row for row in data["rows"] if row["name"] == "reads")
    expected = [500 * (2 * w + 1) - w * (w + 1) for w in (10, 20, 40)]
    assert reads["values"] == expected
    assert reads["differences"] == [one - expected[0] for one in expected[1:]]
    assert data["names"] == list(names)


def test_table_has_a_column_each_and_one_for_the_difference(run) -> None:
    text = run("compare", "local:reach=1", "local:reach=2", "-n", "10").stdout
    lines = text.splitlines()
    assert lines[1].split() == ["local:reach=1", "local:reach=2", "difference", "how"]
    reads = next(line for line in lines if line.startswith("reads "))
    assert reads.split() == ["reads", "28", "44", "+16", "(x1.57)", "exact,", "zones"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("compare", "local", "-n", "9"), "two patterns or more"),
        (("compare", "local", "bert", "-n", "9", "--set", "raech=1"), "Did you mean reach?"),
        (("compare", "local", "brt", "-n", "9"), "Did you mean bert?"),
        (("sweep", "local", "--vary", "reach"), "--vary wants NAME=V1,V2"),
        (("sweep", "local", "--vary", "n=1,x"), "--vary n wants numbers"),
        (("sweep", "local", "--vary", "reach=1", "--vary", "reach=2"), "twice"),
        (("sweep", "local", "--vary", "reach=" + ",".join(map(str, range(1, 1002)))), "1,001"),
    ],
)
def test_wrong_words_are_named(run, words: tuple[str, ...], message: str) -> None:
    assert message in run(*words, status=2).stderr


def test_sweep_makes_all_combinations(run_json) -> None:
    data = run_json("sweep", "local", "--vary", "reach=1,2,4", "--vary", "n=64,128")
    assert len(data["points"]) == 6
    for point in data["points"]:
        n, w = int(point["settings"]["n"]), int(point["settings"]["reach"])
        assert point["figures"]["reads"] == n * (2 * w + 1) - w * (w + 1)
        assert point["figures"]["worst_hops"] == -(-(n - 1) // w)
        assert point["report"]["n"] == n


def test_sweep_takes_token_sets(run_json) -> None:
    data = run_json("sweep", "longformer", "--vary", "cls=[0, 9];first 4", "-n", "100")
    assert [one["settings"]["cls"] for one in data["points"]] == ["[0, 9]", "first 4"]


def test_sweep_over_layers_changes_the_coverage(run_json) -> None:
    data = run_json("sweep", "local", "--vary", "layers=2,4", "-n", "64", "--set", "reach=8")
    shares = [one["figures"]["coverage"] for one in data["points"]]
    assert shares[0] < shares[1] < 1


def test_sweep_draws_a_picture(run, tmp_path: Path) -> None:
    path = tmp_path / "sweep.svg"
    done = run("sweep", "longformer", "--vary", "reach=2,4,8", "-n", "200", "--plot", path)
    assert "wrote" in done.stderr
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    tips = [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}title")]
    for w in (2, 4, 8):
        reads = attnloom.load("longformer", reach=w).reads(200)
        assert f"{w}: {reads:,}" in tips


def test_unknown_parameter_is_a_diagnostic(run_json, write: Callable[..., Path]) -> None:
    path = write("pattern p(w = 3) { window(each_side=w) }")
    data = run_json("sweep", path, "--vary", "v=1,2", status=1)
    assert "v" in data["diagnostics"][0]["message"]

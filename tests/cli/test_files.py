"""`fmt` and `list`."""

from __future__ import annotations

from pathlib import Path

import pytest

import attnloom

GOOD = "pattern p {\n    window(each_side=2)\n}\n"
UGLY = "pattern  p{window( each_side = 2 )}"


def test_fmt_writes_in_place_and_is_then_content(run, write) -> None:
    path = write(UGLY)
    assert f"formatted {path}" in run("fmt", path).stderr
    assert path.read_text(encoding="utf-8") == GOOD
    assert run("fmt", "--check", path).stderr == ""


def test_fmt_check_writes_nothing(run, run_json, write) -> None:
    path = write(UGLY)
    assert f"would format {path}" in run("fmt", "--check", path, status=1).stderr
    assert run_json("fmt", "--check", path, status=1)["changed"] == [str(path)]
    assert path.read_text(encoding="utf-8") == UGLY


def test_fmt_dash_is_a_filter(run) -> None:
    assert run("fmt", "-", text=UGLY).stdout == GOOD


def test_fmt_leaves_a_broken_file_alone(run, write) -> None:
    path = write("pattern p {")
    run("fmt", path, status=1)
    assert path.read_text(encoding="utf-8") == "pattern p {"


def test_fmt_refuses_what_is_not_text(run, tmp_path: Path) -> None:
    path = tmp_path / "p.attn"
    path.write_bytes(b"\xff\xfe\x00")
    assert "pattern files are UTF-8" in run("fmt", path, status=1).stderr


def test_bundled_files_are_formatted(run) -> None:
    run("fmt", "--check", *sorted((Path(__file__).parents[2] / "patterns").glob("*.attn")))


def test_list_names_every_bundled_pattern(run, run_json) -> None:
    text = run("list").stdout
    assert all(name in text for name in attnloom.bundled())
    entries = {entry["name"]: entry for entry in run_json("list")["patterns"]}
    assert set(entries) == set(attnloom.bundled())
    assert entries["longformer"]["parameters"]["reach"] == 256
    assert entries["longformer_qa"]["inputs"] == {"question": "tokens"}
    assert entries["longformer"]["family"] == "globals"
    assert not entries["longformer"]["causal"]


def test_list_is_a_table_of_families_costs_and_hops(run) -> None:
    head, *rows = run("list").stdout.rstrip().split("\n")
    assert head.split()[:7] == ["pattern", "family", "causal", "cost", "n", "reads", "hops"]
    found = {row.split()[0]: row.rstrip() for row in rows}
    assert found["mistral"].split()[1:4] == ["windows", "yes", "O(n*recent)"]
    assert "yes" not in found["longformer"].split()
    assert found["longformer"].endswith("arXiv:2004.05150)")


def test_list_shows_what_the_analysis_finds(run, run_json) -> None:
    n = 16384
    window = attnloom.load("mistral").analyze(n)
    entries = {entry["name"]: entry["found"] for entry in run_json("list")["patterns"]}
    assert entries["mistral"]["n"] == n
    assert entries["mistral"]["hops"] == window.hops.worst == 5
    assert entries["swin"]["hops"] is None
    assert entries["mistral"]["density"] == window.work.density
    row = next(row for row in run("list").stdout.split("\n") if row.startswith("mistral "))
    assert row.split()[4:8] == ["16,384", "21.9", "%", "5"]


@pytest.mark.parametrize("name", attnloom.bundled())
def test_every_bundled_pattern_can_be_drawn(run, tmp_path: Path, name: str) -> None:
    links = tmp_path / "links.json"
    links.write_text(str([[]] * 24), encoding="utf-8")
    values = {"tokens": "0..3", "segments": "lengths:10,14", "links": str(links)}
    inputs = attnloom.load(name).inputs
    words = [f"--input={key}={values[kind]}" for key, kind in inputs.items()]
    assert "pairs (" in run("show", name, "-n", "24", *words).stdout

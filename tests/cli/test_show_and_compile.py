"""`show` and `compile`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import attnloom

FIGURES = {
    "pattern", "n", "memory", "heads", "layer", "block", "reads", "pairs", "density", "blocks",
    "unique_masks", "layouts", "plan_bytes", "seconds",
}  # fmt: skip


def test_short_sequence_is_drawn_pair_by_pair(run) -> None:
    picture = run("show", "local", "-n", "5", "--set", "reach=1").stdout.split("\n\n")[1]
    assert picture == (
        "█ █ · · ·\n"
        "█ █ █ · ·\n"
        "· █ █ █ ·\n"
        "· · █ █ █\n"
        "· · · █ █\n"
    )  # fmt: skip


def test_header_expands_the_window_and_counts(run) -> None:
    text = run("show", "longformer", "-n", "4096").stdout
    assert "[i-256, i+256] (513 keys)" in text
    assert "2,043,134 of 16,777,216 pairs (12.18 %)" in text


def test_long_sequence_keeps_its_thin_global_row(run) -> None:
    lines = run("show", "longformer", "-n", "100000").stdout.split("\n\n")[1].splitlines()
    assert "░" in lines[0]
    assert len(lines[0]) == 2 * len(lines), "the first row of cells is never empty"
    assert all(line[0] in "░▒▓█" for line in lines), "nor is the first column"


def test_show_picks_head_and_layer(run) -> None:
    words = ("show", "gemma3", "-n", "8", "--set", "recent=1")
    assert run(*words).stdout.count("█") == 8
    assert run(*words, "--layer", "5").stdout.count("█") == 36
    heads = [
        run("show", "bigbird", "-n", "40", "--set", "size=1", "--heads", "2", "--head", h)
        for h in "01"
    ]
    assert heads[0].stdout != heads[1].stdout


@pytest.mark.parametrize("length", [30, 5000])
def test_cells_average_to_the_density(run_json, length: int) -> None:
    data = run_json("show", "local", "-n", str(length), "--set", "reach=7")
    cells = np.array(data["cells"])
    edges = np.arange(len(cells) + 1) * length // len(cells)
    areas = np.multiply.outer(np.diff(edges), np.diff(edges))
    assert (cells * areas).sum() == pytest.approx(data["reads"])


def test_memory_tokens_are_part_of_the_picture(run) -> None:
    text = run("show", "memory_transformer", "-n", "4", "--set", "slots=2").stdout
    assert "4 tokens + 2 memory" in text
    assert text.count("█") == 36


def test_png_is_written(run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "picture.png"
    assert "wrote" in run("show", "bigbird", "-n", "3000", "--png", path).stderr
    assert path.read_bytes().startswith(b"\x89PNG")


def test_png_into_nowhere_is_an_error(run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "none" / "picture.png"
    assert "cannot write" in run("show", "local", "--png", path, status=1).stderr


def test_compile_reports_every_figure(run_json) -> None:
    data = run_json("compile", "longformer", "-n", "4096")
    assert data.keys() >= FIGURES
    assert data["reads"] == 2_043_134
    assert data["pairs"] == 4096**2
    assert data["density"] == pytest.approx(data["reads"] / data["pairs"])
    blocks = data["blocks"]
    assert blocks["full"] + blocks["partial"] + blocks["empty"] == blocks["total"] == 32**2
    assert data["block"] == 128


def test_compile_counts_over_the_heads(run_json) -> None:
    one = run_json("compile", "longformer", "-n", "1000")
    four = run_json("compile", "longformer", "-n", "1000", "--heads", "4")
    assert four["reads"] == 4 * one["reads"]
    assert four["blocks"] == {kind: 4 * count for kind, count in one["blocks"].items()}
    assert four["layouts"] == 1, "equal heads share a layout"


def test_compile_takes_another_block(run_json) -> None:
    data = run_json("compile", "bert", "-n", "100", "--block", "32")
    assert data["block"] == 32
    assert data["blocks"]["total"] == 16


def test_compile_prints_a_table_for_people(run) -> None:
    text = run("compile", "longformer", "-n", "4096").stdout
    assert "2,043,134 of 16,777,216 pairs (12.18 %)" in text


def test_tree_is_the_file_as_parsed(run, run_json) -> None:
    text = run("compile", "local", "-n", "9", "--emit", "tree").stdout
    assert text.startswith("File\n")
    assert "Call name='window'" in text
    assert run_json("compile", "local", "-n", "9", "--emit", "tree")["tree"] == text.splitlines()


def test_tree_of_standard_input(run) -> None:
    text = run("compile", "-", "-n", "9", "--emit", "tree", text="pattern p { causal }").stdout
    assert "Name name='causal'" in text


def test_relation_lists_the_links(run) -> None:
    text = run("compile", "longformer", "-n", "9", "--emit", "relation").stdout
    assert text.splitlines() == attnloom.load("longformer").bind(9).describe()


def test_blocks_lists_the_tiles_of_each_row(run, run_json) -> None:
    words = ("compile", "mistral", "-n", "64", "--block", "16", "--emit", "blocks")
    assert run(*words).stdout.splitlines()[1] == "     1: full 0, partial 1"
    rows = run_json(*words)["rows"]
    assert rows[2] == [[0, "full"], [1, "full"], [2, "partial"]]

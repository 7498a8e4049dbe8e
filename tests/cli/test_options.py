"""How names, settings and inputs are read, and what is said when they are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnloom.cli.options import read_settings

SEGMENTS = "pattern p { input doc: segments; same(doc) }"
LINKS = "pattern p { input picks: links; links(picks) }"


def test_settings_are_numbers_truth_values_or_text() -> None:
    settings = read_settings(["a=64", "b=-1", "c=true", "d=false", "e=first 2", "f=0..4"])
    assert settings == {"a": 64, "b": -1, "c": True, "d": False, "e": "first 2", "f": "0..4"}


@pytest.mark.parametrize("wrong", ["reach", "=3", "reach="])
def test_setting_without_name_or_value_is_a_usage_error(run, wrong: str) -> None:
    assert "NAME=VALUE" in run("show", "local", "--set", wrong, status=2).stderr


def test_setting_given_twice_is_a_usage_error(run) -> None:
    result = run("show", "local", "--set", "reach=1", "--set", "reach=2", status=2)
    assert "twice" in result.stderr


def test_settings_reach_the_pattern(run_json) -> None:
    data = run_json("compile", "local", "-n", "100", "--set", "reach=1")
    assert data["reads"] == 298
    data = run_json("compile", "longformer", "-n", "9", "--set", "cls=[0, 8]", "--set", "reach=1")
    assert data["reads"] == 81 - 2 * sum(range(6))


def test_unknown_setting_is_an_error_with_a_hint(run) -> None:
    result = run("compile", "local", "-n", "100", "--set", "raech=1", status=1)
    assert "reach" in result.stderr
    assert "Traceback" not in result.stderr


def test_setting_out_of_its_kind_is_an_error(run, run_json) -> None:
    run("compile", "local", "-n", "100", "--set", "reach=first 3", status=1)
    assert run_json("compile", "local", "-n", "9", "--set", "reach=true", status=1)["diagnostics"]


def test_misspelt_pattern_gets_a_suggestion(run, run_json) -> None:
    assert "Did you mean longformer?" in run("show", "longfromer", status=2).stderr
    data = run_json("show", "longfromer", status=2)
    assert "Did you mean longformer?" in data["diagnostics"][0]["message"]


def test_misspelt_path_gets_a_suggestion(run, write) -> None:
    path = write("pattern p { full }", "window.attn")
    wrong = path.with_name("widnow.attn")
    assert f"Did you mean {path}?" in run("show", wrong, status=2).stderr.replace("\n", "")


def test_misspelt_command_gets_a_suggestion(run) -> None:
    assert "Did you mean compile?" in run("compil", status=2).stderr


def test_folder_is_not_a_pattern(run, tmp_path: Path) -> None:
    assert "is a folder" in run("show", f"{tmp_path}/", status=2).stderr


@pytest.mark.parametrize("length", ["0", "-4", "many"])
def test_length_must_be_a_positive_number(run, length: str) -> None:
    run("compile", "local", "-n", length, status=2)


def test_length_is_required_to_compile(run, run_json) -> None:
    assert "--length" in run("compile", "local", status=2).stderr
    assert "--length" in run_json("compile", "local", status=2)["diagnostics"][0]["message"]


def test_head_and_layer_must_exist(run) -> None:
    assert "--heads 3" in run("show", "local", "--head", "2", "--heads", "2", status=2).stderr
    assert "--layers 7" in run("show", "local", "--layer", "6", "--layers", "6", status=2).stderr


def test_missing_input_is_named_with_an_example(run) -> None:
    result = run("compile", "longformer_qa", "-n", "64", status=2)
    assert "--input question=0..16" in result.stderr


def test_unknown_input_gets_a_suggestion(run) -> None:
    result = run("compile", "longformer_qa", "-n", "64", "--input", "qestion=0..3", status=2)
    assert "Did you mean question?" in result.stderr


def test_tokens_input_is_a_token_set(run_json) -> None:
    words = ("compile", "longformer_qa", "-n", "40", "--set", "reach=1")
    few = run_json(*words, "--input", "question=0")["reads"]
    more = run_json(*words, "--input", "question=[0, 5..8]")["reads"]
    assert few < more


@pytest.mark.parametrize("text", ["lengths:3,2", "0,0,0,1,1", "7, 7, 7, 2, 2"])
def test_segments_are_lengths_or_ids(run_json, write, text: str) -> None:
    path = write(SEGMENTS)
    assert run_json("compile", path, "-n", "5", "--input", f"doc={text}")["reads"] == 9 + 4


@pytest.mark.parametrize("text", ["lengths:3,3", "0,0", "a,b", "lengths:-1,6"])
def test_wrong_segments_are_usage_errors(run, write, text: str) -> None:
    result = run("compile", write(SEGMENTS), "-n", "5", "--input", f"doc={text}", status=2)
    assert "--input doc" in result.stderr


def test_links_come_from_a_json_file(run_json, write, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps([[0], [0, 1], []]), encoding="utf-8")
    data = run_json("compile", write(LINKS), "-n", "3", "--input", f"picks={keys}")
    assert data["reads"] == 3


@pytest.mark.parametrize("text", ["[[0]]", "[1, 2, 3]", "{", '[["a"], [], []]'])
def test_wrong_links_are_usage_errors(run, write, tmp_path: Path, text: str) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(text, encoding="utf-8")
    result = run("compile", write(LINKS), "-n", "3", "--input", f"picks={keys}", status=2)
    assert "--input picks" in result.stderr

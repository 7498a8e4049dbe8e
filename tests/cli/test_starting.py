"""`new`: a pattern file from a bundled one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import attnloom
from attnloom.grammar import format_source


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_new_writes_a_bundled_pattern_under_another_name(run) -> None:
    assert "wrote mine.attn" in run("new", "mine", "--from", "bigbird").stderr
    mine, base = attnloom.load("mine.attn"), attnloom.load("bigbird")
    assert mine.name == "mine"
    assert (mine.params, mine.contracts) == (base.params, base.contracts)
    assert np.array_equal(mine.mask(300), base.mask(300))
    run("check", "mine.attn")


def test_new_begins_with_longformer_unless_told_otherwise(run, run_json) -> None:
    data = run_json("new", "mine")
    assert (data["file"], data["pattern"], data["from"]) == ("mine.attn", "mine", "longformer")
    assert attnloom.load("mine.attn").params == attnloom.load("longformer").params


@pytest.mark.parametrize("base", attnloom.bundled())
def test_new_file_is_formatted_and_says_where_it_is_from(run, base: str) -> None:
    run("new", "mine", "--from", base)
    text = Path("mine.attn").read_text(encoding="utf-8")
    assert text.startswith(f"# mine, from the bundled {base}:\n")
    assert format_source(text, name="mine.attn") == text
    assert attnloom.load("mine.attn").doc.strip().endswith(attnloom.load(base).doc.strip())


def test_new_leaves_a_file_alone_that_is_there_already(run) -> None:
    Path("mine.attn").write_text("mine", encoding="utf-8")
    assert "is there already" in run("new", "mine", status=2).stderr
    assert Path("mine.attn").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("9lives", "does not begin with a digit"),
        ("a-b", "letters, digits and _"),
        ("../mine", "letters, digits and _"),
        ("mine.attn", ".attn is added"),
        ("p { full } pattern q", "letters, digits and _"),
        ("window", "is a primitive"),
        ("only", "a word of the language"),
        ("bert", "the name of a bundled pattern"),
    ],
)
def test_new_refuses_what_cannot_be_a_name(run, name: str, why: str) -> None:
    assert why in run("new", name, status=2).stderr
    assert not list(Path().iterdir())


def test_new_suggests_a_pattern_that_is_there(run) -> None:
    result = run("new", "mine", "--from", "longfromer", status=2)
    assert "Did you mean longformer?" in result.stderr


def test_new_answers_in_json_when_it_fails(run_json) -> None:
    data = run_json("new", "window", status=2)
    assert data["diagnostics"][0]["slug"] == "usage"

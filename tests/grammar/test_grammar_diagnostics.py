"""What a diagnostic is, how it is shown, and what programs get."""

from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from attnloom.grammar import (
    Diagnostic,
    InternalError,
    Note,
    PatternError,
    Source,
    Span,
    did_you_mean,
    parse,
    register,
    render,
    to_json,
)
from attnloom.grammar.diagnostics import SLUGS, SYNTAX_SLUGS

TEXT = "pattern p {\n    windw(8)\n    only x\n}\n"
SOURCE = Source("p.attn", TEXT)


def diagnostic(start: int, stop: int, label: str = "here", **more: object) -> Diagnostic:
    return Diagnostic("syntax", "something is wrong", label, Span(start, stop), SOURCE, **more)  # type: ignore[arg-type]


# --- text ----------------------------------------------------------------------------------------


def test_diagnostic_shows_place_line_mark_and_hints() -> None:
    found = render(diagnostic(16, 21, hints=("did you mean `window`?", "or `n`")))
    assert found.splitlines() == [
        "error[syntax]: something is wrong",
        "  --> p.attn:2:5",
        "   |",
        " 2 |     windw(8)",
        "   |     ^^^^^ here",
        "   |",
        "help: did you mean `window`?",
        "help: or `n`",
    ]


def test_note_shows_a_second_place() -> None:
    note = Note("in this pattern", Span(8, 9), SOURCE)
    assert render(diagnostic(34, 35, notes=(note,))).splitlines()[-3:] == [
        "   |",
        " 1 | pattern p {",
        "   |         - in this pattern",
    ]


def test_note_in_another_file_names_that_file() -> None:
    note = Note("defined here", Span(8, 9), Source("q.attn", "pattern q {}"))
    assert "  ::: q.attn:1:9" in render(diagnostic(34, 35, notes=(note,))).splitlines()


def test_numbers_of_lines_stand_in_one_column() -> None:
    text = "\n" * 98 + "ab\ncd"
    source = Source("long.attn", text)
    note = Note("first", Span(98, 100), source)
    found = Diagnostic("syntax", "m", "second", Span(101, 103), source, notes=(note,))
    assert render(found).splitlines()[1:] == [
        "    --> long.attn:100:1",
        "     |",
        " 100 | cd",
        "     | ^^ second",
        "     |",
        "  99 | ab",
        "     | -- first",
    ]


def test_empty_label_leaves_no_blank_at_the_line_end() -> None:
    assert all(line == line.rstrip() for line in render(diagnostic(16, 21, "")).splitlines())


def test_source_without_text_shows_no_line() -> None:
    found = Diagnostic("cannot-read", "no file", "", Span(0, 0), Source("x.attn", ""))
    assert render(found) == "error[cannot-read]: no file\n --> x.attn:1:1".replace(" -->", "  -->")


def test_control_characters_reach_no_terminal() -> None:
    source = Source("a\x1b[31m.attn", "x\x1b[2Jy")
    found = Diagnostic("syntax", "\x1b[1m", "\x07", Span(0, 1), source, hints=("\u202e",))
    assert render(found).isprintable() is False  # it has line breaks
    assert all(line.isprintable() for line in render(found).splitlines())


# --- data ----------------------------------------------------------------------------------------


def test_json_has_every_fact_once() -> None:
    note = Note("in this pattern", Span(8, 9), SOURCE)
    found = to_json(
        diagnostic(16, 21, hints=("h",), notes=(note,), found="`windw`", expected=("`window`",))
    )
    assert json.loads(json.dumps(found)) == {
        "slug": "syntax",
        "message": "something is wrong",
        "label": "here",
        "file": "p.attn",
        "span": {"start": 16, "stop": 21},
        "start": {"line": 2, "column": 5},
        "stop": {"line": 2, "column": 10},
        "found": "`windw`",
        "expected": ["`window`"],
        "hints": ["h"],
        "notes": [
            {
                "label": "in this pattern",
                "file": "p.attn",
                "span": {"start": 8, "stop": 9},
                "start": {"line": 1, "column": 9},
                "stop": {"line": 1, "column": 10},
            }
        ],
    }


def test_json_of_a_span_over_lines_has_both_ends() -> None:
    found = to_json(diagnostic(16, 30))
    assert found["start"] == {"line": 2, "column": 5}
    assert found["stop"] == {"line": 3, "column": 6}


def test_diagnostic_is_frozen_and_hashable() -> None:
    one = diagnostic(16, 21)
    with pytest.raises(FrozenInstanceError):
        one.slug = "other"  # type: ignore[misc]
    assert len({one, diagnostic(16, 21)}) == 1


# --- errors --------------------------------------------------------------------------------------


def test_error_shows_all_its_diagnostics() -> None:
    one, other = diagnostic(16, 21), diagnostic(34, 35)
    error = PatternError(iter([one, other]))
    assert error.diagnostics == (one, other)
    assert str(error) == f"{render(one)}\n\n{render(other)}"
    assert isinstance(error, ValueError)


def test_error_travels_between_processes() -> None:
    error = PatternError([diagnostic(16, 21)])
    copy = pickle.loads(pickle.dumps(error))
    assert copy.diagnostics == error.diagnostics
    assert str(copy) == str(error)


def test_error_of_the_parser_carries_its_source() -> None:
    with pytest.raises(PatternError) as caught:
        parse("pattern p {\n    let = 3\n}\n", name="mine.attn")
    (found,) = caught.value.diagnostics
    assert found.source.name == "mine.attn"
    assert found.source.slice(found.span) == "="
    assert found.found == "`=`"
    assert found.expected == ("a name",)


def test_internal_error_is_no_users_mistake_and_asks_for_a_report() -> None:
    assert not issubclass(InternalError, PatternError | ValueError)
    assert "please report it" in str(InternalError("broken"))


# --- slugs ---------------------------------------------------------------------------------------


def test_slug_must_be_registered() -> None:
    with pytest.raises(InternalError, match="not registered"):
        Diagnostic("no-such-slug", "m", "l", Span(0, 0), SOURCE)


@pytest.mark.parametrize("slug", ["", "Upper", "under_score", "two--dashes", "-", "end-", "a b"])
def test_slug_is_kebab_case(slug: str) -> None:
    with pytest.raises(InternalError, match="kebab-case"):
        register(slug, "a meaning")
    assert slug not in SLUGS


def test_slug_keeps_its_meaning() -> None:
    assert register("syntax", SLUGS["syntax"]) == "syntax"
    with pytest.raises(InternalError, match="registered twice"):
        register("syntax", "another meaning")


def test_every_slug_is_used_by_the_code_of_this_layer() -> None:
    folder = Path(__file__).parents[2] / "grammar"
    code = "".join(
        path.read_text(encoding="utf-8")
        for path in folder.glob("*.py")
        if path.name != "diagnostics.py"
    )
    assert {slug for slug in SYNTAX_SLUGS if f'"{slug}"' not in code} == set()


# --- guesses -------------------------------------------------------------------------------------


def test_guess_names_the_closest_two_at_most() -> None:
    assert did_you_mean("windw", ["window", "global"]) == ("did you mean `window`?",)
    assert len(did_you_mean("abcd", ["abce", "abcf", "abcg", "abch"])) == 2


def test_guess_does_not_mind_capitals() -> None:
    assert did_you_mean("WINDOW", ["window"]) == ("did you mean `window`?",)


def test_guess_is_the_same_for_any_order_of_the_candidates() -> None:
    names = ["near", "neat", "nearby", "Near", "never"]
    assert did_you_mean("neaf", names) == did_you_mean("neaf", names[::-1])


def test_nothing_is_guessed_for_a_strange_or_endless_name() -> None:
    assert did_you_mean("qqq", ["window"]) == ()
    assert did_you_mean("w" * 100_000, ["w" * 100_000]) == ()
    assert did_you_mean("", ["window"]) == ()

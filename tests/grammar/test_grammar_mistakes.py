"""`found` and `expected` are exact, and what the golden files cannot show."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from grammar_trees import FILES
from hypothesis import given
from hypothesis import strategies as st
from lark import Token, UnexpectedToken

from attnloom.grammar import (
    Diagnostic,
    File,
    PatternError,
    Source,
    format_file,
    parse,
    parse_expression,
    to_json,
)
from attnloom.grammar import mistakes as mistakes_module
from attnloom.grammar.foreign import EXPLAINED, INFIX_WORDS, RESERVED, STATEMENTS, VALUES
from attnloom.grammar.lexer import arrange
from attnloom.grammar.mistakes import RULES
from attnloom.grammar.parser import _lark
from attnloom.grammar.spot import Spot
from attnloom.grammar.words import (
    ARITHMETIC,
    EXPRESSION_STARTS,
    INFIX,
    KEYWORD_TYPES,
    KEYWORDS,
    OPERAND_STARTS,
    SIGNS,
    STATEMENT_WORDS,
    expectations,
    listed,
    spoken,
)

PATTERNS = sorted((Path(__file__).parents[2] / "patterns").glob("*.attn"))


def refused(text: str) -> Diagnostic:
    with pytest.raises(PatternError) as caught:
        parse(text)
    (found,) = caught.value.diagnostics
    return found


@pytest.mark.parametrize(
    ("text", "found", "expected"),
    [
        ("pattern", "the end of the file", ["a name"]),
        ("pattern p", "the end of the file", ["`{`", "`(`"]),
        ("pattern p {", "the end of the file", ["`}`"]),
        ("pattern p {}\n)", "`)`", ["`pattern`", "the end of the file"]),
        ("pattern p { let x }", "`}`", ["`=`"]),
        ("pattern p { let x = }", "`}`", ["an expression"]),
        ("pattern p { a | }", "`}`", ["an operand"]),
        ("pattern p { a + }", "`}`", ["a number, a name, a call or brackets"]),
        ("pattern p { only\n a }", "the end of the line", ["an expression"]),
        ("pattern p { only; a }", "`;`", ["an expression"]),
        ("pattern p { f(a] }", "`]`", ["an operator", "`)`", "`,`", "`(`", "`=`"]),
        ("pattern p { f(1] }", "`]`", ["an operator", "`)`", "`,`"]),
        ("pattern p { first 4 from }", "`from`", ["an operator except `..`", "`}`", "a new line"]),
        ("pattern p(x: int 3) {}", "`3`", ["`)`", "`,`", "`=`", "`in`"]),
        ("pattern p(x in 1] {}", "`]`", ["an arithmetic operator", "`..`"]),
        ("pattern p { input x }", "`}`", ["`:`"]),
        ("pattern p { expect a ( }", "`(`", ["`}`", "a comparison", "a new line"]),
        ("pattern p { when a {} else 3 }", "`3`", ["`{`", "`when`"]),
        ("pattern p { memory 4 }", "`4`", ["`(`"]),
        ("pattern p { f(= 3) }", "`=`", ["an expression", "`)`", "`name=value`"]),
        ("use 4\n", "`4`", ["a file in quotes", "a name"]),
        ("pattern p { " + "x" * 100 + " y }", "`y`", ["an operator", "`}`", "`(`", "a new line"]),
        ("pattern " + '"' + "x" * 100 + '" {}', f'`"{"x" * 36}...`', ["a name"]),
    ],
)
def test_found_and_expected_are_said_in_plain_words(
    text: str, found: str, expected: list[str]
) -> None:
    diagnostic = refused(text)
    assert (diagnostic.found, sorted(diagnostic.expected)) == (found, sorted(expected))
    assert to_json(diagnostic)["expected"] == list(diagnostic.expected)


# --- expectations are exact ----------------------------------------------------------------------

GROUPS = {
    "a statement": EXPRESSION_STARTS | STATEMENT_WORDS,
    "an expression": EXPRESSION_STARTS,
    "an operand": EXPRESSION_STARTS - {"NOT"},
    "a number, a name, a call or brackets": OPERAND_STARTS | {"MINUS", "TILDE"},
    "an operator": INFIX,
    "an operator except `..`": INFIX - {"DOTDOT"},
    "an arithmetic operator": ARITHMETIC,
}
TERMINALS = {
    *SIGNS,
    *KEYWORD_TYPES,
    "NAME",
    "NUMBER",
    "STRING",
    "COMPARISON",
    "SEP",
    "$END",
    "WORD",
}


def terminals(words: tuple[str, ...]) -> set[str]:
    """The terminals that a list of expectations speaks of."""
    found: set[str] = set()
    for word in words:
        group = GROUPS.get(word)
        found |= group or {terminal for terminal in TERMINALS if spoken(terminal) == word}
    return found


def accepted_by_trying(tokens: Sequence[Token], at: int) -> set[str]:
    """The terminals with which the parser can go on after some tokens, each tried on its own."""
    found = set()
    for terminal in TERMINALS:
        machine = _lark().parse_interactive(start="file")
        value = "1" if terminal == "NUMBER" else '"x"' if terminal == "STRING" else "x"
        span = {"start_pos": 0, "end_pos": 1}
        try:
            for token in [*tokens[:at], Token(terminal, value, **span)]:
                machine.feed_token(token)
        except UnexpectedToken:
            continue
        found.add(terminal)
    return found


@pytest.mark.parametrize("path", PATTERNS, ids=lambda path: path.stem)
def test_expected_words_cover_what_the_parser_accepts_and_no_more(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(path.stem)
    text = path.read_text(encoding="utf-8")
    source = Source("s", text)
    tokens = arrange(_lark().lex(text), source).tokens
    spots: list[Spot] = []

    def plain(spot: Spot) -> Diagnostic:
        spots.append(spot)
        return spot.says("syntax", "m", "l")

    monkeypatch.setattr("attnloom.grammar.parser.explain", plain)
    for at in chance.sample(range(len(tokens) - 1), 6):
        # `$` fits nowhere: the parser stops right there.
        start = tokens[at - 1].end_pos if at else 0
        with pytest.raises(PatternError):
            parse(f"{text[:start]} $ {text[start:]}")
        spot = spots.pop()
        assert spot.token == "$"
        wanted = accepted_by_trying(spot.tokens, spot.at)
        assert spot.accepted == wanted
        # `{` after a condition and `{` elsewhere are one sign for a reader.
        said = terminals(spot.expected)
        assert said - {"THEN", "LBRACE"} == wanted - {"THEN", "LBRACE"}
        assert bool(said & {"THEN", "LBRACE"}) == bool(wanted & {"THEN", "LBRACE"})


@given(st.sets(st.sampled_from(sorted(TERMINALS))))
def test_words_for_any_set_of_terminals_speak_of_exactly_these(chosen: set[str]) -> None:
    said = terminals(expectations(chosen))
    braces = {"THEN", "LBRACE"}
    assert said - braces == chosen - braces
    assert bool(said & braces) == bool(chosen & braces)


def test_listed_words() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a or b"
    assert listed(["a", "b", "c"], "and") == "a, b and c"


# --- rules ---------------------------------------------------------------------------------------


@given(FILES)
def test_no_rule_objects_to_a_right_file(file: File) -> None:
    assert parse(format_file(file)) == file


def test_every_rule_is_listed_once() -> None:
    names = [rule.__name__ for rule in RULES]
    assert len(RULES) == len(set(RULES))
    assert all(rule.__doc__ or rule.__name__ for rule in RULES)
    modules = {rule.__module__ for rule in RULES}
    listed_there = {
        f"{module}.{name}"
        for module in modules
        for name, value in vars(__import__(module, fromlist=["x"])).items()
        if getattr(value, "__module__", None) == module
        and not name.startswith("_")
        and getattr(value, "__annotations__", {}) == {"spot": "Spot", "return": "Diagnostic | None"}
    }
    assert listed_there == {
        f"{rule.__module__}.{name}" for rule, name in zip(RULES, names, strict=True)
    }


def test_what_no_rule_knows_is_told_as_the_parser_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mistakes_module, "RULES", ())
    found = refused("pattern p { a b }")
    assert found.message == "expected an operator, `}`, `(` or a new line, found `b`"
    assert found.slug == "syntax"


def test_only_the_first_mistake_is_told() -> None:
    found = refused("pattern p {\n    a b\n    let = 3\n    )\n}\n")
    assert found.source.location(found.span.start) == (2, 7)


@pytest.mark.parametrize("word", sorted({*STATEMENTS, *EXPLAINED, *INFIX_WORDS} - RESERVED))
def test_foreign_word_may_still_be_a_name_of_ours(word: str) -> None:
    parse(f"pattern {word}({word}: int = 3) {{\n    let {word} = {word} + 1\n    {word}\n}}")


@pytest.mark.parametrize("word", sorted(VALUES))
def test_foreign_value_is_no_name(word: str) -> None:
    assert refused(f"pattern p {{ f(x={word}) }}").slug == "foreign-word"
    with pytest.raises(PatternError):
        parse_expression(word)


@pytest.mark.parametrize("word", sorted(RESERVED))
def test_foreign_statement_is_told_even_where_it_looks_like_a_call(word: str) -> None:
    assert refused(f"pattern p {{ {word} (a) }}").slug == "foreign-word"


@pytest.mark.parametrize("word", KEYWORDS)
def test_keyword_is_no_name(word: str) -> None:
    for text in (
        f"pattern {word} {{}}",
        f"pattern p({word}: int) {{}}",
        f"pattern p {{ let {word} = 3 }}",
        f"pattern p {{ input {word}: tokens }}",
    ):
        assert refused(text).slug == "reserved-word"


def test_expression_alone_speaks_of_a_text_not_of_a_file() -> None:
    with pytest.raises(PatternError) as caught:
        parse_expression("first", name="--set cls")
    (found,) = caught.value.diagnostics
    assert found.found == "the end of the text"
    assert found.source.name == "--set cls"
    for text in ("only a", "let x = 3", "pattern p {}", "a; b", "if a", "", "a, b", "{"):
        with pytest.raises(PatternError) as caught:
            parse_expression(text)
        assert "file" not in str(caught.value)


# --- the words of the grammar --------------------------------------------------------------------


def test_words_and_signs_are_those_of_the_grammar_file() -> None:
    defined = {
        terminal.name: terminal.pattern.value
        for terminal in _lark().terminals
        if terminal.pattern.type == "str"
    }
    assert {key: text for key, text in defined.items() if key in KEYWORD_TYPES} == KEYWORD_TYPES
    signs = {key: text for key, text in SIGNS.items() if key != "THEN"}
    assert {key: text for key, text in defined.items() if key not in KEYWORD_TYPES} == {
        **signs,
        "SEMICOLON": ";",
    }


def test_foreign_words_are_none_of_ours() -> None:
    assert not {*STATEMENTS, *EXPLAINED, *INFIX_WORDS, *VALUES, *RESERVED} & set(KEYWORDS)

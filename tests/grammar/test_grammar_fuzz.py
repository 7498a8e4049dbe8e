"""Whatever a text holds, it is parsed or refused with a `PatternError` that can be shown."""

from __future__ import annotations

import json
import random
import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.lark import from_lark

from attnloom.grammar import (
    PatternError,
    format_source,
    parse,
    parse_expression,
    read,
    render,
    to_json,
)
from attnloom.grammar.parser import _lark

TEXTS = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parents[2] / "patterns").glob("*.attn"))
}

# Words and signs of ours, of other languages, and of none.
PIECES = [
    *re.findall(
        "[^ ]+",
        "pattern use let only never when else memory input expect first last every from in and or "
        "not true false n i j head window global causal self blocks grid where tokens hops "
        "if elif for while return def fn import True None null int xor mod is to lambda "
        "( ) [ ] { } , : ; = == != < <= > >= | & ^ ~ + - * ** // % .. "
        "&& || ! -> => := ... ..= += ++ << <> / /* */ @ $ ? \\ ` . "
        "\"a\" \"b 'c' 'd “ ” é а n² ∪ 窗 \u200b \u00a0 "
        "0 1 64 1.5 1e6 0x 0x1g 012 4k 1__0 # #x",
    ),
    *("\n", "\r", "\r\n", "\t", " ", "  # note\n"),
]
TERMINALS = r"\b(RPAR|LPAR|LSQB|NAME|NUMBER|SEP|THEN|WORD|LBRACE|COMPARISON)\b|\$END"


def refusal(text: str) -> PatternError | None:
    """Why a text is no pattern file; None if it is one."""
    try:
        parse(text)
    except PatternError as error:
        return error
    return None


def check(text: str) -> None:
    """Parse a text; whatever is wrong with it is shown in full, and what is right laid out."""
    error = refusal(text)
    if error is None:
        laid_out = format_source(text)
        assert parse(laid_out) == parse(text)
        assert format_source(laid_out) == laid_out
        return
    (found,) = error.diagnostics
    assert 0 <= found.span.start <= found.span.stop <= len(found.source.text)
    assert found.found
    assert found.expected
    assert found.hints
    said = (found.message, found.label, found.found, *found.hints, *found.expected)
    assert not any(re.search(TERMINALS, one) for one in said)
    assert all(line.isprintable() for line in render(found).splitlines())
    json.dumps(to_json(found))


@given(st.text())
@example("")
@example("\ufeff")
@example("pattern p {\n" + "\x0c" + "}")
@example("pattern p { expect a - b - c ! }")
def test_any_text_is_answered(text: str) -> None:
    check(text)


@given(st.lists(st.sampled_from(PIECES), max_size=15), st.booleans())
def test_any_row_of_words_and_signs_is_answered(pieces: list[str], is_spaced: bool) -> None:
    text = (" " if is_spaced else "").join(pieces)
    check(text)
    check(f"pattern p {{\n    {text}\n}}\n")
    check(f"pattern p({text}) {{ full }}")


@given(st.lists(st.sampled_from(PIECES), max_size=10))
def test_any_row_of_words_is_answered_as_an_expression(pieces: list[str]) -> None:
    try:
        parse_expression(" ".join(pieces))
    except PatternError as error:
        shown = str(error)
    else:
        shown = "nothing is wrong"
    assert shown
    assert "the end of the file" not in shown


@given(
    from_lark(
        _lark(),
        start="file",
        explicit={
            "SEP": st.sampled_from(["\n", ";"]),
            "THEN": st.just("{"),
            "WORD": st.sampled_from(["last", "first"]),
        },
    ),
    st.sampled_from(["", " "]),
)
@settings(max_examples=30)
def test_texts_that_the_grammar_makes_are_answered(text: str, blank: str) -> None:
    check(text)
    check(re.sub(r"(\W)", rf"{blank}\1{blank}", text))


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "p.attn"
    path.write_bytes(data)
    with suppress(PatternError):
        read(path)


def mutated(text: str, chance: random.Random, changes: int) -> str:
    """The text with some tokens removed, doubled, swapped or replaced."""
    tokens = re.findall(r"\w+|\s+|[^\w\s]", text)
    for _ in range(changes):
        at, other = chance.randrange(len(tokens)), chance.randrange(len(tokens))
        match chance.randrange(5):
            case 0:
                tokens[at] = ""
            case 1:
                tokens[at] += chance.choice(PIECES)
            case 2:
                tokens[at] = chance.choice(PIECES)
            case 3:
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case 4:
                tokens[at] *= 2
    return "".join(tokens)


@pytest.mark.parametrize("name", TEXTS)
def test_mutated_pattern_is_answered(name: str) -> None:
    chance = random.Random(name)
    for changes in (1, 1, 1, 2, 3, 10) * 3:
        check(mutated(TEXTS[name], chance, changes))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", TEXTS)
def test_often_mutated_pattern_is_answered(name: str, seed: int) -> None:
    chance = random.Random(f"{name}{seed}")
    for _ in range(150):
        check(mutated(TEXTS[name], chance, chance.choice([1, 1, 1, 2, 5])))


@pytest.mark.parametrize("name", TEXTS)
def test_every_truncation_of_a_pattern_is_answered(name: str) -> None:
    text = TEXTS[name]
    # Inside a word or a comment nothing new happens: cut at the borders of words.
    code = re.sub(r"#.*", lambda found: " " * len(found[0]), text)
    for border in sorted({found.end() for found in re.finditer(r"\w+|[^\w\s]", code)}):
        check(text[:border])


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXTS)
def test_every_truncation_at_any_character_and_any_end_is_answered(name: str) -> None:
    for at in range(len(TEXTS[name])):
        check(TEXTS[name][:at])
        check(TEXTS[name][at:])

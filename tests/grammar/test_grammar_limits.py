"""Bounds: no text takes long, and no tree is too deep for plain recursion."""

from __future__ import annotations

import copy
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from attnloom.grammar import (
    File,
    PatternError,
    format_file,
    format_source,
    parse,
    parse_expression,
    render,
)
from attnloom.grammar.limits import MAX_BRACKETS, MAX_CHAIN, MAX_DEPTH, MAX_DIGITS
from attnloom.grammar.syntax import Node, children

PATTERNS = sorted((Path(__file__).parents[2] / "patterns").glob("*.attn"))


def answer(text: str) -> str:
    """The slug of what is wrong with a text, or nothing; shown as a user would see it."""
    try:
        parse(text)
    except PatternError as error:
        return error.diagnostics[0].slug if str(error) else "nothing to show"
    return ""


def body(text: str) -> str:
    return f"pattern p {{\n    {text}\n}}\n"


# --- time ----------------------------------------------------------------------------------------

LARGE: dict[str, Callable[[], str]] = {
    "nested_parentheses": lambda: body("(" * 10_000 + "a" + ")" * 10_000),
    "nested_brackets": lambda: body("[" * 10_000 + "0" + "]" * 10_000),
    "nested_braces": lambda: "pattern p " + "{" * 10_000 + "}" * 10_000,
    "nested_whens": lambda: "pattern p {" + "when a {" * 10_000,
    "closing_only": lambda: ")" * 100_000,
    "bars": lambda: body("|" * 900_000),
    "million_line_feeds": lambda: "\n" * 999_999,
    "million_carriage_returns": lambda: "\r" * 999_999,
    "line_of_blanks": lambda: " " * 999_999,
    "line_of_one_name": lambda: body("a" * 999_000),
    "line_of_digits": lambda: body("let x = " + "9" * 900_000),
    "line_of_hexadecimal_digits": lambda: body("let x = 0x" + "f" * 900_000),
    "line_of_dots": lambda: body("." * 900_000),
    "line_of_quotes": lambda: body('"' * 900_001),
    "unclosed_text": lambda: 'use "' + "a" * 900_000,
    "comment": lambda: "#" * 999_999,
    "comment_lines": lambda: "#\n" * 450_000,
    "wide_characters": lambda: "漢" * 300_000,
    "combining_marks": lambda: "a" + "\u0301" * 400_000,
    "tabs": lambda: "\t" * 999_000 + "x",
    "semicolons": lambda: body(";" * 900_000),
    "many_statements": lambda: body("a\n" * 9_000),
    "many_patterns": lambda: "pattern p {}\n" * 3_500,
    "many_uses": lambda: "use a\n" * 6_000,
    "long_list": lambda: body("global([" + "0," * 9_900 + "])"),
    "many_arguments": lambda: body("f(" + "a=1," * 4_900 + ")"),
    "many_parameters": lambda: "pattern p(" + "a: int," * 4_900 + ") {}",
    "long_comparison": lambda: body("a" + " < a" * 9_900),
    "minus_signs": lambda: body("let x = " + "- " * 19_000 + "1"),
    "complements": lambda: body("~" * 19_000 + "a"),
    "nots": lambda: body("not " * 19_000 + "a"),
    "powers": lambda: body("let x = 2" + "**2" * 9_900),
    "union": lambda: body("a" + "|a" * 9_900),
    "sum": lambda: body("let x = 1" + "+1" * 9_900),
    "or": lambda: body("when a" + " or a" * 9_900 + " {}"),
    "else_whens": lambda: body("when a {}" + " else when a {}" * 3_900),
    "mixed_operators": lambda: body("let x = " + "a or b and c | d ^ e & f + g * " * 1_400 + "h"),
    "chains_of_40_000": lambda: body("a" + "|a" * 40_000),
    "error_after_many_tokens": lambda: body("a\n" * 9_900 + "x = 3"),
    "error_after_a_long_line": lambda: body("a | " * 70 + "f(" + "0," * 9_800 + " b c)"),
    "error_after_unary_chain": lambda: body("- " * 700 + "a b"),
    "braces_on_one_long_line": lambda: "pattern p {" + "when a {}; " * 3_900,
    "path_of_slashes": lambda: "use " + "/a" * 9_000 + "€",
    "words_of_a_metric": lambda: body("expect " + "a " * 19_000),
    "words_of_a_metric_joined": lambda: body("expect a" + "-a" * 9_900 + " !"),
    "comment_of_c": lambda: body("// " + "word " * 19_000),
    "words": lambda: "word " * 19_000,
    "unclosed_brackets_on_lines": lambda: body("f(\n" * 90 + "a\n" * 9_900),
    "bare_carriage_returns": lambda: "pattern p {\ra\r" + "\r" * 900_000 + "}",
}


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_large_text_is_answered_within_a_second(make: Callable[[], str]) -> None:
    text = make()
    assert len(text.encode()) <= 1_000_000
    parse("pattern p {}")  # the parser is built once
    start = time.process_time()
    answer(text)
    assert time.process_time() - start < 1


def test_bundled_pattern_is_parsed_in_milliseconds() -> None:
    texts = [path.read_text(encoding="utf-8") for path in PATTERNS]
    for text in texts:
        parse(text)
    start = time.process_time()
    for text in texts:
        parse(text)
    assert (time.process_time() - start) / len(texts) < 0.01


def test_large_file_is_laid_out_within_seconds() -> None:
    line = "    f([" + "0, " * 300 + "]) | g(a, b=c)  # note\n"
    text = "pattern p {\n" + 30 * line + "}\n"
    start = time.process_time()
    assert parse(format_source(text)) == parse(text)
    assert time.process_time() - start < 8


# --- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        (body("(" * MAX_BRACKETS + "a"), "too-deep"),
        (body("(" * (MAX_BRACKETS - 1) + "a" + ")" * (MAX_BRACKETS - 1)), ""),
        (body("let x = " + "9" * MAX_DIGITS), ""),
        (body("let x = " + "9" * (MAX_DIGITS + 1)), "number-too-long"),
        (body("let x = 0" + "0" * MAX_DIGITS), "number-too-long"),
        (body("a" + " | a" * MAX_CHAIN), ""),
        (body("a" + " | a" * (MAX_CHAIN + 1)), "too-deep"),
        (body("let x = a" + " - a + a" * (MAX_CHAIN // 2)), ""),
        (body("let x = a" + " - a + a" * (MAX_CHAIN // 2) + " - a"), "too-deep"),
        (body("let x = " + "-" * (MAX_DEPTH - 4) + "a"), ""),
        (body("let x = " + "-" * (MAX_DEPTH - 3) + "a"), "too-deep"),
        (body("let x = a" + " < a" * 5_000), ""),
        (body("let x = [" + "0, " * 5_000 + "]"), ""),
    ],
)
def test_limit_is_exact(text: str, slug: str) -> None:
    assert answer(text) == slug


def test_bits_of_the_largest_number_are_kept() -> None:
    assert parse_expression("9" * MAX_DIGITS) == parse_expression(hex(10**MAX_DIGITS - 1))


# --- depth ---------------------------------------------------------------------------------------


@cache
def deepest(kind: str) -> tuple[str, File]:
    """The longest text of a kind that is accepted, and its tree."""
    text = DEEP[kind]
    low, high = 1, 400
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if answer(text(middle)) == "" else (low, middle)
    assert answer(text(high)) == "too-deep"
    return text(low), parse(text(low))


DEEP: dict[str, Callable[[int], str]] = {
    "chain": lambda k: body("a" + " | a" * k),
    "chain_in_call": lambda k: body("f(" * 10 + "a" + " - a" * k + ")" * 10),
    "minus": lambda k: body("let x = " + "-" * k + "a"),
    "not": lambda k: body("not " * k + "a"),
    "power": lambda k: body("let x = 2" + " ** 2" * k),
    "calls": lambda k: body("f(" * k + "a" + ")" * k),
    "lists": lambda k: body("[" * k + "0" + "]" * k),
    "bodies": lambda k: body("f(1) { " * k + "a" + " }" * k),
    "whens": lambda k: body("when a { " * k + "a" + " }" * k),
    "else_whens": lambda k: body("when a {}" + " else when a {}" * k),
    "elses": lambda k: body("when a {} else { " * k + "a" + " }" * k),
    "alternating": lambda k: body("a & (b | " * k + "c" + ")" * k),
    "to_the_left": lambda k: body("(" * k + "a" + " | b) & c" * k),
    "levels": lambda k: body("a or not b < c | d ^ e & f..-g * h ** (" * k + "i" + ")" * k),
    "everything": lambda k: body("f(x=[not a < -b | every 2 from (" * k + "i" + ")])" * k),
}
WALKS: dict[str, Callable[[File, File], object]] = {
    "equality": lambda one, other: one == other,
    "hash": lambda one, _: hash(one),
    "repr": lambda one, _: repr(one),
    "format": lambda one, _: format_file(one),
    "deepcopy": lambda one, _: copy.deepcopy(one),
    "pickle": lambda one, _: pickle.loads(pickle.dumps(one)),
    "walk": lambda one, _: sum(1 for _ in walk(one)),
    "slow_walk": lambda one, _: slow_walk(one),
}


def walk(node: Node) -> Iterator[Node]:
    yield node
    for child in children(node):
        yield from walk(child)


def slow_walk(node: Node) -> int:
    """A walk with four frames a node, as one with a method for each kind of node has."""

    def visit(node: Node) -> int:
        def descend() -> int:
            return 1 + sum([slow_walk(child) for child in children(node)])

        return descend()

    return visit(node)


@pytest.fixture
def little_room() -> Iterator[None]:
    """As much recursion as is left under a caller that took 200 of Python's 1000 frames."""
    before = sys.getrecursionlimit()
    used = 0
    frame = sys._getframe()
    while frame is not None:
        used, frame = used + 1, frame.f_back  # type: ignore[assignment]
    sys.setrecursionlimit(used + 800)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.parametrize("walk_name", WALKS)
@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.usefixtures("little_room")
def test_deepest_tree_leaves_room_for_recursion(kind: str, walk_name: str) -> None:
    text, tree = deepest(kind)
    assert WALKS[walk_name](tree, parse(text))


@pytest.mark.parametrize("kind", DEEP)
def test_deepest_tree_comes_back_from_its_layout(kind: str) -> None:
    _, tree = deepest(kind)
    assert parse(format_file(tree)) == tree


@pytest.mark.parametrize("kind", DEEP)
def test_tree_far_too_deep_is_refused_not_crashed(kind: str) -> None:
    assert answer(DEEP[kind](1_500)) in ("too-deep", "too-large")


def test_deep_tree_in_an_expression_alone_is_refused() -> None:
    with pytest.raises(PatternError) as caught:
        parse_expression("a" + " | a" * 200)
    assert caught.value.diagnostics[0].slug == "too-deep"
    assert "operand number 152" in render(caught.value.diagnostics[0])

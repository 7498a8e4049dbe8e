"""The canonical layout: what it looks like, that it keeps everything, and that it is final."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from textwrap import dedent

import pytest
from grammar_trees import EXPRESSIONS, FILES, NOWHERE, STATEMENTS, binary, name, noisy, num, unary
from hypothesis import example, given
from hypothesis import strategies as st

from attnloom.grammar import (
    File,
    PatternError,
    format_expr,
    format_file,
    format_source,
    format_statement,
    parse,
    parse_expression,
)
from attnloom.grammar.syntax import Expr, Number, Statement

PATTERNS = sorted((Path(__file__).parents[2] / "patterns").glob("*.attn"))


def comments(text: str) -> list[str]:
    return [comment.text for comment in parse(text).comments]


# --- laws ----------------------------------------------------------------------------------------


@given(FILES)
def test_tree_comes_back_from_its_text(file: File) -> None:
    assert parse(format_file(file)) == file


@given(FILES, st.integers())
@example(parse("pattern p { (-a) | b }"), 0)
@example(parse("pattern p { blocks(2) {}\n (f(1) {}) | a }"), 0)
def test_layout_of_any_text_keeps_tree_and_comments_and_is_final(file: File, seed: int) -> None:
    text = noisy(format_file(file), seed)
    laid_out = format_source(text)
    assert parse(laid_out) == file
    assert sorted(comments(laid_out)) == sorted(comments(text))
    assert format_source(laid_out) == laid_out


@given(EXPRESSIONS)
def test_expression_comes_back_from_its_line(expression: Expr) -> None:
    text = format_expr(expression)
    assert "\n" not in text
    assert parse_expression(text) == expression


@given(STATEMENTS)
def test_statement_comes_back_from_its_line(statement: Statement) -> None:
    text = format_statement(statement)
    assert "\n" not in text
    assert parse(f"pattern p {{ {text} }}").patterns[0].body == (statement,)


@given(EXPRESSIONS)
def test_expression_has_no_parentheses_that_it_could_do_without(expression: Expr) -> None:
    text = format_expr(expression)
    opened: list[int] = []
    for at, char in enumerate(text):
        if char == "(":
            opened.append(at)
        elif char == ")":
            start = opened.pop()
            if text[start - 1 : start].isidentifier():
                continue  # the parentheses of a call
            without = text[:start] + " " + text[start + 1 : at] + " " + text[at + 1 :]
            with suppress(PatternError):
                assert parse_expression(without) != expression, text


@pytest.mark.parametrize("path", PATTERNS, ids=lambda path: path.stem)
def test_bundled_pattern_is_laid_out(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert format_source(text, path.name) == text


@pytest.mark.parametrize("path", PATTERNS, ids=lambda path: path.stem)
def test_bundled_pattern_squeezed_to_one_line_comes_back(path: Path) -> None:
    tree = parse(path.read_text(encoding="utf-8"))
    body = "; ".join(map(format_statement, tree.patterns[0].body))
    head = re.findall(r"^pattern [^{]*", format_file(tree), re.MULTILINE)[0]
    squeezed = " ".join(f"{head} {{ {body} }}".split())
    assert parse(format_source(squeezed)) == tree


# --- looks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "laid_out"),
    [
        ("(a|b)&((c))", "(a | b) & c"),
        ("a-(b-c)-d", "a - (b - c) - d"),
        ("(a-b)-c", "a - b - c"),
        ("2**3**4", "2 ** 3 ** 4"),
        ("(2**3)**4", "(2 ** 3) ** 4"),
        ("-(a+b)", "-(a + b)"),
        ("-(-a)", "--a"),
        ("not(a==b)", "not a == b"),
        ("(not a)==b", "(not a) == b"),
        ("0 ..( n-1 )", "0..n - 1"),
        ("(0..4)..5", "(0..4)..5"),
        ("first(4)", "first 4"),
        ("every(2)from(1)", "every 2 from 1"),
        ("[0,1 , 2,]", "[0, 1, 2]"),
        ("f(x=1,y = 2,)", "f(x=1, y=2)"),
        ("blocks(2){a;b}", "blocks(2) { a; b }"),
        ("blocks(2){}", "blocks(2) {}"),
        ("0x1F", "31"),
    ],
)
def test_expression_alone_has_the_fewest_signs(text: str, laid_out: str) -> None:
    assert format_expr(parse_expression(text)) == laid_out


def test_negative_number_that_no_text_has_prints_as_an_expression() -> None:
    assert format_expr(Number(NOWHERE, -5)) == "-5"
    assert format_expr(binary(Number(NOWHERE, -5), "**", num(2))) == "(-5) ** 2"
    assert format_expr(unary("-", name("a"))) == "-a"


def laid_out(text: str) -> str:
    return format_source(dedent(text)).strip("\n")


def test_statement_that_starts_with_minus_is_put_in_parentheses() -> None:
    assert laid_out("pattern p { a; (-b) | c; (-1) }") == dedent(
        """\
        pattern p {
            a
            (-b) | c
            (-1)
        }"""
    )


def test_numbers_stay_as_they_are_spelt() -> None:
    text = "pattern p(x: int in 0x10..1_000 = 0b11) {\n    f(0o17, 00)\n}\n"
    assert format_source(text) == text


def test_parentheses_that_show_the_order_of_operators_stay() -> None:
    body = "let x = (n % 4) * 2 + (a ** b)\n    let y = (first 4) | (0..n - 1)"
    text = f"pattern p {{\n    {body}\n}}\n"
    assert format_source(text) == text


def test_parentheses_around_a_whole_or_a_single_word_go() -> None:
    assert laid_out("pattern p { (a); let x = ((n + 1)); f((a), x=(b | c)); (a) | (f(1)) }") == (
        dedent(
            """\
            pattern p {
                a
                let x = n + 1
                f(a, x=b | c)
                a | f(1)
            }"""
        )
    )


def test_long_expression_breaks_before_its_operators_at_every_one() -> None:
    parts = [f"window(each_side={'x' * 20}{k})" for k in range(4)]
    text = f"pattern p {{\n    only {' | '.join(parts)}\n}}\n"
    expected = "\n        | ".join(parts)
    assert format_source(text) == f"pattern p {{\n    only {expected}\n}}\n"


def test_long_list_is_filled_and_long_arguments_stand_one_a_line() -> None:
    numbers = ", ".join(map(str, range(100, 130)))
    words = ", ".join(f"argument_number_{k}={k}" for k in range(6))
    found = format_source(f"pattern p {{ global([{numbers}]); f({words}) }}").splitlines()
    assert found[1:3] == ["    global(", "        ["]
    assert all(len(line) <= 100 for line in found)
    assert sum(line.strip().startswith("argument_number_") for line in found) == 6


def test_line_of_exactly_the_width_stays_one_line() -> None:
    for extra, lines in ((0, 3), (1, 5)):
        name_ = "x" * (100 - len("    f()") + extra)
        assert len(format_source(f"pattern p {{ f({name_}) }}").splitlines()) == lines


def test_patterns_stand_apart_and_single_empty_lines_stay() -> None:
    text = """\
        use a
        use "b.attn"


        use c
        pattern p { a


        b
        c }
        # about q
        pattern q {}
        """
    assert laid_out(text) == dedent(
        """\
        use a
        use "b.attn"

        use c

        pattern p {
            a

            b
            c
        }

        # about q
        pattern q {}"""
    )


def test_else_when_stays_on_the_line_of_the_brace() -> None:
    text = "pattern p { when a { b }\n else\n when c { d }\n else { when a { b } } }"
    assert laid_out(text) == dedent(
        """\
        pattern p {
            when a {
                b
            } else when c {
                d
            } else when a {
                b
            }
        }"""
    )


# --- comments ------------------------------------------------------------------------------------


def test_comments_on_lines_of_their_own_and_at_line_ends_stay_where_they_are() -> None:
    text = dedent(
        """\
        # a title
        #
        # and more

        pattern p(x: int = 1) {  # after the brace
            # before a statement
            a  # after a statement

            # between
            when x < 2 {  # after the condition
                b
            } else {  # after else
                # alone in a body
            }
            # last
        }

        # the end
        """
    )
    assert format_source(text) == text


def test_aligned_comments_stay_aligned() -> None:
    text = dedent(
        """\
        pattern p {
            window(each_side=8)    # the neighbours
            global(0)              # and the first token
        }
        """
    )
    assert format_source(text) == text


def test_comments_inside_a_statement_move_before_it() -> None:
    text = """\
        pattern p( # one
            x: int # two
        ) # three
        {
            f( # four
                # five
                a, # six
                b
            ) # seven
        }
        """
    assert laid_out(text) == dedent(
        """\
        # one
        # two
        # three
        pattern p(x: int) {
            # four
            # five
            # six
            f(a, b)  # seven
        }"""
    )


def test_comment_signs_and_braces_in_comments_mislead_nothing() -> None:
    text = dedent(
        """\
        # } { ( [ "
        pattern p {  # { } ; | #
            a  # }
        }  # {
        """
    )
    assert format_source(text) == text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_break_becomes_a_line_feed(end: str) -> None:
    text = "# c\npattern p {\n    a  # d\n}\n"
    assert format_source(text.replace("\n", end)) == text


def test_comment_may_hold_any_language() -> None:
    text = "# Fenêtre 窗口 🎉\npattern p {\n    a  # größer\n}\n"
    assert format_source(text) == text


def test_what_is_no_pattern_file_is_not_laid_out() -> None:
    with pytest.raises(PatternError):
        format_source("pattern p {")

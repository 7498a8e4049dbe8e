"""Every form of the language with the tree it must become, written out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from grammar_trees import (
    add,
    binary,
    call,
    compare,
    declared,
    every,
    expect,
    file,
    first,
    interval,
    last,
    let,
    listing,
    memory,
    name,
    never,
    num,
    only,
    parameter,
    pattern,
    truth,
    unary,
    use,
    when,
)

from attnloom.grammar import PatternError, format_expr, parse, parse_expression
from attnloom.grammar.syntax import Comment, Expr, File, Statement

a, b, c, d, i, j, n = map(name, "abcdijn")

EXPRESSIONS: list[tuple[str, Expr]] = [
    # numbers, names, truth values
    ("0", num(0)),
    ("512", num(512)),
    ("1_000", num(1000)),
    ("0x1F", num(31)),
    ("0b101", num(5)),
    ("0o17", num(15)),
    ("00", num(0)),
    ("9" * 100, num(int("9" * 100))),
    ("true", truth(True)),
    ("false", truth(False)),
    ("n", n),
    ("_x1", name("_x1")),
    ("Full", name("Full")),
    # relations and token sets
    ("a | b", binary(a, "|", b)),
    ("a & b", binary(a, "&", b)),
    ("a - b", binary(a, "-", b)),
    ("a ^ b", binary(a, "^", b)),
    ("~a", unary("~", a)),
    ("~~a", unary("~", unary("~", a))),
    ("transpose(a)", call("transpose", a)),
    ("-1", unary("-", num(1))),
    ("0..4", interval(num(0), num(4))),
    ("n - 4..n", interval(binary(n, "-", num(4)), n)),
    ("first 4", first(num(4))),
    ("first n - 1", first(binary(n, "-", num(1)))),
    ("last 2", last(num(2))),
    ("every 64", every(num(64))),
    ("every 64 from 63", every(num(64), num(63))),
    ("every n // 2 from n - 1", every(binary(n, "//", num(2)), binary(n, "-", num(1)))),
    ("[]", listing()),
    ("[0]", listing(num(0))),
    ("[0, 5, 9..12]", listing(num(0), num(5), interval(num(9), num(12)))),
    ("[0, 5,]", listing(num(0), num(5))),
    ("first 1 | last 1", binary(first(num(1)), "|", last(num(1)))),
    ("0..4 & every 2", binary(interval(num(0), num(4)), "&", every(num(2)))),
    # arithmetic
    ("a + b - c", binary(binary(a, "+", b), "-", c)),
    ("a - (b - c)", binary(a, "-", binary(b, "-", c))),
    ("a * b // c % d", binary(binary(binary(a, "*", b), "//", c), "%", d)),
    ("a ** b ** c", binary(a, "**", binary(b, "**", c))),
    ("-a ** -b", unary("-", binary(a, "**", unary("-", b)))),
    ("min(a, b)", call("min", a, b)),
    ("count(first 4)", call("count", first(num(4)))),
    ("ceil_div(n - 1, 2)", call("ceil_div", binary(n, "-", num(1)), num(2))),
    # comparison and logic
    ("a < b", compare(a, "<", b)),
    ("0 <= i - j < 4", compare(num(0), "<=", binary(i, "-", j), "<", num(4))),
    ("a == b != c", compare(a, "==", b, "!=", c)),
    ("a > b >= c", compare(a, ">", b, ">=", c)),
    ("a and b or c", binary(binary(a, "and", b), "or", c)),
    ("not a and b", binary(unary("not", a), "and", b)),
    ("not a == b", unary("not", compare(a, "==", b))),
    ("not not a", unary("not", unary("not", a))),
    # the order of operators is Python's
    ("a or b and c", binary(a, "or", binary(b, "and", c))),
    ("a < b | c", compare(a, "<", binary(b, "|", c))),
    ("a | b ^ c & d", binary(a, "|", binary(b, "^", binary(c, "&", d)))),
    ("a & b - c", binary(a, "&", binary(b, "-", c))),
    ("a - b * c", binary(a, "-", binary(b, "*", c))),
    ("~a & b", binary(unary("~", a), "&", b)),
    ("(a | b) & c", binary(binary(a, "|", b), "&", c)),
    ("((a))", a),
    # calls
    ("f()", call("f")),
    ("window(each_side=r)", call("window", each_side=name("r"))),
    ("window(left=8, right=0)", call("window", left=num(8), right=num(0))),
    ("window(last=512)", call("window", last=num(512))),
    ("f(first=1, in=2, true=3)", call("f", **{"first": num(1), "in": num(2), "true": num(3)})),
    ("f(first 4)", call("f", first(num(4)))),
    ("window(width=9, wrap=true)", call("window", width=num(9), wrap=truth(True))),
    ("random(links=3, outside=a | b)", call("random", links=num(3), outside=binary(a, "|", b))),
    ("offsets([0, 1, 64])", call("offsets", listing(num(0), num(1), num(64)))),
    ("where(j % 128 >= 120)", call("where", compare(binary(j, "%", num(128)), ">=", num(120)))),
    ("longformer(reach=64) & a", binary(call("longformer", reach=num(64)), "&", a)),
    ("f(a, b,)", call("f", a, b)),
    ("blocks(64) {}", call("blocks", num(64), body=())),
    ("blocks(64) { a }", call("blocks", num(64), body=(add(a),))),
    ("grid(8, n) { a; b }", call("grid", num(8), n, body=(add(a), add(b)))),
    ("a | f(2) { b } & c", binary(a, "|", binary(call("f", num(2), body=(add(b),)), "&", c))),
]  # fmt: skip

STATEMENTS: list[tuple[str, tuple[Statement, ...]]] = [
    ("", ()),
    ("a", (add(a),)),
    ("a; b", (add(a), add(b))),
    (";;a;;", (add(a),)),
    ("only causal", (only(name("causal")),)),
    ("never a & b", (never(binary(a, "&", b)),)),
    ("let x = 3", (let("x", num(3)),)),
    ("let x = first 4 | last 2", (let("x", binary(first(num(4)), "|", last(num(2)))),)),
    ("when n < 2 { a }", (when(compare(n, "<", num(2)), (add(a),)),)),
    ("when a { b } else { c }", (when(a, (add(b),), (add(c),)),)),
    ("when a {} else {}", (when(a, (), ()),)),
    ("when a { b } else when c { d }", (when(a, (add(b),), (when(c, (add(d),)),)),)),
    (
        "when a { b } else when c { d } else { a }",
        (when(a, (add(b),), (when(c, (add(d),), (add(a),)),)),),
    ),
    ("when a { when b { c } }", (when(a, (when(b, (add(c),)),)),)),
    ("when n < f(2) { a }", (when(compare(n, "<", call("f", num(2))), (add(a),)),)),
    ("when (f(1) { a }) { b }", (when(call("f", num(1), body=(add(a),)), (add(b),)),)),
    ("memory(4)", (memory(num(4)),)),
    ("memory(4, reads=false)", (memory(num(4), reads=truth(False)),)),
    ("memory(m=4, read=false)", (memory(m=num(4), read=truth(False)),)),
    ("input question: tokens", (declared("question", "tokens"),)),
    ("input doc: segments", (declared("doc", "segments"),)),
    ("input picks: links", (declared("picks", "links"),)),
    ("expect causal", (expect("causal"),)),
    ("expect hops <= 2", (expect("hops", "<=", num(2)),)),
    ("expect reads == n ** 2", (expect("reads", "==", binary(n, "**", num(2))),)),
    ("expect kv_cache != a | b", (expect("kv_cache", "!=", binary(a, "|", b)),)),
]  # fmt: skip

TWO_POWER_8 = binary(num(2), "**", num(8))
FILES: list[tuple[str, File]] = [
    ("pattern p {}", file(pattern("p"))),
    ("pattern p { a }\npattern q { p }", file(pattern("p", add(a)), pattern("q", add(name("p"))))),
    ("pattern p {} pattern q {}", file(pattern("p"), pattern("q"))),
    ("pattern p() {}", file(pattern("p"))),
    ("pattern p(x) {}", file(pattern("p", parameters=(parameter("x"),)))),
    ("pattern p(x: int) {}", file(pattern("p", parameters=(parameter("x", "int"),)))),
    ("pattern p(x = 3) {}", file(pattern("p", parameters=(parameter("x", None, None, num(3)),)))),
    (
        "pattern p(x: int in 1..9 = 3, y: bool = true, z: tokens = first 4,) {}",
        file(
            pattern(
                "p",
                parameters=(
                    parameter("x", "int", (num(1), num(9)), num(3)),
                    parameter("y", "bool", None, truth(True)),
                    parameter("z", "tokens", None, first(num(4))),
                ),
            )
        ),
    ),
    (
        "pattern p(x in 1..2 ** 8) {}",
        file(pattern("p", parameters=(parameter("x", None, (num(1), TWO_POWER_8)),))),
    ),
    ("use longformer\npattern p {}", file(use("longformer"), pattern("p"))),
    ('use "a/b.attn"; pattern p {}', file(use("a/b.attn", quoted=True), pattern("p"))),
    ("# top\n\npattern p { # in\n} # end", file(pattern("p"))),
]  # fmt: skip


@pytest.mark.parametrize(("text", "tree"), EXPRESSIONS, ids=[text for text, _ in EXPRESSIONS])
def test_expression_becomes_the_tree(text: str, tree: Expr) -> None:
    assert parse_expression(text) == tree


@pytest.mark.parametrize(("text", "tree"), EXPRESSIONS, ids=[text for text, _ in EXPRESSIONS])
def test_expression_prints_to_text_of_the_same_tree(text: str, tree: Expr) -> None:
    assert parse_expression(format_expr(tree)) == tree


@pytest.mark.parametrize(("text", "body"), STATEMENTS, ids=[text for text, _ in STATEMENTS])
def test_statements_become_the_tree(text: str, body: tuple[Statement, ...]) -> None:
    assert parse(f"pattern p {{ {text} }}") == file(pattern("p", *body))
    assert parse(f"pattern p {{\n{text}\n}}\n") == file(pattern("p", *body))


@pytest.mark.parametrize(("text", "tree"), FILES, ids=[text for text, _ in FILES])
def test_file_becomes_the_tree(text: str, tree: File) -> None:
    assert parse(text) == tree


def test_longformer_of_the_language_page_becomes_its_tree() -> None:
    text = (Path(__file__).parents[2] / "patterns" / "longformer.attn").read_text()
    limits = (num(1), num(8192))
    assert parse(text) == file(
        pattern(
            "longformer",
            add(call("window", each_side=name("reach"))),
            add(call("global", name("cls"))),
            expect("hops", "<=", num(2)),
            expect("symmetric"),
            expect("no_empty_rows"),
            parameters=(
                parameter("reach", "int", limits, num(256)),
                parameter("cls", "tokens", None, num(0)),
            ),
        )
    )


def test_comments_are_kept_with_their_place() -> None:
    found = parse("# top\npattern p {  # at the end  \n  # alone\n}\n").comments
    texts = [(comment.text, comment.alone) for comment in found]
    assert texts == [("# top", True), ("# at the end", False), ("# alone", True)]
    assert all(isinstance(comment, Comment) for comment in found)


# --- line breaks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "a |\n b",
        "a\n | b",
        "a\n\n# comment\n| b",
        "(a\n|\nb)",
        "(\na | b\n)",
        "a | # comment\n b",
        "a\r\n| b",
        "a\r| b",
    ],
)
def test_line_break_beside_an_operator_ends_nothing(text: str) -> None:
    assert parse(f"pattern p {{ {text} }}") == file(pattern("p", add(binary(a, "|", b))))


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\r", ";", " ; ", ";\n", "\n;\n", "\n\n\n"])
def test_line_break_or_semicolon_separates_statements(separator: str) -> None:
    assert parse(f"pattern p {{ a{separator}b }}") == file(pattern("p", add(a), add(b)))


@pytest.mark.parametrize("gap", [" ", "\n", "\n\n", " # comment\n", "\r\n"])
def test_brace_and_else_may_stand_on_a_line_of_their_own(gap: str) -> None:
    text = f"pattern p{gap}{{ when a{gap}{{ b }}{gap}else{gap}{{ blocks(2){gap}{{ c }} }} }}"
    inner = call("blocks", num(2), body=(add(c),))
    assert parse(text) == file(pattern("p", when(a, (add(b),), (add(inner),))))


def test_line_break_counts_in_a_body_inside_parentheses() -> None:
    text = "pattern p { f(blocks(2) {\n a\n b\n}\n, c) }"
    inner = call("blocks", num(2), body=(add(a), add(b)))
    assert parse(text) == file(pattern("p", add(call("f", inner, c))))


def test_a_sign_that_starts_a_line_goes_on_with_the_line_before() -> None:
    assert parse("pattern p { a\n- b }") == file(pattern("p", add(binary(a, "-", b))))
    assert parse("pattern p { a\n~b }") == file(pattern("p", add(a), add(unary("~", b))))


def test_argument_may_be_called_like_a_keyword_on_a_new_line() -> None:
    assert parse_expression("window(\n last\n =\n 3,\n only = 4)") == call(
        "window", last=num(3), only=num(4)
    )


def test_byte_order_mark_is_no_part_of_the_text() -> None:
    tree = parse("\ufeffpattern p { a }")
    assert tree.source.text == "pattern p { a }"
    assert tree.patterns[0].span.start == 0


def test_expression_may_not_be_followed_by_another() -> None:
    assert parse_expression("a\n") == a
    with pytest.raises(PatternError):
        parse_expression("a\nb")

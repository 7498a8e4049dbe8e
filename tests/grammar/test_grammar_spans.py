"""Spans: the text under each node is a text of that node."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from grammar_trees import FILES, noisy
from hypothesis import given
from hypothesis import strategies as st

from attnloom.grammar import File, format_file, parse, parse_expression
from attnloom.grammar.syntax import (
    Add,
    Argument,
    Binary,
    Boolean,
    Call,
    Compare,
    Ends,
    Every,
    Expect,
    Input,
    Interval,
    Let,
    Listing,
    Memory,
    Name,
    Never,
    Node,
    Number,
    Only,
    Parameter,
    Pattern,
    Unary,
    Use,
    When,
    children,
)

PATTERNS = sorted((Path(__file__).parents[2] / "patterns").glob("*.attn"))
EXPRESSIONS = (
    Number, Boolean, Name, Call, Unary, Binary, Compare, Interval, Ends, Every, Listing,
)  # fmt: skip
STATEMENTS = (Add, Only, Never, Let, When, Memory, Input, Expect)


def nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in children(node):
        yield from nodes(child)


def reparsed(node: Node, text: str) -> Node:
    """The text of a node, read again in a place where such a node can stand."""
    if isinstance(node, EXPRESSIONS):
        # In brackets, where line breaks mean no more than they did around the node.
        return parse_expression(f"({text}\n)")
    if isinstance(node, STATEMENTS):
        return parse(f"pattern p {{ {text}\n}}").patterns[0].body[0]
    if isinstance(node, Argument):
        call = parse_expression(f"f({text}\n)")
        assert isinstance(call, Call)
        return call.arguments[0]
    if isinstance(node, Parameter):
        return parse(f"pattern p({text}\n) {{}}").patterns[0].parameters[0]
    if isinstance(node, Use):
        return parse(f"{text}\npattern p {{}}").uses[0]
    assert isinstance(node, Pattern | File)
    return parse(text).patterns[0] if isinstance(node, Pattern) else parse(text)


def check_spans(file: File) -> None:
    for node in nodes(file):
        assert reparsed(node, file.source.slice(node.span)) == node
        inside = [child.span for child in children(node)]
        assert inside == sorted(inside)
        assert all(node.span | span == node.span for span in inside)
        for one, other in pairwise(inside):
            assert one.stop <= other.start
        for field, text in (
            ("name_span", getattr(node, "name", "")),
            ("kind_span", getattr(node, "kind", "")),
            ("metric_span", getattr(node, "metric", "")),
        ):
            span = getattr(node, field, None)
            assert span is None or file.source.slice(span) == text
    for comment in file.comments:
        assert file.source.slice(comment.span).rstrip() == comment.text


@pytest.mark.parametrize("path", PATTERNS, ids=lambda path: path.stem)
def test_text_under_a_node_of_a_bundled_pattern_is_a_text_of_it(path: Path) -> None:
    check_spans(parse(path.read_text(encoding="utf-8")))


@given(FILES, st.integers())
def test_text_under_a_node_is_a_text_of_it(file: File, seed: int) -> None:
    check_spans(parse(noisy(format_file(file), seed)))


def test_parentheses_belong_to_the_span_of_what_they_hold() -> None:
    tree = parse_expression("a * ( (b + c) )")
    assert isinstance(tree, Binary)
    assert (tree.right.span.start, tree.right.span.stop) == (4, 15)

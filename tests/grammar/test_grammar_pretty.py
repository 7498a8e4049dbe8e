"""The layout of documents against all ways of laying a small document out."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnloom.grammar.pretty import Break, Doc, Group, HardBreak, Nest, Trailing, layout


def call(*parts: str) -> Doc:
    inner: list[Doc] = [parts[0]]
    for part in parts[1:]:
        inner += [",", Break(), part]
    return Group(("f(", Nest((Break(""), *inner)), Break(""), ")"))


def test_group_that_fits_is_one_line() -> None:
    assert layout(call("a", "b"), width=7) == "f(a, b)"


def test_group_that_does_not_fit_breaks_everywhere() -> None:
    assert layout(call("a", "b"), width=6) == "f(\n    a,\n    b\n)"


def test_outer_group_breaks_before_an_inner_one() -> None:
    doc = Group(("f(", Nest((Break(""), call("a", "b"), ",", Break(), "c")), Break(""), ")"))
    assert layout(doc, width=12) == "f(\n    f(a, b),\n    c\n)"
    assert layout(doc, width=11) == "f(\n    f(\n        a,\n        b\n    ),\n    c\n)"


def test_what_follows_a_group_on_its_line_counts_for_the_width() -> None:
    assert layout((call("a"), " + x"), width=8) == "f(a) + x"
    assert layout((call("a"), " + xy"), width=8) == "f(\n    a\n) + xy"


def test_hard_break_always_breaks_and_may_leave_an_empty_line() -> None:
    doc = ("{", Nest((HardBreak(), "a", HardBreak(blank=True), "b")), HardBreak(), "}")
    assert layout(doc, width=80) == "{\n    a\n\n    b\n}"


def test_steps_of_indentation_add_up() -> None:
    doc = ("a", Nest((HardBreak(), "b", Nest((HardBreak(), "c")))))
    assert layout(doc, width=80, step=2) == "a\n  b\n    c"


def test_comment_does_not_count_for_the_width() -> None:
    assert layout(Trailing(call("a", "b"), "# a long comment"), width=7) == (
        "f(a, b)  # a long comment"
    )


def test_comment_stands_at_its_offset_if_there_is_room() -> None:
    assert layout(Trailing("abc", "# c", 10), width=80) == "abc       # c"
    assert layout(Trailing("abc", "# c", 4), width=80) == "abc  # c"
    indented = Nest((HardBreak(), Trailing("abc", "# c", 10)))
    assert layout(indented, width=80) == "\n    abc       # c"


def test_no_line_ends_in_a_blank() -> None:
    doc = Group(("a ", Break(), Nest((Break(), "b")), " ", HardBreak()))
    assert layout(doc, width=1).splitlines() == ["a", "", "    b"]


@pytest.mark.parametrize("depth", [1, 50, 5000])
def test_nesting_costs_no_recursion(depth: int) -> None:
    doc: Doc = "x"
    for _ in range(depth):
        doc = Group(("(", Nest((Break(""), doc)), Break(""), ")"))
    assert layout(doc, width=10**9) == "(" * depth + "x" + ")" * depth


# --- against all layouts -------------------------------------------------------------------------

WORDS = st.sampled_from(["a", "bb", "cccc"])
DOCS: st.SearchStrategy[Doc] = st.recursive(
    WORDS | st.just(Break()) | st.just(Break("")),
    lambda inner: st.one_of(
        st.tuples(inner, inner), st.builds(Group, inner), st.builds(Nest, inner)
    ),
    max_leaves=7,
)


def groups(doc: Doc) -> int:
    if isinstance(doc, tuple):
        return sum(map(groups, doc))
    if isinstance(doc, Group):
        return 1 + groups(doc.part)
    return groups(doc.part) if isinstance(doc, Nest) else 0


def laid_out(doc: Doc, flat: list[bool], indent: int = 0, is_flat: bool = False) -> str:
    """The text when `flat` says for each group, outermost first, whether it is flat."""
    if isinstance(doc, str):
        return doc
    if isinstance(doc, tuple):
        return "".join(laid_out(part, flat, indent, is_flat) for part in doc)
    if isinstance(doc, Break):
        return doc.flat if is_flat else "\n" + " " * indent
    if isinstance(doc, Group):
        chosen = flat.pop(0)
        return laid_out(doc.part, flat, indent, is_flat or chosen)
    assert isinstance(doc, Nest)
    return laid_out(doc.part, flat, indent + 4, is_flat)


def stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.split("\n"))


@given(DOCS, st.integers(1, 12))
def test_layout_is_one_of_all_and_fits_if_everything_flat_fits(doc: Doc, width: int) -> None:
    found = layout(doc, width=width)
    choices = product([True, False], repeat=groups(doc))
    everything = {stripped(laid_out(doc, list(choice))) for choice in choices}
    assert found in everything
    flattest = laid_out(doc, [True] * groups(doc))
    if all(len(line) <= width for line in flattest.split("\n")):
        assert found == stripped(flattest)

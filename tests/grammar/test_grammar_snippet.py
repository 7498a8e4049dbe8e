"""Offsets, lines and columns, and one line of a source as a terminal shows it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnloom.grammar import Source, Span
from attnloom.grammar.snippet import WIDTH, escaped, snippet

# All kinds of trouble: tabs, wide and combining characters, controls, line breaks.
TEXTS = st.text("ab \t\n\r漢字é\u0301🎉\x1b\u200b\u00a0", max_size=40)


def shown(text: str, start: int, stop: int) -> tuple[str, str]:
    """The line and the marks under it, as two rows."""
    line, before, width = snippet(Source("s", text), Span(start, stop))
    return line, " " * before + "^" * width


def columns(text: str) -> int:
    """Columns in a terminal, by the definition: wide ones take two, combining ones none."""
    wide = sum(unicodedata.east_asian_width(char) in ("W", "F") for char in text)
    marks = sum(unicodedata.category(char) in ("Mn", "Me") for char in text)
    return len(text) + wide - marks


# --- spans and sources ---------------------------------------------------------------------------


def test_span_that_covers_two() -> None:
    assert Span(4, 6) | Span(1, 2) == Span(1, 6)
    assert Span(1, 9) | Span(2, 3) == Span(1, 9)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_in_any_of_three_ways(end: str) -> None:
    source = Source("s", f"one{end}two{end}{end}four")
    assert source.num_lines == 4
    assert [source.line(number) for number in (1, 2, 3, 4)] == ["one", "two", "", "four"]
    start = len(f"one{end}")
    assert source.location(start) == (2, 1)
    assert source.location(start + 2) == (2, 3)


def test_mixed_line_ends_are_told_apart() -> None:
    source = Source("s", "a\r\nb\rc\n\rd\n")
    assert [source.line(number) for number in range(1, 7)] == ["a", "b", "c", "", "d", ""]


def test_offsets_beyond_the_text_are_its_ends() -> None:
    source = Source("s", "ab\ncd")
    assert source.location(-5) == (1, 1)
    assert source.location(99) == (2, 3)
    assert Source("s", "").location(0) == (1, 1)


def test_end_of_a_text_with_a_line_break_is_on_the_next_line() -> None:
    assert Source("s", "ab\n").location(3) == (2, 1)
    assert Source("s", "ab\n").line(2) == ""


@given(TEXTS, st.data())
def test_location_agrees_with_counting(text: str, data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, len(text)))
    source = Source("s", text)
    line, column = source.location(offset)
    before = text[:offset]
    # A CR LF is one line break; the place between its two characters is still on its line.
    joined = before.replace("\r\n", "\n")
    if before.endswith("\r") and text[offset : offset + 1] == "\n":
        joined = joined[:-1] + " "
    lines = joined.replace("\r", "\n").split("\n")
    assert line == len(lines)
    assert column == len(lines[-1]) + 1


@given(TEXTS)
def test_lines_put_together_are_the_text(text: str) -> None:
    source = Source("s", text)
    lines = [source.line(number) for number in range(1, source.num_lines + 1)]
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    assert "\n".join(lines) == plain


# --- marks ---------------------------------------------------------------------------------------


def test_marks_stand_under_the_span() -> None:
    assert shown("abc def", 4, 7) == ("abc def", "    ^^^")


def test_empty_span_gets_one_mark() -> None:
    assert shown("abc", 1, 1) == ("abc", " ^")
    assert shown("abc", 3, 3) == ("abc", "   ^")
    assert shown("", 0, 0) == ("", "^")


def test_span_over_lines_is_marked_to_the_end_of_the_first() -> None:
    assert shown("abc\ndef", 1, 6) == ("abc", " ^^")


def test_line_break_itself_is_marked_after_the_line() -> None:
    assert shown("abc\r\ndef", 3, 5) == ("abc", "   ^")


def test_tabs_reach_to_the_next_stop() -> None:
    assert shown("\tx", 1, 2) == ("    x", "    ^")
    assert shown("ab\tx", 3, 4) == ("ab  x", "    ^")
    assert shown("abcd\tx", 4, 5) == ("abcd    x", "    ^^^^")


def test_wide_characters_get_two_marks() -> None:
    assert shown("漢字 x", 0, 2) == ("漢字 x", "^^^^")
    assert shown("漢字 x", 3, 4) == ("漢字 x", "     ^")
    assert shown("🎉x", 1, 2) == ("🎉x", "  ^")


def test_combining_marks_take_no_column() -> None:
    assert shown("e\u0301x", 2, 3) == ("e\u0301x", " ^")
    assert shown("e\u0301x", 0, 2) == ("e\u0301x", "^")


def test_controls_are_shown_as_escapes_and_marked_whole() -> None:
    assert shown("a\x1bb", 1, 2) == ("a\\x1bb", " ^^^^")
    assert shown("a\u200bb", 2, 3) == ("a\\u200bb", "       ^")


def test_tab_after_wide_characters_counts_their_columns() -> None:
    assert shown("漢\tx", 2, 3) == ("漢  x", "    ^")


def test_long_line_is_cut_on_both_sides_of_the_span() -> None:
    text = "a" * 500 + "bcd" + "e" * 500
    line, marks = shown(text, 500, 503)
    assert len(line) == WIDTH
    assert line.startswith("...a")
    assert line.endswith("e...")
    assert line[marks.index("^") : len(marks)] == "bcd"


def test_line_of_the_width_is_shown_whole_and_a_longer_one_is_cut() -> None:
    assert shown("x" * WIDTH, 0, 1)[0] == "x" * WIDTH
    assert shown("x" * (WIDTH + 1), 0, 1)[0] == "x" * (WIDTH - 3) + "..."


def test_end_of_a_long_line_is_shown() -> None:
    line, marks = shown("x" * 1000 + ")", 1000, 1001)
    assert line.startswith("...")
    assert line.endswith("x)")
    assert len(marks) == len(line)


def test_long_span_is_marked_as_far_as_it_is_shown() -> None:
    line, marks = shown("x" * 1000, 0, 1000)
    assert marks == "^" * (WIDTH - 3)
    assert line.endswith("...")


@pytest.mark.parametrize("char", ["x", "漢", "\t", "\u0301", "\x1b"])
def test_line_of_a_million_characters_takes_no_time(char: str) -> None:
    text = char * 1_000_000
    for start in (0, 500_000, 999_999):
        line, before, width = snippet(Source("s", text), Span(start, start + 1))
        assert len(line) < 10 * WIDTH
        assert before + width <= 2 * WIDTH


@given(TEXTS, st.data())
def test_marks_are_as_wide_as_what_is_shown_of_the_span(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, len(text)))
    source = Source("s", text)
    line, before, width = snippet(source, Span(start, stop))
    assert line.isprintable()
    assert width >= 1
    number, column = source.location(start)
    whole = source.line(number)
    visible = min(column - 1, len(whole))
    if "\t" not in whole:
        left, right = escaped(whole[:visible]), escaped(whole[visible : visible + stop - start])
        assert before == columns(left)
        assert width == max(1, columns(right))
        assert line == escaped(whole)

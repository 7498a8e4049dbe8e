"""The compiler against an interpreter of its own kind: random programs of the whole language."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracle import pairs
from oracle_values import Meaningless, Unsettled
from programs import Program, programs

import attnloom
from attnloom.compiler.model import CostModel
from attnloom.compiler.passes import OPTIONAL
from attnloom.grammar import format_source, parse, syntax
from attnloom.grammar.words import KEYWORDS, SIGNS

BLOCKS = (4, 8, 16, 32, 128, 12, 5, 1)
"""Sides of tiles."""

TILES = ((16, 16), (32, 32), (64, 64), (128, 128), (128, 64), (8, 8), (8, 16), (4, 4))
"""Queries and keys of tiles."""

EAGER = CostModel(processors=4, reorder=-2.0, gathered=1.0, merge=0.0)
"""A model in which orders, lists and splits pay at once, so that short sequences have them."""

REFERENCE = Path(__file__).parents[2] / "docs" / "language.md"

some = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
many = settings(some, max_examples=2500)


# --- what is asked of a program ------------------------------------------------------------------


def wanted(program: Program, head: int, element: int) -> NDArray[np.bool_] | None:
    """The mask by the interpreter; None where the program has no meaning."""
    try:
        memory, found = pairs(
            program.text,
            program.n,
            head,
            program.heads,
            program.layer,
            program.layers,
            program.params,
            program.inputs,
            element,
        )
    except Meaningless:
        return None
    dense = np.zeros((memory + program.n, memory + program.n), dtype=np.bool_)
    for i, j in found:
        dense[i, j] = True
    return dense


def ranges(row: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The keys of a row as sorted disjoint ranges."""
    found: list[tuple[int, int]] = []
    for j in np.flatnonzero(row).tolist():
        if found and found[-1][1] == j:
            found[-1] = (found[-1][0], j + 1)
        else:
            found.append((j, j + 1))
    return found


def check_program(
    program: Program, block: int, row: int, tile: tuple[int, int], without: Collection[str]
) -> None:
    """All that is asked of a pattern, for every head and batch element."""
    pattern = attnloom.parse(program.text, **program.params)
    places = [(element, head) for element in range(program.batch) for head in range(program.heads)]
    masks = {place: wanted(program, place[1], place[0]) for place in places}
    for place, mask in masks.items():
        check_place(pattern, program, mask, place, row)
    where: dict[str, Any] = {
        "heads": program.heads,
        "layer": program.layer,
        "layers": program.layers,
        "inputs": program.inputs,
        "block": block,
    }
    if any(mask is None for mask in masks.values()):
        for ask in (pattern.layouts, pattern.head_layouts):
            with pytest.raises(attnloom.PatternError):
                ask(program.n, **where)
        return
    layouts, chosen = pattern.layouts(program.n, **where)
    assert chosen.shape == (program.batch, program.heads)
    for place, mask in masks.items():
        assert mask is not None
        layout = layouts[chosen[place]]
        assert (layout.block_m, layout.block_n) == (block, block)
        np.testing.assert_array_equal(layout.to_dense(), mask)
        assert layout.reads() == mask.sum()
        np.testing.assert_array_equal(layout.transpose().to_dense(), mask.T)
    where.update(block=tile, without=without, model=EAGER)
    heads, chosen = pattern.head_layouts(program.n, **where)
    assert chosen.shape == (program.batch, program.heads)
    for place, mask in masks.items():
        assert mask is not None
        head = heads[chosen[place]]
        assert head.fault() is None
        np.testing.assert_array_equal(head.to_dense(), mask)
        np.testing.assert_array_equal(head.transposed_to_dense(), mask)
        assert head.reads == mask.sum()


def check_place(
    pattern: attnloom.Pattern,
    program: Program,
    mask: NDArray[np.bool_] | None,
    place: tuple[int, int],
    row: int,
) -> None:
    """Mask, number of pairs and rows for one batch element and head."""
    element, head = place
    where: dict[str, Any] = {
        "head": head,
        "heads": program.heads,
        "layer": program.layer,
        "layers": program.layers,
        "inputs": program.inputs,
        "element": element,
    }
    if mask is None:
        for ask in (pattern.mask, pattern.reads):
            with pytest.raises(attnloom.PatternError):
                ask(program.n, **where)
        return
    np.testing.assert_array_equal(pattern.mask(program.n, **where), mask)
    assert pattern.reads(program.n, **where) == mask.sum()
    for i in {0, row % len(mask), len(mask) - 1}:
        assert pattern.row(i, program.n, **where) == ranges(mask[i])


def check_drawn(data: st.DataObject, most: int) -> None:
    program = data.draw(programs(most))
    block, row = data.draw(st.sampled_from(BLOCKS)), data.draw(st.integers(0, most))
    tile, without = data.draw(st.sampled_from(TILES)), data.draw(st.sets(st.sampled_from(OPTIONAL)))
    note(repr(program))
    try:
        check_program(program, block, row, tile, without)
    except Unsettled:
        return


@some
@given(st.data())
def test_compiler_agrees_with_an_interpreter(data: st.DataObject) -> None:
    check_drawn(data, 32)


@pytest.mark.slow
@many
@given(st.data())
def test_compiler_agrees_with_an_interpreter_on_many_programs(data: st.DataObject) -> None:
    check_drawn(data, 96)


ONCE_WRONG = [
    # Remainders by 1 had no places to compare.
    ("pattern p { where(i % 1 < j % 1) | self }", 5),
    # A row of a condition had pieces without end.
    ("pattern p { where(not i // 3 >= j // 3 and (i ^ j < 8 or j % 2 == i % 2)) }", 4),
    # What an `only` draws was drawn from all keys, and lost to the other `only`.
    ("pattern p { full; only causal; only random(links=1) }", 9),
    # `last 1` was the last token, of which there is no block.
    ("pattern p(t: tokens = last 1) { blocks(2) { broadcast(t) } }", 7),
    ("pattern q(t: tokens) { blocks(2) { global(t) } }\npattern p { q(-1) }", 7),
]


@pytest.mark.parametrize(("text", "n"), ONCE_WRONG)
def test_what_was_wrong_once_stays_right(text: str, n: int) -> None:
    program = Program(text, n, 0, 2, 0, 1, {}, {}, 1)
    for block in BLOCKS:
        check_program(program, block, n // 2, (block, block), ())


# Each was accepted once, and meant nothing.
REFUSED = [
    ("pattern p { grid(2, 3) { let a = near(1); blocks(2) { a } } }", "misplaced-name"),
    ("pattern p { input q: tokens; let a = q; blocks(2) { global(a) } }", "misplaced-name"),
    ("pattern p { input q: links; let a = links(q); blocks(2) { a } }", "misplaced-name"),
    (
        "pattern r { input q: tokens; global(q) }\npattern p { let a = r; blocks(2) { a } }",
        "misplaced-name",
    ),
    (
        "pattern r(t: tokens) { blocks(2) { global(t) } }\npattern p { input q: tokens; r(q) }",
        "misplaced-name",
    ),
    ("pattern p(t: tokens = 5) { blocks(2) { global(t) } }", "position-outside"),
    ("pattern p { input q: tokens; memory(count(q)); full }", "memory-varies"),
    ("pattern p(k = head, m = k + k) { memory(m); full }", "memory-varies"),
]


@pytest.mark.parametrize(("text", "slug"), REFUSED)
def test_what_means_nothing_is_refused(text: str, slug: str) -> None:
    inputs = {}
    if "input" in text:
        inputs["q"] = [[0]] * 6 if "links" in text else [0]
    with pytest.raises(attnloom.PatternError) as caught:
        attnloom.parse(text).mask(6, inputs=inputs)
    assert caught.value.diagnostics[0].slug == slug


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("pattern p(t: tokens = 0, k = count(t)) { full }", {"t": "0", "k": "count(t)"}),
        ("pattern p(k = n // 2, m = k + 1, z = 4, y = z * 2) { full }",
         {"k": "n // 2", "m": "k + 1", "z": 4, "y": 8}),
    ],
)  # fmt: skip
def test_parameters_that_depend_on_the_length_are_shown(text: str, params: dict[str, Any]) -> None:
    assert attnloom.parse(text).params == params


# --- texts ---------------------------------------------------------------------------------------


@settings(some, max_examples=60)
@given(programs(24))
def test_formatting_does_not_change_the_meaning(program: Program) -> None:
    note(repr(program))
    formatted = format_source(program.text)
    assert parse(formatted) == parse(program.text)
    assert format_source(formatted) == formatted
    where = (program.n, program.head, program.layer, program.heads, program.layers)
    masks = [
        mask_or_problem(text, program.params, program.inputs, where)
        for text in (program.text, formatted)
    ]
    np.testing.assert_array_equal(*masks)


def mask_or_problem(
    text: str, params: dict[str, Any], inputs: dict[str, Any], where: tuple[int, ...]
) -> NDArray[np.bool_] | str:
    """The mask, or what kind of error there is."""
    try:
        return attnloom.parse(text, **params).mask(*where, inputs)
    except attnloom.PatternError as error:
        return error.diagnostics[0].slug


@settings(some, max_examples=100)
@given(st.data())
def test_spoilt_program_has_a_meaning_or_a_diagnostic(data: st.DataObject) -> None:
    program = data.draw(programs(16))
    text = spoilt(data, program.text)
    note(text)
    where = (program.n, program.head, program.layer, program.heads, program.layers)
    try:
        pattern = attnloom.parse(text, **program.params)
        assert set(program.params) <= set(pattern.params)
        mask = pattern.mask(*where, program.inputs)
        assert pattern.reads(*where, program.inputs) == mask.sum()
    except attnloom.PatternError:
        return
    except (ValueError, TypeError) as error:
        # The inputs may have been spoilt, too.
        if not str(error).startswith("inputs"):
            raise


def spoilt(data: st.DataObject, text: str) -> str:
    """The text with a few words or signs left out, doubled, or replaced."""
    words = re.findall(r"\s+|\w+|\.\.|\*\*|//|[<>=!]=|.", text)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(words) - 1))
        other = data.draw(st.sampled_from([*KEYWORDS, *SIGNS.values(), "n", "0", "3", *words]))
        words[at : at + 1] = data.draw(
            st.sampled_from([[], [words[at], words[at]], [other], [words[at], " ", other]])
        )
    return "".join(words)


# --- what the programs are made of ---------------------------------------------------------------


def marks(program: Program) -> Iterator[str]:
    """What a program uses, each in one word."""
    file = parse(program.text)
    for use in file.uses:
        yield type(use).__name__
    patterns = [pattern.name for pattern in file.patterns]
    for pattern in file.patterns:
        yield from marks_of(pattern, patterns, ())
    if program.params:
        yield "value"
    for value in program.inputs.values():
        yield f"{type(value).__name__}/{np.ndim(value) if isinstance(value, np.ndarray) else ''}"
    yield f"batch/{program.batch}"


def marks_of(node: syntax.Node, patterns: list[str], around: tuple[str, ...]) -> Iterator[str]:
    yield type(node).__name__
    match node:
        case syntax.Unary(operator=operator) | syntax.Binary(operator=operator):
            yield f"{type(node).__name__}:{operator}"
        case syntax.Compare(operators=operators):
            yield from operators
            yield f"chain/{len(operators)}"
        case syntax.Ends(end=end):
            yield end
        case syntax.Every(start=start):
            yield "every" if start is None else "from"
        case syntax.Name(name=name):
            yield "pattern" if name in patterns else name
            yield from (f"{name}@{one}" for one in around)
        case syntax.Call(name=name, arguments=arguments):
            yield "pattern()" if name in patterns else name
            yield f"{name}/{len(arguments)}"
            yield from (f"{name}({one.name})" for one in arguments if one.name)
            yield from (f"{name}@{one}" for one in around)
        case syntax.When(otherwise=otherwise):
            yield "no-else" if otherwise is None else "else"
            if otherwise is not None and [type(one) for one in otherwise] == [syntax.When]:
                yield "else-when"
        case syntax.Memory(arguments=arguments):
            yield from (f"memory({one.name})" for one in arguments if one.name)
        case syntax.Input(kind=kind):
            yield f"input:{kind}"
        case syntax.Expect(value=value):
            yield "property" if value is None else "metric"
        case syntax.Parameter(kind=kind, low=low, default=default):
            yield f"parameter:{kind}"
            yield "range" if low is not None else "no-range"
            yield "default" if default is not None else "no-default"
    if isinstance(node, syntax.Call) and node.body is not None:
        around = (*around, node.name)
    if isinstance(node, (syntax.Only, syntax.Never, syntax.Let)):
        around = (*around, type(node).__name__)
    for child in syntax.children(node):
        yield from marks_of(child, patterns, around)


EVERY_MARK = """
    Number Boolean Name Argument Call Unary Binary Compare Interval Ends Every Listing
    Add Only Never Let When Memory Input Expect Parameter Pattern Use
    Unary:- Unary:~ Unary:not Binary:| Binary:& Binary:- Binary:+ Binary:* Binary:// Binary:%
    Binary:** Binary:^ Binary:and Binary:or < <= > >= == != chain/1 chain/2
    min max abs log2 isqrt ceil_div count min/2 min/3 i j n head heads layer layers
    first last every from
    full none self causal global broadcast collect stride chunks same links where transpose
    window(each_side) window(left) window(right) window(last) window(width) window(dilation)
    window(wrap) neighborhood(keys) neighborhood(dilation) neighborhood/2 neighborhood/3
    neighborhood(stride) neighborhood(causal) neighborhood(columns) neighborhood(rows)
    neighborhood(frames)
    random(links) random(seed) random(outside) random(per_head) random(per_layer)
    expander(degree) expander(seed) expander(per_head) expander(per_layer)
    offsets(base) offsets/1 near/1 near/2 near/3 row column tile/2 tile/3 tile(shift)
    grid/2 grid/3 blocks@blocks blocks@grid grid@blocks grid@grid
    random@blocks random@grid random@Only random@Never random@Let expander@blocks where@blocks
    near@blocks blocks@Only blocks@Let grid@Let pattern pattern() else else-when no-else
    memory(reads) memory(read) input:tokens input:segments input:links property metric
    parameter:int parameter:bool parameter:tokens parameter:None range no-range default no-default
    value ndarray/1 ndarray/2 list/ tuple/ batch/1 batch/2
"""


def test_programs_use_the_whole_language() -> None:
    found: Counter[str] = Counter()
    kinds: Counter[str] = Counter()

    @settings(some, max_examples=500, derandomize=True, database=None, phases=[Phase.generate])
    @given(programs(20))
    def look(program: Program) -> None:
        found.update(set(marks(program)))
        kinds[kind_of_mask(program)] += 1

    look()
    assert set(EVERY_MARK.split()) - set(found) == set()
    text = REFERENCE.read_text(encoding="utf-8")
    table = text[text.index("<!-- primitives -->") : text.index("<!-- end -->")]
    assert set(re.findall(r"^\| `(\w+)", table, re.MULTILINE)) - set(found) == set()
    assert kinds["neither empty nor full"] > 0.6 * kinds.total()
    assert kinds["unsettled"] + kinds["meaningless"] < 0.1 * kinds.total()


def kind_of_mask(program: Program) -> str:
    try:
        mask = wanted(program, program.head, 0)
    except Unsettled:
        return "unsettled"
    if mask is None:
        return "meaningless"
    return "empty" if not mask.any() else "full" if mask.all() else "neither empty nor full"

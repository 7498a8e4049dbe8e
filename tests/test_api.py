"""The public functions of the package, as a user calls them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attnloom
from attnloom import Pattern, PatternError, attention, load, parse

WINDOW = "pattern p(r = 2) { window(each_side=r) }"
QUESTION = "pattern p { input question: tokens; self; global(question) }"
DOCUMENTS = "pattern p { input doc: segments; only causal; same(doc) }"
PICKS = "pattern p { input picks: links; links(picks) }"


def example_inputs(pattern: Pattern, n: int) -> dict[str, Any]:
    """Some value for each input of a pattern."""
    examples = {
        "tokens": list(range(min(n, 9))),
        "segments": [i // 50 for i in range(n)],
        "links": [[i // 2, 0] for i in range(n)],
    }
    return {name: examples[kind] for name, kind in pattern.inputs.items()}


def slugs(error: pytest.ExceptionInfo[PatternError]) -> set[str]:
    return {one.slug for one in error.value.diagnostics}


# --- load and parse ------------------------------------------------------------------------------


def test_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "p.attn"
    path.write_text(WINDOW, encoding="utf-8")
    for given in (path, str(path)):
        assert load(given, r=1).reads(10) == 28


def test_bundled_pattern_is_loaded_by_its_name() -> None:
    assert load("longformer", reach=1, cls=[0, 4]).params == {"reach": 1, "cls": "[0, 4]"}


def test_unknown_name_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match="did you mean `longformer`"):
        load("longfromer")


def test_missing_file_is_an_error() -> None:
    with pytest.raises(PatternError) as error:
        load("nowhere/p.attn")
    assert slugs(error) == {"cannot-read"}


@pytest.mark.parametrize("wrong", [None, 3, b"pattern p { full }"])
def test_wrong_types_are_refused(wrong: Any) -> None:
    with pytest.raises(TypeError):
        load(wrong)
    with pytest.raises(TypeError):
        parse(wrong)


def test_main_pattern_is_the_last_or_called_main() -> None:
    two = "pattern a { self }\npattern b { full }"
    assert parse(two).name == "b"
    assert parse(two.replace("pattern a", "pattern main")).name == "main"


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        (3, {3}),
        (-1, {7}),
        (np.int64(2), {2}),
        (range(1, 4), {1, 2, 3}),
        (range(0, 8, 3), {0, 3, 6}),
        ([0, 5, -2], {0, 5, 6}),
        ((4, 4), {4}),
        (np.array([1, 2]), {1, 2}),
        ([], set()),
        ("first 2 | last 1", {0, 1, 7}),
        ("[0, 3..5]", {0, 3, 4}),
        ("every 4 from 1", {1, 5}),
    ],
)
def test_token_parameter_takes_positions_in_many_forms(value: Any, tokens: set[int]) -> None:
    pattern = parse("pattern p(t: tokens) { broadcast(t) }", t=value)
    assert set(np.flatnonzero(pattern.mask(8)[0])) == tokens


@pytest.mark.parametrize(
    ("params", "slug"),
    [
        ({"q": 1}, "bad-argument"),
        ({"r": 1.5}, "wrong-type"),
        ({"r": True}, "wrong-type"),
        ({"r": [1]}, "wrong-type"),
        ({"r": "first 3"}, "wrong-type"),
        ({"r": "causal"}, "wrong-type"),
        ({"r": "3 +"}, "syntax"),
        ({"r": 2**70}, "number-too-large"),
        ({"r": None}, "wrong-type"),
    ],
)
def test_wrong_parameter_is_an_error_that_names_it(params: dict[str, Any], slug: str) -> None:
    with pytest.raises(PatternError) as error:
        parse(WINDOW, **params)
    if slug != "syntax":
        assert slugs(error) == {slug}


def test_all_wrong_parameters_are_reported_together() -> None:
    with pytest.raises(PatternError) as error:
        parse("pattern p(a: int, b = 1) { window(left=a, right=b) }", b="x", c=1)
    assert len(error.value.diagnostics) == 3


def test_value_that_makes_no_sense_points_at_where_it_is_used() -> None:
    with pytest.raises(PatternError) as error:
        parse(WINDOW, r=-1).reads(8)
    (found,) = error.value.diagnostics
    assert found.slug == "bad-value"
    assert found.source.slice(found.span) == "r"
    assert "got -1" in found.message


def test_parameters_may_depend_on_each_other_and_on_the_length() -> None:
    pattern = parse("pattern p(r = 2, s = r + 1, t: int = n // 2) { window(left=s, right=t) }")
    assert pattern.params == {"r": 2, "s": 3, "t": "n // 2"}
    assert pattern.row(4, 10) == [(1, 10)]
    assert pattern.with_params(r=0).row(4, 10) == [(3, 10)]


# --- where a pattern is looked at ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"n": -3}, "n must be at least 1"),
        ({"n": 2.0}, "n must be an integer, got float"),
        ({"n": True}, "n must be an integer, got bool"),
        ({"n": 1 << 41}, "n must be at most"),
        ({"n": 4, "head": 2, "heads": 2}, "head must be below heads, 2, got 2"),
        ({"n": 4, "head": -1}, "head must be at least 0"),
        ({"n": 4, "layer": 3, "layers": 2}, "layer must be below layers, 2, got 3"),
        ({"n": 4, "heads": 0}, "heads must be at least 1"),
        ({"n": 4, "inputs": [1]}, "inputs must be a mapping by name, got list"),
        ({"n": 4, "element": 1}, "element must be below the batch"),
    ],
)
def test_wrong_place_is_an_error_that_names_the_argument(
    arguments: dict[str, Any], message: str
) -> None:
    for method in (Pattern.mask, Pattern.reads, Pattern.bind):
        with pytest.raises((TypeError, ValueError), match=message):
            method(parse(WINDOW), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": 0}, "heads must be at least 1"),
        ({"heads": "4"}, "heads must be an integer, got str"),
        ({"block": 0}, "block must be at least 1"),
        ({"block": 1 << 20}, "block must be at most"),
        ({"layer": 2, "layers": 1}, "layer must be below layers"),
    ],
)
def test_wrong_argument_of_compile_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        parse(WINDOW).compile(8, **arguments)


@pytest.mark.parametrize("i", [-1, 8, 2.0])
def test_row_outside_is_an_error(i: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="i must be"):
        parse(WINDOW).row(i, 8)


def test_head_and_layer_choose() -> None:
    pattern = parse(
        "pattern p { when head == heads - 1 { self } else when layer % 2 == 1 { causal } "
        "else { full } }"
    )
    assert pattern.reads(4, head=1, heads=2) == 4
    assert pattern.reads(4, head=0, heads=2, layer=1) == 10
    assert pattern.reads(4, head=0, heads=2, layer=2, layers=9) == 16


def test_memory_stands_in_front() -> None:
    pattern = parse("pattern p { memory(2); only causal; window(last=1) }")
    assert pattern.mask(3).astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert pattern.row(3, 3) == [(0, 2), (3, 4)]
    assert pattern.reads(3) == 12
    assert pattern.compile(3).memory == 2


@pytest.mark.parametrize(
    ("options", "rows", "columns"),
    [("", True, True), (", reads=false", False, True), (", read=false", True, False)],
)
def test_memory_has_two_directions(options: str, rows: bool, columns: bool) -> None:
    mask = parse(f"pattern p {{ memory(2{options}); none }}").mask(3)
    wanted = np.zeros((5, 5), dtype=bool)
    wanted[:2, :] |= rows
    wanted[:, :2] |= columns
    assert np.array_equal(mask, wanted)


def test_only_and_never_about_tokens_leave_memory_alone() -> None:
    pattern = parse("pattern p { memory(1); full; only window(last=1); never self }")
    assert pattern.mask(2).astype(int).tolist() == [[1, 1, 1], [1, 0, 0], [1, 0, 0]]


# --- inputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        [1, 3],
        "[1, 3]",
        np.array([0, 1, 0, 1], dtype=bool),
        [False, True, False, True],
        torch.tensor([False, True, False, True]),
        np.array([1, 3]),
        (1, 3),
        range(1, 4, 2),
    ],
)
def test_tokens_input_takes_one_element_in_many_forms(given: Any) -> None:
    mask = parse(QUESTION).mask(4, inputs={"question": given})
    assert np.flatnonzero(mask[0]).tolist() == [0, 1, 3]
    layouts, chosen = parse(QUESTION).layouts(4, heads=2, inputs={"question": given})
    assert chosen.tolist() == [[0, 0]]
    assert np.array_equal(layouts[0].to_dense(), mask)


@pytest.mark.parametrize(
    "given",
    [
        [[1], [0, 2], []],
        [[1], "[0, 2]", np.zeros(4, dtype=bool)],
        np.array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]], dtype=bool),
        torch.tensor([[0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]).bool(),
        [[False, True, False, False], [True, False, True, False], [False] * 4],
    ],
)
def test_tokens_input_takes_a_batch_in_many_forms(given: Any) -> None:
    pattern = parse(QUESTION)
    layouts, chosen = pattern.layouts(4, inputs={"question": given})
    for element, tokens in enumerate([{1}, {0, 2}, set()]):
        mask = pattern.mask(4, inputs={"question": given}, element=element)
        assert set(np.flatnonzero(mask[3])) == tokens | {3}
        assert np.array_equal(layouts[chosen[element, 0]].to_dense(), mask)
    plan = pattern.compile(4, inputs={"question": given}, heads=2)
    assert plan.batch_size == 3


def test_segments_input_is_ids() -> None:
    ids = np.array([[0, 0, 7, 7], [1, 2, 1, 2]])
    pattern = parse(DOCUMENTS)
    for given in (ids, ids.tolist(), torch.tensor(ids)):
        for element in range(2):
            same = ids[element][:, None] == ids[element]
            mask = pattern.mask(4, inputs={"doc": given}, element=element)
            assert np.array_equal(mask, same & np.tri(4, dtype=bool))
    assert pattern.reads(4, inputs={"doc": ids[0]}) == 6


@pytest.mark.parametrize(
    "given",
    [
        [[0], [0, 2], [], [1, 1]],
        (np.array([0, 1, 3, 3, 5]), np.array([0, 2, 0, 1, 1])),
        ([0, 1, 3, 3, 5], [0, 2, 0, 1, 1]),
        (torch.tensor([0, 1, 3, 3, 5]), torch.tensor([0, 2, 0, 1, 1])),
    ],
)
def test_links_input_is_lists_of_keys(given: Any) -> None:
    wanted = [[1, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert parse(PICKS).mask(4, inputs={"picks": given}).astype(int).tolist() == wanted
    twice = parse(PICKS).mask(4, inputs={"picks": [given, given]}, element=1)
    assert twice.astype(int).tolist() == wanted


@pytest.mark.parametrize(
    ("text", "inputs", "message"),
    [
        (QUESTION, None, "the tokens input 'question' is missing"),
        (QUESTION, {}, "the tokens input 'question' is missing"),
        (QUESTION, {"qestion": [1]}, "no input is called 'qestion'.*did you mean `question`"),
        (WINDOW, {"question": [1]}, "no input is called 'question'.*has no inputs"),
        (QUESTION, {"question": [4]}, r"positions in 0\.\.4, got 4"),
        (QUESTION, {"question": [-1]}, r"positions in 0\.\.4, got -1"),
        (QUESTION, {"question": np.zeros((2, 5), dtype=bool)}, r"shape \(batch, 4\).*\(2, 5\)"),
        (QUESTION, {"question": np.zeros((1, 2, 4), dtype=bool)}, "shape"),
        (QUESTION, {"question": 1.5}, "must be a boolean mask, positions, or text, got float"),
        (QUESTION, {"question": [1.5]}, "must hold"),
        (QUESTION, {"question": {"a": 1}}, "got dict"),
        (DOCUMENTS, {"doc": [0, 0, 1]}, r"shape \(batch, 4\) or \(4,\), got \(3,\)"),
        (DOCUMENTS, {"doc": [0.0, 0, 1, 1]}, "must hold integers, got float64"),
        (DOCUMENTS, {"doc": [[0], [1, 2]]}, "must have shape"),
        (PICKS, {"picks": [[0], [1]]}, "must have 4 lists of keys, one for each query, got 2"),
        (PICKS, {"picks": [[0], [1], [2], [4]]}, r"keys in 0\.\.4, got 4"),
        (PICKS, {"picks": ([0, 1], [0])}, r"must have 5 offsets \(n \+ 1\), got 2"),
        (PICKS, {"picks": ([0, 1, 1, 1, 2], [0])}, "must ascend from 0 to the number of keys, 1"),
        (PICKS, {"picks": ([0, 1, 0, 1, 1], [0])}, "must ascend"),
        (PICKS, {"picks": "0..3"}, "must be a list of keys for each query"),
        (PICKS, {"picks": [[0], ["a"], [2], [3]]}, "must be a list of integer keys"),
    ],
)
def test_wrong_input_is_an_error_that_names_it(
    text: str, inputs: dict[str, Any] | None, message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        parse(text).mask(4, inputs=inputs)


def test_inputs_must_agree_in_their_batch() -> None:
    text = "pattern p { input a: tokens; input b: segments; same(b) | global(a) }"
    ids = np.zeros((3, 4), dtype=int)
    parse(text).mask(4, inputs={"a": [1], "b": ids}, element=2)
    with pytest.raises(ValueError, match="a has 2, b has 3"):
        parse(text).mask(4, inputs={"a": [[1], [2]], "b": ids})


def test_inputs_of_a_called_pattern_are_inputs_of_the_caller() -> None:
    text = "pattern a { input q: tokens; global(q) }\npattern b { a & causal }"
    pattern = parse(text)
    assert pattern.inputs == {"q": "tokens"}
    assert pattern.reads(4, inputs={"q": [0]}) == 4


# --- plans ---------------------------------------------------------------------------------------


def test_heads_that_are_equal_share_a_layout() -> None:
    plan = load("gemma3", recent=4).compile(300, heads=8, layer=3)
    assert len(plan.layouts) == 1
    assert plan.num_heads == 8
    drawn = load("bigbird", size=8).compile(300, heads=3)
    assert len(drawn.layouts) == 3


def test_plan_executes_what_the_mask_says() -> None:
    pattern = parse("pattern p { memory(3); window(each_side=9); random(links=2) }")
    plan = pattern.compile(130, heads=2, block=16)
    query, key, value = (torch.randn(2, 2, 133, 16, dtype=torch.float64) for _ in range(3))
    masks = np.stack([pattern.mask(130, head=h, heads=2) for h in range(2)])
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, torch.from_numpy(masks)
    )
    torch.testing.assert_close(attention(query, key, value, plan), wanted)


def test_plan_says_where_it_comes_from() -> None:
    assert repr(load("longformer", reach=8).compile(64)).startswith(
        "Plan(longformer, reach=8, cls=0, length 64,"
    )


def test_too_large_a_plan_is_an_error() -> None:
    with pytest.raises(PatternError) as error:
        parse("pattern p { full }").compile(1 << 22)
    assert slugs(error) == {"too-much-work"}
    with pytest.raises(PatternError) as error:
        parse("pattern p { full }").mask(1 << 20)
    assert slugs(error) == {"too-much-work"}


@pytest.mark.parametrize("name", attnloom.bundled())
@pytest.mark.parametrize("n", [1, 63, 129])
def test_bundled_pattern_is_the_same_in_every_form(name: str, n: int) -> None:
    pattern = load(name)
    inputs = example_inputs(pattern, n)
    mask = pattern.mask(n, inputs=inputs, layer=5)
    assert pattern.reads(n, inputs=inputs, layer=5) == mask.sum()
    layouts, _ = pattern.layouts(n, inputs=inputs, layer=5, block=16)
    assert np.array_equal(layouts[0].to_dense(), mask)
    for i in range(0, len(mask), 7):
        row = np.zeros(len(mask), dtype=bool)
        for start, stop in pattern.row(i, n, inputs=inputs, layer=5):
            row[start:stop] = True
        assert np.array_equal(row, mask[i])


# --- exact at any length -------------------------------------------------------------------------

BILLION = 10**9


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("full", BILLION**2),
        ("causal", BILLION * (BILLION + 1) // 2),
        ("window(each_side=256)", BILLION * 513 - 256 * 257),
        ("window(last=4096)", 4096 * 4097 // 2 + (BILLION - 4096) * 4096),
        ("global(first 4)", 8 * BILLION - 16),
        ("global(every 1000)", 2 * 10**6 * BILLION - 10**12),
        ("chunks(1000)", BILLION * 1000),
        ("chunks(64) & causal", BILLION // 64 * (64 * 65 // 2)),
        ("stride(1000)", BILLION * 10**6),
        ("window(each_side=3, dilation=8)", BILLION * 7 - 2 * (8 + 16 + 24)),
        ("window(each_side=2, wrap=true)", 5 * BILLION),
        ("neighborhood(keys=7)", 7 * BILLION),
        ("~window(each_side=1)", BILLION**2 - 3 * BILLION + 2),
        ("where(j % 128 >= 120)", BILLION * (BILLION // 128 * 8)),
        ("grid(1000, 1000, 1000) { row }", BILLION * 1000),
        ("grid(1000, 1000, 1000) { near(1, 0, 0) }", 10**6 * (3 * 1000 - 2)),
        ("blocks(1000) { window(each_side=1) }", (3 * 10**6 - 2) * 10**6),
        ("self | (stride(1000) & causal)", 1000 * (10**6 * (10**6 + 1) // 2)),
    ],
)
def test_reads_are_exact_at_a_thousand_million_tokens(text: str, reads: int) -> None:
    assert parse(f"pattern p {{ {text} }}").reads(BILLION) == reads


# --- imports -------------------------------------------------------------------------------------


def test_everything_but_attention_works_without_torch() -> None:
    code = (
        "import sys, attnloom\n"
        "p = attnloom.load('bigbird'); p.reads(512); p.mask(64); p.layouts(512); p.row(3, 512)\n"
        "assert 'torch' not in sys.modules\n"
        "assert {'attention', 'Plan', 'load'} <= set(dir(attnloom))\n"
        "attnloom.attention; assert 'torch' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        attnloom.nothing  # noqa: B018

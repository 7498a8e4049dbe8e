"""What is told of growing sequences, against masks of several lengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from programs import Program, programs

import attnloom
from attnloom.compiler.growth import global_tokens, keeps_growing, reads_ahead


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs(), st.data())
def test_pattern_that_keeps_growing_has_the_corner_of_its_mask(
    program: Program, data: st.DataObject
) -> None:
    try:
        pattern = attnloom.parse(program.text, **program.params)
        place = {"head": program.head, "heads": program.heads, "layer": program.layer}
        whole = pattern.mask(program.n, **place, layers=program.layers, inputs=program.inputs)
        memory = pattern.bind(
            program.n, **place, layers=program.layers, inputs=program.inputs
        ).memory
    except (attnloom.PatternError, ValueError):
        return
    assume(keeps_growing(pattern._typed) and not pattern.inputs)
    fewer = data.draw(st.integers(1, program.n))
    try:
        corner = pattern.mask(fewer, **place, layers=program.layers)
    except attnloom.PatternError:  # a token that is not there yet
        return
    assert np.array_equal(whole[: memory + fewer, : memory + fewer], corner)


BUNDLED = [name for name in attnloom.bundled() if not attnloom.load(name).inputs]


@pytest.mark.parametrize(
    "name", [name for name in BUNDLED if keeps_growing(attnloom.load(name)._typed)]
)
def test_bundled_pattern_that_keeps_growing_has_the_corner_of_its_mask(name: str) -> None:
    pattern = attnloom.load(name)
    for layer in range(3):
        place = {"layer": layer, "layers": 6, "head": 1, "heads": 4}
        memory = pattern.bind(90, **place).memory
        corner = pattern.mask(50, **place)
        assert np.array_equal(pattern.mask(90, **place)[: memory + 50, : memory + 50], corner)


KEEPING = {
    "window(last=5); broadcast(0..4)": True,
    "window(each_side=5); global(-1)": False,
    "window(each_side=5); global(first 2)": True,
    "window(each_side=5); global(last 2)": False,
    "window(each_side=5, wrap=true)": False,
    "random(links=3)": False,
    "random(links=3); only causal": True,
    "random(links=3) & causal": False,
    "when n > 5 { full }": False,
    "blocks(8) { window(last=3) }": True,
    "blocks(8) { where(j < n - 1) }": False,
    "neighborhood(keys=5)": False,
    "memory(2); full; expect reads <= n": True,
}


@pytest.mark.parametrize("body", KEEPING)
def test_text_tells_whether_a_pattern_keeps_growing(body: str) -> None:
    pattern = attnloom.parse(f"pattern p {{ {body} }}")
    assert keeps_growing(pattern._typed) == KEEPING[body]


def test_parameters_may_speak_of_the_length() -> None:
    pattern = attnloom.parse("pattern p(r = n // 4) { window(each_side=r) }")
    assert not keeps_growing(pattern._typed)
    assert keeps_growing(pattern.with_params(r=3)._typed)
    inner = "pattern q(t: tokens = -1) { broadcast(t) }\npattern p { q() }"
    assert not keeps_growing(attnloom.parse(inner)._typed)
    assert keeps_growing(attnloom.parse(inner.replace("q() }", "q(t=0) }"))._typed)


@pytest.mark.parametrize("name", BUNDLED)
def test_pattern_reads_ahead_when_its_mask_has_something_above_the_diagonal(name: str) -> None:
    pattern = attnloom.load(name)
    for n in (1, 37, 100):
        try:
            bound = pattern.bind(n, layer=1, layers=2)
        except attnloom.PatternError:
            continue
        mask = pattern.mask(n, layer=1, layers=2)
        assert reads_ahead(bound) == np.triu(mask, 1).any()


def test_global_tokens_are_those_of_global_statements() -> None:
    text = """pattern p {
        window(each_side=1) | global([2, 5])
        global(9); collect(7); broadcast(8)
        when n > 3 { global(first 1) }
    }"""
    assert global_tokens(attnloom.parse(text).bind(12)).tolist() == [0, 2, 5, 9]

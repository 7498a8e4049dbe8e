"""The strategies: what they draw is well-formed, shown as what makes it again, and shrinks."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

import attnloom
from attnloom import testing
from attnloom.testing.drawn import Binding
from attnloom.testing.strategies import inputs_of, settings_of

ROOT = Path(__file__).parents[2]

# Without the phase that explains a failure, which takes longer than to find it.
quiet = settings(
    max_examples=300, database=None, deadline=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink], derandomize=True,
)  # fmt: skip


@settings(max_examples=20)
@given(testing.patterns(), st.integers(1, 40), st.data())
def test_pattern_has_a_meaning_at_every_length(
    pattern: attnloom.Pattern, n: int, data: st.DataObject
) -> None:
    inputs = data.draw(inputs_of(pattern, n))
    assert pattern.mask(n, inputs=inputs).sum() == pattern.reads(n, inputs=inputs)


@settings(max_examples=15)
@given(testing.patterns())
def test_pattern_is_shown_as_the_call_that_makes_it(pattern: attnloom.Pattern) -> None:
    again = eval(repr(pattern), {"attnloom": attnloom})
    assert again.text.strip() == pattern.text.strip()
    assert testing.assert_equivalent(again, pattern).is_proved


@settings(max_examples=15)
@given(testing.sources(least_n=12))
def test_source_is_meant_for_the_sequences_that_were_asked_for(text: str) -> None:
    pattern = attnloom.parse(text)
    if not pattern.inputs:
        assert pattern.bind(12).tokens == 12


def test_smallest_pattern_is_a_single_word() -> None:
    pattern = find(testing.patterns(), lambda one: bool(one.text), settings=quiet)
    assert pattern.text == "pattern main {\n    self\n}\n"


def test_pattern_shrinks_to_what_matters() -> None:
    pattern = find(
        testing.patterns(), lambda one: one.mask(5).sum() == 25 if not one.inputs else False,
        settings=quiet, random=Random(2),
    )  # fmt: skip
    assert len(pattern.text.splitlines()) <= 5
    assert pattern.mask(5).all()


@given(testing.lengths(min_n=3, max_n=300))
def test_length_is_within_its_bounds(n: int) -> None:
    assert 3 <= n <= 300


def test_lengths_are_short_or_any_or_around_whole_tiles_and_shrink() -> None:
    found: Counter[str] = Counter()

    @settings(quiet, phases=[Phase.generate])
    @given(testing.lengths())
    def look(n: int) -> None:
        found["short" if n < 20 else "tile" if n % 64 in (0, 1, 63) else "any"] += 1

    look()
    assert min(found.values()) > 15  # all of the short ones
    assert find(testing.lengths(), lambda n: n >= 129, settings=quiet) == 129


@given(st.integers(1, 50).flatmap(lambda n: st.tuples(st.just(n), testing.token_sets(n))))
def test_token_set_is_one_of_the_language(drawn: tuple[int, str]) -> None:
    n, text = drawn
    mask = attnloom.parse(f"pattern p(t: tokens = {text}) {{ broadcast(t) }}").mask(n)
    assert (mask == mask[0]).all()


@settings(max_examples=20)
@given(st.sampled_from(attnloom.bundled()).map(attnloom.load), st.data())
def test_binding_keeps_to_the_declared_ranges(
    pattern: attnloom.Pattern, data: st.DataObject
) -> None:
    found = data.draw(testing.bindings(pattern))
    assert isinstance(found, Binding)
    for parameter in pattern._typed.parameters:
        if parameter.name in found.settings and parameter.low is not None:
            assert parameter.high is not None
            low, high = parameter.low.value, parameter.high.value  # type: ignore[union-attr]
            assert low <= found.settings[parameter.name] < high
    assert set(found.inputs) == set(pattern.inputs)
    assert {name: found.pattern.params[name] for name in found.settings} == found.settings
    np.testing.assert_array_equal(
        found.mask(found.heads - 1, found.layers - 1),
        pattern.with_params(**found.settings).mask(
            found.n, found.heads - 1, found.layers - 1, found.heads, found.layers, found.inputs
        ),
    )


def test_parameter_without_a_range_keeps_its_default() -> None:
    pattern = attnloom.parse(
        "pattern p(a = 3, b: int in 2..5 = 2, c = true, t: tokens = 0) { full }"
    )
    names: set[str] = set()

    @settings(quiet, max_examples=30)
    @given(settings_of(pattern))
    def look(found: dict[str, Any]) -> None:
        names.update(found)

    look()
    assert names == {"b", "c"}


@settings(max_examples=6)
@given(st.data())
def test_tensors_fit_their_plan_and_are_shown_as_the_call_that_makes_them(
    data: st.DataObject,
) -> None:
    from attnloom.testing.execution import random_qkv

    plan = data.draw(testing.plans())
    drawn = data.draw(testing.qkv(plan))
    again = eval(
        repr(drawn), {"random_qkv": random_qkv, "plan": plan, "torch": sys.modules["torch"]}
    )
    assert all((x == y).all() for x, y in zip(drawn, again, strict=True))
    output = attnloom.attention(*drawn, plan)
    assert output.shape == drawn.query.shape


def test_entry_point_lets_hypothesis_draw_a_pattern(tmp_path: Path) -> None:
    """As installed: the entry points of the project, in a folder of metadata."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (entry,) = project["entry-points"]["hypothesis"].items()
    folder = tmp_path / "elsewhere-1.0.dist-info"
    folder.mkdir()
    folder.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    folder.joinpath("entry_points.txt").write_text(f"[hypothesis]\n{entry[0]} = {entry[1]}\n")
    code = """
import sys
from hypothesis import Phase, find, settings, strategies as st
quiet = settings(phases=[Phase.generate], database=None)
light = [m for m in ("torch", "networkx", "scipy") if m in sys.modules]
import attnloom
print(light, find(st.from_type(attnloom.Pattern), lambda p: True, settings=quiet).reads(4))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(tmp_path), "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path / "h")},
    )  # fmt: skip
    assert done.stdout == "[] 4\n", done.stderr


@pytest.mark.parametrize("name", testing.__all__)
def test_everything_that_is_offered_is_there_and_documented(name: str) -> None:
    assert getattr(testing, name).__doc__


def test_without_hypothesis_the_extra_is_named() -> None:
    code = """
import sys
sys.modules["hypothesis"] = None
from attnloom import testing
try:
    testing.patterns
except ModuleNotFoundError as error:
    print(error)
testing.assert_causal  # needs it not
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "attnloom.testing.patterns needs Hypothesis" in done.stdout
    assert "attnloom[testing]" in done.stdout

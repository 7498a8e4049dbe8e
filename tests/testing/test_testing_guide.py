"""`docs/testing.md` does what it shows: patterns, commands, Python."""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

import attnloom
from attnloom import testing
from attnloom.testing.search import Search

GUIDE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


@pytest.mark.parametrize("text", blocks("python"), ids=range(len(blocks("python"))))
def test_python_block_runs_and_its_tests_pass(text: str) -> None:
    names: dict[str, Any] = {"__name__": "guide"}
    exec(compile(text, "docs/testing.md", "exec"), names)
    for test in [one for name, one in names.items() if name.startswith("test_")]:
        test()


def test_first_property_test_has_ten_lines() -> None:
    first = next(text for text in blocks("python") if "test_far_tokens" in text)
    assert len([line for line in first.splitlines() if line.strip()]) <= 10


@pytest.mark.parametrize("text", blocks("console"), ids=range(len(blocks("console"))))
def test_command_prints_what_is_shown(text: str, tmp_path: Path) -> None:
    for pattern in blocks("attn"):
        name = attnloom.parse(pattern).name
        tmp_path.joinpath(f"{name}.attn").write_text(pattern, encoding="utf-8")
    command, _, shown = text.removeprefix("$ ").partition("\n")
    words = shlex.split(command)
    assert words[0] == "attnloom"
    words[:1] = [sys.executable, "-c", "from attnloom.cli import main; main()"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    got = done.stderr + done.stdout
    assert doctest.OutputChecker().check_output(shown, got, doctest.NORMALIZE_WHITESPACE), got


def test_message_that_is_shown_is_the_one_that_is_given() -> None:
    wrong = attnloom.parse("pattern wrong(reach: int in 1..9 = 1) { window(each_side=reach); "
                           "broadcast(0) }")  # fmt: skip
    (message,) = (text for text in blocks("text") if "AssertionError" in text)
    with pytest.raises(AssertionError) as caught:
        testing.assert_max_hops(wrong, 2, n=4)
    assert f"AssertionError: {caught.value}\n" == message


def test_strategies_and_assertions_are_all_listed() -> None:
    named = set(re.findall(r"`(\w+)\(", GUIDE))
    assert set(testing.__all__) - named <= {"Binding", "random_qkv"}


# --- patterns that are wrong are caught by a test of five lines, with the smallest case ----------

OFF_BY_ONE = attnloom.parse("""
    pattern off_by_one(recent: int in 1..512 = 256) {
        window(left=recent, right=0)
        expect reads_per_token <= recent
    }
""")
ONE_WAY = attnloom.parse("""
    pattern one_way(reach: int in 1..512 = 256) {
        window(each_side=reach)
        broadcast(0)
        expect hops <= 2
    }
""")
DRIFTING = attnloom.parse("""
    pattern drifting(picks: int in 1..9 = 3) {
        random(links=picks)
        self
        never where(j > i)
        expect prefix_stable
    }
""")


@pytest.mark.parametrize(
    ("pattern", "smallest", "words"),
    [
        (OFF_BY_ONE, {"n": 2, "recent": 1}, "token 1 reads 2 keys: 0 to 1"),
        (ONE_WAY, {"n": 4, "reach": 1}, "3 -> 0 takes 3 hops: 3 -> 2 -> 1 -> 0"),
        (DRIFTING, {"n": 2, "picks": 1}, "token 1 reads 0 to 1 among 2 tokens, and 1 among 3"),
    ],
    ids=lambda one: getattr(one, "name", None),
)
def test_pattern_that_is_wrong_is_caught_by_its_own_contract(
    pattern: attnloom.Pattern, smallest: dict[str, int], words: str
) -> None:
    """What `attnloom check --property` and the plugin for pytest do."""
    (broken,) = Search(examples=100).run(pattern).broken
    assert {"n": broken.case.n, **broken.case.settings} == smallest
    assert broken.outcome.words == words


def test_window_that_is_off_by_one_is_caught() -> None:
    @given(testing.bindings(OFF_BY_ONE))
    def test(binding: testing.Binding) -> None:
        testing.assert_contracts(binding)

    with pytest.raises(
        AssertionError, match=r"n = 2, recent = 1:\n.* token 1 reads 2 keys: 0 to 1"
    ):
        test()


def test_missing_direction_of_a_global_is_caught() -> None:
    @given(testing.bindings(ONE_WAY))
    def test(binding: testing.Binding) -> None:
        testing.assert_max_hops(binding, 2)

    with pytest.raises(AssertionError, match=r"n = 4, reach = 1: `hops <= 2` .* 3 -> 2 -> 1 -> 0"):
        test()


def test_random_links_that_change_when_the_sequence_grows_are_caught() -> None:
    @given(testing.bindings(DRIFTING))
    def test(binding: testing.Binding) -> None:
        testing.assert_prefix_stable(binding)

    with pytest.raises(
        AssertionError, match=r"n = [23], picks = 1.*: token \d reads .* among [23]"
    ):
        test()

"""`check --property`: wrong patterns are found, and shown by the smallest case."""

from __future__ import annotations

import re
import shlex
import sys

import pytest

import attnloom
from attnloom.compiler.analysis.contracts import Answer
from attnloom.contracts import Case
from attnloom.testing.search import Result, Search, _BrokenError, _Hunt


def search(text: str, **options: object) -> Result:
    return Search(**{"examples": 100, **options}).run(attnloom.parse(text))  # type: ignore[arg-type]


def smallest(result: Result) -> dict[str, Case]:
    return {one.outcome.text: one.case for one in result.broken}


def test_window_that_is_off_by_one_is_shown_with_one_token_of_sight() -> None:
    found = smallest(search("""
        pattern p(recent: int in 1..500 = 64) {
            window(left=recent, right=0)
            expect causal
            expect kv_cache <= recent
        }
    """))  # fmt: skip
    assert found == {"kv_cache <= recent": Case(2, settings={"recent": 1})}


def test_missing_direction_of_a_global_is_shown_by_two_far_tokens() -> None:
    found = smallest(search("""
        pattern p(reach: int in 1..9 = 4) {
            window(each_side=reach)
            broadcast(0)
            expect hops <= 2
            expect no_empty_rows
        }
    """))  # fmt: skip
    assert found == {"hops <= 2": Case(4, settings={"reach": 1})}


def test_each_broken_contract_has_its_own_smallest_case() -> None:
    found = smallest(search("""
        pattern p(r: int in 0..20 = 1) {
            window(each_side=r)
            expect hops < 5
            expect reads_per_token <= 6
            expect density > 0
            expect reads <= 10
        }
    """))  # fmt: skip
    assert {text: (case.n, case.settings["r"]) for text, case in found.items()} == {
        # Without any sight the second token never learns of the first.
        "hops < 5": (2, 0), "reads_per_token <= 6": (7, 3), "reads <= 10": (4, 2),
    }  # fmt: skip


WITH_INPUTS = """
    pattern p {
        input doc: segments; input picks: links; input t: tokens
        when head == 2 and layer == 1 { same(doc) | links(picks) | global(t) } else { self }
        expect symmetric
        expect reads_per_token <= 2
    }
"""


@pytest.mark.parametrize("seed", range(4))
def test_heads_layers_and_inputs_are_drawn_where_they_matter(seed: int) -> None:
    result = search(WITH_INPUTS, seed=seed, examples=500)  # as many as the command draws
    found = smallest(result)
    assert set(found) == {"symmetric", "reads_per_token <= 2"}
    for case in found.values():
        assert (case.heads, case.layers) == (3, 2)
    assert found["symmetric"].n == 2
    assert found["reads_per_token <= 2"].n == 3


def test_positions_that_a_case_does_not_need_are_taken_out() -> None:
    hunt = _Hunt(attnloom.parse(WITH_INPUTS))
    picks = [[6], [], [], [], [], [], []]
    case = Case(7, 3, 2, inputs={"doc": [0, 0, 0, 0, 0, 0, 1], "picks": picks, "t": []})
    with pytest.raises(_BrokenError):
        hunt.look_at(case)
    hunt.go_on(may_shorten=True)
    (found,) = hunt.best.values()
    assert found.case == Case(2, 3, 2, inputs={"doc": [0, 1], "picks": [[1], []], "t": []})


def test_what_is_given_is_not_drawn() -> None:
    text = "pattern p(r: int in 1..9 = 1) { window(each_side=r); expect reads < 40 }"
    found = smallest(search(text, lengths=(12,), settings={"r": 2}, heads=3))
    assert found == {"reads < 40": Case(12, 3, settings={"r": 2})}


def test_same_seed_draws_the_same() -> None:
    text = "pattern p { random(links=2); expect readers_per_token < 7 }"
    results = [search(text, seed=seed, max_n=64, examples=150) for seed in (1, 1, 2)]
    (first,), (second,), _ = (result.broken for result in results)
    assert (first.case, first.outcome.words) == (second.case, second.outcome.words)
    assert [result.tried for result in results] == [results[0].tried] * 2 + [results[2].tried]


def test_cases_without_meaning_are_counted_apart() -> None:
    result = search("pattern p { global(9); expect hops <= 2 }", max_n=40, examples=100)
    assert result.meaningless > 0
    assert result.tried > 50
    assert [one.outcome.answer for one in result.findings] == [Answer.HOLDS]


def test_pattern_that_never_has_a_meaning_is_not_called_right(run) -> None:
    result = search("pattern p { global(90); expect hops <= 2 }", max_n=40, examples=20)
    assert (result.tried, result.findings) == (0, ())


def test_command_line_prints_a_command_that_shows_the_smallest_case_again(run, write) -> None:
    path = write("""
        pattern p(reach: int in 1..64 = 8) {
            input question: tokens
            window(each_side=reach)
            broadcast(0 | question)
            expect hops <= 2
            expect no_empty_rows
        }
    """)
    result = run("check", path, "--property", "--examples", "60", status=1)
    assert "1 of 2 contracts fails (60 cases drawn, seed 0)" in result.stdout
    assert "`hops <= 2` fails at n = 4, reach = 1, question = []" in result.stderr
    assert "3 -> 0 takes 3 hops: 3 -> 2 -> 1 -> 0" in result.stderr
    command = re.search(r"`(attnloom check .*)`", result.stderr)
    assert command
    again = run(*shlex.split(command[1])[1:], status=1)
    assert again.stderr == result.stderr


def test_command_line_reports_in_json(run_json, write) -> None:
    path = write("pattern p { window(last=3); expect reads_per_token <= 2 }")
    data = run_json("check", path, "--property", "--seed", "3", "--max-length", "20", status=1)
    (contract,) = data["files"][0]["contracts"]
    assert contract["case"]["n"] == 3
    assert data["files"][0]["checked"].endswith("cases drawn, seed 3")
    assert data["diagnostics"][0]["slug"] == "broken-contract"


def test_command_line_needs_no_inputs_to_draw_them(run) -> None:
    result = run("check", "longformer_qa", "--property", "--examples", "30", "--max-length", "40")
    assert "longformer_qa: ok (30 cases drawn, seed 0)" in result.stdout
    refused = run("check", "longformer_qa", "--property", "--input", "question=0", status=2)
    assert "--input goes with one length" in refused.stderr
    run(
        "check",
        "longformer_qa",
        "--property",
        "--input",
        "question=0",
        "-n",
        "9",
        "--examples",
        "20",
    )


def test_command_line_names_the_extra_when_hypothesis_is_missing(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    for name in [one for one in sys.modules if one.startswith("attnloom.testing.")]:
        monkeypatch.delitem(sys.modules, name)
    result = run("check", "longformer", "--property", status=1)
    assert "pip install 'attnloom[testing]'" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", attnloom.bundled())
def test_bundled_patterns_keep_what_they_promise(name: str) -> None:
    result = Search(examples=300, max_n=200).run(attnloom.load(name))
    assert result.tried >= 100
    assert not [f"{one.outcome.text}: {one.case}, {one.outcome.words}" for one in result.broken]

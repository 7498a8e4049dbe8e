"""`check`: mistakes and broken contracts."""

from __future__ import annotations

import re
import shlex

import attnloom

GOOD = "pattern p {\n    window(each_side=2)\n}\n"
BROKEN = "pattern p {\n    windw(each_side=2)\n}\n"


def test_check_accepts_a_good_file(run, write) -> None:
    path = write(GOOD)
    assert f"{path}: ok (n = 16, 1000, 4096)" in run("check", path).stdout


def test_check_accepts_every_bundled_pattern(run) -> None:
    run("check", *attnloom.bundled(), "-n", "96")


def test_check_says_of_every_contract_whether_it_holds(run, run_json) -> None:
    lines = run("check", "longformer").stdout.splitlines()
    assert lines[0] == "longformer: ok (n = 16, 1000, 4096)"
    assert [line.split() for line in lines[1:]] == [
        ["hops", "<=", "2", "holds"], ["symmetric", "holds"], ["no_empty_rows", "holds"],
    ]  # fmt: skip
    report = run_json("check", "longformer", "-n", "7")["files"][0]
    assert report["lengths"] == [7]
    assert [(one["text"], one["answer"]) for one in report["contracts"]] == [
        ("hops <= 2", "holds"), ("symmetric", "holds"), ("no_empty_rows", "holds"),
    ]  # fmt: skip


def test_check_shows_a_broken_contract_its_place_and_the_route(run, run_json, write) -> None:
    path = write("pattern p(r = 64) {\n    window(each_side=r)\n    expect hops <= 2\n}\n")
    result = run("check", path, "-n", "180", "-n", "100", status=1)
    assert "`hops <= 2` fails at n = 180, r = 64" in result.stderr
    assert f"{path}:3:5" in result.stderr
    assert "129 -> 0 takes 3 hops: 129 -> 65 -> 1 -> 0" in result.stderr
    assert f"`attnloom check {path} -n 180`" in result.stderr
    assert f"{path}: 1 of 1 contracts fails (n = 100, 180)" in result.stdout
    data = run_json("check", path, "-n", "180", "--set", "r=9", status=1)
    assert data["diagnostics"][0]["slug"] == "broken-contract"
    (contract,) = data["files"][0]["contracts"]
    assert contract["case"]["n"] == 180
    assert contract["case"]["settings"] == {"r": "9"}


def test_check_shows_the_shortest_length_that_fails(run_json, write) -> None:
    path = write("pattern p { window(last=2); expect reads_per_token * 1 < n }".replace(" * 1", ""))
    data = run_json("check", path, "-n", "3", "-n", "2", "-n", "1", status=1)
    assert data["files"][0]["contracts"][0]["case"]["n"] == 1


def test_check_looks_at_all_heads_and_layers(run, write) -> None:
    path = write(
        "pattern p { when head == 1 and layer == 2 { full } else { causal }\nexpect causal }"
    )
    run("check", path, "-n", "5")
    run("check", path, "-n", "5", "--heads", "2", "--layers", "2")
    result = run("check", path, "-n", "5", "--heads", "2", "--layers", "3", status=1)
    assert "fails at n = 5, head 1 of 2, layer 2 of 3" in result.stderr
    assert "-n 5 --heads 2 --layers 3`" in result.stderr


def test_command_that_check_prints_shows_the_same_again(run, write) -> None:
    text = """
        pattern p(r = 2, wide: bool = false, some: tokens = 0) {
            input doc: segments; input picks: links; input t: tokens
            same(doc) | links(picks) | window(last=r)
            global(some | t)
            expect causal
        }
    """
    path = write(text)
    words = ["-n", "4", "--set", "r=1", "--set", "wide=true", "--set", "some=first 2"]
    words += ["--input", "doc=lengths:1,3", "--input", "picks=[[0], [], [1, 2], []]"]
    words += ["--input", "t=[1, 3]", "--heads", "2"]
    result = run("check", path, *words, status=1)
    command = re.search(r"`(attnloom check .*)`", result.stderr)
    assert command
    again = run(*shlex.split(command[1])[1:], status=1)
    assert again.stderr == result.stderr


def test_check_fails_on_what_is_not_decided_only_when_strict(run, run_json, write) -> None:
    hops = attnloom.parse("pattern p { window(last=2); random(links=2) }").analyze(30_000).hops
    assert not hops.method.is_exact
    path = write(f"pattern p {{ window(last=2); random(links=2); expect hops <= {hops.worst} }}")
    result = run("check", path, "-n", "30000")
    assert "ok (n = 30000), 1 not decided" in result.stdout
    assert "is not decided at n = 30000: it is between" in result.stdout
    run_json("check", path, "-n", "30000", "--strict", status=1)


def test_check_shows_place_and_hint_of_a_mistake(run, write) -> None:
    path = write(BROKEN)
    result = run("check", path, status=1)
    assert f"{path}:2:5" in result.stderr
    assert "did you mean `window`?" in result.stderr


def test_check_reports_every_file(run, run_json, write) -> None:
    good, bad = write(GOOD, "good.attn"), write(BROKEN, "bad.attn")
    assert f"{good}: ok" in run("check", bad, good, status=1).stdout
    data = run_json("check", bad, good, status=1)
    assert [report["ok"] for report in data["files"]] == [False, True]
    assert data["diagnostics"] == data["files"][0]["diagnostics"]
    assert data["diagnostics"][0]["slug"]


def test_check_notes_lengths_that_do_not_fit_unless_asked_for(run, write) -> None:
    path = write("pattern p { global(500) }")
    result = run("check", path)
    assert "ok (n = 1000, 4096)" in result.stdout
    assert "does not fit n = 16" in result.stderr
    run("check", path, "-n", "16", status=1)


def test_check_needs_an_input_only_to_try_lengths(run) -> None:
    assert "no --input given for question" in run("check", "longformer_qa").stderr
    run("check", "longformer_qa", "--input", "question=0..3")


def test_check_reads_standard_input(run) -> None:
    run("check", "-", text=GOOD)
    assert "<stdin>:2:5" in run("check", "-", text=BROKEN, status=1).stderr

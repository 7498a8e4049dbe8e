"""The pytest plugin: pattern files as tests, in runs of their own."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

GOOD = """
pattern good(reach: int in 1..40 = 8) {
    window(each_side=reach)
    global(0)
    expect hops <= 2
    expect symmetric
}
"""
WRONG = """
pattern wrong(reach: int in 1..40 = 8) {
    window(each_side=reach)
    broadcast(0)

    expect hops <= 2
    expect no_empty_rows
}
"""

PLUGIN = ("-p", "attnloom.testing.pytest_plugin")

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run_pytest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of pytest in a folder of its own, with the files that are given by their names."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str, files: dict[str, str]) -> pytest.RunResult:
        for name, text in {"pytest.ini": "[pytest]\n", **files}.items():
            path = pytester.path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *words)

    return call


def test_without_the_plugin_nothing_is_collected(run_pytest: Run) -> None:
    done = run_pytest(files={"p.attn": WRONG})
    assert "collected 0 items" in str(done.stdout)


def test_every_contract_is_a_test_and_failures_show_the_smallest_case(run_pytest: Run) -> None:
    files = {"patterns/good.attn": GOOD, "patterns/wrong.attn": WRONG}
    done = run_pytest(*PLUGIN, "-v", "--attn-examples", "20", "patterns", files=files)
    assert done.ret == 1
    found = re.findall(
        r"^patterns/(\w+)\.attn::(.*?) (PASSED|FAILED)", str(done.stdout), re.MULTILINE
    )
    assert found == [
        ("good", "meaning", "PASSED"),
        ("good", "hops <= 2", "PASSED"),
        ("good", "symmetric", "PASSED"),
        ("wrong", "meaning", "PASSED"),
        ("wrong", "hops <= 2", "FAILED"),
        ("wrong", "no_empty_rows", "PASSED"),
    ]
    assert "`hops <= 2` fails at n = 4, reach = 1" in str(done.stdout)
    assert "3 -> 0 takes 3 hops: 3 -> 2 -> 1 -> 0" in str(done.stdout)
    assert "`attnloom check patterns/wrong.attn -n 4 --set reach=1`" in str(done.stdout)
    assert "Traceback" not in str(done.stdout)
    assert "--> patterns/wrong.attn:6" in str(done.stdout)


def test_settings_of_the_project_choose_folders_lengths_and_the_plugin(run_pytest: Run) -> None:
    files = {
        "pytest.ini": "[pytest]\naddopts = -p attnloom.testing.pytest_plugin\n"
        "attn_paths = patterns\nattn_lengths = 3\nattn_examples = 10\n",
        "patterns/wrong.attn": WRONG,
        "elsewhere/wrong.attn": WRONG,
    }
    done = run_pytest(files=files)
    assert "3 passed" in str(done.stdout), str(done.stdout)  # three tokens are not enough to see it
    done = run_pytest("--attn-lengths", "3,5", files=files)
    assert "1 failed, 2 passed" in str(done.stdout)
    assert "fails at n = 5, reach = 1" in str(done.stdout)


def test_file_that_is_wrong_is_an_error_with_its_place(run_pytest: Run) -> None:
    done = run_pytest(*PLUGIN, files={"p.attn": "pattern p {\n    windw(last=3)\n}\n"})
    assert done.ret == 2
    assert "did you mean `window`?" in str(done.stdout)
    assert "p.attn:2:5" in str(done.stdout)


def test_pattern_without_meaning_fails_and_what_is_not_decided_is_skipped(run_pytest: Run) -> None:
    files = {
        "a.attn": "pattern a { global(500); expect symmetric }",
        "b.attn": "pattern b { full; when n > 900 { expect symmetric } }",
    }
    done = run_pytest(*PLUGIN, "-rs", "--attn-examples", "5", files=files)
    assert "1 failed, 1 passed, 2 skipped" in str(done.stdout)
    assert "the pattern has no meaning in any of the cases drawn" in str(done.stdout)
    assert "`symmetric` is not stated here" in str(done.stdout)


def test_assertion_that_fails_shows_the_test_and_not_how_it_was_found(run_pytest: Run) -> None:
    test = (
        "import attnloom\nfrom attnloom import testing\n\n\n"
        "def test_it():\n"
        "    testing.assert_max_hops(attnloom.load('wrong.attn', reach=1), 2, n=4)\n"
    )
    done = run_pytest(files={"wrong.attn": WRONG, "test_it.py": test})
    assert "E       AssertionError: wrong at n = 4, reach = 1: `hops <= 2` fails" in str(
        done.stdout
    )
    assert "assertions.py" not in str(done.stdout)


def test_other_tests_run_beside(run_pytest: Run) -> None:
    files = {"test_it.py": "def test_it():\n    assert True\n", "good.attn": GOOD}
    done = run_pytest(*PLUGIN, "--attn-examples", "5", files=files)
    assert "4 passed" in str(done.stdout)

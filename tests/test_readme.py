"""The README is run: every pattern, Python and console block does what it shows."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import attnloom

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line it starts on."""

    language: str
    text: str
    line: int


BLOCKS = [
    Block(found[1], found[2], README[: found.start()].count("\n") + 2)
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
]


def blocks(language: str) -> list[object]:
    return [
        pytest.param(block, id=f"line{block.line}")
        for block in BLOCKS
        if block.language == language
    ]


def run(command: str) -> subprocess.CompletedProcess[str]:
    """A command line of the README, from the root of the repository."""
    words = shlex.split(command)
    if words[0] == "attnloom":
        words[:1] = [sys.executable, "-c", "from attnloom.cli import main; main()"]
    elif words[0] == "python":
        words[0] = sys.executable
    return subprocess.run(
        words, capture_output=True, text=True, encoding="utf-8", cwd=ROOT, check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"}, timeout=300,
    )  # fmt: skip


def test_it_begins_with_exactly_two_commands_and_the_first_does_the_main_job() -> None:
    first, second = (block.text.strip() for block in BLOCKS[:2])
    assert (BLOCKS[0].language, BLOCKS[1].language) == ("sh", "sh")
    install, _, job = first.partition(" && ")
    assert install == "pip install -c constraints.txt -e ."
    done = run(job)
    assert done.returncode == 0, done.stderr
    assert second == "pip install -c constraints.txt -e '.[dev]' && python -m pytest"


@pytest.mark.parametrize("block", blocks("attn"))
def test_pattern_block_is_a_formatted_pattern(block: Block) -> None:
    from attnloom.grammar import format_source

    assert attnloom.parse(block.text).bind(64).length >= 64
    assert format_source(block.text, name="README.md") == block.text


@pytest.mark.parametrize("block", blocks("python"))
def test_python_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that define tests are tests."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(block.text, "README.md", "exec"), names)
    for test in [one for name, one in names.items() if name.startswith("test_")]:
        test()


@pytest.mark.parametrize("block", blocks("console"))
def test_console_block_prints_what_it_shows(block: Block) -> None:
    """`$ command`, then its output; `...` stands for anything, as in a doctest."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        done = run(command)
        assert done.returncode == 0, done.stderr
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert doctest.OutputChecker().check_output(shown, done.stdout, flags), done.stdout


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert {block.language for block in BLOCKS} <= {"sh", "attn", "python", "console"}
    assert [block.language for block in BLOCKS].count("sh") == 2

"""The command line, as the tests of `tests/cli` run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from attnloom.cli import program

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """`run("check", "x.attn", status=1)`: a finished command, its status checked."""

    def call(*words: str | Path, status: int = 0) -> Result:
        result = CliRunner().invoke(program, [str(word) for word in words])
        assert result.exit_code == status, result.output + repr(result.exception)
        return result

    return call


@pytest.fixture
def run_json(run: Run) -> Callable[..., dict[str, Any]]:
    """The same with `--json`."""
    return lambda *words, **expected: json.loads(run(*words, "--json", **expected).stdout)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a pattern file."""

    def call(text: str, name: str = "p.attn") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return call

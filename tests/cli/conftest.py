"""Running the command line inside the test process."""

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
    """`run("check", "x.attn", status=1, text="...")`: a finished command, its status checked."""

    def call(*words: str | Path, status: int = 0, text: str | None = None) -> Result:
        result = CliRunner().invoke(program, [str(word) for word in words], input=text)
        assert result.exit_code == status, result.output + repr(result.exception)
        return result

    return call


@pytest.fixture
def run_json(run: Run) -> Callable[..., dict[str, Any]]:
    """The same with `--json`: stdout must be one object and nothing else."""

    def call(*words: str | Path, **expected: Any) -> dict[str, Any]:
        result = run(*words, "--json", **expected)
        data = json.loads(result.stdout)
        assert isinstance(data, dict)
        assert data["ok"] is (expected.get("status", 0) == 0)
        assert isinstance(data["diagnostics"], list)
        return data

    return call


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a pattern file, `write("pattern p { full }")`."""

    def call(text: str, name: str = "p.attn") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return call

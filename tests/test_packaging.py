"""What is shipped: data found from anywhere, pins that fit the ranges, commands that exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def test_data_files_are_found_from_another_directory(tmp_path: Path) -> None:
    code = (
        "import attnloom\n"
        "from importlib.resources import files\n"
        "assert files('attnloom.grammar').joinpath('attn.lark').is_file()\n"
        "assert files('attnloom').joinpath('py.typed').is_file()\n"
        "print(attnloom.load('longformer').name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.stdout == "longformer\n", done.stderr


def test_data_files_are_declared() -> None:
    data = PROJECT["tool"]["setuptools"]["package-data"]
    assert data["attnloom.patterns"] == ["*.attn"]
    shipped = {path.suffix for path in (ROOT / "patterns").iterdir() if path.is_file()}
    assert shipped <= {".attn", ".py"}


def test_the_command_is_installed() -> None:
    (entry,) = entry_points(group="console_scripts", name="attnloom")
    assert entry.value == "attnloom.cli:main"
    assert callable(entry.load())


def test_version_is_that_of_the_project() -> None:
    assert version("attnloom") == PROJECT["project"]["version"]


@pytest.mark.parametrize("group", ["dependencies", "plot", "dev"])
def test_constraints_pin_every_requirement_within_its_range(group: str) -> None:
    project = PROJECT["project"]
    extras = {"dependencies": project["dependencies"], **project["optional-dependencies"]}
    pins = {pin.name.lower(): pin for pin in PINS}
    for text in extras[group]:
        wanted = Requirement(text)
        if wanted.name == "attnloom":
            continue
        (pin,) = pins[wanted.name.lower()].specifier
        assert pin.operator == "=="
        assert wanted.specifier.contains(pin.version), f"{text} against {pin}"


def test_constraints_name_versions_and_no_places() -> None:
    assert all(not pin.url for pin in PINS)
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"https?:|file:|--", text.split("\n", 2)[2])


@pytest.mark.skipif(os.name == "nt", reason="file modes of POSIX")
@pytest.mark.parametrize("script", ["run", "types", "wheel"])
def test_scripts_can_be_executed(script: str) -> None:
    assert os.access(ROOT / ".ci" / script, os.X_OK)


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line for line in readme.splitlines() if "&& python -m pytest" in line]
    assert commands == ["pip install -c constraints.txt -e '.[dev]' && python -m pytest"]

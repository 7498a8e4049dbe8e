"""`calibrate`, and what `compile` makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from attnloom.cli import calibrating, program
from attnloom.compiler.model import CostModel


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command, with a measurement that takes no time."""
    import attnloom.runtime.calibration as measuring

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    model = CostModel(name="cpu", processors=2, dense=0.5)
    monkeypatch.setattr(measuring, "calibrate", lambda device, note: model)
    return lambda *words: CliRunner().invoke(program, words)


def test_calibrate_keeps_what_compile_then_uses(run: Callable[..., Result], tmp_path: Path) -> None:
    done = run("calibrate", "--json")
    facts = json.loads(done.stdout)
    assert done.exit_code == 0
    assert facts["model"]["dense"] == 0.5
    assert Path(facts["file"]).parent == tmp_path / "attnloom" / "devices"
    found = {
        name: json.loads(run("compile", "mistral", "-n", "8192", "--json", "--model", name).stdout)
        for name in ("default", "cpu")
    }
    assert found["cpu"]["predicted"]["model"] == "cpu"
    assert (
        found["cpu"]["predicted"]["dense_seconds"] != found["default"]["predicted"]["dense_seconds"]
    )
    assert found["cpu"]["tiles"]["items"] < found["default"]["tiles"]["items"]


def test_dry_run_keeps_nothing(run: Callable[..., Result], tmp_path: Path) -> None:
    done = run("calibrate", "--dry-run")
    assert done.exit_code == 0
    assert "dense" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_unknown_device_and_model_are_usage_errors(run: Callable[..., Result]) -> None:
    done = run("calibrate", "--device", "toaster")
    assert done.exit_code == 2
    assert "no device 'toaster' here" in done.stderr
    done = run("compile", "mistral", "-n", "64", "--model", "defualt")
    assert done.exit_code == 2
    assert "Did you mean default?" in done.stderr


def test_folder_that_cannot_be_written_fails(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: CostModel) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(calibrating, "keep", refuse)
    done = run("calibrate")
    assert done.exit_code == 1
    assert "cannot write" in done.stderr

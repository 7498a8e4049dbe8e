"""Cost models are measured, kept, and used; a broken file changes nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import torch

import attnloom
from attnloom.compiler import calibrated
from attnloom.compiler.model import CostModel
from attnloom.compiler.parts import HeadLayout, Part
from attnloom.runtime.calibration import (
    _gathered,
    _reordered,
    _rows_of_full_tiles,
    _split,
    _with_masks,
    calibrate,
    model_for,
)


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def test_measured_model_is_plausible() -> None:
    told: list[str] = []
    model = calibrate("cpu", length=2048, rounds=1, note=told.append)
    assert (model.name, model.processors) == ("cpu", torch.get_num_threads())
    assert all(math.isfinite(value) and value >= 0 for value in asdict(model).values()
               if isinstance(value, (int, float)))  # fmt: skip
    assert model.seconds_per_tile > 0
    assert model.dense > 0
    assert len(told) == 7
    with pytest.raises(ValueError, match="multiple of 128 from 2048 on, got 1000"):
        calibrate("cpu", length=1000)


@pytest.mark.parametrize("change", [lambda p: p, _with_masks, _gathered, _reordered, _split])
def test_what_is_measured_is_a_valid_plan(change: Callable[[Part], Part]) -> None:
    layout = HeadLayout(4096, 4096, 128, 128, (change(Part.of(_rows_of_full_tiles(4096, 16))),))
    assert layout.fault() is None
    assert (layout.to_dense() == layout.transposed_to_dense()).all()


def test_kept_model_is_used_for_its_device(config: Path) -> None:
    assert model_for("cpu") == CostModel()
    # One in which moving a row costs nothing but gathering does, and one the other way round.
    text = "pattern p { window(each_side=32, dilation=8) }"
    for reorder, is_identity in ((0.0, False), (1e6, True)):
        model = replace(CostModel(), name="cpu", reorder=reorder)
        path = calibrated.keep(model)
        assert path == config / "attnloom" / "devices" / "cpu.json"
        assert model_for("cpu") == model
        plan = attnloom.parse(text).compile(4096)
        assert (plan.layouts[0].parts[0].order is None) == is_identity
    assert calibrated.names() == ["cpu"]


@pytest.mark.parametrize(
    "text",
    ["", "[", "3", "{}", "[" * 100_000, "nan"]
    + [
        json.dumps({**asdict(CostModel()), field.name: value})
        for field in fields(CostModel)
        for value in (None, "1", True, -1, 1e300, [])
        if not (field.name == "name" and value == "1")
    ]
    + [json.dumps({**asdict(CostModel()), "seconds_per_tile": 0})],
)
def test_broken_file_warns_and_is_not_used(text: str, config: Path) -> None:
    path = config / "attnloom" / "devices" / "cpu.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.warns(UserWarning, match=r"no cost model .* run attnloom calibrate"):
        assert calibrated.model_of("cpu") is None

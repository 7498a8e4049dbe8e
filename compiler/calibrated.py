"""Cost models as measured on a user's devices, kept as small JSON files."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import warnings
from pathlib import Path

from attnloom.compiler.model import CostModel

_MOST_BYTES = 1 << 16


def folder() -> Path:
    """Where they are: `$XDG_CONFIG_HOME/attnloom/devices`, or below `~/.config`."""
    home = os.environ.get("XDG_CONFIG_HOME")
    base = Path(home) if home and Path(home).is_absolute() else Path.home() / ".config"
    return base / "attnloom" / "devices"


def path_of(device: str) -> Path:
    """The file of a device, whatever its name.

    >>> path_of("NVIDIA H100 80GB HBM3").name
    'nvidia-h100-80gb-hbm3.json'
    """
    return folder() / (re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")[:80] + ".json")


def model_of(device: str) -> CostModel | None:
    """The model that was measured on a device, or `None` when there is none that can be used."""
    path = path_of(device)
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES)
    except OSError:
        return None
    try:
        return _read(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        warnings.warn(
            f"{str(path)!r} is no cost model ({error}); run attnloom calibrate", stacklevel=3
        )
        return None


def names() -> list[str]:
    """The devices for which there is a model, by the names of their files."""
    return sorted(path.stem for path in folder().glob("*.json"))


def keep(model: CostModel) -> Path:
    """Keep a model for its device, replacing the file at once; returns where.

    Raises:
        OSError: it cannot be written.
    """
    path = path_of(model.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(dataclasses.asdict(model), indent=2) + "\n", encoding="utf-8")
    scratch.replace(path)
    return path


def _read(facts: object) -> CostModel:
    """A model from JSON, every number in range."""
    if not isinstance(facts, dict):
        raise TypeError("not an object")
    found: dict[str, object] = {}
    for field in dataclasses.fields(CostModel):
        value = facts.get(field.name)
        if field.name == "name":
            if not isinstance(value, str) or not value.isprintable():
                raise ValueError("name is no text")
        elif isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{field.name} is no number")
        elif not (math.isfinite(value) and 0 <= value < 1e9):
            raise ValueError(f"{field.name} is {value}")
        found[field.name] = value
    model = CostModel(**found)  # type: ignore[arg-type]
    if not isinstance(model.processors, int) or model.processors < 1:
        raise ValueError(f"processors is {model.processors}")
    if not model.seconds_per_tile:
        raise ValueError("seconds_per_tile is 0")
    return model

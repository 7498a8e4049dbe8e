"""Kernels run on a GPU or, where there is none, in Triton's interpreter."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

collect_ignore_glob: list[str] = []
INTERPRETED = not torch.cuda.is_available()

if find_spec("triton") is None:
    collect_ignore_glob.append("test_*.py")
else:
    # Whether a kernel is interpreted is settled when its module is imported.
    before = os.environ.get("TRITON_INTERPRET")
    if INTERPRETED:
        os.environ["TRITON_INTERPRET"] = "1"
    import_module("attnloom.runtime.kernels.launch")
    if before is None:
        os.environ.pop("TRITON_INTERPRET", None)
    else:
        os.environ["TRITON_INTERPRET"] = before


@pytest.fixture(autouse=True)
def interpreter_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend takes CPU tensors only where it is told to interpret."""
    if INTERPRETED:
        monkeypatch.setenv("TRITON_INTERPRET", "1")

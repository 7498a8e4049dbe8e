"""The oracle suite: patterns against public implementations. Run with `pytest -m oracles`.

Everything here is marked `oracles`. A test whose package is not installed is skipped and says so.
At the end the suite prints how many settings of which implementation were compared.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))

_COMPARED = pytest.StashKey[Counter[tuple[str, str]]]()
_ERRORS = pytest.StashKey[dict[tuple[str, str], float]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_COMPARED] = Counter()
    config.stash[_ERRORS] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.oracles)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


class Comparison:
    """Holds what was found against what another implementation says, and counts it."""

    def __init__(self, config: pytest.Config, package: str) -> None:
        self._compared, self._errors = config.stash[_COMPARED], config.stash[_ERRORS]
        try:
            self._package = f"{package} {version(package)}"
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed; see docs/library.md")

    def masks(self, what: str, ours: Any, theirs: Any) -> None:
        """Equal, element by element."""
        ours, theirs = np.asarray(ours, dtype=bool), np.asarray(theirs, dtype=bool)
        assert ours.shape == theirs.shape
        different = np.argwhere(ours != theirs)
        assert not len(different), f"{len(different)} pairs differ, first {different[0]}"
        self._compared[self._package, what] += 1

    def outputs(self, what: str, ours: torch.Tensor, theirs: torch.Tensor, most: float) -> None:
        """Equal up to the rounding of the other implementation."""
        assert ours.shape == theirs.shape
        error = float((ours - theirs).abs().max())
        assert error <= most, f"outputs differ by {error:.2e}"
        place = (self._package, what)
        self._compared[place] += 1
        self._errors[place] = max(error, self._errors.get(place, 0.0))


@pytest.fixture
def against(request: pytest.FixtureRequest) -> Callable[[str], Comparison]:
    """`against("transformers").masks("Swin", ours, theirs)`."""
    return lambda package: Comparison(request.config, package)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what was compared with what, even when all is well and the run is quiet."""
    compared, errors = config.stash[_COMPARED], config.stash[_ERRORS]
    if not compared:
        return
    terminalreporter.section("settings compared with public implementations")
    for (package, what), times in sorted(compared.items()):
        place = (package, what)
        largest = f", outputs within {errors[place]:.1e}" if place in errors else ", masks equal"
        terminalreporter.write_line(f"{package:24} {what:48} {times:5}{largest}")
    packages = {package for package, _ in compared}
    terminalreporter.write_line(f"{sum(compared.values())} settings of {len(packages)} packages")

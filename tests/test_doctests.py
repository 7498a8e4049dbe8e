"""Every example in a docstring of the package prints what it shows."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

# The folders that are re-rooted at install time lie elsewhere than the package itself.
PACKAGES = [
    importlib.import_module(name)
    for name in ("attnloom", "attnloom.grammar", "attnloom.compiler", "attnloom.runtime")
]
MODULES = sorted(
    {
        one.name
        for package in PACKAGES
        for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not one.name.startswith("attnloom.runtime.kernels")
    }
)


def test_every_part_of_the_package_is_among_them() -> None:
    parts = {name.split(".")[1] for name in MODULES}
    assert {"cli", "nn", "grammar", "compiler", "runtime"} <= parts


@pytest.mark.parametrize("name", ["attnloom", *MODULES])
def test_examples_print_what_they_show(name: str) -> None:
    if name.startswith("attnloom.integrations.transformers"):
        pytest.importorskip("transformers")
    assert doctest.testmod(importlib.import_module(name)).failed == 0

"""Every example in a docstring of the package prints what it shows."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import attnloom

MODULES = sorted(
    one.name
    for one in pkgutil.walk_packages(attnloom.__path__, "attnloom.")
    if not one.name.startswith("attnloom.runtime.kernels")
)


@pytest.mark.parametrize("name", ["attnloom", *MODULES])
def test_examples_print_what_they_show(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0

"""The examples in docstrings are run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import attnloom.grammar

MODULES = sorted(module.name for module in pkgutil.iter_modules(attnloom.grammar.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_hold(name: str) -> None:
    module = importlib.import_module(f"attnloom.grammar.{name}")
    failed, _ = doctest.testmod(module)
    assert failed == 0


def test_examples_are_found() -> None:
    module = importlib.import_module("attnloom.grammar.source")
    assert doctest.testmod(module).attempted >= 2

"""Tools to test patterns with, for Hypothesis and pytest; needs the extra `testing`.

Strategies draw patterns and all that goes with them, and assertions say why they fail:

>>> from attnloom import testing
>>> testing.assert_max_hops(attnloom.load("longformer"), 2, n=4096)
>>> testing.patterns().example()  # doctest: +SKIP
attnloom.parse('''pattern main { self }''')
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import attnloom

if TYPE_CHECKING:
    from attnloom.testing.assertions import (
        assert_causal,
        assert_compiles,
        assert_connected,
        assert_contracts,
        assert_equivalent,
        assert_max_hops,
        assert_no_empty_rows,
        assert_prefix_stable,
        assert_reads_at_most,
        assert_subset,
    )
    from attnloom.testing.drawn import Binding
    from attnloom.testing.execution import assert_executes_like_reference, random_qkv
    from attnloom.testing.strategies import (
        bindings,
        inputs_of,
        lengths,
        patterns,
        plans,
        qkv,
        settings_of,
        sources,
        token_sets,
    )

__all__ = [
    "Binding",
    "assert_causal",
    "assert_compiles",
    "assert_connected",
    "assert_contracts",
    "assert_equivalent",
    "assert_executes_like_reference",
    "assert_max_hops",
    "assert_no_empty_rows",
    "assert_prefix_stable",
    "assert_reads_at_most",
    "assert_subset",
    "bindings",
    "inputs_of",
    "lengths",
    "patterns",
    "plans",
    "qkv",
    "random_qkv",
    "settings_of",
    "sources",
    "token_sets",
]

_HOMES = {
    "assertions": (
        "assert_causal", "assert_compiles", "assert_connected", "assert_contracts",
        "assert_equivalent", "assert_max_hops", "assert_no_empty_rows", "assert_prefix_stable",
        "assert_reads_at_most", "assert_subset",
    ),
    "drawn": ("Binding",),
    "execution": ("assert_executes_like_reference", "random_qkv"),
    "strategies": (
        "bindings", "inputs_of", "lengths", "patterns", "plans", "qkv", "settings_of", "sources",
        "token_sets",
    ),
}  # fmt: skip
"""Where everything is from. It is imported when it is asked for: this package is loaded by
whoever imports Hypothesis, and must cost them nothing."""

_HOME = {name: home for home, names in _HOMES.items() for name in names}


def register() -> None:
    """Tell Hypothesis how to draw a `Pattern`, so that `st.from_type` can; its entry point."""
    from hypothesis import strategies as st

    def drawn(_: type) -> st.SearchStrategy[attnloom.Pattern]:
        from attnloom.testing.strategies import patterns

        return patterns()

    st.register_type_strategy(attnloom.Pattern, drawn)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'attnloom.testing' has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        raise ModuleNotFoundError(
            f"attnloom.testing.{name} needs Hypothesis: pip install 'attnloom[testing]'",
            name="hypothesis",
        ) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})

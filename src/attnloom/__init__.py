"""Attention patterns as a small language: exact analysis, block compiler, fast execution.

>>> import attnloom
>>> pattern = attnloom.load("longformer", reach=64)
>>> pattern.reads(4096)
532286
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnloom.compiler.program import bundled, load_bundled, load_file, load_text
from attnloom.grammar import PatternError
from attnloom.grammar.diagnostics import did_you_mean
from attnloom.pattern import Pattern

if TYPE_CHECKING:
    from attnloom import nn
    from attnloom.equivalence import equivalent
    from attnloom.graphs import graph
    from attnloom.nn.attention import PatternAttention
    from attnloom.nn.memory import MemoryTokens
    from attnloom.runtime.attention import attention
    from attnloom.runtime.decoding import attention_step
    from attnloom.runtime.plan import Plan
    from attnloom.runtime.plan_file import PlanFileError
    from attnloom.runtime.plan_stack import PlanStack

__all__ = [
    "MemoryTokens",
    "Pattern",
    "PatternAttention",
    "PatternError",
    "Plan",
    "PlanFileError",
    "PlanStack",
    "attention",
    "attention_step",
    "bundled",
    "equivalent",
    "graph",
    "load",
    "nn",
    "parse",
]

_LAZY = {
    "attention": "attnloom.runtime.attention",
    "attention_step": "attnloom.runtime.decoding",
    "equivalent": "attnloom.equivalence",
    "graph": "attnloom.graphs",
    "MemoryTokens": "attnloom.nn.memory",
    "PatternAttention": "attnloom.nn.attention",
    "Plan": "attnloom.runtime.plan",
    "PlanFileError": "attnloom.runtime.plan_file",
    "PlanStack": "attnloom.runtime.plan_stack",
}
"""What needs torch or networkx, which are imported when it is asked for."""


def load(path_or_name: str | Path, **params: Any) -> Pattern:
    """The main pattern of a file, or a bundled pattern by its name.

    A name that ends in `.attn`, or has a slash, is a path. The main pattern of a file is the one
    called `main`, or else the last.

    Args:
        path_or_name: the path of a `.attn` file, or one of `attnloom.bundled()`.
        params: values for the pattern's parameters. A token set may be an integer, a range, a list
            of integers, or text such as `"first 4"`.

    Raises:
        PatternError: the file cannot be read or is wrong, or a parameter is.
        ValueError: no bundled pattern has this name.

    >>> load("longformer", reach=64).params
    {'reach': 64, 'cls': '0'}
    """
    if not isinstance(path_or_name, (str, Path)):
        raise TypeError(f"path_or_name must be a path or a name, got {type(path_or_name).__name__}")
    name = str(path_or_name)
    is_path = isinstance(path_or_name, Path) or name.endswith(".attn") or "/" in name
    if is_path or "\\" in name:
        program = load_file(Path(path_or_name))
    elif name in bundled():
        program = load_bundled(name)
    else:
        hint = " ".join(did_you_mean(name, bundled()))
        raise ValueError(
            f"no bundled pattern is called {name!r}; {hint or ', '.join(bundled())}"
            " (the path of a file ends in .attn)"
        )
    return Pattern(program.main).with_params(**params)


def parse(text: str, *, name: str = "<text>", **params: Any) -> Pattern:
    """The main pattern of a text.

    Args:
        text: what a `.attn` file would hold.
        name: what diagnostics call the text.
        params: values for the pattern's parameters, as in `load`.

    Raises:
        PatternError: the text is wrong, or a parameter is.

    >>> parse("pattern p { window(last=3) }").mask(4).astype(int)
    array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [1, 1, 1, 0],
           [0, 1, 1, 1]])
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    return Pattern(load_text(text, name).main).with_params(**params)


def __getattr__(name: str) -> Any:
    if name == "nn":
        return import_module("attnloom.nn")
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'attnloom' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, "nn"})

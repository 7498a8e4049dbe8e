"""What the commands print: tables and pictures for people, one JSON object for programs."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnloom.grammar import Diagnostic, render, to_json


class Failure(click.ClickException):
    """A command cannot do its work; the message says why. Exit status 1."""


def print_json(data: Mapping[str, Any]) -> None:
    """Print the one JSON object of a command."""
    print(json.dumps(_finite(data), indent=2, default=_jsonable, allow_nan=False))


def print_diagnostics(diagnostics: Iterable[Diagnostic]) -> None:
    """Show the problems of a pattern on stderr, their first lines in colour on a terminal."""
    console = _console(stderr=True)
    for diagnostic in diagnostics:
        first, *rest = render(diagnostic).rstrip("\n").split("\n")
        # Not wrapped: the marks stand under the line, and a command is copied as one.
        console.print(Text(first, style="bold red"), soft_wrap=True)
        console.print(Text("\n".join(rest)), end="\n\n", soft_wrap=True)


def say(text: str) -> None:
    """Tell a person what goes on; stderr, so that data can be piped away from it."""
    _console(stderr=True).print(Text(text, style="dim"), soft_wrap=True)


def print_text(text: str, style: str = "") -> None:
    """Print plain text as it is: no wrapping off a terminal, no markup."""
    _console().print(Text(text, style=style), soft_wrap=True)


def print_facts(facts: Mapping[str, str]) -> None:
    """Print names and values, one pair a line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    for name, value in facts.items():
        table.add_row(name, Text(value))
    _print_table(table)


def print_label(title: str, text: str, label: str, *, column: int = 84) -> None:
    """Print a line of a report: what it is about, what it says, and how that was found."""
    line = Text(f"{title:<8} ", style="bold")
    line.append(Text(text, style="not bold"))
    if label:
        line.append(" " * max(2, column + 2 - line.cell_len))
        line.append(Text(f"[{label}]", style="not bold dim"))
    line.rstrip()
    _console().print(line, soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table with a head."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    _print_table(table)


def can_draw() -> bool:
    """Whether stdout can show block characters."""
    try:
        "█·░▒▓".encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def terminal_width() -> int:
    """Columns to draw in: the terminal's, or 100 where there is none."""
    console = _console()
    return console.width if console.is_terminal else 100


def number(value: int) -> str:
    """An integer with separators.

    >>> number(1234567)
    '1,234,567'
    """
    return f"{value:,}"


def seconds(value: float) -> str:
    """A duration in the unit that suits it.

    >>> seconds(0.0123)
    '12.3 ms'
    """
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if value * factor >= 1 or unit == "us":
            return f"{value * factor:.3g} {unit}"
    raise AssertionError


def size(value: int) -> str:
    """A number of bytes in the unit that suits it.

    >>> size(1536)
    '1.5 KiB'
    """
    amount = float(value)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError


def percent(value: float) -> str:
    """A share of 1, for people.

    >>> percent(0.12345)
    '12.35 %'
    """
    return f"{100 * value:.3g} %" if 0 < value < 0.01 else f"{100 * value:.2f} %"


def _console(*, stderr: bool = False) -> Console:
    """A console on the stream of now; made afresh, since tests and pipes exchange the streams."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def _print_table(table: Table) -> None:
    console = _console()
    if not console.is_terminal:
        console.width = 10_000  # never cut or wrap what a program may read
    console.print(table)


def _finite(data: Any) -> Any:
    """The data with null for every number that JSON does not know (NaN and the infinities)."""
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, Mapping):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return data


def _jsonable(value: object) -> object:
    if isinstance(value, Diagnostic):
        return to_json(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")

"""`compare` and `sweep`: the figures of several patterns, or of several settings, side by side."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from attnloom.cli.analyzing import analyzed, layers_option, samples_option, scale_options
from attnloom.cli.options import (
    did_you_mean,
    file_argument,
    heads_option,
    input_option,
    json_option,
    length_option,
    load_pattern,
    read_settings,
    set_option,
    stack,
)
from attnloom.cli.output import print_json, print_table, print_text, say
from attnloom.cli.progress import Progress
from attnloom.compiler.analysis.facts import Fact, facts
from attnloom.compiler.analysis.report import Report
from attnloom.compiler.analysis.spelling import decimal

_SCALES = ("n", "layers", "heads")
"""What a sweep may vary beside the parameters of the pattern."""

MOST_RUNS = 1000

_SETTINGS = re.compile(r"(?P<file>.*?):(?P<settings>\w+=.*)", re.DOTALL)
_NEXT = re.compile(r",(?=\s*\w+=)")


@dataclass(frozen=True)
class Row:
    """A figure of all reports: how each found it, and its difference to the first."""

    facts: tuple[Fact, ...]

    @property
    def differences(self) -> list[float | int | None]:
        """What each but the first adds to the first, where both are numbers."""
        first, *others = (one.value for one in self.facts)
        return [
            other - first
            if isinstance(first, (int, float)) and isinstance(other, (int, float))
            else None
            for other in others
        ]

    @property
    def label(self) -> str:
        """How they were found: once, if all alike."""
        return "; ".join(dict.fromkeys(one.label for one in self.facts))

    def changes(self) -> list[str]:
        """The differences in words: by how much, and how many times the first.

        >>> one, two = (Fact("reads", "reads", n, str(n), "exact") for n in (100, 150))
        >>> Row((one, two)).changes()
        ['+50 (x1.5)']
        """
        first = self.facts[0].value
        found = []
        for other, difference in zip(self.facts[1:], self.differences, strict=True):
            if difference is None:
                found.append("same" if other.value == first else "differs")
                continue
            assert isinstance(first, (int, float))
            assert isinstance(other.value, (int, float))
            if not difference:
                found.append("same")
                continue
            is_share = other.text.endswith("%")
            amount = f"{100 * difference:+.3g} points" if is_share else _signed(difference)
            ratio = f" (x{other.value / first:.3g})" if first and not is_share else ""
            found.append(amount + ratio)
        return found


def _signed(value: float | int) -> str:
    return f"{value:+,}" if isinstance(value, int) else ("+" if value > 0 else "") + decimal(value)


def rows(reports: Sequence[Report]) -> list[Row]:
    """The figures of several reports, row by row."""
    return [Row(one) for one in zip(*map(facts, reports), strict=True)]


# --- compare -------------------------------------------------------------------------------------


@click.command("compare")
@click.argument("files", metavar="FILE FILE...", nargs=-1, required=True)
@scale_options
@set_option
@input_option
@json_option
def compare_command(
    files: Sequence[str],
    length: int,
    layers: int | None,
    heads: int,
    samples: int,
    settings: Sequence[str],
    inputs: Sequence[str],
    as_json: bool,
) -> None:
    """Set the analyses of patterns side by side, with the difference to the first.

    FILE:NAME=VALUE,NAME=VALUE sets parameters of one of them; --set sets those of all that have
    them.

    \b
    Example: attnloom compare longformer bigbird -n 4096
             attnloom compare longformer longformer:reach=512 -n 65536 --layers 12
    """
    if len(files) < 2:
        raise click.UsageError("compare wants two patterns or more")
    with Progress() as progress:
        reports: list[Report] = []
        parameters: list[str] = []
        for file in files:
            name, own = split_settings(file)
            pattern = load_pattern(name)
            parameters += pattern.params
            shared = [one for one in settings if one.partition("=")[0].strip() in pattern.params]
            pattern = pattern.with_params(**{**read_settings(shared), **read_settings(own)})
            given = [one for one in inputs if one.partition("=")[0].strip() in pattern.inputs]
            reports.append(
                analyzed(
                    pattern, length, progress.note, given,
                    layers=layers, heads=heads, samples=samples,
                )
            )  # fmt: skip
        _check_used(settings, parameters)
        found = rows(reports)
        documents = [one.to_dict() for one in reports] if as_json else []
    if as_json:
        print_json(
            {
                "ok": True,
                "diagnostics": [],
                "n": length,
                "names": list(files),
                "rows": [_row_facts(row) for row in found],
                "reports": documents,
            }
        )
        return
    print_text(f"{length:,} tokens", style="bold")
    many = len(files) > 2
    heads_of = [
        "",
        *files,
        *(f"{file} - {files[0]}" if many else "difference" for file in files[1:]),
    ]
    print_table(
        [*heads_of, "how"],
        [
            [row.facts[0].title, *(one.text for one in row.facts), *row.changes(), row.label]
            for row in found
        ],
    )


def _row_facts(row: Row) -> dict[str, Any]:
    return {
        "name": row.facts[0].name,
        "title": row.facts[0].title,
        "values": [one.value for one in row.facts],
        "differences": row.differences,
        "how": [one.label for one in row.facts],
    }


def split_settings(file: str) -> tuple[str, list[str]]:
    """A pattern and the parameters that are set behind its name.

    >>> split_settings("longformer:reach=64,cls=[0, 5]"), split_settings("C:/x.attn")
    (('longformer', ['reach=64', 'cls=[0, 5]']), ('C:/x.attn', []))
    """
    found = _SETTINGS.fullmatch(file)
    if found is None:
        return file, []
    return found["file"], [one.strip() for one in _NEXT.split(found["settings"])]


def _check_used(settings: Sequence[str], parameters: Sequence[str]) -> None:
    """Every parameter that is set for all must be one of some pattern."""
    for name in read_settings(settings):
        if name not in parameters:
            hint = did_you_mean(name, parameters)
            raise click.UsageError(f"none of the patterns has a parameter {name!r}.{hint}")


# --- sweep ---------------------------------------------------------------------------------------


@click.command("sweep")
@file_argument
@click.option(
    "--vary",
    "varied",
    metavar="NAME=V1,V2,...",
    multiple=True,
    required=True,
    help="The values of a parameter, or of n, layers or heads. Repeatable: all combinations.",
)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture (SVG) here."
)
@stack(length_option(default=4096), layers_option, heads_option(default=1), samples_option)
@set_option
@input_option
@json_option
def sweep_command(
    file: str,
    varied: Sequence[str],
    plot: Path | None,
    length: int,
    layers: int | None,
    heads: int,
    samples: int,
    settings: Sequence[str],
    inputs: Sequence[str],
    as_json: bool,
) -> None:
    """Analyse a pattern at many settings: one table, one picture.

    Token sets hold commas: separate them by semicolons, as in --vary 'cls=[0, 9];first 4'.

    \b
    Example: attnloom sweep longformer --vary reach=64,128,256 -n 65536
             attnloom sweep mistral --vary n=4096,65536,1048576 --plot mistral.svg
    """
    axes = read_axes(varied)
    points = [dict(zip(axes, one, strict=True)) for one in itertools.product(*axes.values())]
    if len(points) > MOST_RUNS:
        raise click.UsageError(f"--vary makes {len(points):,} combinations, over {MOST_RUNS:,}")
    base = load_pattern(file, settings)
    with Progress() as progress:
        reports = []
        for number, point in enumerate(points, 1):
            progress.prefix = f"{number} of {len(points)}: "
            scale = _scale(point)
            own = {name: value for name, value in point.items() if name not in _SCALES}
            pattern = base.with_params(**read_settings([f"{k}={v}" for k, v in own.items()]))
            reports.append(
                analyzed(
                    pattern, scale.get("n", length), progress.note, inputs,
                    layers=scale.get("layers", layers), heads=scale.get("heads", heads),
                    samples=samples,
                )
            )  # fmt: skip
            facts(reports[-1])
        found = [facts(one) for one in reports]
        documents = [one.to_dict() for one in reports] if as_json else []
    if plot is not None:
        from attnloom.drawing.plots import sweep_plot

        names = [", ".join(f"{name}={value}" for name, value in point.items()) for point in points]
        plot.write_text(sweep_plot(base.name, names, found), encoding="utf-8")
        say(f"wrote {plot}")
    if as_json:
        print_json(
            {
                "ok": True,
                "diagnostics": [],
                "pattern": base.name,
                "points": [
                    {
                        "settings": point,
                        "figures": {one.name: one.value for one in each},
                        "how": {one.name: one.label for one in each},
                        "report": document,
                    }
                    for point, each, document in zip(points, found, documents, strict=True)
                ],
            }
        )
        return
    shown = [at for at, one in enumerate(found[0]) if any(each[at].value for each in found)]
    where = f"{length:,} tokens" if "n" not in axes else "per length"
    print_text(f"{base.name}, {where}", style="bold")
    print_table(
        ["", *(", ".join(f"{name}={value}" for name, value in point.items()) for point in points),
         "how"],
        [
            [found[0][at].title, *(each[at].text for each in found), Row(
                tuple(each[at] for each in found)
            ).label]
            for at in shown
        ],
    )  # fmt: skip


def read_axes(varied: Sequence[str]) -> dict[str, list[str]]:
    """What is varied, and its values, each once.

    >>> read_axes(["reach=64,128", "cls=[0, 9];first 4"])
    {'reach': ['64', '128'], 'cls': ['[0, 9]', 'first 4']}

    Raises:
        click.UsageError: it is not of this form.
    """
    axes: dict[str, list[str]] = {}
    for text in varied:
        name, equals, values = text.partition("=")
        separator = ";" if ";" in values or "[" in values else ","
        listed = [one.strip() for one in values.split(separator)]
        if not (name.strip() and equals and all(listed)):
            raise click.UsageError(f"--vary wants NAME=V1,V2,..., got {text!r}")
        if name.strip() in axes:
            raise click.UsageError(f"--vary gives {name.strip()!r} twice")
        axes[name.strip()] = list(dict.fromkeys(listed))
    return axes


def _scale(point: dict[str, str]) -> dict[str, int]:
    """The length, layers and heads among what is varied."""
    found = {}
    for name, text in point.items():
        if name not in _SCALES:
            continue
        if not text.isdecimal() or not int(text):
            raise click.UsageError(f"--vary {name} wants numbers from 1 on, got {text!r}")
        found[name] = int(text)
    return found

"""`analyze`: what a pattern can and cannot do, at its real length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from attnloom import Pattern, PatternError
from attnloom.cli.options import (
    Decorator,
    file_argument,
    heads_option,
    input_option,
    json_option,
    length_option,
    load_pattern,
    read_inputs,
    set_option,
    stack,
)
from attnloom.cli.output import print_json, print_label, say
from attnloom.cli.progress import Progress
from attnloom.compiler.analysis.as_text import CAVEAT, as_text
from attnloom.compiler.analysis.figures import Note
from attnloom.compiler.analysis.report import Report

layers_option = click.option(
    "--layers",
    type=click.IntRange(min=1, max=4096),
    help="How many layers the model has.  [default: the pattern repeated as often as is needed]",
)

samples_option = click.option(
    "--samples",
    type=click.IntRange(min=2),
    default=256,
    show_default=True,
    help="Tokens to search from where not all can be.",
)

strict_option = click.option(
    "--strict", is_flag=True, help="Exit with status 1 if there is a warning."
)

scale_options: Decorator = stack(
    length_option(), layers_option, heads_option(default=1), samples_option
)
"""Where a pattern is analysed: its length, layers and heads; and how many samples may be drawn."""


@click.command("analyze", epilog=CAVEAT)
@file_argument
@scale_options
@click.option(
    "--pair",
    nargs=2,
    metavar="J I",
    help="Show a shortest route from token J to token I, read by read; m0 is a memory token.  "
    "[default: a farthest pair]",
)
@click.option(
    "--from", "sources", metavar="SET", help="Token set whose cut from the --to set is wanted."
)
@click.option("--to", "targets", metavar="SET", help="See --from; both in the pattern language.")
@click.option(
    "--without",
    metavar="SET",
    help="Take tokens away first: a token set, or `globals` for all that the pattern makes global.",
)
@click.option(
    "--report",
    "page_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="Write the report as one HTML page, pictures included.",
)
@click.option(
    "--plot",
    "plot_folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write its pictures into a folder, as SVG.",
)
@set_option
@input_option
@strict_option
@json_option
@click.pass_context
def analyze_command(
    ctx: click.Context,
    file: str,
    length: int,
    layers: int | None,
    heads: int,
    samples: int,
    pair: tuple[str, str] | None,
    sources: str | None,
    targets: str | None,
    without: str | None,
    page_path: Path | None,
    plot_folder: Path | None,
    settings: Sequence[str],
    inputs: Sequence[str],
    strict: bool,
    as_json: bool,
) -> None:
    """Analyse a pattern: work, hops, hubs, bottlenecks, cost, and what to be warned of.

    Each line says whether it is exact, or sampled and how far off it may be. Layers are counted
    from 1 where something happens after one, and from 0 where the pattern names them.

    \b
    Example: attnloom analyze longformer -n 4096 --layers 12
             attnloom analyze mistral -n 1000000 --pair 0 999999
             attnloom analyze longformer -n 4096 --from 0..64 --to 4000..4096 --without globals
    """
    if (sources is None) != (targets is None):
        raise click.UsageError("--from and --to belong together")
    pattern = load_pattern(file, settings)
    with Progress() as progress:
        report = analyzed(
            pattern,
            length,
            progress.note,
            inputs,
            layers=layers,
            heads=heads,
            samples=samples,
            between=None if sources is None else (sources, targets),
            without=without,
        )
        if pair is not None:
            report = report.with_pair(*(position(text, report) for text in pair))
        passed = not (strict and any(not one.is_note for one in report.warnings))
        if as_json:
            found = report.to_dict()
        else:
            lines = list(as_text(report))
        written = _draw(report, page_path, plot_folder, progress.note)
    for path in written:
        say(f"wrote {path}")
    if as_json:
        print_json({"ok": passed, "diagnostics": [], **found})
    else:
        for line in lines:
            print_label(line.title, line.text, line.label)
        if not passed:
            say("there are warnings, and --strict was given")
    ctx.exit(0 if passed else 1)


def _draw(report: Report, page_path: Path | None, folder: Path | None, note: Note) -> list[Path]:
    """Write the page and the plots that were asked for, and say where they are."""
    written = []
    if page_path is not None:
        from attnloom.drawing.page import page

        note("drawing")
        page_path.write_text(page(report), encoding="utf-8")
        written.append(page_path)
    if folder is not None:
        from attnloom.drawing.plots import write_plots

        note("drawing")
        written += write_plots(report, folder)
    return written


def analyzed(
    pattern: Pattern, length: int, note: Note, inputs: Sequence[str], **options: Any
) -> Report:
    """The report of a pattern; what is wrong with an option is a usage error.

    Raises:
        click.UsageError: an option does not fit the pattern or the length.
    """
    values = read_inputs(pattern, inputs, length)
    try:
        return pattern.analyze(length, inputs=values, note=note, **options)
    except PatternError:
        raise
    except ValueError as error:
        raise click.UsageError(_as_option(str(error))) from error


_OPTIONS = {"between": "--from and --to", "without": "--without", "samples": "--samples"}


def _as_option(message: str) -> str:
    """The message of an argument as that of the option it came from.

    >>> _as_option("between must hold a token, got '70..80'")
    "--from and --to must hold a token, got '70..80'"
    """
    name, _, rest = message.partition(" ")
    return f"{_OPTIONS[name]} {rest}" if name in _OPTIONS else message


def position(text: str, report: Report) -> int:
    """The position of a token, or of a memory token by its name.

    Raises:
        click.UsageError: there is no such token.
    """
    memory = report.stack.memory
    digits = text.removeprefix("m")
    if digits.isdecimal():
        number = int(digits)
        if text == digits and number < report.stack.tokens:
            return number
        if text != digits and number < memory:
            return number - memory
    names = f" or a memory token, m0 to m{memory - 1}" if memory else ""
    raise click.UsageError(f"--pair wants a token below {report.stack.tokens}{names}, got {text!r}")

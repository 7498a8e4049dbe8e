"""`show`: a picture of a pattern, in the terminal or as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from attnloom import Pattern
from attnloom.cli.options import (
    Place,
    file_argument,
    head_option,
    heads_option,
    input_option,
    json_option,
    layer_options,
    length_option,
    load_pattern,
    place,
    read_inputs,
    set_option,
)
from attnloom.cli.output import (
    Failure,
    can_draw,
    number,
    percent,
    print_json,
    print_text,
    say,
    terminal_width,
)
from attnloom.compiler.pictures import mean_of_mask, shade_text
from attnloom.render import exact_text, mean_of_layout, save_png, tile_for

MASK_LIMIT = 2048
"""Up to this length the picture comes from the mask itself; beyond it, from the tiles."""

PNG_CELLS = 512
MOST_CELLS = 64


@click.command("show")
@file_argument
@length_option(default=4096)
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Write a PNG here.")
@set_option
@input_option
@head_option
@heads_option()
@layer_options
@json_option
def show_command(
    file: str,
    length: int,
    png: Path | None,
    settings: Sequence[str],
    inputs: Sequence[str],
    head: int,
    heads: int | None,
    layer: int,
    layers: int | None,
    as_json: bool,
) -> None:
    """Draw a pattern: query down, key across.

    A short sequence is drawn pair by pair. A long one is drawn in cells shaded by the share of
    their pairs that are read: any cell that is not empty shows, and a solid one is read whole.

    \b
    Example: attnloom show longformer -n 48 --set reach=4
             attnloom show bigbird -n 4096 --png bigbird.png
    """
    pattern = load_pattern(file, settings)
    where = place(head, heads, layer, layers)
    values = read_inputs(pattern, inputs, length)
    bound = pattern.bind(length, inputs=values, **where.bound)
    reads = pattern.reads(length, inputs=values, **where.bound)
    density = reads / bound.length**2

    if png is not None:
        cells = min(PNG_CELLS, bound.length)
        densities = _densities(pattern, length, where, values, bound.length, cells)
        try:
            save_png(densities, png, title=f"{pattern.name}, n = {length}", length=bound.length)
        except ModuleNotFoundError as error:
            raise Failure("a PNG needs Matplotlib: pip install 'attnloom[plot]'") from error
        except OSError as error:
            raise Failure(f"cannot write {str(png)!r}: {error.strerror}") from error
        say(f"wrote {png} ({cells} x {cells} cells)")

    if as_json:
        cells = min(MOST_CELLS, bound.length)
        print_json(
            {
                "ok": True,
                "diagnostics": [],
                "pattern": pattern.name,
                "n": length,
                "memory": bound.memory,
                "head": head,
                "layer": layer,
                "reads": reads,
                "density": density,
                "links": bound.describe(),
                "cells": _densities(pattern, length, where, values, bound.length, cells),
            }
        )
        return

    memory = f" + {bound.memory} memory" if bound.memory else ""
    print_text(f"{pattern.name}, {number(length)} tokens{memory}", style="bold")
    for line in bound.describe():
        print_text(f"  {line}")
    print_text(f"  {number(reads)} of {number(bound.length**2)} pairs ({percent(density)})\n")
    if png is None:
        _draw(pattern, length, where, values, bound.length)


def _draw(pattern: Pattern, length: int, where: Place, values: dict[str, Any], total: int) -> None:
    """Print the picture: pair by pair where it fits the terminal, in shaded cells otherwise."""
    fit = max(8, min(MOST_CELLS, terminal_width() // 2))
    ascii_only = not can_draw()
    if total <= fit:
        mask = pattern.mask(length, inputs=values, **where.bound)
        print_text(exact_text(mask, ascii_only=ascii_only))
    else:
        densities = _densities(pattern, length, where, values, total, fit)
        print_text(shade_text(densities, ascii_only=ascii_only))
        print_text(f"\none cell: {number(-(-total // fit))} x {number(-(-total // fit))} pairs")


def _densities(
    pattern: Pattern, length: int, where: Place, values: dict[str, Any], total: int, cells: int
) -> NDArray[np.float64]:
    """The picture's cells; only a short sequence is ever laid out as a dense mask."""
    if total <= MASK_LIMIT:
        return mean_of_mask(pattern.mask(length, inputs=values, **where.bound), cells)
    layouts, layout_of_head = pattern.layouts(
        length, inputs=values, block=tile_for(total, cells), **where.all_heads
    )
    return mean_of_layout(layouts[layout_of_head[0, where.head]], cells)

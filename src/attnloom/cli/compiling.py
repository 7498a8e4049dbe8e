"""`compile`: what a pattern becomes, stage by stage, without running it and without torch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click
import numpy as np

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
    read_source,
    set_option,
)
from attnloom.cli.output import (
    number,
    percent,
    print_facts,
    print_json,
    print_text,
    seconds,
    size,
)
from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.grammar import parse
from attnloom.grammar.syntax import Node

STAGES = ("tree", "relation", "blocks", "plan")


@click.command("compile")
@file_argument
@length_option()
@click.option(
    "--emit",
    type=click.Choice(STAGES),
    default="plan",
    show_default=True,
    help="The stage to print: the syntax tree, the relation of one head, its blocks, or the "
    "figures of the whole plan.",
)
@click.option(
    "--block",
    type=click.IntRange(min=8),
    default=128,
    show_default=True,
    help="Tokens on each side of a tile.",
)
@set_option
@input_option
@head_option
@heads_option()
@layer_options
@json_option
def compile_command(
    file: str,
    length: int,
    emit: str,
    block: int,
    settings: Sequence[str],
    inputs: Sequence[str],
    head: int,
    heads: int | None,
    layer: int,
    layers: int | None,
    as_json: bool,
) -> None:
    """Compile a pattern to blocks and print a stage of it.

    Reads, pairs and blocks are counted over all heads together.

    \b
    Example: attnloom compile longformer -n 65536 --heads 12
             attnloom compile bigbird -n 1024 --emit blocks
    """
    where = place(head, heads, layer, layers)
    pattern = load_pattern(file, settings)
    values = read_inputs(pattern, inputs, length)
    bound = pattern.bind(length, inputs=values, **where.bound)
    start = time.perf_counter()
    layouts, layout_of_head = pattern.layouts(length, inputs=values, block=block, **where.all_heads)
    elapsed = time.perf_counter() - start
    facts = {
        "pattern": pattern.name,
        "n": length,
        "memory": bound.memory,
        "parameters": {name: _plain(value) for name, value in pattern.params.items()},
        **_figures(layouts, layout_of_head[0].tolist(), where),
        "seconds": elapsed,
    }

    stage: dict[str, Any] = {}
    if emit == "tree":
        source = read_source(file)
        stage["tree"] = list(_tree_lines(parse(source.text, source.name)))
    elif emit == "relation":
        stage["relation"] = bound.describe()
    elif emit == "blocks":
        layout = layouts[layout_of_head[0, where.head]]
        stage["rows"] = [list(row) for row in _block_rows(layout)]

    if as_json:
        print_json({"ok": True, "diagnostics": [], **facts, **stage})
    elif emit == "plan":
        _print_figures(facts)
    elif emit == "blocks":
        for index, row in enumerate(stage["rows"]):
            print_text(f"{index:>6}: {_runs(row)}")
    else:
        print_text("\n".join(stage[emit]))


def _figures(
    layouts: Sequence[BlockLayout], layout_of_head: Sequence[int], where: Place
) -> dict[str, Any]:
    """The figures of a layer, counted over its heads; equal heads share a layout in memory."""
    per_head = [layouts[index] for index in layout_of_head]
    reads = [layout.reads() for layout in layouts]
    total_reads = sum(reads[index] for index in layout_of_head)
    pairs = sum(layout.query_len * layout.kv_len for layout in per_head)
    tiles = {
        "full": sum(layout.num_full for layout in per_head),
        "partial": sum(layout.num_partial for layout in per_head),
        "empty": sum(layout.num_empty for layout in per_head),
    }
    return {
        "heads": where.heads,
        "layer": where.layer,
        "block": layouts[0].block_m,
        "reads": total_reads,
        "pairs": pairs,
        "density": total_reads / pairs,
        "blocks": {**tiles, "total": sum(tiles.values())},
        "unique_masks": sum(layout.num_masks for layout in layouts),
        "layouts": len(layouts),
        "plan_bytes": sum(layout.num_bytes for layout in layouts),
    }


def _print_figures(facts: dict[str, Any]) -> None:
    blocks = facts["blocks"]
    computed = blocks["full"] + blocks["partial"]
    memory = f" + {facts['memory']} memory" if facts["memory"] else ""
    parameters = ", ".join(f"{name}={value}" for name, value in facts["parameters"].items())
    print_facts(
        {
            "pattern": facts["pattern"] + (f" ({parameters})" if parameters else ""),
            "tokens": number(facts["n"]) + memory,
            "heads": f"{facts['heads']}, layer {facts['layer']}",
            "reads": f"{number(facts['reads'])} of {number(facts['pairs'])} pairs "
            f"({percent(facts['density'])})",
            "blocks": f"{number(computed)} of {number(blocks['total'])} computed "
            f"({percent(computed / blocks['total'])}), tiles of {facts['block']}: "
            f"{number(blocks['full'])} full, {number(blocks['partial'])} partial",
            "masks": f"{number(facts['unique_masks'])} different, in {facts['layouts']} layout(s)",
            "plan": size(facts["plan_bytes"]),
            "compiled in": seconds(facts["seconds"]),
        }
    )


def _block_rows(layout: BlockLayout) -> Iterator[Iterator[tuple[int, str]]]:
    """For each row of tiles, the columns that are computed and whether they are full."""
    for start, stop in zip(layout.row_offsets[:-1], layout.row_offsets[1:], strict=True):
        columns = layout.column_indices[start:stop].tolist()
        kinds = np.where(layout.mask_ids[start:stop] == FULL, "full", "partial").tolist()
        yield zip(columns, kinds, strict=True)


def _runs(row: Sequence[tuple[int, str]]) -> str:
    """A row of tiles in words, neighbours of one kind together.

    >>> _runs([(0, "partial"), (3, "full"), (4, "full")])
    'partial 0, full 3..5'
    """
    runs: list[list[Any]] = []
    for column, kind in row:
        if runs and runs[-1][0] == kind and runs[-1][2] == column:
            runs[-1][2] = column + 1
        else:
            runs.append([kind, column, column + 1])
    return ", ".join(
        f"{kind} {start}" if stop == start + 1 else f"{kind} {start}..{stop}"
        for kind, start, stop in runs
    )


def _tree_lines(node: Node, depth: int = 0, label: str = "") -> Iterator[str]:
    """A syntax tree as indented lines: the class, its plain fields, then its children."""
    plain: list[str] = []
    children: list[tuple[str, Node]] = []
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if not field.repr or value is None:
            continue
        if isinstance(value, Node):
            children.append((field.name, value))
        elif isinstance(value, tuple) and any(isinstance(item, Node) for item in value):
            children.extend((field.name, item) for item in value)
        elif value != ():
            plain.append(f"{field.name}={value!r}")
    indent, name = "  " * depth, type(node).__name__
    yield f"{indent}{label}{': ' if label else ''}{name}{' ' if plain else ''}{' '.join(plain)}"
    for child_label, child in children:
        yield from _tree_lines(child, depth + 1, child_label)


def _plain(value: object) -> int | bool | str:
    return value if isinstance(value, int) else str(value)

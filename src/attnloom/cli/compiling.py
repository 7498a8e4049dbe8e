"""`compile`: what a pattern becomes, stage by stage, without running it and without torch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click
import numpy as np

from attnloom import Pattern
from attnloom.cli.options import (
    Place,
    did_you_mean,
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
from attnloom.compiler.bound import Bound
from attnloom.compiler.calibrated import model_of, names
from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.compiler.model import CostModel, predict
from attnloom.compiler.parts import HeadLayout, Part
from attnloom.compiler.passes import OPTIONAL, PASSES, Draft, run_passes
from attnloom.compiler.passes.draft import DraftPart
from attnloom.compiler.tiles import TileRows
from attnloom.grammar import parse
from attnloom.grammar.syntax import Node

_PASSES = tuple(one.__name__ for one in PASSES)
STAGES = ("tree", "relation", "blocks", *_PASSES, "plan")


@click.command("compile")
@file_argument
@length_option()
@click.option(
    "--emit",
    type=click.Choice(STAGES),
    default="plan",
    show_default=True,
    help="The stage to print: the syntax tree, the relation of one head, its blocks, what a pass "
    "makes of it, or the figures of the whole plan.",
)
@click.option(
    "--block",
    type=click.IntRange(min=8),
    default=128,
    show_default=True,
    help="Tokens on each side of a tile.",
)
@click.option(
    "--without",
    type=click.Choice(OPTIONAL),
    multiple=True,
    help="A pass to leave out, to see what it gains. Repeatable.",
)
@click.option(
    "--head-dim",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Numbers in each head's query, for the prediction.",
)
@click.option(
    "--model",
    "model_name",
    default="default",
    show_default=True,
    metavar="NAME",
    help="What things cost: a large GPU, or a device that `attnloom calibrate` measured.",
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
    without: Sequence[str],
    head_dim: int,
    model_name: str,
    settings: Sequence[str],
    inputs: Sequence[str],
    head: int,
    heads: int | None,
    layer: int,
    layers: int | None,
    as_json: bool,
) -> None:
    """Compile a pattern to tiles and print a stage of it.

    Reads, pairs, blocks and tiles are counted over all heads together. Blocks are those of the grid
    in which the pattern is worked on, before packing; tiles are what is computed.

    \b
    Example: attnloom compile longformer -n 65536 --heads 12
             attnloom compile bigbird -n 1024 --emit blocks
             attnloom compile local --set reach=512 -n 65536 --without schedule
    """
    where = place(head, heads, layer, layers)
    pattern = load_pattern(file, settings)
    values = read_inputs(pattern, inputs, length)
    bound = pattern.bind(length, inputs=values, **where.bound)
    model = _model(model_name)
    start = time.perf_counter()
    layouts, layout_of_head = pattern.head_layouts(
        length, inputs=values, block=block, without=without, model=model, **where.all_heads
    )
    elapsed = time.perf_counter() - start
    of_heads = [layouts[index].parts for index in layout_of_head[0].tolist()]
    figures = _figures(pattern, length, values, bound, layouts, of_heads, where)
    facts = {
        "pattern": pattern.name,
        "n": length,
        "memory": bound.memory,
        "parameters": {name: _plain(value) for name, value in pattern.params.items()},
        "heads": where.heads,
        "layer": where.layer,
        "block": block,
        "without": list(without),
        **figures,
        "predicted": _prediction(of_heads, model, figures, bound.length, head_dim),
        "seconds": elapsed,
    }

    stage: dict[str, Any] = {}
    if emit == "tree":
        source = read_source(file)
        stage["tree"] = list(_tree_lines(parse(source.text, source.name)))
    elif emit == "relation":
        stage["relation"] = bound.describe()
    elif emit == "blocks":
        grids, grid_of_head = pattern.layouts(length, inputs=values, block=block, **where.all_heads)
        grid = grids[grid_of_head[0, where.head]]
        stage["rows"] = [list(row) for row in _block_rows(grid)]
    elif emit in _PASSES:
        stage["pass"] = emit
        stage["parts"] = _after_pass(emit, bound, block, where, without, model)

    if as_json:
        print_json({"ok": True, "diagnostics": [], **facts, **stage})
    elif emit == "plan":
        _print_figures(facts)
    elif emit == "blocks":
        for index, row in enumerate(stage["rows"]):
            print_text(f"{index:>6}: {_runs(row)}")
    elif emit in _PASSES:
        for index, part in enumerate(stage["parts"]):
            print_text(f"part {index}", style="bold")
            print_facts({name: str(value) for name, value in part.items()})
    else:
        print_text("\n".join(stage[emit]))


def _model(name: str) -> CostModel:
    """A cost model by its name."""
    model = CostModel() if name == "default" else model_of(name)
    if model is None:
        known = ["default", *names()]
        raise click.UsageError(
            f"no cost model is called {name!r}; there is {', '.join(known)}."
            + did_you_mean(name, known)
        )
    return model


# --- figures -------------------------------------------------------------------------------------


def _figures(
    pattern: Pattern,
    length: int,
    values: dict[str, Any],
    bound: Bound,
    layouts: Sequence[HeadLayout],
    of_heads: Sequence[tuple[Part, ...]],
    where: Place,
) -> dict[str, Any]:
    """The figures of a layer, counted over its heads; equal heads share a plan in memory."""
    known: dict[int, int] = {}
    reads = 0
    for head, parts in enumerate(of_heads):
        if id(parts) not in known:
            at = {**where.bound, "head": head}
            known[id(parts)] = pattern.reads(length, inputs=values, **at)
        reads += known[id(parts)]
    pairs = bound.length**2 * len(of_heads)
    full, partial, total = (
        sum(part.blocks[at] for parts in of_heads for part in parts) for at in range(3)
    )
    return {
        "reads": reads,
        "pairs": pairs,
        "density": reads / pairs,
        "blocks": {
            "full": full,
            "partial": partial,
            "empty": total - full - partial,
            "total": total,
        },
        "tiles": _tiles([part.forward for parts in of_heads for part in parts]),
        "tiles_transposed": _tiles([part.transposed for parts in of_heads for part in parts]),
        "orders": [part.order_name for part in of_heads[where.head]],
        "unique_masks": sum(len(part.forward.masks) for one in layouts for part in one.parts),
        "layouts": len(layouts),
        "plan_bytes": sum(layout.num_bytes for layout in layouts),
    }


def _tiles(halves: Sequence[TileRows]) -> dict[str, int]:
    return {
        "executed": sum(half.num_tiles for half in halves),
        "full": sum(half.num_full for half in halves),
        "partial": sum(half.num_partial for half in halves),
        "gathered": sum(half.num_gathered for half in halves),
        "items": sum(len(half.items) for half in halves),
    }


def _prediction(
    of_heads: Sequence[tuple[Part, ...]],
    model: CostModel,
    figures: dict[str, Any],
    length: int,
    head_dim: int,
) -> dict[str, Any]:
    found = predict(
        of_heads, model, reads=figures["reads"], length=length, head_dim=head_dim
    )  # fmt: skip
    return {
        "model": model.name,
        "head_dim": head_dim,
        **dataclasses.asdict(found),
        "speedup": found.speedup,
        "dense_is_better": found.is_dense_better,
    }


def _print_figures(facts: dict[str, Any]) -> None:
    blocks, tiles, turned = facts["blocks"], facts["tiles"], facts["tiles_transposed"]
    grid = blocks["full"] + blocks["partial"]
    memory = f" + {facts['memory']} memory" if facts["memory"] else ""
    parameters = ", ".join(f"{name}={value}" for name, value in facts["parameters"].items())
    predicted = facts["predicted"]
    orders = ", ".join(dict.fromkeys(facts["orders"]))
    print_facts(
        {
            "pattern": facts["pattern"] + (f" ({parameters})" if parameters else ""),
            "tokens": number(facts["n"]) + memory,
            "heads": f"{facts['heads']}, layer {facts['layer']}",
            "reads": f"{number(facts['reads'])} of {number(facts['pairs'])} pairs "
            f"({percent(facts['density'])})",
            "order": orders,
            "blocks": f"{number(grid)} of {number(blocks['total'])} in use "
            f"({percent(grid / blocks['total'])}), tiles of {facts['block']}: "
            f"{number(blocks['full'])} full, {number(blocks['partial'])} partial",
            "tiles": f"{_tile_line(tiles)}; backward {number(turned['executed'])}",
            "masks": f"{number(facts['unique_masks'])} different, in {facts['layouts']} layout(s)",
            "plan": size(facts["plan_bytes"]),
            "work": f"{predicted['flops'] / 1e9:,.4g} GFLOP forward, {size(predicted['bytes'])} "
            f"moved, at head_dim {predicted['head_dim']} in 16 bits",
            "predicted": _predicted_line(predicted),
            "compiled in": seconds(facts["seconds"]),
        }
    )


def _tile_line(tiles: dict[str, int]) -> str:
    kinds = ("full", "partial", "gathered")
    listed = ", ".join(f"{number(tiles[kind])} {kind}" for kind in kinds if tiles[kind])
    return f"{number(tiles['executed'])} computed ({listed})" if listed else "none computed"


def _predicted_line(predicted: dict[str, Any]) -> str:
    if predicted["dense_is_better"]:
        return "dense attention is faster"
    factor = predicted["speedup"] or 0.0
    wasted = predicted["flops"] / predicted["useful_flops"] if predicted["useful_flops"] else 1.0
    return f"{factor:.3g} times as fast as dense, {wasted:.2f} times the pairs' own work"


# --- stages --------------------------------------------------------------------------------------


def _after_pass(
    name: str,
    bound: Bound,
    block: int,
    where: Place,
    without: Sequence[str],
    model: CostModel,
) -> list[dict[str, Any]]:
    """The parts of one head after a pass."""
    draft = Draft(
        bound.region, -bound.memory, bound.tokens, block, block, where.heads, model,
        apart="pack" not in without,
    )  # fmt: skip
    for done, after in run_passes(draft, without):
        draft = after
        if done == name:
            break
    return [_draft_facts(part) for part in draft.parts]


def _draft_facts(part: DraftPart) -> dict[str, Any]:
    """What is known of a part so far."""
    facts: dict[str, Any] = {
        "order": part.order_name,
        "region": ", ".join(_shown(leaf) for leaf in part.region.leaves()),
    }
    if part.order is not None:
        facts["places"] = part.order.length
    if part.layout is not None:
        facts["full"], facts["partial"] = part.layout.num_full, part.layout.num_partial
        facts["masks"] = part.layout.num_masks
    if part.pairs is not None:
        facts["listed pairs"] = len(part.pairs[0])
    if part.wide:
        facts["scattered tokens"] = sum(len(one.tokens) for one in part.wide)
    for title, half in (("forward", part.forward), ("transposed", part.transposed)):
        if half is not None:
            facts[title] = (
                f"{half.num_tiles} tiles ({half.num_full} full, {half.num_partial} partial, "
                f"{half.num_gathered} gathered), {len(half.listed)} listed rows, "
                f"{len(half.masks)} masks, {len(half.items)} items, {len(half.merges)} split rows"
            )
    return facts


def _shown(leaf: object) -> str:
    parts = getattr(leaf, "bands", None)
    name = type(leaf).__name__
    return f"{len(parts)} {name}" if parts is not None else name


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

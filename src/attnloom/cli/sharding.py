"""`shard`: what each of several processes would hold, receive and compute; starts none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click
import numpy as np

from attnloom.cli.options import (
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
from attnloom.cli.output import number, percent, print_facts, print_json, seconds, size
from attnloom.compiler.balance import BALANCES, MOST_ORDERED, Network, divide_heads, tokens_of
from attnloom.compiler.model import CostModel
from attnloom.compiler.parts import HeadLayout
from attnloom.compiler.sharding import Division

_MOST_UNITS = 1 << 16
_BYTES = 2
"""Of a number in 16 bits."""


@click.command("shard")
@file_argument
@length_option()
@click.option("--ranks", type=click.IntRange(min=1), required=True, help="How many processes.")
@click.option(
    "--balance",
    type=click.Choice(BALANCES),
    default="auto",
    show_default=True,
    help="How the sequence is divided: neighbours, head and tail, or by cost.",
)
@click.option(
    "--reorder/--no-reorder",
    default=True,
    show_default=True,
    help="Whether an order of the pattern's may be divided, such as residues.",
)
@click.option(
    "--block",
    type=click.IntRange(min=8),
    help="Tokens of a unit.  [default: 128, doubled until there are at most 65,536]",
)
@click.option("--kv-heads", type=click.IntRange(min=1), help="Key heads.  [default: --heads]")
@click.option(
    "--head-dim", type=click.IntRange(min=1), default=64, show_default=True,
    help="Numbers in each head's query.",
)  # fmt: skip
@click.option(
    "--bandwidth", type=click.FloatRange(min=0, min_open=True), default=50.0, show_default=True,
    help="GB/s that a process receives, for the prediction.",
)  # fmt: skip
@set_option
@input_option
@head_option
@heads_option()
@layer_options
@json_option
def shard_command(
    file: str,
    length: int,
    ranks: int,
    balance: str,
    reorder: bool,
    block: int | None,
    kv_heads: int | None,
    head_dim: int,
    bandwidth: float,
    settings: Sequence[str],
    inputs: Sequence[str],
    head: int,
    heads: int | None,
    layer: int,
    layers: int | None,
    as_json: bool,
) -> None:
    """Divide a pattern over processes and print what each would receive, without starting any.

    Bytes are those of one layer and batch element, in 16-bit numbers, forward and backward
    together: keys and values one way and their gradients the other, likewise the long queries.

    \b
    Example: attnloom shard longformer -n 1048576 --ranks 8
             attnloom shard mistral -n 131072 --ranks 4 --heads 32 --kv-heads 8 --head-dim 128
    """
    where = place(head, heads, layer, layers)
    pattern = load_pattern(file, settings)
    values = read_inputs(pattern, inputs, length)
    unit = block or 128
    while block is None and length > unit * _MOST_UNITS:
        unit *= 2
    start = time.perf_counter()
    if length <= MOST_ORDERED:
        layouts, chosen = pattern.head_layouts(
            length, inputs=values, block=unit, without=("pack", "schedule"), **where.all_heads
        )
    else:  # no order is tried, and the plain tiles are made faster
        grids, chosen = pattern.layouts(length, inputs=values, block=unit, **where.all_heads)
        layouts = [HeadLayout.of(grid) for grid in grids]
    uses = np.bincount(chosen.reshape(-1), minlength=len(layouts)).tolist()
    network = Network(bandwidth * 1e9)
    try:
        division = divide_heads(
            layouts, ranks, balance, reorder=reorder, uses=uses, network=network
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    kv_heads = kv_heads or where.heads
    facts = {
        "pattern": pattern.name,
        "n": length,
        "memory": division.length - length,
        "ranks": ranks,
        "block": unit,
        "balance": balance,
        "order": _order_of(division, layouts),
        "heads": where.heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        **_figures(division, uses, where.heads, kv_heads, head_dim, bandwidth),
        "seconds": time.perf_counter() - start,
    }
    if as_json:
        print_json({"ok": True, "diagnostics": [], **facts})
    else:
        _print(facts)


def _order_of(division: Division, layouts: Sequence[HeadLayout]) -> str:
    """What the order is called in which the sequence is divided."""
    if division.order is None:
        return "positions"
    parts = [part for layout in layouts for part in layout.parts]
    return next(one.order_name for one in parts if one.order is division.order)


def _figures(
    division: Division,
    uses: Sequence[int],
    heads: int,
    kv_heads: int,
    head_dim: int,
    bandwidth: float,
) -> dict[str, Any]:
    """What travels, who computes how much, and what is expected of it."""
    ranks, own = division.ranks, tokens_of(division)
    received = division.received_tokens()
    long = np.array([len(division.long_of(rank)) for rank in range(ranks)])
    travels = sum(division.received_bytes(heads, kv_heads, head_dim), np.zeros(1, np.int64))
    # Keys and values come, and gradients of one's own from all the others.
    per_key = 2 * kv_heads * head_dim * _BYTES
    gathered = (division.length - own + (ranks - 1) * own) * per_key
    tiles = division.tiles()
    model = CostModel()
    unit = model.seconds_per_tile * (division.unit / 128) ** 2 * (head_dim / 64)
    # Two and a half times as much again in the backward pass.
    costs = division.costs(uses, model.partial) * 3.5 * unit / model.processors
    alone, shared = float(costs.sum()), float(costs.max())
    moving = float(travels.max()) / (bandwidth * 1e9)
    speedup = alone / (shared + moving) if shared + moving else 1.0
    keys = (own + received) * 2 * kv_heads * head_dim * _BYTES
    memory = keys + own * 2 * heads * head_dim * _BYTES
    each = {
        "tokens": own, "received_tokens": received, "bytes": travels, "tiles": tiles,
        "memory": memory,
    }  # fmt: skip
    return {
        "tokens": _spread(own),
        "received_tokens": _spread(received),
        "long_queries": int(long.sum()),
        "bytes": {
            **_spread(travels),
            "all_gather": int(gathered.max()),
            "ring": int(gathered.max()),
            "of_all_gather": float(travels.max() / gathered.max()) if gathered.max() else 0.0,
        },
        "tiles": {**_spread(tiles), "uneven": float(tiles.max() / max(tiles.mean(), 1e-300))},
        "memory": _spread(memory),
        "predicted": {
            "alone_seconds": alone,
            "seconds": shared + moving,
            "speedup": speedup,
            "efficiency": speedup / ranks,
            "bandwidth": bandwidth,
        },
        "per_rank": {name: values.tolist() for name, values in each.items()},
    }


def _spread(values: np.ndarray) -> dict[str, Any]:
    return {"min": int(values.min()), "mean": float(values.mean()), "max": int(values.max())}


def _print(facts: dict[str, Any]) -> None:
    travels, tiles, predicted = facts["bytes"], facts["tiles"], facts["predicted"]
    tokens, got = facts["tokens"], facts["received_tokens"]
    print_facts(
        {
            "pattern": facts["pattern"],
            "tokens": f"{number(facts['n'])} over {facts['ranks']} processes, "
            f"{number(tokens['min'])} to {number(tokens['max'])} each, "
            f"in units of {number(facts['block'])}, by {facts['order']}",
            "heads": f"{facts['heads']} and {facts['kv_heads']} of keys, "
            f"head_dim {facts['head_dim']}",
            "receives": f"keys of {number(got['min'])} to {number(got['max'])} tokens; "
            f"{number(facts['long_queries'])} long queries go round",
            "bytes": f"at most {size(travels['max'])} a process and step, "
            f"{percent(travels['of_all_gather'])} of all-gather or ring "
            f"({size(travels['all_gather'])})",
            "tiles": f"{number(tiles['min'])} to {number(tiles['max'])}, "
            f"the most {tiles['uneven']:.2f} times the mean",
            "memory": f"at most {size(facts['memory']['max'])} of queries, keys, values, outputs",
            "predicted": f"{predicted['speedup']:.3g} times as fast as one process "
            f"({percent(predicted['efficiency'])} of {facts['ranks']}), "
            f"receiving {predicted['bandwidth']:g} GB/s",
            "divided in": seconds(facts["seconds"]),
        }
    )

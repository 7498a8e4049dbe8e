"""Plans in words and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from attnloom.compiler.model import CostModel, predict
from attnloom.compiler.parts import HeadLayout, Part
from attnloom.compiler.pictures import MOST_EXACT, mean_of_head, shade_text
from attnloom.compiler.tiles import TileRows

if TYPE_CHECKING:
    from attnloom.runtime.plan import Plan

_CELLS = 24
_MOST_SHOWN = 4


def one_line(plan: Plan) -> str:
    """`Plan(...)`: what it is of, its sizes, and what it computes."""
    blocks = -(-plan.query_len // plan.block_m) * -(-plan.kv_len // plan.block_n)
    every = blocks * plan.layout_of_head.numel()
    packed = f", {plan.num_gathered} gathered" if plan.num_gathered else ""
    lengths = (
        f"{plan.query_len}"
        if plan.query_len == plan.kv_len
        else (f"{plan.query_len} queries x {plan.kv_len} keys")
    )
    facts = [
        *_named(plan.description),
        f"length {lengths}" + (f" ({plan.memory} memory)" if plan.memory else ""),
        f"{plan.num_heads} heads" + (f", batch {plan.batch_size}" if plan.batch_size else ""),
        f"{len(plan.layouts)} layout{'s' * (len(plan.layouts) != 1)}",
        f"{plan.num_tiles} of {every} tiles of {plan.block_m}x{plan.block_n} "
        f"({plan.num_full} full, {plan.num_partial} partial{packed})",
        f"density {plan.density:.4g}",
        f"{plan.num_bytes / 1024:.1f} KiB on {plan.device}",
    ]
    return f"Plan({', '.join(facts)})"


def picture(layout: HeadLayout, cells: int = _CELLS) -> str:
    """What a head reads: queries down, keys across, two characters a cell."""
    return shade_text(mean_of_head(layout, min(cells, layout.query_len, layout.kv_len)))


def describe(plan: Plan, model: CostModel | None = None) -> str:
    """See `Plan.describe`."""
    lines = [one_line(plan)]
    model = model or CostModel()
    followers = plan.layout_of_head.cpu().numpy()
    for number, layout in enumerate(plan.layouts[:_MOST_SHOWN]):
        lines += ["", f"layout {number}: {_who(followers == number)}"]
        lines += [f"  {line}" for line in _layout_lines(layout, model)]
        is_exact = max(layout.query_len, layout.kv_len) <= MOST_EXACT
        lines.append("  drawn from every pair:" if is_exact else "  drawn from its tiles:")
        lines += [f"  {line}" for line in picture(layout).splitlines()]
    if len(plan.layouts) > _MOST_SHOWN:
        lines += ["", f"and {len(plan.layouts) - _MOST_SHOWN} more layouts"]
    return "\n".join(lines)


def _named(description: Mapping[str, object]) -> Iterator[str]:
    """The pattern's name and parameters, as far as the caller has given them."""
    pattern, params = description.get("pattern"), description.get("params")
    if isinstance(pattern, str) and "\n" not in pattern:
        yield pattern
    if isinstance(params, Mapping):
        yield from (f"{name}={value}" for name, value in params.items())


def _who(followers: np.ndarray) -> str:
    """Which heads follow a layout: `(batch or 1, heads)` booleans in words."""
    if followers.all():
        return "every head"
    if (followers == followers[0]).all():
        heads = np.flatnonzero(followers[0]).tolist()
        shown = ", ".join(str(head) for head in heads[:8]) + (", ..." if len(heads) > 8 else "")
        return f"head{'s' * (len(heads) > 1)} {shown}"
    return f"{int(followers.sum())} of {followers.size} heads of all batch elements"


def _layout_lines(layout: HeadLayout, model: CostModel) -> Iterator[str]:
    every = layout.query_len * layout.kv_len
    yield f"reads {layout.reads:,} of {every:,} pairs ({layout.reads / every:.3%})"
    for number, part in enumerate(layout.parts):
        yield f"part {number}: {_part_line(part)}"
        for name, rows in (("forward", part.forward), ("backward", part.transposed)):
            yield f"  {name}: {_rows_line(rows)}"
    found = predict([layout.parts], model, reads=layout.reads, length=layout.query_len)
    gain = "slower than dense attention" if found.is_dense_better else (
        f"{found.speedup:.3g} times as fast as dense attention"
    )  # fmt: skip
    yield f"predicted: {gain} ({model.name} model)"


def _part_line(part: Part) -> str:
    full, partial, total = part.blocks
    return f"order {part.order_name}; {full + partial:,} of {total:,} blocks in use"


def _rows_line(rows: TileRows) -> str:
    kinds = (
        ("full", rows.num_full),
        ("partial", rows.num_partial),
        ("gathered", rows.num_gathered),
    )
    listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds if count)
    split = f", {len(rows.merges):,} split" if len(rows.merges) else ""
    return (
        f"{rows.num_tiles:,} tiles{f' ({listed})' if listed else ''}, {len(rows.masks):,} masks, "
        f"{len(rows.items):,} work items{split}"
    )

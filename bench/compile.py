"""The block compiler: tiles with and without each pass, time and size by length, and planning anew.

Beside it, in the same run, FlexAttention's `create_block_mask`, which asks for every pair: as it is
and compiled. Block masks are compared with ours before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

import attnloom
from attnloom.compiler.model import CostModel
from attnloom.compiler.parts import HeadLayout
from attnloom.compiler.passes import OPTIONAL
from attnloom.compiler.passes.schedule import makespan
from attnloom.compiler.tiles import TileRows
from bench import machine

MILLION = 1 << 20
STEPS_AT = 65536

STEPS = {
    "window": "window(each_side=256)",
    "dilated window": "window(each_side=256, dilation=8)",
    "globals in front": "window(each_side=256); global(0..256)",
    "globals scattered": "window(each_side=256); global(every 256)",
    "window + random": "window(each_side=256); random(links=3)",
    "strided": "only causal; window(last=128); stride(128)",
}
"""What the passes are shown on."""

TILE_TARGETS = [
    ("dilated window", "window", 1.3),
    ("globals scattered", "globals in front", 1.5),
    ("window + random", "window", 2.5),
]
"""One pattern, another, and how many times its tiles the first may need."""

SCALE = [
    ("longformer", MILLION, 0.1), ("mistral", MILLION, 0.1), ("streaming_llm", MILLION, 0.1),
    ("bigbird", MILLION, 1.0), ("longformer_dilated", MILLION, 1.0),
    ("sparse_transformer_strided", MILLION, 1.0), ("longformer", 8 * MILLION, 1.0),
]  # fmt: skip
"""A bundled pattern, a length, and the seconds that both halves may take."""

MOST_PLAN_BYTES = 64 << 20
REPLAN_AT, REPLAN_SECONDS = 131072, 0.02
MAKESPAN_TARGET = 1.15


def parsed(text: str) -> attnloom.Pattern:
    """A pattern of these statements."""
    return attnloom.parse(f"pattern p {{ {text} }}")


def head_of(pattern: attnloom.Pattern, n: int, **options: Any) -> HeadLayout:
    """What the one head computes."""
    (head,), _ = pattern.head_layouts(n, **options)
    return head


def halves(head: HeadLayout) -> tuple[list[TileRows], list[TileRows]]:
    """Forward and transposed tile rows of all parts."""
    return [part.forward for part in head.parts], [part.transposed for part in head.parts]


def report(text: str) -> None:
    """Tell what goes on, beside the results."""
    print(text, file=sys.stderr, flush=True)


def seconds_of(call: Callable[[], object], rounds: int) -> dict[str, float]:
    """Median and least time of some calls, and the least time of the processor."""
    call()
    wall, own = [], []
    for _ in range(rounds):
        start, used = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - start)
        own.append(time.process_time() - used)
    return {
        "median": round(statistics.median(wall), 5),
        "least": round(min(wall), 5),
        "processor": round(min(own), 5),
    }


# --- tiles ---------------------------------------------------------------------------------------


def passes() -> dict[str, Any]:
    """Tiles and expected cost at one length, with every pass and without each."""
    model, found = CostModel(), {}
    for name, text in STEPS.items():
        report(f"tiles of {name}")
        rows = {}
        for left_out in (None, *OPTIONAL):
            head = head_of(parsed(text), STEPS_AT, without=[left_out] if left_out else [])
            forward, transposed = halves(head)
            rows[left_out or "every pass"] = {
                "tiles": sum(half.num_tiles for half in forward),
                "tiles_transposed": sum(half.num_tiles for half in transposed),
                "cost": round(sum(model.half_cost(half) for half in forward)),
                "bytes": head.num_bytes,
            }
        found[name] = rows
    targets = []
    for name, other, most in TILE_TARGETS:
        for half in ("tiles", "tiles_transposed"):
            ratio = found[name]["every pass"][half] / found[other]["every pass"][half]
            targets.append(target(f"{name} / {other}, {half}", ratio, most))
    return {"length": STEPS_AT, "patterns": found, "targets": targets}


def target(what: str, found: float, most: float) -> dict[str, Any]:
    """A number that may not be above another."""
    return {"what": what, "found": round(found, 4), "at_most": most, "met": found <= most}


def schedules() -> list[dict[str, Any]]:
    """How long the last of 132 processors works, over the work of each."""
    model = CostModel()
    pattern = attnloom.load("longformer", cls=range(16))
    heads = 8
    (head,), _ = pattern.head_layouts(STEPS_AT, heads=heads)
    found = []
    for name, halves_of in zip(("forward and dQ", "dK and dV"), halves(head), strict=True):
        (half,) = halves_of
        work = heads * model.half_cost(half) / model.processors
        found.append(
            target(f"makespan / work, {name}", makespan(half, heads, model) / work, MAKESPAN_TARGET)
        )
    return found


# --- time ----------------------------------------------------------------------------------------


def scale(rounds: int) -> list[dict[str, Any]]:
    """Both halves of bundled patterns at a million tokens and more."""
    found = []
    for name, n, most in SCALE:
        report(f"{name} at {n:,}")
        pattern = attnloom.load(name)
        took = seconds_of(partial(pattern.head_layouts, n), rounds)
        head = head_of(pattern, n)
        forward, _ = halves(head)
        found.append(
            {
                "pattern": name,
                "length": n,
                "seconds": took,
                "tiles": sum(half.num_tiles for half in forward),
                "bytes": head.num_bytes,
                "at_most": most,
                "met": took["median"] <= most and head.num_bytes <= MOST_PLAN_BYTES,
            }
        )
    return found


def curve(rounds: int, longest: int, seconds: float) -> list[dict[str, Any]]:
    """Longformer by length, beside `create_block_mask`, which is left out where it takes long."""
    pattern = attnloom.load("longformer", cls=range(16))

    def mask(b: object, h: object, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        return ((i - j).abs() <= 256) | (i < 16) | (j < 16)

    makers = {"create_block_mask": create_block_mask}
    makers["create_block_mask, compiled"] = torch.compile(create_block_mask)
    going = set(makers)
    found = []
    n = 2048
    while n <= longest:
        report(f"longformer at {n:,}, beside create_block_mask")
        row: dict[str, Any] = {"length": n}
        plan = pattern.compile(n)
        row["attnloom"] = seconds_of(partial(pattern.head_layouts, n), rounds)
        for name, make in makers.items():
            if name not in going:
                continue
            one = partial(make, mask, None, None, n, n, device="cpu")
            check(plan.to_flex().block_mask, one())
            row[name] = seconds_of(one, 3)
            if row[name]["median"] > seconds:
                going.discard(name)
        found.append(row)
        n *= 2
    return found


def check(ours: BlockMask, theirs: BlockMask) -> None:
    """Raise unless two block masks have the same blocks."""
    for name in ("kv_num_blocks", "full_kv_num_blocks"):
        if not torch.equal(getattr(ours, name), getattr(theirs, name)):
            raise AssertionError(f"{name} differ from those of create_block_mask")


def replans(rounds: int) -> list[dict[str, Any]]:
    """Planning anew for run-time inputs."""
    n = REPLAN_AT
    chance = np.random.default_rng(0)
    question = attnloom.load("longformer_qa")
    scattered = np.sort(chance.choice(n, 40, replace=False))
    cases: dict[str, Callable[[], object]] = {
        "16 question tokens in front": lambda: question.head_layouts(
            n, inputs={"question": range(16)}
        ),
        "40 question tokens scattered": lambda: question.head_layouts(
            n, inputs={"question": scattered}
        ),
    }
    packed = parsed("input doc: segments; only causal; same(doc)")
    near = parsed("input doc: segments; window(last=4096); only same(doc)")
    for count in (10, 100, 1000):
        cuts = np.sort(chance.choice(n - 1, count - 1, replace=False)) + 1
        ids = np.searchsorted(cuts, np.arange(n), side="right")
        for name, pattern in (("causal", packed), ("window of 4,096", near)):
            cases[f"{count} documents, {name}"] = partial(
                pattern.head_layouts, n, inputs={"doc": ids}
            )
    found = []
    for name, case in cases.items():
        report(f"planning anew: {name}")
        took = seconds_of(case, rounds)
        row = {"what": name, "length": n, "seconds": took, "at_most": REPLAN_SECONDS}
        found.append({**row, "met": took["median"] <= REPLAN_SECONDS})
    return found


# --- results -------------------------------------------------------------------------------------


def run(rounds: int, longest: int, seconds: float) -> dict[str, Any]:
    """All measurements, as JSON holds them."""
    about = machine.describe()
    result = {
        "machine": about,
        "passes": passes(),
        "schedule": schedules(),
        "scale": scale(rounds),
        "replan": replans(rounds),
        "curve": curve(rounds, longest, seconds),
    }
    about["load_after"] = machine.load()
    return result


def show(result: Mapping[str, Any]) -> None:
    """The results as tables."""
    print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))
    steps = result["passes"]
    print(f"\nTiles forward, and expected cost in full tiles, at {steps['length']:,} tokens")
    names = ["every pass", *(f"without {name}" for name in OPTIONAL)]
    print(f"{'':20}" + "".join(f"{name:>19}" for name in names))
    for name, rows in steps["patterns"].items():
        cells = [f"{row['tiles']:,} ({row['cost']:,})" for row in rows.values()]
        print(f"{name:20}" + "".join(f"{cell:>19}" for cell in cells))
    print()
    for row in [*steps["targets"], *result["schedule"]]:
        print(f"{row['what']:56} {row['found']:8.3f}, at most {row['at_most']}: {_met(row)}")
    print(
        "\nBoth halves, compiled anew" + f"{'median':>26}{'processor':>12}{'plan':>11}{'tiles':>10}"
    )
    for row in result["scale"]:
        print(
            f"{row['pattern']:27}{row['length']:>10,}{_ms(row['seconds']['median']):>15}"
            f"{_ms(row['seconds']['processor']):>12}{row['bytes'] / 2**20:>7.1f} MiB"
            f"{row['tiles']:>10,}  at most {_ms(row['at_most'])}: {_met(row)}"
        )
    print(f"\nFor other inputs, at {REPLAN_AT:,} tokens")
    for row in result["replan"]:
        print(
            f"{row['what']:37}{_ms(row['seconds']['median']):>15}"
            f"{_ms(row['seconds']['processor']):>12}  at most {_ms(row['at_most'])}: {_met(row)}"
        )
    columns = [name for name in result["curve"][0] if name != "length"]
    print("\nLongformer, 16 globals" + "".join(f"{name:>30}" for name in columns))
    for row in result["curve"]:
        cells = [_ms(row[name]["median"]) if name in row else "-" for name in columns]
        print(f"{row['length']:>22,}" + "".join(f"{cell:>30}" for cell in cells))


def _met(row: Mapping[str, Any]) -> str:
    return "met" if row["met"] else "MISSED"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms"


def main(arguments: Sequence[str]) -> int:
    """Run from the command line; 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench compile", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="runs (default: 7)")
    parser.add_argument(
        "--longest", type=int, default=MILLION, metavar="N",
        help="the last length beside create_block_mask (default: 1048576)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=4.0, metavar="S",
        help="create_block_mask is left out beyond a length at which it takes longer (default: 4)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    options = parser.parse_args(arguments)
    result = run(options.rounds, options.longest, options.seconds)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
    every = [*result["passes"]["targets"], *result["schedule"], *result["scale"], *result["replan"]]
    return int(not all(row["met"] for row in every))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Chooses the configurations of the kernels on the GPU that is there, and writes their table.

For each pass, dtype and head_dim: candidates that compile and give the same result are timed on a
causal sequence and on a window with global tokens, and the one with the least product of both times
is written to `runtime/kernels/configurations.json`, which is then committed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import attnloom
from attnloom.runtime.kernels.configurations import (
    PASSES,
    Configuration,
    choose,
    family_of,
    table,
)
from attnloom.runtime.plan import Plan

PATH = Path(__file__).parents[1] / "runtime" / "kernels" / "configurations.json"
SIZES = (16, 32, 64, 128, 256)
KINDS = {"half": torch.bfloat16, "float32": torch.float32}
NO_DEVICE = "bench.tune needs a CUDA device, and torch finds none: nothing was tuned"
ROUNDS = 10


def candidates(pass_name: str, kind: str, head_dim: int) -> Iterator[Configuration]:
    """What is tried; the device refuses those that do not fit."""
    largest = 128 if kind == "half" else 64
    sides = [side for side in (16, 32, 64, 128) if side <= largest]
    columns = [side for side in sides if pass_name == "forward" or side <= 64]
    for block_m, block_n in itertools.product(sides, columns):
        area = block_m * max(block_n, head_dim)
        if block_m < 32 or not 1 << 10 <= area <= 1 << 15:
            continue
        for num_warps, num_stages in itertools.product((4, 8), (1, 2, 3, 4)):
            yield Configuration(block_m, block_n, num_warps, num_stages)


def problems() -> list[Plan]:
    """A dense one and a sparse one."""
    causal = attnloom.parse("pattern p { window(last=16777216) }")
    sparse = attnloom.parse("pattern p { window(each_side=256); global(first 16) }")
    return [
        causal.compile(4096, heads=8, device="cuda"),
        sparse.compile(16384, heads=8, device="cuda"),
    ]


def milliseconds(call: Callable[[], object]) -> float:
    """The median time of a call on the GPU."""
    times = []
    for number in range(ROUNDS + 2):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        stop.record()
        stop.synchronize()
        if number >= 2:
            times.append(start.elapsed_time(stop))
    return sorted(times)[len(times) // 2]


class Problem:
    """One plan with tensors: the passes as calls, and what they should give."""

    def __init__(self, plan: Plan, dtype: torch.dtype, head_dim: int) -> None:
        generator = torch.Generator("cuda").manual_seed(0)
        shape = (1, plan.num_heads, plan.query_len, head_dim)
        *self.tensors, self.grad = (
            torch.randn(shape, generator=generator, device="cuda", dtype=dtype) for _ in range(4)
        )
        self.plan = plan
        self.inputs = [x.requires_grad_() for x in self.tensors]

    def run(self, pass_name: str) -> Callable[[], Any]:
        """A call of the pass; `dq` and `dkdv` run together."""
        if pass_name == "forward":
            given = [x.detach() for x in self.tensors]
            return lambda: (attnloom.attention(*given, self.plan, backend="triton"),)
        output = attnloom.attention(*self.inputs, self.plan, backend="triton")
        return lambda: torch.autograd.grad(output, self.inputs, self.grad, retain_graph=True)


def tune(
    pass_name: str, kind: str, head_dim: int, plans: Sequence[Plan], family: str
) -> Configuration:
    """The fastest configuration of one kernel, the others staying as they are."""
    from attnloom.runtime.kernels import launch

    own = [Problem(plan, KINDS[kind], head_dim) for plan in plans]
    calls = [problem.run(pass_name) for problem in own]
    expected = [call() for call in calls]
    dtype = "float32" if kind == "float32" else "bfloat16"
    best = choose(family, pass_name, dtype, head_dim)
    least = math.prod(map(milliseconds, calls))
    before = launch.choose
    for candidate in candidates(pass_name, kind, head_dim):

        def chosen(family: str, name: str, dtype: str, size: int) -> Configuration:
            return candidate if name == pass_name else before(family, name, dtype, size)  # noqa: B023

        launch.choose = chosen  # type: ignore[assignment]
        try:
            got = [call() for call in calls]
            if not all(_alike(x, y) for x, y in zip(got, expected, strict=True)):
                print(f"  {candidate}: WRONG RESULTS")
                continue
            cost = math.prod(map(milliseconds, calls))
        except Exception as failure:  # too many resources, or a compiler's mistake
            print(f"  {candidate}: {type(failure).__name__}")
            continue
        finally:
            launch.choose = before
        if cost < least:
            best, least = candidate, cost
            print(f"  {candidate}: {math.sqrt(cost):.3f} ms")
    return best


def _alike(got: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    return all(
        torch.allclose(x.float(), y.float(), rtol=3e-2, atol=3e-2)
        for x, y in zip(got, expected, strict=True)
    )


def main(arguments: Sequence[str]) -> int:
    """Run from the command line; 3 when there is no GPU."""
    parser = argparse.ArgumentParser("bench tune", description=__doc__.partition("\n")[0])
    parser.add_argument("--pass", dest="passes", action="append", choices=PASSES)
    parser.add_argument("--kind", dest="kinds", action="append", choices=list(KINDS))
    parser.add_argument("--head-dim", dest="sizes", action="append", type=int, choices=SIZES)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(NO_DEVICE, file=sys.stderr)
        return 3
    family = family_of(torch.device("cuda"))
    found = json.loads(json.dumps(table()))
    own = found["families"][family]
    plans = problems()
    for pass_name, kind, head_dim in itertools.product(
        options.passes or PASSES, options.kinds or KINDS, options.sizes or SIZES
    ):
        print(f"{family} {pass_name} {kind} {head_dim}")
        best = tune(pass_name, kind, head_dim, plans, family)
        own[pass_name][kind][str(head_dim)] = list(vars(best).values())
    own["tuned"] = not (options.passes or options.kinds or options.sizes) or own["tuned"]
    own["note"] = f"tuned on {torch.cuda.get_device_name()} with torch {torch.__version__}"
    PATH.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"written to {PATH}; format and commit it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Attention on the CPU: attnloom, compiled FlexAttention, and dense attention, in one run.

Longformer's pattern: a window, and some tokens at the front that read all and are read by all.
Results are compared with attention in float64 on some of the rows before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import _inductor as inductor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

import attnloom
from attnloom.runtime.plan import Plan
from bench import machine
from bench.timing import Times, in_turns

OURS, DENSE = "attnloom", "dense"

TARGETS = {"float32": 1.4, "bfloat16": 1.0}
"""How many times faster than compiled FlexAttention the forward pass of the usual problem is."""

TOLERANCES = {"float32": 2e-5, "bfloat16": 3e-2, "float16": 4e-3}
"""Errors accepted, for results of about 1."""

FLEX_BLOCKS = (128, 64)
"""Sizes of FlexAttention's blocks: its default, and the one at which it is fastest here."""

SAMPLE = 256
"""Rows that are compared."""


class Tensors(NamedTuple):
    """Query, key and value; or their gradients."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor


@dataclass(frozen=True)
class Problem:
    """What is computed."""

    length: int = 16384
    reach: int = 256
    marks: int = 16
    heads: int = 4
    head_dim: int = 64

    def allows(self, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        """Whether query `i` reads key `j`."""
        near: torch.Tensor = (i - j).abs() <= self.reach
        return near | (i < self.marks) | (j < self.marks)

    def plan(self) -> Plan:
        """By way of the pattern language."""
        pattern = attnloom.load("longformer", reach=self.reach, cls=range(self.marks))
        return pattern.compile(self.length, heads=self.heads)

    def draw(self, dtype: str, gradients: bool = False) -> tuple[Tensors, torch.Tensor]:
        """Inputs, and a gradient of the output; the same ones every time."""
        generator = torch.Generator().manual_seed(0)
        shape = (1, self.heads, self.length, self.head_dim)
        query, key, value, grad = (
            torch.randn(shape, generator=generator).to(getattr(torch, dtype)) for _ in range(4)
        )
        return Tensors(*(x.requires_grad_(gradients) for x in (query, key, value))), grad

    def sample(self) -> torch.Tensor:
        """Rows to compare: the marks, the ends, and others in between."""
        ends = torch.arange(SAMPLE // 4)
        middle = torch.linspace(SAMPLE // 4, self.length - SAMPLE // 4 - 1, SAMPLE // 2).long()
        rows: torch.Tensor = torch.unique(torch.cat([ends, middle, self.length - 1 - ends]))
        return rows


def exact(problem: Problem, tensors: Tensors) -> torch.Tensor:
    """Attention in float64, of the sampled queries alone."""
    rows = problem.sample()
    forbidden = ~problem.allows(rows[:, None], torch.arange(problem.length))
    query, key, value = (x.double() for x in tensors)
    scores = query[:, :, rows] @ key.mT * problem.head_dim**-0.5
    return torch.softmax(scores.masked_fill(forbidden, -torch.inf), -1) @ value


def check_forward(problem: Problem, dtype: str, outputs: dict[str, torch.Tensor]) -> None:
    """Raise if an output is not what it should be."""
    tensors, _ = problem.draw(dtype)
    expected = exact(problem, tensors)
    for name, output in outputs.items():
        compare(f"output of {name}", output[:, :, problem.sample()], expected, dtype)


def check_backward(problem: Problem, dtype: str, plan: Plan) -> None:
    """Raise if the gradients through the sampled queries are not what they should be."""
    tensors, grad = problem.draw(dtype, gradients=True)
    rows = problem.sample()
    expected = torch.autograd.grad(exact(problem, tensors), tensors, grad[:, :, rows].double())
    output = attnloom.attention(tensors.query, tensors.key, tensors.value, plan)
    got = torch.autograd.grad(output[:, :, rows], tensors, grad[:, :, rows])
    for name, x, y in zip(Tensors._fields, got, expected, strict=True):
        compare(f"gradient of {name}", x, y, dtype)


def compare(what: str, got: torch.Tensor, expected: torch.Tensor, dtype: str) -> None:
    """Raise if the largest error is above the tolerance."""
    error = (got.double() - expected.double()).abs().max().item()
    limit = TOLERANCES[dtype] * max(1.0, expected.abs().max().item())
    if not error <= limit:
        raise AssertionError(f"{what} in {dtype}: error {error:.3g}, above {limit:.3g}")
    report(f"{what} in {dtype}: error {error:.2g}, at most {limit:.2g} accepted")


def report(text: str) -> None:
    """Tell what goes on, beside the results."""
    print(text, file=sys.stderr, flush=True)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call, and its seconds."""
    start = time.perf_counter()
    result = call()
    return result, round(time.perf_counter() - start, 3)


class Flex:
    """FlexAttention, compiled, with its block mask."""

    def __init__(self, problem: Problem, block: int) -> None:
        # Compiled anew, so that the time of the first call is the same in the second run.
        inductor.config.force_disable_caches = True

        def mask(b: object, h: object, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
            return problem.allows(i, j)

        create: Any = torch.compile(create_block_mask)
        self.block_mask, self.mask_seconds = timed(
            lambda: create(
                mask, None, None, problem.length, problem.length, device="cpu", BLOCK_SIZE=block
            )
        )
        self.attend: Any = torch.compile(flex_attention)

    def __call__(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.attend(query, key, value, block_mask=self.block_mask)
        return output


def forward_times(
    problem: Problem, dtype: str, plan: Plan, flexes: Mapping[str, Flex], rounds: int
) -> tuple[dict[str, Times], dict[str, float]]:
    """Times of the forward pass, and seconds of the first calls, which prepare and compile."""
    (query, key, value), _ = problem.draw(dtype)
    candidates: dict[str, Callable[[], torch.Tensor]] = {
        OURS: lambda: attnloom.attention(query, key, value, plan),
        **{name: partial(flex, query, key, value) for name, flex in flexes.items()},
    }
    dense = {DENSE: lambda: scaled_dot_product_attention(query, key, value)}
    with torch.no_grad():
        first_calls = {name: timed(call) for name, call in candidates.items()}
        check_forward(problem, dtype, {name: output for name, (output, _) in first_calls.items()})
        first = {name: seconds for name, (_, seconds) in first_calls.items()}
        del first_calls
        # Dense attention takes as long as all the others: fewer runs of it.
        times = in_turns(candidates, rounds) | in_turns(dense, max(3, rounds // 4), warm_up=1)
    return times, first


def backward_times(problem: Problem, dtype: str, plan: Plan, rounds: int) -> dict[str, Times]:
    """Times of the backward pass. FlexAttention has none on the CPU."""
    check_backward(problem, dtype, plan)
    tensors, grad = problem.draw(dtype, gradients=True)
    query, key, value = tensors

    def gradients(output: torch.Tensor) -> Callable[[], object]:
        return lambda: torch.autograd.grad(output, tensors, grad, retain_graph=True)

    ours = {OURS: gradients(attnloom.attention(query, key, value, plan))}
    dense = {DENSE: gradients(scaled_dot_product_attention(query, key, value))}
    return in_turns(ours, rounds) | in_turns(dense, max(3, rounds // 4), warm_up=1)


def run(problem: Problem, dtypes: list[str], rounds: int, with_flex: bool) -> dict[str, Any]:
    """All measurements, as JSON holds them."""
    about = machine.describe()
    plan, plan_seconds = timed(problem.plan)
    report(repr(plan).splitlines()[0])
    flexes = {f"FlexAttention {size}": Flex(problem, size) for size in FLEX_BLOCKS if with_flex}
    result: dict[str, Any] = {
        "machine": about,
        "problem": {**vars(problem), "density": plan.density},
        "seconds_before": {
            f"{OURS} compiles": plan_seconds,
            **{f"{name} makes its block mask": flex.mask_seconds for name, flex in flexes.items()},
        },
        "dtypes": {},
    }
    for dtype in dtypes:
        forward, first = forward_times(problem, dtype, plan, flexes, rounds)
        backward = backward_times(problem, dtype, plan, rounds)
        result["dtypes"][dtype] = {
            "first_call_seconds": first,
            "forward_ms": {name: times.facts() for name, times in forward.items()},
            "backward_ms": {name: times.facts() for name, times in backward.items()},
            **targets(problem, dtype, {name: times.median for name, times in forward.items()}),
        }
    about["load_after"] = machine.load()
    return result


def targets(problem: Problem, dtype: str, forward: Mapping[str, float]) -> dict[str, Any]:
    """How many times faster than FlexAttention at its best, and whether that is enough."""
    flex = [median for name, median in forward.items() if name.startswith("FlexAttention")]
    if not flex:
        return {"over_flex": None, "target": None, "met": None}
    ratio = min(flex) / forward[OURS]
    target = TARGETS.get(dtype) if problem == Problem() else None
    return {
        "over_flex": round(ratio, 3),
        "target": target,
        "met": None if target is None else ratio >= target,
    }


def show(result: Mapping[str, Any]) -> None:
    """The results as a table."""
    for part in ("problem", "machine"):
        print(", ".join(f"{name} {value}" for name, value in result[part].items()))
    print(", ".join(f"{what} in {value} s" for what, value in result["seconds_before"].items()))
    for dtype, facts in result["dtypes"].items():
        first = facts["first_call_seconds"].items()
        print(f"\n{dtype}; first calls: " + ", ".join(f"{name} {value} s" for name, value in first))
        for direction in ("forward", "backward"):
            ours = facts[f"{direction}_ms"][OURS]["median"]
            for name, times in facts[f"{direction}_ms"].items():
                print(
                    f"  {direction:8}  {name:17} {times['median']:8.1f} ms"
                    f"  {times['median'] / ours:6.2f}x"
                    f"  ({times['least']:.1f} to {times['most']:.1f} in {times['runs']} runs)"
                )
        if facts["target"]:
            met = "met" if facts["met"] else "MISSED"
            print(
                f"  FlexAttention at its best / attnloom: {facts['over_flex']}, "
                f"at least {facts['target']} wanted: {met}"
            )


def main(arguments: Sequence[str]) -> int:
    """Run from the command line; 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench cpu", description=__doc__)
    number = partial(parser.add_argument, type=int, metavar="N")
    number("--length", default=16384, help="tokens (default: 16384)")
    number("--reach", default=256, help="keys of the window on each side (default: 256)")
    number("--marks", default=16, help="global tokens at the front (default: 16)")
    number("--heads", default=4, help="heads (default: 4)")
    number("--head-dim", default=64, help="numbers in each head's query (default: 64)")
    number("--rounds", default=21, help="runs of each candidate (default: 21)")
    number("--threads", help="threads of PyTorch (default: its own choice)")
    parser.add_argument(
        "--dtype", choices=list(TOLERANCES), action="append",
        help="repeat for several (default: float32 and bfloat16)",
    )  # fmt: skip
    parser.add_argument(
        "--without-flex",
        action="store_true",
        help="leave FlexAttention out: it needs a C++ compiler",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    problem = Problem(options.length, options.reach, options.marks, options.heads, options.head_dim)
    dtypes = options.dtype or list(TARGETS)
    result = run(problem, dtypes, options.rounds, with_flex=not options.without_flex)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
    return int(any(facts["met"] is False for facts in result["dtypes"].values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

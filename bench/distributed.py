"""Attention over processes: bytes and time, beside torch's own and gathering all, in one run.

The processes are on this machine and talk by gloo. Bytes are counted where they are handed to
`torch.distributed`; results of every way are compared before anything is timed. Torch's own is
context parallel for FlexAttention (`torch.distributed.tensor.experimental`): each process gathers
all keys and values. Where its backward pass does not run, only its forward pass is timed, and its
bytes there are those of its published way: gradients of all keys are reduced and scattered.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as collectives
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.experimental._context_parallel import (
    _attention as context_parallel,
)
from torch.nn.attention.flex_attention import flex_attention

import attnloom
from attnloom import distributed
from attnloom.runtime import exchange
from bench import cpu, machine

OURS, TOGETHER, GATHER, TORCH = "attnloom", "attnloom without overlap", "gather all", "torch"

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Problem(cpu.Problem):
    """That of `python -m bench cpu`, in float32, over some processes."""

    ranks: int = 2


@contextmanager
def counted() -> Iterator[list[int]]:
    """Bytes that this process receives of others by each collective of those that are used here."""
    found: list[int] = []
    own, ranks = dist.get_rank(), dist.get_world_size()
    exchanged, gathered = dist.all_to_all_single, dist.all_gather_single
    scattered = dist.reduce_scatter_single

    def exchanging(output: Any, rows: Any, received: Any, *more: Any, **given: Any) -> Any:
        row = output[:1].numel() if len(output) else 0
        found.append((sum(received) - received[own]) * row * output.element_size())
        return exchanged(output, rows, received, *more, **given)

    def gathering(output: torch.Tensor, rows: torch.Tensor, **given: Any) -> Any:
        found.append(output.nbytes - rows.nbytes)
        return gathered(output, rows, **given)

    def scattering(output: torch.Tensor, rows: torch.Tensor, **given: Any) -> Any:
        found.append((ranks - 1) * output.nbytes)
        return scattered(output, rows, **given)

    gather_single = collectives.all_gather_single

    def torch_gathering(x: torch.Tensor, *more: Any) -> Any:
        found.append((ranks - 1) * x.nbytes)
        return gather_single(x, *more)

    scatter_single = collectives.reduce_scatter_single

    def torch_scattering(x: torch.Tensor, *more: Any) -> Any:
        found.append(x.nbytes * (ranks - 1) // ranks)
        return scatter_single(x, *more)

    def use(*calls: Any) -> None:
        exchange.dist.all_to_all_single = calls[0]
        dist.all_gather_single, dist.reduce_scatter_single = calls[1:3]
        collectives.all_gather_single, collectives.reduce_scatter_single = calls[3:]

    use(exchanging, gathering, scattering, torch_gathering, torch_scattering)
    try:
        yield found
    finally:
        use(exchanged, gathered, scattered, gather_single, scatter_single)


class _Gathered(torch.autograd.Function):
    """All processes' parts, side by side; gradients are summed at their owners."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor) -> torch.Tensor:
        ctx.length = part.shape[0]
        found = part.new_empty((part.shape[0] * dist.get_world_size(), *part.shape[1:]))
        dist.all_gather_single(found, part.contiguous())
        return found

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        found = grads[0].new_empty((ctx.length, *grads[0].shape[1:]))
        dist.reduce_scatter_single(found, grads[0].contiguous())
        return found


def gathering(problem: Problem, plan: attnloom.Plan) -> Attend:
    """The rows of this process over all keys, which are gathered; the kernels are ours."""
    rows = problem.length // problem.ranks
    first = dist.get_rank() * rows
    own = attnloom.Plan.from_mask(
        torch.cat(
            [
                problem.allows(torch.arange(i, i + 128)[:, None], torch.arange(problem.length))
                for i in range(first, first + rows, 128)
            ]
        )
    )
    own = attnloom.Plan.from_layouts(own.layouts, [[0] * problem.heads])

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        both = torch.cat([key, value], 1).movedim(2, 0)
        key, value = _Gathered.apply(both).movedim(0, 2).chunk(2, 1)
        return attnloom.attention(query, key, value, own)

    return attend


def torchs_own(problem: Problem) -> Attend:
    """Torch's context parallel for FlexAttention, compiled, as its tests use it."""
    mesh = init_device_mesh("cpu", (problem.ranks,), mesh_dim_names=("context",))
    plan = context_parallel._ContextParallel(
        seq_dim=2, attention_type=context_parallel._ContextParallel.AttentionType.FLEX
    )

    def mask(b: object, h: object, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        return problem.allows(i, j)

    class Flex(torch.nn.Module):
        """What the keys are gathered for, by a hook."""

        def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
            return compiled(query, key, value, block_mask=blocks)

    # Rows are not rearranged: this pattern is even as it is.
    context_parallel._cp_options.enable_load_balance = False
    blocks = context_parallel._create_cp_block_mask(
        mask, 1, 1, problem.length, problem.length, mesh
    )
    compiled = torch.compile(flex_attention)
    module = plan._apply(Flex(), mesh)

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = module(query, key, value)
        return output

    return attend


@dataclass(frozen=True)
class Way:
    """A way to work it out: how parts are taken, and the attention of a part."""

    name: str
    scatter: Callable[[torch.Tensor], torch.Tensor]
    attend: Attend


def ways(problem: Problem, with_torch: bool) -> tuple[list[Way], dict[str, str]]:
    """All of them, and why one is not there."""
    plan = problem.plan()
    found = []
    for name, overlap in ((OURS, True), (TOGETHER, False)):
        sharded = distributed.shard(plan, balance="contiguous", overlap=overlap)
        attend = partial(distributed.attention, sharded_plan=sharded)
        found.append(Way(name, sharded.scatter, attend))
    size = problem.length // problem.ranks

    def piece(x: torch.Tensor) -> torch.Tensor:
        return x.narrow(2, dist.get_rank() * size, size).contiguous()

    found.append(Way(GATHER, piece, gathering(problem, plan)))
    missing = {}
    if with_torch:
        try:
            found.append(Way(TORCH, piece, torchs_own(problem)))
        except Exception as error:  # what it says is a result
            missing[TORCH] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return found, missing


def measure(problem: Problem, rounds: int, with_torch: bool) -> dict[str, Any]:
    """What one process finds."""
    tensors, grad = problem.draw("float32")
    whole = (*tensors, grad)
    expected = attnloom.attention(*tensors, problem.plan())
    every, missing = ways(problem, with_torch)
    found: dict[str, Any] = {}
    seconds: dict[str, dict[str, list[float]]] = {}
    for way in every:
        facts: dict[str, Any] = {}
        *parts, grad = (way.scatter(x) for x in whole)
        try:
            with counted() as received:
                output = way.attend(*parts)
            facts["forward_bytes"] = sum(received)
            torch.testing.assert_close(output, way.scatter(expected), rtol=0, atol=2e-5)
        except AssertionError:
            raise
        except Exception as error:
            missing[way.name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            continue
        leaves = [x.requires_grad_() for x in parts]
        try:
            output = way.attend(*parts)
            with counted() as received:
                torch.autograd.grad(output, leaves, grad)
            facts["backward_bytes"] = sum(received)
        except Exception as error:
            facts["no_backward"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            torch.compiler.reset()  # else what failed to compile stays uncompiled
            way.attend(*(x.detach() for x in parts))
        found[way.name] = facts
        seconds[way.name] = {"forward_ms": [], "backward_ms": []}
    present = [way for way in every if way.name in found]
    for number in range(rounds):
        for way in present[number % len(present) :] + present[: number % len(present)]:
            *parts, grad = (way.scatter(x) for x in whole)
            has_backward = "backward_bytes" in found[way.name]
            leaves = [x.requires_grad_(has_backward) for x in parts]
            for _ in range(2):
                dist.barrier()
            start = time.perf_counter()
            output = way.attend(*parts)
            seconds[way.name]["forward_ms"].append(1e3 * (time.perf_counter() - start))
            if has_backward:
                dist.barrier()
                start = time.perf_counter()
                torch.autograd.grad(output, leaves, grad)
                seconds[way.name]["backward_ms"].append(1e3 * (time.perf_counter() - start))
    return {"ways": found, "seconds": seconds, "missing": missing}


def work(rank: int, problem: Problem, rounds: int, with_torch: bool, meet: str, pipe: Any) -> None:
    """One process."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meet}", rank=rank, world_size=problem.ranks
    )
    try:
        pipe.send(measure(problem, rounds, with_torch))
    finally:
        dist.destroy_process_group()


def run(problem: Problem, rounds: int, with_torch: bool) -> dict[str, Any]:
    """All measurements, as JSON holds them: for each way, of the process that has most."""
    about = machine.describe()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        pipes = []
        for rank in range(problem.ranks):
            ours, theirs = context.Pipe()
            arguments = (rank, problem, rounds, with_torch, str(Path(folder) / "meet"), theirs)
            context.Process(target=work, args=arguments, daemon=True).start()
            theirs.close()
            pipes.append(ours)
        each = [pipe.recv() for pipe in pipes]
    result: dict[str, Any] = {}
    for name in each[0]["ways"]:
        facts: dict[str, Any] = dict(each[0]["ways"][name])
        for key in ("forward_bytes", "backward_bytes"):
            if key in facts:
                facts[key] = max(one["ways"][name][key] for one in each)
        for key in ("forward_ms", "backward_ms"):
            of_rounds = zip(*(one["seconds"][name][key] for one in each), strict=True)
            slowest = [max(times) for times in of_rounds]
            if slowest:
                facts[key] = {
                    "median": round(statistics.median(slowest), 3),
                    "least": round(min(slowest), 3), "most": round(max(slowest), 3),
                    "runs": len(slowest),
                }  # fmt: skip
        result[name] = facts
    if TORCH in result and "backward_bytes" not in result[TORCH]:
        # Gradients of all keys and values, of which each process takes its own from every other.
        result[TORCH]["backward_bytes_as_published"] = result[TORCH]["forward_bytes"]
    about["load_after"] = machine.load()
    return {
        "machine": {**about, "threads": "1 each process"},
        "problem": vars(problem),
        "ways": result,
        "missing": each[0]["missing"],
    }


def show(result: dict[str, Any]) -> None:
    """The results as a table."""
    for part in ("problem", "machine"):
        print(", ".join(f"{name} {value}" for name, value in result[part].items()))
    for name, facts in result["ways"].items():
        times = [facts.get(key, {}).get("median") for key in ("forward_ms", "backward_ms")]
        shown = [f"{one:9.1f} ms" if one is not None else " " * 12 for one in times]
        back = facts.get("backward_bytes", facts.get("backward_bytes_as_published", 0))
        print(
            f"{name:26} forward {facts['forward_bytes'] / 1024:9.1f} KiB {shown[0]}"
            f"   backward {back / 1024:9.1f} KiB {shown[1]}"
        )
        if "no_backward" in facts:
            print(f"{'':26} no backward pass here: {facts['no_backward']}")
    for name, why in result["missing"].items():
        print(f"{name:26} does not run here: {why}")


def main(arguments: Sequence[str]) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench distributed", description=__doc__)
    number = partial(parser.add_argument, type=int, metavar="N")
    number("--ranks", default=2, help="processes (default: 2)")
    number("--length", default=16384, help="tokens, a multiple of 128 for each process")
    number("--reach", default=256, help="keys of the window on each side (default: 256)")
    number("--marks", default=16, help="global tokens at the front (default: 16)")
    number("--heads", default=4, help="heads (default: 4)")
    number("--head-dim", default=64, help="numbers in each head's query (default: 64)")
    number("--rounds", default=11, help="runs of each way (default: 11)")
    parser.add_argument("--without-torch", action="store_true", help="leave torch's own out")
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    options = parser.parse_args(arguments)
    problem = Problem(
        options.length, options.reach, options.marks, options.heads, options.head_dim,
        options.ranks,
    )  # fmt: skip
    result = run(problem, options.rounds, with_torch=not options.without_torch)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

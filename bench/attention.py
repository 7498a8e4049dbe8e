"""Attention on a GPU: attnloom, compiled FlexAttention, and dense attention, in one run.

Results and gradients are compared with float64 on some of the rows before anything is timed.
Forward and backward passes are timed apart, in turns; making plans and block masks is shown beside
them. `--json` and `--plot` write what the table shows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

import attnloom
from attnloom.cli.oracle import expected
from attnloom.runtime.plan import Plan
from bench import machine
from bench.cases import CASES, Case
from bench.timing import Times

OURS, FLEX, DENSE = "attnloom", "FlexAttention", "dense"
TOLERANCES = {"bfloat16": 3e-2, "float16": 5e-3, "float32": 2e-5}
SAMPLE = 128
"""Rows that are compared."""

NO_DEVICE = "bench.attention needs a CUDA device, and torch finds none: nothing was measured"

Call = Callable[[], Any]


def draw(case: Case, dtype: str) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Query, key and value that want gradients, and a gradient of the output."""
    generator = torch.Generator("cuda").manual_seed(0)
    shapes = [
        (1, heads, case.length, case.head_dim) for heads in (case.heads, *[case.kv_heads] * 2)
    ]
    given = [
        torch.randn(shape, generator=generator, device="cuda", dtype=getattr(torch, dtype))
        for shape in (*shapes, shapes[0])
    ]
    return [x.requires_grad_() for x in given[:3]], given[3]


def check(case: Case, plan: Plan, tensors: Sequence[torch.Tensor], dtype: str) -> float:
    """The largest error over some rows, of the output and of the gradients through these rows.

    Raises:
        AssertionError: an error is above its tolerance.
    """
    rows = torch.linspace(0, case.length - 1, SAMPLE, device="cuda").long().unique()
    pattern = case.pattern

    def masks(head: int, some: list[int]) -> torch.Tensor:
        found = torch.zeros(len(some), case.length, dtype=torch.bool)
        for at, row in enumerate(some):
            for start, stop in pattern.row(row, case.length, head=head, heads=case.heads):
                found[at, start:stop] = True
        return found

    output = attnloom.attention(*tensors, plan, backend="triton")
    grad = torch.randn_like(output[:, :, rows])
    gradients = torch.autograd.grad(output[:, :, rows], tensors, grad)
    wanted = expected(*tensors, grad, rows, masks)
    exact = (wanted.output, wanted.query_grad, wanted.key_grad, wanted.value_grad)
    largest = 0.0
    for x, y in zip((output[:, :, rows], *gradients), exact, strict=True):
        error = float((x.double() - y).abs().max()) / max(1.0, float(y.abs().max()))
        largest = max(largest, error)
    if not largest <= TOLERANCES[dtype]:
        raise AssertionError(f"{case.name}: error {largest:.3g}, above {TOLERANCES[dtype]:.3g}")
    return largest


def timed(call: Call) -> tuple[Any, float]:
    """What a call gives, and its seconds."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    result = call()
    torch.cuda.synchronize()
    return result, round(time.perf_counter() - start, 4)


def in_turns(candidates: Mapping[str, Call], rounds: int) -> dict[str, Times]:
    """The times of each candidate on the GPU, one after the other in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 3):
        for name, call in candidates.items():
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            stop.record()
            stop.synchronize()
            if turn >= 3:  # the first ones warm up
                seconds[name].append(start.elapsed_time(stop) / 1e3)
    return {name: Times.of(values) for name, values in seconds.items()}


def peak(call: Call) -> int:
    """Bytes that a call takes beyond what is held before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def measure(case: Case, dtype: str, rounds: int, only: Sequence[str]) -> dict[str, Any]:
    """All that is measured for one problem."""
    plan, plan_seconds = timed(
        lambda: case.pattern.compile(case.length, heads=case.heads, device="cuda")
    )
    tensors, grad = draw(case, dtype)
    error = check(case, plan, tensors, dtype)
    attends: dict[str, Callable[..., torch.Tensor]] = {
        OURS: lambda q, k, v: attnloom.attention(q, k, v, plan, backend="triton")
    }
    before = {f"{OURS} makes its plan": plan_seconds}
    failures: dict[str, str] = {}
    grouped = case.heads != case.kv_heads
    if FLEX in only:
        try:
            heads = case.heads if case.links else None
            make: Any = torch.compile(create_block_mask)
            shape = (None, heads, case.length, case.length)
            mask = case.flex_mask(plan)
            timed(lambda: make(mask, *shape, device="cuda"))  # compiles
            block_mask, seconds = timed(lambda: make(mask, *shape, device="cuda"))
            before[f"{FLEX} makes its block mask"] = seconds
            compiled: Any = torch.compile(flex_attention)
            attends[FLEX] = lambda q, k, v: compiled(
                q, k, v, block_mask=block_mask, enable_gqa=grouped
            )
            attends[FLEX](*tensors)
        except Exception as failure:  # too little memory, or a compiler's mistake: told, not hidden
            attends.pop(FLEX, None)
            failures[FLEX] = f"{type(failure).__name__}: {failure}"[:300]
    if DENSE in only and case.length <= 64 << 10:
        attends[DENSE] = lambda q, k, v: scaled_dot_product_attention(
            q, k, v, is_causal=case.is_causal, enable_gqa=grouped
        )
    outputs = {name: attend(*tensors) for name, attend in attends.items()}
    forward = in_turns(
        {name: _without_gradients(attend, tensors) for name, attend in attends.items()}, rounds
    )
    backward_calls = {name: _gradients(output, tensors, grad) for name, output in outputs.items()}
    backward = in_turns(backward_calls, rounds)
    memory = {
        name: {"forward": peak(_without_gradients(attend, tensors)), "backward": peak(backwards)}
        for (name, attend), backwards in zip(attends.items(), backward_calls.values(), strict=True)
    }
    pairs = plan.reads
    flops = 4 * case.head_dim * pairs
    both = {name: forward[name].median + backward[name].median for name in attends}
    ratio = round(both[FLEX] / both[OURS], 3) if FLEX in both else None
    return {
        "case": case.name,
        "dtype": dtype,
        "length": case.length,
        "heads": [case.heads, case.kv_heads],
        "head_dim": case.head_dim,
        "density": plan.density,
        "error": error,
        "seconds_before": before,
        "failures": failures,
        "forward_ms": {name: times.facts() for name, times in forward.items()},
        "backward_ms": {name: times.facts() for name, times in backward.items()},
        "peak_bytes": memory,
        "useful_tflops": {
            "forward": {name: _rate(flops, times) for name, times in forward.items()},
            "backward": {name: _rate(2.5 * flops, times) for name, times in backward.items()},
        },
        "over_flex": ratio,
        "target": case.target,
        "met": None if ratio is None or case.target is None else ratio >= case.target,
    }


def _without_gradients(
    attend: Callable[..., torch.Tensor], tensors: Sequence[torch.Tensor]
) -> Call:
    given = [x.detach() for x in tensors]
    return lambda: attend(*given)


def _gradients(output: torch.Tensor, tensors: Sequence[torch.Tensor], grad: torch.Tensor) -> Call:
    return lambda: torch.autograd.grad(output, tensors, grad, retain_graph=True)


def _rate(flops: float, times: Times) -> float:
    """TFLOP/s over the pairs that are read; dense attention computes more."""
    return round(flops / (times.median * 1e-3) / 1e12, 1)


def show(result: Mapping[str, Any]) -> None:
    """One problem as a table."""
    made = ", ".join(f"{what} in {value} s" for what, value in result["seconds_before"].items())
    print(
        f"\n{result['case']}: {result['length']} tokens, heads {result['heads']}, head_dim "
        f"{result['head_dim']}, {result['dtype']}, density {result['density']:.4g}; {made}"
    )
    for direction in ("forward", "backward"):
        ours = result[f"{direction}_ms"][OURS]["median"]
        for name, times in result[f"{direction}_ms"].items():
            print(
                f"  {direction:8}  {name:13} {times['median']:9.3f} ms "
                f"({times['least']:.3f} to {times['most']:.3f})  {times['median'] / ours:6.2f}x  "
                f"{result['useful_tflops'][direction][name]:6.1f} TFLOP/s  "
                f"{result['peak_bytes'][name][direction] / 2**20:8.1f} MiB"
            )
    for name, failure in result["failures"].items():
        print(f"  {name} failed: {failure}")
    if result["met"] is not None:
        word = "met" if result["met"] else "MISSED"
        print(f"  {FLEX} / {OURS}, both passes: {result['over_flex']}, "
              f"at least {result['target']} wanted: {word}")  # fmt: skip


def plot(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Times relative to ours, a group of bars for each problem."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 0.6 * len(results) + 2), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate((OURS, FLEX, DENSE)):
        ratios = [_over_ours(result, name) for result in results]
        places = [at + 0.27 * number for at in range(len(results))]
        axes.barh(places, ratios, 0.25, label=name)
    axes.set_yticks([at + 0.27 for at in range(len(results))], [one["case"] for one in results])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("time of both passes over attnloom's")
    axes.legend()
    figure.savefig(path, dpi=150)


def _over_ours(result: Mapping[str, Any], name: str) -> float:
    def both(one: str) -> float:
        passes = (result[f"{direction}_ms"] for direction in ("forward", "backward"))
        return sum(times[one]["median"] if one in times else float("nan") for times in passes)

    return both(name) / both(OURS)


def main(arguments: Sequence[str]) -> int:
    """Run from the command line; 1 when a target is missed, 3 when there is no GPU."""
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser("bench attention", description=__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", choices=names, help="one problem; all if none")
    parser.add_argument("--dtype", default="bfloat16", choices=list(TOLERANCES))
    parser.add_argument("--rounds", type=int, default=20, help="runs of each candidate")
    parser.add_argument("--only-ours", action="store_true", help="nothing beside attnloom")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--plot", type=Path, help="where to draw them")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(NO_DEVICE, file=sys.stderr)
        return 3
    about = {**machine.describe(), "gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    results = []
    for case in CASES:
        if options.case and case.name not in options.case:
            continue
        only = () if options.only_ours else (FLEX, DENSE)
        results.append(measure(case, options.dtype, options.rounds, only))
        show(results[-1])
        torch._dynamo.reset()
        torch.cuda.empty_cache()
    ratios = [one["over_flex"] for one in results if one["over_flex"]]
    if ratios:
        print(f"\ngeometric mean over {FLEX}: {statistics.geometric_mean(ratios):.2f}")
    if options.json:
        text = json.dumps({"machine": about, "results": results}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.plot:
        plot(results, options.plot)
    return int(any(one["met"] is False for one in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

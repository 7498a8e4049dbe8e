"""`run`: compile a pattern, attend with it on random tensors, time it and check the result.

The one command that needs torch, which is imported only when it runs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import click

import attnloom
from attnloom import Pattern
from attnloom.cli.options import (
    Decorator,
    Place,
    file_argument,
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
from attnloom.cli.output import Failure, number, percent, print_facts, print_json, say, seconds

if TYPE_CHECKING:
    from torch import Tensor

    from attnloom.cli.oracle import RowMasks

TOLERANCES = {"float64": 1e-10, "float32": 2e-5, "float16": 5e-3, "bfloat16": 3e-2}
"""Largest error that `--check` accepts for values up to 1; for larger values in proportion."""

DENSE_LIMIT = 4096
"""Up to this length `--check` looks at every row, beyond it at a sample."""

SAMPLE = 256
MOST_REPEATS = 20
TIME_BUDGET = 2.0


def _size_option(name: str, default: int, help_text: str) -> Decorator:
    return click.option(
        name, type=click.IntRange(min=1), default=default, show_default=True, help=help_text
    )


@click.command("run")
@file_argument
@length_option()
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where."
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "cpu", "reference", "triton"]),
    default="auto",
    show_default=True,
    help="What executes the plan; one asked for by name never falls back to another.",
)
@heads_option(default=4)
@click.option(
    "--kv-heads",
    type=click.IntRange(min=1),
    help="Heads of key and value, a divisor of --heads.  [default: --heads]",
)
@_size_option("--head-dim", 64, "Numbers in each head's query and key.")
@_size_option("--batch", 1, "Sequences in the batch.")
@click.option(
    "--dtype",
    type=click.Choice(list(TOLERANCES)),
    default="float32",
    show_default=True,
    help="Of the tensors.",
)
@click.option("--backward", is_flag=True, help="Compute the gradients too.")
@click.option(
    "--check",
    is_flag=True,
    help="Compare with dense attention in float64; exit 1 when the error is above the tolerance.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random tensors.")
@set_option
@input_option
@layer_options
@json_option
@click.pass_context
def run_command(
    ctx: click.Context,
    file: str,
    length: int,
    device: str,
    backend: str,
    heads: int,
    kv_heads: int | None,
    head_dim: int,
    batch: int,
    dtype: str,
    backward: bool,
    check: bool,
    seed: int,
    settings: Sequence[str],
    inputs: Sequence[str],
    layer: int,
    layers: int | None,
    as_json: bool,
) -> None:
    """Run attention with a pattern on random tensors, and time it.

    --check compares with the definition, dense attention in float64 over the rows of the pattern:
    every row up to 4,096 tokens, a sample of 256 rows beyond (their share of the gradients with
    --backward).

    \b
    Example: attnloom run longformer -n 4096 --check
             attnloom run bigbird -n 16384 --heads 12 --backward
    """
    kv_heads = heads if kv_heads is None else kv_heads
    if heads % kv_heads:
        raise click.UsageError(f"--kv-heads must divide --heads {heads}, got {kv_heads}")
    where = place(0, heads, layer, layers)
    pattern = load_pattern(file, settings)
    values = read_inputs(pattern, inputs, length)

    import torch

    from attnloom.runtime.checks import resolve_backend

    if device == "cuda" and not torch.cuda.is_available():
        raise Failure("torch finds no CUDA device here; run with --device cpu")

    def synchronize() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    start = time.perf_counter()
    plan = pattern.compile(length, device=device, inputs=values, **where.all_heads)
    synchronize()
    plan_seconds = time.perf_counter() - start

    total = plan.query_len
    generator = torch.Generator().manual_seed(seed)

    def draw(num_heads: int) -> Tensor:
        shape = (batch, num_heads, total, head_dim)
        drawn = torch.randn(shape, generator=generator).to(device, getattr(torch, dtype))
        return drawn.requires_grad_(backward)

    query, key, value = draw(heads), draw(kv_heads), draw(kv_heads)
    rows = (_rows_to_check(total, seed) if check else torch.arange(total)).to(device)
    output_grad = torch.zeros_like(query)
    output_grad[:, :, rows] = draw(heads).detach()[:, :, rows]

    def step() -> Tensor:
        query.grad = key.grad = value.grad = None
        output = attnloom.attention(query, key, value, plan, backend=backend)
        if backward:
            torch.autograd.backward(output, output_grad)
        synchronize()
        return output.detach()

    try:
        name = resolve_backend(query, backend)
        output, elapsed = _timed(step)
    except ValueError as error:  # a backend refuses the device or the dtype, and says why
        raise Failure(str(error)) from error

    result: dict[str, Any] = {
        "pattern": pattern.name,
        "n": length,
        "memory": plan.memory,
        "backend": name,
        "device": device,
        "dtype": dtype,
        "batch": batch,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "backward": backward,
        "density": plan.density,
        "plan_seconds": plan_seconds,
        "seconds": elapsed,
        "output_shape": list(output.shape),
        "output_finite": bool(output.isfinite().all()),
    }
    if check:
        if len(rows) < total:
            say(f"checking {len(rows)} of {number(total)} rows")
        gradients = (query.grad, key.grad, value.grad) if backward else ()
        masks = _row_masks(pattern, length, total, where, values)
        found = _compare((query, key, value), output, gradients, output_grad, rows, masks, dtype)
        result |= {"rows_checked": len(rows), "rows": total, **found}
    passed = result["output_finite"] and result.get("within_tolerance", True)
    if as_json:
        print_json({"ok": passed, "diagnostics": [], **result})
    else:
        _print_result(result, passed)
    ctx.exit(0 if passed else 1)


def _timed(step: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """The result, and the median time of a few calls after a first one to warm up."""
    start = time.perf_counter()
    output = step()
    warm_up = time.perf_counter() - start
    times: list[float] = []
    while len(times) < MOST_REPEATS and (not times or sum(times) + warm_up < TIME_BUDGET):
        start = time.perf_counter()
        output = step()
        times.append(time.perf_counter() - start)
    return output, statistics.median(times)


def _rows_to_check(total: int, seed: int) -> Tensor:
    from attnloom.cli.oracle import sample_rows

    return sample_rows(total, DENSE_LIMIT if total <= DENSE_LIMIT else SAMPLE, seed)


def _row_masks(
    pattern: Pattern, length: int, total: int, where: Place, values: dict[str, Any]
) -> RowMasks:
    """Masks straight from the pattern: the dense one of a short sequence, or row by row."""
    import torch

    def at(head: int) -> dict[str, Any]:
        return {**where.bound, "head": head, "inputs": values}

    @lru_cache(maxsize=1)
    def dense(head: int) -> Tensor:
        return torch.from_numpy(pattern.mask(length, **at(head)))

    def masks(head: int, rows: list[int]) -> Tensor:
        if total <= DENSE_LIMIT:
            return dense(head)[rows]
        mask = torch.zeros(len(rows), total, dtype=torch.bool)
        for index, row in enumerate(rows):
            for start, stop in pattern.row(row, length, **at(head)):
                mask[index, start:stop] = True
        return mask

    return masks


def _compare(
    tensors: tuple[Tensor, Tensor, Tensor],
    output: Tensor,
    gradients: Sequence[Tensor | None],
    output_grad: Tensor,
    rows: Tensor,
    masks: RowMasks,
    dtype: str,
) -> dict[str, Any]:
    """The largest errors of output and gradients, and whether all are within their tolerance."""
    from attnloom.cli.oracle import expected

    wanted = expected(*tensors, output_grad[:, :, rows], rows, masks)

    def error(found: Tensor, exact: Tensor) -> tuple[float, float]:
        scale = max(1.0, float(exact.abs().max()))
        return float((found.double() - exact).abs().max()), TOLERANCES[dtype] * scale

    largest, tolerance = error(output[:, :, rows], wanted.output)
    within = largest <= tolerance
    found: dict[str, Any] = {"max_abs_error": largest, "tolerance": tolerance}
    exact = (wanted.query_grad, wanted.key_grad, wanted.value_grad)
    names = ("query", "key", "value")
    errors = {
        name: error(gradient, expectation)
        for name, gradient, expectation in zip(names, gradients, exact, strict=False)
        if gradient is not None
    }
    if errors:
        found["gradient_errors"] = {name: largest for name, (largest, _) in errors.items()}
        found["gradient_tolerances"] = {name: allowed for name, (_, allowed) in errors.items()}
        within = within and all(largest <= allowed for largest, allowed in errors.values())
    return {**found, "within_tolerance": within}


def _print_result(result: dict[str, Any], passed: bool) -> None:
    work = "forward + backward" if result["backward"] else "forward"
    memory = f" + {result['memory']} memory" if result["memory"] else ""
    kv_heads = f" ({result['kv_heads']} of keys)" if result["kv_heads"] != result["heads"] else ""
    facts = {
        "pattern": f"{result['pattern']}, {number(result['n'])} tokens{memory}, "
        f"density {percent(result['density'])}",
        "tensors": f"batch {result['batch']}, {result['heads']} heads{kv_heads}, "
        f"head_dim {result['head_dim']}, {result['dtype']}",
        "backend": f"{result['backend']} on {result['device']}",
        "plan": seconds(result["plan_seconds"]),
        work: seconds(result["seconds"]),
        "output": f"{tuple(result['output_shape'])}, "
        + ("all finite" if result["output_finite"] else "NOT FINITE"),
    }
    if "max_abs_error" in result:
        all_rows = result["rows_checked"] == result["rows"]
        rows = "all" if all_rows else f"{result['rows_checked']} of {number(result['rows'])}"
        facts["error"] = (
            f"{result['max_abs_error']:.2g} over {rows} rows, tolerance {result['tolerance']:.2g}"
        )
        for name, largest in result.get("gradient_errors", {}).items():
            allowed = result["gradient_tolerances"][name]
            facts[f"error d{name}"] = f"{largest:.2g}, tolerance {allowed:.2g}"
        facts["check"] = "ok" if passed else "FAILED"
    print_facts(facts)

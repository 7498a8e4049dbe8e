"""`kernels`: compile the kernels for GPUs that need not be there, and check what comes out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from attnloom.cli.options import json_option
from attnloom.cli.output import Failure, number, print_json, print_table, print_text, say, size

if TYPE_CHECKING:
    from attnloom.runtime.kernels.ahead import Compiled

TARGETS = "sm_80,sm_90,sm_100,gfx942"


@click.command("kernels")
@click.option(
    "--target",
    default=TARGETS,
    show_default=True,
    help="Architectures, with commas: sm_80 (A100), sm_90 (H100, H200), sm_100 (B200), gfx942.",
)
@click.option("--all", "everything", is_flag=True, help="Every configuration of the table.")
@click.option("--workers", type=click.IntRange(min=1), help="Compilations at a time.")
@json_option
@click.pass_context
def kernels_command(
    ctx: click.Context, target: str, everything: bool, workers: int | None, as_json: bool
) -> None:
    """Compile the Triton kernels ahead of time, and check registers, spills and instructions.

    Needs triton, but no GPU. Exit status 1 when a kernel spills more than its budget, needs more
    shared memory than there is, or has no matrix instructions. Without --all, head_dim 128 in
    bfloat16 stands for the others.

    \b
    Example: attnloom kernels --target sm_90
    """
    if find_spec("triton") is None:
        raise Failure("the kernels need triton: pip install 'attnloom[triton]'")
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise Failure("with TRITON_INTERPRET=1 nothing is compiled; unset it")

    from attnloom.runtime.kernels.ahead import compile_all, variants

    targets = [name.strip() for name in target.split(",") if name.strip()]
    try:
        wanted = list(variants(targets, everything=everything))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    say(f"compiling {number(len(wanted))} kernels")
    found = list(compile_all(wanted, workers))
    passed = not any(one.faults for one in found)
    if as_json:
        rows = [_facts(one) for one in found]
        print_json({"ok": passed, "diagnostics": [], "versions": _versions(), "kernels": rows})
    else:
        _print(found)
        for one in found:
            for fault in one.faults:
                print_text(f"FAILED {_name(one)}: {fault}")
        if passed:
            print_text(f"all {number(len(found))} kernels are within their budgets")
    ctx.exit(0 if passed else 1)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"triton": version("triton")}


def _name(one: Compiled) -> str:
    variant = one.variant
    flags = "".join(f" +{flag}" for flag in variant.flags)
    return f"{variant.target} {variant.pass_name} {variant.dtype} {variant.head_dim}{flags}"


def _print(found: Sequence[Compiled]) -> None:
    columns = (
        "target", "pass", "dtype", "head_dim", "with", "blocks", "warps", "stages", "registers",
        "spills", "shared", "instructions", "matrix", "async",
    )  # fmt: skip
    rows = []
    for one in found:
        variant = one.variant
        chosen = variant.configuration
        rows.append(
            (
                variant.target,
                variant.pass_name,
                variant.dtype,
                str(variant.head_dim),
                "+".join(variant.flags) or "-",
                f"{chosen.block_m}x{chosen.block_n}",
                str(chosen.num_warps),
                str(chosen.num_stages),
                str(one.registers),
                f"{one.spill_bytes} B",
                size(one.shared_bytes),
                number(one.instructions),
                number(one.matrix),
                number(one.async_copies),
            )
        )
    print_table(columns, rows)


def _facts(one: Compiled) -> dict[str, Any]:
    variant = one.variant
    return {
        "target": variant.target,
        "pass": variant.pass_name,
        "dtype": variant.dtype,
        "head_dim": variant.head_dim,
        "flags": list(variant.flags),
        "configuration": variant.configuration,
        "registers": one.registers,
        "spill_bytes": one.spill_bytes,
        "shared_bytes": one.shared_bytes,
        "instructions": one.instructions,
        "matrix_instructions": one.matrix,
        "async_copies": one.async_copies,
        "faults": list(one.faults),
    }

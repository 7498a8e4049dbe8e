"""Compiles the kernels for GPUs that need not be there, and tells what the compilers made of them.

Registers and spills come from `ptxas -v` and from AMD's metadata, instructions are counted in the
machine code. A kernel that spills beyond its budget, needs more shared memory than there is, or
does without the matrix instructions of its architecture has a fault.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from attnloom.runtime.kernels.configurations import (
    DTYPES,
    FAMILIES,
    HEAD_DIMS,
    PASSES,
    Configuration,
    block_d,
    choose,
)

SHARED_LIMITS = {"sm_80": 163 << 10, "sm_90": 227 << 10, "sm_100": 227 << 10, "gfx942": 64 << 10}
"""Bytes of shared memory that one program may have."""

SPILL_BUDGETS = {"forward": 16, "dq": 16, "dkdv": 128}
"""Bytes on the stack for each thread of a kernel, by pass."""

SPILL_BUDGET_OTHERS = 512
"""The same for float32 without tensor cores, for sm_100 and ROCm, whose configurations are starting
points alone, and for kernels with modifiers of scores."""

TILE = 128
"""The side of a plan's tiles, as `Pattern.compile` makes them."""

FLAGS = ("lists", "strided", "modifiers", "repair")

OTHERS = ("statistics", "merge", "sum")
"""Kernels that are not in the table: they only move numbers."""

_SUBSET = {"dtypes": ("bfloat16",), "head_dims": (128,), "flags": (("lists",),)}
_EVERY_FLAGS = ((), ("lists",), ("lists", "strided"), ("lists", "modifiers"), ("repair",))
_TYPES = {"bfloat16": "*bf16", "float16": "*fp16", "float32": "*fp32"}
_OF_INPUT = ("q", "k", "v", "o", "do", "dq", "dk", "dv", "result")
_FLOATS = (
    "lse", "d_lse", "stats", "partial_o", "partial_lse", "partial", "partial_dk", "partial_dv",
    "slopes", "sinks",
)  # fmt: skip
_INTS = ("flags", "records", "lists", "masks", "bands", "merges", "sources", "key_lengths")


@dataclass(frozen=True)
class Variant:
    """One kernel to be compiled: what it depends on, and how it would be launched."""

    target: str
    pass_name: str
    dtype: str
    head_dim: int
    flags: tuple[str, ...]
    configuration: Configuration

    @property
    def repairs(self) -> bool:
        """Whether it is the slow kernel for results that are NaN."""
        return "repair" in self.flags


@dataclass(frozen=True)
class Compiled:
    """What became of a variant.

    `matrix` counts the matrix instructions of the architecture, `async_copies` the copies to shared
    memory that need no registers.
    """

    variant: Variant
    registers: int
    spill_bytes: int
    shared_bytes: int
    instructions: int
    matrix: int
    async_copies: int
    notes: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """Why this kernel is not good enough."""
        variant, found = self.variant, list(self.notes)
        budget = spill_budget(variant)
        if self.spill_bytes > budget:
            found.append(f"{self.spill_bytes} bytes of stack, at most {budget}")
        limit = SHARED_LIMITS[variant.target]
        if self.shared_bytes > limit:
            found.append(f"{self.shared_bytes} bytes of shared memory, at most {limit}")
        multiplies = variant.pass_name in PASSES and not variant.repairs
        if multiplies and not self.matrix and variant.dtype != "float32":
            found.append("no matrix instructions")
        return tuple(found)


def spill_budget(variant: Variant) -> int:
    """Bytes on the stack that a variant may have."""
    is_main = variant.dtype != "float32" and not {"modifiers", "strided", "repair"} & {
        *variant.flags
    }
    is_main = is_main and variant.target in ("sm_80", "sm_90")
    return SPILL_BUDGETS.get(variant.pass_name, 0) if is_main else SPILL_BUDGET_OTHERS


def variants(targets: Sequence[str], *, everything: bool = False) -> Iterator[Variant]:
    """The kernels of some targets: a representative few, or every configuration of the table."""
    for target in targets:
        if target not in FAMILIES:
            raise ValueError(f"target must be one of {', '.join(FAMILIES)}, got {target!r}")
    dtypes = DTYPES if everything else _SUBSET["dtypes"]
    head_dims = HEAD_DIMS if everything else _SUBSET["head_dims"]
    flags = _EVERY_FLAGS if everything else _SUBSET["flags"]
    for target in targets:
        for name in OTHERS:
            yield Variant(target, name, "bfloat16", 128, (), Configuration(32, 32, 4, 1))
        for dtype in dtypes:
            for head_dim in head_dims:
                for pass_name in PASSES:
                    for some in flags:
                        chosen = choose(target, pass_name, str(dtype), int(head_dim))
                        yield Variant(
                            target, pass_name, str(dtype), int(head_dim), tuple(some), chosen
                        )


def compile_all(wanted: Sequence[Variant], workers: int | None = None) -> Iterator[Compiled]:
    """Compile some variants, several at a time, in order."""
    workers = min(workers or os.cpu_count() or 1, len(wanted))
    if workers <= 1:
        yield from map(compile_ahead, wanted)
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield from pool.map(compile_ahead, wanted)


def compile_ahead(variant: Variant) -> Compiled:
    """Compile one variant."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel, constants = _kernel(variant)
    signature = {name: _type(name, constants, variant.dtype) for name in kernel.arg_names}
    aligned = {
        (number,): [["tt.divisibility", 16]]
        for number, name in enumerate(kernel.arg_names)
        if signature[name].startswith("*") or (name.startswith("stride") and name not in constants)
    }
    is_amd = variant.target.startswith("gfx")
    target = (
        GPUTarget("hip", variant.target, 64)
        if is_amd
        else GPUTarget("cuda", int(variant.target.removeprefix("sm_")), 32)
    )
    options: dict[str, Any] = {"enable_fp_fusion": True}
    if not variant.repairs:
        options["num_warps"] = variant.configuration.num_warps
        options["num_stages"] = variant.configuration.num_stages
    source = ASTSource(kernel, signature, constexprs=constants, attrs=aligned)
    built: Any = triton.compile(source, target=target, options=options)
    shared = int(built.metadata.shared)
    if is_amd:
        return _from_amd(variant, shared, built.asm["amdgcn"])
    return _from_ptx(variant, shared, built.asm["ptx"])


def _kernel(variant: Variant) -> tuple[Any, dict[str, Any]]:
    """The kernel of a variant, and its constants."""
    from attnloom.runtime.kernels.backward import (
        key_gradient_kernel,
        query_gradient_kernel,
        statistics_kernel,
    )
    from attnloom.runtime.kernels.forward import forward_kernel
    from attnloom.runtime.kernels.merge import merge_outputs_kernel, merge_sums_kernel
    from attnloom.runtime.kernels.repair import (
        repair_forward_kernel,
        repair_key_gradient_kernel,
        repair_query_gradient_kernel,
    )

    fast: dict[str, Any] = {
        "forward": forward_kernel,
        "dq": query_gradient_kernel,
        "dkdv": key_gradient_kernel,
        "statistics": statistics_kernel,
        "merge": merge_outputs_kernel,
        "sum": merge_sums_kernel,
    }
    slow: dict[str, Any] = {
        "forward": repair_forward_kernel,
        "dq": repair_query_gradient_kernel,
        "dkdv": repair_key_gradient_kernel,
    }
    kernel = (slow if variant.repairs else fast)[variant.pass_name]
    modified = "modifiers" in variant.flags
    constants: dict[str, Any] = {
        "HEAD_DIM": variant.head_dim,
        "BLOCK_D": block_d(variant.head_dim),
        "BLOCK_M": min(variant.configuration.block_m, TILE),
        "BLOCK_N": min(variant.configuration.block_n, TILE),
        "TILE_M": TILE,
        "TILE_N": TILE,
        "HAS_LISTS": "lists" in variant.flags,
        "STRIDED": "strided" in variant.flags,
        "WITHIN": not modified,
        "WIDE": False,
        "PLAIN": not modified,
        "SOFTCAP": modified,
        "ALIBI": modified,
        "SINKS": modified,
        "KEY_LENGTHS": modified,
        "PRECISION": "ieee",
    }
    # Numbers of a row of a head lie side by side.
    constants |= {f"stride_{one}d": 1 for one in "qkvd"}
    return kernel, {name: x for name, x in constants.items() if name in kernel.arg_names}


def _type(name: str, constants: dict[str, Any], dtype: str) -> str:
    if name in constants:
        return "constexpr"
    if name in _OF_INPUT:
        return _TYPES[dtype]
    if name in _FLOATS:
        return "*fp32"
    if name in _INTS:
        return "*i32"
    if name in ("scale", "softcap"):
        return "fp32"
    return "*i64" if name == "tiles" else "i32"


def _from_ptx(variant: Variant, shared: int, ptx: str) -> Compiled:
    number = int(variant.target.removeprefix("sm_"))
    arch = f"{variant.target}a" if number >= 90 else variant.target
    from triton.backends.nvidia.compiler import get_ptxas

    assembler, tools = str(get_ptxas(number).path), _tools()
    with tempfile.TemporaryDirectory() as folder:
        text, cubin = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        text.write_text(ptx, encoding="utf-8")
        said = _run([assembler, "-v", f"--gpu-name={arch}", text, "-o", cubin])
        code = _run([tools / "cuobjdump", "-sass", cubin])
    registers = re.search(r"Used (\d+) registers", said)
    stack = re.search(r"(\d+) bytes stack frame", said)
    assert registers is not None
    assert stack is not None
    operations = re.findall(
        r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", code, re.M
    )
    kind = {80: "HMMA", 90: "HGMMA", 100: "UTC"}[number]
    notes = ["matrix instructions one after the other"] if "C7510" in said else []
    return Compiled(
        variant,
        int(registers[1]),
        int(stack[1]),
        shared,
        len(operations),
        sum(one.startswith(kind) for one in operations),
        sum(one.startswith(("LDGSTS", "UTMALDG")) for one in operations),
        tuple(notes),
    )


def _from_amd(variant: Variant, shared: int, text: str) -> Compiled:
    def number(name: str) -> int:
        found = re.search(rf"\.{name}:\s+(\d+)", text)
        assert found is not None, name
        return int(found[1])

    operations = re.findall(r"^\s+([a-z][a-z0-9_]+)(?:\s|$)", text, re.M)
    return Compiled(
        variant,
        number("vgpr_count"),
        number("private_segment_fixed_size"),
        shared,
        len(operations),
        sum(one.startswith("v_mfma") for one in operations),
        sum("_load_lds" in one for one in operations),
    )


def _tools() -> Path:
    """Where Triton's wheel has NVIDIA's tools."""
    spec = find_spec("triton")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "backends" / "nvidia" / "bin"


def _run(command: Sequence[str | Path]) -> str:
    """What a tool says on either stream."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed: {done.stderr.strip()}")
    return done.stdout + done.stderr

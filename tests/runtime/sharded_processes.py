"""What the processes of the sharding tests do; started by `spawn`, so in a module of its own."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

import attnloom
from attnloom import distributed

Case = dict[str, Any]


def inputs_of(pattern: attnloom.Pattern, n: int) -> dict[str, Any]:
    """Run-time inputs for any pattern."""
    made = {
        "tokens": lambda: [0, n // 2],
        "segments": lambda: np.arange(n) // 50,
        "links": lambda: [[i // 2, i // 3] if i % 5 else [] for i in range(n)],
    }
    return {name: made[kind]() for name, kind in pattern.inputs.items()}


def plan_of(case: Case) -> attnloom.Plan:
    """The plan of the whole sequence."""
    pattern = (
        attnloom.load(case["name"]) if "name" in case else attnloom.parse(case["text"])
    )  # fmt: skip
    return pattern.compile(
        case["n"], heads=case.get("heads", 2), layer=1, layers=4, block=case.get("block", 16),
        inputs=inputs_of(pattern, case["n"]),
    )  # fmt: skip


def check_case(case: Case) -> None:
    """Outputs, lse and gradients are those of one process; what is received is as predicted."""
    plan = plan_of(case)
    dtype = getattr(torch, case.get("dtype", "float64"))
    generator = torch.Generator().manual_seed(7)
    heads, kv_heads = plan.num_heads, case.get("kv_heads", plan.num_heads)
    batch = plan.batch_size or 2
    query, *keys = (
        torch.randn(batch, count, plan.query_len, 16, generator=generator, dtype=torch.float64)
        for count in (heads, kv_heads, kv_heads)
    )
    whole = [x.to(dtype).requires_grad_() for x in (query, *keys)]
    weights = torch.randn(query.shape, generator=generator, dtype=torch.float64).to(dtype)
    more = torch.randn(query.shape[:-1], generator=generator, dtype=torch.float64)
    output, lse = attnloom.attention(*whole, plan, return_lse=True)
    finite = torch.where(lse.isinf(), 0.0, lse)
    wanted = torch.autograd.grad((output * weights).sum() + (finite * more).sum(), whole)

    sharded = distributed.shard(plan, **case.get("options", {}))
    received = sharded.division.received_tokens()[sharded.rank]
    assert sharded.received_len == received
    parts = [sharded.scatter(x.detach()).requires_grad_() for x in whole]
    runs = []
    for _ in range(2):
        out, logs = distributed.attention(*parts, sharded, return_lse=True)
        loss = (out * sharded.scatter(weights)).sum()
        safe = torch.where(logs.isinf(), 0.0, logs)
        loss = loss + (safe * sharded.scatter(more, -1)).sum()
        runs.append((out.detach(), logs.detach(), *torch.autograd.grad(loss, parts)))
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one, other), "two runs differ"
    tolerance = {"rtol": 0, "atol": 1e-9 if dtype == torch.float64 else 2e-5}
    out, logs, *grads = runs[0]
    torch.testing.assert_close(sharded.gather(out), output.detach(), **tolerance)
    torch.testing.assert_close(sharded.gather(logs, -1), lse.detach(), **tolerance)
    for got, expected in zip(grads, wanted, strict=True):
        torch.testing.assert_close(got, sharded.scatter(expected), **tolerance)


def check_cases(cases: Sequence[Case]) -> None:
    """All of them, one after the other."""
    for case in cases:
        try:
            check_case(case)
        except BaseException as error:
            raise AssertionError(f"in {case}") from error


def check_refusals() -> None:
    """Another plan, or a bad call, is named before anything is exchanged."""
    rank = dist.get_rank()
    mine = attnloom.load("longformer", reach=4 + (rank == 1)).compile(200, block=16)
    _refused(lambda: distributed.shard(mine), "process 1 has another pattern than process 0: ")
    longer = attnloom.load("longformer", reach=4).compile(200 + 16 * (rank == 1), block=16)
    _refused(lambda: distributed.shard(longer), "process 1 has another length than process 0")
    plan = attnloom.load("longformer", reach=4).compile(200, block=16)
    _refused(lambda: distributed.shard(plan, balance="even"), "balance must be one of auto")
    few = attnloom.load("longformer", reach=4).compile(200, block=256)
    _refused(lambda: distributed.shard(few), "compile with a smaller block")
    tall = attnloom.load("longformer", reach=4).compile(200, block=(32, 16))
    _refused(lambda: distributed.shard(tall), "square tiles")
    sharded = distributed.shard(plan)
    tensor = torch.randn(1, 1, 200, 16)
    _refused(lambda: distributed.attention(tensor, tensor, tensor, sharded), "query must have the")
    _refused(lambda: sharded.scatter(tensor, -1), "tensor must have the 200 positions")
    part = sharded.scatter(tensor)
    _refused(lambda: distributed.attention(part, part, part[..., :8], sharded), "value must have")
    slopes = torch.ones(1)
    _refused(
        lambda: distributed.attention(part, part, part, sharded, alibi_slopes=slopes),  # type: ignore[call-overload]
        "alibi_slopes must be None",
    )


def _refused(call: Callable[[], object], message: str) -> None:
    try:
        call()
    except ValueError as error:
        assert message in str(error), str(error)  # noqa: PT017
        return
    raise AssertionError(f"not refused: {message}")


def work(rank: int, ranks: int, folder: str, task: str, argument: Any) -> None:
    """One process."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks,
        timeout=timedelta(seconds=120),
    )  # fmt: skip
    try:
        globals()[task](*([argument] if argument is not None else []))
    except BaseException:
        (Path(folder) / f"error-{rank}").write_text(traceback.format_exc())
        raise
    dist.destroy_process_group()

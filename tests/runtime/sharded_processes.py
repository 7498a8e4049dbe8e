"""What the processes of the sharding tests do; started by `spawn`, so in a module of its own."""

from __future__ import annotations

import multiprocessing
import os
import re
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import attnloom
from attnloom import distributed
from attnloom.runtime import exchange

Case = dict[str, Any]


class Processes:
    """Processes of one group, which wait for tasks; started anew after one has failed."""

    def __init__(self, ranks: int, folder: Path, seconds: float = 120) -> None:
        self.ranks, self.folder, self.seconds = ranks, folder, seconds
        self._started = 0
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []

    def run(self, task: str | Callable[..., Any], argument: Any = None) -> list[Any]:
        """The results of a task in each process; what went wrong in one is raised here."""
        if not self._processes:
            self._start()
        for pipe in self._pipes:
            pipe.send((task, argument))
        results: dict[int, Any] = {}
        pipes = {id(pipe): rank for rank, pipe in enumerate(self._pipes)}
        while len(results) < self.ranks:
            open_pipes = [pipe for rank, pipe in enumerate(self._pipes) if rank not in results]
            ready = wait(open_pipes, timeout=self.seconds + 60)
            if not ready:
                self.stop()
                raise AssertionError(f"{task}: no answer")
            for pipe in ready:
                try:
                    error, result = pipe.recv()
                except EOFError:
                    error, result = None, "ended"
                if error is not None:
                    self.stop()
                    raise AssertionError(f"{task}: {error}")
                results[pipes[id(pipe)]] = result
        if "ended" in results.values():
            self.stop()
        return [results[rank] for rank in range(self.ranks)]

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._started += 1
        meet = str(self.folder / f"meet-{self._started}")
        for rank in range(self.ranks):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=serve, args=(rank, self.ranks, meet, theirs, self.seconds), daemon=True
            )
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        self._processes, self._pipes = [], []


def serve(rank: int, ranks: int, meet: str, pipe: Connection, seconds: float) -> None:
    """One process: does what it is told."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meet}", rank=rank, world_size=ranks,
        timeout=timedelta(seconds=seconds),
    )  # fmt: skip
    while True:
        task, argument = pipe.recv()
        try:
            call = globals()[task] if isinstance(task, str) else task
            pipe.send((None, call(*([argument] if argument is not None else []))))
        except BaseException:
            pipe.send((f"in process {rank}: {traceback.format_exc()}", None))


@contextmanager
def counted() -> Iterator[list[int]]:
    """The bytes that this process receives of others, exchange by exchange."""
    found: list[int] = []
    own, original = dist.get_rank(), dist.all_to_all_single

    def counting(
        output: torch.Tensor, rows: Any, received: list[int], *more: Any, **given: Any
    ) -> Any:
        row = output[:1].numel() if len(output) else 0
        found.append((sum(received) - received[own]) * row * output.element_size())
        return original(output, rows, received, *more, **given)

    exchange.dist.all_to_all_single = counting
    try:
        yield found
    finally:
        exchange.dist.all_to_all_single = original


TOLERANCES = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 6e-2}


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
    if "name" in case:
        pattern = attnloom.load(case["name"], **case.get("params", {}))
    else:
        pattern = attnloom.parse(case["text"], **case.get("params", {}))
    inputs = case.get("inputs")
    return pattern.compile(
        case["n"], heads=case.get("heads", 2), layer=case.get("layer", 1),
        layers=case.get("layers", 4), block=case.get("block", 16),
        inputs=inputs_of(pattern, case["n"]) if inputs is None else inputs,
    )  # fmt: skip


def check_case(case: Case) -> list[int]:
    """Outputs, lse and gradients are those of one process; what is received is as predicted.

    Returns:
        The bytes received in the forward and in the backward pass.
    """
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
    modifiers = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in case.get("modifiers", {}).items()
    }
    numbers = case.get("numbers", {})
    if "sinks" in modifiers:
        whole.append(modifiers["sinks"].requires_grad_())
    output, lse = attnloom.attention(*whole[:3], plan, return_lse=True, **modifiers, **numbers)
    finite = torch.where(lse.isinf(), 0.0, lse)
    wanted = torch.autograd.grad((output * weights).sum() + (finite * more).sum(), whole)

    sharded = distributed.shard(plan, **case.get("options", {}))
    received = sharded.division.received_tokens()[sharded.rank]
    assert sharded.received_len == received
    parts = [sharded.scatter(x.detach()).requires_grad_() for x in whole[:3]]
    parts += [x.detach().clone().requires_grad_() for x in whole[3:]]
    modifiers.update(zip(("sinks",), parts[3:], strict=False))
    runs, bytes_of_runs = [], []
    for _ in range(2):
        with counted() as forward:
            out, logs = distributed.attention(
                *parts[:3], sharded, return_lse=True, **modifiers, **numbers
            )
        loss = (out * sharded.scatter(weights)).sum()
        safe = torch.where(logs.isinf(), 0.0, logs)
        loss = loss + (safe * sharded.scatter(more, -1)).sum()
        with counted() as backward:
            grads = torch.autograd.grad(loss, parts)
        runs.append((out.detach(), logs.detach(), *grads))
        bytes_of_runs.append([sum(forward), sum(backward)])
    exact = 8 if dtype == torch.float64 else 4
    predicted = sharded.division.received_bytes(
        heads, kv_heads, 16, size=dtype.itemsize, exact=exact
    )
    measured = [one * batch for one in (int(x[sharded.rank]) for x in predicted)]
    assert bytes_of_runs == [measured] * 2, f"{bytes_of_runs} bytes, not {measured}"
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one, other), "two runs differ"
    tolerance = {"rtol": 0, "atol": TOLERANCES[dtype]}
    out, logs, *grads = runs[0]
    torch.testing.assert_close(sharded.gather(out), output.detach(), **tolerance)
    torch.testing.assert_close(sharded.gather(logs, -1), lse.detach(), **tolerance)
    for got, expected in zip(grads[:3], wanted[:3], strict=True):
        torch.testing.assert_close(got, sharded.scatter(expected), **tolerance)
    for got, expected in zip(grads[3:], wanted[3:], strict=True):
        dist.all_reduce(got)
        torch.testing.assert_close(got, expected, **tolerance)
    return measured


def check_cases(cases: Sequence[Case]) -> list[list[int]]:
    """All of them, one after the other."""
    found = []
    for case in cases:
        try:
            found.append(check_case(case))
        except BaseException as error:
            raise AssertionError(f"in {case}") from error
    return found


def check_programs(cases: Sequence[Case]) -> int:
    """Those of some drawn programs that have a meaning and units enough; how many there were."""
    count = 0
    for case in cases:
        try:
            plan = plan_of(case)
        except attnloom.PatternError:
            continue
        if -(-plan.query_len // plan.block_m) >= dist.get_world_size():
            check_cases([case])
            count += 1
    return count


def check_refusals() -> None:
    """Another plan, or a bad call, is named before anything is exchanged."""
    rank = dist.get_rank()
    mine = attnloom.load("longformer", reach=4 + (rank == 1)).compile(200, block=16)
    refused(lambda: distributed.shard(mine), "process 1 has another pattern than process 0: ")
    longer = attnloom.load("longformer", reach=4).compile(200 + 16 * (rank == 1), block=16)
    refused(lambda: distributed.shard(longer), "process 1 has another length than process 0")
    plan = attnloom.load("longformer", reach=4).compile(200, block=16)
    with mock.patch("attnloom.runtime.sharded.version", return_value=f"0.0.{rank}"):
        refused(lambda: distributed.shard(plan), "process 1 has another version than process 0")
    refused(lambda: distributed.shard(plan, balance="even"), "balance must be one of auto")
    few = attnloom.load("longformer", reach=4).compile(200, block=256)
    refused(lambda: distributed.shard(few), "compile with a smaller block")
    tall = attnloom.load("longformer", reach=4).compile(200, block=(32, 16))
    refused(lambda: distributed.shard(tall), "square tiles")
    sharded = distributed.shard(plan)
    tensor = torch.randn(1, 1, 200, 16)
    refused(lambda: distributed.attention(tensor, tensor, tensor, sharded), "query must have the")
    refused(lambda: sharded.scatter(tensor, -1), "tensor must have the 200 positions")
    part = sharded.scatter(tensor)
    refused(lambda: distributed.attention(part, part, part[..., :8], sharded), "value must have")
    slopes = torch.ones(1)
    refused(
        lambda: distributed.attention(part, part, part, sharded, alibi_slopes=slopes),
        "alibi_slopes must be None",
    )


def refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def check_special_values() -> None:
    """A key that is not finite makes only those not finite that read it; autocast casts."""
    plan = attnloom.parse("pattern p { window(each_side=5); global(0) }").compile(
        200, heads=2, block=16
    )
    generator = torch.Generator().manual_seed(5)
    whole = [torch.randn(1, 2, 200, 16, generator=generator) for _ in range(3)]
    for where, value in ((60, torch.nan), (99, torch.inf), (101, -torch.inf)):
        whole[1][:, :, where] = whole[2][:, :, where] = value
    expected = attnloom.attention(*whole, plan)
    # Those within 5 of 60, of 99 and of 101, and the one that reads all.
    assert int(expected[0, 0].isfinite().all(1).logical_not().sum()) == 11 + 13 + 1
    for overlap in (True, False):
        sharded = distributed.shard(plan, overlap=overlap)
        parts = [sharded.scatter(x) for x in whole]
        found = sharded.gather(distributed.attention(*parts, sharded))
        rows = expected.isfinite().all(-1)
        assert torch.equal(found.isfinite().all(-1), rows)
        torch.testing.assert_close(found[rows], expected[rows], rtol=0, atol=1e-5)
        parts = [torch.ones_like(x) for x in parts]
        with torch.autocast("cpu", dtype=torch.bfloat16), counted() as received:
            output = distributed.attention(*parts, sharded)
        assert output.dtype == torch.bfloat16
        forward, _ = sharded.division.received_bytes(2, 2, 16)
        assert sum(received) == forward[sharded.rank]


def check_stack() -> None:
    """Plans of layers that differ are divided alike."""
    pattern = attnloom.parse("pattern p { when layer % 2 == 0 { window(last=9) } else { causal } }")
    stack = pattern.compile_layers(210, 4, heads=2, block=16)
    shards = distributed.shard(stack, balance="head_tail")
    assert [one is shards[0] for one in shards] == [True, False, True, False]
    assert torch.equal(shards[0].positions, shards[1].positions)
    assert shards[0].received_len < shards[1].received_len
    generator = torch.Generator().manual_seed(1)
    x = whole = torch.randn(1, 2, 210, 16, generator=generator, dtype=torch.float64)
    part = shards[0].scatter(whole)
    for plan, one in zip(stack, shards, strict=True):
        x, part = attnloom.attention(x, x, x, plan), distributed.attention(part, part, part, one)
    torch.testing.assert_close(shards[0].gather(part), x, rtol=0, atol=1e-9)


def check_compiled() -> None:
    """One graph, with the same results as without."""
    for text, overlap in (("window(each_side=5); global(0..1)", True), ("stride(7)", False)):
        plan = attnloom.parse(f"pattern p {{ {text} }}").compile(210, heads=2, block=16)
        sharded = distributed.shard(plan, overlap=overlap)
        generator = torch.Generator().manual_seed(2)
        whole = [torch.randn(1, 2, 210, 16, generator=generator) for _ in range(4)]
        *parts, weights = (sharded.scatter(x).requires_grad_() for x in whole)
        compiled = torch.compile(distributed.attention, fullgraph=True, backend="aot_eager")
        results = []
        for call in (distributed.attention, compiled):
            output = call(*parts, sharded)
            results.append((output, *torch.autograd.grad((output * weights).sum(), parts)))
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


class Layers(nn.Module):
    """A small model: embeddings of tokens and positions, attention, and a prediction."""

    def __init__(self, words: int = 11, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(256, width)
        self.projections = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(2))
        self.head = nn.Linear(width, words)

    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor, attend: Callable[..., torch.Tensor]
    ) -> torch.Tensor:
        x = self.words(ids) + self.places(positions)
        for projection in self.projections:
            batch, length, width = x.shape
            heads = projection(x).view(batch, length, 3, self.heads, -1)
            # Done again in the backward pass, exchanges and all.
            output = checkpoint(attend, *heads.permute(2, 0, 3, 1, 4), use_reentrant=False)
            x = x + output.transpose(1, 2).reshape(batch, length, width)
        logits: torch.Tensor = self.head(x)
        return logits


def check_training(way: str) -> None:
    """Losses of some steps are those of one process, with `way` around the model."""
    mesh = init_device_mesh(
        "cpu", (dist.get_world_size() // 2, 2), mesh_dim_names=("data", "context")
    )
    length, batch = 150, 2 * mesh["data"].size()
    pattern = attnloom.parse("pattern p { window(last=12); global(0); only causal }")
    plan = pattern.compile(length, heads=2, block=16)
    sharded = distributed.shard(plan, mesh["context"])
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, 11, (batch, length + 1), generator=generator)
    inputs, targets = ids[:, :-1], ids[:, 1:]
    torch.manual_seed(4)
    alone = Layers().double()
    model: Any = Layers().double()
    model.load_state_dict(alone.state_dict())
    if way == "ddp":
        model = DistributedDataParallel(model)
    elif way == "fsdp":
        for layer in model.projections:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    losses: list[list[float]] = [[], []]
    rows = slice(2 * mesh["data"].get_local_rank(), 2 * mesh["data"].get_local_rank() + 2)
    steps = torch.optim.SGD(alone.parameters(), 0.1), torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        logits = alone(inputs, torch.arange(length), lambda *x: attnloom.attention(*x, plan))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        losses[0].append(loss.item())
        steps[0].zero_grad()
        loss.backward()
        steps[0].step()

        mine, wanted = (sharded.scatter(x[rows], 1) for x in (inputs, targets))
        logits = model(mine, sharded.positions, lambda *x: distributed.attention(*x, sharded))
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), wanted.flatten(), reduction="sum"
        ) / (batch * length)
        steps[1].zero_grad()
        # Both take the mean of the gradients of all processes, and the loss is the sum of theirs.
        (loss * dist.get_world_size()).backward()
        steps[1].step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        losses[1].append(total.item())
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)
    assert losses[0][0] - losses[0][2] > 0.05, "nothing was learnt"


def check_peer(what: str) -> str | None:
    """Process 1 ends, raises or is late; what process 0 says of it."""
    plan = attnloom.load("longformer", reach=9).compile(200, block=16)
    group = dist.new_group(timeout=timedelta(seconds=5))
    dist.barrier()  # nobody is late for anything else
    sharded = distributed.shard(plan, group)
    part = sharded.scatter(torch.randn(1, 1, 200, 16, requires_grad=True))
    dist.barrier()
    if sharded.rank == 1:
        if what == "ends":
            os._exit(0)
        time.sleep(12)
        return None
    try:
        output = distributed.attention(part, part, part, sharded)
    except RuntimeError as error:
        return f"{type(error).__name__}: {error}"
    return f"a result: {output.sum()}"

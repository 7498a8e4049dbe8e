"""Train a small language model on sequences that are divided over processes.

Every process holds a part of each sequence and receives only the keys that its part reads. The
same code runs on CPUs, with gloo, and on GPUs, with NCCL; the losses are those of one process:

    torchrun --nproc-per-node 2 examples/train_context_parallel.py
    torchrun --nproc-per-node 4 examples/train_context_parallel.py --data 2
    torchrun --nproc-per-node 8 examples/train_context_parallel.py --fsdp --length 1048576

With `--data 2`, processes are arranged as 2 x the rest: two sequences at a time, each divided.
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import attnloom
from attnloom import distributed
from attnloom.distributed import ShardedPlan

PATTERN = "pattern reader { window(last=64); global(0..4); only causal }"
BYTES, WIDTH, HEADS, LAYERS = 256, 64, 4, 2


class Layer(nn.Module):
    """Attention along the plan, and an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.projection, self.output = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: torch.Tensor, sharded: ShardedPlan) -> torch.Tensor:
        batch, length, _ = x.shape
        heads = self.projection(self.norms[0](x)).view(batch, length, 3, HEADS, WIDTH // HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        found = distributed.attention(query, key, value, sharded)
        x = x + self.output(found.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norms[1](x))


class Model(nn.Module):
    """Predicts the next byte; position embeddings are those of the part's own positions."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.bytes, self.places = nn.Embedding(BYTES, WIDTH), nn.Embedding(length, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.head = nn.Linear(WIDTH, BYTES)

    def forward(self, ids: torch.Tensor, sharded: ShardedPlan) -> torch.Tensor:
        x = self.bytes(ids) + self.places(sharded.positions)
        for layer in self.layers:
            x = layer(x, sharded)
        return self.head(x)


def sequences(length: int, batch: int) -> Iterator[torch.Tensor]:
    """Pieces of Python's standard library, `(batch, length + 1)`, the same in every process."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    text = torch.frombuffer(bytearray(b"".join(map(Path.read_bytes, files))), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    while True:
        starts = torch.randint(0, len(text) - length - 1, (batch, 1), generator=generator)
        yield text[starts + torch.arange(length + 1)].long()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--length", type=int, default=1000, help="tokens of a sequence")
    parser.add_argument("--batch", type=int, default=4, help="sequences of a step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--data", type=int, default=1, help="groups of processes side by side")
    parser.add_argument("--block", type=int, default=64, help="tokens of a tile")
    parser.add_argument("--fsdp", action="store_true", help="divide the weights too")
    options = parser.parse_args()

    on_gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if on_gpu else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    device = torch.device("cuda", rank % torch.cuda.device_count()) if on_gpu else "cpu"
    if on_gpu:
        torch.cuda.set_device(device)
    mesh = init_device_mesh(
        "cuda" if on_gpu else "cpu",
        (options.data, world // options.data),
        mesh_dim_names=("data", "context"),
    )
    pattern = attnloom.parse(PATTERN)
    plan = pattern.compile(options.length, heads=HEADS, block=options.block, device=device)
    sharded = distributed.shard(plan, mesh["context"])

    torch.manual_seed(0)
    whole = Model(options.length).to(device)
    model: nn.Module = whole
    if options.fsdp:
        for layer in whole.layers:
            fully_shard(layer, mesh=mesh["data", "context"]._flatten())
        fully_shard(whole, mesh=mesh["data", "context"]._flatten())
    else:
        model = DistributedDataParallel(whole)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    rows = options.batch // options.data
    mine = slice(mesh["data"].get_local_rank() * rows, (mesh["data"].get_local_rank() + 1) * rows)
    for step, text in zip(
        range(options.steps), sequences(options.length, options.batch), strict=False
    ):
        text = text[mine].to(device)
        ids, targets = (sharded.scatter(x, 1) for x in (text[:, :-1], text[:, 1:]))
        logits = model(ids, sharded)
        # Of all tokens of the step, wherever they are: the sum of the losses of all processes.
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        loss = loss / (options.batch * options.length)
        optimizer.zero_grad()
        (loss * world).backward()  # for the mean of all gradients is taken
        optimizer.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        if rank == 0:
            sys.stdout.write(f"step {step} loss {total.item():.6f}\n")
            sys.stdout.flush()
    if rank == 0:
        sys.stderr.write(f"{sharded}\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

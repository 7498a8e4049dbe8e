"""Sequences longer than one device: plans over the processes of `torch.distributed`.

Each process holds a part of the sequence and receives just the keys and values that its queries
read. See `docs/distributed.md`.
"""

from attnloom.runtime.sharded import ShardedPlan, attention, shard

__all__ = ["ShardedPlan", "attention", "shard"]

"""Sequences longer than one device: plans over the processes of `torch.distributed`.

Each process holds a part of the sequence and receives just the keys and values that its queries
read. See `docs/distributed.md`.
"""

from attnloom.compiler.balance import Network
from attnloom.runtime.exchange import ExchangeError
from attnloom.runtime.sharded import ShardedPlan, shard
from attnloom.runtime.sharded_attention import attention

__all__ = ["ExchangeError", "Network", "ShardedPlan", "attention", "shard"]

"""What the processes of the tests of divided models do; started by `spawn`."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from integration_helpers import DECODERS, HEADS, LAYERS, model_of, words
from sharded_processes import refused
from torch.nn.functional import cross_entropy

import attnloom
from attnloom import distributed
from attnloom.compiler.balance import Network
from attnloom.integrations.transformers import use

LENGTH, BATCH = 150, 2


def check_model(case: dict[str, Any]) -> None:
    """The loss, and the sum of the gradients of all processes, are those of one."""
    pattern = attnloom.parse(f"pattern p {{ {case['text']} }}")
    model = model_of(case["name"], "ForCausalLM", DECODERS[case["name"]])
    use(model, pattern, block=16)
    ids, labels = words(BATCH, LENGTH), words(BATCH, LENGTH, seed=5)
    logits = model(ids).logits
    expected = cross_entropy(logits.flatten(0, 1), labels.flatten())
    wanted = torch.autograd.grad(expected, list(model.parameters()))

    stack = pattern.compile_layers(LENGTH, LAYERS, heads=HEADS, block=16)
    # On a slow network the residues are kept together, and positions jump.
    sharded = distributed.shard(stack, network=Network(bytes_per_second=1e5))
    first = sharded[0]
    assert first.reordered == ("dilation" in case["text"])
    loss = model(
        first.scatter(ids, 1),
        position_ids=first.positions[None],
        labels=first.scatter(labels, 1),
        shift_labels=first.scatter(labels, 1),
        num_items_in_batch=torch.tensor(labels.numel()),
        sharded_plan=sharded,
        use_cache=False,
    ).loss
    grads = torch.autograd.grad(loss, list(model.parameters()))
    total = loss.detach().clone()
    dist.all_reduce(total)
    # Transformers works the loss out in float32.
    torch.testing.assert_close(total.double(), expected.detach(), rtol=1e-5, atol=0)
    for one, other in zip(grads, wanted, strict=True):
        one = one.clone()
        dist.all_reduce(one)
        torch.testing.assert_close(
            one, other, rtol=0, atol=1e-5 * max(1.0, float(other.abs().max()))
        )

    if first.rank == 1:
        refused(lambda: model(first.scatter(ids, 1), sharded_plan=sharded), "position_ids must be")
        mask = torch.ones(BATCH, first.local_len)
        mask[0, 0] = 0
        refused(
            lambda: model(first.scatter(ids, 1), mask, first.positions[None], sharded_plan=sharded),
            "padding over several processes",
        )

"""Every wrong argument is refused before any work, in words that name it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from runtime_helpers import plan_of, window

from attnloom.runtime import checks
from attnloom.runtime.attention import attention

PLAN = plan_of(window(100, 80, 5)[None, None].repeat(4, 1))
FOR_THREE = plan_of(window(100, 80, 5)[None, None].repeat(4, 1).repeat(3, 0))


def arguments() -> dict[str, Any]:
    """A call that is right: 4 heads, 2 key heads, 100 queries, 80 keys."""
    shapes = {"query": (2, 4, 100, 16), "key": (2, 2, 80, 16), "value": (2, 2, 80, 16)}
    return {"plan": PLAN, **{name: torch.zeros(shape) for name, shape in shapes.items()}}


def zeros(*shape: int, **options: Any) -> torch.Tensor:
    return torch.zeros(*shape, **options)


Case = tuple[Callable[[checks.Arguments], str | None], dict[str, Any], type[Exception], str]

WRONG: list[Case] = [
    (checks._not_tensor, {"query": 3}, TypeError, "query must be a torch.Tensor, got int"),
    (
        checks._not_tensor, {"key": np.zeros(3)}, TypeError,
        "key must be a torch.Tensor, got ndarray",
    ),
    (checks._not_tensor, {"value": None}, TypeError, "value must be a torch.Tensor, got NoneType"),
    (checks._not_plan, {"plan": "local"}, TypeError, "plan must be an attnloom Plan, got str"),
    (
        checks._not_plan, {"plan": PLAN.layouts[0]}, TypeError,
        "plan must be an attnloom Plan, got HeadLayout",
    ),
    (checks._not_number, {"scale": "1"}, TypeError, "scale must be a number or None, got str"),
    (checks._not_number, {"scale": True}, TypeError, "scale must be a number or None, got bool"),
    (
        checks._not_number, {"scale": zeros(1)}, TypeError,
        "scale must be a number or None, got Tensor",
    ),
    (checks._not_finite, {"scale": float("nan")}, ValueError, "scale must be finite, got nan"),
    (checks._not_finite, {"scale": float("inf")}, ValueError, "scale must be finite, got inf"),
    (checks._not_number, {"softcap": "30"}, TypeError, "softcap must be a number or None, got str"),
    (checks._not_finite, {"softcap": float("inf")}, ValueError, "softcap must be finite, got inf"),
    (
        checks._not_positive, {"softcap": 0}, ValueError,
        "softcap must be above 0, or None for no cap, got 0",
    ),
    (
        checks._modifier_not_tensor, {"sinks": [0.0] * 4}, TypeError,
        "sinks must be a torch.Tensor or None, got list",
    ),
    (
        checks._modifier_dtype, {"sinks": zeros(4, dtype=torch.int64)}, TypeError,
        "sinks must have a floating-point dtype, got torch.int64",
    ),
    (
        checks._modifier_dtype, {"key_lengths": zeros(2)}, TypeError,
        "key_lengths must be int32 or int64, got torch.float32",
    ),
    (
        checks._modifier_shape, {"alibi_slopes": zeros(2)}, ValueError,
        "alibi_slopes must have shape (heads,), (4,), got (2,)",
    ),
    (
        checks._modifier_shape, {"key_lengths": zeros(4, dtype=torch.int32)}, ValueError,
        "key_lengths must have shape (batch,), (2,), got (4,)",
    ),
    (
        checks._modifier_elsewhere, {"sinks": zeros(4, device="meta")}, ValueError,
        "sinks must be on the device of query, cpu, got meta",
    ),
    (
        checks._slopes_want_gradients, {"alibi_slopes": zeros(4, requires_grad=True)}, ValueError,
        "alibi_slopes must not require gradients, for they get none",
    ),
    (
        checks._not_backend_name, {"backend": None}, TypeError,
        "backend must be a string, got NoneType",
    ),
    (
        checks._is_nested, {"query": torch.nested.nested_tensor([zeros(4, 3, 16)] * 2)}, TypeError,
        "query must be a plain tensor, got a nested one",
    ),
    (
        checks._wrong_rank, {"query": zeros(4, 100, 16)}, ValueError,
        "query must have shape (batch, heads, length, head_dim), got (4, 100, 16)",
    ),
    (
        checks._wrong_rank, {"value": zeros(2, 2, 80, 16, 1)}, ValueError,
        "value must have shape (batch, heads, length, head_dim), got (2, 2, 80, 16, 1)",
    ),
    (
        checks._not_floating, {"query": zeros(2, 4, 100, 16, dtype=torch.int64)}, TypeError,
        "query must have a floating-point dtype, got torch.int64",
    ),
    (
        checks._not_floating, {"query": zeros(2, 4, 100, 16, dtype=torch.complex64)}, TypeError,
        "query must have a floating-point dtype, got torch.complex64",
    ),
    (
        checks._mixed_dtypes, {"key": zeros(2, 2, 80, 16, dtype=torch.bfloat16)}, TypeError,
        "key must have the dtype of query, torch.float32, got torch.bfloat16",
    ),
    (
        checks._mixed_devices, {"value": zeros(2, 2, 80, 16, device="meta")}, ValueError,
        "value must be on the device of query, cpu, got meta",
    ),
    (
        checks._wrong_batch, {"key": zeros(1, 2, 80, 16)}, ValueError,
        "key must have the batch of query, 2, got 1",
    ),
    (
        checks._wrong_head_dim, {"key": zeros(2, 2, 80, 32)}, ValueError,
        "key must have the head_dim of query, 16, got 32",
    ),
    (
        checks._wrong_head_dim,
        {"query": zeros(2, 4, 100, 0), "key": zeros(2, 2, 80, 0), "value": zeros(2, 2, 80, 0)},
        ValueError, "query must have a head_dim of at least 1, got 0",
    ),
    (
        checks._wrong_heads, {"query": zeros(2, 8, 100, 16)}, ValueError,
        "query must have the 4 heads of the plan, got 8",
    ),
    (
        checks._wrong_heads, {"key": zeros(2, 3, 80, 16)}, ValueError,
        "key must have a number of heads that divides the 4 of query, got 3",
    ),
    (
        checks._wrong_heads, {"key": zeros(2, 0, 80, 16)}, ValueError,
        "key must have a number of heads that divides the 4 of query, got 0",
    ),
    (
        checks._wrong_heads, {"value": zeros(2, 4, 80, 16)}, ValueError,
        "value must have as many heads as key, 2, got 4",
    ),
    (
        checks._wrong_length, {"query": zeros(2, 4, 101, 16)}, ValueError,
        "query must have the length of the plan, 100, got 101",
    ),
    (
        checks._wrong_length, {"key": zeros(2, 2, 100, 16)}, ValueError,
        "key must have the length of the plan, 80, got 100",
    ),
    (
        checks._wrong_length, {"value": zeros(2, 2, 79, 16)}, ValueError,
        "value must have the length of the plan, 80, got 79",
    ),
    (
        checks._wrong_plan_batch, {"plan": FOR_THREE}, ValueError,
        "query must have the batch that the plan is made for, 3, got 2",
    ),
    (
        checks._backend_refuses, {"backend": "fast"}, ValueError,
        "backend must be one of auto, cpu, reference, triton",
    ),
    (checks._backend_refuses, {"backend": ""}, ValueError, "backend must be one of auto,"),
    (
        checks._backend_refuses, {"backend": "triton"}, ValueError,
        "backend 'triton' runs on CUDA tensors, got tensors on cpu; with TRITON_INTERPRET=1 also",
    ),
    (
        checks._backend_refuses,
        {"backend": "cpu", **{n: x.to("meta") for n, x in arguments().items() if n != "plan"}},
        ValueError, "backend 'cpu' runs on CPU tensors, got tensors on meta",
    ),
    (
        checks._backend_refuses,
        {n: x.to(torch.float8_e4m3fn) for n, x in arguments().items() if n != "plan"},
        ValueError, "backend 'cpu' takes float32, bfloat16, float16, float64, got float8_e4m3fn",
    ),
    (
        checks._plan_elsewhere, {"plan": PLAN.to("meta")}, ValueError,
        "plan must be on the device of query, cpu, got meta; move it once with plan.to('cpu')",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "change", "error", "message"), WRONG)
def test_wrong_argument_is_named_with_what_was_wanted_and_what_came(
    fault: Callable[[checks.Arguments], str | None],
    change: dict[str, Any],
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worked: list[str] = []
    for name in ("_apply", "_attend_reference"):
        monkeypatch.setattr(f"attnloom.runtime.attention.{name}", lambda *_: worked.append("!"))
    call = {**arguments(), **change}
    with pytest.raises(error, match=re.escape(message)) as caught:
        attention(call.pop("query"), call.pop("key"), call.pop("value"), call.pop("plan"), **call)
    assert type(caught.value) is error
    assert not worked
    known = {"scale": None, "backend": "auto"}
    assert fault(checks.Arguments(**{**arguments(), **known, **change})) == str(caught.value)


def test_every_check_of_the_table_has_a_wrong_call() -> None:
    assert {check.fault for check in checks.CHECKS} == {case[0] for case in WRONG}


def test_right_call_passes_every_check() -> None:
    call = checks.Arguments(**arguments(), scale=2, backend="cpu")
    assert [check.fault(call) for check in checks.CHECKS] == [None] * len(checks.CHECKS)
    assert attention(**arguments()).shape == (2, 4, 100, 16)


def test_length_with_memory_tokens_is_explained() -> None:
    plan = PLAN.from_layouts([PLAN.layouts[0]], [[0] * 4], memory=8)
    call = {**arguments(), "plan": plan, "query": zeros(2, 4, 92, 16)}
    with pytest.raises(ValueError, match=r"plan, 100 \(8 memory tokens included\), got 92"):
        attention(**call)


def test_backend_asked_for_by_name_is_never_replaced() -> None:
    for backend in ("cpu", "reference"):
        assert checks.resolve_backend(zeros(1), backend) == backend
    assert checks.resolve_backend(zeros(1), "auto") == "cpu"


def test_autocast_joins_what_would_be_mixed_dtypes() -> None:
    call = {**arguments(), "value": zeros(2, 2, 80, 16, dtype=torch.bfloat16)}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert attention(**call).dtype == torch.bfloat16
    call["value"] = call["value"].double()
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(TypeError, match=r"value must have the dtype of query, torch\.bfloat16"),
    ):
        attention(**call)

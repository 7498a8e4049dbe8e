"""Plans as files: safetensors, with what they are in its metadata.

Every number in a file is taken for hostile until it is checked: a file that is damaged, made by a
newer version, or would make a kernel read beyond an array is refused before anything is executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from attnloom.compiler.limits import MAX_LENGTH
from attnloom.compiler.parts import HeadLayout, Part
from attnloom.compiler.tiles import TileRows

if TYPE_CHECKING:
    from attnloom.runtime.plan_stack import PlanStack

FORMAT = 1
"""Raised with every change that an older version could not read."""

_HALVES = ("forward", "transposed")
_ARRAYS = tuple(TileRows.__annotations__)[4:]
_MOST_BLOCK = 1 << 16
_MOST_LAYERS = 1 << 16
_MOST_TEXT = 1 << 24
"""Characters of metadata."""

Arrays = dict[str, NDArray[Any]]


class PlanFileError(ValueError):
    """A file that holds no plan, or one that must not be executed."""

    def __init__(self, path: str | PathLike[str], problem: str) -> None:
        super().__init__(f"cannot take a plan from {os.fspath(path)!r}: {problem}")


def write_plans(stack: PlanStack, path: str | PathLike[str], *, key: str = "") -> None:
    """Write a stack, replacing the file at once or not at all.

    Raises:
        OSError: the file cannot be written.
        TypeError: the description holds what JSON cannot.
    """
    first = stack.plans[0]
    layouts = stack.layouts
    numbers = {id(layout): number for number, layout in enumerate(layouts)}
    chosen = [
        np.array([numbers[id(one)] for one in plan.layouts])[plan.layout_of_head.cpu().numpy()]
        for plan in stack.plans
    ]
    arrays: Arrays = {"layout_of_head": np.stack(chosen).astype(np.int64)}
    for number, layout in enumerate(layouts):
        for at, part in enumerate(layout.parts):
            name = f"layouts.{number}.parts.{at}"
            if part.order is not None:
                arrays[f"{name}.order"] = part.order
            for half in _HALVES:
                found = getattr(part, half).arrays
                arrays.update({f"{name}.{half}.{one}": array for one, array in found.items()})
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    facts = {
        "format": FORMAT,
        "version": version("attnloom"),
        "key": key,
        "sizes": [first.query_len, first.kv_len, first.block_m, first.block_n],
        "memory": first.memory,
        "layouts": [
            [{"order": part.order_name, "blocks": list(part.blocks)} for part in layout.parts]
            for layout in layouts
        ],
        "plan_of_layer": list(stack.plan_of_layer),
        "description": dict(first.description),
    }
    text = json.dumps(facts)
    metadata = {"attnloom": text, "digest": _digest(text, arrays)}
    target = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    scratch = Path(name)
    try:
        save_file(arrays, scratch, metadata)
        scratch.chmod(0o666 & ~_umask())
        scratch.replace(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def read_plans(
    path: str | PathLike[str],
    *,
    device: torch.device | str = "cpu",
    key: str | None = None,
    description: Mapping[str, object] | None = None,
) -> PlanStack:
    """Read a stack.

    Args:
        path: the file.
        device: where the plans will be executed.
        key: what the file must have been written with, if it matters.
        description: what to say of the plans in place of what the file says.

    Raises:
        PlanFileError: the file is damaged, of a newer version, or not a plan at all.
        OSError: the file cannot be read.
    """
    from attnloom.runtime.plan_stack import PlanStack

    with Path(path).open("rb"):  # for Python's own errors
        pass
    try:
        facts, arrays = _read(path)
        if key is not None and facts["key"] != key:
            raise _Fault("it was made for something else")
        layouts = _layouts(facts, arrays)
        chosen, of_layer = _choices(facts, arrays, len(layouts))
    except _Fault as fault:
        raise PlanFileError(path, str(fault)) from None
    return PlanStack.from_layouts(
        layouts,
        list(chosen),
        plan_of_layer=of_layer,
        memory=facts["memory"],
        device=device,
        description=facts["description"] if description is None else description,
    )


class _Fault(Exception):
    """What is wrong with a file."""


def _read(path: str | PathLike[str]) -> tuple[dict[str, Any], Arrays]:
    """The facts, with the right names and types, and the arrays."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            text = metadata.get("attnloom")
            if text is None or len(text) > _MOST_TEXT:
                raise _Fault("it is a safetensors file, but not a plan")
            facts = _parsed(text)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _Fault(f"it is damaged or not a plan ({error})") from None
    except (TypeError, AttributeError) as error:  # a type of numbers that NumPy does not have
        raise _Fault(f"it is damaged ({error})") from None
    if any(array.ndim == 0 for array in arrays.values()):
        raise _Fault("it is damaged: an array has no dimensions")
    if metadata.get("digest") != _digest(text, arrays):
        raise _Fault("it is damaged: the digest does not match; compile the pattern again")
    return facts, arrays


def _parsed(text: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        raise _Fault("it is damaged: what describes it is not JSON") from None
    if not isinstance(facts, dict) or not _is_whole(facts.get("format")):
        raise _Fault("it is damaged: it has no format")
    made = int(facts["format"])
    if made != FORMAT:
        by = str(facts.get("version"))[:40]
        raise _Fault(
            f"it is of format {made}, written by attnloom {by}; this is attnloom "
            f"{version('attnloom')}, which reads format {FORMAT}: "
            + ("upgrade attnloom, or " if made > FORMAT else "")
            + "compile the pattern again"
        )
    for name, kind in _FACTS.items():
        if not isinstance(facts.get(name), kind):
            raise _Fault(f"it is damaged: {name} is not a {kind.__name__}")
    return facts


_FACTS: dict[str, type] = {
    "key": str, "sizes": list, "memory": int, "layouts": list, "plan_of_layer": list,
    "description": dict,
}  # fmt: skip


def _is_whole(number: object, least: int = 0, most: int = MAX_LENGTH) -> bool:
    """Whether it is an integer, and in range."""
    return isinstance(number, int) and not isinstance(number, bool) and least <= number <= most


def _layouts(facts: Mapping[str, Any], arrays: Arrays) -> list[HeadLayout]:
    """The layouts, which can be executed without reading or writing beyond any array."""
    sizes = facts["sizes"]
    if len(sizes) != 4 or not all(_is_whole(size, 1) for size in sizes):
        raise _Fault("it is damaged: sizes are not four lengths")
    query_len, kv_len, block_m, block_n = sizes
    if max(block_m, block_n) > _MOST_BLOCK:
        raise _Fault(f"it is damaged: tiles of {block_m} x {block_n}")
    if not _is_whole(facts["memory"], 0, min(query_len, kv_len)):
        raise _Fault("it is damaged: memory is not a number of tokens")
    unused = set(arrays) - {"layout_of_head"}
    found = []
    for number, listed in enumerate(facts["layouts"]):
        if not isinstance(listed, list) or not listed:
            raise _Fault(f"it is damaged: layout {number} has no parts")
        parts = []
        for at, described in enumerate(listed):
            name = f"layouts.{number}.parts.{at}"
            parts.append(_part(described, name, sizes, arrays))
            unused -= {one for one in unused if one.startswith(f"{name}.")}
        layout = HeadLayout(query_len, kv_len, block_m, block_n, tuple(parts))
        if (fault := layout.fault()) is not None:
            raise _Fault(f"it is damaged: layout {number}, {fault}")
        found.append(layout)
    if unused:
        raise _Fault(f"it is damaged: {min(unused)[:80]!r} is of no layout")
    return found


def _part(described: Any, name: str, sizes: Sequence[int], arrays: Arrays) -> Part:
    """A part as the file has it; not yet checked."""
    if not isinstance(described, dict) or not isinstance(described.get("order"), str):
        raise _Fault(f"it is damaged: {name} is not described")
    blocks = described.get("blocks")
    if (
        not isinstance(blocks, list)
        or len(blocks) != 3
        or not all(_is_whole(count, most=MAX_LENGTH**2) for count in blocks)
    ):
        raise _Fault(f"it is damaged: {name} has no counts of blocks")
    order = arrays.get(f"{name}.order")
    query_len, kv_len, block_m, block_n = sizes
    if order is not None:
        query_len = kv_len = len(order.reshape(-1))

    def half(of: str, rows: int, columns: int, height: int, width: int) -> TileRows:
        try:
            found: Any = [arrays[f"{name}.{of}.{one}"] for one in _ARRAYS]
        except KeyError as missing:
            raise _Fault(f"it is damaged: {missing} is missing") from None
        return TileRows(rows, columns, height, width, *found)

    full, partial, total = blocks
    return Part(
        order,
        described["order"],
        half("forward", query_len, kv_len, block_m, block_n),
        half("transposed", kv_len, query_len, block_n, block_m),
        (full, partial, total),
    )


def _choices(
    facts: Mapping[str, Any], arrays: Arrays, count: int
) -> tuple[NDArray[np.int64], list[int]]:
    """Which layout each head of each plan follows, and which plan each layer has."""
    chosen = arrays.get("layout_of_head")
    if chosen is None or chosen.dtype != np.int64 or chosen.ndim != 3 or 0 in chosen.shape:
        raise _Fault("it is damaged: layout_of_head is not int64 in 3 dimensions")
    if chosen.min() < 0 or chosen.max() >= count:
        raise _Fault(f"it is damaged: layout_of_head must be below {count}")
    of_layer = facts["plan_of_layer"]
    if (
        not 0 < len(of_layer) <= _MOST_LAYERS
        or not all(_is_whole(plan, 0, len(chosen) - 1) for plan in of_layer)
        or set(of_layer) != set(range(len(chosen)))
    ):
        raise _Fault("it is damaged: plan_of_layer does not name the plans")
    return chosen, of_layer


def _digest(text: str, arrays: Arrays) -> str:
    """A digest of all that a file holds."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""Run-time inputs: what users give, checked and brought to one form for each batch element."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler.runs import Ints
from attnloom.compiler.tokens import TokenSet
from attnloom.compiler.typed import Input, Type
from attnloom.grammar.diagnostics import did_you_mean

ReadTokens = Callable[[str, str, int], TokenSet]
"""Reads a token set in the language's own spelling: `(name of the input, text, length)`."""


@dataclass(frozen=True)
class Inputs:
    """The inputs of a pattern at a length: for each name a value, or one for each batch element.

    A tokens input is a `TokenSet`, a segments input an array of ids `(length,)`, a links input a
    pair of arrays, offsets `(length + 1,)` and keys.
    """

    batch: int | None
    values: Mapping[str, tuple[Any, ...]]

    def of(self, element: int) -> dict[str, Any]:
        """The values of one batch element."""
        return {name: one[element if len(one) > 1 else 0] for name, one in self.values.items()}


def read_inputs(
    declared: Sequence[Input],
    given: Mapping[str, Any] | None,
    length: int,
    read_tokens: ReadTokens,
) -> Inputs:
    """Check inputs against what a pattern declares.

    Raises:
        TypeError: a value is of the wrong type.
        ValueError: an input is missing or unknown, or a value of the wrong shape or out of range.
    """
    given = dict(given or {})
    names = [one.name for one in declared]
    for name in given:
        if name not in names:
            known = f"the pattern has {', '.join(names)}" if names else "the pattern has no inputs"
            hint = " ".join(did_you_mean(str(name), names))
            raise ValueError(f"inputs: no input is called {name!r}; {hint or known}")
    values: dict[str, tuple[Any, ...]] = {}
    sizes: dict[str, int] = {}
    for one in declared:
        if one.name not in given:
            raise ValueError(
                f"inputs: the {one.type.name.lower()} input {one.name!r} is missing; give "
                f"inputs={{{one.name!r}: {_EXAMPLES[one.type]}}}"
            )
        value = _plain(given[one.name])
        found: Sequence[Any]
        if one.type is Type.TOKENS:
            found, is_batch = _tokens(one.name, value, length, read_tokens)
        elif one.type is Type.SEGMENTS:
            found, is_batch = _segments(one.name, value, length)
        else:
            found, is_batch = _links(one.name, value, length)
        values[one.name] = tuple(found)
        if is_batch:
            sizes[one.name] = len(found)
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise ValueError(f"inputs must agree in the number of batch elements: {shown}")
    return Inputs(next(iter(sizes.values()), None), values)


_EXAMPLES = {
    Type.TOKENS: "a boolean mask (batch, n), or lists of positions",
    Type.SEGMENTS: "integers (batch, n)",
    Type.LINKS: "a list of keys for each query, or (offsets, keys)",
}


def _plain(value: Any) -> Any:
    """Tensors as arrays, without knowing about torch."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        return value.detach().cpu().numpy()
    return value


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _tokens(
    name: str, value: Any, length: int, read_tokens: ReadTokens
) -> tuple[list[TokenSet], bool]:
    if isinstance(value, TokenSet):
        return [value], False
    if isinstance(value, str):
        return [read_tokens(name, value, length)], False
    if isinstance(value, np.ndarray) and value.dtype == np.bool_:
        rows, is_batch = _rows(name, value, length)
        return [TokenSet.of_mask(row) for row in rows], is_batch
    if isinstance(value, np.ndarray) and value.ndim <= 2:
        value = value.tolist()
    if _is_integer(value):
        value = [value]
    if not isinstance(value, (Sequence, range)):
        raise TypeError(
            f"inputs[{name!r}] must be a boolean mask, positions, or text, "
            f"got {type(value).__name__}"
        )
    is_batch = any(not _is_integer(item) for item in value)
    lists = list(value) if is_batch else [value]
    if any(isinstance(item, (bool, np.bool_)) for item in value):
        return _tokens(name, np.array(value, dtype=np.bool_), length, read_tokens)
    return [_positions(name, one, length, read_tokens) for one in lists], is_batch


def _positions(name: str, value: Any, length: int, read_tokens: ReadTokens) -> TokenSet:
    """One batch element: a list of positions, or what a whole input may be."""
    value = _plain(value)
    if isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype == np.bool_):
        (found,), _ = _tokens(name, value, length, read_tokens)
        return found
    try:
        positions = np.array(list(value))
    except TypeError:
        raise TypeError(
            f"inputs[{name!r}] must hold lists of positions, got {type(value).__name__}"
        ) from None
    if len(positions) and (positions.ndim != 1 or positions.dtype.kind not in "iub"):
        raise TypeError(f"inputs[{name!r}] must hold integer positions")
    if positions.dtype.kind == "b" and len(positions):
        (found,), _ = _tokens(name, positions, length, read_tokens)
        return found
    outside = [int(one) for one in positions if not 0 <= one < length]
    if outside:
        raise ValueError(f"inputs[{name!r}] must hold positions in 0..{length}, got {outside[0]}")
    mask = np.zeros(length, dtype=np.bool_)
    mask[positions.astype(np.int64)] = True
    return TokenSet.of_mask(mask)


def _segments(name: str, value: Any, length: int) -> tuple[list[Ints], bool]:
    try:
        ids = np.asarray(value)
    except ValueError:
        raise ValueError(f"inputs[{name!r}] must have shape (batch, {length})") from None
    if ids.dtype.kind not in "iu":
        raise TypeError(f"inputs[{name!r}] must hold integers, got {ids.dtype}")
    rows, is_batch = _rows(name, ids.astype(np.int64), length)
    return list(rows), is_batch


def _rows(name: str, array: NDArray[Any], length: int) -> tuple[NDArray[Any], bool]:
    """The rows of an array `(batch, length)` or `(length,)`."""
    if array.ndim not in (1, 2) or array.shape[-1] != length or 0 in array.shape:
        raise ValueError(
            f"inputs[{name!r}] must have shape (batch, {length}) or ({length},), got {array.shape}"
        )
    return (array[None], False) if array.ndim == 1 else (array, True)


def _links(name: str, value: Any, length: int) -> tuple[list[tuple[Ints, Ints]], bool]:
    if isinstance(value, tuple) and len(value) == 2:
        return [_offsets_and_keys(name, value, length)], False
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(
            f"inputs[{name!r}] must be a list of keys for each query, or (offsets, keys), "
            f"got {type(value).__name__}"
        )
    is_batch = bool(value) and all(_is_element(item, length) for item in value)
    if not is_batch:
        return [_key_lists(name, value, length)], False
    found = [
        _offsets_and_keys(name, item, length)
        if isinstance(item, tuple)
        else _key_lists(name, item, length)
        for item in value
    ]
    return found, True


def _is_element(value: Any, length: int) -> bool:
    """Whether a value can be the links of a batch element rather than the keys of a query."""
    if isinstance(value, tuple) and len(value) == 2 and all(np.ndim(one) == 1 for one in value):
        return True
    return (
        isinstance(value, list)
        and len(value) == length
        and all(isinstance(one, (list, tuple, np.ndarray)) for one in value)
    )


def _key_lists(name: str, value: Any, length: int) -> tuple[Ints, Ints]:
    if len(value) != length:
        raise ValueError(
            f"inputs[{name!r}] must have {length} lists of keys, one for each query, "
            f"got {len(value)}"
        )
    rows = [np.asarray(_plain(row)) if len(row) else _NO_KEYS for row in value]
    for number, row in enumerate(rows):
        if row.ndim != 1 or (len(row) and row.dtype.kind not in "iu"):
            raise TypeError(f"inputs[{name!r}][{number}] must be a list of integer keys")
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    keys = np.concatenate([_NO_KEYS, *rows])
    return _offsets_and_keys(name, (offsets, keys), length)


_NO_KEYS = np.zeros(0, dtype=np.int64)


def _offsets_and_keys(name: str, value: tuple[Any, Any], length: int) -> tuple[Ints, Ints]:
    offsets, keys = (np.asarray(_plain(one)) for one in value)
    for what, array in (("offsets", offsets), ("keys", keys)):
        if array.ndim != 1 or (len(array) and array.dtype.kind not in "iu"):
            raise TypeError(f"inputs[{name!r}]: the {what} must be integers in one dimension")
    offsets, keys = offsets.astype(np.int64), keys.astype(np.int64)
    if len(offsets) != length + 1:
        raise ValueError(
            f"inputs[{name!r}] must have {length + 1} offsets (n + 1), got {len(offsets)}"
        )
    if offsets[0] != 0 or offsets[-1] != len(keys) or (np.diff(offsets) < 0).any():
        raise ValueError(
            f"inputs[{name!r}]: the offsets must ascend from 0 to the number of keys, {len(keys)}"
        )
    outside = keys[(keys < 0) | (keys >= length)]
    if len(outside):
        raise ValueError(f"inputs[{name!r}] must hold keys in 0..{length}, got {int(outside[0])}")
    return offsets, keys

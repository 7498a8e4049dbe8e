"""Digests of values: what is equal in content has the same one, in every process."""

from __future__ import annotations

import dataclasses
import hashlib
from enum import Enum
from typing import Any

import numpy as np


def fingerprint(value: object) -> bytes:
    """A digest of a value made of dataclasses, tuples, numbers, text and arrays.

    Equal values have equal digests, and in practice only those. Two dataclasses are equal when they
    are of the same class and their fields are, whether or not they compare so; a method `content`
    gives what counts in place of the fields.

    Raises:
        TypeError: something in it has no content to speak of.

    >>> fingerprint((1, "a")) == fingerprint((1, "a")), fingerprint(1) == fingerprint("1")
    (True, False)
    """
    return _digest(value, {})


_Known = dict[int, tuple[object, bytes]]


def _digest(value: Any, known: _Known) -> bytes:
    """The digest; those of dataclasses, which may be met many times, are kept.

    They are kept with the dataclass, so that no other can take its identity.
    """
    match value:
        case None | bool() | int() | float() | str() | bytes() | np.generic():
            content = repr(value).encode()
            return _hashed(type(value).__name__, content)
        case Enum():
            return _hashed(type(value).__name__, value.name.encode())
        case np.ndarray():
            content = np.ascontiguousarray(value).tobytes()
            return _hashed(f"array {value.dtype.str} {value.shape}", content)
        case tuple() | list():
            return _hashed("list", *(_digest(item, known) for item in value))
        case dict():
            items = sorted((_digest(key, known), _digest(one, known)) for key, one in value.items())
            return _hashed("dict", *(part for item in items for part in item))
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} has no fingerprint")
    if id(value) not in known:
        kind = type(value)
        inside = value.content() if hasattr(value, "content") else _fields(value)
        digest = _hashed(f"{kind.__module__}.{kind.__qualname__}", _digest(inside, known))
        known[id(value)] = value, digest
    return known[id(value)][1]


def _fields(value: Any) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _hashed(name: str, *parts: bytes) -> bytes:
    digest = hashlib.sha256(name.encode())
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()

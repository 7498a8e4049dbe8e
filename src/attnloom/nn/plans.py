"""Plans of a layer, made for the lengths and inputs that are seen, and kept."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from attnloom.compiler.dependence import depends_on_head, depends_on_layer
from attnloom.compiler.growth import global_tokens, keeps_growing, reads_ahead
from attnloom.pattern import Pattern
from attnloom.runtime.plan import Plan
from attnloom.runtime.row_reader import RowReader
from attnloom.runtime.row_reader import reads_ahead as layout_reads_ahead
from attnloom.runtime.rows import plan_of_rows

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class GlobalRows:
    """The queries of the pattern's `global(...)`: a plan of them alone, and where they stand.

    Shapes:
        rows: int64 `(batch or 1, most)`, positions; the length where a sequence has fewer
    """

    plan: Plan
    rows: torch.Tensor


class Plans:
    """The plans of one layer of a pattern.

    Those that depend on nothing but the length are kept for `most` lengths, those with inputs for
    as many different inputs; the ones that were not used for the longest time go first.

    >>> import attnloom
    >>> plans = Plans(attnloom.load("longformer"), 4)
    >>> plan = plans.of_length(300, "cpu")
    >>> plan is plans.of_length(300, "cpu"), plan.num_heads, plan.query_len
    (True, 4, 300)
    """

    def __init__(
        self,
        pattern: Pattern,
        heads: int,
        *,
        layer: int = 0,
        layers: int | None = None,
        block: int | tuple[int, int] = 128,
        most: int = 16,
    ) -> None:
        if not isinstance(pattern, Pattern):
            raise TypeError(no_pattern(pattern))
        if layers is not None and layer >= layers:
            raise ValueError(f"layer must be below layers, {layers}, got {layer}")
        self.pattern, self.heads, self.block, self.most = pattern, heads, block, most
        self.layer, self.layers = layer, layers
        # Whether more tokens at the end change nothing before them; and whether layers differ.
        self.keeps_growing = keeps_growing(pattern._typed)
        self.depends_on_layer = depends_on_layer(pattern._typed)
        self.by_length: dict[tuple[int, str], Plan] = {}
        self.by_inputs: dict[bytes, Plan] = {}
        self.rows: dict[tuple[int, str] | bytes, GlobalRows] = {}
        self._memory: dict[int, int] = {}
        self._causal: dict[int | bytes, None] = {}
        self._readers: dict[int, RowReader] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Plans are made again where they are needed: they are large, and of one device.
        kept = ("by_length", "by_inputs", "rows", "_memory", "_readers", "_causal")
        return {**self.__dict__, **{name: {} for name in kept}}

    def __deepcopy__(self, memo: dict[int, object]) -> Plans:
        return Plans(
            self.pattern, self.heads,
            layer=self.layer, layers=self.layers, block=self.block, most=self.most,
        )  # fmt: skip

    def memory(self, length: int) -> int:
        """How many of the positions of a sequence are memory tokens.

        Raises:
            ValueError: no number of tokens makes this length.
        """
        if length not in self._memory:
            found = self.memory_of(length)
            if found >= length:
                raise ValueError(
                    f"a sequence of {length} has no room for {found} memory tokens and a token"
                )
            again = self.memory_of(length - found)
            if again != found:
                raise ValueError(
                    "the number of memory tokens must not depend on the length: it is "
                    f"{found} of {length} tokens and {again} of {length - found}"
                )
            self._memory[length] = found
        return self._memory[length]

    def memory_of(self, tokens: int) -> int:
        """How many memory tokens stand before so many tokens."""
        silent = {name: _silent(kind, tokens) for name, kind in self.pattern.inputs.items()}
        return self.pattern.bind(tokens, **self._place, inputs=silent).memory

    # A graph that is traced has the plans of its lengths made now and baked in, guarded by length.
    def prepare(self, length: int, device: str, with_rows: bool = False) -> None:
        """Have the plan of a length ready, without inputs; memory tokens are counted."""
        key = (length, device)
        if key not in self.by_length:
            tokens = length - self.memory(length)
            _keep(self.by_length, key, self._compile(tokens, device, None), self.most)
        if with_rows and key not in self.rows:
            tokens = length - self.memory(length)
            found = self._global_rows(self.by_length[key], tokens, None)
            _keep(self.rows, key, found, self.most)

    prepare = cast(Any, torch.compiler).assume_constant_result(prepare)

    def of_length(self, length: int, device: str) -> Plan:
        """The plan of a length, memory tokens counted, for a pattern without inputs."""
        length = operator.index(length)
        self.prepare(length, device)
        return self.by_length[length, device]

    def rows_of_length(self, length: int, device: str) -> GlobalRows:
        """The global rows of that plan."""
        length = operator.index(length)
        self.prepare(length, device, True)
        return self.rows[length, device]

    def of_inputs(
        self, length: int, device: str, inputs: Inputs, *, is_causal: bool = False
    ) -> Plan:
        """The plan of a length and some inputs.

        Raises:
            ValueError: it is to be causal, and some query reads a later key.
        """
        key = _name_of(length, device, inputs)
        if key not in self.by_inputs:
            plan = self._compile(length - self.memory(length), device, inputs)
            _keep(self.by_inputs, key, plan, self.most)
        plan = self.by_inputs[key]
        if is_causal and key not in self._causal:
            if any(map(layout_reads_ahead, plan.layouts)):
                raise ValueError(self._not_causal)
            _keep(self._causal, key, None, self.most)
        return plan

    def rows_of_inputs(self, length: int, device: str, inputs: Inputs) -> GlobalRows:
        """The global rows of that plan."""
        key = _name_of(length, device, inputs)
        plan = self.of_inputs(length, device, inputs)
        if key not in self.rows:
            found = self._global_rows(plan, length - self.memory(length), inputs)
            _keep(self.rows, key, found, self.most)
        return self.rows[key]

    def check_causal(self, length: int) -> None:
        """Make sure that no query reads a later key, memory tokens counted, without inputs.

        Raises:
            ValueError: some query does.
        """
        if length in self._causal:
            return
        tokens = length - self.memory(length)
        for head in range(self.heads if depends_on_head(self.pattern._typed) else 1):
            if reads_ahead(self.pattern.bind(tokens, head=head, heads=self.heads, **self._place)):
                raise ValueError(self._not_causal)
        _keep(self._causal, length, None, self.most)

    check_causal = cast(Any, torch.compiler).assume_constant_result(check_causal)

    @property
    def _not_causal(self) -> str:
        return (
            f"in the pattern {self.pattern.name!r} some query reads a later key, and it is to be "
            "causal; `only causal` in the pattern removes such"
        )

    def reader(self, length: int) -> RowReader:
        """The rows of a causal pattern without inputs, for sequences up to a length.

        Raises:
            ValueError: the pattern is not causal, or changes as a sequence grows.
        """
        if length not in self._readers:
            if not self.keeps_growing:
                raise ValueError(
                    f"the pattern {self.pattern.name!r} must not depend on the length to go on "
                    "token by token"
                )
            self.check_causal(length)
            _keep(self._readers, length, RowReader(self.of_length(length, "cpu")), self.most)
        return self._readers[length]

    @property
    def _place(self) -> dict[str, Any]:
        return {"layer": self.layer, "layers": self.layers}

    def _compile(self, tokens: int, device: str, inputs: Inputs | None) -> Plan:
        return self.pattern.compile(
            tokens, heads=self.heads, block=self.block, device=device, inputs=inputs, **self._place
        )

    def _global_rows(self, plan: Plan, tokens: int, inputs: Inputs | None) -> GlobalRows:
        found = [
            self._global_tokens(tokens, inputs, element) + plan.memory
            for element in range(plan.batch_size or 1)
        ]
        rows = np.full((len(found), max(1, max(map(len, found)))), -1, dtype=np.int64)
        for row, positions in zip(rows, found, strict=True):
            row[: len(positions)] = positions
        where = torch.from_numpy(np.where(rows < 0, plan.query_len, rows)).to(plan.device)
        return GlobalRows(plan_of_rows(plan, rows), where)

    def _global_tokens(self, tokens: int, inputs: Inputs | None, element: int) -> NDArray[np.int64]:
        first, *others = (
            global_tokens(
                self.pattern.bind(
                    tokens,
                    head=head,
                    heads=self.heads,
                    inputs=inputs,
                    element=element,
                    **self._place,
                )
            )
            for head in range(self.heads if depends_on_head(self.pattern._typed) else 1)
        )
        if any(not np.array_equal(first, other) for other in others):
            raise ValueError("global_projections: the global tokens must be those of every head")
        return first


def no_pattern(given: object) -> str:
    """What to say of something that should be a pattern.

    >>> no_pattern("longformer")
    "pattern must be an attnloom Pattern, got str; write attnloom.load('longformer')"
    """
    said = f"pattern must be an attnloom Pattern, got {type(given).__name__}"
    return f"{said}; write attnloom.load({given!r})" if isinstance(given, str) else said


def _silent(kind: str, length: int) -> Any:
    """An input that says nothing, for a question whose answer does not depend on it."""
    if kind == "links":
        return np.zeros(length + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return np.zeros(length, dtype=np.bool_ if kind == "tokens" else np.int64)


def _keep(kept: dict[Any, Any], key: object, value: object, most: int) -> None:
    """Put something into a dict of at most so many."""
    while len(kept) >= most:
        del kept[next(iter(kept))]
    kept[key] = value


def _name_of(length: int, device: str, inputs: Inputs) -> bytes:
    """A digest of inputs: those that are equal, and in practice only those, have equal ones."""
    digest = hashlib.sha256(f"{length} {device}".encode())
    for name in sorted(inputs):
        for part in _parts(inputs[name]):
            digest.update(f"|{name}:".encode() + part)
    return digest.digest()


def _parts(value: object) -> Iterable[bytes]:
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, (list, tuple)):
        yield f"{type(value).__name__}{len(value)}".encode()
        for item in value:
            yield from _parts(item)
    else:
        yield repr(value).encode()

"""`Pattern`: a pattern for any length, and everything that is asked of it."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnloom.compiler import typed
from attnloom.compiler.bind import bind
from attnloom.compiler.bound import Bound
from attnloom.compiler.counting import count
from attnloom.compiler.dependence import depends_on_head, depends_on_layer
from attnloom.compiler.elaborate import contracts_of
from attnloom.compiler.evaluate import Environment, Value, too_much
from attnloom.compiler.inputs import Inputs, read_inputs
from attnloom.compiler.layout import BlockLayout
from attnloom.compiler.limits import MAX_DENSE, MAX_LENGTH, TooLarge
from attnloom.compiler.model import CostModel
from attnloom.compiler.parts import HeadLayout
from attnloom.compiler.planning import Names, Planner, Request
from attnloom.compiler.problems import Problem
from attnloom.compiler.settings import read_settings, read_tokens
from attnloom.compiler.tiling import tile
from attnloom.compiler.tokens import TokenSet
from attnloom.compiler.vocabulary import INPUT_TYPES
from attnloom.grammar import PatternError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from attnloom.compiler.analysis.contracts import Outcome
    from attnloom.compiler.analysis.report import Report
    from attnloom.runtime.plan import Plan
    from attnloom.runtime.plan_stack import PlanStack

_PAIRS_AT_ONCE = 1 << 24
_MOST_BLOCK = 1 << 16
_MOST_LAYERS = 1 << 12


@dataclass(frozen=True, eq=False, repr=False)
class Pattern:
    """Which token attends to which: read from a file, with values for its parameters.

    Made by `attnloom.load` and `attnloom.parse`. Nothing here depends on a length until one is
    given: `bind` and the other methods take `n`, the number of tokens without memory tokens, and
    say where the pattern is looked at: head `head` of `heads`, in layer `layer` of `layers`.

    >>> import attnloom
    >>> pattern = attnloom.parse("pattern p(r = 2) { window(each_side=r) }")
    >>> pattern.name, pattern.params, pattern.reads(10**9)
    ('p', {'r': 2}, 4999999994)
    """

    _typed: typed.Pattern = field(repr=False)

    @property
    def name(self) -> str:
        return self._typed.name

    @property
    def doc(self) -> str:
        """The comment above the pattern."""
        return self._typed.doc

    @property
    def text(self) -> str:
        """The text of the file that the pattern was read from."""
        return self._typed.place.source.text

    @property
    def params(self) -> dict[str, Any]:
        """The parameters and their values; a token set as text, as it is written."""
        found: dict[str, Any] = {}
        known: dict[str, Value] = {}
        environment = Environment({}, known, {})
        for parameter in self._typed.parameters:
            default = parameter.default
            assert default is not None
            try:
                if parameter.type is typed.Type.TOKENS:
                    found[parameter.name] = " ".join(default.place.text.split())
                else:
                    value = environment.number(default)  # type: ignore[arg-type]
                    known[parameter.name] = value
                    is_flag = parameter.type is typed.Type.CONDITION
                    found[parameter.name] = bool(value) if is_flag else value
            except Problem:  # it depends on the length
                found[parameter.name] = " ".join(default.place.text.split())
        return found

    @property
    def inputs(self) -> dict[str, str]:
        """The run-time inputs and their kinds: `tokens`, `segments` or `links`."""
        kinds = {type_: kind for kind, type_ in INPUT_TYPES.items()}
        return {one.name: kinds[one.type] for one in self._typed.inputs}

    @property
    def contracts(self) -> list[str]:
        """What the pattern's `expect` statements say, such as `hops <= 2`."""
        return [contract.text for contract in contracts_of(self._typed)]

    def with_params(self, **params: Any) -> Pattern:
        """The same pattern with other values for some parameters.

        Raises:
            PatternError: a parameter is not known, or a value is not of its type.
        """
        return Pattern(read_settings(self._typed, params))

    def bind(
        self,
        n: int,
        *,
        head: int = 0,
        layer: int = 0,
        heads: int | None = None,
        layers: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        element: int = 0,
    ) -> Bound:
        """The relation at a length.

        Args:
            n: tokens, memory tokens not counted; at least 1.
            head: which head, from 0.
            layer: which layer, from 0.
            heads: how many heads there are; `head + 1` when not given.
            layers: how many layers there are; `layer + 1` when not given.
            inputs: the run-time inputs by name. A tokens input is a boolean mask `(batch, n)` or
                `(n,)`, a list of positions or one for each batch element, or text such as `0..16`;
                a segments input is integers `(batch, n)` or `(n,)`; a links input is a list of keys
                for each query, or `(offsets, keys)`, or a list of such for each batch element.
            element: which batch element of the inputs.

        Raises:
            TypeError, ValueError: an argument is wrong, named in the message.
            PatternError: the pattern has no meaning at this length.
        """
        where = _place(n, head, layer, heads, layers)
        read = self._inputs(inputs, where["n"])
        element = _integer("element", element, 0)
        if element and element >= (read.batch or 1):
            raise ValueError(
                f"element must be below the batch of the inputs, {read.batch or 1}, got {element}"
            )
        return self._bound(where, read, element)

    def mask(
        self,
        n: int,
        head: int = 0,
        layer: int = 0,
        heads: int | None = None,
        layers: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        *,
        element: int = 0,
    ) -> NDArray[np.bool_]:
        """Who reads what, as a dense matrix by the definition of the primitives; for small `n`.

        Arguments as in `bind`.

        Returns:
            `(m + n, m + n)` with the `m` memory tokens first: row `i`, column `j` is true when
            query `i` reads key `j`.
        """
        bound = self.bind(
            n, head=head, layer=layer, heads=heads, layers=layers, inputs=inputs, element=element
        )
        length, memory = bound.length, bound.memory
        with self._limited():
            if length * length > MAX_DENSE:
                raise TooLarge(f"a dense mask of {length:,} x {length:,} pairs")
            found = np.empty((length, length), dtype=np.bool_)
            keys = np.arange(-memory, bound.tokens, dtype=np.int64)
            step = max(1, _PAIRS_AT_ONCE // length)
            for first in range(0, length, step):
                rows = keys[first : first + step, None]
                found[first : first + step] = bound.relation.allows(rows, keys)
            return found

    def reads(
        self,
        n: int,
        head: int = 0,
        layer: int = 0,
        heads: int | None = None,
        layers: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        *,
        element: int = 0,
    ) -> int:
        """The exact number of pairs, without a mask; arguments as in `bind`.

        >>> import attnloom
        >>> attnloom.load("mistral", recent=4096).reads(10**9)  # w(w + 1)/2 + (n - w) w
        4095991613440
        """
        bound = self.bind(
            n, head=head, layer=layer, heads=heads, layers=layers, inputs=inputs, element=element
        )
        with self._limited():
            return count(bound.region, -bound.memory, bound.tokens)

    def row(
        self,
        i: int,
        n: int,
        head: int = 0,
        layer: int = 0,
        heads: int | None = None,
        layers: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        *,
        element: int = 0,
    ) -> list[tuple[int, int]]:
        """The keys that query `i` reads, as sorted disjoint ranges `(start, stop)`.

        Positions are those of the mask: memory tokens first, so token `t` is `m + t`. Arguments as
        in `bind`.

        >>> import attnloom
        >>> attnloom.load("longformer", reach=2).row(7, 12)
        [(0, 1), (5, 10)]
        """
        bound = self.bind(
            n, head=head, layer=layer, heads=heads, layers=layers, inputs=inputs, element=element
        )
        number = _integer("i", i, 0)
        if number >= bound.length:
            raise ValueError(f"i must be below the length, {bound.length}, got {number}")
        with self._limited():
            rows = np.array([number - bound.memory], dtype=np.int64)
            return bound.region.runs(rows).shifted(bound.memory).row(0)

    def layouts(
        self,
        n: int,
        *,
        heads: int = 1,
        layer: int = 0,
        layers: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        block: int = 128,
    ) -> tuple[list[BlockLayout], NDArray[np.int64]]:
        """The block layouts of all heads of a layer; equal ones are given once.

        Args:
            n: tokens, memory tokens not counted.
            heads: how many heads.
            layer: which layer, from 0.
            layers: how many layers there are; `layer + 1` when not given.
            inputs: as in `bind`.
            block: tokens on each side of a tile.

        Returns:
            The different layouts, and which of them each head follows, `(batch or 1, heads)`; one
            row if the inputs are the same for all batch elements.
        """
        where = _place(n, 0, layer, _integer("heads", heads, 1), layers)
        size = _integer("block", block, 1, _MOST_BLOCK)
        read = self._inputs(inputs, where["n"])
        found: list[BlockLayout] = []
        known: dict[bytes, int] = {}
        chosen = np.zeros((read.batch or 1, where["heads"]), dtype=np.int64)
        varies = depends_on_head(self._typed)
        for element in range(len(chosen)):
            for head in range(where["heads"]):
                if head and not varies:
                    chosen[element, head] = chosen[element, 0]
                    continue
                bound = self._bound({**where, "head": head}, read, element)
                with self._limited():
                    layout = tile(bound.region, -bound.memory, bound.tokens, size, size)
                name = layout.fingerprint()
                if name not in known:
                    known[name] = len(found)
                    found.append(layout)
                chosen[element, head] = known[name]
        return found, chosen

    def head_layouts(
        self,
        n: int,
        *,
        heads: int = 1,
        layer: int = 0,
        layers: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        block: int | tuple[int, int] = 128,
        without: Collection[str] = (),
        model: CostModel | None = None,
    ) -> tuple[list[HeadLayout], NDArray[np.int64]]:
        """What a plan of a layer is made of, without torch.

        Arguments as in `compile`.

        Returns:
            The different layouts, and which of them each head follows, `(batch or 1, heads)`; one
            row if the inputs are the same for all batch elements.
        """
        where = _place(n, 0, layer, _integer("heads", heads, 1), layers)
        request = _request(where["heads"], block, without, model)
        read = self._inputs(inputs, where["n"])
        planner = Planner(request)
        return planner.layouts, self._chosen(planner.number, where, read)

    def compile(
        self,
        n: int,
        *,
        heads: int = 1,
        layer: int = 0,
        layers: int | None = None,
        block: int | tuple[int, int] = 128,
        device: torch.device | str = "cpu",
        inputs: Mapping[str, Any] | None = None,
        without: Collection[str] = (),
        model: CostModel | None = None,
        cache: bool | str | Path = False,
    ) -> Plan:
        """The plan of a layer, to be executed by `attnloom.attention`.

        Args:
            n: tokens, memory tokens not counted.
            heads: how many query heads.
            layer: which layer, from 0.
            layers: how many layers there are; `layer + 1` when not given.
            block: queries and keys of a tile, or one number for both.
            device: where the plan will be executed.
            inputs: as in `bind`; a batch of inputs makes a plan for that batch.
            without: passes of the block compiler to leave out, of
                `attnloom.compiler.passes.OPTIONAL`; the results are the same.
            model: what things cost; when not given, as `attnloom calibrate` measured it on this
                kind of device, or a large GPU. It decides how pairs are computed, never which.
            cache: keep the plan on disk, and take it from there if an equal one was kept: `True`
                for the user's cache folder, or a folder.

        Raises:
            TypeError, ValueError: an argument is wrong, named in the message.
            PatternError: the pattern has no meaning at this length, or its plan is too large.
        """
        where = _place(n, 0, layer, _integer("heads", heads, 1), layers)
        return self._compile(
            where, [where["layer"]], block, device, inputs, without, model, cache
        ).plans[0]

    def compile_layers(
        self,
        n: int,
        layers: int,
        *,
        heads: int = 1,
        block: int | tuple[int, int] = 128,
        device: torch.device | str = "cpu",
        inputs: Mapping[str, Any] | None = None,
        without: Collection[str] = (),
        model: CostModel | None = None,
        cache: bool | str | Path = False,
    ) -> PlanStack:
        """The plans of all layers of a model, of which there are `layers`; equal ones share one.

        The other arguments, and what is raised, as in `compile`.

        >>> import attnloom
        >>> stack = attnloom.load("gemma3").compile_layers(2048, 26)
        >>> len(stack), len(stack.plans), stack[5] is stack[11]
        (26, 2, True)
        """
        count = _integer("layers", layers, 1, _MOST_LAYERS)
        where = _place(n, 0, 0, _integer("heads", heads, 1), count)
        every = range(count) if depends_on_layer(self._typed) else [0]
        stack = self._compile(where, every, block, device, inputs, without, model, cache)
        return stack if len(stack) == count else stack.repeated(count)

    def _compile(
        self,
        where: dict[str, int],
        layers: Sequence[int],
        block: int | tuple[int, int],
        device: torch.device | str,
        inputs: Mapping[str, Any] | None,
        without: Collection[str],
        model: CostModel | None,
        cache: bool | str | Path,
    ) -> PlanStack:
        """The plans of some layers, compiled or found in the cache."""
        from attnloom.runtime.calibration import model_for
        from attnloom.runtime.plan_cache import PlanCache
        from attnloom.runtime.plan_stack import PlanStack

        request = _request(where["heads"], block, without, model or model_for(device))
        read = self._inputs(inputs, where["n"])
        store = PlanCache.of(cache)
        description = {
            "pattern": self.name,
            "params": self.params,
            "n": where["n"],
            "layer": layers[0],
            "text": self.text,
        }
        key = None
        if store is not None:
            names = Names(request)
            named = [self._chosen(names.number, {**where, "layer": one}, read) for one in layers]
            key = names.digest(np.stack(named))
            if (found := store.get(key, device, description)) is not None:
                return found
        planner = Planner(request)
        chosen = [self._chosen(planner.number, {**where, "layer": one}, read) for one in layers]
        stack = PlanStack.from_layouts(
            planner.layouts,
            chosen,
            memory=planner.layouts[0].query_len - where["n"],
            device=device,
            description=description,
        )
        if store is not None and key is not None:
            store.put(key, stack)
        return stack

    def _chosen(
        self, number: Callable[[Bound], int], where: dict[str, int], read: Inputs
    ) -> NDArray[np.int64]:
        """The number of each head's relation, `(batch or 1, heads)`; equal heads are asked once."""
        chosen = np.zeros((read.batch or 1, where["heads"]), dtype=np.int64)
        varies = depends_on_head(self._typed)
        for element in range(len(chosen)):
            for head in range(where["heads"] if varies else 1):
                bound = self._bound({**where, "head": head}, read, element)
                with self._limited():
                    chosen[element, head:] = number(bound)
        return chosen

    def analyze(
        self,
        n: int,
        *,
        heads: int = 1,
        layers: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        element: int = 0,
        pair: tuple[int, int] | None = None,
        between: tuple[Any, Any] | None = None,
        without: Any = None,
        samples: int = 256,
        note: Callable[[str], None] | None = None,
    ) -> Report:
        """How information flows: hops, hubs, bottlenecks, cost; see `docs/analysis.md`.

        Every section of the report is worked out when it is first asked for.

        Args:
            n: tokens, memory tokens not counted.
            heads: how many heads; those of a layer are united.
            layers: how many layers. When not given, the pattern is repeated as often as is needed.
            inputs: as in `bind`.
            element: which batch element of the inputs.
            pair: a source and a target, whose shortest route is wanted; memory tokens are negative.
            between: two token sets, of sources and of targets, whose cut and capacity are wanted;
                sets as in `load`.
            without: a token set that is taken away first; `"globals"` for all hubs.
            samples: how many positions to search from where not all can be.
            note: told in a few words what is worked out next.

        Raises:
            TypeError, ValueError: an argument is wrong, named in the message.
            PatternError: the pattern has no meaning at this length, or asks for too much work; also
                when a section is asked for.

        >>> import attnloom
        >>> report = attnloom.load("mistral").analyze(2**20)
        >>> report.hops.worst, report.cost.cache.keys
        (257, 4096)
        """
        from attnloom.compiler.analysis.figures import Pair
        from attnloom.compiler.analysis.report import Options, Report
        from attnloom.compiler.analysis.subject import Subject

        where = _place(n, 0, 0, _integer("heads", heads, 1), None)
        count = None if layers is None else _integer("layers", layers, 1, _MOST_LAYERS)
        read = self._inputs(inputs, where["n"])
        chosen = _integer("element", element, 0, (read.batch or 1) - 1)
        subject = Subject(self._typed, where["n"], where["heads"], count, read.of(chosen))
        if without is not None:
            is_all = isinstance(without, str) and without == "globals"
            taken = None if is_all else _tokens("without", without, where["n"])
            subject = subject.without(taken)
        ends = None
        if pair is not None:
            first, last = -subject.whole.memory, where["n"] - 1
            ends = Pair(*(_integer("pair", end, first, last) for end in pair))
        sets = None
        if between is not None:
            sets = [_tokens("between", one, where["n"]) for one in between]
        options = Options.of(ends, sets, _integer("samples", samples, 2))
        return Report(subject, options, note or _silent)

    def check(
        self,
        n: int,
        *,
        heads: int = 1,
        layers: int = 1,
        inputs: Mapping[str, Any] | None = None,
        element: int = 0,
        samples: int = 256,
    ) -> list[Outcome]:
        """Whether each `expect` statement is so, and what shows it if not.

        Args:
            n: tokens, memory tokens not counted.
            heads: how many heads; a contract must hold for all that it is stated for.
            layers: how many layers, likewise.
            inputs: as in `bind`.
            element: which batch element of the inputs.
            samples: how many positions to search from where not all can be.

        Raises:
            TypeError, ValueError: an argument is wrong, named in the message.
            PatternError: the pattern has no meaning at this length.

        >>> import attnloom
        >>> pattern = attnloom.parse("pattern p { window(last=2); expect hops <= 2 }")
        >>> [(one.text, one.answer.value, one.words) for one in pattern.check(5)]
        [('hops <= 2', 'fails', '0 -> 4 takes 4 hops: 0 -> 1 -> 2 -> 3 -> 4')]
        """
        from attnloom.compiler.analysis.contracts import Setting, check

        where = _place(n, 0, 0, _integer("heads", heads, 1), None)
        count = _integer("layers", layers, 1, _MOST_LAYERS)
        read = self._inputs(inputs, where["n"])
        chosen = _integer("element", element, 0, (read.batch or 1) - 1)
        found = read.of(chosen)
        many = _integer("samples", samples, 2)
        return check(Setting(self._typed, where["n"], where["heads"], count, found, many))

    def _inputs(self, inputs: Mapping[str, Any] | None, length: int) -> Inputs:
        if inputs is not None and not isinstance(inputs, Mapping):
            raise TypeError(f"inputs must be a mapping by name, got {type(inputs).__name__}")
        return read_inputs(self._typed.inputs, inputs, length, read_tokens)

    def _bound(self, where: dict[str, int], read: Inputs, element: int) -> Bound:
        return bind(self._typed, where, {}, read.of(element))

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Turn a limit that is met into a diagnostic at the pattern."""
        try:
            yield
        except TooLarge as error:
            raise PatternError([too_much(self._typed.place, str(error))]) from None

    def __repr__(self) -> str:
        params = ", ".join(f"{name}={value}" for name, value in self.params.items())
        return f"Pattern({self.name}({params}))" if params else f"Pattern({self.name})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How notebooks and Hypothesis show it: not field by field."""
        printer.text(repr(self))


def _tokens(name: str, value: Any, n: int) -> TokenSet:
    """A token set that is not empty: text, an integer, a range, or a list of integers."""
    text = f"{value.start}..{value.stop}" if isinstance(value, range) else str(value)
    found = read_tokens(name, text, n)
    if not found:
        raise ValueError(f"{name} must hold a token, got {text!r}")
    return found


def _silent(_: str) -> None:
    """Say nothing."""


def _place(n: int, head: int, layer: int, heads: int | None, layers: int | None) -> dict[str, int]:
    """The variables of a pattern, checked."""
    found = {
        "n": _integer("n", n, 1, MAX_LENGTH),
        "head": _integer("head", head, 0, 1 << 32),
        "layer": _integer("layer", layer, 0, 1 << 32),
    }
    for one, name, given in (("head", "heads", heads), ("layer", "layers", layers)):
        found[name] = found[one] + 1 if given is None else _integer(name, given, 1)
        if found[one] >= found[name]:
            raise ValueError(f"{one} must be below {name}, {found[name]}, got {found[one]}")
    return found


def _request(
    heads: int,
    block: int | tuple[int, int],
    without: Collection[str],
    model: CostModel | None,
) -> Request:
    """What is asked of the block compiler, checked."""
    block_m, block_n = _tile_size(block)
    if isinstance(without, str):
        raise TypeError(f"without must be a collection of names, got the text {without!r}")
    return Request(block_m, block_n, heads, tuple(without), model or CostModel())


def _tile_size(block: int | tuple[int, int]) -> tuple[int, int]:
    sizes = block if isinstance(block, tuple) else (block, block)
    if len(sizes) != 2:
        raise ValueError(f"block must be one number or two, got {len(sizes)}")
    block_m, block_n = (_integer("block", size, 1, _MOST_BLOCK) for size in sizes)
    return block_m, block_n


def _integer(name: str, value: int, least: int, most: int | None = None) -> int:
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        found = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from None
    if found < least:
        raise ValueError(f"{name} must be at least {least}, got {found}")
    if most is not None and found > most:
        raise ValueError(f"{name} must be at most {most:,}, got {found:,}")
    return found

"""Plans of all layers of a model; equal layers share one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray

from attnloom.compiler.parts import HeadLayout
from attnloom.runtime.describe import one_line
from attnloom.runtime.plan import Plan


@dataclass(frozen=True, eq=False, repr=False)
class PlanStack(Sequence[Plan]):
    """The plan of each layer: `stack[layer]`. Made by `Pattern.compile_layers`.

    `plans` are the different ones, in order of their first layer. Layouts that several plans have
    are stored once.
    """

    plans: tuple[Plan, ...]
    plan_of_layer: tuple[int, ...]

    @classmethod
    def from_layouts(
        cls,
        layouts: Sequence[HeadLayout],
        layouts_of_layers: Sequence[NDArray[np.int64]],
        *,
        plan_of_layer: Sequence[int] | None = None,
        memory: int = 0,
        device: torch.device | str = "cpu",
        description: Mapping[str, object] | None = None,
    ) -> PlanStack:
        """Put the layouts of all layers on a device.

        Args:
            layouts: the different layouts, all of the same lengths and tile sizes.
            layouts_of_layers: for each layer, which of them each head follows,
                `(batch or 1, heads)`.
            plan_of_layer: where the arrays are those of different plans, which of them each layer
                has.
            memory: how many of the tokens, at the front, are memory tokens.
            device: where the tensors live.
            description: facts to keep with each plan, `layer` being the first of all layers.

        Raises:
            ValueError: the layouts differ in shape, or an index is out of range.
        """
        of_layer = range(len(layouts_of_layers)) if plan_of_layer is None else plan_of_layer
        facts = dict(description or {})
        start = facts.get("layer")
        known: dict[bytes, int] = {}
        plans: list[Plan] = []
        numbers: list[int] = []
        for layer, given in enumerate(of_layer):
            chosen = np.asarray(layouts_of_layers[given])
            number = known.setdefault(chosen.tobytes(), len(plans))
            if number == len(plans):
                used, own = np.unique(chosen, return_inverse=True)
                here = {"layer": start + layer} if isinstance(start, int) else {}
                plans.append(
                    Plan.from_layouts(
                        [layouts[index] for index in used],
                        own.reshape(chosen.shape),
                        memory=memory,
                        device=device,
                        description={**facts, **here},
                    )
                )
            numbers.append(number)
        return cls(tuple(plans), tuple(numbers))

    @classmethod
    def load(cls, path: str | PathLike[str], *, device: torch.device | str = "cpu") -> PlanStack:
        """Read plans that `save` wrote, of a stack or a single one; see `Plan.load`."""
        from attnloom.runtime.plan_file import read_plans

        return read_plans(path, device=device)

    def save(self, path: str | PathLike[str]) -> None:
        """Write all plans to one file; see `Plan.save`."""
        from attnloom.runtime.plan_file import write_plans

        write_plans(self, path)

    def to(self, device: torch.device | str) -> PlanStack:
        """The stack on a device; itself when it is already there."""
        if torch.device(device) == self.plans[0].device:
            return self
        return replace(self, plans=tuple(plan.to(device) for plan in self.plans))

    def repeated(self, layers: int) -> PlanStack:
        """The plans of so many layers, which repeat those of this stack."""
        of_layer = (self.plan_of_layer * -(-layers // len(self.plan_of_layer)))[:layers]
        return replace(self, plan_of_layer=of_layer)

    @property
    def layouts(self) -> tuple[HeadLayout, ...]:
        """The different layouts of all plans."""
        return tuple({id(one): one for plan in self.plans for one in plan.layouts}.values())

    @property
    def num_bytes(self) -> int:
        """Bytes of the layouts, those that are shared counted once."""
        choices = sum(plan.layout_of_head.nbytes for plan in self.plans)
        return choices + sum(layout.num_bytes for layout in self.layouts)

    def __len__(self) -> int:
        return len(self.plan_of_layer)

    @overload
    def __getitem__(self, index: int) -> Plan: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Plan, ...]: ...

    def __getitem__(self, index: int | slice) -> Plan | tuple[Plan, ...]:
        if isinstance(index, slice):
            return tuple(self.plans[number] for number in self.plan_of_layer[index])
        return self.plans[self.plan_of_layer[index]]

    def __iter__(self) -> Iterator[Plan]:
        return (self.plans[number] for number in self.plan_of_layer)

    def __repr__(self) -> str:
        plans = "\n  ".join(one_line(plan) for plan in self.plans)
        return (
            f"PlanStack({len(self)} layers, {len(self.plans)} different plan(s), "
            f"{len(self.layouts)} layout(s), {self.num_bytes / 1024:.1f} KiB)\n  {plans}"
        )

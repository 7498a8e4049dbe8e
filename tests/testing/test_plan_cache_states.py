"""The cache of plans, whatever happens to its folder in whatever order, never gives a wrong plan.

The model is simple: a plan that is compiled anew. What is found must be that, and a folder may
hold no more than it was told to, but for the plan that was kept last.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import attnloom
from attnloom.runtime import plan_cache
from attnloom.runtime.plan import Plan
from attnloom.runtime.plan_cache import PlanCache

TEXTS = (
    "window(last=3)",
    "window(each_side=9); global(0)",
    "random(links=2)",
    "window(left=2, right=0)",  # the same pairs as the first
    "memory(2); causal",
)

Asked = tuple[int, int, int]
"""Which text, how many tokens, and the side of a tile."""


def compiled(asked: Asked, folder: Path | bool = False) -> Plan:
    text, n, block = asked
    pattern = attnloom.parse(f"pattern p {{ {TEXTS[text]} }}")
    return pattern.compile(n, heads=2, block=block, cache=folder)


@cache
def expected(asked: Asked) -> np.ndarray:
    return compiled(asked).to_dense().numpy()


class CacheStates(RuleBasedStateMachine):
    """Plans are asked for while files are damaged, removed, exchanged and grow old."""

    @initialize(most=st.sampled_from([0, 4000, 10_000, 1 << 20]))
    def open_folder(self, most: int) -> None:
        self.place = tempfile.TemporaryDirectory()
        self.folder = Path(self.place.name) / "plans"
        self.most = most
        self.clock = 1_000_000
        original = PlanCache.of

        def limited(cache: bool | str | os.PathLike[str]) -> PlanCache | None:
            found = original(cache)
            return None if found is None else PlanCache(found.folder, most)

        self.restore = original
        plan_cache.PlanCache.of = limited  # type: ignore[method-assign, assignment]

    def teardown(self) -> None:
        if hasattr(self, "restore"):
            plan_cache.PlanCache.of = self.restore  # type: ignore[method-assign]
            self.place.cleanup()

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*")) if self.folder.is_dir() else []

    @rule(
        asked=st.tuples(
            st.integers(0, len(TEXTS) - 1), st.sampled_from([5, 40]), st.sampled_from([16, 32])
        )
    )
    def ask(self, asked: Asked) -> None:
        plan = compiled(asked, self.folder)
        np.testing.assert_array_equal(plan.to_dense().numpy(), expected(asked))
        assert plan.description["n"] == asked[1]
        assert plan.description["text"] == f"pattern p {{ {TEXTS[asked[0]]} }}"

    @precondition(lambda self: self.files)
    @rule(number=st.integers(0, 99), at=st.integers(0, 10_000), bit=st.integers(0, 7))
    def flip_a_bit(self, number: int, at: int, bit: int) -> None:
        path = self.files[number % len(self.files)]
        content = bytearray(path.read_bytes())
        if content:
            content[at % len(content)] ^= 1 << bit
        path.write_bytes(content)

    @precondition(lambda self: self.files)
    @rule(number=st.integers(0, 99), kept=st.integers(0, 3000))
    def cut_short(self, number: int, kept: int) -> None:
        path = self.files[number % len(self.files)]
        path.write_bytes(path.read_bytes()[:kept])

    @precondition(lambda self: len(self.files) > 1)
    @rule(number=st.integers(0, 99))
    def exchange_two(self, number: int) -> None:
        one, other = (self.files[(number + k) % len(self.files)] for k in range(2))
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)

    @precondition(lambda self: self.files)
    @rule(number=st.integers(0, 99))
    def remove(self, number: int) -> None:
        self.files[number % len(self.files)].unlink()

    @precondition(lambda self: self.files)
    @rule(number=st.integers(0, 99))
    def grow_old(self, number: int) -> None:
        self.clock -= 100
        os.utime(self.files[number % len(self.files)], (self.clock, self.clock))

    @invariant()
    def folder_keeps_to_its_limit(self) -> None:
        if not hasattr(self, "folder"):
            return
        sizes = sorted(path.stat().st_size for path in self.files)
        assert sum(sizes) <= max(self.most, *sizes[-1:], 0)
        assert all(path.suffix == ".safetensors" for path in self.files)


CacheStates.TestCase.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)
TestCacheStates = CacheStates.TestCase

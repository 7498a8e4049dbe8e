"""Fingerprints: equal relations have equal ones, in every process; others do not."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

import attnloom
from attnloom.compiler.fingerprint import fingerprint

CODE = """
import attnloom
from attnloom.compiler.fingerprint import fingerprint
for name in ("longformer", "bigbird", "natten_3d", "random_links", "where", "gemma3"):
    pattern = attnloom.load(name) if name != "where" else attnloom.parse(
        "pattern p { where(i % 7 > j % 5); only causal; global([3, 5]) }")
    print(fingerprint(pattern.bind(1000, layer=5).relation).hex())
"""


def of(text: str, n: int = 100, **where: object) -> bytes:
    return fingerprint(attnloom.parse(f"pattern p {{ {text} }}").bind(n, **where).relation)  # type: ignore[arg-type]


def test_same_in_every_process() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1]
    assert len(set(runs[0].split())) == 6


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("window(each_side=3)", "\n# a comment\nwindow(each_side = 1 + 2)"),
        ("let w = 5; window(last=w)", "window(last=5)"),
        ("random(links=2, seed=7)", "random(seed=7, links=2)"),
    ],
)
def test_same_however_it_is_written(one: str, other: str) -> None:
    assert of(one) == of(other)


DIFFERENT = [
    "full", "none", "causal", "window(each_side=3)", "window(each_side=4)", "window(last=4)",
    "window(each_side=3, dilation=2)", "window(each_side=3, wrap=true)", "global(0)", "global(1)",
    "broadcast(0)", "collect(0)", "random(links=2)", "random(links=3)", "random(links=2, seed=1)",
    "random(links=2, outside=global(5))", "random(links=2); only causal", "stride(8)", "stride(9)",
    "chunks(8)", "where(i % 2 == j % 2)", "where(i % 2 == j % 3)", "blocks(2) { self }",
    "memory(1); full", "memory(2); full", "transpose(window(last=4))",
]  # fmt: skip


def test_different_relations_have_different_ones() -> None:
    found = {text: of(text) for text in DIFFERENT}
    for one, other in itertools.combinations(DIFFERENT, 2):
        assert found[one] != found[other], (one, other)


def test_length_head_layer_and_inputs_count() -> None:
    assert of("full", 100) != of("full", 101)
    assert of("random(links=2)", head=0, heads=2) != of("random(links=2)", head=1, heads=2)
    assert of("random(links=2)", layer=0) == of("random(links=2)", layer=1)
    documents = "input doc: segments; same(doc)"
    one, other = np.zeros(100, dtype=int), np.repeat([0, 1], 50)
    assert of(documents, inputs={"doc": one}) != of(documents, inputs={"doc": other})
    assert of(documents, inputs={"doc": one}) == of(documents, inputs={"doc": one.copy()})


def test_types_count_and_the_rest_is_refused() -> None:
    values = [1, 1.0, True, "1", b"1", None, (1,), np.array([1]), np.array([1.0]), {1: 1}]
    assert len({fingerprint(value) for value in values}) == len(values)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    with pytest.raises(TypeError, match="object has no fingerprint"):
        fingerprint(object())
